//! Tests of the copy in sled: catching up, damage of every kind, and the bug we live with.

use bytes::Bytes;
use rand::{RngExt, SeedableRng};

use super::*;

fn state(entries: impl IntoIterator<Item = u64>) -> State {
    let mut state = State::default();
    for number in entries {
        write_key(&mut state, number, format!("value {number}").into());
    }
    state
}

fn write_key(state: &mut State, number: u64, value: Bytes) {
    state.revision = state.revision.next();
    let (created, modified) = (state.revision, state.revision);
    state.map.insert(key(number), Entry { value, created, modified });
}

fn key(number: u64) -> Arc<str> {
    Arc::from(format!("/objects/{number:04}"))
}

/// Opens the copy at a state, closes it, and returns whether and why it was rebuilt.
fn sync(dir: &Path, state: &State) -> Option<String> {
    let (sled, rebuilt) = Sled::open(dir, state).unwrap();
    sled.close();
    assert!(read_all(dir).as_ref() == Some(state), "the copy is the state");
    rebuilt.map(|rebuilt| rebuilt.why)
}

#[test]
fn a_copy_is_made_kept_and_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_all(dir.path()), None);
    let mut state = state(1..100);
    assert_eq!(sync(dir.path(), &state), None, "made");
    assert_eq!(sync(dir.path(), &state), None, "kept");
    // Changed, new and removed keys that the copy has missed.
    write_key(&mut state, 50, "changed".into());
    write_key(&mut state, 200, "new".into());
    state.map.remove(&key(60));
    state.revision = state.revision.next();
    assert_eq!(sync(dir.path(), &state), None, "caught up");
}

#[test]
fn writes_reach_the_copy_with_their_revision() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = state(1..10);
    let (sled, _) = Sled::open(dir.path(), &state).unwrap();
    write_key(&mut state, 3, "changed".into());
    state.map.remove(&key(4));
    state.revision = state.revision.next();
    sled.write(&state, &[key(3), key(4)]).unwrap().close();
    assert_eq!(read_all(dir.path()), Some(state));
}

#[test]
fn a_copy_that_claims_more_than_it_has_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = state(1..10);
    let (sled, _) = Sled::open(dir.path(), &state).unwrap();
    write_key(&mut state, 3, "changed".into());
    write_key(&mut state, 5, "changed".into());
    sled.write(&state, &[key(5)]).unwrap().close();
    let why = sync(dir.path(), &state).unwrap();
    assert!(why.starts_with("1 entries, /objects/0003 first, differ"), "{why}");
    assert!(dir.path().join("sled.damaged").exists());
}

#[test]
fn a_copy_ahead_of_the_log_is_told_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    sync(dir.path(), &state(1..10));
    let why = sync(dir.path(), &state(1..5)).unwrap();
    assert_eq!(why, "sled is at revision 9, the log ends at 4: the log has lost its end");
}

#[test]
fn a_missing_file_of_sled_costs_a_rebuild_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(1..200);
    sync(dir.path(), &state);
    let mut rebuilt = 0;
    for file in files_of(&folder(dir.path())) {
        // A rebuild or a compaction in an earlier round may have removed it already.
        if fs::remove_file(&file).is_ok() {
            rebuilt += usize::from(sync(dir.path(), &state).is_some());
        }
    }
    assert!(rebuilt > 0, "at least the leaves' file and the metadata matter");
}

#[test]
fn a_flipped_byte_in_any_file_of_sled_costs_a_rebuild_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(1..200);
    sync(dir.path(), &state);
    let mut rebuilt = 0;
    for file in files_of(&folder(dir.path())) {
        let Ok(mut bytes) = fs::read(&file) else { continue };
        if bytes.is_empty() {
            continue;
        }
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(&file, bytes).unwrap();
        rebuilt += usize::from(sync(dir.path(), &state).is_some());
    }
    assert!(rebuilt > 0, "at least the leaves' file and the metadata matter");
}

#[test]
fn an_emptied_folder_costs_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(1..10);
    sync(dir.path(), &state);
    fs::remove_dir_all(folder(dir.path())).unwrap();
    fs::create_dir(folder(dir.path())).unwrap();
    assert_eq!(sync(dir.path(), &state).as_deref(), Some("sled holds no revision"));
}

#[test]
fn a_removed_folder_is_simply_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(1..10);
    sync(dir.path(), &state);
    fs::remove_dir_all(folder(dir.path())).unwrap();
    assert_eq!(sync(dir.path(), &state), None);
}

#[test]
fn an_opening_that_killed_the_process_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(1..10);
    sync(dir.path(), &state);
    fs::write(dir.path().join("sled.opening"), b"").unwrap();
    assert_eq!(read_all(dir.path()), None);
    let why = sync(dir.path(), &state).unwrap();
    assert_eq!(why, "an earlier attempt to open sled never came to its end");
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() { files.extend(files_of(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// A leaf of exactly 65,529 compressed bytes is put into a slot of 65,536, where its frame of eight
/// bytes overwrites its last one; sled counts six. Such a leaf cannot be read again. If this fails
/// because the copy is sound, sled is mended: say so where the dependency is chosen, and simplify.
#[test]
fn a_leaf_that_sled_cannot_read_back_costs_a_rebuild_at_most() {
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    // Text, as objects are: a leaf of incompressible bytes ends with a byte that does not matter.
    let text: Vec<u8> = (0..100_000).map(|_| random.random_range(b'0'..b'p')).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::default();
    let (mut sled, _) = Sled::open(dir.path(), &state).unwrap();
    let mut hit = false;
    for size in 86_500..87_200 {
        write_key(&mut state, 1, Bytes::copy_from_slice(&text[..size]));
        sled = sled.write(&state, &[key(1)]).unwrap();
        hit = leaf_lens(dir.path()).contains(&65_529);
        if hit {
            break;
        }
    }
    assert!(hit, "no leaf of that size came up");
    sled.close();

    assert_eq!(read_all(dir.path()), None, "the leaf cannot be read");
    let (sled, rebuilt) = Sled::open(dir.path(), &state).unwrap();
    assert!(rebuilt.is_some());
    write_key(&mut state, 1, "small".into());
    sled.write(&state, &[key(1)]).unwrap().close();
    assert_eq!(read_all(dir.path()), Some(state));
}

/// The sizes that are noted in sled's slots of 65,536 bytes.
fn leaf_lens(dir: &Path) -> Vec<u32> {
    let files = files_of(&folder(dir));
    let slab = files.iter().find(|file| file.ends_with("65536")).expect("sled makes it");
    let bytes = fs::read(slab).unwrap();
    let (slots, _) = bytes.as_chunks::<65_536>();
    let len = |slot: &[u8; 65_536]| u32::from_le_bytes(slot[65_528..65_532].try_into().unwrap());
    slots.iter().map(len).collect()
}
