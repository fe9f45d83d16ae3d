//! The `/scale` view of Deployments and ReplicaSets: read it, replace it, patch it.

use bytes::Bytes;
use k8s_openapi::api::autoscaling::v1::Scale;
use resources::field::{ErrorKind, FieldError};
use resources::object::Object;
use resources::table::Resource;

use crate::api::Api;
use crate::incoming;
use crate::status::{ApiError, ResourceName};
use crate::stored::Current;
use crate::verbs::patch::Patch;
use crate::verbs::update::{self, Part};
use crate::verbs::{Answer, Body, Call};

const SCALES: ResourceName = ResourceName { group: "autoscaling", plural: "scales", kind: "Scale" };

/// The scale of the object.
pub(crate) fn get(api: &Api, call: &Call) -> Result<Answer, ApiError> {
    let snapshot = api.store.snapshot();
    let entry = snapshot
        .get(&call.key())
        .ok_or_else(|| ApiError::not_found(call.resource(), call.name()))?;
    let current = Current::read(call.resource(), entry)?;
    Ok(Answer::Json(encode(&view(call.resource(), current.object.as_ref())?)?))
}

/// Replaces the scale: only `spec.replicas` counts.
pub(crate) async fn replace(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let scale: Scale = read(incoming::value(body, "Scale")?.value)?;
    write(api, call, |_| Ok(scale.clone())).await
}

/// Patches the scale.
pub(crate) async fn patch(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let patch = Patch::read(body)?;
    write(api, call, |current| {
        let scale = serde_json::to_value(current)
            .map_err(|e| ApiError::Internal(format!("encode a scale: {e}")))?;
        read(patch.apply("autoscaling/v1", "Scale", &scale)?)
    })
    .await
}

async fn write(
    api: &Api,
    call: &Call,
    wanted: impl Fn(&Scale) -> Result<Scale, ApiError>,
) -> Result<Answer, ApiError> {
    let resource = call.resource();
    let changed = update::change(api, call, Part::Main, |current| {
        let scale = wanted(&view(resource, current.object.as_ref())?)?;
        edit(call, current, &scale)
    })
    .await?;
    let object = resource
        .strategy
        .decode(&changed.json)
        .map_err(|e| ApiError::Internal(format!("a stored object is malformed: {e}")))?;
    Ok(Answer::Json(encode(&view(resource, object.as_ref())?)?))
}

/// The current object with the replicas and the version that the scale carries.
fn edit(call: &Call, current: &Current, scale: &Scale) -> Result<Box<dyn Object>, ApiError> {
    let replicas = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
    if replicas < 0 {
        let error = FieldError {
            path: "spec.replicas".into(),
            kind: ErrorKind::Invalid(replicas.to_string()),
            detail: "must be greater than or equal to 0".into(),
        };
        let name = call.name().to_owned();
        return Err(ApiError::Invalid { resource: SCALES, name, errors: vec![error] });
    }
    let mut object = current.object.clone_boxed();
    let metadata = object.metadata_mut();
    metadata.resource_version.clone_from(&scale.metadata.resource_version);
    if scale.metadata.uid.as_ref().is_some_and(|u| !u.is_empty()) {
        metadata.uid.clone_from(&scale.metadata.uid);
    }
    call.resource().strategy.set_replicas(object.as_mut(), replicas);
    Ok(object)
}

fn view(resource: &Resource, object: &dyn Object) -> Result<Scale, ApiError> {
    resource.strategy.scale(object).ok_or(ApiError::UnknownPath)
}

fn read(value: serde_json::Value) -> Result<Scale, ApiError> {
    let mut value = value;
    if let Some(fields) = value.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| "autoscaling/v1".into());
        fields.entry("kind").or_insert_with(|| "Scale".into());
        fields.entry("metadata").or_insert_with(|| serde_json::json!({}));
    }
    serde_json::from_value(value).map_err(|e| {
        ApiError::BadRequest(format!("Scale in version \"v1\" cannot be handled as a Scale: {e}"))
    })
}

fn encode(scale: &Scale) -> Result<Bytes, ApiError> {
    serde_json::to_vec(scale)
        .map(Bytes::from)
        .map_err(|e| ApiError::Internal(format!("encode a scale: {e}")))
}
