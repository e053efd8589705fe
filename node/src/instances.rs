//! The instances of a node: a folder each, with what it is and what was written to it.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use vmthunder_cache::ImageKey;
use vmthunder_cache::overlay::{Overlay, OverlayOptions};
use vmthunder_volume::Volume;

use crate::config::check_name;
use crate::export::Base;

/// The file that says what an instance is.
const DESCRIPTION: &str = "instance.toml";

/// The longest description that is read.
const MOST_DESCRIPTION_BYTES: u64 = 64 * 1024;

/// What is begun or being removed ends with this, and is cleaned away at the next start.
const UNFINISHED: &str = ".unfinished";

/// The folder of all instances of a node.
pub(crate) struct Instances {
    folder: PathBuf,
}

/// What an instance is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The name of the image that it began as.
    pub(crate) image: String,
}

impl Description {
    fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MOST_DESCRIPTION_BYTES).read_to_string(&mut text))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let parsed: std::result::Result<Self, _> = toml::from_str(&text);
        match parsed {
            Ok(description) => Ok(description),
            Err(error) => bail!("{} is damaged: {}", path.display(), error.message()),
        }
    }
}

impl Instances {
    /// Opens the folder, and cleans away what a node left half done when it died.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(UNFINISHED) && path.is_dir() {
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(Self { folder })
    }

    /// The instances that are there, each with what it is or why nobody can tell.
    pub(crate) fn list(&self) -> Result<Vec<(String, Result<Description>)>> {
        let mut found = Vec::new();
        for entry in
            std::fs::read_dir(&self.folder).with_context(|| self.folder.display().to_string())?
        {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let named = check_name("instance", &name).is_ok() && !name.ends_with(UNFINISHED);
            if !named || !entry.path().is_dir() {
                continue;
            }
            found.push((name, Description::read(&entry.path().join(DESCRIPTION))));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Makes an instance. It is there when this returns, whatever happens to the machine.
    pub(crate) async fn create(
        &self,
        name: &str,
        image: &str,
        size: Option<u64>,
        key: ImageKey,
        base: Base,
    ) -> Result<Arc<Overlay<Base>>> {
        check_name("instance", name)?;
        ensure!(
            !name.ends_with(UNFINISHED),
            "`{name}` ends with {UNFINISHED}"
        );
        let (place, begun) = (self.place(name), self.place(&format!("{name}{UNFINISHED}")));
        ensure!(!place.exists(), "there is an instance `{name}` already");
        let made = self
            .fill(
                &begun,
                image,
                OverlayOptions {
                    base: key,
                    bytes: size,
                },
                base.clone(),
            )
            .await;
        if let Err(error) = made {
            let _ = std::fs::remove_dir_all(&begun);
            return Err(error);
        }
        std::fs::rename(&begun, &place)
            .with_context(|| format!("cannot create {}", place.display()))?;
        sync_folder(&self.folder)?;
        self.overlay(name, key, base).await
    }

    async fn fill(
        &self,
        begun: &Path,
        image: &str,
        options: OverlayOptions,
        base: Base,
    ) -> Result<()> {
        let least = base.geometry().bytes();
        if let Some(bytes) = options.bytes {
            ensure!(
                bytes >= least,
                "{bytes} bytes are less than the image's {least}"
            );
            let block = u64::from(base.geometry().block_size().bytes());
            ensure!(
                bytes.is_multiple_of(block),
                "{bytes} bytes are not a whole number of blocks of {block} bytes"
            );
        }
        std::fs::create_dir(begun).with_context(|| format!("cannot create {}", begun.display()))?;
        Overlay::create(&begun.join("overlay"), options, base)
            .await
            .with_context(|| match options.bytes {
                Some(bytes) => format!(
                    "cannot make a disk of {bytes} bytes in {}",
                    self.folder.display()
                ),
                None => format!("cannot make a disk in {}", self.folder.display()),
            })?;
        let description = toml::to_string(&Description {
            image: image.to_owned(),
        })?;
        let path = begun.join(DESCRIPTION);
        std::fs::write(&path, description)
            .with_context(|| format!("cannot write {}", path.display()))?;
        std::fs::File::open(&path)?.sync_all()?;
        sync_folder(begun)
    }

    /// Opens what was written to an instance.
    pub(crate) async fn overlay(
        &self,
        name: &str,
        key: ImageKey,
        base: Base,
    ) -> Result<Arc<Overlay<Base>>> {
        let path = self.place(name).join("overlay");
        let overlay = Overlay::open(&path, key, base).await;
        Ok(Arc::new(overlay.with_context(|| {
            format!("cannot open {}", path.display())
        })?))
    }

    /// Removes an instance and what was written to it.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        check_name("instance", name)?;
        let (place, going) = (self.place(name), self.place(&format!("{name}{UNFINISHED}")));
        match std::fs::rename(&place, &going) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("there is no instance `{name}`")
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", place.display()));
            }
        }
        std::fs::remove_dir_all(&going)
            .with_context(|| format!("cannot remove {}", going.display()))?;
        sync_folder(&self.folder)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Makes names in a folder survive the loss of power.
fn sync_folder(path: &Path) -> Result<()> {
    let synced = std::fs::File::open(path).and_then(|folder| folder.sync_all());
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
        fs::create_dir(place("empty")).unwrap();
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
        assert_eq!(names, ["empty", "endless", "no-text", "torn"]);
        for (name, error) in &damaged {
            let said = error.as_ref().unwrap_err();
            assert!(
                said.contains(&format!("{name}/instance.toml")) && !said.contains('\n'),
                "{said}"
            );
        }
    }
}
