//! Snapshots on disk, and the overlays that resets and rollbacks put in the place of others.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use vmthunder_cache::ImageKey;
use vmthunder_cache::overlay::{Overlay, OverlayError, OverlayOptions, renew};
use vmthunder_volume::Volume;

use super::{
    Description, Instances, RESET, SNAPSHOTS, Snapshot, UNFINISHED, check_new, folders, remove_all,
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
        let next = description.next()?;
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

    /// Puts an empty overlay in the place and the space of the one that counts, which is lost: for a reset where there
    /// is no space for both. What it is to be described as, and is.
    pub(crate) fn renew(&self, name: &str, description: &Description) -> Result<Description> {
        let place = self.place(name);
        let counts = place.join(description.overlay());
        let going = self.reset_place(name, description);
        std::fs::rename(&counts, &going)
            .with_context(|| format!("cannot rename {}", counts.display()))?;
        // From here on it can only be ended, now or by the next start.
        sync_folder(&place)?;
        self.end_reset(name, description.clone())
    }

    /// Ends what [`Self::renew`] began, if it did; what the instance is then.
    pub(super) fn end_reset(&self, name: &str, description: Description) -> Result<Description> {
        let place = self.place(name);
        let going = self.reset_place(name, &description);
        if !going.is_dir() || place.join(description.overlay()).exists() {
            return Ok(description);
        }
        let next = description.next()?;
        let ended = renew(&going, &place.join(next.overlay()))
            .map_err(anyhow::Error::from)
            .and_then(|()| sync_folder(&place))
            .and_then(|()| next.write(&place));
        ended.with_context(|| {
            format!("cannot end the reset of `{name}`: when that is mended, start the node again")
        })?;
        remove_all(&going)?;
        Ok(next)
    }

    /// Removes an overlay that does not count, or no longer.
    pub(crate) fn drop_overlay(&self, name: &str, description: &Description) -> Result<()> {
        remove_all(&self.place(name).join(description.overlay()))
    }

    pub(super) fn reset_place(&self, name: &str, description: &Description) -> PathBuf {
        let going = format!("{}{RESET}", description.overlay());
        self.place(name).join(going)
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

/// True if it is space that was missing.
pub(super) fn is_full(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(OverlayError::Io(error)) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    )
}

/// The same size again, over the same image.
pub(super) fn same_size(overlay: &Overlay<Base>, key: ImageKey) -> OverlayOptions {
    OverlayOptions {
        base: key,
        bytes: Some(overlay.geometry().bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use anyhow::anyhow;
    use vmthunder_cache::ImageKey;
    use vmthunder_cache::overlay::{OverlayError, OverlayOptions, renew};
    use vmthunder_volume::{BlockSize, Class, RawFile, Space, Span, Volume};

    use super::is_full;
    use crate::export::Base;
    use crate::instances::{Description, Instances};

    const KEY: ImageKey = ImageKey([1; 32]);
    const BYTES: u64 = 1 << 20;

    fn base(folder: &Path) -> Base {
        let image = folder.join("image");
        let made = match image.exists() {
            true => RawFile::open(&image, vmthunder_volume::Access::ReadOnly, BlockSize::B512),
            false => RawFile::create(&image, BYTES / 2, BlockSize::B512, Space::Sparse),
        };
        Base::File(Arc::new(made.unwrap()))
    }

    /// A node's folder with an instance of a mebibyte that has ones in it.
    async fn written(folder: &Path) -> (Instances, Description) {
        let instances = Instances::open(folder.join("instances")).unwrap();
        let description = Description {
            image: "image".to_owned(),
            quota: None,
            outage: None,
            generation: 0,
            off: None,
        };
        let options = OverlayOptions {
            base: KEY,
            bytes: Some(BYTES),
        };
        let begun = instances.begin("vm", &description, options, base(folder));
        begun.await.unwrap();
        instances.finish(&["vm".to_owned()]).unwrap();
        let opened = instances.overlay("vm", &description, KEY, base(folder));
        let overlay = opened.await.unwrap();
        overlay.write(0, vec![1; 65536].into()).await.unwrap();
        overlay.flush().await.unwrap();
        (instances, description)
    }

    /// Its first byte, size and generation after the node started again, and how much it takes.
    async fn after_a_start(folder: &Path) -> (u8, u64, u64, u64) {
        let instances = Instances::open(folder.join("instances")).unwrap();
        let (_, description) = instances.list().unwrap().remove(0);
        let description = description.unwrap();
        let opened = instances.overlay("vm", &description, KEY, base(folder));
        let overlay = opened.await.unwrap();
        let read = overlay.read(Span::new(0, 512), Class::Demand);
        let first = read.await.unwrap()[0];
        let inside = fs::read_dir(folder.join("instances/vm")).unwrap();
        assert_eq!(inside.count(), 2, "the description and one overlay");
        (
            first,
            overlay.geometry().bytes(),
            description.generation,
            overlay.stored_bytes(),
        )
    }

    #[tokio::test]
    async fn a_reset_in_its_own_space_is_done_or_not_whenever_the_node_dies() {
        for step in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            let (instances, before) = written(folder).await;
            let place = folder.join("instances/vm");
            let (old, going, new) = (
                place.join("overlay"),
                place.join("overlay.reset"),
                place.join("overlay.1"),
            );
            if step > 0 {
                fs::rename(&old, &going).unwrap();
            }
            match step {
                // Some of its space is free already.
                2 => fs::write(going.join("data"), "").unwrap(),
                3 => {
                    fs::create_dir(&new).unwrap();
                    fs::write(new.join("map.new"), "half of it").unwrap();
                }
                4 => renew(&going, &new).unwrap(),
                5 => {
                    fs::rename(&going, &old).unwrap();
                    assert_eq!(instances.renew("vm", &before).unwrap().generation, 1);
                }
                _ => {}
            }
            let found = after_a_start(folder).await;
            match step {
                0 => assert_eq!((found.0, found.1, found.2), (1, BYTES, 0)),
                _ => assert_eq!(found, (0, BYTES, 1, 0), "step {step}"),
            }
        }
    }

    #[test]
    fn only_missing_space_makes_a_reset_give_up_what_it_has() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(is_full(
            &anyhow!(OverlayError::from(full)).context("cannot make it")
        ));
        let broken = std::io::Error::from(std::io::ErrorKind::Other);
        assert!(!is_full(&anyhow!(OverlayError::from(broken))));
        assert!(!is_full(&anyhow!(OverlayError::Damaged)));
    }
}
