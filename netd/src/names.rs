//! The node's name server, fed with what the watches see.
//!
//! Input: objects of the API. Output: changes of the zone, where to listen, who may ask, and which
//! servers to ask in turn. It answers at the ClusterIPs of `kube-system/kube-dns`, if that Service
//! is for every node's own server, and not before all that it knows has been listed. Deliberately
//! not here: what is answered (crate `dns`), and the addresses on a link (the executor's).

mod cut;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use dns::resolv_conf::{self, choose};
use dns::zone::Service;
use dns::{Dns, DomainName};
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use netmodel::snapshot::ServiceName;
use proto::dns::dns_server::DnsServer;

use crate::Config;
use crate::control::Control;
use crate::inputs::SliceName;
use crate::inputs::fan::Listener;
use crate::inputs::slices::{Kept, Slices};

/// The cluster's domain.
const DOMAIN: &str = "cluster.local.";
/// The Service whose addresses are asked.
const SERVICE: (&str, &str) = ("kube-system", "kube-dns");
/// The label that says who serves a Service, and what it says of those that each node serves itself.
const SERVED_BY: &str = "service.kubernetes.io/service-proxy-name";
const EACH_NODE: &str = "minictl-node-local";
/// Where it is asked.
const PORT: u16 = 53;
/// How often the machine's own servers are looked at anew.
const REREAD: Duration = Duration::from_secs(5);

/// A name server for the node.
pub(crate) fn server(config: &Config) -> Dns {
    let domain: DomainName = DOMAIN.parse().expect("it is a name");
    let ranges = config.service_cidrs.iter().chain(&config.cluster_cidrs).copied();
    let dns = Dns::new(&config.node_name, &domain, ranges.collect());
    dns.admit(config.cluster_cidrs.clone());
    dns
}

/// The gRPC service that tells about the name server (contract: `proto/dns.proto`).
#[must_use]
pub fn dns_service(control: &Control) -> DnsServer<impl proto::dns::dns_server::Dns + use<>> {
    let dns = control.dns.clone();
    dns::service(move || dns.get().cloned())
}

/// Serves for ever.
pub(crate) async fn run(dns: &Dns, upstreams: &[SocketAddr]) {
    tokio::join!(dns.run(), follow_upstreams(dns, upstreams));
}

/// Asks the servers that were named, or else those that the machine itself asks, as they change.
async fn follow_upstreams(dns: &Dns, named: &[SocketAddr]) {
    let mut told = None;
    loop {
        let file = read(resolv_conf::FILE).await.unwrap_or_default();
        dns.search(resolv_conf::searches(&file));
        let servers = match named {
            [] => choose(&file, read(resolv_conf::BEHIND_STUB).await.as_deref()),
            named => named.to_vec(),
        };
        // It leaves itself out, whatever stands on the list.
        dns.forward_to(&servers);
        let now = Some(servers.into_iter().partition(|server| !dns.answers_at(*server)));
        if told != now {
            told = now;
            told.as_ref().into_iter().for_each(tell);
        }
        tokio::time::sleep(REREAD).await;
    }
}

/// Says in the log who is asked, and who is not because it is this server.
fn tell((servers, ourselves): &(Vec<SocketAddr>, Vec<SocketAddr>)) {
    if !ourselves.is_empty() {
        tracing::warn!(
            ?ourselves,
            "these DNS servers are this very server: they are not asked, or it would ask itself"
        );
    }
    match servers.is_empty() {
        true => tracing::warn!("no DNS server is known for names outside the cluster"),
        false => tracing::info!(?servers, "DNS servers for names outside the cluster"),
    }
}

async fn read(file: &str) -> Option<String> {
    tokio::fs::read_to_string(Path::new(file)).await.ok()
}

/// Feeds the name server.
pub(crate) struct Feed {
    dns: Dns,
    node: String,
    cluster_cidrs: Vec<IpNet>,
    /// The addresses of this node.
    own: Vec<IpAddr>,
    /// Where the cluster expects a name server.
    wanted: Vec<IpAddr>,
    /// Services whose endpoints have names; the slices of others are nobody's business here.
    headless: BTreeSet<ServiceName>,
    slices: Slices,
    synced: bool,
}

impl Feed {
    pub(crate) fn new(dns: Dns, slices: Slices, config: &Config) -> Self {
        Self {
            dns,
            node: config.node_name.clone(),
            cluster_cidrs: config.cluster_cidrs.clone(),
            own: Vec::new(),
            wanted: Vec::new(),
            headless: BTreeSet::new(),
            slices,
            synced: false,
        }
    }

    fn listen(&self) {
        if self.synced {
            let at = |ip: &IpAddr| SocketAddr::new(*ip, PORT);
            self.dns.listen(self.wanted.iter().map(at).collect());
        }
    }

    /// Pods may ask, and who is on this node: what a program there sends to an address of the node
    /// comes from an address of the node, the server's own among them.
    fn admit(&self) {
        let own = self.own.iter().chain(&self.wanted).copied().map(IpNet::from);
        self.dns.admit(self.cluster_cidrs.iter().copied().chain(own).collect());
    }
}

impl Listener for Feed {
    fn service(&mut self, name: &ServiceName, object: Option<&core::Service>) {
        if (&*name.namespace, &*name.name) == SERVICE {
            self.wanted = object.map(served_here).unwrap_or_default();
            self.admit();
            self.listen();
        }
        let service = object.and_then(cut::service);
        let is_headless = matches!(service, Some(Service::Headless { .. }));
        let was_headless = match is_headless {
            true => !self.headless.insert(name.clone()),
            false => self.headless.remove(name),
        };
        let now = |kept: &Kept| is_headless.then(|| cut::slice(kept));
        let slices = match is_headless == was_headless {
            true => Vec::new(),
            false => self.slices.of(name),
        };
        self.dns.change(|zone| {
            let mut changed = zone.set_service(&name.namespace, &name.name, service);
            for (slice, kept) in &slices {
                let now = now(kept).map(|slice| (&*name.name, slice));
                changed |= zone.set_slice(&name.namespace, slice, now);
            }
            changed
        });
    }

    fn slice(&mut self, name: &SliceName, _owner: Option<&ServiceName>, now: Option<&Kept>) {
        let now = now.filter(|kept| self.headless.contains(&kept.owner));
        let now = now.map(|kept| (&*kept.owner.name, cut::slice(kept)));
        self.dns.change(|zone| zone.set_slice(&name.namespace, &name.name, now));
    }

    fn node(&mut self, name: &str, object: Option<&core::Node>) {
        if *name == self.node {
            self.own = object.map(|node| crate::convert::node(node).addresses).unwrap_or_default();
            self.admit();
        }
    }

    fn pod(&mut self, name: &ServiceName, object: Option<&core::Pod>) {
        let pod = object.and_then(|object| cut::pod(name, object));
        self.dns.change(|zone| zone.set_pod(&name.namespace, &name.name, pod));
    }

    fn synced(&mut self) {
        self.synced = true;
        self.listen();
    }
}

/// The addresses at which each node serves this Service itself.
fn served_here(service: &core::Service) -> Vec<IpAddr> {
    let served_by = service.metadata.labels.as_ref().and_then(|labels| labels.get(SERVED_BY));
    match served_by.map(String::as_str) {
        Some(EACH_NODE) => cut::cluster_ips(service),
        _ => Vec::new(),
    }
}
