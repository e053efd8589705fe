//! What is copied at once: the source cut into pieces, those left out that it does not store.

use anyhow::{Context, Result, ensure};
use futures::Stream;
use vmthunder_volume::{Allocation, Span};

use crate::iscsi::copy::side::Side;

/// Bytes of one read. Pieces begin and end on multiples of it.
pub(super) const PIECE: u64 = 1024 * 1024;

/// Bytes of a hole at most: it may have to be cleared at the destination.
const HOLE: u64 = 64 * PIECE;

/// A part of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) span: Span,
    /// The source says that it is not stored: it reads as zeros.
    pub(super) is_hole: bool,
}

/// The first so many bytes of the source, from a byte on. It is asked at most once for each piece what it stores: a hole that is smaller than a
/// piece is read like the rest of it.
pub(super) fn pieces(source: &Side, from: u64, bytes: u64) -> impl Stream<Item = Result<Piece>> {
    let whole = Span::new(0, bytes);
    let known = (Allocation::Mapped, Span::new(from, 0));
    futures::stream::try_unfold((from, known), move |(at, mut known)| async move {
        if at >= whole.end() {
            return Ok(None);
        }
        if at >= known.1.end() {
            let rest = Span::new(at, whole.end() - at);
            known = source.allocation(rest).await.with_context(|| {
                format!("the source does not tell what it stores from byte {at} on")
            })?;
            ensure!(
                known.1.offset() == at && !known.1.is_empty(),
                "the source says nothing about byte {at}"
            );
        }
        let piece = next(at, known, whole.end());
        Ok(Some((piece, (piece.span.end(), known))))
    })
}

fn next(at: u64, known: (Allocation, Span), end: u64) -> Piece {
    let up_to = |boundary: u64| Span::new(at, boundary.min(end) - at);
    let read = up_to((at - at % PIECE).saturating_add(PIECE));
    let hole_end = match known {
        (Allocation::Hole, run) if run.end() >= end => end,
        (Allocation::Hole, run) => run.end() - run.end() % PIECE,
        (Allocation::Mapped, _) => at,
    };
    if hole_end < read.end() {
        return Piece {
            span: read,
            is_hole: false,
        };
    }
    Piece {
        span: up_to(hole_end.min(at.saturating_add(HOLE))),
        is_hole: true,
    }
}

#[cfg(test)]
mod tests {
    use vmthunder_volume::{Allocation, Span};

    use super::{HOLE, PIECE, Piece, next};

    #[test]
    fn pieces_end_at_multiples_and_small_holes_are_read() {
        let end = 300 * PIECE + 512;
        let hole = |span| Piece {
            span,
            is_hole: true,
        };
        let read = |span| Piece {
            span,
            is_hole: false,
        };
        let run = |kind, from, to| (kind, Span::new(from, to - from));
        let mapped = run(Allocation::Mapped, 0, end);
        assert_eq!(next(0, mapped, end), read(Span::new(0, PIECE)));
        assert_eq!(next(512, mapped, end), read(Span::new(512, PIECE - 512)));
        let last = 300 * PIECE;
        assert_eq!(next(last, mapped, end), read(Span::new(last, 512)));
        // Three pieces and a half: the half is read.
        let run_of_hole = run(Allocation::Hole, PIECE, 4 * PIECE + 512);
        let three = Span::new(PIECE, 3 * PIECE);
        assert_eq!(next(PIECE, run_of_hole, end), hole(three));
        let half = Span::new(4 * PIECE, PIECE);
        assert_eq!(next(4 * PIECE, run_of_hole, end), read(half));
        let small = run(Allocation::Hole, 0, PIECE - 512);
        assert_eq!(next(0, small, end), read(Span::new(0, PIECE)));
        let to_the_end = run(Allocation::Hole, last, end);
        assert_eq!(next(last, to_the_end, end), hole(Span::new(last, 512)));
        let large = run(Allocation::Hole, 0, end);
        assert_eq!(next(0, large, end), hole(Span::new(0, HOLE)));
    }
}
