//! The loop: look at what changed, bring the kernel there, look again.
//!
//! Level-triggered: an event, a notification of the kernel or a timer only says "look again".
//! Guarantees: nothing is programmed before all three watches have listed once; a failure is tried
//! again with growing pauses; the kernel is compared with what it should hold at every
//! [`RESYNC`], and soon after somebody else changes it.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1 as core;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::choose;
use crate::executor::{Changes, Executor, Report};
use crate::inputs::{self, Dirty, Event, Inputs};
use crate::kernel::monitor::{Alarm, Tampered};
use crate::{Config, ENGINE_ANNOTATION, NetdError};

/// The kernel is compared with what it should hold this often.
const RESYNC: Duration = Duration::from_secs(60);
/// The pauses before failed steps are tried again.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Changes by others come in bursts: look once, this long after the first.
const SETTLE: Duration = Duration::from_millis(100);

/// Runs until told to stop.
pub(crate) async fn run(
    client: Client,
    config: Config,
    stop: CancellationToken,
) -> Result<(), NetdError> {
    let prepare = |source| NetdError::Prepare { node: config.node_name.clone(), source };
    let choice = choose(config.mode).map_err(prepare)?;
    let executor = Executor::open(choice.engine).map_err(prepare)?;
    let alarm = Alarm::open(executor.table_port()).map_err(prepare)?;
    tracing::info!(node = %config.node_name, engine = %choice, "data plane starts");
    let annotated = annotate(client.clone(), config.node_name.clone(), choice.to_string());
    let mut reconciler = Reconciler {
        events: inputs::watch(&client),
        inputs: Inputs::new(config.settings()),
        executor: Some(executor),
        alarm,
        node: config.node_name,
        look_at: None,
        check_at: None,
        tampered: None,
        retry: FIRST_RETRY,
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        result = reconciler.run() => result,
        () = annotated => Ok(()),
    }
}

/// Says on the Node which engine serves it; never ends.
async fn annotate(client: Client, node: String, text: String) {
    let nodes: Api<core::Node> = Api::all(client);
    let patch = serde_json::json!({"metadata": {"annotations": {ENGINE_ANNOTATION: text}}});
    let mut pause = FIRST_RETRY;
    // The Node may not be registered yet.
    while let Err(error) =
        nodes.patch_metadata(&node, &PatchParams::default(), &Patch::Merge(&patch)).await
    {
        tracing::debug!(error = &error as &dyn std::error::Error, "annotate node {node}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_RETRY);
    }
    std::future::pending().await
}

struct Reconciler {
    events: BoxStream<'static, Vec<Event>>,
    inputs: Inputs,
    /// Away while a blocking thread works with it.
    executor: Option<Executor>,
    alarm: Alarm,
    node: String,
    /// When the kernel is to be compared, whatever the API says.
    look_at: Option<Instant>,
    /// When to look at what somebody else may have changed.
    check_at: Option<Instant>,
    tampered: Option<Tampered>,
    retry: Duration,
}

impl Reconciler {
    async fn run(&mut self) -> Result<(), NetdError> {
        loop {
            self.wait().await;
            if self.inputs.synced() && !self.inputs.dirty.is_clean() {
                let report = self.look().await?;
                self.note(&report);
            }
        }
    }

    /// Waits until there may be something to do, and marks it.
    async fn wait(&mut self) {
        let later = || Instant::now() + RESYNC;
        let timer = self.look_at.unwrap_or_else(later);
        let check = self.check_at.unwrap_or_else(later);
        // All arms only wait; dropping any of them loses nothing.
        tokio::select! {
            events = self.events.next() => match events {
                Some(events) => events.into_iter().for_each(|e| self.inputs.apply(e)),
                // A watcher never ends; if one does, the timer goes on.
                None => tokio::time::sleep(RESYNC).await,
            },
            tampered = self.alarm.ring() => {
                let soon = Instant::now() + SETTLE;
                self.check_at = Some(self.check_at.map_or(soon, |at| at.min(soon)));
                self.tampered = self.tampered.max(Some(tampered));
            }
            () = tokio::time::sleep_until(check) => {
                match self.tampered.take() {
                    Some(Tampered::Network) => self.inputs.dirty.network = true,
                    _ => self.inputs.dirty.all = true,
                }
                self.check_at = None;
            }
            () = tokio::time::sleep_until(timer) => self.inputs.dirty.all = true,
        }
    }

    async fn look(&mut self) -> Result<Report, NetdError> {
        let dirty = std::mem::take(&mut self.inputs.dirty);
        let mut executor = self.executor.take().expect("it came back from the last look");
        let settings = self.inputs.snapshot.settings.clone();
        let empty = netmodel::snapshot::Snapshot::new(settings);
        let snapshot = std::mem::replace(&mut self.inputs.snapshot, empty);
        let work = tokio::task::spawn_blocking(move || {
            let report = match &dirty {
                Dirty { all: true, .. } => executor.sync(&snapshot, Changes::All),
                Dirty { services, network, .. } => {
                    let mut report = executor.sync(&snapshot, Changes::Services(services));
                    if *network {
                        report.add(executor.sync(&snapshot, Changes::Network));
                    }
                    report
                }
            };
            (executor, snapshot, dirty.all, report)
        });
        let (executor, snapshot, all, report) =
            work.await.map_err(|source| NetdError::Stopped { node: self.node.clone(), source })?;
        self.executor = Some(executor);
        self.inputs.snapshot = snapshot;
        if all || self.look_at.is_none() {
            self.look_at = Some(Instant::now() + RESYNC);
        }
        Ok(report)
    }

    fn note(&mut self, report: &Report) {
        if report.writes + report.forgotten > 0 {
            tracing::debug!(writes = report.writes, forgotten = report.forgotten, "data plane");
        }
        if report.failures.is_empty() {
            self.retry = FIRST_RETRY;
            return;
        }
        for failure in &report.failures {
            tracing::warn!(error = failure as &dyn std::error::Error, "data plane");
        }
        self.look_at = Some(Instant::now() + self.retry);
        self.retry = (self.retry * 2).min(LAST_RETRY);
    }
}
