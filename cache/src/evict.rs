//! Who goes: S3-FIFO over slot numbers. Pure; one pass over an image cannot push out what is used.
//!
//! A new extent enters a small queue (a tenth of the slots). It leaves it for the main queue if it was touched again,
//! otherwise for good, remembered by a fingerprint; whoever comes back while remembered enters the main queue at
//! once. The main queue gives a second chance for each of up to three touches. S3-FIFO (Yang et al., SOSP 2023) and
//! not SIEVE, whose single queue lets a scan through.
//!
//! A guest that reads an extent 4 KiB at a time touches it sixteen times within a moment and means one use: a touch
//! of a slot that was among the last few touched or entered does not count.
//!
//! Memory: two links of 4 bytes, one byte of marks and one byte of fingerprints per slot.

/// Orders the slots of one shelf. Every slot is in one queue, or in none (*reserved*: its owner is writing it).
#[derive(Debug)]
pub(crate) struct Queues {
    links: Vec<Link>,
    marks: Vec<u8>,
    ends: [Ends; 3],
    small_target: u32,
    ghosts: Vec<u16>,
    recent: [u32; RECENT],
    recent_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    newest: u32,
    oldest: u32,
    length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Free = 0,
    Small = 1,
    Main = 2,
}

impl Queues {
    /// All slots reserved: the owner releases or inserts each.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            links: vec![
                Link {
                    newer: NONE,
                    older: NONE
                };
                slots as usize
            ],
            marks: vec![RESERVED; slots as usize],
            ends: [Ends {
                newest: NONE,
                oldest: NONE,
                length: 0,
            }; 3],
            small_target: (slots / 10).max(1),
            ghosts: vec![0; (slots as usize).div_ceil(2)],
            recent: [NONE; RECENT],
            recent_at: 0,
        }
    }

    /// Bytes of memory, but for what does not grow.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.links) + size_of_val(&*self.marks) + size_of_val(&*self.ghosts)
    }

    /// A slot was read.
    pub(crate) fn touch(&mut self, slot: u32) {
        if self.recent.contains(&slot) {
            return;
        }
        self.remember_touch(slot);
        if let Some(mark) = self.marks.get_mut(slot as usize)
            && *mark & COUNT < COUNT
        {
            *mark += 1;
        }
    }

    /// A free slot, reserved for the caller.
    pub(crate) fn take_free(&mut self) -> Option<u32> {
        let slot = self.ends[Queue::Free as usize].oldest;
        (slot != NONE).then(|| self.reserve(slot))
    }

    /// Makes room: the slot whose extent goes, reserved for the caller. `hash` tells a slot's key hash.
    pub(crate) fn evict(&mut self, hash: impl Fn(u32) -> u64) -> Option<u32> {
        loop {
            let main_empty = self.ends[Queue::Main as usize].length == 0;
            if self.ends[Queue::Small as usize].length >= self.small_target || main_empty {
                let slot = self.ends[Queue::Small as usize].oldest;
                if slot == NONE {
                    return None;
                }
                if self.count(slot) == 0 {
                    self.remember_ghost(hash(slot));
                    return Some(self.reserve(slot));
                }
                self.requeue(slot, 0);
            } else {
                let slot = self.ends[Queue::Main as usize].oldest;
                match self.count(slot) {
                    0 => return Some(self.reserve(slot)),
                    count => self.requeue(slot, count - 1),
                }
            }
        }
    }

    /// A reserved slot holds an extent now.
    pub(crate) fn insert(&mut self, slot: u32, hash: u64) {
        let queue = if self.forget_ghost(hash) {
            Queue::Main
        } else {
            Queue::Small
        };
        self.remember_touch(slot);
        self.push(slot, queue, 0);
    }

    /// A reserved slot holds an extent that was found on disk: nobody knows how well it is used, so it is neither on
    /// probation nor protected.
    pub(crate) fn insert_found(&mut self, slot: u32) {
        self.push(slot, Queue::Main, 0);
    }

    /// A reserved slot is free.
    pub(crate) fn release(&mut self, slot: u32) {
        self.push(slot, Queue::Free, 0);
    }

    /// Takes a slot out of its queue, reserved for the caller.
    pub(crate) fn reserve(&mut self, slot: u32) -> u32 {
        let at = slot as usize;
        let Some(ends) = self
            .ends
            .get_mut(usize::from(self.marks[at] >> QUEUE_SHIFT))
        else {
            return slot;
        };
        let Link { newer, older } = self.links[at];
        match self.links.get_mut(newer as usize) {
            Some(link) => link.older = older,
            None => ends.newest = older,
        }
        match self.links.get_mut(older as usize) {
            Some(link) => link.newer = newer,
            None => ends.oldest = newer,
        }
        ends.length -= 1;
        self.marks[at] = RESERVED;
        slot
    }

    fn requeue(&mut self, slot: u32, count: u8) {
        self.reserve(slot);
        self.push(slot, Queue::Main, count);
    }

    fn push(&mut self, slot: u32, queue: Queue, count: u8) {
        let ends = &mut self.ends[queue as usize];
        self.links[slot as usize] = Link {
            newer: NONE,
            older: ends.newest,
        };
        self.marks[slot as usize] = (queue as u8) << QUEUE_SHIFT | count;
        match self.links.get_mut(ends.newest as usize) {
            Some(link) => link.newer = slot,
            None => ends.oldest = slot,
        }
        ends.newest = slot;
        ends.length += 1;
    }

    fn count(&self, slot: u32) -> u8 {
        self.marks[slot as usize] & COUNT
    }

    fn remember_touch(&mut self, slot: u32) {
        self.recent[self.recent_at] = slot;
        self.recent_at = (self.recent_at + 1) % RECENT;
    }

    fn remember_ghost(&mut self, hash: u64) {
        let (cell, fingerprint) = self.ghost(hash);
        self.ghosts[cell] = fingerprint;
    }

    fn forget_ghost(&mut self, hash: u64) -> bool {
        let (cell, fingerprint) = self.ghost(hash);
        let found = self.ghosts[cell] == fingerprint;
        if found {
            self.ghosts[cell] = 0;
        }
        found
    }

    /// The ghosts are a direct-mapped table: a newcomer overwrites whoever shares its cell, which forgets about as
    /// fast as a queue of that length and needs no links. A wrong memory costs one slot of the main queue.
    fn ghost(&self, hash: u64) -> (usize, u16) {
        let cell = ((hash & 0xffff_ffff) * self.ghosts.len() as u64) >> 32;
        let fingerprint = u16::try_from((hash >> 32) & 0xffff).unwrap_or(0) | 1;
        (usize::try_from(cell).unwrap_or(0), fingerprint)
    }
}

const NONE: u32 = u32::MAX;
const COUNT: u8 = 0b11;
const QUEUE_SHIFT: u32 = 2;
/// No queue has this number.
const RESERVED: u8 = 3 << QUEUE_SHIFT;
/// How many touches back a touch counts as the same use.
const RECENT: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::Queues;

    /// A cache of numbers with the queues under test.
    struct Model {
        queues: Queues,
        slots: Vec<Option<u64>>,
        held: HashMap<u64, u32>,
    }

    impl Model {
        fn new(slots: u32) -> Self {
            let mut queues = Queues::new(slots);
            (0..slots).for_each(|slot| queues.release(slot));
            Self {
                queues,
                slots: vec![None; slots as usize],
                held: HashMap::new(),
            }
        }

        /// True on a hit.
        fn read(&mut self, number: u64) -> bool {
            if let Some(slot) = self.held.get(&number) {
                self.queues.touch(*slot);
                return true;
            }
            let slots = &self.slots;
            let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let slot = self.queues.take_free().unwrap_or_else(|| {
                self.queues
                    .evict(|slot| hash(slots[slot as usize].unwrap()))
                    .unwrap()
            });
            if let Some(gone) = self.slots[slot as usize].replace(number) {
                self.held.remove(&gone);
            }
            self.held.insert(number, slot);
            self.queues.insert(slot, hash(number));
            false
        }
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_used() {
        let mut model = Model::new(1000);
        for _ in 0..4 {
            (0..400).for_each(|number| {
                model.read(number);
            });
        }
        (10_000..40_000).for_each(|number| {
            // In pieces, as a guest reads: sixteen touches in a row are one use.
            (0..16).for_each(|_| {
                model.read(number);
            });
        });
        let kept = (0..400)
            .filter(|number| model.held.contains_key(number))
            .count();
        assert!(kept >= 390, "{kept} of 400 kept");
    }

    proptest! {
        #[test]
        fn every_slot_stands_in_one_place(numbers in prop::collection::vec(0..60_u64, 1..500)) {
            let mut model = Model::new(20);
            for number in numbers {
                model.read(number);
                prop_assert!(model.held.len() <= 20);
                let queued: u32 = model.queues.ends.iter().map(|ends| ends.length).sum();
                prop_assert_eq!(queued, 20);
                for (number, slot) in &model.held {
                    prop_assert_eq!(model.slots[*slot as usize], Some(*number));
                }
            }
        }
    }
}
