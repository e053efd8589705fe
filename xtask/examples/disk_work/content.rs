//! What a disk should hold: of every block who wrote it last, as far as that was acknowledged.

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of a sector: each tells where it belongs.
const SECTOR: usize = 512;

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The image's own bytes.
    Image,
    /// What a write of this number put there.
    Written(u32),
    /// Zeros.
    Trimmed,
}

impl Content {
    /// The bytes of block `number`.
    pub(crate) fn fill(self, seed: u64, number: u64, bytes: &mut [u8]) {
        let version = match self {
            Self::Trimmed => return bytes.fill(0),
            Self::Image => 0,
            Self::Written(version) => u64::from(version),
        };
        let mut chance = Chance(seed ^ (number << 32) ^ version);
        for (sector, bytes) in bytes.chunks_exact_mut(SECTOR).enumerate() {
            for word in bytes.chunks_exact_mut(8) {
                word.copy_from_slice(&chance.next().to_le_bytes());
            }
            // Whoever looks at a dump sees where it belongs and who wrote it.
            let place = format!("{number}.{sector} v{version}\n");
            if let Some(start) = bytes.get_mut(..place.len()) {
                start.copy_from_slice(place.as_bytes());
            }
        }
    }
}

/// What is known of a block.
#[derive(Clone, Copy)]
pub(crate) enum Known {
    Holds(Content),
    /// A write failed: it holds the one or the other, and a read says which.
    Either(Content, Content),
    /// More than one failed: whatever it holds is right.
    Anything,
}

impl Known {
    /// What is known after something was put there, or failed to be.
    pub(crate) fn put(self, content: Content, acknowledged: bool) -> Self {
        match (acknowledged, self) {
            (true, _) => Self::Holds(content),
            (false, Self::Holds(before)) => Self::Either(before, content),
            (false, _) => Self::Anything,
        }
    }

    /// What is known after these bytes were read; `None` if they are wrong.
    pub(crate) fn read(self, seed: u64, number: u64, bytes: &[u8]) -> Option<Self> {
        let mut expected = [0; BLOCK];
        let mut is = |content: Content| {
            content.fill(seed, number, &mut expected);
            bytes == expected
        };
        match self {
            Self::Anything => Some(Self::Anything),
            Self::Holds(content) => is(content).then_some(self),
            Self::Either(one, other) => [one, other]
                .into_iter()
                .find(|&content| is(content))
                .map(Self::Holds),
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Content, Known};

    fn bytes(content: Content, number: u64) -> Vec<u8> {
        let mut bytes = vec![1; BLOCK];
        content.fill(7, number, &mut bytes);
        bytes
    }

    #[test]
    fn an_acknowledged_write_alone_is_right() {
        let known = Known::Holds(Content::Image).put(Content::Written(3), true);
        let right = |content, number| known.read(7, 5, &bytes(content, number)).is_some();
        assert!(right(Content::Written(3), 5));
        assert!(!right(Content::Written(3), 6), "another place");
        assert!(!right(Content::Written(2), 5), "an older write");
        assert!(!right(Content::Image, 5) && !right(Content::Trimmed, 5));
    }

    #[test]
    fn a_read_settles_a_write_that_failed() {
        let doubt = Known::Holds(Content::Trimmed).put(Content::Written(9), false);
        assert!(doubt.read(7, 1, &bytes(Content::Image, 1)).is_none());
        let settled = doubt.read(7, 1, &bytes(Content::Trimmed, 1)).unwrap();
        assert!(settled.read(7, 1, &bytes(Content::Written(9), 1)).is_none());
    }
}
