//! What the watches see, told to everybody who cares, without a second watch.
//!
//! A [`Listener`] gets each object as the API has it, keeps what it needs in a form of its own, and
//! lets the object go: large types live for the time of one call. The [`Fan`] evens out what a watch
//! that begins anew leaves open: an object that the new list lacks is told as gone. Invariants: a
//! listener hears of an object's end only if it heard of the object; [`Listener::synced`] comes
//! once, when Services, `EndpointSlice`s and Nodes have been listed. Listeners run where the watches
//! are read: they must be quick, and never block.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use netmodel::snapshot::ServiceName;

use super::slices::{Changed, Kept, Slices};
use super::{Change, Listing, SliceName};

/// Somebody who follows the cluster; an absent object is one that went.
pub(crate) trait Listener: Send {
    /// A Service came, changed or went; headless ones and those of other proxies included.
    fn service(&mut self, _name: &ServiceName, _object: Option<&core::Service>) {}
    /// A slice came, changed or went: whose it was, and what it is now. A list that is read again
    /// is no news.
    fn slice(&mut self, _name: &SliceName, _owner: Option<&ServiceName>, _now: Option<&Kept>) {}
    /// A Node came, changed or went.
    fn node(&mut self, _name: &str, _object: Option<&core::Node>) {}
    /// A Pod of any node came, changed or went.
    fn pod(&mut self, _name: &ServiceName, _object: Option<&core::Pod>) {}
    /// Services, slices and Nodes are all known now.
    fn synced(&mut self) {}
    /// All Pods are known now. Does not come where the API does not show them.
    fn pods_synced(&mut self) {}
}

/// An object of a kind that listeners can follow.
pub(crate) trait Followed: Sized {
    /// Which list of the fan is its.
    const LIST: usize;
    /// Tells all listeners.
    fn tell(to: &mut Everybody, name: &ServiceName, object: Option<&Self>);
}

impl Followed for core::Service {
    const LIST: usize = 0;
    fn tell(to: &mut Everybody, name: &ServiceName, object: Option<&Self>) {
        to.each(|one| one.service(name, object));
    }
}

impl Followed for discovery::EndpointSlice {
    const LIST: usize = 1;
    fn tell(to: &mut Everybody, name: &ServiceName, object: Option<&Self>) {
        let Some(Changed { before, now }) = to.slices.set(name, object) else { return };
        to.each(|one| one.slice(name, before.as_ref(), now.as_ref()));
    }
}

impl Followed for core::Node {
    const LIST: usize = 2;
    fn tell(to: &mut Everybody, name: &ServiceName, object: Option<&Self>) {
        to.each(|one| one.node(&name.name, object));
    }
}

impl Followed for core::Pod {
    const LIST: usize = 3;
    fn tell(to: &mut Everybody, name: &ServiceName, object: Option<&Self>) {
        to.each(|one| one.pod(name, object));
    }
}

/// The lists without which nobody may act.
const NEEDED: usize = 3;

/// All listeners, and the slices that they share.
pub(crate) struct Everybody {
    listeners: Vec<Box<dyn Listener>>,
    slices: Slices,
}

impl Everybody {
    fn each(&mut self, tell: impl FnMut(&mut Box<dyn Listener>)) {
        self.listeners.iter_mut().for_each(tell);
    }
}

/// Who is told, and what they have heard of.
pub(crate) struct Fan {
    to: Everybody,
    /// By [`Followed::LIST`].
    lists: [List; NEEDED + 1],
    told_synced: bool,
}

#[derive(Default)]
struct List {
    listing: Listing,
    known: BTreeSet<ServiceName>,
}

impl Fan {
    pub(crate) fn new(slices: Slices, listeners: Vec<Box<dyn Listener>>) -> Self {
        let to = Everybody { listeners, slices };
        Self { to, lists: Default::default(), told_synced: false }
    }

    /// Passes a step of a watch on.
    pub(crate) fn tell<K: Followed>(&mut self, change: Change<&K>) {
        let List { listing, known } = &mut self.lists[K::LIST];
        let was_complete = listing.complete_once;
        for (name, object) in listing.step(change, || known.clone()) {
            let heard_of = match object {
                Some(_) => {
                    known.insert(name.clone());
                    true
                }
                None => known.remove(&name),
            };
            if heard_of {
                K::tell(&mut self.to, &name, object);
            }
        }
        if !was_complete && self.lists[K::LIST].listing.complete_once {
            self.complete(K::LIST);
        }
    }

    fn complete(&mut self, list: usize) {
        if list >= NEEDED {
            self.to.each(|one| one.pods_synced());
        } else if !self.told_synced
            && self.lists[..NEEDED].iter().all(|list| list.listing.complete_once)
        {
            self.told_synced = true;
            self.to.each(|one| one.synced());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Writes down what it hears.
    #[derive(Clone, Default)]
    struct Scribe(Arc<Mutex<Vec<String>>>);

    impl Scribe {
        fn note(&self, what: &str, name: &dyn std::fmt::Display, there: bool) {
            let sign = if there { '+' } else { '-' };
            self.0.lock().unwrap().push(format!("{sign}{what} {name}"));
        }

        fn heard(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Listener for Scribe {
        fn service(&mut self, name: &ServiceName, object: Option<&core::Service>) {
            self.note("service", name, object.is_some());
        }
        fn slice(&mut self, name: &SliceName, _: Option<&ServiceName>, now: Option<&Kept>) {
            self.note("slice", name, now.is_some());
        }
        fn node(&mut self, name: &str, object: Option<&core::Node>) {
            self.note("node", &name, object.is_some());
        }
        fn synced(&mut self) {
            self.note("synced", &"", true);
        }
        fn pods_synced(&mut self) {
            self.note("pods", &"", true);
        }
    }

    fn listed(scribe: &Scribe, services: &[&str]) -> Fan {
        let mut fan = Fan::new(Slices::default(), vec![Box::new(scribe.clone())]);
        list(&mut fan, services);
        fan.tell::<discovery::EndpointSlice>(Change::Listed);
        fan.tell::<core::Node>(Change::Listed);
        fan
    }

    fn list(fan: &mut Fan, services: &[&str]) {
        fan.tell::<core::Service>(Change::Begin);
        for name in services {
            let object = core::Service::default();
            fan.tell(Change::Set(ServiceName::new("default", name), &object));
        }
        fan.tell::<core::Service>(Change::Listed);
    }

    #[test]
    fn a_listener_is_told_once_when_all_that_counts_is_known() {
        let scribe = Scribe::default();
        let mut fan = listed(&scribe, &["web"]);
        assert_eq!(scribe.heard(), ["+service default/web", "+synced "]);
        list(&mut fan, &["web"]);
        fan.tell::<core::Pod>(Change::Listed);
        assert_eq!(scribe.heard(), ["+service default/web", "+pods "]);
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let scribe = Scribe::default();
        let mut fan = listed(&scribe, &["kept", "lost"]);
        scribe.heard();
        list(&mut fan, &["kept"]);
        assert_eq!(scribe.heard(), ["+service default/kept", "-service default/lost"]);
    }

    #[test]
    fn the_end_of_what_was_never_heard_of_is_no_news() {
        let scribe = Scribe::default();
        let mut fan = listed(&scribe, &[]);
        scribe.heard();
        fan.tell::<core::Service>(Change::Gone(ServiceName::new("default", "other")));
        assert_eq!(scribe.heard(), Vec::<String>::new());
    }

    #[test]
    fn a_slice_is_told_again_only_when_it_changed() {
        let scribe = Scribe::default();
        let mut fan = listed(&scribe, &[]);
        scribe.heard();
        let mut object = discovery::EndpointSlice {
            address_type: "IPv4".to_owned(),
            ..discovery::EndpointSlice::default()
        };
        let labels = [("kubernetes.io/service-name".to_owned(), "web".to_owned())];
        object.metadata.labels = Some(labels.into());
        let mut list = |object: &discovery::EndpointSlice| {
            fan.tell::<discovery::EndpointSlice>(Change::Begin);
            fan.tell(Change::Set(ServiceName::new("default", "web-x"), object));
            fan.tell::<discovery::EndpointSlice>(Change::Listed);
            scribe.heard()
        };
        assert_eq!(list(&object), ["+slice default/web-x"]);
        assert_eq!(list(&object), Vec::<String>::new());
        object.address_type = "IPv6".to_owned();
        assert_eq!(list(&object), ["+slice default/web-x"]);
    }
}
