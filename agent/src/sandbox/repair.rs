//! Mending the pod network when somebody else has damaged it.
//!
//! Expected flow: the kernel says that something changed, or time has passed; [`Seen`] is what is
//! there, [`plan`] (pure) compares it with what should be, and what differs is made anew. Guarantees:
//! an intact network gets no write; a pod is never looked at while it is being connected or removed.
//! Deliberately not here: routes to other nodes, Services' addresses and tables (netd mends those).

use std::{collections::BTreeMap, net::IpAddr, sync::PoisonError, time::Duration};

use ipnet::IpNet;
use netns::{Link, LinkError, Links, Monitor, Namespace, Route, RouteSeen};
use rtnetlink::{LinkBridgePort, LinkUnspec};

use super::{
    NodeNetwork, SandboxError, Wired,
    network::{Bridge, everywhere, link_name},
};
use crate::recorder::{Recorder, Severity};

/// Changes come in bursts: look once, this long after the first.
const SETTLE: Duration = Duration::from_millis(200);
/// Time between two looks at most, whatever the kernel says.
const RESYNC: Duration = Duration::from_secs(30);
/// Time after which a repair that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// `RTPROT_KERNEL`: who makes the route to the network of an address.
const BY_KERNEL: u8 = 2;
/// `IP6_RT_PRIO_ADDRCONF`: the metric of such a route in IPv6.
const METRIC_V6: u32 = 256;

/// What is there: in the node's namespace, and in each pod's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    links: Vec<Link>,
    addresses: Vec<(u32, IpNet)>,
    routes: Vec<RouteSeen>,
    /// By uid; pods whose namespace could not be looked into are left out.
    pods: BTreeMap<String, SeenInside>,
}

/// What is there inside a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SeenInside {
    up: bool,
    addresses: Vec<IpAddr>,
    /// Next hops of its default routes.
    gateways: Vec<IpAddr>,
}

/// One thing to make anew.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Repair {
    /// The bridge, its hardware address or its addresses.
    Bridge,
    /// The route to the pods of a range.
    Route(IpNet),
    /// A pod's port on the bridge.
    Port { uid: String },
    /// A pod's link with all that is on it.
    Wire { uid: String },
    /// Addresses and routes inside a pod.
    Inside { uid: String },
}

/// Compares; the repairs are in the order in which they must be done.
fn plan(bridge: &Bridge, shared: bool, pods: &BTreeMap<String, Wired>, seen: &Seen) -> Vec<Repair> {
    let mut repairs = Vec::new();
    let there = seen.links.iter().find(|link| link.name == bridge.name && link.is_bridge);
    let has = |address: &IpNet| {
        there.is_some_and(|link| seen.addresses.contains(&(link.index, *address)))
    };
    let intact = there.is_some_and(|link| link.up && link.mac == bridge.mac);
    if !intact || !bridge.addresses().iter().all(has) {
        repairs.push(Repair::Bridge);
    }
    for gateway in bridge.gateways.iter().filter(|gateway| has(gateway)) {
        let is_route = |route: &RouteSeen| {
            route.destination == gateway.trunc() && route.link == there.map(|link| link.index)
        };
        if !seen.routes.iter().any(is_route) {
            repairs.push(Repair::Route(*gateway));
        }
    }
    for (uid, pod) in pods {
        let name = link_name(uid);
        let Some(port) = seen.links.iter().find(|link| link.name == name) else {
            repairs.push(Repair::Wire { uid: uid.clone() });
            continue;
        };
        let on_bridge = there.is_some_and(|link| port.controller == Some(link.index));
        if !on_bridge || !port.up || port.isolated == shared || port.hairpin != shared {
            repairs.push(Repair::Port { uid: uid.clone() });
        }
        if seen.pods.get(uid).is_some_and(|inside| !is_whole(pod, inside, bridge)) {
            repairs.push(Repair::Inside { uid: uid.clone() });
        }
    }
    repairs
}

fn is_whole(pod: &Wired, inside: &SeenInside, bridge: &Bridge) -> bool {
    let gateways = bridge.gateways.iter().map(IpNet::addr);
    let mut of_family =
        gateways.filter(|gateway| pod.addresses.iter().any(|a| a.is_ipv4() == gateway.is_ipv4()));
    inside.up
        && pod.addresses.iter().all(|address| inside.addresses.contains(address))
        && of_family.all(|gateway| inside.gateways.contains(&gateway))
}

/// What was mended, for an event.
fn tell(repairs: &[Repair], bridge: &str, pods: &BTreeMap<String, Wired>) -> String {
    let mut parts = Vec::new();
    if repairs.contains(&Repair::Bridge) {
        parts.push(format!("bridge {bridge}"));
    }
    let routes = repairs.iter().filter_map(|repair| match repair {
        Repair::Route(range) => Some(format!("route to {}", range.trunc())),
        _ => None,
    });
    parts.extend(routes);
    let mut names: Vec<&str> = repairs
        .iter()
        .filter_map(|repair| match repair {
            Repair::Bridge | Repair::Route(_) => None,
            Repair::Port { uid } | Repair::Wire { uid } | Repair::Inside { uid } => Some(uid),
        })
        .filter_map(|uid| Some(pods.get(uid)?.alias.as_str()))
        .collect();
    names.dedup();
    if !names.is_empty() {
        parts.push(format!("links of pods {}", names.join(", ")));
    }
    format!("Somebody changed the pod network; restored: {}", parts.join("; "))
}

/// Mends whatever is damaged, until the future is dropped.
pub(crate) async fn keep(network: NodeNetwork, monitor: Option<Monitor>, recorder: Recorder) {
    let mut monitor = monitor;
    // At once: damage may have been done while no agent ran.
    let mut pause = Duration::ZERO;
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            () = heard(monitor.as_mut()) => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match network.mend().await {
            Ok(None) => RESYNC,
            Ok(Some(message)) => {
                tracing::warn!("{message}");
                recorder.record_node(Severity::Warning, "NetworkRepaired", message);
                RESYNC
            }
            Err(error) => {
                let error = crate::error_chain(&error);
                tracing::warn!(error, "the pod network is damaged, and cannot be mended yet");
                RETRY
            }
        };
    }
}

async fn heard(monitor: Option<&mut Monitor>) {
    match monitor {
        Some(monitor) => monitor.changed().await,
        None => std::future::pending().await,
    }
}

impl NodeNetwork {
    /// Looks, and mends what differs; answers what was mended, if anything.
    async fn mend(&self) -> Result<Option<String>, SandboxError> {
        let pods = self.pods();
        let seen = self.look(&pods).await.map_err(SandboxError::Link)?;
        if plan(&self.bridge, self.shared, &pods, &seen).is_empty() {
            return Ok(None);
        }
        // It may have been a pod that came or went at that very moment: look again with the door
        // closed.
        let _nobody_wires = self.wired.write().await;
        let pods = self.pods();
        let mut done: Vec<Repair> = Vec::new();
        let mut failed = None;
        // What is mended shows what else is missing: the bridge's index, then its ports.
        for _ in 0..3 {
            let seen = self.look(&pods).await.map_err(SandboxError::Link)?;
            let repairs = plan(&self.bridge, self.shared, &pods, &seen);
            if repairs.is_empty() {
                break;
            }
            failed = None;
            for repair in repairs {
                match self.execute(&repair, &pods).await {
                    Ok(()) => done.push(repair),
                    // The others are mended all the same.
                    Err(error) => failed = Some(error),
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok((!done.is_empty()).then(|| tell(&done, &self.bridge.name, &pods))),
        }
    }

    fn pods(&self) -> BTreeMap<String, Wired> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn look(&self, pods: &BTreeMap<String, Wired>) -> Result<Seen, LinkError> {
        let mut inside = BTreeMap::new();
        for (uid, pod) in pods {
            // A namespace that is gone is for the pod's own worker to miss.
            if let Ok(seen) = look_inside(pod).await {
                inside.insert(uid.clone(), seen);
            }
        }
        Ok(Seen {
            links: self.links.list().await?,
            addresses: self.links.addresses().await?,
            routes: self.links.routes().await?,
            pods: inside,
        })
    }

    async fn execute(
        &self,
        repair: &Repair,
        pods: &BTreeMap<String, Wired>,
    ) -> Result<(), SandboxError> {
        match repair {
            Repair::Bridge => self.ensure_bridge().await,
            Repair::Route(gateway) => {
                self.restore_route(*gateway).await.map_err(SandboxError::Link)
            }
            Repair::Port { uid } => {
                self.restore_port(&link_name(uid)).await.map_err(SandboxError::Link)
            }
            Repair::Wire { uid } => match pods.get(uid) {
                Some(pod) => self.wire(uid, pod).await,
                None => Ok(()),
            },
            Repair::Inside { uid } => match pods.get(uid) {
                Some(pod) => self.restore_inside(pod).await,
                None => Ok(()),
            },
        }
    }

    /// The route that the kernel makes with an address, and does not make again by itself.
    async fn restore_route(&self, gateway: IpNet) -> Result<(), LinkError> {
        let route = Route {
            destination: gateway.trunc(),
            gateway: None,
            source: Some(gateway.addr()).filter(IpAddr::is_ipv4),
            // As the kernel's own: it may make it again after all, and two would be one too many.
            metric: gateway.addr().is_ipv6().then_some(METRIC_V6),
            link: Some(self.links.require(&self.bridge.name).await?),
            onlink: false,
            protocol: Some(BY_KERNEL),
        };
        self.links.ensure_route(&route).await
    }

    async fn restore_port(&self, name: &str) -> Result<(), LinkError> {
        let bridge = self.links.require(&self.bridge.name).await?;
        let port = self.links.require(name).await?;
        let join = LinkUnspec::new_with_index(port).controller(bridge).build();
        self.links.handle().link().set(join).execute().await.map_err(|source| {
            LinkError::Request { op: format!("attach {name} to the bridge"), source }
        })?;
        let settings = LinkBridgePort::new(port).isolated(!self.shared).hairpin(self.shared);
        self.set_port(settings.build(), name).await?;
        self.links.set_up(port).await
    }

    async fn restore_inside(&self, pod: &Wired) -> Result<(), SandboxError> {
        let namespace = Namespace::open(&pod.net).map_err(SandboxError::Namespace)?;
        let restored = async {
            let eth0 = Links::inside(&namespace)?.require("eth0").await?;
            self.configure(&namespace, eth0, &pod.addresses).await
        };
        restored.await.map_err(SandboxError::Link)
    }
}

async fn look_inside(pod: &Wired) -> Result<SeenInside, LinkError> {
    let inside = Links::inside(&Namespace::open(&pod.net)?)?;
    let eth0 = inside.list().await?.into_iter().find(|link| link.name == "eth0");
    let Some(eth0) = eth0 else { return Ok(SeenInside::default()) };
    let addresses = inside.addresses().await?.into_iter();
    let routes = inside.routes().await?.into_iter();
    let gateways = routes.filter_map(|route| {
        let gateway = route.gateway?;
        (route.destination == everywhere(gateway)).then_some(gateway)
    });
    Ok(SeenInside {
        up: eth0.up,
        addresses: addresses
            .filter(|(link, _)| *link == eth0.index)
            .map(|(_, a)| a.addr())
            .collect(),
        gateways: gateways.collect(),
    })
}

#[cfg(test)]
mod tests;
