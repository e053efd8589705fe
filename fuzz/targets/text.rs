//! Text keys, names, addresses and URLs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_proto::fuzzing::text(input));
