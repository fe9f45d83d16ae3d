//! Random transactions, with the store closed and opened again in between, against a plain map.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;
use store::{Change, Check, CommitError, Entry, Op, Revision, Store, Tuning, Txn};

use crate::bed;

/// What the store should be.
#[derive(Default)]
struct Model {
    revision: u64,
    map: BTreeMap<String, Entry>,
    /// The state after each revision.
    history: Vec<BTreeMap<String, Entry>>,
}

impl Model {
    /// The index of the first check that does not hold, or the revision.
    fn commit(&mut self, txn: &Txn) -> Result<Revision, usize> {
        for (index, check) in txn.checks.iter().enumerate() {
            let actual = self.map.get(check.key()).map(|entry| entry.modified);
            let holds = match check {
                Check::Absent(_) => actual.is_none(),
                Check::Present(_) => actual.is_some(),
                Check::Unchanged(_, since) => actual == Some(*since),
            };
            if !holds {
                return Err(index);
            }
        }
        let revision = Revision(self.revision + 1);
        let mut changed = false;
        for op in &txn.ops {
            match op {
                Op::Put { key, value, stamp } => {
                    let mut value = String::from_utf8(value.to_vec()).unwrap();
                    if let Some(offset) = stamp {
                        value.insert_str(*offset, &revision.to_string());
                    }
                    let created = self.map.get(key).map_or(revision, |entry| entry.created);
                    let value = Bytes::from(value);
                    self.map.insert(key.clone(), Entry { value, created, modified: revision });
                    changed = true;
                }
                Op::Delete { key, .. } => changed |= self.map.remove(key).is_some(),
            }
        }
        if changed {
            self.revision += 1;
            self.history.push(self.map.clone());
        }
        Ok(Revision(self.revision))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Txn),
    Reopen,
}

fn key() -> impl Strategy<Value = String> {
    (0..8u8).prop_map(|number| format!("/{}/{number}", number % 2))
}

fn check() -> impl Strategy<Value = Check> {
    prop_oneof![
        key().prop_map(Check::Absent),
        key().prop_map(Check::Present),
        (key(), 0..40u64).prop_map(|(key, since)| Check::Unchanged(key, Revision(since))),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let put = (key(), 0..400usize, prop::option::of(any::<prop::sample::Index>()));
    let put = put.prop_map(|(key, len, stamp)| {
        let value = Bytes::from("x".repeat(len));
        Op::Put { key, value, stamp: stamp.map(|at| at.index(len + 1)) }
    });
    let last = prop::option::of(Just((Bytes::from_static(b"last"), Some(4))));
    prop_oneof![
        3 => put,
        1 => (key(), last).prop_map(|(key, last)| Op::Delete { key, last }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let checks = prop_oneof![
        3 => Just(vec![]),
        1 => prop::collection::vec(check(), 1..3),
    ];
    let commit = (checks, prop::collection::vec(op(), 0..4))
        .prop_map(|(checks, ops)| Step::Commit(Txn { checks, ops }));
    prop_oneof![8 => commit, 1 => Just(Step::Reopen)]
}

fn contents(store: &Store) -> BTreeMap<String, Entry> {
    let snapshot = store.snapshot();
    snapshot.range("").map(|(key, entry)| (key.to_owned(), entry.clone())).collect()
}

/// Replays all events that the store still has on the model's state of that time.
async fn check_history(store: &Store, model: &Model) {
    let compacted = store.report().compacted;
    let mut state = match compacted.0.checked_sub(1) {
        Some(index) => model.history[index as usize].clone(),
        None => BTreeMap::new(),
    };
    let mut watch = store.watch("", compacted).unwrap();
    let mut revision = compacted;
    while let Some(Some(event)) = watch.next().now_or_never() {
        let event = event.unwrap();
        if event.revision != revision {
            let before = revision.0.checked_sub(1).map(|index| &model.history[index as usize]);
            assert_eq!(&state, before.unwrap_or(&BTreeMap::new()), "state at {revision}");
            assert_eq!(event.revision.0, revision.0 + 1, "no gap");
            revision = event.revision;
        }
        let key = event.key.to_string();
        match event.change {
            Change::Put { entry, previous } => assert_eq!(state.insert(key, entry), previous),
            Change::Delete { previous, .. } => assert_eq!(state.remove(&key), Some(previous)),
        }
    }
    assert_eq!(state, model.map);
    assert_eq!(watch.caught_up(), Some(Revision(model.revision)));
}

async fn run(dir: &Path, steps: Vec<Step>, tuning: Tuning) {
    let mut model = Model::default();
    let mut store = bed::open(dir, tuning).await;
    for step in steps {
        match step {
            Step::Reopen => {
                store.close().await;
                store = bed::open(dir, tuning).await;
                assert_eq!(store.report().cut, None, "an orderly end leaves no torn tail");
            }
            Step::Commit(txn) => {
                let expected = model.commit(&txn);
                let actual = match store.commit(txn).await {
                    Ok(revision) => Ok(revision),
                    Err(CommitError::Failed { index, .. }) => Err(index),
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(actual, expected);
            }
        }
        assert_eq!(contents(&store), model.map);
    }
    check_history(&store, &model).await;
    let report = store.report();
    assert_eq!((report.read_only.is_none(), report.checkpoint_failed), (true, None));
    store.close().await;
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn random_work_with_reopening_equals_a_plain_map(
        steps in prop::collection::vec(step(), 1..60),
        checkpoint_bytes in prop_oneof![Just(500u64), Just(3000), Just(1 << 20)],
    ) {
        let dir = bed::folder();
        let tuning = Tuning { checkpoint_bytes, ..bed::without_sled() };
        block_on(run(dir.path(), steps, tuning));
    }
}

proptest! {
    // Each opening of sled syncs the whole machine's disks: few cases.
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn the_copy_in_sled_follows_random_work(steps in prop::collection::vec(step(), 1..40)) {
        let dir = bed::folder();
        let tuning = Tuning { checkpoint_bytes: 1000, ..bed::with_sled() };
        block_on(async {
            run(dir.path(), steps, tuning).await;
            let store = bed::open(dir.path(), tuning).await;
            let revision = store.snapshot().revision();
            let flushed = store::SledState::Flushed(revision);
            let report = || store.report();
            bed::eventually("sled is flushed", || (report().sled == flushed).then_some(()), report)
                .await;
            assert_eq!(report().sled_rebuilt, None);
            store.close().await;
        });
    }
}
