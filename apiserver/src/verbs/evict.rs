//! `POST pods/x/eviction`: a delete with its options inside an Eviction. There are no disruption
//! budgets yet that could refuse it.

use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::api::Api;
use crate::incoming;
use crate::status::ApiError;
use crate::verbs::{Answer, Body, Call, delete};

/// Evicts the pod.
pub(crate) async fn evict(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let mut value = incoming::value(body, "Eviction")?.value;
    if let Some(fields) = value.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| "policy/v1".into());
        fields.entry("kind").or_insert_with(|| "Eviction".into());
        fields.entry("metadata").or_insert_with(|| serde_json::json!({}));
        // The older version differs in nothing else.
        if fields.get("apiVersion").and_then(|v| v.as_str()) == Some("policy/v1beta1") {
            fields.insert("apiVersion".into(), "policy/v1".into());
        }
    }
    let eviction: Eviction = serde_json::from_value(value).map_err(|e| {
        ApiError::BadRequest(format!(
            "Eviction in version \"v1\" cannot be handled as a Eviction: {e}"
        ))
    })?;
    let options = eviction.delete_options.unwrap_or_default();
    let dry_run = call.dry_run || delete::dry_run(&options)?;
    delete::remove(api, call, call.namespace(), call.name(), &options, dry_run).await?;
    let status = Status { status: Some("Success".into()), code: Some(201), ..Status::default() };
    Ok(Answer::Status { status: Box::new(status), created: true })
}
