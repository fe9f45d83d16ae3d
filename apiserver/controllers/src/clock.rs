//! The wall clock, read by shells and handed to plans.
//!
//! In tests it follows tokio's clock, so that a paused one can be moved on by hours.

use jiff::Timestamp;

/// What time it is.
#[cfg(not(test))]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// What time it is on tokio's clock.
#[cfg(test)]
pub(crate) fn now() -> Timestamp {
    use std::sync::OnceLock;
    use tokio::time::Instant;

    static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
    let (time, instant) = START.get_or_init(|| (Timestamp::now(), Instant::now()));
    let now = Instant::now();
    // A paused runtime may have been started before the first one that asked.
    let ahead = jiff::SignedDuration::try_from(now.saturating_duration_since(*instant));
    let behind = jiff::SignedDuration::try_from(instant.saturating_duration_since(now));
    *time + ahead.expect("tests run for less than 292 years") - behind.expect("the same")
}
