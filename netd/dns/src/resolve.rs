//! How an answer is found: in the zone, along CNAMEs, by completing a search path, with others.
//!
//! What the zone or the cache know is told at once ([`Resolver::now`]); the rest takes a while
//! ([`Resolver::resolve`]). Each name looked for on the way is a [`Step`], for logs and traces.
//! Invariants: a chain of names has an end; a question that many ask at a time goes out once, and
//! so a server that asks us back gets no second question from us.

mod complete;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::sync::watch;

use crate::book::Book;
use crate::cache::{Cache, Key};
use crate::message::{Reply, Wishes};
use crate::upstream::{UpstreamError, Upstreams};
use crate::zone::{Lookup, Outcome, TTL};

pub(crate) use complete::completions;

/// Names in a chain, at most (upstream: CoreDNS' plugin/pkg/upstream has 8 for its own).
const LONGEST_CHAIN: usize = 8;
/// Questions that wait for others at a time.
const MOST_WAITING: usize = 1000;

/// Who knew an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The cluster's own zone.
    Zone,
    /// Another server, some time ago.
    Cache,
    /// Another server, longer ago than it may be believed: nobody answers now.
    Stale,
    /// Another server.
    Upstream(SocketAddr),
    /// Nobody.
    Nobody,
}

/// One name on the way.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The name.
    pub(crate) name: Name,
    /// Who knew.
    pub(crate) source: Source,
    /// What came of it.
    pub(crate) reply: Reply,
    /// How long it took.
    pub(crate) took: Duration,
    /// Why there is no better answer.
    pub(crate) trouble: Option<String>,
}

/// What is asked, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a Name,
    pub(crate) kind: RecordType,
    pub(crate) wishes: Wishes,
    pub(crate) client: IpAddr,
}

/// An answer, and how it came about.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) reply: Reply,
    pub(crate) steps: Vec<Step>,
    /// The name that was answered in place of the one asked for, which is not there.
    pub(crate) completed: Option<Name>,
}

impl From<Reply> for Found {
    fn from(reply: Reply) -> Self {
        Self { reply, steps: Vec::new(), completed: None }
    }
}

/// An answer that was known.
pub(crate) struct Known {
    pub(crate) reply: Reply,
    pub(crate) source: Source,
    /// Whoever asks gets the same until the zone changes.
    pub(crate) for_all: bool,
}

/// Finds answers.
pub(crate) struct Resolver {
    pub(crate) book: Arc<Book>,
    pub(crate) upstreams: Upstreams,
    cache: Mutex<Cache>,
    waiting: Mutex<HashMap<Key, watch::Receiver<Option<Heard>>>>,
}

/// What others said.
type Heard = Result<(Reply, SocketAddr), UpstreamError>;

impl Resolver {
    pub(crate) fn new(book: Arc<Book>) -> Arc<Self> {
        Arc::new(Self {
            book,
            upstreams: Upstreams::default(),
            cache: Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    /// The answer, if it takes no more than a look.
    pub(crate) fn now(&self, asked: Asked<'_>) -> Option<Known> {
        let zone = self.book.read();
        let Some(lookup) = zone.lookup(asked.name, asked.kind) else {
            drop(zone);
            let reply = self.cache().get(&key(asked), Instant::now())?;
            return Some(Known { reply, source: Source::Cache, for_all: true });
        };
        if leads_on(&lookup.answers, asked.kind).is_some() {
            return None;
        }
        let none = lookup.outcome == Outcome::NoName;
        if none && !completions(&zone, asked).is_empty() {
            return None;
        }
        Some(Known { reply: own(lookup), source: Source::Zone, for_all: !none })
    }

    /// The answer, however long it takes.
    pub(crate) async fn resolve(self: &Arc<Self>, asked: Asked<'_>) -> Found {
        let mut steps = Vec::new();
        let reply = self.follow(asked, &mut steps).await;
        let completions = match reply.code {
            ResponseCode::NXDomain => completions(&self.book.read(), asked),
            _ => Vec::new(),
        };
        for name in completions {
            let other = self.follow(Asked { name: &name, ..asked }, &mut steps).await;
            if other.code != ResponseCode::NXDomain {
                let reply = alias(asked.name, &name, other);
                return Found { reply, steps, completed: Some(name) };
            }
        }
        Found { reply, steps, completed: None }
    }

    /// Looks for a name, and for those it leads on to.
    async fn follow(self: &Arc<Self>, asked: Asked<'_>, steps: &mut Vec<Step>) -> Reply {
        let mut chain: Vec<Record> = Vec::new();
        let mut name = asked.name.clone();
        for _ in 0..LONGEST_CHAIN {
            let step = self.step(Asked { name: &name, ..asked }).await;
            let mut reply = step.reply.clone();
            let next = match step.source {
                // Others follow their names themselves.
                Source::Zone => leads_on(&reply.answers, asked.kind),
                _ => None,
            };
            steps.push(step);
            let known = chain.len();
            chain.append(&mut reply.answers);
            let Some(next) = next else {
                reply.authoritative |= known > 0;
                return Reply { answers: chain, ..reply };
            };
            if chain.iter().any(|record| record.name == next) {
                break;
            }
            name = next;
        }
        if let Some(last) = steps.last_mut() {
            last.trouble = Some("the chain of names has no end".to_owned());
        }
        Reply::code(ResponseCode::ServFail)
    }

    /// Looks for one name.
    async fn step(self: &Arc<Self>, asked: Asked<'_>) -> Step {
        let began = Instant::now();
        let (reply, source, trouble) = match self.here(asked) {
            Some((reply, source)) => (reply, source, None),
            None => self.others(&key(asked)).await,
        };
        Step { name: asked.name.clone(), source, reply, took: began.elapsed(), trouble }
    }

    fn here(&self, asked: Asked<'_>) -> Option<(Reply, Source)> {
        if let Some(lookup) = self.book.read().lookup(asked.name, asked.kind) {
            return Some((own(lookup), Source::Zone));
        }
        let kept = self.cache().get(&key(asked), Instant::now());
        kept.map(|reply| (reply, Source::Cache))
    }

    async fn others(self: &Arc<Self>, key: &Key) -> (Reply, Source, Option<String>) {
        let error = match self.ask(key).await {
            Some(Ok((reply, server))) => return (reply, Source::Upstream(server), None),
            Some(Err(error)) => error.to_string(),
            None => "too many questions wait for other servers".to_owned(),
        };
        match self.cache().stale(key, Instant::now()) {
            Some(reply) => (reply, Source::Stale, Some(error)),
            None => (Reply::code(ResponseCode::ServFail), Source::Nobody, Some(error)),
        }
    }

    /// Asks other servers, or waits for the answer to the same question; none if too many wait.
    async fn ask(self: &Arc<Self>, key: &Key) -> Option<Heard> {
        let mut answer = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match waiting.get(key) {
                Some(answer) => answer.clone(),
                None if waiting.len() >= MOST_WAITING => return None,
                None => {
                    let (tell, answer) = watch::channel(None);
                    waiting.insert(key.clone(), answer.clone());
                    tokio::spawn(self.clone().fetch(key.clone(), tell));
                    answer
                }
            }
        };
        let heard = answer.wait_for(Option::is_some).await.ok()?;
        heard.clone()
    }

    /// Whoever asked may go away: the answer is fetched, kept and told all the same.
    async fn fetch(self: Arc<Self>, key: Key, tell: watch::Sender<Option<Heard>>) {
        let heard = self.upstreams.ask(&key).await;
        if let Ok((reply, _)) = &heard {
            self.cache().put(key.clone(), reply, Instant::now());
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        tell.send_replace(Some(heard));
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(asked: Asked<'_>) -> Key {
    Key { name: asked.name.to_lowercase(), kind: asked.kind, wishes: asked.wishes }
}

fn own(lookup: Lookup) -> Reply {
    let code = match lookup.outcome {
        Outcome::NoName => ResponseCode::NXDomain,
        Outcome::NoData | Outcome::Records => ResponseCode::NoError,
    };
    Reply {
        authoritative: true,
        answers: lookup.answers,
        authorities: lookup.soa.into_iter().collect(),
        additionals: lookup.additionals,
        ..Reply::code(code)
    }
}

/// The name that an answer ends in without having been asked for.
fn leads_on(answers: &[Record], kind: RecordType) -> Option<Name> {
    match answers.last().map(|record| &record.data) {
        Some(RData::CNAME(CNAME(target)))
            if !matches!(kind, RecordType::CNAME | RecordType::ANY) =>
        {
            Some(target.clone())
        }
        _ => None,
    }
}

/// The answer to a name that was meant, as an answer to the name that was asked.
fn alias(asked: &Name, meant: &Name, mut reply: Reply) -> Reply {
    if reply.code == ResponseCode::NoError {
        let alias = RData::CNAME(CNAME(meant.clone()));
        reply.answers.insert(0, Record::from_rdata(asked.clone(), TTL, alias));
        reply.authoritative = true;
    }
    reply
}
