//! Volumes for tests: in memory, and with faults.
