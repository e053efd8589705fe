//! The members that a node remembers, so that it finds them again without its seeds: `members.json` in its folder.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tracing::warn;
use vmthunder_swarm::membership::{Images, Member};

use super::Members;
use crate::known::write_whole;

/// The longest file that is read.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// What is written.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    members: Vec<Place>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    name: String,
    address: String,
}

/// Where members are remembered.
#[derive(Clone)]
pub(super) struct MembersFile(PathBuf);

impl MembersFile {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self(folder.join("members.json"))
    }

    /// The members when this was written last. What is none is as if it were not there.
    pub(super) fn load(&self) -> Vec<Member> {
        let remembered = self.read().unwrap_or_else(|error| {
            warn!("what was known of the other nodes is of no use: {error:#}");
            Remembered::default()
        });
        let member = |place: Place| {
            Some(Member {
                name: place.name.parse().ok()?,
                address: place.address,
                generation: 0,
                draining: false,
                images: Images::Any,
            })
        };
        remembered.members.into_iter().filter_map(member).collect()
    }

    /// Remembers who is there now. Nobody is no news: they may all be away.
    pub(super) fn save(&self, members: &Members) {
        let place = |member: Member| Place {
            name: member.name.to_string(),
            address: member.address,
        };
        let members: Vec<Place> = members.present().into_iter().map(place).collect();
        if members.is_empty() {
            return;
        }
        let written = serde_json::to_vec_pretty(&Remembered { members })
            .map_err(anyhow::Error::from)
            .and_then(|text| write_whole(&self.0, &text));
        if let Err(error) = written {
            warn!("the other nodes are not remembered: {error:#}");
        }
    }

    fn read(&self) -> Result<Remembered> {
        if !self.0.exists() {
            return Ok(Remembered::default());
        }
        let place = || self.0.display().to_string();
        let mut text = String::new();
        File::open(&self.0)
            .and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text))
            .with_context(place)?;
        serde_json::from_str(&text).with_context(place)
    }
}

#[cfg(test)]
mod tests {
    use super::MembersFile;

    #[test]
    fn what_is_on_disk_is_hostile() {
        let folder = tempfile::tempdir().unwrap();
        let file = MembersFile::in_folder(folder.path());
        assert!(file.load().is_empty(), "nothing was written yet");
        for (text, found) in [
            ("{", 0),
            ("{\"members\": [{\"name\": 1}]}", 0),
            (
                "{\"members\": [{\"name\": \"a a\", \"address\": \"10.0.0.1:3260\"}, {\"name\": \"b\", \"address\": \"10.0.0.1:3260\"}]}",
                1,
            ),
        ] {
            std::fs::write(folder.path().join("members.json"), text).unwrap();
            assert_eq!(file.load().len(), found, "{text}");
        }
    }
}
