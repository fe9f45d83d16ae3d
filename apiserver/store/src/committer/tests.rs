//! Tests of the committer's decisions: what a group of transactions comes to.

use super::*;
use crate::txn::Op;
use bytes::Bytes;

fn put(key: &str) -> Op {
    Op::Put { key: key.into(), value: Bytes::from_static(b"v"), stamp: None }
}

fn create(key: &str) -> Txn {
    Txn { checks: vec![Check::Absent(key.into())], ops: vec![put(key)] }
}

#[test]
fn transactions_of_one_group_see_each_other() {
    let txns = [create("/a"), create("/a"), create("/b")];
    let group = plan(&State::default(), &txns);
    let check = Check::Absent("/a".into());
    let failed = Refusal::Failed { check, index: 0, actual: Some(Revision(1)) };
    assert_eq!(group.outcomes, [Ok(Revision(1)), Err(failed), Ok(Revision(2))]);
    let revisions: Vec<u64> = group.records.iter().map(|record| record.revision.0).collect();
    assert_eq!(revisions, [1, 2], "a failed transaction takes no revision");
    assert_eq!(group.next.revision, Revision(2));
    assert_eq!(group.next.map.len(), 2);
}

#[test]
fn what_changes_nothing_takes_no_revision() {
    let absent = Op::Delete { key: "/none".into(), last: None };
    let txns = [
        create("/a"),
        Txn { checks: vec![Check::Present("/a".into())], ops: vec![] },
        Txn { checks: vec![], ops: vec![absent.clone()] },
        Txn { checks: vec![], ops: vec![absent, put("/b")] },
    ];
    let group = plan(&State::default(), &txns);
    assert_eq!(group.outcomes, [1, 1, 1, 2].map(|revision| Ok(Revision(revision))));
    assert_eq!((group.records.len(), group.events.len()), (2, 2));
}

#[test]
fn a_refused_transaction_leaves_no_trace() {
    let check = Check::Present("/none".into());
    let txn = Txn { checks: vec![check.clone()], ops: vec![put("/a"), put("/b")] };
    let group = plan(&State::default(), &[txn]);
    assert_eq!(group.outcomes, [Err(Refusal::Failed { check, index: 0, actual: None })]);
    assert_eq!(group.next, State::default());
    assert!(group.records.is_empty() && group.events.is_empty());
}

#[test]
fn a_failed_check_is_said_in_words() {
    let error = CommitError::Failed {
        check: Check::Unchanged("/a".into(), Revision(3)),
        index: 0,
        actual: Some(Revision(5)),
    };
    let expected = "/a: expected no change since revision 3, but it was last written at 5";
    assert_eq!(error.to_string(), expected);
}
