//! Opening a large store: a disk that makes its table up, full to the last slot.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use zerocopy::{FromBytes, IntoBytes};

use crate::ImageKey;
use crate::body::Body;
use crate::disk::{BootId, Disk};
use crate::format::{ENTRY_BYTES, Entry, Layout, MARK_OFFSET, RawEntry, RawMark, TABLE_OFFSET};
use crate::images::Images;
use crate::map::Key;
use crate::shelf::Shelf;

const BOOT: BootId = BootId([1; 16]);
/// Extents of one image.
const IMAGE_EXTENTS: u32 = 160_000;

/// The table of a store that is full of images of 10 GiB.
#[derive(Debug)]
struct MadeUp {
    layout: Layout,
    /// The extents that each shelf may hold.
    extents: Vec<Vec<u32>>,
}

impl MadeUp {
    fn new(layout: Layout) -> Self {
        let shelves = (layout.slots / 1024).clamp(1, 16);
        let mut extents = vec![Vec::new(); shelves as usize];
        for extent in 0..IMAGE_EXTENTS {
            let shelf = Key { image: 0, extent }.hash() % u64::from(shelves);
            extents[usize::try_from(shelf).unwrap()].push(extent);
        }
        Self { layout, extents }
    }

    fn entry(&self, slot: u32) -> Entry {
        let shelves = self.extents.len();
        let (shelf, local) = (slot as usize % shelves, slot as usize / shelves);
        let extents = &self.extents[shelf];
        let mut image = [0; 32];
        image[..8].copy_from_slice(&(local / extents.len()).to_le_bytes());
        Entry {
            image: ImageKey(image),
            extent: extents[local % extents.len()],
            length: 65_536,
            hash: [7; 16],
        }
    }
}

impl Disk for MadeUp {
    fn size(&self) -> io::Result<u64> {
        Ok(self.layout.bytes())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if offset < MARK_OFFSET {
            into.copy_from_slice(&self.layout.header().as_bytes()[..into.len()]);
        } else if offset < TABLE_OFFSET {
            into.copy_from_slice(RawMark::new(true, BOOT).as_bytes());
        } else {
            let first = u32::try_from((offset - TABLE_OFFSET) / ENTRY_BYTES).unwrap();
            let entries = <[RawEntry]>::mut_from_bytes(into).unwrap();
            for (slot, raw) in (first..).zip(entries) {
                *raw = self.entry(slot).raw();
            }
        }
        Ok(())
    }

    fn read_now(&self, _: u64, _: &mut [u8]) -> bool {
        false
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn write_now(&self, _: u64, _: &[u8]) -> bool {
        false
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_pages(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn next_stored(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }
}

/// Opens a store of that size; what it took, table included but for the time to read it from an SSD.
pub(super) fn row(gibibytes: u64) -> String {
    let layout = Layout::within(gibibytes << 30).unwrap();
    let images: Arc<Mutex<Images>> = Arc::default();
    let disk = Arc::new(MadeUp::new(layout));
    let began = Instant::now();
    let body = Body::open(disk, layout, BOOT, images, true).unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let bytes = body.memory();
    let (held, counts) = body.counts();
    assert_eq!((held, counts.unverified), (layout.slots.into(), 0));
    format!(
        "| {gibibytes} GiB | {} | {seconds:.1} s | {:.1} bytes |",
        layout.slots,
        bytes as f64 / f64::from(layout.slots)
    )
}

#[test]
fn a_resident_extent_takes_at_most_24_bytes() {
    for slots in [10_000, 102_400] {
        let bytes = Shelf::new(slots).memory();
        assert!(
            bytes <= slots as usize * 24,
            "{bytes} bytes for {slots} slots"
        );
    }
}

#[test]
fn a_full_table_is_taken_in_whole() {
    assert!(row(1).starts_with("| 1 GiB | 16367 |"), "{}", row(1));
}
