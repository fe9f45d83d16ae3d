//! How many of the packets of a passage a match is about: all, some, none, or nobody can tell.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::address::Family;
use crate::foreign::passage::{Hook, Link, Passage};
use crate::foreign::rule::Key;

/// How many of the packets a match is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    All,
    Some,
    None,
    /// Nobody can tell.
    Unknown,
}

impl Fit {
    fn all_if(yes: bool) -> Self {
        if yes { Self::All } else { Self::None }
    }

    /// Both must fit.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Some, _) | (_, Self::Some) => Self::Some,
            (Self::All, Self::All) => Self::All,
        }
    }

    /// Either fits.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Some, _) | (_, Self::Some) => Self::Some,
            (Self::None, Self::None) => Self::None,
        }
    }

    pub(crate) fn negated(self) -> Self {
        match self {
            Self::All => Self::None,
            Self::None => Self::All,
            other => other,
        }
    }
}

impl Passage {
    pub(crate) fn family(&self) -> Family {
        Family::of(self.from.addr())
    }

    /// How many of these packets have this value, as nft prints it. `early` is before addresses
    /// are translated and routes are known.
    pub(crate) fn fits(&self, key: Key, value: &str, early: bool) -> Fit {
        let family = self.family();
        match key {
            Key::Iif => self.link_fits(self.iif.as_ref(), value),
            Key::Oif if early => Fit::Unknown,
            Key::Oif => self.link_fits(self.oif.as_ref(), value),
            Key::Bridge if self.hook == Hook::Bridge => link(self.iif.as_ref(), value),
            Key::Version => {
                Fit::all_if(value == if family == Family::V4 { "ipv4" } else { "ipv6" })
            }
            Key::Transport(version) if version.is_some_and(|v| v != family) => Fit::None,
            Key::Transport(_) => Fit::all_if(
                value == self.protocol.to_string() || value == self.protocol.number().to_string(),
            ),
            Key::From(version) if version == family => address(self.from, value),
            Key::To(version) if version == family => address(self.to, value),
            Key::From(_) | Key::To(_) | Key::Icmp => Fit::None,
            Key::SourcePort | Key::Port(_) if matches!(key, Key::SourcePort) != self.answers => {
                Fit::Some
            }
            Key::Port(protocol) if protocol.is_some_and(|p| p != self.protocol) => Fit::None,
            Key::SourcePort | Key::Port(_) => port(self.ports.as_ref(), value),
            Key::State => Fit::all_if(value == if self.answers { "established" } else { "new" }),
            // Nothing is translated yet when the first packet comes in.
            Key::Status => {
                Fit::all_if(value == "dnat" && self.translated && (self.answers || !early))
            }
            Key::Direction => Fit::all_if(value == if self.answers { "reply" } else { "original" }),
            Key::DestinationType if self.hook == Hook::Bridge => Fit::Unknown,
            Key::DestinationType if early && self.translated => Fit::Unknown,
            Key::DestinationType => {
                Fit::all_if(value == if self.hook == Hook::Input { "local" } else { "unicast" })
            }
            // The way back leads by the link they came by; `missing` says that it does not.
            Key::WayBack => Fit::all_if(!matches!(value, "missing" | "0" | "false")),
            Key::Casting => Fit::all_if(matches!(value, "host" | "unicast")),
            Key::Bridge => Fit::Unknown,
        }
    }

    fn link_fits(&self, of: Option<&Link>, value: &str) -> Fit {
        // Rules inside a bridge name its ports.
        if self.hook == Hook::Bridge { Fit::Unknown } else { link(of, value) }
    }
}

fn link(of: Option<&Link>, value: &str) -> Fit {
    match of {
        Some(Link::Named(name)) => Fit::all_if(match value.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == value,
        }),
        Some(Link::Any) if value == "lo" => Fit::None,
        Some(Link::Any) => Fit::Some,
        // They don't come in by a link, or don't go out by one.
        None => Fit::None,
    }
}

fn address(packets: IpNet, value: &str) -> Fit {
    let net: Result<IpNet, _> = value.parse();
    let one = || value.parse::<IpAddr>().map(IpNet::from);
    if let Ok(net) = net.or_else(|_| one()) {
        return if net.contains(&packets) {
            Fit::All
        } else if packets.contains(&net) {
            Fit::Some
        } else {
            Fit::None
        };
    }
    let Some((first, last)) = value.split_once('-') else { return Fit::Unknown };
    match (first.trim().parse::<IpAddr>(), last.trim().parse::<IpAddr>()) {
        (Ok(first), Ok(last)) => {
            overlap(&(packets.network()..=packets.broadcast()), &(first..=last))
        }
        _ => Fit::Unknown,
    }
}

fn port(packets: Option<&RangeInclusive<u16>>, value: &str) -> Fit {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) => overlap(packets.unwrap_or(&(1..=u16::MAX)), &(first..=last)),
        _ => Fit::Unknown,
    }
}

fn overlap<T: PartialOrd>(packets: &RangeInclusive<T>, rule: &RangeInclusive<T>) -> Fit {
    if rule.contains(packets.start()) && rule.contains(packets.end()) {
        Fit::All
    } else if packets.end() < rule.start() || rule.end() < packets.start() {
        Fit::None
    } else {
        Fit::Some
    }
}
