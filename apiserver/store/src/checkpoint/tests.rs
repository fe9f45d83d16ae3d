//! Tests of `checkpoint`: round trips, and any damage is noticed.

use bytes::Bytes;

use super::*;

fn state(entries: u64, size: usize) -> State {
    let mut map = Map::new();
    for number in 1..=entries {
        let value = Bytes::from(vec![number as u8; size]);
        let entry = Entry { value, created: Revision(number), modified: Revision(number + 1) };
        map.insert(Arc::from(format!("/objects/{number}")), entry);
    }
    State { revision: Revision(entries + 1), map }
}

#[test]
fn states_of_all_sizes_read_back() {
    for (entries, size) in [(0, 0), (1, 10), (500, 2000), (3, 2 * CHUNK)] {
        let dir = tempfile::tempdir().unwrap();
        let state = state(entries, size);
        let len = write(dir.path(), &state).unwrap();
        let path = path(dir.path(), state.revision);
        assert_eq!(fs::metadata(&path).unwrap().len(), len);
        assert_eq!(read(dir.path(), state.revision).unwrap(), state);
        assert_eq!(checkpoints(dir.path()).unwrap(), [state.revision]);
        assert!(!dir.path().join(UNFINISHED).exists());
    }
}

#[test]
fn a_checkpoint_cut_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(5, 20);
    write(dir.path(), &state).unwrap();
    let path = path(dir.path(), state.revision);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let error = read(dir.path(), state.revision).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "cut at {len}: {error:?}");
    }
}

#[test]
fn a_flipped_byte_anywhere_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(5, 20);
    write(dir.path(), &state).unwrap();
    let path = path(dir.path(), state.revision);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let error = read(dir.path(), state.revision).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "at {at}: {error:?}");
    }
}

#[test]
fn a_checkpoint_under_another_revisions_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(5, 20);
    write(dir.path(), &state).unwrap();
    fs::rename(path(dir.path(), state.revision), path(dir.path(), Revision(99))).unwrap();
    let error = read(dir.path(), Revision(99)).unwrap_err();
    assert!(matches!(error, CheckpointError::Differs { .. }), "{error:?}");
}

#[test]
fn what_reads_back_differently_is_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let written = state(5, 20);
    write_file(&file, &written).unwrap();
    assert!(verify(&file, &written).is_ok());
    for other in [state(4, 20), state(6, 20), state(5, 21), State::default()] {
        let error = verify(&file, &other).unwrap_err();
        assert!(matches!(error, CheckpointError::Differs { .. }), "{error:?}");
    }
}

#[test]
fn a_failed_checkpoint_leaves_no_file_behind() {
    let dir = tempfile::tempdir().unwrap();
    // A folder stands where the file should go.
    fs::create_dir(dir.path().join(UNFINISHED)).unwrap();
    let error = write(dir.path(), &state(5, 20)).unwrap_err();
    assert!(matches!(error, CheckpointError::File { step: "write", .. }), "{error:?}");
    assert_eq!(checkpoints(dir.path()).unwrap(), []);
}
