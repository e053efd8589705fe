//! The text of a peer as the conformance suite reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_conformance::fuzzing::keys(input));
