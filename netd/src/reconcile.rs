//! The loop: look at what changed, bring the kernel there, look again.
//!
//! Level-triggered: an event, a notification of the kernel or a timer only says "look again".
//! Guarantees: nothing is programmed before all watches have listed once; a failure is tried
//! again with growing pauses; the kernel is compared with what it should hold at every
//! [`RESYNC`], and soon after somebody else changes it. Questions are answered between two looks.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use netmodel::snapshot::Snapshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::control::{Activity, Counts, Question, Questions, Status};
use crate::engine::{Mode, choose};
use crate::executor::{Changes, Executor, Report};
use crate::inputs::{self, Dirty, Event, Inputs};
use crate::kernel::monitor::{Alarm, Tampered};
use crate::wanted::{Decision, Wish};
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
    questions: Questions,
    stop: CancellationToken,
) -> Result<(), NetdError> {
    let now = Timestamp::now();
    let (say, said) = tokio::sync::watch::channel(String::new());
    let annotated = annotate(client.clone(), config.node_name.clone(), said);
    let mut reconciler = Reconciler {
        events: inputs::watch(&client, &config.node_name),
        inputs: Inputs::new(config.settings(), now),
        questions,
        flag: config.mode,
        node: config.node_name,
        say,
        decided: None,
        executor: None,
        alarm: None,
        look_at: None,
        check_at: None,
        tampered: None,
        retry: FIRST_RETRY,
        activity: Activity::since(now),
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        result = reconciler.run() => result,
        () = annotated => Ok(()),
    }
}

/// Says on the Node which engine serves it; never ends.
async fn annotate(client: Client, node: String, mut said: tokio::sync::watch::Receiver<String>) {
    let nodes: Api<core::Node> = Api::all(client);
    let mut pause = FIRST_RETRY;
    while said.changed().await.is_ok() {
        loop {
            let text = said.borrow_and_update().clone();
            let patch = serde_json::json!({"metadata": {"annotations": {ENGINE_ANNOTATION: text}}});
            // The Node may not be registered yet.
            match nodes.patch_metadata(&node, &PatchParams::default(), &Patch::Merge(&patch)).await
            {
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "annotate {node}");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
        pause = FIRST_RETRY;
    }
    std::future::pending().await
}

struct Reconciler {
    events: BoxStream<'static, Vec<Event>>,
    inputs: Inputs,
    questions: Questions,
    node: String,
    /// The engine that the command line asks for.
    flag: Mode,
    /// What the Node is to say about its engine.
    say: tokio::sync::watch::Sender<String>,
    /// The engine in use, and the wish that led to it.
    decided: Option<(Wish, Decision)>,
    /// Absent before the inputs have synced, and while a blocking thread works with it.
    executor: Option<Executor>,
    alarm: Option<Alarm>,
    /// When the kernel is to be compared, whatever the API says.
    look_at: Option<Instant>,
    /// When to look at what somebody else may have changed.
    check_at: Option<Instant>,
    tampered: Option<Tampered>,
    retry: Duration,
    activity: Activity,
}

impl Reconciler {
    async fn run(&mut self) -> Result<(), NetdError> {
        loop {
            self.wait().await;
            if !self.inputs.synced() {
                continue;
            }
            self.follow_the_wish().await?;
            if !self.inputs.dirty.is_clean() {
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
        let alarm = self.alarm.as_ref();
        let ring = async {
            match alarm {
                Some(alarm) => alarm.ring().await,
                None => std::future::pending().await,
            }
        };
        // All arms only wait; dropping any of them loses nothing.
        tokio::select! {
            events = self.events.next() => match events {
                Some(events) => events.into_iter().for_each(|e| self.inputs.apply(e)),
                // A watcher never ends; if one does, the timer goes on.
                None => tokio::time::sleep(RESYNC).await,
            },
            Some(question) = self.questions.waiting.recv() => self.answer(question),
            tampered = ring => {
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

    /// Sees to it that the engine in use is the wanted one, and that the Node says so.
    async fn follow_the_wish(&mut self) -> Result<(), NetdError> {
        let own = self.inputs.own_node.as_ref();
        let wish = Wish::of(self.flag, own.and_then(|own| own.wanted.as_deref()));
        let stands = self.decided.as_ref().is_some_and(|(old, decision)| {
            // What was impossible may be possible by the next full look: modules can be loaded.
            *old == wish && (decision.refused.is_none() || !self.inputs.dirty.all)
        });
        if !stands {
            self.decide(wish).await?;
        }
        let Some((_, decision)) = &self.decided else { return Ok(()) };
        let text = decision.to_string();
        let stated = self.inputs.own_node.as_ref().and_then(|own| own.stated.as_deref());
        let news = std::mem::take(&mut self.inputs.news.own_node);
        if *self.say.borrow() != text || news && stated != Some(&*text) {
            self.say.send_replace(text);
        }
        Ok(())
    }

    async fn decide(&mut self, wish: Wish) -> Result<(), NetdError> {
        let node = self.node.clone();
        let prepare = |source| NetdError::Prepare { node: node.clone(), source };
        let (flag, mode) = (self.flag, wish.mode);
        let current = self.decided.as_ref().map(|(_, decision)| decision.clone());
        let ask = wish.clone();
        // Asking may load a module.
        let decision = tokio::task::spawn_blocking(move || {
            Decision::about(&ask, choose(mode), || match current {
                Some(decision) => Ok(decision),
                None => choose(flag).map(Decision::from),
            })
        });
        let decision = decision
            .await
            .map_err(|source| NetdError::Stopped { node: node.clone(), source })?
            .map_err(prepare)?;
        if self.executor.as_ref().is_none_or(|e| e.engine() != decision.engine) {
            let executor = Executor::open(decision.engine).map_err(prepare)?;
            self.alarm = Some(Alarm::open(executor.table_port()).map_err(prepare)?);
            self.executor = Some(executor);
            self.inputs.dirty.all = true;
            tracing::info!(node = %self.node, engine = %decision, "data plane starts");
        }
        self.decided = Some((wish, decision));
        Ok(())
    }

    async fn look(&mut self) -> Result<Report, NetdError> {
        let dirty = std::mem::take(&mut self.inputs.dirty);
        let all = dirty.all;
        let report = self.in_kernel(move |executor, snapshot| match &dirty {
            Dirty { all: true, .. } => executor.sync(snapshot, Changes::All),
            Dirty { services, network, .. } => {
                let mut report = executor.sync(snapshot, Changes::Services(services));
                if *network {
                    report.add(executor.sync(snapshot, Changes::Network));
                }
                report
            }
        });
        let report = report.await?;
        if all || self.look_at.is_none() {
            self.look_at = Some(Instant::now() + RESYNC);
            self.activity.last_look = Some(Timestamp::now());
        }
        Ok(report)
    }

    /// Does something with the kernel on a thread that may block.
    async fn in_kernel<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Executor, &Snapshot) -> T + Send + 'static,
    ) -> Result<T, NetdError> {
        let mut executor = self.executor.take().expect("it is opened before the first look");
        let empty = Snapshot::new(self.inputs.snapshot.settings.clone());
        let snapshot = std::mem::replace(&mut self.inputs.snapshot, empty);
        let work = tokio::task::spawn_blocking(move || {
            let result = work(&mut executor, &snapshot);
            (executor, snapshot, result)
        });
        let (executor, snapshot, result) =
            work.await.map_err(|source| NetdError::Stopped { node: self.node.clone(), source })?;
        self.executor = Some(executor);
        self.inputs.snapshot = snapshot;
        Ok(result)
    }

    fn note(&mut self, report: &Report) {
        self.activity.add(report, Timestamp::now());
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

    fn answer(&mut self, question: Question) {
        // Who asked may have gone.
        match question {
            Question::Status(tell) => drop(tell.send(self.status())),
        }
    }

    fn status(&self) -> Status {
        let decision = self.decided.as_ref().map(|(_, decision)| decision);
        let plane = self.executor.as_ref().map(Executor::plane);
        let backends = |service: &netmodel::service::VirtualService| service.pool.backends().len();
        Status {
            node: self.node.clone(),
            engine: decision.map(|d| d.engine),
            reason: decision.map(|d| d.reason.clone()).unwrap_or_default(),
            wanted: self.decided.as_ref().map_or(self.flag, |(wish, _)| wish.mode),
            refused: decision.and_then(|d| d.refused.clone()),
            synced: self.inputs.synced(),
            activity: self.activity.clone(),
            counts: plane.map_or_else(Counts::default, |plane| Counts {
                services: plane.services().count(),
                frontends: plane.iter().count(),
                backends: plane.iter().map(|(_, service)| backends(service)).sum(),
                routes: netmodel::route::desired_routes(&self.inputs.snapshot).len(),
            }),
            problems: Vec::new(),
        }
    }
}
