//! What ties an image to its origin and to the other nodes: made when it is attached, cut when it is released, made again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use tracing::warn;
use vmthunder_swarm::manifest::Header;
use vmthunder_swarm::membership::ImageTag;

use crate::attach::Surroundings;
use crate::export::Fetched;
use crate::known::Identity;
use crate::members::keep_view;
use crate::observe::causes;
use crate::origin::{Late, Miss, Origin, Reach};

/// The pause between two attempts to reach an origin.
const ORIGIN_PAUSE: Duration = Duration::from_secs(1);

/// An image's origin, and who keeps the image in touch with it and with peers.
pub(crate) struct Ties {
    name: String,
    origin: Origin,
    identity: Identity,
    late: Arc<Late>,
    /// The caches of the image and its manifest, and what peers know these by.
    views: Vec<(Fetched, [u8; 8])>,
    /// None while they are cut.
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Ties {
    /// Not tied yet.
    pub(crate) fn new(
        name: String,
        origin: Origin,
        identity: Identity,
        late: Arc<Late>,
        views: Vec<(Fetched, [u8; 8])>,
    ) -> Self {
        Self {
            name,
            origin,
            identity,
            late,
            views,
            tasks: Mutex::default(),
        }
    }

    /// Where the origin's logical units are, while it is there.
    pub(crate) fn late(&self) -> &Arc<Late> {
        &self.late
    }

    /// Follows the origin, which may be there already, and the peers.
    pub(crate) fn tie(&self, around: &Surroundings, is_here: bool) {
        let mut tasks = self.lock();
        if !tasks.is_empty() {
            return;
        }
        let late = Arc::downgrade(&self.late);
        let (name, origin, identity) = (
            self.name.clone(),
            self.origin.clone(),
            self.identity.clone(),
        );
        let pursuing = pursue(name, origin, identity, late, is_here);
        tasks.push(tokio::spawn(pursuing).abort_handle());
        let root = self.identity.header.as_ref().map(Header::root);
        let Some(image) = root.as_ref().map(ImageTag::of) else {
            return;
        };
        for (cache, designator) in &self.views {
            let view = keep_view(
                &around.node,
                &around.members,
                &around.sessions,
                cache,
                image,
                *designator,
            );
            tasks.push(view);
        }
    }

    /// Leaves the origin, and asks no peer any more.
    pub(crate) async fn cut(&self) {
        let tasks = std::mem::take(&mut *self.lock());
        tasks.iter().for_each(AbortHandle::abort);
        for (cache, _) in &self.views {
            cache.below().set_members(Vec::new());
        }
        self.late.leave().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ties {
    fn drop(&mut self) {
        self.lock().iter().for_each(AbortHandle::abort);
    }
}

/// Looks for an origin that is away, or in whose place another unit is now, until it is there with the content that is
/// served; for as long as the image is used.
async fn pursue(name: String, origin: Origin, identity: Identity, late: Weak<Late>, reached: bool) {
    let mut is_here = reached;
    let mut said = String::new();
    loop {
        tokio::time::sleep(ORIGIN_PAUSE).await;
        let Some(late) = late.upgrade() else { return };
        if is_here && late.reach() != Reach::Replaced {
            continue;
        }
        is_here = false;
        let cause = match origin.find().await {
            Ok(found) if found.identity.is_same(&identity) => {
                late.here(found);
                is_here = true;
                warn!(image = name, origin = %origin.url, "the origin is back");
                String::new()
            }
            Ok(_) => "it has other content now than what is served here: bring the old content back, or start the \
                node again to serve the new, without the instances of the old"
                .to_owned(),
            Err(Miss::Away(error) | Miss::Wrong(error)) => causes(&error),
        };
        if said != cause && !is_here {
            warn!(image = name, origin = %origin.url, "still away: {cause}");
        }
        said = cause;
    }
}
