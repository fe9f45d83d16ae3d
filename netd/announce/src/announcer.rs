//! The whole behaviour of an announcing node, as a state machine: orders, links, frames and times
//! go in, actions come out.
//!
//! It has no sockets and no clock, so that tests play any history of several nodes in no time.
//! Guarantees: what is not offered is not claimed; what was lost in the election is not answered
//! for; an address that is taken is announced at once, and again. A node that was not awake for a
//! while (a starved machine) does not blame the others for its silence, and serves as a reserve for
//! a time, the longer the more often it happens, so that addresses don't fly to and fro.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use netmodel::snapshot::ServiceName;

use crate::Moment;
use crate::frame::beat::Grade;
use crate::frame::{Content, Frame, Mac};
use crate::link::{Lan, Me, Rival, Segment, Turn};
use crate::offer::{Declined, Wanted};
use crate::peers::{DEAD, Peers};
use crate::view::{AddressView, LinkView, Standing, View};

pub use crate::link::{BEAT, LISTEN};

/// A delay that a busy machine has now and then.
const TOLERANCE: Duration = Duration::from_millis(100);
/// How long a node that others must have missed serves as a reserve; doubled each time …
const SETTLE: Duration = Duration::from_secs(1);
/// … up to so many times, …
const DOUBLINGS: u32 = 3;
/// … and forgotten after this long without.
const FORGIVEN: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Listen on a link.
    Open(Lan),
    /// Stop listening.
    Close(u32),
    /// Be a member of just these groups on a link, so that questions reach it.
    Groups(u32, BTreeSet<Ipv6Addr>),
    /// Send a frame.
    Send(u32, Vec<u8>),
    /// Tell whom it concerns.
    Tell(Told),
}

/// What is worth telling about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// This node announces it from now on.
    Announces {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        services: BTreeSet<ServiceName>,
        /// The link.
        link: String,
    },
    /// It does not any more.
    Yields {
        /// The address.
        address: IpAddr,
        /// Who does instead, as far as is known.
        to: Option<String>,
    },
    /// A host that is no node says that it has the address.
    Conflict {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        services: BTreeSet<ServiceName>,
        /// The link.
        link: String,
        /// The stranger.
        mac: Mac,
    },
    /// No network of this node has the address, so nobody can be told of it.
    NotOnLink {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        services: BTreeSet<ServiceName>,
    },
}

/// One node's announcer.
#[derive(Debug)]
pub struct Announcer {
    node: Arc<str>,
    cluster: u64,
    sequence: u64,
    wanted: BTreeMap<IpAddr, Wanted>,
    /// May the node be counted on?
    sound: bool,
    lans: Vec<Lan>,
    /// Links that are listened to, by index.
    open: BTreeMap<u32, Segment>,
    groups: BTreeMap<u32, BTreeSet<Ipv6Addr>>,
    off_link: BTreeSet<IpAddr>,
    awake: Moment,
    drowsy: Drowsy,
    taken: u64,
    conflicts: u64,
    /// Somebody came or went since [`Self::others_changed`] was asked.
    others_changed: bool,
}

/// How often the node was not awake, of late.
#[derive(Debug, Default)]
struct Drowsy {
    times: u32,
    last: Option<Moment>,
    until: Moment,
}

impl Announcer {
    /// An announcer that knows nothing yet. `sequence` must be greater than any that an earlier
    /// one of the same node has used; a clock's microseconds are.
    #[must_use]
    pub fn new(node: &str, sequence: u64) -> Self {
        Self {
            node: node.into(),
            cluster: 0,
            sequence,
            wanted: BTreeMap::new(),
            sound: true,
            lans: Vec::new(),
            open: BTreeMap::new(),
            groups: BTreeMap::new(),
            off_link: BTreeSet::new(),
            awake: Moment::ZERO,
            drowsy: Drowsy::default(),
            taken: 0,
            conflicts: 0,
            others_changed: false,
        }
    }

    /// The cluster's addresses changed, or what this node would serve of them. A node that is
    /// not sound is a reserve.
    pub fn order(
        &mut self,
        now: Moment,
        cluster: u64,
        wanted: BTreeMap<IpAddr, Wanted>,
        sound: bool,
    ) -> Vec<Action> {
        let mut actions = self.wake(now);
        (self.cluster, self.wanted, self.sound) = (cluster, wanted, sound);
        self.follow(now, &mut actions);
        actions
    }

    /// The node's links changed.
    pub fn set_links(&mut self, now: Moment, lans: Vec<Lan>) -> Vec<Action> {
        let mut actions = self.wake(now);
        self.lans = lans;
        self.follow(now, &mut actions);
        actions
    }

    /// A frame came in.
    pub fn frame(&mut self, now: Moment, link: u32, bytes: &[u8]) -> Vec<Action> {
        let mut actions = self.wake(now);
        let Some(segment) = self.open.get_mut(&link) else { return actions };
        let Some(frame) = Frame::read(bytes) else { return actions };
        let is_own = self.lans.iter().any(|lan| lan.mac == frame.from);
        if is_own || !frame.to.is_group() && frame.to != segment.lan.mac {
            return actions;
        }
        if let Content::Beat(beat) = &frame.content {
            let is_peer = beat.cluster == self.cluster && beat.node != self.node;
            if is_peer && segment.hear(now, frame.from, beat) {
                self.others_changed = true;
                self.decide(now, &mut actions);
            }
            return actions;
        }
        let answer = segment.neighbour(now, &frame);
        actions.extend(answer.map(|answer| Action::Send(link, answer.bytes())));
        self.act(now, &mut actions);
        actions
    }

    /// It is time, or may be.
    pub fn tick(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = self.wake(now);
        for segment in self.open.values_mut() {
            self.others_changed |= segment.peers.bury(now);
        }
        self.decide(now, &mut actions);
        actions
    }

    /// The node goes: nothing is answered any more, and the others need not wait.
    pub fn farewell(&mut self, now: Moment) -> Vec<Action> {
        self.order(now, self.cluster, BTreeMap::new(), self.sound)
    }

    /// The node's links, as they were told.
    pub(crate) fn lans(&self) -> &[Lan] {
        &self.lans
    }

    /// When [`Self::tick`] is due; `None` while there is nothing to do.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        let settled = Some(self.drowsy.until).filter(|until| *until > self.awake);
        let segments = self.open.values().map(|segment| segment.next(self.awake)).min()?;
        Some(settled.map_or(segments, |settled| segments.min(settled)))
    }

    /// The nodes that were heard, and are heard on no link any more, without a farewell.
    #[must_use]
    pub fn silent(&self) -> BTreeSet<Arc<str>> {
        let segments = || self.open.values().map(|segment| &segment.peers);
        let silent = segments().flat_map(Peers::silent);
        silent.filter(|name| !segments().any(|peers| peers.knows(name))).cloned().collect()
    }

    /// May [`Self::silent`] say something else than when this was asked last? Frames are many, and
    /// few of them tell news.
    pub(crate) fn others_changed(&mut self) -> bool {
        std::mem::take(&mut self.others_changed)
    }

    /// How things stand.
    #[must_use]
    pub fn view(&self) -> View {
        let peers = |index: u32| {
            let segment = self.open.get(&index).into_iter();
            segment.flat_map(|s| s.peers.macs()).map(|(n, mac)| (n.to_owned(), mac)).collect()
        };
        let links =
            self.lans.iter().map(|lan| LinkView { lan: lan.clone(), peers: peers(lan.index) });
        let addresses =
            self.wanted.iter().map(|(address, wanted)| (*address, self.look(*address, wanted)));
        View {
            links: links.collect(),
            addresses: addresses.collect(),
            taken: self.taken,
            conflicts: self.conflicts,
        }
    }

    fn look(&self, address: IpAddr, wanted: &Wanted) -> AddressView {
        let lan = self.home(address);
        let segment = lan.and_then(|lan| self.open.get(&lan.index));
        let heard = segment.into_iter().flat_map(|segment| segment.peers.offering(address));
        let mut candidates: BTreeMap<String, Grade> =
            heard.map(|(name, grade)| (name.to_owned(), grade)).collect();
        let standing = match (&wanted.declined, segment) {
            (Some(declined), _) => Standing::Declines(declined.clone()),
            (None, None) => Standing::Declines(Declined::NotOnLink),
            (None, Some(segment)) => {
                let me = self.me(segment, self.awake);
                candidates.insert(self.node.to_string(), me.grade);
                match segment.winner(address, &me) {
                    _ if segment.holds(address) => Standing::Announces,
                    Some(elected) if *elected != *self.node => {
                        Standing::Waits { elected: elected.to_owned() }
                    }
                    _ => Standing::Listens,
                }
            }
        };
        let link = lan.map(|lan| lan.name.clone());
        AddressView { services: wanted.services.clone(), link, standing, candidates }
    }

    /// The link that an address is on: one, even where two lead to the same network.
    fn home(&self, address: IpAddr) -> Option<&Lan> {
        self.lans.iter().find(|lan| lan.has(address))
    }

    fn services(&self, address: IpAddr) -> BTreeSet<ServiceName> {
        self.wanted.get(&address).map(|wanted| wanted.services.clone()).unwrap_or_default()
    }

    fn me(&self, segment: &Segment, now: Moment) -> Me<'_> {
        let settled = self.sound && now >= self.drowsy.until && segment.is_ready(now);
        let grade = if settled { Grade::Full } else { Grade::Reserve };
        Me { node: &self.node, cluster: self.cluster, grade }
    }

    /// Notes that the node is awake, and what it means that it was not.
    fn wake(&mut self, now: Moment) -> Vec<Action> {
        let silent = now.saturating_sub(std::mem::replace(&mut self.awake, now));
        // With no link open nobody was to be heard, and nobody missed us.
        if self.open.is_empty() || silent <= BEAT + TOLERANCE {
            return Vec::new();
        }
        for segment in self.open.values_mut() {
            segment.peers.excuse(silent);
            segment.next_beat = now;
        }
        if silent >= DEAD {
            self.drowsy.again(now);
            self.open.values_mut().for_each(|segment| segment.announce_again(now));
        }
        let mut actions = Vec::new();
        self.decide(now, &mut actions);
        actions
    }

    /// Opens and closes links as the offers want it.
    fn follow(&mut self, now: Moment, actions: &mut Vec<Action>) {
        // Who was missed on a link that is closed is not any more.
        self.others_changed = true;
        let offered = |lan: &Lan| -> BTreeSet<IpAddr> {
            let fits = |(address, wanted): &(&IpAddr, &Wanted)| {
                let home = self.home(**address).map(|home| home.index);
                wanted.declined.is_none() && home == Some(lan.index)
            };
            self.wanted.iter().filter(fits).map(|(address, _)| *address).collect()
        };
        let offers: Vec<(Lan, BTreeSet<IpAddr>)> =
            self.lans.iter().map(|lan| (lan.clone(), offered(lan))).collect();
        // A link that has another range now is the same link: who is heard there stays heard, and
        // what is held stays held as long as its range is there.
        let stays = |segment: &Segment| {
            let is_it = |lan: &Lan| (lan.index, lan.mac) == (segment.lan.index, segment.lan.mac);
            offers.iter().any(|(lan, offers)| is_it(lan) && !offers.is_empty())
        };
        let closing: Vec<u32> =
            self.open.iter().filter(|(_, s)| !stays(s)).map(|(index, _)| *index).collect();
        for index in closing {
            self.close(index, now, actions);
        }
        for (lan, offers) in offers.into_iter().filter(|(_, offers)| !offers.is_empty()) {
            let segment = self.open.entry(lan.index).or_insert_with(|| {
                actions.push(Action::Open(lan.clone()));
                Segment::open(now, lan.clone())
            });
            segment.lan = lan;
            if segment.offers != offers {
                segment.offers = offers;
                segment.next_beat = now;
            }
        }
        self.find_off_link(actions);
        self.decide(now, actions);
    }

    fn close(&mut self, index: u32, now: Moment, actions: &mut Vec<Action>) {
        let Some(segment) = self.open.remove(&index) else { return };
        let mut sequence = self.sequence;
        let farewells = segment.farewells(&self.me(&segment, now), &mut sequence);
        self.sequence = sequence;
        actions.extend(farewells.map(|farewell| Action::Send(index, farewell.bytes())));
        actions.push(Action::Close(index));
        self.groups.remove(&index);
        let gone = segment.held().map(|address| Told::Yields { address, to: None });
        actions.extend(gone.map(Action::Tell));
    }

    fn find_off_link(&mut self, actions: &mut Vec<Action>) {
        let is_off = |(address, wanted): &(&IpAddr, &Wanted)| {
            wanted.declined.is_none() && self.home(**address).is_none()
        };
        let off: BTreeSet<IpAddr> =
            self.wanted.iter().filter(is_off).map(|(address, _)| *address).collect();
        for address in off.difference(&self.off_link) {
            let services = self.services(*address);
            actions.push(Action::Tell(Told::NotOnLink { address: *address, services }));
        }
        self.off_link = off;
    }

    /// Elects anew on every link, and does what is due.
    fn decide(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let mut told = Vec::new();
        for index in self.open.keys().copied().collect::<Vec<_>>() {
            // Taken out, so that it can be changed while the rest is looked at.
            let Some(mut segment) = self.open.remove(&index) else { continue };
            for turn in segment.elect(now, &self.me(&segment, now)) {
                // The others are to hear at once why it goes from hand to hand.
                segment.next_beat = now;
                told.push(match turn {
                    Turn::Taken(address) => {
                        let link = segment.lan.name.clone();
                        Told::Announces { address, services: self.services(address), link }
                    }
                    Turn::Given(address, to) => {
                        Told::Yields { address, to: to.map(|to| to.to_string()) }
                    }
                });
            }
            self.open.insert(index, segment);
        }
        let taken = told.iter().filter(|told| matches!(told, Told::Announces { .. })).count();
        self.taken += taken as u64;
        self.act(now, actions);
        actions.extend(told.into_iter().map(Action::Tell));
    }

    /// Sends what is due, and joins the groups that are needed.
    fn act(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let mut sequence = self.sequence;
        for index in self.open.keys().copied().collect::<Vec<_>>() {
            let Some(mut segment) = self.open.remove(&index) else { continue };
            let frames = segment.due(now, &self.me(&segment, now), &mut sequence);
            let groups = segment.groups();
            if self.groups.get(&index).is_none_or(|old| *old != groups) {
                self.groups.insert(index, groups.clone());
                actions.push(Action::Groups(index, groups));
            }
            actions.extend(frames.into_iter().map(|frame| Action::Send(index, frame.bytes())));
            for Rival { address, mac } in segment.rivals(now) {
                self.conflicts += 1;
                let (services, link) = (self.services(address), segment.lan.name.clone());
                actions.push(Action::Tell(Told::Conflict { address, services, link, mac }));
            }
            self.open.insert(index, segment);
        }
        self.sequence = sequence;
    }
}

impl Drowsy {
    fn again(&mut self, now: Moment) {
        if self.last.is_none_or(|last| now >= last + FORGIVEN) {
            self.times = 0;
        }
        self.last = Some(now);
        self.until = now + SETTLE * 2_u32.pow(self.times.min(DOUBLINGS));
        self.times += 1;
    }
}

#[cfg(test)]
mod tests;
