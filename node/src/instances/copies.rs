//! Snapshots on disk, and the overlays that resets and rollbacks put in the place of others.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use vmthunder_cache::ImageKey;
use vmthunder_cache::overlay::{Overlay, OverlayOptions};
use vmthunder_volume::Volume;

use super::{
    Description, Instances, SNAPSHOTS, Snapshot, UNFINISHED, check_new, folders, remove_all,
    sync_folder,
};
use crate::config::check_name;
use crate::export::Base;

impl Instances {
    /// Keeps what an instance holds at one moment.
    pub(crate) async fn snapshot(
        &self,
        name: &str,
        snapshot: &str,
        overlay: &Overlay<Base>,
    ) -> Result<()> {
        check_new("snapshot", snapshot)?;
        let (folder, place) = (self.snapshots_of(name), self.snapshot_place(name, snapshot));
        ensure!(
            !place.exists(),
            "`{name}` has a snapshot `{snapshot}` already"
        );
        if !folder.exists() {
            std::fs::create_dir(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
            sync_folder(&self.place(name))?;
        }
        let begun = self.snapshot_place(name, &format!("{snapshot}{UNFINISHED}"));
        remove_all(&begun)?;
        if let Err(error) = overlay.copy_to(&begun).await {
            remove_all(&begun)?;
            return Err(error).with_context(|| format!("cannot make {}", place.display()));
        }
        std::fs::rename(&begun, &place)
            .with_context(|| format!("cannot make {}", place.display()))?;
        sync_folder(&folder)
    }

    /// The snapshots of an instance, oldest first.
    pub(crate) fn snapshots(&self, name: &str) -> Result<Vec<Snapshot>> {
        let folder = self.snapshots_of(name);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for (name, path) in folders(&folder)? {
            if check_new("snapshot", &name).is_err() {
                continue;
            }
            // Written once, when it was made.
            let made = std::fs::metadata(path.join("map")).and_then(|map| map.modified());
            let made =
                made.with_context(|| format!("the snapshot {} is damaged", path.display()))?;
            let stored =
                std::fs::metadata(path.join("data")).map(|data| data.blocks().saturating_mul(512));
            let since = made.duration_since(UNIX_EPOCH).unwrap_or_default();
            found.push((
                since,
                Snapshot {
                    name,
                    created: since.as_secs(),
                    stored: stored.unwrap_or(0),
                },
            ));
        }
        found.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        Ok(found.into_iter().map(|(_, snapshot)| snapshot).collect())
    }

    /// Opens a snapshot.
    pub(crate) async fn open_snapshot(
        &self,
        name: &str,
        snapshot: &str,
        key: ImageKey,
        base: Base,
    ) -> Result<Overlay<Base>> {
        let place = self.existing(name, snapshot)?;
        let overlay = Overlay::open(&place, key, base).await;
        overlay.with_context(|| format!("cannot open the snapshot {}", place.display()))
    }

    /// Removes a snapshot.
    pub(crate) fn remove_snapshot(&self, name: &str, snapshot: &str) -> Result<()> {
        let place = self.existing(name, snapshot)?;
        let going = self.snapshot_place(name, &format!("{snapshot}{UNFINISHED}"));
        std::fs::rename(&place, &going)
            .with_context(|| format!("cannot remove {}", place.display()))?;
        remove_all(&going)?;
        sync_folder(&self.snapshots_of(name))
    }

    /// Makes an overlay that does not count yet: a copy of `from`, or an empty one of that size. What it is to be
    /// described as.
    pub(crate) async fn next_overlay(
        &self,
        name: &str,
        description: &Description,
        from: Option<&Overlay<Base>>,
        options: OverlayOptions,
        base: Base,
    ) -> Result<Description> {
        let next = Description {
            generation: description
                .generation
                .checked_add(1)
                .context("an instance cannot be reset more often")?,
            ..description.clone()
        };
        let path = self.place(name).join(next.overlay());
        remove_all(&path)?;
        let made = match from {
            Some(from) => from.copy_to(&path).await.map_err(anyhow::Error::from),
            None => self.make_overlay(&path, options, base).await,
        };
        if let Err(error) = made {
            remove_all(&path)?;
            return Err(error).with_context(|| format!("cannot make {}", path.display()));
        }
        sync_folder(&self.place(name))?;
        Ok(next)
    }

    /// Removes an overlay that does not count, or no longer.
    pub(crate) fn drop_overlay(&self, name: &str, description: &Description) -> Result<()> {
        remove_all(&self.place(name).join(description.overlay()))
    }

    fn existing(&self, name: &str, snapshot: &str) -> Result<PathBuf> {
        check_name("snapshot", snapshot)?;
        let place = self.snapshot_place(name, snapshot);
        if place.is_dir() && !snapshot.ends_with(UNFINISHED) {
            return Ok(place);
        }
        let known: Vec<String> = self
            .snapshots(name)?
            .into_iter()
            .map(|snapshot| snapshot.name)
            .collect();
        match known.is_empty() {
            true => bail!("`{name}` has no snapshots"),
            false => bail!(
                "`{name}` has no snapshot `{snapshot}`; there are: {}",
                known.join(", ")
            ),
        }
    }

    fn snapshots_of(&self, name: &str) -> PathBuf {
        self.place(name).join(SNAPSHOTS)
    }

    fn snapshot_place(&self, name: &str, snapshot: &str) -> PathBuf {
        self.snapshots_of(name).join(snapshot)
    }
}

/// The same size again, over the same image.
pub(super) fn same_size(overlay: &Overlay<Base>, key: ImageKey) -> OverlayOptions {
    OverlayOptions {
        base: key,
        bytes: Some(overlay.geometry().bytes()),
    }
}
