//! What of a span is held and what must be fetched. Pure.

use std::ops::Range;

use vmthunder_volume::{EXTENT_BYTES, Extent, Span};

/// The part of a span in one extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step<R> {
    /// The extent.
    pub extent: Extent,
    /// The bytes wanted, counted from the extent's beginning.
    pub part: Range<usize>,
    /// Where it is held.
    pub held: Option<R>,
}

/// Cuts a span into its extents, in order, and asks where each is held.
pub(crate) fn plan<R>(span: Span, mut residence: impl FnMut(Extent) -> Option<R>) -> Vec<Step<R>> {
    span.by_extent()
        .map(|(extent, part)| Step {
            extent,
            part: within_extent(part),
            held: residence(extent),
        })
        .collect()
}

/// A part of one extent, counted from the extent's beginning.
pub(crate) fn within_extent(part: Span) -> Range<usize> {
    let narrow = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let from = narrow(part.offset() % EXTENT_BYTES);
    from..from + narrow(part.length())
}
