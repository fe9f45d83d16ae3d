//! Tests of `record`: what is written is read, and no bytes make the decoder panic.

use proptest::prelude::*;

use super::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Arc<str>> {
    prop::collection::vec(any::<char>(), 0..12)
        .prop_map(|chars| Arc::from(chars.into_iter().collect::<String>()))
}

fn record() -> impl Strategy<Value = Record> {
    let write = prop_oneof![
        (key(), bytes()).prop_map(|(key, value)| Write::Put { key, value }),
        (key(), prop::option::of(bytes())).prop_map(|(key, last)| Write::Delete { key, last }),
    ];
    (any::<u64>(), prop::collection::vec(write, 0..5))
        .prop_map(|(revision, writes)| Record { revision: Revision(revision), writes })
}

proptest! {
    #[test]
    fn records_read_back_as_written(records in prop::collection::vec(record(), 0..5)) {
        let mut out = Vec::new();
        for record in &records {
            encode(record, &mut out);
        }
        prop_assert_eq!(decode_all(&out), Some(records));
    }

    #[test]
    fn a_cut_record_is_no_record(record in record(), cut in any::<prop::sample::Index>()) {
        let mut out = Vec::new();
        encode(&record, &mut out);
        let cut = cut.index(out.len());
        prop_assert_eq!(decode_all(&out[..cut]).filter(|records| !records.is_empty()), None);
    }

    #[test]
    fn arbitrary_bytes_never_panic(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_all(&garbage);
        let _ = take_entry(&mut &garbage[..]);
    }

    #[test]
    fn entries_read_back_as_written(key in key(), value in bytes(), created: u64, modified: u64) {
        let (created, modified) = (Revision(created), Revision(modified));
        let entry = Entry { value, created, modified };
        let mut out = Vec::new();
        encode_entry(&key, &entry, &mut out);
        let mut rest = &out[..];
        prop_assert_eq!(take_entry(&mut rest), Some((key, entry)));
        prop_assert!(rest.is_empty());
    }
}
