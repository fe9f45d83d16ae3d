//! The mirroring controller: hand-written Endpoints become endpoint slices (upstream:
//! `pkg/controller/endpointslicemirroring`).
//!
//! Inputs: endpoints, services, endpoint slices. Outputs: endpoint slices, events about addresses
//! that could not be taken over.
//! Invariants: mirrors only Endpoints of a Service without a selector; touches only slices that
//! carry its `managed-by` label; at most 1000 addresses of each subset.
//!
//! When a Service gets a selector, the mirrors go only after the endpoint slice controller has made
//! its own slices: at no moment is the Service without endpoints because of the change.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

use crate::cache::Key;
use crate::controllers::{self, Context};
use crate::endpoints;
use crate::endpointslice::{self as slices, Group, LAST_CHANGE, MANAGED_BY, Owner, SERVICE_NAME};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::queue::Queue;
use crate::view::View;
use crate::write::{Plan, Write};

/// This controller's name in `managed-by`.
pub(crate) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Leader election once lived in Endpoints; those are nobody's addresses.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Upstream: `--mirroring-max-endpoints-per-subset`.
const MOST_PER_SUBSET: usize = 1000;
const PARALLEL: usize = 5;
/// Who tells of what could not be mirrored.
const COMPONENT: &str = "endpoint-slice-mirroring-controller";

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    let sink = queue.clone();
    context.view.endpoints.on_change(move |change| sink.add(meta::key(change.latest())));
    let sink = queue.clone();
    context.view.services.on_change(move |change| sink.add(meta::key(change.latest())));
    let sink = queue.clone();
    context.view.endpoint_slices.on_change(move |change| {
        // Ours, and those of the endpoint slice controller, for which ours make room.
        let managed = |slice: &&Arc<EndpointSlice>| {
            matches!(meta::label(&***slice, MANAGED_BY), Some(MANAGER | slices::MANAGER))
        };
        for slice in change.sides().filter(managed) {
            if let Some(service) = meta::label(&**slice, SERVICE_NAME) {
                sink.add(Key::new(meta::namespace(&**slice), service));
            }
        }
    });
    let look_at =
        |Context { api, view, .. }: Context, key| async move { api.run(look(&view, &key)).await };
    controllers::serve("endpointslicemirroring", context.clone(), queue, PARALLEL, look_at)
}

fn look(view: &View, key: &Key) -> Plan {
    let (replacing, mirrors) = slices::slices_of(view, key);
    let (endpoints, service) = (view.endpoints.get(key), view.services.get(key));
    Plan::of(plan(endpoints.as_deref(), service.as_deref(), &mirrors, &replacing))
}

/// The writes that mirror the Endpoints, or remove a mirror that has no original.
fn plan(
    endpoints: Option<&Endpoints>,
    service: Option<&Service>,
    mirrors: &[Arc<EndpointSlice>],
    replacing: &[Arc<EndpointSlice>],
) -> Vec<Write> {
    if let (Some(endpoints), Some(service)) = (endpoints, service)
        && is_mirrored(endpoints, service)
    {
        return mirror(endpoints, mirrors);
    }
    // Wait for what takes our place: its coming brings us back.
    if service
        .is_some_and(|service| slices::is_managed(service) && !is_replaced(service, replacing))
    {
        return Vec::new();
    }
    mirrors.iter().map(|slice| Write::delete(&**slice)).collect()
}

/// Whether the endpoint slice controller has said something for each family of the Service.
fn is_replaced(service: &Service, replacing: &[Arc<EndpointSlice>]) -> bool {
    let said = |family: &&str| replacing.iter().any(|slice| slice.address_type == *family);
    meta::is_deleted(service) || slices::families(service).iter().all(said)
}

fn is_mirrored(endpoints: &Endpoints, service: &Service) -> bool {
    let skipped = meta::label(endpoints, SKIP_MIRROR) == Some("true")
        || meta::annotation(endpoints, LEADER).is_some();
    // Left behind by a Service that lost its selector, and not all that its slices hold.
    let partial = endpoints::is_ours(endpoints)
        && meta::annotation(endpoints, endpoints::OVER_CAPACITY).is_some();
    !slices::has_selector(service) && !skipped && !partial && !meta::is_deleted(endpoints)
}

/// The families of the Endpoints, once mirrors stand for all that they hold.
pub(crate) fn taken_over(endpoints: &Endpoints, mirrors: &[Arc<EndpointSlice>]) -> Vec<String> {
    let groups = Mirrored::of(endpoints).groups;
    let stands = |group: &Group| {
        mirrors.iter().any(|mirror| {
            mirror.address_type == group.address_type && slices::same_ports(mirror, &group.ports)
        })
    };
    if !groups.iter().all(stands) {
        return Vec::new();
    }
    groups.into_iter().map(|group| group.address_type).collect()
}

fn mirror(endpoints: &Endpoints, mirrors: &[Arc<EndpointSlice>]) -> Vec<Write> {
    let mirrored = Mirrored::of(endpoints);
    let mut writes = slices::reconcile(&owner(endpoints), &mirrored.groups, mirrors);
    // Said when something changes, not at every look.
    if !writes.is_empty() {
        writes.extend(mirrored.warnings(endpoints).map(Write::Event));
    }
    writes
}

fn owner(endpoints: &Endpoints) -> Owner {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), meta::name(endpoints).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    for key in [LAST_APPLIED, LAST_CHANGE] {
        annotations.remove(key);
    }
    Owner {
        namespace: meta::namespace(endpoints).to_owned(),
        prefix: format!("{}-", meta::name(endpoints)),
        labels,
        annotations: Some(annotations),
        trigger: None,
        reference: meta::controller_reference(endpoints),
        capacity: MOST_PER_SUBSET,
    }
}

/// What becomes of Endpoints in slices.
#[derive(Default)]
struct Mirrored {
    groups: Vec<Group>,
    /// Addresses that are none.
    invalid: usize,
    /// Addresses beyond the limit.
    surplus: usize,
}

impl Mirrored {
    /// The addresses by family and ports; each subset's ports stay together.
    fn of(endpoints: &Endpoints) -> Self {
        let mut mirrored = Self::default();
        // Overlapping subsets are told apart first: no address may stand in two slices.
        let entries = endpoints::unpack(endpoints.subsets.as_deref().unwrap_or_default());
        for subset in endpoints::pack(entries) {
            mirrored.add(&subset);
        }
        mirrored
    }

    fn add(&mut self, subset: &EndpointSubset) {
        let ports = ports(subset);
        let mut taken = 0;
        for (address, ready) in addresses(subset) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                self.invalid += 1;
                continue;
            };
            if taken == MOST_PER_SUBSET {
                self.surplus += 1;
                continue;
            }
            taken += 1;
            let family = slices::family_of(&ip);
            let endpoint = endpoint(address, ip, ready);
            match self.groups.iter_mut().find(|g| g.address_type == family && g.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => self.groups.push(Group {
                    address_type: family.to_owned(),
                    ports: ports.clone(),
                    endpoints: vec![endpoint],
                }),
            }
        }
    }

    /// What people are told about addresses that are not in slices.
    fn warnings(&self, endpoints: &Endpoints) -> impl Iterator<Item = Occurrence> {
        let Self { invalid, surplus, .. } = *self;
        let warn =
            |reason, text| Occurrence::new(COMPONENT, endpoints, Severity::Warning, reason, text);
        let invalid = (invalid > 0).then(|| {
            let text =
                format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            warn("InvalidIPAddress", text)
        });
        let surplus = (surplus > 0).then(|| {
            let text = format!(
                "A max of {MOST_PER_SUBSET} addresses can be mirrored to EndpointSlices per \
                 Endpoints subset. {surplus} addresses were skipped"
            );
            warn("TooManyAddressesToMirror", text)
        });
        invalid.into_iter().chain(surplus)
    }
}

fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    ready.chain(subset.not_ready_addresses.iter().flatten().map(|address| (address, false)))
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    subset
        .ports
        .iter()
        .flatten()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect()
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: None,
            terminating: None,
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests;
