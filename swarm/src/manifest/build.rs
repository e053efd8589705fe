//! Reads an image once and writes its manifest.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;
use vmthunder_volume::{Allocation, Class, EXTENT_BYTES, Error, Geometry, Span, Volume};

use super::{HASHES_PER_PAGE, Header, MAX_PAGES, ManifestError, manifest_geometry, pages_of};

/// How far [`build`] has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the image that are dealt with.
    pub done: u64,
    /// Bytes among them that read as zero.
    pub zero: u64,
    /// Bytes of the image.
    pub total: u64,
}

/// Reads an image once and writes its manifest to `out`, which has [`manifest_geometry`] or is larger. Holes are not
/// read. The header is written last, and flushed: a manifest that was not finished is none.
pub async fn build<V: Volume, W: Volume>(
    image: Arc<V>,
    out: &W,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Header, ManifestError> {
    let geometry = image.geometry();
    let pages = pages_of(geometry);
    if pages > MAX_PAGES || manifest_geometry(geometry).bytes() > out.geometry().bytes() {
        return Err(ManifestError::TooLarge);
    }
    let header_bytes = manifest_geometry(geometry).bytes() - pages * EXTENT_BYTES;
    out.write(
        0,
        vec![0; usize::try_from(header_bytes).unwrap_or_default()].into(),
    )
    .await?;
    out.flush().await?;
    let mut state = Progress {
        total: geometry.bytes(),
        ..Progress::default()
    };
    let mut hashes = Vec::new();
    for page in 0..pages {
        let span = page_span(geometry, page);
        let bytes = build_page(&image, span, |done| {
            state.done += done.done;
            state.zero += done.zero;
            progress(state);
        });
        let bytes = bytes.await?;
        hashes.push(blake3::hash(&bytes).into());
        out.write(header_bytes + page * EXTENT_BYTES, bytes).await?;
    }
    let header = Header::new(geometry, hashes);
    out.flush().await?;
    out.write(0, header.to_bytes()).await?;
    out.flush().await?;
    Ok(header)
}

/// The part of the image that a page describes.
fn page_span(geometry: Geometry, page: u64) -> Span {
    let length = HASHES_PER_PAGE * EXTENT_BYTES;
    let offset = page * length;
    Span::new(offset, length.min(geometry.bytes() - offset))
}

/// The page that describes `span`, read with several reads under way.
async fn build_page<V: Volume>(
    image: &Arc<V>,
    span: Span,
    mut advance: impl FnMut(Progress) + Send,
) -> Result<Bytes, ManifestError> {
    let mut page = vec![0; usize::try_from(EXTENT_BYTES).unwrap_or_default()];
    let mut reads: JoinSet<Result<(Span, Vec<u8>), Error>> = JoinSet::new();
    let mut at = span.offset();
    loop {
        while at < span.end() && reads.len() < READS_IN_FLIGHT {
            let rest = Span::new(at, span.end() - at);
            let part = Span::new(at, rest.length().min(READ_BYTES));
            let hole = hole_at(image, rest).await?;
            if hole.is_empty() {
                let image = image.clone();
                reads.spawn(
                    async move { Ok((part, hashes_of(&image.read(part, Class::Fill).await?))) },
                );
                at = part.end();
            } else {
                advance(Progress {
                    done: hole.length(),
                    zero: hole.length(),
                    total: 0,
                });
                at = hole.end();
            }
        }
        let Some(read) = reads.join_next().await else {
            return Ok(page.into());
        };
        let (part, hashes) = read.map_err(|_| Error::Unavailable)??;
        let first = usize::try_from((part.offset() - span.offset()) / EXTENT_BYTES * 32)
            .unwrap_or_default();
        if let Some(place) = page.get_mut(first..first + hashes.len()) {
            place.copy_from_slice(&hashes);
        }
        let zeros = hashes
            .as_chunks::<32>()
            .0
            .iter()
            .filter(|hash| **hash == [0; 32])
            .count() as u64;
        let zero = (zeros * EXTENT_BYTES).min(part.length());
        advance(Progress {
            done: part.length(),
            zero,
            total: 0,
        });
    }
}

/// The whole extents at the beginning of `span` that are not stored; `span` begins with an extent.
async fn hole_at<V: Volume>(image: &Arc<V>, span: Span) -> Result<Span, Error> {
    let (allocation, run) = image.allocation(span).await?;
    let end = run.end().min(span.end());
    let whole = if end == span.end() {
        end
    } else {
        end - end % EXTENT_BYTES
    };
    let length = if allocation == Allocation::Hole {
        whole.saturating_sub(span.offset())
    } else {
        0
    };
    Ok(Span::new(span.offset(), length))
}

/// The hashes of the extents in `bytes`, one behind the other.
fn hashes_of(bytes: &[u8]) -> Vec<u8> {
    let extent = usize::try_from(EXTENT_BYTES).unwrap_or(usize::MAX);
    let hash = |extent: &[u8]| match extent.iter().all(|byte| *byte == 0) {
        true => [0; 32],
        false => *blake3::hash(extent).as_bytes(),
    };
    bytes.chunks(extent).flat_map(hash).collect()
}

/// Bytes of one read: sixteen extents.
const READ_BYTES: u64 = 16 * EXTENT_BYTES;
/// Reads under way.
const READS_IN_FLIGHT: usize = 8;
