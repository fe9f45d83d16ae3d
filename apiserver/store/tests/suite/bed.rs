//! What the tests stand on: stores in temporary folders, short names for transactions, and waiting
//! for conditions with a time limit.

use std::fmt::Debug;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::{Check, Config, Op, OpenError, Revision, Store, Tuning, Txn};
use tempfile::TempDir;

/// Far more than anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Sled stays closed: for tests that are not about it.
pub(crate) fn without_sled() -> Tuning {
    Tuning { sled_after: Duration::from_secs(3600), ..Tuning::default() }
}

/// Sled is opened and written at once.
pub(crate) fn with_sled() -> Tuning {
    Tuning { sled_after: Duration::ZERO, sled_every: Duration::ZERO, ..Tuning::default() }
}

/// Opens the store of a folder.
pub(crate) async fn try_open(dir: &Path, tuning: Tuning) -> Result<Store, OpenError> {
    let config = Config { dir: dir.to_owned(), history: 10_000 };
    Store::open_with(config, tuning).await
}

/// As [`try_open`], for folders that are sound.
pub(crate) async fn open(dir: &Path, tuning: Tuning) -> Store {
    try_open(dir, tuning).await.expect("the store opens")
}

/// A folder that is removed with the value.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The files of a folder whose names begin so, sorted.
pub(crate) fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the folder is there")
        .map(|file| file.expect("it can be listed").path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    files.sort();
    files
}

/// Changes one byte of a file.
pub(crate) fn flip_byte(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("the file can be read");
    bytes[at] ^= 0x55;
    std::fs::write(path, bytes).expect("the file can be written");
}

/// A write without conditions.
pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> Txn {
    Txn { checks: vec![], ops: vec![put_op(key, value)] }
}

/// The write of [`put`].
pub(crate) fn put_op(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put { key: key.to_owned(), value: value.into(), stamp: None }
}

/// A removal without conditions.
pub(crate) fn delete(key: &str) -> Txn {
    Txn { checks: vec![], ops: vec![Op::Delete { key: key.to_owned(), last: None }] }
}

/// A write of a key that must not exist.
pub(crate) fn create(key: &str, value: impl Into<Bytes>) -> Txn {
    Txn { checks: vec![Check::Absent(key.to_owned())], ops: vec![put_op(key, value)] }
}

/// A write of a key that must not have changed since.
pub(crate) fn replace(key: &str, since: Revision, value: impl Into<Bytes>) -> Txn {
    Txn { checks: vec![Check::Unchanged(key.to_owned(), since)], ops: vec![put_op(key, value)] }
}

/// Waits for a future, but not for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {LIMIT:?}: {what}"),
    }
}

/// Looks again and again until `look` has something to return; `show` is printed if it never has.
pub(crate) async fn eventually<T, S: Debug>(
    what: &str,
    mut look: impl FnMut() -> Option<T>,
    show: impl Fn() -> S,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}; now {:?}", show());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
