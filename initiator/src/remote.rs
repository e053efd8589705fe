//! A logical unit as a volume.

use std::collections::VecDeque;

use bytes::Bytes;
use iscsi_proto::scsi::vpd::{self, BlockLimits, Designator, Provisioning};
use iscsi_proto::scsi::{Caching, Command, LbaRange, ModeForm, PageControl, lba_status, unmap};
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume as volume;
use vmthunder_volume::{Allocation, BlockSize, Class, Geometry, Span, Volume, join};

use crate::commands::Allowed;
use crate::identity::{Identity, good, good_or_unknown};
use crate::job::{Pending, Repeat, UnitSize};
use crate::paths::{PathStatus, Paths};
use crate::{Error, Session};

/// A logical unit as a volume, over one session or several. Reads and writes are cut to what the unit takes at once, and several
/// parts are under way at a time.
#[derive(Clone, Debug)]
pub struct Remote {
    paths: Paths,
    block_size: BlockSize,
    size: UnitSize,
    designators: Vec<Designator>,
    read_only: bool,
    /// Bytes of one command, a whole number of blocks.
    part_bytes: u64,
    unmap: Option<UnmapLimits>,
    allowed: Allowed,
    reports_allocation: bool,
}

/// What one UNMAP may say.
#[derive(Clone, Copy, Debug)]
struct UnmapLimits {
    blocks: u32,
}

impl Remote {
    /// Asks a unit what it is: size, names, limits. From then on it must stay that, or it answers [`Error::Changed`].
    /// [`Error::BlockSize`] for blocks that are neither 512 nor 4096 bytes long, [`Error::Status`] for a unit that is not
    /// there or not ready, [`Error::Malformed`] for one whose answers make no sense.
    pub async fn attach(session: Session, lun: Lun) -> Result<Self, Error> {
        let (identity, size) = session.attach(lun).await?;
        Self::over(Paths::one(session, lun, size.clone()), identity, size).await
    }

    /// The unit that these paths lead to.
    pub(crate) async fn over(
        paths: Paths,
        identity: Identity,
        size: UnitSize,
    ) -> Result<Self, Error> {
        let block_size = BlockSize::from_bytes(identity.block_bytes)
            .ok_or(Error::BlockSize(identity.block_bytes))?;
        // A byte address of such a unit would not fit into 64 bits.
        if identity.blocks > u64::MAX / u64::from(identity.block_bytes) {
            return Err(Error::Malformed);
        }
        let limits = paths.vital_page(vpd::BLOCK_LIMITS).await?;
        let limits = limits
            .as_deref()
            .and_then(BlockLimits::parse)
            .unwrap_or_default();
        let provisioning = paths.vital_page(vpd::LOGICAL_BLOCK_PROVISIONING).await?;
        let provisioning = provisioning
            .as_deref()
            .and_then(Provisioning::parse)
            .unwrap_or_default();
        let read_only = is_write_protected(&paths).await?;
        Ok(Self {
            part_bytes: part_bytes(&limits, block_size),
            unmap: unmap_limits(&limits, &provisioning),
            allowed: Allowed::new(&limits, &provisioning),
            reports_allocation: provisioning.thin || provisioning.unmap,
            designators: identity.designators,
            paths,
            block_size,
            size,
            read_only,
        })
    }

    /// The designators of the logical unit (VPD page 83h, association 0).
    pub fn designators(&self) -> &[Designator] {
        &self.designators
    }

    /// True if the unit says that it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The ways to the unit, as they are now.
    pub fn paths(&self) -> Vec<PathStatus> {
        self.paths.statuses()
    }

    /// How often the unit may have lost what it acknowledged and was not asked to flush, whichever path told it
    /// ([`CacheLoss`](crate::CacheLoss)).
    pub fn cache_losses(&self) -> u64 {
        self.paths.cache_losses()
    }

    /// Logs out on every path; from then on everything answers an error, also if the future is dropped.
    pub async fn close(&self) {
        self.paths.close().await;
    }

    /// The size of the unit in bytes. It changes when the unit is resized and the session follows that
    /// ([`Resize`](crate::Resize)).
    pub fn size_in_bytes(&self) -> u64 {
        self.geometry().bytes()
    }

    /// The length of a block in bytes: 512 or 4096. Offsets and lengths are whole blocks.
    pub fn block_bytes(&self) -> u32 {
        self.block_size.bytes()
    }

    /// Reads `length` bytes from byte `offset` on, both on block boundaries. All of them are in memory at once, for a
    /// moment twice where they take more than one command: who reads more than some MiB asks piece by piece.
    ///
    /// [`Error::OutOfRange`] is found before anything is sent, as in all methods that take an offset.
    pub async fn read_at(&self, offset: u64, length: u64) -> Result<Bytes, Error> {
        self.read_span(Span::new(offset, length), Class::Demand)
            .await
    }

    /// Writes `bytes` from byte `offset` on, both on block boundaries. They survive the loss of power after
    /// [`synchronize`](Self::synchronize). After an error a part may be written.
    ///
    /// [`Error::ReadOnly`] for a unit that is write protected.
    pub async fn write_at(&self, offset: u64, bytes: impl Into<Bytes>) -> Result<(), Error> {
        let bytes = bytes.into();
        self.check_change(Span::new(offset, bytes.len() as u64))?;
        self.write_parts(offset, &bytes, Caching::default()).await
    }

    /// Makes everything that was acknowledged before survive the loss of power (SYNCHRONIZE CACHE, SBC-3 §5.22).
    ///
    /// [`Error::CacheLost`] if it may be gone already, with [`CacheLoss::FailFlush`](crate::CacheLoss::FailFlush) alone, and
    /// once: write again what was written since the last time that this went well, and call it again.
    pub async fn synchronize(&self) -> Result<(), Error> {
        match self.read_only {
            true => Ok(()),
            false => self
                .command(&Command::synchronize_cache(), Transfer::None)
                .await
                .map(drop),
        }
    }

    /// Gives the space of `length` bytes from byte `offset` on back (UNMAP, SBC-3 §5.28), both on block boundaries; they
    /// read as zeros from then on. Who wants zeros and need not give space back takes
    /// [`write_zeroes`](Self::write_zeroes).
    ///
    /// [`Error::Unsupported`] for a unit that does not do it, or does not promise zeros; [`Error::ReadOnly`].
    pub async fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        let span = Span::new(offset, length);
        self.check_change(span)?;
        self.unmap_parts(span, self.unmap.ok_or(Error::Unsupported)?)
            .await
    }

    /// Whether the unit stores what it holds from byte `offset` on, and for how many of `length` bytes that is so; both on
    /// block boundaries (GET LBA STATUS, SBC-3 §5.6). A unit that does not tell stores everything.
    pub async fn allocation_at(
        &self,
        offset: u64,
        length: u64,
    ) -> Result<(Allocation, u64), Error> {
        let span = Span::new(offset, length);
        self.check(span)?;
        let (kind, run) = match self.reports_allocation && !span.is_empty() {
            true => self.first_run(span).await?,
            false => (Allocation::Mapped, span),
        };
        Ok((kind, run.length()))
    }

    /// Finds out that a span is none before anything is sent.
    pub(crate) fn check(&self, span: Span) -> Result<(), Error> {
        self.geometry().check(span).map_err(|_| Error::OutOfRange)
    }

    /// The same of one that is to be changed.
    pub(crate) fn check_change(&self, span: Span) -> Result<(), Error> {
        self.check(span)?;
        match self.read_only {
            true => Err(Error::ReadOnly),
            false => Ok(()),
        }
    }

    /// What further commands may say.
    pub(crate) fn allowed(&self) -> Allowed {
        self.allowed
    }

    /// The first block of a span, and its blocks; spans of one command are short.
    pub(crate) fn blocks(&self, span: Span) -> (u64, u32) {
        let size = u64::from(self.block_size.bytes());
        (
            span.offset() / size,
            u32::try_from(span.length() / size).unwrap_or(u32::MAX),
        )
    }

    fn parts(&self, span: Span) -> impl Iterator<Item = Span> + use<> {
        cut(span, self.part_bytes)
    }

    async fn start_read(&self, part: Span, class: Class) -> Result<(Pending, Span), Error> {
        let (lba, blocks) = self.blocks(part);
        let length = u32::try_from(part.length()).unwrap_or(u32::MAX);
        let pending = self
            .paths
            .start(&Command::read(lba, blocks), Transfer::Read(length), class)
            .await?;
        Ok((pending, part))
    }

    async fn read_span(&self, span: Span, class: Class) -> Result<Bytes, Error> {
        self.check(span)?;
        let mut parts = self.parts(span);
        let mut flying = VecDeque::new();
        let mut done = Vec::new();
        loop {
            while flying.len() < self.paths.parts_in_flight()
                && let Some(part) = parts.next()
            {
                flying.push_back(self.start_read(part, class).await?);
            }
            let Some((pending, part)) = flying.pop_front() else {
                break;
            };
            let data = good(pending.end().await?)?;
            if data.len() as u64 != part.length() {
                return Err(Error::Malformed);
            }
            done.push(data);
        }
        Ok(join(done))
    }

    pub(crate) async fn write_parts(
        &self,
        offset: u64,
        bytes: &Bytes,
        caching: Caching,
    ) -> Result<(), Error> {
        let mut parts = self.parts(Span::new(offset, bytes.len() as u64));
        let mut flying: VecDeque<Pending> = VecDeque::new();
        loop {
            while flying.len() < self.paths.parts_in_flight()
                && let Some(part) = parts.next()
            {
                let (lba, blocks) = self.blocks(part);
                let data = slice(bytes, part.offset() - offset, part.length());
                let range = LbaRange::sixteen(lba, blocks);
                let command = Command::Write { range, caching };
                flying.push_back(
                    self.paths
                        .start(&command, Transfer::Write(data), Class::Demand)
                        .await?,
                );
            }
            let Some(pending) = flying.pop_front() else {
                return Ok(());
            };
            good(pending.end().await?)?;
        }
    }

    async fn command(&self, command: &Command, transfer: Transfer) -> Result<Bytes, Error> {
        good(self.execute(command, transfer).await?)
    }

    /// Carries a command of this unit out, whatever its status.
    pub(crate) async fn execute(
        &self,
        command: &Command,
        transfer: Transfer,
    ) -> Result<Completion, Error> {
        self.paths.execute(command, transfer, Class::Demand).await
    }

    /// Submits the bytes of a command for this unit.
    pub(crate) async fn submit(
        &self,
        cdb: [u8; 16],
        repeat: Repeat,
        transfer: Transfer,
        class: Class,
    ) -> Result<Pending, Error> {
        self.paths.submit(cdb, repeat, transfer, class).await
    }

    async fn unmap_parts(&self, span: Span, limits: UnmapLimits) -> Result<(), Error> {
        let size = u64::from(self.block_size.bytes());
        for part in cut(span, u64::from(limits.blocks) * size) {
            let list = unmap::build(&[self.blocks(part)]);
            let parameter_length = u16::try_from(list.len()).unwrap_or(u16::MAX);
            self.command(
                &Command::Unmap {
                    anchor: false,
                    parameter_length,
                },
                Transfer::Write(list),
            )
            .await?;
        }
        Ok(())
    }

    async fn first_run(&self, span: Span) -> Result<(Allocation, Span), Error> {
        let (lba, _) = self.blocks(span);
        let command = Command::GetLbaStatus {
            lba,
            allocation: LBA_STATUS_BYTES,
        };
        let completion = self
            .execute(&command, Transfer::Read(LBA_STATUS_BYTES))
            .await?;
        let Some(bytes) = good_or_unknown(completion)? else {
            return Ok((Allocation::Mapped, span));
        };
        let runs = lba_status::parse(&bytes).ok_or(Error::Malformed)?;
        let size = u64::from(self.block_size.bytes());
        match runs.first() {
            Some(run) if run.lba <= lba && run.lba.saturating_add(run.blocks.into()) > lba => {
                let end = run
                    .lba
                    .saturating_add(run.blocks.into())
                    .saturating_mul(size)
                    .min(span.end());
                Ok((
                    allocation_of(run.provisioning),
                    Span::new(span.offset(), end - span.offset()),
                ))
            }
            _ => Ok((Allocation::Mapped, span)),
        }
    }
}

/// For those who stack volumes. The errors of [`Volume`] say less than those of [`read_at`](Remote::read_at) and its like.
impl Volume for Remote {
    /// The size changes when the unit is resized and the session follows that ([`Resize`](crate::Resize)).
    fn geometry(&self) -> Geometry {
        Geometry::new(self.block_size, self.size.blocks())
    }

    async fn read(&self, span: Span, class: Class) -> volume::Result<Bytes> {
        Ok(self.read_span(span, class).await?)
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> volume::Result<()> {
        Ok(self.write_at(offset, bytes).await?)
    }

    async fn flush(&self) -> volume::Result<()> {
        Ok(self.synchronize().await?)
    }

    async fn trim(&self, span: Span) -> volume::Result<()> {
        Ok(self.deallocate(span.offset(), span.length()).await?)
    }

    async fn allocation(&self, span: Span) -> volume::Result<(Allocation, Span)> {
        let (kind, length) = self.allocation_at(span.offset(), span.length()).await?;
        Ok((kind, Span::new(span.offset(), length)))
    }
}

/// The WP bit of MODE SENSE(6); a unit that does not know the command is taken for writable.
async fn is_write_protected(paths: &Paths) -> Result<bool, Error> {
    let command = Command::ModeSense {
        form: ModeForm::Six,
        control: PageControl::Current,
        page: ALL_PAGES,
        subpage: 0,
        no_block_descriptor: true,
        allocation: MODE_BYTES,
    };
    let completion = paths
        .execute(&command, Transfer::Read(MODE_BYTES.into()), Class::Demand)
        .await?;
    match good(completion) {
        Ok(bytes) => Ok(bytes
            .get(DEVICE_SPECIFIC)
            .is_some_and(|byte| byte & WRITE_PROTECT != 0)),
        Err(Error::Status { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the unit takes at once, and no more than is good for others who wait.
fn part_bytes(limits: &BlockLimits, block_size: BlockSize) -> u64 {
    let size = u64::from(block_size.bytes());
    match u64::from(limits.maximum_transfer) * size {
        0 => DEFAULT_PART_BYTES,
        most => most.min(LONGEST_PART_BYTES),
    }
}

fn unmap_limits(limits: &BlockLimits, provisioning: &Provisioning) -> Option<UnmapLimits> {
    // What was given back has to read as zeros: a volume promises that.
    let usable = provisioning.unmap && provisioning.reads_zeros;
    let blocks = match limits.maximum_unmap_blocks {
        0 => DEFAULT_UNMAP_BLOCKS,
        most => most,
    };
    usable.then_some(UnmapLimits { blocks })
}

fn allocation_of(provisioning: lba_status::Provisioning) -> Allocation {
    match provisioning {
        lba_status::Provisioning::Deallocated => Allocation::Hole,
        _ => Allocation::Mapped,
    }
}

/// A span in pieces of at most `most` bytes.
pub(crate) fn cut(span: Span, most: u64) -> impl Iterator<Item = Span> {
    let mut at = span.offset();
    std::iter::from_fn(move || {
        let part = Span::new(at, most.min(span.end() - at));
        at = part.end();
        (!part.is_empty()).then_some(part)
    })
}

fn slice(bytes: &Bytes, offset: u64, length: u64) -> Bytes {
    let at = |offset: u64| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    };
    bytes.slice(at(offset)..at(offset.saturating_add(length)))
}

/// One command's data when the unit names no limit.
const DEFAULT_PART_BYTES: u64 = 1024 * 1024;

/// One command's data at most, whatever the unit allows.
const LONGEST_PART_BYTES: u64 = 4 * 1024 * 1024;

/// Blocks of one UNMAP when the unit names no limit.
const DEFAULT_UNMAP_BLOCKS: u32 = 1 << 16;

/// Room for the header and one run of GET LBA STATUS.
const LBA_STATUS_BYTES: u32 = 24;

/// MODE SENSE of all pages, of which only the header matters.
const ALL_PAGES: u8 = 0x3f;
const MODE_BYTES: u16 = 192;

/// The device-specific parameter of the mode parameter header, and its WP bit (SBC-3 §6.4.1).
const DEVICE_SPECIFIC: usize = 2;
const WRITE_PROTECT: u8 = 0x80;
