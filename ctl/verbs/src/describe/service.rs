//! Services, with the endpoints behind each port.

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Surroundings;
use super::container::port;
use super::metadata::{events, labels_and_annotations, names};
use super::text::Text;

/// How many endpoints are written out.
const MAX_ENDPOINTS: usize = 3;

/// Describes a Service.
pub(super) fn describe(
    out: &mut Text,
    service: &Service,
    slices: &[EndpointSlice],
    around: &Surroundings,
) {
    names(out, &service.metadata);
    labels_and_annotations(out, &service.metadata);
    let spec = service.spec.clone().unwrap_or_default();
    let selector: Vec<String> =
        spec.selector.iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
    out.pair(0, "Selector", none_if_empty(selector.join(",")));
    out.pair(0, "Type", spec.type_.as_deref().unwrap_or(""));
    addresses(out, &spec);
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.and_then(|b| b.ingress.as_deref()).unwrap_or_default();
    if !ingress.is_empty() {
        let list: Vec<String> = ingress.iter().map(ingress_text).collect();
        out.pair(0, "LoadBalancer Ingress", list.join(", "));
    }
    for entry in spec.ports.iter().flatten() {
        service_port(out, entry, slices);
    }
    policies(out, &spec);
    events(out, around);
}

fn none_if_empty(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn addresses(out: &mut Text, spec: &ServiceSpec) {
    if let Some(policy) = &spec.ip_family_policy {
        out.pair(0, "IP Family Policy", policy);
    }
    let join = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().join(",");
    out.pair(0, "IP Families", none_if_empty(join(&spec.ip_families)));
    out.pair(0, "IP", spec.cluster_ip.as_deref().unwrap_or(""));
    out.pair(0, "IPs", none_if_empty(join(&spec.cluster_ips)));
    let optional = [
        ("External IPs", join(&spec.external_ips)),
        ("Desired LoadBalancer IP", spec.load_balancer_ip.clone().unwrap_or_default()),
        ("External Name", spec.external_name.clone().unwrap_or_default()),
    ];
    for (title, value) in optional {
        if !value.is_empty() {
            out.pair(0, title, value);
        }
    }
}

fn ingress_text(ingress: &LoadBalancerIngress) -> String {
    match (ingress.ip.as_deref(), &ingress.ip_mode) {
        (None | Some(""), _) => ingress.hostname.clone().unwrap_or_default(),
        (Some(ip), Some(mode)) => format!("{ip} ({mode})"),
        (Some(ip), None) => ip.to_owned(),
    }
}

fn service_port(out: &mut Text, entry: &ServicePort, slices: &[EndpointSlice]) {
    let protocol = entry.protocol.as_deref().unwrap_or("TCP");
    let name = entry.name.as_deref().unwrap_or("");
    let shown = if name.is_empty() { "<unset>" } else { name };
    out.line(0, format_args!("Port:\t{shown}\t{}/{protocol}", entry.port));
    let target = entry.target_port.clone().unwrap_or(IntOrString::Int(0));
    out.pair(0, "TargetPort", format_args!("{}/{protocol}", port(&target)));
    if let Some(protocol) = &entry.app_protocol {
        out.pair(0, "AppProtocol", protocol);
    }
    if let Some(node_port) = entry.node_port.filter(|p| *p != 0) {
        out.line(0, format_args!("NodePort:\t{shown}\t{node_port}/{protocol}"));
    }
    out.pair(0, "Endpoints", endpoints_of(slices, name));
}

/// `10.244.0.2:80,10.244.0.3:80,10.244.1.2:80 + 2 more...`: the ready endpoints of a named port.
pub(super) fn endpoints_of(slices: &[EndpointSlice], port_name: &str) -> String {
    if slices.is_empty() {
        return "<none>".to_owned();
    }
    let mut all: Vec<String> = Vec::new();
    for slice in slices {
        let ready = slice.endpoints.iter().flatten().filter(|e| is_ready(e));
        let addresses: Vec<&str> =
            ready.filter_map(|e| e.addresses.first()).map(String::as_str).collect();
        let ports = slice.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            // A headless service may have no ports.
            all.extend(addresses.iter().map(|a| (*a).to_owned()));
        }
        for port in ports.iter().filter(|p| p.name.as_deref().unwrap_or("") == port_name) {
            let number = port.port.unwrap_or(0);
            all.extend(addresses.iter().map(|a| host_port(a, number)));
        }
    }
    let shown = all.iter().take(MAX_ENDPOINTS).cloned().collect::<Vec<_>>().join(",");
    match all.len().checked_sub(MAX_ENDPOINTS) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

/// An unknown state counts as ready.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
}

fn host_port(address: &str, port: i32) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn policies(out: &mut Text, spec: &ServiceSpec) {
    out.pair(0, "Session Affinity", spec.session_affinity.as_deref().unwrap_or(""));
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default().join(",");
    let check = spec.health_check_node_port.filter(|p| *p != 0).map(|p| p.to_string());
    let optional = [
        ("External Traffic Policy", spec.external_traffic_policy.clone()),
        ("Internal Traffic Policy", spec.internal_traffic_policy.clone()),
        ("HealthCheck NodePort", check),
        ("LoadBalancer Source Ranges", Some(ranges)),
        ("Traffic Distribution", spec.traffic_distribution.clone()),
    ];
    for (title, value) in optional {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            out.pair(0, title, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slices(addresses: &[&str]) -> Vec<EndpointSlice> {
        let endpoints: Vec<_> = addresses
            .iter()
            .map(|a| json!({"addresses": [a], "conditions": {"ready": true}}))
            .chain([json!({"addresses": ["10.244.9.9"], "conditions": {"ready": false}})])
            .collect();
        vec![
            serde_json::from_value(json!({"addressType": "IPv4", "metadata": {},
                "endpoints": endpoints, "ports": [{"name": "", "port": 8080}]}))
            .unwrap(),
        ]
    }

    fn describe_service(spec: serde_json::Value, slices: &[EndpointSlice]) -> String {
        let service: Service = serde_json::from_value(json!({"spec": spec, "metadata":
            {"name": "kuba", "namespace": "default"}}))
        .unwrap();
        let now = "2024-01-01T00:00:00Z".parse().unwrap();
        let mut out = Text::default();
        describe(&mut out, &service, slices, &Surroundings { events: Some(vec![]), now });
        out.render()
    }

    #[test]
    fn a_cluster_ip_service_of_three_pods() {
        let text = describe_service(
            json!({"selector": {"app": "kuba"}, "type": "ClusterIP", "clusterIP": "10.96.0.7",
                "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]}),
            &slices(&["10.244.0.2", "10.244.0.3", "10.244.1.2"]),
        );
        let expected = "\
Name:                     kuba
Namespace:                default
Labels:                   <none>
Annotations:              <none>
Selector:                 app=kuba
Type:                     ClusterIP
IP Family Policy:         SingleStack
IP Families:              IPv4
IP:                       10.96.0.7
IPs:                      10.96.0.7
Port:                     <unset>  80/TCP
TargetPort:               8080/TCP
Endpoints:                10.244.0.2:8080,10.244.0.3:8080,10.244.1.2:8080
Session Affinity:         None
Internal Traffic Policy:  Cluster
Events:                   <none>
";
        assert_eq!(text, expected);
    }

    #[test]
    fn node_ports_load_balancers_and_many_endpoints() {
        assert_eq!(
            endpoints_of(&slices(&["a", "b", "c", "d", "e"]), ""),
            "a:8080,b:8080,c:8080 + 2 more..."
        );
        assert_eq!(endpoints_of(&slices(&[]), ""), "");
        assert_eq!(endpoints_of(&slices(&["a"]), "http"), "");
        assert_eq!(endpoints_of(&[], ""), "<none>");
        let text = describe_service(
            json!({"type": "NodePort", "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web",
                 "nodePort": 30080}],
                "externalIPs": ["172.30.1.44"], "sessionAffinity": "ClientIP"}),
            &[],
        );
        assert!(text.contains("NodePort:          http  30080/TCP\n"), "{text}");
        assert!(text.contains("TargetPort:        web/TCP\n"), "{text}");
        assert!(text.contains("External IPs:      172.30.1.44\n"), "{text}");
    }
}
