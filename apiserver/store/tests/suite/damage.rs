//! Damaged, missing and full: what the whole store makes of it. The rule is that an acknowledged
//! write is there or the store says why it is not; it never opens with less in silence.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use store::{Base, CommitError, OpenError, Revision, SledState, Store, Tuning};

use crate::bed::{self, eventually, flip_byte, open, put, try_open};

/// Several segments and checkpoints within a few writes.
const SMALL: u64 = 2000;

fn small(tuning: Tuning) -> Tuning {
    Tuning { checkpoint_bytes: SMALL, ..tuning }
}

/// Writes `count` times to a new store, waiting for each checkpoint that is due, so that the files
/// are the same each time. Returns the contents.
async fn fill(store: &Store, dir: &Path, count: usize) -> BTreeMap<String, String> {
    for number in 0..count {
        write(store, number).await;
        let segment = bed::files(dir, "log-").pop().expect("something was written");
        let first: u64 =
            segment.to_string_lossy()[segment.as_os_str().len() - 20..].parse().unwrap();
        let report = || store.report();
        let due = (first > 1).then(|| Revision(first - 1));
        eventually("a checkpoint", || (report().checkpoint >= due).then_some(()), report).await;
    }
    contents(store)
}

async fn write(store: &Store, number: usize) -> Revision {
    store.commit(put(&format!("/{:02}", number % 40), format!("{number:0100}"))).await.unwrap()
}

fn contents(store: &Store) -> BTreeMap<String, String> {
    let snapshot = store.snapshot();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    snapshot.range("").map(|(key, entry)| (key.to_owned(), text(&entry.value))).collect()
}

/// A closed store with some writes in it.
async fn filled(dir: &Path, count: usize, tuning: Tuning) -> BTreeMap<String, String> {
    let store = open(dir, tuning).await;
    let contents = fill(&store, dir, count).await;
    store.close().await;
    contents
}

async fn sled_is_flushed(store: &Store) {
    let flushed = SledState::Flushed(store.snapshot().revision());
    let report = || store.report();
    eventually("sled is flushed", || (report().sled == flushed).then_some(()), report).await;
}

#[tokio::test]
async fn a_torn_tail_is_cut_told_and_written_over() {
    let dir = bed::folder();
    let mut expected = filled(dir.path(), 5, bed::without_sled()).await;
    let log = &bed::files(dir.path(), "log-")[0];
    let whole = std::fs::read(log).unwrap();
    std::fs::write(log, &whole[..whole.len() - 7]).unwrap();
    expected.remove("/04");

    let store = open(dir.path(), bed::without_sled()).await;
    let cut = store.report().cut.expect("it is told");
    assert_eq!(cut.path, *log);
    assert_eq!(contents(&store), expected);
    assert_eq!(store.commit(put("/new", "x")).await.unwrap(), Revision(5));
    store.close().await;

    let store = open(dir.path(), bed::without_sled()).await;
    assert_eq!((store.report().cut, store.snapshot().revision()), (None, Revision(5)));
}

#[tokio::test]
async fn a_damaged_record_before_the_end_is_refused_with_what_to_do() {
    let dir = bed::folder();
    filled(dir.path(), 5, bed::without_sled()).await;
    let log = &bed::files(dir.path(), "log-")[0];
    let middle = std::fs::metadata(log).unwrap().len() as usize / 2;
    flip_byte(log, middle);

    let error = try_open(dir.path(), bed::without_sled()).await.unwrap_err();
    let OpenError::Damaged { path, at, intact_through } = &error else { panic!("{error:?}") };
    assert_eq!((path, *intact_through), (log, Revision(2)));
    let message = error.to_string();
    assert!(message.contains("restore the store's folder from a backup"), "{message}");
    assert!(message.contains(&format!("truncate -s {at}")), "{message}");

    // The advice works, and loses what it says it loses.
    std::fs::File::options().write(true).open(log).unwrap().set_len(*at).unwrap();
    let store = open(dir.path(), bed::without_sled()).await;
    assert_eq!(store.snapshot().revision(), Revision(2));
}

#[tokio::test]
async fn damage_that_a_newer_checkpoint_covers_costs_only_history() {
    let dir = bed::folder();
    let expected = filled(dir.path(), 100, small(bed::without_sled())).await;
    let checkpoints = bed::files(dir.path(), "checkpoint-");
    assert_eq!(checkpoints.len(), 2);
    let segments = bed::files(dir.path(), "log-");
    flip_byte(&segments[0], 100);

    let store = open(dir.path(), small(bed::without_sled())).await;
    let report = store.report();
    assert_eq!(contents(&store), expected);
    assert!(checkpoints[1].ends_with(checkpoint_name(report.base)), "{:?}", report.base);
}

fn checkpoint_name(base: Base) -> String {
    match base {
        Base::Checkpoint(revision) => format!("checkpoint-{:020}", revision.0),
        other => panic!("not a checkpoint: {other:?}"),
    }
}

#[tokio::test]
async fn one_damaged_checkpoint_costs_nothing() {
    for damaged in 0..2 {
        let dir = bed::folder();
        let expected = filled(dir.path(), 100, small(bed::without_sled())).await;
        let checkpoints = bed::files(dir.path(), "checkpoint-");
        flip_byte(&checkpoints[damaged], 50);
        let store = open(dir.path(), small(bed::without_sled())).await;
        assert_eq!(contents(&store), expected, "checkpoint {damaged} damaged");
        let base = checkpoint_name(store.report().base);
        assert!(checkpoints[1 - damaged].ends_with(base));
    }
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let dir = bed::folder();
    filled(dir.path(), 100, small(bed::without_sled())).await;
    for checkpoint in bed::files(dir.path(), "checkpoint-").iter().skip(1) {
        std::fs::remove_file(checkpoint).unwrap();
    }
    let segments = bed::files(dir.path(), "log-");
    assert_eq!(segments.len(), 2, "what the two checkpoints need");
    std::fs::remove_file(&segments[0]).unwrap();
    let error = try_open(dir.path(), small(bed::without_sled())).await.unwrap_err();
    assert!(matches!(error, OpenError::Gap { .. }), "{error:?}");
}

#[tokio::test]
async fn a_log_that_ends_before_the_newest_checkpoint_is_not_taken_for_the_truth() {
    let dir = bed::folder();
    filled(dir.path(), 100, small(bed::without_sled())).await;
    let checkpoints = bed::files(dir.path(), "checkpoint-");
    for segment in bed::files(dir.path(), "log-") {
        std::fs::remove_file(segment).unwrap();
    }
    let store = open(dir.path(), small(bed::without_sled())).await;
    let base = checkpoint_name(store.report().base);
    assert!(checkpoints[1].ends_with(base), "the newest, not the oldest");
    store.close().await;

    flip_byte(&checkpoints[1], 50);
    let error = try_open(dir.path(), small(bed::without_sled())).await.unwrap_err();
    assert!(matches!(error, OpenError::EndsEarly { .. }), "{error:?}");
}

#[tokio::test]
async fn a_checkpoint_alone_is_a_backup() {
    let (dir, backup) = (bed::folder(), bed::folder());
    filled(dir.path(), 100, small(bed::without_sled())).await;
    let checkpoint = bed::files(dir.path(), "checkpoint-").pop().unwrap();
    std::fs::copy(&checkpoint, backup.path().join(checkpoint.file_name().unwrap())).unwrap();
    let store = open(backup.path(), bed::without_sled()).await;
    let revision = store.snapshot().revision();
    assert_eq!(contents(&store).len(), 40);
    assert_eq!(write(&store, 0).await, Revision(revision.0 + 1));
    store.close().await;
    let store = open(backup.path(), bed::without_sled()).await;
    assert_eq!(store.snapshot().revision(), Revision(revision.0 + 1));
}

#[tokio::test]
async fn sled_stands_in_when_all_checkpoints_are_damaged() {
    let dir = bed::folder();
    let tuning = small(bed::with_sled());
    let store = open(dir.path(), tuning).await;
    let mut expected = fill(&store, dir.path(), 100).await;
    sled_is_flushed(&store).await;
    store.close().await;
    for checkpoint in bed::files(dir.path(), "checkpoint-") {
        flip_byte(&checkpoint, 50);
    }

    let store = open(dir.path(), tuning).await;
    assert_eq!(store.report().base, Base::Sled);
    assert_eq!(contents(&store), expected);
    assert_eq!(write(&store, 0).await, Revision(101));
    expected = contents(&store);
    store.close().await;

    // Log and checkpoints are whole again without it.
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = open(dir.path(), tuning).await;
    assert_eq!(store.report().base, Base::Checkpoint(Revision(100)));
    assert_eq!(contents(&store), expected);
}

#[tokio::test]
async fn a_damaged_sled_is_rebuilt_and_told() {
    let dir = bed::folder();
    let tuning = bed::with_sled();
    let store = open(dir.path(), tuning).await;
    let expected = fill(&store, dir.path(), 100).await;
    sled_is_flushed(&store).await;
    store.close().await;
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    std::fs::create_dir(dir.path().join("sled")).unwrap();

    let store = open(dir.path(), tuning).await;
    assert_eq!(contents(&store), expected, "served meanwhile");
    sled_is_flushed(&store).await;
    let rebuilt = store.report().sled_rebuilt.expect("it is told");
    assert_eq!(rebuilt.why, "sled holds no revision");
    assert!(rebuilt.aside.is_some_and(|aside| aside.exists()));
}

#[tokio::test]
async fn writes_while_sled_is_being_opened_reach_it() {
    let dir = bed::folder();
    let store = open(dir.path(), bed::with_sled()).await;
    let expected = fill(&store, dir.path(), 500).await;
    sled_is_flushed(&store).await;
    assert_eq!(contents(&store), expected);
    store.close().await;
    let store = open(dir.path(), bed::with_sled()).await;
    sled_is_flushed(&store).await;
    assert_eq!(store.report().sled_rebuilt, None, "it equals the log's state");
}

#[tokio::test]
async fn a_folder_is_open_once() {
    let dir = bed::folder();
    let store = open(dir.path(), bed::without_sled()).await;
    let error = try_open(dir.path(), bed::without_sled()).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    store.close().await;
    open(dir.path(), bed::without_sled()).await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = bed::folder();
    let store = open(dir.path(), bed::without_sled()).await;
    let mut watch = store.watch("", Revision(0)).unwrap();
    let other = store.clone();
    store.close().await;
    assert!(matches!(other.commit(put("/a", "x")).await, Err(CommitError::Closed)));
    assert!(watch.next().await.is_none());
    other.close().await;
}

/// Tells the child where to write, and that it is one.
const FULL: &str = "STORE_FULL_FOLDER";

/// The kernel refuses to let files grow beyond a limit, as it does on a full disk.
#[test]
fn a_disk_that_takes_no_more_makes_the_store_read_only() {
    let dir = bed::folder();
    let exe = std::env::current_exe().unwrap();
    // Blocks are of 512 bytes. The signal would kill; ignored, the write returns an error.
    let script = "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(exe)
        .args(["damage::child_on_a_full_disk", "--exact", "--ignored", "--nocapture"])
        .env(FULL, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));

    // With room again, all that was acknowledged is there, and nothing that was refused.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(dir.path(), bed::without_sled()).await;
        let acknowledged = std::fs::read_to_string(dir.path().join("acknowledged")).unwrap();
        assert_eq!(store.snapshot().revision().to_string(), acknowledged);
        assert_eq!(store.report().cut, None, "the failed write was taken back");
        store.commit(put("/new", "x")).await.unwrap();
    });
}

#[tokio::test]
#[ignore = "the child of `a_disk_that_takes_no_more_makes_the_store_read_only`"]
async fn child_on_a_full_disk() {
    let Some(dir) = std::env::var_os(FULL) else { return };
    let dir = Path::new(&dir);
    let store = open(dir, bed::without_sled()).await;
    let mut acknowledged = Revision(0);
    let failure = loop {
        match store.commit(put("/a", "x".repeat(1000))).await {
            Ok(revision) => acknowledged = revision,
            Err(error) => break error,
        }
        assert!(acknowledged.0 < 1000, "the limit is not in force");
    };
    assert!(matches!(failure, CommitError::ReadOnly { .. }), "{failure:?}");
    assert!(acknowledged.0 > 10, "{acknowledged}");
    std::fs::write(dir.join("acknowledged"), acknowledged.to_string()).unwrap();

    // Small enough to fit, but nobody may rely on the log any more. Reading goes on.
    let again = store.commit(put("/b", "x")).await.unwrap_err();
    assert!(matches!(again, CommitError::ReadOnly { .. }), "{again:?}");
    assert_eq!(store.snapshot().revision(), acknowledged);
    assert!(store.watch("/", acknowledged).is_ok());
    let why = store.report().read_only.expect("it is told");
    assert!(why.to_string().starts_with("write to the log segment"), "{why}");
}
