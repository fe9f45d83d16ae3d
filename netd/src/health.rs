//! Whether this node's data plane keeps up, and what is answered to those who ask.
//!
//! As kube-proxy has it (upstream: `pkg/proxy/healthcheck/proxy_health.go`): unhealthy is who has
//! had a change waiting for [`TOO_LONG`]; `/healthz` also says no when the Node is being taken
//! away, so that load balancers look elsewhere, and `/livez` does not. Pure but for the clock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::web::{Answer, json};

/// A change may wait this long: twice the time in which kube-proxy looks at everything again.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Shared by the loop, which tells, and the listeners, which answer.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Since when the oldest change waits.
    waiting_since: Option<Instant>,
    updated: Option<Timestamp>,
    leaving: bool,
}

impl Health {
    /// A change waits for the kernel.
    pub(crate) fn queued(&self) {
        self.change(|state| {
            state.waiting_since.get_or_insert_with(Instant::now);
        });
    }

    /// The kernel has all changes.
    pub(crate) fn updated(&self, now: Timestamp) {
        self.change(|state| {
            state.waiting_since = None;
            state.updated = Some(now);
        });
    }

    /// The Node is being taken away, or not.
    pub(crate) fn set_leaving(&self, leaving: bool) {
        self.change(|state| state.leaving = leaving);
    }

    /// Does the kernel keep up with the cluster?
    pub(crate) fn is_healthy(&self) -> bool {
        self.state().keeps_up()
    }

    /// The answer to `/healthz`.
    pub(crate) fn healthz(&self, now: Timestamp) -> Answer {
        let state = self.state();
        let eligible = !state.leaving;
        state.answer(state.keeps_up() && eligible, now, &format!(", \"nodeEligible\": {eligible}"))
    }

    /// The answer to `/livez`.
    pub(crate) fn livez(&self, now: Timestamp) -> Answer {
        let state = self.state();
        state.answer(state.keeps_up(), now, "")
    }

    fn state(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn keeps_up(&self) -> bool {
        // While it starts, it waits for the API and counts as healthy.
        self.updated.is_none() || self.waiting_since.is_none_or(|since| since.elapsed() < TOO_LONG)
    }

    fn answer(&self, healthy: bool, now: Timestamp, more: &str) -> Answer {
        // Who is healthy is up to date, whenever something last changed.
        let updated = if healthy { Some(now) } else { self.updated };
        let body = format!(
            "{{\"lastUpdated\": {:?},\"currentTime\": {:?}{more}}}",
            updated.map_or_else(|| "0001-01-01 00:00:00 +0000 UTC".to_owned(), as_go_prints),
            as_go_prints(now),
        );
        let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(code, body)
    }
}

fn as_go_prints(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 500_000_000);

    fn codes(health: &Health) -> (u16, u16) {
        (health.healthz(NOW).status().as_u16(), health.livez(NOW).status().as_u16())
    }

    #[tokio::test(start_paused = true)]
    async fn who_starts_is_healthy_and_who_lets_changes_wait_is_not() {
        let health = Health::default();
        health.queued();
        tokio::time::advance(TOO_LONG * 2).await;
        assert_eq!(codes(&health), (200, 200), "it waits for the API");
        health.updated(NOW);
        tokio::time::advance(TOO_LONG * 2).await;
        assert_eq!(codes(&health), (200, 200), "nothing changes");
        health.queued();
        tokio::time::advance(TOO_LONG / 2).await;
        health.queued();
        assert_eq!(codes(&health), (200, 200), "not late yet");
        tokio::time::advance(TOO_LONG / 2).await;
        assert_eq!(codes(&health), (503, 503), "the oldest change counts");
        health.updated(NOW);
        assert_eq!(codes(&health), (200, 200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_taken_away_lives_but_wants_no_traffic() {
        let health = Health::default();
        health.updated(NOW);
        health.set_leaving(true);
        assert_eq!(codes(&health), (503, 200));
        let body = health.healthz(NOW).into_body();
        assert_eq!(
            body,
            "{\"lastUpdated\": \"2023-11-14 22:13:20.5 +0000 UTC\",\
             \"currentTime\": \"2023-11-14 22:13:20.5 +0000 UTC\", \"nodeEligible\": false}"
        );
        health.set_leaving(false);
        assert_eq!(codes(&health), (200, 200));
    }
}
