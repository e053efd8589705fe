//! An initiator session against a target that says anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_proto::fuzzing::initiator(input));
