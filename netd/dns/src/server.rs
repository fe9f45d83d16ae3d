//! Packets in, packets out: who may ask, what is answered at once, and what takes a while.
//!
//! The same for UDP and TCP; sockets are in `udp`, `tcp` and `listen`. Invariants: nobody but the
//! cluster's own Pods and this node is told anything, so that nobody can have an answer sent to a
//! stranger; a question gets one answer, or none.

pub(crate) mod listen;
mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use hickory_server::net::xfer::Protocol;
use ipnet::IpNet;
use tokio::sync::Semaphore;

use crate::counters::Counters;
use crate::journal::{Entry, Journal};
use crate::message::{self, HEADER, Incoming, Question, Reply};
use crate::ready::{About, Ready, Terms};
use crate::resolve::{Asked, Found, Resolver, Source};

/// Questions that wait for other servers at a time, over all clients.
const MOST_WAITING: usize = 4096;

/// What all sockets share.
pub(crate) struct Server {
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) journal: Journal,
    pub(crate) counters: Counters,
    /// Who may ask.
    clients: RwLock<Vec<IpNet>>,
    /// Room for questions that wait.
    room: Arc<Semaphore>,
}

/// What became of a packet.
pub(crate) enum Handled {
    /// The answer is written.
    Answered,
    /// There is none.
    Ignored,
    /// It takes a while.
    Later(Box<Question>),
}

impl Server {
    pub(crate) fn new(resolver: Arc<Resolver>) -> Arc<Self> {
        Arc::new(Self {
            resolver,
            journal: Journal::default(),
            counters: Counters::default(),
            clients: RwLock::default(),
            room: Arc::new(Semaphore::new(MOST_WAITING)),
        })
    }

    /// From now on, these may ask, and whoever is on this machine.
    pub(crate) fn admit(&self, clients: Vec<IpNet>) {
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    fn admits(&self, client: IpAddr) -> bool {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        client.is_loopback() || clients.iter().any(|range| range.contains(&client))
    }

    /// Answers a packet if that takes no more than a look.
    pub(crate) fn handle(
        &self,
        packet: &[u8],
        from: SocketAddr,
        protocol: Protocol,
        ready: &mut Ready,
        answer: &mut Vec<u8>,
    ) -> Handled {
        let began = Instant::now();
        if !self.admits(from.ip()) {
            return self.turn_away(packet, from, answer);
        }
        let generation = self.resolver.book.generation();
        let tcp = protocol == Protocol::Tcp;
        if !tcp && let Some(about) = ready.answer(packet, from.ip(), generation, began, answer) {
            self.note(packet, answer, from, about, began, tcp);
            return Handled::Answered;
        }
        let question = match message::read(packet, from, protocol) {
            Incoming::Question(question) => question,
            Incoming::Refused(refusal, code) => {
                self.counters.code(code);
                *answer = refusal;
                return Handled::Answered;
            }
            Incoming::Nothing => return Handled::Ignored,
        };
        let Some(known) = self.resolver.now(question.asked(from.ip())) else {
            return Handled::Later(question);
        };
        *answer = question.write(&known.reply);
        let about = About::new(known.source, known.completed);
        if !tcp {
            let terms = Terms { for_all: known.for_all, lasting: known.lasting };
            ready.keep(packet, from.ip(), answer, about.clone(), terms, (generation, began));
        }
        self.note(packet, answer, from, about, began, tcp);
        Handled::Answered
    }

    /// As short an answer as can be, and none to what is no question.
    fn turn_away(&self, packet: &[u8], from: SocketAddr, answer: &mut Vec<u8>) -> Handled {
        if packet.len() < HEADER || packet[2] & 0x80 != 0 {
            return Handled::Ignored;
        }
        tracing::debug!(client = %from, "refused: neither a Pod's address nor this node's");
        self.counters.code(ResponseCode::Refused);
        *answer = message::header_only(packet, ResponseCode::Refused);
        Handled::Answered
    }

    /// Answers what takes a while.
    pub(crate) async fn answer(
        &self,
        packet: &[u8],
        question: &Question,
        from: SocketAddr,
        tcp: bool,
    ) -> Vec<u8> {
        let began = Instant::now();
        let found = match self.room.try_acquire() {
            Ok(_place) => self.resolver.resolve(question.asked(from.ip())).await,
            Err(_) => Found::from(Reply::code(ResponseCode::ServFail)),
        };
        let answer = question.write(&found.reply);
        let about = About::new(found.source(), found.completed);
        self.note(packet, &answer, from, about, began, tcp);
        answer
    }

    /// Counts an answer, and writes it down.
    fn note(
        &self,
        packet: &[u8],
        answer: &[u8],
        from: SocketAddr,
        About { source, completed }: About,
        began: Instant,
        tcp: bool,
    ) {
        let Some(end) = message::question_end(packet) else { return };
        let took = began.elapsed();
        let kind = RecordType::from(u16::from_be_bytes([packet[end - 4], packet[end - 3]]));
        let code = ResponseCode::from(0, answer[3] & 15);
        self.counters.answered(kind, code, source, took);
        if completed.is_some() {
            self.counters.completed();
        }
        self.journal.write(Entry {
            at: SystemTime::now(),
            client: from.ip().to_canonical(),
            name: packet[HEADER..end - 4].into(),
            kind,
            code,
            source,
            answers: u16::from_be_bytes([answer[6], answer[7]]),
            completed,
            tcp,
            took,
        });
    }
}

impl About {
    fn new(source: Source, completed: Option<Name>) -> Self {
        Self { source, completed: completed.map(|name| name.to_string().into()) }
    }
}

impl Question {
    fn asked(&self, client: IpAddr) -> Asked<'_> {
        Asked { name: &self.name, kind: self.kind, wishes: self.wishes, client }
    }
}

#[cfg(test)]
mod tests;
