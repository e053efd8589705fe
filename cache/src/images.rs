//! Image keys as small numbers, for the index.

use std::collections::HashMap;

use crate::ImageKey;

/// Numbers for image keys. A number is never given twice, so whoever holds one of a forgotten image finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Images {
    numbers: HashMap<ImageKey, u32>,
    next: u32,
    keys: HashMap<u32, ImageKey>,
}

impl Images {
    /// The number of an image; `None` at the limit.
    pub(crate) fn number(&mut self, key: ImageKey) -> Option<u32> {
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number);
        }
        if self.numbers.len() >= MAX_IMAGES || self.next == u32::MAX {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.numbers.insert(key, number);
        self.keys.insert(number, key);
        Some(number)
    }

    /// The image of a number, unless it was forgotten.
    pub(crate) fn key(&self, number: u32) -> Option<ImageKey> {
        self.keys.get(&number).copied()
    }

    /// Forgets an image, and answers the number that it had.
    pub(crate) fn forget(&mut self, key: ImageKey) -> Option<u32> {
        let number = self.numbers.remove(&key)?;
        self.keys.remove(&number);
        Some(number)
    }
}

/// How many images a store knows at a time.
const MAX_IMAGES: usize = 65_536;
