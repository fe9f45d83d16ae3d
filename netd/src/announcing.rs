//! LoadBalancer addresses on the network of the nodes: lets the crate `announce` follow the cluster,
//! and tells what it does and which other nodes it does not hear any more.
//!
//! Input: the snapshot, and how much of it the kernel serves: nothing is announced before. Output:
//! orders for the announcer, and events of Services as `MetalLB` words them (upstream:
//! `speaker/main.go`). Deliberately not here: who announces, and how.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use announce::offer::{self, Fitness};
use announce::{Handle, Inbox, Orders, Told};
use netmodel::snapshot::ServiceName;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::events::Severity;
use crate::inputs::Inputs;
use crate::tell::Teller;

/// A node that has not heard of the API for so long leaves addresses to others: as long as a node
/// may be silent until Kubernetes takes it for lost (upstream: `node-monitor-grace-period`). An API
/// server that starts again makes no address move.
const OUT_OF_TOUCH: Duration = Duration::from_secs(40);
/// Happenings that may wait for the loop.
const WAITING: usize = 256;
/// The Service that every cluster has; its uid tells clusters apart that share a network.
const CLUSTER: (&str, &str) = ("default", "kubernetes");

/// Services that a process of this node answers for, and which it can't answer now. Shared with
/// these processes; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unanswered(Arc<Mutex<BTreeSet<ServiceName>>>);

impl Unanswered {
    /// Says whether a Service is answered.
    pub(crate) fn set(&self, name: &ServiceName, answered: bool) {
        let mut unanswered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            unanswered.remove(name);
        } else {
            unanswered.insert(name.clone());
        }
    }

    fn now(&self) -> BTreeSet<ServiceName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The loop's side.
#[derive(Debug)]
pub(crate) struct Announcing {
    handle: Handle,
    unanswered: Unanswered,
    told: mpsc::Receiver<Told>,
    silent: watch::Receiver<BTreeSet<Arc<str>>>,
    chief: Chief,
}

/// What the announcer says.
#[derive(Debug)]
pub(crate) enum News {
    /// Something about an address.
    Told(Told),
    /// Which other nodes are silent now.
    Silent(BTreeSet<Arc<str>>),
}

/// How much of the snapshot the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// There may be more of it than before, or less.
    pub(crate) changed: bool,
    /// The kernel could not be brought to it as a whole: of what is new, nothing may be there.
    pub(crate) stuck: bool,
    /// Addresses of which the kernel refused something.
    pub(crate) refused: BTreeSet<IpAddr>,
}

/// What the next orders are, as a function of what is known.
#[derive(Debug, Default)]
struct Chief {
    /// Since when the API is not heard.
    silent_since: Option<Instant>,
    /// What the last orders were made of, but for the snapshot.
    last: Option<State>,
    /// The addresses that the kernel had when it was last well.
    served: BTreeSet<IpAddr>,
}

/// What counts besides the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    fitness: Fitness,
    sound: bool,
}

impl Announcing {
    /// The loop's side, and the task that announces until told to stop. Links of the names in
    /// `not_on` are no networks of nodes.
    pub(crate) fn new(
        handle: Handle,
        inbox: Inbox,
        node: String,
        not_on: Vec<String>,
        unanswered: Unanswered,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (tell, told) = mpsc::channel(WAITING);
        let silent = handle.silent();
        let chief = Chief::default();
        let announcing = Self { handle, unanswered, told, silent, chief };
        let run = async move {
            let tell = |told: Told| {
                log(&told);
                // What does not fit is in the log, and shows in what `minictl lb check` prints.
                drop(tell.try_send(told));
            };
            announce::run(&node, &not_on, inbox, tell, stop).await;
        };
        (announcing, run)
    }

    /// What the announcer says next. Dropping the future loses nothing.
    pub(crate) async fn news(&mut self) -> Option<News> {
        tokio::select! {
            told = self.told.recv() => told.map(News::Told),
            Ok(()) = self.silent.changed() => {
                let silent = self.silent.borrow_and_update().clone();
                Some(News::Silent(silent))
            }
            else => None,
        }
    }

    /// Gives the announcer its orders, if anything may have changed: what the kernel serves of the
    /// snapshot, or what this node knows of itself.
    pub(crate) fn follow(&mut self, inputs: &Inputs, served: &Served) {
        let orders = self.chief.orders(inputs, served, self.unanswered.now(), Instant::now());
        orders.into_iter().for_each(|orders| self.handle.order(orders));
    }
}

impl Chief {
    fn orders(
        &mut self,
        inputs: &Inputs,
        served: &Served,
        unanswered: BTreeSet<ServiceName>,
        now: Instant,
    ) -> Option<Orders> {
        let fitness = Fitness {
            excluded: inputs.own_node.as_ref().is_some_and(|own| own.excluded),
            leaving: inputs.is_leaving(),
            unanswered,
            others: inputs.balanced_by_others.clone(),
            unserved: self.unserved(inputs, served),
        };
        let ready = inputs.own_node.as_ref().is_some_and(|own| own.ready);
        // Who cannot serve what is new is soon behind with the rest, too.
        let sound = self.in_touch(inputs, now) && ready && !served.stuck;
        let state = State { fitness, sound };
        if !served.changed && self.last.as_ref() == Some(&state) {
            return None;
        }
        if !served.stuck {
            let all = balanced(inputs).filter(|address| !served.refused.contains(address));
            self.served = all.collect();
        }
        let (namespace, name) = CLUSTER;
        let uid = inputs.facts.get(&ServiceName::new(namespace, name)).map(|facts| &*facts.uid);
        let orders = Orders {
            cluster: uid.map_or(0, announce::election::number_of),
            wanted: offer::wanted(&inputs.snapshot, &state.fitness),
            sound,
        };
        self.last = Some(state);
        Some(orders)
    }

    /// Nothing may be announced before the kernel serves it.
    fn unserved(&self, inputs: &Inputs, served: &Served) -> BTreeSet<IpAddr> {
        let mut unserved = served.refused.clone();
        if served.stuck {
            unserved.extend(balanced(inputs).filter(|address| !self.served.contains(address)));
        }
        unserved
    }

    fn in_touch(&mut self, inputs: &Inputs, now: Instant) -> bool {
        if inputs.in_touch() {
            self.silent_since = None;
        } else {
            self.silent_since.get_or_insert(now);
        }
        self.silent_since.is_none_or(|since| now.duration_since(since) < OUT_OF_TOUCH)
    }
}

/// All LoadBalancer addresses.
fn balanced(inputs: &Inputs) -> impl Iterator<Item = IpAddr> {
    inputs.snapshot.services.values().flat_map(|service| service.load_balancer_ips.iter().copied())
}

fn log(told: &Told) {
    match told {
        Told::Announces { address, link, .. } => {
            tracing::info!(%address, link, "announce a LoadBalancer address");
        }
        Told::Yields { address, to } => {
            tracing::info!(%address, to, "another node announces a LoadBalancer address, or none");
        }
        Told::Conflict { address, link, mac, .. } => {
            tracing::warn!(%address, link, %mac, "a host that is no node has a LoadBalancer address");
        }
        Told::NotOnLink { address, .. } => {
            tracing::warn!(%address, "a LoadBalancer address is on no network of this node");
        }
    }
}

/// Tells the authors of Services.
pub(crate) fn tell(teller: &Teller, inputs: &Inputs, node: &str, told: &Told) {
    // Of an address that is yielded whoever has it now tells.
    let Some((services, severity, reason, message)) = words(node, told) else { return };
    for service in services {
        teller.about_service(inputs, service, severity, reason, message.clone());
    }
}

type Words<'a> = (&'a BTreeSet<ServiceName>, Severity, &'static str, String);

fn words<'a>(node: &str, told: &'a Told) -> Option<Words<'a>> {
    Some(match told {
        Told::Announces { address, services, .. } => {
            let message =
                format!("announcing {address} from node {node:?} with protocol \"layer2\"");
            (services, Severity::Normal, "nodeAssigned", message)
        }
        Told::Yields { .. } => return None,
        Told::Conflict { address, services, link, mac } => {
            let message = format!(
                "the host with Ethernet address {mac} on the network of {link} says that it has \
                 {address}, too: some clients will reach it instead of this service; node {node:?} \
                 goes on announcing. Take the address from that host, or out of the pool"
            );
            (services, Severity::Warning, "AddressConflict", message)
        }
        Told::NotOnLink { address, services } => {
            let message = format!(
                "{address} is in no network of node {node:?}, which therefore cannot announce it; \
                 a router has to send packets for it here"
            );
            (services, Severity::Warning, "AddressNotOnLink", message)
        }
    })
}

#[cfg(test)]
mod tests;
