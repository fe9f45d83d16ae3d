//! Growing pauses: between restarts of a container, and between tries to get its image.
//!
//! Upstream: `client-go/util/flowcontrol/backoff.go` with kubelet's figures: ten seconds, doubled
//! up to five minutes, forgotten after ten quiet minutes. Pure.

use jiff::{SignedDuration, Timestamp};

use super::record::{Backoff, Ended};

/// Seconds before the first restart. kubelet has no such pause, but it looks for ended containers
/// once a second (`pleg/generic.go`). Clients rely on that: whoever leaves the shell of a pod that
/// is to be removed (`run --rm -it`) sends the deletion right after the shell has ended, and a new
/// shell, which as process 1 heeds no SIGTERM, would hold the deletion up for all of its grace.
const NOTICE: i64 = 1;
const FIRST: i64 = 10;
const LONGEST: i64 = 300;
const FORGOTTEN_AFTER: i64 = 2 * LONGEST;

/// When a container that ended may run again.
pub(crate) fn restart_at(backoff: Option<Backoff>, ended: &Ended) -> Timestamp {
    let pause = crash_loop_seconds(backoff, ended).unwrap_or(NOTICE);
    ended.finished + SignedDuration::from_secs(pause)
}

/// The pause that a crash loop has grown to; `None` for a container that has just begun to fail.
pub(crate) fn crash_loop_seconds(backoff: Option<Backoff>, ended: &Ended) -> Option<i64> {
    let backoff = backoff.filter(|backoff| !is_forgotten(*backoff, ended.finished));
    backoff.map(|backoff| backoff.seconds)
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
    fn after_a_moment_the_pause_doubles_from_ten_seconds_to_five_minutes() {
        let (mut backoff, mut now, mut pauses) = (None, 0, Vec::new());
        for _ in 0..8 {
            let end = ended(now);
            let start = restart_at(backoff, &end);
            pauses.push(start.as_second() - now);
            backoff = Some(after_restart(backoff, &end, start));
            now = start.as_second();
        }
        assert_eq!(pauses, [1, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_make_it_forgotten() {
        let backoff = Some(Backoff { seconds: 160, updated: at(0) });
        assert_eq!(restart_at(backoff, &ended(601)), at(602));
        assert_eq!(crash_loop_seconds(backoff, &ended(601)), None);
        assert_eq!(restart_at(backoff, &ended(600)), at(760));
        assert_eq!(after_restart(backoff, &ended(601), at(601)).seconds, 10);
    }

    #[test]
    fn tries_for_an_image_grow_alike() {
        let pauses: Vec<_> = [1, 2, 3, 6, 7, 90].into_iter().map(retry_seconds).collect();
        assert_eq!(pauses, [10, 20, 40, 300, 300, 300]);
    }
}
