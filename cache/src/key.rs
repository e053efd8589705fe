//! What an image is called on disk.

use std::fmt;

/// The identity of an image's content: its manifest root, or a hash of what is known of a foreign origin.
/// Equal keys promise equal bytes; whoever learns otherwise calls [`Store::forget`](crate::Store::forget).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageKey(pub [u8; 32]);

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
