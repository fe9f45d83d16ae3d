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

/// What became of a slice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changed {
    /// Whose it was.
    pub(crate) before: Option<ServiceName>,
    /// What it is now.
    pub(crate) now: Option<Kept>,
}

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
    /// A slice came, changed or went; tells nothing when it is what it was. One that belongs to no
    /// Service, or has no addresses, counts as gone.
    pub(crate) fn set(
        &self,
        name: &SliceName,
        object: Option<&discovery::EndpointSlice>,
    ) -> Option<Changed> {
        let mut store = self.lock();
        match object.and_then(|object| convert::slice(name, object, &mut store.words)) {
            Some(now) => store.put(name, now),
            None => store.remove(name).map(|before| Changed { before: Some(before), now: None }),
        }
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

    /// Becomes what it is now, and shares with that what did not change. Says whether anything did.
    fn renew(&mut self, now: &mut Kept) -> bool {
        let (same_slice, same_names) = (self.slice == now.slice, self.hostnames == now.hostnames);
        if same_slice {
            now.slice = self.slice.clone();
        } else {
            self.slice = now.slice.clone();
        }
        if !same_names {
            self.hostnames.clone_from(&now.hostnames);
        }
        !(same_slice && same_names)
    }
}

impl Store {
    fn owner(&self, name: &SliceName) -> Option<ServiceName> {
        let (known, owner) = self.owners.get_key_value(name)?;
        Some(ServiceName { namespace: known.namespace.clone(), name: owner.clone() })
    }

    /// Takes a slice in. Of what is kept already, all stays that is still true: others hold it, and
    /// a list that is read again must not leave them with a copy of their own.
    fn put(&mut self, name: &SliceName, mut now: Kept) -> Option<Changed> {
        let before = self.owner(name);
        match before.as_ref().filter(|before| **before == now.owner) {
            Some(same) => {
                now.owner = same.clone();
                let parts = self.of_services.get_mut(same)?;
                let part = parts.iter_mut().find(|part| part.name == name.name)?;
                if !part.renew(&mut now) {
                    return None;
                }
            }
            None => {
                self.remove(name);
                if let Some((known, _)) = self.of_services.get_key_value(&now.owner) {
                    now.owner = known.clone();
                }
                self.insert(name, &now);
            }
        }
        Some(Changed { before, now: Some(now) })
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
        let came = slices.set(&name("web-x"), Some(&object("web", None))).unwrap();
        assert_eq!(came.before, None);
        assert_eq!(slices.get(&name("web-x")), came.now);
        slices.set(&name("web-y"), Some(&object("web", None)));
        assert_eq!(names(&slices, "web"), ["web-x", "web-y"]);
        let went = Changed { before: Some(name("web")), now: None };
        assert_eq!(slices.set(&name("web-x"), None), Some(went));
        assert_eq!(names(&slices, "web"), ["web-y"]);
        assert_eq!(slices.set(&name("web-x"), None), None);
        slices.set(&name("web-y"), None);
        assert!(slices.lock().of_services.is_empty() && slices.lock().owners.is_empty());
    }

    #[test]
    fn a_slice_may_change_its_service() {
        let slices = Slices::default();
        slices.set(&name("web-x"), Some(&object("web", None)));
        let Changed { before, now } =
            slices.set(&name("web-x"), Some(&object("other", None))).unwrap();
        assert_eq!((before, now.map(|now| now.owner)), (Some(name("web")), Some(name("other"))));
        assert_eq!(
            (names(&slices, "web"), names(&slices, "other")),
            (vec![], vec!["web-x".into()])
        );
    }

    #[test]
    fn hostnames_are_kept_where_there_are_some() {
        let kept = |hostname| {
            let changed = Slices::default().set(&name("x"), Some(&object("web", hostname)));
            changed.unwrap().now.unwrap().hostnames
        };
        assert!(kept(None).is_empty());
        assert_eq!(*kept(Some("DB-0")), [Some("db-0".into()), None]);
        assert!(kept(Some("")).is_empty());
    }

    #[test]
    fn who_asks_for_a_slice_gets_the_one_that_is_kept() {
        let slices = Slices::default();
        let came = slices.set(&name("web-x"), Some(&object("web", None))).unwrap();
        let (first, second) = (came.now.unwrap(), slices.get(&name("web-x")).unwrap());
        assert!(Arc::ptr_eq(&first.slice, &second.slice));
        let nodes: Vec<_> = first.slice.endpoints.iter().map(|one| one.node.clone()).collect();
        let [Some(first), Some(second)] = &nodes[..] else { panic!("{nodes:?}") };
        assert!(Arc::ptr_eq(first, second));
    }

    #[test]
    fn a_slice_that_is_what_it_was_stays_where_it_is() {
        let slices = Slices::default();
        slices.set(&name("web-x"), Some(&object("web", None)));
        let first = slices.get(&name("web-x")).unwrap();
        assert_eq!(slices.set(&name("web-x"), Some(&object("web", None))), None);
        // Of one that changed, all else stays.
        let named = slices.set(&name("web-x"), Some(&object("web", Some("db-0")))).unwrap();
        assert_eq!(named.before, Some(name("web")));
        let (told, kept) = (named.now.unwrap(), slices.get(&name("web-x")).unwrap());
        assert_eq!(told, kept);
        assert!(!kept.hostnames.is_empty());
        for same in [told, kept] {
            assert!(Arc::ptr_eq(&first.slice, &same.slice));
            assert!(Arc::ptr_eq(&first.owner.name, &same.owner.name));
        }
    }

    #[test]
    fn all_slices_of_a_service_share_its_name() {
        let slices = Slices::default();
        let owner = |slice: &str| {
            slices.set(&name(slice), Some(&object("web", None))).unwrap().now.unwrap().owner
        };
        assert!(Arc::ptr_eq(&owner("web-x").name, &owner("web-y").name));
    }
}
