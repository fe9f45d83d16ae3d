//! What the API server relies on, whatever the store is made of: every test here is written against
//! [`Storage`] alone, so that another implementation is tested by adding a line at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use store::{
    Change, Check, CommitError, Config, Entry, Event, Op, Revision, Snapshot, Store, Txn,
    WatchError,
};
use tempfile::TempDir;

use crate::bed::{self, create, delete, put, put_op, replace, within};

/// A store, as the API server sees it.
pub(crate) trait Storage: Clone + Send + Sync + 'static {
    /// What keeps its data, for as long as the test runs.
    type Home: Send;
    type Watch: Stream<Item = Result<Event, WatchError>> + Unpin + Send;

    /// A new, empty store that keeps so many revisions of history.
    fn new(history: usize) -> impl Future<Output = (Self::Home, Self)> + Send;
    fn commit(&self, txn: Txn) -> impl Future<Output = Result<Revision, CommitError>> + Send;
    fn snapshot(&self) -> Snapshot;
    fn watch(&self, prefix: &str, after: Revision) -> Result<Self::Watch, WatchError>;
}

impl Storage for Store {
    type Home = TempDir;
    type Watch = store::Watch;

    async fn new(history: usize) -> (TempDir, Store) {
        let home = bed::folder();
        let config = Config { dir: home.path().to_owned(), history };
        let store = Store::open_with(config, bed::without_sled()).await.expect("it opens");
        (home, store)
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        Store::commit(self, txn).await
    }

    fn snapshot(&self) -> Snapshot {
        Store::snapshot(self)
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<store::Watch, WatchError> {
        Store::watch(self, prefix, after)
    }
}

async fn ok<S: Storage>(store: &S, txn: Txn) -> Revision {
    within("commit", store.commit(txn)).await.expect("it commits")
}

/// The next `count` events.
async fn take<W>(watch: &mut W, count: usize) -> Vec<Event>
where
    W: Stream<Item = Result<Event, WatchError>> + Unpin,
{
    let mut events = Vec::new();
    while events.len() < count {
        let event = within("an event", watch.next()).await.expect("the watch goes on");
        events.push(event.expect("no error"));
    }
    events
}

fn keys(snapshot: &Snapshot, prefix: &str) -> Vec<String> {
    snapshot.range(prefix).map(|(key, _)| key.to_owned()).collect()
}

fn contents(snapshot: &Snapshot) -> BTreeMap<String, Entry> {
    snapshot.range("").map(|(key, entry)| (key.to_owned(), entry.clone())).collect()
}

async fn revisions_count_transactions<S: Storage>() {
    let (_home, store) = S::new(100).await;
    assert_eq!(store.snapshot().revision(), Revision(0));
    assert_eq!(ok(&store, put("/a", "1")).await, Revision(1));
    assert_eq!(ok(&store, put("/a", "2")).await, Revision(2));
    let ops = vec![put_op("/b", "1"), put_op("/c", "1")];
    assert_eq!(ok(&store, Txn { checks: vec![], ops }).await, Revision(3), "one for all writes");
    assert_eq!(ok(&store, delete("/none")).await, Revision(3), "none for no change");
    assert_eq!(ok(&store, delete("/a")).await, Revision(4));
    assert_eq!(store.snapshot().revision(), Revision(4));
    assert_eq!(keys(&store.snapshot(), ""), ["/b", "/c"]);
}

async fn an_acknowledged_write_is_visible_with_its_revisions<S: Storage>() {
    let (_home, store) = S::new(100).await;
    let created = ok(&store, put("/a", "1")).await;
    let before = store.snapshot();
    let op = Op::Put { key: "/a".into(), value: Bytes::from_static(b"[]"), stamp: Some(1) };
    let modified = ok(&store, Txn { checks: vec![], ops: vec![op] }).await;
    let value = Bytes::from(format!("[{modified}]"));
    assert_eq!(store.snapshot().get("/a"), Some(&Entry { value, created, modified }));
    let value = Bytes::from_static(b"1");
    let old = Entry { value, created, modified: created };
    assert_eq!(before.get("/a"), Some(&old), "a snapshot does not move");
}

async fn a_failed_check_writes_nothing_and_says_why<S: Storage>() {
    let (_home, store) = S::new(100).await;
    let first = ok(&store, put("/a", "1")).await;
    let second = ok(&store, put("/a", "2")).await;
    let state = contents(&store.snapshot());
    let cases = [
        (Check::Absent("/a".into()), Some(second)),
        (Check::Unchanged("/a".into(), first), Some(second)),
        (Check::Unchanged("/none".into(), first), None),
        (Check::Present("/none".into()), None),
    ];
    for (check, found) in cases {
        let checks = vec![Check::Present("/a".into()), check.clone()];
        let ops = vec![put_op("/a", "x"), put_op("/b", "x")];
        match store.commit(Txn { checks, ops }).await {
            Err(CommitError::Failed { check: failed, index: 1, actual }) => {
                assert_eq!((failed, actual), (check, found));
            }
            other => panic!("{check:?}: {other:?}"),
        }
    }
    assert_eq!(contents(&store.snapshot()), state);
    assert_eq!(store.snapshot().revision(), second);
    ok(&store, replace("/a", second, "3")).await;
}

async fn one_of_many_swaps_wins<S: Storage>() {
    let (_home, store) = S::new(10_000).await;
    ok(&store, put("/counter", "0")).await;
    let increments = (0..50).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let entry = store.snapshot().get("/counter").cloned().expect("it is there");
                let number: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                let txn = replace("/counter", entry.modified, (number + 1).to_string());
                match store.commit(txn).await {
                    Ok(_) => return,
                    Err(CommitError::Failed { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for increment in increments.collect::<Vec<_>>() {
        within("an increment", increment).await.unwrap();
    }
    assert_eq!(store.snapshot().get("/counter").unwrap().value, "50");
}

/// How ClusterIPs are given out: look for a free one, claim it in the object's own transaction.
async fn a_hundred_parallel_allocators_get_a_hundred_addresses<S: Storage>() {
    let (_home, store) = S::new(10_000).await;
    let allocators = (0..100).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let object = format!("/services/{number}");
            loop {
                let snapshot = store.snapshot();
                let claim = (1..=100)
                    .map(|address| format!("/addresses/{address:03}"))
                    .find(|claim| snapshot.get(claim).is_none())
                    .expect("there is one for everybody");
                let checks = vec![Check::Absent(object.clone()), Check::Absent(claim.clone())];
                let ops = vec![put_op(&object, claim.clone()), put_op(&claim, object.clone())];
                match store.commit(Txn { checks, ops }).await {
                    Ok(_) => return claim,
                    Err(CommitError::Failed { index: 1, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    let mut claims = BTreeSet::new();
    for allocator in allocators.collect::<Vec<_>>() {
        let claim = within("an allocation", allocator).await.unwrap();
        assert!(claims.insert(claim.clone()), "{claim} was given out twice");
    }
    let snapshot = store.snapshot();
    for (key, entry) in snapshot.range("/services/") {
        let claim = std::str::from_utf8(&entry.value).unwrap();
        assert_eq!(snapshot.get(claim).unwrap().value, key, "both sides agree");
    }
    assert_eq!(keys(&snapshot, "/services/").len(), 100);
}

async fn the_writes_of_a_transaction_are_seen_together<S: Storage>() {
    let (_home, store) = S::new(10_000).await;
    let mut watch = store.watch("", Revision(0)).unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..200 {
                let ops =
                    vec![put_op("/left", number.to_string()), put_op("/right", number.to_string())];
                ok(&store, Txn { checks: vec![], ops }).await;
            }
        }
    });
    while !writer.is_finished() {
        let snapshot = store.snapshot();
        let (left, right) = (snapshot.get("/left"), snapshot.get("/right"));
        assert_eq!(left, right);
        tokio::task::yield_now().await;
    }
    within("the writer", writer).await.unwrap();
    for pair in take(&mut watch, 400).await.chunks(2) {
        assert_eq!(pair[0].revision, pair[1].revision);
        assert_eq!((&*pair[0].key, &*pair[1].key), ("/left", "/right"), "in the writes' order");
    }
}

async fn events_tell_what_was_and_what_is<S: Storage>() {
    let (_home, store) = S::new(100).await;
    ok(&store, put("/a", "1")).await;
    ok(&store, put("/a", "2")).await;
    let last = Some((Bytes::from_static(b"gone at "), Some(8)));
    let ops = vec![Op::Delete { key: "/a".into(), last }];
    ok(&store, Txn { checks: vec![], ops }).await;
    let entry = |value: &'static str, modified| Entry {
        value: Bytes::from_static(value.as_bytes()),
        created: Revision(1),
        modified: Revision(modified),
    };
    let (first, second) = (entry("1", 1), entry("2", 2));
    let changes = [
        Change::Put { entry: first.clone(), previous: None },
        Change::Put { entry: second.clone(), previous: Some(first) },
        Change::Delete { last: Bytes::from_static(b"gone at 3"), previous: second },
    ];
    let events = take(&mut store.watch("/", Revision(0)).unwrap(), 3).await;
    for ((event, change), revision) in events.into_iter().zip(changes).zip(1..) {
        let key = "/a".into();
        assert_eq!(event, Event { revision: Revision(revision), key, change });
    }
}

async fn a_watch_keeps_to_its_prefix<S: Storage>() {
    let (_home, store) = S::new(100).await;
    let mut present = store.watch("/pods/", Revision(0)).unwrap();
    for key in ["/pods/a", "/podsx", "/pods", "/nodes/a", "/pods/b/c"] {
        ok(&store, put(key, "")).await;
    }
    let mut past = store.watch("/pods/", Revision(0)).unwrap();
    for watch in [&mut present, &mut past] {
        let events = take(watch, 2).await;
        assert_eq!([&*events[0].key, &*events[1].key], ["/pods/a", "/pods/b/c"]);
    }
}

/// Everybody who watches from anywhere sees the same history, whole and once.
async fn concurrent_writers_leave_no_gap_and_no_duplicate<S: Storage>() {
    const WRITERS: u64 = 8;
    const WRITES: u64 = 100;
    let (_home, store) = S::new(10_000).await;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..WRITES {
                ok(&store, put(&format!("/{writer}/{}", number % 10), number.to_string())).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut followers = Vec::new();
    while followers.len() < 50 {
        // A list and a watch from its revision, as every informer does it.
        let snapshot = store.snapshot();
        let mut watch = store.watch("", snapshot.revision()).unwrap();
        let count = WRITERS * WRITES - snapshot.revision().0;
        followers.push(tokio::spawn(async move {
            let mut state = contents(&snapshot);
            let mut expected = snapshot.revision();
            for event in take(&mut watch, count as usize).await {
                expected = Revision(expected.0 + 1);
                assert_eq!(event.revision, expected);
                if let Change::Put { entry, previous } = event.change {
                    assert_eq!(state.insert(event.key.to_string(), entry), previous);
                }
            }
            state
        }));
        tokio::task::yield_now().await;
    }
    for writer in writers {
        within("a writer", writer).await.unwrap();
    }
    let truth = contents(&store.snapshot());
    for follower in followers {
        assert_eq!(within("a follower", follower).await.unwrap(), truth);
    }
}

async fn an_event_is_in_the_snapshot_when_it_is_seen<S: Storage>() {
    let (_home, store) = S::new(10_000).await;
    let mut watch = store.watch("", Revision(0)).unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..200 {
                ok(&store, put("/a", number.to_string())).await;
            }
        }
    });
    for event in take(&mut watch, 200).await {
        assert!(store.snapshot().revision() >= event.revision);
    }
    within("the writer", writer).await.unwrap();
}

async fn a_compacted_revision_is_refused<S: Storage>() {
    let (_home, store) = S::new(10).await;
    for number in 0..30 {
        ok(&store, put("/a", number.to_string())).await;
    }
    let error = store.watch("/", Revision(19)).err();
    assert_eq!(error, Some(WatchError::Compacted { compacted: Revision(20) }));
    let events = take(&mut store.watch("/", Revision(20)).unwrap(), 10).await;
    assert_eq!((events[0].revision, events[9].revision), (Revision(21), Revision(30)));
    let (wanted, current) = (Revision(31), Revision(30));
    assert_eq!(store.watch("/", wanted).err(), Some(WatchError::Future { wanted, current }));
}

async fn a_watch_that_nobody_reads_stops_nobody<S: Storage>() {
    let (_home, store) = S::new(10).await;
    let mut idle = store.watch("/", Revision(0)).unwrap();
    for number in 0..50 {
        ok(&store, put("/a", number.to_string())).await;
    }
    let mut seen = Revision(0);
    loop {
        match within("an item", idle.next()).await {
            Some(Ok(event)) => {
                assert_eq!(event.revision, Revision(seen.0 + 1), "no gap up to the error");
                seen = event.revision;
            }
            Some(Err(error)) => {
                assert!(matches!(error, WatchError::Compacted { .. }), "{error:?}");
                break;
            }
            None => panic!("it ended without an error after {seen}"),
        }
    }
    assert!(within("the end", idle.next()).await.is_none());
}

async fn creation_happens_once<S: Storage>() {
    let (_home, store) = S::new(100).await;
    let creations = (0..20).map(|number: u32| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(create("/a", number.to_string())).await.is_ok() })
    });
    let mut winners = 0;
    for creation in creations.collect::<Vec<_>>() {
        winners += usize::from(within("a creation", creation).await.unwrap());
    }
    assert_eq!(winners, 1);
    assert_eq!(store.snapshot().revision(), Revision(1));
}

/// One line per implementation and test.
macro_rules! conformance {
    ($module:ident: $storage:ty; $($test:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test::<$storage>().await;
                }
            )*
        }
    };
}

conformance! { log_and_sled: store::Store;
    revisions_count_transactions
    an_acknowledged_write_is_visible_with_its_revisions
    a_failed_check_writes_nothing_and_says_why
    one_of_many_swaps_wins
    a_hundred_parallel_allocators_get_a_hundred_addresses
    the_writes_of_a_transaction_are_seen_together
    events_tell_what_was_and_what_is
    a_watch_keeps_to_its_prefix
    concurrent_writers_leave_no_gap_and_no_duplicate
    an_event_is_in_the_snapshot_when_it_is_seen
    a_compacted_revision_is_refused
    a_watch_that_nobody_reads_stops_nobody
    creation_happens_once
}
