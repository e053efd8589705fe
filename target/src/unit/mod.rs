//! A logical unit: SCSI commands against a volume.

use std::io;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use iscsi_proto::scsi::{ByteCheck, Command, Sense, WriteSame, unmap};
use iscsi_proto::session::Response;
use tracing::warn;
use vmthunder_volume::{Class, Error, Geometry, Span, Volume};

use crate::asker::Asker;
use crate::complaints::Complaints;
use crate::failure::{self, Access, Failure};
use crate::inquiry;
use crate::reservations::Reservations;
use crate::sessions::ItNexus;

/// Bytes in the longest READ, WRITE or VERIFY.
pub(crate) const MAX_TRANSFER_BYTES: u64 = 8 << 20;

/// Bytes in the longest WRITE SAME.
pub(crate) const MAX_WRITE_SAME_BYTES: u64 = 8 << 20;

/// Bytes in the longest UNMAP, all its descriptors together.
pub(crate) const MAX_UNMAP_BYTES: u64 = 512 << 20;

/// Descriptors in one UNMAP.
pub(crate) const MAX_UNMAP_DESCRIPTORS: usize = 256;

/// Descriptors in one answer to GET LBA STATUS.
const MAX_STATUS_DESCRIPTORS: usize = 64;

/// Bytes that are read or written at once where no buffer of the initiator sets the size.
const CHUNK_BYTES: u64 = 1 << 20;

/// Bytes that one PRE-FETCH brings in: it is advice, so the rest of a longer one is left out.
const MAX_PREFETCH_BYTES: u64 = 64 << 20;

/// About the volumes of all units: what fills the log is one.
static COMPLAINTS: LazyLock<Complaints> = LazyLock::new(Complaints::default);

/// What an initiator recognises a unit by. Two units with one identity are one unit to it: a multipath disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitIdentity {
    /// The NAA designator; its first four bits are 3, locally assigned.
    pub designator: [u8; 8],
    /// The serial number, printable ASCII.
    pub serial: String,
    /// The product name, at most 16 characters.
    pub product: String,
}

impl UnitIdentity {
    /// An identity with this designator, and its hexadecimal form as the serial number.
    pub fn new(designator: [u8; 8], product: &str) -> Self {
        let serial = designator
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            designator,
            serial,
            product: product.to_owned(),
        }
    }

    /// An identity whose designator is locally assigned, with these 60 bits.
    pub fn locally_assigned(bits: u64, product: &str) -> Self {
        let designator = bits & 0x0fff_ffff_ffff_ffff | 0x3000_0000_0000_0000;
        Self::new(designator.to_be_bytes(), product)
    }
}

/// A volume as a logical unit.
#[derive(Debug)]
pub struct Unit<V> {
    /// The logical unit number.
    pub number: u16,
    /// What is served.
    pub volume: V,
    /// What the unit is recognised by.
    pub identity: UnitIdentity,
    /// Writing is refused.
    pub read_only: bool,
    /// Blocks can be given back, and read as zeros then.
    pub thin: bool,
    /// The medium can be ejected, and its removal be prevented.
    pub removable: bool,
    /// Where registrations that shall survive the loss of power are kept (SPC-4 §5.13.5); none: that is not offered.
    pub reservations_file: Option<PathBuf>,
}

impl<V> Unit<V> {
    /// A thin unit that can be written to and not be removed.
    pub fn new(number: u16, volume: V, identity: UnitIdentity) -> Self {
        Self {
            number,
            volume,
            identity,
            read_only: false,
            thin: true,
            removable: false,
            reservations_file: None,
        }
    }
}

/// A unit that is being served, with what its initiators have made of it.
#[derive(Debug)]
pub(crate) struct LogicalUnit<V> {
    pub(crate) unit: Unit<V>,
    pub(crate) reservations: Reservations,
}

impl<V> LogicalUnit<V> {
    /// A nexus is gone, and what it held with it.
    pub(crate) fn nexus_lost(&self, nexus: &ItNexus) {
        self.reservations.nexus_lost(nexus);
    }

    /// LOGICAL UNIT RESET: what does not outlive it is gone.
    pub(crate) fn reset(&self) {
        self.reservations.reset();
    }
}

impl<V: Volume> LogicalUnit<V> {
    pub(crate) fn new(unit: Unit<V>) -> io::Result<Self> {
        Ok(Self {
            reservations: Reservations::open(unit.reservations_file.as_deref())?,
            unit,
        })
    }

    /// Decides whether a command may begin, before its data is asked for.
    pub(crate) fn admit(&self, command: &Command, asker: &Asker<V>) -> Result<(), Failure> {
        self.reservations.check(&asker.nexus, command)
    }

    /// Checks a command as far as its descriptor block goes and tells how much write data it needs; `offered` is what
    /// the initiator has to give.
    pub(crate) fn data_out_bytes(&self, command: &Command, offered: u32) -> Result<u32, Failure> {
        if self.unit.read_only && command.alters_medium() {
            return Err(Sense::WRITE_PROTECTED.into());
        }
        match *command {
            Command::Verify {
                check: ByteCheck::CompareOne,
                ..
            }
            | Command::WriteAndVerify {
                check: ByteCheck::CompareOne,
                ..
            } => Err(Sense::INVALID_FIELD_IN_CDB.into()),
            Command::Write { range, .. }
            | Command::WriteAndVerify { range, .. }
            | Command::Verify {
                range,
                check: ByteCheck::Compare,
            } => bytes_32(self.transfer(range.lba(), range.blocks())?),
            Command::WriteSame(same) => {
                self.write_same_span(&same)?;
                match (same.no_data_out, self.block_bytes()) {
                    (true, _) => Ok(0),
                    // Anything but one block is a misunderstanding that would destroy data.
                    (false, block_bytes) if block_bytes != offered => {
                        Err(Sense::INVALID_FIELD_IN_CDB.into())
                    }
                    (false, block_bytes) => Ok(block_bytes),
                }
            }
            Command::Unmap { .. } if !self.unit.thin => Err(Sense::INVALID_OPERATION_CODE.into()),
            Command::Unmap { anchor: true, .. } => Err(Sense::INVALID_FIELD_IN_CDB.into()),
            Command::Unmap {
                parameter_length, ..
            } => Ok(parameter_length.into()),
            _ => Ok(0),
        }
    }

    /// Executes a command that [`data_out_bytes`](Self::data_out_bytes) found nothing wrong with.
    pub(crate) async fn execute(
        &self,
        command: Command,
        data: Bytes,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        let (class, port) = (asker.export.class, &asker.export.port);
        match command {
            Command::TestUnitReady => Ok(Response::good()),
            Command::Read { range, .. } => {
                self.read(self.transfer(range.lba(), range.blocks())?, class)
                    .await
            }
            Command::Write { range, caching } => {
                let span = self.transfer(range.lba(), range.blocks())?;
                self.write(span, data, caching.force_unit_access).await
            }
            Command::WriteAndVerify { range, check } => {
                let compare = check == ByteCheck::Compare;
                let span = self.transfer(range.lba(), range.blocks())?;
                self.write(span, data.clone(), true).await?;
                self.verify(span, compare.then_some(data), class).await?;
                Ok(Response::written(bytes_32(span)?))
            }
            Command::Verify { range, check } => {
                let compare = check == ByteCheck::Compare;
                let span = self.transfer(range.lba(), range.blocks())?;
                self.verify(span, compare.then_some(data), class).await
            }
            Command::SynchronizeCache { range, .. } => {
                self.checked(range.lba(), range.blocks().into())?;
                self.flush().await
            }
            Command::PreFetch { range, .. } => self.pre_fetch(range.lba(), range.blocks()).await,
            Command::Unmap { .. } => self.unmap(&data).await,
            Command::WriteSame(same) => self.write_same(&same, data).await,
            Command::GetLbaStatus { lba, allocation } => self.lba_status(lba, allocation).await,
            Command::StartStopUnit {
                start: false,
                power_condition: 0,
                ..
            } if !self.unit.read_only => self.flush().await,
            Command::StartStopUnit { .. } | Command::PreventAllowMediumRemoval { .. } => {
                Ok(Response::good())
            }
            told => inquiry::answer(self, &told, port),
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.unit.volume.geometry()
    }

    pub(crate) fn block_bytes(&self) -> u32 {
        self.geometry().block_size().bytes()
    }

    /// The span of blocks, if they exist. The first one must even if none is meant (SBC-3 §4.5).
    fn checked(&self, lba: u64, blocks: u64) -> Result<Span, Failure> {
        let span = self
            .geometry()
            .span(lba, blocks)
            .map_err(|_| Sense::LBA_OUT_OF_RANGE)?;
        if lba < self.geometry().blocks() {
            Ok(span)
        } else {
            Err(Sense::LBA_OUT_OF_RANGE.into())
        }
    }

    /// The span of a command that moves data.
    fn transfer(&self, lba: u64, blocks: u32) -> Result<Span, Failure> {
        let span = self.checked(lba, blocks.into())?;
        if span.length() > MAX_TRANSFER_BYTES {
            Err(Sense::INVALID_FIELD_IN_CDB.into())
        } else {
            Ok(span)
        }
    }

    async fn read(&self, span: Span, class: Class) -> Result<Response, Failure> {
        if span.is_empty() {
            return Ok(Response::good());
        }
        let data = self
            .unit
            .volume
            .read(span, class)
            .await
            .map_err(|error| self.failed(&error, Access::Reading))?;
        Ok(Response::read(vec![data]))
    }

    /// Writes as many whole blocks as the initiator sent; the residual tells it how many were asked for.
    async fn write(&self, span: Span, mut data: Bytes, force: bool) -> Result<Response, Failure> {
        let whole = data.len() - data.len() % usize::try_from(self.block_bytes()).unwrap_or(1);
        data.truncate(whole);
        if !data.is_empty() {
            self.unit
                .volume
                .write(span.offset(), data)
                .await
                .map_err(|error| self.failed(&error, Access::Writing))?;
            if force {
                self.unit
                    .volume
                    .flush()
                    .await
                    .map_err(|error| self.failed(&error, Access::Writing))?;
            }
        }
        Ok(Response::written(bytes_32(span)?))
    }

    async fn verify(
        &self,
        span: Span,
        expected: Option<Bytes>,
        class: Class,
    ) -> Result<Response, Failure> {
        let span = match &expected {
            // What the initiator did not send cannot differ.
            Some(data) => Span::new(
                span.offset(),
                whole_blocks(data.len(), self.block_bytes()).min(span.length()),
            ),
            None => span,
        };
        let mut expected = expected.map(|data| (data, span.length()));
        for part in chunks(span) {
            let found = self
                .unit
                .volume
                .read(part, class)
                .await
                .map_err(|error| self.failed(&error, Access::Reading))?;
            if let Some((data, _)) = &mut expected
                && data.split_to(found.len().min(data.len())) != found
            {
                return Err(Sense::MISCOMPARE.into());
            }
        }
        let moved = expected.map_or(0, |(_, length)| u32::try_from(length).unwrap_or(u32::MAX));
        Ok(Response::written(moved))
    }

    /// What an initiator is told of the volume's error, and the log if the volume itself is at fault.
    fn failed(&self, error: &Error, access: Access) -> Failure {
        if failure::is_fault(error)
            && let Some(unsaid) = COMPLAINTS.may_say(Instant::now())
        {
            let (unit, serial) = (self.unit.number, &self.unit.identity.serial);
            warn!(unit, serial, %error, ?access, unsaid, "the volume fails");
        }
        Failure::of(error, access)
    }

    async fn flush(&self) -> Result<Response, Failure> {
        self.unit
            .volume
            .flush()
            .await
            .map_err(|error| self.failed(&error, Access::Writing))?;
        Ok(Response::good())
    }

    /// Reads ahead. What cannot be had now is not missed: the read that needs it will say so.
    async fn pre_fetch(&self, lba: u64, blocks: u32) -> Result<Response, Failure> {
        let span = match blocks {
            0 => self.checked(lba, self.geometry().blocks().saturating_sub(lba))?,
            blocks => self.checked(lba, blocks.into())?,
        };
        for part in chunks(Span::new(
            span.offset(),
            span.length().min(MAX_PREFETCH_BYTES),
        )) {
            if self.unit.volume.read(part, Class::Prefetch).await.is_err() {
                break;
            }
        }
        Ok(Response::good())
    }

    async fn unmap(&self, list: &[u8]) -> Result<Response, Failure> {
        let moved = u32::try_from(list.len()).unwrap_or(u32::MAX);
        if list.is_empty() {
            return Ok(Response::good());
        }
        let runs = unmap::parse(list)?;
        let total = runs.iter().fold(0u64, |sum, (_, blocks)| {
            sum.saturating_add(u64::from(*blocks))
        });
        if runs.len() > MAX_UNMAP_DESCRIPTORS
            || total > MAX_UNMAP_BYTES / u64::from(self.block_bytes())
        {
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.into());
        }
        // A descriptor of no blocks means nothing, wherever it points.
        let meant = runs.iter().filter(|(_, blocks)| *blocks != 0);
        let spans: Result<Vec<_>, _> = meant
            .map(|(lba, blocks)| self.checked(*lba, (*blocks).into()))
            .collect();
        for span in spans? {
            self.unit
                .volume
                .trim(span)
                .await
                .map_err(|error| self.failed(&error, Access::Writing))?;
        }
        Ok(Response::written(moved))
    }

    fn write_same_span(&self, same: &WriteSame) -> Result<Span, Failure> {
        let span = self.checked(same.range.lba(), same.range.blocks().into())?;
        let refused = span.is_empty() || span.length() > MAX_WRITE_SAME_BYTES || same.anchor;
        if refused || (same.unmap && !self.unit.thin) {
            return Err(Sense::INVALID_FIELD_IN_CDB.into());
        }
        Ok(span)
    }

    async fn write_same(&self, same: &WriteSame, block: Bytes) -> Result<Response, Failure> {
        let span = self.write_same_span(same)?;
        let block_bytes = usize::try_from(self.block_bytes()).unwrap_or(0);
        let moved = if same.no_data_out {
            0
        } else {
            self.block_bytes()
        };
        if !same.no_data_out && block.len() < block_bytes {
            // The initiator kept the block back, so there is nothing to write; the residual says so.
            return Ok(Response::written(moved));
        }
        let zero = same.no_data_out || block.iter().all(|byte| *byte == 0);
        if zero && same.unmap {
            self.unit
                .volume
                .trim(span)
                .await
                .map_err(|error| self.failed(&error, Access::Writing))?;
            return Ok(Response::written(moved));
        }
        let pattern = pattern(&block, zero, span.length().min(CHUNK_BYTES));
        for part in chunks(span) {
            let bytes = pattern.slice(
                ..usize::try_from(part.length())
                    .unwrap_or(0)
                    .min(pattern.len()),
            );
            self.unit
                .volume
                .write(part.offset(), bytes)
                .await
                .map_err(|error| self.failed(&error, Access::Writing))?;
        }
        Ok(Response::written(moved))
    }

    async fn lba_status(&self, lba: u64, allocation: u32) -> Result<Response, Failure> {
        let mut rest = self.checked(lba, self.geometry().blocks().saturating_sub(lba))?;
        let room = usize::try_from(allocation)
            .unwrap_or(usize::MAX)
            .saturating_sub(8)
            / 16;
        let mut runs = Vec::new();
        while !rest.is_empty() && runs.len() < room.clamp(1, MAX_STATUS_DESCRIPTORS) {
            let (kind, run) = self
                .unit
                .volume
                .allocation(rest)
                .await
                .map_err(|error| self.failed(&error, Access::Reading))?;
            let length = run.length().clamp(self.block_bytes().into(), rest.length());
            runs.push(inquiry::status_of(
                kind,
                rest.offset(),
                length,
                self.block_bytes(),
            ));
            rest = Span::new(rest.offset() + length, rest.length() - length);
        }
        Ok(inquiry::lba_status(&runs, allocation))
    }
}

fn bytes_32(span: Span) -> Result<u32, Failure> {
    u32::try_from(span.length()).map_err(|_| Sense::INVALID_FIELD_IN_CDB.into())
}

fn whole_blocks(length: usize, block_bytes: u32) -> u64 {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    length - length % u64::from(block_bytes)
}

/// Cuts a span into parts of [`CHUNK_BYTES`].
fn chunks(span: Span) -> impl Iterator<Item = Span> {
    let mut at = span.offset();
    std::iter::from_fn(move || {
        let part = Span::new(at, CHUNK_BYTES.min(span.end().saturating_sub(at)));
        at = part.end();
        (!part.is_empty()).then_some(part)
    })
}

/// `length` bytes of a repeated block.
fn pattern(block: &Bytes, zero: bool, length: u64) -> Bytes {
    let length = usize::try_from(length).unwrap_or(0);
    if zero {
        return Bytes::from(vec![0; length]);
    }
    let mut out = BytesMut::with_capacity(length + block.len());
    while out.len() < length && !block.is_empty() {
        out.extend_from_slice(block);
    }
    out.truncate(length);
    out.freeze()
}

#[cfg(test)]
mod tests;
