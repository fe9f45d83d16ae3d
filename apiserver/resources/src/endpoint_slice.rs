//! EndpointSlices: a Service's backends as netd reads them.
//!
//! Upstream: `pkg/registry/discovery/endpointslice/strategy.go`, `pkg/apis/discovery/validation`.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};

use crate::columns::{self, Cell, Column, UNSET};
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("AddressType"),
    Column::text("Ports"),
    Column::text("Endpoints"),
    Column::AGE,
];

/// How many ports or addresses a cell shows before it says how many more there are.
const SHOWN: usize = 3;

/// The behaviour of EndpointSlices.
pub(crate) struct EndpointSlices;

impl Strategy for EndpointSlices {
    type Object = EndpointSlice;

    fn default(&self, slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn prepare_create(&self, slice: &mut EndpointSlice) {
        slice.metadata.generation = Some(1);
    }

    fn prepare_update(&self, new: &mut EndpointSlice, old: &EndpointSlice) {
        let moved = new.endpoints != old.endpoints
            || new.ports != old.ports
            || new.address_type != old.address_type
            || new.metadata.labels != old.metadata.labels;
        if moved {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, slice: &EndpointSlice, now: Timestamp) -> Vec<Cell> {
        let metadata = &slice.metadata;
        let addresses: Vec<String> =
            slice.endpoints.iter().flatten().flat_map(|e| e.addresses.iter().cloned()).collect();
        vec![
            columns::name(metadata),
            slice.address_type.as_str().into(),
            format_ports(slice.ports.as_deref().unwrap_or_default()).into(),
            first_few(&addresses).into(),
            columns::age(metadata, now),
        ]
    }
}

fn format_ports(ports: &[EndpointPort]) -> String {
    let texts: Vec<String> = ports
        .iter()
        .map(|port| match (port.port, &port.name) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    first_few(&texts)
}

/// The first three, and how many more there are; `<unset>` when there is nothing to show
/// (upstream: `listWithMoreString`).
fn first_few(texts: &[String]) -> String {
    let shown = texts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    match texts.len().saturating_sub(SHOWN) {
        0 if shown.is_empty() => UNSET.to_owned(),
        0 => shown,
        hidden => format!("{shown} + {hidden} more..."),
    }
}
