//! What a member writes down in etcd: one line, readable by people, that only who has the swarm's key can make.
//!
//! ```text
//! vmthunder-member-1 EPOCH NAME ADDRESS BORN GENERATION STATE IMAGES TAG
//! ```
//!
//! One space between the words; numbers are decimal; `STATE` is `here`, `draining` or `leaving`; `IMAGES` is `any`, `-`
//! or the tags of images with commas between them; `TAG` is the keyed BLAKE3 of all before it and its space, in hexadecimal digits, by a key that follows from the swarm's of that epoch.
//! The name is in what the tag covers, so a record is worth nothing under another name.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::forest::NodeName;
use crate::membership::codec::Identity;
use crate::membership::keys::Keyring;
use crate::membership::tags::Tags;

/// The longest record.
const MOST_BYTES: usize = 512;

const FORM: &str = "vmthunder-member-1";

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) identity: Identity,
    /// It goes now, and is not to be waited for.
    pub(super) leaving: bool,
}

/// Writes records and reads those of others.
#[derive(Debug)]
pub(super) struct Records(Tags);

impl Records {
    pub(super) fn new(ring: Arc<Keyring>) -> Self {
        Self(Tags::new(ring, b"etcd"))
    }

    /// The line of a record; empty without a key.
    pub(super) fn write(&mut self, record: &Record) -> String {
        let Some((epoch, key)) = self.0.in_use() else {
            return String::new();
        };
        let Identity {
            name,
            address,
            born,
            generation,
            draining,
            images,
        } = &record.identity;
        let state = match (record.leaving, draining) {
            (true, _) => "leaving",
            (false, true) => "draining",
            (false, false) => "here",
        };
        let said = format!("{FORM} {epoch} {name} {address} {born} {generation} {state} {images}");
        let tag = key.tag(said.as_bytes()).to_hex();
        format!("{said} {tag}")
    }

    /// The record that the member `name` wrote; nothing if it is none, or was made without the swarm's key.
    pub(super) fn read(&mut self, name: &NodeName, line: &[u8]) -> Option<Record> {
        if line.len() > MOST_BYTES {
            return None;
        }
        let (said, tag) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
        let words: Vec<&str> = said.split(' ').collect();
        let [
            FORM,
            epoch,
            said_name,
            address,
            born,
            generation,
            state,
            images,
        ] = words[..]
        else {
            return None;
        };
        let key = self.0.of(epoch.parse().ok()?)?;
        let tag = blake3::Hash::from_hex(tag).ok()?;
        if key.tag(said.as_bytes()) != tag || said_name != name.as_str() {
            return None;
        }
        let address: SocketAddr = address.parse().ok()?;
        Some(Record {
            identity: Identity {
                name: name.clone(),
                address,
                born: born.parse().ok()?,
                generation: generation.parse().ok()?,
                draining: state == "draining",
                images: images.parse().ok()?,
            },
            leaving: match state {
                "here" | "draining" => false,
                "leaving" => true,
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{Record, Records};
    use crate::forest::NodeName;
    use crate::membership::codec::Identity;
    use crate::membership::keys::{Keyring, Keys, SwarmKey};
    use crate::membership::{ImageTag, Images};

    fn records(epochs: &[u32], seed: &[u8]) -> Records {
        let lines = epochs.iter().map(|epoch| {
            let bytes = blake3::keyed_hash(blake3::hash(seed).as_bytes(), &epoch.to_be_bytes());
            SwarmKey::new(*epoch, *bytes.as_bytes()).line().to_string()
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        Records::new(Keyring::new(Keys::parse(&text).unwrap()))
    }

    fn record(draining: bool, leaving: bool) -> Record {
        let identity = Identity {
            name: NodeName::new("node-1").unwrap(),
            address: "[fe80::1]:3260".parse().unwrap(),
            born: 1_800_000_000_000_001,
            generation: 1_800_000_000_000,
            draining,
            images: Images::these([ImageTag(7), ImageTag(8)]),
        };
        Record { identity, leaving }
    }

    #[test]
    fn a_record_is_one_line_that_says_all() {
        let mut records = records(&[7], b"key");
        let said = "vmthunder-member-1 7 node-1 [fe80::1]:3260 1800000000000001 1800000000000 here 00000007,00000008 ";
        let line = records.write(&record(false, false));
        assert_eq!(line.strip_prefix(said).map(str::len), Some(64), "{line}");
        for (draining, leaving) in [(false, false), (true, false), (false, true)] {
            let record = record(draining, leaving);
            let line = records.write(&record);
            let read = records.read(&record.identity.name, line.as_bytes());
            assert_eq!(read, Some(record), "{line}");
        }
    }

    #[test]
    fn who_lacks_the_key_or_takes_the_record_of_another_says_nothing() {
        let mut ours = records(&[1], b"key");
        let name = NodeName::new("node-1").unwrap();
        let good = ours.write(&record(false, false));
        assert!(ours.read(&name, good.as_bytes()).is_some());
        for (what, line) in [
            (
                "another key",
                records(&[1], b"other").write(&record(false, false)),
            ),
            (
                "another epoch",
                records(&[2], b"key").write(&record(false, false)),
            ),
            ("another state", good.replace(" here ", " leaving ")),
            ("another image", good.replace("00000007", "00000006")),
            ("another place", good.replace("fe80", "fe81")),
            ("more", format!("{good} ")),
            ("too long", format!("{good}{}", " x".repeat(300))),
        ] {
            assert_eq!(ours.read(&name, line.as_bytes()), None, "{what}: {line}");
        }
        let other = NodeName::new("node-2").unwrap();
        assert_eq!(
            ours.read(&other, good.as_bytes()),
            None,
            "under another name"
        );
        let mut both = records(&[2, 1], b"key");
        assert!(
            both.read(&name, good.as_bytes()).is_some(),
            "while a key is changed"
        );
    }

    proptest! {
        #[test]
        fn no_value_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), words in "vmthunder-member-1 1( [ -~]{0,9}){0,9}") {
            let (mut records, name) = (records(&[1], b"key"), NodeName::new("node-1").unwrap());
            assert_eq!(records.read(&name, &bytes), None);
            assert_eq!(records.read(&name, words.as_bytes()), None);
        }
    }
}
