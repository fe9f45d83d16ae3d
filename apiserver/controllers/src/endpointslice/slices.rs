//! From wanted endpoints to the fewest writes of slices (upstream: `reconcileByPortMapping`).
//!
//! Pure. Inputs: wanted [`Group`]s, the slices there are. Outputs: creates, updates, removals.
//! Invariants: an endpoint stays in the slice that it is in; a slice that needs no change is not
//! written; slices of the same ports are filled up before a new one is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::write::Write;

/// The most endpoints in one slice (upstream: `--max-endpoints-per-slice`).
pub(crate) const MAX_ENDPOINTS: usize = 100;

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
    /// Annotations, all of them.
    pub(crate) annotations: BTreeMap<String, String>,
    /// The object that the slices go away with.
    pub(crate) reference: OwnerReference,
}

/// The writes that make `existing` hold `groups`.
pub(crate) fn reconcile(
    owner: &Owner,
    groups: &[Group],
    existing: &[Arc<EndpointSlice>],
) -> Vec<Write> {
    let mut plan = Changes::default();
    let mut unused: Vec<&Arc<EndpointSlice>> = existing.iter().collect();
    for group in groups {
        let (of_group, rest): (Vec<_>, Vec<_>) = unused.into_iter().partition(|slice| {
            slice.address_type == group.address_type && same_ports(slice, &group.ports)
        });
        unused = rest;
        plan.settle(owner, group, &of_group);
    }
    plan.removals.extend(unused.into_iter().cloned());
    plan.into_writes()
}

fn same_ports(slice: &EndpointSlice, ports: &[EndpointPort]) -> bool {
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
}

/// A slice as it is becoming.
struct Draft<'a> {
    slice: &'a Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

impl Changes {
    fn settle(&mut self, owner: &Owner, group: &Group, slices: &[&Arc<EndpointSlice>]) {
        let mut missing = group.endpoints.clone();
        let mut drafts: Vec<Draft<'_>> =
            slices.iter().map(|slice| keep(owner, slice, &mut missing)).collect();
        // First into slices that are written anyway, then into others with room for all.
        for draft in drafts.iter_mut().filter(|draft| draft.changed) {
            fill(draft, &mut missing);
        }
        if !missing.is_empty()
            && let Some(draft) = drafts
                .iter_mut()
                .filter(|draft| draft.endpoints.len() + missing.len() <= MAX_ENDPOINTS)
                .max_by_key(|draft| draft.endpoints.len())
        {
            fill(draft, &mut missing);
        }
        while !missing.is_empty() {
            let rest = missing.split_off(missing.len().min(MAX_ENDPOINTS));
            self.creations.push(new_slice(owner, group, missing));
            missing = rest;
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
    fn into_writes(mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut creations = Vec::new();
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
                    updated.metadata.labels = creation.metadata.labels;
                    updated.metadata.annotations = creation.metadata.annotations;
                    updated.metadata.owner_references = creation.metadata.owner_references;
                    writes.push(Write::update(updated));
                }
                None => creations.push(Write::create(creation)),
            }
        }
        // New endpoints first, so that a Service that moves is never without any.
        creations.append(&mut writes);
        creations.extend(self.updates.into_iter().map(Write::update));
        creations.extend(self.removals.iter().map(|slice| Write::delete(&**slice)));
        creations
    }
}

/// Takes over what a slice holds of the wanted endpoints.
fn keep<'a>(
    owner: &Owner,
    slice: &'a Arc<EndpointSlice>,
    missing: &mut Vec<Endpoint>,
) -> Draft<'a> {
    let mut endpoints = Vec::new();
    let mut changed = !is_dressed(owner, &slice.metadata);
    for held in slice.endpoints.iter().flatten() {
        match missing.iter().position(|wanted| is_same(wanted, held)) {
            Some(position) => {
                let wanted = missing.remove(position);
                changed |= wanted != *held;
                endpoints.push(wanted);
            }
            None => changed = true,
        }
    }
    Draft { slice, endpoints, changed }
}

fn fill(draft: &mut Draft<'_>, missing: &mut Vec<Endpoint>) {
    let room = MAX_ENDPOINTS.saturating_sub(draft.endpoints.len()).min(missing.len());
    if room > 0 {
        draft.endpoints.extend(missing.drain(..room));
        draft.changed = true;
    }
}

/// Whether both speak of the same pod, or of the same address where there is no pod.
fn is_same(a: &Endpoint, b: &Endpoint) -> bool {
    let pod =
        |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    a.addresses == b.addresses && pod(a) == pod(b)
}

fn is_dressed(owner: &Owner, metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref().is_some_and(|labels| *labels == owner.labels);
    let empty = BTreeMap::new();
    let annotations = metadata.annotations.as_ref().unwrap_or(&empty);
    labels
        && owner.annotations.iter().all(|(key, value)| annotations.get(key) == Some(value))
        && metadata.owner_references.iter().flatten().any(|held| held.uid == owner.reference.uid)
}

fn dress(owner: &Owner, metadata: &mut ObjectMeta) {
    metadata.labels = Some(owner.labels.clone());
    if !owner.annotations.is_empty() {
        metadata.annotations.get_or_insert_default().extend(owner.annotations.clone());
    }
    metadata.owner_references = Some(vec![owner.reference.clone()]);
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
