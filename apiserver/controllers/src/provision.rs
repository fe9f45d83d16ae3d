//! What every namespace is given: its default service account and the cluster's CA certificate
//! (upstream: `pkg/controller/serviceaccount`, `pkg/controller/certificates/rootcacertpublisher`).
//!
//! Inputs: namespaces, service accounts, the ConfigMaps `kube-root-ca.crt`. Outputs: those objects,
//! made again when somebody removes or changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{self, Api};
use crate::cache::Key;
use crate::controllers::{self, Config, Context};
use crate::meta;
use crate::queue::Queue;
use crate::view::View;
use crate::worker::Recheck;
use crate::write::Write;

/// Of all ConfigMaps, the view holds these alone.
pub(crate) const ROOT_CA_FIELDS: &str = "metadata.name=kube-root-ca.crt";
const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_FILE: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the \
     kube-apiserver when using internal endpoints such as the internal service IP or \
     kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.";
const DEFAULT_ACCOUNT: &str = "default";
const PARALLEL: usize = 5;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context, config: &Config) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    let sink = queue.clone();
    context.view.namespaces.on_change(move |change| {
        if change.new.is_some() {
            sink.add(meta::name(change.latest()).to_owned());
        }
    });
    let sink = queue.clone();
    context.view.service_accounts.on_change(move |change| {
        if change.new.is_none() && meta::name(change.latest()) == DEFAULT_ACCOUNT {
            sink.add(meta::namespace(change.latest()).to_owned());
        }
    });
    let sink = queue.clone();
    context.view.config_maps.on_change(move |change| {
        sink.add(meta::namespace(change.latest()).to_owned());
    });
    let (context, ca): (Context, Arc<str>) = (context.clone(), config.ca_pem.as_str().into());
    let look_at = move |Context { api, view, .. }: Context, namespace: String| {
        let ca = ca.clone();
        async move { reconcile(&api, &view, &ca, &namespace).await }
    };
    controllers::serve("provision", context, queue, PARALLEL, look_at)
}

async fn reconcile(
    api: &Api,
    view: &View,
    ca: &str,
    namespace: &str,
) -> Result<Recheck, api::Error> {
    let Some(held) = view.namespaces.get(&Key::new("", namespace)) else { return Ok(None) };
    let account = view.service_accounts.get(&Key::new(namespace, DEFAULT_ACCOUNT));
    let map = view.config_maps.get(&Key::new(namespace, ROOT_CA));
    for write in plan(&held, account.as_deref(), map.as_deref(), ca) {
        match api.execute(write).await {
            // Made in the meantime, by the server itself or by an apply.
            Err(error) if error.is_already_exists() => {}
            other => drop(other?),
        }
    }
    Ok(None)
}

/// The writes that give a namespace what it lacks.
fn plan(
    namespace: &Namespace,
    account: Option<&ServiceAccount>,
    map: Option<&ConfigMap>,
    ca: &str,
) -> Vec<Write> {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    if meta::is_deleted(namespace) || phase == Some("Terminating") {
        return Vec::new();
    }
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.metadata.name.clone(),
        ..ObjectMeta::default()
    };
    let mut writes = Vec::new();
    if account.is_none() {
        let metadata = metadata(DEFAULT_ACCOUNT);
        writes.push(Write::create(ServiceAccount { metadata, ..ServiceAccount::default() }));
    }
    let data = BTreeMap::from([(ROOT_CA_FILE.to_owned(), ca.to_owned())]);
    match map {
        None => {
            let mut metadata = metadata(ROOT_CA);
            let description = (DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
            metadata.annotations = Some(BTreeMap::from([description]));
            let data = Some(data);
            writes.push(Write::create(ConfigMap { metadata, data, ..ConfigMap::default() }));
        }
        Some(map) if map.data.as_ref() != Some(&data) => {
            let mut updated = map.clone();
            updated.data = Some(data);
            let annotations = updated.metadata.annotations.get_or_insert_default();
            annotations.insert(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
            writes.push(Write::update(updated));
        }
        Some(_) => {}
    }
    writes
}

#[cfg(test)]
mod tests;
