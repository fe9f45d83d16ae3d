//! Lists that merge: the type of their items, and the order of the result.
//!
//! Input: items of the patch and items only the object has; output: one list that keeps the
//! patch's order and, as far as possible, the object's.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::error::go_list;
use super::{PATCH, StrategicError};

/// What the items of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Items<'k> {
    /// Scalars, told apart by their value.
    Scalars,
    /// Objects, told apart by the value of a key.
    Objects(&'k str),
}

impl<'k> Items<'k> {
    /// What tells an item apart, as text; `None` for an object without the key.
    pub(super) fn identity(self, item: &Value) -> Option<String> {
        match self {
            Self::Scalars => Some(item.to_string()),
            Self::Objects(key) => item.get(key).map(Value::to_string),
        }
    }

    /// Refuses items that are no objects or have no key.
    pub(super) fn check(self, items: &[Value]) -> Result<(), StrategicError> {
        let Self::Objects(key) = self else { return Ok(()) };
        for item in items {
            let fields = item.as_object().ok_or_else(|| StrategicError::not_an_object(item))?;
            if !fields.contains_key(key) {
                return Err(StrategicError::no_merge_key(fields, key));
            }
        }
        Ok(())
    }

    fn positions(self, items: &[Value]) -> HashMap<String, usize> {
        let mut positions = HashMap::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            if let Some(identity) = self.identity(item) {
                positions.entry(identity).or_insert(i);
            }
        }
        positions
    }

    /// Cuts `items` in two: those whose identity is in `listed`, and the rest.
    pub(super) fn partition(self, items: Vec<Value>, listed: &[Value]) -> (Vec<Value>, Vec<Value>) {
        let listed: HashSet<String> = listed.iter().filter_map(|i| self.identity(i)).collect();
        items.into_iter().partition(|i| self.identity(i).is_some_and(|id| listed.contains(&id)))
    }

    /// Merges the patch's items (in `patch_order`) with the object's own (in `own_order`): an own
    /// item comes before the first item of the patch that followed it in the object.
    pub(super) fn arrange(
        self,
        patch: Vec<Value>,
        own: Vec<Value>,
        patch_order: &[Value],
        own_order: &[Value],
    ) -> Result<Vec<Value>, StrategicError> {
        let patch = self.sorted(patch, patch_order)?;
        let own = self.sorted(own, own_order)?;
        let positions = self.positions(own_order);
        let position =
            |item: &Value| self.identity(item).and_then(|id| positions.get(&id).copied());
        let mut arranged = Vec::with_capacity(patch.len() + own.len());
        let mut own = own.into_iter().peekable();
        for item in patch {
            while let Some(first) = own.next_if(
                |first| matches!((position(first), position(&item)), (Some(a), Some(b)) if a < b),
            ) {
                arranged.push(first);
            }
            arranged.push(item);
        }
        arranged.extend(own);
        Ok(arranged)
    }

    /// Sorts `items` as `order` lists them; items to be deleted go to the end.
    pub(super) fn sorted(
        self,
        items: Vec<Value>,
        order: &[Value],
    ) -> Result<Vec<Value>, StrategicError> {
        self.check(&items)?;
        self.check(order)?;
        let positions = self.positions(order);
        let (deleted, mut kept): (Vec<Value>, Vec<Value>) = items.into_iter().partition(deletes);
        kept.sort_by_cached_key(|item| {
            self.identity(item).and_then(|id| positions.get(&id).copied()).unwrap_or(usize::MAX)
        });
        kept.extend(deleted);
        Ok(kept)
    }
}

/// Whether an item of a patch carries `$patch: delete`.
pub(super) fn deletes(item: &Value) -> bool {
    item.get(PATCH).is_some_and(|directive| directive == "delete")
}

/// What the items of these lists are; `None` if there are none.
pub(super) fn items_of<'k>(
    lists: [&[Value]; 2],
    key: Option<&'k str>,
    owner: &'static str,
) -> Result<Option<Items<'k>>, StrategicError> {
    let mut all = lists.into_iter().flatten();
    let Some(first) = all.next() else { return Ok(None) };
    if first.is_array() {
        return Err(StrategicError::ListOfLists);
    }
    let first = std::mem::discriminant(first);
    if all.any(|item| std::mem::discriminant(item) != first) {
        let printed: Vec<String> = lists.iter().map(|list| go_list(list)).collect();
        return Err(StrategicError::MixedList(format!("[{}]", printed.join(" "))));
    }
    let objects = lists.into_iter().flatten().next().is_some_and(Value::is_object);
    match (objects, key) {
        (false, _) => Ok(Some(Items::Scalars)),
        (true, Some(key)) => Ok(Some(Items::Objects(key))),
        (true, None) => Err(StrategicError::KeylessList(owner)),
    }
}

/// Refuses a patch list whose items are not in the order of `$setElementOrder`.
pub(super) fn check_order(
    patch: &[Value],
    order: &[Value],
    key: Option<&str>,
) -> Result<(), StrategicError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let items = key.map_or(Items::Scalars, Items::Objects);
    let wanted: Vec<&Value> = patch.iter().filter(|item| item.get(PATCH).is_none()).collect();
    let mut remaining = order.iter();
    for &item in &wanted {
        items.check(std::slice::from_ref(item))?;
        let identity = items.identity(item);
        let mut found = false;
        for listed in remaining.by_ref() {
            items.check(std::slice::from_ref(listed))?;
            found = items.identity(listed) == identity;
            if found {
                break;
            }
        }
        if !found {
            return Err(StrategicError::OrderMismatch {
                patch: go_list(patch),
                order: go_list(order),
            });
        }
    }
    Ok(())
}
