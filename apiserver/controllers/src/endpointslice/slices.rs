//! From wanted endpoints to the fewest writes of slices (upstream: `reconcileByPortMapping`).
//!
//! Pure. Inputs: wanted [`Group`]s, the slices there are. Outputs: creates, updates, removals.
//! Invariants: an endpoint stays in the slice that it is in; a slice that needs no change is not
//! written; slices of the same ports are filled up before a new one is made; a slice of an owner
//! that is gone is never turned into one of ours, because it is about to be collected.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::trigger::LAST_CHANGE;
use crate::write::Write;

/// Endpoints that share family and ports, and so may share slices.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    /// `IPv4` or `IPv6`.
    pub(crate) address_type: String,
    /// Their ports.
    pub(crate) ports: Vec<EndpointPort>,
    /// The endpoints.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What all slices of one Service carry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owner {
    /// Namespace.
    pub(crate) namespace: String,
    /// Start of the names.
    pub(crate) prefix: String,
    /// Labels, all of them.
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations, all of them; without them, those that are there stay.
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    /// What is told of the change that led here, on the slices that it changes.
    pub(crate) trigger: Option<Timestamp>,
    /// The object that the slices go away with.
    pub(crate) reference: OwnerReference,
    /// The most endpoints in one slice.
    pub(crate) capacity: usize,
}

impl Owner {
    fn owns(&self, metadata: &ObjectMeta) -> bool {
        metadata.owner_references.iter().flatten().any(|held| held.uid == self.reference.uid)
    }
}

/// The writes that make `existing` hold `groups`.
pub(crate) fn reconcile(
    owner: &Owner,
    groups: &[Group],
    existing: &[Arc<EndpointSlice>],
) -> Vec<Write> {
    let mut plan = Changes::default();
    // What is on its way out anyway is left to whoever removed it.
    let present = existing.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none());
    let (mut unused, strange): (Vec<_>, Vec<_>) =
        present.partition(|slice| owner.owns(&slice.metadata));
    plan.strange.extend(strange.into_iter().cloned());
    for group in groups {
        let (of_group, rest): (Vec<_>, Vec<_>) = unused.into_iter().partition(|slice| {
            slice.address_type == group.address_type && same_ports(slice, &group.ports)
        });
        unused = rest;
        plan.settle(owner, group, &of_group);
    }
    plan.removals.extend(unused.into_iter().cloned());
    plan.into_writes(owner)
}

/// Whether the slice is one for these ports.
pub(crate) fn same_ports(slice: &EndpointSlice, ports: &[EndpointPort]) -> bool {
    // An order of ports means nothing.
    let sorted = |ports: &[EndpointPort]| {
        let mut keys: Vec<_> = ports
            .iter()
            .map(|port| {
                let name = port.name.clone().unwrap_or_default();
                (name, port.protocol.clone(), port.port, port.app_protocol.clone())
            })
            .collect();
        keys.sort();
        keys
    };
    sorted(slice.ports.as_deref().unwrap_or_default()) == sorted(ports)
}

#[derive(Default)]
struct Changes {
    creations: Vec<EndpointSlice>,
    updates: Vec<EndpointSlice>,
    removals: Vec<Arc<EndpointSlice>>,
    /// Slices of a former owner.
    strange: Vec<Arc<EndpointSlice>>,
}

/// A slice as it is becoming.
struct Draft<'a> {
    slice: &'a Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

/// Wanted endpoints that have no place yet, in order.
struct Missing {
    endpoints: Vec<Option<Endpoint>>,
    places: HashMap<Identity, usize>,
    left: usize,
}

/// The address, and the pod if there is one: what makes two endpoints the same.
pub(super) type Identity = (Option<String>, Option<String>);

pub(super) fn identity(endpoint: &Endpoint) -> Identity {
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (endpoint.addresses.first().cloned(), pod)
}

impl Missing {
    fn of(wanted: &[Endpoint]) -> Self {
        let mut missing = Self { endpoints: Vec::new(), places: HashMap::new(), left: 0 };
        for endpoint in wanted {
            if let Entry::Vacant(entry) = missing.places.entry(identity(endpoint)) {
                entry.insert(missing.endpoints.len());
                missing.endpoints.push(Some(endpoint.clone()));
                missing.left += 1;
            }
        }
        missing
    }

    /// The wanted endpoint that `held` is a state of.
    fn take(&mut self, held: &Endpoint) -> Option<Endpoint> {
        let place = self.places.remove(&identity(held))?;
        let taken = self.endpoints[place].take()?;
        self.left -= 1;
        Some(taken)
    }

    /// The first `count` that are left.
    fn take_first(&mut self, count: usize) -> Vec<Endpoint> {
        let taken: Vec<Endpoint> =
            self.endpoints.iter_mut().filter_map(Option::take).take(count).collect();
        self.left -= taken.len();
        taken
    }
}

impl Changes {
    fn settle(&mut self, owner: &Owner, group: &Group, slices: &[&Arc<EndpointSlice>]) {
        let mut missing = Missing::of(&group.endpoints);
        let mut drafts: Vec<Draft<'_>> =
            slices.iter().map(|slice| keep(owner, slice, &mut missing)).collect();
        drafts.sort_by_key(|draft| Reverse(draft.endpoints.len()));
        // First into slices that are written anyway, then into one that has room for all that are
        // left, at last into new ones.
        for draft in drafts.iter_mut().filter(|draft| draft.changed) {
            draft.fill(owner.capacity, &mut missing);
        }
        while missing.left > 0 {
            let fits =
                |draft: &&mut Draft<'_>| draft.endpoints.len() + missing.left <= owner.capacity;
            match drafts.iter_mut().find(fits) {
                Some(draft) => draft.fill(owner.capacity, &mut missing),
                None => {
                    let endpoints = missing.take_first(owner.capacity);
                    self.creations.push(new_slice(owner, group, endpoints));
                }
            }
        }
        self.conclude(owner, group, drafts);
    }

    /// Empty slices go, unless the whole group is empty: then one stays, or is made.
    fn conclude(&mut self, owner: &Owner, group: &Group, drafts: Vec<Draft<'_>>) {
        let mut placeholder = group.endpoints.is_empty();
        for draft in drafts {
            if draft.endpoints.is_empty() && !std::mem::take(&mut placeholder) {
                self.removals.push(draft.slice.clone());
            } else if draft.changed {
                let mut updated = (**draft.slice).clone();
                updated.endpoints = Some(draft.endpoints);
                dress(owner, &mut updated.metadata);
                self.updates.push(updated);
            }
        }
        if placeholder {
            self.creations.push(new_slice(owner, group, Vec::new()));
        }
    }

    /// A removal and a creation make one update: fewer objects, and no moment without endpoints.
    fn into_writes(mut self, owner: &Owner) -> Vec<Write> {
        let mut turned = Vec::new();
        let mut writes = Vec::new();
        for creation in self.creations {
            let twin = self
                .removals
                .iter()
                .position(|removal| removal.address_type == creation.address_type);
            match twin {
                Some(position) => {
                    let mut updated = (*self.removals.remove(position)).clone();
                    updated.endpoints = creation.endpoints;
                    updated.ports = creation.ports;
                    dress(owner, &mut updated.metadata);
                    turned.push(Write::update(updated));
                }
                None => writes.push(Write::create(creation)),
            }
        }
        // New endpoints first, so that a Service that moves is never without any.
        writes.append(&mut turned);
        writes.extend(self.updates.into_iter().map(Write::update));
        let removals = self.removals.iter().chain(&self.strange);
        writes.extend(removals.map(|slice| Write::delete(&**slice)));
        writes
    }
}

impl Draft<'_> {
    fn fill(&mut self, capacity: usize, missing: &mut Missing) {
        let taken = missing.take_first(capacity.saturating_sub(self.endpoints.len()));
        self.changed |= !taken.is_empty();
        self.endpoints.extend(taken);
    }
}

/// Takes over what a slice holds of the wanted endpoints.
fn keep<'a>(owner: &Owner, slice: &'a Arc<EndpointSlice>, missing: &mut Missing) -> Draft<'a> {
    let mut endpoints = Vec::new();
    let mut changed = !is_dressed(owner, &slice.metadata);
    for held in slice.endpoints.iter().flatten() {
        let wanted = missing.take(held);
        changed |= wanted.as_ref() != Some(held);
        endpoints.extend(wanted);
    }
    Draft { slice, endpoints, changed }
}

fn is_dressed(owner: &Owner, metadata: &ObjectMeta) -> bool {
    let empty = BTreeMap::new();
    let held = metadata.annotations.as_ref().unwrap_or(&empty);
    metadata.labels.as_ref() == Some(&owner.labels)
        && owner.annotations.as_ref().is_none_or(|wanted| wanted == held)
}

/// Gives a slice its labels and annotations. When the last change was triggered is told of this
/// change or, where nobody knows, of none.
fn dress(owner: &Owner, metadata: &mut ObjectMeta) {
    metadata.labels = Some(owner.labels.clone());
    metadata.owner_references = Some(vec![owner.reference.clone()]);
    let mut annotations = match &owner.annotations {
        Some(all) => all.clone(),
        None => metadata.annotations.take().unwrap_or_default(),
    };
    annotations.remove(LAST_CHANGE);
    if let Some(trigger) = owner.trigger {
        annotations.insert(LAST_CHANGE.to_owned(), trigger.to_string());
    }
    metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
}

fn new_slice(owner: &Owner, group: &Group, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut metadata = ObjectMeta {
        namespace: Some(owner.namespace.clone()),
        generate_name: Some(owner.prefix.clone()),
        ..ObjectMeta::default()
    };
    dress(owner, &mut metadata);
    EndpointSlice {
        metadata,
        address_type: group.address_type.clone(),
        endpoints: Some(endpoints),
        ports: Some(group.ports.clone()),
    }
}

#[cfg(test)]
mod tests;
