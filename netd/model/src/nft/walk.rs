//! A packet's way through the table: the rules, interpreted.
//!
//! Both engines use it; the IPVS walk runs the same hooks with IPVS between them. Only the first
//! packet of a connection is walked: the kernel remembers the rest.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Backend, Family, Frontend, Protocol};
use crate::nft::State;
use crate::nft::elements::{Container, Item, Value, Verdict};
use crate::nft::render;
use crate::nft::rules::chain_rules;
use crate::nft::ruleset::{Action, ChainName, Group, Hook, Is, Rule, Test};
use crate::packet::{From, Outcome, Packet, Step, Walk};

/// What a walk must know of the node besides its tables.
#[derive(Clone, Debug)]
pub struct Place {
    /// The link of this node's pods.
    pub bridge: Arc<str>,
    /// The addresses on which packets are for the node itself.
    pub own_addresses: Vec<IpAddr>,
}

/// A packet on its way.
#[derive(Debug)]
pub(crate) struct Traveller<'a> {
    table: &'a State,
    bridge: &'a str,
    packet: Packet,
    pub(crate) destination: Backend,
    marked: bool,
    untracked: bool,
    pub(crate) masqueraded: bool,
    pub(crate) steps: Vec<Step>,
}

/// What a hook left of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// This chain has nothing more to say.
    Continue,
    /// No further rule of this chain is asked.
    Done,
    /// The way ends.
    End(Outcome),
}

/// Walks a packet through the nftables engine's table.
#[must_use]
pub fn walk(table: &State, place: &Place, packet: Packet) -> Walk {
    let mut traveller = Traveller::new(table, &place.bridge, packet);
    let outcome = journey(&mut traveller, place);
    Walk { outcome, steps: traveller.steps }
}

fn journey(traveller: &mut Traveller<'_>, place: &Place) -> Outcome {
    let arrival = match traveller.packet.from {
        From::Node => Hook::Output,
        From::Pod | From::Network => Hook::Prerouting,
    };
    if let Some(end) = traveller.hook(arrival) {
        return end;
    }
    let destination = traveller.destination.addr;
    let for_node = place.own_addresses.contains(&destination)
        || traveller.table.elements.is_local(destination);
    let hooks: &[Hook] = match (traveller.packet.from, for_node) {
        // A node that calls itself leaves through lo and arrives again; its connection is no
        // longer new to the tables that translate, so only input is asked.
        (From::Node, true) => &[Hook::Postrouting, Hook::Input],
        (From::Node, false) => &[Hook::Postrouting],
        (_, true) => &[Hook::Input],
        (_, false) => &[Hook::Forward, Hook::Postrouting],
    };
    for hook in hooks {
        if let Some(end) = traveller.hook(*hook) {
            return end;
        }
    }
    traveller.delivered()
}

impl<'a> Traveller<'a> {
    pub(crate) fn new(table: &'a State, bridge: &'a str, packet: Packet) -> Self {
        Self {
            table,
            bridge,
            packet,
            destination: Backend { addr: packet.to.addr, port: packet.to.port },
            marked: false,
            untracked: false,
            masqueraded: false,
            steps: Vec::new(),
        }
    }

    pub(crate) fn delivered(&self) -> Outcome {
        let Backend { addr, port } = self.destination;
        Outcome::Delivered {
            to: self.destination,
            translated: (addr, port) != (self.packet.to.addr, self.packet.to.port),
            masqueraded: self.masqueraded,
        }
    }

    /// Runs all chains of a hook.
    pub(crate) fn hook(&mut self, hook: Hook) -> Option<Outcome> {
        self.hook_between(hook, i32::MIN, i32::MAX)
    }

    /// Runs the chains of a hook whose priority is in `from..to`.
    pub(crate) fn hook_between(&mut self, hook: Hook, from: i32, to: i32) -> Option<Outcome> {
        let table = self.table;
        let mut chains: Vec<_> = table
            .ruleset
            .base_chains
            .iter()
            .filter(|c| c.hook == hook && (from..to).contains(&c.priority))
            .collect();
        chains.sort_by_key(|c| c.priority);
        for chain in chains {
            let place = format!("{hook} {}", chain.name);
            if let Flow::End(outcome) = self.run(&place, &chain.rules) {
                return Some(outcome);
            }
        }
        None
    }

    pub(crate) fn note(&mut self, place: &str, what: String) {
        self.steps.push(Step { place: place.to_owned(), what });
    }

    fn run(&mut self, place: &str, rules: &[Rule]) -> Flow {
        for rule in rules {
            let right_family = rule.family.is_none_or(|f| f == self.family());
            if !right_family || !rule.tests.iter().all(|t| self.holds(t)) {
                continue;
            }
            match self.act(place, rule) {
                Flow::Continue => {}
                end => return end,
            }
        }
        Flow::Continue
    }

    fn family(&self) -> Family {
        Family::of(self.packet.to.addr)
    }

    fn frontend(&self) -> Frontend {
        Frontend {
            addr: self.destination.addr,
            port: self.destination.port,
            protocol: self.packet.to.protocol,
        }
    }

    fn holds(&self, test: &Test) -> bool {
        let elements = &self.table.elements;
        match test {
            // Only first packets are walked; what is not tracked has none.
            Test::Opens => !self.untracked,
            Test::Marked => self.marked,
            Test::Through(link) => self.packet.from == From::Pod && **link == *self.bridge,
            Test::Source(is, group) => self.member(self.packet.source, *is, group),
            Test::Destination(is, group) => self.member(self.destination.addr, *is, group),
            Test::NotAdmitted => {
                elements.contains(Container::Restricted, Item::Frontend(self.frontend()))
                    && !elements.admits(self.frontend(), self.packet.source)
            }
            Test::CalledItself => {
                self.packet.source == self.destination.addr
                    && elements.contains(Container::Hairpin, Item::Address(self.packet.source))
            }
            Test::Calls(set) => elements.contains(*set, Item::Frontend(self.frontend())),
            // Only calls are walked, and only packets of Services' protocols.
            Test::Answers(_) => false,
            Test::RedirectTo(_) => false,
            Test::Translated => {
                let Backend { addr, port } = self.destination;
                (addr, port) != (self.packet.to.addr, self.packet.to.port)
            }
            Test::NotKept => {
                let pair = Item::Pair(self.packet.to, self.destination);
                !elements.contains(Container::Kept, pair)
            }
            Test::Tcp => self.packet.to.protocol == Protocol::Tcp,
        }
    }

    fn member(&self, addr: IpAddr, is: Is, group: &Group) -> bool {
        let member = match group {
            Group::Ranges(list) => list.iter().any(|net| net.contains(&addr)),
            Group::Set(container) => self.table.elements.contains(*container, Item::Address(addr)),
        };
        member == (is == Is::In)
    }

    fn act(&mut self, place: &str, rule: &Rule) -> Flow {
        let text = render::rule(rule);
        match &rule.action {
            Action::Lookup(map) => self.look_up(place, rule, *map),
            // Every translated connection goes there; most have nothing to learn.
            Action::Goto(ChainName::Learn) => self.go_to(ChainName::Learn),
            Action::Goto(chain) => {
                self.note(place, text);
                self.go_to(*chain)
            }
            Action::Recall => self.recall(place, &text),
            Action::LookupCalled => {
                self.look_up_frontend(place, rule, Container::Sticky, self.packet.to)
            }
            Action::Remember(_) => {
                self.note(place, text);
                Flow::Done
            }
            Action::Forget => {
                self.note(place, text);
                Flow::Continue
            }
            Action::Mark => {
                self.marked = true;
                Flow::Continue
            }
            Action::Untrack => {
                self.note(place, text);
                self.untracked = true;
                Flow::Continue
            }
            Action::Translate(map, n) => {
                let slot = self.packet.random % n;
                let item = Item::Slot(self.frontend(), slot);
                let Some(Value::Backend(to)) = self.table.elements.get(*map, item) else {
                    return Flow::Continue;
                };
                self.note(place, format!("{text}: slot {slot} is {to}"));
                self.destination = *to;
                Flow::Done
            }
            Action::Masquerade => {
                self.note(place, text);
                self.masqueraded = true;
                Flow::Done
            }
            Action::Reset | Action::Unreachable => {
                self.note(place, text);
                Flow::End(Outcome::Refused)
            }
            Action::Drop => {
                self.note(place, text);
                Flow::End(Outcome::Dropped)
            }
        }
    }

    /// A memory that is void counts as none: netd forgets it in the same look that makes it so.
    fn recall(&mut self, place: &str, text: &str) -> Flow {
        let kept = self.packet.remembers.filter(|backend| {
            let pair = Item::Pair(self.frontend(), *backend);
            self.table.elements.contains(Container::Kept, pair)
        });
        let Some(to) = kept else { return Flow::Continue };
        self.note(place, format!("{text}: {to}"));
        self.destination = to;
        Flow::Done
    }

    fn look_up(&mut self, place: &str, rule: &Rule, map: Container) -> Flow {
        self.look_up_frontend(place, rule, map, self.frontend())
    }

    fn look_up_frontend(
        &mut self,
        place: &str,
        rule: &Rule,
        map: Container,
        frontend: Frontend,
    ) -> Flow {
        let item = Item::Frontend(frontend);
        let Some(Value::Verdict(verdict, owner)) = self.table.elements.get(map, item) else {
            return Flow::Continue;
        };
        let what = format!("{}: {owner} says {verdict}", render::rule(rule));
        let verdict = *verdict;
        self.note(place, what);
        match verdict {
            Verdict::Drop => Flow::End(Outcome::Dropped),
            Verdict::Accept => Flow::Done,
            Verdict::Goto(chain) => self.go_to(chain),
        }
    }

    fn go_to(&mut self, chain: ChainName) -> Flow {
        match self.run(&chain.to_string(), &chain_rules(chain)) {
            Flow::Continue => Flow::Done,
            end => end,
        }
    }
}
