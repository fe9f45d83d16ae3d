//! Deleting everything that selectors select. Each object goes in a transaction of its own, as
//! upstream does it; what somebody else deleted meanwhile counts as deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;

use crate::api::Api;
use crate::http::query::ListOptions;
use crate::key;
use crate::selection::Selection;
use crate::status::ApiError;
use crate::stored;
use crate::verbs::{Answer, Body, Call, delete};

/// Deletes a collection and answers with what was in it.
pub(crate) async fn delete(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let resource = call.resource();
    let options = delete::options(call, body)?;
    let dry_run = call.dry_run || delete::dry_run(&options)?;
    let selection = Selection::parse(resource, &ListOptions::parse(&call.query, false)?)?;
    let prefix = key::prefix(resource, call.namespace());
    let snapshot = api.store.snapshot();
    let mut items = Vec::new();
    for (key, entry) in snapshot.range(&prefix) {
        let json = stored::json(resource, &entry.value)?;
        if !selection.wants(resource, key, &json) {
            continue;
        }
        let (namespace, name) = key::names(resource, key);
        let namespace = resource.namespaced.then_some(namespace);
        match delete::remove(api, call, namespace, name, &options, dry_run).await {
            Ok(deleted) => items.push(deleted.json),
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let revision = api.store.snapshot().revision();
    let metadata =
        ListMeta { resource_version: Some(revision.0.to_string()), ..ListMeta::default() };
    Ok(Answer::List { items, metadata })
}
