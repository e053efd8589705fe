//! The private writes of an instance over a read-only volume.
//!
//! An overlay is a directory of three files. `data` holds the blocks that were written, each at its own offset;
//! `map` says for each 512 bytes whether they are the overlay's own, zeros (trimmed) or the base's; `recent` is a log
//! of what changed in the map since the last flush. The promises:
//!
//! * *Acknowledged survives the death of the program.* A write puts its data into the page cache, then a record into
//!   `recent` if the state of a block changes, then answers. The log carries the machine's boot id and is replayed by
//!   an open in the same run of the machine.
//! * *Flushed survives the loss of power.* A flush syncs the data, then writes the masks as they were before that
//!   sync, then syncs those. After a loss of power the log is from another run, and void: a block that was not
//!   flushed has its old content, never garbage, because its data may not have arrived.
//! * *No write reads the base.* Masks are finer than the units of 4 KiB in which they are kept, so a write of one
//!   block leaves its neighbours with the base.
//! * *Trimmed blocks are zeros at once*, whether or not the file system gives the space back: that is a state of its
//!   own in the map. It also makes [`allocation`](Volume::allocation) true to the block.
//! * *A failed sync fences the overlay*: reads, writes and flushes answer [`Error::Fenced`] until it is opened again,
//!   and what was written since the last flush is as after a loss of power. A full disk fences nothing: that write
//!   answers [`Error::NoSpace`].
//!
//! Masks in `map` carry no checksum: they change in place, and each is right by itself whether the write that brings
//! it arrives whole, in part or not at all, since the data of both states is on media by then. A checksum over many
//! would turn a torn page into a lost one.
//!
//! Concurrent writes to the same blocks end in some order, as on any disk. Data goes before the mask in each of
//! them, and masks only ever say *own* where data of one of them stands.

mod copy;
#[cfg(test)]
mod copy_tests;
#[cfg(test)]
pub(crate) mod crash;
mod files;
mod format;
mod log;
mod masks;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use blocking::unblock;
use bytes::{Bytes, BytesMut};
use vmthunder_volume::{Allocation, Class, EXTENT_BYTES, Error, Geometry, Result, Span, Volume};

use self::copy::Gate;
use self::files::Files;
use self::format::{Header, MAX_BYTES};
use self::masks::Source;
use self::state::State;
use crate::ImageKey;
use crate::disk::BootId;

/// What a new overlay is made over and how large it is.
#[derive(Clone, Copy, Debug)]
pub struct OverlayOptions {
    /// The image below; it can only be opened over that one again.
    pub base: ImageKey,
    /// Size in bytes, not smaller than the base: the base's own size if `None`. Beyond the base it reads zeros.
    pub bytes: Option<u64>,
}

/// Why an overlay could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// There is one already.
    #[error("there is an overlay already")]
    Exists,
    /// It would be smaller than its base, too large, or not a multiple of its block size.
    #[error("the size is smaller than the base, too large, or not a multiple of the block size")]
    Size,
    /// It was made over another image, or over one with other blocks.
    #[error("the overlay was made over another image")]
    OtherBase,
    /// The files are not an overlay, or damaged.
    #[error("the files are not an overlay, or damaged")]
    Damaged,
    /// It was written by another version.
    #[error("the overlay has format version {found}, which this program does not know")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Another program has it open.
    #[error("the overlay is in use by another program")]
    InUse,
    /// A flush failed: what is read may be lost, so nothing is copied.
    #[error("the overlay is fenced after a failed flush")]
    Fenced,
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a write was refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The file system has no room.
    Disk,
    /// The quota is reached.
    Quota,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "the disk is full",
            Self::Quota => "its quota is reached",
        })
    }
}

/// A writable volume over a read-only base.
#[derive(Debug)]
pub struct Overlay<V> {
    state: Arc<State>,
    gate: Arc<Gate>,
    base: V,
}

impl<V: Volume> Overlay<V> {
    /// Makes a new overlay in the directory `path`, which is made if it does not exist.
    pub async fn create(
        path: &Path,
        options: OverlayOptions,
        base: V,
    ) -> std::result::Result<Self, OverlayError> {
        let header = header(options, base.geometry())?;
        let path = path.to_owned();
        let state = unblock(move || {
            let files = Files::create(&path, &header)?;
            State::open(files, BootId::current()).map(|(state, _)| state)
        });
        Ok(Self {
            state: Arc::new(state.await?),
            gate: Arc::default(),
            base,
        })
    }

    /// Opens the overlay in the directory `path` over the image `key`.
    pub async fn open(
        path: &Path,
        key: ImageKey,
        base: V,
    ) -> std::result::Result<Self, OverlayError> {
        let path = path.to_owned();
        let (state, header) = unblock(move || {
            Files::open(&path).and_then(|files| State::open(files, BootId::current()))
        })
        .await?;
        Self::over(state, &header, key, base)
    }

    /// The volume below.
    pub fn base(&self) -> &V {
        &self.base
    }

    /// The bytes that own blocks take on disk.
    pub fn stored_bytes(&self) -> u64 {
        self.state.stored()
    }

    /// Sets the most bytes that own blocks may take on disk, `None` for all that there are. A write that would take
    /// more is refused with [`Error::Quota`], and works once there is room; blocks that have their space can always
    /// be written. Writes under way at one moment may pass the limit together.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.state.set_quota(bytes.unwrap_or(u64::MAX));
    }

    /// What the last write that needed space did not get, if it was refused.
    pub fn lacks(&self) -> Option<Lack> {
        self.state.lacks()
    }

    /// Makes another overlay in the directory `path`, with what this one holds at one moment between two writes: all
    /// that were answered before are in it. It is on media when this returns; other writes go on meanwhile, but for
    /// the moment in which what changed last is copied.
    pub async fn copy_to(&self, path: &Path) -> std::result::Result<(), OverlayError> {
        copy::copy(&self.state, &self.gate, path).await
    }

    /// Writes if that needs no waiting; false if it was not done.
    fn write_in_place(&self, span: Span, bytes: &[u8]) -> bool {
        let Some(pass) = self.gate.try_pass() else {
            return false;
        };
        let done = self.state.write_now(span.offset(), bytes);
        // Even if it was not done: it may have been in part.
        pass.touched(span);
        done
    }

    fn over(
        state: State,
        header: &Header,
        key: ImageKey,
        base: V,
    ) -> std::result::Result<Self, OverlayError> {
        let below = base.geometry();
        let same = below.bytes() == header.base_bytes && below.block_size() == header.block_size;
        if header.base != key || !same {
            return Err(OverlayError::OtherBase);
        }
        Ok(Self {
            state: Arc::new(state),
            gate: Arc::default(),
            base,
        })
    }

    /// Reads everything between the first and the last own byte of `runs` into its place.
    async fn read_own(
        &self,
        span: Span,
        runs: &[(Source, Span)],
        mut bytes: BytesMut,
    ) -> Result<BytesMut> {
        let mut own = runs
            .iter()
            .filter(|(source, _)| *source == Source::Own)
            .map(|(_, run)| *run);
        let Some(first) = own.next() else {
            return Ok(bytes);
        };
        let end = own.next_back().unwrap_or(first).end();
        let place = place(span, Span::new(first.offset(), end - first.offset()));
        let into = bytes.get_mut(place.clone()).ok_or(Error::OutOfRange)?;
        if self.state.read_now(first.offset(), into) {
            return Ok(bytes);
        }
        let state = Arc::clone(&self.state);
        unblock(move || {
            let into = bytes.get_mut(place).ok_or(Error::OutOfRange)?;
            state.read_wait(first.offset(), into)?;
            Ok(bytes)
        })
        .await
    }
}

impl<V: Volume> Volume for Overlay<V> {
    fn geometry(&self) -> Geometry {
        self.state.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.geometry().check(span)?;
        self.state.check_fence()?;
        let runs = self.state.runs(span);
        if let [(Source::Base, whole)] = runs.as_slice() {
            return self.base.read(*whole, class).await;
        }
        let length = usize::try_from(span.length()).map_err(|_| Error::OutOfRange)?;
        let mut bytes = self.read_own(span, &runs, BytesMut::zeroed(length)).await?;
        for (source, run) in &runs {
            if *source == Source::Zero {
                bytes
                    .get_mut(place(span, *run))
                    .ok_or(Error::OutOfRange)?
                    .fill(0);
            }
        }
        for wanted in base_reads(&runs) {
            let below = self.base.read(wanted, class).await?;
            let ours = runs.iter().filter(|(source, _)| *source == Source::Base);
            for (_, run) in
                ours.filter(|(_, run)| run.offset() >= wanted.offset() && run.end() <= wanted.end())
            {
                let from = below.get(place(wanted, *run)).ok_or(Error::Corrupt)?;
                bytes
                    .get_mut(place(span, *run))
                    .ok_or(Error::OutOfRange)?
                    .copy_from_slice(from);
            }
        }
        Ok(bytes.freeze())
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.geometry()
            .check(Span::new(offset, bytes.len() as u64))?;
        self.state.check_fence()?;
        let span = Span::new(offset, bytes.len() as u64);
        if bytes.is_empty() || self.write_in_place(span, &bytes) {
            return Ok(());
        }
        let pass = Gate::pass(&self.gate).await;
        let state = Arc::clone(&self.state);
        // The pass goes along: a write that nobody waits for any more is still one that a copy must not cut.
        unblock(move || {
            let done = state.write_wait(offset, &bytes);
            pass.touched(span);
            done
        })
        .await
    }

    async fn flush(&self) -> Result<()> {
        self.state.check_fence()?;
        let wanted = self.state.changes();
        let mut flushed = self.state.flushed().lock_owned().await;
        if *flushed >= wanted {
            return self.state.check_fence();
        }
        let state = Arc::clone(&self.state);
        // The turn goes along, so a flush that nobody waits for any more still ends before the next begins.
        unblock(move || state.flush(&mut flushed, wanted)).await
    }

    async fn trim(&self, span: Span) -> Result<()> {
        self.geometry().check(span)?;
        self.state.check_fence()?;
        let pass = Gate::pass(&self.gate).await;
        let state = Arc::clone(&self.state);
        unblock(move || {
            let done = state.trim(span);
            drop(pass);
            done
        })
        .await
    }

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        self.geometry().check(span)?;
        match self.state.first_run(span) {
            Some((Source::Own, run)) => Ok((Allocation::Mapped, run)),
            Some((Source::Zero, run)) => Ok((Allocation::Hole, run)),
            Some((Source::Base, run)) => self.base.allocation(run).await,
            None => Ok((Allocation::Mapped, span)),
        }
    }
}

/// Puts an empty overlay in the directory `to`, of the same size and over the same image as that in `from`, for which
/// nothing but the space of the old one need be left: what is in `from` is lost first. Done again after it was cut short
/// it goes on. Waits for the disk.
pub fn renew(from: &Path, to: &Path) -> std::result::Result<(), OverlayError> {
    let header = Files::give_up(from)?;
    match Files::create(to, &header) {
        Ok(_) | Err(OverlayError::Exists) => Ok(()),
        Err(error) => Err(error),
    }
}

/// True while a program has the overlay in the directory `path` open, this one included. False where there is none.
pub fn is_in_use(path: &Path) -> std::io::Result<bool> {
    Files::are_open(path)
}

fn header(options: OverlayOptions, base: Geometry) -> std::result::Result<Header, OverlayError> {
    let bytes = options.bytes.unwrap_or_else(|| base.bytes());
    let whole = bytes.is_multiple_of(u64::from(base.block_size().bytes()));
    if !whole || bytes < base.bytes() || bytes > MAX_BYTES {
        return Err(OverlayError::Size);
    }
    Ok(Header {
        block_size: base.block_size(),
        bytes,
        base: options.base,
        base_bytes: base.bytes(),
    })
}

/// The fewest reads of the base that bring all its runs, without asking for a whole extent that nobody wants: reading
/// over a small gap costs nothing, but an extent may have to come from another machine.
fn base_reads(runs: &[(Source, Span)]) -> Vec<Span> {
    let mut reads: Vec<Span> = Vec::new();
    for (_, run) in runs.iter().filter(|(source, _)| *source == Source::Base) {
        match reads.last_mut() {
            Some(last)
                if run.offset() - last.end().next_multiple_of(EXTENT_BYTES).min(run.offset())
                    < EXTENT_BYTES =>
            {
                *last = Span::new(last.offset(), run.end() - last.offset());
            }
            _ => reads.push(*run),
        }
    }
    reads
}

/// Where a part of a span stands in the span's bytes.
fn place(span: Span, part: Span) -> std::ops::Range<usize> {
    let narrow = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    narrow(part.offset() - span.offset())..narrow(part.end() - span.offset())
}
