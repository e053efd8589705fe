//! What a unit can do beyond the verbs of a volume, and commands as bytes.

use bytes::{Bytes, BytesMut};
use iscsi_proto::scsi::vpd::{BlockLimits, Provisioning};
use iscsi_proto::scsi::{Caching, Command, LbaRange, Sense, SenseData, WriteSame};
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::{Class, Span, Volume};

use crate::identity::{good, good_or_unknown};
use crate::job::Repeat;
use crate::remote::cut;
use crate::{Error, Remote, Session};

/// What a COMPARE AND WRITE found (SBC-3 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The unit held what was expected, and holds the new bytes now.
    Written,
    /// The unit holds something else, and nothing was written.
    Differs {
        /// The first byte of what was expected that the unit does not hold, if the unit told it.
        at: Option<usize>,
    },
}

/// A command that this crate does not know, as the bytes of its command descriptor block (SPC-4 §4.2). For those that
/// it does know there is [`Command`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawCommand {
    cdb: [u8; CDB_BYTES],
    repeat: Repeat,
}

impl RawCommand {
    /// A command of 6 to 16 bytes; [`Error::CommandLength`] for others. It is never sent twice: when the connection is
    /// lost before its answer, it ends with [`Error::Interrupted`].
    pub fn new(cdb: &[u8]) -> Result<Self, Error> {
        let mut padded = [0; CDB_BYTES];
        match padded.get_mut(..cdb.len()) {
            Some(front) if cdb.len() >= SHORTEST_CDB => front.copy_from_slice(cdb),
            _ => return Err(Error::CommandLength(cdb.len())),
        }
        Ok(Self {
            cdb: padded,
            repeat: Repeat::UNKNOWN,
        })
    }

    /// The same command, and the promise that it changes nothing: it may be sent again when its answer is lost.
    pub fn changes_nothing(self) -> Self {
        Self {
            repeat: Repeat::Always,
            ..self
        }
    }
}

impl Session {
    /// Carries out a command that is given as bytes, whatever its status. `transfer` says how many bytes are expected at
    /// most, or brings those to send; the command's own length fields have to agree with it. As for
    /// [`execute`](Self::execute), `Class::Peer` is refused where other classes wait.
    pub async fn execute_raw(
        &self,
        lun: Lun,
        command: RawCommand,
        transfer: Transfer,
        class: Class,
    ) -> Result<Completion, Error> {
        self.submit(lun, command.cdb, command.repeat, transfer, class)
            .await?
            .end()
            .await
    }
}

impl Remote {
    /// Carries out a command that is given as bytes, as [`Session::execute_raw`] does, over whatever path leads to the
    /// unit. With several paths one that may be anything waits until all changes have ended, and others wait for it.
    pub async fn execute_raw(
        &self,
        command: RawCommand,
        transfer: Transfer,
        class: Class,
    ) -> Result<Completion, Error> {
        self.submit(command.cdb, command.repeat, transfer, class)
            .await?
            .end()
            .await
    }

    /// Makes a span, in bytes and on block boundaries, read as zeros: WRITE SAME(16) with a block of zeros (SBC-3
    /// §5.47), several of them where the unit allows fewer blocks at once (MAXIMUM WRITE SAME LENGTH). Where the unit
    /// promises that blocks without space read as zeros (LBPWS and LBPRZ, SBC-3 §6.5.4), their space is given back. A
    /// unit that does not know the command gets zeros written.
    ///
    /// The span is not changed at once: after an error, a part of it may be zeros. Like a write it survives the loss of
    /// power after [`synchronize`](Self::synchronize). [`Error::OutOfRange`] and [`Error::ReadOnly`] are found before anything is
    /// sent.
    pub async fn write_zeroes(&self, span: Span) -> Result<(), Error> {
        self.check_change(span)?;
        let allowed = self.allowed();
        let block_bytes = u64::from(self.geometry().block_size().bytes());
        let most = u64::from(allowed.write_same_blocks) * block_bytes;
        for part in cut(span, most) {
            if !self.write_same_zeros(part, allowed).await? {
                let rest = Span::new(part.offset(), span.end() - part.offset());
                return self.write_plain_zeros(rest).await;
            }
        }
        Ok(())
    }

    /// Writes `new` at `offset` (bytes, on a block boundary) if the unit holds `expected` there, and nobody can come
    /// between: COMPARE AND WRITE (SBC-3 §5.2). Both have the same length, a number of whole blocks of which the unit
    /// takes [`longest_compare_and_write`](Self::longest_compare_and_write) bytes at once.
    ///
    /// It is never repeated, because it would meet its own bytes: after [`Error::Interrupted`], [`Error::TimedOut`] or
    /// [`Error::Aborted`] it may have been carried out or not. Read the blocks to learn which: whoever writes bytes that
    /// nobody else writes (its own name, a counter) can tell.
    ///
    /// [`Error::OutOfRange`] for a span that is none or lengths that differ, [`Error::TooLong`] for more than the unit
    /// takes, [`Error::Unsupported`] where the unit does not know the command.
    pub async fn compare_and_write(
        &self,
        offset: u64,
        expected: &[u8],
        new: &[u8],
    ) -> Result<Comparison, Error> {
        let span = Span::new(offset, expected.len() as u64);
        self.check_change(span)?;
        if expected.len() != new.len() {
            return Err(Error::OutOfRange);
        }
        if self.allowed().compare_blocks == 0 {
            return Err(Error::Unsupported);
        }
        if span.length() > self.longest_compare_and_write() {
            return Err(Error::TooLong);
        }
        if span.is_empty() {
            return Ok(Comparison::Written);
        }
        let (lba, blocks) = self.blocks(span);
        let command = Command::CompareAndWrite {
            lba,
            blocks: u8::try_from(blocks).map_err(|_| Error::TooLong)?,
            caching: Caching::default(),
        };
        let both = Bytes::from([expected, new].concat());
        let completion = self.execute(&command, Transfer::Write(both)).await?;
        if let Some(at) = miscompare(&completion, expected.len()) {
            return Ok(Comparison::Differs { at });
        }
        match good_or_unknown(completion)? {
            Some(_) => Ok(Comparison::Written),
            None => Err(Error::Unsupported),
        }
    }

    /// How many bytes one [`compare_and_write`](Self::compare_and_write) takes (MAXIMUM COMPARE AND WRITE LENGTH, SBC-3
    /// §6.5.3); 0 where the unit does not know it.
    pub fn longest_compare_and_write(&self) -> u64 {
        u64::from(self.allowed().compare_blocks) * u64::from(self.geometry().block_size().bytes())
    }

    /// Writes `bytes` at `offset`, both on block boundaries, so that they survive the loss of power when this returns
    /// (FUA, SBC-3 §4.15), without waiting for what else the unit's cache holds. A unit that does not know the bit is
    /// flushed instead.
    pub async fn write_through(&self, offset: u64, bytes: &Bytes) -> Result<(), Error> {
        self.check_change(Span::new(offset, bytes.len() as u64))?;
        let through = Caching {
            force_unit_access: true,
            ..Caching::default()
        };
        match self.write_parts(offset, bytes, through).await {
            Err(Error::Status {
                sense: Some(Sense::INVALID_FIELD_IN_CDB),
                ..
            }) => {
                self.write_parts(offset, bytes, Caching::default()).await?;
                let flush = Command::synchronize_cache();
                good(self.execute(&flush, Transfer::None).await?).map(drop)
            }
            result => result,
        }
    }

    /// One WRITE SAME; false if the unit does not know it, or not for so many blocks.
    async fn write_same_zeros(&self, part: Span, allowed: Allowed) -> Result<bool, Error> {
        let (lba, blocks) = self.blocks(part);
        let command = Command::WriteSame(WriteSame {
            range: LbaRange::sixteen(lba, blocks),
            unmap: allowed.write_same_unmaps,
            anchor: false,
            // Units older than SBC-4 take the bit for nothing and wait for a block; a block they all understand.
            no_data_out: false,
        });
        let block_bytes = self.geometry().block_size().bytes();
        let block = BytesMut::zeroed(usize::try_from(block_bytes).unwrap_or_default());
        let completion = self
            .execute(&command, Transfer::Write(block.freeze()))
            .await?;
        Ok(good_or_unknown(completion)?.is_some())
    }

    async fn write_plain_zeros(&self, span: Span) -> Result<(), Error> {
        let length = usize::try_from(span.length()).unwrap_or(usize::MAX);
        let zeros = BytesMut::zeroed(length.min(ZEROS_BYTES)).freeze();
        for piece in cut(span, zeros.len() as u64) {
            let length = usize::try_from(piece.length()).unwrap_or(usize::MAX);
            let zeros = zeros.slice(..length.min(zeros.len()));
            self.write_parts(piece.offset(), &zeros, Caching::default())
                .await?;
        }
        Ok(())
    }
}

/// What a unit allows commands to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// Blocks of one WRITE SAME.
    write_same_blocks: u32,
    /// Blocks of one COMPARE AND WRITE; 0: the unit does not know it.
    compare_blocks: u8,
    /// WRITE SAME(16) may give space back, and what it gave back reads as zeros.
    write_same_unmaps: bool,
}

impl Allowed {
    pub(crate) fn new(limits: &BlockLimits, provisioning: &Provisioning) -> Self {
        let write_same_blocks = match u32::try_from(limits.maximum_write_same) {
            Ok(0) => DEFAULT_WRITE_SAME_BLOCKS,
            Ok(most) => most.min(LONGEST_WRITE_SAME_BLOCKS),
            Err(_) => LONGEST_WRITE_SAME_BLOCKS,
        };
        Self {
            write_same_blocks,
            compare_blocks: limits.maximum_compare_and_write,
            write_same_unmaps: provisioning.write_same_16 && provisioning.reads_zeros,
        }
    }
}

/// Where a comparison failed, if that is how the command ended; the unit need not have said where.
fn miscompare(completion: &Completion, length: usize) -> Option<Option<usize>> {
    let SenseData {
        sense, information, ..
    } = SenseData::parse(&completion.sense)?;
    let differs = sense.key == MISCOMPARE;
    differs.then(|| {
        information
            .and_then(|at| usize::try_from(at).ok())
            .filter(|at| *at < length)
    })
}

/// Bytes of a command descriptor block (RFC 7143 §11.3.5), and of the shortest one.
const CDB_BYTES: usize = 16;
const SHORTEST_CDB: usize = 6;

/// Blocks of one WRITE SAME when the unit names no limit: what the ten-byte form could say.
const DEFAULT_WRITE_SAME_BLOCKS: u32 = 0xffff;

/// Blocks of one WRITE SAME at most, whatever the unit allows: a slow one must end in the time of a command.
const LONGEST_WRITE_SAME_BLOCKS: u32 = 1 << 19;

/// Zeros that are kept to be written.
const ZEROS_BYTES: usize = 4 * 1024 * 1024;

/// Sense key (SPC-4 §4.5.6).
const MISCOMPARE: u8 = 0xe;
