//! Follows packets through chains, as the kernel does.
//!
//! A packet passes a hook only if no base chain there drops it; a verdict in one chain says nothing
//! about the next.

use crate::address::Family;
use crate::foreign::fit::Fit;
use crate::foreign::listing::{Base, Chain, Rule, Ruleset, TableName};
use crate::foreign::passage::{Hook, Passage};
use crate::foreign::rule::{Key, Statement, Values, Verdict, verdict};

/// No chain of a real firewall jumps as deep; the kernel allows 16.
const DEEPEST: usize = 32;

/// What drops packets: a rule, or the policy of a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Block<'r> {
    /// The base chain that packets came in by.
    pub(crate) entry: &'r Chain,
    /// The chain of the rule.
    pub(crate) chain: &'r Chain,
    /// None: the policy of the entry.
    pub(crate) rule: Option<&'r Rule>,
}

/// Knows a set of rules.
pub(crate) struct Judge<'r> {
    ruleset: &'r Ruleset,
}

/// What becomes of packets in a chain.
enum End<'r> {
    Passed,
    /// They went through without a verdict, or came back by `return`.
    Through,
    Dropped(Block<'r>),
}

/// One way through the chains.
struct Walk<'r, 'p> {
    ruleset: &'r Ruleset,
    passage: &'p Passage,
    entry: &'r Chain,
    /// Before addresses are translated.
    early: bool,
    /// All rules so far could be read.
    sure: bool,
    /// What may drop them, or not.
    maybe: Vec<Block<'r>>,
}

impl<'r> Judge<'r> {
    pub(crate) fn of(ruleset: &'r Ruleset) -> Self {
        Self { ruleset }
    }

    /// What drops packets of a passage, and whether it certainly does.
    pub(crate) fn blocks(&self, passage: &Passage) -> Vec<(Block<'r>, bool)> {
        let mut out = Vec::new();
        for chain in &self.ruleset.chains {
            let Some(early) = chain.base.as_ref().and_then(|b| meets(b, &chain.table, passage))
            else {
                continue;
            };
            let mut walk = Walk {
                ruleset: self.ruleset,
                passage,
                entry: chain,
                early,
                sure: true,
                maybe: Vec::new(),
            };
            let mut end = walk.chain(chain, 0);
            if matches!(end, End::Through) && chain.base.as_ref().is_some_and(|b| b.drops) {
                end = End::Dropped(Block { entry: chain, chain, rule: None });
            }
            out.extend(walk.maybe.into_iter().map(|block| (block, false)));
            if let End::Dropped(block) = end {
                out.push((block, walk.sure));
            }
        }
        out
    }
}

/// Whether packets come by a base chain; and if so, whether before they are translated.
fn meets(base: &Base, table: &TableName, passage: &Passage) -> Option<bool> {
    let family = match passage.family() {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let bridged = passage.hook == Hook::Bridge;
    let at_home = match table.family.as_str() {
        "bridge" => bridged,
        "inet" => !bridged,
        other => !bridged && other == family,
    };
    if !at_home || base.kind == "nat" {
        return None;
    }
    match (base.hook.as_str(), passage.hook) {
        ("input", Hook::Input)
        | ("forward", Hook::Forward | Hook::Bridge)
        | ("output", Hook::Output) => Some(false),
        ("prerouting", Hook::Input | Hook::Forward | Hook::Bridge) => Some(true),
        _ => None,
    }
}

impl<'r> Walk<'r, '_> {
    fn chain(&mut self, chain: &'r Chain, depth: usize) -> End<'r> {
        if depth > DEEPEST {
            self.sure = false;
            return End::Through;
        }
        for rule in &chain.rules {
            match self.rule(chain, rule, depth) {
                None | Some(Outcome::End(End::Through)) => {}
                Some(Outcome::Leave) => return End::Through,
                Some(Outcome::End(end)) => return end,
            }
        }
        End::Through
    }

    /// None: goes on with the next rule.
    fn rule(&mut self, chain: &'r Chain, rule: &'r Rule, depth: usize) -> Option<Outcome<'r>> {
        let mut fit = Fit::All;
        for statement in &rule.statements {
            let verdict = match statement {
                Statement::Unknown => {
                    fit = fit.and(Fit::Unknown);
                    continue;
                }
                Statement::Match { key, negated, values } => {
                    let found = self.values(*key, values, chain);
                    fit = fit.and(if *negated { found.negated() } else { found });
                    continue;
                }
                Statement::Decide { key, values } => {
                    let (found, verdict) = self.decide(*key, values, chain);
                    fit = fit.and(found);
                    verdict
                }
                Statement::Verdict(verdict) => Some(verdict.clone()),
            };
            return match (fit, verdict) {
                // Some packets of many: what somebody wants.
                (Fit::None | Fit::Some, _) | (_, None) => None,
                (fit, Some(verdict)) => self.act(chain, rule, &verdict, fit, depth),
            };
        }
        None
    }

    fn act(
        &mut self,
        chain: &'r Chain,
        rule: &'r Rule,
        verdict: &Verdict,
        fit: Fit,
        depth: usize,
    ) -> Option<Outcome<'r>> {
        let sure = fit == Fit::All;
        let block = Block { entry: self.entry, chain, rule: Some(rule) };
        match verdict {
            Verdict::Accept if sure => Some(Outcome::End(End::Passed)),
            Verdict::Return if sure => Some(Outcome::Leave),
            Verdict::Drop if sure => Some(Outcome::End(End::Dropped(block))),
            // It may have passed here, so that nothing that follows is certain.
            Verdict::Accept | Verdict::Return => {
                self.sure = false;
                None
            }
            Verdict::Drop | Verdict::Queue => {
                self.maybe.push(block);
                None
            }
            Verdict::Jump(name) | Verdict::Goto(name) => {
                let target = self.ruleset.chain(&chain.table, name)?;
                if sure {
                    let end = self.chain(target, depth + 1);
                    let comes_back = matches!((&end, verdict), (End::Through, Verdict::Jump(_)));
                    return if comes_back { None } else { Some(Outcome::of_goto(end)) };
                }
                // Perhaps it went there: what would drop it there may drop it.
                let before = std::mem::replace(&mut self.sure, true);
                let end = self.chain(target, depth + 1);
                self.sure &= before && !matches!(end, End::Passed);
                if let End::Dropped(block) = end {
                    self.maybe.push(block);
                    self.sure = before;
                }
                None
            }
        }
    }

    fn values(&self, key: Key, values: &Values, chain: &Chain) -> Fit {
        let fit = |value: &String| self.passage.fits(key, value, self.early);
        match self.list(values, chain) {
            Some(list) => list.iter().map(fit).fold(Fit::None, Fit::or),
            None => Fit::Unknown,
        }
    }

    fn list<'v>(&self, values: &'v Values, chain: &Chain) -> Option<&'v Vec<String>>
    where
        'r: 'v,
    {
        match values {
            Values::These(list) => Some(list),
            Values::Named(name) => self.ruleset.sets.get(&(chain.table.clone(), name.clone())),
        }
    }

    /// The verdict of a map, and how many of the packets it is about.
    fn decide(&self, key: Key, values: &Values, chain: &Chain) -> (Fit, Option<Verdict>) {
        let Some(list) = self.list(values, chain) else { return (Fit::Unknown, None) };
        let mut found = (Fit::None, None);
        for entry in list {
            let Some((value, decision)) = entry.rsplit_once(" : ") else { continue };
            let fit = match value.trim().trim_matches('"') {
                "*" => Fit::All,
                value => self.passage.fits(key, value, self.early),
            };
            let words: Vec<&str> = decision.split_whitespace().collect();
            let decision = verdict(&words).map(|(verdict, _)| verdict);
            match fit {
                Fit::None => {}
                Fit::All if value.trim() != "*" => return (Fit::All, decision),
                fit if found.0 == Fit::None => found = (fit, decision),
                _ => {}
            }
        }
        found
    }
}

/// What a rule leads to.
enum Outcome<'r> {
    /// Back to the chain that jumped here.
    Leave,
    End(End<'r>),
}

impl<'r> Outcome<'r> {
    /// After a `goto` there is no way back to the chain that it stood in.
    fn of_goto(end: End<'r>) -> Self {
        match end {
            End::Through => Self::Leave,
            end => Self::End(end),
        }
    }
}

impl Block<'_> {
    /// Family, table, chain and hook.
    pub(crate) fn place(&self) -> String {
        let TableName { family, name, .. } = &self.entry.table;
        let hook = self.entry.base.as_ref().map_or("", |base| base.hook.as_str());
        let by = if self.chain == self.entry {
            String::new()
        } else {
            format!(", from {}", self.entry.name)
        };
        format!("{family} {name} {} (hook {hook}{by})", self.chain.name)
    }

    pub(crate) fn handle(&self) -> Option<u64> {
        self.rule.and_then(|rule| rule.handle)
    }

    /// The rule as nft prints it.
    pub(crate) fn words(&self) -> String {
        self.rule.map_or_else(|| "policy drop".to_owned(), |rule| rule.text.clone())
    }

    /// Who made it, as far as names tell.
    pub(crate) fn program(&self, ruleset: &Ruleset) -> String {
        let table = &self.entry.table;
        let named = [&self.chain.name, &table.name].into_iter().find_map(|name| maker(name));
        // The policies and rules of the common chains: by whose chains stand beside them.
        let beside = || {
            let chains = ruleset.chains.iter().filter(|chain| chain.table == *table);
            let mut makers: Vec<&str> = chains.filter_map(|chain| maker(&chain.name)).collect();
            makers.dedup();
            makers.sort_unstable();
            makers.dedup();
            (!makers.is_empty()).then(|| makers.join(" or "))
        };
        named.map(str::to_owned).or_else(beside).unwrap_or_else(|| {
            let of_iptables = is_of_iptables(self.entry);
            (if of_iptables { "iptables" } else { "nftables" }).to_owned()
        })
    }
}

/// The chains that iptables makes are written in capitals.
pub(crate) fn is_of_iptables(entry: &Chain) -> bool {
    matches!(entry.table.family.as_str(), "ip" | "ip6")
        && matches!(entry.name.as_str(), "INPUT" | "FORWARD" | "OUTPUT" | "PREROUTING")
}

/// The program that names chains and tables so.
fn maker(name: &str) -> Option<&'static str> {
    const MAKERS: &[(&str, &str)] = &[
        ("ufw", "ufw"),
        ("firewalld", "firewalld"),
        ("DOCKER", "docker"),
        ("docker", "docker"),
        ("KUBE-", "kube-proxy"),
        ("kube-proxy", "kube-proxy"),
        ("cali-", "calico"),
        ("CILIUM", "cilium"),
        ("LIBVIRT", "libvirt"),
        ("libvirt", "libvirt"),
        ("f2b-", "fail2ban"),
        ("NETAVARK", "podman"),
        ("netavark", "podman"),
        ("CNI-", "cni"),
    ];
    MAKERS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, program)| *program)
}
