//! v1 Endpoints: the old form of a Service's backends, still written by hand for Services without
//! a selector.
//!
//! Upstream: `pkg/registry/core/endpoint/strategy.go`.
//! Deliberately not here: mirroring into EndpointSlices (controllers).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointSubset, Endpoints};

use crate::columns::{self, Cell, Column, NONE};
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Endpoints"), Column::AGE];

/// How many addresses a cell shows before it says how many more there are.
const SHOWN_ADDRESSES: usize = 3;

/// What every write of Endpoints is answered with, besides the result.
const DEPRECATION: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

/// The behaviour of Endpoints.
pub(crate) struct EndpointsStrategy;

impl Strategy for EndpointsStrategy {
    type Object = Endpoints;

    fn default(&self, endpoints: &mut Endpoints) {
        for subset in endpoints.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                port.protocol.get_or_insert_with(|| "TCP".to_owned());
            }
        }
    }

    fn warnings(&self, _endpoints: &Endpoints) -> Vec<String> {
        vec![DEPRECATION.to_owned()]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, endpoints: &Endpoints, now: Timestamp) -> Vec<Cell> {
        let metadata = &endpoints.metadata;
        let subsets = endpoints.subsets.as_deref().unwrap_or_default();
        vec![columns::name(metadata), format_subsets(subsets).into(), columns::age(metadata, now)]
    }
}

/// `10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...`; `<none>` without subsets, empty when none of
/// their addresses is ready (upstream: `formatEndpoints`).
fn format_subsets(subsets: &[EndpointSubset]) -> String {
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let all: Vec<String> = subsets.iter().flat_map(ready_endpoints).collect();
    let shown = all.iter().take(SHOWN_ADDRESSES).cloned().collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(SHOWN_ADDRESSES) {
        0 => shown,
        hidden => format!("{shown} + {hidden} more..."),
    }
}

/// Every ready address with every port; the addresses alone when there are no ports, as a headless
/// Service may have it.
fn ready_endpoints(subset: &EndpointSubset) -> Vec<String> {
    let addresses = subset.addresses.as_deref().unwrap_or_default();
    let ports = subset.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return addresses.iter().map(|a| a.ip.clone()).collect();
    }
    let of_port = |port: i32| addresses.iter().map(move |a| join_host_port(&a.ip, port));
    ports.iter().flat_map(|p| of_port(p.port)).collect()
}

fn join_host_port(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}
