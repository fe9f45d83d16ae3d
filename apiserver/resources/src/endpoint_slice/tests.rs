//! EndpointSlices: families, limits, generations and rows.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::EndpointSlices;
use crate::columns::Cell;
use crate::strategy::Strategy;

fn slice(object: Value) -> EndpointSlice {
    let mut slice = serde_json::from_value(object).expect("an EndpointSlice");
    Strategy::default(&EndpointSlices, &mut slice);
    EndpointSlices.prepare_create(&mut slice);
    slice
}

fn problems(object: Value) -> Vec<String> {
    EndpointSlices.validate(&slice(object)).iter().map(ToString::to_string).collect()
}

fn good() -> Value {
    json!({
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.5"], "nodeName": "node-1"}],
        "ports": [{"port": 80}],
    })
}

#[test]
fn addresses_are_of_the_slices_family() {
    assert_eq!(problems(good()), [""; 0]);
    let with = |kind: &str, address: &str| {
        problems(json!({"addressType": kind, "endpoints": [{"addresses": [address]}]}))
    };
    assert_eq!(
        with("IPv4", "fd00::1"),
        [r#"endpoints[0].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address"#]
    );
    assert_eq!(with("IPv6", "fd00::1"), [""; 0]);
    assert_eq!(with("IPv6", "10.0.0.1").len(), 1);
    assert_eq!(with("IPv4", "127.0.0.1").len(), 1);
    assert_eq!(with("FQDN", "a.example"), [""; 0]);
    assert_eq!(with("FQDN", "a").len(), 1);
    assert_eq!(
        with("IP", "10.0.0.1"),
        [r#"addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6""#]
    );
}

#[test]
fn a_slice_has_limits() {
    let many: Vec<Value> = (0..1001).map(|_| json!({"addresses": ["10.0.0.1"]})).collect();
    assert_eq!(
        problems(json!({"addressType": "IPv4", "endpoints": many})),
        ["endpoints: Too many: 1001: must have at most 1000 items"]
    );
    assert_eq!(
        problems(json!({"addressType": "IPv4", "endpoints": [{"addresses": []}],
                        "ports": [{"port": 80}, {"port": 81}]})),
        [
            "endpoints[0].addresses: Required value: must contain at least 1 address",
            "ports[1].name: Duplicate value: \"\"",
        ]
    );
}

#[test]
fn what_is_out_of_fashion_is_mentioned_or_dropped() {
    let warnings = |kind: &str, address: &str| {
        let endpoints = json!([{"addresses": [address]}]);
        EndpointSlices.warnings(&slice(json!({"addressType": kind, "endpoints": endpoints})))
    };
    assert_eq!(warnings("IPv4", "10.0.0.1"), [""; 0]);
    assert_eq!(warnings("FQDN", "a.example"), ["spec.addressType: FQDN endpoints are deprecated"]);
    assert_eq!(
        warnings("IPv6", "fd00:0::1"),
        [
            r#"endpoints[0].addresses[0]: IPv6 address "fd00:0::1" should be in RFC 5952 canonical format ("fd00::1")"#
        ]
    );
    let mut old = good();
    old["endpoints"][0]["deprecatedTopology"] = json!({"kubernetes.io/hostname": "node-1"});
    assert_eq!(slice(old).endpoints.expect("endpoints")[0].deprecated_topology, None);
}

#[test]
fn hints_name_few_zones_and_nodes_each_once() {
    let with = |hints: Value| {
        let mut slice = good();
        slice["endpoints"][0]["hints"] = hints;
        problems(slice)
    };
    assert_eq!(
        with(json!({"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "node-1"}]})),
        [""; 0]
    );
    assert_eq!(
        with(json!({"forZones": [{"name": "a"}, {"name": "a"}]})),
        [r#"endpoints[0].hints.forZones[1].name: Duplicate value: "a""#]
    );
    let nodes: Vec<Value> = (0..9).map(|i| json!({"name": format!("n{i}")})).collect();
    assert_eq!(
        with(json!({"forNodes": nodes})),
        ["endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"]
    );
    assert_eq!(with(json!({"forNodes": [{"name": "Node"}]})).len(), 1);
}

#[test]
fn ports_have_limits_and_names() {
    let ports: Vec<Value> =
        (0..101).map(|i| json!({"name": format!("p{i}"), "port": 80})).collect();
    let with = |ports: Value| problems(json!({"addressType": "IPv4", "ports": ports}));
    assert_eq!(with(json!(ports)), ["ports: Too many: 101: must have at most 100 items"]);
    assert_eq!(
        with(json!([{"port": 80, "protocol": "tcp"}])),
        [r#"ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP""#]
    );
    assert_eq!(with(json!([{"port": 80, "appProtocol": "kubernetes.io/h2c"}])), [""; 0]);
    assert_eq!(with(json!([{"port": 80, "appProtocol": "a b"}])).len(), 1);
}

#[test]
fn backends_are_single_machines_that_everybody_can_reach() {
    let with = |kind: &str, address: &str| {
        problems(json!({"addressType": kind, "endpoints": [{"addresses": [address]}]}))
    };
    for (kind, address, detail) in [
        ("IPv4", "0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("IPv4", "127.0.0.2", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (
            "IPv4",
            "169.254.169.254",
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        ("IPv4", "239.1.1.1", "may not be in the multicast range (224.0.0.0/4, ff00::/8)"),
        ("IPv6", "::", "may not be unspecified (::)"),
        ("IPv6", "::1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("IPv6", "fe80::1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            "IPv6",
            "ff02::1",
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
        ("IPv6", "::ffff:127.0.0.1", "must not be an IPv4-mapped IPv6 address"),
    ] {
        let path = "endpoints[0].addresses[0]: Invalid value";
        assert_eq!(with(kind, address), [format!("{path}: {address:?}: {detail}")]);
    }
}

#[test]
fn the_family_stays_and_the_generation_counts() {
    let old = slice(good());
    let mut new = old.clone();
    EndpointSlices.prepare_update(&mut new, &old);
    assert_eq!(new.metadata.generation, Some(1));
    new.endpoints = None;
    new.address_type = "IPv6".to_owned();
    EndpointSlices.prepare_update(&mut new, &old);
    assert_eq!(new.metadata.generation, Some(2));
    assert_eq!(
        EndpointSlices.validate_update(&new, &old)[0].to_string(),
        r#"addressType: Invalid value: "IPv6": field is immutable"#
    );
}

#[test]
fn rows_are_kubectls() {
    let cells = |object: Value| {
        let cells = EndpointSlices.cells(&slice(object), Timestamp::UNIX_EPOCH);
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => number.to_string(),
        };
        [text(&cells[1]), text(&cells[2]), text(&cells[3])]
    };
    assert_eq!(cells(good()), ["IPv4", "80", "10.244.0.5"]);
    assert_eq!(cells(json!({"addressType": "IPv4"})), ["IPv4", "<unset>", "<unset>"]);
    let four: Vec<Value> = (1..5).map(|i| json!({"addresses": [format!("10.0.0.{i}")]})).collect();
    assert_eq!(
        cells(json!({"addressType": "IPv4", "endpoints": four}))[2],
        "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."
    );
}
