//! Growing pauses: between restarts of a container, and between tries to get its image.
//!
//! Upstream: `client-go/util/flowcontrol/backoff.go` with kubelet's figures: ten seconds, doubled
//! up to five minutes, forgotten after ten quiet minutes. The first restart is at once. Pure.

use jiff::{SignedDuration, Timestamp};

use super::record::{Backoff, Ended};

const FIRST: i64 = 10;
const LONGEST: i64 = 300;
const FORGOTTEN_AFTER: i64 = 2 * LONGEST;

/// When a container that ended may run again; `None` for at once.
pub(crate) fn restart_at(backoff: Option<Backoff>, ended: &Ended) -> Option<Timestamp> {
    let backoff = backoff.filter(|backoff| !is_forgotten(*backoff, ended.finished))?;
    Some(ended.finished + SignedDuration::from_secs(backoff.seconds))
}

/// The pause after this restart.
pub(crate) fn after_restart(backoff: Option<Backoff>, ended: &Ended, now: Timestamp) -> Backoff {
    let seconds = match backoff.filter(|backoff| !is_forgotten(*backoff, ended.finished)) {
        None => FIRST,
        Some(backoff) => (backoff.seconds * 2).min(LONGEST),
    };
    Backoff { seconds, updated: now }
}

/// Seconds to wait after the given number of failures in a row.
pub(crate) fn retry_seconds(failures: u32) -> i64 {
    let doubled = 1_i64.checked_shl(failures.saturating_sub(1)).unwrap_or(i64::MAX);
    FIRST.saturating_mul(doubled).min(LONGEST)
}

fn is_forgotten(backoff: Backoff, event: Timestamp) -> bool {
    event.duration_since(backoff.updated).as_secs() > FORGOTTEN_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ended(second: i64) -> Ended {
        Ended {
            started: None,
            finished: at(second),
            code: 1,
            reason: "Error".to_owned(),
            message: None,
        }
    }

    #[test]
    fn the_pause_doubles_from_ten_seconds_to_five_minutes() {
        let (mut backoff, mut now, mut pauses) = (None, 0, Vec::new());
        for _ in 0..8 {
            let end = ended(now);
            let start = restart_at(backoff, &end).unwrap_or(end.finished);
            pauses.push(start.as_second() - now);
            backoff = Some(after_restart(backoff, &end, start));
            now = start.as_second();
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_make_it_forgotten() {
        let backoff = Some(Backoff { seconds: 160, updated: at(0) });
        assert_eq!(restart_at(backoff, &ended(601)), None);
        assert_eq!(restart_at(backoff, &ended(600)), Some(at(760)));
        assert_eq!(after_restart(backoff, &ended(601), at(601)).seconds, 10);
    }

    #[test]
    fn tries_for_an_image_grow_alike() {
        let pauses: Vec<_> = [1, 2, 3, 6, 7, 90].into_iter().map(retry_seconds).collect();
        assert_eq!(pauses, [10, 20, 40, 300, 300, 300]);
    }
}
