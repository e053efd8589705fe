//! An iSCSI initiator: reaches the logical units of any target as volumes.
#![forbid(unsafe_code)]
