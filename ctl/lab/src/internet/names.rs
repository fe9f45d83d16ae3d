//! What the lab's name server answers. Pure: bytes in, bytes out.
//!
//! The sites' names have addresses; in a closed lab nothing else exists, which is said at once and
//! for a short time, so that a search through `ndots` and a typing error cost nothing.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::{SITES, Site};

/// How long an answer may be remembered, in seconds: long enough to be seen in a cache, short
/// enough not to be waited for.
const TTL: u32 = 30;
/// The same for what does not exist.
const NEGATIVE_TTL: u32 = 5;
/// The largest answer by UDP: what passes every link undivided.
const PAYLOAD: u16 = 1232;

/// What this name server knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Whether sites can be reached by IPv4.
    pub(super) v4: bool,
    /// Whether sites can be reached by IPv6.
    pub(super) v6: bool,
    /// Whether there is nothing but the sites.
    pub(super) closed: bool,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Send this.
    Send(Vec<u8>),
    /// Ask somebody else; send the second if nobody answers.
    Forward(Vec<u8>),
    /// No question: nothing is sent, least of all to another server.
    Nothing,
}

impl Names {
    /// The answer to a message.
    pub(super) fn reply(self, message: &[u8]) -> Reply {
        let Ok(asked) = Message::from_vec(message) else { return Reply::Nothing };
        if asked.metadata.message_type != MessageType::Query {
            return Reply::Nothing;
        }
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.recursion_desired = asked.metadata.recursion_desired;
        answer.metadata.recursion_available = !self.closed;
        if asked.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            answer.set_edns(edns);
        }
        let ([question], OpCode::Query) = (asked.queries.as_slice(), asked.metadata.op_code) else {
            answer.metadata.response_code = ResponseCode::NotImp;
            return send(&answer);
        };
        answer.add_query(question.clone());
        match site_named(question.name()) {
            Some(site) if question.query_class() == DNSClass::IN => {
                answer.metadata.authoritative = true;
                answer.add_answers(self.records(question, site));
                if answer.answers.is_empty() {
                    answer.add_authority(nothing_here(question.name()));
                }
                send(&answer)
            }
            _ if self.closed => {
                answer.metadata.authoritative = true;
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.add_authority(nothing_here(&Name::root()));
                send(&answer)
            }
            _ => {
                answer.metadata.response_code = ResponseCode::ServFail;
                match send(&answer) {
                    Reply::Send(failure) => Reply::Forward(failure),
                    other => other,
                }
            }
        }
    }

    fn records(self, question: &Query, site: &Site) -> Vec<Record> {
        let wanted = |kind| [kind, RecordType::ANY].contains(&question.query_type());
        let v4 = (self.v4 && wanted(RecordType::A)).then_some(RData::A(A(site.v4)));
        let v6 = (self.v6 && wanted(RecordType::AAAA)).then_some(RData::AAAA(AAAA(site.v6)));
        let record = |data| Record::from_rdata(question.name().clone(), TTL, data);
        v4.into_iter().chain(v6).map(record).collect()
    }
}

fn send(answer: &Message) -> Reply {
    answer.to_vec().map_or(Reply::Nothing, Reply::Send)
}

/// The site of a name, in whatever case it is written.
fn site_named(name: &Name) -> Option<&'static Site> {
    let name = name.to_lowercase().to_string();
    let name = name.trim_end_matches('.');
    SITES.iter().find(|site| site.name == name)
}

/// The record that says for how long something does not exist (RFC 2308).
fn nothing_here(zone: &Name) -> Record {
    let server = || Name::from_ascii("internet.lab.").unwrap_or_else(|_| Name::root());
    let ttl = i32::try_from(NEGATIVE_TTL).unwrap_or_default();
    let soa = SOA::new(server(), server(), 1, ttl, ttl, ttl, NEGATIVE_TTL);
    Record::from_rdata(zone.clone(), NEGATIVE_TTL, RData::SOA(soa))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: Names = Names { v4: true, v6: true, closed: true };

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn answer(names: Names, asked: &Message) -> Message {
        match names.reply(&asked.to_vec().unwrap()) {
            Reply::Send(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn data(message: &Message) -> Vec<String> {
        message.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn sites_have_an_address_of_each_family_in_any_case() {
        let found = answer(LAB, &question("MyService.test.COM.", RecordType::A));
        assert_eq!(data(&found), ["203.0.113.10"]);
        assert_eq!(found.metadata.response_code, ResponseCode::NoError);
        assert_eq!(found.metadata.id, 7);
        assert!(found.metadata.authoritative);
        let six = answer(LAB, &question("someapi.somecompany.com.", RecordType::AAAA));
        assert_eq!(data(&six), ["2001:db8:203:113::20"]);
    }

    #[test]
    fn a_family_that_the_lab_lacks_and_other_kinds_are_empty_answers_not_errors() {
        let v4_only = Names { v6: false, ..LAB };
        for asked in [
            question("myservice.test.com.", RecordType::AAAA),
            question("myservice.test.com.", RecordType::MX),
        ] {
            let found = answer(v4_only, &asked);
            assert_eq!(found.metadata.response_code, ResponseCode::NoError);
            assert_eq!((found.answers.len(), found.authorities.len()), (0, 1));
        }
    }

    #[test]
    fn nothing_else_exists_in_a_closed_lab() {
        for name in ["api.somecompany.com.", "test.com.", "x.myservice.test.com.", "."] {
            let found = answer(LAB, &question(name, RecordType::A));
            assert_eq!(found.metadata.response_code, ResponseCode::NXDomain, "{name}");
            assert_eq!(found.authorities[0].ttl, NEGATIVE_TTL);
        }
    }

    #[test]
    fn an_open_lab_asks_others_for_what_it_does_not_have() {
        let open = Names { closed: false, ..LAB };
        let asked = question("debian.org.", RecordType::A).to_vec().unwrap();
        match open.reply(&asked) {
            Reply::Forward(failure) => {
                let failure = Message::from_vec(&failure).unwrap();
                assert_eq!(failure.metadata.response_code, ResponseCode::ServFail);
            }
            other => panic!("{other:?}"),
        }
        let site = question("myservice.test.com.", RecordType::A).to_vec().unwrap();
        assert!(matches!(open.reply(&site), Reply::Send(_)));
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        assert_eq!(LAB.reply(b"GET / HTTP/1.1\r\n\r\n"), Reply::Nothing);
        assert_eq!(LAB.reply(&[]), Reply::Nothing);
        let mut reply = question("myservice.test.com.", RecordType::A);
        reply.metadata.message_type = MessageType::Response;
        assert_eq!(LAB.reply(&reply.to_vec().unwrap()), Reply::Nothing);
    }

    #[test]
    fn who_speaks_edns_is_answered_by_edns() {
        let mut asked = question("myservice.test.com.", RecordType::A);
        assert!(answer(LAB, &asked).edns.is_none());
        asked.set_edns(Edns::new());
        assert_eq!(answer(LAB, &asked).edns.unwrap().max_payload(), PAYLOAD);
    }
}
