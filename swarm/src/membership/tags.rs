//! Tags that only nodes with the swarm's key can make, for one purpose.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::membership::keys::{Keyring, Keys, SwarmKey};

/// Makes tags of one purpose with the keys of a ring, as they are at any time.
#[derive(Debug)]
pub(crate) struct Tags {
    ring: Arc<Keyring>,
    purpose: &'static [u8],
    /// What the keys were derived from, and the keys.
    derived: Option<Derived>,
}

/// Keys of the swarm, and for each its epoch and what makes tags with it.
type Derived = (Arc<Keys>, Vec<(u32, TagKey)>);

/// Makes the tags of one epoch (keyed BLAKE3); never printed.
#[derive(Clone)]
pub(crate) struct TagKey(Zeroizing<[u8; 32]>);

impl Tags {
    pub(crate) fn new(ring: Arc<Keyring>, purpose: &'static [u8]) -> Self {
        Self {
            ring,
            purpose,
            derived: None,
        }
    }

    /// What new tags are made with, and its epoch.
    pub(crate) fn in_use(&mut self) -> Option<(u32, TagKey)> {
        self.keys().first().cloned()
    }

    /// What the tags of an epoch that is valid now are made with.
    pub(crate) fn of(&mut self, epoch: u32) -> Option<&TagKey> {
        let mut keys = self.keys().iter();
        keys.find(|(number, _)| *number == epoch)
            .map(|(_, key)| key)
    }

    fn keys(&mut self) -> &[(u32, TagKey)] {
        let now = self.ring.now();
        let stale = |(keys, _): &Derived| !Arc::ptr_eq(keys, &now);
        if self.derived.as_ref().is_none_or(stale) {
            let purpose = self.purpose;
            let tag = |key: &SwarmKey| (key.epoch(), TagKey(key.derive(&[purpose])));
            let derived = now.all().iter().map(tag).collect();
            self.derived = Some((now, derived));
        }
        self.derived.as_ref().map_or(&[], |(_, derived)| derived)
    }
}

impl TagKey {
    /// The tag of these bytes; comparing two takes the same time wherever they differ.
    pub(crate) fn tag(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey")
    }
}
