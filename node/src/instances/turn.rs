//! Instances that are turned off: their image is brought to this node's disk and read from there, under the running
//! guest; and back again.
//!
//! What an instance is says that it is turned off, in its description, which is replaced whole. The copy is used when it is
//! complete, by all whose descriptions name it, and a start goes on where a death left it. What guests wrote is not
//! touched by any of this: it lies in the overlay, over the same content wherever that comes from.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tracing::info;
use vmthunder_cache::ImageKey;
use vmthunder_volume::Geometry;

use super::guest::{Guest, Now};
use super::{Description, Off};
use crate::control::Progress;
use crate::export::Base;
use crate::local::{FILL_RATE, Local, check_rate, watch};
use crate::node::Node;
use crate::switch::{Sources, Switch};

impl Node {
    /// What an instance is laid over, and the identity of that: a copy here, if it is turned off, or its image.
    pub(super) fn below(&self, description: &Description) -> Result<(ImageKey, Base)> {
        let image = self.image(&description.image);
        let Some(off) = description.off else {
            let image = image?;
            return Ok((image.key, image.for_instance(description.outage, None)));
        };
        let local = self.locals()?.get(off.root);
        match (image, local) {
            (Ok(image), local) if image.root == Some(off.root) => {
                Ok((image.key, image.for_instance(description.outage, local)))
            }
            (other, Some(local)) => match local.copy() {
                Some(copy) => {
                    let outage = description.outage;
                    let outage = outage.or_else(|| Some(other.ok()?.outage));
                    let patience = outage.unwrap_or_default().patience();
                    let base = alone(copy.geometry(), local);
                    Ok((ImageKey(off.root.0), Base::switched(base, patience)))
                }
                None => other.map(|image| (image.key, image.image.clone())),
            },
            (other, None) => other.map(|image| (image.key, image.image.clone())),
        }
    }

    /// Brings the image of an instance here and switches to it.
    pub(super) async fn turn_off(
        &self,
        name: &str,
        rate: Option<u64>,
        wait: bool,
        progress: &Progress,
    ) -> Result<Arc<Guest>> {
        let guest = self.guest(name)?;
        let local = self.begin_to_turn_off(&guest, rate).await?;
        if wait {
            watch(&local, name, progress).await?;
        }
        Ok(guest)
    }

    /// Everything that can be refused is refused before anything is changed.
    async fn begin_to_turn_off(&self, guest: &Guest, rate: Option<u64>) -> Result<Arc<Local>> {
        rate.map_or(Ok(()), check_rate)?;
        let locals = self.locals()?;
        let _users = locals.users.lock().await;
        let (description, _) = guest.served()?;
        if let Some(off) = description.off {
            let rate = rate.unwrap_or(off.rate);
            self.describe_off(guest, Some(Off { rate, ..off })).await?;
            return Ok(locals.take(off.root, rate));
        }
        let image = self.image(&description.image)?;
        let root = self.prepare_copy(locals, &image).await;
        let root = root.with_context(|| format!("`{}` was not turned off", guest.name))?;
        let rate = rate.unwrap_or(FILL_RATE);
        self.describe_off(guest, Some(Off { root, rate })).await?;
        info!(
            instance = guest.name,
            image = description.image,
            "is turned off"
        );
        Ok(locals.take(root, rate))
    }

    /// Goes back to the cache and the swarm.
    pub(super) async fn turn_on(&self, name: &str) -> Result<Arc<Guest>> {
        let guest = self.guest(name)?;
        {
            let _users = self.locals()?.users.lock().await;
            let (description, _) = guest.served()?;
            if let Some(off) = description.off {
                let image = self.image(&description.image);
                let image = image.with_context(|| format!("`{name}` stays turned off"))?;
                ensure!(
                    image.root == Some(off.root),
                    "`{name}` stays turned off: the image `{}` has other content now than it began as",
                    image.name
                );
                self.describe_off(&guest, None).await?;
                info!(instance = name, "is turned on");
            }
        }
        self.drop_unused_copies().await;
        Ok(guest)
    }

    /// Writes down whether an instance is turned off, and reads from there.
    pub(crate) async fn describe_off(&self, guest: &Guest, off: Option<Off>) -> Result<()> {
        let _turn = guest.turn.lock().await;
        let (before, overlay) = guest.served()?;
        let description = Description { off, ..before };
        self.guests.folder()?.describe(&guest.name, &description)?;
        guest.set_failure(None);
        let image = self.image(&description.image).ok();
        let image = image.filter(|image| off.is_none_or(|off| image.root == Some(off.root)));
        guest.set(Now::Served {
            description,
            overlay: Arc::clone(&overlay),
        });
        if let Base::Cached(cached) = overlay.base() {
            let rate = off.map_or(FILL_RATE, |off| off.rate);
            let local = off.map(|off| Ok::<_, anyhow::Error>(self.locals()?.take(off.root, rate)));
            cached.below().set(Sources {
                local: local.transpose()?,
                image: image.and_then(|image| image.image.course()),
            });
        }
        Ok(())
    }

    /// Whoever was opened from its copy alone reaches its image again when that comes.
    pub(super) fn reach_again(&self, guest: &Guest) {
        let Ok((description, overlay)) = guest.served() else {
            return;
        };
        let (Some(off), Base::Cached(cached)) = (description.off, overlay.base()) else {
            return;
        };
        let sources = cached.below().sources();
        let image = self.image(&description.image).ok();
        if let Some(image) = image.filter(|image| image.root == Some(off.root))
            && sources.image.is_none()
        {
            cached.below().set(Sources {
                image: image.image.course(),
                ..sources
            });
        }
    }
}

/// A copy without the image that it was made of.
fn alone(geometry: Geometry, local: Arc<Local>) -> Switch {
    let sources = Sources {
        local: Some(local),
        image: None,
    };
    Switch::new(geometry, sources)
}
