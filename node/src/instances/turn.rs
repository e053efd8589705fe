//! Instances that are turned off: their image is brought to this node's disk and read from there, under the running
//! guest; and back again.
//!
//! What an instance is says that it is turned off, in its description, which is replaced whole. The copy is used when it is
//! complete, by all whose descriptions name it, and a start goes on where a death left it. What guests wrote is not
//! touched by any of this: it lies in the overlay, over the same content wherever that comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use vmthunder_cache::ImageKey;
use vmthunder_swarm::manifest::Root;
use vmthunder_volume::{Class, Error, Geometry, Span, Volume};

use super::guest::{Guest, Now};
use super::{Description, Off};
use crate::attach::Attached;
use crate::control::Progress;
use crate::export::{Base, Fetched};
use crate::local::{Ask, FILL_RATE, Local, Locals, Phase, check_rate};
use crate::node::Node;
use crate::observe::causes;
use crate::switch::{Sources, Switch};

/// How often whoever waits for a copy is told how far it is.
const SIGN: Duration = Duration::from_millis(200);

/// How often it is looked whether an image is there that a copy is filled from.
const AGAIN: Duration = Duration::from_secs(1);

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
        let root = can_be_copied(&image)?;
        let rate = rate.unwrap_or(FILL_RATE);
        if locals.get(root).is_none() {
            let prepared = prepare(&locals.local(root), &image).await;
            if let Err(error) = prepared {
                self.keep_used(locals);
                return Err(error).with_context(|| format!("`{}` was not turned off", guest.name));
            }
        }
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
    async fn describe_off(&self, guest: &Guest, off: Option<Off>) -> Result<()> {
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
                fetched: image.and_then(|image| image.image.cache()),
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
            && sources.fetched.is_none()
        {
            cached.below().set(Sources {
                fetched: image.image.cache(),
                ..sources
            });
        }
    }

    /// Opens the copies that the last run left, and removes those that nobody uses.
    pub(super) async fn take_up_copies(&self) {
        let Ok(locals) = self.locals() else { return };
        locals.take_up(&self.users_of_copies().0).await;
        self.keep_used(locals);
    }

    /// Removes the copies that nobody uses any more.
    pub(super) async fn drop_unused_copies(&self) {
        let Ok(locals) = self.locals() else { return };
        let _users = locals.users.lock().await;
        self.keep_used(locals);
    }

    /// Whoever calls this knows that no user comes or goes meanwhile.
    fn keep_used(&self, locals: &Locals) {
        let (users, is_sure) = self.users_of_copies();
        if is_sure {
            locals.keep_only(&users.into_keys().collect());
        }
    }

    /// The copies that instances use, each with the fastest rate that was asked for; false if there is an instance of
    /// which nobody can tell.
    fn users_of_copies(&self) -> (BTreeMap<Root, u64>, bool) {
        let (mut users, mut is_sure) = (BTreeMap::new(), true);
        for guest in self.guests.all() {
            let now = guest.now();
            let Some(description) = now.description() else {
                is_sure = false;
                continue;
            };
            if let Some(Off { root, rate }) = description.off {
                let fastest = users.entry(root).or_insert(rate);
                *fastest = rate.max(*fastest);
            }
        }
        (users, is_sure)
    }

    /// Fills what is to be filled, for as long as this is polled.
    pub(crate) async fn fill_copies(self: Arc<Self>) {
        let Ok(locals) = self.locals() else { return };
        let mut fills = JoinSet::new();
        let mut under_way = BTreeSet::new();
        loop {
            for local in locals.unfinished() {
                if under_way.insert(local.root()) {
                    fills.spawn(Arc::clone(&self).fill(local));
                }
            }
            tokio::select! {
                () = locals.wanted.notified() => {}
                Some(ended) = fills.join_next() => match ended {
                    Ok(root) => { under_way.remove(&root); }
                    Err(error) => error!(%error, "the filling of a copy"),
                },
            }
        }
    }

    /// Fills a copy until it is complete, given up, or not used any more.
    async fn fill(self: Arc<Self>, local: Arc<Local>) -> Root {
        let root = local.root();
        let source = |ask| {
            self.image_of(root)?
                .image
                .cache()
                .map(|fetched| Bulk { fetched, ask })
        };
        let fill = async {
            let image = loop {
                match self.image_of(root) {
                    Some(image) => break image,
                    None => tokio::time::sleep(AGAIN).await,
                }
            };
            let manifest = image
                .manifest
                .as_ref()
                .context("the image has no manifest")?;
            local.fill(manifest, source).await
        };
        let mut phase = local.phase();
        let filled = tokio::select! {
            filled = fill => filled,
            _ = phase.wait_for(|phase| *phase == Phase::Dropped) => return root,
        };
        if let Err(error) = filled {
            let cause = causes(&error);
            warn!(image = %root, "its local copy is given up, and instances go on as before: {cause}");
            self.give_up_copy(&local, &cause).await;
        }
        root
    }

    /// As if nobody had asked for it.
    async fn give_up_copy(&self, local: &Arc<Local>, cause: &str) {
        let Ok(locals) = self.locals() else { return };
        let _users = locals.users.lock().await;
        if !locals.is(local) {
            return;
        }
        for guest in self.guests.all() {
            let is_user = guest
                .now()
                .description()
                .and_then(|description| description.off);
            if is_user.is_none_or(|off| off.root != local.root()) {
                continue;
            }
            if let Err(error) = self.describe_off(&guest, None).await {
                warn!(
                    instance = guest.name,
                    "is turned off again at the next start: {error:#}"
                );
            }
            guest.set_failure(Some(cause.to_owned()));
        }
        local.fail(cause.to_owned());
        self.keep_used(locals);
    }

    fn image_of(&self, root: Root) -> Option<Arc<Attached>> {
        self.images
            .all()
            .into_iter()
            .find(|image| image.root == Some(root))
    }

    fn locals(&self) -> Result<&Locals> {
        let locals = self.locals.as_ref();
        locals.context("a gateway has no instances; `vmthunder serve` does")
    }
}

/// A copy without the image that it was made of.
fn alone(geometry: Geometry, local: Arc<Local>) -> Switch {
    let sources = Sources {
        local: Some(local),
        fetched: None,
    };
    Switch::new(geometry, sources)
}

/// The identity of an image that can be brought here.
fn can_be_copied(image: &Attached) -> Result<Root> {
    ensure!(
        image.image.cache().is_some(),
        "the image `{}` is a file of this node: there is nothing to bring here",
        image.name
    );
    image.root.with_context(|| {
        format!(
            "the image `{}` has no manifest, so nothing that is brought here could be verified; make one with \
            `vmthunder image import {} --manifest FILE`, name it in the configuration and start the node again",
            image.name, image.source
        )
    })
}

async fn prepare(local: &Local, image: &Attached) -> Result<()> {
    let manifest = image
        .manifest
        .as_ref()
        .context("the image has no manifest")?;
    local.prepare(manifest).await?;
    local.check_room()
}

/// Waits until a copy is complete.
async fn watch(local: &Local, name: &str, progress: &Progress) -> Result<()> {
    let mut phase = local.phase();
    loop {
        let (done, total) = local.progress();
        progress.begin(total);
        progress.at(done);
        let now = phase.borrow_and_update().clone();
        match now {
            Phase::Complete => return Ok(()),
            Phase::Failed(cause) => {
                bail!("`{name}` goes on as before, with the cache and the swarm: {cause}")
            }
            Phase::Dropped => bail!("`{name}` was turned on again"),
            Phase::Filling | Phase::Verifying => {}
        }
        if progress.is_abandoned() {
            bail!("nobody waits for it any more");
        }
        // Told when it changes, and looked at for how far it is.
        let _ = tokio::time::timeout(SIGN, phase.changed()).await;
    }
}

/// An image for whoever reads it once: what is cached from the cache, everything else past it, so that it pushes nothing
/// out that guests read.
struct Bulk {
    fetched: Fetched,
    ask: Ask,
}

impl Volume for Bulk {
    fn geometry(&self) -> Geometry {
        self.fetched.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> vmthunder_volume::Result<bytes::Bytes> {
        let mut extents = span.by_extent();
        let is_here =
            self.ask == Ask::First && extents.all(|(extent, _)| self.fetched.is_resident(extent));
        match is_here {
            true => self.fetched.read(span, class).await,
            false => self.fetched.below().read(span, class).await,
        }
    }

    async fn write(&self, _offset: u64, _bytes: bytes::Bytes) -> vmthunder_volume::Result<()> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> vmthunder_volume::Result<()> {
        Ok(())
    }

    async fn trim(&self, _span: Span) -> vmthunder_volume::Result<()> {
        Err(Error::ReadOnly)
    }
}
