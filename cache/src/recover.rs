//! Opening a store: what is on the disk, and whether to believe it.

use std::io;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::disk::{BootId, Disk};
use crate::format::{
    ENTRY_BYTES, Found, Layout, MARK_OFFSET, RawEntry, RawHeader, RawMark, TABLE_OFFSET,
};
use crate::store::StoreError;

/// A store that has its layout and whose mark says "open".
#[derive(Debug)]
pub(crate) struct Opened {
    /// Where everything is.
    pub layout: Layout,
    /// The entries can be believed: the store was closed in this run of the machine.
    pub clean: bool,
}

/// Opens the store on `disk`, or lays it out where there is none or one of another size.
pub(crate) fn open(disk: &dyn Disk, wanted: Layout, boot: BootId) -> Result<Opened, StoreError> {
    let clean = match find(disk)? {
        Found::Store(layout) if layout == wanted && disk.size()? >= layout.bytes() => {
            let mut mark = RawMark::new_zeroed();
            disk.read_at(MARK_OFFSET, mark.as_mut_bytes())?;
            mark.vouches(boot)
        }
        Found::Store(layout) => {
            tracing::warn!(
                slots = wanted.slots,
                before = layout.slots,
                "cache store laid out anew and empty: another size was asked for"
            );
            lay_out(disk, wanted)?;
            false
        }
        Found::Broken => {
            tracing::warn!("cache store laid out anew: its header was damaged");
            lay_out(disk, wanted)?;
            false
        }
        Found::Version(found) => return Err(StoreError::Version { found }),
        Found::Foreign if is_blank(disk)? => {
            lay_out(disk, wanted)?;
            false
        }
        Found::Foreign => return Err(StoreError::NotAStore),
    };
    if !clean {
        // What is hashed from now on is what lasts, should an earlier program have died of a disk that fails.
        disk.drop_pages()?;
    }
    write_mark(disk, false, boot)?;
    Ok(Opened {
        layout: wanted,
        clean,
    })
}

/// Writes the mark, so that it is there after a loss of power.
pub(crate) fn write_mark(disk: &dyn Disk, clean: bool, boot: BootId) -> io::Result<()> {
    disk.write_at(MARK_OFFSET, RawMark::new(clean, boot).as_bytes())?;
    disk.sync()
}

/// Reads the table in large pieces and shows each entry with its slot.
pub(crate) fn scan(
    disk: &dyn Disk,
    layout: Layout,
    mut each: impl FnMut(u32, &RawEntry),
) -> io::Result<()> {
    let mut piece = vec![RawEntry::EMPTY; PIECE_ENTRIES as usize];
    let mut first = 0;
    while first < layout.slots {
        let count = PIECE_ENTRIES.min(layout.slots - first);
        let entries = piece.get_mut(..count as usize).unwrap_or_default();
        disk.read_at(layout.entry_offset(first), entries.as_mut_bytes())?;
        for (slot, entry) in (first..).zip(entries.iter()) {
            each(slot, entry);
        }
        first += count;
    }
    Ok(())
}

fn find(disk: &dyn Disk) -> io::Result<Found> {
    let mut header = [0; size_of::<RawHeader>()];
    if disk.size()? < header.len() as u64 {
        return Ok(Found::Foreign);
    }
    disk.read_at(0, &mut header)?;
    Ok(RawHeader::read_from_bytes(&header).map_or(Found::Foreign, |header| header.parse()))
}

/// True for a new file, also one whose first bytes did not reach media before its size did.
fn is_blank(disk: &dyn Disk) -> io::Result<bool> {
    let mut bytes = [0; size_of::<RawHeader>()];
    let size = usize::try_from(disk.size()?).unwrap_or(usize::MAX);
    let Some(all) = bytes.get_mut(..size) else {
        return Ok(false);
    };
    disk.read_at(0, all)?;
    Ok(bytes.iter().all(|byte| *byte == 0))
}

/// Lays a store out. A stop at any point leaves a file that the next open lays out again: the header is broken, on
/// media, before anything else changes, and made whole when all is in place.
fn lay_out(disk: &dyn Disk, layout: Layout) -> io::Result<()> {
    let before = disk.size()?;
    let mut broken = layout.header();
    broken.checksum.set(!broken.checksum.get());
    disk.write_at(0, broken.as_bytes())?;
    disk.sync()?;
    if let Err(error) = disk.allocate(layout.bytes()) {
        // A full disk keeps what it gave so far: without this nobody else could write to it either.
        let _ = disk.set_size(before);
        return Err(error);
    }
    let zeros = vec![RawEntry::EMPTY; PIECE_ENTRIES as usize];
    let mut first = 0;
    while first < layout.slots {
        let count = PIECE_ENTRIES.min(layout.slots - first);
        let empty = zeros.get(..count as usize).unwrap_or_default();
        disk.write_at(
            TABLE_OFFSET + u64::from(first) * ENTRY_BYTES,
            empty.as_bytes(),
        )?;
        first += count;
    }
    disk.sync()?;
    disk.write_at(0, layout.header().as_bytes())?;
    disk.sync()
}

/// One MiB of entries.
const PIECE_ENTRIES: u32 = 16 * 1024;
