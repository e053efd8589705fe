//! Which slot holds an extent: a compact hash index over slot numbers. Pure.
//!
//! The key of each slot is kept once, in an array by slot; the index holds slot numbers alone, probed linearly, with
//! room for four where three are used: 8 + 5.3 bytes per slot. The number of slots never changes, so nothing grows.
//! What a slot number leaves of a cell tells most keys apart, without a look at the array: that is what opening a store
//! of terabytes would spend its time on.

/// An extent of an interned image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The image's number in this run of the program.
    pub image: u32,
    /// The extent: volumes beyond 2^32 extents (256 TiB) are not cached behind that.
    pub extent: u32,
}

impl Key {
    /// Bits that depend on all of the key.
    pub(crate) fn hash(self) -> u64 {
        // The finalizer of SplitMix64: an invertible mix, so different keys have different hashes.
        let mut mixed = (u64::from(self.image) << 32 | u64::from(self.extent))
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Keys to slots.
#[derive(Debug)]
pub(crate) struct Map {
    keys: Vec<Key>,
    cells: Vec<u32>,
    resident: u32,
}

impl Map {
    /// An empty map for so many slots.
    pub(crate) fn new(slots: u32) -> Self {
        // At least one cell stays empty, so a search ends.
        let cells = slots as usize + slots as usize / 3 + 1;
        Self {
            keys: vec![Key::default(); slots as usize],
            cells: vec![EMPTY; cells],
            resident: 0,
        }
    }

    /// Bytes of memory, but for what does not grow.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.keys) + size_of_val(&*self.cells)
    }

    /// How many slots are named.
    pub(crate) fn resident(&self) -> u32 {
        self.resident
    }

    /// The slot of a key.
    pub(crate) fn get(&self, key: Key) -> Option<u32> {
        self.find(key).ok().map(|cell| self.cells[cell] & SLOT)
    }

    /// The key of a slot. Meaningful for slots that were inserted and not removed.
    pub(crate) fn key(&self, slot: u32) -> Key {
        self.keys.get(slot as usize).copied().unwrap_or_default()
    }

    /// Names a slot. False, and nothing changes, if the key has one already.
    pub(crate) fn insert(&mut self, key: Key, slot: u32) -> bool {
        let Err(gap) = self.find(key) else {
            return false;
        };
        let Some(place) = self.keys.get_mut(slot as usize) else {
            return false;
        };
        *place = key;
        self.cells[gap] = tag(key) | slot;
        self.resident += 1;
        true
    }

    /// Forgets a key, and answers the slot that it had.
    pub(crate) fn remove(&mut self, key: Key) -> Option<u32> {
        let mut gap = self.find(key).ok()?;
        let slot = self.cells[gap] & SLOT;
        // Close the gap: whoever was pushed behind it, and may stand in it, moves up.
        let mut cell = self.after(gap);
        while self.cells[cell] != EMPTY {
            let home = self.home(self.key(self.cells[cell] & SLOT));
            if self.distance(home, gap) < self.distance(home, cell) {
                self.cells[gap] = self.cells[cell];
                gap = cell;
            }
            cell = self.after(cell);
        }
        self.cells[gap] = EMPTY;
        self.resident -= 1;
        Some(slot)
    }

    /// The cell of a key, or the one where it belongs.
    fn find(&self, key: Key) -> Result<usize, usize> {
        let tag = tag(key);
        let mut cell = self.home(key);
        loop {
            let found = self.cells[cell];
            if found == EMPTY {
                return Err(cell);
            }
            if found & !SLOT == tag && self.key(found & SLOT) == key {
                return Ok(cell);
            }
            cell = self.after(cell);
        }
    }

    fn home(&self, key: Key) -> usize {
        // The hash's upper half as a fraction of the index; smaller than its length by construction.
        (((key.hash() >> 32) * self.cells.len() as u64) >> 32) as usize
    }

    fn after(&self, cell: usize) -> usize {
        if cell + 1 == self.cells.len() {
            0
        } else {
            cell + 1
        }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.cells.len() - from
        }
    }
}

/// What of a key's hash stands in its cell. Never all ones, which would be taken for an empty cell.
fn tag(key: Key) -> u32 {
    let bits = u32::try_from(key.hash() % u64::from(TAGS)).unwrap_or(0);
    bits << SLOT_BITS
}

const EMPTY: u32 = u32::MAX;
/// The most slots that a map has: a sixteenth of the largest store.
const SLOT_BITS: u32 = 26;
const SLOT: u32 = (1 << SLOT_BITS) - 1;
const TAGS: u32 = u32::MAX >> SLOT_BITS;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Key, Map};

    proptest! {
        #[test]
        fn behaves_like_a_hash_map(steps in prop::collection::vec((any::<bool>(), 0..40_u32), 0..400)) {
            let slots = 24;
            let mut map = Map::new(slots);
            let mut model = HashMap::new();
            let mut free: Vec<u32> = (0..slots).collect();
            for (insert, extent) in steps {
                let key = Key { image: extent % 3, extent };
                if !insert {
                    let removed = map.remove(key);
                    prop_assert_eq!(removed, model.remove(&key));
                    free.extend(removed);
                } else if let Some(slot) = free.pop() {
                    let fresh = !model.contains_key(&key);
                    prop_assert_eq!(map.insert(key, slot), fresh);
                    if fresh {
                        model.insert(key, slot);
                    } else {
                        free.push(slot);
                    }
                }
                prop_assert_eq!(map.resident() as usize, model.len());
                for (key, slot) in &model {
                    prop_assert_eq!(map.get(*key), Some(*slot));
                    prop_assert_eq!(map.key(*slot), *key);
                }
            }
        }
    }
}
