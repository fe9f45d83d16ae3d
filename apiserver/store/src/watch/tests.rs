//! Tests of `watch`: the ring's limits, the hand-over from past to present, slow readers.

use futures::FutureExt;

use super::*;

const LIMITS: Limits = Limits { revisions: 4, bytes: 1000 };

fn event(revision: u64, key: &str, size: usize) -> Event {
    let revision = Revision(revision);
    let entry = Entry { value: Bytes::from(vec![0; size]), created: revision, modified: revision };
    Event { revision, key: key.into(), change: Change::Put { entry, previous: None } }
}

fn hub() -> Arc<Hub> {
    Arc::new(Hub::new(History::starting_at(Revision(0), LIMITS)))
}

fn publish(hub: &Hub, revision: u64, key: &str) {
    hub.publish(Revision(revision), vec![event(revision, key, 1)], || ());
}

/// What can be taken without waiting.
fn ready(watch: &mut Watch) -> Vec<Result<u64, WatchError>> {
    let mut items = Vec::new();
    while let Some(Some(item)) = watch.next().now_or_never() {
        items.push(item.map(|event| event.revision.0));
    }
    items
}

#[test]
fn the_history_forgets_by_revisions() {
    let mut history = History::starting_at(Revision(0), LIMITS);
    for revision in 1..=6 {
        history.push(Revision(revision), [event(revision, "/a", 1), event(revision, "/b", 1)]);
    }
    assert_eq!(history.compacted(), Revision(2));
    assert_eq!(history.events.len(), 8);
    assert_eq!(history.bytes, 8);
}

#[test]
fn the_history_forgets_by_bytes_and_whole_transactions_only() {
    let mut history = History::starting_at(Revision(0), LIMITS);
    history.push(Revision(1), [event(1, "/a", 400), event(1, "/b", 400)]);
    history.push(Revision(2), [event(2, "/a", 300)]);
    assert_eq!(history.compacted(), Revision(1));
    assert_eq!(history.bytes, 300);
    history.push(Revision(3), [event(3, "/a", 2000)]);
    assert_eq!((history.compacted(), history.bytes), (Revision(3), 0), "too large to keep at all");
}

#[test]
fn a_watch_begins_only_within_the_history() {
    let hub = hub();
    for revision in 1..=6 {
        publish(&hub, revision, "/a");
    }
    let compacted = Revision(2);
    assert_eq!(hub.watch("/", Revision(1)).unwrap_err(), WatchError::Compacted { compacted });
    let (wanted, current) = (Revision(7), Revision(6));
    assert_eq!(hub.watch("/", wanted).unwrap_err(), WatchError::Future { wanted, current });
    let oks: Vec<_> = [3, 4, 5, 6].map(Ok).into();
    assert_eq!(ready(&mut hub.watch("/", Revision(2)).unwrap()), oks);
    assert_eq!(ready(&mut hub.watch("/", Revision(6)).unwrap()), []);
}

#[test]
fn past_and_present_join_without_a_seam() {
    let hub = hub();
    publish(&hub, 1, "/pods/a");
    publish(&hub, 2, "/nodes/a");
    let mut watch = hub.watch("/pods/", Revision(0)).unwrap();
    publish(&hub, 3, "/pods/b");
    publish(&hub, 4, "/nodes/b");
    assert_eq!(watch.caught_up(), None, "events wait");
    assert_eq!(ready(&mut watch), [Ok(1), Ok(3)]);
    assert_eq!(watch.caught_up(), Some(Revision(4)), "covers what is not of its prefix");
}

#[test]
fn a_reader_slower_than_the_history_ends_with_an_error_and_hurts_nobody() {
    let hub = hub();
    let mut slow = hub.watch("/", Revision(0)).unwrap();
    let mut quick = hub.watch("/", Revision(0)).unwrap();
    for revision in 1..=6 {
        publish(&hub, revision, "/a");
        assert_eq!(ready(&mut quick), [Ok(revision)]);
    }
    let compacted = Revision(2);
    let expected = [Ok(1), Ok(2), Ok(3), Ok(4), Err(WatchError::Compacted { compacted })];
    assert_eq!(ready(&mut slow), expected, "in order, without a gap, then the error");
    assert_eq!(slow.next().now_or_never(), Some(None), "and nothing more");
    assert_eq!(slow.caught_up(), None);
    assert_eq!(hub.watchers(), 1);
}

#[test]
fn closing_ends_watches_after_what_they_have() {
    let hub = hub();
    let mut watch = hub.watch("/", Revision(0)).unwrap();
    publish(&hub, 1, "/a");
    hub.close();
    assert_eq!(ready(&mut watch), [Ok(1)]);
    assert_eq!(watch.next().now_or_never(), Some(None));
    assert_eq!(hub.watch("/", Revision(0)).unwrap_err(), WatchError::Closed);
}

#[test]
fn a_dropped_watch_is_forgotten_at_once() {
    let hub = hub();
    drop(hub.watch("/", Revision(0)).unwrap());
    assert_eq!(hub.watchers(), 0);
}

#[test]
fn the_snapshot_is_shown_before_its_events() {
    let hub = hub();
    let mut watch = hub.watch("/", Revision(0)).unwrap();
    hub.publish(Revision(1), vec![event(1, "/a", 1)], || {
        assert_eq!(watch.next().now_or_never(), None, "no event before the snapshot");
    });
    assert_eq!(ready(&mut watch), [Ok(1)]);
}
