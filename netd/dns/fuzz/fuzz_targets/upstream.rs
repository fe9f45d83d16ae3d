//! Whatever another server answers: no panic, and only the answer to the very question counts.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| dns::fuzz::heard(message));
