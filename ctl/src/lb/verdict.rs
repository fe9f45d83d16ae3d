//! What the answers about an address mean: a pure function from what nodes said to words.
//!
//! One node announces and all others are answered by it: good. Everything else is a problem that is
//! named with what to do about it, for somebody who has not seen ARP before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proto::lb::CheckReply;
use serde_json::Value;

/// What the API server knows of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cluster {
    /// The Services that have it, `NAMESPACE/NAME`, and whether their policy is Local.
    pub(super) services: BTreeMap<String, bool>,
    /// All pools, with what they hold.
    pub(super) pools: BTreeMap<String, Vec<String>>,
}

impl Cluster {
    /// Reads it from Services and pools.
    pub(super) fn read(address: IpAddr, services: &[Value], pools: &[Value]) -> Self {
        let has = |service: &&Value| {
            let ingress = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
            let ips = ingress.into_iter().flatten().filter_map(|one| one["ip"].as_str());
            ips.filter_map(|ip| ip.parse().ok()).any(|ip: IpAddr| ip == address)
        };
        let name = |object: &Value, field: &str| {
            object.pointer(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let service = |object: &Value| {
            let (namespace, name) =
                (name(object, "/metadata/namespace"), name(object, "/metadata/name"));
            let policy = object.pointer("/spec/externalTrafficPolicy").and_then(Value::as_str);
            (format!("{namespace}/{name}"), policy == Some("Local"))
        };
        let pool = |object: &Value| {
            let ranges = object.pointer("/spec/addresses").and_then(Value::as_array);
            let ranges = ranges.into_iter().flatten().filter_map(Value::as_str);
            (name(object, "/metadata/name"), ranges.map(str::to_owned).collect())
        };
        Self {
            services: services.iter().filter(has).map(service).collect(),
            pools: pools.iter().map(pool).collect(),
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) what: String,
    pub(super) fix: String,
}

/// What is said in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// A line for each node, after a heading.
    pub(super) table: Vec<Vec<String>>,
    /// What is as it should be.
    pub(super) good: Vec<String>,
    /// What is not.
    pub(super) bad: Vec<Bad>,
}

/// Puts the nodes' answers together; `silent` nodes gave none.
pub(super) fn verdict(
    address: IpAddr,
    replies: &[CheckReply],
    silent: usize,
    cluster: Option<&Cluster>,
) -> Verdict {
    let case = Case { address, replies, cluster, macs: macs(replies) };
    let mut verdict = Verdict { table: case.table(), ..Verdict::default() };
    let bad = &mut verdict.bad;
    if replies.is_empty() {
        bad.push(Bad {
            what: "no node could be asked".to_owned(),
            fix: match silent {
                0 => "add a node: minictl node, or minictl lab up".to_owned(),
                _ => "see why the nodes' agents are not connected: kubectl get nodes".to_owned(),
            },
        });
        return verdict;
    }
    if !case.is_known() {
        bad.push(case.nobodys());
        bad.extend(case.strangers());
        return verdict;
    }
    if !case.is_of_nodes() {
        bad.extend(case.election());
        bad.extend(case.strangers());
        bad.extend(case.unheard());
    }
    bad.extend(case.doors());
    if verdict.bad.is_empty() {
        verdict.good = case.praise();
    }
    verdict
}

/// Ethernet addresses of nodes, as they say themselves and as others hear them.
fn macs(replies: &[CheckReply]) -> BTreeMap<&str, &str> {
    let own = replies
        .iter()
        .flat_map(|reply| reply.links.iter().map(|link| (link.mac.as_str(), reply.node.as_str())));
    let heard = replies.iter().flat_map(|reply| &reply.peers);
    let heard = heard.map(|peer| (peer.mac.as_str(), peer.node.as_str()));
    heard.chain(own).collect()
}

struct Case<'a> {
    address: IpAddr,
    replies: &'a [CheckReply],
    cluster: Option<&'a Cluster>,
    macs: BTreeMap<&'a str, &'a str>,
}

impl Case<'_> {
    /// Has any Service the address?
    fn is_known(&self) -> bool {
        self.cluster.is_some_and(|cluster| !cluster.services.is_empty())
            || self.replies.iter().any(|reply| !reply.services.is_empty())
    }

    /// Is it an address of a node itself?
    fn is_of_nodes(&self) -> bool {
        self.replies.iter().any(|reply| reply.reason == "NodeAddress")
    }

    fn services(&self) -> String {
        let named = self.replies.iter().flat_map(|reply| reply.services.iter().map(String::as_str));
        let known = self.cluster.iter().flat_map(|cluster| cluster.services.keys());
        let all: BTreeSet<&str> = named.chain(known.map(String::as_str)).collect();
        all.into_iter().collect::<Vec<_>>().join(", ")
    }

    fn announcing(&self) -> Vec<&str> {
        let announces = self.replies.iter().filter(|reply| reply.standing == "Announces");
        announces.map(|reply| reply.node.as_str()).collect()
    }

    /// A name for an Ethernet address, as far as it is a node's.
    fn name(&self, mac: &str) -> String {
        self.macs.get(mac).map_or_else(|| format!("{mac} (no node)"), |&node| node.to_owned())
    }

    fn table(&self) -> Vec<Vec<String>> {
        let ports: BTreeSet<u32> =
            self.replies.iter().flat_map(|reply| &reply.doors).map(|door| door.port).collect();
        let mut heading: Vec<String> =
            ["NODE", "LINK", "STANDING", "HEARS", "ANSWERED BY"].map(str::to_owned).to_vec();
        heading.extend(ports.iter().map(|port| format!("TCP {port}")));
        let line = |reply: &CheckReply| {
            let none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
            let hears: BTreeSet<&str> = reply.peers.iter().map(|p| p.node.as_str()).collect();
            let answered: Vec<String> = reply.answers.iter().map(|mac| self.name(mac)).collect();
            let standing = match reply.reason.as_str() {
                "" => reply.standing.clone(),
                reason => format!("{} ({reason})", reply.standing),
            };
            let mut line = vec![
                reply.node.clone(),
                none(reply.link.clone()),
                none(standing),
                none(hears.into_iter().collect::<Vec<_>>().join(",")),
                none(answered.join(",")),
            ];
            line.extend(ports.iter().map(|port| {
                let door = reply.doors.iter().find(|door| door.port == *port);
                none(door.map(|door| door.outcome.clone()).unwrap_or_default())
            }));
            line
        };
        std::iter::once(heading).chain(self.replies.iter().map(line)).collect()
    }

    fn nobodys(&self) -> Bad {
        let address = self.address;
        let what = format!("no service has {address}");
        let pools = self.cluster.map(|cluster| &cluster.pools).filter(|pools| !pools.is_empty());
        let fix = match pools {
            Some(pools) => {
                let list: Vec<String> = pools
                    .iter()
                    .map(|(name, has)| format!("{name} ({})", has.join(", ")))
                    .collect();
                format!(
                    "ask for it by the annotation minictl.io/load-balancer-ips on a service of type \
                     LoadBalancer, if a pool holds it: {}",
                    list.join("; ")
                )
            }
            None => {
                "make an AddressPool that holds it, and a service of type LoadBalancer".to_owned()
            }
        };
        Bad { what, fix }
    }

    /// One node must announce it, and only one.
    fn election(&self) -> Option<Bad> {
        let address = self.address;
        match self.announcing()[..] {
            [_] => None,
            [] => Some(self.nobody()),
            [first, second, ..] => Some(Bad {
                what: format!(
                    "{first} and {second} both announce {address}: they do not hear each other"
                ),
                fix:
                    "let Ethernet frames of type 0x88b5 pass between the nodes (switches, bridges, \
                      firewalls on layer 2), and see whether they are on one network"
                        .to_owned(),
            }),
        }
    }

    fn nobody(&self) -> Bad {
        let address = self.address;
        let reasons: BTreeSet<&str> =
            self.replies.iter().map(|reply| reply.reason.as_str()).collect();
        if self.replies.iter().any(|reply| matches!(reply.standing.as_str(), "Listens" | "Waits")) {
            return Bad {
                what: format!("no node announces {address} yet: an election is under way"),
                fix: "ask again in a second; if it stays so, see kubectl get nodes".to_owned(),
            };
        }
        let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for reply in self.replies.iter().filter(|reply| !reply.message.is_empty()) {
            said.entry(&reply.message).or_default().push(&reply.node);
        }
        let said: Vec<String> =
            said.iter().map(|(why, nodes)| format!("{}: {why}", nodes.join(", "))).collect();
        let fix = if reasons.contains("NoLocalEndpoint") {
            format!(
                "make a pod of {} ready (kubectl get endpointslices), or set its \
                 externalTrafficPolicy to Cluster",
                self.services()
            )
        } else if reasons.contains("OtherBalancer") {
            format!(
                "ask the load balancer that gave it to {}: what the API server has not given is for \
                 others to announce",
                self.services()
            )
        } else if reasons.contains("NotOnLink") {
            "give the pool addresses of the nodes' own network, or let a router send packets for \
             these to a node"
                .to_owned()
        } else if reasons.contains("NodeExcluded") {
            "take the label node.kubernetes.io/exclude-from-external-load-balancers from a node"
                .to_owned()
        } else {
            "see kubectl get nodes, and kubectl describe service".to_owned()
        };
        let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) };
        Bad { what: format!("no node announces {address}{said}"), fix }
    }

    /// Hosts that are no nodes and say that they have it.
    fn strangers(&self) -> Vec<Bad> {
        let heard = self.replies.iter().flat_map(|reply| &reply.answers);
        let strangers: BTreeSet<&String> =
            heard.filter(|mac| !self.macs.contains_key(mac.as_str())).collect();
        let address = self.address;
        let bad = |mac: &String| Bad {
            what: format!(
                "a host that is no node, with Ethernet address {mac}, answers for {address}"
            ),
            fix: format!(
                "take {address} from that host (ip neighbour, or the switch's table, tells where it \
                 is), or out of the pool"
            ),
        };
        strangers.into_iter().map(bad).collect()
    }

    /// The others must be answered by the one that announces, and by no other node.
    fn unheard(&self) -> Vec<Bad> {
        let [announcing] = self.announcing()[..] else { return Vec::new() };
        let address = self.address;
        let mut bad = Vec::new();
        for reply in self.replies.iter().filter(|reply| reply.node != announcing) {
            if !reply.probe_error.is_empty() {
                let what =
                    format!("{} could not ask its network: {}", reply.node, reply.probe_error);
                bad.push(Bad { what, fix: format!("look at the links of {}", reply.node) });
                continue;
            }
            let by: BTreeSet<&str> = reply
                .answers
                .iter()
                .filter_map(|mac| self.macs.get(mac.as_str()).copied())
                .collect();
            if !reply.link.is_empty() && !by.contains(announcing) {
                bad.push(Bad {
                    what: format!("{announcing} announces {address}, but {} hears no answer", reply.node),
                    fix: "let ARP (IPv6: neighbour discovery by multicast) pass between them: a switch \
                          or a virtual network that allows each port one address only drops it"
                        .to_owned(),
                });
            }
            for other in by.into_iter().filter(|node| *node != announcing) {
                bad.push(Bad {
                    what: format!(
                        "{other} answers for {address}, too, though {announcing} announces it"
                    ),
                    fix: format!(
                        "on {other}, the kernel must keep silent for addresses of other links: \
                         sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
                    ),
                });
            }
        }
        bad
    }

    /// Connections must come to be from everywhere.
    fn doors(&self) -> Vec<Bad> {
        let mut by_door: BTreeMap<(&str, u32, &str), Vec<&str>> = BTreeMap::new();
        for reply in self.replies {
            for door in reply.doors.iter().filter(|door| door.outcome != "Open") {
                let key = (door.service.as_str(), door.port, door.outcome.as_str());
                by_door.entry(key).or_default().push(&reply.node);
            }
        }
        let bad = |((service, port, outcome), nodes): ((&str, u32, &str), Vec<&str>)| {
            let nodes = nodes.join(", ");
            let (said, fix) = match outcome {
                "Refused" => (
                    "is refused",
                    format!(
                        "see whether {service} has ready endpoints (kubectl get endpointslices), and \
                         whether its targetPort is the one that its pods listen on"
                    ),
                ),
                _ => (
                    "gets no answer",
                    format!(
                        "see what is programmed (minictl dataplane dump {} -n {}), what stands in the \
                         way (minictl dataplane status), and whether loadBalancerSourceRanges of \
                         {service} admits the nodes",
                        service.split('/').nth(1).unwrap_or(service),
                        service.split('/').next().unwrap_or_default(),
                    ),
                ),
            };
            let what = format!(
                "a connection to {}:{port} of {service} {said} from {nodes}",
                bracketed(self.address)
            );
            Bad { what, fix }
        };
        by_door.into_iter().map(bad).collect()
    }

    fn praise(&self) -> Vec<String> {
        let services = self.services();
        let address = self.address;
        if self.is_of_nodes() {
            return vec![format!(
                "{address} of {services} is an address of a node, which answers for it by itself"
            )];
        }
        let who = self.announcing().first().copied().unwrap_or_default();
        let reply = self.replies.iter().find(|reply| reply.node == who);
        let mac = reply.and_then(|reply| {
            reply.links.iter().find(|link| link.name == reply.link).map(|link| link.mac.as_str())
        });
        let others = match self.replies.len() {
            1 => String::new(),
            2 => ", and the other node is answered by it alone".to_owned(),
            more => format!(", and the {} other nodes are answered by it alone", more - 1),
        };
        vec![format!(
            "{address} of {services} is announced by {who} ({}){others}",
            mac.unwrap_or("?")
        )]
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests;
