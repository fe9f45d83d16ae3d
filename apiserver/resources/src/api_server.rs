//! The API server's own address: no backend of a Service, and no address of one.
//!
//! A Service whose backend is the API server brings requests to it that bear the address of a node
//! and the name of another Service: whoever may write endpoints could hide behind that, as with the
//! loopback and link-local addresses that upstream refuses (CVE-2021-25737; CVE-2021-25740 is the
//! same with the pods of others). Pods have the Service `default/kubernetes` for it.
//! The other way round, a Service that is reached at the API server's address and port would take
//! every node's requests to it, and nobody could be told to stop: upstream lets that happen.
//! Only address and port together are refused: the machine of the API server is a node, too, and
//! pods in its network have its address. That machine has more addresses than the one that pods are
//! told: all that its Node has lead there.
//! Inputs: an object, the port and the addresses of the API server. Outputs: field errors.
//! Deliberately not here: what the API server's port is (its configuration), and who may write what.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Endpoints, Node, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::field::{FieldError, Path};

const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

const NO_BACKEND: &str = "; use the Service default/kubernetes to reach it";
const NO_FRONTEND: &str = ": nobody could reach it any more";

/// An address that stands together with the API server's port. There are hardly ever any: only then
/// the server's addresses are of interest.
#[derive(Debug)]
pub struct Candidate<'a> {
    path: Path,
    address: &'a str,
    why: &'static str,
}

impl Candidate<'_> {
    /// Why the address is refused, if it is one of those at which the API server has `port`.
    #[must_use]
    pub fn refused(&self, addresses: &[IpAddr], port: u16) -> Option<FieldError> {
        let address = self.address.parse().ok().filter(|ip| addresses.contains(ip))?;
        let server = SocketAddr::new(address, port);
        let detail = format!("may not be the API server ({server}){}", self.why);
        Some(self.path.invalid(self.address, detail))
    }
}

/// The addresses of the API server: the one that pods are told, and all others of the Node that
/// has it.
#[must_use]
pub fn addresses(advertised: IpAddr, nodes: &[Node]) -> Vec<IpAddr> {
    let of_node = |node: &Node| -> Vec<IpAddr> {
        let listed = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
        listed.filter_map(|a| a.address.parse().ok()).collect()
    };
    let machines = nodes.iter().map(of_node).filter(|own| own.contains(&advertised));
    std::iter::once(advertised).chain(machines.flatten()).collect()
}

/// Addresses of an Endpoints that stand with the API server's port; none of its own Endpoints.
#[must_use]
pub fn in_endpoints(endpoints: &Endpoints, port: u16) -> Vec<Candidate<'_>> {
    let metadata = &endpoints.metadata;
    let mut found = Vec::new();
    if is_of_the_server(metadata, metadata.name.as_deref()) {
        return found;
    }
    for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
        if !subset.ports.iter().flatten().any(|p| p.port == i32::from(port)) {
            continue;
        }
        let path = Path::new("subsets").index(i);
        let lists =
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
        for (field, addresses) in lists {
            let path = path.child(field);
            let addresses = addresses.iter().flatten().enumerate();
            found.extend(addresses.map(|(j, address)| Candidate {
                path: path.index(j).child("ip"),
                address: &address.ip,
                why: NO_BACKEND,
            }));
        }
    }
    found
}

/// Addresses of an EndpointSlice that stand with the API server's port; none of its own slices.
#[must_use]
pub fn in_slice(slice: &EndpointSlice, port: u16) -> Vec<Candidate<'_>> {
    let metadata = &slice.metadata;
    let service = metadata.labels.as_ref().and_then(|l| l.get(SERVICE_LABEL));
    let has_port = slice.ports.iter().flatten().any(|p| p.port == Some(i32::from(port)));
    let mut found = Vec::new();
    if !has_port || is_of_the_server(metadata, service.map(String::as_str)) {
        return found;
    }
    for (i, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        let path = Path::new("endpoints").index(i).child("addresses");
        let addresses = endpoint.addresses.iter().enumerate();
        found.extend(addresses.map(|(j, address)| Candidate {
            path: path.index(j),
            address,
            why: NO_BACKEND,
        }));
    }
    found
}

/// Addresses by which a Service is reached from outside and at the API server's port.
#[must_use]
pub fn in_service(service: &Service, port: u16) -> Vec<Candidate<'_>> {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let tcp = |protocol: Option<&str>| matches!(protocol, None | Some("TCP"));
    let has_port = |p: &ServicePort| p.port == i32::from(port) && tcp(p.protocol.as_deref());
    if !ports.iter().any(has_port) {
        return Vec::new();
    }
    let externals = Path::new("spec").child("externalIPs");
    let externals = spec
        .and_then(|s| s.external_ips.as_deref())
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(i, address)| (externals.index(i), address.as_str()));
    let ingress = Path::new("status").child("loadBalancer").child("ingress");
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer
        .and_then(|b| b.ingress.as_deref())
        .unwrap_or_default()
        .iter()
        .enumerate()
        .filter_map(|(i, at)| Some((ingress.index(i).child("ip"), at.ip.as_deref()?)));
    let all = externals.chain(ingress);
    all.map(|(path, address)| Candidate { path, address, why: NO_FRONTEND }).collect()
}

/// The API server writes its own endpoints.
fn is_of_the_server(metadata: &ObjectMeta, service: Option<&str>) -> bool {
    metadata.namespace.as_deref() == Some(NAMESPACE) && service == Some(SERVICE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PORT: u16 = 6443;

    /// A node of both families has the address that pods are told.
    fn server() -> Vec<IpAddr> {
        let node = |addresses: Value| -> Node {
            serde_json::from_value(json!({ "status": { "addresses": addresses } })).expect("a Node")
        };
        let internal = |address: &str| json!({ "type": "InternalIP", "address": address });
        let name = json!({ "type": "Hostname", "address": "node-1" });
        let nodes = [
            node(json!([internal("192.168.56.71"), internal("fd00:192:168:56::71")])),
            node(json!([internal("192.168.56.70"), internal("fd00:192:168:56::70"), name])),
            Node::default(),
        ];
        addresses("192.168.56.70".parse().expect("an address"), &nodes)
    }

    fn errors(found: &[Candidate<'_>]) -> Vec<FieldError> {
        found.iter().filter_map(|c| c.refused(&server(), PORT)).collect()
    }

    fn endpoints(namespace: &str, name: &str, address: &str, port: u16) -> Vec<String> {
        let object = json!({
            "metadata": { "namespace": namespace, "name": name },
            "subsets": [{
                "addresses": [{ "ip": "11.11.11.11" }], "notReadyAddresses": [{ "ip": address }],
                "ports": [{ "port": 80 }, { "port": port }],
            }],
        });
        let endpoints: Endpoints = serde_json::from_value(object).expect("Endpoints");
        errors(&in_endpoints(&endpoints, PORT)).iter().map(ToString::to_string).collect()
    }

    fn slice(labels: Value, address: &str, port: Value) -> Vec<String> {
        let object = json!({
            "metadata": { "namespace": "default", "labels": labels }, "addressType": "IPv4",
            "endpoints": [{ "addresses": ["11.11.11.11"] }, { "addresses": [address] }],
            "ports": [{ "port": port }],
        });
        let slice: EndpointSlice = serde_json::from_value(object).expect("an EndpointSlice");
        errors(&in_slice(&slice, PORT)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn address_and_port_together_are_the_api_server() {
        let detail = "may not be the API server (192.168.56.70:6443); use the Service \
                      default/kubernetes to reach it";
        assert_eq!(
            endpoints("default", "web", "192.168.56.70", 6443),
            [format!(
                "subsets[0].notReadyAddresses[0].ip: Invalid value: \"192.168.56.70\": {detail}"
            )]
        );
        assert_eq!(
            slice(json!({}), "192.168.56.70", json!(6443)),
            [format!("endpoints[1].addresses[0]: Invalid value: \"192.168.56.70\": {detail}")]
        );
    }

    #[test]
    fn every_address_of_its_node_is_the_api_server() {
        let server = [IpAddr::from([192, 168, 56, 70])];
        assert_eq!(addresses(server[0], &[]), server, "no Node has it");
        let six = "fd00:192:168:56:0:0:0:70";
        let detail = "may not be the API server ([fd00:192:168:56::70]:6443); use the Service \
                      default/kubernetes to reach it";
        assert_eq!(
            slice(json!({}), six, json!(6443)),
            [format!("endpoints[1].addresses[0]: Invalid value: \"{six}\": {detail}")]
        );
        assert_eq!(slice(json!({}), six, json!(8443)), [""; 0]);
        assert_eq!(slice(json!({}), "fd00:192:168:56::71", json!(6443)), [""; 0], "another node");
        assert_eq!(endpoints("default", "web", "fd00:192:168:56::70", 6443).len(), 1);
        assert_eq!(slice(json!({}), "node-1", json!(6443)), [""; 0], "a name is no address");
    }

    #[test]
    fn a_pod_in_the_servers_network_is_a_backend_like_others() {
        assert_eq!(endpoints("default", "web", "192.168.56.70", 8080), [""; 0]);
        assert_eq!(endpoints("default", "web", "192.168.56.71", 6443), [""; 0]);
        assert_eq!(slice(json!({}), "192.168.56.70", json!(80)), [""; 0]);
        assert_eq!(
            slice(json!({}), "192.168.56.70", Value::Null),
            [""; 0],
            "no port leads nowhere"
        );
    }

    #[test]
    fn no_service_is_reached_where_the_api_server_is() {
        let problems = |spec: Value, ingress: Value| {
            let status = json!({ "loadBalancer": { "ingress": ingress } });
            let service = json!({ "spec": spec, "status": status });
            let service: Service = serde_json::from_value(service).expect("a Service");
            errors(&in_service(&service, PORT)).iter().map(|e| e.path.clone()).collect::<Vec<_>>()
        };
        let at = |port: u16, protocol: &str| {
            json!({ "externalIPs": ["172.30.1.44", "192.168.56.70"],
                    "ports": [{ "port": port, "protocol": protocol }] })
        };
        assert_eq!(problems(at(6443, "TCP"), json!([])), ["spec.externalIPs[1]"]);
        assert_eq!(problems(at(6443, "UDP"), json!([])), [""; 0]);
        assert_eq!(problems(at(80, "TCP"), json!([])), [""; 0], "a node's address is a usual one");
        let balanced = json!({ "ports": [{ "port": 6443 }] });
        let ingress = json!([{ "ip": "192.168.56.70" }, { "hostname": "a.example" }]);
        assert_eq!(problems(balanced, ingress), ["status.loadBalancer.ingress[0].ip"]);
    }

    #[test]
    fn its_own_service_leads_there() {
        assert_eq!(endpoints("default", "kubernetes", "192.168.56.70", 6443), [""; 0]);
        let own = json!({ SERVICE_LABEL: "kubernetes" });
        assert_eq!(slice(own, "192.168.56.70", json!(6443)), [""; 0]);
        assert_eq!(endpoints("other", "kubernetes", "192.168.56.70", 6443).len(), 1);
    }
}
