//! Who asked for what, lately: a ring of the latest questions.
//!
//! Writing costs a short lock and one allocation; nobody is told unless somebody follows. Readers
//! take a handful at a time, so that those who write never wait for a long copy. An entry names the
//! client by its address: whose that is, is looked up when it is read.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::sync::Notify;

use crate::resolve::Source;

/// Questions that are remembered.
const MOST: usize = 2048;
/// Questions that are read under one lock.
const HANDFUL: usize = 32;

/// A question that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: SystemTime,
    pub(crate) client: IpAddr,
    /// The name as on the wire: labels after their lengths.
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: RecordType,
    pub(crate) code: ResponseCode,
    pub(crate) source: Source,
    pub(crate) answers: u16,
    /// The name that a search path was completed to.
    pub(crate) completed: Option<Arc<str>>,
    pub(crate) tcp: bool,
    pub(crate) took: Duration,
}

/// The latest entries.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    ring: Mutex<Ring>,
    followers: AtomicUsize,
    news: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    /// The number of the next entry.
    next: u64,
}

impl Journal {
    pub(crate) fn write(&self, entry: Entry) {
        {
            let mut ring = self.ring();
            if ring.entries.len() >= MOST {
                ring.entries.pop_front();
            }
            ring.entries.push_back(entry);
            ring.next += 1;
        }
        if self.followers.load(Ordering::Relaxed) > 0 {
            self.news.notify_waiters();
        }
    }

    /// The number of the next entry.
    pub(crate) fn next(&self) -> u64 {
        self.ring().next
    }

    /// A handful of the entries from number `from` on that are still there, and the number to go on
    /// with. None are left when there are none.
    pub(crate) fn since(&self, from: u64) -> (Vec<Entry>, u64) {
        let ring = self.ring();
        let oldest = ring.next - ring.entries.len() as u64;
        let first = from.clamp(oldest, ring.next);
        let skip = usize::try_from(first - oldest).expect("no more than there are entries");
        let entries: Vec<Entry> = ring.entries.iter().skip(skip).take(HANDFUL).cloned().collect();
        let next = first + entries.len() as u64;
        (entries, next)
    }

    /// Somebody who waits for news, from number `next` on.
    pub(crate) fn follow(&self, next: u64) -> Follower<'_> {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Follower { journal: self, next }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads on as entries come.
pub(crate) struct Follower<'a> {
    journal: &'a Journal,
    next: u64,
}

impl Follower<'_> {
    /// A handful of the entries that came since; waits for one if there is none.
    pub(crate) async fn read(&mut self) -> Vec<Entry> {
        loop {
            // Registered before the look, so that nothing comes between.
            let news = self.journal.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            let (entries, next) = self.journal.since(self.next);
            self.next = next;
            if !entries.is_empty() {
                return entries;
            }
            news.await;
        }
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        self.journal.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A name as it is written, from its labels on the wire.
pub(crate) fn name_of(mut labels: &[u8]) -> String {
    let mut name = String::new();
    while let Some((length, rest)) = labels.split_first() {
        let Some((label, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        if label.is_empty() {
            break;
        }
        name.extend(
            label.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }),
        );
        name.push('.');
        labels = rest;
    }
    if name.is_empty() { ".".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            at: SystemTime::UNIX_EPOCH,
            client: "10.244.0.5".parse().unwrap(),
            name: Box::from(&b"\x01a\x00"[..]),
            kind: RecordType::A,
            code: ResponseCode::NoError,
            source: Source::Zone,
            answers: 0,
            completed: None,
            tcp: false,
            took: Duration::from_micros(number),
        }
    }

    fn numbers(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.took.as_micros() as u64).collect()
    }

    /// All entries from a number on, by the handful.
    fn all(journal: &Journal, mut next: u64) -> (Vec<u64>, u64) {
        let mut all = Vec::new();
        loop {
            let (entries, after) = journal.since(next);
            assert!(entries.len() <= HANDFUL);
            if entries.is_empty() {
                return (all, after);
            }
            all.extend(numbers(&entries));
            next = after;
        }
    }

    #[test]
    fn the_oldest_goes_first_and_readers_go_on_where_they_were() {
        let journal = Journal::default();
        (0..3).for_each(|number| journal.write(entry(number)));
        assert_eq!(all(&journal, 0), (vec![0, 1, 2], 3));
        assert_eq!(journal.next(), 3);
        let end = 10 + MOST as u64;
        (3..end).for_each(|number| journal.write(entry(number)));
        let (rest, next) = all(&journal, 3);
        assert_eq!((rest, next), ((10..end).collect(), end), "seven went before they were read");
        assert_eq!(all(&journal, next), (vec![], end));
        assert_eq!(all(&journal, u64::MAX), (vec![], end), "nobody reads what is not written yet");
    }

    #[tokio::test]
    async fn a_follower_misses_nothing() {
        let journal = std::sync::Arc::new(Journal::default());
        let mut follower = journal.follow(0);
        journal.write(entry(0));
        assert_eq!(numbers(&follower.read().await), [0]);
        let writer = journal.clone();
        let written = tokio::spawn(async move { writer.write(entry(1)) });
        assert_eq!(numbers(&follower.read().await), [1]);
        written.await.unwrap();
        drop(follower);
        assert_eq!(journal.followers.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn names_are_readable_whatever_is_in_them() {
        assert_eq!(name_of(b"\x03www\x07example\x00\x00\x01"), "www.example.");
        assert_eq!(name_of(b"\x00"), ".");
        assert_eq!(name_of(b"\x02a\n\x09x"), "a?.");
    }
}
