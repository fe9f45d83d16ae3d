//! Choices on a field of maps, and what they say when there is none.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct Map {
    others: BTreeMap<IpAddr, Vec<(String, Tenancy)>>,
    nodes: BTreeSet<IpAddr>,
}

impl Field for Map {
    fn others(&self, address: IpAddr) -> Vec<(String, Tenancy)> {
        self.others.get(&address).cloned().unwrap_or_default()
    }

    fn shared(&self, key: &str) -> Vec<IpAddr> {
        let has = |tenants: &[(String, Tenancy)]| {
            tenants.iter().any(|(_, tenancy)| tenancy.key.as_deref() == Some(key))
        };
        self.others
            .iter()
            .filter(|(_, tenants)| has(tenants))
            .map(|(address, _)| *address)
            .collect()
    }

    fn is_of_a_node(&self, address: IpAddr) -> bool {
        self.nodes.contains(&address)
    }
}

impl Map {
    fn with(mut self, address: &str, name: &str, key: Option<&str>, port: &str) -> Self {
        let tenancy = tenancy(key, port);
        self.others.entry(ip(address)).or_default().push((name.to_owned(), tenancy));
        self
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tenancy(key: Option<&str>, port: &str) -> Tenancy {
    Tenancy { key: key.map(str::to_owned), ports: [port.to_owned()].into(), local: None }
}

fn pools(list: &[(&str, Value)]) -> Pools {
    let all = list.iter().map(|(name, spec)| {
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
    });
    Pools { all: all.collect(), open: list.iter().map(|(name, _)| (*name).to_owned()).collect() }
}

fn default_pool() -> Pools {
    pools(&[("default", json!({ "addresses": ["10.0.0.1-10.0.0.3", "fd00::1-fd00::2"] }))])
}

fn wish(families: &[Family]) -> Wish {
    Wish {
        families: families.to_vec(),
        all_families: false,
        pool: None,
        addresses: Vec::new(),
        tenancy: tenancy(None, "TCP/80"),
    }
}

const NEW: Before<'static> = Before { held: &[], asks_anew: true };

fn chosen(wish: &Wish, before: Before<'_>, pools: &Pools, map: &Map) -> String {
    match choose(wish, before, pools, map) {
        Ok(addresses) => addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(","),
        Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
    }
}

#[test]
fn the_lowest_free_address_of_each_family() {
    let map = Map::default().with("10.0.0.1", "d/a", None, "TCP/80");
    let both = wish(&[Family::V6, Family::V4]);
    assert_eq!(chosen(&both, NEW, &default_pool(), &map), "fd00::1,10.0.0.2");
    let mut map = map;
    map.nodes.insert(ip("10.0.0.2"));
    assert_eq!(chosen(&wish(&[Family::V4]), NEW, &default_pool(), &map), "10.0.0.3");
}

#[test]
fn a_full_pool_is_named() {
    let pools = pools(&[
        ("a", json!({ "addresses": ["10.0.0.1-10.0.0.1"] })),
        ("b", json!({ "addresses": ["10.0.1.1-10.0.1.1"] })),
    ]);
    let map = Map::default()
        .with("10.0.0.1", "d/x", None, "TCP/80")
        .with("10.0.1.1", "d/y", None, "TCP/80");
    let text = chosen(&wish(&[Family::V4]), NEW, &pools, &map);
    assert!(
        text.starts_with(r#"PoolExhausted: no IPv4 address is free in the AddressPools "a", "b""#),
        "{text}"
    );
}

#[test]
fn one_family_will_do_unless_both_are_required() {
    let pools = pools(&[("v4", json!({ "addresses": ["10.0.0.0/30"] }))]);
    let mut both = wish(&[Family::V4, Family::V6]);
    let map = Map::default();
    assert_eq!(chosen(&both, NEW, &pools, &map), "10.0.0.0");
    both.all_families = true;
    let text = chosen(&both, NEW, &pools, &map);
    assert!(text.starts_with("NoPool: no AddressPool gives IPv6 addresses"), "{text}");
    assert!(text.ends_with(r#"there are "v4" (10.0.0.0/30)"#), "{text}");
}

#[test]
fn what_it_has_stays_while_it_asks_for_the_same() {
    let held = [ip("192.168.0.7")];
    let same = Before { held: &held, asks_anew: false };
    let map = Map::default();
    assert_eq!(
        chosen(&wish(&[Family::V4]), same, &default_pool(), &map),
        "192.168.0.7",
        "although its pool has gone"
    );
    let mut named = wish(&[Family::V4]);
    named.pool = Some("default".to_owned());
    let anew = Before { held: &held, asks_anew: true };
    assert_eq!(chosen(&named, anew, &default_pool(), &map), "10.0.0.1");
    named.addresses = vec![ip("10.0.0.3")];
    assert_eq!(chosen(&named, anew, &default_pool(), &map), "10.0.0.3");
    // A port more that somebody else has there: it moves.
    let held = [ip("10.0.0.1")];
    let shared = Map::default().with("10.0.0.1", "d/b", Some("k"), "TCP/80");
    let mut sharing = wish(&[Family::V4]);
    sharing.tenancy = tenancy(Some("k"), "TCP/80");
    let same = Before { held: &held, asks_anew: false };
    assert_eq!(chosen(&sharing, same, &default_pool(), &shared), "10.0.0.2");
}

#[test]
fn an_address_by_its_name() {
    let map = Map::default().with("10.0.0.2", "d/a", None, "TCP/80");
    let asks = |address: &str| {
        let mut wish = wish(&[Family::V4]);
        wish.addresses = vec![ip(address)];
        chosen(&wish, NEW, &default_pool(), &map)
    };
    assert_eq!(asks("10.0.0.3"), "10.0.0.3");
    assert_eq!(
        asks("10.0.9.9"),
        concat!(
            "AddressNotInPool: 10.0.9.9 is in no AddressPool; ",
            r#"there are "default" (10.0.0.1-10.0.0.3, fd00::1-fd00::2)"#
        )
    );
    assert!(
        asks("10.0.0.2").starts_with("AddressInUse: 10.0.0.2 is held by the Service d/a; to share")
    );
    let mut map = Map::default();
    map.nodes.insert(ip("10.0.0.1"));
    let mut wish = wish(&[Family::V4, Family::V6]);
    wish.addresses = vec![ip("10.0.0.1")];
    assert_eq!(
        chosen(&wish, NEW, &default_pool(), &map),
        "AddressInUse: 10.0.0.1 is the address of a node",
        "and no IPv6 address makes up for it"
    );
}

#[test]
fn pools_by_name_and_by_selector() {
    let mut pools = pools(&[
        ("a-for-all", json!({ "addresses": ["10.0.0.0/24"] })),
        ("by-name", json!({ "addresses": ["10.0.1.0/24"], "autoAssign": false })),
        ("for-some", json!({ "addresses": ["10.0.2.0/24"], "serviceSelector": {} })),
    ]);
    let map = Map::default();
    let v4 = wish(&[Family::V4]);
    assert_eq!(chosen(&v4, NEW, &pools, &map), "10.0.2.0", "it was made for somebody");
    let named = |name: &str| Wish { pool: Some(name.to_owned()), ..v4.clone() };
    assert_eq!(chosen(&named("by-name"), NEW, &pools, &map), "10.0.1.0");
    assert_eq!(
        chosen(&named("none"), NEW, &pools, &map),
        r#"PoolNotFound: there is no AddressPool "none""#
    );
    pools.open.remove("for-some");
    assert_eq!(chosen(&v4, NEW, &pools, &map), "10.0.0.0");
    assert_eq!(
        chosen(&named("for-some"), NEW, &pools, &map),
        r#"PoolNotAllowed: the AddressPool "for-some" is not for this Service: see the pool's selectors"#
    );
    let asked = Wish { addresses: vec![ip("10.0.1.7")], ..v4.clone() };
    assert_eq!(chosen(&asked, NEW, &pools, &map), "10.0.1.7", "an address names its pool");
    let both = Wish { addresses: vec![ip("10.0.1.7")], ..named("a-for-all") };
    assert!(chosen(&both, NEW, &pools, &map).starts_with("AddressNotInPool: 10.0.1.7 is in the"));
    let v6 = Wish { families: vec![Family::V6], ..named("by-name") };
    assert!(chosen(&v6, NEW, &pools, &map).contains("has no IPv6 addresses"));
}

#[test]
fn those_with_one_key_go_to_one_address() {
    let map = Map::default().with("10.0.0.2", "d/a", Some("k"), "TCP/443").with(
        "10.0.0.3",
        "d/b",
        Some("other"),
        "TCP/443",
    );
    let mut wish = wish(&[Family::V4]);
    wish.tenancy = tenancy(Some("k"), "TCP/80");
    assert_eq!(chosen(&wish, NEW, &default_pool(), &map), "10.0.0.2");
    wish.tenancy = tenancy(Some("k"), "TCP/443");
    assert_eq!(chosen(&wish, NEW, &default_pool(), &map), "10.0.0.1", "its port is taken there");
}
