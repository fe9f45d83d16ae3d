//! Namespaces: the `kubernetes` finalizer that the namespace controller works off, and the phase.
//!
//! Upstream: `pkg/registry/core/namespace/strategy.go`.
//! Deliberately not here: emptying a namespace (namespace controller), refusing creates in a
//! terminating one (HTTP pipeline).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use crate::columns::{self, Cell, Column};
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::strategy::Strategy;

/// The finalizer of `spec.finalizers` that keeps a namespace until it is empty.
pub const KUBERNETES_FINALIZER: &str = "kubernetes";

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Status"), Column::AGE];

/// The behaviour of namespaces.
pub(crate) struct Namespaces;

impl Strategy for Namespaces {
    type Object = Namespace;

    fn default(&self, namespace: &mut Namespace) {
        label_with_name(namespace);
    }

    fn prepare_create(&self, namespace: &mut Namespace) {
        // Once more, for a name that was generated meanwhile.
        label_with_name(namespace);
        namespace.status =
            Some(NamespaceStatus { phase: Some("Active".to_owned()), conditions: None });
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == KUBERNETES_FINALIZER) {
            finalizers.push(KUBERNETES_FINALIZER.to_owned());
        }
    }

    fn prepare_update(&self, new: &mut Namespace, old: &Namespace) {
        // Finalizers change through /finalize only.
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, namespace: &Namespace) -> FieldErrors {
        let finalizers = namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten());
        finalizers.flat_map(|name| validate_finalizer(name)).collect()
    }

    fn validate_status_update(&self, new: &Namespace, _old: &Namespace) -> FieldErrors {
        let leaving = new.metadata.deletion_timestamp.is_some();
        let (expected, relation) =
            if leaving { ("Terminating", "is not empty") } else { ("Active", "is empty") };
        if phase(new) == expected {
            return Vec::new();
        }
        let detail = format!("may only be '{expected}' if `deletionTimestamp` {relation}");
        vec![Path::new("status").child("Phase").invalid(phase(new), detail)]
    }

    fn fields(&self, namespace: &Namespace) -> Vec<(&'static str, String)> {
        vec![("status.phase", phase(namespace).to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, namespace: &Namespace, now: Timestamp) -> Vec<Cell> {
        let metadata = &namespace.metadata;
        vec![columns::name(metadata), phase(namespace).into(), columns::age(metadata, now)]
    }
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// The label lets a selector name a namespace; upstream keeps it on every write.
fn label_with_name(namespace: &mut Namespace) {
    if let Some(name) = namespace.metadata.name.clone().filter(|n| !n.is_empty()) {
        let labels = namespace.metadata.labels.get_or_insert_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    }
}

fn validate_finalizer(name: &str) -> FieldErrors {
    let path = Path::new("spec").child("finalizers");
    let mut errors = path.invalid_for_each(name, names::qualified_name(name));
    if !name.contains('/') && !["kubernetes", "foregroundDeletion", "orphan"].contains(&name) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(path.invalid(name, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::Namespace;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::Namespaces;
    use crate::columns::Cell;
    use crate::strategy::Strategy;

    fn created(name: &str) -> Namespace {
        let object = json!({"metadata": {"name": name}});
        let mut namespace = serde_json::from_value(object).expect("a Namespace");
        Strategy::default(&Namespaces, &mut namespace);
        Namespaces.prepare_create(&mut namespace);
        namespace
    }

    #[test]
    fn a_new_namespace_is_active_and_waits_to_be_emptied() {
        let namespace = created("shop");
        assert_eq!(
            serde_json::to_value(&namespace).expect("JSON"),
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            })
        );
        assert_eq!(Namespaces.validate(&namespace), []);
        let cells = Namespaces.cells(&namespace, Timestamp::UNIX_EPOCH);
        assert_eq!(cells[1], Cell::Text("Active".to_owned()));
        assert_eq!(Namespaces.fields(&namespace), [("status.phase", "Active".to_owned())]);
    }

    #[test]
    fn the_phase_follows_the_deletion() {
        let old = created("shop");
        let mut new = old.clone();
        new.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        assert_eq!(
            Namespaces.validate_status_update(&new, &old)[0].to_string(),
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if \
             `deletionTimestamp` is empty"
        );
        new.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(Namespaces.validate_status_update(&new, &old), []);
    }

    #[test]
    fn an_update_leaves_finalizers_and_status() {
        let old = created("shop");
        let mut new = old.clone();
        new.spec = None;
        new.status = None;
        Namespaces.prepare_update(&mut new, &old);
        assert_eq!(new, old);
    }
}
