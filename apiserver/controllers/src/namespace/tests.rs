//! What a namespace that goes away says.

use serde_json::json;

use super::*;
use crate::view::{Kind, Object};

fn namespace() -> Namespace {
    serde_json::from_value(json!({
        "metadata": { "name": "shop" },
        "spec": { "finalizers": ["kubernetes", "example.org/other"] },
        "status": { "phase": "Terminating" },
    }))
    .unwrap()
}

fn left() -> Vec<(ResourceId, ObjectMeta)> {
    let held = |finalizers: &[&str]| ObjectMeta {
        finalizers: Some(finalizers.iter().map(|f| (*f).to_owned()).collect()),
        ..ObjectMeta::default()
    };
    vec![
        (k8s_openapi::api::core::v1::Pod::resource(), held(&[])),
        (k8s_openapi::api::core::v1::Pod::resource(), held(&["example.org/a"])),
        (k8s_openapi::api::apps::v1::Deployment::resource(), held(&["example.org/a"])),
    ]
}

#[test]
fn what_is_left_is_counted_by_resource_and_by_finalizer() {
    let now = Timestamp::UNIX_EPOCH;
    let Some(Write::UpdateStatus(Object::Namespace(told))) = report(&namespace(), &left(), now)
    else {
        panic!("there is something to say")
    };
    let conditions = told.status.as_ref().unwrap().conditions.as_ref().unwrap();
    let bad: Vec<(&str, &str)> = conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .map(|condition| (condition.type_.as_str(), condition.message.as_deref().unwrap()))
        .collect();
    assert_eq!(
        bad,
        [
            (
                "NamespaceContentRemaining",
                "Some resources are remaining: deployments.apps has 1 resource instances, \
             pods. has 2 resource instances",
            ),
            (
                "NamespaceFinalizersRemaining",
                "Some content in the namespace has finalizers remaining: \
             example.org/a in 2 resource instances",
            ),
        ]
    );
    assert_eq!(report(&told, &left(), now), None, "said once");
}

#[test]
fn only_our_finalizer_is_taken_away() {
    assert!(has_finalizer(&namespace()));
    let done = finalized(&namespace());
    assert!(!has_finalizer(&done));
    assert_eq!(done.spec.unwrap().finalizers.unwrap(), ["example.org/other"]);
}
