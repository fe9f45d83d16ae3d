//! The words by which pods, Services and slices find each other without looking through all
//! others of their namespace.
//!
//! Pure. A pod's words are its labels; a Service's is one pair of its selector, because whatever
//! it selects carries that pair; a slice's is the name of its Service.

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

/// A Service is found by the first pair of its selector.
pub(crate) fn of_service(service: &Service) -> Vec<String> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let first = selector.and_then(|selector| selector.first_key_value());
    first.map(|(key, value)| format!("{key}={value}")).into_iter().collect()
}

/// A slice is found by its Service.
pub(crate) fn of_slice(slice: &EndpointSlice) -> Vec<String> {
    meta::label(slice, SERVICE_NAME).map(str::to_owned).into_iter().collect()
}
