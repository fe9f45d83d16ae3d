//! The strategic merge patch that turns one object into another.
//!
//! Inputs: two JSON objects, the view of their type, and which differences count; output: a patch
//! with `null` for removed fields, `$patch: delete` for removed items, `$deleteFromPrimitiveList`,
//! `$setElementOrder` and `$retainKeys` where the type asks for them.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use crate::schema::Merge;

use super::error::go_value;
use super::order::{Items, items_of};
use super::{DELETE_FROM, ELEMENT_ORDER, PATCH, RETAIN_KEYS, StrategicError, View};

/// Which differences a patch carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Differences {
    /// All of them.
    All,
    /// What was added or changed.
    Additions,
    /// What was removed.
    Deletions,
}

impl Differences {
    fn additions(self) -> bool {
        self != Self::Deletions
    }

    fn deletions(self) -> bool {
        self != Self::Additions
    }
}

type Object = Map<String, Value>;

/// The patch from `original` to `modified`.
pub(crate) fn diff(
    original: &Object,
    modified: &Object,
    view: View,
    which: Differences,
) -> Result<Object, StrategicError> {
    diff_objects(original, modified, view, which, false)
}

fn diff_objects(
    original: &Object,
    modified: &Object,
    view: View,
    which: Differences,
    retain_keys: bool,
) -> Result<Object, StrategicError> {
    let mut patch = Object::new();
    for (name, new) in modified {
        let Some(old) = original.get(name) else {
            if which.additions() {
                patch.insert(name.clone(), new.clone());
            }
            continue;
        };
        if name == PATCH {
            if !old.is_string() || !new.is_string() {
                return Err(StrategicError::BadDirectiveValue);
            }
            if old != new {
                patch.insert(name.clone(), new.clone());
            }
            continue;
        }
        if old != new {
            diff_field(name, old, new, view, which, &mut patch)?;
        }
    }
    if which.deletions() {
        for name in original.keys().filter(|name| !modified.contains_key(*name)) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    if retain_keys {
        let kept: Vec<&String> =
            modified.iter().filter(|(_, v)| !v.is_null()).map(|(name, _)| name).collect();
        let clears =
            original.iter().any(|(name, value)| !value.is_null() && !modified.contains_key(name));
        if !kept.is_empty() && (!patch.is_empty() || clears) {
            patch.insert(RETAIN_KEYS.to_owned(), json!(kept));
        }
    }
    Ok(patch)
}

/// Compares a field whose values differ.
fn diff_field(
    name: &str,
    old: &Value,
    new: &Value,
    view: View,
    which: Differences,
    patch: &mut Object,
) -> Result<(), StrategicError> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let (below, strategy) = view.field(name)?;
            if !strategy.replace {
                let inner = diff_objects(old, new, below, which, strategy.retain_keys)?;
                if !inner.is_empty() {
                    patch.insert(name.to_owned(), Value::Object(inner));
                }
                return Ok(());
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            let (below, strategy) = view.field(name)?;
            if strategy.merge {
                return diff_lists(name, [old, new], below, strategy, which, patch);
            }
        }
        _ => {}
    }
    if which.additions() {
        patch.insert(name.to_owned(), new.clone());
    }
    Ok(())
}

fn diff_lists(
    name: &str,
    [old, new]: [&[Value]; 2],
    view: View,
    strategy: Merge,
    which: Differences,
    patch: &mut Object,
) -> Result<(), StrategicError> {
    if old.is_empty() {
        if which.additions() && !new.is_empty() {
            patch.insert(name.to_owned(), json!(new));
        }
        return Ok(());
    }
    let Some(items) = items_of([old, new], strategy.key, view.name())? else { return Ok(()) };
    items.check(old)?;
    items.check(new)?;
    let (changed, deleted) = match items {
        Items::Scalars => diff_scalars(old, new, which),
        Items::Objects(key) => {
            let (mut changed, deleted) =
                diff_items(old, new, items, view, which, strategy.retain_keys)?;
            changed.extend(deleted.into_iter().map(|id| json!({key: id, PATCH: "delete"})));
            (changed, Vec::new())
        }
    };
    let same_order = old.len() == new.len()
        && old.iter().zip(new).all(|(a, b)| items.identity(a) == items.identity(b));
    let reordered = match items {
        Items::Scalars => old != new,
        Items::Objects(_) => !changed.is_empty() || !same_order,
    };
    let ordered = (which.additions() && reordered)
        || (which.deletions() && (!deleted.is_empty() || !changed.is_empty()));
    if !changed.is_empty() {
        patch.insert(name.to_owned(), Value::Array(changed));
    }
    if !deleted.is_empty() {
        patch.insert(format!("{DELETE_FROM}/{name}"), Value::Array(deleted));
    }
    if ordered && !new.is_empty() {
        let order = match items {
            Items::Scalars => new.to_vec(),
            Items::Objects(key) => new.iter().map(|item| json!({key: item[key]})).collect(),
        };
        patch.insert(format!("{ELEMENT_ORDER}/{name}"), Value::Array(order));
    }
    Ok(())
}

/// Walks two lists, sorted as text, side by side: pairs, only old ones, only new ones.
fn pair<'a>(
    old: &'a [Value],
    new: &'a [Value],
    text: impl Fn(&Value) -> String,
) -> Vec<(Option<&'a Value>, Option<&'a Value>)> {
    let sorted = |list: &'a [Value]| {
        let mut list: Vec<(String, &Value)> = list.iter().map(|v| (text(v), v)).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list.into_iter().peekable()
    };
    let (mut old, mut new) = (sorted(old), sorted(new));
    let mut pairs = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(a), Some(b)) => a.0.cmp(&b.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return pairs,
        };
        let from_old = if order == Ordering::Greater { None } else { old.next() };
        let from_new = if order == Ordering::Less { None } else { new.next() };
        pairs.push((from_old.map(|(_, v)| v), from_new.map(|(_, v)| v)));
    }
}

fn diff_scalars(old: &[Value], new: &[Value], which: Differences) -> (Vec<Value>, Vec<Value>) {
    let (mut added, mut deleted) = (Vec::new(), Vec::new());
    for scalars in pair(old, new, go_value) {
        match scalars {
            (None, Some(value)) if which.additions() => added.push(value.clone()),
            (Some(value), None) if which.deletions() && !deleted.contains(value) => {
                deleted.push(value.clone());
            }
            _ => {}
        }
    }
    let place = |item: &Value| new.iter().position(|other| other == item);
    added.sort_by_cached_key(place);
    (added, deleted)
}

/// Changed and new items in the order of `new`, and the keys of removed ones.
fn diff_items(
    old: &[Value],
    new: &[Value],
    items: Items,
    view: View,
    which: Differences,
    retain_keys: bool,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let Items::Objects(key) = items else { return Ok((Vec::new(), Vec::new())) };
    let (mut changed, mut deleted) = (Vec::new(), Vec::new());
    for item in pair(old, new, |item| go_value(&item[key])) {
        match item {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                let mut inner = diff_objects(old, new, view, which, retain_keys)?;
                if !inner.is_empty() {
                    inner.insert(key.to_owned(), new[key].clone());
                    changed.push(Value::Object(inner));
                }
            }
            (None, Some(new)) if which.additions() => changed.push(new.clone()),
            (Some(old), None) if which.deletions() => deleted.push(old[key].clone()),
            _ => {}
        }
    }
    Ok((items.sorted(changed, new)?, deleted))
}
