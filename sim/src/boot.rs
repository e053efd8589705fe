//! What a guest reads when it boots.

use std::collections::HashMap;
use std::time::Duration;

use vmthunder_volume::{EXTENT_BYTES, Extent, Span};

use crate::dice::Dice;

/// The reads of a boot, in order.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The extents that are touched, in the order in which they are touched first.
    pub(crate) extents: Vec<Extent>,
    pub(crate) reads: Vec<Read>,
    bytes: u64,
    /// Reads that a guest has under way at once.
    pub(crate) depth: usize,
}

/// A read: what the guest does before it, and which of the extents it wants.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) think: Duration,
    pub(crate) extents: Vec<u32>,
}

impl Boot {
    /// A boot without a thought that reads so many bytes of an image, four extents at once: runs of up to
    /// half a mebibyte, here and there, as file systems leave them.
    pub fn of_size(working_set: u64, image: u64, seed: u64) -> Self {
        let wanted = working_set.div_ceil(EXTENT_BYTES).max(1);
        let all = image.div_ceil(EXTENT_BYTES).max(wanted);
        let mut dice = Dice(seed ^ LAYOUT);
        let mut touched = HashMap::new();
        let mut reads = Vec::new();
        while (touched.len() as u64) < wanted {
            let (from, length) = (dice.throw() % all, 1 + dice.throw() % LONGEST_RUN);
            // In an image that is hardly larger than the boot, the next free place is near the end of a full one.
            for extent in (from..from + length).map(|extent| Extent(extent % all)) {
                let next = u32::try_from(touched.len()).unwrap_or(u32::MAX);
                if (touched.len() as u64) < wanted && touched.insert(extent, next).is_none() {
                    reads.push((Duration::ZERO, extent));
                }
            }
        }
        let reads = reads
            .into_iter()
            .map(|(think, extent)| (think, Span::new(extent.0 * EXTENT_BYTES, 1)));
        Self {
            bytes: working_set,
            ..Self::new(reads, 4)
        }
    }

    /// A boot that reads these spans, one after the other, each after a thought.
    pub fn of_reads(reads: impl IntoIterator<Item = (Duration, Span)>) -> Self {
        Self::new(reads, 1)
    }

    fn new(reads: impl IntoIterator<Item = (Duration, Span)>, depth: usize) -> Self {
        let (mut extents, mut numbers) = (Vec::new(), HashMap::new());
        let mut number = |extent: Extent| {
            *numbers.entry(extent).or_insert_with(|| {
                extents.push(extent);
                u32::try_from(extents.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let reads: Vec<Read> = reads
            .into_iter()
            .map(|(think, span)| Read {
                think,
                extents: span.by_extent().map(|(extent, _)| number(extent)).collect(),
            })
            .collect();
        Self {
            bytes: extents.len() as u64 * EXTENT_BYTES,
            extents,
            reads,
            depth,
        }
    }

    /// Extents that the boot touches.
    pub fn extents(&self) -> u64 {
        self.extents.len() as u64
    }

    /// Bytes that the boot needs: as many as were asked for, or whole extents.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The guest's own time.
    pub fn think(&self) -> Duration {
        self.reads.iter().map(|read| read.think).sum()
    }
}

/// Extents in a row: half a mebibyte.
const LONGEST_RUN: u64 = 8;
/// Another stream of chance than that of the storm.
const LAYOUT: u64 = 0x6c61_796f_7574;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use vmthunder_volume::{Extent, Span};

    use super::Boot;

    #[test]
    fn a_boot_touches_as_much_as_it_should_even_of_an_image_of_that_size() {
        for image in [1 << 20, 1 << 21, 1 << 30] {
            let boot = Boot::of_size(1 << 20, image, 7);
            assert_eq!(boot.extents(), 16);
            assert_eq!(boot.extents.iter().collect::<HashSet<_>>().len(), 16);
            assert_eq!(boot.think(), Duration::ZERO);
        }
    }

    #[test]
    fn extents_are_numbered_by_their_first_touch() {
        let second = Duration::from_secs(1);
        let boot = Boot::of_reads([
            (second, Span::new(65_536 * 9 - 512, 1024)),
            (2 * second, Span::new(0, 512)),
            (second, Span::new(65_536 * 9, 512)),
        ]);
        assert_eq!(boot.extents, [Extent(8), Extent(9), Extent(0)]);
        let wanted: Vec<_> = boot.reads.iter().map(|read| read.extents.clone()).collect();
        assert_eq!(wanted, [vec![0, 1], vec![2], vec![1]]);
        assert_eq!(boot.think(), 4 * second);
    }
}
