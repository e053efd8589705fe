//! A volume in a file or block device.

/// A volume in a file or block device.
#[derive(Debug)]
pub struct RawFile {}
