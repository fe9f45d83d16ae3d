//! Tests of reading logs across files, with every limit.

use super::*;

fn entry(second: u32, content: &str) -> String {
    format!("2026-11-20T10:00:{second:02}.000000000Z stdout F {content}\n")
}

fn read(log: &Path, options: ReadOptions) -> String {
    let mut reader = LogReader::open(log.to_owned(), options).unwrap();
    let mut text = Vec::new();
    reader
        .read_to_end(|chunk| {
            text.extend(chunk);
            true
        })
        .unwrap();
    String::from_utf8(text).unwrap()
}

/// A log of two files: `a`, `b` put aside, `c`, `d` in the newest.
fn log_of_two_files() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("0.log");
    let aside = folder.path().join("0.log.20261120-100001.000000");
    std::fs::write(aside, entry(0, "a") + &entry(1, "b")).unwrap();
    std::fs::write(&log, entry(2, "c") + &entry(3, "d")).unwrap();
    (folder, log)
}

#[test]
fn rotated_files_are_read_oldest_first() {
    let (_folder, log) = log_of_two_files();
    assert_eq!(read(&log, ReadOptions::default()), "a\nb\nc\nd\n");
}

#[test]
fn the_tail_reaches_back_into_older_files() {
    let (_folder, log) = log_of_two_files();
    for (lines, expected) in
        [(0, ""), (1, "d\n"), (2, "c\nd\n"), (3, "b\nc\nd\n"), (9, "a\nb\nc\nd\n")]
    {
        let options = ReadOptions { tail_lines: Some(lines), ..ReadOptions::default() };
        assert_eq!(read(&log, options), expected, "{lines} lines");
    }
}

#[test]
fn limits_cut_and_times_filter() {
    let (_folder, log) = log_of_two_files();
    let limited = ReadOptions { limit_bytes: Some(3), ..ReadOptions::default() };
    assert_eq!(read(&log, limited), "a\nb");
    let since = Some("2026-11-20T10:00:02Z".parse().unwrap());
    assert_eq!(read(&log, ReadOptions { since, ..ReadOptions::default() }), "c\nd\n");
    let stamped = ReadOptions { timestamps: true, tail_lines: Some(1), ..ReadOptions::default() };
    assert_eq!(read(&log, stamped), "2026-11-20T10:00:03.000000000Z d\n");
}

#[test]
fn reading_goes_on_across_a_rotation() {
    let (folder, log) = log_of_two_files();
    let mut reader = LogReader::open(log.clone(), ReadOptions::default()).unwrap();
    reader.read_to_end(|_| true).unwrap();
    std::fs::rename(&log, folder.path().join("0.log.20261120-100004.000000")).unwrap();
    std::fs::write(&log, entry(5, "e")).unwrap();
    let mut text = Vec::new();
    reader
        .read_to_end(|chunk| {
            text.extend(chunk);
            true
        })
        .unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "e\n");
}
