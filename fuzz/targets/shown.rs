//! PDUs of a peer as the conformance suite shows them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_conformance::fuzzing::shown(input));
