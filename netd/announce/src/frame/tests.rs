//! Frames there and back, and what must not be read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::arp::{Arp, Operation};
use super::beat::{Beat, Grade, Message as Said, parts};
use super::ndp::{Message, Ndp, solicited_group};
use super::{Content, Frame, Mac};

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn mac() -> impl Strategy<Value = Mac> {
    // A link-layer address of nought is none.
    any::<[u8; 6]>().prop_map(|mut bytes| {
        bytes[5] |= 1;
        Mac(bytes)
    })
}

fn arp() -> impl Strategy<Value = Content> {
    (any::<bool>(), mac(), any::<Ipv4Addr>(), mac(), any::<Ipv4Addr>()).prop_map(
        |(asks, sender_mac, sender, target_mac, target)| {
            let operation = if asks { Operation::Request } else { Operation::Reply };
            Content::Arp(Arp { operation, sender_mac, sender, target_mac, target })
        },
    )
}

fn ndp() -> impl Strategy<Value = Content> {
    let unicast = any::<Ipv6Addr>().prop_filter("unicast", |address| !address.is_multicast());
    let message = prop_oneof![
        Just(Message::Solicitation),
        (any::<bool>(), any::<bool>())
            .prop_map(|(solicited, overrides)| { Message::Advertisement { solicited, overrides } }),
    ];
    (any::<Ipv6Addr>(), any::<Ipv6Addr>(), unicast, message, proptest::option::of(mac())).prop_map(
        |(source, destination, target, message, mac)| {
            Content::Ndp(Ndp { source, destination, target, message, mac })
        },
    )
}

fn beat() -> impl Strategy<Value = Content> {
    let alive = (any::<bool>(), 1_u8.., vec(any::<IpAddr>(), 0..40)).prop_map(
        |(full, parts, mut offers)| {
            // On the wire the families follow each other.
            offers.sort();
            let grade = if full { Grade::Full } else { Grade::Reserve };
            Said::Alive { grade, part: parts - 1, parts, offers }
        },
    );
    let message = prop_oneof![Just(Said::Farewell), alive];
    (any::<u64>(), "[a-z0-9.-]{0,253}", any::<u64>(), message).prop_map(
        |(cluster, node, sequence, message)| {
            Content::Beat(Beat { cluster, node: node.as_str().into(), sequence, message })
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(to in mac(), from in mac(), content in prop_oneof![arp(), ndp(), beat()]) {
        let frame = Frame { to, from, content };
        prop_assert_eq!(Frame::read(&frame.bytes()), Some(frame));
    }

    #[test]
    fn garbage_is_read_as_nothing_or_something_but_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Frame::read(&bytes);
    }

    #[test]
    fn damaged_frames_never_panic(
        content in prop_oneof![arp(), ndp(), beat()],
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Frame { to: OURS, from: THEIRS, content }.bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Frame::read(&bytes);
        let _ = Frame::read(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn a_damaged_neighbour_message_is_not_believed(content in ndp(), at in 0_usize..24, bit in 0_u8..8) {
        let mut bytes = Frame { to: OURS, from: THEIRS, content: content.clone() }.bytes();
        bytes[super::HEADER + 40 + at] ^= 1 << bit;
        prop_assert_eq!(Frame::read(&bytes), None);
    }

    #[test]
    fn every_offer_is_in_some_part_and_each_part_fits_a_frame(offers in vec(any::<IpAddr>(), 0..600)) {
        let cut = parts(offers.iter().copied());
        prop_assert_eq!(cut.concat(), offers);
        let name = "n".repeat(253);
        for part in cut {
            let message = Said::Alive { grade: Grade::Full, part: 0, parts: 1, offers: part };
            let beat = Beat { cluster: 0, node: name.as_str().into(), sequence: 0, message };
            prop_assert!(beat.bytes().len() <= 1500);
        }
    }
}

/// As `arping -c 1 192.168.56.200` and its answer look on the wire.
#[test]
fn an_arp_question_is_answered_byte_by_byte() {
    let question = Arp {
        operation: Operation::Request,
        sender_mac: THEIRS,
        sender: Ipv4Addr::new(192, 168, 56, 3),
        target_mac: Mac::NONE,
        target: Ipv4Addr::new(192, 168, 56, 200),
    };
    let answer = Arp::answer(&question, OURS).bytes();
    let wanted = [
        &THEIRS.0[..],
        &OURS.0,
        &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2],
        &OURS.0,
        &[192, 168, 56, 200],
        &THEIRS.0,
        &[192, 168, 56, 3],
    ];
    assert_eq!(answer, wanted.concat());
}

#[test]
fn an_announcement_tells_everybody_by_question_and_by_answer() {
    let address = Ipv4Addr::new(192, 168, 56, 200);
    for frame in Arp::announcement(address, OURS) {
        assert_eq!((frame.to, frame.from), (Mac::BROADCAST, OURS));
        let Content::Arp(arp) = frame.content else { panic!("{frame:?}") };
        assert_eq!((arp.sender, arp.target, arp.sender_mac), (address, address, OURS));
    }
}

#[test]
fn a_probe_claims_nothing() {
    let Content::Arp(probe) = Arp::probe(Ipv4Addr::new(10, 0, 0, 1), OURS).content else {
        panic!()
    };
    assert!(probe.sender.is_unspecified());
    let Content::Ndp(probe) = Ndp::probe("fd00::1".parse().unwrap(), OURS).content else {
        panic!()
    };
    assert!(probe.source.is_unspecified());
    assert_eq!(probe.mac, None);
}

#[test]
fn questions_about_an_address_go_to_its_group() {
    let address: Ipv6Addr = "fd00:192:168:56::12:3456".parse().unwrap();
    assert_eq!(solicited_group(address), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    assert_eq!(Ndp::probe(address, OURS).to, Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
}

#[test]
fn an_answer_goes_to_who_asked_or_to_all_when_the_asker_has_no_address() {
    let mut question = Ndp {
        source: "fd00::3".parse().unwrap(),
        destination: solicited_group("fd00::200".parse().unwrap()),
        target: "fd00::200".parse().unwrap(),
        message: Message::Solicitation,
        mac: Some(THEIRS),
    };
    let answer = Ndp::answer(&question, THEIRS, OURS);
    assert_eq!(answer.to, THEIRS);
    let Content::Ndp(said) = answer.content else { panic!() };
    assert_eq!(said.message, Message::Advertisement { solicited: true, overrides: true });
    assert_eq!((said.source, said.destination), (question.target, question.source));

    question.source = Ipv6Addr::UNSPECIFIED;
    question.mac = None;
    let answer = Ndp::answer(&question, THEIRS, OURS);
    assert_eq!(answer.to, Mac([0x33, 0x33, 0, 0, 0, 1]));
    let Content::Ndp(said) = answer.content else { panic!() };
    assert_eq!(said.message, Message::Advertisement { solicited: false, overrides: true });
}

#[test]
fn a_neighbour_message_that_passed_a_router_is_not_read() {
    let mut bytes = Ndp::announcement("fd00::200".parse().unwrap(), OURS).bytes();
    assert!(Frame::read(&bytes).is_some());
    bytes[super::HEADER + 7] = 64;
    assert_eq!(Frame::read(&bytes), None);
}

#[test]
fn a_beat_of_another_version_is_not_read() {
    let message = Said::Alive { grade: Grade::Full, part: 0, parts: 1, offers: Vec::new() };
    let beat = Beat { cluster: 7, node: "node-1".into(), sequence: 1, message };
    let mut bytes = beat.frame(OURS).bytes();
    assert!(bytes.len() >= 60, "switches drop shorter frames");
    assert!(Frame::read(&bytes).is_some());
    bytes[super::HEADER + 4] = 2;
    assert_eq!(Frame::read(&bytes), None);
}
