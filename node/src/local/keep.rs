//! Who uses the copies of a node: instances that are turned off, and images that are released. A copy that somebody uses
//! is filled; one that nobody uses is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;
use tracing::{error, warn};
use vmthunder_swarm::manifest::Root;
use vmthunder_volume::{Class, Error, Geometry, Span, Volume};

use super::{Ask, Local, Locals, Phase};
use crate::attach::Attached;
use crate::control::Progress;
use crate::instances::Off;
use crate::node::Node;
use crate::observe::causes;
use crate::switch::Course;

/// How often whoever waits for a copy is told how far it is.
const SIGN: Duration = Duration::from_millis(200);

/// How often it is looked whether an image is there that a copy is filled from.
const AGAIN: Duration = Duration::from_secs(1);

impl Node {
    /// Opens the copies that the last run left, and removes those that nobody uses.
    pub(crate) async fn take_up_copies(&self) {
        let Ok(locals) = self.locals() else { return };
        locals.take_up(&self.users_of_copies().0).await;
        self.keep_used(locals);
    }

    /// Removes the copies that nobody uses any more.
    pub(crate) async fn drop_unused_copies(&self) {
        let Ok(locals) = self.locals() else { return };
        let _users = locals.users.lock().await;
        self.keep_used(locals);
    }

    /// Whoever calls this knows that no user comes or goes meanwhile.
    pub(crate) fn keep_used(&self, locals: &Locals) {
        let (users, is_sure) = self.users_of_copies();
        if is_sure {
            locals.keep_only(&users.into_keys().collect());
        }
    }

    /// The copies that are used, each with the fastest rate that was asked for; false if there is an instance or an image
    /// of which nobody can tell.
    fn users_of_copies(&self) -> (BTreeMap<Root, u64>, bool) {
        let mut users = BTreeMap::new();
        let mut is_sure = self.modes.is_sure();
        let mut uses = |Off { root, rate }: Off| {
            let fastest = users.entry(root).or_insert(rate);
            *fastest = rate.max(*fastest);
        };
        self.modes.released().into_iter().for_each(&mut uses);
        for guest in self.guests.all() {
            let now = guest.now();
            let Some(description) = now.description() else {
                is_sure = false;
                continue;
            };
            description.off.into_iter().for_each(&mut uses);
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
        let source = |ask| Some(Once(self.image_of(root)?.image.course()?, ask));
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
        } else {
            self.cut_released(root).await;
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
            if guest.off().is_none_or(|off| off.root != local.root()) {
                continue;
            }
            if let Err(error) = self.describe_off(&guest, None).await {
                let instance = guest.name();
                warn!(instance, "is turned off again at the next start: {error:#}");
            }
            guest.set_failure(Some(cause.to_owned()));
        }
        self.give_up_release(local.root(), cause);
        local.fail(cause.to_owned());
        self.keep_used(locals);
    }

    /// Makes sure that there is a copy, or that there can be one, before anything is said about who uses it.
    pub(crate) async fn prepare_copy(&self, locals: &Locals, image: &Attached) -> Result<Root> {
        let root = can_be_copied(image)?;
        if locals.get(root).is_none()
            && let Err(error) = prepare(&locals.local(root), image).await
        {
            self.keep_used(locals);
            return Err(error);
        }
        Ok(root)
    }

    fn image_of(&self, root: Root) -> Option<Arc<Attached>> {
        self.images
            .all()
            .into_iter()
            .find(|image| image.root == Some(root))
    }

    pub(crate) fn locals(&self) -> Result<&Locals> {
        let locals = self.locals.as_ref();
        locals.context("a gateway has neither images nor instances; `vmthunder serve` does")
    }
}

/// The identity of an image that can be brought here.
fn can_be_copied(image: &Attached) -> Result<Root> {
    ensure!(
        image.image.course().is_some(),
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
pub(crate) async fn watch(local: &Local, name: &str, progress: &Progress) -> Result<()> {
    let mut phase = local.phase();
    loop {
        let (done, total) = local.progress();
        progress.begin(total);
        progress.at(done);
        let now = phase.borrow_and_update().clone();
        match now {
            Phase::Complete => return Ok(()),
            Phase::Failed(cause) => {
                bail!("`{name}` goes on as before: {cause}")
            }
            Phase::Dropped => bail!("it was taken back"),
            Phase::Filling | Phase::Verifying => {}
        }
        if progress.is_abandoned() {
            bail!("nobody waits for it any more");
        }
        // Told when it changes, and looked at for how far it is.
        let _ = tokio::time::timeout(SIGN, phase.changed()).await;
    }
}

/// An image for whoever reads it once.
struct Once(Arc<Course>, Ask);

impl Volume for Once {
    fn geometry(&self) -> Geometry {
        self.0.fetched.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> vmthunder_volume::Result<Bytes> {
        self.0.fetch_once(span, class, self.1).await
    }

    async fn write(&self, _offset: u64, _bytes: Bytes) -> vmthunder_volume::Result<()> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> vmthunder_volume::Result<()> {
        Ok(())
    }

    async fn trim(&self, _span: Span) -> vmthunder_volume::Result<()> {
        Err(Error::ReadOnly)
    }
}
