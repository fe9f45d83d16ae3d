//! Questions about the cluster's names, answered.
//!
//! `<service>.<ns>.svc`, `<endpoint>.<service>.<ns>.svc`, `_<port>._<proto>.<service>.<ns>.svc`,
//! `<dashed-ip>.<ns>.pod` and `dns-version`, all below the cluster's domain. A name that has
//! something below it exists though it has no records: NODATA, not NXDOMAIN.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{Endpoint, Entry, Port, Service, TTL, Zone, undashed};

/// The version of the specification.
const DNS_VERSION: &str = "1.1.0";
/// SRV records of equal weight share this much, as CoreDNS has it.
const WEIGHT: usize = 100;

/// What the zone says to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// Whether there is such a name, and such records.
    pub outcome: Outcome,
    /// The records asked for; a lone CNAME leads on.
    pub answers: Vec<Record>,
    /// Addresses of the names in the answer.
    pub additionals: Vec<Record>,
    /// The start of authority, for a negative answer.
    pub soa: Option<Record>,
}

/// Whether there is something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is.
    Records,
    /// The name is there, but has no such records.
    NoData,
    /// There is no such name.
    NoName,
}

/// What is known of a name.
pub(super) enum Known {
    /// No such name.
    Nothing,
    /// A name with no records of its own, or none but what follows.
    Records(Vec<RData>),
    /// The same, with addresses of the names in them.
    With(Vec<RData>, Vec<Record>),
}

/// A name's labels in lower case, left to right. What is no UTF-8 can't be a name of ours.
pub(crate) fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect()
}

impl Zone {
    /// The answer to a question; none when the name is not for this zone to tell.
    #[must_use]
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Option<Lookup> {
        let labels = labels(name);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let domain = self.domain.len();
        let below = labels.len().checked_sub(domain)?;
        let ours = labels[below..].iter().zip(&self.domain).all(|(a, b)| **a == **b);
        let known = match ours {
            true => self.known(&labels[..below], kind),
            false => return self.reverse(name, &labels, kind),
        };
        Some(self.answer(&self.apex, name, kind, known))
    }

    pub(super) fn answer(
        &self,
        apex: &Name,
        name: &Name,
        kind: RecordType,
        known: Known,
    ) -> Lookup {
        let (data, additionals) = match known {
            Known::Nothing => return self.negative(apex, Outcome::NoName),
            Known::Records(data) => (data, Vec::new()),
            Known::With(data, additionals) => (data, additionals),
        };
        let wanted = |data: &RData| {
            kind == RecordType::ANY
                || data.record_type() == kind
                || data.record_type() == RecordType::CNAME
        };
        let records = data.into_iter().filter(wanted);
        let answers: Vec<Record> =
            records.map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
        if answers.is_empty() {
            return self.negative(apex, Outcome::NoData);
        }
        let additionals = if kind == RecordType::SRV { additionals } else { Vec::new() };
        Lookup { outcome: Outcome::Records, answers, additionals, soa: None }
    }

    /// "There is none", with the record that says for how long that may be believed (RFC 2308).
    pub(super) fn negative(&self, apex: &Name, outcome: Outcome) -> Lookup {
        let soa = Record::from_rdata(apex.clone(), TTL, self.start_of_authority());
        Lookup { outcome, answers: Vec::new(), additionals: Vec::new(), soa: Some(soa) }
    }

    fn start_of_authority(&self) -> RData {
        let master = self.child("hostmaster");
        let [refresh, retry, expire] = [7200, 1800, 86_400];
        RData::SOA(SOA::new(self.name_server(), master, self.serial, refresh, retry, expire, TTL))
    }

    /// The name of this server.
    fn name_server(&self) -> Name {
        self.child("ns.dns")
    }

    fn child(&self, below: &str) -> Name {
        under(below, &self.apex)
    }

    /// What is known of a name, `below` the domain.
    fn known(&self, below: &[&str], kind: RecordType) -> Known {
        match below {
            [] => {
                Known::Records(vec![self.start_of_authority(), RData::NS(NS(self.name_server()))])
            }
            ["dns-version"] => {
                Known::Records(vec![RData::TXT(TXT::new(vec![DNS_VERSION.to_owned()]))])
            }
            ["ns", "dns"] => Known::Records(self.servers.iter().copied().map(address).collect()),
            ["svc" | "pod" | "dns"] => Known::Records(Vec::new()),
            [namespace, "svc" | "pod"] if self.has_namespace(namespace) => {
                Known::Records(Vec::new())
            }
            [label, namespace, "pod"] => self.pod(label, namespace),
            [rest @ .., service, namespace, "svc"] => match self.entry(namespace, service) {
                Some(entry) => self.service(rest, service, namespace, entry, kind),
                None => Known::Nothing,
            },
            _ => Known::Nothing,
        }
    }

    /// Deprecated by the specification, and required: verified, so that nobody gets a name in the
    /// cluster for an address of his own choice.
    fn pod(&self, label: &str, namespace: &str) -> Known {
        match undashed(label).filter(|ip| self.pods.is_in(*ip, namespace)) {
            Some(ip) => Known::Records(vec![address(ip)]),
            None => Known::Nothing,
        }
    }

    fn service(
        &self,
        rest: &[&str],
        service: &str,
        namespace: &str,
        entry: &Entry,
        kind: RecordType,
    ) -> Known {
        let own = || self.child(&format!("{service}.{namespace}.svc"));
        match &entry.service {
            None => Known::Nothing,
            Some(Service::External(target)) => match rest {
                [] => Known::Records(vec![RData::CNAME(CNAME(Name::clone(target)))]),
                _ => Known::Nothing,
            },
            Some(Service::Addresses { ips, ports }) => with_addresses(rest, ips, ports, &own, kind),
            Some(Service::Headless { .. }) => headless(rest, entry, &own, kind),
        }
    }
}

fn with_addresses(
    rest: &[&str],
    ips: &[IpAddr],
    ports: &[Port],
    own: &dyn Fn() -> Name,
    kind: RecordType,
) -> Known {
    let addresses = || ips.iter().copied().map(address);
    let services = |wanted: &[&Port]| {
        let target = own();
        let share = share(wanted.len());
        let of_port = |port: &&Port| RData::SRV(SRV::new(0, share, port.number, target.clone()));
        let data: Vec<RData> = wanted.iter().map(of_port).collect();
        let there = addresses().map(|data| Record::from_rdata(target.clone(), TTL, data));
        (data, there.collect())
    };
    match rest {
        // All ports at once, as CoreDNS has it.
        [] if kind == RecordType::SRV => {
            let (data, there) = services(&ports.iter().collect::<Vec<_>>());
            Known::With(data, there)
        }
        [] => Known::Records(addresses().collect()),
        [protocol] if ports.iter().any(|port| is_label(protocol, port.protocol)) => {
            Known::Records(Vec::new())
        }
        [name, protocol] => {
            let wanted: Vec<&Port> =
                ports.iter().filter(|port| port.is_at(name, protocol)).collect();
            if wanted.is_empty() {
                return Known::Nothing;
            }
            let (data, there) = services(&wanted);
            Known::With(data, there)
        }
        _ => Known::Nothing,
    }
}

fn headless(rest: &[&str], entry: &Entry, own: &dyn Fn() -> Name, kind: RecordType) -> Known {
    // In order of addresses, so that slices of a Service may come and go as they like.
    let mut published: Vec<(&Endpoint, &[Port])> = entry.published().collect();
    published.sort_by_key(|(endpoint, _)| endpoint.addr);
    let addresses = |published: &[(&Endpoint, &[Port])]| {
        let mut ips: Vec<IpAddr> = published.iter().map(|(endpoint, _)| endpoint.addr).collect();
        ips.dedup();
        ips.into_iter().map(address).collect()
    };
    if published.is_empty() {
        return Known::Nothing;
    }
    match rest {
        [] if kind == RecordType::SRV => endpoint_services(&published, own, &|_| true),
        [] => Known::Records(addresses(&published)),
        [name, protocol] => {
            let wanted = |port: &Port| port.is_at(name, protocol);
            match published.iter().any(|(_, ports)| ports.iter().any(wanted)) {
                true => endpoint_services(&published, own, &wanted),
                false => Known::Nothing,
            }
        }
        [label] => {
            let ports = || published.iter().flat_map(|(_, ports)| ports.iter());
            if ports().any(|port| is_label(label, port.protocol)) {
                return Known::Records(Vec::new());
            }
            published.retain(|(endpoint, _)| endpoint.label() == *label);
            match published.is_empty() {
                true => Known::Nothing,
                false => Known::Records(addresses(&published)),
            }
        }
        _ => Known::Nothing,
    }
}

/// A record for each endpoint and port, and the endpoints' addresses.
fn endpoint_services(
    published: &[(&Endpoint, &[Port])],
    own: &dyn Fn() -> Name,
    wanted: &dyn Fn(&Port) -> bool,
) -> Known {
    let own = own();
    let mut found: Vec<(u16, Name)> = Vec::new();
    let mut there = Vec::new();
    for (endpoint, ports) in published {
        let mut ports = ports.iter().filter(|port| wanted(port)).peekable();
        if ports.peek().is_none() {
            continue;
        }
        let target = under(&endpoint.label(), &own);
        there.push(Record::from_rdata(target.clone(), TTL, address(endpoint.addr)));
        for port in ports {
            let one = (port.number, target.clone());
            // The two addresses of a Pod with a hostname have one name.
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    let share = share(found.len());
    let records = found.into_iter().map(|(port, name)| RData::SRV(SRV::new(0, share, port, name)));
    Known::With(records.collect(), there)
}

impl Port {
    fn is_at(&self, name: &str, protocol: &str) -> bool {
        is_label(name, &self.name) && is_label(protocol, self.protocol)
    }
}

/// `_http` is the label of `http`.
fn is_label(label: &str, word: &str) -> bool {
    label.strip_prefix('_') == Some(word)
}

fn share(records: usize) -> u16 {
    u16::try_from((WEIGHT / records.max(1)).max(1)).expect("at most a hundred")
}

pub(super) fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// A name below another one. One that is too long is cut to the latter, which exists.
pub(super) fn under(below: &str, name: &Name) -> Name {
    let labels = below.split('.').map(str::as_bytes).chain(name.iter());
    let mut joined = Name::from_labels(labels).unwrap_or_else(|_| name.clone());
    joined.set_fqdn(true);
    joined
}
