//! Which sectors of an overlay are its own, which are zeros and which are the base's. Pure.
//!
//! Kept in pages, each the masks of 2,048 units (8 MiB) and written to `map` as one; a page that does not exist is
//! the base's. Behind the end of the base there is nothing to hide, so trimming leaves no trace there.

use std::collections::{BTreeMap, BTreeSet};

use vmthunder_volume::Span;

use super::format::{Change, RawMask, Record, SECTOR_BYTES, UNIT_BYTES};

/// Where bytes of the overlay come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The data file.
    Own,
    /// Nowhere: they are zeros.
    Zero,
    /// The base.
    Base,
}

/// A page as it stands in `map`.
pub(super) type RawPage = [RawMask; PAGE_UNITS];

/// The state of every sector.
#[derive(Debug)]
pub(super) struct Masks {
    base_bytes: u64,
    whole_units: bool,
    pages: BTreeMap<u64, Box<[Mask; PAGE_UNITS]>>,
    dirty: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mask {
    own: u8,
    zero: u8,
}

/// The page in `map` holds bits that no overlay of this kind writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadPage;

impl Masks {
    /// Everything is the base's. `whole_units` says that a block is a unit, so masks are all or nothing.
    pub(super) fn new(base_bytes: u64, whole_units: bool) -> Self {
        Self {
            base_bytes,
            whole_units,
            pages: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Takes a page from `map`.
    pub(super) fn load(&mut self, page: u64, raw: &RawPage) -> Result<(), BadPage> {
        let mut masks = Box::new([Mask::default(); PAGE_UNITS]);
        for (mask, raw) in masks.iter_mut().zip(raw) {
            let [own, zero] = raw.get().to_le_bytes();
            let whole = |bits: u8| bits == 0 || bits == ALL;
            if own & zero != 0 || (self.whole_units && !(whole(own) && whole(zero))) {
                return Err(BadPage);
            }
            *mask = Mask { own, zero };
        }
        self.pages.insert(page, masks);
        Ok(())
    }

    /// The pages that changed since this was last asked, with their numbers.
    pub(super) fn take_dirty(&mut self) -> Vec<(u64, Box<RawPage>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty
            .into_iter()
            .filter_map(|page| Some((page, raw(self.pages.get(&page)?))))
            .collect()
    }

    /// These pages could not be written after all.
    pub(super) fn mark_dirty(&mut self, pages: impl IntoIterator<Item = u64>) {
        self.dirty.extend(pages);
    }

    /// The numbers of the pages that say something.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.pages.keys().copied().collect()
    }

    /// A page as it would stand in `map`.
    pub(super) fn raw_page(&self, page: u64) -> Option<Box<RawPage>> {
        Some(raw(self.pages.get(&page)?))
    }

    /// True if a change would change anything.
    pub(super) fn differs(&self, record: Record) -> bool {
        pieces(record).any(|piece| {
            let mask = self.mask(piece);
            self.changed(mask, piece, record.change) != mask
        })
    }

    /// Changes the state of sectors.
    pub(super) fn apply(&mut self, record: Record) {
        for piece in pieces(record) {
            let before = self.mask(piece);
            let after = self.changed(before, piece, record.change);
            if after != before {
                let page = self
                    .pages
                    .entry(piece.page)
                    .or_insert_with(|| Box::new([Mask::default(); PAGE_UNITS]));
                page[piece.unit] = after;
                self.dirty.insert(piece.page);
            }
        }
    }

    /// The runs of one source that make up a span.
    pub(super) fn runs(&self, span: Span) -> impl Iterator<Item = (Source, Span)> {
        let mut at = span.offset();
        std::iter::from_fn(move || {
            if at >= span.end() {
                return None;
            }
            let from = at;
            let (source, end) = self.stretch(at, span.end());
            at = end;
            while at < span.end() {
                let (next, end) = self.stretch(at, span.end());
                if next != source {
                    break;
                }
                at = end;
            }
            Some((source, Span::new(from, at - from)))
        })
    }

    fn mask(&self, piece: Piece) -> Mask {
        self.pages
            .get(&piece.page)
            .map(|page| page[piece.unit])
            .unwrap_or_default()
    }

    /// The source of the sector at `at`, and how far at least it goes on.
    fn stretch(&self, at: u64, end: u64) -> (Source, u64) {
        let unit = at / UNIT_BYTES;
        let Some(page) = self.pages.get(&(unit / PAGE_UNITS as u64)) else {
            let page_end = (unit / PAGE_UNITS as u64 + 1) * PAGE_BYTES;
            return self.below(at, end.min(page_end));
        };
        let mask = page[index(unit)];
        let first = at % UNIT_BYTES / SECTOR_BYTES;
        let own = mask.own >> first & 1 == 1;
        let zero = mask.zero >> first & 1 == 1;
        let same = |sector: &u64| {
            (mask.own >> sector & 1 == 1) == own && (mask.zero >> sector & 1 == 1) == zero
        };
        let count = (first..UNIT_SECTORS).take_while(same).count() as u64;
        let until = end.min(at + count * SECTOR_BYTES);
        match (own, zero) {
            (true, _) => (Source::Own, until),
            (false, true) => (Source::Zero, until),
            (false, false) => self.below(at, until),
        }
    }

    fn below(&self, at: u64, until: u64) -> (Source, u64) {
        if at < self.base_bytes {
            (Source::Base, until.min(self.base_bytes))
        } else {
            (Source::Zero, until)
        }
    }

    fn changed(&self, mask: Mask, piece: Piece, change: Change) -> Mask {
        match change {
            Change::Own => Mask {
                own: mask.own | piece.bits,
                zero: mask.zero & !piece.bits,
            },
            Change::Zero => {
                let unit = piece.page * PAGE_UNITS as u64 + piece.unit as u64;
                let hides = if unit * UNIT_BYTES < self.base_bytes {
                    piece.bits
                } else {
                    0
                };
                Mask {
                    own: mask.own & !piece.bits,
                    zero: mask.zero | hides,
                }
            }
        }
    }
}

/// The sectors of a change in one unit.
#[derive(Clone, Copy, Debug)]
struct Piece {
    page: u64,
    unit: usize,
    bits: u8,
}

fn pieces(record: Record) -> impl Iterator<Item = Piece> {
    let end = record.sector + u64::from(record.sectors);
    let mut at = record.sector;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let unit = at / UNIT_SECTORS;
        let until = end.min((unit + 1) * UNIT_SECTORS);
        let bits = (ALL >> (UNIT_SECTORS - (until - at))) << (at % UNIT_SECTORS);
        at = until;
        Some(Piece {
            page: unit / PAGE_UNITS as u64,
            unit: index(unit),
            bits,
        })
    })
}

fn index(unit: u64) -> usize {
    usize::try_from(unit % PAGE_UNITS as u64).unwrap_or(0)
}

fn raw(page: &[Mask; PAGE_UNITS]) -> Box<RawPage> {
    let mut raw = Box::new([RawMask::ZERO; PAGE_UNITS]);
    for (raw, mask) in raw.iter_mut().zip(page) {
        *raw = RawMask::new(u16::from_le_bytes([mask.own, mask.zero]));
    }
    raw
}

/// A page of zeros to read into.
pub(super) fn blank_page() -> Box<RawPage> {
    Box::new([RawMask::ZERO; PAGE_UNITS])
}

/// Units in a page.
pub(super) const PAGE_UNITS: usize = 2048;
/// Bytes of the overlay that a page describes.
pub(super) const PAGE_BYTES: u64 = PAGE_UNITS as u64 * UNIT_BYTES;
/// Bytes of a page in `map`.
pub(super) const RAW_PAGE_BYTES: u64 = size_of::<RawPage>() as u64;

const UNIT_SECTORS: u64 = UNIT_BYTES / SECTOR_BYTES;
const ALL: u8 = 0xff;
