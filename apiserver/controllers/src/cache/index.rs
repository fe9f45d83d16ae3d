//! Finds a namespace's objects by a word: pods by a label, slices by their Service.
//!
//! Owns: which names a word leads to. Input: an object's words ([`Held::words`](crate::meta::Held::words))
//! before and after a change. Output: names, in order.
//! Invariant: kept under the same lock as the objects, so that both always agree. Without it, ten
//! thousand Services in one namespace would each look through the slices of all others.

use std::collections::{BTreeSet, HashMap};

/// See the module's text.
#[derive(Default)]
pub(super) struct Index {
    names: HashMap<String, BTreeSet<String>>,
}

/// A namespace cannot contain a slash.
fn place(namespace: &str, word: &str) -> String {
    format!("{namespace}/{word}")
}

impl Index {
    /// The object of this name had the words `old` and has the words `new`.
    pub(super) fn change(&mut self, namespace: &str, name: &str, old: &[String], new: &[String]) {
        if old == new {
            return;
        }
        for word in old.iter().filter(|word| !new.contains(word)) {
            let place = place(namespace, word);
            if let Some(names) = self.names.get_mut(&place) {
                names.remove(name);
                if names.is_empty() {
                    self.names.remove(&place);
                }
            }
        }
        for word in new.iter().filter(|word| !old.contains(word)) {
            self.names.entry(place(namespace, word)).or_default().insert(name.to_owned());
        }
    }

    /// The names of the objects that have the word.
    pub(super) fn names(&self, namespace: &str, word: &str) -> impl Iterator<Item = &String> {
        self.names.get(&place(namespace, word)).into_iter().flatten()
    }

    /// How many objects have the word.
    pub(super) fn count(&self, namespace: &str, word: &str) -> usize {
        self.names.get(&place(namespace, word)).map_or(0, BTreeSet::len)
    }

    /// Whether nothing is remembered.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
