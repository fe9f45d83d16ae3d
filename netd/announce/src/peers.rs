//! Which other nodes live, as far as their beats tell.
//!
//! A state machine over times and beats, without a clock of its own. A node lives while it is heard
//! and did not say farewell; what it offers is what it said last. One that was heard and then fell
//! silent is told apart from one that said farewell, or never spoke: these may well serve what they
//! are handed. Silence lasts until the node speaks: connections are remembered for it for hours,
//! and the API server may have been lost with it, so no time is long enough. Whether a name is a
//! node's at all the caller knows.
//!
//! Invariants: the answers depend only on what came in, so a test can play any history; what is kept
//! is bounded, whatever is heard.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Moment;
use crate::frame::Mac;
use crate::frame::beat::{Beat, Grade, Message};
use crate::link::REMEMBERED;

/// A node that is not heard for this long is dead: three beats may be lost.
pub const DEAD: Duration = Duration::from_millis(350);

/// The nodes heard on one link.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    known: BTreeMap<Arc<str>, Peer>,
    /// Since when who was known is not heard, and did not say farewell.
    missed: BTreeMap<Arc<str>, Moment>,
}

#[derive(Clone, Debug)]
struct Peer {
    mac: Mac,
    sequence: u64,
    heard: Moment,
    grade: Grade,
    /// It said farewell. It is remembered for a while, so that a late beat does not wake it.
    left: bool,
    /// What it offers, by part.
    offers: BTreeMap<u8, BTreeSet<IpAddr>>,
}

/// What a beat changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A node is there that was not.
    Came,
    /// What a node offers, or how well, is not what it was; or it left, or is not missed any more.
    Changed,
    /// Nothing.
    Same,
}

impl Peers {
    /// Takes in a beat.
    pub fn hear(&mut self, now: Moment, from: Mac, beat: &Beat) -> Heard {
        let was_missed = self.missed.remove(&beat.node).is_some();
        let unknown = if was_missed { Heard::Changed } else { Heard::Same };
        let is_full = self.known.len() >= REMEMBERED;
        let known = self.known.get_mut(&beat.node);
        match (&beat.message, known) {
            (_, Some(peer)) if beat.sequence <= peer.sequence => Heard::Same,
            (Message::Farewell, Some(peer)) => {
                let was_there = !peer.left;
                *peer = Peer { left: true, sequence: beat.sequence, heard: now, ..peer.clone() };
                peer.offers.clear();
                if was_there { Heard::Changed } else { Heard::Same }
            }
            (Message::Farewell, None) => unknown,
            (Message::Alive { .. }, None) if is_full => unknown,
            (Message::Alive { grade, part, parts, offers }, Some(peer)) if !peer.left => {
                let offers: BTreeSet<IpAddr> = offers.iter().copied().collect();
                let same = peer.grade == *grade
                    && peer.offers.get(part) == Some(&offers)
                    && peer.offers.keys().all(|known| known < parts);
                peer.offers.retain(|known, _| known < parts);
                peer.offers.insert(*part, offers);
                peer.grade = *grade;
                (peer.mac, peer.sequence, peer.heard) = (from, beat.sequence, now);
                if same { Heard::Same } else { Heard::Changed }
            }
            (Message::Alive { grade, part, offers, .. }, _) => {
                let peer = Peer {
                    mac: from,
                    sequence: beat.sequence,
                    heard: now,
                    grade: *grade,
                    left: false,
                    offers: BTreeMap::from([(*part, offers.iter().copied().collect())]),
                };
                self.known.insert(beat.node.clone(), peer);
                Heard::Came
            }
        }
    }

    /// Forgets who was not heard for too long; says whether anybody was.
    pub fn bury(&mut self, now: Moment) -> bool {
        let is_lost = |peer: &Peer| now >= peer.heard + DEAD;
        let lost: Vec<_> = self.known.extract_if(.., |_, peer| is_lost(peer)).collect();
        let is_any = !lost.is_empty();
        let missed = lost.into_iter().filter(|(_, peer)| !peer.left);
        self.missed.extend(missed.map(|(name, _)| (name, now)));
        self.forget_the_first();
        is_any
    }

    /// Of too many that are missed, those who were first: names that somebody invented must not be
    /// in the way of nodes that fall silent later.
    fn forget_the_first(&mut self) {
        let excess = self.missed.len().saturating_sub(REMEMBERED);
        if excess == 0 {
            return;
        }
        let mut by_time: Vec<_> = self.missed.iter().map(|(n, at)| (*at, n.clone())).collect();
        by_time.sort_unstable();
        for (_, name) in by_time.drain(..excess) {
            self.missed.remove(&name);
        }
    }

    /// One was deaf for so long oneself: the others are not to blame.
    pub fn excuse(&mut self, deaf: Duration) {
        self.known.values_mut().for_each(|peer| peer.heard += deaf);
    }

    /// When somebody is to be missed, if nothing is heard until then.
    #[must_use]
    pub fn next_burial(&self) -> Option<Moment> {
        self.known.values().map(|peer| peer.heard + DEAD).min()
    }

    /// Who lives and offers to serve an address.
    pub fn offering(&self, address: IpAddr) -> impl Iterator<Item = (&str, Grade)> {
        let offers = move |peer: &Peer| peer.offers.values().any(|part| part.contains(&address));
        self.living().filter(move |(_, peer)| offers(peer)).map(|(name, peer)| (name, peer.grade))
    }

    /// Who lives, and its Ethernet address.
    pub fn macs(&self) -> impl Iterator<Item = (&str, Mac)> {
        self.living().map(|(name, peer)| (name, peer.mac))
    }

    /// Who was heard and is silent now.
    pub fn silent(&self) -> impl Iterator<Item = &Arc<str>> {
        self.missed.keys()
    }

    /// Is a node heard, or was until it said farewell?
    #[must_use]
    pub fn knows(&self, node: &str) -> bool {
        self.known.contains_key(node)
    }

    fn living(&self) -> impl Iterator<Item = (&str, &Peer)> {
        self.known.iter().filter(|(_, peer)| !peer.left).map(|(name, peer)| (&**name, peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn at(milliseconds: u64) -> Moment {
        Duration::from_millis(milliseconds)
    }

    fn address(number: u8) -> IpAddr {
        IpAddr::from([192, 168, 56, number])
    }

    fn beat(sequence: u64, message: Message) -> Beat {
        Beat { cluster: 1, node: "node-2".into(), sequence, message }
    }

    fn alive(sequence: u64, offers: &[u8]) -> Beat {
        let offers = offers.iter().map(|number| address(*number)).collect();
        beat(sequence, Message::Alive { grade: Grade::Full, part: 0, parts: 1, offers })
    }

    fn offers(peers: &Peers, number: u8) -> bool {
        peers.offering(address(number)).count() > 0
    }

    #[test]
    fn a_node_lives_as_long_as_it_is_heard_now_and_then() {
        let mut peers = Peers::default();
        assert_eq!(peers.hear(at(0), MAC, &alive(1, &[200])), Heard::Came);
        assert_eq!(peers.hear(at(300), MAC, &alive(2, &[200])), Heard::Same);
        assert!(!peers.bury(at(649)), "two beats were lost");
        assert!(offers(&peers, 200));
        assert_eq!(peers.next_burial(), Some(at(650)));
        assert!(peers.bury(at(650)));
        assert!(!offers(&peers, 200));
        assert!(!peers.bury(at(700)), "it dies once");
    }

    #[test]
    fn who_falls_silent_is_missed_until_it_speaks() {
        let silent = |peers: &Peers| peers.silent().map(ToString::to_string).collect::<Vec<_>>();
        let mut peers = Peers::default();
        peers.hear(at(0), MAC, &alive(1, &[200]));
        assert!(silent(&peers).is_empty());
        peers.bury(at(350));
        assert_eq!(silent(&peers), ["node-2"]);
        peers.hear(at(400), MAC, &alive(2, &[200]));
        assert!(silent(&peers).is_empty(), "it is back");
        peers.hear(at(500), MAC, &beat(3, Message::Farewell));
        peers.bury(at(900));
        assert!(silent(&peers).is_empty(), "it said farewell");
        peers.hear(at(1000), MAC, &alive(4, &[200]));
        peers.bury(at(1350));
        assert_eq!(peers.hear(at(1400), MAC, &beat(5, Message::Farewell)), Heard::Changed);
        assert!(silent(&peers).is_empty(), "it lives, and says that it goes");
        peers.hear(at(2000), MAC, &alive(6, &[200]));
        peers.bury(at(2350));
        let hours = |hours: u64| at(hours * 3_600_000);
        peers.bury(hours(13));
        assert_eq!(silent(&peers), ["node-2"], "longer than any connection is remembered");
        peers.hear(hours(14), MAC, &alive(7, &[200]));
        assert!(silent(&peers).is_empty());
    }

    #[test]
    fn invented_names_are_not_kept_without_bound_and_keep_no_node_from_being_missed() {
        let mut peers = Peers::default();
        peers.hear(at(0), MAC, &alive(1, &[200]));
        let invented =
            |number: usize| Beat { node: format!("x-{number}").into(), ..alive(1, &[200]) };
        let flood = |peers: &mut Peers, now| {
            let heard = (0..3000).filter(|n| peers.hear(now, MAC, &invented(*n)) == Heard::Came);
            heard.count()
        };
        assert_eq!(flood(&mut peers, at(100)), REMEMBERED - 1);
        assert_eq!(peers.hear(at(200), MAC, &alive(2, &[201])), Heard::Changed, "still heard");
        assert!(peers.bury(at(450)));
        assert_eq!(peers.macs().map(|(name, _)| name).collect::<Vec<_>>(), ["node-2"]);
        assert_eq!(peers.silent().count(), REMEMBERED - 1);
        for round in 1..4 {
            let now = at(round * 1000);
            peers.hear(now, MAC, &alive(round + 2, &[200]));
            for number in 3000..6000 {
                let beat = Beat { node: format!("{round}-{number}").into(), ..alive(1, &[200]) };
                peers.hear(now, MAC, &beat);
            }
            assert!(peers.bury(now + DEAD));
            assert_eq!(peers.silent().count(), REMEMBERED);
            assert_eq!(peers.known.len(), 0);
        }
        // Whoever was in the way is not any more.
        peers.hear(at(5000), MAC, &alive(9, &[200]));
        peers.bury(at(5350));
        assert_eq!(peers.silent().count(), REMEMBERED);
        assert!(peers.silent().any(|name| **name == *"node-2"));
    }

    #[test]
    fn a_farewell_counts_at_once_and_a_late_beat_does_not_undo_it() {
        let mut peers = Peers::default();
        peers.hear(at(0), MAC, &alive(10, &[200]));
        assert_eq!(peers.hear(at(50), MAC, &beat(12, Message::Farewell)), Heard::Changed);
        assert!(!offers(&peers, 200));
        assert_eq!(peers.hear(at(60), MAC, &alive(11, &[200])), Heard::Same);
        assert!(!offers(&peers, 200));
        assert_eq!(peers.macs().count(), 0);
        assert_eq!(peers.hear(at(70), MAC, &alive(13, &[200])), Heard::Came, "it came back");
        assert!(!peers.bury(at(400)));
        assert!(offers(&peers, 200));
    }

    #[test]
    fn a_restarted_node_may_count_from_anywhere_once_it_was_missed() {
        let mut peers = Peers::default();
        peers.hear(at(0), MAC, &alive(1000, &[200]));
        assert_eq!(peers.hear(at(100), MAC, &alive(3, &[200])), Heard::Same, "a late one");
        assert!(peers.bury(at(350)));
        assert_eq!(peers.hear(at(400), MAC, &alive(4, &[200])), Heard::Came);
    }

    #[test]
    fn what_a_node_offers_is_what_it_said_last() {
        let mut peers = Peers::default();
        peers.hear(at(0), MAC, &alive(1, &[200]));
        assert_eq!(peers.hear(at(1), MAC, &alive(2, &[201])), Heard::Changed);
        assert!(!offers(&peers, 200) && offers(&peers, 201));
        let part = |sequence, part, parts, number| {
            let offers = vec![address(number)];
            beat(sequence, Message::Alive { grade: Grade::Full, part, parts, offers })
        };
        assert_eq!(peers.hear(at(2), MAC, &part(3, 1, 2, 202)), Heard::Changed);
        assert!(offers(&peers, 201) && offers(&peers, 202), "parts add up");
        assert_eq!(peers.hear(at(3), MAC, &part(4, 0, 1, 201)), Heard::Changed);
        assert!(!offers(&peers, 202), "there are fewer parts now");
    }

    #[test]
    fn the_grade_counts_with_the_offers() {
        let mut peers = Peers::default();
        let said = |sequence, grade| {
            let offers = vec![address(200)];
            beat(sequence, Message::Alive { grade, part: 0, parts: 1, offers })
        };
        peers.hear(at(0), MAC, &said(1, Grade::Full));
        assert_eq!(peers.hear(at(1), MAC, &said(2, Grade::Reserve)), Heard::Changed);
        let offering: Vec<_> = peers.offering(address(200)).collect();
        assert_eq!(offering, [("node-2", Grade::Reserve)]);
    }

    #[test]
    fn who_was_deaf_does_not_take_the_others_for_dead() {
        let mut peers = Peers::default();
        peers.hear(at(0), MAC, &alive(1, &[200]));
        peers.excuse(at(2000));
        assert!(!peers.bury(at(2100)));
        assert!(peers.bury(at(2350)), "but it must be heard again soon");
    }
}
