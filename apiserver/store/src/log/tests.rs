//! Tests of `log` on real files: what append leaves behind, torn and damaged segments, full disks.

use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::*;
use crate::record::Write;

fn record(revision: u64) -> Record {
    let value = Bytes::from(vec![b'x'; 100]);
    Record { revision: Revision(revision), writes: vec![Write::Put { key: "/a".into(), value }] }
}

/// A segment with one group per revision, and the offsets at which each group ends.
fn written(dir: &Path, revisions: std::ops::RangeInclusive<u64>) -> (PathBuf, Vec<u64>) {
    let mut log = Log::starting_new(dir);
    let path = segment_path(dir, Revision(*revisions.start()));
    let mut ends = Vec::new();
    for revision in revisions {
        log.append(&[record(revision)]).unwrap();
        ends.push(fs::metadata(&path).unwrap().len());
    }
    (path, ends)
}

/// A segment read to its end, and the revisions in it.
fn read_segment(path: &Path) -> (Segment, Vec<u64>) {
    let mut segment = Segment::open(path.to_owned()).unwrap();
    let mut revisions = Vec::new();
    while let Some(group) = segment.next_group() {
        revisions.extend(group.iter().map(|record| record.revision.0));
    }
    assert_eq!(segment.last.map(|last| last.0), revisions.last().copied());
    (segment, revisions)
}

fn cut_file(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn flip_byte(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
}

#[test]
fn what_is_appended_reads_back_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = written(dir.path(), 1..=3);
    let mut log = Log::resume(dir.path(), path.clone(), ends[2]).unwrap();
    log.append(&[record(4), record(5)]).unwrap();
    let (segment, revisions) = read_segment(&path);
    assert_eq!(revisions, [1, 2, 3, 4, 5]);
    assert!(!segment.is_torn());
    assert_eq!(segment.damage, None);
}

#[test]
fn nothing_is_written_before_the_first_append_and_rotation_begins_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::starting_new(dir.path());
    assert_eq!(segments(dir.path()).unwrap(), []);
    log.append(&[record(1)]).unwrap();
    log.rotate();
    assert_eq!(segments(dir.path()).unwrap(), [Revision(1)]);
    log.append(&[record(2)]).unwrap();
    assert_eq!(segments(dir.path()).unwrap(), [Revision(1), Revision(2)]);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = written(dir.path(), 1..=3);
    let whole = fs::read(&path).unwrap();
    for len in ends[1]..ends[2] {
        fs::write(&path, &whole[..len as usize]).unwrap();
        let (segment, revisions) = read_segment(&path);
        assert_eq!(revisions, [1, 2], "torn at {len}");
        assert_eq!((segment.intact, segment.damage), (ends[1], None), "torn at {len}");
        cut(&segment).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), ends[1]);
    }
}

#[test]
fn a_file_grown_by_zeros_is_torn_too() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = written(dir.path(), 1..=2);
    cut_file(&path, ends[1] + 4096);
    let (segment, revisions) = read_segment(&path);
    assert_eq!((revisions, segment.is_torn()), (vec![1, 2], true));
    assert_eq!((segment.intact, segment.damage), (ends[1], None));
}

#[test]
fn a_segment_whose_creation_was_interrupted_goes_as_a_whole() {
    for len in 0..HEADER.len() {
        let dir = tempfile::tempdir().unwrap();
        let path = segment_path(dir.path(), Revision(1));
        fs::write(&path, &HEADER[..len]).unwrap();
        let (segment, _) = read_segment(&path);
        assert!(segment.is_torn() && segment.intact == 0, "{len} bytes of header");
        cut(&segment).unwrap();
        assert!(!path.exists());
    }
}

#[test]
fn damage_in_the_middle_is_told_and_hides_nothing_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = written(dir.path(), 1..=4);
    for at in ends[0]..ends[1] {
        flip_byte(&path, at);
        let (segment, revisions) = read_segment(&path);
        assert_eq!(revisions, [1, 3, 4], "flipped at {at}");
        assert_eq!(segment.damage, Some(ends[0]), "flipped at {at}");
        assert!(!segment.is_torn());
        flip_byte(&path, at);
    }
}

#[test]
fn a_damaged_header_hides_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = written(dir.path(), 1..=2);
    flip_byte(&path, 0);
    let (segment, revisions) = read_segment(&path);
    assert_eq!((revisions, segment.damage), (vec![1, 2], Some(0)));
}

#[test]
fn a_full_disk_is_an_error_with_its_errno() {
    let path = PathBuf::from("/dev/full");
    let file = OpenOptions::new().append(true).open(&path).unwrap();
    let active = Some(Active { path, file, len: 0 });
    let mut log = Log { dir: PathBuf::from("/dev"), active, buffer: Vec::new() };
    let error = log.append(&[record(1)]).unwrap_err();
    let LogError::Write { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(error.to_string(), "write to the log segment /dev/full");
}

#[test]
fn a_large_group_does_not_keep_its_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::starting_new(dir.path());
    let value = Bytes::from(vec![0; 2 * BUFFER_KEPT]);
    let writes = vec![Write::Put { key: "/a".into(), value }];
    log.append(&[Record { revision: Revision(1), writes }]).unwrap();
    assert!(log.buffer.capacity() <= BUFFER_KEPT, "{}", log.buffer.capacity());
}
