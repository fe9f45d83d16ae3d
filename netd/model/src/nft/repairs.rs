//! What another hand changed of our table since it was left.

use crate::dataplane::Dataplane;
use crate::nft::State;
use crate::nft::elements::{Item, Key, Value};
use crate::nft::render::{TABLE, element};
use crate::repair::{Object, Repair};
use crate::service::Owner;

/// The differences between what the table was left with and what it is found with (`None`: it is
/// gone, or its rules are others).
#[must_use]
pub fn repairs(left: &State, found: Option<&State>, plane: &Dataplane) -> Vec<Repair> {
    let Some(found) = found else {
        let what = format!("inet {TABLE} was deleted, or its rules were edited");
        return vec![Repair::new(Object::Table, what)];
    };
    let mut out: Vec<Repair> = left
        .pickers
        .difference(&found.pickers)
        .map(|chain| Repair::new(Object::Chain, format!("{chain} was deleted or edited")))
        .collect();
    let (left, found) = (&left.elements.0, &found.elements.0);
    for (key, value) in left {
        match found.get(key) {
            Some(now) if now == value => {}
            Some(_) => out.push(repair(key, value, "changed", plane)),
            None => out.push(repair(key, value, "deleted", plane)),
        }
    }
    for (key, value) in found.iter().filter(|(key, _)| !left.contains_key(key)) {
        out.push(repair(key, value, "added", plane));
    }
    out
}

fn repair(key: &Key, value: &Value, how: &str, plane: &Dataplane) -> Repair {
    let map = key.container.name(key.item.family());
    let what = format!("{{ {} }} of {map} was {how}", element(key, value));
    Repair::new(Object::Element, what).of(owner(key, plane))
}

/// The Service port that an element belongs to.
#[must_use]
pub fn owner(key: &Key, plane: &Dataplane) -> Option<Owner> {
    let service = match key.item {
        Item::Frontend(f)
        | Item::Slot(f, _)
        | Item::Pair(f, _)
        | Item::Clients(f, _)
        | Item::Client(_, f) => plane.get(&f)?,
        Item::Address(addr) => plane.iter_at(addr).next()?,
    };
    Some(service.owner.clone())
}
