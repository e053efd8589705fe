//! The images of a running node: attached at the start, or when their origins come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use iscsi_target::Export;
use tracing::{error, info, warn};
use vmthunder_swarm::membership::{ImageTag, Images as Offered};
use vmthunder_volume::Class;

use crate::attach::{Attached, Attempt, attach};
use crate::config::Image;
use crate::names;
use crate::node::Node;
use crate::observe::causes;
use crate::portals::announce;
use crate::status::AwaitedStatus;

/// The pause between two attempts to attach an image.
const PAUSE: Duration = Duration::from_secs(1);

/// The images of a node.
#[derive(Default)]
pub(crate) struct Images {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order of the configuration, those that came late behind the others.
    attached: Vec<Arc<Attached>>,
    /// Why those that are not there could not be had.
    awaited: BTreeMap<String, String>,
    /// Logical units that peers are offered.
    to_peers: u16,
}

impl Images {
    /// Those that are there.
    pub(crate) fn all(&self) -> Vec<Arc<Attached>> {
        self.lock().attached.clone()
    }

    /// Those that are not.
    pub(crate) fn awaited(&self) -> Vec<AwaitedStatus> {
        let state = self.lock();
        let awaited = state.awaited.iter();
        awaited
            .map(|(name, cause)| AwaitedStatus {
                name: name.clone(),
                cause: cause.clone(),
            })
            .collect()
    }

    /// The names of all that are configured.
    pub(crate) fn names(&self) -> Vec<String> {
        let state = self.lock();
        let attached = state.attached.iter().map(|image| image.name.clone());
        attached.chain(state.awaited.keys().cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// An image that is there.
    pub(crate) fn image(&self, name: &str) -> Result<Arc<Attached>> {
        let state = self.images.lock();
        if let Some(image) = state.attached.iter().find(|image| image.name == name) {
            return Ok(Arc::clone(image));
        }
        match state.awaited.get(name) {
            Some(cause) => bail!("the image `{name}` is not there yet: {cause}"),
            None => bail!("there is no image `{name}`"),
        }
    }

    /// True for an image whose origin was never reached.
    pub(crate) fn is_awaited(&self, name: &str) -> bool {
        self.images.lock().awaited.contains_key(name)
    }

    /// Attaches the images of a configuration, but for those whose origins are away and were never seen.
    pub(crate) async fn attach_images(&self, images: &[Image]) -> Result<()> {
        let attempt = |image| attach(image, &self.around, self.released_copy(&image.name));
        let attempts = images.iter().map(attempt);
        let attempts = futures::future::join_all(attempts).await;
        for (image, attempt) in images.iter().zip(attempts) {
            let attempt = attempt.with_context(|| format!("image `{}`", image.name))?;
            match attempt {
                Attempt::Attached(attached) => self.serve_image(*attached)?,
                Attempt::Away(cause) => self.still_away(&image.name, &cause),
            }
        }
        self.tell_of_images();
        Ok(())
    }

    /// Tells the other nodes which images they may ask this one for.
    fn tell_of_images(&self) {
        let images = self.images.all();
        let offered = images.iter().filter_map(|image| image.for_peers());
        let offered = Offered::these(offered.map(|root| ImageTag::of(&root)));
        self.around.members.set_images(offered);
    }

    /// Goes on asking for the images that are not there, and serves each with its instances as it comes.
    pub(crate) async fn await_images(self: Arc<Self>, images: Vec<Image>) {
        let missing = images
            .into_iter()
            .filter(|image| self.is_awaited(&image.name));
        let each = missing.map(|image| self.await_image(image));
        futures::future::join_all(each).await;
    }

    async fn await_image(&self, image: Image) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let error = match attach(&image, &self.around, self.released_copy(&image.name)).await {
                Ok(Attempt::Attached(attached)) => {
                    match self.serve_image(*attached) {
                        Ok(()) => {
                            self.tell_of_images();
                            info!(image = image.name, "attached");
                        }
                        Err(error) => {
                            error!(image = image.name, "is not served: {error:#}");
                            return;
                        }
                    }
                    announce(&self.hosts, &names::image(&image.name), [0]);
                    for guest in self.serve_waiting().await {
                        announce(&self.hosts, &names::instance(guest.name()), [0]);
                    }
                    return;
                }
                Ok(Attempt::Away(error)) | Err(error) => error,
            };
            self.still_away(&image.name, &error);
        }
    }

    fn still_away(&self, name: &str, error: &anyhow::Error) {
        let cause = causes(error);
        let mut state = self.images.lock();
        if state.awaited.get(name) != Some(&cause) {
            warn!(
                image = name,
                "not there yet, asked for again every second: {cause}"
            );
            state.awaited.insert(name.to_owned(), cause);
        }
    }

    /// Offers an image to guests, and to peers if they can verify it.
    fn serve_image(&self, image: Attached) -> Result<()> {
        let name = names::image(&image.name);
        self.follow_mode(&image);
        self.target.export(Export {
            access: self.access.clone(),
            ..Export::new(name, image.units(0))
        })?;
        let mut state = self.images.lock();
        if let Some(keys) = &self.keys
            && image.for_peers().is_some()
        {
            let units = image.units(state.to_peers);
            state.to_peers = u16::try_from(units.len())
                .ok()
                .and_then(|more| state.to_peers.checked_add(more))
                .context("too many images")?;
            let name = names::swarm(self.name.as_str());
            match self.target.names().contains(&name) {
                true => {
                    for unit in units {
                        self.target.add_unit(&name, unit)?;
                    }
                }
                false => self.target.export(Export {
                    class: Class::Peer,
                    relative_port: 2,
                    access: keys.access(&self.name, &self.access),
                    ..Export::new(name, units)
                })?,
            }
        }
        state.awaited.remove(&image.name);
        state.attached.push(Arc::new(image));
        Ok(())
    }
}
