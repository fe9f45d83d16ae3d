//! A listing of nft's as a value: tables, chains, rules, sets.
//!
//! Reads what `nft -a list table` prints. What it does not know (helpers, counters, flow tables) it
//! passes over; it never fails, because a listing of a later version must not blind us.

use std::collections::BTreeMap;

use crate::foreign::rule::{Statement, parse, words};

/// Who keeps rules in the kernel, and so by which tool they are changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// nft, and iptables where it stands upon nft.
    #[default]
    Nft,
    /// The older iptables, whose rules nft cannot see.
    Legacy,
}

/// All rules of a network namespace that are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The chains, in the order of the listing.
    pub(crate) chains: Vec<Chain>,
    /// Elements of named sets and maps, by place and name.
    pub(crate) sets: BTreeMap<(TableName, String), Vec<String>>,
}

/// Family and name of a table, and by which tool it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableName {
    pub(crate) tool: Tool,
    pub(crate) family: String,
    pub(crate) name: String,
}

/// A chain; one with a hook is where packets come in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chain {
    pub(crate) table: TableName,
    pub(crate) name: String,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// Where a base chain hooks into the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Base {
    /// `filter`, `nat` or `route`.
    pub(crate) kind: String,
    pub(crate) hook: String,
    /// The policy is to drop.
    pub(crate) drops: bool,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) handle: Option<u64>,
    /// As listed.
    pub(crate) text: String,
    pub(crate) statements: Vec<Statement>,
}

/// What stands between an opening brace and its closing one.
enum Inside {
    Table,
    Chain,
    Set(String),
    Other,
}

impl Ruleset {
    /// Adds what `nft -a list table` says.
    pub fn read(&mut self, listing: &str) {
        let mut table = TableName::default();
        let mut dormant = false;
        let mut open: Vec<Inside> = Vec::new();
        for line in joined(listing) {
            let (line, handle) = without_handle(&line);
            if line == "}" {
                if matches!(open.pop(), Some(Inside::Table)) && std::mem::take(&mut dormant) {
                    self.chains.retain(|chain| chain.table != table);
                }
            } else if let Some(head) = line.strip_suffix('{') {
                let head: Vec<&str> = head.split_whitespace().collect();
                open.push(self.enter(&head, &mut table));
            } else {
                match open.last() {
                    Some(Inside::Table) => dormant |= line == "flags dormant",
                    Some(Inside::Chain) => self.add_line(line, handle),
                    Some(Inside::Set(name)) => {
                        let list = line.strip_prefix("elements = {").unwrap_or_default();
                        let list = elements(list.trim_end_matches('}'));
                        self.sets.entry((table.clone(), name.clone())).or_default().extend(list);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Adds what `iptables-legacy-save | iptables-restore-translate` says: the rules of the older
    /// iptables, which nft cannot see, as commands of nft.
    pub fn read_legacy(&mut self, commands: &str) {
        for line in commands.lines() {
            let Some((what, rest)) = line.strip_prefix("add ").and_then(|l| l.split_once(' '))
            else {
                continue;
            };
            let mut parts = rest.splitn(4, ' ');
            let [Some(family), Some(table), Some(chain)] =
                [parts.next(), parts.next(), parts.next()]
            else {
                continue;
            };
            let table = TableName { tool: Tool::Legacy, family: family.into(), name: table.into() };
            let rest = parts.next().unwrap_or_default();
            if what == "chain" {
                let base = Base::parse(rest.trim_matches(['{', '}', ' ']));
                self.chains.push(Chain { table, name: chain.into(), base, rules: Vec::new() });
            } else if let Some(chain) =
                self.chains.iter_mut().find(|c| c.table == table && c.name == chain)
            {
                chain.rules.push(Rule::new(rest, None));
            }
        }
    }

    fn enter(&mut self, head: &[&str], table: &mut TableName) -> Inside {
        match head {
            ["table", family, name] => {
                *table = TableName {
                    tool: Tool::Nft,
                    family: (*family).to_owned(),
                    name: (*name).to_owned(),
                };
                Inside::Table
            }
            ["chain", name] => {
                let (table, name) = (table.clone(), (*name).to_owned());
                self.chains.push(Chain { table, name, base: None, rules: Vec::new() });
                Inside::Chain
            }
            ["set" | "map", name] => Inside::Set((*name).to_owned()),
            _ => Inside::Other,
        }
    }

    /// A line of the chain that was entered last.
    fn add_line(&mut self, line: &str, handle: Option<u64>) {
        let Some(chain) = self.chains.last_mut() else { return };
        match Base::parse(line) {
            Some(base) => chain.base = Some(base),
            None if handle.is_some() => chain.rules.push(Rule::new(line, handle)),
            // A comment of the chain.
            None => {}
        }
    }

    /// The chain of this name in a table.
    pub(crate) fn chain(&self, table: &TableName, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.table == *table && chain.name == name)
    }
}

impl Rule {
    fn new(line: &str, handle: Option<u64>) -> Self {
        Self { handle, text: line.to_owned(), statements: parse(&words(line)) }
    }
}

impl Base {
    /// `type filter hook forward priority filter; policy drop;`
    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("type ")?;
        let mut words = rest.split_whitespace();
        let kind = words.next()?.to_owned();
        let hook = words.skip_while(|word| *word != "hook").nth(1)?.to_owned();
        Some(Self { kind, hook, drops: line.contains("policy drop") })
    }
}

/// Elements of a set; those of a map keep `: VALUE`.
pub(crate) fn elements(list: &str) -> Vec<String> {
    list.split(',').map(|element| element.trim().to_owned()).filter(|e| !e.is_empty()).collect()
}

/// The lines without indentation and remarks; lists of elements that go over several lines as one.
fn joined(listing: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut unfinished = false;
    for line in listing.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match lines.last_mut().filter(|_| unfinished) {
            Some(last) => {
                last.push(' ');
                last.push_str(line);
            }
            None => lines.push(line.to_owned()),
        }
        let last = lines.last().map_or("", String::as_str);
        unfinished = last.starts_with("elements = {") && !last.ends_with('}');
    }
    lines
}

fn without_handle(line: &str) -> (&str, Option<u64>) {
    let parsed = line.rsplit_once(" # handle ").map(|(text, number)| (text, number.parse().ok()));
    let (text, handle) = match parsed {
        Some((text, Some(handle))) => (text.trim_end(), Some(handle)),
        _ => (line, None),
    };
    // `table inet firewalld { # progname firewalld`
    let head = text.split_once("{ # ").filter(|_| !text.contains('"'));
    (head.map_or(text, |(head, _)| &text[..=head.len()]), handle)
}
