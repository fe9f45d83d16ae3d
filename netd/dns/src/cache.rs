//! What other servers said, for as long as they said it may be believed.
//!
//! Pure but for the time that is handed in. Positive answers live as long as their shortest TTL,
//! negative ones as their start of authority says (RFC 2308), both within bounds. What is over may
//! still be told when nobody answers any more, or nobody can say (RFC 8767): an old address is mostly better than none.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::message::{Reply, Wishes};

/// Answers that are kept.
const MOST: usize = 4096;
/// How long an answer may be believed at most: a day is for those who never change anything.
const LONGEST: u32 = 3600;
/// The same for "there is none" (upstream: CoreDNS' cache, `denial`).
const LONGEST_NEGATIVE: u32 = 1800;
/// An answer without a start of authority says nothing about how long there is none.
const UNSAID: u32 = 5;
/// How long an answer is told after its time, and for how long that may be believed.
const STALE: Duration = Duration::from_secs(3600);
const STALE_TTL: u32 = 30;

/// What was asked of others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The name in lower case.
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    pub(crate) wishes: Wishes,
}

/// Answers by question.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    answers: HashMap<Key, Kept>,
}

#[derive(Debug)]
struct Kept {
    reply: Reply,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// The answer to a question, with what is left of its TTLs.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Reply> {
        let kept = self.answers.get(key).filter(|kept| now < kept.until)?;
        let age = u32::try_from(now.duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        Some(with_ttl(&kept.reply, |ttl| ttl.saturating_sub(age).max(1)))
    }

    /// The answer of yesterday, for want of a better one.
    pub(crate) fn stale(&self, key: &Key, now: Instant) -> Option<Reply> {
        let kept = self.answers.get(key).filter(|kept| now < kept.until + STALE)?;
        Some(with_ttl(&kept.reply, |_| STALE_TTL))
    }

    /// Keeps an answer if it may be kept.
    pub(crate) fn put(&mut self, key: Key, reply: &Reply, now: Instant) {
        let Some(ttl) = lifetime(reply, key.kind) else { return };
        if self.answers.len() >= MOST {
            self.make_room(now);
        }
        let until = now + Duration::from_secs(ttl.into());
        self.answers.insert(key, Kept { reply: reply.clone(), since: now, until });
    }

    /// Forgets what is over; if nothing is, one in eight. A map's order is as good as chance.
    fn make_room(&mut self, now: Instant) {
        self.answers.retain(|_, kept| now < kept.until);
        if self.answers.len() >= MOST {
            let mut at = 0_usize;
            self.answers.retain(|_, _| {
                at += 1;
                !at.is_multiple_of(8)
            });
        }
    }
}

fn with_ttl(reply: &Reply, ttl: impl Fn(u32) -> u32) -> Reply {
    let mut reply = reply.clone();
    let Reply { answers, authorities, additionals, .. } = &mut reply;
    for record in answers.iter_mut().chain(authorities).chain(additionals) {
        record.ttl = ttl(record.ttl);
    }
    reply
}

/// Seconds for which an answer may be kept; none if it is none.
fn lifetime(reply: &Reply, kind: RecordType) -> Option<u32> {
    let there = |record: &Record| record.record_type() == kind || kind == RecordType::ANY;
    let shortest = reply.answers.iter().map(|record| record.ttl).min();
    match reply.code {
        ResponseCode::NoError if reply.answers.iter().any(there) => {
            shortest.map(|ttl| ttl.min(LONGEST))
        }
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let said = reply.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            });
            // The names on the way to nothing live no longer than they say.
            let ttl = said.unwrap_or(UNSAID).min(shortest.unwrap_or(u32::MAX));
            Some(ttl.min(LONGEST_NEGATIVE))
        }
        _ => None,
    }
    .filter(|ttl| *ttl > 0)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;

    fn key(name: &str) -> Key {
        Key { name: name.parse().unwrap(), kind: RecordType::A, wishes: Wishes::default() }
    }

    fn found(ttl: u32) -> Reply {
        let data = RData::A(A::new(192, 0, 2, 1));
        let record = Record::from_rdata("a.example.".parse().unwrap(), ttl, data);
        Reply { answers: vec![record], ..Reply::code(ResponseCode::NoError) }
    }

    fn none(code: ResponseCode, ttl: u32, minimum: u32) -> Reply {
        let name: Name = "example.".parse().unwrap();
        let soa = RData::SOA(SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, minimum));
        let record = Record::from_rdata(name, ttl, soa);
        Reply { authorities: vec![record], ..Reply::code(code) }
    }

    /// How long each answer is kept, in seconds.
    fn kept(reply: &Reply) -> u64 {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key("a.example."), reply, now);
        let is_kept =
            |s: &u64| cache.get(&key("a.example."), now + Duration::from_secs(*s)).is_some();
        (0..5000).take_while(is_kept).count() as u64
    }

    #[test]
    fn answers_live_as_long_as_they_say() {
        assert_eq!(kept(&found(60)), 60);
        assert_eq!(kept(&found(0)), 0);
        assert_eq!(kept(&found(86_400)), 3600);
        assert_eq!(kept(&none(ResponseCode::NXDomain, 300, 60)), 60);
        assert_eq!(kept(&none(ResponseCode::NoError, 30, 60)), 30);
        assert_eq!(kept(&none(ResponseCode::NXDomain, 86_400, 86_400)), 1800);
        assert_eq!(kept(&Reply::code(ResponseCode::NXDomain)), 5);
        assert_eq!(kept(&Reply::code(ResponseCode::ServFail)), 0);
        assert_eq!(kept(&Reply::code(ResponseCode::Refused)), 0);
    }

    #[test]
    fn the_ttl_runs_down_and_what_is_over_may_serve_in_need() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key("a.example."), &found(60), now);
        let ttl = |reply: Option<Reply>| reply.map(|reply| reply.answers[0].ttl);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(ttl(cache.get(&key("a.example."), at(40))), Some(20));
        assert_eq!(ttl(cache.get(&key("A.example."), at(40))), Some(20));
        assert_eq!(ttl(cache.get(&key("a.example."), at(60))), None);
        assert_eq!(ttl(cache.stale(&key("a.example."), at(60))), Some(30));
        assert_eq!(ttl(cache.stale(&key("a.example."), at(3660))), None);
        assert_eq!(ttl(cache.get(&key("b.example."), now)), None);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..3 * MOST {
            cache.put(key(&format!("n{number}.example.")), &found(60), now);
            assert!(cache.answers.len() <= MOST);
        }
        assert!(cache.answers.len() > MOST / 2);
        cache.put(key("late.example."), &found(60), now + Duration::from_secs(61));
        cache.make_room(now + Duration::from_secs(61));
        assert_eq!(cache.answers.len(), 1);
    }
}
