//! The downward API: what a pod may learn about itself, as text. Pure.
//!
//! Upstream: `pkg/fieldpath/fieldpath.go`, `kubelet_pods.go` (`podFieldSelectorRuntimeValue`),
//! `pkg/api/v1/resource/helpers.go` (`ExtractContainerResourceValue`).

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::quantity;

/// What a pod can learn about its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// The node's name.
    pub(crate) name: String,
    /// Its addresses, the cluster's own family first.
    pub(crate) host_ips: Vec<IpAddr>,
    /// Processors that pods may use, in thousandths: the limit of a container without one.
    pub(crate) cpu_milli: i64,
    /// Memory that pods may use, in bytes.
    pub(crate) memory: i64,
}

/// A reference that the downward API does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    /// A path that leads nowhere.
    #[error("unsupported fieldPath: {path}")]
    Path {
        /// The path.
        path: String,
    },
    /// A resource that cannot be asked for.
    #[error("unsupported container resource : {resource}")]
    Resource {
        /// The resource.
        resource: String,
    },
    /// A resource of a container that the pod does not have.
    #[error("container {container} not found")]
    NoContainer {
        /// The container.
        container: String,
    },
}

/// The value of a field of the pod.
///
/// # Errors
/// [`FieldError::Path`] for a field that is not offered.
pub(crate) fn field(pod: &Pod, path: &str, node: &NodeFacts) -> Result<String, FieldError> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        return match map {
            "metadata.labels" => Ok(text(metadata.labels.as_ref().and_then(|m| m.get(key)))),
            "metadata.annotations" => {
                Ok(text(metadata.annotations.as_ref().and_then(|m| m.get(key))))
            }
            _ => Err(FieldError::Path { path: path.to_owned() }),
        };
    }
    Ok(match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => map_text(metadata.labels.as_ref()),
        "metadata.annotations" => map_text(metadata.annotations.as_ref()),
        "spec.nodeName" => node.name.clone(),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => node.host_ips.first().map(IpAddr::to_string).unwrap_or_default(),
        "status.hostIPs" => {
            node.host_ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
        }
        "status.podIP" => text(status.and_then(|s| s.pod_ip.as_ref())),
        "status.podIPs" => {
            let ips = status.and_then(|s| s.pod_ips.as_deref()).unwrap_or_default();
            ips.iter().map(|ip| ip.ip.as_str()).collect::<Vec<_>>().join(",")
        }
        _ => return Err(FieldError::Path { path: path.to_owned() }),
    })
}

/// The value of a container's request or limit in units of the divisor, rounded up.
///
/// # Errors
/// An unknown resource or container.
pub(crate) fn resource(
    pod: &Pod,
    container: Option<&Container>,
    selector: &ResourceFieldSelector,
    node: &NodeFacts,
) -> Result<String, FieldError> {
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => pod
            .spec
            .iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
            .find(|known| known.name == name)
            .ok_or_else(|| FieldError::NoContainer { container: name.to_owned() })?,
        None => container.ok_or_else(|| FieldError::NoContainer { container: String::new() })?,
    };
    let unsupported = || FieldError::Resource { resource: selector.resource.clone() };
    let (side, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let map = match side {
        "limits" => limits,
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unsupported()),
    };
    let known = map.and_then(|map| map.get(name)).and_then(quantity::milli);
    // A container without a limit may use what the node has.
    let fallback = match (side, name) {
        ("limits", "cpu") => i128::from(node.cpu_milli),
        ("limits", "memory") => i128::from(node.memory) * 1000,
        (_, "cpu" | "memory" | "ephemeral-storage") => 0,
        (_, name) if name.starts_with("hugepages-") => 0,
        _ => return Err(unsupported()),
    };
    let divisor = selector.divisor.as_ref().and_then(divisor).unwrap_or(1000);
    let value = known.unwrap_or(fallback);
    Ok((value / divisor + i128::from(value % divisor != 0)).to_string())
}

fn divisor(quantity: &Quantity) -> Option<i128> {
    quantity::milli(quantity).filter(|divisor| *divisor > 0)
}

/// `metadata.labels['app']` as (`metadata.labels`, `app`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as lines of `key="value"`, sorted, as upstream's `FormatMap`.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let mut text = String::new();
    for (key, value) in map.into_iter().flatten() {
        let separator = if text.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{key}={value:?}");
    }
    text
}
