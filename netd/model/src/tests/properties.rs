//! Properties on random clusters: the engines agree, plans lead where they should and then are
//! empty, and a change of some Services is as good as a look at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::address::{Backend, Frontend, Protocol};
use crate::cases::world::{add, cluster, ip, place};
use crate::dataplane::Dataplane;
use crate::ipvs::{self, Programmed};
use crate::nft::{self, Engine, Layout};
use crate::packet::{From, Packet};
use crate::service::Pool;
use crate::snapshot::{ByNode, Endpoint, Node, Service, ServiceName, ServicePort, Snapshot};

pub(super) const VIPS: [&str; 4] = ["10.96.0.1", "10.96.0.2", "10.96.0.3", "fd96::1"];
pub(super) const OUTER: [&str; 4] =
    ["203.0.113.1", "203.0.113.2", "192.168.56.70", "192.168.56.71"];
pub(super) const BACKENDS: [&str; 7] = [
    "10.244.1.5",
    "10.244.1.6",
    "10.244.2.5",
    "10.244.3.5",
    "192.168.56.71",
    "fd44:1::5",
    "fd44:2::5",
];
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
const ZONES: [&str; 2] = ["near", "far"];
/// The last is one that no kernel has.
pub(super) const SCHEDULERS: [&str; 4] = ["rr", "lc", "sh", "dice"];
const SOURCES: [(From, &str); 9] = [
    (From::Pod, "10.244.1.5"),
    (From::Pod, "10.244.1.9"),
    (From::Pod, "10.244.2.9"),
    (From::Pod, "fd44:1::5"),
    (From::Node, "192.168.56.70"),
    (From::Network, "192.168.56.71"),
    (From::Network, "10.244.2.5"),
    (From::Network, "192.168.56.10"),
    (From::Network, "fd56::10"),
];

pub(super) fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn port() -> impl Strategy<Value = ServicePort> {
    let node_port = prop::option::of(select(vec![30001u16, 30002]));
    (select(vec![80u16, 81]), protocol(), node_port).prop_map(|(port, protocol, node_port)| {
        ServicePort { name: format!("{protocol}-{port}").into(), protocol, port, node_port }
    })
}

fn addresses(from: &[&'static str], count: usize) -> impl Strategy<Value = Vec<IpAddr>> + use<> {
    subsequence(from.to_vec(), 0..=count).prop_map(|list| list.into_iter().map(ip).collect())
}

fn service() -> impl Strategy<Value = Service> {
    let ranges = subsequence(vec!["192.168.56.0/28", "10.244.0.0/16", "10.244.2.0/24"], 0..=2);
    let scheduler = prop::option::of(select(SCHEDULERS.to_vec()));
    (
        prop::collection::vec(port(), 1..3),
        subsequence(VIPS.to_vec(), 1..=2),
        addresses(&OUTER, 1),
        addresses(&OUTER, 1),
        ranges,
        any::<(bool, bool, Option<u16>)>(),
        (prop::bool::weighted(0.2), any::<bool>(), scheduler),
    )
        .prop_map(|(mut ports, vips, external_ips, load_balancer_ips, ranges, flags, node)| {
            ports.sort_by_key(|p| (p.port, p.protocol));
            ports.dedup_by_key(|p| (p.port, p.protocol));
            Service {
                ports,
                cluster_ips: vips.into_iter().map(ip).collect(),
                external_ips,
                load_balancer_ips,
                source_ranges: ranges.into_iter().map(|r| r.parse().unwrap()).collect(),
                external_local: flags.0,
                internal_local: flags.1,
                affinity_seconds: flags.2.map(u32::from),
                scheduler: node.2.map(Arc::from),
                by_node: node.0.then_some(ByNode { untracked: node.1 }),
            }
        })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    // Most have no hints: one without them makes a Service's hints void.
    let hints = |of: &[&'static str]| {
        let some = subsequence(of.to_vec(), 0..=of.len());
        prop_oneof![2 => Just(Vec::new()), 3 => some]
            .prop_map(|list| list.into_iter().map(Arc::from).collect::<Vec<Arc<str>>>())
    };
    (select(BACKENDS.to_vec()), 0..4, hints(&NODES), hints(&ZONES)).prop_map(
        |(addr, state, for_nodes, for_zones)| {
            let (ready, serving, terminating) = match state {
                0 => (false, false, false),
                1 => (false, true, true),
                _ => (true, true, false),
            };
            let one = crate::cases::world::ready(addr);
            Endpoint { ready, serving, terminating, for_nodes, for_zones, ..one }
        },
    )
}

type Services = BTreeMap<usize, (Service, Vec<Endpoint>)>;

fn services() -> impl Strategy<Value = Services> {
    let one = (service(), prop::collection::vec(endpoint(), 0..5));
    prop::collection::btree_map(0..5usize, one, 0..5)
}

/// What is around the Services: nodes, and what this one was told to take where nothing is said.
#[derive(Clone, Debug)]
pub(super) struct World {
    nodes: Vec<Node>,
    scheduler: &'static str,
}

/// This node is always there, the last may be missing; addresses and zones are any.
fn world() -> impl Strategy<Value = World> {
    let node = |n: usize| {
        let zone = prop::option::of(select(ZONES.to_vec()));
        let all = vec![
            format!("192.168.56.{}", 70 + n),
            format!("fd56::{}", 70 + n),
            format!("192.168.57.{}", 70 + n),
        ];
        (subsequence(all, 1..=3), zone).prop_map(move |(addresses, zone)| {
            let mut node = (**cluster().nodes.values().nth(n).unwrap()).clone();
            node.addresses = addresses.iter().map(|addr| ip(addr)).collect();
            node.zone = zone.map(Arc::from);
            node
        })
    };
    ((node(0), node(1), prop::option::of(node(2))), select(SCHEDULERS.to_vec())).prop_map(
        |((this, second, third), scheduler)| World {
            nodes: [this, second].into_iter().chain(third).collect(),
            scheduler,
        },
    )
}

#[derive(Clone, Debug)]
pub(super) struct Spec {
    world: World,
    services: Services,
}

pub(super) fn spec() -> impl Strategy<Value = Spec> {
    (world(), services()).prop_map(|(world, services)| Spec { world, services })
}

/// Two that differ in their Services only.
fn specs_of_one_world() -> impl Strategy<Value = (Spec, Spec)> {
    (world(), services(), services()).prop_map(|(world, before, after)| {
        (Spec { world: world.clone(), services: before }, Spec { world, services: after })
    })
}

pub(super) fn snapshot(spec: &Spec) -> Snapshot {
    let mut snapshot = cluster();
    snapshot.settings.default_scheduler = spec.world.scheduler.into();
    let nodes = spec.world.nodes.iter().cloned().map(Arc::new);
    snapshot.nodes = NODES.iter().map(|name| Arc::from(*name)).zip(nodes).collect();
    for (n, (service, endpoints)) in &spec.services {
        add(&mut snapshot, &format!("s{n}"), service.clone(), endpoints.clone());
    }
    snapshot
}

fn packet() -> impl Strategy<Value = Packet> {
    let mut targets = VIPS.to_vec();
    targets.extend(OUTER);
    targets.extend(BACKENDS);
    targets.extend(["10.96.9.9", "fd56::70", "198.51.100.1"]);
    let ports = select(vec![22u16, 80, 81, 8080, 30001, 30002]);
    let remembers = prop::option::of(select(BACKENDS.to_vec()));
    (select(SOURCES.to_vec()), select(targets), ports, protocol(), 0..12u32, remembers).prop_map(
        |((from, source), addr, port, protocol, random, had)| {
            let to = Frontend { addr: ip(addr), protocol, port };
            let had = had.map(ip).filter(|had| had.is_ipv4() == to.addr.is_ipv4());
            let remembers = had.map(|addr| Backend { addr, port: 8080 });
            Packet { from, source: ip(source), to, random, remembers }
        },
    )
}

pub(super) fn states(snapshot: &Snapshot) -> (nft::State, ipvs::State) {
    let plane = Dataplane::of(snapshot);
    (
        nft::State::desired(&Layout::of(snapshot, Engine::Nftables), &plane, &BTreeSet::new()),
        ipvs::State::desired(&Layout::of(snapshot, Engine::Ipvs), &plane),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn engines_agree(spec in spec(), packets in prop::collection::vec(packet(), 40)) {
        let snapshot = snapshot(&spec);
        let place = place(&snapshot);
        let (table, servers) = states(&snapshot);
        for packet in packets {
            if packet.source.is_ipv4() != packet.to.addr.is_ipv4() {
                continue;
            }
            let by_nft = nft::walk::walk(&table, &place, packet);
            let by_ipvs = ipvs::walk(&servers, &place, packet);
            prop_assert_eq!(
                by_nft.outcome, by_ipvs.outcome,
                "{:?}\nnft: {:#?}\nipvs: {:#?}", packet, by_nft.steps, by_ipvs.steps
            );
        }
    }

    #[test]
    fn a_plan_leads_to_the_desired_state_and_then_is_empty(before in spec(), after in spec()) {
        let (before, after) = (snapshot(&before), snapshot(&after));
        let ((old_table, old), (new_table, new)) = (states(&before), states(&after));
        let mut table = old_table;
        let ops = nft::diff(Some(&table), &new_table);
        // Rules name the node's own addresses and ranges.
        prop_assert_eq!(table.ruleset != new_table.ruleset, ops == [nft::Op::Replace]);
        if ops == [nft::Op::Replace] {
            table = new_table.clone();
        }
        nft::apply(&mut table, &ops);
        prop_assert_eq!(&table.elements, &new_table.elements);
        prop_assert!(table.pickers.is_superset(&new_table.pickers));
        prop_assert_eq!(nft::diff(Some(&table), &new_table), vec![]);

        let layout = Layout::of(&after, Engine::Ipvs);
        let plane = Dataplane::of(&after);
        let mut have = Programmed { servers: old.servers, addresses: old.addresses };
        let ops = ipvs::plan(&layout, &plane, &have, None);
        ipvs::apply(&mut have, &ops);
        prop_assert_eq!(ipvs::plan(&layout, &plane, &have, None), vec![]);
        // What is retired waits for its connections; once they are gone, it goes.
        prop_assert_eq!(serving(&have), new.servers.clone());
        prop_assert!(have.addresses.is_superset(&new.addresses));
        let idle = have.retired().collect();
        let ops = ipvs::sweep(&layout, &plane, &have, &idle);
        ipvs::apply(&mut have, &ops);
        prop_assert_eq!((&have.servers, &have.addresses), (&new.servers, &new.addresses));
        prop_assert!(have.draining(&plane).is_empty());
    }

    /// Whatever a kernel holds, and whichever engine put it there: nothing that connections may
    /// depend on goes before they end, and then all goes that is not wanted.
    #[test]
    fn a_switch_converges_in_both_directions((before, after) in specs_of_one_world()) {
        let (before, after) = (snapshot(&before), snapshot(&after));
        let plane = Dataplane::of(&after);
        let (new_table, new) = states(&after);
        let to_nft = Layout::of(&after, Engine::Nftables);
        let old = states(&before).1;
        let mut have = Programmed { servers: old.servers.clone(), addresses: old.addresses };
        let ops = ipvs::plan(&to_nft, &plane, &have, None);
        ipvs::apply(&mut have, &ops);
        prop_assert_eq!(ipvs::plan(&to_nft, &plane, &have, None), vec![]);
        for (frontend, server) in &old.servers {
            for backend in server.destinations.keys() {
                let kept = have.servers.get(frontend).and_then(|s| s.destinations.get(backend));
                let by_node =
                    plane.get(frontend).is_some_and(|s| matches!(s.pool, Pool::Node(_)));
                let serves = frontend.protocol != Protocol::Udp || plane.serves(frontend, backend);
                let drains = serves && !by_node;
                prop_assert_eq!(kept, drains.then_some(&0), "{} {}", frontend, backend);
                let virtual_address = Layout::of(&before, Engine::Ipvs).is_virtual(frontend.addr);
                prop_assert!(!drains || !virtual_address || have.addresses.contains(&frontend.addr));
            }
        }
        let draining = have.draining(&plane);
        let table = nft::State::desired(&to_nft, &plane, &draining);
        prop_assert_eq!(&table.ruleset, &new_table.ruleset);

        // And back, while some still drain.
        let to_ipvs = Layout::of(&after, Engine::Ipvs);
        let mut back = have.clone();
        let ops = ipvs::plan(&to_ipvs, &plane, &back, None);
        ipvs::apply(&mut back, &ops);
        prop_assert_eq!(serving(&back), new.servers.clone());
        prop_assert!(back.addresses.is_superset(&new.addresses));

        let idle = have.retired().collect();
        let ops = ipvs::sweep(&to_nft, &plane, &have, &idle);
        ipvs::apply(&mut have, &ops);
        prop_assert_eq!(have, Programmed::default());
    }

    #[test]
    fn some_services_refreshed_equal_all_computed_anew((before, after) in specs_of_one_world()) {
        let (old, new) = (snapshot(&before), snapshot(&after));
        let names: BTreeSet<&ServiceName> = old.services.keys().chain(new.services.keys()).collect();
        for engine in [Engine::Nftables, Engine::Ipvs] {
            let layout = Layout::of(&new, engine);
            let mut plane = Dataplane::of(&old);
            let mut table = nft::State::desired(&layout, &plane, &BTreeSet::new());
            let mut have = ipvs_parts(&old);
            let mut draining = BTreeSet::new();
            let mut step = old.clone();
            // One Service after another, as events come.
            for name in &names {
                change(&mut step, &new, name);
                let touched = plane.refresh(&step, [*name]);
                if engine == Engine::Ipvs {
                    let ops = ipvs::plan(&layout, &plane, &have, Some(&touched));
                    ipvs::apply(&mut have, &ops);
                    draining = have.draining(&plane);
                }
                let ops = nft::plan(&layout, &table, &plane, &touched, &draining);
                nft::apply(&mut table, &ops);
            }
            prop_assert_eq!(&plane, &Dataplane::of(&new));
            let wanted = nft::State::desired(&layout, &plane, &draining);
            prop_assert_eq!(table.elements, wanted.elements);
            if engine == Engine::Ipvs {
                prop_assert_eq!(ipvs::plan(&layout, &plane, &have, None), vec![]);
                prop_assert_eq!(serving(&have), ipvs_parts(&new).servers);
            }
        }
    }
}

/// What takes new connections.
pub(super) fn serving(have: &Programmed) -> ipvs::Servers {
    let mut servers = have.servers.clone();
    servers.retain(|_, server| {
        server.destinations.retain(|_, weight| *weight > 0);
        !server.destinations.is_empty()
    });
    servers
}

fn ipvs_parts(snapshot: &Snapshot) -> Programmed {
    let state = states(snapshot).1;
    Programmed { servers: state.servers, addresses: state.addresses }
}

fn change(step: &mut Snapshot, new: &Snapshot, name: &ServiceName) {
    match new.services.get(name) {
        Some(service) => step.services.insert(name.clone(), Arc::clone(service)),
        None => step.services.remove(name),
    };
    match new.slices.get(name) {
        Some(slices) => step.slices.insert(name.clone(), slices.clone()),
        None => step.slices.remove(name),
    };
}
