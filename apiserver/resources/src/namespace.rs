//! Namespaces: the `kubernetes` finalizer that the namespace controller works off, and the phase.
//!
//! Upstream: `pkg/registry/core/namespace/strategy.go`.
//! Deliberately not here: emptying a namespace (namespace controller), refusing creates in a
//! terminating one (HTTP pipeline).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use crate::columns::{self, Cell, Column};
use crate::strategy::Strategy;

/// The finalizer of `spec.finalizers` that keeps a namespace until it is empty.
pub const KUBERNETES_FINALIZER: &str = "kubernetes";

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Status"), Column::AGE];

/// The behaviour of namespaces.
pub(crate) struct Namespaces;

impl Strategy for Namespaces {
    type Object = Namespace;

    fn default(&self, namespace: &mut Namespace) {
        // The label lets a selector name a namespace; upstream keeps it on every write.
        if let Some(name) = namespace.metadata.name.clone().filter(|n| !n.is_empty()) {
            let labels = namespace.metadata.labels.get_or_insert_default();
            labels.insert("kubernetes.io/metadata.name".to_owned(), name);
        }
    }

    fn prepare_create(&self, namespace: &mut Namespace) {
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
