//! The loop: look at what changed, bring the kernel there, look again.
//!
//! Level-triggered: an event, a notification of the kernel or a timer only says "look again".
//! Guarantees: nothing is programmed before all watches have listed once; a failure is tried
//! again with growing pauses, and never loses a timer; the kernel is compared with what it should
//! hold at every [`RESYNC`], soon after it tells that somebody else changed it, and at every
//! [`AUDIT`] for what it does not tell. Questions are answered between two looks.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use kube::Client;
use netmodel::snapshot::Snapshot;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::announcing::{self, Announcing, News, Served, Unanswered};
use crate::control::{Activity, Question, Questions};
use crate::engine::{Mode, choose};
use crate::events::Severity;
use crate::executor::{Changes, Executor, LOCAL_LINK, Report, VIP_LINK};
use crate::health::Health;
use crate::inputs::fan::Listener;
use crate::inputs::slices::Slices;
use crate::inputs::{self, Dirty, Event, Inputs};
use crate::kernel::monitor::{Alarm, Tampered};
use crate::l7;
use crate::listeners::{self, Listeners};
use crate::metrics::Metrics;
use crate::tell::Teller;
use crate::wanted::{Decision, Wish};
use crate::{Config, NetdError, names};

mod answers;
mod firewalls;

use firewalls::Firewalls;

/// The kernel is compared with what it should hold this often.
const RESYNC: Duration = Duration::from_secs(60);
/// What the kernel sends no notice of is looked at this often.
const AUDIT: Duration = Duration::from_millis(500);
/// The pauses before failed steps are tried again.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Changes by others come in bursts: look once, this long after the first.
const SETTLE: Duration = Duration::from_millis(100);
/// What takes longer than this is not waited for at the end.
const FAREWELL: Duration = Duration::from_millis(200);
/// Listeners follow the kernel by this much, so that a burst of changes costs them one look.
const LISTEN: Duration = Duration::from_millis(50);

/// Runs until told to stop.
pub(crate) async fn run(
    client: Client,
    config: Config,
    questions: Questions,
    stop: CancellationToken,
) -> Result<(), NetdError> {
    let now = Timestamp::now();
    let (teller, telling) = Teller::new(&client, &config.node_name);
    let health = Arc::new(Health::default());
    let metrics = Arc::new(Metrics::default());
    let Questions { waiting, own, announcer: inbox } = questions;
    let unanswered = Unanswered::default();
    let slices = Slices::default();
    let dns = names::server(&config);
    // A handle on netd is for one run.
    let _ = own.dns.set(dns.clone());
    let (ingress, tap) =
        l7::start(&client, &config, &slices, &dns, unanswered.clone(), stop.child_token());
    let pages = listeners::pages(&config, own.clone(), &health, &metrics, ingress.counted.clone());
    let stop_announcing = stop.child_token();
    let (announcing, announcer) = Announcing::new(
        own.announcer,
        inbox,
        config.node_name.clone(),
        vec![config.bridge.clone(), VIP_LINK.to_owned(), LOCAL_LINK.to_owned()],
        unanswered,
        stop_announcing.clone(),
    );
    let announcer = tokio::spawn(announcer);
    let feed = names::Feed::new(dns.clone(), slices.clone(), &config);
    let mut followers: Vec<Box<dyn Listener>> = vec![Box::new(feed)];
    followers.extend(tap);
    let (events, flow) = inputs::watch(&client, &config.node_name, &slices, followers);
    let names = names::run(&dns, &config.dns_upstreams);
    let mut reconciler = Reconciler {
        events,
        inputs: Inputs::new(config.settings(), now),
        questions: waiting,
        announcing,
        flag: config.mode,
        node: config.node_name,
        teller,
        listeners: Listeners::new(health.clone()),
        health,
        metrics,
        decided: None,
        executor: None,
        alarm: None,
        firewalls: Firewalls::default(),
        timers: Timers::starting(),
        tampered: None,
        stuck: false,
        retry: FIRST_RETRY,
        activity: Activity::since(now),
    };
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        result = reconciler.run() => result,
        // They end only when nobody could hear them any more.
        () = async { tokio::join!(telling, pages, flow, names); } => Ok(()),
    };
    // Other nodes take over sooner from one that says farewell.
    stop_announcing.cancel();
    drop(tokio::time::timeout(FAREWELL, announcer).await);
    ingress.finish().await;
    result
}

struct Reconciler {
    events: BoxStream<'static, Vec<Event>>,
    inputs: Inputs,
    questions: mpsc::Receiver<Question>,
    announcing: Announcing,
    node: String,
    /// The engine that the command line asks for.
    flag: Mode,
    teller: Teller,
    listeners: Listeners,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// The engine in use, and the wish that led to it.
    decided: Option<(Wish, Decision)>,
    /// Absent before the inputs have synced, and while a blocking thread works with it.
    executor: Option<Executor>,
    alarm: Option<Alarm>,
    firewalls: Firewalls,
    timers: Timers,
    tampered: Option<Tampered>,
    /// The kernel could not be brought to what the last look saw.
    stuck: bool,
    retry: Duration,
    activity: Activity,
}

/// When what is due.
struct Timers {
    audit: Interval,
    audit_is_due: bool,
    /// When the kernel is to be compared, whatever the API says.
    look_at: Option<Instant>,
    /// When to look at what somebody else may have changed.
    check_at: Option<Instant>,
    /// When listeners are to follow.
    listen_at: Option<Instant>,
}

impl Timers {
    fn starting() -> Self {
        let mut audit = tokio::time::interval(AUDIT);
        audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { audit, audit_is_due: false, look_at: None, check_at: None, listen_at: None }
    }
}

/// Not later than this long from now.
fn hasten(timer: &mut Option<Instant>, within: Duration) {
    let at = Instant::now() + within;
    *timer = Some(timer.map_or(at, |earlier| earlier.min(at)));
}

async fn reached(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
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
                let full = self.inputs.dirty.all;
                let report = self.look().await?;
                self.note(report, Some(full));
                self.tell(full);
            }
            // Not before the engine serves: whoever asked for it goes by that.
            if let Some((_, decision)) = &self.decided {
                self.teller.engine(decision.to_string(), &mut self.inputs);
            }
            if std::mem::take(&mut self.timers.audit_is_due) {
                let report = self.in_kernel(Executor::audit).await?;
                self.note(report, None);
            }
            self.teller.news(&mut self.inputs);
            if std::mem::take(&mut self.inputs.news.health_check_ports) {
                hasten(&mut self.timers.listen_at, LISTEN);
            }
            self.listen();
        }
    }

    /// Waits until there may be something to do, and marks it.
    async fn wait(&mut self) {
        let alarm = self.alarm.as_ref();
        let ring = async {
            match alarm {
                Some(alarm) => alarm.ring().await,
                None => std::future::pending().await,
            }
        };
        let timers = &mut self.timers;
        // All arms only wait; dropping any of them loses nothing.
        tokio::select! {
            events = self.events.next() => match events {
                Some(events) => self.apply(events),
                // A watcher never ends; if one does, the timers go on.
                None => self.events = futures::stream::pending().boxed(),
            },
            Some(question) = self.questions.recv() => self.answer(question).await,
            tampered = ring => {
                hasten(&mut timers.check_at, SETTLE);
                self.tampered = self.tampered.max(Some(tampered));
            }
            () = reached(timers.check_at) => {
                timers.check_at = None;
                match self.tampered.take() {
                    Some(Tampered::Network) => self.inputs.dirty.network = true,
                    _ => self.inputs.dirty.all = true,
                }
            }
            () = reached(timers.look_at) => {
                timers.look_at = None;
                self.inputs.dirty.all = true;
            }
            Some(news) = self.announcing.news() => match news {
                News::Told(told) => {
                    announcing::tell(&self.teller, &self.inputs, &self.node, &told);
                }
                News::Silent(nodes) => self.inputs.set_silent(nodes),
            },
            Some(findings) = self.firewalls.found() => self.note_firewalls(findings),
            () = reached(timers.listen_at) => {}
            _ = timers.audit.tick(), if alarm.is_some() => timers.audit_is_due = true,
        }
    }

    fn apply(&mut self, events: Vec<Event>) {
        events.into_iter().for_each(|event| self.inputs.apply(event));
        if !self.inputs.dirty.is_clean() {
            self.health.queued();
        }
        let news = &mut self.inputs.news;
        let services = std::mem::take(&mut news.service_changes);
        let slices = std::mem::take(&mut news.slice_changes);
        if services + slices > 0 {
            self.metrics.queued(services, slices, Timestamp::now());
        }
    }

    /// Sees to it that the engine in use is the wanted one.
    async fn follow_the_wish(&mut self) -> Result<(), NetdError> {
        let own = self.inputs.own_node.as_ref();
        self.health.set_leaving(self.inputs.is_leaving());
        let wish = Wish::of(self.flag, own.and_then(|own| own.wanted.as_deref()));
        let stands = self.decided.as_ref().is_some_and(|(old, decision)| {
            // What was impossible may be possible by the next full look: modules can be loaded.
            *old == wish && (decision.refused.is_none() || !self.inputs.dirty.all)
        });
        if !stands {
            let decision = self.decide(&wish).await?;
            self.adopt(wish, decision).await?;
        }
        Ok(())
    }

    async fn decide(&self, wish: &Wish) -> Result<Decision, NetdError> {
        let current = self.decided.as_ref().map(|(_, decision)| decision.clone());
        let (wish, flag) = (wish.clone(), self.flag);
        // Asking may load a module.
        let decision = tokio::task::spawn_blocking(move || {
            Decision::about(&wish, choose(wish.mode), || match current {
                Some(decision) => Ok(decision),
                None => choose(flag).map(Decision::from),
            })
        });
        let node = || self.node.clone();
        decision
            .await
            .map_err(|source| NetdError::Stopped { node: node(), source })?
            .map_err(|source| NetdError::Prepare { node: node(), source })
    }

    /// Lets the engine serve that was decided on, or says why it does not.
    async fn adopt(&mut self, wish: Wish, mut decision: Decision) -> Result<(), NetdError> {
        let before = self.executor.as_ref().map(Executor::engine);
        match before {
            None => {
                let prepare = |source| NetdError::Prepare { node: self.node.clone(), source };
                let executor = Executor::open(decision.engine).map_err(prepare)?;
                self.alarm = Some(
                    Alarm::open(executor.table_port(), &self.inputs.snapshot.settings.bridge)
                        .map_err(prepare)?,
                );
                self.executor = Some(executor);
            }
            Some(engine) if engine != decision.engine => {
                let wanted = decision.engine;
                let switched = self.in_kernel(move |executor, _| executor.switch(wanted)).await?;
                if let (Err(error), Some((_, old))) = (switched, &self.decided) {
                    decision =
                        Decision { refused: Some(crate::error_chain(&error)), ..old.clone() };
                }
            }
            Some(_) => {}
        }
        if before != Some(decision.engine) {
            self.inputs.dirty.all = true;
            tracing::info!(node = %self.node, engine = %decision, "the engine that serves");
            if before.is_some() {
                let message = format!("Services are carried by {decision} from now on");
                self.teller.about_node(
                    &self.inputs,
                    Severity::Normal,
                    "DataplaneSwitched",
                    message,
                );
            }
        }
        let known = self.decided.as_ref().is_some_and(|(_, old)| old.refused == decision.refused);
        if let Some(refused) = decision.refused.clone().filter(|_| !known) {
            tracing::warn!(node = %self.node, refused, "the wanted engine does not serve");
            let reason = "DataplaneEngineRefused";
            self.teller.about_node(&self.inputs, Severity::Warning, reason, refused);
        }
        self.decided = Some((wish, decision));
        Ok(())
    }

    async fn look(&mut self) -> Result<Report, NetdError> {
        let dirty = std::mem::take(&mut self.inputs.dirty);
        let (all, triggered) = (dirty.all, dirty.triggered.clone());
        let began = std::time::Instant::now();
        let report = self.in_kernel(move |executor, snapshot| match &dirty {
            Dirty { all: true, .. } => executor.sync(snapshot, Changes::All),
            Dirty { services, network, silence, .. } => {
                let mut report = Report::default();
                if *silence {
                    report.add(executor.sync(snapshot, Changes::Silence));
                }
                report.add(executor.sync(snapshot, Changes::Services(services)));
                if *network {
                    report.add(executor.sync(snapshot, Changes::Network));
                }
                report
            }
        });
        let report = report.await?;
        let now = Timestamp::now();
        // One Service that the kernel refuses, or a route that somebody else has, must not make
        // load balancers leave the node: that is told in other ways.
        let well = !report.stuck;
        self.stuck = report.stuck;
        self.metrics.looked(began.elapsed(), all, well, now);
        if well {
            self.metrics.programmed(&triggered, now);
            self.health.updated(now);
        }
        if all {
            self.timers.look_at = None;
            self.activity.last_look = Some(now);
        }
        hasten(&mut self.timers.look_at, RESYNC);
        hasten(&mut self.timers.listen_at, LISTEN);
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

    /// Takes note of what was done; `look` says whether it was a look, and a full one.
    fn note(&mut self, mut report: Report, look: Option<bool>) {
        if look.is_none() && !report.failures.is_empty() {
            // It would be told twice a second. The look that it hastens finds the same, and tells.
            report.failures.clear();
            hasten(&mut self.timers.look_at, self.retry);
        }
        self.activity.add(&report, Timestamp::now());
        if report.writes + report.forgotten > 0 {
            tracing::debug!(writes = report.writes, forgotten = report.forgotten, "data plane");
        }
        for repair in &report.repaired {
            tracing::warn!(node = %self.node, %repair, "changed by another hand and put back");
        }
        self.teller.repaired(&self.inputs, report.repaired);
        if report.failures.is_empty() {
            if look == Some(true) {
                self.retry = FIRST_RETRY;
            }
            return;
        }
        hasten(&mut self.timers.look_at, self.retry);
        self.retry = (self.retry * 2).min(LAST_RETRY);
        let failures = report.failures.iter();
        let causes: Vec<String> = failures.map(|failure| crate::error_chain(failure)).collect();
        tracing::warn!(node = %self.node, failures = ?causes, "data plane");
        let message = format!("could not be done and is tried again: {}", causes.join("; "));
        self.teller.about_node(&self.inputs, Severity::Warning, "DataplaneFailed", message);
    }

    /// Tells the authors of Services what became of them.
    fn tell(&mut self, full: bool) {
        let Some(executor) = &self.executor else { return };
        self.teller.problems(&self.inputs, executor.problems(), full);
        if full {
            self.look_for_firewalls();
        }
    }

    /// Lets the listeners follow when it is time.
    fn listen(&mut self) {
        let Some(executor) = &self.executor else { return };
        let programmed = self.timers.listen_at.is_some_and(|at| at <= Instant::now());
        let refused = executor.refused_addresses();
        let served = Served { changed: programmed, stuck: self.stuck, refused };
        self.announcing.follow(&self.inputs, &served);
        if programmed {
            self.timers.listen_at = None;
            self.listeners.follow(executor.plane(), &self.inputs, &self.teller);
        }
    }
}
