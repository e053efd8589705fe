//! The image that the demo boots from, when the user names none.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use vmthunder_volume::EXTENT_BYTES;

use crate::demo::trace::Trace;

/// Room behind the last block that the trace touches.
const MARGIN: u64 = 16 * EXTENT_BYTES;

/// Writes an image that is large enough for the trace and has no zero extent where the trace reads. Everything
/// else is a hole, as on a freshly installed disk. Each extent's bytes follow from its number, so that no two are alike.
pub(crate) fn generate(path: &Path, trace: &Trace) -> Result<()> {
    let file =
        File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    let length = (trace.end() + MARGIN).next_multiple_of(EXTENT_BYTES);
    file.set_len(length)
        .context("cannot set the length of the image")?;
    let mut bytes = vec![0; usize::try_from(EXTENT_BYTES)?];
    for extent in trace.extents() {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"vmthunder demo image");
        hasher.update(&extent.0.to_be_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        file.write_all_at(&bytes, extent.0 * EXTENT_BYTES)
            .context("cannot write the image")?;
    }
    Ok(())
}
