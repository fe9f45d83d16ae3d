//! The words by which pods, Services and slices find each other without looking through all
//! others of their namespace.
//!
//! Pure. A pod's words are its labels; a Service's are one pair of its selector, because whatever it
//! selects carries that pair, and the selector's values alone; a slice's is its Service's name.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::endpointslice::SERVICE_NAME;
use crate::meta;
use crate::selector::Labels;

/// One word for each pair.
pub(crate) fn of_labels(labels: &Labels) -> Vec<String> {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// A pod is found by each of its labels.
pub(crate) fn of_pod(pod: &Pod) -> Vec<String> {
    pod.metadata.labels.as_ref().map(of_labels).unwrap_or_default()
}

/// A Service is found by the first pair of its selector, and by each of its values.
pub(crate) fn of_service(service: &Service) -> Vec<String> {
    let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
        return Vec::new();
    };
    let first = selector.iter().take(1).map(|(key, value)| format!("{key}={value}"));
    first.chain(selector.values().map(|value| of_value(value))).collect()
}

/// The word for a label's value, whatever its key; a key is never empty.
pub(crate) fn of_value(value: &str) -> String {
    format!("={value}")
}

/// A slice is found by its Service.
pub(crate) fn of_slice(slice: &EndpointSlice) -> Vec<String> {
    meta::label(slice, SERVICE_NAME).map(str::to_owned).into_iter().collect()
}
