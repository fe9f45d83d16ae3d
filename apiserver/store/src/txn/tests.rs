//! Tests of `txn`: checks and stamps, without any store.

use super::*;

fn map_with(key: &str, modified: u64) -> Map {
    let entry = Entry { value: Bytes::new(), created: Revision(1), modified: Revision(modified) };
    Map::unit(Arc::from(key), entry)
}

fn put(value: &'static str, stamp: Option<usize>) -> Txn {
    let op = Op::Put { key: "/a".into(), value: Bytes::from_static(value.as_bytes()), stamp };
    Txn { checks: vec![], ops: vec![op] }
}

#[test]
fn each_check_holds_exactly_when_it_says() {
    let map = map_with("/a", 7);
    let cases = [
        (Check::Absent("/a".into()), Some(Some(Revision(7)))),
        (Check::Absent("/b".into()), None),
        (Check::Present("/a".into()), None),
        (Check::Present("/b".into()), Some(None)),
        (Check::Unchanged("/a".into(), Revision(7)), None),
        (Check::Unchanged("/a".into(), Revision(1)), Some(Some(Revision(7)))),
        (Check::Unchanged("/b".into(), Revision(7)), Some(None)),
        (Check::Unchanged("/b".into(), Revision(0)), Some(None)),
    ];
    for (check, failure) in cases {
        let txn = Txn { checks: vec![check.clone()], ops: vec![] };
        let expected = failure.map(|actual| Refusal::Failed { check, index: 0, actual });
        assert_eq!(evaluate(&map, &txn, Revision(8)).err(), expected);
    }
}

#[test]
fn the_first_failing_check_is_named() {
    let map = map_with("/a", 7);
    let checks =
        vec![Check::Present("/a".into()), Check::Absent("/a".into()), Check::Present("/b".into())];
    let refusal = evaluate(&map, &Txn { checks, ops: vec![] }, Revision(8)).unwrap_err();
    let check = Check::Absent("/a".into());
    assert_eq!(refusal, Refusal::Failed { check, index: 1, actual: Some(Revision(7)) });
}

#[test]
fn a_stamp_is_inserted_where_it_is_wanted() {
    for (value, stamp, expected) in [
        (r#"{"resourceVersion":""}"#, Some(20), r#"{"resourceVersion":"42"}"#),
        ("ab", Some(0), "42ab"),
        ("ab", Some(2), "ab42"),
        ("ab", None, "ab"),
        ("", Some(0), "42"),
    ] {
        let record = evaluate(&Map::new(), &put(value, stamp), Revision(42)).unwrap();
        let write = Write::Put { key: "/a".into(), value: Bytes::from(expected) };
        assert_eq!(record.writes, [write], "{value} {stamp:?}");
    }
}

#[test]
fn the_final_state_of_a_deletion_is_stamped_too() {
    let last = Some((Bytes::from_static(b"v="), Some(2)));
    let txn = Txn { checks: vec![], ops: vec![Op::Delete { key: "/a".into(), last }] };
    let record = evaluate(&Map::new(), &txn, Revision(9)).unwrap();
    let last = Some(Bytes::from_static(b"v=9"));
    assert_eq!(record.writes, [Write::Delete { key: "/a".into(), last }]);
}

#[test]
fn a_stamp_outside_the_value_is_refused() {
    let refusal = evaluate(&Map::new(), &put("ab", Some(3)), Revision(1)).unwrap_err();
    assert_eq!(refusal, Refusal::BadStamp { key: "/a".into(), offset: 3, len: 2 });
}

#[test]
fn a_transaction_too_large_for_a_frame_is_refused() {
    let value = Bytes::from(vec![0; MAX_TXN_BYTES]);
    let ops = vec![Op::Put { key: "/a".into(), value, stamp: None }];
    let refusal = evaluate(&Map::new(), &Txn { checks: vec![], ops }, Revision(1)).unwrap_err();
    assert_eq!(refusal, Refusal::TooLarge { bytes: MAX_TXN_BYTES + 2 });
}

#[test]
fn an_unstamped_value_does_not_share_the_callers_buffer() {
    let body = Bytes::from(vec![1; 1000]);
    let op = Op::Put { key: "/a".into(), value: body.slice(10..20), stamp: None };
    let record =
        evaluate(&Map::new(), &Txn { checks: vec![], ops: vec![op] }, Revision(1)).unwrap();
    let [Write::Put { value, .. }] = &record.writes[..] else { panic!("{record:?}") };
    assert!(!body.as_ptr_range().contains(&value.as_ptr()));
}
