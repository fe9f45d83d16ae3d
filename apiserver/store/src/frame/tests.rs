//! Tests of `frame`: any damage to a frame is noticed, and frames behind damage are found.

use proptest::prelude::*;

use super::*;

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, |out| out.extend_from_slice(payload));
    out
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..300)
}

proptest! {
    #[test]
    fn frames_read_back_one_after_the_other(payloads in prop::collection::vec(payload(), 0..5)) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
        let mut rest = &bytes[..];
        for payload in payloads {
            prop_assert_eq!(read(&mut rest).unwrap(), Next::Frame(payload));
        }
        prop_assert_eq!(read(&mut rest).unwrap(), Next::End);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed(payload in payload(), bit in any::<prop::sample::Index>()) {
        let mut bytes = framed(&payload);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(read(&mut &bytes[..]).unwrap(), Next::Bad);
    }

    #[test]
    fn a_torn_frame_is_noticed(payload in payload(), cut in any::<prop::sample::Index>()) {
        let bytes = framed(&payload);
        let cut = 1 + cut.index(bytes.len() - 1);
        prop_assert_eq!(read(&mut &bytes[..cut]).unwrap(), Next::Bad);
        prop_assert_eq!(find(&bytes[..cut]), None);
    }

    #[test]
    fn an_intact_frame_is_found_behind_text(text in "[ -~]{0,80}", payload in payload()) {
        let bytes = [text.as_bytes(), &framed(&payload)].concat();
        prop_assert_eq!(find(&bytes), Some(text.len()));
    }
}

#[test]
fn zeros_that_a_crash_left_are_bad_and_hide_no_frame() {
    assert_eq!(read(&mut &[0; 4096][..]).unwrap(), Next::Bad);
    assert_eq!(find(&[0; 4096]), None);
}

#[test]
fn a_damaged_length_allocates_nothing_of_its_size() {
    let mut bytes = framed(b"payload");
    bytes[4..8].copy_from_slice(&(MAX_PAYLOAD as u32).to_le_bytes());
    assert_eq!(read(&mut &bytes[..]).unwrap(), Next::Bad);
}
