//! The buffers of reads that ended, for reads to come: fresh memory of that size costs more than the data's way into it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Large buffers that were handed out. One is used again when nobody holds any of it any more.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// Oldest first.
    lent: VecDeque<Bytes>,
    /// Bytes of them all.
    held: usize,
}

impl Spares {
    /// An empty buffer with this much room.
    pub(super) fn take(&mut self, room: usize) -> BytesMut {
        let fits = |lent: &Bytes| lent.len() >= room && lent.len() / 2 <= room && lent.is_unique();
        let place = match room >= SMALLEST_BYTES {
            true => self.lent.iter().position(fits),
            false => None,
        };
        if let Some(spare) = place.and_then(|place| self.lent.remove(place)) {
            self.held -= spare.len();
            if let Ok(mut buffer) = spare.try_into_mut() {
                buffer.clear();
                return buffer;
            }
        }
        BytesMut::with_capacity(room)
    }

    /// Notes a buffer that is handed out now.
    pub(super) fn lend(&mut self, buffer: &Bytes) {
        if !(SMALLEST_BYTES..=MOST_BYTES).contains(&buffer.len()) {
            return;
        }
        self.held += buffer.len();
        self.lent.push_back(buffer.clone());
        while self.held > MOST_BYTES || self.lent.len() > MOST_BUFFERS {
            let Some(oldest) = self.lent.pop_front() else {
                return;
            };
            self.held -= oldest.len();
        }
    }

    /// Gives all of them back to the system.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Allocators keep smaller ones at hand themselves.
const SMALLEST_BYTES: usize = 32 * 1024;

/// Buffers that are remembered, and their bytes: what a session may hold beyond its need.
const MOST_BUFFERS: usize = 16;
const MOST_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};

    use super::{MOST_BUFFERS, MOST_BYTES, SMALLEST_BYTES, Spares};

    fn lend(spares: &mut Spares, length: usize) -> Bytes {
        let mut buffer = spares.take(length);
        assert!(buffer.is_empty() && buffer.capacity() >= length);
        buffer.put_bytes(7, length);
        let lent = buffer.freeze();
        spares.lend(&lent);
        lent
    }

    #[test]
    fn a_buffer_is_used_again_when_nobody_holds_it() {
        let mut spares = Spares::default();
        let first = lend(&mut spares, SMALLEST_BYTES);
        let place = first.as_ptr();
        let second = lend(&mut spares, SMALLEST_BYTES);
        assert_ne!(second.as_ptr(), place, "somebody still reads it");
        let part = first.slice(10..20);
        drop(first);
        assert_ne!(lend(&mut spares, SMALLEST_BYTES).as_ptr(), place);
        assert_eq!(part.as_ref(), [7; 10]);
        drop(part);
        let taken = spares.take(SMALLEST_BYTES);
        assert_eq!(taken.as_ptr(), place);
    }

    #[test]
    fn a_little_data_gets_no_large_buffer() {
        let mut spares = Spares::default();
        drop(lend(&mut spares, 4 * SMALLEST_BYTES));
        assert!(spares.take(SMALLEST_BYTES).capacity() < 4 * SMALLEST_BYTES);
        drop(lend(&mut spares, 4096));
        assert_eq!(spares.lent.len(), 1, "small ones are not remembered");
    }

    #[test]
    fn what_is_held_has_a_limit() {
        let mut spares = Spares::default();
        for length in [MOST_BYTES / 4, MOST_BYTES, MOST_BYTES + 1, SMALLEST_BYTES] {
            for _ in 0..2 * MOST_BUFFERS {
                let lent = lend(&mut spares, length);
                assert!(spares.held <= MOST_BYTES && spares.lent.len() <= MOST_BUFFERS);
                let sum: usize = spares.lent.iter().map(Bytes::len).sum();
                assert_eq!(sum, spares.held);
                drop(lent);
            }
        }
        spares.clear();
        assert_eq!((spares.held, spares.lent.len()), (0, 0));
    }
}
