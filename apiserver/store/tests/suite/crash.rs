//! Killed while it writes: a child process (this test binary again) commits as fast as it can and
//! tells each acknowledged revision; it is killed with SIGKILL, and everything it told must be
//! there. All rounds use one folder, so that later ones begin with what earlier ones left.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rand::RngExt;
use store::{Change, Entry, Revision, Store, Tuning, Txn};

use crate::bed::{self, put_op, within};

const ROUNDS: usize = 12;
const CLIENTS: usize = 8;
/// Tells the child where to write, and that it is one.
const FOLDER: &str = "STORE_CRASH_FOLDER";

/// Checkpoints, rotations and flushes of sled all the time, so that some kills hit them.
fn tuning() -> Tuning {
    Tuning { checkpoint_bytes: 20_000, ..bed::with_sled() }
}

/// Not a test by itself: the body of the child process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of `every_acknowledged_revision_survives_kill_9`"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = bed::open(Path::new(&folder), tuning()).await;
    let start = store.snapshot().revision().0;
    let clients = (0..CLIENTS).map(|client| {
        let store = store.clone();
        tokio::spawn(async move { write_for_ever(store, start, client).await })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

/// Each transaction writes one key of its own and one that its client writes again and again.
async fn write_for_ever(store: Store, start: u64, client: usize) {
    for number in 0.. {
        let (own, shared) =
            (format!("/own/{start}/{client}/{number}"), format!("/shared/{client}"));
        let value = "x".repeat(100 * (number % 20));
        let ops = vec![put_op(&own, value), put_op(&shared, own.clone())];
        let revision = store.commit(Txn { checks: vec![], ops }).await.unwrap();
        // One write call per line: a kill leaves whole lines, or none.
        let line = format!("ack {revision} {own}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

fn start_child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads acknowledgements, kills the child after so many, and returns all that it told.
fn run_and_kill(folder: &Path, acks: usize) -> BTreeMap<Revision, String> {
    let mut child = start_child(folder);
    let mut told = BTreeMap::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((revision, key)) = line.strip_prefix("ack ").and_then(|ack| ack.split_once(' '))
        else {
            continue;
        };
        told.insert(Revision(revision.parse().unwrap()), key.to_owned());
        if told.len() == acks {
            // What is still in the pipe was acknowledged, too, and is read on.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(told.len() >= acks, "the child ended by itself after {} of {acks}", told.len());
    told
}

#[tokio::test]
async fn every_acknowledged_revision_survives_kill_9() {
    let folder = bed::folder();
    let mut told = BTreeMap::new();
    for round in 0..ROUNDS {
        let acks = rand::rng().random_range(1..800);
        told.extend(run_and_kill(folder.path(), acks));
        let store = bed::open(folder.path(), tuning()).await;
        check(&store, &told, round).await;
        store.close().await;
    }
    // A kill between a checkpoint and its clean-up leaves one more, until the next.
    let checkpoints = bed::files(folder.path(), "checkpoint-");
    assert!((2..=3).contains(&checkpoints.len()), "{checkpoints:?} after {} acks", told.len());
}

async fn check(store: &Store, told: &BTreeMap<Revision, String>, round: usize) {
    let snapshot = store.snapshot();
    for (revision, key) in told {
        let entry = snapshot.get(key).unwrap_or_else(|| panic!("round {round}: lost {key}"));
        assert_eq!(entry.modified, *revision, "round {round}: {key}");
    }
    // Nothing is torn: both keys of the newest transaction of each client agree.
    for (shared, entry) in snapshot.range("/shared/") {
        let own = std::str::from_utf8(&entry.value).unwrap();
        let own = snapshot.get(own).unwrap_or_else(|| panic!("round {round}: {shared} is torn"));
        assert_eq!(own.modified, entry.modified, "round {round}: {shared}");
    }
    check_history(store, round).await;
}

/// The history goes on without a gap to the newest revision.
async fn check_history(store: &Store, round: usize) {
    let report = store.report();
    let mut watch = store.watch("/own/", report.compacted).unwrap();
    for revision in report.compacted.0 + 1..=report.revision.0 {
        let event = within("an event", watch.next()).await.unwrap().unwrap();
        assert_eq!(event.revision, Revision(revision), "round {round}");
        let Change::Put { entry, previous: None } = event.change else { panic!("{event:?}") };
        let Entry { created, modified, .. } = entry;
        assert_eq!((created, modified), (event.revision, event.revision));
    }
}
