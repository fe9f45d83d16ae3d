//! `POST pods/x/binding`: the scheduler gives a pod its node (upstream:
//! `pkg/registry/core/pod/storage/storage.go` `BindingREST`).

use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, Time};

use crate::api::Api;
use crate::incoming;
use crate::status::{ApiError, ResourceName};
use crate::verbs::create::now;
use crate::verbs::update::{self, Part};
use crate::verbs::{Answer, Body, Call};

const BINDINGS: ResourceName = ResourceName { group: "", plural: "pods/binding", kind: "Pod" };

/// Binds the pod to the node that the body names.
pub(crate) async fn bind(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let binding = read(body)?;
    update::change(api, call, Part::Internal, |current| {
        let mut object = current.object.clone_boxed();
        if let Some(uid) = &binding.metadata.uid {
            object.metadata_mut().uid = Some(uid.clone());
        }
        if let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() {
            assign(pod, call.name(), &binding)?;
        }
        Ok(object)
    })
    .await?;
    let status = Status { status: Some("Success".into()), code: Some(201), ..Status::default() };
    Ok(Answer::Status { status: Box::new(status), created: true })
}

fn read(body: &Body) -> Result<Binding, ApiError> {
    let mut value = incoming::value(body, "Binding")?.value;
    if let Some(fields) = value.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| "v1".into());
        fields.entry("kind").or_insert_with(|| "Binding".into());
        fields.entry("metadata").or_insert_with(|| serde_json::json!({}));
    }
    let binding: Binding = serde_json::from_value(value).map_err(|e| {
        ApiError::BadRequest(format!(
            "Binding in version \"v1\" cannot be handled as a Binding: {e}"
        ))
    })?;
    match binding.target.name.as_deref() {
        None | Some("") => Err(ApiError::BadRequest("target.name: Required value".into())),
        Some(_) => Ok(binding),
    }
}

/// Upstream: `setPodNodeAndMetadata`.
fn assign(pod: &mut Pod, name: &str, binding: &Binding) -> Result<(), ApiError> {
    let refuse = |reason: String| {
        Err(ApiError::Conflict { resource: BINDINGS, name: name.to_owned(), reason })
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    spec.node_name.clone_from(&binding.target.name);
    if let Some(annotations) = &binding.metadata.annotations {
        pod.metadata.annotations.get_or_insert_default().extend(annotations.clone());
    }
    let status = pod.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".into(),
        status: "True".into(),
        last_transition_time: Some(Time(now())),
        ..PodCondition::default()
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn binding(node: &str) -> Binding {
        let target = ObjectReference { name: Some(node.into()), ..ObjectReference::default() };
        Binding { target, ..Binding::default() }
    }

    #[test]
    fn a_pod_gets_its_node_once() {
        let mut pod = Pod::default();
        assign(&mut pod, "a", &binding("node-1")).unwrap();
        assert_eq!(pod.spec.as_ref().unwrap().node_name.as_deref(), Some("node-1"));
        let conditions = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
        assert_eq!(
            (conditions[0].type_.as_str(), conditions[0].status.as_str()),
            ("PodScheduled", "True")
        );
        let again = assign(&mut pod, "a", &binding("node-2")).unwrap_err();
        assert_eq!(
            again.to_string(),
            r#"Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "node-1""#
        );
    }

    #[test]
    fn a_pod_on_its_way_gets_none() {
        let mut pod = Pod::default();
        pod.metadata.deletion_timestamp = Some(Time(now()));
        let refused = assign(&mut pod, "a", &binding("node-1")).unwrap_err().to_string();
        assert!(refused.ends_with("pod a is being deleted, cannot be assigned to a host"));
    }
}
