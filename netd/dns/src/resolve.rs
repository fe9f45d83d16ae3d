//! How an answer is found: in the zone, along CNAMEs, by completing a search path, with others.
//!
//! The way to an answer is walked among what is known: the zone, the cache, and what was learned
//! since. Where that is enough, the answer is told at once ([`Resolver::now`]); where it is not,
//! others are asked for what is missing, and the way is walked again ([`Resolver::resolve`]). Each
//! name looked for on the way is a [`Step`], for logs and traces. Invariants: a chain of names has
//! an end; a question that many ask at a time goes out once, and so a server that asks us back gets
//! no second question from us.

mod complete;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::sync::watch;

use crate::book::Book;
use crate::cache::{Cache, Key};
use crate::message::{Reply, Wishes};
use crate::pods::Surroundings;
use crate::upstream::{UpstreamError, Upstreams};
use crate::zone::{Lookup, Outcome, TTL, Zone};

pub(crate) use complete::completions;

/// Names in a chain, at most (upstream: CoreDNS' plugin/pkg/upstream has 8 for its own).
const LONGEST_CHAIN: usize = 8;
/// Questions to others for one answer, at most: more than a search path has domains.
const MOST_QUESTIONS: usize = 40;
/// Questions that wait for others at a time.
const MOST_WAITING: usize = 1000;

/// Who knew an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The cluster's own zone.
    Zone,
    /// Another server, some time ago.
    Cache,
    /// Another server, longer ago than it may be believed: nobody knows now.
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

impl Found {
    /// Who knew in the end.
    pub(crate) fn source(&self) -> Source {
        self.steps.last().map_or(Source::Nobody, |step| step.source)
    }
}

/// An answer that was known.
pub(crate) struct Known {
    pub(crate) reply: Reply,
    pub(crate) source: Source,
    /// The name that was answered in place of the one asked for, which is not there.
    pub(crate) completed: Option<Name>,
    /// Whoever asks gets the same; otherwise it may depend on the client's search path.
    pub(crate) for_all: bool,
    /// It stays as it is until the zone changes.
    pub(crate) lasting: bool,
}

/// What others said while an answer was being found.
struct Learned {
    key: Key,
    step: Step,
}

/// Finds answers.
pub(crate) struct Resolver {
    pub(crate) book: Arc<Book>,
    pub(crate) upstreams: Upstreams,
    surroundings: RwLock<Surroundings>,
    cache: Mutex<Cache>,
    waiting: Mutex<HashMap<Key, watch::Receiver<Option<Heard>>>>,
}

/// What others said.
type Heard = Result<(Reply, SocketAddr), UpstreamError>;

impl Resolver {
    pub(crate) fn new(book: Arc<Book>) -> Arc<Self> {
        let domain = book.read().apex().to_string().trim_end_matches('.').to_owned();
        Arc::new(Self {
            book,
            upstreams: Upstreams::default(),
            surroundings: RwLock::new(Surroundings { domain, ..Surroundings::default() }),
            cache: Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    /// What Pods' search paths are made of.
    pub(crate) fn surroundings(&self) -> RwLockReadGuard<'_, Surroundings> {
        self.surroundings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes that. Answers that were made by the old paths are forgotten.
    pub(crate) fn surround(&self, change: impl FnOnce(&mut Surroundings)) {
        let changed = {
            let mut now = self.surroundings.write().unwrap_or_else(PoisonError::into_inner);
            let before = now.clone();
            change(&mut now);
            *now != before
        };
        if changed {
            self.book.change(|_| true);
        }
    }

    /// The answer, if it takes no more than a look.
    pub(crate) fn now(&self, asked: Asked<'_>) -> Option<Known> {
        let lookup = self.book.read().lookup(asked.name, asked.kind);
        // Most questions end here.
        if let Some(lookup) = lookup
            && lookup.outcome != Outcome::NoName
            && leads_on(&lookup.answers, asked.kind).is_none()
        {
            let (reply, source) = (own(lookup), Source::Zone);
            return Some(Known { reply, source, completed: None, for_all: true, lasting: true });
        }
        let found = self.walk(asked, &[]).ok()?;
        let is_there = found.completed.is_none() && found.reply.code != ResponseCode::NXDomain;
        Some(Known {
            source: found.source(),
            for_all: is_there,
            lasting: found.steps.iter().all(|step| step.source == Source::Zone),
            reply: found.reply,
            completed: found.completed,
        })
    }

    /// The answer, however long it takes.
    pub(crate) async fn resolve(self: &Arc<Self>, asked: Asked<'_>) -> Found {
        let mut learned = Vec::new();
        while learned.len() < MOST_QUESTIONS {
            let key = match self.walk(asked, &learned) {
                Ok(found) => return found,
                Err(key) => key,
            };
            let began = Instant::now();
            let (reply, source, trouble) = self.others(&key).await;
            let name = key.name.clone();
            let step = Step { name, source, reply, took: began.elapsed(), trouble };
            learned.push(Learned { key, step });
        }
        Found::from(Reply::code(ResponseCode::ServFail))
    }

    /// Looks for an answer among what is known; else gives what others must be asked first.
    fn walk(&self, asked: Asked<'_>, learned: &[Learned]) -> Result<Found, Key> {
        // One state of the zone for the whole way.
        let zone = self.book.read();
        let mut steps = Vec::new();
        let reply = self.follow(&zone, asked, learned, &mut steps)?;
        if reply.code == ResponseCode::NXDomain {
            for name in completions(&zone, &self.surroundings(), asked) {
                let other = Asked { name: &name, ..asked };
                let other = self.follow(&zone, other, learned, &mut steps)?;
                if other.code != ResponseCode::NXDomain {
                    let reply = alias(asked.name, &name, other);
                    return Ok(Found { reply, steps, completed: Some(name) });
                }
            }
        }
        Ok(Found { reply, steps, completed: None })
    }

    /// Looks for a name, and for those it leads on to.
    fn follow(
        &self,
        zone: &Zone,
        asked: Asked<'_>,
        learned: &[Learned],
        steps: &mut Vec<Step>,
    ) -> Result<Reply, Key> {
        let mut chain: Vec<Record> = Vec::new();
        let mut name = asked.name.clone();
        let mut is_ours = false;
        for at in 0..LONGEST_CHAIN {
            let step = self.step(zone, Asked { name: &name, ..asked }, learned)?;
            let mut reply = step.reply.clone();
            let from_zone = step.source == Source::Zone;
            // Others follow their names themselves, but for those that only we know.
            let next = leads_on(&reply.answers, asked.kind)
                .filter(|next| from_zone || zone.lookup(next, asked.kind).is_some());
            // An answer is from whom its first record is from (RFC 1035, section 4.1.1, AA).
            is_ours |= from_zone && at == 0;
            steps.push(step);
            chain.append(&mut reply.answers);
            let Some(next) = next else {
                let checked = reply.checked && steps_are_foreign(steps, at + 1);
                return Ok(Reply { answers: chain, authoritative: is_ours, checked, ..reply });
            };
            if chain.iter().any(|record| record.name == next) {
                break;
            }
            name = next;
        }
        if let Some(last) = steps.last_mut() {
            last.trouble = Some("the chain of names has no end".to_owned());
        }
        Ok(Reply::code(ResponseCode::ServFail))
    }

    /// Looks for one name.
    fn step(&self, zone: &Zone, asked: Asked<'_>, learned: &[Learned]) -> Result<Step, Key> {
        let began = Instant::now();
        let step = |reply, source| {
            let name = asked.name.clone();
            Step { name, source, reply, took: began.elapsed(), trouble: None }
        };
        if let Some(lookup) = zone.lookup(asked.name, asked.kind) {
            return Ok(step(own(lookup), Source::Zone));
        }
        let key = key(asked);
        if let Some(known) = learned.iter().find(|learned| learned.key == key) {
            return Ok(Step { name: asked.name.clone(), ..known.step.clone() });
        }
        let kept = self.cache().get(&key, began);
        kept.map(|reply| step(reply, Source::Cache)).ok_or(key)
    }

    /// What others say, or said when they could last be asked.
    async fn others(self: &Arc<Self>, key: &Key) -> (Reply, Source, Option<String>) {
        let fail = || Reply::code(ResponseCode::ServFail);
        let (failure, source, error) = match self.ask(key).await {
            // Who answers so could not find it out, just as one that is silent (RFC 8767).
            Some(Ok((reply, server))) if reply.code == ResponseCode::ServFail => {
                let error = format!("{server} answers {}", reply.code);
                (reply, Source::Upstream(server), error)
            }
            Some(Ok((reply, server))) => return (reply, Source::Upstream(server), None),
            Some(Err(error)) => (fail(), Source::Nobody, error.to_string()),
            None => {
                (fail(), Source::Nobody, "too many questions wait for other servers".to_owned())
            }
        };
        match self.cache().stale(key, Instant::now()) {
            Some(reply) => (reply, Source::Stale, Some(error)),
            None => (failure, source, Some(error)),
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

/// Nothing of the cluster is signed: of an answer with a record of ours not all was checked.
fn steps_are_foreign(steps: &[Step], last: usize) -> bool {
    steps.iter().rev().take(last).all(|step| step.source != Source::Zone)
}

/// The answer to a name that was meant, as an answer to the name that was asked.
fn alias(asked: &Name, meant: &Name, mut reply: Reply) -> Reply {
    if reply.code == ResponseCode::NoError {
        let alias = RData::CNAME(CNAME(meant.clone()));
        reply.answers.insert(0, Record::from_rdata(asked.clone(), TTL, alias));
        reply.authoritative = true;
        reply.checked = false;
    }
    reply
}
