//! What a guest writes is its own: neither another instance nor the image may see it.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use vmthunder_volume::{Class, EXTENT_BYTES, RawFile, Span, Volume};

use crate::demo::replay::{Checked, Guest};
use crate::demo::trace::Trace;

/// Places in the working set that are written to.
const PLACES: usize = 16;

/// What is written, and where in its extent: a block, a part of two units, a whole unit, and many units.
const SHAPES: [(u64, u64); 4] = [(512, 512), (3584, 1024), (8192, 4096), (20_480, 32_768)];

/// Writes to every guest's disk, then reads all of them and compares: own writes where they were made, the image's
/// bytes around them.
pub(crate) async fn check(guests: &[Guest], trace: &Trace, checked: &mut Checked) -> Result<()> {
    let places = places(trace);
    for (number, guest) in guests.iter().enumerate() {
        for span in &places {
            let bytes = pattern(number, *span);
            guest
                .disk()
                .write(span.offset(), bytes)
                .await
                .with_context(|| format!("cannot write span {span}"))?;
        }
        guest.disk().flush().await.context("cannot flush")?;
    }
    for (number, guest) in guests.iter().enumerate() {
        for span in &places {
            let around = span.align_out(EXTENT_BYTES);
            let mut should = guest.original(around).await?.to_vec();
            let at = usize::try_from(span.offset() - around.offset())?;
            let own = pattern(number, *span);
            should
                .get_mut(at..at + own.len())
                .context("a span lies in its extent")?
                .copy_from_slice(&own);
            let read = guest.disk().read(around, Class::Demand).await?;
            checked.compare(
                &format!("instance {number} after writes"),
                around,
                &read,
                &should,
            );
        }
    }
    Ok(())
}

/// Reads the image where guests wrote to their instances.
pub(crate) async fn check_image(
    url: &str,
    image: &Arc<RawFile>,
    trace: &Trace,
    checked: &mut Checked,
) -> Result<()> {
    let origin = Guest::attach(url, Arc::clone(image)).await?;
    for span in places(trace) {
        let around = span.align_out(EXTENT_BYTES);
        let read = origin.disk().read(around, Class::Demand).await?;
        checked.compare(
            "the image after writes to instances",
            around,
            &read,
            &origin.original(around).await?,
        );
    }
    Ok(())
}

/// Spans in extents that the trace reads; whole extents only, so that there is something around each.
fn places(trace: &Trace) -> Vec<Span> {
    let extents: Vec<_> = trace.extents().into_iter().collect();
    let step = (extents.len() / PLACES).max(1);
    let inner = extents
        .iter()
        .filter(|extent| (extent.0 + 1) * EXTENT_BYTES <= trace.end())
        .step_by(step);
    inner
        .zip(SHAPES.iter().cycle())
        .map(|(extent, (at, length))| Span::new(extent.0 * EXTENT_BYTES + at, *length))
        .collect()
}

/// Bytes that only this guest writes, and only here.
fn pattern(guest: usize, span: Span) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("guest {guest} writes {span}").as_bytes());
    let mut bytes = vec![0; usize::try_from(span.length()).unwrap_or_default()];
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}
