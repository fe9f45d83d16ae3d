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

/// `10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...` (upstream: `formatEndpoints`).
fn format_subsets(subsets: &[EndpointSubset]) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut total = 0;
    for subset in subsets {
        let addresses = subset.addresses.as_deref().unwrap_or_default();
        let ports = subset.ports.as_deref().unwrap_or_default();
        // Endpoints of a headless Service need no ports.
        let per_address: Vec<String> = if ports.is_empty() {
            vec![String::new()]
        } else {
            ports.iter().map(|p| p.port.to_string()).collect()
        };
        total += addresses.len() * per_address.len();
        for port in &per_address {
            for address in addresses.iter().take(SHOWN_ADDRESSES - shown.len()) {
                shown.push(join_host_port(&address.ip, port));
            }
        }
    }
    match (shown.is_empty(), total - shown.len()) {
        (true, _) => NONE.to_owned(),
        (false, 0) => shown.join(","),
        (false, hidden) => format!("{} + {hidden} more...", shown.join(",")),
    }
}

fn join_host_port(ip: &str, port: &str) -> String {
    match (port.is_empty(), ip.contains(':')) {
        (true, _) => ip.to_owned(),
        (false, true) => format!("[{ip}]:{port}"),
        (false, false) => format!("{ip}:{port}"),
    }
}
