//! Who owns whom, and what follows from it: pure.
//!
//! Inputs: metadata of objects as it changes. Outputs: which others to look at, and writes.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::cache::Key;
use crate::controllers::ResourceId;
use crate::meta;
use crate::write::{PatchKind, Propagation, Target, Write};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What of an object's metadata decides its lot.
pub(super) fn facts(metadata: &ObjectMeta) -> impl PartialEq + use<> {
    (
        metadata.uid.clone(),
        metadata.owner_references.clone(),
        metadata.finalizers.clone(),
        metadata.deletion_timestamp.is_some(),
    )
}

/// An object, by place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    /// The resource.
    pub(super) resource: ResourceId,
    /// Namespace and name.
    pub(super) key: Key,
}

/// What is known of an object.
#[derive(Debug)]
struct Node {
    item: Item,
    metadata: ObjectMeta,
}

impl Node {
    fn owners(&self) -> impl Iterator<Item = &OwnerReference> {
        self.metadata.owner_references.iter().flatten()
    }

    fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Going away, but only after its dependents.
    fn waits_for_dependents(&self) -> bool {
        self.is_deleted() && meta::has_finalizer(&self.metadata, FOREGROUND)
    }

    fn target(&self) -> Target {
        Target::new(self.item.resource, &self.metadata)
    }
}

/// What to do about one object.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// In this order.
    pub(super) writes: Vec<Write>,
    /// Others that now have to be looked at.
    pub(super) look_at: Vec<Item>,
}

/// All objects by UID, and who depends on whom.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    uids: HashMap<Item, String>,
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    /// Takes in the object's present metadata, or that it is gone; answers with the objects whose
    /// lot may have changed by that.
    pub(super) fn update(&mut self, item: &Item, now: Option<&ObjectMeta>) -> Vec<Item> {
        if self.node(item).map(|node| facts(&node.metadata)) == now.map(facts) {
            // Looked at again for another's sake.
            return Vec::new();
        }
        let mut concerned = Vec::new();
        let new_uid = now.and_then(|metadata| metadata.uid.clone());
        if let Some(old_uid) = self.uids.get(item).cloned() {
            let same = new_uid.as_ref() == Some(&old_uid);
            if let Some(old) = self.nodes.remove(&old_uid) {
                for owner in old.owners() {
                    if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                        dependents.remove(&old_uid);
                        if dependents.is_empty() {
                            self.dependents.remove(&owner.uid);
                        }
                    }
                    // An owner that waits for its dependents may have waited for this one.
                    concerned.extend(self.waiting(&owner.uid));
                }
            }
            if !same {
                self.uids.remove(item);
                concerned.extend(self.dependents_of(&old_uid));
            }
        }
        if let (Some(metadata), Some(uid)) = (now, new_uid) {
            self.insert(item.clone(), uid.clone(), metadata.clone());
            if self.nodes.get(&uid).is_some_and(Node::waits_for_dependents) {
                concerned.extend(self.dependents_of(&uid));
            }
        }
        concerned.retain(|other| other != item);
        concerned
    }

    fn insert(&mut self, item: Item, uid: String, metadata: ObjectMeta) {
        for owner in metadata.owner_references.iter().flatten() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        self.uids.insert(item.clone(), uid.clone());
        self.nodes.insert(uid, Node { item, metadata });
    }

    fn waiting(&self, uid: &str) -> Option<Item> {
        self.nodes.get(uid).filter(|node| node.waits_for_dependents()).map(|node| node.item.clone())
    }

    fn dependents_of(&self, uid: &str) -> Vec<Item> {
        self.dependent_nodes(uid).map(|node| node.item.clone()).collect()
    }

    fn dependent_nodes(&self, uid: &str) -> impl Iterator<Item = &Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid))
    }

    fn node(&self, item: &Item) -> Option<&Node> {
        self.nodes.get(self.uids.get(item)?)
    }

    /// The owners of an object that the graph does not know: gone, or not yet heard of.
    pub(super) fn unknown_owners(&self, item: &Item) -> Vec<OwnerReference> {
        let Some(node) = self.node(item) else { return Vec::new() };
        node.owners().filter(|owner| self.owner(node, owner).is_none()).cloned().collect()
    }

    /// The owner that a reference means: of this UID, and within reach of the object's namespace.
    fn owner(&self, node: &Node, reference: &OwnerReference) -> Option<&Node> {
        self.nodes.get(&reference.uid).filter(|owner| {
            let namespace = &owner.item.key.namespace;
            namespace.is_empty() || *namespace == node.item.key.namespace
        })
    }

    /// Takes in the newest versions of an object and of its dependents, as far as their lot is the
    /// same: what is about to be written to has to be current.
    pub(super) fn refresh(&mut self, item: &Item, latest: impl Fn(&Item) -> Option<ObjectMeta>) {
        let Some(uid) = self.uids.get(item) else { return };
        let dependents = self.dependents.get(uid).into_iter().flatten();
        for uid in dependents.chain([uid]) {
            if let Some(node) = self.nodes.get_mut(uid)
                && let Some(metadata) = latest(&node.item)
                && facts(&metadata) == facts(&node.metadata)
            {
                node.metadata = metadata;
            }
        }
    }

    /// What is to be done about an object; `absent` are the UIDs of owners that the server says
    /// are gone (upstream: `attemptToDeleteItem`, `attemptToOrphanWorker`).
    pub(super) fn plan(&self, item: &Item, absent: &HashSet<String>) -> Verdict {
        let Some(node) = self.node(item) else { return Verdict::default() };
        if node.is_deleted() {
            if meta::has_finalizer(&node.metadata, ORPHAN) {
                return self.orphan(node);
            }
            if node.waits_for_dependents() {
                return self.finish_foreground(node);
            }
            return Verdict::default();
        }
        let (mut solid, mut loose, mut waiting) = (0, HashSet::new(), false);
        for reference in node.owners() {
            match self.owner(node, reference) {
                Some(owner) if owner.waits_for_dependents() => {
                    waiting = true;
                    loose.insert(reference.uid.as_str());
                }
                None if absent.contains(&reference.uid) => {
                    loose.insert(reference.uid.as_str());
                }
                _ => solid += 1,
            }
        }
        if loose.is_empty() {
            return Verdict::default();
        }
        let write = if solid > 0 {
            // Somebody else still holds it; it must not hold up those who go.
            without_owners(node, &loose)
        } else {
            let has_dependents = self.dependent_nodes(meta::uid(&node.metadata)).next().is_some();
            Write::Delete {
                target: node.target(),
                grace: None,
                propagation: if meta::has_finalizer(&node.metadata, ORPHAN) {
                    Propagation::Orphan
                } else if (waiting && has_dependents)
                    || meta::has_finalizer(&node.metadata, FOREGROUND)
                {
                    Propagation::Foreground
                } else {
                    Propagation::Background
                },
            }
        };
        Verdict { writes: vec![write], look_at: Vec::new() }
    }

    /// The dependents lose this owner, then the owner may go.
    fn orphan(&self, node: &Node) -> Verdict {
        let uid = meta::uid(&node.metadata);
        let mut writes: Vec<Write> = self
            .dependent_nodes(uid)
            .map(|dependent| without_owners(dependent, &HashSet::from([uid])))
            .collect();
        writes.push(without_finalizer(node, ORPHAN));
        Verdict { writes, look_at: Vec::new() }
    }

    /// The owner may go when no dependent that blocks it is left.
    fn finish_foreground(&self, node: &Node) -> Verdict {
        let uid = meta::uid(&node.metadata);
        let blocks = |dependent: &&Node| {
            dependent
                .owners()
                .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        let blocking: Vec<&Node> = self.dependent_nodes(uid).filter(blocks).collect();
        if blocking.is_empty() {
            let writes = vec![without_finalizer(node, FOREGROUND)];
            return Verdict { writes, look_at: Vec::new() };
        }
        let idle = blocking.iter().filter(|dependent| !dependent.is_deleted());
        let look_at = idle.map(|dependent| dependent.item.clone()).collect();
        Verdict { writes: Vec::new(), look_at }
    }
}

fn without_owners(node: &Node, gone: &HashSet<&str>) -> Write {
    let kept: Vec<&OwnerReference> =
        node.owners().filter(|owner| !gone.contains(owner.uid.as_str())).collect();
    Write::Patch {
        target: node.target(),
        subresource: None,
        kind: PatchKind::Merge,
        body: json!({ "metadata": {
            "ownerReferences": kept,
            "resourceVersion": node.metadata.resource_version,
        }}),
    }
}

fn without_finalizer(node: &Node, finalizer: &str) -> Write {
    let kept: Vec<&String> =
        node.metadata.finalizers.iter().flatten().filter(|held| *held != finalizer).collect();
    Write::Patch {
        target: node.target(),
        subresource: None,
        kind: PatchKind::Merge,
        body: json!({ "metadata": {
            "finalizers": kept,
            "resourceVersion": node.metadata.resource_version,
        }}),
    }
}

#[cfg(test)]
mod tests;
