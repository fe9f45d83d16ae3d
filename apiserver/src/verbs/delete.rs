//! Deleting: at once, after a grace period, or when the last finalizer goes (upstream: apiserver
//! `pkg/registry/rest/delete.go` `BeforeDelete`, `pkg/registry/generic/registry/store.go` `Delete`).
//!
//! The decision is the pure [`decide`]; the rest of the file carries it out.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Time};
use resources::object::Object;
use resources::table::Resource;
use store::{Check, CommitError, Txn};

use crate::admit;
use crate::api::Api;
use crate::http::query::check_dry_run;
use crate::incoming;
use crate::key;
use crate::status::{self, ApiError};
use crate::stored::{Current, Encoded};
use crate::verbs::create::now;
use crate::verbs::{Answer, Body, Call, update};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const ATTEMPTS: usize = 64;

/// What becomes of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is marked and stays until its grace period or finalizers are over.
    Mark,
    /// It goes now.
    Remove,
    /// It is on its way already, and nothing about that changes.
    Keep,
}

/// Deletes the object that the path names.
pub(crate) async fn delete(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let options = options(call, body)?;
    let dry_run = call.dry_run || dry_run(&options)?;
    let deleted = remove(api, call, call.namespace(), call.name(), &options, dry_run).await?;
    Ok(deleted.answer(call.resource(), call.name()))
}

/// An object after its deletion was asked for.
pub(crate) struct Deleted {
    pub(crate) json: Bytes,
    uid: Option<String>,
    removed: bool,
}

impl Deleted {
    /// Upstream answers with a Status, but with the object where it still exists and for kinds
    /// whose clients look at it (`ReturnDeletedObject`).
    fn answer(self, resource: &Resource, name: &str) -> Answer {
        let returned = resource.group.is_empty()
            && matches!(resource.plural, "pods" | "services" | "serviceaccounts");
        if self.removed && !returned {
            Answer::status(status::success(resource, name, self.uid.as_deref()))
        } else {
            Answer::object(self.json)
        }
    }
}

/// Options of the body; a body that is empty leaves those of the query.
pub(crate) fn options(call: &Call, body: &Body) -> Result<DeleteOptions, ApiError> {
    if body.bytes.is_empty() {
        return call.query.delete_options();
    }
    let value = incoming::value(body, "DeleteOptions")?.value;
    let options: DeleteOptions = serde_json::from_value(value).map_err(|e| {
        ApiError::BadRequest(format!(
            "DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: {e}"
        ))
    })?;
    if options.orphan_dependents.is_some() && options.propagation_policy.is_some() {
        return Err(ApiError::BadRequest(
            "orphanDependents and deletionPropagation cannot be both set".into(),
        ));
    }
    Ok(options)
}

/// Whether the options ask for a dry run.
pub(crate) fn dry_run(options: &DeleteOptions) -> Result<bool, ApiError> {
    let asked: Vec<&str> = options.dry_run.iter().flatten().map(String::as_str).collect();
    check_dry_run("DeleteOptions", &asked)
}

/// Deletes one object.
pub(crate) async fn remove(
    api: &Api,
    call: &Call,
    namespace: Option<&str>,
    name: &str,
    options: &DeleteOptions,
    dry_run: bool,
) -> Result<Deleted, ApiError> {
    let resource = call.resource();
    let key = key::object(resource, namespace, name);
    for _ in 0..ATTEMPTS {
        let snapshot = api.store.snapshot();
        let entry = snapshot.get(&key).ok_or_else(|| ApiError::not_found(resource, name))?;
        let current = Current::read(resource, entry)?;
        admit::may_delete(resource, &snapshot, name, current.object.as_ref())?;
        check_preconditions(resource, name, &current, options)?;
        let mut object = current.object.clone_boxed();
        let decision = decide(resource, object.as_mut(), options, now());
        let uid = object.metadata().uid.clone();
        let removed = decision == Decision::Remove;
        if dry_run || decision == Decision::Keep {
            return Ok(Deleted { json: current.json, uid, removed });
        }
        let encoded = Encoded::of(resource, object.as_mut())?;
        let mut checks = vec![Check::Unchanged(key.clone(), current.revision)];
        let ops = match decision {
            Decision::Remove => {
                let freed = admit::delete(api, &snapshot, object.as_ref())?;
                checks.extend(freed.checks);
                let mut ops = vec![encoded.delete(key.clone())];
                ops.extend(freed.ops);
                ops
            }
            Decision::Mark | Decision::Keep => vec![encoded.put(key.clone())],
        };
        match api.store.commit(Txn { checks, ops }).await {
            Ok(revision) => {
                let json = crate::stored::json(resource, &encoded.at(revision))?;
                return Ok(Deleted { json, uid, removed });
            }
            Err(CommitError::Failed { .. }) => {}
            Err(error) => return Err(ApiError::of_commit(&error)),
        }
    }
    Err(ApiError::modified(resource, name))
}

fn check_preconditions(
    resource: &'static Resource,
    name: &str,
    current: &Current,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    let uid = current.metadata().uid.as_deref().unwrap_or_default();
    if let Some(wanted) = wanted.uid.as_deref().filter(|w| *w != uid) {
        return Err(ApiError::conflict(
            resource,
            name,
            format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
            ),
        ));
    }
    let version = current.revision.0.to_string();
    if let Some(wanted) = wanted.resource_version.as_deref().filter(|w| *w != version) {
        return Err(ApiError::conflict(
            resource,
            name,
            format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
            ),
        ));
    }
    Ok(())
}

/// Marks `object` as the deletion wants it, and tells what to do with it.
pub(crate) fn decide(
    resource: &Resource,
    object: &mut dyn Object,
    options: &DeleteOptions,
    now: Timestamp,
) -> Decision {
    let before = object.metadata().clone();
    let grace = resource.strategy.grace_period(object, options.grace_period_seconds).max(0);
    let metadata = object.metadata_mut();
    metadata.finalizers = finalizers(metadata, options);
    if let Some(since) = &before.deletion_timestamp {
        shorten(metadata, since.0, options);
    } else {
        metadata.deletion_timestamp = Some(Time(later(now, grace)));
        metadata.deletion_grace_period_seconds = Some(grace);
        // Deleting is a change that controllers of the object should see as one.
        metadata.generation = metadata.generation.filter(|g| *g > 0).map(|g| g + 1);
    }
    if let Some(namespace) = object.as_any_mut().downcast_mut::<Namespace>() {
        namespace.status.get_or_insert_default().phase = Some("Terminating".into());
    }
    if update::finished(object) {
        Decision::Remove
    } else if *object.metadata() == before {
        Decision::Keep
    } else {
        Decision::Mark
    }
}

/// An object on its way can only be hurried.
fn shorten(metadata: &mut ObjectMeta, until: Timestamp, options: &DeleteOptions) {
    let Some(current) = metadata.deletion_grace_period_seconds else { return };
    let Some(wanted) = options.grace_period_seconds.map(|g| g.max(0)) else { return };
    if wanted < current {
        metadata.deletion_timestamp = Some(Time(later(until, wanted - current)));
        metadata.deletion_grace_period_seconds = Some(wanted);
    }
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(time)
}

/// The finalizers for the garbage collector that the options ask for (upstream:
/// `deletionFinalizersForGarbageCollection`).
fn finalizers(metadata: &ObjectMeta, options: &DeleteOptions) -> Option<Vec<String>> {
    let present = metadata.finalizers.clone().unwrap_or_default();
    let has = |name: &str| present.iter().any(|f| f == name);
    let (orphan, foreground) =
        match (options.propagation_policy.as_deref(), options.orphan_dependents) {
            (Some("Orphan"), _) | (None, Some(true)) => (true, false),
            (Some("Foreground"), _) => (false, true),
            (Some(_), _) | (None, Some(false)) => (false, false),
            (None, None) => (has(ORPHAN), has(FOREGROUND)),
        };
    let mut wanted: Vec<String> =
        present.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
    if orphan {
        wanted.push(ORPHAN.into());
    }
    if foreground {
        wanted.push(FOREGROUND.into());
    }
    (!wanted.is_empty()).then_some(wanted)
}

#[cfg(test)]
mod tests;
