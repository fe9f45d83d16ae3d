//! Histories of several nodes on a network that exists only here: frames cross in a millisecond,
//! nodes sleep, networks fall apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netmodel::snapshot::ServiceName;
use proptest::prelude::*;

use super::{Action, Announcer, Told};
use crate::Moment;
use crate::frame::arp::{Arp, Operation};
use crate::frame::beat::{self, Beat, Grade};
use crate::frame::ndp::{Message, Ndp, solicited_group};
use crate::frame::{Content, EtherType, Frame, Mac};
use crate::link::{LISTEN, Lan};
use crate::offer::{Declined, Wanted};
use crate::view::Standing;

const CLIENT: Mac = Mac([2, 0, 0, 0, 1, 1]);
const FOUR: &str = "192.168.56.200";
const SIX: &str = "fd00:192:168:56::200";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac_of(node: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(node).unwrap()])
}

fn lan(node: usize) -> Lan {
    Lan {
        index: 7,
        name: "eth0".to_owned(),
        mac: mac_of(node),
        nets: vec!["192.168.56.0/24".parse().unwrap(), "fd00:192:168:56::/64".parse().unwrap()],
    }
}

fn wanted(addresses: &[&str], declined: Option<&Declined>) -> BTreeMap<IpAddr, Wanted> {
    let services = BTreeSet::from([ServiceName::new("default", "web")]);
    let one = || Wanted { services: services.clone(), declined: declined.cloned() };
    addresses.iter().map(|address| (ip(address), one())).collect()
}

/// A node, what it told, and what became of it.
struct Node {
    announcer: Announcer,
    name: String,
    mac: Mac,
    told: Vec<(Moment, Told)>,
    open: bool,
    /// It runs; otherwise frames wait for it.
    awake: bool,
    /// It is there at all.
    alive: bool,
    waiting: Vec<Vec<u8>>,
}

/// The network, and the time.
struct World {
    now: Moment,
    nodes: Vec<Node>,
    /// Which nodes' frames reach which; each hears itself never.
    group: Vec<usize>,
    /// Frames that everybody could hear, with their time and sender.
    log: Vec<(Moment, usize, Frame)>,
}

impl World {
    fn new(nodes: usize, addresses: &[&str]) -> Self {
        let mut world =
            Self { now: Moment::ZERO, nodes: Vec::new(), group: vec![0; nodes], log: Vec::new() };
        for number in 1..=nodes {
            world.nodes.push(Node {
                announcer: Announcer::new(&format!("node-{number}"), 1_000),
                name: format!("node-{number}"),
                mac: mac_of(number),
                told: Vec::new(),
                open: false,
                awake: true,
                alive: true,
                waiting: Vec::new(),
            });
            world.start(number - 1, addresses);
        }
        world
    }

    fn start(&mut self, node: usize, addresses: &[&str]) {
        let now = self.now;
        self.does(node, |announcer| announcer.set_links(now, vec![lan(node + 1)]));
        self.does(node, |announcer| announcer.order(now, 1, wanted(addresses, None), true));
    }

    fn does(&mut self, node: usize, step: impl FnOnce(&mut Announcer) -> Vec<Action>) {
        let actions = step(&mut self.nodes[node].announcer);
        for action in actions {
            match action {
                Action::Open(_) => self.nodes[node].open = true,
                Action::Close(_) => self.nodes[node].open = false,
                Action::Groups(..) => {}
                Action::Tell(told) => self.nodes[node].told.push((self.now, told)),
                Action::Send(_, bytes) => self.spread(node, &bytes),
            }
        }
    }

    fn spread(&mut self, sender: usize, bytes: &[u8]) {
        assert!(self.nodes[sender].open, "nothing is sent by a closed link");
        let frame = Frame::read(bytes).expect("what is sent can be read");
        self.log.push((self.now, sender, frame));
        for node in 0..self.nodes.len() {
            if node != sender && self.group[node] == self.group[sender] && self.nodes[node].alive {
                self.nodes[node].waiting.push(bytes.to_vec());
            }
        }
    }

    /// Lets a millisecond pass.
    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let now = self.now;
        for node in 0..self.nodes.len() {
            if !self.nodes[node].awake || !self.nodes[node].alive {
                continue;
            }
            let late = self.nodes[node].announcer.next().is_some_and(|next| next <= now);
            for frame in std::mem::take(&mut self.nodes[node].waiting) {
                if self.nodes[node].open {
                    self.does(node, |announcer| announcer.frame(now, 7, &frame));
                }
            }
            if late {
                self.does(node, |announcer| announcer.tick(now));
            }
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        (0..milliseconds).for_each(|_| self.step());
    }

    /// Passes time until something is so; says how long it took.
    #[track_caller]
    fn until(&mut self, limit: u64, what: &str, so: impl Fn(&Self) -> bool) -> u64 {
        for passed in 0..=limit {
            if so(self) {
                return passed;
            }
            self.step();
        }
        panic!("after {limit} ms: {what}; {:?}", self.announcers(FOUR))
    }

    /// Who would answer for an address, of those who are alive.
    fn announcers(&self, address: &str) -> Vec<&str> {
        let announces = |node: &&Node| {
            node.alive && node.announcer.view().announced().any(|held| held == ip(address))
        };
        self.nodes.iter().filter(announces).map(|node| node.name.as_str()).collect()
    }

    fn only(&self, address: &str) -> Option<usize> {
        match self.announcers(address)[..] {
            [one] => self.nodes.iter().position(|node| node.name == one),
            _ => None,
        }
    }

    /// The last to have told everybody that an address is its own: where clients send to.
    fn believed(&self, address: &str) -> Option<Mac> {
        let claims = |frame: &Frame| match &frame.content {
            Content::Arp(arp) => arp.sender == ip(address) && arp.sender == arp.target,
            Content::Ndp(ndp) => {
                ndp.target == ip(address) && matches!(ndp.message, Message::Advertisement { .. })
            }
            Content::Beat(_) => false,
        };
        self.log.iter().rev().find(|(_, _, f)| claims(f)).map(|(_, _, frame)| frame.from)
    }

    fn told(&self, node: usize) -> Vec<&Told> {
        self.nodes[node].told.iter().map(|(_, told)| told).collect()
    }

    /// A frame of a host that is no node, heard by all.
    fn stranger(&mut self, frame: &Frame) {
        let bytes = frame.bytes();
        self.nodes.iter_mut().for_each(|node| node.waiting.push(bytes.clone()));
    }
}

/// Three nodes that have agreed.
fn settled() -> World {
    let mut world = World::new(3, &[FOUR, SIX]);
    world.pass(600);
    assert_eq!(world.announcers(FOUR).len(), 1);
    assert_eq!(world.announcers(SIX).len(), 1);
    world
}

#[test]
fn nodes_agree_on_one_who_announces_and_tells_everybody() {
    let mut world = World::new(3, &[FOUR, SIX]);
    world.pass(u64::try_from(LISTEN.as_millis()).unwrap() - 1);
    assert_eq!(world.announcers(FOUR).len(), 0, "first they listen");
    world.until(200, "one announces", |world| world.only(FOUR).is_some());
    world.pass(3_500);
    for address in [FOUR, SIX] {
        let winner = world.only(address).unwrap();
        assert_eq!(world.believed(address), Some(world.nodes[winner].mac));
    }
    let told = world.nodes.iter().flat_map(|node| &node.told);
    let taken = told.filter(|(_, told)| matches!(told, Told::Announces { .. })).count();
    assert_eq!(taken, 2, "each address is taken once");
}

#[test]
fn an_address_is_announced_four_times_and_then_no_more() {
    let mut world = settled();
    world.pass(10_000);
    let winner = world.only(FOUR).unwrap();
    let claims = world.log.iter().filter(|(_, sender, frame)| {
        *sender == winner
            && matches!(&frame.content, Content::Arp(arp) if arp.sender == ip(FOUR)
                && arp.operation == Operation::Request)
    });
    assert_eq!(claims.count(), 4);
}

#[test]
fn a_dead_node_is_replaced_in_less_than_half_a_second() {
    let mut world = settled();
    world.pass(5_000);
    let winner = world.only(FOUR).unwrap();
    world.nodes[winner].alive = false;
    let took = world.until(450, "another one announces", |world| world.only(FOUR).is_some());
    assert!(took >= 250, "two lost beats are no death: {took} ms");
    let successor = world.only(FOUR).unwrap();
    assert_eq!(world.believed(FOUR), Some(world.nodes[successor].mac));
}

impl World {
    /// Which nodes this one misses.
    fn missed_by(&self, node: usize) -> Vec<String> {
        self.nodes[node].announcer.silent().iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_dead_node_is_missed_by_all_others_at_the_same_time_until_it_is_back() {
    let mut world = settled();
    assert!((0..3).all(|node| world.missed_by(node).is_empty()));
    world.nodes[2].alive = false;
    let took = world.until(450, "node 3 is missed", |world| world.missed_by(0) == ["node-3"]);
    assert!(took >= 250, "two lost beats are no death: {took} ms");
    world.until(5, "by everybody", |world| world.missed_by(1) == ["node-3"]);
    world.nodes[2].alive = true;
    world.until(150, "it is back", |world| {
        world.missed_by(0).is_empty() && world.missed_by(1).is_empty()
    });
    world.until(150, "it takes nobody for dead", |world| world.missed_by(2).is_empty());
}

#[test]
fn who_says_farewell_or_slept_oneself_is_no_reason_to_miss_anybody() {
    let mut world = settled();
    let now = world.now;
    world.does(2, |announcer| announcer.farewell(now));
    world.nodes[1].awake = false;
    world.pass(700);
    assert_eq!(world.missed_by(0), ["node-2"], "not node 3, which said that it goes");
    world.nodes[1].awake = true;
    world.pass(200);
    assert!((0..3).all(|node| world.missed_by(node).is_empty()));
}

#[test]
fn a_node_that_is_heard_on_another_link_is_not_missed() {
    let mut announcer = Announcer::new("node-1", 1_000);
    let other = Lan { index: 8, name: "eth1".to_owned(), mac: mac_of(9), ..lan(1) };
    let lans = vec![lan(1), Lan { nets: vec!["10.1.0.0/24".parse().unwrap()], ..other }];
    let at = |ms| Moment::from_millis(ms);
    announcer.set_links(at(0), lans);
    announcer.order(at(0), 1, wanted(&[FOUR, "10.1.0.9"], None), true);
    let beat = |sequence| {
        let offers = vec![ip(FOUR)];
        let message = beat::Message::Alive { grade: Grade::Full, part: 0, parts: 1, offers };
        let beat = Beat { cluster: 1, node: "node-2".into(), sequence, message };
        beat.frame(mac_of(2)).bytes()
    };
    for tick in 1..=5 {
        announcer.frame(at(tick * 100), 8, &beat(tick));
        if tick == 1 {
            announcer.frame(at(100), 7, &beat(50));
        }
        announcer.tick(at(tick * 100));
        assert!(announcer.silent().is_empty(), "{tick}");
    }
    for tick in 6..=9 {
        announcer.tick(at(tick * 100));
    }
    assert_eq!(announcer.silent().len(), 1, "on no link any more");
}

#[test]
fn who_is_silent_is_looked_at_only_when_somebody_came_or_went() {
    let mut world = settled();
    let news = |world: &mut World| world.nodes[0].announcer.others_changed();
    assert!(news(&mut world), "the others came");
    world.pass(1_000);
    assert!(!news(&mut world), "beats that tell nothing new");
    world.nodes[2].alive = false;
    world.pass(450);
    assert!(news(&mut world), "one fell silent");
    world.pass(1_000);
    assert!(!news(&mut world), "and still is");
    let now = world.now;
    world.does(0, |announcer| announcer.set_links(now, Vec::new()));
    assert!(news(&mut world) && world.missed_by(0).is_empty(), "nobody is missed on no link");
}

#[test]
fn a_farewell_of_which_most_is_lost_is_one() {
    let mut world = settled();
    let now = world.now;
    world.does(2, |announcer| announcer.farewell(now));
    for node in &mut world.nodes[..2] {
        let last = node.waiting.pop().expect("it was told");
        assert!(node.waiting.len() >= 2, "more than once");
        node.waiting = vec![last];
    }
    world.pass(700);
    assert!((0..2).all(|node| world.missed_by(node).is_empty()));
}

#[test]
fn a_node_that_says_farewell_is_replaced_at_once() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    let now = world.now;
    world.does(winner, |announcer| announcer.farewell(now));
    world.until(3, "another one announces", |world| world.only(FOUR).is_some_and(|n| n != winner));
    assert!(!world.nodes[winner].open, "it closed its sockets");
    let address = ip(FOUR);
    let gone = world.told(winner).iter().any(|t| **t == Told::Yields { address, to: None });
    assert!(gone);
}

#[test]
fn a_node_that_declines_leaves_the_address_to_another() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    let now = world.now;
    let mut orders = wanted(&[FOUR, SIX], None);
    let declined = Declined::NoLocalEndpoint(ServiceName::new("default", "web"));
    orders.get_mut(&ip(FOUR)).unwrap().declined = Some(declined.clone());
    world.does(winner, |announcer| announcer.order(now, 1, orders, true));
    world.until(3, "another one announces", |world| world.only(FOUR).is_some_and(|n| n != winner));
    let view = world.nodes[winner].announcer.view();
    assert_eq!(view.addresses[&ip(FOUR)].standing, Standing::Declines(declined));
}

#[test]
fn only_the_elected_node_answers_questions() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    let Content::Arp(mut question) = Arp::probe(Ipv4Addr::new(192, 168, 56, 200), CLIENT).content
    else {
        panic!()
    };
    question.sender = Ipv4Addr::new(192, 168, 56, 3);
    let frame = Frame { to: Mac::BROADCAST, from: CLIENT, content: Content::Arp(question) };
    world.log.clear();
    world.stranger(&frame);
    world.pass(2);
    let answers: Vec<_> = world.log.iter().filter(|(_, _, f)| f.to == CLIENT).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].1, winner);
    let Content::Arp(answer) = &answers[0].2.content else { panic!() };
    assert_eq!((answer.operation, answer.sender_mac), (Operation::Reply, mac_of(winner + 1)));
}

#[test]
fn questions_of_ipv6_are_answered_and_their_group_is_joined() {
    let mut world = World::new(1, &[SIX]);
    world.pass(600);
    let IpAddr::V6(target) = ip(SIX) else { panic!() };
    let groups = &world.nodes[0].announcer.groups[&7];
    assert_eq!(groups, &BTreeSet::from([solicited_group(target)]));
    let question = Ndp {
        source: "fd00:192:168:56::3".parse().unwrap(),
        destination: solicited_group(target),
        target,
        message: Message::Solicitation,
        mac: Some(CLIENT),
    };
    let to = Mac([0x33, 0x33, 0xff, 0, 2, 0]);
    world.log.clear();
    world.stranger(&Frame { to, from: CLIENT, content: Content::Ndp(question) });
    world.pass(2);
    assert!(world.log.iter().any(|(_, _, frame)| frame.to == CLIENT));
}

#[test]
fn frames_for_others_are_not_answered() {
    let mut world = World::new(1, &[FOUR]);
    world.pass(600);
    world.log.clear();
    let mut frame = Arp::probe(Ipv4Addr::new(192, 168, 56, 200), CLIENT);
    frame.to = Mac([2, 0, 0, 0, 9, 9]);
    world.stranger(&frame);
    world.pass(2);
    assert!(world.log.iter().all(|(_, _, frame)| matches!(frame.content, Content::Beat(_))));
}

#[test]
fn two_halves_of_a_network_serve_each_and_agree_again_when_it_heals() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    world.group[winner] = 1;
    world.until(500, "both halves serve", |world| world.announcers(FOUR).len() == 2);
    world.pass(5_000);
    world.group[winner] = 0;
    world.until(150, "one serves", |world| world.only(FOUR) == Some(winner));
    world.pass(200);
    assert_eq!(world.only(FOUR), Some(winner));
    assert_eq!(world.believed(FOUR), Some(world.nodes[winner].mac), "and everybody knows");
}

#[test]
fn a_node_that_was_asleep_comes_back_as_a_reserve_and_later_for_good() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    world.nodes[winner].awake = false;
    world.pass(2_000);
    world.nodes[winner].awake = true;
    world.until(20, "only the successor serves", |world| {
        world.only(FOUR).is_some_and(|one| one != winner)
    });
    world.pass(900);
    assert_ne!(world.only(FOUR), Some(winner), "it has to prove itself");
    world.until(300, "the elected one serves again", |world| world.only(FOUR) == Some(winner));
    assert_eq!(world.believed(FOUR), Some(world.nodes[winner].mac));
}

#[test]
fn a_node_that_falls_asleep_again_and_again_is_left_alone_for_longer() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    for _ in 0..4 {
        world.nodes[winner].awake = false;
        world.pass(500);
        world.nodes[winner].awake = true;
        world.pass(100);
    }
    let times = |world: &World| {
        let taken =
            |told: &&Told| matches!(told, Told::Announces { address, .. } if *address == ip(FOUR));
        world.told(winner).into_iter().filter(taken).count()
    };
    assert_eq!(times(&world), 1, "it did not come back in between");
    world.until(9_000, "it serves again", |world| world.only(FOUR) == Some(winner));
}

#[test]
fn a_short_nap_changes_nothing() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    for node in 0..3 {
        world.nodes[node].awake = false;
        world.pass(220);
        world.nodes[node].awake = true;
        world.pass(500);
    }
    assert_eq!(world.only(FOUR), Some(winner));
    let yields = world.nodes.iter().flat_map(|node| &node.told);
    assert_eq!(yields.filter(|(_, told)| matches!(told, Told::Yields { .. })).count(), 0);
}

#[test]
fn when_all_were_asleep_the_same_one_serves() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    world.nodes.iter_mut().for_each(|node| node.awake = false);
    world.pass(3_000);
    world.nodes.iter_mut().for_each(|node| node.awake = true);
    world.pass(300);
    assert_eq!(world.only(FOUR), Some(winner));
    world.pass(2_000);
    assert_eq!(world.only(FOUR), Some(winner));
}

#[test]
fn a_node_that_is_not_sound_serves_only_where_nobody_else_does() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    let now = world.now;
    world.does(winner, |a| a.order(now, 1, wanted(&[FOUR, SIX], None), false));
    world.until(150, "another one serves", |world| world.only(FOUR).is_some_and(|n| n != winner));
    // The API server is gone for all of them, say.
    for node in 0..3 {
        let now = world.now;
        world.does(node, |a| a.order(now, 1, wanted(&[FOUR, SIX], None), false));
    }
    world.until(150, "as before", |world| world.only(FOUR) == Some(winner));
}

#[test]
fn a_stranger_with_the_address_is_told_of_once_and_answered_once() {
    let mut world = World::new(1, &[FOUR]);
    world.pass(5_000);
    world.log.clear();
    for _ in 0..20 {
        let mut frame = Arp::announcement(Ipv4Addr::new(192, 168, 56, 200), CLIENT)[0].clone();
        frame.from = CLIENT;
        world.stranger(&frame);
        world.pass(100);
    }
    let conflicts = world.told(0).into_iter().filter(
        |told| matches!(told, Told::Conflict { mac, link, .. } if *mac == CLIENT && link == "eth0"),
    );
    assert_eq!(conflicts.count(), 1);
    let defences = world.log.iter().filter(|(_, _, frame)| {
        matches!(&frame.content, Content::Arp(arp) if arp.operation == Operation::Request)
    });
    assert_eq!(defences.count(), 1);
    assert_eq!(world.only(FOUR), Some(0), "it serves on");
}

#[test]
fn a_node_whose_claim_overtakes_its_beats_is_no_stranger() {
    let mut world = World::new(2, &[FOUR]);
    // The second node is heard late, and its claim first.
    world.group[1] = 1;
    world.pass(600);
    assert_eq!(world.announcers(FOUR).len(), 2);
    let mut frame = Arp::announcement(Ipv4Addr::new(192, 168, 56, 200), mac_of(2))[0].clone();
    frame.from = mac_of(2);
    world.nodes[0].waiting.push(frame.bytes());
    world.pass(300);
    world.group[1] = 0;
    world.pass(2_000);
    assert_eq!(world.announcers(FOUR).len(), 1);
    let told = world.told(0);
    assert!(!told.iter().any(|told| matches!(told, Told::Conflict { .. })), "{told:?}");
}

#[test]
fn nodes_of_another_cluster_on_the_same_network_are_not_heard() {
    let mut world = World::new(2, &[FOUR]);
    let now = world.now;
    world.does(1, |announcer| announcer.order(now, 2, wanted(&[FOUR], None), true));
    world.pass(1_200);
    assert_eq!(world.announcers(FOUR).len(), 2, "each cluster has its own");
    let told = world.nodes.iter().flat_map(|node| &node.told);
    let conflicts = told.filter(|(_, told)| matches!(told, Told::Conflict { .. })).count();
    assert!(conflicts > 0, "and that they have the same address is a conflict");
}

#[test]
fn without_addresses_nothing_is_opened_or_sent() {
    let mut world = World::new(2, &[]);
    world.pass(1_000);
    assert!(world.log.is_empty());
    assert!(world.nodes.iter().all(|node| !node.open && node.announcer.next().is_none()));
}

#[test]
fn an_address_of_no_network_is_told_of_once() {
    let mut world = World::new(1, &["10.9.9.9"]);
    world.pass(500);
    assert!(
        matches!(&world.told(0)[..], [Told::NotOnLink { address, .. }] if *address == ip("10.9.9.9"))
    );
    let now = world.now;
    world.does(0, |announcer| announcer.order(now, 1, wanted(&["10.9.9.9"], None), true));
    assert_eq!(world.told(0).len(), 1);
    assert!(!world.nodes[0].open);
}

#[test]
fn when_a_link_goes_and_comes_back_the_node_listens_first() {
    let mut world = settled();
    let winner = world.only(FOUR).unwrap();
    let now = world.now;
    world.does(winner, |announcer| announcer.set_links(now, Vec::new()));
    world.until(3, "another one", |world| world.only(FOUR).is_some_and(|n| n != winner));
    world.pass(1_000);
    let now = world.now;
    world.does(winner, |announcer| announcer.set_links(now, vec![lan(winner + 1)]));
    world.pass(300);
    assert!(world.only(FOUR).is_some_and(|n| n != winner));
    world.until(200, "the elected one", |world| world.only(FOUR) == Some(winner));
}

#[test]
fn another_range_of_a_link_moves_no_address() {
    let mut world = settled();
    let elected = world.only(FOUR).unwrap();
    let (now, told) = (world.now, world.told(elected).len());
    let mut more = lan(elected + 1);
    more.nets.push("10.1.0.0/16".parse().unwrap());
    world.does(elected, |announcer| announcer.set_links(now, vec![more.clone()]));
    assert_eq!(world.only(FOUR), Some(elected));
    world.pass(1000);
    assert_eq!(world.only(FOUR), Some(elected));
    assert_eq!(world.told(elected).len(), told, "{:?}", world.told(elected));
    assert_eq!(world.nodes[elected].announcer.view().links[0].lan, more);
    // The range of an address goes: it is nobody's to ask for there.
    let now = world.now;
    more.nets.retain(|net| !net.contains(&ip(FOUR)));
    world.does(elected, |announcer| announcer.set_links(now, vec![more]));
    let view = world.nodes[elected].announcer.view();
    assert_eq!(view.addresses[&ip(FOUR)].standing, Standing::Declines(Declined::NotOnLink));
}

#[test]
fn what_is_sent_is_of_a_kind_that_sockets_are_opened_for() {
    let world = settled();
    for (_, _, frame) in &world.log {
        let bytes = frame.bytes();
        let kind = u16::from_be_bytes([bytes[12], bytes[13]]);
        assert!(EtherType::ALL.iter().any(|known| known.number() == kind));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Whatever happened before: once all nodes are awake and hear each other, one serves, and it is
    /// the one whom clients were told of last.
    #[test]
    fn whatever_happened_it_ends_with_one(
        history in proptest::collection::vec((0_usize..3, 0_u8..5, 1_u64..700), 1..12),
    ) {
        let mut world = World::new(3, &[FOUR, SIX]);
        for (node, what, pause) in history {
            let now = world.now;
            match what {
                0 => world.nodes[node].awake = false,
                1 => world.nodes[node].awake = true,
                2 => world.group[node] = 1 - world.group[node],
                3 if world.nodes[node].awake => world.does(node, |a| a.set_links(now, Vec::new())),
                _ if world.nodes[node].awake => {
                    world.does(node, |a| a.set_links(now, vec![lan(node + 1)]));
                }
                _ => {}
            }
            world.pass(pause);
        }
        world.group = vec![0; 3];
        for node in 0..3 {
            let now = world.now;
            world.nodes[node].awake = true;
            world.does(node, |a| a.set_links(now, vec![lan(node + 1)]));
        }
        world.pass(12_000);
        for address in [FOUR, SIX] {
            let one = world.only(address);
            prop_assert!(one.is_some(), "{:?}", world.announcers(address));
            let mac = one.map(|one| world.nodes[one].mac);
            prop_assert_eq!(world.believed(address), mac);
        }
    }
}
