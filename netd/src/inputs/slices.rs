//! All `EndpointSlice`s of the cluster, each kept once.
//!
//! Input: slices as a watch sees them. Output: the same cut down, to all who need some: the kernel's
//! loop holds those of the Services that it programs, the name server asks for those of headless
//! Services, Ingress for those of Services that a rule names. So nobody needs a copy of slices that
//! may count later. Deliberately not here: which slices matter to whom.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::discovery::v1 as discovery;
use netmodel::snapshot::{EndpointSlice, ServiceName};

use super::SliceName;
use super::intern::Interner;
use crate::convert;

/// A slice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    /// Whose it is.
    pub(crate) owner: ServiceName,
    /// What everybody reads of it.
    pub(crate) slice: Arc<EndpointSlice>,
    /// The names of its endpoints below their Service, in their order; empty if none has one.
    pub(crate) hostnames: Hostnames,
}

/// One for each endpoint of a slice, or none at all.
pub(crate) type Hostnames = Box<[Option<Box<str>>]>;

/// All slices. Shared; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slices(Arc<Mutex<Store>>);

#[derive(Debug, Default)]
struct Store {
    /// The name of the Service of each slice, which is in the slice's own namespace.
    owners: BTreeMap<SliceName, Arc<str>>,
    of_services: BTreeMap<ServiceName, Vec<Part>>,
    words: Interner,
}

/// What is kept of a slice under its Service's name.
#[derive(Debug)]
struct Part {
    name: Arc<str>,
    slice: Arc<EndpointSlice>,
    hostnames: Hostnames,
}

impl Slices {
    /// A slice came, changed or went: tells whose it was, and what it is now. One that belongs to no
    /// Service, or has no addresses, counts as gone.
    pub(crate) fn set(
        &self,
        name: &SliceName,
        object: Option<&discovery::EndpointSlice>,
    ) -> (Option<ServiceName>, Option<Kept>) {
        let mut store = self.lock();
        let now = object.and_then(|object| convert::slice(name, object, &mut store.words));
        let before = store.remove(name);
        if let Some(now) = &now {
            store.insert(name, now);
        }
        (before, now)
    }

    /// A slice by its own name.
    pub(crate) fn get(&self, name: &SliceName) -> Option<Kept> {
        let store = self.lock();
        let owner = store.owner(name)?;
        let part = store.of_services.get(&owner)?.iter().find(|part| part.name == name.name)?;
        Some(part.kept(&owner))
    }

    /// The slices of a Service, with their names.
    pub(crate) fn of(&self, service: &ServiceName) -> Vec<(Arc<str>, Kept)> {
        let store = self.lock();
        let parts = store.of_services.get(service).into_iter().flatten();
        parts.map(|part| (part.name.clone(), part.kept(service))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn kept(&self, owner: &ServiceName) -> Kept {
        let (slice, hostnames) = (self.slice.clone(), self.hostnames.clone());
        Kept { owner: owner.clone(), slice, hostnames }
    }
}

impl Store {
    fn owner(&self, name: &SliceName) -> Option<ServiceName> {
        let owner = self.owners.get(name)?.clone();
        Some(ServiceName { namespace: name.namespace.clone(), name: owner })
    }

    fn remove(&mut self, name: &SliceName) -> Option<ServiceName> {
        let owner = self.owner(name)?;
        self.owners.remove(name);
        if let Entry::Occupied(mut parts) = self.of_services.entry(owner.clone()) {
            parts.get_mut().retain(|part| part.name != name.name);
            if parts.get().is_empty() {
                parts.remove();
            }
        }
        Some(owner)
    }

    fn insert(&mut self, name: &SliceName, kept: &Kept) {
        let Kept { owner, slice, hostnames } = kept.clone();
        self.owners.insert(name.clone(), owner.name.clone());
        let parts = self.of_services.entry(owner).or_default();
        // Most Services have one.
        parts.reserve_exact(1);
        parts.push(Part { name: name.name.clone(), slice, hostnames });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(name: &str) -> ServiceName {
        ServiceName::new("shop", name)
    }

    fn object(owner: &str, hostname: Option<&str>) -> discovery::EndpointSlice {
        let object = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": owner}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.244.0.7"], "hostname": hostname, "nodeName": "node-1"},
                {"addresses": ["10.244.0.8"], "nodeName": "node-1"},
            ],
        });
        serde_json::from_value(object).unwrap()
    }

    fn names(slices: &Slices, service: &str) -> Vec<String> {
        slices.of(&name(service)).iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn a_slice_is_found_by_its_name_and_by_its_service() {
        let slices = Slices::default();
        let (before, now) = slices.set(&name("web-x"), Some(&object("web", None)));
        assert_eq!(before, None);
        assert_eq!(slices.get(&name("web-x")), now);
        slices.set(&name("web-y"), Some(&object("web", None)));
        assert_eq!(names(&slices, "web"), ["web-x", "web-y"]);
        assert_eq!(slices.set(&name("web-x"), None), (Some(name("web")), None));
        assert_eq!(names(&slices, "web"), ["web-y"]);
        assert_eq!(slices.set(&name("web-x"), None), (None, None));
        slices.set(&name("web-y"), None);
        assert!(slices.lock().of_services.is_empty() && slices.lock().owners.is_empty());
    }

    #[test]
    fn a_slice_may_change_its_service() {
        let slices = Slices::default();
        slices.set(&name("web-x"), Some(&object("web", None)));
        let (before, now) = slices.set(&name("web-x"), Some(&object("other", None)));
        assert_eq!((before, now.map(|now| now.owner)), (Some(name("web")), Some(name("other"))));
        assert_eq!(
            (names(&slices, "web"), names(&slices, "other")),
            (vec![], vec!["web-x".into()])
        );
    }

    #[test]
    fn hostnames_are_kept_where_there_are_some() {
        let kept = |hostname| Slices::default().set(&name("x"), Some(&object("web", hostname))).1;
        assert!(kept(None).unwrap().hostnames.is_empty());
        assert_eq!(*kept(Some("DB-0")).unwrap().hostnames, [Some("db-0".into()), None]);
        assert!(kept(Some("")).unwrap().hostnames.is_empty());
    }

    #[test]
    fn who_asks_for_a_slice_gets_the_one_that_is_kept() {
        let slices = Slices::default();
        let (_, now) = slices.set(&name("web-x"), Some(&object("web", None)));
        let (first, second) = (now.unwrap(), slices.get(&name("web-x")).unwrap());
        assert!(Arc::ptr_eq(&first.slice, &second.slice));
        let nodes: Vec<_> = first.slice.endpoints.iter().map(|one| one.node.clone()).collect();
        let [Some(first), Some(second)] = &nodes[..] else { panic!("{nodes:?}") };
        assert!(Arc::ptr_eq(first, second));
    }
}
