//! The command that lets packets pass a rule: by the program that made the rule, where it has one,
//! else by a rule before it.
//!
//! The command is printed, never run.

use ipnet::IpNet;

use crate::address::{Family, Protocol};
use crate::foreign::judge::{Block, is_of_iptables};
use crate::foreign::listing::{Ruleset, Tool};
use crate::foreign::passage::{Allow, Hook, Passage};

/// One thing to allow, and for whom.
struct Wish<'p> {
    allow: &'p Allow,
    hook: Hook,
    family: Family,
    /// Before a packet's way is known: it can't be told by which link it goes out.
    early: bool,
}

/// What lets all of the passages pass a block.
pub(crate) fn command(ruleset: &Ruleset, block: &Block<'_>, passages: &[&Passage]) -> String {
    let early = block.entry.base.as_ref().is_some_and(|base| base.hook == "prerouting");
    let wishes: Vec<Wish<'_>> = passages
        .iter()
        .map(|p| Wish { allow: &p.allow, hook: p.hook, family: p.family(), early })
        .collect();
    let program = block.program(ruleset);
    let mut commands = match program.as_str() {
        "kube-proxy" => vec!["kube-proxy --cleanup".to_owned()],
        "ufw" => distinct(wishes.iter().map(by_ufw)),
        "firewalld" => by_firewalld(&wishes),
        _ if block.entry.table.tool == Tool::Legacy || is_of_iptables(block.entry) => {
            distinct(wishes.iter().flat_map(|wish| by_iptables(ruleset, block, wish)))
        }
        _ => distinct(wishes.iter().flat_map(|wish| by_nft(block, wish))),
    };
    if program == "firewalld" {
        commands.push("firewall-cmd --reload".to_owned());
    }
    commands.join(" && ")
}

fn distinct(commands: impl Iterator<Item = String>) -> Vec<String> {
    let mut out = Vec::new();
    for command in commands {
        if !out.contains(&command) {
            out.push(command);
        }
    }
    out
}

fn by_ufw(wish: &Wish<'_>) -> String {
    let forward = if wish.hook == Hook::Forward { "route " } else { "" };
    match wish.allow {
        Allow::From { link, .. } => format!("ufw {forward}allow in on {link}"),
        Allow::To { link, .. } => format!("ufw {forward}allow out on {link}"),
        Allow::Through { net } => format!("ufw route allow to {net}"),
        Allow::Ports { protocol, ports } => {
            format!("ufw allow {}:{}/{protocol}", ports.start(), ports.end())
        }
        Allow::Within { bridge } => format!("ufw route allow in on {bridge} out on {bridge}"),
    }
}

/// The zone `trusted` passes on what comes from it; a policy lets others in to it.
fn by_firewalld(wishes: &[Wish<'_>]) -> Vec<String> {
    const LET_IN: [&str; 4] = [
        "--new-policy=minictl-in",
        "--policy=minictl-in --add-ingress-zone=ANY",
        "--policy=minictl-in --add-egress-zone=trusted",
        "--policy=minictl-in --set-target=ACCEPT",
    ];
    let orders = wishes.iter().flat_map(|wish| {
        let trusted = |what: String| format!("--zone=trusted --add-{what}");
        let (first, let_in) = match wish.allow {
            Allow::From { link, .. } | Allow::Within { bridge: link } => {
                (trusted(format!("interface={link}")), false)
            }
            Allow::To { link, .. } => (trusted(format!("interface={link}")), true),
            Allow::Through { net } => (trusted(format!("source={net}")), true),
            Allow::Ports { protocol, ports } => {
                (format!("--add-port={}-{}/{protocol}", ports.start(), ports.end()), false)
            }
        };
        let let_in = LET_IN.iter().filter(move |_| let_in).map(|order| (*order).to_owned());
        std::iter::once(first).chain(let_in)
    });
    distinct(orders.map(|order| format!("firewall-cmd --permanent {order}")))
}

fn by_iptables(ruleset: &Ruleset, block: &Block<'_>, wish: &Wish<'_>) -> Vec<String> {
    let table = &block.entry.table;
    let program = match (table.tool, wish.family) {
        (Tool::Nft, Family::V4) => "iptables",
        (Tool::Nft, Family::V6) => "ip6tables",
        (Tool::Legacy, Family::V4) => "iptables-legacy",
        (Tool::Legacy, Family::V6) => "ip6tables-legacy",
    };
    // What Docker leaves to the administrator, and asks first.
    let docker_asks =
        block.entry.name == "FORWARD" && ruleset.chain(table, "DOCKER-USER").is_some();
    let chain = if docker_asks { "DOCKER-USER" } else { &block.entry.name };
    let in_table =
        if table.name == "filter" { String::new() } else { format!("-t {} ", table.name) };
    let matches = match wish.allow {
        Allow::From { link, .. } => vec![format!("-i {link}")],
        Allow::To { net, .. } if wish.early => vec![format!("-d {net}")],
        Allow::To { link, .. } => vec![format!("-o {link}")],
        Allow::Through { net } => vec![format!("-d {net}"), format!("-s {net}")],
        Allow::Ports { protocol, ports } => {
            vec![format!("-p {protocol} --dport {}:{}", ports.start(), ports.end())]
        }
        Allow::Within { bridge } if wish.early => vec![format!("-i {bridge}")],
        Allow::Within { bridge } => vec![format!("-i {bridge} -o {bridge}")],
    };
    matches
        .into_iter()
        .map(|matches| format!("{program} {in_table}-I {chain} {matches} -j ACCEPT"))
        .collect()
}

fn by_nft(block: &Block<'_>, wish: &Wish<'_>) -> Vec<String> {
    let table = &block.entry.table;
    let bridged = table.family == "bridge";
    let to = |net: &IpNet| format!("{} daddr {net}", ip(*net));
    let matches = match wish.allow {
        Allow::From { link, .. } => vec![format!("iifname {link}")],
        Allow::To { net, .. } if wish.early => vec![to(net)],
        Allow::To { link, .. } => vec![format!("oifname {link}")],
        Allow::Through { net } => vec![to(net), format!("{} saddr {net}", ip(*net))],
        Allow::Ports { protocol, ports } => vec![dport(*protocol, *ports.start(), *ports.end())],
        Allow::Within { bridge } if bridged => vec![format!("meta ibrname {bridge}")],
        Allow::Within { bridge } if wish.early => vec![format!("iifname {bridge}")],
        Allow::Within { bridge } => vec![format!("iifname {bridge} oifname {bridge}")],
    };
    let (family, name, chain) = (&table.family, &table.name, &block.entry.name);
    matches
        .into_iter()
        .map(|matches| format!("nft insert rule {family} {name} {chain} {matches} accept"))
        .collect()
}

fn dport(protocol: Protocol, first: u16, last: u16) -> String {
    format!("{protocol} dport {first}-{last}")
}

fn ip(net: IpNet) -> &'static str {
    match Family::of(net.addr()) {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}
