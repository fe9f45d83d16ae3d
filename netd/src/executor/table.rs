//! The table's part of the executor: what it is known to hold, and changes that fail for one
//! Service without failing for the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netmodel::address::Frontend;
use netmodel::nft::{self, Elements, Item};

use super::{Executor, Report, cause};
use crate::kernel::OpError;
use crate::kernel::nft::Table;

/// Changes refused one by one, at most: where more fail, it is not because of what they say.
const REFUSALS: usize = 32;

#[derive(Debug)]
pub(super) struct TableSide {
    pub(super) kernel: Table,
    /// What the table holds; none when that must be looked at.
    pub(super) known: Option<nft::State>,
}

/// What some changes are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Chains, which come before all that goes to them.
    Chains,
    /// One frontend.
    Frontend(Frontend),
    /// One address.
    Address(IpAddr),
}

/// Changes that were refused, and why.
pub(super) type Refused = Vec<(Subject, OpError)>;

fn subject(op: &nft::Op) -> Subject {
    match op {
        nft::Op::Replace | nft::Op::AddChain(_) => Subject::Chains,
        nft::Op::Add(key, _) | nft::Op::Delete(key, _) => match key.item {
            Item::Frontend(f)
            | Item::Slot(f, _)
            | Item::Pair(f, _)
            | Item::Clients(f, _)
            | Item::Client(_, f) => Subject::Frontend(f),
            Item::Address(addr) => Subject::Address(addr),
        },
    }
}

impl TableSide {
    pub(super) fn open() -> Result<Self, OpError> {
        Ok(Self { kernel: Table::open()?, known: None })
    }

    /// Makes the changes of a plan in one transaction. If the kernel refuses it, the plan is split
    /// until only the changes at fault are left out; those are returned.
    ///
    /// # Errors
    /// When so much is refused that no single change can be at fault.
    pub(super) fn execute(
        &mut self,
        ops: &[nft::Op],
        report: &mut Report,
    ) -> Result<Refused, OpError> {
        let error = match self.transact(ops, report) {
            Ok(()) => return Ok(Refused::new()),
            Err(error) => error,
        };
        let mut groups: BTreeMap<Subject, Vec<nft::Op>> = BTreeMap::new();
        for op in ops {
            groups.entry(subject(op)).or_default().push(op.clone());
        }
        let chains = groups.remove(&Subject::Chains).unwrap_or_default();
        let groups: Vec<(Subject, Vec<nft::Op>)> = groups.into_iter().collect();
        let mut refused = Refused::new();
        let done = self
            .transact(&chains, report)
            .and_then(|()| self.split(&groups, error, &mut refused, report));
        if done.is_err() {
            self.known = None;
        }
        done.map(|()| refused)
    }

    /// Makes what can be made of changes that, together, failed with `error`.
    fn split(
        &mut self,
        groups: &[(Subject, Vec<nft::Op>)],
        error: OpError,
        refused: &mut Refused,
        report: &mut Report,
    ) -> Result<(), OpError> {
        let half = match groups {
            [] => return Err(error),
            [_] if refused.len() == REFUSALS => return Err(error),
            [(subject, _)] => {
                refused.push((*subject, error));
                return Ok(());
            }
            more => more.len() / 2,
        };
        for part in [&groups[..half], &groups[half..]] {
            let ops: Vec<nft::Op> = part.iter().flat_map(|(_, ops)| ops.iter().cloned()).collect();
            if let Err(error) = self.transact(&ops, report) {
                self.split(part, error, refused, report)?;
            }
        }
        Ok(())
    }

    fn transact(&mut self, ops: &[nft::Op], report: &mut Report) -> Result<(), OpError> {
        if ops.is_empty() {
            return Ok(());
        }
        self.kernel.execute(ops)?;
        if let Some(known) = &mut self.known {
            nft::apply(known, ops);
        }
        report.writes += ops.len();
        Ok(())
    }

    /// Writes the whole table: other rules and elements into the one that is there, where that can
    /// be, so that it serves throughout.
    pub(super) fn replace(
        &mut self,
        desired: nft::State,
        report: &mut Report,
    ) -> Result<Refused, OpError> {
        report.writes += 1;
        if self.kernel.exists()? {
            // That of another version may have maps of other kinds.
            let written = self.kernel.refill(&desired).or_else(|error| {
                let error = crate::error_chain(&error);
                tracing::warn!(error, "the table can't be filled anew, and is replaced");
                self.kernel.load(&desired)
            });
            match written {
                Ok(()) => {
                    self.known = Some(desired);
                    return Ok(Refused::new());
                }
                // What is wrong with which element shows below, and is told there.
                Err(error) => {
                    let error = crate::error_chain(&error);
                    tracing::warn!(error, "the table can't be replaced in one go");
                }
            }
        }
        // Nothing serves yet, or something is wrong with one of the elements: rules first.
        let elements = desired.elements;
        let bare = nft::State { elements: Elements::default(), ..desired };
        self.kernel.load(&bare)?;
        self.known = Some(bare);
        let ops: Vec<nft::Op> =
            elements.0.into_iter().map(|(key, value)| nft::Op::Add(key, value)).collect();
        self.execute(&ops, report)
    }
}

impl Executor {
    /// The addresses of which the kernel refused something.
    pub(crate) fn refused_addresses(&self) -> BTreeSet<IpAddr> {
        self.refused.keys().map(|frontend| frontend.addr).collect()
    }

    /// Takes note of what was refused, and by whom it is missed.
    pub(super) fn note_refused(&mut self, refused: Refused, report: &mut Report) {
        for (subject, error) in refused {
            let frontends: Vec<Frontend> = match subject {
                Subject::Frontend(frontend) => vec![frontend],
                Subject::Address(addr) => self.plane.frontends_at(addr).collect(),
                Subject::Chains => vec![],
            };
            self.refused.extend(frontends.into_iter().map(|f| (f, cause(&error))));
            report.failures.push(error);
        }
    }
}
