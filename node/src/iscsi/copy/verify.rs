//! Both ends of a copy read again and compared.

use std::pin::pin;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, future};
use vmthunder_volume::{Allocation, Span};

use crate::iscsi::copy::Copy;
use crate::iscsi::copy::carry::is_zeros;
use crate::iscsi::copy::pieces::{PIECE, Piece, pieces};

/// Places that are remembered where the two differ; then it is clear enough.
const MOST_PLACES: usize = 1000;

/// Where the ends of a copy differ: from the first byte of a piece that does to its last.
pub(super) async fn differing(copy: &Copy) -> Result<Vec<Span>> {
    copy.destination.forget()?;
    let compared = pieces(&copy.source, 0, copy.bytes)
        .map(|piece| copy.compare(piece))
        .buffered(copy.depth);
    let mut compared = pin!(compared);
    let mut found = Vec::new();
    while let Some((span, differs)) = compared.try_next().await? {
        copy.bar.inc(span.length());
        found.extend(differs);
        if found.len() >= MOST_PLACES {
            break;
        }
    }
    Ok(found)
}

impl Copy {
    async fn compare(&self, piece: Result<Piece>) -> Result<(Span, Option<Span>)> {
        let Piece { span, is_hole } = piece?;
        if is_hole {
            return Ok((span, self.first_content(span).await?));
        }
        let (one, other) = future::join(self.source.read(span), self.destination.read(span)).await;
        let cannot = |side: String| format!("cannot read bytes {span} of {side} back");
        let one = one.with_context(|| cannot(self.source.shown()))?;
        let other = other.with_context(|| cannot(self.destination.shown()))?;
        Ok((span, difference(&one, &other, span)))
    }

    /// Where a span of the destination is not zeros.
    async fn first_content(&self, span: Span) -> Result<Option<Span>> {
        let cannot = || {
            format!(
                "cannot read bytes {span} of {} back",
                self.destination.shown()
            )
        };
        let mut at = span.offset();
        while at < span.end() {
            let rest = Span::new(at, span.end() - at);
            let (kind, run) = self
                .destination
                .allocation(rest)
                .await
                .with_context(cannot)?;
            if kind == Allocation::Hole && run.offset() == at && !run.is_empty() {
                at = run.end();
                continue;
            }
            let part = Span::new(at, PIECE.min(span.end() - at));
            let bytes = self.destination.read(part).await;
            let bytes = bytes.with_context(cannot)?;
            if let Some(place) = bytes
                .iter()
                .position(|byte| *byte != 0)
                .filter(|_| !is_zeros(&bytes))
            {
                let first = at + place as u64;
                return Ok(Some(Span::new(first, part.end() - first)));
            }
            at = part.end();
        }
        Ok(None)
    }
}

/// From the first byte that differs to the last one that does.
fn difference(one: &[u8], other: &[u8], span: Span) -> Option<Span> {
    if one == other {
        return None;
    }
    let mut places = one.iter().zip(other).enumerate();
    let first = places.position(|(_, (a, b))| a != b).unwrap_or(0);
    let last = places.rfind(|(_, (a, b))| a != b);
    let last = last.map_or(first, |(at, _)| at);
    let offset = span.offset() + first as u64;
    Some(Span::new(offset, (last - first) as u64 + 1))
}

#[cfg(test)]
mod tests {
    use vmthunder_volume::Span;

    use super::difference;

    #[test]
    fn a_difference_is_named_from_its_first_byte_to_its_last() {
        let one = [0; 16];
        let mut other = one;
        let span = Span::new(1024, 16);
        assert_eq!(difference(&one, &other, span), None);
        other[15] = 1;
        assert_eq!(difference(&one, &other, span), Some(Span::new(1039, 1)));
        other[3] = 1;
        assert_eq!(difference(&one, &other, span), Some(Span::new(1027, 13)));
    }
}
