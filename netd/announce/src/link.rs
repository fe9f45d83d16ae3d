//! One link to the network of the nodes: who lives there, and what this node holds on it.
//!
//! Owns the peers heard on the link, the addresses that are announced by it, and what is due when.
//! Liveness is told per link, so that a node whose cable is cut is dead on that network only.
//! Invariant: what is held here is answered for, and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::Moment;
use crate::election::elect;
use crate::frame::arp::Arp;
use crate::frame::beat::{Beat, Grade, Message, parts};
use crate::frame::ndp::{self, Ndp, solicited_group};
use crate::frame::{Content, Frame, Mac, arp};
use crate::peers::{Heard, Peers};

/// How often a node says that it lives.
pub const BEAT: Duration = Duration::from_millis(100);
/// How long a node listens on a link before it claims anything there: everybody who lives beats
/// meanwhile, three times at least.
pub const LISTEN: Duration = Duration::from_millis(350);
/// So long before it claims anything it says that it is ready to: nodes that begin at the same time,
/// as all do when a cluster gets its first address, agree before any of them claims it.
const HERALD: Duration = Duration::from_millis(50);
/// When an address is announced after a take-over. Once is enough for most; a frame may be lost, a
/// switch may learn late, and whoever had the address before may have spoken last.
const REPEATS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(3)];
/// Whoever else claims an address is answered by an announcement at most this often (RFC 5227, 2.4).
const DEFENCE: Duration = Duration::from_secs(10);
/// Who claims an address is taken for a stranger after this long: a node would have been heard by
/// then, and frames of different kinds overtake each other where a machine is busy.
const SUSPECT: Duration = Duration::from_millis(500);
/// The same stranger is told of again after this long.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Strangers and nodes that are remembered: anybody may invent addresses and names.
pub(crate) const REMEMBERED: usize = 1024;

/// A link that nodes may have in common: Ethernet, up, and not of the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The ranges that are reached by it without a router.
    pub nets: Vec<IpNet>,
}

impl Lan {
    /// Is an address one that hosts on this link ask for by ARP or NDP?
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&address))
    }
}

/// What became of an address on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// This node announces it from now on.
    Taken(IpAddr),
    /// It does not any more; who does instead, as far as is known.
    Given(IpAddr, Option<Arc<str>>),
}

/// A stranger on the network claims an address that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    pub(crate) address: IpAddr,
    pub(crate) mac: Mac,
}

/// An address that is announced.
#[derive(Clone, Debug)]
struct Hold {
    /// When it is to be announced, soonest first.
    due: VecDeque<Moment>,
    /// When a stranger is to be asked for who may have it, too.
    ask: Option<Moment>,
    /// When a claim of somebody else was last answered by an announcement.
    defended: Option<Moment>,
}

impl Hold {
    fn taken(now: Moment) -> Self {
        let mut hold = Self { due: VecDeque::new(), ask: None, defended: None };
        hold.announce_from(now);
        hold
    }

    fn announce_from(&mut self, now: Moment) {
        self.due = REPEATS.iter().map(|after| now + *after).collect();
        // By then another node that had it has heard of us: a probe shows strangers only.
        self.ask = Some(now + REPEATS[1]);
    }

    fn next(&self) -> Option<Moment> {
        self.due.front().copied().into_iter().chain(self.ask).min()
    }
}

/// Who claims an address that is held.
#[derive(Clone, Copy, Debug)]
struct Stranger {
    /// When it is told of, or may be told of again.
    judged_at: Moment,
    told: bool,
}

/// A link that is listened to.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) lan: Lan,
    pub(crate) peers: Peers,
    pub(crate) offers: BTreeSet<IpAddr>,
    /// Nothing is claimed before.
    pub(crate) listens_until: Moment,
    pub(crate) next_beat: Moment,
    held: BTreeMap<IpAddr, Hold>,
    /// Ethernet addresses of nodes, dead ones included.
    nodes: BTreeMap<Mac, Arc<str>>,
    /// Who claims what is held, and was not heard as a node.
    strangers: BTreeMap<(IpAddr, Mac), Stranger>,
}

/// Who this node is, and how well it would serve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Me<'a> {
    pub(crate) node: &'a Arc<str>,
    pub(crate) cluster: u64,
    pub(crate) grade: Grade,
}

impl Segment {
    pub(crate) fn open(now: Moment, lan: Lan) -> Self {
        Self {
            lan,
            peers: Peers::default(),
            offers: BTreeSet::new(),
            listens_until: now + LISTEN,
            next_beat: now,
            held: BTreeMap::new(),
            nodes: BTreeMap::new(),
            strangers: BTreeMap::new(),
        }
    }

    /// Has it listened long enough to be counted on?
    pub(crate) fn is_ready(&self, now: Moment) -> bool {
        now + HERALD >= self.listens_until
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = IpAddr> {
        self.held.keys().copied()
    }

    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        self.held.contains_key(&address)
    }

    /// The groups that questions about held addresses are sent to.
    pub(crate) fn groups(&self) -> BTreeSet<Ipv6Addr> {
        let group = |address: &IpAddr| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(solicited_group(*address)),
        };
        self.held.keys().filter_map(group).collect()
    }

    /// Who is elected for an address, as far as is heard here.
    pub(crate) fn winner<'a>(&'a self, address: IpAddr, me: &'a Me<'a>) -> Option<&'a str> {
        let own = self.offers.contains(&address).then_some((&**me.node, me.grade));
        elect(address, self.peers.offering(address).chain(own))
    }

    /// Takes and gives what the election says.
    pub(crate) fn elect(&mut self, now: Moment, me: &Me<'_>) -> Vec<Turn> {
        let mut turns = Vec::new();
        if now < self.listens_until {
            return turns;
        }
        let concerned: BTreeSet<IpAddr> =
            self.offers.iter().chain(self.held.keys()).copied().collect();
        for address in concerned {
            let winner = self.winner(address, me).map(Arc::<str>::from);
            let wins = winner.as_deref() == Some(&**me.node);
            if wins && !self.holds(address) {
                self.held.insert(address, Hold::taken(now));
                turns.push(Turn::Taken(address));
            } else if !wins && self.held.remove(&address).is_some() {
                turns.push(Turn::Given(address, winner));
            }
        }
        turns
    }

    /// Announces all that is held anew: others may have been told otherwise meanwhile.
    pub(crate) fn announce_again(&mut self, now: Moment) {
        self.held.values_mut().for_each(|hold| hold.announce_from(now));
    }

    /// Takes in a beat; true when there may be another winner now.
    pub(crate) fn hear(&mut self, now: Moment, from: Mac, beat: &Beat) -> bool {
        if self.nodes.len() < REMEMBERED {
            self.nodes.insert(from, beat.node.clone());
        }
        let heard = self.peers.hear(now, from, beat);
        if let (Heard::Came, Message::Alive { offers, .. }) = (heard, &beat.message) {
            // It may have taken for itself what is held here, while neither heard the other.
            for address in offers {
                if let Some(hold) = self.held.get_mut(address) {
                    hold.announce_from(now);
                }
            }
        }
        heard != Heard::Same
    }

    /// Takes in a question or a claim; gives the answer.
    pub(crate) fn neighbour(&mut self, now: Moment, frame: &Frame) -> Option<Frame> {
        match &frame.content {
            Content::Arp(arp) => self.arp(now, arp),
            Content::Ndp(ndp) => self.ndp(now, frame.from, ndp),
            Content::Beat(_) => None,
        }
    }

    fn arp(&mut self, now: Moment, arp: &Arp) -> Option<Frame> {
        if self.holds(arp.sender.into()) {
            self.claimed(now, arp.sender.into(), arp.sender_mac);
            return None;
        }
        let asked = arp.operation == arp::Operation::Request && self.holds(arp.target.into());
        asked.then(|| Arp::answer(arp, self.lan.mac))
    }

    fn ndp(&mut self, now: Moment, from: Mac, ndp: &Ndp) -> Option<Frame> {
        if !self.holds(ndp.target.into()) {
            return None;
        }
        match ndp.message {
            ndp::Message::Solicitation => Some(Ndp::answer(ndp, from, self.lan.mac)),
            ndp::Message::Advertisement { .. } => {
                self.claimed(now, ndp.target.into(), ndp.mac.unwrap_or(from));
                None
            }
        }
    }

    /// Somebody says that a held address is its own.
    fn claimed(&mut self, now: Moment, address: IpAddr, mac: Mac) {
        let Some(hold) = self.held.get_mut(&address).filter(|_| mac != self.lan.mac) else {
            return;
        };
        if self.nodes.contains_key(&mac) {
            // A node that did not hear of us yet, or speaks late. It yields with our next beat;
            // then everybody must be told again.
            if hold.next().is_none_or(|next| next > now + BEAT) {
                hold.announce_from(now + BEAT);
            }
            return;
        }
        // The pool is the administrator's word: one stray host must not switch a Service off. But
        // two that shout at each other help nobody.
        if hold.defended.is_none_or(|last| now >= last + DEFENCE) {
            hold.defended = Some(now);
            hold.due.push_front(now);
        }
        if self.strangers.len() >= REMEMBERED {
            self.strangers.clear();
        }
        let stranger = Stranger { judged_at: now + SUSPECT, told: false };
        self.strangers.entry((address, mac)).or_insert(stranger);
    }

    /// Those who claim what is held, and who did not turn out to be nodes.
    pub(crate) fn rivals(&mut self, now: Moment) -> Vec<Rival> {
        let nodes = &self.nodes;
        self.strangers.retain(|(_, mac), stranger| {
            !nodes.contains_key(mac) && (!stranger.told || now < stranger.judged_at)
        });
        let due = self.strangers.iter_mut();
        let due = due.filter(|(_, stranger)| !stranger.told && now >= stranger.judged_at);
        let judge = |((address, mac), stranger): (&(IpAddr, Mac), &mut Stranger)| {
            *stranger = Stranger { judged_at: now + TELL_AGAIN, told: true };
            Rival { address: *address, mac: *mac }
        };
        due.map(judge).collect()
    }

    /// The frames that are due.
    pub(crate) fn due(&mut self, now: Moment, me: &Me<'_>, sequence: &mut u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.next_beat <= now {
            self.next_beat = now + BEAT;
            if !self.is_ready(now) {
                self.next_beat = self.next_beat.min(self.listens_until - HERALD);
            }
            frames.extend(self.beats(me, sequence));
        }
        let mac = self.lan.mac;
        for (address, hold) in &mut self.held {
            if hold.ask.is_some_and(|at| at <= now) {
                hold.ask = None;
                frames.push(match address {
                    IpAddr::V4(address) => Arp::probe(*address, mac),
                    IpAddr::V6(address) => Ndp::probe(*address, mac),
                });
            }
            let before = hold.due.len();
            hold.due.retain(|at| *at > now);
            if hold.due.len() < before {
                match address {
                    IpAddr::V4(address) => frames.extend(Arp::announcement(*address, mac)),
                    IpAddr::V6(address) => frames.push(Ndp::announcement(*address, mac)),
                }
            }
        }
        frames
    }

    fn beats(&self, me: &Me<'_>, sequence: &mut u64) -> Vec<Frame> {
        let cut = parts(self.offers.iter().copied());
        let count = u8::try_from(cut.len()).unwrap_or(u8::MAX);
        let message =
            |(part, offers)| Message::Alive { grade: me.grade, part, parts: count, offers };
        (0..=u8::MAX).zip(cut).map(message).map(|m| self.beat(me, sequence, m)).collect()
    }

    /// The frames that tell the others not to wait. Who hears none of them misses this node until
    /// it speaks again, however well it lives: so not one, which may be lost.
    pub(crate) fn farewells(&self, me: &Me<'_>, sequence: &mut u64) -> [Frame; 3] {
        [(); 3].map(|()| self.beat(me, sequence, Message::Farewell))
    }

    fn beat(&self, me: &Me<'_>, sequence: &mut u64, message: Message) -> Frame {
        *sequence += 1;
        let (cluster, node) = (me.cluster, me.node.clone());
        Beat { cluster, node, sequence: *sequence, message }.frame(self.lan.mac)
    }

    /// When something is to be done next.
    pub(crate) fn next(&self, now: Moment) -> Moment {
        let listening = Some(self.listens_until).filter(|until| *until > now);
        let repeats = self.held.values().filter_map(Hold::next);
        let suspects = self.strangers.values().filter(|stranger| !stranger.told);
        repeats
            .chain(suspects.map(|stranger| stranger.judged_at))
            .chain(listening)
            .chain(self.peers.next_burial())
            .fold(self.next_beat, Moment::min)
    }
}
