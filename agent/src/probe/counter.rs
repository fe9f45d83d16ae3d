//! Counting a probe's results up to its thresholds: pure. Upstream: `prober/worker.go`.

use k8s_openapi::api::core::v1::Probe;

use super::Kind;

/// What enough results in a row say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is well.
    Good,
    /// It is not.
    Bad,
}

/// The state of counting.
#[derive(Debug)]
pub(crate) struct Counter {
    successes_needed: i32,
    failures_needed: i32,
    last: Option<bool>,
    in_a_row: i32,
    verdict: Option<Verdict>,
}

impl Counter {
    pub(crate) fn new(kind: Kind, probe: &Probe) -> Self {
        // Liveness is assumed until it is refuted, the others have to be shown.
        let verdict = (kind == Kind::Liveness).then_some(Verdict::Good);
        Self {
            successes_needed: probe.success_threshold.unwrap_or(1).max(1),
            failures_needed: probe.failure_threshold.unwrap_or(3).max(1),
            last: None,
            in_a_row: 0,
            verdict,
        }
    }

    /// Counts a result; answers a verdict only when it is a new one.
    pub(crate) fn count(&mut self, success: bool) -> Option<Verdict> {
        self.in_a_row = if self.last == Some(success) { self.in_a_row + 1 } else { 1 };
        self.last = Some(success);
        let needed = if success { self.successes_needed } else { self.failures_needed };
        if self.in_a_row < needed {
            return None;
        }
        let verdict = if success { Verdict::Good } else { Verdict::Bad };
        (self.verdict.replace(verdict) != Some(verdict)).then_some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(kind: Kind, results: &[bool]) -> Vec<Option<Verdict>> {
        let probe =
            Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut counter = Counter::new(kind, &probe);
        results.iter().map(|result| counter.count(*result)).collect()
    }

    #[test]
    fn a_verdict_needs_its_number_in_a_row_and_is_told_once() {
        use Verdict::{Bad, Good};
        assert_eq!(
            verdicts(Kind::Readiness, &[true, false, true, true, true, false, false, false]),
            [None, None, None, Some(Good), None, None, None, Some(Bad)]
        );
    }

    #[test]
    fn liveness_is_good_until_it_is_refuted() {
        let results = verdicts(Kind::Liveness, &[true, true, false, false, false, false]);
        assert_eq!(results, [None, None, None, None, Some(Verdict::Bad), None]);
    }
}
