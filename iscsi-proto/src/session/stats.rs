//! Plain counters of a session, for the driver to read and export.

/// What a target session counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// PDUs received.
    pub pdus_in: u64,
    /// PDUs sent.
    pub pdus_out: u64,
    /// SCSI commands handed to the driver.
    pub commands: u64,
    /// SCSI commands answered.
    pub responses: u64,
    /// Bytes of read data sent.
    pub data_in_bytes: u64,
    /// Bytes of write data received.
    pub data_out_bytes: u64,
    /// Requests to transfer sent.
    pub r2ts: u64,
    /// PDUs ignored: duplicates, or outside the command window.
    pub ignored: u64,
    /// Reject PDUs sent.
    pub rejects: u64,
    /// Data segments that failed their digest.
    pub data_digest_errors: u64,
    /// Task management functions received.
    pub management: u64,
    /// Tasks that ended without an answer.
    pub aborted: u64,
}
