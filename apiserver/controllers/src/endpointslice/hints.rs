//! For whom an endpoint is meant: the hints that follow from `spec.trafficDistribution` (upstream:
//! `endpointslice/trafficdist`).
//!
//! Pure. Input: a Service, an endpoint's zone and node. Output: the endpoint's hints.
//! Deliberately not here: what a node makes of hints; it must see them on *all* endpoints of its
//! choice, which is netd's question.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointHints, ForNode, ForZone};

use crate::meta;

/// The annotation that was there before the field, and its first name, which wins.
const TOPOLOGY_MODE: [&str; 2] =
    ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];

/// The hints of a ready endpoint; none where the Service does not ask for any.
pub(super) fn of(
    service: &Service,
    zone: Option<&str>,
    node: Option<&str>,
) -> Option<EndpointHints> {
    if is_by_annotation(service) {
        return None;
    }
    let near = match service.spec.as_ref()?.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => None,
        "PreferSameNode" => node,
        _ => return None,
    };
    let for_zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    let for_nodes = near.map(|name| vec![ForNode { name: name.to_owned() }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}

/// Whether the Service asks by annotation for an even spread over zones, which then counts and not
/// the field (upstream: `hintsEnabled`).
pub(super) fn is_by_annotation(service: &Service) -> bool {
    let mode = TOPOLOGY_MODE.iter().find_map(|key| meta::annotation(service, key));
    matches!(mode, Some("Auto" | "auto"))
}
