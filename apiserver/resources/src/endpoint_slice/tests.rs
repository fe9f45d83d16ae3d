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
