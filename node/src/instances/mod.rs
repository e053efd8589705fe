//! The instances of a node on disk: a folder each, with what it is, what was written to it, and its snapshots.
//!
//! ```text
//! NAME/instance.toml        what it is; names the overlay that counts
//! NAME/overlay[.N]/         what was written
//! NAME/overlay[.N].reset/   what is being given up for an empty one in its space
//! NAME/snapshots/SNAP/      an overlay as it was
//! .not-created              names of instances that are not to be
//! .export-N.unfinished/     what an export under way needs, and the file that it writes
//! ```
//!
//! Whatever is made is made under a name that does not count yet, brought to media, and then named: by a rename, or by
//! the description; several that are made together by a list that is removed. So a death at any time leaves the old or the new, and what does not count is cleaned away at the
//! next start.

mod batch;
mod commands;
mod copies;
mod export;
mod front;
mod guest;
mod qcow2;
mod show;
mod trouble;
mod turn;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tracing::{debug, error, info};
use vmthunder_cache::ImageKey;
use vmthunder_cache::overlay::{Overlay, OverlayOptions, is_in_use};
use vmthunder_swarm::manifest::Root;
use vmthunder_volume::Volume;

use crate::config::{Outage, check_name};
use crate::export::Base;
use crate::observe::causes;

pub(crate) use self::commands::{Creation, InstanceRequest};
pub(crate) use self::front::run;
pub(crate) use self::guest::Guests;
pub(crate) use self::qcow2::Format;
use self::trouble::UnknownKey;

/// The file that says what an instance is.
const DESCRIPTION: &str = "instance.toml";

/// The longest description that is read.
const MOST_DESCRIPTION_BYTES: u64 = 64 * 1024;

/// What is begun or being removed ends with this, and is cleaned away at the next start.
const UNFINISHED: &str = ".unfinished";

/// The folder of the first overlay; later ones have their number behind it.
const OVERLAY: &str = "overlay";

/// What an overlay is called from when it is given up for an empty one in its space until that counts.
const RESET: &str = ".reset";

/// The folder of an instance's snapshots.
const SNAPSHOTS: &str = "snapshots";

/// The folder of all instances of a node.
#[derive(Debug)]
pub(crate) struct Instances {
    folder: PathBuf,
}

/// What an instance is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The name of the image that it began as.
    pub(crate) image: String,
    /// The most bytes that what is written to it may take on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quota: Option<u64>,
    /// What its guest's reads do in an outage, if not what the image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outage: Option<Outage>,
    /// Which overlay counts: raised by each reset and rollback.
    #[serde(default)]
    pub(crate) generation: u64,
    /// That it is to need nothing but this node's own disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) off: Option<Off>,
}

/// How an instance is turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Off {
    /// The content that it was laid over: the copy that it reads.
    #[serde(with = "root_as_text")]
    pub(crate) root: Root,
    /// How fast the copy is filled, in bytes per second.
    pub(crate) rate: u64,
}

mod root_as_text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use vmthunder_swarm::manifest::Root;

    pub(super) fn serialize<S: Serializer>(root: &Root, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(root)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Root, D::Error> {
        let text = String::deserialize(from)?;
        let hash = blake3::Hash::from_hex(text).map_err(D::Error::custom)?;
        Ok(Root(*hash.as_bytes()))
    }
}

/// A snapshot as it lies on disk.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    /// When it was made, in seconds since 1970.
    pub(crate) created: u64,
    /// What it takes on disk, blocks that it shares included.
    pub(crate) stored: u64,
}

impl Description {
    fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MOST_DESCRIPTION_BYTES).read_to_string(&mut text))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let parsed: std::result::Result<Self, _> = toml::from_str(&text);
        match parsed {
            Ok(description) => Ok(description),
            // Keys are never taken away, but a later version may have more of them.
            Err(error) if error.message().starts_with("unknown") => Err(UnknownKey(format!(
                "{} has something in it that this version does not know: {}",
                path.display(),
                error.message()
            ))
            .into()),
            Err(error) => bail!("{} is damaged: {}", path.display(), error.message()),
        }
    }

    /// Writes it into an instance's folder, whole or not at all.
    fn write(&self, place: &Path) -> Result<()> {
        let text = toml::to_string(self)?;
        let (path, begun) = (
            place.join(DESCRIPTION),
            place.join(format!("{DESCRIPTION}{UNFINISHED}")),
        );
        let written = File::create(&begun).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&begun, &path)
        });
        written.with_context(|| format!("cannot write {}", path.display()))?;
        sync_folder(place)
    }

    /// What it is after another reset or rollback.
    fn next(&self) -> Result<Self> {
        let generation = self.generation.checked_add(1);
        Ok(Self {
            generation: generation.context("an instance cannot be reset more often")?,
            ..self.clone()
        })
    }

    /// The name of the folder of the overlay that counts.
    fn overlay(&self) -> String {
        match self.generation {
            0 => OVERLAY.to_owned(),
            generation => format!("{OVERLAY}.{generation}"),
        }
    }
}

impl Instances {
    /// Opens the folder, and cleans away what a node left half done when it died.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let instances = Self { folder };
        instances.remove_not_created()?;
        instances.remove_not_exported()?;
        clean(&instances.folder, |name| name.ends_with(UNFINISHED))?;
        for (name, description) in instances.list()? {
            // Of one that nobody can tell anything about nothing is thrown away.
            let Ok(description) = description else {
                continue;
            };
            let description = match instances.end_reset(&name, description) {
                Ok(description) => description,
                Err(error) => {
                    error!("{}", causes(&error));
                    continue;
                }
            };
            let (place, counts) = (instances.place(&name), description.overlay());
            let goes = |found: &str| {
                let other = found.starts_with(OVERLAY) && found != counts;
                other || found.ends_with(UNFINISHED)
            };
            clean(&place, goes)?;
            if place.join(SNAPSHOTS).is_dir() {
                clean(&place.join(SNAPSHOTS), |name| name.ends_with(UNFINISHED))?;
            }
        }
        Ok(instances)
    }

    /// The instances that are there, each with what it is or why nobody can tell.
    pub(crate) fn list(&self) -> Result<Vec<(String, Result<Description>)>> {
        let mut found = Vec::new();
        for (name, path) in folders(&self.folder)? {
            if check_name("instance", &name).is_err() || name.ends_with(UNFINISHED) {
                continue;
            }
            match is_instance(&path) {
                true => found.push((name, Description::read(&path.join(DESCRIPTION)))),
                false => debug!("{} is no instance: it is left alone", path.display()),
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Makes an instance that does not count yet.
    pub(crate) async fn begin(
        &self,
        name: &str,
        description: &Description,
        options: OverlayOptions,
        base: Base,
    ) -> Result<()> {
        check_new("instance", name)?;
        ensure!(
            !self.place(name).exists(),
            "{} is there already",
            self.place(name).display()
        );
        let begun = self.begun(name);
        remove_all(&begun)?;
        std::fs::create_dir(&begun)
            .with_context(|| format!("cannot create {}", begun.display()))?;
        self.make_overlay(&begun.join(description.overlay()), options, base)
            .await?;
        description.write(&begun)
    }

    async fn make_overlay(
        &self,
        path: &Path,
        mut options: OverlayOptions,
        base: Base,
    ) -> Result<()> {
        let least = base.geometry().bytes();
        if let Some(bytes) = &mut options.bytes {
            ensure!(
                *bytes >= least,
                "{bytes} bytes are less than the image's {least}"
            );
            let block = u64::from(base.geometry().block_size().bytes());
            *bytes = bytes.checked_next_multiple_of(block).unwrap_or(u64::MAX);
        }
        let folder = self.folder.display();
        let made = Overlay::create(path, options, base).await;
        made.with_context(|| match options.bytes {
            Some(bytes) => format!("cannot make a disk of {bytes} bytes in {folder}"),
            None => format!("cannot make a disk in {folder}"),
        })?;
        Ok(())
    }

    /// Opens what was written to an instance.
    pub(crate) async fn overlay(
        &self,
        name: &str,
        description: &Description,
        key: ImageKey,
        base: Base,
    ) -> Result<Arc<Overlay<Base>>> {
        let path = self.place(name).join(description.overlay());
        ensure!(
            path.exists() || !self.reset_place(name, description).exists(),
            "its reset was begun and could not be ended, for lack of space as a rule"
        );
        let overlay = Overlay::open(&path, key, base).await;
        let overlay = overlay.with_context(|| format!("cannot open {}", path.display()))?;
        overlay.set_quota(description.quota);
        Ok(Arc::new(overlay))
    }

    /// Changes what an instance is.
    pub(crate) fn describe(&self, name: &str, description: &Description) -> Result<()> {
        description.write(&self.place(name))
    }

    /// Refuses to touch what another program has open, whatever that program is.
    pub(crate) fn check_closed(&self, name: &str) -> Result<()> {
        for (found, path) in folders(&self.place(name))? {
            let open = found.starts_with(OVERLAY) && is_in_use(&path)?;
            ensure!(
                !open,
                "`{name}` is in use: another program has {} open; end that one first",
                path.display()
            );
        }
        Ok(())
    }

    /// Removes an instance and what was written to it.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        check_name("instance", name)?;
        let (place, going) = (self.place(name), self.begun(name));
        match std::fs::rename(&place, &going) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("there is no instance `{name}`")
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", place.display()));
            }
        }
        remove_all(&going)?;
        sync_folder(&self.folder)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn begun(&self, name: &str) -> PathBuf {
        self.place(&format!("{name}{UNFINISHED}"))
    }
}

/// True for a folder with anything of an instance in it: others may have put folders of their own beside.
fn is_instance(path: &Path) -> bool {
    let inside = std::fs::read_dir(path).map(|entries| {
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.collect::<Vec<_>>()
    });
    let is_part = |name: &String| {
        name.starts_with(OVERLAY) || name.starts_with(DESCRIPTION) || name == SNAPSHOTS
    };
    // One that cannot be read may be one.
    inside.map_or(true, |names| names.iter().any(is_part))
}

/// A name that something can be given.
fn check_new(what: &str, name: &str) -> Result<()> {
    check_name(what, name)?;
    ensure!(
        !name.ends_with(UNFINISHED),
        "`{name}` ends with {UNFINISHED}"
    );
    Ok(())
}

/// The folders in a folder, with their names.
fn folders(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        if entry.path().is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Removes the folders of these names.
fn clean(path: &Path, goes: impl Fn(&str) -> bool) -> Result<()> {
    for (name, path) in folders(path)? {
        if goes(&name) {
            remove_all(&path)?;
            info!(
                "removed {}: it was not finished, or its removal was not",
                path.display()
            );
        }
    }
    Ok(())
}

/// Removes a folder that may be there.
fn remove_all(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes names in a folder survive the loss of power.
fn sync_folder(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Instances;

    #[test]
    fn an_instance_that_is_damaged_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let instances = Instances::open(folder.path().join("instances")).unwrap();
        let place = |name: &str| folder.path().join("instances").join(name);
        let describe = |name: &str, text: &[u8]| {
            fs::create_dir(place(name)).unwrap();
            fs::write(place(name).join("instance.toml"), text).unwrap();
        };
        describe("good", b"image = \"debian\"\n");
        describe("torn", b"image = \"de");
        describe("no-text", b"\xff\xfe");
        fs::create_dir_all(place("no-description/overlay")).unwrap();
        // Folders that others put there are no instances.
        fs::create_dir(place("empty")).unwrap();
        fs::create_dir_all(place("lost+found")).unwrap();
        fs::create_dir_all(place("backup/vm-1")).unwrap();
        fs::write(place("a-file"), b"").unwrap();
        describe("endless", b"");
        let endless = fs::File::create(place("endless").join("instance.toml")).unwrap();
        endless.set_len(1 << 40).unwrap();

        let listed: Vec<(String, Result<String, String>)> = instances
            .list()
            .unwrap()
            .into_iter()
            .map(|(name, found)| {
                let found = found.map(|description| description.image);
                (name, found.map_err(|error| format!("{error:#}")))
            })
            .collect();
        let (good, damaged): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|(_, found)| found.is_ok());
        assert_eq!(good, [("good".to_owned(), Ok("debian".to_owned()))]);
        let names: Vec<&str> = damaged.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["endless", "no-description", "no-text", "torn"]);
        for (name, error) in &damaged {
            let said = error.as_ref().unwrap_err();
            assert!(
                said.contains(&format!("{name}/instance.toml")) && !said.contains('\n'),
                "{said}"
            );
        }
    }
}
