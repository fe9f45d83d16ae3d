//! What another hand changed of our table since it was left.

use std::collections::{BTreeMap, BTreeSet};

use crate::dataplane::Dataplane;
use crate::nft::elements::{Item, Key, Value};
use crate::nft::render::{TABLE, element};
use crate::nft::{ChainName, Op};
use crate::repair::{Object, Repair};
use crate::service::Owner;

/// What was put back by changes made after a look. `own` are the changes that were to be made
/// anyway, had nobody meddled: those from what the table was left with.
#[must_use]
pub fn repairs(own: &[Op], made: &[Op], plane: &Dataplane) -> Vec<Repair> {
    let mut of_key: BTreeMap<Key, &'static str> = BTreeMap::new();
    let mut out = Vec::new();
    let own: BTreeSet<Subject> = own.iter().map(subject).collect();
    for op in made.iter().filter(|op| !own.contains(&subject(op))) {
        match op {
            Op::Replace => {
                let what = format!("inet {TABLE} was deleted, or its rules were edited");
                out.push(Repair::new(Object::Table, what));
            }
            Op::AddChain(chain) => {
                out.push(Repair::new(Object::Chain, format!("{chain} was deleted or edited")));
            }
            Op::Delete(key, _) => drop(of_key.insert(*key, "added")),
            Op::Add(key, _) => {
                let was = if of_key.contains_key(key) { "changed" } else { "deleted" };
                of_key.insert(*key, was);
            }
        }
    }
    let values = made.iter().filter_map(|op| match op {
        Op::Delete(key, value) | Op::Add(key, value) => Some((*key, value)),
        Op::Replace | Op::AddChain(_) => None,
    });
    let values: BTreeMap<Key, &Value> = values.collect();
    out.extend(of_key.iter().map(|(key, how)| repair(key, values[key], how, plane)));
    out
}

/// What a change is about.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Table,
    Chain(ChainName),
    Gone(Key),
    New(Key),
}

fn subject(op: &Op) -> Subject {
    match op {
        Op::Replace => Subject::Table,
        Op::AddChain(chain) => Subject::Chain(*chain),
        Op::Delete(key, _) => Subject::Gone(*key),
        Op::Add(key, _) => Subject::New(*key),
    }
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
