//! Ingress on this node: keeps the proxy equal to the cluster.
//!
//! Inputs: Services, slices and Nodes from netd's own watches ([`Tap`]), and watches of Ingresses,
//! their classes and TLS Secrets. Output: routes, certificates and doors of `ingress::Proxy`, and
//! events for authors. The doors are the addresses of [`SERVICE`], a Service that each node serves
//! by itself. Level-triggered: news only says "look again". Invariant: nothing is routed before
//! all lists are complete once. Deliberately not here: how a route is found and a request sent on.

mod feed;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dns::Dns;
use ingress::certificates::Keyring;
use ingress::routes::{Finding, Routes, routes};
use ingress::{Counters, Door, Names, Proxy};
use jiff::Timestamp;
use kube::Client;
use netmodel::snapshot::ServiceName;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::announcing::Unanswered;
use crate::events::{Happening, Recorder, Severity, Subject};
use crate::inputs::fan::Listener;
use crate::inputs::slices::Slices;

use feed::Tap;
use view::{News, View};

/// Namespace and name of the Service whose addresses are the proxy's.
const SERVICE: (&str, &str) = ("kube-system", "minictl-ingress");
/// Changes come in bursts: look once, this long after the first.
const SETTLE: Duration = Duration::from_millis(5);
/// How often doors that can't be had are tried again and certificates are looked at for their hour,
/// and how long a finding must stand before it is told: the objects of one manifest come one after
/// the other.
const AGAIN: Duration = Duration::from_secs(2);
/// How long requests may take to end when netd stops.
const GRACE: Duration = Duration::from_secs(3);
/// More workers would not be faster: the node has work besides.
const MOST_WORKERS: usize = 8;

fn service() -> ServiceName {
    ServiceName::new(SERVICE.0, SERVICE.1)
}

/// The proxy's counters, as soon as there is one.
pub(crate) type Counted = Arc<OnceLock<Counters>>;

/// Ingress while netd runs.
pub(crate) struct L7 {
    pub(crate) counted: Counted,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl L7 {
    /// Lets requests end, for a while.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        if let Some(task) = self.task {
            // It ends by itself, and in time.
            let _ = task.await;
        }
    }
}

/// Starts Ingress if it is wanted; what is returned besides must hear of Services.
pub(crate) fn start(
    client: &Client,
    config: &Config,
    slices: &Slices,
    dns: &Dns,
    unanswered: Unanswered,
    stop: CancellationToken,
) -> (L7, Option<Box<dyn Listener>>) {
    let counted = Counted::default();
    // Nobody shall send its clients here before there is a door.
    unanswered.set(&service(), false);
    if !config.ingress {
        return (L7 { counted, stop, task: None }, None);
    }
    let node = config.node_name.clone();
    let (send, news) = unbounded_channel();
    let (recorder, writing) = Recorder::new(client.clone(), node.clone());
    let watching = feed::watch(client, send.clone());
    let mut keeper = Keeper {
        node,
        view: View::new(slices.clone()),
        names: names_of(dns),
        proxy: None,
        routes: Routes::default(),
        keyring: Keyring::default(),
        of_certificates: Vec::new(),
        open: BTreeMap::new(),
        findings: BTreeMap::new(),
        recorder,
        counted: counted.clone(),
        unanswered,
    };
    let told = stop.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            () = told.cancelled() => {}
            () = keeper.run(news) => {}
            () = async { tokio::join!(writing, watching); } => {}
        }
        if let Some(proxy) = keeper.proxy {
            proxy.stop(GRACE).await;
        }
    });
    (L7 { counted, stop, task: Some(task) }, Some(Box::new(Tap::new(send))))
}

/// The node's own name server, as pods ask it: it knows what the cluster calls by which name, and
/// whom the cluster asks for all others. It works where netd does, not in a worker.
fn names_of(dns: &Dns) -> Names {
    let (dns, netd) = (dns.clone(), Handle::current());
    Names::by(move |name| {
        let dns = dns.clone();
        let asking = netd.spawn(async move { dns.addresses_of(&name).await });
        async { asking.await.map_err(io::Error::other) }
    })
}

struct Keeper {
    node: String,
    view: View,
    /// Who knows Services that stand for a name.
    names: Names,
    /// Started with the first door.
    proxy: Option<Proxy>,
    routes: Routes,
    keyring: Keyring,
    /// What there is to say about certificates.
    of_certificates: Vec<Finding>,
    /// The doors that should be open, and why one is not.
    open: BTreeMap<Door, Option<String>>,
    /// What there is to say, since when, and whether it was said.
    findings: BTreeMap<Finding, (Instant, bool)>,
    recorder: Recorder,
    counted: Counted,
    /// Whether this node may announce the doors' addresses.
    unanswered: Unanswered,
}

impl Keeper {
    async fn run(&mut self, mut news: UnboundedReceiver<News>) {
        let mut again = tokio::time::interval(AGAIN);
        loop {
            tokio::select! {
                first = news.recv() => {
                    let Some(first) = first else { return };
                    self.view.apply(first);
                    if self.view.is_dirty() {
                        tokio::time::sleep(SETTLE).await;
                    }
                    while let Ok(next) = news.try_recv() {
                        self.view.apply(next);
                    }
                }
                _ = again.tick() => {
                    let is_shut = self.open.values().any(Option::is_some);
                    self.view.dirty.doors |= self.proxy.is_none() || is_shut;
                    self.view.dirty.certificates |= self.keyring.is_due(Timestamp::now());
                }
            }
            if self.view.synced() {
                self.follow();
                self.tell();
            }
        }
    }

    fn follow(&mut self) {
        let dirty = std::mem::take(&mut self.view.dirty);
        let doors = dirty.doors.then(|| self.view.doors());
        if doors.as_ref().is_some_and(|doors| !doors.is_empty()) {
            self.start_proxy();
        }
        // Without a proxy nobody asks; the first door routes all.
        let Some(proxy) = &self.proxy else { return };
        if dirty.routes || dirty.certificates || dirty.doors {
            let mut new = routes(&self.view.cluster);
            let certificates = new.secrets != self.routes.secrets || dirty.certificates;
            proxy.route(std::mem::take(&mut new.table));
            self.routes = new;
            if certificates {
                let (known, now) = (&self.view.cluster, Timestamp::now());
                self.of_certificates =
                    self.keyring.follow(proxy.certificates(), &self.routes, known, now);
            }
        }
        // Whoever comes in finds the routes there.
        if let Some(doors) = doors {
            self.follow_doors(doors);
        }
        let since = Instant::now();
        let all = self.routes.findings.iter().chain(&self.of_certificates).cloned();
        let old = std::mem::take(&mut self.findings);
        self.findings = all
            .map(|one| {
                let known = old.get(&one).copied();
                (one, known.unwrap_or((since, false)))
            })
            .collect();
    }

    fn start_proxy(&mut self) {
        if self.proxy.is_some() {
            return;
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        match Proxy::start(cores.min(MOST_WORKERS), &self.names) {
            Ok(proxy) => {
                let _ = self.counted.set(proxy.counters());
                self.proxy = Some(proxy);
            }
            Err(error) => tracing::error!(error = crate::error_chain(&error), "start Ingress"),
        }
    }

    fn follow_doors(&mut self, wanted: Vec<Door>) {
        let Some(proxy) = &mut self.proxy else { return };
        let failed = proxy.listen(wanted.iter().copied());
        let mut open: BTreeMap<Door, Option<String>> =
            wanted.into_iter().map(|door| (door, None)).collect();
        for (door, error) in failed {
            open.insert(door, Some(error.to_string()));
        }
        let news: Vec<(Door, String)> = open
            .iter()
            .filter(|(door, why)| self.open.get(door) != Some(why))
            .filter_map(|(door, why)| Some((*door, why.clone()?)))
            .collect();
        self.open = open;
        let answered = !self.open.is_empty() && self.open.values().all(Option::is_none);
        self.unanswered.set(&service(), answered);
        for (door, why) in news {
            let message = format!("node {} does not serve Ingress at {door}: {why}", self.node);
            tracing::warn!(message);
            let about = Subject::Service(service(), self.view.uid());
            self.record(about, "FailedToListen", message);
        }
    }

    /// Tells authors what has been wrong for a while. One node is enough for that.
    fn tell(&mut self) {
        if !self.view.speaks(&self.node) {
            return;
        }
        let due: Vec<Finding> = self
            .findings
            .iter_mut()
            .filter(|(_, (since, said))| !*said && since.elapsed() >= AGAIN)
            .map(|(finding, (_, said))| {
                *said = true;
                finding.clone()
            })
            .collect();
        for Finding { ingress, reason, message } in due {
            let known = self.view.cluster.ingresses.get(&ingress);
            let uid = known.map(|ingress| ingress.uid.clone()).unwrap_or_default();
            self.record(Subject::Ingress(ingress, uid), reason, message);
        }
    }

    fn record(&self, about: Subject, reason: &'static str, message: String) {
        let severity = Severity::Warning;
        self.recorder.tell(Happening { about, severity, reason, message });
    }
}
