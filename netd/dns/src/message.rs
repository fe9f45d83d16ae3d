//! Messages on the wire: which are questions for us, and how answers are written.
//!
//! Reading and writing is hickory's; the rules are here. Invariants: an answer is never answered;
//! what can't be read is answered with a header at most; an answer is never longer than the client
//! takes, and the question in it stands letter by letter as it was asked.

use std::net::SocketAddr;

use hickory_proto::op::{Edns, LowerQuery, Metadata, OpCode, ResponseCode, emit_message_parts};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

/// The length of a header.
pub(crate) const HEADER: usize = 12;
/// What every client takes by UDP.
pub(crate) const SMALLEST: u16 = 512;
/// What passes everywhere without being cut in pieces (DNS flag day 2020).
pub(crate) const LARGEST_DATAGRAM: u16 = 1232;

/// What came.
pub(crate) enum Incoming {
    /// A question to be answered.
    Question(Box<Question>),
    /// Something to be answered at once.
    Refused(Vec<u8>, ResponseCode),
    /// Something that gets no answer.
    Nothing,
}

/// A question.
pub(crate) struct Question {
    request: Request,
    /// The name, as it was written.
    pub(crate) name: Name,
    /// The kind of records.
    pub(crate) kind: RecordType,
    /// What it means for others who are asked in turn.
    pub(crate) wishes: Wishes,
    /// How long the answer may be.
    pub(crate) limit: u16,
}

/// What a client wants to be told besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wishes {
    /// Signatures (DO).
    pub(crate) signatures: bool,
    /// No check of them (CD).
    pub(crate) unchecked: bool,
}

/// An answer before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// How it went.
    pub(crate) code: ResponseCode,
    /// We know by ourselves.
    pub(crate) authoritative: bool,
    /// Signatures were checked upstream.
    pub(crate) checked: bool,
    /// The records asked for, CNAMEs first.
    pub(crate) answers: Vec<Record>,
    /// The start of authority, when there are none.
    pub(crate) authorities: Vec<Record>,
    /// What is good to know, too.
    pub(crate) additionals: Vec<Record>,
}

impl Reply {
    /// An answer without records.
    #[must_use]
    pub(crate) fn code(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            checked: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

/// Reads what came.
pub(crate) fn read(packet: &[u8], from: SocketAddr, protocol: Protocol) -> Incoming {
    // Too short to be answered, or an answer: two servers would answer each other for ever.
    if packet.len() < HEADER || packet[2] & 0x80 != 0 {
        return Incoming::Nothing;
    }
    let refused = |code| Incoming::Refused(header_only(packet, code), code);
    if packet[2] >> 3 & 15 != u8::from(OpCode::Query) {
        return refused(ResponseCode::NotImp);
    }
    if question_end(packet).is_none() {
        return refused(ResponseCode::FormErr);
    }
    let Ok(request) = Request::from_bytes(packet.to_vec(), from, protocol) else {
        return refused(ResponseCode::FormErr);
    };
    let [query] = request.queries.queries() else { return refused(ResponseCode::FormErr) };
    let original = query.original();
    let (name, kind, class) = (original.name().clone(), query.query_type(), query.query_class());
    let edns = request.edns.as_ref();
    let takes = edns.map_or(SMALLEST, Edns::max_payload).clamp(SMALLEST, LARGEST_DATAGRAM);
    let question = Question {
        limit: if protocol == Protocol::Tcp { u16::MAX } else { takes },
        wishes: Wishes {
            signatures: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            unchecked: request.metadata.checking_disabled,
        },
        name,
        kind,
        request,
    };
    // Another class or version, a transfer of the zone, or what only transports carry.
    let code = if question.request.version() > 0 {
        ResponseCode::BADVERS
    } else if class != DNSClass::IN || is_refused(kind) {
        ResponseCode::Refused
    } else {
        return Incoming::Question(Box::new(question));
    };
    Incoming::Refused(question.write(&Reply::code(code)), code)
}

fn is_refused(kind: RecordType) -> bool {
    use RecordType::{AXFR, IXFR, OPT, TSIG};
    matches!(kind, AXFR | IXFR | OPT | TSIG)
}

/// Where the question ends; none unless there is exactly one, written out in full.
pub(crate) fn question_end(packet: &[u8]) -> Option<usize> {
    if packet.get(4..6)? != [0, 1] {
        return None;
    }
    let mut at = HEADER;
    loop {
        match packet.get(at)? {
            0 => break,
            // A question points nowhere: nothing comes before it.
            length @ 1..=63 => at += 1 + usize::from(*length),
            _ => return None,
        }
        if at - HEADER > 254 {
            return None;
        }
    }
    let end = at + 1 + 4;
    (end <= packet.len()).then_some(end)
}

/// An answer that repeats nothing but the header.
pub(crate) fn header_only(packet: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut answer = vec![0; HEADER];
    answer[..2].copy_from_slice(&packet[..2]);
    // It is an answer; opcode and RD are as they were.
    answer[2] = 0x80 | packet[2] & 0x79;
    answer[3] = code.low();
    answer
}

impl Question {
    /// Writes an answer. What does not fit is left out, first what was not asked for; if the records
    /// asked for don't fit, the client is told to come by TCP.
    pub(crate) fn write(&self, reply: &Reply) -> Vec<u8> {
        let nothing = Vec::new();
        let attempts = [
            (&reply.answers, &reply.authorities, &reply.additionals),
            (&reply.answers, &reply.authorities, &nothing),
            (&nothing, &nothing, &nothing),
        ];
        for (at, (answers, authorities, additionals)) in attempts.into_iter().enumerate() {
            let cut = at == 2;
            let written = self.attempt(reply, [answers, authorities, additionals], cut);
            if let Some(bytes) = written {
                return bytes;
            }
        }
        header_only(self.request.as_slice(), ResponseCode::ServFail)
    }

    fn attempt(&self, reply: &Reply, sections: [&Vec<Record>; 3], cut: bool) -> Option<Vec<u8>> {
        let asked = &self.request.metadata;
        let mut metadata = Metadata::response_from_request(asked);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.authentic_data = reply.checked;
        metadata.checking_disabled = asked.checking_disabled;
        metadata.recursion_available = true;
        metadata.truncation = cut;
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(self.wishes.signatures);
        let [answers, authorities, additionals] = sections;
        let mut bytes = Vec::with_capacity(usize::from(SMALLEST));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.limit);
        let queries = self.request.queries.queries().iter().map(LowerQuery::original);
        // hickory-server's own way of writing answers does not let names point at the question.
        let header = emit_message_parts(
            &metadata,
            &mut queries.collect::<Vec<_>>().into_iter(),
            &mut answers.iter(),
            &mut authorities.iter(),
            &mut additionals.iter(),
            self.request.edns.is_some().then_some(&edns),
            None,
            &mut encoder,
        );
        let cut_off = header.ok()?.metadata.truncation;
        (cut_off == cut).then_some(bytes)
    }
}

/// Turns the records of an answer round, so that clients who take the first one share the work.
/// Nothing but addresses of the name asked for is moved.
pub(crate) fn rotate(answer: &mut [u8], by: usize) {
    if let Some((start, size, count)) = rotatable(answer) {
        answer[start..start + size * count].rotate_left(size * (by % count));
    }
}

/// Where the addresses of the name asked for stand, the size of one, and how many there are.
pub(crate) fn rotatable(answer: &[u8]) -> Option<(usize, usize, usize)> {
    let start = question_end(answer)?;
    let count = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
    // A pointer to the question's name, type, class, TTL and length.
    let size = match answer.get(start..start + 4)? {
        [0xc0, 0x0c, 0, 1] => 12 + 4,
        [0xc0, 0x0c, 0, 28] => 12 + 16,
        _ => return None,
    };
    let records = answer.get(start..start + size * count)?;
    let alike = |record: &[u8]| record[..4] == records[..4];
    (count > 1 && records.chunks(size).all(alike)).then_some((start, size, count))
}

/// For the fuzzer: an answer made of another server's is written within its limits.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzz(packet: &[u8], reply: &Reply) {
    let from = ([127, 0, 0, 1], 5000).into();
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let Incoming::Question(question) = read(packet, from, protocol) else {
            panic!("the question can't be read")
        };
        let mut answer = question.write(reply);
        assert!(answer.len() <= usize::from(question.limit));
        rotate(&mut answer, 1);
    }
}

#[cfg(test)]
mod tests;
