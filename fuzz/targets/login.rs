//! A login as a whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_proto::fuzzing::login(input));
