//! What is read, what is refused, and how long an answer is.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::net::xfer::Protocol;
use proptest::prelude::*;

use super::*;

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn take(packet: &[u8], protocol: Protocol) -> Incoming {
    read(packet, "10.244.0.5:4000".parse().unwrap(), protocol)
}

fn question(message: &Message, protocol: Protocol) -> Question {
    match take(&message.to_vec().unwrap(), protocol) {
        Incoming::Question(question) => *question,
        Incoming::Refused(_, code) => panic!("refused: {code}"),
        Incoming::Nothing => panic!("not answered"),
    }
}

/// The code of an answer that comes at once, after its form was looked at.
fn refusal(packet: &[u8]) -> Option<ResponseCode> {
    match take(packet, Protocol::Udp) {
        Incoming::Refused(answer, code) => {
            let read = Message::from_vec(&answer).unwrap();
            assert_eq!(read.metadata.message_type, MessageType::Response);
            assert_eq!(answer[..2], packet[..2]);
            assert!(answer.len() <= packet.len().max(HEADER) + 11, "it amplifies");
            assert!(read.answers.is_empty());
            Some(code)
        }
        Incoming::Nothing => None,
        Incoming::Question(question) => panic!("a question for {}", question.name),
    }
}

fn addresses(count: u8) -> Vec<Record> {
    let name = Name::from_ascii("Web.shop.").unwrap();
    (0..count).map(|n| Record::from_rdata(name.clone(), 5, RData::A(A::new(10, 0, 0, n)))).collect()
}

#[test]
fn what_is_no_question_for_us_is_refused_or_ignored() {
    let plain = query("web.shop.", RecordType::A).to_vec().unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = plain.clone();
        change(&mut packet);
        packet
    };
    let code = |change: &dyn Fn(&mut Vec<u8>)| refusal(&changed(change));
    // Answers, and what is shorter than a header, get none.
    assert_eq!(code(&|p| p[2] |= 0x80), None);
    assert_eq!(code(&|p| p.truncate(11)), None);
    assert_eq!(refusal(&[]), None);
    // NOTIFY, UPDATE and what nobody has heard of.
    for opcode in [1, 2, 4, 5, 15] {
        assert_eq!(code(&|p| p[2] |= opcode << 3), Some(ResponseCode::NotImp), "{opcode}");
    }
    for count in [0, 2, 255] {
        assert_eq!(code(&|p| p[5] = count), Some(ResponseCode::FormErr), "{count} questions");
    }
    assert_eq!(code(&|p| p.truncate(20)), Some(ResponseCode::FormErr));
    // A name that points at itself, or anywhere.
    let pointers: [&[u8]; 3] = [&[0xc0, 12], &[1, b'a', 0xc0, 12], &[0xc0, 0]];
    for pointer in pointers {
        let packet = [&plain[..HEADER], pointer, &[0, 1, 0, 1]].concat();
        assert_eq!(refusal(&packet), Some(ResponseCode::FormErr), "{pointer:?}");
    }
    // More records are promised than there are.
    assert_eq!(code(&|p| p[11] = 3), Some(ResponseCode::FormErr));
    let class = |class| {
        let mut message = query("web.shop.", RecordType::A);
        message.queries[0].query_class = class;
        refusal(&message.to_vec().unwrap())
    };
    for other in [DNSClass::CH, DNSClass::HS, DNSClass::ANY, DNSClass::Unknown(99)] {
        assert_eq!(class(other), Some(ResponseCode::Refused), "{other}");
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        let packet = query("cluster.local.", kind).to_vec().unwrap();
        assert_eq!(refusal(&packet), Some(ResponseCode::Refused), "{kind}");
    }
}

#[test]
fn the_next_version_of_edns_is_not_spoken() {
    let mut message = query("web.shop.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    assert_eq!(refusal(&message.to_vec().unwrap()), Some(ResponseCode::BADVERS));
}

#[test]
fn an_answer_repeats_the_question_letter_by_letter() {
    let asked = query("wEb.SHOP.", RecordType::A);
    let question = question(&asked, Protocol::Udp);
    let reply = Reply { answers: addresses(1), ..Reply::code(ResponseCode::NoError) };
    let bytes = question.write(&reply);
    let end = question_end(&bytes).unwrap();
    assert_eq!(bytes[HEADER..end], asked.to_vec().unwrap()[HEADER..end]);
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    assert_eq!((answer.metadata.id, answer.answers.len(), answer.edns), (7, 1, None));
}

#[test]
fn what_does_not_fit_comes_by_tcp() {
    let many = Reply { answers: addresses(250), ..Reply::code(ResponseCode::NoError) };
    let length = |size: Option<u16>, protocol| {
        let mut message = query("web.shop.", RecordType::A);
        if let Some(size) = size {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        let bytes = question(&message, protocol).write(&many);
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.edns.is_some(), size.is_some());
        (bytes.len(), answer.metadata.truncation, answer.answers.len())
    };
    let (bytes, cut, records) = length(None, Protocol::Udp);
    assert!(bytes <= 512 && cut && records == 0);
    let (bytes, cut, _) = length(Some(4096), Protocol::Udp);
    assert!(bytes <= 1232 && cut, "no datagram is cut in pieces on the way");
    let (_, cut, records) = length(None, Protocol::Tcp);
    assert_eq!((cut, records), (false, 250));
}

#[test]
fn what_was_not_asked_for_is_left_out_first() {
    let text = RData::TXT(TXT::new(vec!["x".repeat(200); 3]));
    let more = vec![Record::from_rdata(Name::from_ascii("web.shop.").unwrap(), 5, text)];
    let reply =
        Reply { answers: addresses(2), additionals: more, ..Reply::code(ResponseCode::NoError) };
    let question = question(&query("web.shop.", RecordType::A), Protocol::Udp);
    let answer = Message::from_vec(&question.write(&reply)).unwrap();
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 0));
}

#[test]
fn addresses_take_turns_and_nothing_else_does() {
    let question = question(&query("web.shop.", RecordType::A), Protocol::Udp);
    let name = question.name.clone();
    let named = |mut records: Vec<Record>| {
        records.iter_mut().for_each(|record| record.name = name.clone());
        records
    };
    let reply = Reply { answers: named(addresses(3)), ..Reply::code(ResponseCode::NoError) };
    let firsts: Vec<String> = (0..4)
        .map(|by| {
            let mut bytes = question.write(&reply);
            rotate(&mut bytes, by);
            let answer = Message::from_vec(&bytes).unwrap();
            assert_eq!(answer.answers.len(), 3);
            answer.answers[0].data.to_string()
        })
        .collect();
    assert_eq!(firsts, ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.0"]);
    let text = RData::TXT(TXT::new(vec!["x".to_owned()]));
    let mixed = [named(addresses(2)), vec![Record::from_rdata(name.clone(), 5, text)]].concat();
    let reply = Reply { answers: mixed, ..Reply::code(ResponseCode::NoError) };
    assert_eq!(rotatable(&question.write(&reply)), None);
}

proptest! {
    /// Whatever comes, there is no panic, and no answer to an answer.
    #[test]
    fn any_packet_is_read(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(&packet);
    }

    /// The same for packets that are nearly right.
    #[test]
    fn any_mutated_packet_is_read(
        kind in any::<u16>(),
        edns in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut message = query("web.Shop.svc.cluster.local.", RecordType::from(kind));
        if edns {
            message.set_edns(Edns::new());
        }
        let mut packet = message.to_vec().unwrap();
        for (at, byte) in changes {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        if let Some(cut) = cut {
            packet.truncate(cut.index(packet.len()));
        }
        check(&packet);
    }
}

fn check(packet: &[u8]) {
    let is_answer = packet.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let answer = match take(packet, Protocol::Udp) {
        Incoming::Nothing => return,
        Incoming::Refused(answer, _) => answer,
        Incoming::Question(question) => {
            let reply = Reply { answers: addresses(200), ..Reply::code(ResponseCode::NoError) };
            let answer = question.write(&reply);
            assert!(answer.len() <= usize::from(question.limit));
            answer
        }
    };
    assert!(!is_answer, "an answer was answered: {packet:?}");
    assert!(answer.len() <= usize::from(LARGEST_DATAGRAM));
    assert_eq!(answer[2] & 0x80, 0x80);
    assert_eq!(answer[..2], packet[..2]);
}
