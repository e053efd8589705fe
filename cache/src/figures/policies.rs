//! Who goes: ours, and those that it is compared with.

use std::collections::{BTreeMap, HashMap};

use crate::map::Key;
use crate::shelf::Shelf;

/// A cache of keys without their bytes.
pub(super) trait Policy {
    /// True on a hit; what was missed is held from then on.
    fn read(&mut self, key: Key) -> bool;

    /// How many are held.
    fn held(&self) -> usize;
}

/// What the store does.
pub(super) struct Ours(Shelf);

impl Ours {
    pub(super) fn new(slots: u32) -> Self {
        let mut shelf = Shelf::new(slots);
        (0..slots).for_each(|slot| shelf.release(slot, false));
        Self(shelf)
    }
}

impl Policy for Ours {
    fn read(&mut self, key: Key) -> bool {
        if self.0.touch(key).is_some() {
            return true;
        }
        let reserved = self.0.reserve().unwrap();
        self.0.insert(reserved.slot, key, false);
        false
    }

    fn held(&self) -> usize {
        usize::try_from(self.0.resident()).unwrap()
    }
}

/// Least recently used.
pub(super) struct Lru {
    slots: u32,
    now: u64,
    used: HashMap<Key, u64>,
    order: BTreeMap<u64, Key>,
}

impl Lru {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            slots,
            now: 0,
            used: HashMap::new(),
            order: BTreeMap::new(),
        }
    }
}

impl Policy for Lru {
    fn read(&mut self, key: Key) -> bool {
        self.now += 1;
        let before = self.used.insert(key, self.now);
        self.order.insert(self.now, key);
        if let Some(before) = before {
            self.order.remove(&before);
            return true;
        }
        if self.used.len() > self.slots as usize {
            let (_, gone) = self.order.pop_first().unwrap();
            self.used.remove(&gone);
        }
        false
    }

    fn held(&self) -> usize {
        self.used.len()
    }
}

/// Second chance: a hand goes round, and spares once who was read since.
pub(super) struct Clock {
    slots: usize,
    hand: usize,
    ring: Vec<(Key, bool)>,
    places: HashMap<Key, usize>,
}

impl Clock {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            slots: slots as usize,
            hand: 0,
            ring: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl Policy for Clock {
    fn read(&mut self, key: Key) -> bool {
        if let Some(place) = self.places.get(&key) {
            self.ring[*place].1 = true;
            return true;
        }
        if self.ring.len() < self.slots {
            self.places.insert(key, self.ring.len());
            self.ring.push((key, false));
            return false;
        }
        while std::mem::take(&mut self.ring[self.hand].1) {
            self.hand = (self.hand + 1) % self.slots;
        }
        self.places.remove(&self.ring[self.hand].0);
        self.places.insert(key, self.hand);
        self.ring[self.hand] = (key, false);
        self.hand = (self.hand + 1) % self.slots;
        false
    }

    fn held(&self) -> usize {
        self.places.len()
    }
}

/// SIEVE (Zhang et al., NSDI 2024): a queue whose hand goes from the oldest to the newest and takes who was not read
/// since it last came by; newcomers stand at the new end, whoever stays keeps its place.
pub(super) struct Sieve {
    slots: u32,
    number: u64,
    /// By age: the oldest first.
    queue: BTreeMap<u64, (Key, bool)>,
    places: HashMap<Key, u64>,
    hand: u64,
}

impl Sieve {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            slots,
            number: 0,
            queue: BTreeMap::new(),
            places: HashMap::new(),
            hand: 0,
        }
    }

    fn evict(&mut self) {
        loop {
            let Some((number, entry)) = self.queue.range_mut(self.hand..).next() else {
                self.hand = 0;
                continue;
            };
            self.hand = number + 1;
            if std::mem::take(&mut entry.1) {
                continue;
            }
            let (number, key) = (*number, entry.0);
            self.queue.remove(&number);
            self.places.remove(&key);
            return;
        }
    }
}

impl Policy for Sieve {
    fn read(&mut self, key: Key) -> bool {
        if let Some(number) = self.places.get(&key) {
            if let Some(entry) = self.queue.get_mut(number) {
                entry.1 = true;
            }
            return true;
        }
        if self.places.len() >= self.slots as usize {
            self.evict();
        }
        self.number += 1;
        self.queue.insert(self.number, (key, false));
        self.places.insert(key, self.number);
        false
    }

    fn held(&self) -> usize {
        self.places.len()
    }
}

/// The crate quick_cache.
pub(super) struct QuickCache(quick_cache::unsync::Cache<Key, ()>);

impl QuickCache {
    pub(super) fn new(slots: u32) -> Self {
        Self(quick_cache::unsync::Cache::new(slots as usize))
    }
}

impl Policy for QuickCache {
    fn read(&mut self, key: Key) -> bool {
        if self.0.get(&key).is_some() {
            return true;
        }
        self.0.insert(key, ());
        false
    }

    fn held(&self) -> usize {
        self.0.len()
    }
}
