//! The service CIDR controller: says that a range of service addresses may be used, and lets one go
//! only when no address of it would be left without a range (upstream: `pkg/controller/servicecidrs`).
//!
//! Inputs: service CIDRs, IP addresses. Outputs: a service CIDR's finalizer and its `Ready`
//! condition.
//! Invariants: a range that is on its way out covers nothing, so that two that cover each other
//! cannot both go; the finalizer goes 10 s after the deletion at the earliest, when the last
//! Service that was given an address just before has long been heard of.
//! Deliberately not here: giving addresses out, which is part of writing a Service.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::{self, Api};
use crate::cache::Key;
use crate::clock;
use crate::controllers::{self, Context};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::queue::Queue;
use crate::view::View;
use crate::worker::Recheck;
use crate::write::{Plan, Write};

const COMPONENT: &str = "service-cidr-controller";
/// Keeps a range until its addresses have another.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// Upstream's `deletionGracePeriod`.
const GRACE: Duration = Duration::from_secs(10);
const PARALLEL: usize = 5;
/// The label by which addresses say who gave them out, and our API server's name in it.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";

const READY: &str = "Ready";
const IS_READY: &str = "Kubernetes Service CIDR is ready";
const IS_USED: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them \
                       or create a new ServiceCIDR";

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    register(&context.view, &queue);
    let context = context.clone();
    async move {
        let listed = async {
            tokio::join!(
                context.view.service_cidrs.wait_listed(),
                context.view.ip_addresses.wait_listed(),
            )
        };
        if context.stop.run_until_cancelled(listed).await.is_none() {
            return;
        }
        let look_at = |Context { api, view, .. }: Context, name: String| async move {
            reconcile(&api, &view, &name).await
        };
        controllers::serve("servicecidr", context.clone(), queue, PARALLEL, look_at).await;
    }
}

fn register(view: &Arc<View>, queue: &Arc<Queue<String>>) {
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.service_cidrs.on_change(move |_| {
        // There are few, and each may free or hold up the others.
        for held in source.upgrade().iter().flat_map(|view| view.service_cidrs.all()) {
            sink.add(meta::name(&*held).to_owned());
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.ip_addresses.on_change(move |change| {
        if change.old.is_some() == change.new.is_some() {
            return;
        }
        for held in source.upgrade().iter().flat_map(|view| view.service_cidrs.all()) {
            if meta::is_deleted(&*held) {
                sink.add(meta::name(&*held).to_owned());
            }
        }
    });
}

async fn reconcile(api: &Api, view: &View, name: &str) -> Result<Recheck, api::Error> {
    let Some(range) = view.service_cidrs.get(&Key::new("", name)) else { return Ok(None) };
    let (ranges, addresses) = (view.service_cidrs.all(), view.ip_addresses.all());
    let outcome = api.run(plan(&range, &ranges, &addresses, clock::now())).await;
    if let Err(error) = &outcome
        && error.is_news()
        && !meta::is_deleted(&*range)
    {
        let text = "The ServiceCIDR Status can not be set to Ready=True".to_owned();
        let reason = "KubernetesServiceCIDRError";
        api.tell(Occurrence::new(COMPONENT, &*range, Severity::Warning, reason, text));
    }
    outcome
}

/// One write at a time: each brings us back with the version that the next one needs.
fn plan(
    range: &ServiceCIDR,
    ranges: &[Arc<ServiceCIDR>],
    addresses: &[Arc<IPAddress>],
    now: Timestamp,
) -> Plan {
    let Some(Time(deleted)) = &range.metadata.deletion_timestamp else {
        let write = protect(range).or_else(|| condition(range, "True", "", IS_READY, now));
        return Plan::of(write.into_iter().collect());
    };
    if addresses.iter().any(|address| is_orphaned(address, range, ranges)) {
        let write = condition(range, "False", "Terminating", IS_USED, now);
        return Plan::of(write.into_iter().collect());
    }
    let waited = Duration::try_from(now.duration_since(*deleted)).unwrap_or_default();
    if waited < GRACE {
        return Plan { writes: Vec::new(), recheck: Some(GRACE - waited) };
    }
    Plan::of(release(range).into_iter().collect())
}

/// Whether the address would have no range without this one.
fn is_orphaned(address: &IPAddress, range: &ServiceCIDR, ranges: &[Arc<ServiceCIDR>]) -> bool {
    if meta::label(address, MANAGED_BY) != Some(ALLOCATOR) {
        return false;
    }
    let Ok(ip) = meta::name(address).parse::<IpAddr>() else { return false };
    let covers = |other: &ServiceCIDR| prefixes(other).any(|prefix| prefix.contains(&ip));
    let stays =
        |other: &ServiceCIDR| meta::uid(other) != meta::uid(range) && !meta::is_deleted(other);
    covers(range) && !ranges.iter().any(|other| stays(other) && covers(other))
}

fn prefixes(range: &ServiceCIDR) -> impl Iterator<Item = IpNet> {
    let all = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    all.filter_map(|prefix| prefix.parse().ok())
}

fn protect(range: &ServiceCIDR) -> Option<Write> {
    if meta::has_finalizer(&range.metadata, FINALIZER) {
        return None;
    }
    let mut updated = range.clone();
    updated.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    Some(Write::update(updated))
}

fn release(range: &ServiceCIDR) -> Option<Write> {
    if !meta::has_finalizer(&range.metadata, FINALIZER) {
        return None;
    }
    let mut updated = range.clone();
    updated.metadata.finalizers.iter_mut().for_each(|all| all.retain(|held| held != FINALIZER));
    Some(Write::update(updated))
}

/// The write that gives the range this `Ready` condition, unless it has it.
fn condition(
    range: &ServiceCIDR,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Option<Write> {
    let mut updated = range.clone();
    let conditions = updated.status.get_or_insert_default().conditions.get_or_insert_default();
    let held = conditions.iter().position(|condition| condition.type_ == READY);
    let held = held.map(|position| conditions.remove(position));
    let same = |held: &Condition| held.status == status;
    if held
        .as_ref()
        .is_some_and(|held| same(held) && held.reason == reason && held.message == message)
    {
        return None;
    }
    let since = held.filter(same).map(|held| held.last_transition_time);
    conditions.push(Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.unwrap_or_else(|| meta::seconds(now)),
        observed_generation: None,
    });
    Some(Write::update_status(updated))
}

#[cfg(test)]
mod tests;
