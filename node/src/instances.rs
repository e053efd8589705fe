//! The instances of a node: a folder each, with what it is and what was written to it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use vmthunder_cache::ImageKey;
use vmthunder_cache::overlay::{Overlay, OverlayOptions};

use crate::config::check_name;
use crate::export::Base;

/// The file that says what an instance is.
const DESCRIPTION: &str = "instance.toml";

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

impl Instances {
    /// Opens the folder, and cleans away what a node left half done when it died.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(UNFINISHED) {
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(Self { folder })
    }

    /// The instances that are there.
    pub(crate) fn list(&self) -> Result<Vec<(String, Description)>> {
        let mut found = Vec::new();
        for entry in
            std::fs::read_dir(&self.folder).with_context(|| self.folder.display().to_string())?
        {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if check_name("instance", &name).is_err() || name.ends_with(UNFINISHED) {
                continue;
            }
            let description = path.join(DESCRIPTION);
            let text = std::fs::read_to_string(&description)
                .with_context(|| description.display().to_string())?;
            found.push((
                name,
                toml::from_str(&text).with_context(|| description.display().to_string())?,
            ));
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
        std::fs::create_dir(begun).with_context(|| format!("cannot create {}", begun.display()))?;
        Overlay::create(&begun.join("overlay"), options, base).await?;
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
        Ok(Arc::new(
            overlay.with_context(|| format!("instance `{name}`"))?,
        ))
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
