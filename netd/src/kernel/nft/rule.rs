//! Rules as expressions of the kernel's little machine (`nft --debug=netlink` shows them).
//!
//! Only the rules of chains that are added while the table serves are written this way: one
//! transaction with the elements that need them, and no program to start. Those that
//! remember clients, nft 1.0.6 has no words for.
//!
//! Registers are four bytes each, numbered from [`FIRST`].

use netmodel::address::Family;
use netmodel::nft::ruleset::{Action, MARK, Rule, Test};
use netmodel::nft::{ChainName, Container};

use crate::kernel::netlink::Writer;

/// The first four-byte register.
const FIRST: u32 = 8;
/// The register of verdicts.
const VERDICT: u32 = 0;
const VERDICT_GOTO: i32 = -4;

const META_MARK: u32 = 3;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_DESTINATION_PORT: u32 = 12;
const CT_DESTINATION_IP: u32 = 20;
const CT_DESTINATION_IP6: u32 = 22;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const SOURCE_PORT_AT: u32 = 0;
const DESTINATION_PORT_AT: u32 = 2;
const RANDOM: u32 = 1;
const NAT_DESTINATION: u32 = 1;
const REJECT_UNREACHABLE: u32 = 2;
const REJECT_RESET: u32 = 1;
const CODE_PORT_UNREACHABLE: u8 = 1;
const ADD: u32 = 0;
const UPDATE: u32 = 1;
const DELETE: u32 = 2;
const INVERTED: u32 = 1;
const VERDICT_DROP: i32 = 0;
const PROTOCOL_TCP: u8 = 6;

/// Writes the expressions of a rule of a chain that others go to.
pub(super) fn write_rule(writer: &mut Writer, rule: &Rule) {
    // Rules of chains for both families have no addresses in them.
    let family = rule.family.unwrap_or(Family::V4);
    for test in &rule.tests {
        match test {
            Test::Tcp => {
                meta_load(writer, META_L4PROTO, FIRST);
                equals(writer, FIRST, &[PROTOCOL_TCP]);
            }
            Test::NotKept => not_kept(writer, family),
            _ => unreachable!("chains that others go to test nothing else"),
        }
    }
    match &rule.action {
        Action::Mark => {
            // As nft's text has it: a rule is the same whichever way it was written.
            if rule.family.is_some() {
                is_family(writer, family);
            }
            set_mark(writer);
        }
        Action::Translate(map, count) => {
            is_family(writer, family);
            pick(writer, family, *map, *count);
            translate(writer, family, FIRST);
        }
        Action::Recall => {
            is_family(writer, family);
            source(writer, family, FIRST);
            frontend(writer, family, FIRST + address_registers(family));
            look_up(writer, &Container::Affinity.name(family), FIRST, FIRST);
            translate(writer, family, FIRST);
        }
        Action::LookupCalled => {
            is_family(writer, family);
            called(writer, family, FIRST);
            look_up(writer, &Container::Sticky.name(family), FIRST, VERDICT);
        }
        Action::Remember(seconds) => {
            is_family(writer, family);
            remember(writer, family, Some(*seconds));
        }
        Action::Forget => {
            is_family(writer, family);
            remember(writer, family, None);
        }
        Action::Drop => drop_packet(writer),
        Action::Goto(chain) => go_to(writer, *chain),
        Action::Reset => reject(writer, REJECT_RESET),
        Action::Unreachable => reject(writer, REJECT_UNREACHABLE),
        Action::Lookup(_) | Action::Masquerade | Action::Untrack => {
            unreachable!("only base chains do this, and they are loaded as text")
        }
    }
}

fn expression(writer: &mut Writer, name: &str, body: impl FnOnce(&mut Writer)) {
    writer.nest(1, |w| {
        w.string(1, name);
        w.nest(2, body);
    });
}

fn address_registers(family: Family) -> u32 {
    u32::from(family.host_bits()) / 32
}

fn meta_load(writer: &mut Writer, key: u32, to: u32) {
    expression(writer, "meta", |w| {
        w.be32(1, to);
        w.be32(2, key);
    });
}

fn equals(writer: &mut Writer, register: u32, value: &[u8]) {
    expression(writer, "cmp", |w| {
        w.be32(1, register);
        w.be32(2, 0);
        w.nest(3, |w| w.attr(1, value));
    });
}

fn is_family(writer: &mut Writer, family: Family) {
    meta_load(writer, META_NFPROTO, FIRST);
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    equals(writer, FIRST, &[number]);
}

fn set_mark(writer: &mut Writer) {
    meta_load(writer, META_MARK, FIRST);
    // new = (old & mask) ^ xor
    expression(writer, "bitwise", |w| {
        w.be32(1, FIRST);
        w.be32(2, FIRST);
        w.be32(3, 4);
        w.nest(4, |w| w.attr(1, &(!MARK).to_ne_bytes()));
        w.nest(5, |w| w.attr(1, &MARK.to_ne_bytes()));
    });
    expression(writer, "meta", |w| {
        w.be32(2, META_MARK);
        w.be32(3, FIRST);
    });
}

fn payload(writer: &mut Writer, base: u32, offset: u32, length: u32, to: u32) {
    expression(writer, "payload", |w| {
        w.be32(1, to);
        w.be32(2, base);
        w.be32(3, offset);
        w.be32(4, length);
    });
}

fn source(writer: &mut Writer, family: Family, to: u32) {
    let (offset, length) = match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    };
    payload(writer, NETWORK_HEADER, offset, length, to);
}

fn destination(writer: &mut Writer, family: Family, to: u32) {
    let (offset, length) = match family {
        Family::V4 => (16, 4),
        Family::V6 => (24, 16),
    };
    payload(writer, NETWORK_HEADER, offset, length, to);
}

/// Loads the frontend; returns the register after it.
fn frontend(writer: &mut Writer, family: Family, to: u32) -> u32 {
    destination(writer, family, to);
    let next = to + address_registers(family);
    meta_load(writer, META_L4PROTO, next);
    payload(writer, TRANSPORT_HEADER, DESTINATION_PORT_AT, 2, next + 1);
    next + 2
}

/// Loads the frontend that was called before translation; returns the register after it.
fn called(writer: &mut Writer, family: Family, to: u32) -> u32 {
    let key = match family {
        Family::V4 => CT_DESTINATION_IP,
        Family::V6 => CT_DESTINATION_IP6,
    };
    original(writer, key, to);
    let next = to + address_registers(family);
    meta_load(writer, META_L4PROTO, next);
    original(writer, CT_DESTINATION_PORT, next + 1);
    next + 2
}

/// Loads a part of the connection's original direction.
fn original(writer: &mut Writer, key: u32, to: u32) {
    expression(writer, "ct", |w| {
        w.be32(1, to);
        w.be32(2, key);
        w.u8(3, 0);
    });
}

/// Loads a random backend of the frontend.
fn pick(writer: &mut Writer, family: Family, map: Container, count: u32) {
    let slot = frontend(writer, family, FIRST);
    expression(writer, "numgen", |w| {
        w.be32(1, slot);
        w.be32(2, count);
        w.be32(3, RANDOM);
        w.be32(4, 0);
    });
    look_up(writer, &map.name(family), FIRST, FIRST);
}

fn look_up(writer: &mut Writer, map: &str, key: u32, to: u32) {
    expression(writer, "lookup", |w| {
        w.string(1, map);
        w.be32(2, key);
        w.be32(3, to);
    });
}

/// Ends the rule when what was called and where that was translated to are in the set.
fn not_kept(writer: &mut Writer, family: Family) {
    is_family(writer, family);
    let backend = called(writer, family, FIRST);
    translated(writer, family, backend);
    expression(writer, "lookup", |w| {
        w.string(1, &Container::Kept.name(family));
        w.be32(2, FIRST);
        w.be32(5, INVERTED);
    });
}

/// Loads where the packet goes now.
fn translated(writer: &mut Writer, family: Family, to: u32) {
    destination(writer, family, to);
    payload(writer, TRANSPORT_HEADER, DESTINATION_PORT_AT, 2, to + address_registers(family));
}

/// Remembers for so many seconds, for the client and the frontend it called, where the packet goes
/// now; or forgets it.
fn remember(writer: &mut Writer, family: Family, seconds: Option<u32>) {
    source(writer, family, FIRST);
    let backend = called(writer, family, FIRST + address_registers(family));
    translated(writer, family, backend);
    expression(writer, "dynset", |w| {
        w.string(1, &Container::Affinity.name(family));
        w.be32(3, if seconds.is_some() { UPDATE } else { DELETE });
        w.be32(4, FIRST);
        w.be32(5, backend);
        if let Some(seconds) = seconds {
            w.be64(6, u64::from(seconds) * 1000);
        }
    });
}

/// What becomes of what is remembered of a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Remembered {
    /// It is the packet's mark for so many seconds; `refresh` when it is there already, too.
    For { seconds: u32, refresh: bool },
    /// Nothing is.
    Nothing,
}

/// Remembers the packet's mark for its connection, or forgets what was remembered.
pub(in crate::kernel) fn flow_memory(
    writer: &mut Writer,
    family: Family,
    map: &str,
    remembered: Remembered,
) {
    source(writer, family, FIRST);
    let port = FIRST + address_registers(family);
    payload(writer, TRANSPORT_HEADER, SOURCE_PORT_AT, 2, port);
    let mark = frontend(writer, family, port + 1);
    meta_load(writer, META_MARK, mark);
    expression(writer, "dynset", |w| {
        w.string(1, map);
        let operation = match remembered {
            Remembered::For { refresh: false, .. } => ADD,
            Remembered::For { refresh: true, .. } => UPDATE,
            Remembered::Nothing => DELETE,
        };
        w.be32(3, operation);
        w.be32(4, FIRST);
        // A map wants it even where nothing is added.
        w.be32(5, mark);
        if let Remembered::For { seconds, .. } = remembered {
            w.be64(6, u64::from(seconds) * 1000);
        }
    });
}

/// Makes what is remembered of a connection the packet's mark, where the packet is an ICMP error
/// and quotes an answer of that connection: as long as it has no more than the fixed header, before
/// which stand eight bytes of ICMP's own.
pub(in crate::kernel) fn quoted_flow(writer: &mut Writer, family: Family, map: &str) {
    const ICMP: u32 = 8;
    let (protocol, source, destination, ports, length) = match family {
        Family::V4 => (9, 12, 16, 20, 4),
        Family::V6 => (6, 8, 24, 40, 16),
    };
    let mut load = |offset, length, to| {
        payload(writer, TRANSPORT_HEADER, ICMP + offset, length, to);
    };
    // What was sent to the client was sent by it the other way round.
    let client_port = FIRST + address_registers(family);
    load(destination, length, FIRST);
    load(ports + DESTINATION_PORT_AT, 2, client_port);
    let frontend = client_port + 1;
    load(source, length, frontend);
    let transport = frontend + address_registers(family);
    load(protocol, 1, transport);
    load(ports + SOURCE_PORT_AT, 2, transport + 1);
    look_up(writer, map, FIRST, FIRST);
    expression(writer, "meta", |w| {
        w.be32(2, META_MARK);
        w.be32(3, FIRST);
    });
}

fn translate(writer: &mut Writer, family: Family, backend: u32) {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    expression(writer, "nat", |w| {
        w.be32(1, NAT_DESTINATION);
        w.be32(2, number);
        w.be32(3, backend);
        w.be32(5, backend + address_registers(family));
    });
}

fn go_to(writer: &mut Writer, chain: ChainName) {
    expression(writer, "immediate", |w| {
        w.be32(1, VERDICT);
        w.nest(2, |w| {
            w.nest(2, |w| {
                w.attr(1, &VERDICT_GOTO.to_be_bytes());
                w.string(2, &chain.to_string());
            });
        });
    });
}

fn drop_packet(writer: &mut Writer) {
    expression(writer, "immediate", |w| {
        w.be32(1, VERDICT);
        w.nest(2, |w| w.nest(2, |w| w.attr(1, &VERDICT_DROP.to_be_bytes())));
    });
}

fn reject(writer: &mut Writer, kind: u32) {
    expression(writer, "reject", |w| {
        w.be32(1, kind);
        w.u8(2, CODE_PORT_UNREACHABLE);
    });
}
