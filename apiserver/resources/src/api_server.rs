//! The API server's own address: no backend of a Service, and no address of one.
//!
//! A Service whose backend is the API server brings requests to it that bear the address of a node
//! and the name of another Service: whoever may write endpoints could hide behind that, as with the
//! loopback and link-local addresses that upstream refuses (CVE-2021-25737; CVE-2021-25740 is the
//! same with the pods of others). Pods have the Service `default/kubernetes` for it.
//! The other way round, a Service that is reached at the API server's address and port would take
//! every node's requests to it, and nobody could be told to stop: upstream lets that happen.
//! Only address and port together are refused: the machine of the API server is a node, too, and
//! pods in its network have its address.
//! Deliberately not here: what the API server's address is (its configuration).

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Endpoints, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::field::{FieldError, FieldErrors, Path};

const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Addresses of an Endpoints that lead to the API server at `server`.
#[must_use]
pub fn in_endpoints(endpoints: &Endpoints, server: SocketAddr) -> FieldErrors {
    let metadata = &endpoints.metadata;
    if is_of_the_server(metadata, metadata.name.as_deref()) {
        return FieldErrors::new();
    }
    let mut errors = FieldErrors::new();
    for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
        if !subset.ports.iter().flatten().any(|p| p.port == i32::from(server.port())) {
            continue;
        }
        let path = Path::new("subsets").index(i);
        let lists =
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
        for (field, addresses) in lists {
            for (j, address) in addresses.iter().flatten().enumerate() {
                let path = path.child(field).index(j).child("ip");
                errors.extend(refused(&path, &address.ip, server));
            }
        }
    }
    errors
}

/// Addresses of an EndpointSlice that lead to the API server at `server`.
#[must_use]
pub fn in_slice(slice: &EndpointSlice, server: SocketAddr) -> FieldErrors {
    let metadata = &slice.metadata;
    let service = metadata.labels.as_ref().and_then(|l| l.get(SERVICE_LABEL));
    let port = Some(i32::from(server.port()));
    let has_port = slice.ports.iter().flatten().any(|p| p.port == port);
    if !has_port || is_of_the_server(metadata, service.map(String::as_str)) {
        return FieldErrors::new();
    }
    let mut errors = FieldErrors::new();
    for (i, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        let path = Path::new("endpoints").index(i).child("addresses");
        for (j, address) in endpoint.addresses.iter().enumerate() {
            errors.extend(refused(&path.index(j), address, server));
        }
    }
    errors
}

/// Addresses by which a Service is reached from outside and which are the API server's.
#[must_use]
pub fn in_service(service: &Service, server: SocketAddr) -> FieldErrors {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let tcp = |protocol: Option<&str>| matches!(protocol, None | Some("TCP"));
    let has_port =
        |p: &ServicePort| p.port == i32::from(server.port()) && tcp(p.protocol.as_deref());
    if !ports.iter().any(has_port) {
        return FieldErrors::new();
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
    let detail = format!("may not be the API server ({server}): nobody could reach it any more");
    let taken = externals.chain(ingress).filter(|(_, address)| is_at(address, server));
    taken.map(|(path, address)| path.invalid(address, detail.as_str())).collect()
}

/// The API server writes its own endpoints.
fn is_of_the_server(metadata: &ObjectMeta, service: Option<&str>) -> bool {
    metadata.namespace.as_deref() == Some(NAMESPACE) && service == Some(SERVICE)
}

fn refused(path: &Path, address: &str, server: SocketAddr) -> Option<FieldError> {
    let detail = format!(
        "may not be the API server ({server}); use the Service {NAMESPACE}/{SERVICE} to reach it"
    );
    is_at(address, server).then(|| path.invalid(address, detail))
}

fn is_at(address: &str, server: SocketAddr) -> bool {
    address.parse::<IpAddr>().is_ok_and(|ip| ip == server.ip())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server() -> SocketAddr {
        "192.168.56.70:6443".parse().expect("an address")
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
        in_endpoints(&endpoints, server()).iter().map(ToString::to_string).collect()
    }

    fn slice(labels: Value, address: &str, port: Value) -> Vec<String> {
        let object = json!({
            "metadata": { "namespace": "default", "labels": labels }, "addressType": "IPv4",
            "endpoints": [{ "addresses": ["11.11.11.11"] }, { "addresses": [address] }],
            "ports": [{ "port": port }],
        });
        let slice: EndpointSlice = serde_json::from_value(object).expect("an EndpointSlice");
        in_slice(&slice, server()).iter().map(ToString::to_string).collect()
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
            in_service(&service, server()).iter().map(|e| e.path.clone()).collect::<Vec<_>>()
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
