//! Reservations of one logical unit: RESERVE and RELEASE (SPC-2 §5.5), persistent reservations (SPC-4 §5.13).

use std::io;
use std::path::Path;

use iscsi_proto::scsi::Command;

use crate::failure::Failure;
use crate::sessions::ItNexus;

/// Who has reserved a logical unit, and what the others may still do.
#[derive(Debug, Default)]
pub(crate) struct Reservations {}

impl Reservations {
    /// The reservations that `file` keeps; none if there is no file yet.
    pub(crate) fn open(_file: Option<&Path>) -> io::Result<Self> {
        Ok(Self::default())
    }

    /// Decides whether a nexus may send a command (SPC-4 tables 66 and 67).
    pub(crate) fn check(&self, _nexus: &ItNexus, _command: &Command) -> Result<(), Failure> {
        Ok(())
    }

    /// A nexus is gone: what RESERVE gave it is free again.
    pub(crate) fn nexus_lost(&self, _nexus: &ItNexus) {}

    /// The unit was reset: what RESERVE gave is free again.
    pub(crate) fn reset(&self) {}
}
