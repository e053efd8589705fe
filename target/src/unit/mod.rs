//! A logical unit: SCSI commands against a volume.
//!
//! A command is judged before its data is asked for ([`LogicalUnit::admit`], [`LogicalUnit::data_out_bytes`]) and again
//! when it is executed, since the unit may be another by then: ejected, reserved, smaller.

mod admit;
mod atomic;
mod behind;
mod compare;
mod copies;
mod copy;
mod fence;
mod identity;
mod journal;
mod media;
mod medium;
mod modes;
mod ranges;
mod reports;
mod same;
mod sanitize;
mod spans;
mod unmap;
mod verify;

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;
use iscsi_proto::name::IscsiName;
use iscsi_proto::scsi::mode::ModeQuery;
use iscsi_proto::scsi::{Command, Sense, SenseData};
use iscsi_proto::session::Response;
use tracing::warn;
use vmthunder_volume::{Error, Volume};

use crate::asker::Asker;
use crate::complaints::Complaints;
use crate::failure::{self, Access, Failure};
use crate::reservations::Reservations;
use crate::sessions::ItNexus;

use admit::needs_medium;
use atomic::Atomic;
use behind::Behind;
use copies::Copies;
use medium::{Medium, StartStop};
use modes::ModeSwitches;
use ranges::Ranges;
use sanitize::{Asked, Sanitizing};
use spans::bytes_32;

pub(crate) use atomic::MAX_ATOMIC_BYTES;
pub use identity::{Unit, UnitIdentity};
pub(crate) use spans::{
    MAX_COMPARE_BLOCKS, MAX_TRANSFER_BYTES, MAX_UNMAP_BYTES, MAX_UNMAP_DESCRIPTORS,
    MAX_WRITE_SAME_BYTES,
};

/// About the volumes of all units: what fills the log is one.
static COMPLAINTS: LazyLock<Complaints> = LazyLock::new(Complaints::default);

/// True if the execution of a command must not be dropped half-way, because what it writes may still happen later. The
/// work of SANITIZE is a task of its own, and so is each chunk of a copy: nobody waits for more to forget the command.
pub(crate) fn must_end(command: &Command) -> bool {
    let apart = matches!(
        command,
        Command::Sanitize { .. } | Command::ExtendedCopy { .. }
    );
    command.alters_medium() && !apart
}

/// A unit that is being served, with what its initiators have made of it.
#[derive(Debug)]
pub(crate) struct LogicalUnit<V> {
    /// The target that it was exported by: with the number what operators know it by.
    target: IscsiName,
    pub(crate) unit: Unit<V>,
    pub(crate) reservations: Reservations,
    ranges: Ranges,
    medium: Medium,
    modes: ModeSwitches,
    sanitizing: Sanitizing,
    copies: Copies,
    /// None where writes are not atomic.
    atomic: Option<Atomic>,
    flushing: Behind,
    fetching: Behind,
}

impl<V> LogicalUnit<V> {
    /// A nexus is gone, and what it held with it.
    pub(crate) fn nexus_lost(&self, nexus: &ItNexus) {
        self.reservations.nexus_lost(nexus);
        self.medium.allow(nexus);
        self.copies.forget(nexus);
    }

    /// LOGICAL UNIT RESET: what does not outlive it is gone. A SANITIZE does.
    pub(crate) fn reset(&self) {
        self.reservations.reset();
        self.medium.allow_all();
        self.modes.reset();
        self.copies.forget_all();
    }

    /// A failure in the format of sense that the initiators of this unit have asked for (D_SENSE).
    pub(crate) fn spoken(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Check(sense) if self.modes.descriptors() => Failure::Described(sense),
            other => other,
        }
    }

    /// The answer to REQUEST SENSE, where no unit attention condition is to be told: what TEST UNIT READY would meet.
    pub(crate) fn condition(&self) -> SenseData {
        match self.sanitizing.sense() {
            Some(sense) => sense,
            None if self.medium.is_absent() => Sense::MEDIUM_NOT_PRESENT.into(),
            None => Sense::NO_SENSE.into(),
        }
    }
}

impl<V: Volume> LogicalUnit<V> {
    pub(crate) fn new(target: &IscsiName, unit: Unit<V>) -> io::Result<Self> {
        let reservations = match unit.reservable {
            true => Reservations::open(unit.reservations_file.as_deref())?,
            false => Reservations::default(),
        };
        let journal = unit.atomic_file.as_deref().filter(|_| !unit.read_only);
        Ok(Self {
            target: target.clone(),
            reservations,
            atomic: journal.map(Atomic::open).transpose()?,
            modes: ModeSwitches::new(unit.read_only),
            unit,
            ranges: Ranges::default(),
            medium: Medium::default(),
            sanitizing: Sanitizing::default(),
            copies: Copies::default(),
            flushing: Behind::default(),
            fetching: Behind::default(),
        })
    }

    /// Decides whether a command may begin, before its data is asked for.
    pub(crate) fn admit(&self, command: &Command, asker: &Asker<V>) -> Result<(), Failure> {
        self.judge(command, &asker.nexus)
            .map_err(|failure| self.spoken(failure))
    }

    /// Checks a command as far as its descriptor block goes and tells how much write data it needs; `offered` is what
    /// the initiator has to give.
    pub(crate) fn data_out_bytes(&self, command: &Command, offered: u32) -> Result<u32, Failure> {
        self.needs(command, offered)
            .map_err(|failure| self.spoken(failure))
    }

    /// Executes a command that [`data_out_bytes`](Self::data_out_bytes) found nothing wrong with.
    pub(crate) async fn execute(
        &self,
        command: Command,
        data: Bytes,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        let done = match self.enter(&command, &asker.nexus) {
            Ok(_writing) => self.obey(command, data, asker).await,
            Err(failure) => Err(failure),
        };
        done.map_err(|failure| self.spoken(failure))
    }

    fn needs(&self, command: &Command, offered: u32) -> Result<u32, Failure> {
        match *command {
            Command::Write { range, .. } | Command::OrWrite { range, .. } => {
                Ok(bytes_32(self.transfer(range)?))
            }
            Command::WriteAndVerify { range, check } => self.write_and_verify_bytes(range, check),
            Command::Verify { range, check } => self.verify_bytes(range, check),
            Command::CompareAndWrite { lba, blocks, .. } => {
                self.compare_and_write_bytes(lba, blocks, offered)
            }
            Command::WriteAtomic {
                range, boundary, ..
            } => self.write_atomic_bytes(range, boundary, offered),
            Command::WriteSame(same) => self.write_same_bytes(&same, offered),
            Command::Unmap { anchor: true, .. } => Err(SenseData::cdb_field(1, 0).into()),
            Command::Unmap {
                parameter_length, ..
            } => Ok(parameter_length.into()),
            Command::ModeSelect {
                save,
                parameter_length,
                ..
            } => Self::mode_select_bytes(save, parameter_length),
            Command::Sanitize {
                action,
                parameter_length,
                ..
            } => self.sanitize_bytes(action, parameter_length),
            Command::ExtendedCopy { parameter_length } => Self::copy_bytes(parameter_length),
            _ => self.reservations.data_out_bytes(command).unwrap_or(Ok(0)),
        }
    }

    /// The commands that move blocks, in place; the others apart, so that these stay small.
    async fn obey(
        &self,
        command: Command,
        data: Bytes,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        let class = asker.export.class;
        if needs_medium(&command) {
            self.make_whole().await?;
        }
        match command {
            Command::Read { range, caching } => self.read(range, caching, class).await,
            Command::Write { range, caching } => self.write(range, caching, &data).await,
            other => Box::pin(self.obey_other(other, data, asker)).await,
        }
    }

    async fn obey_other(
        &self,
        command: Command,
        data: Bytes,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        let class = asker.export.class;
        match command {
            Command::WriteAndVerify { range, check } => {
                self.write_and_verify(range, check, data, class).await
            }
            Command::Verify { range, check } => self.verify(range, check, data, class).await,
            Command::CompareAndWrite {
                lba,
                blocks,
                caching,
            } => {
                self.compare_and_write(lba, blocks, caching, data, class)
                    .await
            }
            Command::WriteAtomic { range, .. } => self.write_atomic(range, data, asker).await,
            Command::OrWrite { range, caching } => {
                self.or_write(range, caching, &data, class).await
            }
            Command::SynchronizeCache { range, immediate } => {
                self.synchronize(range, immediate, asker).await
            }
            Command::PreFetch { range, immediate } => self.pre_fetch(range, immediate, asker).await,
            Command::Unmap { .. } => self.unmap(&data).await,
            Command::WriteSame(same) => self.write_same(&same, data).await,
            Command::GetLbaStatus { lba, allocation } => self.lba_status(lba, allocation).await,
            other => self.obey_rare(other, data, asker).await,
        }
    }

    /// The commands that change the unit rather than its blocks, or all blocks at once.
    async fn obey_rare(
        &self,
        command: Command,
        data: Bytes,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        match command {
            Command::TestUnitReady => Ok(Response::good()),
            Command::StartStopUnit {
                start,
                load_eject,
                power_condition,
                ..
            } => {
                let asked = StartStop {
                    start,
                    load_eject,
                    power_condition,
                };
                self.start_stop(asked, asker).await
            }
            Command::PreventAllowMediumRemoval { prevent } => self.prevent_allow(prevent, asker),
            Command::ModeSense {
                form,
                control,
                page,
                subpage,
                no_block_descriptor,
                allocation,
            } => {
                let query = ModeQuery {
                    form,
                    control,
                    page,
                    subpage,
                    no_block_descriptor,
                };
                self.mode_sense(&query, allocation)
            }
            Command::ModeSelect {
                form, page_format, ..
            } => self.mode_select(form, page_format, &data, asker).await,
            Command::Sanitize {
                action,
                immediate,
                unrestricted,
                ..
            } => {
                let asked = Asked {
                    action,
                    immediate,
                    unrestricted,
                };
                self.sanitize(asked, data, asker).await
            }
            Command::ExtendedCopy { .. } => self.extended_copy(&data, asker).await,
            Command::ReceiveCopyResults {
                action,
                list_id,
                allocation,
            } => self.copy_results(action, list_id, allocation, asker),
            other => {
                let unit = self.unit.number;
                match self.reservations.execute(&other, &data, asker, unit).await {
                    Some(done) => done,
                    None => self.report(&other, &asker.export.port),
                }
            }
        }
    }

    /// The unit itself, for work that outlives the command.
    fn own(&self, asker: &Asker<V>) -> Result<Arc<Self>, Failure> {
        let own = asker.units.get(&self.unit.number).map(Arc::clone);
        own.ok_or_else(|| Sense::LOGICAL_UNIT_NOT_SUPPORTED.into())
    }

    /// What an initiator is told of the volume's error, and the log if the volume itself is at fault.
    fn failed(&self, error: &Error, access: Access) -> Failure {
        if failure::is_fault(error)
            && let Some(unsaid) = COMPLAINTS.may_say(Instant::now())
        {
            let (target, unit) = (&self.target, self.unit.number);
            warn!(%target, unit, %error, ?access, unsaid, "the volume fails");
        }
        Failure::of(error, access)
    }
}

#[cfg(test)]
mod tests;
