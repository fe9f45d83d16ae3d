//! The state in memory: a persistent map of already-serialised values, and snapshots of it.
//!
//! Inputs are records, from the committer or from the log at start; outputs are the events that
//! watchers see. Invariant: [`apply`] is the only place where a record changes a map, so a replay
//! gives exactly the state and the events of the first run. Nothing here knows of disks or threads.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::record::{Record, Write};
use crate::txn::{Entry, Revision};
use crate::watch::{Change, Event};

/// All keys and values. Cloning is O(1); clones share what they have in common.
pub(crate) type Map = OrdMap<Arc<str>, Entry>;

/// The store at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) map: Map,
}

/// A consistent view of the store at one revision; later commits do not touch it.
#[derive(Clone, Debug)]
pub struct Snapshot(pub(crate) Arc<State>);

impl Snapshot {
    /// The revision of this view.
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// The entry at a key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.map.get(key)
    }

    /// All entries whose key begins with `prefix`, in byte order of keys.
    pub fn range<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.from(prefix, Bound::Included(prefix))
    }

    /// As [`Snapshot::range`], but only keys after `after_key`: the next page of a list. An
    /// `after_key` that sorts before the prefix leaves nothing out.
    pub fn range_from<'a>(
        &'a self,
        prefix: &'a str,
        after_key: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let start =
            if after_key < prefix { Bound::Included(prefix) } else { Bound::Excluded(after_key) };
        self.from(prefix, start)
    }

    fn from<'a>(
        &'a self,
        prefix: &'a str,
        start: Bound<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.0
            .map
            .range::<_, str>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (&**key, entry))
    }
}

/// Carries out a record and tells what changed, in order. Removing an absent key changes nothing.
pub(crate) fn apply(map: &mut Map, record: &Record) -> Vec<Event> {
    record.writes.iter().filter_map(|write| apply_write(map, record.revision, write)).collect()
}

fn apply_write(map: &mut Map, revision: Revision, write: &Write) -> Option<Event> {
    match write {
        Write::Put { key, value } => {
            // The key's first allocation serves the map and all events about it.
            let (key, previous) = match map.get_key_value(&**key) {
                Some((known, entry)) => (known.clone(), Some(entry.clone())),
                None => (key.clone(), None),
            };
            let created = previous.as_ref().map_or(revision, |entry| entry.created);
            let entry = Entry { value: value.clone(), created, modified: revision };
            map.insert(key.clone(), entry.clone());
            Some(Event { revision, key, change: Change::Put { entry, previous } })
        }
        Write::Delete { key, last } => {
            let (key, previous) = map.remove_with_key(&**key)?;
            let last = last.clone().unwrap_or_else(|| previous.value.clone());
            Some(Event { revision, key, change: Change::Delete { last, previous } })
        }
    }
}

#[cfg(test)]
mod tests;
