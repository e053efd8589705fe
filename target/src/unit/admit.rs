//! Whether a command may begin: the order of what stands in its way.
//!
//! A command that the unit does not know is refused whoever sends it; then comes the reservation of somebody else, then
//! what keeps the unit from being ready, then write protection. Only a command that gets past all of them has its
//! fields looked at (SAM-5 §5.3.3, SPC-4 §5.13.1).

use iscsi_proto::scsi::{Command, Sense, SenseData};
use vmthunder_volume::Volume;

use super::LogicalUnit;
use crate::failure::Failure;
use crate::reservations::Writing;
use crate::sessions::ItNexus;

impl<V: Volume> LogicalUnit<V> {
    /// Decides as of now.
    pub(super) fn judge(&self, command: &Command, nexus: &ItNexus) -> Result<(), Failure> {
        self.known(command)?;
        self.reservations.check(nexus, command)?;
        self.ready(command)
    }

    /// Decides once more, when the command has its data and is executed. Whoever fences the nexus from now on waits until
    /// what it writes is written.
    pub(super) fn enter(
        &self,
        command: &Command,
        nexus: &ItNexus,
    ) -> Result<Option<Writing>, Failure> {
        self.known(command)?;
        let writing = self.reservations.enter(nexus, command)?;
        self.ready(command)?;
        Ok(writing)
    }

    /// What keeps the unit itself from obeying.
    fn ready(&self, command: &Command) -> Result<(), Failure> {
        if let Some(sense) = self.sanitizing.refusal(command) {
            return Err(sense.into());
        }
        if self.medium.is_absent() && needs_medium(command) {
            return Err(Sense::MEDIUM_NOT_PRESENT.into());
        }
        if command.alters_medium() && !may_alter_others(command) {
            self.writable()?;
        }
        Ok(())
    }

    /// Refuses what the unit does not offer.
    fn known(&self, command: &Command) -> Result<(), Failure> {
        if matches!(command, Command::Read { .. } | Command::Write { .. }) {
            return Ok(());
        }
        match command.cdb() {
            cdb if self.offers(&cdb) => Ok(()),
            [opcodes::SANITIZE, ..] => Err(SenseData::cdb_field(1, 4).into()),
            _ => Err(Sense::INVALID_OPERATION_CODE.into()),
        }
    }

    /// The unit itself, or its initiators by mode page, protect what is written.
    pub(super) fn writable(&self) -> Result<(), Failure> {
        if self.unit.read_only {
            Err(Sense::WRITE_PROTECTED.into())
        } else if self.modes.write_protected() {
            Err(Sense::SOFTWARE_WRITE_PROTECTED.into())
        } else {
            Ok(())
        }
    }

    /// Whether the unit obeys a command. A usage bitmap will do as well as a command descriptor block: both begin with
    /// the operation code, and where there are service actions with the own one in the low bits of the second byte.
    pub(crate) fn offers(&self, bytes: &[u8]) -> bool {
        match *bytes {
            [opcodes::UNMAP, ..] => self.unit.thin,
            // Without a journal a write can be half done when power is lost, or when this process is killed.
            [opcodes::WRITE_ATOMIC, ..] => self.has_atomic_writes(),
            [opcodes::SANITIZE, action, ..] => match action & ACTION {
                // What cannot be given back cannot be erased by blocks.
                actions::BLOCK_ERASE => self.unit.thin,
                // There is no key that could be forgotten.
                actions::CRYPTOGRAPHIC_ERASE => false,
                _ => true,
            },
            [
                opcodes::RESERVE_6
                | opcodes::RELEASE_6
                | opcodes::RESERVE_10
                | opcodes::RELEASE_10
                | opcodes::PERSISTENT_RESERVE_IN
                | opcodes::PERSISTENT_RESERVE_OUT,
                ..,
            ] => self.unit.reservable,
            _ => true,
        }
    }
}

/// The unit that gets the command need not be the one that is written to: that one is judged by itself.
fn may_alter_others(command: &Command) -> bool {
    matches!(command, Command::ExtendedCopy { .. })
}

/// What is answered while SANITIZE goes on, or has failed (SBC-3 table 13).
pub(super) fn asks_no_medium(command: &Command) -> bool {
    matches!(
        command,
        Command::Inquiry { .. }
            | Command::ReportLuns { .. }
            | Command::RequestSense { .. }
            | Command::LogSense { .. }
            | Command::ReportSupportedOpcodes { .. }
            | Command::ReportTaskManagement { .. }
            | Command::ReportTargetPortGroups { .. }
    )
}

/// What looks at the blocks, changes them, or asks whether that can be done.
pub(super) fn needs_medium(command: &Command) -> bool {
    matches!(
        command,
        Command::TestUnitReady
            | Command::ReadCapacity10
            | Command::ReadCapacity16 { .. }
            | Command::Read { .. }
            | Command::Verify { .. }
            | Command::SynchronizeCache { .. }
            | Command::PreFetch { .. }
            | Command::GetLbaStatus { .. }
            | Command::ReadDefectData { .. }
    ) || command.alters_medium()
}

/// Operation codes that not every unit has (SPC-4, SBC-4).
mod opcodes {
    pub(super) const RESERVE_6: u8 = 0x16;
    pub(super) const RELEASE_6: u8 = 0x17;
    pub(super) const UNMAP: u8 = 0x42;
    pub(super) const SANITIZE: u8 = 0x48;
    pub(super) const RESERVE_10: u8 = 0x56;
    pub(super) const RELEASE_10: u8 = 0x57;
    pub(super) const PERSISTENT_RESERVE_IN: u8 = 0x5e;
    pub(super) const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
    pub(super) const WRITE_ATOMIC: u8 = 0x9c;
}

/// Their service actions that not every unit has.
mod actions {
    pub(super) const BLOCK_ERASE: u8 = 0x02;
    pub(super) const CRYPTOGRAPHIC_ERASE: u8 = 0x03;
}

/// The service action in the second byte.
const ACTION: u8 = 0x1f;
