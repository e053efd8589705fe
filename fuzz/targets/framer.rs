//! A byte stream, cut into PDUs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_proto::fuzzing::framer(input));
