//! Changing an object: read, change, check, compare-and-swap, and again if somebody was faster
//! (upstream: `GuaranteedUpdate`, `pkg/registry/rest/update.go`).
//!
//! Every write to an existing object goes through [`change`]: replace, patch, status, scale,
//! finalize, binding. Invariants: identity (name, uid, creation) never changes; a write that
//! changes nothing is no write; an object that is being deleted goes with its last finalizer.

use bytes::Bytes;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use resources::object::Object;
use resources::table::{Resource, Subresource};
use store::{Check, CommitError, Snapshot, Txn};

use crate::admit;
use crate::api::Api;
use crate::incoming;
use crate::status::ApiError;
use crate::stored::{Current, Encoded};
use crate::verbs::create::settle_namespace;
use crate::verbs::{Answer, Body, Call};

/// Lost races after which a client is told to try again itself.
const ATTEMPTS: usize = 64;

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status.
    Status,
    /// What the server itself changes (finalizers of a namespace, the node of a pod): the
    /// strategy's rules for clients do not apply.
    Internal,
}

impl Part {
    /// The part that a path writes.
    pub(crate) fn of(subresource: Option<Subresource>) -> Self {
        match subresource {
            Some(Subresource::Status) => Self::Status,
            _ => Self::Main,
        }
    }
}

/// What a change comes to.
pub(crate) struct Changed {
    pub(crate) json: Bytes,
    pub(crate) warnings: Vec<String>,
}

/// Replaces the object, or its status, by the one in the body.
pub(crate) async fn replace(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let resource = call.resource();
    let incoming = incoming::object(resource, body, call.query.field_validation()?)?;
    check_name(call, incoming.object.metadata())?;
    let part = Part::of(call.target.subresource);
    let changed = change(api, call, part, |_| Ok(incoming.object.clone_boxed())).await?;
    let mut warnings = incoming.warnings;
    warnings.extend(changed.warnings);
    Ok(Answer::Object { json: changed.json, created: false, warnings })
}

/// `PUT namespaces/x/finalize`: takes `spec.finalizers` from the body.
pub(crate) async fn finalize(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let incoming = incoming::object(call.resource(), body, call.query.field_validation()?)?;
    check_name(call, incoming.object.metadata())?;
    let given = incoming.object;
    let changed = change(api, call, Part::Internal, |current| {
        let mut object = current.object.clone_boxed();
        object.metadata_mut().resource_version.clone_from(&given.metadata().resource_version);
        let finalizers = given.as_any().downcast_ref::<Namespace>().and_then(|n| n.spec.clone());
        if let Some(namespace) = object.as_any_mut().downcast_mut::<Namespace>() {
            namespace.spec = finalizers;
        }
        Ok(object)
    })
    .await?;
    Ok(Answer::object(changed.json))
}

fn check_name(call: &Call, metadata: &ObjectMeta) -> Result<(), ApiError> {
    let (given, expected) = (metadata.name.as_deref().unwrap_or_default(), call.name());
    if given.is_empty() || given == expected {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!(
        "the name of the object ({given}) does not match the name on the URL ({expected})"
    )))
}

/// Changes the object that a call names. `edit` makes the wanted object out of the current one and
/// may be called several times.
///
/// # Errors
/// What `edit` refuses; 404; 409 when the wanted object carries another version or uid than the
/// current one; 422 when it is not valid.
pub(crate) async fn change(
    api: &Api,
    call: &Call,
    part: Part,
    mut edit: impl FnMut(&Current) -> Result<Box<dyn Object>, ApiError>,
) -> Result<Changed, ApiError> {
    let resource = call.resource();
    let key = call.key();
    for _ in 0..ATTEMPTS {
        let snapshot = api.store.snapshot();
        let entry = snapshot.get(&key).ok_or_else(|| ApiError::not_found(resource, call.name()))?;
        let current = Current::read(resource, entry)?;
        let mut new = edit(&current)?;
        let txn = plan(api, call, &snapshot, part, &current, new.as_mut())?;
        let warnings = match part {
            Part::Main => resource.strategy.warnings(new.as_ref()),
            Part::Status | Part::Internal => Vec::new(),
        };
        let encoded = Encoded::of(resource, new.as_mut())?;
        let gone = finished(new.as_ref());
        let unchanged = encoded.at(current.revision) == entry.value;
        if call.dry_run || (unchanged && !gone) {
            let json = crate::stored::json(resource, &encoded.at(current.revision))?;
            return Ok(Changed { json, warnings });
        }
        let mut checks = vec![Check::Unchanged(key.clone(), current.revision)];
        checks.extend(txn.checks);
        let mut ops = txn.ops;
        if gone {
            ops.push(encoded.delete(key.clone()));
            let freed = admit::delete(api, &snapshot, new.as_ref())?;
            checks.extend(freed.checks);
            ops.extend(freed.ops);
        } else {
            ops.push(encoded.put(key.clone()));
        }
        match api.store.commit(Txn { checks, ops }).await {
            Ok(revision) => {
                let json = crate::stored::json(resource, &encoded.at(revision))?;
                return Ok(Changed { json, warnings });
            }
            Err(CommitError::Failed { .. }) => {}
            Err(error) => return Err(ApiError::of_commit(&error)),
        }
    }
    Err(ApiError::modified(resource, call.name()))
}

fn plan(
    api: &Api,
    call: &Call,
    snapshot: &Snapshot,
    part: Part,
    current: &Current,
    new: &mut dyn Object,
) -> Result<Txn, ApiError> {
    let resource = call.resource();
    let strategy = resource.strategy;
    let old = current.object.as_ref();
    check_preconditions(resource, call.name(), current, new.metadata())?;
    settle_namespace(resource, call.namespace(), new.metadata_mut())?;
    keep_identity(new.metadata_mut(), old.metadata());
    let txn = match part {
        Part::Main => {
            strategy.default(new);
            strategy.prepare_update(new, old);
            admit::update(api, snapshot, &call.user, new, old)?
        }
        Part::Status => {
            strategy.prepare_status_update(new, old);
            admit::status(api, snapshot, &call.user, new, old)?;
            Txn::default()
        }
        Part::Internal => return Ok(Txn::default()),
    };
    let mut errors = resources::metadata::validate(resource, new.metadata());
    errors.extend(resources::metadata::validate_update(new.metadata(), old.metadata()));
    if part == Part::Main {
        errors.extend(strategy.validate(new));
        errors.extend(strategy.validate_update(new, old));
    } else {
        errors.extend(strategy.validate_status_update(new, old));
    }
    if errors.is_empty() { Ok(txn) } else { Err(ApiError::invalid(resource, call.name(), errors)) }
}

/// The version and the uid that the wanted object carries must be the current ones.
fn check_preconditions(
    resource: &'static Resource,
    name: &str,
    current: &Current,
    wanted: &ObjectMeta,
) -> Result<(), ApiError> {
    let uid = current.metadata().uid.as_deref().unwrap_or_default();
    if let Some(wanted) = wanted.uid.as_deref().filter(|w| !w.is_empty() && *w != uid) {
        return Err(ApiError::conflict(
            resource,
            name,
            format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
            ),
        ));
    }
    let version = wanted.resource_version.as_deref().unwrap_or_default();
    if version.is_empty() || version == current.revision.0.to_string() {
        Ok(())
    } else {
        Err(ApiError::modified(resource, name))
    }
}

fn keep_identity(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.name.clone_from(&old.name);
    new.uid.clone_from(&old.uid);
    new.generate_name.clone_from(&old.generate_name);
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.self_link = None;
    new.managed_fields = None;
    // An update without a version is unconditional; what is stored is the current one's successor.
    new.resource_version.clone_from(&old.resource_version);
}

/// Whether an object that is being deleted has nothing left to wait for (upstream:
/// `ShouldDeleteDuringUpdate`, and for namespaces `ShouldDeleteNamespaceDuringUpdate`).
pub(crate) fn finished(object: &dyn Object) -> bool {
    let metadata = object.metadata();
    let waits_in_spec = object
        .as_any()
        .downcast_ref::<Namespace>()
        .and_then(|n| n.spec.as_ref()?.finalizers.as_ref())
        .is_some_and(|f| !f.is_empty());
    metadata.deletion_timestamp.is_some()
        && metadata.deletion_grace_period_seconds.unwrap_or(0) == 0
        && metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
        && !waits_in_spec
}
