//! One rule in nft's words as statements: what it matches and what it does.
//!
//! Knows the words that firewalls for hosts use. Anything else becomes [`Statement::Unknown`] and
//! reaches to the next word that is known again.

use crate::address::{Family, Protocol};
use crate::foreign::listing::elements;

/// A part of a rule that matters to whether a packet passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Statement {
    /// Goes on with the rule only if the packet's `key` is one of the values.
    Match { key: Key, negated: bool, values: Values },
    /// Decides by the packet's `key`; values are `KEY : VERDICT`.
    Decide { key: Key, values: Values },
    /// Decides.
    Verdict(Verdict),
    /// Something that may match or not.
    Unknown,
}

/// What of a packet is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The link it came in by.
    Iif,
    /// The link it goes out by.
    Oif,
    /// The bridge it came in by, or goes out by.
    Bridge,
    /// The version of IP.
    Version,
    /// TCP, UDP or another, as far as the version of IP matters.
    Transport(Option<Family>),
    From(Family),
    To(Family),
    /// The port it came from.
    SourcePort,
    /// The port it goes to, of a protocol or of any.
    Port(Option<Protocol>),
    /// Whether the connection is new, established, …
    State,
    /// Whether the connection is translated, …
    Status,
    Direction,
    /// `fib daddr type`
    DestinationType,
    /// Whether the way back leads by the same link.
    WayBack,
    /// Broadcast, multicast or for one host.
    Casting,
    /// Fields that only ICMP has.
    Icmp,
}

/// What a packet's key is compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Values {
    These(Vec<String>),
    /// A named set or map.
    Named(String),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Accept,
    /// Or reject: it does not pass.
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// A program decides.
    Queue,
}

/// The words of a line: quoted text is one word, without its quotes; braces stand alone.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => words.extend(finished(&mut word)),
            '{' | '}' if !quoted => {
                words.extend(finished(&mut word));
                words.push(letter.to_string());
            }
            _ => word.push(letter),
        }
    }
    words.extend(finished(&mut word));
    words
}

fn finished(word: &mut String) -> Option<String> {
    let word = std::mem::take(word);
    (!word.is_empty()).then_some(word)
}

/// The statements of a rule.
pub(crate) fn parse(words: &[String]) -> Vec<Statement> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut rest = words.as_slice();
    let mut out = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = harmless(rest) {
            rest = after;
        } else if let Some((verdict, after)) = verdict(rest) {
            out.push(Statement::Verdict(verdict));
            rest = after;
        } else if let Some((statement, after)) = matching(rest) {
            out.push(statement);
            rest = after;
        } else {
            out.push(Statement::Unknown);
            rest = after_unknown(rest);
        }
    }
    out
}

/// What follows words that do not bear on whether a packet passes.
fn harmless<'w>(words: &'w [&'w str]) -> Option<&'w [&'w str]> {
    match words {
        ["counter", "packets", _, "bytes", _, rest @ ..]
        | ["counter", "name", _, rest @ ..]
        | ["counter" | "notrack" | "continue", rest @ ..]
        | ["comment", _, rest @ ..]
        | ["meta" | "ct", _, "set", _, rest @ ..]
        | ["flow", "add", _, rest @ ..] => Some(rest),
        ["log", rest @ ..] => {
            let mut rest = rest;
            while let [
                "prefix" | "level" | "group" | "snaplen" | "queue-threshold" | "flags",
                _,
                after @ ..,
            ] = rest
            {
                rest = after;
            }
            Some(rest)
        }
        _ => None,
    }
}

/// A verdict, as a rule or a map spells it.
pub(crate) fn verdict<'w>(words: &'w [&'w str]) -> Option<(Verdict, &'w [&'w str])> {
    match words {
        ["accept", rest @ ..] => Some((Verdict::Accept, rest)),
        ["drop", rest @ ..] => Some((Verdict::Drop, rest)),
        ["reject", "with", "tcp", "reset", rest @ ..]
        | ["reject", "with", _, "type", _, rest @ ..]
        | ["reject", "with", _, _, rest @ ..]
        | ["reject", rest @ ..] => Some((Verdict::Drop, rest)),
        ["return", rest @ ..] => Some((Verdict::Return, rest)),
        ["jump", chain, rest @ ..] => Some((Verdict::Jump((*chain).to_owned()), rest)),
        ["goto", chain, rest @ ..] => Some((Verdict::Goto((*chain).to_owned()), rest)),
        // What else it says is about the program.
        ["queue", ..] => Some((Verdict::Queue, &[])),
        _ => None,
    }
}

fn matching<'w>(words: &'w [&'w str]) -> Option<(Statement, &'w [&'w str])> {
    let (key, rest) = key(words)?;
    match rest {
        ["vmap", rest @ ..] => {
            let (values, rest) = values(rest)?;
            Some((Statement::Decide { key, values }, rest))
        }
        // Ranges by comparison, masks and lists of several keys.
        ["<" | ">" | "<=" | ">=" | "&" | "/" | "." | "and" | "or", ..] => None,
        ["!=", rest @ ..] => {
            let (values, rest) = values(rest)?;
            Some((Statement::Match { key, negated: true, values }, rest))
        }
        ["==", rest @ ..] | rest => {
            let (values, rest) = values(rest)?;
            Some((Statement::Match { key, negated: false, values }, rest))
        }
    }
}

fn key<'w>(words: &'w [&'w str]) -> Option<(Key, &'w [&'w str])> {
    let version = |word: &str| if word == "ip" { Family::V4 } else { Family::V6 };
    let found = match words {
        ["iifname" | "iif", rest @ ..] => (Key::Iif, rest),
        ["oifname" | "oif", rest @ ..] => (Key::Oif, rest),
        ["meta", "ibrname" | "obrname", rest @ ..] => (Key::Bridge, rest),
        ["meta", "nfproto", rest @ ..] => (Key::Version, rest),
        ["meta", "l4proto", rest @ ..] => (Key::Transport(None), rest),
        ["ip", "protocol", rest @ ..] => (Key::Transport(Some(Family::V4)), rest),
        ["ip6", "nexthdr", rest @ ..] => (Key::Transport(Some(Family::V6)), rest),
        [ip @ ("ip" | "ip6"), "saddr", rest @ ..] => (Key::From(version(ip)), rest),
        [ip @ ("ip" | "ip6"), "daddr", rest @ ..] => (Key::To(version(ip)), rest),
        ["tcp" | "udp" | "sctp" | "th", "sport", rest @ ..] => (Key::SourcePort, rest),
        ["tcp", "dport", rest @ ..] => (Key::Port(Some(Protocol::Tcp)), rest),
        ["udp", "dport", rest @ ..] => (Key::Port(Some(Protocol::Udp)), rest),
        ["sctp", "dport", rest @ ..] => (Key::Port(Some(Protocol::Sctp)), rest),
        ["th", "dport", rest @ ..] => (Key::Port(None), rest),
        ["ct", "state", rest @ ..] => (Key::State, rest),
        ["ct", "status", rest @ ..] => (Key::Status, rest),
        ["ct", "direction", rest @ ..] => (Key::Direction, rest),
        ["fib", "daddr", "type", rest @ ..] => (Key::DestinationType, rest),
        ["fib", "saddr", ".", "iif", "oif", rest @ ..]
        | ["fib", "saddr", ".", "mark", ".", "iif", "oif", rest @ ..] => (Key::WayBack, rest),
        ["meta", "pkttype", rest @ ..] | ["pkttype", rest @ ..] => (Key::Casting, rest),
        ["icmp" | "icmpv6", _, rest @ ..] => (Key::Icmp, rest),
        _ => return None,
    };
    Some(found)
}

fn values<'w>(words: &'w [&'w str]) -> Option<(Values, &'w [&'w str])> {
    match words {
        ["{", rest @ ..] => {
            let end = rest.iter().position(|word| *word == "}")?;
            let list = elements(&rest[..end].join(" "));
            Some((Values::These(list), &rest[end + 1..]))
        }
        [word, rest @ ..] => match word.strip_prefix('@') {
            Some(name) => Some((Values::Named(name.to_owned()), rest)),
            None => Some((Values::These(elements(word)), rest)),
        },
        [] => None,
    }
}

/// The words from the next one on that means something here.
fn after_unknown<'w>(words: &'w [&'w str]) -> &'w [&'w str] {
    let known = |rest: &[&str]| {
        verdict(rest).is_some() || harmless(rest).is_some() || matching(rest).is_some()
    };
    // A verdict inside the braces of a map decides about some packets only; a key after a dot is a
    // part of several.
    let mut depth = 0;
    for at in 0..words.len() {
        match words[at] {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if at > 0 && depth == 0 && words[at - 1] != "." && known(&words[at..]) => {
                return &words[at..];
            }
            _ => {}
        }
    }
    &[]
}
