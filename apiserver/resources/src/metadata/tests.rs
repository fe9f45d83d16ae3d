//! Metadata of new and changed objects.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use super::{validate, validate_update};
use crate::table::{Resource, by_path};

fn row(group: &str, plural: &str) -> &'static Resource {
    by_path(group, "v1", plural).expect("a row of the table")
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("default".to_owned()),
        ..ObjectMeta::default()
    }
}

fn texts(errors: &[crate::field::FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn names_follow_the_rule_of_their_kind() {
    for (plural, name, good) in [
        ("pods", "web-1.example", true),
        ("pods", "Web", false),
        ("services", "1st", true),
        ("services", "a.b", false),
        ("services", "hogehogeService", false),
        ("configmaps", "kube-root-ca.crt", true),
    ] {
        let errors = validate(row("", plural), &named(name));
        assert_eq!(errors.is_empty(), good, "{plural} {name}: {errors:?}");
    }
    let errors = validate(row("", "services"), &named("LB-Service"));
    assert!(
        errors[0].to_string().starts_with(
            "metadata.name: Invalid value: \"LB-Service\": a lowercase RFC 1123 label must consist"
        ),
        "{errors:?}"
    );
}

#[test]
fn a_name_and_a_namespace_are_needed_where_they_belong() {
    let errors = validate(row("", "pods"), &ObjectMeta::default());
    assert_eq!(
        texts(&errors),
        [
            "metadata.name: Required value: name or generateName is required",
            "metadata.namespace: Required value",
        ]
    );
    let errors = validate(row("", "nodes"), &named("node-1"));
    assert_eq!(texts(&errors), ["metadata.namespace: Forbidden: not allowed on this type"]);
}

#[test]
fn a_generate_name_may_end_with_a_dash() {
    let mut metadata = named("web-x7k2p");
    metadata.generate_name = Some("web-".to_owned());
    assert_eq!(validate(row("", "pods"), &metadata), []);
    metadata.generate_name = Some("Web-".to_owned());
    assert_eq!(validate(row("", "pods"), &metadata)[0].path, "metadata.generateName");
}

#[test]
fn annotations_have_a_size_limit() {
    let mut metadata = named("a");
    let large = [("k".to_owned(), "v".repeat(256 * 1024))];
    metadata.annotations = Some(large.into_iter().collect());
    assert_eq!(
        texts(&validate(row("", "pods"), &metadata)),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
    let upper = [("Example.com/Key".to_owned(), String::new())];
    metadata.annotations = Some(upper.into_iter().collect());
    assert_eq!(validate(row("", "pods"), &metadata), [], "their case does not matter");
}

#[test]
fn owners_are_complete_and_one_controls() {
    let owner = |name: &str| OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "ReplicaSet".to_owned(),
        name: name.to_owned(),
        uid: "u".to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let mut metadata = named("a");
    metadata.owner_references = Some(vec![owner("x")]);
    assert_eq!(validate(row("", "pods"), &metadata), []);
    metadata.owner_references = Some(vec![owner("x"), owner("y")]);
    let errors = validate(row("", "pods"), &metadata);
    assert!(errors[0].detail.ends_with("references for ReplicaSet/x and ReplicaSet/y"));
    metadata.owner_references = Some(vec![OwnerReference::default()]);
    assert_eq!(validate(row("", "pods"), &metadata).len(), 4);
}

#[test]
fn identity_cannot_change() {
    let stored = ObjectMeta {
        uid: Some("1".to_owned()),
        resource_version: Some("7".to_owned()),
        creation_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
        generation: Some(2),
        ..named("a")
    };
    assert_eq!(validate_update(&stored, &stored), []);

    let mut changed = stored.clone();
    changed.name = Some("b".to_owned());
    changed.uid = Some("2".to_owned());
    changed.resource_version = None;
    changed.generation = Some(1);
    assert_eq!(
        texts(&validate_update(&changed, &stored)),
        [
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.generation: Invalid value: 1: must not be decremented",
            "metadata.name: Invalid value: \"b\": field is immutable",
            "metadata.uid: Invalid value: \"2\": field is immutable",
        ]
    );
}

#[test]
fn an_object_that_goes_away_takes_no_new_finalizer() {
    let mut stored = named("a");
    stored.resource_version = Some("7".to_owned());
    stored.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    stored.finalizers = Some(vec!["a/b".to_owned()]);
    let mut changed = stored.clone();
    changed.finalizers = Some(vec![]);
    assert_eq!(validate_update(&changed, &stored), []);
    changed.finalizers = Some(vec!["a/b".to_owned(), "c/d".to_owned()]);
    assert_eq!(
        texts(&validate_update(&changed, &stored)),
        ["metadata.finalizers: Forbidden: no new finalizers can be added if the object is being \
          deleted, found new finalizers []string{\"c/d\"}"]
    );
}
