//! Read data on its way out: where to cut it, and what is missing or left over (RFC 7143 §11.7 and §11.4.5).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::wire::bhs::{OVERFLOW, UNDERFLOW};

/// What one Data-In PDU carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it belongs in the initiator's buffer.
    pub(crate) offset: u32,
    /// The bytes.
    pub(crate) data: Bytes,
    /// It ends a sequence (RFC 7143 §11.7.1).
    pub(crate) ends_sequence: bool,
    /// Nothing follows.
    pub(crate) last: bool,
}

/// Cuts data into pieces that the initiator can take. The pieces are slices of the parts wherever a part is long
/// enough to be worth a PDU of its own.
#[derive(Debug)]
pub(crate) struct Pieces {
    parts: VecDeque<Bytes>,
    offset: u32,
    /// Bytes still to come, all parts together.
    left: u32,
    /// Bytes still to come in the sequence that was begun.
    left_in_sequence: u32,
    segment: u32,
    burst: u32,
}

impl Pieces {
    /// Pieces of at most `segment` bytes, in sequences of at most `burst` bytes, `limit` bytes in all.
    pub(crate) fn new(parts: Vec<Bytes>, limit: u32, segment: u32, burst: u32) -> Self {
        let total = parts
            .iter()
            .map(|part| part.len() as u64)
            .sum::<u64>()
            .min(u64::from(limit));
        let burst = burst.max(1);
        Self {
            parts: parts.into_iter().filter(|part| !part.is_empty()).collect(),
            offset: 0,
            left: u32::try_from(total).unwrap_or(u32::MAX),
            left_in_sequence: burst,
            segment: whole_words(segment.max(1)),
            burst,
        }
    }

    /// Bytes still to come.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    fn take(&mut self, limit: usize) -> Bytes {
        let Some(part) = self.take_from_part(limit) else {
            return Bytes::new();
        };
        let worth_a_pdu = part.len() >= MIN_SLICE && part.len() % 4 == 0;
        if part.len() == limit || worth_a_pdu || self.parts.is_empty() {
            return part;
        }
        let mut joined = BytesMut::with_capacity(limit);
        joined.extend_from_slice(&part);
        while joined.len() < limit {
            let Some(part) = self.take_from_part(limit - joined.len()) else {
                break;
            };
            joined.extend_from_slice(&part);
        }
        joined.freeze()
    }

    fn take_from_part(&mut self, limit: usize) -> Option<Bytes> {
        let part = self.parts.front_mut()?;
        let taken = part.split_to(part.len().min(limit));
        if part.is_empty() {
            self.parts.pop_front();
        }
        Some(taken)
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.left == 0 {
            return None;
        }
        let limit = self.segment.min(self.left).min(self.left_in_sequence);
        let data = self.take(usize::try_from(limit).unwrap_or(usize::MAX));
        let length = u32::try_from(data.len()).unwrap_or(limit);
        let offset = self.offset;
        self.offset = self.offset.saturating_add(length);
        self.left = self.left.saturating_sub(length);
        self.left_in_sequence = self.left_in_sequence.saturating_sub(length);
        let last = self.left == 0;
        let ends_sequence = last || self.left_in_sequence == 0;
        if ends_sequence {
            self.left_in_sequence = self.burst;
        }
        Some(Piece {
            offset,
            data,
            ends_sequence,
            last,
        })
    }
}

/// What a command moved, against what the initiator expected it to move (RFC 7143 §11.4.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Residual {
    /// The overflow and underflow bits of byte 1.
    pub(crate) flags: u8,
    /// The residual count.
    pub(crate) count: u32,
}

impl Residual {
    /// The residual of a command that moves `presented` bytes while the initiator expects `expected`.
    pub(crate) fn new(expected: u32, presented: u32) -> Self {
        match presented.checked_sub(expected) {
            Some(0) => Self { flags: 0, count: 0 },
            Some(count) => Self {
                flags: OVERFLOW,
                count,
            },
            None => Self {
                flags: UNDERFLOW,
                count: expected - presented,
            },
        }
    }

    /// The same as bits of the bidirectional read residual.
    pub(crate) fn bidirectional_flags(self) -> u8 {
        self.flags << 2
    }
}

/// Data segments should be whole words but for the last (RFC 7143 §11.7.7).
fn whole_words(length: u32) -> u32 {
    if length < 4 { length } else { length & !3 }
}

/// Shorter parts are copied together: below this a header costs more than the copy.
const MIN_SLICE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::{Piece, Pieces, Residual};
    use bytes::Bytes;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn a_long_part_is_sliced_and_not_copied() {
        let part = Bytes::from(vec![7u8; 20_000]);
        let start = part.as_ptr();
        let pieces: Vec<Piece> = Pieces::new(vec![part], u32::MAX, 8_192, 16_384).collect();
        let shape: Vec<_> = pieces
            .iter()
            .map(|p| (p.offset, p.data.len(), p.ends_sequence, p.last))
            .collect();
        assert_eq!(
            shape,
            [
                (0, 8_192, false, false),
                (8_192, 8_192, true, false),
                (16_384, 3_616, true, true)
            ]
        );
        for piece in &pieces {
            assert_eq!(
                piece.data.as_ptr() as usize - start as usize,
                piece.offset as usize
            );
        }
    }

    #[test]
    fn residuals_are_signed_by_a_flag() {
        assert_eq!(
            Residual::new(512, 512),
            Residual {
                flags: 0x00,
                count: 0
            }
        );
        assert_eq!(
            Residual::new(512, 1024),
            Residual {
                flags: 0x04,
                count: 512
            }
        );
        assert_eq!(
            Residual::new(1024, 512),
            Residual {
                flags: 0x02,
                count: 512
            }
        );
        assert_eq!(
            Residual::new(0, u32::MAX),
            Residual {
                flags: 0x04,
                count: u32::MAX
            }
        );
        assert_eq!(Residual::new(1024, 512).bidirectional_flags(), 0x08);
        assert_eq!(Residual::new(512, 1024).bidirectional_flags(), 0x10);
    }

    proptest! {
        #[test]
        fn pieces_are_the_data(
            lengths in prop::collection::vec(0usize..9_000, 0..8),
            limit in 0u32..40_000,
            segment in 1u32..10_000,
            burst in 1u32..20_000,
        ) {
            let mut counter = 0u8;
            let parts: Vec<Bytes> = lengths.iter().map(|&length| {
                (0..length).map(|_| { counter = counter.wrapping_add(1); counter }).collect::<Vec<u8>>().into()
            }).collect();
            let mut whole: Vec<u8> = parts.concat();
            whole.truncate(limit as usize);
            let (mut seen, mut in_sequence) = (Vec::new(), 0);
            let pieces: Vec<Piece> = Pieces::new(parts, limit, segment, burst).collect();
            for (index, piece) in pieces.iter().enumerate() {
                prop_assert_eq!(piece.offset as usize, seen.len());
                prop_assert!(!piece.data.is_empty() && piece.data.len() <= segment as usize);
                seen.extend_from_slice(&piece.data);
                in_sequence += piece.data.len();
                prop_assert!(in_sequence <= burst as usize);
                prop_assert_eq!(piece.last, index + 1 == pieces.len());
                prop_assert!(piece.ends_sequence || !piece.last);
                prop_assert!(piece.ends_sequence || in_sequence < burst as usize);
                if piece.ends_sequence {
                    in_sequence = 0;
                }
            }
            prop_assert_eq!(seen, whole);
        }
    }
}
