//! One pod's worker: the loop that observes, plans, executes and reports.
//!
//! Expected flow: [`Worker::run`] takes the newest wish of the API and all news, asks
//! [`plan`](super::plan) what to do, does it step by step, reports the status, and waits. Guarantees:
//! what it did is in the record before anything depends on it; it ends only when nothing of the pod
//! is left. Assumption: it is the only one that touches this pod.

mod execute;
mod lifecycle;
mod recover;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    drain::Drain,
    facts::{Live, PodFacts, Trouble, Unhealthy},
    host::Host,
    observe,
    plan::{Step, plan},
    record::{PodRecord, RunState},
    report::Reporter,
    status::{full_name, pod_status},
};
use crate::{
    probe::{Finding, Kind, Verdict},
    recorder::Severity,
    runtime::Exit,
    sandbox::PodFolder,
    volumes,
};

/// Time between two looks at the objects behind a pod's volumes.
const RENEW: Duration = Duration::from_secs(60);
/// Time after which a step that failed for want of the API is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a failure to get an image shows as such before it shows as a pause.
const FRESH: SignedDuration = SignedDuration::from_secs(2);

/// What the API wants of a pod.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    pub(super) pod: Arc<Pod>,
    /// The API no longer has it.
    pub(super) gone: bool,
}

/// What a worker hears from the tasks that it started.
#[derive(Debug)]
pub(super) enum News {
    /// A run is over; `None` if its exit code is lost.
    Exited { container: String, id: String, exit: Option<Exit> },
    /// A probe of a run found something.
    Probed { container: String, id: String, finding: Finding },
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The step is done.
    Done,
    /// The step has to wait for the API.
    Later,
    /// Nothing is left to do for this pod, ever.
    Over,
}

/// The worker.
pub(super) struct Worker {
    host: Arc<Host>,
    folder: PodFolder,
    desired: watch::Receiver<Desired>,
    pod: Pod,
    gone: bool,
    record: PodRecord,
    live: BTreeMap<String, Live>,
    sandbox_trouble: Option<Trouble>,
    drain: Option<Drain>,
    news: mpsc::Receiver<News>,
    teller: mpsc::Sender<News>,
    /// Per running container: its probes, each of which ends when its guard is dropped.
    probes: BTreeMap<String, Vec<(Kind, DropGuard)>>,
    reporter: Reporter,
    reported: Option<PodStatus>,
    /// Changes when containerd gets an image.
    images: watch::Receiver<()>,
}

impl Worker {
    /// A worker for a pod; `record` is what an earlier agent left.
    pub(super) fn new(
        host: Arc<Host>,
        desired: watch::Receiver<Desired>,
        record: Option<PodRecord>,
    ) -> Self {
        let Desired { pod, gone } = desired.borrow().clone();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let metadata = &pod.metadata;
        let record = record.unwrap_or_else(|| PodRecord {
            namespace: text(&metadata.namespace),
            name: text(&metadata.name),
            uid: text(&metadata.uid),
            seen: Timestamp::now(),
            ..PodRecord::default()
        });
        let (teller, news) = mpsc::channel(64);
        let client = host.client.clone();
        Self {
            folder: host.folder(&record.uid),
            reporter: Reporter::start(client, &record.namespace, &record.name, &record.uid),
            images: host.images.subscribe(),
            host,
            desired,
            pod: Pod::clone(&pod),
            gone,
            record,
            live: BTreeMap::new(),
            sandbox_trouble: None,
            drain: None,
            news,
            teller,
            probes: BTreeMap::new(),
            reported: None,
        }
    }

    /// Works until nothing is left of the pod. Dropping the future leaves containers as they are.
    pub(super) async fn run(mut self) {
        self.recover().await;
        loop {
            self.take_desired();
            self.soften_troubles();
            let plan = plan(&self.facts());
            self.report();
            let mut later = false;
            for step in &plan.steps {
                match self.execute(step).await {
                    Progress::Done => {}
                    Progress::Later => {
                        later = true;
                        break;
                    }
                    Progress::Over => return self.leave().await,
                }
            }
            self.report();
            if plan.steps.is_empty() || later {
                let wake = if later { Some(Timestamp::now() + RETRY) } else { plan.wake };
                self.wait(wake).await;
            }
        }
    }

    fn facts(&self) -> PodFacts<'_> {
        PodFacts {
            pod: &self.pod,
            gone: self.gone,
            record: &self.record,
            live: &self.live,
            sandbox_trouble: self.sandbox_trouble.as_ref(),
            drain: self.drain,
            now: Timestamp::now(),
        }
    }

    /// Takes the newest wish, but keeps what this worker knows better: the status it wrote last.
    fn take_desired(&mut self) {
        let Desired { pod, gone } = self.desired.borrow_and_update().clone();
        self.gone = gone;
        if pod.metadata.resource_version == self.pod.metadata.resource_version
            && self.reported.is_some()
        {
            return;
        }
        let mut pod = Pod::clone(&pod);
        if let Some(reported) = &self.reported {
            let theirs = pod.status.take().unwrap_or_default();
            if contradicts(&theirs, reported) {
                // Somebody wrote what only we can know, as happens to nodes that fell silent.
                self.reporter.report(reported.clone());
            }
            pod.status = Some(with_conditions_of(reported, &theirs));
        }
        let was_going = self.pod.metadata.deletion_timestamp.is_some();
        self.pod = pod;
        if !was_going && self.pod.metadata.deletion_timestamp.is_some() {
            let (services, takes) = (self.host.services.state(), self.host.config.drain);
            self.drain = Drain::of(&self.pod, &services, takes, Timestamp::now());
        }
    }

    /// Reports the status if it is news.
    fn report(&mut self) {
        if self.gone || self.pod.spec.is_none() {
            return;
        }
        let status = pod_status(&self.facts(), &self.host.config.node_ips);
        let known = self.reported.as_ref().or(self.pod.status.as_ref());
        if known == Some(&status) {
            return;
        }
        self.tell_of_crash_loops(&status);
        self.reporter.report(status.clone());
        self.pod.status = Some(status.clone());
        self.reported = Some(status);
    }

    /// Events for containers that have just begun to wait for their restart.
    fn tell_of_crash_loops(&self, status: &PodStatus) {
        let before = self.reported.as_ref();
        for container in crash_looping(status) {
            if !before.is_some_and(|before| crash_looping(before).any(|c| c.name == container.name))
            {
                let pod = full_name(&self.facts());
                let message =
                    format!("Back-off restarting failed container {} in pod {pod}", container.name);
                self.event(&container.name, Severity::Warning, "BackOff", message);
            }
        }
    }

    /// Waits for anything to happen.
    async fn wait(&mut self, wake: Option<Timestamp>) {
        let fresh = self.live.values().filter_map(|live| live.trouble.as_ref()).any(is_fresh);
        let soon = fresh.then(|| Timestamp::now() + FRESH);
        let wake = [wake, soon].into_iter().flatten().min();
        let pause = wake.map_or(RENEW, |wake| {
            let pause = wake.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
            // Past the time, never before it: a plan made too early would be the same again.
            pause.unsigned_abs() + Duration::from_millis(1)
        });
        let renews = volumes::has_objects(&self.pod) && self.record.sandbox.is_some();
        let sleeps = wake.is_some() || renews;
        // All arms are cancel-safe: channels and timers.
        tokio::select! {
            changed = self.desired.changed() => if changed.is_err() {
                // The manager is gone, so the agent is stopping: the task is about to be dropped.
                std::future::pending::<()>().await;
            },
            news = self.news.recv() => if let Some(news) = news { self.hear(news) },
            changed = self.images.changed() => match changed {
                Ok(()) => self.look_for_images(),
                // As above.
                Err(_) => std::future::pending::<()>().await,
            },
            () = tokio::time::sleep(pause), if sleeps => {
                if wake.is_none() {
                    self.renew_volumes().await;
                }
            }
        }
        while let Ok(news) = self.news.try_recv() {
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Exited { container, id, exit } => self.hear_exit(&container, &id, exit),
            News::Probed { container, id, finding } => self.hear_probe(&container, &id, finding),
        }
    }

    /// Records the end of the current run.
    fn hear_exit(&mut self, container: &str, id: &str, exit: Option<Exit>) {
        let cgroup = observe::pod_cgroup(&self.host.config.cgroup_parent, &self.record.uid);
        let Some(record) = self.record.containers.get_mut(container) else { return };
        let Some(run) = record.runs.last_mut().filter(|run| run.id == id) else { return };
        if matches!(run.state, RunState::Running { .. }) {
            let ended = observe::ended(run, exit, &self.folder, container, &cgroup.join(id));
            tracing::debug!(container, code = ended.code, reason = ended.reason, "a run is over");
            run.state = RunState::Ended(ended);
        }
        self.probes.remove(container);
        self.live.remove(container);
        self.save();
    }

    fn hear_probe(&mut self, container: &str, id: &str, finding: Finding) {
        let Some(run) = self.record.container(container).current() else { return };
        if run.id != id || !self.record.container(container).is_running() {
            return;
        }
        let kind = finding.kind;
        if let Some(failure) = &finding.failure {
            let message = format!("{} probe failed: {failure}", kind.name());
            self.event(container, Severity::Warning, "Unhealthy", message);
        }
        let Some(spec) = self.container_spec(container).cloned() else { return };
        let live = self.live.entry(container.to_owned()).or_default();
        match (kind, finding.verdict) {
            (_, None) => {}
            (Kind::Readiness, Some(verdict)) => live.ready = verdict == Verdict::Good,
            // What is being stopped is not asked any more whether it lives.
            (Kind::Startup, Some(_)) if live.stopping.is_some() => {}
            (Kind::Startup, Some(Verdict::Good)) => {
                live.started = true;
                self.start_probes(&spec);
            }
            (Kind::Liveness, Some(Verdict::Good)) => live.unhealthy = None,
            (Kind::Startup | Kind::Liveness, Some(Verdict::Bad)) => {
                let name = kind.name().to_lowercase();
                let grace = kind.of(&spec).and_then(|p| p.termination_grace_period_seconds);
                live.unhealthy = Some(Unhealthy {
                    message: format!(
                        "Container {container} failed {name} probe, will be restarted"
                    ),
                    grace: grace.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
                });
            }
        }
    }

    /// A new image may be the one that a container waits for.
    fn look_for_images(&mut self) {
        for trouble in self.live.values_mut().filter_map(|live| live.trouble.as_mut()) {
            if trouble.reason.contains("Image") {
                trouble.retry_at = Timestamp::now();
            }
        }
    }

    /// A failure to get an image shows for a moment, then the pause before the next try shows.
    fn soften_troubles(&mut self) {
        let mut softened = Vec::new();
        for (name, live) in &mut self.live {
            let Some(trouble) = live.trouble.as_mut().filter(|trouble| is_stale(trouble)) else {
                continue;
            };
            trouble.reason = "ImagePullBackOff".to_owned();
            let cause = std::mem::take(&mut trouble.message);
            softened.push((name.clone(), cause));
        }
        for (name, cause) in softened {
            let image =
                self.container_spec(&name).and_then(|c| c.image.clone()).unwrap_or_default();
            let message = format!("Back-off pulling image {image:?}");
            self.event(&name, Severity::Normal, "BackOff", message.clone());
            self.event(&name, Severity::Warning, "Failed", "Error: ImagePullBackOff");
            if let Some(trouble) = self.live.get_mut(&name).and_then(|live| live.trouble.as_mut()) {
                trouble.message = format!("{message}: ErrImagePull: {cause}");
            }
        }
    }

    fn container_spec(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        let init = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(init).find(|container| container.name == name)
    }

    fn event(
        &self,
        container: &str,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.host.recorder.record(&self.pod, Some(container), severity, reason, message);
    }

    fn save(&self) {
        if let Err(error) = self.record.save(self.folder.root()) {
            let pod = &self.record.name;
            tracing::error!(pod, %error, "the pod's record cannot be written");
        }
    }

    async fn renew_volumes(&mut self) {
        if let Err(error) = self.set_up_volumes().await {
            tracing::warn!(pod = self.record.name, error, "volumes are not renewed");
        }
    }

    /// The last status, then silence.
    async fn leave(self) {
        let Self { reporter, probes, .. } = self;
        drop(probes);
        reporter.flush().await;
    }
}

/// Containers that wait for their restart.
fn crash_looping(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let main = status.container_statuses.iter().flatten();
    main.chain(status.init_container_statuses.iter().flatten()).filter(|container| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff")
    })
}

fn is_fresh(trouble: &Trouble) -> bool {
    trouble.reason == "ErrImagePull"
}

fn is_stale(trouble: &Trouble) -> bool {
    let pause = SignedDuration::from_secs(super::backoff::retry_seconds(trouble.failures));
    is_fresh(trouble) && Timestamp::now() >= trouble.retry_at - pause + FRESH
}

/// The conditions that only this agent writes.
const OUR_CONDITIONS: [&str; 4] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// Whether the API's status denies a condition of ours.
fn contradicts(theirs: &PodStatus, ours: &PodStatus) -> bool {
    let status = |of: &PodStatus, kind: &str| {
        let conditions = of.conditions.iter().flatten();
        conditions.into_iter().find(|c| c.type_ == kind).map(|c| c.status.clone())
    };
    OUR_CONDITIONS
        .into_iter()
        .any(|kind| status(theirs, kind).is_some() && status(theirs, kind) != status(ours, kind))
}

/// Our status with the conditions that others have added since.
fn with_conditions_of(ours: &PodStatus, theirs: &PodStatus) -> PodStatus {
    let mut merged = ours.clone();
    let others = theirs
        .conditions
        .iter()
        .flatten()
        .filter(|condition| !OUR_CONDITIONS.contains(&condition.type_.as_str()))
        .cloned();
    let conditions = merged.conditions.get_or_insert_default();
    conditions.retain(|condition| OUR_CONDITIONS.contains(&condition.type_.as_str()));
    conditions.extend(others);
    if merged.qos_class.is_none() {
        merged.qos_class.clone_from(&theirs.qos_class);
    }
    merged
}

/// A token whose guard ends a probe.
fn probe_guard() -> (CancellationToken, DropGuard) {
    let token = CancellationToken::new();
    (token.clone(), token.drop_guard())
}
