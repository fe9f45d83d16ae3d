//! The service CIDR controller: says that a range of service addresses may be used, and lets one go
//! only when no address of it would be left without a range (upstream: `pkg/controller/servicecidrs`).
//!
//! Inputs: service CIDRs, IP addresses. Outputs: a service CIDR's finalizer and its `Ready`
//! condition.
//! Invariants: a range that is on its way out covers nothing, so that two that cover each other
//! cannot both go; the finalizer goes only after the server itself was asked for its addresses. It
//! gives none of a range that is deleted, so that the answer stays true. (Upstream's allocators
//! hear of a deletion by watches, and it waits ten seconds instead.)
//! Deliberately not here: giving addresses out, which is part of writing a Service.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{self, Api};
use crate::cache::Key;
use crate::clock;
use crate::controllers::{self, Context};
use crate::event::{Occurrence, Severity};
use crate::meta::{self, Held};
use crate::queue::Queue;
use crate::view::{Kind, View};
use crate::worker::Recheck;
use crate::write::{Plan, Write};

const COMPONENT: &str = "service-cidr-controller";
/// Keeps a range until its addresses have another.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
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
    let step = plan(&range, &ranges, &addresses, clock::now());
    if matches!(step, Step::Release) {
        return release(api, &range, &ranges).await;
    }
    let outcome = api.run(Plan::of(step.into_write().into_iter().collect())).await;
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

/// Lets the range go, unless the server knows of an address that we have not heard of.
async fn release(
    api: &Api,
    range: &ServiceCIDR,
    ranges: &[Arc<ServiceCIDR>],
) -> Result<Recheck, api::Error> {
    let addresses = api.list_metadata(&IPAddress::resource(), "").await?;
    if addresses.iter().any(|address| is_orphaned(address, range, ranges)) {
        // The watch tells of it any moment, and that brings us back.
        return Ok(None);
    }
    api.execute(Write::update(released(range))).await.map(|_| None)
}

/// What a range needs next.
#[derive(Debug, PartialEq)]
enum Step {
    /// Nothing.
    Rest,
    /// This. It brings us back with the version that the next write needs.
    Write(Write),
    /// To be let go.
    Release,
}

impl Step {
    fn into_write(self) -> Option<Write> {
        match self {
            Self::Write(write) => Some(write),
            Self::Rest | Self::Release => None,
        }
    }
}

fn plan(
    range: &ServiceCIDR,
    ranges: &[Arc<ServiceCIDR>],
    addresses: &[Arc<IPAddress>],
    now: Timestamp,
) -> Step {
    let held = meta::has_finalizer(&range.metadata, FINALIZER);
    let write = match meta::is_deleted(range) {
        false if !held => Some(Write::update(protected(range))),
        false => condition(range, "True", "", IS_READY, now),
        true if !held => None,
        true if addresses.iter().any(|address| is_orphaned(&**address, range, ranges)) => {
            condition(range, "False", "Terminating", IS_USED, now)
        }
        true => return Step::Release,
    };
    write.map_or(Step::Rest, Step::Write)
}

/// Whether the address would have no range without this one.
fn is_orphaned(address: &impl Held, range: &ServiceCIDR, ranges: &[Arc<ServiceCIDR>]) -> bool {
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

fn protected(range: &ServiceCIDR) -> ServiceCIDR {
    let mut updated = range.clone();
    updated.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    updated
}

fn released(range: &ServiceCIDR) -> ServiceCIDR {
    let mut updated = range.clone();
    if let Some(finalizers) = &mut updated.metadata.finalizers {
        finalizers.retain(|held| held != FINALIZER);
    }
    updated
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
