//! Merging a patch into an object, or one patch into another.
//!
//! Input: two JSON objects and the view of their type; output: the merged object. With
//! [`Purpose::Apply`] directives act and vanish; with [`Purpose::Combine`] both inputs are patches
//! of one `apply`, and directives and nulls are carried over into the combined patch.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::error::{go_map, go_value};
use super::order::{Items, check_order, items_of};
use super::{DELETE_FROM, ELEMENT_ORDER, PATCH, RETAIN_KEYS, StrategicError, View};

/// What merging is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A patch changes an object.
    Apply,
    /// A second patch joins a first one.
    Combine,
}

type Object = Map<String, Value>;

/// Merges `patch` into `target`.
pub(crate) fn merge(
    mut target: Object,
    mut patch: Object,
    view: View,
    purpose: Purpose,
) -> Result<Object, StrategicError> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(StrategicError::BadDirective {
                directive: go_value(directive),
                item: go_map(&patch),
            }),
        };
    }
    retain_keys(&mut target, &mut patch, purpose)?;
    merge_ordered_lists(&mut target, &mut patch, view, purpose)?;
    for (name, value) in patch {
        merge_field(&mut target, name, value, view, purpose)?;
    }
    Ok(target)
}

/// `$retainKeys` drops what it does not name; the patch may only set what it names.
fn retain_keys(
    target: &mut Object,
    patch: &mut Object,
    purpose: Purpose,
) -> Result<(), StrategicError> {
    let Some(listed) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    if purpose == Purpose::Combine {
        // Both patches were computed from the same wanted object, so their lists agree.
        target.entry(RETAIN_KEYS).or_insert(listed);
        return Ok(());
    }
    let Value::Array(listed) = listed else { return Err(StrategicError::BadRetainKeys) };
    let names: HashSet<&str> = listed.iter().filter_map(Value::as_str).collect();
    for (name, value) in &*patch {
        if !value.is_null() && !is_parallel_list(name) && !names.contains(name.as_str()) {
            return Err(StrategicError::BadRetainKeys);
        }
    }
    target.retain(|name, _| names.contains(name.as_str()));
    Ok(())
}

/// Lists with a `$setElementOrder` are merged and ordered here and leave the patch.
fn merge_ordered_lists(
    target: &mut Object,
    patch: &mut Object,
    view: View,
    purpose: Purpose,
) -> Result<(), StrategicError> {
    let directives: Vec<String> =
        patch.keys().filter(|name| name.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = patch.remove(&directive).unwrap_or_default();
        let Value::Array(listed) = &order else { return Err(StrategicError::not_a_list(&order)) };
        let name = directive
            .strip_prefix(ELEMENT_ORDER)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(StrategicError::BadElementOrder)?;
        let lists = (list(target.get(name))?, list(patch.get(name))?);
        if let Some(merged) = merge_ordered_list(lists, listed, view, name, purpose)? {
            target.insert(name.to_owned(), Value::Array(merged));
            patch.remove(name);
        }
        if purpose == Purpose::Combine {
            match target.get(&directive) {
                Some(other) if *other != order => return Err(StrategicError::BadElementOrder),
                Some(_) => {}
                None => {
                    target.insert(directive, order);
                }
            }
        }
    }
    Ok(())
}

/// Merges the object's own list with the patch's and arranges the result as `listed` says; `None`
/// if there is neither.
fn merge_ordered_list(
    lists: (Option<&[Value]>, Option<&[Value]>),
    listed: &[Value],
    view: View,
    name: &str,
    purpose: Purpose,
) -> Result<Option<Vec<Value>>, StrategicError> {
    let (below, strategy) = view.field(name)?;
    check_order(lists.1.unwrap_or_default(), listed, strategy.key)?;
    let (merged, own_order) = match lists {
        (None, None) => return Ok(None),
        (Some(own), None) => (own.to_vec(), own.to_vec()),
        (None, Some(new)) => {
            (new.iter().filter_map(|item| added(item.clone(), purpose)).collect(), Vec::new())
        }
        (Some(own), Some(new)) if strategy.merge => {
            merge_lists(own.to_vec(), new.to_vec(), below, strategy.key, purpose)?
        }
        (Some(own), Some(new)) => (new.to_vec(), own.to_vec()),
    };
    let both = [lists.0.unwrap_or_default(), lists.1.unwrap_or_default()];
    let Some(items) = items_of(both, strategy.key, view.name())? else { return Ok(Some(merged)) };
    items.check(&merged)?;
    let (from_patch, rest) = items.partition(merged, listed);
    items.arrange(from_patch, rest, listed, &own_order).map(Some)
}

fn list(value: Option<&Value>) -> Result<Option<&[Value]>, StrategicError> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(StrategicError::not_a_list(other)),
    }
}

fn merge_field(
    target: &mut Object,
    name: String,
    value: Value,
    view: View,
    purpose: Purpose,
) -> Result<(), StrategicError> {
    let (name, deletion) = match name.strip_prefix(DELETE_FROM) {
        Some(_) if purpose == Purpose::Combine => {
            target.insert(name, value);
            return Ok(());
        }
        Some(rest) => {
            let list = rest.strip_prefix('/').ok_or(StrategicError::BadDeletionList)?;
            (list.to_owned(), true)
        }
        None => (name, false),
    };
    if value.is_null() {
        target.remove(&name);
        if purpose == Purpose::Combine {
            target.insert(name, Value::Null);
        }
        return Ok(());
    }
    let merged = match (target.remove(&name), value) {
        (None, _) if deletion => None,
        (Some(Value::Object(own)), Value::Object(new)) => {
            let (below, strategy) = view.field(&name)?;
            let merged = if strategy.replace { Ok(new) } else { merge(own, new, below, purpose) };
            Some(Value::Object(merged?))
        }
        (Some(Value::Array(own)), Value::Array(gone)) if deletion => {
            Some(Value::Array(without(own, &gone)?))
        }
        (Some(own), _) if deletion => Some(own),
        (Some(Value::Array(own)), Value::Array(new)) => {
            let (below, strategy) = view.field(&name)?;
            let merged = if strategy.merge {
                merge_lists(own, new, below, strategy.key, purpose)?.0
            } else {
                new
            };
            Some(Value::Array(merged))
        }
        (_, new) => added(new, purpose),
    };
    if let Some(merged) = merged {
        target.insert(name, merged);
    }
    Ok(())
}

/// The value of a field that the object does not have, or has with another type.
fn added(mut value: Value, purpose: Purpose) -> Option<Value> {
    if purpose == Purpose::Apply {
        settle(&mut value);
    }
    without_directives(&value)
}

/// Drops nulls and the directives that have nothing to act on in a new value.
fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                !value.is_null() && name != RETAIN_KEYS && !is_parallel_list(name)
            });
            fields.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

fn is_parallel_list(name: &str) -> bool {
    name.starts_with(DELETE_FROM) || name.starts_with(ELEMENT_ORDER)
}

/// The value without objects that carry `$patch`; `None` if it is one itself.
fn without_directives(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Object(fields) if fields.contains_key(PATCH) => return None,
        Value::Object(fields) => fields
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), without_directives(value)?)))
            .collect(),
        Value::Array(items) => items.iter().filter_map(without_directives).collect(),
        scalar => scalar.clone(),
    })
}

fn without(own: Vec<Value>, gone: &[Value]) -> Result<Vec<Value>, StrategicError> {
    // Only scalars may be deleted this way, and mixed lists are refused.
    items_of([&own, gone], None, "list")?;
    let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
    Ok(own.into_iter().filter(|item| !gone.contains(&item.to_string())).collect())
}

/// The merged list, and the order of the object's own items to arrange it by once more.
fn merge_lists(
    own: Vec<Value>,
    new: Vec<Value>,
    view: View,
    key: Option<&str>,
    purpose: Purpose,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let Some(items) = items_of([&own, &new], key, view.name())? else {
        return Ok((own.clone(), own));
    };
    match items {
        Items::Scalars => {
            let mut seen = HashSet::new();
            let all = own.iter().chain(&new);
            let merged = all.filter(|item| seen.insert(item.to_string())).cloned().collect();
            let (from_patch, rest) = items.partition(merged, &new);
            Ok((items.arrange(from_patch, rest, &new, &own)?, own))
        }
        Items::Objects(key) => {
            let length = own.len();
            let (own, new) = follow_directives(own, new, key)?;
            let merged = merge_items(own.clone(), &new, items, view, purpose)?;
            // Upstream deletes and appends in place, so that in the order to come new items stand
            // where deleted ones made room.
            let order = merged.iter().take(length).cloned().collect();
            let (from_patch, rest) = items.partition(merged, &new);
            Ok((items.arrange(from_patch, rest, &new, &own)?, order))
        }
    }
}

/// `$patch: delete` removes the items of that key, `$patch: replace` all of the object's own.
fn follow_directives(
    mut own: Vec<Value>,
    new: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let mut kept = Vec::with_capacity(new.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in new {
        let Value::Object(fields) = &item else { return Err(StrategicError::not_an_object(&item)) };
        match fields.get(PATCH).map(|directive| (directive.as_str(), directive)) {
            None => kept.push(item),
            Some((Some("delete"), _)) => {
                let identity =
                    fields.get(key).ok_or_else(|| StrategicError::no_merge_key(fields, key))?;
                gone.insert(identity.to_string());
            }
            Some((Some("replace"), _)) => replace = true,
            Some((Some("merge"), _)) => return Err(StrategicError::MergeDirective),
            Some((_, directive)) => {
                return Err(StrategicError::BadDirective {
                    directive: go_value(directive),
                    item: go_map(fields),
                });
            }
        }
    }
    if replace {
        // The patch's items stand as they are: two of one key, too, as of a node's addresses.
        return Ok((kept, Vec::new()));
    }
    own.retain(|item| item.get(key).is_none_or(|id| !gone.contains(&id.to_string())));
    Ok((own, kept))
}

fn merge_items(
    mut own: Vec<Value>,
    new: &[Value],
    items: Items,
    view: View,
    purpose: Purpose,
) -> Result<Vec<Value>, StrategicError> {
    items.check(new)?;
    let mut places: HashMap<String, usize> = HashMap::with_capacity(own.len());
    for (i, item) in own.iter().enumerate() {
        if let Some(identity) = items.identity(item) {
            places.entry(identity).or_insert(i);
        }
    }
    for item in new {
        let (Some(identity), Value::Object(fields)) = (items.identity(item), item) else {
            continue;
        };
        match places.get(&identity) {
            Some(&place) => {
                let old = super::object(&own[place])?;
                own[place] = Value::Object(merge(old, fields.clone(), view, purpose)?);
            }
            None => {
                places.insert(identity, own.len());
                own.extend(added(item.clone(), purpose));
            }
        }
    }
    items.check(&own)?;
    Ok(own)
}
