//! Two sessions of one target: everything but the sockets.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_target::fuzzing::service(input));
