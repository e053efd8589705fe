//! Command descriptor blocks and parameter lists against logical units.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_target::fuzzing::command(input));
