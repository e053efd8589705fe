//! EXTENDED COPY(LID1) and RECEIVE COPY RESULTS (SPC-4 §6.4, §6.24): blocks copied without passing the initiator.

mod list;
mod results;

pub use list::{CopyList, Cscd, ListIdUsage, Segment};
pub use results::{CopyState, CopyStatus, OperatingParameters, held_data, no_failure};

/// Most copy source or copy destination descriptors in one list.
pub const MAX_CSCDS: usize = 8;

/// Most segment descriptors in one list.
pub const MAX_SEGMENTS: usize = 64;

/// Bytes of all descriptors of one list.
pub const MAX_DESCRIPTOR_BYTES: usize = 2048;

/// Bytes in front of the descriptors.
pub const LIST_HEADER_BYTES: usize = 16;

/// Descriptor type: a copy source or destination that is named by a designator.
pub const IDENTIFICATION_CSCD: u8 = 0xe4;

/// Descriptor type: a segment from block device to block device.
pub const BLOCK_TO_BLOCK: u8 = 0x02;

#[cfg(test)]
mod tests;
