//! Which commands a reservation lets through (SPC-4 §5.13.1, SBC-3 §4.17, SPC-2 §5.5.1).

use iscsi_proto::scsi::persistent::ReservationType;
use iscsi_proto::scsi::{Command, ReserveOut};

use super::State;
use crate::failure::Failure;
use crate::sessions::ItNexus;

/// What somebody else's reservation is to a nexus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restriction {
    /// A persistent reservation against writing.
    WriteExclusive,
    /// A persistent reservation against reading, too.
    ExclusiveAccess,
    /// RESERVE.
    Reserve,
}

impl From<ReservationType> for Restriction {
    fn from(kind: ReservationType) -> Self {
        if kind.excludes_reading() {
            Self::ExclusiveAccess
        } else {
            Self::WriteExclusive
        }
    }
}

impl State {
    /// Decides whether a nexus may send a command.
    pub(super) fn check(&self, nexus: &ItNexus, command: &Command) -> Result<(), Failure> {
        let reserved = self.legacy.is_some();
        let allowed = match command {
            // With RESERVE in force they conflict for everybody, its holder included (SPC-2 §5.5.1).
            Command::PersistentReserveIn { .. } => !reserved,
            Command::PersistentReserveOut { action, .. } => {
                let registers =
                    matches!(action, ReserveOut::Register | ReserveOut::RegisterAndIgnore);
                !reserved && (registers || self.persistent.key_of(nexus).is_some())
            }
            Command::Reserve { .. } => self.may_reserve(nexus),
            Command::Release { .. } => self.may_release(nexus),
            other => self
                .restriction(nexus)
                .is_none_or(|restriction| passes(other, restriction)),
        };
        if allowed {
            Ok(())
        } else {
            Err(Failure::Conflict)
        }
    }

    fn restriction(&self, nexus: &ItNexus) -> Option<Restriction> {
        match &self.legacy {
            Some(holder) => (holder != nexus).then_some(Restriction::Reserve),
            None => self.persistent.restriction(nexus).map(Restriction::from),
        }
    }
}

/// The table: what passes somebody else's reservation.
fn passes(command: &Command, restriction: Restriction) -> bool {
    let [write_exclusive, exclusive_access, reserve] = match command {
        // Columns: Write Exclusive, Exclusive Access, RESERVE.
        Command::Inquiry { .. }
        | Command::ReportLuns { .. }
        | Command::RequestSense { .. }
        | Command::LogSense { .. }
        | Command::ReadCapacity10
        | Command::ReadCapacity16 { .. }
        | Command::ReportTargetPortGroups { .. }
        | Command::PreventAllowMediumRemoval { prevent: 0 }
        | Command::StartStopUnit {
            start: true,
            power_condition: 0,
            ..
        } => [true, true, true],

        Command::TestUnitReady => [true, true, false],

        Command::Read { .. }
        | Command::Verify { .. }
        | Command::PreFetch { .. }
        | Command::GetLbaStatus { .. }
        | Command::ModeSense { .. }
        | Command::ReadDefectData { .. }
        | Command::ReceiveCopyResults { .. }
        | Command::ReportSupportedOpcodes { .. }
        | Command::ReportTaskManagement { .. } => [true, false, false],

        Command::Write { .. }
        | Command::WriteAndVerify { .. }
        | Command::WriteSame(_)
        | Command::WriteAtomic { .. }
        | Command::OrWrite { .. }
        | Command::CompareAndWrite { .. }
        | Command::Unmap { .. }
        | Command::Sanitize { .. }
        | Command::ExtendedCopy { .. }
        | Command::SynchronizeCache { .. }
        | Command::ModeSelect { .. }
        | Command::StartStopUnit { .. }
        | Command::PreventAllowMediumRemoval { .. } => [false, false, false],

        // These have rules of their own.
        Command::PersistentReserveIn { .. }
        | Command::PersistentReserveOut { .. }
        | Command::Reserve { .. }
        | Command::Release { .. } => [false, false, false],
    };
    match restriction {
        Restriction::WriteExclusive => write_exclusive,
        Restriction::ExclusiveAccess => exclusive_access,
        Restriction::Reserve => reserve,
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
