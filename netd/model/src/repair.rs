//! What another hand changed in the kernel, and was put back.
//!
//! Found by comparing what the kernel was left with and what it is found with; so nothing is a
//! repair at the first look after a start. Deliberately not here: who the other hand was, which
//! the kernel does not tell.

use std::collections::BTreeMap;
use std::fmt;

use crate::service::Owner;

/// Repairs of one sort that are told one by one; the rest is counted.
const TOLD: usize = 16;

/// A sort of thing that netd keeps in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The whole table, or its rules.
    Table,
    /// A chain that others go to.
    Chain,
    /// An element of a map or set.
    Element,
    /// A virtual server of IPVS.
    VirtualServer,
    /// A destination of a virtual server.
    Destination,
    /// A virtual address.
    Address,
    /// A route.
    Route,
    /// A kernel setting.
    Setting,
}

impl Object {
    /// One word for it, as metrics label it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Chain => "chain",
            Self::Element => "element",
            Self::VirtualServer => "virtual-server",
            Self::Destination => "destination",
            Self::Address => "address",
            Self::Route => "route",
            Self::Setting => "setting",
        }
    }
}

/// Something that was put back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repair {
    /// What sort of thing.
    pub object: Object,
    /// Which, and what was wrong with it.
    pub what: String,
    /// The Service port it belongs to, where it belongs to one.
    pub owner: Option<Owner>,
    /// How many this stands for: more than one only where there were too many to tell.
    pub count: usize,
}

impl Repair {
    /// One thing that belongs to no Service.
    #[must_use]
    pub fn new(object: Object, what: impl Into<String>) -> Self {
        Self { object, what: what.into(), owner: None, count: 1 }
    }

    /// The Service port it belongs to.
    #[must_use]
    pub fn of(self, owner: Option<Owner>) -> Self {
        Self { owner, ..self }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object.word(), self.what)?;
        match &self.owner {
            Some(owner) => write!(f, " of Service {owner}"),
            None => Ok(()),
        }
    }
}

/// The same, short enough to tell: when a table of ten thousand elements was emptied, a few are
/// named and the others counted.
#[must_use]
pub fn summary(repairs: Vec<Repair>) -> Vec<Repair> {
    let mut told: BTreeMap<Object, usize> = BTreeMap::new();
    let mut rest: BTreeMap<Object, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for repair in repairs {
        let count = told.entry(repair.object).or_default();
        if *count < TOLD {
            *count += 1;
            out.push(repair);
        } else {
            *rest.entry(repair.object).or_default() += repair.count;
        }
    }
    out.extend(rest.into_iter().map(|(object, count)| Repair {
        count,
        ..Repair::new(object, format!("and {count} more"))
    }));
    out
}
