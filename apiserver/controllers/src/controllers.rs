//! Starts everything: reflectors, then the controllers, until stopped.
//!
//! Input: a client and a [`Config`]. Output: none; [`run`] ends when it is told to stop.
//! Invariant: no controller acts before every kind was listed once.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::networking::v1::{IPAddress, Ingress, IngressClass, ServiceCIDR};
use resources::address_pool::AddressPool;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api};
use crate::census::Census;
use crate::event::{self, Recorder};
use crate::meta::Held;
use crate::queue::Queue;
use crate::reflector::{self, Source};
use crate::view::{Kind, View};
use crate::worker::{self, Recheck};
use crate::{
    deployment, endpoints, endpointslice, garbage, ingress, loadbalancer, mirroring, namespace,
    nodelifecycle, podgc, provision, replicaset, scheduler, servicecidr,
};

/// A resource's place in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Lower-case plural, as in paths.
    pub plural: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

/// What the controllers have to be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's CA certificate, PEM, for the ConfigMap `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Every resource that the API server serves and stores, for the garbage collector and the
    /// emptying of namespaces.
    pub resources: Vec<ResourceId>,
    /// How long a node may be silent before it counts as unreachable (upstream:
    /// `--node-monitor-grace-period`, 40 s until 1.31, 50 s since).
    pub node_grace: Duration,
    /// How long a node may take to report for the first time (upstream:
    /// `--node-startup-grace-period`).
    pub node_startup_grace: Duration,
    /// Whether Services of type LoadBalancer are the cluster's own to serve.
    pub load_balancer: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ca_pem: String::new(),
            resources: Vec::new(),
            node_grace: Duration::from_secs(40),
            node_startup_grace: Duration::from_secs(60),
            load_balancer: true,
        }
    }
}

/// Why the controllers ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A controller's loop ended by itself, which is a bug.
    #[error("controller {0} ended")]
    Ended(&'static str),
}

type Loop = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// What every controller is started with.
#[derive(Clone)]
pub(crate) struct Context {
    /// The way to the API.
    pub(crate) api: Arc<Api>,
    /// The objects.
    pub(crate) view: Arc<View>,
    /// Ends everything.
    pub(crate) stop: CancellationToken,
}

/// Runs all controllers until `stop` is cancelled.
///
/// # Errors
/// When one of them ends although it was not told to; an API that cannot be reached is waited for.
pub async fn run(
    client: kube::Client,
    config: Config,
    stop: CancellationToken,
) -> Result<(), Error> {
    let view = Arc::new(View::default());
    let (recorder, occurrences) = Recorder::new();
    let api = Arc::new(Api::new(client, view.clone(), recorder));
    // Dropped with this function, whichever way it ends, so that nothing outlives it.
    let stop = stop.child_token();
    let _guard = stop.clone().drop_guard();
    let context = Context { api: api.clone(), view: view.clone(), stop: stop.clone() };

    let census = Arc::new(Census::new(&config, &view));
    // The controllers first: they register for changes, which begin with the reflectors.
    let mut all = controllers(&context, &config, &census);
    all.extend(reflectors(&context));
    if config.resources.contains(&ServiceCIDR::resource()) {
        all.extend(service_ranges(&context));
    }
    if config.resources.contains(&AddressPool::resource()) {
        if config.load_balancer {
            all.push(named("loadbalancer", loadbalancer::run(&context)));
        }
        all.push(reflector::<AddressPool>(&context, "", None));
    }
    if config.resources.contains(&Ingress::resource()) {
        all.extend(ingresses(&context));
    }
    let thin = census.reflectors(api.client(), &stop);
    all.extend(thin.into_iter().map(|reflector| named("census", reflector)));
    let mut loops: FuturesUnordered<tokio::task::JoinHandle<&'static str>> =
        all.into_iter().map(tokio::spawn).collect();
    loops.push(tokio::spawn({
        let stop = stop.clone();
        async move {
            event::write_all(api, occurrences, stop).await;
            "events"
        }
    }));
    tracing::info!(loops = loops.len(), "controllers started");

    while let Some(ended) = loops.next().await {
        if !stop.is_cancelled() {
            // A panic inside a loop says where by itself; the cluster must not go on without it.
            return Err(Error::Ended(ended.unwrap_or("(panicked)")));
        }
    }
    Ok(())
}

/// One controller: handlers are registered here and now, the loop starts when its inputs are in.
fn controllers(context: &Context, config: &Config, census: &Arc<Census>) -> Vec<Loop> {
    vec![
        named("deployment", deployment::run(context)),
        named("replicaset", replicaset::run(context)),
        named("scheduler", scheduler::run(context)),
        named("endpointslice", endpointslice::run(context)),
        named("endpoints", endpoints::run(context)),
        named("endpointslicemirroring", mirroring::run(context)),
        named("namespace", namespace::run(context, config, census)),
        named("provision", provision::run(context, config)),
        named("nodelifecycle", nodelifecycle::run(context, config)),
        named("podgc", podgc::run(context)),
        named("garbagecollector", garbage::run(context, census)),
    ]
}

/// The service CIDR controller and its inputs, where the server stores such.
fn service_ranges(context: &Context) -> [Loop; 3] {
    [
        named("servicecidr", servicecidr::run(context)),
        reflector::<ServiceCIDR>(context, "", None),
        reflector::<IPAddress>(context, "", None),
    ]
}

/// The Ingress status controller and its inputs, where the server stores such.
fn ingresses(context: &Context) -> [Loop; 3] {
    [
        named("ingress", ingress::run(context)),
        reflector::<Ingress>(context, "", None),
        reflector::<IngressClass>(context, "", None),
    ]
}

fn named(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Loop {
    Box::pin(async move {
        work.await;
        name
    })
}

fn reflectors(context: &Context) -> Vec<Loop> {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1::{
        ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount,
    };
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    vec![
        reflector::<Pod>(context, "", None),
        reflector::<ReplicaSet>(context, "", None),
        reflector::<Deployment>(context, "", None),
        reflector::<Service>(context, "", None),
        reflector::<Endpoints>(context, "", None),
        reflector::<EndpointSlice>(context, "", None),
        reflector::<Node>(context, "", None),
        reflector::<Namespace>(context, "", None),
        reflector::<ServiceAccount>(context, "", None),
        reflector::<ConfigMap>(context, "", Some(provision::ROOT_CA_FIELDS)),
        reflector::<Lease>(context, nodelifecycle::LEASES, None),
    ]
}

fn reflector<K: Kind + Held>(
    context: &Context,
    namespace: &str,
    fields: Option<&'static str>,
) -> Loop {
    let source = Source { path: api::collection(&K::resource(), namespace), fields };
    let Context { api, view, stop } = context.clone();
    named(K::KIND, async move {
        reflector::reflect(api.client().clone(), source, K::cache(&view), stop).await;
    })
}

/// Runs one controller: waits for its inputs, then reconciles the keys of its queue, at most
/// `parallel` at once, until stopped.
pub(crate) async fn serve<K, F, Fut>(
    name: &'static str,
    context: Context,
    queue: Arc<Queue<K>>,
    parallel: usize,
    reconcile: F,
) where
    K: Clone + Eq + Hash + Debug,
    F: Fn(Context, K) -> Fut,
    Fut: Future<Output = Result<Recheck, api::Error>>,
{
    if ready(&context).await {
        let stop = context.stop.clone();
        worker::work(name, queue, parallel, stop, |key| reconcile(context.clone(), key)).await;
    }
}

/// Waits until every kind was listed once; answers whether to go on.
pub(crate) async fn ready(context: &Context) -> bool {
    let view = &context.view;
    let all = async {
        tokio::join!(
            view.pods.wait_listed(),
            view.replica_sets.wait_listed(),
            view.deployments.wait_listed(),
            view.services.wait_listed(),
            view.endpoints.wait_listed(),
            view.endpoint_slices.wait_listed(),
            view.nodes.wait_listed(),
            view.namespaces.wait_listed(),
            view.service_accounts.wait_listed(),
            view.config_maps.wait_listed(),
            view.leases.wait_listed(),
        )
    };
    context.stop.run_until_cancelled(all).await.is_some()
}

#[cfg(test)]
mod tests;
