//! Datagrams that only nodes with the swarm key can make, and that count once.
//!
//! ```text
//!  0  "VMTg"     4   1 version 1
//!  5  epoch      u32 of the key
//!  9  sender     u64 the process that sends: its start and its node's name, mixed
//! 17  stamp      u64 microseconds since 1970, larger in every datagram of a sender
//! 25  payload    1 byte or more
//! -32 tag        keyed BLAKE3 of all before
//! ```
//!
//! Numbers are in network byte order. A datagram is refused if its stamp is not larger than the latest of its sender, or
//! more than [`MOST_SKEW_US`] off the own clock: so what is forgotten about senders that were silent for so long cannot be
//! replayed either. What is overtaken on the way is lost, and gossip can stand that. Nothing is encrypted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::membership::keys::Keyring;
use crate::membership::tags::Tags;

/// The longest datagram: it fits into one Ethernet frame.
pub(crate) const MOST_BYTES: usize = 1400;

/// What surrounds a payload.
pub(crate) const OVERHEAD: usize = HEAD + TAG;

/// How far clocks of nodes may be apart.
pub(crate) const MOST_SKEW_US: u64 = 5 * 60 * 1_000_000;

/// Processes whose stamps are remembered.
const MOST_SENDERS: usize = 4 * crate::membership::MOST_MEMBERS;

const HEAD: usize = 25;
const TAG: usize = 32;
const MAGIC: [u8; 5] = *b"VMTg\x01";

/// Why a datagram is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// It is none of ours.
    #[error("no datagram of a swarm")]
    Form,
    /// Its key is not known here.
    #[error("it was made with a swarm key of another epoch")]
    Epoch,
    /// Its tag is wrong.
    #[error("it was made with another swarm key, or damaged")]
    Tag,
    /// Its sender's clock is wrong, or it is old.
    #[error("its sender's clock differs by more than 5 minutes from ours")]
    Clock,
    /// It was overtaken, or comes a second time.
    #[error("it is late, or a copy")]
    Replayed,
}

/// Makes and checks datagrams.
#[derive(Debug)]
pub(crate) struct Envelope {
    tags: Tags,
    sender: u64,
    last_stamp: u64,
    /// The latest stamp of each sender.
    seen: BTreeMap<u64, u64>,
}

impl Envelope {
    pub(crate) fn new(ring: Arc<Keyring>, sender: u64) -> Self {
        Self {
            tags: Tags::new(ring, b"gossip"),
            sender,
            last_stamp: 0,
            seen: BTreeMap::new(),
        }
    }

    /// Puts a payload into a datagram; `now` in microseconds since 1970.
    pub(crate) fn seal(&mut self, now: u64, payload: &[u8]) -> Vec<u8> {
        self.last_stamp = now.max(self.last_stamp.saturating_add(1));
        let Some((epoch, key)) = self.tags.in_use() else {
            return Vec::new();
        };
        let mut datagram = Vec::with_capacity(payload.len().saturating_add(OVERHEAD));
        datagram.extend_from_slice(&MAGIC);
        datagram.extend_from_slice(&epoch.to_be_bytes());
        datagram.extend_from_slice(&self.sender.to_be_bytes());
        datagram.extend_from_slice(&self.last_stamp.to_be_bytes());
        datagram.extend_from_slice(payload);
        let tag = key.tag(&datagram);
        datagram.extend_from_slice(tag.as_bytes());
        datagram
    }

    /// The payload of a datagram, if that is what it should be.
    pub(crate) fn open<'a>(&mut self, now: u64, datagram: &'a [u8]) -> Result<&'a [u8], Refused> {
        if datagram.len() > MOST_BYTES {
            return Err(Refused::Form);
        }
        let end = datagram.len().checked_sub(TAG).ok_or(Refused::Form)?;
        let (signed, tag) = datagram.split_at_checked(end).ok_or(Refused::Form)?;
        let rest = signed.strip_prefix(&MAGIC).ok_or(Refused::Form)?;
        let (epoch, rest) = rest.split_first_chunk().ok_or(Refused::Form)?;
        let (sender, rest) = rest.split_first_chunk().ok_or(Refused::Form)?;
        let (stamp, payload) = rest.split_first_chunk().ok_or(Refused::Form)?;
        let epoch = u32::from_be_bytes(*epoch);
        let key = self.tags.of(epoch).ok_or(Refused::Epoch)?;
        // The array is compared as a hash: in the same time wherever they differ.
        if payload.is_empty() || key.tag(signed) != *tag {
            return Err(Refused::Tag);
        }
        let (sender, stamp) = (u64::from_be_bytes(*sender), u64::from_be_bytes(*stamp));
        if stamp.abs_diff(now) > MOST_SKEW_US {
            return Err(Refused::Clock);
        }
        self.note(now, sender, stamp)?;
        Ok(payload)
    }

    fn note(&mut self, now: u64, sender: u64, stamp: u64) -> Result<(), Refused> {
        if sender == self.sender {
            return Err(Refused::Replayed);
        }
        if let Some(latest) = self.seen.get_mut(&sender) {
            if stamp <= *latest {
                return Err(Refused::Replayed);
            }
            *latest = stamp;
            return Ok(());
        }
        if self.seen.len() >= MOST_SENDERS {
            // What is older is refused for its age alone.
            self.seen
                .retain(|_, latest| latest.abs_diff(now) <= MOST_SKEW_US);
        }
        if self.seen.len() >= MOST_SENDERS {
            return Err(Refused::Replayed);
        }
        self.seen.insert(sender, stamp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Envelope, MOST_SENDERS, Refused};
    use crate::membership::keys::{Keyring, Keys, SwarmKey};
    use proptest::prelude::{any, prop, proptest};

    const NOW: u64 = 1_800_000_000_000_000;
    const MINUTE: u64 = 60_000_000;

    fn keys(epochs: &[u32]) -> Keys {
        let line = |epoch: &u32| {
            SwarmKey::new(*epoch, *blake3::hash(&epoch.to_be_bytes()).as_bytes())
                .line()
                .to_string()
        };
        Keys::parse(&epochs.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap()
    }

    fn envelope(epochs: &[u32], sender: u64) -> Envelope {
        Envelope::new(Keyring::new(keys(epochs)), sender)
    }

    #[test]
    fn a_datagram_counts_once_and_only_in_order() {
        let (mut from, mut to) = (envelope(&[1], 7), envelope(&[1], 8));
        let one = from.seal(NOW, b"one");
        assert_eq!(
            one[..25],
            *b"VMTg\x01\0\0\0\x01\0\0\0\0\0\0\0\x07\0\x06\x65\x17\x28\x98\x80\x00",
        );
        let two = from.seal(NOW, b"two");
        assert_eq!(to.open(NOW, &two), Ok(&b"two"[..]));
        assert_eq!(to.open(NOW, &two), Err(Refused::Replayed), "a copy");
        assert_eq!(to.open(NOW, &one), Err(Refused::Replayed), "overtaken");
        assert_eq!(
            to.open(NOW + 4 * MINUTE, &from.seal(NOW, b"3")),
            Ok(&b"3"[..])
        );
    }

    #[test]
    fn who_has_another_key_another_clock_or_none_is_refused() {
        let mut to = envelope(&[1], 8);
        let good = envelope(&[1], 7).seal(NOW, b"x");
        assert_eq!(
            to.open(NOW, &envelope(&[2], 7).seal(NOW, b"x")),
            Err(Refused::Epoch)
        );
        let mut forged = Envelope::new(
            Keyring::new(
                Keys::parse(&SwarmKey::new(1, *blake3::hash(b"?").as_bytes()).line()).unwrap(),
            ),
            7,
        );
        assert_eq!(to.open(NOW, &forged.seal(NOW, b"x")), Err(Refused::Tag));
        assert_eq!(to.open(NOW + 6 * MINUTE, &good), Err(Refused::Clock));
        assert_eq!(to.open(NOW - 6 * MINUTE, &good), Err(Refused::Clock));
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            assert!(to.open(NOW, &damaged).is_err(), "byte {at}");
            assert!(to.open(NOW, &good[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(to.open(NOW, &vec![0; 1401]), Err(Refused::Form));
        assert_eq!(
            to.open(NOW, &good),
            Ok(&b"x"[..]),
            "nothing of that was taken for the sender's"
        );
    }

    #[test]
    fn both_keys_of_a_change_are_good() {
        let ring = Keyring::new(keys(&[1]));
        let mut to = Envelope::new(ring.clone(), 8);
        let (old, new) = (
            envelope(&[1, 2], 5).seal(NOW, b"old"),
            envelope(&[2, 1], 6).seal(NOW, b"new"),
        );
        assert_eq!(to.open(NOW, &new), Err(Refused::Epoch));
        ring.replace(keys(&[1, 2]));
        assert_eq!(to.open(NOW, &new), Ok(&b"new"[..]));
        assert_eq!(to.open(NOW, &old), Ok(&b"old"[..]));
    }

    #[test]
    fn senders_that_are_remembered_are_bounded_and_nothing_forgotten_comes_again() {
        let mut to = envelope(&[1], 1 << 40);
        let first = envelope(&[1], 0).seal(NOW, b"x");
        to.open(NOW, &first).unwrap();
        for sender in 1..MOST_SENDERS as u64 {
            to.note(NOW, sender, NOW).unwrap();
        }
        assert_eq!(to.note(NOW, u64::MAX, NOW), Err(Refused::Replayed), "full");
        let later = NOW + 6 * MINUTE;
        to.note(later, u64::MAX, later).unwrap();
        assert_eq!(to.seen.len(), 1);
        assert_eq!(to.open(later, &first), Err(Refused::Clock));
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = b"VMTg\x01\0\0\0\x01".to_vec();
            let mut to = envelope(&[1], 1);
            let _ = to.open(NOW, &bytes);
            whole.extend(bytes);
            let _ = to.open(NOW, &whole);
        }
    }
}
