//! What the kinds that own pods by a template share: columns and the `/scale` view.
//!
//! Upstream: `pkg/printers/internalversion/printers.go` (`layoutContainerCells`),
//! `pkg/registry/apps/*/storage` (`scaleFrom*`).

use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::labels::selector_query;

/// The names and the images of a template's containers, each separated by commas.
pub(crate) fn containers_and_images(template: Option<&PodTemplateSpec>) -> (String, String) {
    let containers = template.and_then(|t| t.spec.as_ref()).map(|s| s.containers.as_slice());
    let containers = containers.unwrap_or_default();
    let names: Vec<&str> = containers.iter().map(|c| c.name.as_str()).collect();
    let images: Vec<&str> =
        containers.iter().map(|c| c.image.as_deref().unwrap_or_default()).collect();
    (names.join(","), images.join(","))
}

/// The `/scale` view of an object.
pub(crate) fn scale(
    metadata: &ObjectMeta,
    desired: Option<i32>,
    current: i32,
    selector: &LabelSelector,
) -> Scale {
    Scale {
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            creation_timestamp: metadata.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec { replicas: desired }),
        status: Some(ScaleStatus { replicas: current, selector: Some(selector_query(selector)) }),
    }
}
