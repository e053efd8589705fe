//! An iSCSI target: serves volumes to any initiator.
#![forbid(unsafe_code)]
