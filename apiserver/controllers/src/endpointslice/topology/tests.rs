//! Which endpoints are meant for which zone.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn node(name: &str, zone: &str, cpus: u64) -> Arc<Node> {
    let node = json!({
        "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
        "status": {
            "allocatable": { "cpu": cpus.to_string() },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    Arc::new(serde_json::from_value(node).unwrap())
}

fn endpoint(number: usize, zone: &str) -> Endpoint {
    let endpoint = json!({
        "addresses": [format!("10.244.1.{number}")], "conditions": { "ready": true }, "zone": zone,
    });
    serde_json::from_value(endpoint).unwrap()
}

/// As many endpoints as each zone says, in one group.
fn group(zones: &[(&str, usize)]) -> Group {
    let zones = zones.iter().flat_map(|(zone, count)| std::iter::repeat_n(*zone, *count));
    let endpoints = zones.enumerate().map(|(number, zone)| endpoint(number, zone)).collect();
    Group { address_type: "IPv4".to_owned(), ports: Vec::new(), endpoints }
}

/// How many endpoints are meant for each zone.
fn meant_for(group: &Group) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for endpoint in &group.endpoints {
        let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
        if let Some(zones) = zones {
            *counts.entry(zones[0].name.clone()).or_default() += 1;
        }
    }
    counts
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(zone, count)| ((*zone).to_owned(), *count)).collect()
}

fn stored(group: &Group) -> Arc<EndpointSlice> {
    Arc::new(EndpointSlice {
        address_type: group.address_type.clone(),
        endpoints: Some(group.endpoints.clone()),
        ..EndpointSlice::default()
    })
}

#[test]
fn each_zone_gets_its_share_of_the_cpus() {
    let even = [node("a", "a", 2), node("b", "b", 2)];
    let uneven = [node("a", "a", 6), node("b", "b", 2)];
    for (what, nodes, zones, wanted) in [
        ("balanced", &even, &[("a", 2), ("b", 2)], &[("a", 2), ("b", 2)]),
        ("all in one zone", &even, &[("a", 4), ("b", 0)], &[("a", 2), ("b", 2)]),
        ("unequal zones", &uneven, &[("a", 4), ("b", 4)], &[("a", 6), ("b", 2)]),
    ] {
        let mut groups = [group(zones)];
        let said = spread(&mut groups, &[], nodes);
        assert_eq!(meant_for(&groups[0]), counts(wanted), "{what}");
        let enabled = "Topology Aware Hints has been enabled, addressType: IPv4".to_owned();
        assert_eq!(said, [(Severity::Normal, "TopologyAwareHintsEnabled", enabled)], "{what}");
    }
}

#[test]
fn where_it_cannot_be_even_there_are_no_hints_and_the_reason_is_told() {
    let (a, b) = (node("a", "a", 2), node("b", "b", 2));
    let mut no_zone = (*node("c", "c", 2)).clone();
    no_zone.metadata.labels = None;
    let mut zoneless = group(&[("a", 2), ("b", 2)]);
    zoneless.endpoints[0].zone = None;
    let four = || group(&[("a", 2), ("b", 2)]);
    for (wanted, nodes, group) in [
        (NO_NODES.to_owned(), vec![a.clone()], four()),
        (NO_NODES.to_owned(), vec![a.clone(), b.clone(), Arc::new(no_zone)], four()),
        (NO_ZONE.to_owned(), vec![a.clone(), b.clone()], zoneless),
        (format!("{FEW} (1 endpoints, 2 zones)"), vec![a.clone(), b.clone()], group(&[("a", 1)])),
        (format!("{UNEVEN} (3 endpoints, 2 zones)"), vec![a, b], group(&[("a", 2), ("b", 1)])),
    ] {
        let mut groups = [group];
        let said = spread(&mut groups, &[], &nodes);
        let text = format!("{wanted}, addressType: IPv4");
        assert_eq!(said, [(Severity::Warning, "TopologyAwareHintsDisabled", text)]);
        assert!(groups[0].endpoints.iter().all(|endpoint| endpoint.hints.is_none()), "{wanted}");
    }
}

#[test]
fn a_control_plane_and_a_node_that_is_not_ready_do_not_count() {
    let mut busy = (*node("c", "c", 8)).clone();
    let role = "node-role.kubernetes.io/control-plane".to_owned();
    busy.metadata.labels.as_mut().unwrap().insert(role, String::new());
    let mut away = (*node("d", "d", 8)).clone();
    away.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".to_owned();
    let nodes = [node("a", "a", 2), node("b", "b", 2), Arc::new(busy), Arc::new(away)];
    let mut groups = [group(&[("a", 2), ("b", 2)])];
    spread(&mut groups, &[], &nodes);
    assert_eq!(meant_for(&groups[0]), counts(&[("a", 2), ("b", 2)]));
}

#[test]
fn an_endpoint_that_is_not_ready_has_no_hint() {
    let nodes = [node("a", "a", 2), node("b", "b", 2)];
    let mut groups = [group(&[("a", 3), ("b", 2)])];
    groups[0].endpoints[0].conditions.as_mut().unwrap().ready = Some(false);
    spread(&mut groups, &[], &nodes);
    assert_eq!(groups[0].endpoints[0].hints, None);
    assert_eq!(meant_for(&groups[0]), counts(&[("a", 2), ("b", 2)]));
}

proptest! {
    #[test]
    fn no_zone_is_overloaded_and_what_is_good_stays(
        cpus in prop::collection::vec(1_u64..64, 2..5),
        places in prop::collection::vec(0_usize..4, 1..60),
        more in prop::collection::vec(0_usize..4, 0..3),
    ) {
        let names = ["a", "b", "c", "d"];
        let nodes: Vec<Arc<Node>> =
            cpus.iter().zip(names).map(|(cpus, zone)| node(zone, zone, *cpus)).collect();
        let zone = |place: &usize| names[place % nodes.len()];
        let make = |places: &[usize]| {
            let endpoints = places.iter().enumerate().map(|(n, p)| endpoint(n, zone(p))).collect();
            Group { address_type: "IPv4".to_owned(), ports: Vec::new(), endpoints }
        };
        let mut first = [make(&places)];
        let told = spread(&mut first, &[], &nodes);
        prop_assert_eq!(told.len(), 1);
        if told[0].0 == Severity::Normal {
            prop_assert_eq!(meant_for(&first[0]).values().sum::<usize>(), places.len());
            let total: u64 = cpus.iter().sum();
            for (zone, cpus) in names.iter().zip(&cpus) {
                let share = *cpus as f64 / total as f64 * places.len() as f64;
                let given = meant_for(&first[0]).get(*zone).copied().unwrap_or(0) as f64;
                prop_assert!((given - share).abs() < nodes.len() as f64, "{} of {}", given, share);
            }
            // The same again: nothing moves.
            let mut second = [make(&places)];
            prop_assert_eq!(spread(&mut second, &[stored(&first[0])], &nodes), []);
            prop_assert_eq!(&second, &first);
        }
        // A few pods more: those of before stay where there is room.
        let grown: Vec<usize> = places.iter().chain(&more).copied().collect();
        let mut third = [make(&grown)];
        let told = spread(&mut third, &[stored(&first[0])], &nodes);
        if told.is_empty() {
            let moved = first[0].endpoints.iter().zip(&third[0].endpoints);
            let moved = moved.filter(|(before, after)| before.hints != after.hints).count();
            prop_assert!(moved <= more.len() * 2 + nodes.len(), "{} moved", moved);
        }
    }
}
