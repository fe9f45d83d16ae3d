//! Properties of plans that begin with what no netd would have left: elements and servers that are
//! missing, stray or say something else, and no table at all. Plans are carried out as strictly as
//! the kernel does it: what is there is not added again, and what is not there can't be deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::properties::{
    BACKENDS, OUTER, SCHEDULERS, VIPS, protocol, serving, snapshot, spec, states,
};
use crate::address::{Backend, Family, Frontend, Protocol};
use crate::cases::world::{add, cluster, ip, ready, web};
use crate::dataplane::Dataplane;
use crate::ipvs::{self, Programmed, Server};
use crate::nft::elements::{Container, Elements, Item, Key, Value, Verdict};
use crate::nft::{self, ChainName, Engine, Layout, Picker};

/// Of what may be there, this was done to one thing.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    Deleted,
    Edited,
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let one =
        prop_oneof![2 => Just(Damage::None), 1 => Just(Damage::Deleted), 1 => Just(Damage::Edited)];
    // A length that has no factor in common with the order of things.
    prop::collection::vec(one, 31)
}

fn frontend() -> impl Strategy<Value = Frontend> {
    let addresses: Vec<&str> = [&VIPS[..], &OUTER, &["10.96.7.7", "fd96::7"]].concat();
    let ports = select(vec![80u16, 81, 30001, 7777]);
    (select(addresses), protocol(), ports).prop_map(|(addr, protocol, port)| Frontend {
        addr: ip(addr),
        protocol,
        port,
    })
}

fn backend(of: Frontend, n: usize) -> Backend {
    let same = BACKENDS.iter().map(|addr| ip(addr)).filter(|a| a.is_ipv4() == of.addr.is_ipv4());
    let all: Vec<IpAddr> = same.collect();
    Backend { addr: all[n % all.len()], port: 8080 + u16::from(n > 8) }
}

/// An element that any table of ours could hold.
fn stray() -> impl Strategy<Value = (Key, Value)> {
    (select(Container::ALL.to_vec()), frontend(), 0..12usize).prop_map(
        |(container, frontend, n)| {
            let owner = || Arc::from("default/gone");
            let pick = Picker {
                family: Family::of(frontend.addr),
                outside: container == Container::Outside,
                count: 1 + n as u32 % 4,
                sticky: n % 2 == 0,
            };
            let place = Item::Frontend(frontend);
            let goto = |chain| Value::Verdict(Verdict::Goto(chain), owner());
            let (item, value) = match container {
                Container::Services | Container::Outside => (place, goto(ChainName::Pick(pick))),
                Container::Balanced => (place, goto(ChainName::Served)),
                Container::Unserved => (place, goto(ChainName::Refuse)),
                Container::Local => (place, Value::Verdict(Verdict::Accept, owner())),
                Container::Sticky => (place, goto(ChainName::Remember(n as u32))),
                Container::Endpoints | Container::OutsideEndpoints => {
                    (Item::Slot(frontend, n as u32), Value::Backend(backend(frontend, n)))
                }
                Container::Kept => (Item::Pair(frontend, backend(frontend, n)), Value::Present),
                Container::Admitted => {
                    (Item::Clients(frontend, frontend.addr.into()), Value::Present)
                }
                Container::Restricted | Container::Untracked => (place, Value::Present),
                _ => (Item::Address(frontend.addr), Value::Present),
            };
            (Key { container, item }, value)
        },
    )
}

/// Something else than what is there; what only is there or not stays.
fn edited(key: &Key, value: &Value) -> Value {
    match (value, key.item) {
        (Value::Present, _) => Value::Present,
        (Value::Verdict(verdict, owner), Item::Frontend(_)) if *verdict == Verdict::Drop => {
            Value::Verdict(Verdict::Accept, owner.clone())
        }
        (Value::Verdict(_, owner), _) => Value::Verdict(Verdict::Drop, owner.clone()),
        (Value::Backend(backend), _) => Value::Backend(Backend { port: 9, ..*backend }),
    }
}

/// A table in which somebody meddled.
fn meddled(table: &nft::State, damages: &[Damage], strays: &[(Key, Value)]) -> nft::State {
    let mut out = table.clone();
    let mut elements: BTreeMap<Key, Value> = BTreeMap::new();
    for ((key, value), damage) in table.elements.0.iter().zip(damages.iter().cycle()) {
        match damage {
            Damage::None => drop(elements.insert(*key, value.clone())),
            Damage::Edited => drop(elements.insert(*key, edited(key, value))),
            Damage::Deleted => {}
        }
    }
    elements.extend(strays.iter().cloned());
    // The kernel deletes no chain that an element leads to.
    let needed = elements.values().filter_map(leads_to).collect::<BTreeSet<_>>();
    let mut damages = damages.iter().cycle();
    out.pickers
        .retain(|chain| matches!(damages.next(), Some(Damage::None)) || needed.contains(chain));
    out.pickers.extend(needed);
    out.elements = Elements(elements);
    out
}

fn leads_to(value: &Value) -> Option<ChainName> {
    match value {
        Value::Verdict(Verdict::Goto(chain), _) => Some(*chain),
        _ => None,
    }
}

/// What the kernel makes of a plan; it refuses what does not fit what is there.
fn carry_out(table: &mut nft::State, ops: &[nft::Op]) -> Result<(), TestCaseError> {
    for op in ops {
        match op {
            nft::Op::Replace => prop_assert!(false, "the rules are right"),
            nft::Op::AddChain(chain) => {
                prop_assert!(!table.pickers.contains(chain), "{} is there", chain);
            }
            nft::Op::Delete(key, value) => {
                prop_assert_eq!(table.elements.0.get(key), Some(value), "{:?}", key);
            }
            nft::Op::Add(key, value) => {
                prop_assert_eq!(table.elements.0.get(key), None, "{:?}", key);
                let chain = leads_to(value);
                let there = chain.is_none_or(|chain| table.pickers.contains(&chain));
                prop_assert!(there, "{:?} leads nowhere: {:?}", key, value);
            }
        }
        nft::apply(table, std::slice::from_ref(op));
    }
    Ok(())
}

/// A virtual server as anybody could have made it.
fn server() -> impl Strategy<Value = (Frontend, Server)> {
    let persistence = prop::option::of(select(vec![60u32, 300]));
    let destinations = prop::collection::btree_map(0..12usize, 0..4u32, 0..4);
    (frontend(), select(SCHEDULERS.to_vec()), persistence, destinations).prop_map(
        |(frontend, scheduler, persistence_seconds, list)| {
            let destinations =
                list.into_iter().map(|(n, weight)| (backend(frontend, n), weight)).collect();
            (frontend, Server { scheduler: scheduler.into(), persistence_seconds, destinations })
        },
    )
}

fn meddled_servers(state: &ipvs::State, damages: &[Damage]) -> Programmed {
    let mut have =
        Programmed { servers: state.servers.clone(), addresses: state.addresses.clone() };
    let mut damages = damages.iter().cycle();
    let mut next = || *damages.next().expect("there is one more");
    have.servers.retain(|_, _| !matches!(next(), Damage::Deleted));
    for server in have.servers.values_mut() {
        if matches!(next(), Damage::Edited) {
            server.scheduler = "lc".into();
            server.persistence_seconds = Some(7);
        }
        server.destinations.retain(|_, weight| {
            let damage = next();
            if matches!(damage, Damage::Edited) {
                *weight = 5;
            }
            !matches!(damage, Damage::Deleted)
        });
    }
    have.addresses.retain(|_| matches!(next(), Damage::None));
    have
}

/// What the kernel makes of a plan; it refuses what does not fit what is there.
fn carry_out_servers(have: &mut Programmed, ops: &[ipvs::Op]) -> Result<(), TestCaseError> {
    for op in ops {
        let server = op.frontend().and_then(|frontend| have.servers.get(&frontend));
        let has = |backend| server.is_some_and(|s| s.destinations.contains_key(backend));
        let fits = match op {
            ipvs::Op::Bind(addr) => !have.addresses.contains(addr),
            ipvs::Op::Release(addr) => have.addresses.contains(addr),
            ipvs::Op::AddServer(..) => server.is_none(),
            ipvs::Op::SetServer(..) | ipvs::Op::DeleteServer(_) => server.is_some(),
            ipvs::Op::AddDestination(_, backend, _) => server.is_some() && !has(backend),
            ipvs::Op::SetDestination(_, backend, _) | ipvs::Op::DeleteDestination(_, backend) => {
                has(backend)
            }
        };
        prop_assert!(fits, "{:?} of {:?}", op, server);
        ipvs::apply(have, std::slice::from_ref(op));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn from_any_table_a_plan_leads_to_the_desired_one(
        spec in spec(),
        damages in damages(),
        strays in prop::collection::vec(stray(), 0..8),
    ) {
        let (balancing, beside) = states(&snapshot(&spec));
        for desired in [balancing, beside.table] {
            prop_assert_eq!(nft::diff(None, &desired), vec![nft::Op::Replace], "no table");
            let mut table = meddled(&desired, &damages, &strays);
            let ops = nft::diff(Some(&table), &desired);
            carry_out(&mut table, &ops)?;
            prop_assert_eq!(&table.elements, &desired.elements);
            prop_assert!(table.pickers.is_superset(&desired.pickers));
            prop_assert_eq!(nft::diff(Some(&table), &desired), vec![]);
            // Rules that are not ours make all else worthless.
            table.ruleset.base_chains.pop();
            prop_assert_eq!(nft::diff(Some(&table), &desired), vec![nft::Op::Replace]);
        }
    }

    #[test]
    fn from_any_servers_a_plan_leads_to_the_desired_ones(
        spec in spec(),
        damages in damages(),
        strays in prop::collection::btree_map(frontend(), server(), 0..5),
        bound in subsequence([&VIPS[..], &OUTER, &["10.96.7.7"]].concat(), 0..6),
        missing in subsequence(SCHEDULERS.to_vec(), 0..=2),
    ) {
        let snapshot = snapshot(&spec);
        let mut layout = Layout::of(&snapshot, Engine::Ipvs);
        layout.schedulers.missing = missing.into_iter().map(Arc::from).collect();
        let plane = Dataplane::of(&snapshot);
        let desired = ipvs::State::desired(&layout, &plane);
        let mut have = meddled_servers(&desired, &damages);
        have.servers.extend(strays.into_values());
        have.addresses.extend(bound.into_iter().map(ip));

        let nothing = Programmed::default();
        let wanted = Programmed { servers: desired.servers, addresses: desired.addresses };
        for (engine, wanted) in [(Engine::Ipvs, wanted), (Engine::Nftables, nothing)] {
            layout.engine = engine;
            let mut have = have.clone();
            let ops = ipvs::plan(&layout, &plane, &have, None);
            carry_out_servers(&mut have, &ops)?;
            prop_assert_eq!(ipvs::plan(&layout, &plane, &have, None), vec![]);
            // What is not wanted takes no new connections; once the old have ended, it goes.
            prop_assert_eq!(serving(&have), wanted.servers.clone());
            prop_assert!(have.addresses.is_superset(&wanted.addresses));
            let idle = have.retired().collect();
            let ops = ipvs::sweep(&layout, &plane, &have, &idle);
            carry_out_servers(&mut have, &ops)?;
            prop_assert_eq!(have, wanted);
        }
    }
}

#[test]
fn an_address_that_became_a_nodes_is_given_up_though_connections_to_it_are_open() {
    let mut snapshot = cluster();
    let third = snapshot.nodes.remove("node-3").unwrap();
    let mut service = web("10.96.0.1");
    service.load_balancer_ips = vec![ip("192.168.56.72")];
    add(&mut snapshot, "web", service, vec![ready("10.244.1.5")]);
    let state = states(&snapshot).1;
    let have = Programmed { servers: state.servers, addresses: state.addresses };
    assert!(have.addresses.contains(&ip("192.168.56.72")));
    snapshot.nodes.insert("node-3".into(), third);
    let layout = Layout::of(&snapshot, Engine::Ipvs);
    let ops = ipvs::plan(&layout, &Dataplane::of(&snapshot), &have, None);
    let frontend = Frontend { addr: ip("192.168.56.72"), protocol: Protocol::Tcp, port: 80 };
    let backend = Backend { addr: ip("10.244.1.5"), port: 8080 };
    let wanted = [ipvs::Op::Release(frontend.addr), ipvs::Op::SetDestination(frontend, backend, 0)];
    assert_eq!(ops, wanted);
}
