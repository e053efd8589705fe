//! A target session in the full feature phase, its initiator and its driver.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_proto::fuzzing::session(input));
