//! What `apply` does about one object: create, patch, or nothing.
//!
//! Owns: the last-applied annotation and [`plan`], a pure function of the manifest and the live
//! object. Upstream: `kubectl/pkg/util/apply.go` and `kubectl/pkg/cmd/apply/patcher.go`. The patch
//! itself is computed by crate `wire`: strategic for Kubernetes' own kinds, JSON merge for others.

use serde_json::{Map, Value};
use wire::patch::StrategicError;

use crate::edit_value::{remove, set, text};
use crate::error::Error;
use crate::render::go_escapes;
use crate::session::{MERGE_PATCH, STRATEGIC_PATCH};

/// Where the object as last applied is kept.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The decision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plan {
    Create(Value),
    Unchanged,
    Patch {
        content_type: &'static str,
        patch: Value,
        /// The live object was not made by `apply` or `create --save-config`.
        annotation_missing: bool,
    },
}

/// The object with itself, less this annotation, in the annotation.
pub(crate) fn annotated(object: &Value) -> Value {
    let mut object = object.clone();
    remove(&mut object, &["metadata", "annotations", LAST_APPLIED]);
    let annotations = object.pointer("/metadata/annotations");
    if annotations.is_none_or(Value::is_null) {
        set(&mut object, &["metadata", "annotations"], Map::new());
    }
    let record = go_escapes(&object.to_string()) + "\n";
    set(&mut object, &["metadata", "annotations", LAST_APPLIED], record);
    object
}

/// The object as it was last applied, if that is known.
pub(crate) fn last_applied(live: &Value) -> Option<&str> {
    live.pointer("/metadata/annotations")?.get(LAST_APPLIED)?.as_str()
}

/// Decides what to do so that the live object gets the manifest's fields and loses those that the
/// manifest had before.
pub(crate) fn plan(live: Option<&Value>, manifest: &Value) -> Result<Plan, Error> {
    let modified = annotated(manifest);
    let Some(live) = live else { return Ok(Plan::Create(modified)) };
    let recorded = last_applied(live);
    let original: Value = match recorded {
        None | Some("") => Value::Object(Map::new()),
        Some(record) => serde_json::from_str(record).map_err(|e| {
            Error::refused(format!("the annotation {LAST_APPLIED} of the live object: {e}"))
        })?,
    };
    let (content_type, patch) = three_way(&original, &modified, live)?;
    if patch.as_object().is_none_or(Map::is_empty) {
        return Ok(Plan::Unchanged);
    }
    Ok(Plan::Patch { content_type, patch, annotation_missing: recorded.is_none() })
}

/// Kubernetes' own kinds know how their lists merge; others get a plain merge patch.
fn three_way(
    original: &Value,
    modified: &Value,
    live: &Value,
) -> Result<(&'static str, Value), Error> {
    let (version, kind) = (text(modified, "/apiVersion"), text(modified, "/kind"));
    let refuse = |e: StrategicError| {
        let name = text(modified, "/metadata/name");
        Error::refused(format!("creating patch for {kind} {name:?}: {e}"))
    };
    match wire::patch::three_way_strategic(version, kind, Some(original), modified, live) {
        Ok(patch) => Ok((STRATEGIC_PATCH, patch)),
        // An unknown field is for the server to refuse, in its own words.
        Err(StrategicError::UnknownKind { .. } | StrategicError::UnknownField { .. }) => {
            let patch = wire::patch::three_way_merge(Some(original), modified, live);
            Ok((MERGE_PATCH, patch.map_err(refuse)?))
        }
        Err(e) => Err(refuse(e)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(selector: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
               "spec": {"selector": selector, "ports": [{"port": 80}]}})
    }

    /// What the server stores and defaults.
    fn live(applied: &Value) -> Value {
        let mut live = annotated(applied);
        set(&mut live, &["metadata", "uid"], "u");
        set(&mut live, &["spec", "clusterIP"], "10.96.0.7");
        live["spec"]["ports"] = json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]);
        live
    }

    #[test]
    fn the_annotation_holds_the_object_as_go_writes_it() {
        let object = annotated(&json!({"kind": "A", "metadata": {"name": "<a>"}}));
        assert_eq!(
            last_applied(&object).unwrap(),
            "{\"kind\":\"A\",\"metadata\":{\"annotations\":{},\"name\":\"\\u003ca\\u003e\"}}\n"
        );
        assert_eq!(annotated(&object), object);
    }

    #[test]
    fn a_missing_object_is_created_with_its_annotation() {
        let manifest = service(&json!({"app": "a"}));
        assert_eq!(plan(None, &manifest).unwrap(), Plan::Create(annotated(&manifest)));
    }

    #[test]
    fn a_field_taken_out_of_the_manifest_is_deleted_and_others_stay() {
        let before = service(&json!({"app": "a", "tier": "b"}));
        let after = service(&json!({"app": "c"}));
        let Plan::Patch { patch, annotation_missing, .. } =
            plan(Some(&live(&before)), &after).unwrap()
        else {
            panic!("no patch")
        };
        assert_eq!(patch["spec"]["selector"], json!({"app": "c", "tier": null}));
        assert!(patch["spec"].get("clusterIP").is_none());
        assert!(!annotation_missing);
    }

    #[test]
    fn what_the_server_defaulted_is_no_change() {
        let manifest = service(&json!({"app": "a"}));
        assert_eq!(plan(Some(&live(&manifest)), &manifest).unwrap(), Plan::Unchanged);
    }

    #[test]
    fn kinds_without_strategies_get_a_merge_patch() {
        let before = json!({"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {"name": "a"},
                            "spec": {"a": 1, "b": 2}});
        let mut after = before.clone();
        remove(&mut after, &["spec", "b"]);
        let Plan::Patch { content_type, patch, .. } =
            plan(Some(&annotated(&before)), &after).unwrap()
        else {
            panic!("no patch")
        };
        assert_eq!(content_type, MERGE_PATCH);
        assert_eq!(patch["spec"], json!({"b": null}));
    }

    #[test]
    fn an_object_that_was_not_applied_is_known_by_its_missing_annotation() {
        let manifest = service(&json!({"app": "a"}));
        let mut live = live(&manifest);
        remove(&mut live, &["metadata", "annotations"]);
        let Plan::Patch { annotation_missing, patch, .. } = plan(Some(&live), &manifest).unwrap()
        else {
            panic!("no patch")
        };
        assert!(annotation_missing);
        assert!(last_applied(&patch).is_some());
    }
}
