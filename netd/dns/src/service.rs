//! The gRPC service that tells about a node's name server (contract: `proto/dns.proto`).
//!
//! Translates, and decides nothing. Who may ask is a matter of the way that leads here.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::SystemTime;

use futures::{Stream, StreamExt};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Record;
use jiff::Timestamp;
use proto::dns as message;
use proto::dns::dns_server::{Dns as Contract, DnsServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::Dns;
use crate::journal::{Entry, Journal, name_of};
use crate::message::Reply;
use crate::resolve::{Source, Step};
use crate::trace::{self, Trace, TraceError};

/// Entries on their way to somebody who reads slowly.
const WAITING: usize = 256;

/// The service, to be added to a gRPC server; `dns` gives the name server, once it runs.
#[must_use]
pub fn service(dns: impl Fn() -> Option<Dns> + Send + Sync + 'static) -> DnsServer<impl Contract> {
    DnsServer::new(Teller { dns: Box::new(dns) })
}

struct Teller {
    dns: Box<dyn Fn() -> Option<Dns> + Send + Sync>,
}

impl Teller {
    fn dns(&self) -> Result<Dns, Status> {
        (self.dns)().ok_or_else(|| Status::unavailable("the name server does not run yet"))
    }
}

#[tonic::async_trait]
impl Contract for Teller {
    type LogStream = Pin<Box<dyn Stream<Item = Result<message::LogEntry, Status>> + Send>>;

    async fn log(
        &self,
        request: Request<message::LogRequest>,
    ) -> Result<Response<Self::LogStream>, Status> {
        let (dns, request) = (self.dns()?, request.into_inner());
        let (send, receive) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            // Whoever listens may have gone, and may do so while there is no news.
            tokio::select! {
                () = tell(&dns, &request, &send) => {}
                () = send.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receive).map(Ok).boxed()))
    }

    async fn trace(
        &self,
        request: Request<message::TraceRequest>,
    ) -> Result<Response<message::TraceReply>, Status> {
        let (dns, request) = (self.dns()?, request.into_inner());
        let message::TraceRequest { name, r#type: kind, namespace, pod } = &request;
        let resolver = &dns.server.resolver;
        let trace = trace::trace(resolver, namespace, pod, name, kind).await.map_err(refusal)?;
        Ok(Response::new(reply(&dns, &trace)))
    }
}

fn refusal(error: TraceError) -> Status {
    let text = error.to_string();
    match error {
        TraceError::UnknownPod { .. } => Status::not_found(text),
        TraceError::BadName(_) | TraceError::BadKind(_) => Status::invalid_argument(text),
    }
}

async fn tell(dns: &Dns, request: &message::LogRequest, send: &mpsc::Sender<message::LogEntry>) {
    let wanted = |entry: &message::LogEntry| {
        (request.namespace.is_empty() || entry.namespace == request.namespace)
            && (request.pod.is_empty() || entry.pod == request.pod)
    };
    let told = |entries: Vec<Entry>| -> Vec<message::LogEntry> {
        entries.iter().map(|entry| self::entry(dns, entry)).filter(wanted).collect()
    };
    // What comes after this is news, however long it takes to tell what was before.
    let news = dns.server.journal.next();
    let mut batch = match request.only_new {
        true => Vec::new(),
        false => remembered(&dns.server.journal, news, request.tail, &told),
    };
    if request.marked {
        batch.push(message::LogEntry { mark: true, ..Default::default() });
    }
    let mut follower = dns.server.journal.follow(news);
    loop {
        for entry in batch {
            if send.send(entry).await.is_err() {
                return;
            }
        }
        if !request.follow {
            return;
        }
        batch = told(follower.read().await);
    }
}

/// The latest entries before number `end`; all of them if `tail` is none.
fn remembered(
    journal: &Journal,
    end: u64,
    tail: u32,
    told: &dyn Fn(Vec<Entry>) -> Vec<message::LogEntry>,
) -> Vec<message::LogEntry> {
    let most = if tail == 0 { usize::MAX } else { usize::try_from(tail).unwrap_or(usize::MAX) };
    let (mut latest, mut next) = (VecDeque::new(), 0);
    while next < end {
        let (mut entries, after) = journal.since(next);
        if entries.is_empty() {
            break;
        }
        // The last handful may reach into the news.
        let news = usize::try_from(after.saturating_sub(end)).unwrap_or(usize::MAX);
        entries.truncate(entries.len().saturating_sub(news));
        latest.extend(told(entries));
        latest.drain(..latest.len().saturating_sub(most));
        next = after;
    }
    latest.into()
}

fn entry(dns: &Dns, entry: &Entry) -> message::LogEntry {
    let pod = dns.book.read().pods().at(entry.client).cloned();
    let (namespace, pod) =
        pod.map_or_else(Default::default, |pod| (pod.namespace.to_string(), pod.name.to_string()));
    let (source, server) = source(entry.source);
    message::LogEntry {
        time: time(entry.at),
        node: dns.node.to_string(),
        namespace,
        pod,
        client: entry.client.to_string(),
        name: name_of(&entry.name),
        r#type: entry.kind.to_string(),
        code: code(entry.code),
        source,
        server,
        answers: entry.answers.into(),
        completed: entry.completed.as_deref().unwrap_or_default().to_owned(),
        tcp: entry.tcp,
        micros: micros(entry.took),
        mark: false,
    }
}

fn reply(dns: &Dns, trace: &Trace) -> message::TraceReply {
    let end = trace.end().map(|attempt| &attempt.found.reply);
    message::TraceReply {
        node: dns.node.to_string(),
        namespace: trace.pod.namespace.to_string(),
        pod: trace.pod.name.to_string(),
        client: trace.client.to_string(),
        searches: trace.config.searches.clone(),
        ndots: u32::try_from(trace.config.ndots).unwrap_or(u32::MAX),
        attempts: trace.attempts.iter().map(attempt).collect(),
        code: end.map(|reply| code(reply.code)).unwrap_or_default(),
        answers: end.map(records).unwrap_or_default(),
        explanation: trace::explain(trace),
    }
}

fn attempt(attempt: &trace::Attempt) -> message::Attempt {
    let found = &attempt.found;
    message::Attempt {
        name: attempt.name.to_string(),
        code: code(found.reply.code),
        steps: found.steps.iter().map(step).collect(),
        answers: records(&found.reply),
        completed: found.completed.as_ref().map(ToString::to_string).unwrap_or_default(),
        micros: attempt.micros,
    }
}

fn step(step: &Step) -> message::Step {
    let (source, server) = source(step.source);
    message::Step {
        name: step.name.to_string(),
        source,
        server,
        code: code(step.reply.code),
        records: records(&step.reply),
        micros: micros(step.took),
        trouble: step.trouble.clone().unwrap_or_default(),
    }
}

/// Records as `dig` prints them.
fn records(reply: &Reply) -> Vec<String> {
    let text = |record: &Record| {
        let (name, ttl, kind) = (&record.name, record.ttl, record.record_type());
        format!("{name} {ttl} IN {kind} {}", record.data)
    };
    reply.answers.iter().map(text).collect()
}

fn source(source: Source) -> (String, String) {
    let (word, server) = match source {
        Source::Zone => ("zone", None),
        Source::Cache => ("cache", None),
        Source::Stale => ("stale", None),
        Source::Upstream(server) => ("upstream", Some(server)),
        Source::Nobody => ("nobody", None),
    };
    (word.to_owned(), server.map(|server| server.to_string()).unwrap_or_default())
}

/// A code as the protocol's registry writes it.
pub(crate) fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        other => format!("{other:?}").to_uppercase(),
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn time(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
