//! Firewalls of others: looked for at the start and at full looks, off the way of everything else.
//!
//! Reading all rules of a machine runs `nft` and takes its time, so it is done on a thread of its
//! own with a copy of the snapshot, at most once every [`PAUSE`]. New findings become events of the
//! Node; nothing is ever changed.

use std::time::Duration;

use netmodel::foreign::Finding;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Reconciler;
use crate::events::Severity;
use crate::foreign;
use crate::kernel::OpError;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(30);

/// What was found, and the look that is under way.
#[derive(Debug, Default)]
pub(super) struct Firewalls {
    pub(super) findings: Vec<Finding>,
    looking: Option<JoinHandle<Result<Vec<Finding>, OpError>>>,
    looked: Option<Instant>,
}

impl Firewalls {
    /// What a look found; ready when one ends. Dropping it loses nothing.
    pub(super) async fn found(&mut self) -> Option<Vec<Finding>> {
        let Some(looking) = &mut self.looking else { return std::future::pending().await };
        let result = looking.await;
        self.looking = None;
        match result {
            Ok(Ok(findings)) => Some(findings),
            Ok(Err(error)) => {
                tracing::warn!(error = crate::error_chain(&error), "look for firewalls of others");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "look for firewalls of others");
                None
            }
        }
    }
}

impl Reconciler {
    /// Looks for firewalls in the background, if it is time.
    pub(super) fn look_for_firewalls(&mut self) {
        let firewalls = &mut self.firewalls;
        let recent = firewalls.looked.is_some_and(|at| at.elapsed() < PAUSE);
        let Some(engine) = self.executor.as_ref().map(|executor| executor.engine()) else { return };
        if recent || firewalls.looking.is_some() {
            return;
        }
        let snapshot = self.inputs.snapshot.clone();
        firewalls.looked = Some(Instant::now());
        firewalls.looking =
            Some(tokio::task::spawn_blocking(move || foreign::on_node(&snapshot, engine)));
    }

    /// Tells of findings that were not there before.
    pub(super) fn note_firewalls(&mut self, findings: Vec<Finding>) {
        for finding in &findings {
            if self.firewalls.findings.contains(finding) {
                continue;
            }
            let message = sentence(finding);
            tracing::warn!(node = %self.node, message, "a firewall of others");
            let reason = "ForeignFirewall";
            self.teller.about_node(&self.inputs, Severity::Warning, reason, message);
        }
        self.firewalls.findings = findings;
    }
}

fn sentence(finding: &Finding) -> String {
    let Finding { program, place, rule, blocks, certain, fix, .. } = finding;
    let blocks = blocks.join(", ");
    let keeps = if *certain { "keeps" } else { "may keep" };
    format!("{program}: {rule:?} in {place} {keeps} from passing: {blocks}; let it pass by: {fix}")
}
