//! The objects of one kind, as last heard from the API server.
//!
//! Inputs: lists and watch events of the kind's reflector, and the answers to our own writes.
//! Output: shared objects by key, and a call to each handler when something changed.
//!
//! Invariant: *a controller sees its own writes.* The answer to a write is put into the cache at
//! once, so that the next plan counts the pod just created even though the watch has not told of
//! it yet. This replaces the expectations of kube-controller-manager: there the cache lags and
//! every controller has to remember what it is waiting for. Three rules keep the two sources in
//! order (resource versions are numbers that grow with every write):
//! 1. of two versions of an object, the one with the greater resource version wins;
//! 2. an answer about an unknown object is dropped when the watch is already past it: the watch
//!    has seen the object come and go;
//! 3. an object that we removed stays removed until the watch (or a list) confirms it.

mod index;

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::meta::{self, Held};

use index::Index;

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Namespace, or empty.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// One change of one object: it came (`old` is none), changed, or went (`new` is none).
#[derive(Debug)]
pub(crate) struct Change<K> {
    /// What the cache held before.
    pub(crate) old: Option<Arc<K>>,
    /// What it holds now.
    pub(crate) new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newest state there is.
    pub(crate) fn latest(&self) -> &K {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has at least one side: see Cache::apply and Cache::take")
    }

    /// Both states, old first.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(&self.new)
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// The same objects by their words.
    index: Index,
    /// UIDs of objects that we removed and the watch has not yet reported as removed.
    removed: HashSet<String>,
    /// The greatest resource version that the list or the watch told of.
    heard: u64,
}

/// See the module's text.
pub(crate) struct Cache<K> {
    state: RwLock<State<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    listed: watch::Sender<bool>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                index: Index::default(),
                removed: HashSet::new(),
                heard: 0,
            }),
            handlers: RwLock::default(),
            listed: watch::Sender::new(false),
        }
    }
}

impl<K: Held> Cache<K> {
    /// Calls `handler` after each change, outside of any lock. Register before the reflector runs.
    pub(crate) fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// Waits until the kind was listed once.
    pub(crate) async fn wait_listed(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// The object of this key.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// The object of this namespace and name, if it is still the one with this UID.
    pub(crate) fn get_by_uid(&self, namespace: &str, name: &str, uid: &str) -> Option<Arc<K>> {
        self.get(&Key::new(namespace, name)).filter(|object| meta::uid(&**object) == uid)
    }

    /// All objects of a namespace, by name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = Bound::Included(Key::new(namespace, ""));
        self.read()
            .objects
            .range((first, Bound::Unbounded))
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects of a namespace that have this word (see [`Held::words`]), by name.
    pub(crate) fn found_by(&self, namespace: &str, word: &str) -> Vec<Arc<K>> {
        let state = self.read();
        let held = |name: &String| state.objects.get(&Key::new(namespace, name.clone())).cloned();
        state.index.names(namespace, word).filter_map(held).collect()
    }

    /// The objects of a namespace that have all of these words, by name.
    pub(crate) fn found_by_all(&self, namespace: &str, words: &[String]) -> Vec<Arc<K>> {
        let rarest = {
            let state = self.read();
            words.iter().min_by_key(|word| state.index.count(namespace, word)).cloned()
        };
        let Some(rarest) = rarest else { return Vec::new() };
        let mut found = self.found_by(namespace, &rarest);
        if words.len() > 1 {
            found.retain(|object| {
                let held = object.words();
                words.iter().all(|word| held.contains(word))
            });
        }
        found
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.read().objects.is_empty()
    }

    /// All objects, by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// Takes in an object that the watch told of.
    pub(crate) fn observe(&self, object: K) {
        self.apply(object, true);
    }

    /// Takes in the answer to one of our own writes.
    pub(crate) fn absorb(&self, object: K) {
        self.apply(object, false);
    }

    fn apply(&self, mut object: K, from_watch: bool) {
        // Nobody here reads who wrote which field, and it is a third of an object's memory.
        object.meta_mut().managed_fields = None;
        let revision = revision(&object);
        let key = meta::key(&object);
        let mut state = self.write();
        if from_watch {
            state.heard = state.heard.max(revision);
        }
        if state.removed.contains(meta::uid(&object)) {
            return;
        }
        match state.objects.get(&key) {
            Some(held) if self::revision(&**held) >= revision => return,
            None if !from_watch && revision <= state.heard => return,
            _ => {}
        }
        let new = Arc::new(object);
        let old = state.put(key, &new);
        drop(state);
        self.tell(&Change { old, new: Some(new) });
    }

    /// The watch told that the object is gone.
    pub(crate) fn observe_removed(&self, object: &K) {
        let mut state = self.write();
        state.heard = state.heard.max(revision(object));
        state.removed.remove(meta::uid(object));
        let old = state.take(&meta::key(object), meta::uid(object));
        drop(state);
        self.tell_removed(old);
    }

    /// We removed the object.
    pub(crate) fn absorb_removed(&self, key: &Key, uid: &str) {
        let mut state = self.write();
        let old = state.take(key, uid);
        if old.is_some() {
            state.removed.insert(uid.to_owned());
        }
        drop(state);
        self.tell_removed(old);
    }

    /// The watch told that nothing happened up to this resource version.
    pub(crate) fn observe_progress(&self, revision: u64) {
        let mut state = self.write();
        state.heard = state.heard.max(revision);
    }

    /// Takes in a whole list, read at `revision`.
    pub(crate) fn replace(&self, objects: Vec<K>, revision: u64) {
        let listed: HashSet<String> = objects.iter().map(|o| meta::uid(o).to_owned()).collect();
        for object in objects {
            self.observe(object);
        }
        let mut state = self.write();
        state.heard = state.heard.max(revision);
        state.removed.retain(|uid| listed.contains(uid));
        let gone = state.objects.extract_if(.., |_, held| {
            // Written by us after the list was read: the watch will tell of it.
            let newer = self::revision(&**held) > revision;
            !newer && !listed.contains(meta::uid(&**held))
        });
        let gone: Vec<(Key, Arc<K>)> = gone.collect();
        for (key, held) in &gone {
            state.index.change(&key.namespace, &key.name, &held.words(), &[]);
        }
        drop(state);
        for (_, old) in gone {
            self.tell_removed(Some(old));
        }
        self.listed.send_replace(true);
    }

    fn tell_removed(&self, old: Option<Arc<K>>) {
        if old.is_some() {
            self.tell(&Change { old, new: None });
        }
    }

    fn tell(&self, change: &Change<K>) {
        for handler in self.handlers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(change);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Held> State<K> {
    /// Holds the object; answers with its former state.
    fn put(&mut self, key: Key, object: &Arc<K>) -> Option<Arc<K>> {
        let old = self.objects.get(&key).map(|held| held.words()).unwrap_or_default();
        self.index.change(&key.namespace, &key.name, &old, &object.words());
        self.objects.insert(key, object.clone())
    }

    /// Lets go of the object, if it is still the one with this UID.
    fn take(&mut self, key: &Key, uid: &str) -> Option<Arc<K>> {
        let held = self.objects.get(key).filter(|held| meta::uid(&***held) == uid)?;
        self.index.change(&key.namespace, &key.name, &held.words(), &[]);
        self.objects.remove(key)
    }
}

fn revision<K: Held>(object: &K) -> u64 {
    parse_revision(object.meta().resource_version.as_deref())
}

/// A resource version as a number; 0 for an object that was never stored.
pub(crate) fn parse_revision(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
