//! A part of the store's slots with its index and its queues, under one lock. Pure.
//!
//! A slot is *free*, *resident* (named by the index) or *reserved* (its owner writes it or clears its entry; no reader
//! finds it). At most 24 bytes per slot: index 13.3, queues 10, three bits here.

use crate::evict::Queues;
use crate::map::{Key, Map};

/// Slots numbered from zero.
#[derive(Debug)]
pub(crate) struct Shelf {
    map: Map,
    queues: Queues,
    unverified: Bits,
    short: Bits,
    stale: Bits,
    counts: Counts,
}

/// How many slots are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Resident and not hashed since an unclean stop.
    pub unverified: u64,
    /// Extents that made room.
    pub evictions: u64,
}

/// What the shelf knows of a resident extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Where it is.
    pub slot: u32,
    /// Its bytes must be hashed before they are served.
    pub unverified: bool,
    /// It is the last extent of its image and fills only a part of the slot.
    pub short: bool,
}

/// A slot that its owner may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// Where.
    pub slot: u32,
    /// Its entry on disk may still name something and is cleared before the data is touched.
    pub stale: bool,
}

impl Shelf {
    /// So many slots, all reserved.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            map: Map::new(slots),
            queues: Queues::new(slots),
            unverified: Bits::new(slots),
            short: Bits::new(slots),
            stale: Bits::new(slots),
            counts: Counts::default(),
        }
    }

    /// Bytes of memory, but for what does not grow.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let bits = [&self.unverified, &self.short, &self.stale];
        let bits: usize = bits.iter().map(|bits| size_of_val(&*bits.0)).sum();
        self.map.memory() + self.queues.memory() + bits
    }

    /// Extents held.
    pub(crate) fn resident(&self) -> u64 {
        u64::from(self.map.resident())
    }

    /// How many slots are what.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Finds an extent that somebody reads.
    pub(crate) fn touch(&mut self, key: Key) -> Option<Held> {
        let held = self.peek(key)?;
        self.queues.touch(held.slot);
        Some(held)
    }

    /// Finds an extent.
    pub(crate) fn peek(&self, key: Key) -> Option<Held> {
        let slot = self.map.get(key)?;
        Some(Held {
            slot,
            unverified: self.unverified.get(slot),
            short: self.short.get(slot),
        })
    }

    /// What a slot holds, if anything.
    pub(crate) fn resident_in(&self, slot: u32) -> Option<(Key, Held)> {
        let key = self.map.key(slot);
        let held = self.peek(key)?;
        (held.slot == slot).then_some((key, held))
    }

    /// A slot to write, if need be by letting an extent go.
    pub(crate) fn reserve(&mut self) -> Option<Reserved> {
        if let Some(slot) = self.queues.take_free() {
            return Some(Reserved {
                slot,
                stale: self.stale.get(slot),
            });
        }
        let map = &self.map;
        let slot = self.queues.evict(|slot| map.key(slot).hash())?;
        self.map.remove(self.map.key(slot));
        self.set_unverified(slot, false);
        self.counts.evictions += 1;
        Some(Reserved { slot, stale: true })
    }

    /// A reserved slot was written and named.
    pub(crate) fn insert(&mut self, slot: u32, key: Key, short: bool) {
        if !self.map.insert(key, slot) {
            return self.release(slot, true);
        }
        self.queues.insert(slot, key.hash());
        self.short.set(slot, short);
        self.stale.set(slot, false);
    }

    /// A reserved slot was found named on disk. False if another slot holds the same.
    pub(crate) fn insert_found(
        &mut self,
        slot: u32,
        key: Key,
        short: bool,
        unverified: bool,
    ) -> bool {
        if !self.map.insert(key, slot) {
            return false;
        }
        self.queues.insert_found(slot);
        self.short.set(slot, short);
        self.set_unverified(slot, unverified);
        true
    }

    /// The free slots whose entries may still be on disk.
    pub(crate) fn stale(&self) -> Vec<u32> {
        self.stale.all().collect()
    }

    /// The entry of a free slot is cleared.
    pub(crate) fn set_cleared(&mut self, slot: u32) {
        self.stale.set(slot, false);
    }

    /// A reserved slot is free; `stale` if its entry may still be on disk.
    pub(crate) fn release(&mut self, slot: u32, stale: bool) {
        self.stale.set(slot, stale);
        self.queues.release(slot);
    }

    /// Takes an extent out: its slot, reserved for the caller.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Reserved> {
        let slot = self.map.remove(key)?;
        self.queues.reserve(slot);
        self.set_unverified(slot, false);
        Some(Reserved { slot, stale: true })
    }

    /// The extent in `slot` was hashed and is good, if it is still there.
    pub(crate) fn set_verified(&mut self, key: Key, slot: u32) {
        if self.map.get(key) == Some(slot) {
            self.set_unverified(slot, false);
        }
    }

    /// Every extent of an image.
    pub(crate) fn keys_of(&self, image: u32, slots: u32) -> Vec<Key> {
        (0..slots)
            .filter_map(|slot| {
                let key = self.map.key(slot);
                (key.image == image && self.map.get(key) == Some(slot)).then_some(key)
            })
            .collect()
    }

    fn set_unverified(&mut self, slot: u32, now: bool) {
        match (self.unverified.get(slot), now) {
            (false, true) => self.counts.unverified += 1,
            (true, false) => self.counts.unverified -= 1,
            _ => {}
        }
        self.unverified.set(slot, now);
    }
}

/// One bit per slot.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(slots: u32) -> Self {
        Self(vec![0; slots.div_ceil(64) as usize])
    }

    fn get(&self, slot: u32) -> bool {
        self.0
            .get(slot as usize / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn all(&self) -> impl Iterator<Item = u32> {
        (0..)
            .step_by(64)
            .zip(&self.0)
            .filter(|(_, word)| **word != 0)
            .flat_map(|(first, word)| {
                (0..64)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| first + bit)
            })
    }

    fn set(&mut self, slot: u32, bit: bool) {
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word = *word & !(1 << (slot % 64)) | u64::from(bit) << (slot % 64);
        }
    }
}
