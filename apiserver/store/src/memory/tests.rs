//! Tests of `memory`: what records do to the map, and what ranges return.

use bytes::Bytes;

use super::*;

fn put(key: &str, value: &'static str) -> Write {
    Write::Put { key: key.into(), value: Bytes::from_static(value.as_bytes()) }
}

fn delete(key: &str, last: Option<&'static str>) -> Write {
    Write::Delete { key: key.into(), last: last.map(|last| Bytes::from_static(last.as_bytes())) }
}

fn entry(value: &'static str, created: u64, modified: u64) -> Entry {
    let value = Bytes::from_static(value.as_bytes());
    Entry { value, created: Revision(created), modified: Revision(modified) }
}

fn after(map: &mut Map, revision: u64, writes: Vec<Write>) -> Vec<Change> {
    let record = Record { revision: Revision(revision), writes };
    apply(map, &record).into_iter().map(|event| event.change).collect()
}

#[test]
fn a_key_lives_from_its_creation_to_its_removal() {
    let mut map = Map::new();
    let first = entry("1", 1, 1);
    let change = Change::Put { entry: first.clone(), previous: None };
    assert_eq!(after(&mut map, 1, vec![put("/a", "1")]), [change]);

    let second = entry("2", 1, 2);
    let change = Change::Put { entry: second.clone(), previous: Some(first) };
    assert_eq!(after(&mut map, 2, vec![put("/a", "2")]), [change]);

    let change = Change::Delete { last: Bytes::from_static(b"2"), previous: second };
    assert_eq!(after(&mut map, 3, vec![delete("/a", None)]), [change]);
    assert!(map.is_empty());

    after(&mut map, 4, vec![put("/a", "4")]);
    assert_eq!(map.get("/a"), Some(&entry("4", 4, 4)), "a new life has a new creation");
}

#[test]
fn the_final_state_replaces_the_last_value_for_watchers() {
    let mut map = Map::new();
    after(&mut map, 1, vec![put("/a", "1")]);
    let change = Change::Delete { last: Bytes::from_static(b"gone"), previous: entry("1", 1, 1) };
    assert_eq!(after(&mut map, 2, vec![delete("/a", Some("gone"))]), [change]);
}

#[test]
fn removing_an_absent_key_is_no_event() {
    assert_eq!(after(&mut Map::new(), 1, vec![delete("/a", Some("x"))]), []);
}

#[test]
fn writes_of_one_record_follow_each_other() {
    let mut map = Map::new();
    let changes = after(&mut map, 1, vec![put("/a", "1"), delete("/a", None), put("/a", "2")]);
    assert_eq!(changes.len(), 3);
    assert_eq!(changes[2], Change::Put { entry: entry("2", 1, 1), previous: None });
}

#[test]
fn a_clone_of_the_map_does_not_see_later_records() {
    let mut map = Map::new();
    after(&mut map, 1, vec![put("/a", "1")]);
    let earlier = map.clone();
    after(&mut map, 2, vec![put("/a", "2"), put("/b", "2")]);
    assert_eq!(earlier.get("/a"), Some(&entry("1", 1, 1)));
    assert_eq!(earlier.len(), 1);
}

#[test]
fn ranges_keep_to_their_prefix_and_page_after_a_key() {
    let mut map = Map::new();
    for key in ["/a", "/pods", "/pods/a", "/pods/b", "/pods/c", "/podsx", "/q"] {
        after(&mut map, 1, vec![put(key, "")]);
    }
    let snapshot = Snapshot(Arc::new(State { revision: Revision(1), map }));
    let range = |prefix| snapshot.range(prefix).map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(range("/pods/"), ["/pods/a", "/pods/b", "/pods/c"]);
    assert_eq!(range("/pods"), ["/pods", "/pods/a", "/pods/b", "/pods/c", "/podsx"]);
    assert_eq!(range("/x"), [""; 0]);
    assert_eq!(range("").len(), 7);

    let page = |after| snapshot.range_from("/pods/", after).map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(page("/pods/a"), ["/pods/b", "/pods/c"]);
    assert_eq!(page("/pods/aa"), ["/pods/b", "/pods/c"]);
    assert_eq!(page("/pods/c"), [""; 0]);
    assert_eq!(page("/a"), ["/pods/a", "/pods/b", "/pods/c"], "a key before the prefix");
    assert_eq!(page("/q"), [""; 0], "a key behind the prefix");
}
