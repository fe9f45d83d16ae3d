//! The load balancer controller: what of it needs no transaction.
//!
//! Addresses of AddressPools are given out by the API server, in the transaction that writes a
//! Service. This looks again where that may now end differently (a pool came or grew, an address
//! was freed): it writes the Service without changing it, and the server makes its choice anew.
//! Where there is no pool at all, the nodes' own addresses serve (`nodes`). It counts what of a
//! pool is taken, and tells people what became of their Services (MetalLB's events).
//!
//! Inputs: services, pools, nodes, namespaces, endpoint slices, pods. Outputs: statuses of services
//! and pools, empty patches of services, events.
//! Invariant: what a Service got of a pool is nobody's here to change, though its pool be gone.

mod nodes;
mod pools;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use resources::address_pool::AddressPool;
use resources::service::balancer;
use serde_json::json;

use crate::api::{self, Api};
use crate::cache::{Change, Key};
use crate::clock;
use crate::controllers::{self, Context};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::queue::Queue;
use crate::view::View;
use crate::worker::Recheck;
use crate::write::{PatchKind, Plan, Target, Write};

const COMPONENT: &str = "loadbalancer-controller";
const PARALLEL: usize = 5;
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Look {
    /// Whether the server has an address for a Service now.
    At(Key),
    /// Which Services the nodes' own addresses serve.
    AtNodes,
    /// How much of a pool is taken.
    AtPool(String),
}

type Sink = Arc<Queue<Look>>;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue: Sink = Arc::new(Queue::default());
    hear_of_services(context, &queue);
    hear_of_pools(context, &queue);
    hear_of_the_rest(context, &queue);
    // Services that were there before us, and no pool: nothing else would make us look.
    queue.add(Look::AtNodes);
    let context = context.clone();
    async move {
        let listed = context.view.address_pools.wait_listed();
        if context.stop.run_until_cancelled(listed).await.is_none() {
            return;
        }
        let look_at = |Context { api, view, .. }: Context, look: Look| async move {
            match look {
                Look::At(key) => reconsider(&api, &view, &key).await,
                Look::AtNodes => serve_by_nodes(&api, &view).await,
                Look::AtPool(name) => api.run(pools::count(&view, &name)).await,
            }
        };
        controllers::serve("loadbalancer", context.clone(), queue, PARALLEL, look_at).await;
    }
}

fn hear_of_services(context: &Context, queue: &Sink) {
    let (sink, source) = (queue.clone(), Arc::downgrade(&context.view));
    let (api, started) = (context.api.clone(), clock::now());
    context.view.services.on_change(move |change| {
        let Some(view) = source.upgrade() else { return };
        if !change.sides().any(|service| balancer::is_ours(service) || takes_node_ports(service)) {
            return;
        }
        sink.add(Look::AtNodes);
        if let Some(occurrence) = told(change, started) {
            api.tell(occurrence);
        }
        let before = change.old.as_deref().map(balancer::served_at).unwrap_or_default();
        let after = change.new.as_deref().map(balancer::served_at).unwrap_or_default();
        if before != after {
            for pool in view.address_pools.all() {
                sink.add(Look::AtPool(meta::name(&*pool).to_owned()));
            }
        }
        hear_of_free_addresses(&view, &sink, &freed(before, &after));
        // One that is new to us may have been left without, by somebody who did not live to see it.
        let may_get_more = |service: &Service| {
            let unheard_of = change.old.is_none() && pools::lacks_addresses(service);
            balancer::is_ours(service) && (unheard_of || pools::is_undecided(service))
        };
        if change.new.as_deref().is_some_and(may_get_more) && !view.address_pools.is_empty() {
            sink.add(Look::At(meta::key(change.latest())));
        }
    });
}

fn hear_of_pools(context: &Context, queue: &Sink) {
    let (sink, source) = (queue.clone(), Arc::downgrade(&context.view));
    let api = context.api.clone();
    context.view.address_pools.on_change(move |change| {
        let Some(view) = source.upgrade() else { return };
        sink.add(Look::AtPool(meta::name(change.latest()).to_owned()));
        let spec = |pool: &Option<Arc<AddressPool>>| pool.as_ref().and_then(|p| p.spec.clone());
        if spec(&change.old) == spec(&change.new) {
            return;
        }
        sink.add(Look::AtNodes);
        look_at_services(&view, &sink, |_| true);
        if let Some(old) = &change.old {
            pools::left_outside(&view, old).into_iter().for_each(|left| api.tell(left));
        }
    });
}

fn hear_of_the_rest(context: &Context, queue: &Sink) {
    let (sink, source) = (queue.clone(), Arc::downgrade(&context.view));
    context.view.nodes.on_change(move |change: &Change<Node>| {
        sink.add(Look::AtNodes);
        if let Some(view) = source.upgrade() {
            let before = change.old.as_deref().map(node_addresses).unwrap_or_default();
            let after = change.new.as_deref().map(node_addresses).unwrap_or_default();
            // A pool has them perhaps, and did not give them away.
            hear_of_free_addresses(&view, &sink, &freed(before, &after));
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(&context.view));
    context.view.namespaces.on_change(move |change: &Change<Namespace>| {
        let labels = |side: &Option<Arc<Namespace>>| {
            side.as_ref().and_then(|namespace| namespace.metadata.labels.clone())
        };
        if let Some(view) = source.upgrade().filter(|_| labels(&change.old) != labels(&change.new))
        {
            let name = meta::name(change.latest()).to_owned();
            look_at_services(&view, &sink, |service| meta::namespace(service) == name);
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(&context.view));
    context.view.endpoint_slices.on_change(move |change: &Change<EndpointSlice>| {
        let slice = change.latest();
        let service = meta::label(slice, SERVICE_NAME).unwrap_or_default();
        let key = Key::new(meta::namespace(slice), service);
        let held = source.upgrade().and_then(|view| view.services.get(&key));
        if held.is_some_and(|service| nodes::is_local(&service)) {
            sink.add(Look::AtNodes);
        }
    });
    let sink = queue.clone();
    context.view.pods.on_change(move |change: &Change<Pod>| {
        if change.sides().any(|pod| nodes::has_host_ports(pod)) {
            sink.add(Look::AtNodes);
        }
    });
}

/// The addresses that were somebody's, and are not any more.
fn freed(before: Vec<IpAddr>, after: &[IpAddr]) -> Vec<IpAddr> {
    before.into_iter().filter(|address| !after.contains(address)).collect()
}

/// Has the server look at the Services that might get one of these addresses, and at no other.
fn hear_of_free_addresses(view: &View, sink: &Sink, free: &[IpAddr]) {
    if !free.is_empty() && !view.address_pools.is_empty() {
        look_at_services(view, sink, |service| pools::could_use(service, free));
    }
}

/// Has the server look at the Services of ours that `chosen` names.
fn look_at_services(view: &View, sink: &Sink, chosen: impl Fn(&Service) -> bool) {
    for service in view.services.all() {
        if balancer::is_ours(&service) && chosen(&service) {
            sink.add(Look::At(meta::key(&*service)));
        }
    }
}

/// What a node has itself, of whatever type.
fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.filter_map(|address| address.address.parse().ok()).collect()
}

/// Whether the Service has ports of every node.
fn takes_node_ports(service: &Service) -> bool {
    !resources::service::held_node_ports(service).is_empty()
}

/// A write that changes nothing by itself: the server chooses addresses with every write.
async fn reconsider(api: &Api, view: &View, key: &Key) -> Result<Recheck, api::Error> {
    let Some(service) = view.services.get(key).filter(|service| balancer::is_ours(service)) else {
        return Ok(None);
    };
    let target = Target::of(&*service);
    let write = Write::Patch { target, subresource: None, kind: PatchKind::Merge, body: json!({}) };
    api.run(Plan::of(vec![write])).await
}

/// One Service that the server refuses does not keep the others from their addresses.
async fn serve_by_nodes(api: &Api, view: &View) -> Result<Recheck, api::Error> {
    if !view.address_pools.is_empty() {
        return Ok(None);
    }
    let mut outcome = Ok(None);
    for service in nodes::plan(&nodes::Cluster::of(view), clock::now()) {
        let write = Write::update_status(service.clone());
        if let Err(error) = api.run(Plan::of(vec![write])).await {
            if error.is_news() {
                let text = format!("Failed to allocate IP: {}", error.message());
                let reason = "AllocationFailed";
                let failed = Occurrence::new(COMPONENT, &service, Severity::Warning, reason, text);
                api.tell(failed);
            }
            outcome = Err(error);
        }
    }
    outcome
}

/// What people should hear of a change: where the addresses come from, or why there are none.
/// Of what was so before we started they have heard.
fn told(change: &Change<Service>, started: Timestamp) -> Option<Occurrence> {
    let new = change.new.as_deref()?;
    let said = balancer::condition(new)?;
    let news = match change.old.as_deref() {
        Some(old) => {
            balancer::condition(old).map(|c| (&c.reason, &c.message))
                != Some((&said.reason, &said.message))
        }
        None => said.last_transition_time.0 >= meta::seconds(started).0,
    };
    if !news {
        return None;
    }
    let (severity, reason, text) = if said.status == "True" {
        let addresses: Vec<String> =
            balancer::served_at(new).iter().map(ToString::to_string).collect();
        (Severity::Normal, "IPAllocated", format!("Assigned IP {}", json!(addresses)))
    } else {
        let text = format!("Failed to allocate IP: {}", said.message);
        (Severity::Warning, "AllocationFailed", text)
    };
    Some(Occurrence::new(COMPONENT, new, severity, reason, text))
}

#[cfg(test)]
mod tests;
