//! Pieces carried over, many at a time.

use std::collections::BTreeMap;
use std::pin::pin;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use vmthunder_volume::Span;

use crate::iscsi::copy::Copy;
use crate::iscsi::copy::pieces::{Piece, pieces};

/// What is looked at at once when zeros are looked for. A run of zeros of this many bytes is not written.
const GRAIN: usize = 64 * 1024;

/// Bytes that are compared with zeros between two looks at the outcome.
const STRIDE: usize = 4096;

/// What was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Bytes that were written.
    pub(super) stored: u64,
    /// Bytes that were zeros.
    pub(super) zeros: u64,
}

/// What was copied: from the beginning without a gap, and beyond.
#[derive(Debug)]
pub(super) struct Mark {
    done: u64,
    /// Runs behind a gap: their beginnings and ends. No more than pieces are under way, which are the gaps.
    ahead: BTreeMap<u64, u64>,
}

impl Mark {
    /// So many bytes were copied already.
    pub(super) fn at(done: u64) -> Self {
        Self {
            done,
            ahead: BTreeMap::new(),
        }
    }

    /// How much was copied from the beginning without a gap.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    fn note(&mut self, span: Span) {
        let (mut from, mut to) = (span.offset(), span.end());
        if let Some(end) = self.ahead.remove(&to) {
            to = end;
        }
        if let Some((&before, &end)) = self.ahead.range(..from).next_back()
            && end == from
        {
            self.ahead.remove(&before);
            from = before;
        }
        if from == self.done {
            self.done = to;
        } else {
            self.ahead.insert(from, to);
        }
    }
}

impl Copy {
    /// Copies what is left.
    pub(super) async fn carry_all(&self, carried: &mut Carried) -> Result<()> {
        let from = self.done();
        self.bar.set_position(from);
        self.bar.reset_eta();
        let under_way = pieces(&self.source, from, self.bytes)
            .map(|piece| self.carry(piece))
            .buffer_unordered(self.depth);
        let mut under_way = pin!(under_way);
        while let Some((span, part)) = under_way.try_next().await? {
            carried.stored += part.stored;
            carried.zeros += part.zeros;
            self.mark().note(span);
            self.bar.inc(span.length());
        }
        Ok(())
    }

    async fn carry(&self, piece: Result<Piece>) -> Result<(Span, Carried)> {
        let Piece { span, is_hole } = piece?;
        let mut carried = Carried::default();
        if is_hole {
            self.clear(span).await?;
            carried.zeros = span.length();
            return Ok((span, carried));
        }
        let bytes = self
            .source
            .read(span)
            .await
            .with_context(|| format!("cannot read bytes {span} of {}", self.source.shown()))?;
        for (is_zeros, run) in runs(&bytes) {
            let at = span.offset() + run.start as u64;
            let length = run.len() as u64;
            if is_zeros {
                self.clear(Span::new(at, length)).await?;
                carried.zeros += length;
            } else {
                let written = self.destination.write(at, bytes.slice(run)).await;
                written.with_context(|| self.cannot_write(at))?;
                carried.stored += length;
            }
        }
        Ok((span, carried))
    }

    async fn clear(&self, span: Span) -> Result<()> {
        if self.starts_empty {
            return Ok(());
        }
        let cleared = self.destination.clear(span).await;
        cleared.with_context(|| self.cannot_write(span.offset()))
    }

    fn cannot_write(&self, at: u64) -> String {
        format!("cannot write byte {at} of {}", self.destination.shown())
    }
}

/// The runs of zeros and of content, in grains.
fn runs(bytes: &Bytes) -> Vec<(bool, std::ops::Range<usize>)> {
    let mut runs: Vec<(bool, std::ops::Range<usize>)> = Vec::new();
    let mut at = 0;
    for grain in bytes.chunks(GRAIN) {
        let zeros = is_zeros(grain);
        let end = at + grain.len();
        match runs.last_mut() {
            Some((same, run)) if *same == zeros => run.end = end,
            _ => runs.push((zeros, at..end)),
        }
        at = end;
    }
    runs
}

/// True if every byte is zero. Strides without a branch are what a compiler makes wide instructions of.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    bytes
        .chunks(STRIDE)
        .all(|stride| stride.iter().fold(0, |any, byte| any | byte) == 0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use vmthunder_volume::Span;

    use super::{GRAIN, Mark, is_zeros, runs};

    #[test]
    fn the_mark_passes_no_gap() {
        let mut mark = Mark::at(10);
        mark.note(Span::new(30, 10));
        mark.note(Span::new(50, 10));
        mark.note(Span::new(20, 10));
        assert_eq!(mark.ahead.len(), 2, "neighbours are one run");
        assert_eq!(mark.done(), 10);
        mark.note(Span::new(10, 10));
        assert_eq!(mark.done(), 40);
        mark.note(Span::new(40, 10));
        assert_eq!(mark.done(), 60);
        assert!(mark.ahead.is_empty());
    }

    #[test]
    fn one_byte_makes_a_grain_content() {
        let mut bytes = vec![0; 5 * GRAIN + 512];
        assert!(is_zeros(&bytes) && is_zeros(&[]));
        bytes[2 * GRAIN - 1] = 1;
        bytes[2 * GRAIN] = 1;
        assert!(!is_zeros(&bytes[..2 * GRAIN]));
        let end = bytes.len();
        let found = runs(&Bytes::from(bytes));
        let expected = [
            (true, 0..GRAIN),
            (false, GRAIN..3 * GRAIN),
            (true, 3 * GRAIN..end),
        ];
        assert_eq!(found, expected);
    }
}
