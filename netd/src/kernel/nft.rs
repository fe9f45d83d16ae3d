//! Our nftables table: read, written, checked.
//!
//! Rules are loaded as text by `nft` (once); everything that changes with Services is raw netlink,
//! one transaction per plan. The rules' own bytes, as the kernel gives them back, are summed up in
//! the comment of an empty chain, so that a restart can tell an intact table from one that somebody
//! has edited, without writing anything.

pub(super) mod element;
pub(super) mod message;
pub(super) mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::{Command, Stdio};

use netmodel::address::Family;
use netmodel::nft::render::{self, TABLE};
use netmodel::nft::rules::chain_rules;
use netmodel::nft::{ChainName, Client, Container, Elements, Item, Key, Op, State, Value};

use self::element::{read_client, read_element, write_element};
use self::message::{Batch, CHUNK, Place, all_chains, body, named};
use self::rule::write_rule;
use super::netlink::{Connection, Message, Protocol, attribute};
use super::{OpError, failed};

const INET: Place = Place { family: 1, table: TABLE, words: TABLE };

/// A connection to our table.
#[derive(Debug)]
pub(crate) struct Table {
    netlink: Connection,
    /// What the rules of the chains that others go to looked like when they were first seen after
    /// they were written.
    written: BTreeMap<ChainName, Rules>,
}

/// The rules of a chain, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    count: usize,
    sum: u64,
}

impl Table {
    pub(crate) fn open() -> Result<Self, OpError> {
        let netlink =
            Connection::open(Protocol::Netfilter).map_err(failed("open a netfilter socket"))?;
        Ok(Self { netlink, written: BTreeMap::new() })
    }

    /// The socket, for the other table.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.netlink
    }

    /// The port by which notifications of our own changes are known.
    pub(crate) fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// The table as it is, if it is there and its rules are what `desired` asks for.
    pub(crate) fn observe(&mut self, desired: &State) -> Result<Option<State>, OpError> {
        let seal = INET.seal(&mut self.netlink)?;
        if seal.is_none() || seal != Some(self.seal(desired)?) {
            return Ok(None);
        }
        let mut pickers = self.chains()?;
        pickers.retain(|chain, found| {
            let intact = self.written.get(chain).is_none_or(|written| written == found);
            intact && found.count == chain_rules(*chain).len()
        });
        // An edit from before the first look shows by the number of rules alone.
        for (chain, rules) in &pickers {
            self.written.entry(*chain).or_insert(*rules);
        }
        let mut elements = Vec::new();
        for container in Container::ALL {
            for family in Family::ALL {
                self.read_elements(container, family, &mut elements)?;
            }
        }
        Ok(Some(State {
            ruleset: desired.ruleset.clone(),
            pickers: pickers.into_keys().collect(),
            // In one go, which leaves no room unused in the map: it stays for long.
            elements: Elements(elements.into_iter().collect()),
        }))
    }

    /// Is there a table of our name at all?
    pub(crate) fn exists(&mut self) -> Result<bool, OpError> {
        INET.exists(&mut self.netlink)
    }

    /// Gives the table, which is there, other rules and elements. It serves as before until the
    /// moment in which it serves as `desired` says; what is remembered of clients stays.
    ///
    /// # Errors
    /// When the kernel refuses, among other things because the maps and sets of another version
    /// are of other kinds.
    pub(crate) fn refill(&mut self, desired: &State) -> Result<(), OpError> {
        // As netlink: nft 1.0.6 can't read its own words for them beside maps that are there.
        self.execute(&desired.pickers.iter().copied().map(Op::AddChain).collect::<Vec<_>>())?;
        let mut wanted: BTreeSet<String> =
            desired.pickers.iter().map(ToString::to_string).collect();
        wanted.extend(desired.ruleset.base_chains.iter().map(|chain| chain.name.to_owned()));
        // The seal is not among them: a chain's comment can't be changed, only written anew.
        let chains = INET.chains(&mut self.netlink)?;
        let found = chains.filter_map(|m| Some(named(&m, 3)?.to_owned()));
        let leftover = found.filter(|chain| !wanted.contains(chain)).collect();
        run_nft(&render::refill(desired, &leftover))?;
        self.write_seal(desired)
    }

    /// Writes the whole table anew. While what it replaces is taken down, calls are refused.
    pub(crate) fn load(&mut self, desired: &State) -> Result<(), OpError> {
        run_nft(&render::replace(desired))?;
        let remember: Vec<Op> = desired
            .pickers
            .iter()
            .filter(|chain| render::needs_netlink(**chain))
            .map(|chain| Op::AddChain(*chain))
            .collect();
        self.execute(&remember)?;
        self.written = self.chains()?;
        self.write_seal(desired)
    }

    /// Makes all changes of a plan but [`Op::Replace`], in one transaction.
    pub(crate) fn execute(&mut self, ops: &[Op]) -> Result<(), OpError> {
        let mut batch = Batch::new(&mut self.netlink, INET);
        let chains: Vec<ChainName> = ops
            .iter()
            .filter_map(|op| if let Op::AddChain(chain) = op { Some(*chain) } else { None })
            .collect();
        // All chains before any rule: one may go to another.
        chains.iter().for_each(|chain| batch.chain(&chain.to_string()));
        chains.iter().for_each(|chain| write_rules(&mut batch, *chain));
        runs(ops).iter().for_each(|run| write_elements(&mut batch, run));
        batch.commit().map_err(failed(format!("make {} changes in table {TABLE}", ops.len())))?;
        if !chains.is_empty() {
            let found = self.chains()?;
            self.written.extend(found.into_iter().filter(|(chain, _)| chains.contains(chain)));
        }
        Ok(())
    }

    /// Which clients keep which backends; nobody when there is no table.
    pub(crate) fn clients(&mut self) -> Result<Vec<Client>, OpError> {
        let mut out = Vec::new();
        for family in Family::ALL {
            let name = Container::Affinity.name(family);
            INET.elements(&mut self.netlink, &name, |element| {
                out.extend(read_client(family, element));
            })?;
        }
        Ok(out)
    }

    /// Forgets which backend a client keeps. That it is forgotten already is no error.
    pub(crate) fn forget(&mut self, client: &Client) -> Result<(), OpError> {
        let item = Item::Client(client.addr, client.frontend);
        let key = Key { container: Container::Affinity, item };
        match self.execute(&[Op::Delete(key, Value::Backend(client.backend))]) {
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Tables in which another proxy translates Services: kube-proxy's own, and the tables of
    /// iptables that have its chains.
    pub(crate) fn other_proxies(&mut self) -> Result<Vec<String>, OpError> {
        let all = all_chains(&mut self.netlink)?;
        let proxy = |message: &Message| {
            let (table, chain) = (named(message, 1)?, named(message, 3)?);
            let family = match message.body.first()? {
                1 => "inet",
                2 => "ip",
                10 => "ip6",
                _ => return None,
            };
            (table == "kube-proxy" || chain == "KUBE-SERVICES").then(|| format!("{family} {table}"))
        };
        let mut found: Vec<String> = all.iter().filter_map(proxy).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Every table that has chains, ours and others', as nft names it: `inet filter`.
    pub(crate) fn tables(&mut self) -> Result<Vec<String>, OpError> {
        let chains = all_chains(&mut self.netlink)?;
        let table = |message: &Message| {
            let family = match message.body.first()? {
                1 => "inet",
                2 => "ip",
                7 => "bridge",
                10 => "ip6",
                // No packet of ours goes by what is left.
                _ => return None,
            };
            Some(format!("{family} {}", named(message, 1)?))
        };
        let mut found: Vec<String> = chains.iter().filter_map(table).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Deletes the table.
    pub(crate) fn delete(&mut self) -> Result<(), OpError> {
        INET.delete(&mut self.netlink)
    }

    /// The chains that others go to, with their rules.
    fn chains(&mut self) -> Result<BTreeMap<ChainName, Rules>, OpError> {
        let none = Rules { count: 0, sum: FNV_START };
        let mut out: BTreeMap<ChainName, Rules> = INET
            .chains(&mut self.netlink)?
            .filter_map(|m| Some((ChainName::parse(named(&m, 3)?)?, none)))
            .collect();
        for rule in INET.rules(&mut self.netlink)? {
            let chain = named(&rule, 2).and_then(ChainName::parse);
            if let Some(rules) = chain.and_then(|chain| out.get_mut(&chain)) {
                rules.count += 1;
                rules.sum = fnv1a(attribute(body(&rule), 4).unwrap_or_default(), rules.sum);
            }
        }
        Ok(out)
    }

    /// What identifies the rules: those that were meant, and those that the kernel has.
    fn seal(&mut self, desired: &State) -> Result<String, OpError> {
        let meant = fnv1a(render::fingerprint(&desired.ruleset).as_bytes(), FNV_START);
        let mut found = FNV_START;
        for rule in INET.rules(&mut self.netlink)? {
            let chain = named(&rule, 2).unwrap_or_default();
            if ChainName::parse(chain).is_none() {
                found = fnv1a(chain.as_bytes(), found);
                found = fnv1a(attribute(body(&rule), 4).unwrap_or_default(), found);
            }
        }
        Ok(format!("{meant:016x} {found:016x}"))
    }

    fn write_seal(&mut self, desired: &State) -> Result<(), OpError> {
        let seal = self.seal(desired)?;
        INET.write_seal(&mut self.netlink, &seal)
    }

    fn read_elements(
        &mut self,
        container: Container,
        family: Family,
        out: &mut Vec<(Key, Value)>,
    ) -> Result<(), OpError> {
        INET.elements(&mut self.netlink, &container.name(family), |element| {
            out.extend(read_element(container, family, element));
        })
    }
}

/// The rules of a chain; whatever was in it goes.
fn write_rules(batch: &mut Batch<'_>, chain: ChainName) {
    let name = chain.to_string();
    batch.flush(&name);
    for rule in chain_rules(chain) {
        batch.rule(&name, |w| write_rule(w, &rule));
    }
}

fn write_elements(batch: &mut Batch<'_>, run: &Run<'_>) {
    let name = run.container.name(run.family);
    for chunk in run.elements.chunks(CHUNK) {
        batch.elements(run.is_new, &name, |w| {
            for (key, value) in chunk {
                write_element(w, key, run.is_new.then_some(*value));
            }
        });
    }
}

/// Consecutive elements of one container that are all added or all deleted.
struct Run<'a> {
    is_new: bool,
    container: Container,
    family: Family,
    elements: Vec<(&'a Key, &'a Value)>,
}

fn runs(ops: &[Op]) -> Vec<Run<'_>> {
    let mut out: Vec<Run<'_>> = Vec::new();
    for op in ops {
        let (is_new, key, value) = match op {
            Op::Delete(key, value) => (false, key, value),
            Op::Add(key, value) => (true, key, value),
            Op::Replace | Op::AddChain(_) => continue,
        };
        let (container, family) = (key.container, key.item.family());
        match out.last_mut() {
            Some(run) if (run.is_new, run.container, run.family) == (is_new, container, family) => {
                run.elements.push((key, value));
            }
            _ => out.push(Run { is_new, container, family, elements: vec![(key, value)] }),
        }
    }
    out
}

/// Is a notification about our table?
pub(crate) fn concerns_us(message: &Message) -> bool {
    named(message, 1) == Some(TABLE)
}

pub(super) fn run_nft(text: &str) -> Result<(), OpError> {
    let step = "load the nftables table with nft";
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed(step))?;
    let mut input = child.stdin.take().expect("stdin is piped");
    // nft reads all of its input before it writes anything, so this can't dead-lock.
    let written = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output().map_err(failed(step))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(step)(io::Error::other(words)));
    }
    written.map_err(failed(step))
}

pub(super) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: only has to notice an edit, not an attacker.
pub(super) fn fnv1a(bytes: &[u8], start: u64) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
