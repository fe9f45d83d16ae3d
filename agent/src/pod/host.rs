//! What all pod workers of a node share.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::{Api, Client, Resource, runtime::reflector::Store};
use tokio::sync::watch;

use crate::{
    config::Config,
    downward::NodeFacts,
    env::References,
    log::pod_log_dir,
    node::Machine,
    recorder::Recorder,
    runtime::Containerd,
    sandbox::{AddressPools, DnsFacts, NodeNetwork, PodFolder, SandboxError},
    volumes::{Referenced, referenced},
};

/// The node, as a pod's worker sees it.
pub(crate) struct Host {
    pub(crate) config: Arc<Config>,
    pub(crate) client: Client,
    pub(crate) containerd: Containerd,
    pub(crate) recorder: Recorder,
    pub(crate) network: NodeNetwork,
    pub(crate) host_net: PathBuf,
    pub(crate) node: NodeFacts,
    pub(crate) machine: Machine,
    pub(crate) services: Store<Service>,
    pub(crate) pools: Mutex<AddressPools>,
    /// Tells when containerd gets an image.
    pub(crate) images: watch::Sender<()>,
}

impl Host {
    pub(crate) fn folder(&self, uid: &str) -> PodFolder {
        PodFolder::new(&self.config.state_dir, uid)
    }

    /// The folder of a pod's logs.
    pub(crate) fn logs(&self, pod: &Pod) -> PathBuf {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let metadata = &pod.metadata;
        pod_log_dir(
            &self.config.log_dir,
            &text(&metadata.namespace),
            &text(&metadata.name),
            &text(&metadata.uid),
        )
    }

    pub(crate) fn dns(&self) -> DnsFacts<'_> {
        DnsFacts {
            node_name: &self.config.node_name,
            cluster_dns: &self.config.cluster_dns,
            cluster_domain: &self.config.cluster_domain,
        }
    }

    fn pools(&self) -> MutexGuard<'_, AddressPools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an address of each family for a pod, and notes them so that a restarted agent goes on
    /// after them.
    pub(crate) fn allocate(&self) -> Result<Vec<IpAddr>, SandboxError> {
        let taken = self.pools().allocate();
        let taken = taken.map_err(|cidr| SandboxError::NoAddress { cidr })?;
        let text: String = taken.iter().map(|address| format!("{address}\n")).collect();
        if let Err(error) = fs::write(last_addresses(&self.config.state_dir), text) {
            tracing::warn!(%error, "the last address cannot be noted: it may be reused early");
        }
        Ok(taken)
    }

    pub(crate) fn release(&self, addresses: &[IpAddr]) {
        self.pools().release(addresses);
    }

    /// Reads the objects that a pod refers to. What does not exist is left out: whoever needs it
    /// says so.
    pub(crate) async fn references(&self, pod: &Pod) -> Result<References, kube::Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let Referenced { config_maps, secrets } = referenced(pod);
        let mut references = References {
            services: self.services.state().iter().map(|s| Service::clone(s)).collect(),
            ..References::default()
        };
        for name in config_maps {
            if let Some(found) = self.get::<ConfigMap>(namespace, &name).await? {
                references.config_maps.insert(name, found);
            }
        }
        for name in secrets {
            if let Some(found) = self.get::<Secret>(namespace, &name).await? {
                references.secrets.insert(name, found);
            }
        }
        Ok(references)
    }

    async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        Api::<K>::namespaced(self.client.clone(), namespace).get_opt(name).await
    }
}

/// The file with the addresses that were given last, a line each.
pub(crate) fn last_addresses(state_dir: &std::path::Path) -> PathBuf {
    state_dir.join("last-address")
}
