//! Endpoints and EndpointSlices.

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::Surroundings;
use super::metadata::{events, labels_and_annotations, names};
use super::text::Text;

/// Describes Endpoints.
pub(super) fn endpoints(out: &mut Text, object: &Endpoints, around: &Surroundings) {
    names(out, &object.metadata);
    labels_and_annotations(out, &object.metadata);
    out.line(0, "Subsets:");
    for subset in object.subsets.iter().flatten() {
        out.pair(1, "Addresses", addresses(subset.addresses.as_ref()));
        out.pair(1, "NotReadyAddresses", addresses(subset.not_ready_addresses.as_ref()));
        let ports = subset.ports.as_deref().unwrap_or_default();
        if !ports.is_empty() {
            out.line(1, "Ports:");
            out.line(2, "Name\tPort\tProtocol");
            out.line(2, "----\t----\t--------");
            for port in ports {
                let name = unset(port.name.as_deref());
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                out.line(2, format_args!("{name}\t{}\t{protocol}", port.port));
            }
        }
        out.line(0, "");
    }
    events(out, around);
}

fn addresses(list: Option<&Vec<EndpointAddress>>) -> String {
    let list: Vec<&str> = list.into_iter().flatten().map(|a| a.ip.as_str()).collect();
    if list.is_empty() { "<none>".to_owned() } else { list.join(",") }
}

fn unset(text: Option<&str>) -> &str {
    text.filter(|t| !t.is_empty()).unwrap_or("<unset>")
}

/// Describes an EndpointSlice.
pub(super) fn slice(out: &mut Text, object: &EndpointSlice, around: &Surroundings) {
    names(out, &object.metadata);
    labels_and_annotations(out, &object.metadata);
    out.pair(0, "AddressType", &object.address_type);
    let ports = object.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        out.line(0, "Ports: <unset>");
    } else {
        out.line(0, "Ports:");
        out.line(1, "Name\tPort\tProtocol");
        out.line(1, "----\t----\t--------");
        for port in ports {
            let name = unset(port.name.as_deref());
            let number = port.port.map_or("<unset>".to_owned(), |p| p.to_string());
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            out.line(1, format_args!("{name}\t{number}\t{protocol}"));
        }
    }
    let endpoints = object.endpoints.as_deref().unwrap_or_default();
    if endpoints.is_empty() {
        out.line(0, "Endpoints: <none>");
    } else {
        out.line(0, "Endpoints:");
        endpoints.iter().for_each(|endpoint| slice_endpoint(out, endpoint));
    }
    events(out, around);
}

fn slice_endpoint(out: &mut Text, endpoint: &Endpoint) {
    let addresses = endpoint.addresses.join(", ");
    let addresses = if addresses.is_empty() { "<none>".to_owned() } else { addresses };
    out.pair(1, "- Addresses", addresses);
    out.line(2, "Conditions:");
    let ready = endpoint.conditions.as_ref().and_then(|c| c.ready);
    out.pair(3, "Ready", ready.map_or("<unset>".to_owned(), |r| r.to_string()));
    out.pair(2, "Hostname", endpoint.hostname.as_deref().unwrap_or("<unset>"));
    if let Some(target) = &endpoint.target_ref {
        let kind = target.kind.as_deref().unwrap_or("");
        let name = target.name.as_deref().unwrap_or("");
        out.pair(2, "TargetRef", format_args!("{kind}/{name}"));
    }
    out.pair(2, "NodeName", endpoint.node_name.as_deref().unwrap_or("<unset>"));
    out.pair(2, "Zone", endpoint.zone.as_deref().unwrap_or("<unset>"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nothing_around() -> Surroundings {
        Surroundings { events: Some(vec![]), now: jiff::Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn endpoints_made_by_hand() {
        let object: Endpoints = serde_json::from_value(json!({"metadata": {"name": "e"},
            "subsets": [{"addresses": [{"ip": "11.11.11.11"}, {"ip": "22.22.22.22"}],
                         "ports": [{"port": 80}]}]}))
        .unwrap();
        let mut out = Text::default();
        endpoints(&mut out, &object, &nothing_around());
        let expected = "\
Name:         e
Namespace:    
Labels:       <none>
Annotations:  <none>
Subsets:
  Addresses:          11.11.11.11,22.22.22.22
  NotReadyAddresses:  <none>
  Ports:
    Name     Port  Protocol
    ----     ----  --------
    <unset>  80    TCP

Events:  <none>
";
        assert_eq!(out.render(), expected);
    }

    #[test]
    fn a_slice_with_one_endpoint() {
        let object: EndpointSlice = serde_json::from_value(json!({"metadata": {"name": "s"},
            "addressType": "IPv4", "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.0.2"], "conditions": {"ready": true},
                "nodeName": "node-1", "targetRef": {"kind": "Pod", "name": "p"}}]}))
        .unwrap();
        let mut out = Text::default();
        slice(&mut out, &object, &nothing_around());
        let text = out.render();
        assert!(text.contains("  - Addresses:  10.244.0.2\n    Conditions:\n"), "{text}");
        assert!(text.contains("      Ready:    true\n"), "{text}");
        assert!(text.contains("    TargetRef:  Pod/p\n    NodeName:   node-1\n"), "{text}");
    }
}
