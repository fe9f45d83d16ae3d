//! `explain svc/NAME --ports`: the three ports of a Service, and who calls which, in a picture.
//!
//! Pure: the Service, its slices and the nodes in, text out.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Node, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

/// Addresses that are named of a longer list.
const NAMED: usize = 4;

/// The picture that holds for every Service.
pub(super) const EVERY_SERVICE: &str =
    "  nodePort     at every node; for clients outside (types NodePort and LoadBalancer)
      │        spec.ports[].nodePort, by default one of 30000-32767 is chosen
      ▼
  port         at the addresses of the Service: its cluster IP, for clients inside;
      │        a load balancer's address and external IPs, for clients outside
      ▼        spec.ports[].port, must be given
  targetPort   at the pods, where their process listens
               spec.ports[].targetPort, a number or the name of a container's port; by default port

  Only port must be given. Packets of each of the first two go straight to the third, in one step.
";

/// The picture of one Service.
pub(super) fn picture(service: &Service, slices: &[EndpointSlice], nodes: &[Node]) -> String {
    let spec = service.spec.clone().unwrap_or_default();
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    if spec.type_.as_deref() == Some("ExternalName") {
        let alias = spec.external_name.unwrap_or_default();
        return format!(
            "{namespace}/{name} is an alias for {alias}: it has no ports of its own.\n"
        );
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let entries = spec.ports.unwrap_or_default();
    let pictures = entries.iter().map(|entry| {
        let protocol = entry.protocol.as_deref().unwrap_or("TCP");
        let called = entry.name.as_ref().map(|name| format!(" port {name},")).unwrap_or_default();
        let mut text = format!("{namespace}/{name},{called} {protocol}\n");
        let mut row = |what: &str, number: &str, at: String| {
            text.push_str(&format!("  {what:<10} {number:>6}   {at}\n"));
        };
        let node_port = entry.node_port.filter(|port| *port > 0);
        if let Some(port) = node_port {
            let families = spec.ip_families.as_deref().unwrap_or_default();
            let has = |a: &IpAddr| {
                let family = if a.is_ipv4() { "IPv4" } else { "IPv6" };
                families.iter().any(|other| other == family)
            };
            let at = at_each(nodes.iter().flat_map(node_addresses).filter(has), port);
            row("nodePort", &port.to_string(), format!("at every node, for clients outside: {at}"));
            row("    │", "", String::new());
        }
        if headless {
            let at =
                "at no address: the Service is headless, its name leads to the pods themselves";
            row("port", &entry.port.to_string(), at.to_owned());
        } else {
            row("port", &entry.port.to_string(), addresses(service, entry.port));
        }
        row("    ▼", "", String::new());
        let (target, at) = (target(entry), endpoints(entry, slices));
        row("targetPort", &target, format!("at the pods: {at}"));
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>()
    });
    pictures.collect::<Vec<_>>().join("\n")
}

/// The addresses that a Service has, by who may use them.
fn addresses(service: &Service, port: i32) -> String {
    let spec = service.spec.clone().unwrap_or_default();
    let status = service.status.clone().unwrap_or_default();
    let ingress = status.load_balancer.and_then(|lb| lb.ingress).unwrap_or_default();
    let outside = ingress.into_iter().filter_map(|ingress| ingress.ip);
    let outside: Vec<IpAddr> =
        outside.chain(spec.external_ips.into_iter().flatten()).filter_map(parsed).collect();
    let inside = spec.cluster_ips.unwrap_or_default().into_iter().filter_map(parsed);
    let mut text = format!("at the Service, for clients inside: {}", at_each(inside, port));
    if !outside.is_empty() {
        text.push_str(&format!("; outside: {}", at_each(outside.into_iter(), port)));
    }
    text
}

/// As the manifest says it.
fn target(entry: &ServicePort) -> String {
    match &entry.target_port {
        Some(IntOrString::String(name)) => name.clone(),
        Some(IntOrString::Int(number)) => number.to_string(),
        None => entry.port.to_string(),
    }
}

/// The ready endpoints of a port.
fn endpoints(entry: &ServicePort, slices: &[EndpointSlice]) -> String {
    let name = entry.name.as_deref().unwrap_or_default();
    let mut all: Vec<SocketAddr> = Vec::new();
    for slice in slices {
        let mut ports = slice.ports.iter().flatten();
        let port = ports.find(|port| port.name.as_deref().unwrap_or_default() == name);
        let port = port.and_then(|port| u16::try_from(port.port?).ok());
        let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
        });
        let addresses = ready.flat_map(|endpoint| endpoint.addresses.iter());
        let Some(port) = port else { continue };
        all.extend(addresses.filter_map(parsed).map(|address| SocketAddr::new(address, port)));
    }
    all.sort_unstable();
    all.dedup();
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    few(&texts)
}

fn at_each(addresses: impl Iterator<Item = IpAddr>, port: i32) -> String {
    let port = u16::try_from(port).unwrap_or_default();
    let texts: Vec<String> =
        addresses.map(|address| SocketAddr::new(address, port).to_string()).collect();
    few(&texts)
}

fn few(texts: &[String]) -> String {
    match texts.len() {
        0 => "<none>".to_owned(),
        n if n > NAMED => format!("{} + {} more...", texts[..NAMED].join(", "), n - NAMED),
        _ => texts.join(", "),
    }
}

fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| parsed(&address.address)).collect()
}

fn parsed(text: impl AsRef<str>) -> Option<IpAddr> {
    text.as_ref().parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_port_shows_where_it_is_called_and_where_it_leads() {
        let service = read(json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"], "externalIPs": ["172.30.1.44"], "ports": [
                {"name": "http", "port": 80, "nodePort": 30080, "targetPort": "web"},
                {"name": "dns", "port": 53, "protocol": "UDP"}]}}));
        let slices: Vec<EndpointSlice> =
            read(json!([{"metadata": {"name": "s"}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.244.1.2"]}, {"addresses": ["10.244.0.2"]},
                {"addresses": ["10.244.0.3"], "conditions": {"ready": false}}]}]));
        let nodes: Vec<Node> =
            read(json!([{"metadata": {"name": "node-1"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "192.168.56.70"},
            {"type": "InternalIP", "address": "fd00::70"},
            {"type": "Hostname", "address": "node-1"}]}}]));
        let expected = "\
shop/web, port http, TCP
  nodePort    30080   at every node, for clients outside: 192.168.56.70:30080
      │
  port           80   at the Service, for clients inside: 10.96.0.9:80; outside: 172.30.1.44:80
      ▼
  targetPort    web   at the pods: 10.244.0.2:8080, 10.244.1.2:8080

shop/web, port dns, UDP
  port           53   at the Service, for clients inside: 10.96.0.9:53; outside: 172.30.1.44:53
      ▼
  targetPort     53   at the pods: <none>
";
        assert_eq!(picture(&service, &slices, &nodes), expected);
    }

    #[test]
    fn what_has_no_address_says_so() {
        let headless = read(json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}));
        let text = picture(&headless, &[], &[]);
        assert!(
            text.contains("port           80   at no address: the Service is headless"),
            "{text}"
        );
        let alias = read(json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "ExternalName", "externalName": "a.example"}}));
        assert_eq!(
            picture(&alias, &[], &[]),
            "shop/web is an alias for a.example: it has no ports of its own.\n"
        );
    }
}
