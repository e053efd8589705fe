//! Bytes of the store on the SSD: little endian, offsets asserted. docs/cache-format.md says the same in prose.

use vmthunder_volume::{EXTENT_BYTES, Extent};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ImageKey;
use crate::disk::BootId;

/// Declares a layout: the left column is the offset, asserted at compile time.
macro_rules! layout {
    ($(#[$doc:meta])* $name:ident, $size:literal { $($offset:literal => $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $kind,)* }
        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
        };
    };
}
pub(crate) use layout;

layout! {
    /// What the file is; at offset 0.
    RawHeader, 48 {
        0  => magic: [u8; 8],
        8  => version: U32,
        12 => slot_bytes: U32,
        16 => slots: U64,
        24 => table_offset: U64,
        32 => slots_offset: U64,
        40 => _reserved: [u8; 4],
        44 => checksum: U32,
    }
}

layout! {
    /// How the store was left; at [`MARK_OFFSET`].
    RawMark, 32 {
        0  => magic: [u8; 8],
        8  => state: U32,
        12 => boot: [u8; 16],
        28 => checksum: U32,
    }
}

layout! {
    /// What a slot holds; all zeros if nothing. Eight fill a sector, so none is torn across two.
    RawEntry, 64 {
        0  => image: [u8; 32],
        32 => extent: U64,
        40 => length: U32,
        44 => hash: [u8; 16],
        60 => checksum: U32,
    }
}

/// Where everything is: follows from the number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// How many slots there are.
    pub slots: u32,
}

/// What an entry names, after its checksum was found right. The data behind it is not checked by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whose.
    pub image: ImageKey,
    /// Which; fits the index.
    pub extent: u32,
    /// How many bytes of the slot.
    pub length: u32,
    /// [`data_hash`] of them.
    pub hash: [u8; 16],
}

/// What stands in a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This layout.
    Store(Layout),
    /// A store of this format that was not finished or is damaged.
    Broken,
    /// A store of another version.
    Version(u32),
    /// Something else.
    Foreign,
}

impl Layout {
    /// The layout that fits in so many bytes, if there is room for a slot.
    pub(crate) fn within(bytes: u64) -> Option<Self> {
        let fits = |slots: u32| Self { slots }.bytes() <= bytes;
        let room = bytes.saturating_sub(TABLE_OFFSET + EXTENT_BYTES) / (EXTENT_BYTES + ENTRY_BYTES);
        let slots = u32::try_from(room).unwrap_or(MAX_SLOTS).min(MAX_SLOTS);
        // The table is rounded up to a whole slot, and the division assumed that it always costs one.
        let slots = if slots < MAX_SLOTS && fits(slots + 1) {
            slots + 1
        } else {
            slots
        };
        (slots > 0).then_some(Self { slots })
    }

    /// Bytes of the whole store.
    pub(crate) fn bytes(self) -> u64 {
        self.slots_offset() + u64::from(self.slots) * EXTENT_BYTES
    }

    /// Where a slot begins.
    pub(crate) fn slot_offset(self, slot: u32) -> u64 {
        self.slots_offset() + u64::from(slot) * EXTENT_BYTES
    }

    /// Where a slot's entry begins.
    pub(crate) fn entry_offset(self, slot: u32) -> u64 {
        TABLE_OFFSET + u64::from(slot) * ENTRY_BYTES
    }

    /// The header of a store with this layout.
    pub(crate) fn header(self) -> RawHeader {
        let mut header = RawHeader {
            magic: MAGIC,
            version: U32::new(VERSION),
            slot_bytes: U32::new(SLOT_BYTES),
            slots: U64::new(u64::from(self.slots)),
            table_offset: U64::new(TABLE_OFFSET),
            slots_offset: U64::new(self.slots_offset()),
            _reserved: [0; 4],
            checksum: U32::ZERO,
        };
        header.checksum = checksum(&header);
        header
    }

    fn slots_offset(self) -> u64 {
        (TABLE_OFFSET + u64::from(self.slots) * ENTRY_BYTES).next_multiple_of(EXTENT_BYTES)
    }
}

impl RawHeader {
    /// What this says, if it says anything.
    pub(crate) fn parse(&self) -> Found {
        if self.magic != MAGIC {
            return Found::Foreign;
        }
        if self.checksum != checksum(self) {
            return Found::Broken;
        }
        if self.version != VERSION {
            return Found::Version(self.version.get());
        }
        match u32::try_from(self.slots.get()) {
            Ok(slots) if slots > 0 && slots <= MAX_SLOTS => {
                let layout = Layout { slots };
                if self.as_bytes() == layout.header().as_bytes() {
                    Found::Store(layout)
                } else {
                    Found::Broken
                }
            }
            _ => Found::Broken,
        }
    }
}

impl RawMark {
    /// A mark of this run of the machine.
    pub(crate) fn new(clean: bool, boot: BootId) -> Self {
        let state = U32::new(if clean { CLEAN } else { OPEN });
        let mut mark = Self {
            magic: MARK_MAGIC,
            state,
            boot: boot.0,
            checksum: U32::ZERO,
        };
        mark.checksum = checksum(&mark);
        mark
    }

    /// True if the store was closed, and since then the machine has run on.
    pub(crate) fn vouches(&self, boot: BootId) -> bool {
        let valid = self.magic == MARK_MAGIC && self.checksum == checksum(self);
        valid && self.state == CLEAN && BootId(self.boot).is_same_run(boot)
    }
}

impl RawEntry {
    /// The entry of a slot that holds nothing.
    pub(crate) const EMPTY: Self = Self {
        image: [0; 32],
        extent: U64::ZERO,
        length: U32::ZERO,
        hash: [0; 16],
        checksum: U32::ZERO,
    };

    /// What this names, if it is whole.
    pub(crate) fn parse(&self) -> Option<Entry> {
        let length = self.length.get();
        let extent = u32::try_from(self.extent.get()).ok()?;
        let whole = self.checksum == checksum(self) && length > 0 && length <= SLOT_BYTES;
        whole.then_some(Entry {
            image: ImageKey(self.image),
            extent,
            length,
            hash: self.hash,
        })
    }

    /// True if the slot holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.as_bytes().iter().all(|byte| *byte == 0)
    }
}

impl Entry {
    /// As it stands on disk.
    pub(crate) fn raw(&self) -> RawEntry {
        let mut entry = RawEntry {
            image: self.image.0,
            extent: U64::new(u64::from(self.extent)),
            length: U32::new(self.length),
            hash: self.hash,
            checksum: U32::ZERO,
        };
        entry.checksum = checksum(&entry);
        entry
    }
}

/// The hash of an extent's bytes: the first half of BLAKE3.
pub(crate) fn data_hash(bytes: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    half
}

/// The extent's number as the index keeps it, if it can.
pub(crate) fn narrow(extent: Extent) -> Option<u32> {
    u32::try_from(extent.0).ok()
}

/// CRC32C of all but the last four bytes, where it stands itself.
pub(crate) fn checksum<T: IntoBytes + Immutable>(layout: &T) -> U32 {
    let bytes = layout.as_bytes();
    U32::new(crc32c::crc32c(&bytes[..bytes.len() - 4]))
}

/// Where the mark is: a block of its own, rewritten at each open and close.
pub(crate) const MARK_OFFSET: u64 = 4096;
/// Where the table begins.
pub(crate) const TABLE_OFFSET: u64 = 8192;
/// Bytes of a slot: one extent.
pub(crate) const SLOT_BYTES: u32 = 65536;
const _: () = assert!(SLOT_BYTES as u64 == EXTENT_BYTES);
/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: u64 = size_of::<RawEntry>() as u64;

const MAGIC: [u8; 8] = *b"VMTCACHE";
const MARK_MAGIC: [u8; 8] = *b"VMTCMARK";
const VERSION: u32 = 1;
const OPEN: u32 = 1;
const CLEAN: u32 = 2;
/// 64 TiB of extents; slot numbers stay clear of the values that mean "none".
const MAX_SLOTS: u32 = 1 << 30;
