//! A packet's way through IPVS and the table beside it.

use std::net::IpAddr;

use crate::address::{Backend, Frontend};
use crate::ipvs::State;
use crate::nft::ruleset::Hook;
use crate::nft::walk::{Place, Traveller};
use crate::packet::{From, Outcome, Packet, Walk};

/// IPVS takes a node's own packets right after translation, before any filter
/// (`NF_IP_PRI_NAT_DST + 1` in `ip_vs_core.c`).
const OWN_PRIORITY: i32 = -99;

/// Walks a packet through IPVS and the table beside it.
#[must_use]
pub fn walk(state: &State, place: &Place, packet: Packet) -> Walk {
    let mut traveller = Traveller::new(&state.table, &place.bridge, packet);
    let outcome = journey(state, &mut traveller, place, packet);
    Walk { outcome, steps: traveller.steps }
}

fn journey(state: &State, t: &mut Traveller<'_>, place: &Place, packet: Packet) -> Outcome {
    let own = |addr: IpAddr| {
        let bound = state.addresses.contains(&addr) || state.table.elements.is_local(addr);
        bound || place.own_addresses.contains(&addr)
    };
    let from_node = packet.from == From::Node;
    let before: Option<Outcome> = if from_node {
        t.hook_between(Hook::Output, i32::MIN, OWN_PRIORITY)
    } else {
        t.hook(Hook::Prerouting).or_else(|| match own(t.destination.addr) {
            true => t.hook(Hook::Input),
            false => t.hook(Hook::Forward),
        })
    };
    if let Some(end) = before {
        return end;
    }
    let was_own = own(t.destination.addr);
    let sees = from_node || was_own;
    let balanced = sees && balance(state, t, packet);
    if from_node {
        // What IPVS sends crosses output as a new packet, to its new destination.
        if let Some(end) = t.hook_between(Hook::Output, OWN_PRIORITY, i32::MAX) {
            return end;
        }
    }
    let arrives = own(t.destination.addr);
    let hooks: &[Hook] = match (from_node || balanced, arrives) {
        (true, true) => &[Hook::Postrouting, Hook::Input],
        (true, false) => &[Hook::Postrouting],
        (false, true) => &[],
        (false, false) => &[Hook::Postrouting],
    };
    for hook in hooks {
        if let Some(end) = t.hook(*hook) {
            return end;
        }
    }
    t.delivered()
}

/// Does IPVS know the frontend? Then it chooses and translates.
fn balance(state: &State, t: &mut Traveller<'_>, packet: Packet) -> bool {
    let Backend { addr, port } = t.destination;
    let frontend = Frontend { addr, port, protocol: packet.to.protocol };
    let Some(server) = state.servers.get(&frontend) else { return false };
    let open: Vec<Backend> =
        server.destinations.iter().filter(|(_, w)| **w > 0).map(|(b, _)| *b).collect();
    let Ok(count) = u32::try_from(open.len()) else { return false };
    if count == 0 {
        return false;
    }
    let kept =
        packet.remembers.filter(|b| server.persistence_seconds.is_some() && open.contains(b));
    let chosen = kept.unwrap_or(open[(packet.random % count) as usize]);
    t.note("ipvs", format!("{frontend} scheduler {}: {chosen}", server.scheduler));
    t.destination = chosen;
    true
}
