//! Runs of bytes on a volume, and the extents that they touch.

use std::fmt;

use crate::{Error, Result};

/// Bytes in an extent, the unit of caching, verification and transfer.
pub const EXTENT_BYTES: u64 = 64 * 1024;

/// The size of a logical block in bytes: 512 or 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

impl BlockSize {
    /// The block size of so many bytes, if it is one that is supported.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

/// How large a volume is and in what blocks it is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    block_size: BlockSize,
    blocks: u64,
}

impl Geometry {
    /// A volume of so many blocks.
    pub fn new(block_size: BlockSize, blocks: u64) -> Self {
        Self { block_size, blocks }
    }

    /// A volume of at most `bytes` bytes: a last part that fills no whole block is left out.
    pub fn of_bytes(block_size: BlockSize, bytes: u64) -> Self {
        Self {
            block_size,
            blocks: bytes / u64::from(block_size.bytes()),
        }
    }

    /// The block size.
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// The number of blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size.bytes())
    }

    /// The span of `count` blocks from block `lba`, if it lies inside the volume.
    pub fn span(&self, lba: u64, count: u64) -> Result<Span> {
        match lba.checked_add(count) {
            Some(end) if end <= self.blocks => {
                let size = u64::from(self.block_size.bytes());
                Ok(Span {
                    offset: lba * size,
                    length: count * size,
                })
            }
            _ => Err(Error::OutOfRange),
        }
    }

    /// The whole volume.
    pub fn whole(&self) -> Span {
        Span {
            offset: 0,
            length: self.bytes(),
        }
    }

    /// Checks that a span lies inside the volume and on block boundaries.
    pub fn check(&self, span: Span) -> Result<()> {
        let size = u64::from(self.block_size.bytes());
        let aligned = span.offset.is_multiple_of(size) && span.length.is_multiple_of(size);
        match span.offset.checked_add(span.length) {
            Some(end) if aligned && end <= self.bytes() => Ok(()),
            _ => Err(Error::OutOfRange),
        }
    }

    /// The number of extents that hold the volume; the last one may be short.
    pub fn extents(&self) -> u64 {
        self.bytes().div_ceil(EXTENT_BYTES)
    }

    /// The span of an extent, cut at the volume's end.
    pub fn extent_span(&self, extent: Extent) -> Span {
        let offset = extent.0.saturating_mul(EXTENT_BYTES).min(self.bytes());
        Span {
            offset,
            length: EXTENT_BYTES.min(self.bytes() - offset),
        }
    }
}

/// The number of an extent: its offset in an image divided by [`EXTENT_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent(pub u64);

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A run of bytes on a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    offset: u64,
    length: u64,
}

impl Span {
    /// The run of `length` bytes from `offset`. A run that would pass 2^64 is cut there.
    pub fn new(offset: u64, length: u64) -> Self {
        Self {
            offset,
            length: length.min(u64::MAX - offset),
        }
    }

    /// The first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The first byte behind the run.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// True if the run holds nothing.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Cuts the run at extent boundaries: each extent that it touches, with the part of the run inside it.
    pub fn by_extent(self) -> impl Iterator<Item = (Extent, Self)> {
        let mut at = self.offset;
        std::iter::from_fn(move || {
            if at >= self.end() {
                return None;
            }
            let extent = at / EXTENT_BYTES;
            let end = ((extent + 1).saturating_mul(EXTENT_BYTES)).min(self.end());
            let part = Self {
                offset: at,
                length: end - at,
            };
            at = end;
            Some((Extent(extent), part))
        })
    }

    /// The smallest run that holds this one and begins and ends on multiples of `unit`.
    pub fn align_out(self, unit: u64) -> Self {
        let offset = self.offset - self.offset % unit;
        Self {
            offset,
            length: self.end().div_ceil(unit).saturating_mul(unit) - offset,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.offset, self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_span_outside_the_volume_is_refused_even_at_the_end_of_numbers() {
        let geometry = Geometry::new(BlockSize::B512, 100);
        assert_eq!(geometry.span(99, 1).unwrap(), Span::new(50_688, 512));
        assert!(geometry.span(100, 1).is_err());
        assert!(geometry.span(u64::MAX, 1).is_err());
        assert!(geometry.span(0, u64::MAX).is_err());
        assert!(geometry.check(Span::new(u64::MAX - 511, 512)).is_err());
        assert!(geometry.span(100, 0).unwrap().is_empty());
    }

    #[test]
    fn the_last_extent_may_be_short() {
        let geometry = Geometry::new(BlockSize::B512, 129);
        assert_eq!(geometry.extents(), 2);
        assert_eq!(geometry.extent_span(Extent(1)), Span::new(65_536, 512));
        assert!(geometry.extent_span(Extent(2)).is_empty());
    }

    proptest! {
        #[test]
        fn extents_cut_a_span_without_gap_or_overlap(offset in 0u64..1 << 40, length in 0u64..1 << 21) {
            let span = Span::new(offset, length);
            let mut at = offset;
            for (extent, part) in span.by_extent() {
                prop_assert_eq!(part.offset(), at);
                prop_assert!(!part.is_empty() && part.length() <= EXTENT_BYTES);
                prop_assert_eq!(part.offset() / EXTENT_BYTES, extent.0);
                prop_assert_eq!((part.end() - 1) / EXTENT_BYTES, extent.0);
                at = part.end();
            }
            prop_assert_eq!(at, span.end());
        }
    }
}
