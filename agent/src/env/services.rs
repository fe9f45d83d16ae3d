//! Variables that tell a container where the Services are: `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`
//! and the older link variables. Upstream: `pkg/kubelet/envvars/envvars.go` and
//! `kubelet_pods.go` (`getServiceEnvVarMap`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};

/// Where the API server's own Service is.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// The variables of all Services that the pod sees: those of its namespace, unless it switches them
/// off, and always `kubernetes`. Only Services with an address count.
pub(crate) fn service_variables(pod: &Pod, services: &[Service]) -> BTreeMap<String, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let is_master = |service: &Service| {
        let metadata = &service.metadata;
        (metadata.namespace.as_deref(), metadata.name.as_deref())
            == (Some(MASTER.0), Some(MASTER.1))
    };
    let mut seen: Vec<&Service> = services
        .iter()
        .filter(|service| {
            is_master(service) || links && service.metadata.namespace.as_deref() == Some(namespace)
        })
        .collect();
    // A Service named `kubernetes` of the pod's own namespace wins over the master's.
    seen.sort_by_key(|service| !is_master(service));
    let mut variables = BTreeMap::new();
    for service in seen {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        if let Some(spec) = &service.spec {
            variables.extend(variables_of(name, spec));
        }
    }
    variables
}

fn variables_of(name: &str, spec: &ServiceSpec) -> Vec<(String, String)> {
    let host = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    if host.is_empty() || host == "None" {
        return Vec::new();
    }
    let Some(first) = ports.first() else { return Vec::new() };
    let prefix = variable_name(name);
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), host.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let variable = format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name));
            variables.push((variable, port.port.to_string()));
        }
    }
    for (position, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_ascii_lowercase();
        let address = match host.contains(':') {
            true => format!("[{host}]:{}", port.port),
            false => format!("{host}:{}", port.port),
        };
        let url = format!("{lower}://{address}");
        if position == 0 {
            variables.push((format!("{prefix}_PORT"), url.clone()));
        }
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        variables.push((format!("{link}_PROTO"), lower));
        variables.push((format!("{link}_PORT"), port.port.to_string()));
        variables.push((format!("{link}_ADDR"), host.to_owned()));
        variables.push((link, url));
    }
    variables
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}
