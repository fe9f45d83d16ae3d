//! Creating an object: name it, default it, admit it, check it, commit it (upstream: apiserver
//! `pkg/registry/generic/registry/store.go` `Create`, `pkg/registry/rest/create.go`).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use rand::RngExt as _;
use resources::object::Object;
use resources::table::Resource;
use store::{Check, CommitError, Snapshot, Txn};

use crate::admit;
use crate::api::Api;
use crate::authz;
use crate::incoming::{self, Incoming};
use crate::key;
use crate::status::ApiError;
use crate::stored::Encoded;
use crate::verbs::{Answer, Body, Call};

/// How often a generated name or a random address is drawn again when somebody was faster
/// (upstream: `maxNameGenerationCreateAttempts`).
const ATTEMPTS: usize = 8;

/// Creates the object in the body.
pub(crate) async fn create(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let incoming = incoming::object(call.resource(), body, call.query.field_validation()?)?;
    let (json, warnings) = create_object(api, call, incoming).await?;
    Ok(Answer::Object { json, created: true, warnings })
}

async fn create_object(
    api: &Api,
    call: &Call,
    incoming: Incoming,
) -> Result<(bytes::Bytes, Vec<String>), ApiError> {
    let resource = call.resource();
    let Incoming { object, mut warnings } = incoming;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let snapshot = api.store.snapshot();
        let mut object = object.clone_boxed();
        let generated = prepare(call, object.as_mut())?;
        let name = object.metadata().name.clone().unwrap_or_default();
        authz::decide_creation(&call.user, resource, &name)?;
        let key = key::object(resource, call.namespace(), &name);
        if snapshot.get(&key).is_some() {
            if generated && attempts < ATTEMPTS {
                continue;
            }
            return Err(ApiError::AlreadyExists { resource: resource.into(), name });
        }
        let txn = plan(api, call, &snapshot, object.as_mut())?;
        let advice = resource.strategy.warnings(object.as_ref());
        let encoded = Encoded::of(resource, object.as_mut())?;
        if call.dry_run {
            warnings.extend(advice);
            return Ok((object.to_json().into(), warnings));
        }
        let mut checks = vec![Check::Absent(key.clone())];
        checks.extend(txn.checks);
        let mut ops = vec![encoded.put(key)];
        ops.extend(txn.ops);
        match api.store.commit(Txn { checks, ops }).await {
            Ok(revision) => {
                warnings.extend(advice);
                let json = crate::stored::json(resource, &encoded.at(revision))?;
                return Ok((json, warnings));
            }
            // The name is taken.
            Err(CommitError::Failed { index: 0, .. }) if !generated || attempts >= ATTEMPTS => {
                return Err(ApiError::AlreadyExists { resource: resource.into(), name });
            }
            // A generated name or a drawn address was taken in between, or the namespace went.
            Err(CommitError::Failed { .. }) if attempts < ATTEMPTS * 8 => {}
            Err(error) => return Err(ApiError::of_commit(&error)),
        }
    }
}

/// Namespace, name and identity. `true` if the name was generated.
fn prepare(call: &Call, object: &mut dyn Object) -> Result<bool, ApiError> {
    let resource = call.resource();
    settle_namespace(resource, call.namespace(), object.metadata_mut())?;
    let metadata = object.metadata_mut();
    if metadata.resource_version.as_ref().is_some_and(|v| !v.is_empty()) {
        return Err(ApiError::BadRequest(
            "resourceVersion should not be set on objects to be created".into(),
        ));
    }
    let generate = metadata.generate_name.clone().unwrap_or_default();
    let unnamed = metadata.name.as_deref().is_none_or(str::is_empty);
    let generated = unnamed && !generate.is_empty();
    if generated {
        metadata.name = Some(generated_name(&generate));
    }
    metadata.resource_version = None;
    metadata.deletion_timestamp = None;
    metadata.deletion_grace_period_seconds = None;
    metadata.self_link = None;
    metadata.managed_fields = None;
    metadata.uid = Some(uuid::Uuid::new_v4().to_string());
    metadata.creation_timestamp = Some(Time(now()));
    Ok(generated)
}

/// Defaults, admission, validation; what else the transaction must check and write.
fn plan(
    api: &Api,
    call: &Call,
    snapshot: &Snapshot,
    object: &mut dyn Object,
) -> Result<Txn, ApiError> {
    let resource = call.resource();
    let strategy = resource.strategy;
    strategy.default(object);
    strategy.prepare_create(object);
    let name = object.metadata().name.clone().unwrap_or_default();
    let mut txn = admit::namespace(snapshot, resource, call.namespace(), &name)?;
    let allocated = admit::create(api, snapshot, &call.user, object)?;
    let mut errors = resources::metadata::validate(resource, object.metadata());
    errors.extend(strategy.validate(object));
    errors.extend(strategy.validate_create(object));
    if !errors.is_empty() {
        return Err(ApiError::invalid(resource, &name, errors));
    }
    txn.checks.extend(allocated.checks);
    txn.ops.extend(allocated.ops);
    Ok(txn)
}

/// The namespace of the path goes into the object; another one in the object is refused.
pub(crate) fn settle_namespace(
    resource: &Resource,
    namespace: Option<&str>,
    metadata: &mut ObjectMeta,
) -> Result<(), ApiError> {
    let given = metadata.namespace.as_deref().unwrap_or_default();
    if !resource.namespaced {
        metadata.namespace = None;
        return Ok(());
    }
    let expected = namespace.unwrap_or_default();
    if !given.is_empty() && given != expected {
        return Err(ApiError::BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
                .into(),
        ));
    }
    metadata.namespace = Some(expected.to_owned());
    Ok(())
}

/// Seconds are the resolution of Kubernetes' timestamps.
pub(crate) fn now() -> Timestamp {
    let seconds = Timestamp::now().as_second();
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `base` and five random characters (upstream: apiserver `pkg/storage/names/generate.go`).
fn generated_name(base: &str) -> String {
    // No vowels and no digits that look like letters: no words by accident.
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const RANDOM: usize = 5;
    const LONGEST: usize = 63;
    let mut name: String = base.chars().take(LONGEST - RANDOM).collect();
    let mut random = rand::rng();
    name.extend((0..RANDOM).map(|_| ALPHABET[random.random_range(0..ALPHABET.len())] as char));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use resources::table;

    #[test]
    fn generated_names_keep_their_base_and_stay_short() {
        let name = generated_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-"), "{name}");
        assert_eq!(generated_name(&"x".repeat(100)).len(), 63);
        assert_ne!(generated_name("a-"), generated_name("a-"));
    }

    #[test]
    fn the_namespace_of_path_and_object_must_agree() {
        let pods = table::by_path("", "v1", "pods").unwrap();
        let nodes = table::by_path("", "v1", "nodes").unwrap();
        let with = |namespace: &str| ObjectMeta {
            namespace: Some(namespace.into()),
            ..ObjectMeta::default()
        };
        let mut metadata = with("");
        settle_namespace(pods, Some("default"), &mut metadata).unwrap();
        assert_eq!(metadata.namespace.as_deref(), Some("default"));
        let refused = settle_namespace(pods, Some("default"), &mut with("other")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the namespace of the provided object does not match the namespace sent on the request"
        );
        let mut metadata = with("other");
        settle_namespace(nodes, None, &mut metadata).unwrap();
        assert_eq!(metadata.namespace, None);
    }
}
