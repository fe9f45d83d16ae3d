//! What a watcher sees, and with what it begins.

use super::*;

#[test]
fn objects_are_added_modified_and_deleted_as_they_match() {
    assert_eq!(Kind::of(false, true), Some(Kind::Added));
    assert_eq!(Kind::of(true, true), Some(Kind::Modified));
    assert_eq!(Kind::of(true, false), Some(Kind::Deleted));
    assert_eq!(Kind::of(false, false), None);
}

#[test]
fn a_watch_begins_as_its_options_say() {
    let options = |version, initial| ListOptions {
        resource_version: version,
        send_initial_events: initial,
        ..ListOptions::default()
    };
    let objects = |end_mark| Initial::Objects { end_mark };
    let cases = [
        (None, None, objects(false)),
        (Some(0), None, objects(false)),
        (Some(7), None, Initial::Nothing),
        (Some(7), Some(false), Initial::Nothing),
        (Some(7), Some(true), objects(true)),
        (None, Some(true), objects(true)),
    ];
    for (version, initial, expected) in cases {
        assert_eq!(Initial::of(&options(version, initial)), expected, "{version:?} {initial:?}");
    }
}

#[test]
fn lines_are_whole_json_objects() {
    let text = line("ADDED", br#"{"a":1}"#);
    assert_eq!(&text[..], b"{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n");
}
