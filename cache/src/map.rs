//! Which slot holds an extent: a compact hash index over slot numbers. Pure.
//!
//! The key of each slot is kept once, in an array by slot; the index holds slot numbers alone, probed linearly, with
//! room for four where three are used: 8 + 5.3 bytes per slot. The number of slots never changes, so nothing grows.

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

    /// How many slots are named.
    pub(crate) fn resident(&self) -> u32 {
        self.resident
    }

    /// The slot of a key.
    pub(crate) fn get(&self, key: Key) -> Option<u32> {
        self.find(key).map(|(_, slot)| slot)
    }

    /// The key of a slot. Meaningful for slots that were inserted and not removed.
    pub(crate) fn key(&self, slot: u32) -> Key {
        self.keys.get(slot as usize).copied().unwrap_or_default()
    }

    /// Names a slot. False, and nothing changes, if the key has one already.
    pub(crate) fn insert(&mut self, key: Key, slot: u32) -> bool {
        if self.get(key).is_some() {
            return false;
        }
        let Some(place) = self.keys.get_mut(slot as usize) else {
            return false;
        };
        *place = key;
        let mut cell = self.home(key);
        while self.cells[cell] != EMPTY {
            cell = self.after(cell);
        }
        self.cells[cell] = slot;
        self.resident += 1;
        true
    }

    /// Forgets a key, and answers the slot that it had.
    pub(crate) fn remove(&mut self, key: Key) -> Option<u32> {
        let (mut gap, slot) = self.find(key)?;
        // Close the gap: whoever was pushed behind it, and may stand in it, moves up.
        let mut cell = self.after(gap);
        while self.cells[cell] != EMPTY {
            let home = self.home(self.key(self.cells[cell]));
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

    fn find(&self, key: Key) -> Option<(usize, u32)> {
        let mut cell = self.home(key);
        loop {
            let slot = self.cells[cell];
            if slot == EMPTY {
                return None;
            }
            if self.key(slot) == key {
                return Some((cell, slot));
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

const EMPTY: u32 = u32::MAX;

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
