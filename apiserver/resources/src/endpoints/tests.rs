//! Endpoints: addresses that everybody can reach, and the cell that shows some of them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Endpoints;
use serde_json::{Value, json};

use super::EndpointsStrategy;
use crate::columns::Cell;
use crate::strategy::Strategy;

fn endpoints(subsets: Value) -> Endpoints {
    let mut endpoints = serde_json::from_value(json!({"subsets": subsets})).expect("Endpoints");
    Strategy::default(&EndpointsStrategy, &mut endpoints);
    endpoints
}

fn problems(subsets: Value) -> Vec<String> {
    let found = EndpointsStrategy.validate(&endpoints(subsets));
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn the_notes_endpoints_are_good() {
    let subsets = json!([{"addresses": [{"ip": "11.11.11.11"}, {"ip": "22.22.22.22"}],
                          "ports": [{"port": 80}]}]);
    assert_eq!(problems(subsets.clone()), [""; 0]);
    let port = &endpoints(subsets).subsets.expect("subsets")[0].ports.clone().expect("ports")[0];
    assert_eq!(port.protocol.as_deref(), Some("TCP"));
}

#[test]
fn addresses_that_mean_something_else_everywhere_are_refused() {
    let one = |ip: &str| problems(json!([{"addresses": [{"ip": ip}], "ports": [{"port": 80}]}]));
    for (ip, expected) in [
        ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("169.254.0.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ("224.0.0.1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
        ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("web", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    ] {
        assert_eq!(
            one(ip),
            [format!("subsets[0].addresses[0].ip: Invalid value: {ip:?}: {expected}")]
        );
    }
}

#[test]
fn an_unusual_text_of_an_address_is_mentioned() {
    let subsets =
        json!([{"addresses": [{"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "FD00::2"}]}]);
    assert_eq!(
        EndpointsStrategy.warnings(&endpoints(subsets)),
        [concat!(
            r#"subsets[0].notReadyAddresses[0].ip: IPv6 address "FD00::2" should be in RFC 5952 "#,
            r#"canonical format ("fd00::2")"#
        )]
    );
}

#[test]
fn a_subset_has_addresses_and_tells_its_ports_apart() {
    assert_eq!(
        problems(json!([{"ports": [{"port": 80}, {"port": 0, "name": "b"}]}])),
        [
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            "subsets[0].ports[0].name: Required value",
            "subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ]
    );
}

#[test]
fn the_cell_shows_three_and_counts_the_rest() {
    let cell = |subsets: Value| {
        let cells = EndpointsStrategy.cells(&endpoints(subsets), Timestamp::UNIX_EPOCH);
        let Cell::Text(text) = cells[1].clone() else { panic!("the cell is text") };
        text
    };
    let addresses =
        |n: u8| -> Vec<Value> { (1..=n).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect() };
    assert_eq!(cell(json!([])), "<none>");
    assert_eq!(cell(json!([{"notReadyAddresses": addresses(1), "ports": [{"port": 80}]}])), "");
    assert_eq!(
        cell(json!([{"addresses": addresses(3), "ports": [{"port": 80}]}])),
        "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80"
    );
    assert_eq!(
        cell(json!([{"addresses": addresses(2),
                     "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}])),
        "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more..."
    );
    assert_eq!(
        cell(json!([{"addresses": addresses(4)}])),
        "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."
    );
    assert_eq!(
        cell(json!([{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}])),
        "[fd00::1]:80"
    );
}
