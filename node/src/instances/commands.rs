//! What a running node does with its instances.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use iscsi_target::{Unit, UnitIdentity};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{error, info};
use vmthunder_cache::ImageKey;
use vmthunder_cache::overlay::{Overlay, OverlayOptions};

use super::copies::{is_full, same_size};
use super::export::Exportation;
use super::guest::{Guest, Now};
use super::trouble::{Unserved, lines};
use super::{Description, check_new};
use crate::config::{Outage, check_name};
use crate::control::Progress;
use crate::export::{Base, Export};
use crate::names;
use crate::node::Node;
use crate::portals::announce;

/// What can be asked of a node about its instances.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstanceRequest {
    /// Create some: answered with an array of [`crate::status::InstanceStatus`].
    Create(Creation),
    /// Remove one and all that was written to it: answered with null.
    Remove { name: String, force: bool },
    /// Show one: answered with a [`crate::status::InstanceDetail`].
    Show { name: String },
    /// Keep what one holds now: answered with null.
    Snapshot { name: String, snapshot: String },
    /// Remove a snapshot: answered with null.
    RemoveSnapshot { name: String, snapshot: String },
    /// Bring one back to a snapshot, or to its image: answered with null.
    Restore {
        name: String,
        snapshot: Option<String>,
        force: bool,
    },
    /// Write one to a file: answered with a [`super::export::Exported`].
    Export(Exportation),
    /// Change its settings: answered with a [`crate::status::InstanceStatus`].
    Change {
        name: String,
        quota: Option<Setting<u64>>,
        outage: Option<Setting<Outage>>,
    },
    /// Bring its image to this node's disk and read it from there: answered with a [`crate::status::InstanceStatus`],
    /// when that is done or, if nobody waits, when it has begun.
    TurnOff {
        name: String,
        rate: Option<u64>,
        wait: bool,
    },
    /// Read its image from the cache and the swarm again: answered with a [`crate::status::InstanceStatus`].
    TurnOn { name: String },
}

/// A setting that is given or taken away.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Setting<T> {
    Given(T),
    Default,
}

impl<T> Setting<T> {
    fn value(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Default => None,
        }
    }
}

/// The instances to create.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Creation {
    /// The name, or what comes before the number if there is a count.
    pub(crate) name: String,
    /// How many, named NAME-1 and so on; without it one, named NAME.
    pub(crate) count: Option<u32>,
    pub(crate) image: String,
    /// Their size in bytes, if larger than the image.
    pub(crate) size: Option<u64>,
    pub(crate) quota: Option<u64>,
    pub(crate) outage: Option<Outage>,
}

impl Creation {
    fn names(&self) -> Result<Vec<String>> {
        let names = match self.count {
            None => vec![self.name.clone()],
            Some(count) => {
                ensure!(
                    (1..=MOST_AT_ONCE).contains(&count),
                    "{count} instances at once: it can be 1 to {MOST_AT_ONCE}"
                );
                let named = |number| format!("{}-{number}", self.name);
                (1..=count).map(named).collect()
            }
        };
        names
            .iter()
            .try_for_each(|name| check_new("instance", name))?;
        Ok(names)
    }
}

impl Node {
    /// Carries a request out.
    pub(crate) async fn instance(
        &self,
        request: InstanceRequest,
        progress: &Progress,
    ) -> Result<Value> {
        use InstanceRequest as Is;
        match request {
            Is::Create(creation) => Ok(serde_json::to_value(self.create(&creation).await?)?),
            Is::Remove { name, force } => self.remove(&name, force).await.map(|()| json!(null)),
            Is::Show { name } => {
                check_name("instance", &name)?;
                let guest = self.guests.get(&name)?;
                Ok(serde_json::to_value(self.detail(&guest)?)?)
            }
            Is::Snapshot { name, snapshot } => {
                let guest = self.guest(&name)?;
                let _turn = guest.turn.lock().await;
                let (_, overlay) = guest.served()?;
                let folder = self.guests.folder()?;
                folder.snapshot(&name, &snapshot, &overlay).await?;
                info!(instance = name, snapshot, "made");
                Ok(json!(null))
            }
            Is::RemoveSnapshot { name, snapshot } => {
                let guest = self.guest(&name)?;
                let _turn = guest.turn.lock().await;
                self.guests.folder()?.remove_snapshot(&name, &snapshot)?;
                info!(instance = name, snapshot, "removed");
                Ok(json!(null))
            }
            Is::Restore {
                name,
                snapshot,
                force,
            } => {
                self.restore(&name, snapshot.as_deref(), force).await?;
                Ok(json!(null))
            }
            Is::Export(wanted) => {
                let guest = self.guest(&wanted.name)?;
                let exported = self.export_to_file(&wanted, &guest, progress).await?;
                Ok(serde_json::to_value(exported)?)
            }
            Is::Change {
                name,
                quota,
                outage,
            } => {
                let guest = self.change(&name, quota, outage).await?;
                Ok(serde_json::to_value(self.summary(&guest))?)
            }
            Is::TurnOff { name, rate, wait } => {
                let guest = self.turn_off(&name, rate, wait, progress).await?;
                Ok(serde_json::to_value(self.summary(&guest))?)
            }
            Is::TurnOn { name } => {
                let guest = self.turn_on(&name).await?;
                Ok(serde_json::to_value(self.summary(&guest))?)
            }
        }
    }

    /// Finds the instances of the last run. One of which nobody can tell anything keeps no other from being served.
    pub(crate) fn find_instances(&self) -> Result<()> {
        let Ok(folder) = self.guests.folder() else {
            return Ok(());
        };
        let mut unserved = Vec::new();
        for (name, description) in folder.list()? {
            let now = match description {
                Ok(description) => Now::Waiting { description },
                Err(error) => {
                    let why = Unserved::by(&name, None, &error);
                    let cause = why.why();
                    unserved.push(why);
                    Now::Broken {
                        description: None,
                        cause,
                    }
                }
            };
            self.guests.add(&name, now);
        }
        say(&unserved);
        Ok(())
    }

    /// Serves those whose image has come.
    pub(crate) async fn serve_waiting(&self) -> Vec<Arc<Guest>> {
        let (mut served, mut unserved) = (Vec::new(), Vec::new());
        for guest in self.guests.all() {
            let _turn = guest.turn.lock().await;
            let Now::Waiting { description } = guest.now() else {
                self.reach_again(&guest);
                continue;
            };
            let below = match self.below(&description) {
                Ok(below) => below,
                Err(_) if self.is_awaited(&description.image) => continue,
                Err(_) => {
                    let known = self.images.names();
                    let why = Unserved::without_image(&guest.name, &description.image, &known);
                    unserved.push(give_up(&guest, description, why));
                    continue;
                }
            };
            match self.open_guest(&guest, &description, below).await {
                Ok(()) => served.push(Arc::clone(&guest)),
                Err(error) => {
                    let why = Unserved::by(&guest.name, Some(&description.image), &error);
                    unserved.push(give_up(&guest, description, why));
                }
            }
        }
        say(&unserved);
        served
    }

    async fn open_guest(
        &self,
        guest: &Guest,
        description: &Description,
        (key, base): (ImageKey, Base),
    ) -> Result<()> {
        let folder = self.guests.folder()?;
        let overlay = folder.overlay(&guest.name, description, key, base).await?;
        self.export_guest(guest, description.clone(), overlay)
    }

    fn export_guest(
        &self,
        guest: &Guest,
        description: Description,
        overlay: Arc<Overlay<Base>>,
    ) -> Result<()> {
        let name = &guest.name;
        let designator = names::designator(&["instance", self.name.as_str(), name]);
        let volume = Export::Instance(Arc::clone(&overlay));
        let unit = Unit::new(0, volume, UnitIdentity::new(designator, "instance"));
        // Before anybody can log in and be seen by nobody.
        guest.set(Now::Served {
            description,
            overlay,
        });
        self.target.export(iscsi_target::Export {
            access: self.access.clone(),
            ..iscsi_target::Export::new(names::instance(name), vec![unit])
        })?;
        Ok(())
    }

    pub(super) fn guest(&self, name: &str) -> Result<Arc<Guest>> {
        check_name("instance", name)?;
        self.guests.get(name)
    }

    async fn create(&self, creation: &Creation) -> Result<Vec<crate::status::InstanceStatus>> {
        let wanted = creation.names()?;
        // Held to the end: two who ask for one name must not meet in its folder.
        let _names = self.guests.names.lock().await;
        let image = self.image(&creation.image)?;
        let folder = self.guests.folder()?;
        if let Some(taken) = wanted.iter().find(|name| self.guests.get(name).is_ok()) {
            bail!("there is an instance `{taken}` already; none was created");
        }
        let description = Description {
            image: creation.image.clone(),
            quota: creation.quota,
            outage: creation.outage,
            generation: 0,
            off: None,
        };
        let options = OverlayOptions {
            base: image.key,
            bytes: creation.size,
        };
        let begin = |name: &String| {
            let (name, description, base) =
                (name.clone(), &description, image.for_instance(None, None));
            async move { folder.begin(&name, description, options, base).await }
        };
        let begun: Vec<_> = wanted.iter().map(begin).collect();
        let begun = futures::stream::iter(begun).buffer_unordered(AT_ONCE);
        let begun = begun.try_collect::<()>().await;
        let made = match begun.and_then(|()| folder.finish(&wanted)) {
            Ok(()) => self.serve_created(&wanted, &description).await,
            Err(error) => {
                folder.abandon(&wanted);
                Err(error)
            }
        };
        made.with_context(|| match wanted.len() {
            1 => "it was not created".to_owned(),
            more => format!("none of the {more} was created"),
        })?;
        let mut created = Vec::new();
        for name in &wanted {
            announce(&self.hosts, &names::instance(name), [0]);
            info!(instance = name, image = creation.image, "created");
            created.push(self.summary(&*self.guests.get(name)?));
        }
        Ok(created)
    }

    /// Offers new ones to their guests: all or none.
    async fn serve_created(&self, names: &[String], description: &Description) -> Result<()> {
        for name in names {
            let description = description.clone();
            let now = Now::Waiting {
                description: description.clone(),
            };
            let guest = self.guests.add(name, now);
            let opened = async {
                let below = self.below(&description)?;
                self.open_guest(&guest, &description, below).await
            };
            let Err(error) = opened.await else {
                continue;
            };
            for name in names {
                self.target.withdraw(&names::instance(name));
                self.guests.remove(name);
            }
            self.guests.folder()?.undo(names);
            return Err(error);
        }
        Ok(())
    }

    async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let guest = self.guest(name)?;
        let _names = self.guests.names.lock().await;
        let _turn = guest.turn.lock().await;
        self.check_unused(name, force)?;
        let folder = self.guests.folder()?;
        if guest.overlay().is_none() {
            folder.check_closed(name)?;
        }
        self.target.withdraw(&names::instance(name));
        self.guests.remove(name);
        folder.remove(name)?;
        info!(instance = name, "removed");
        drop(_turn);
        self.drop_unused_copies().await;
        Ok(())
    }

    /// Refuses what would take a disk away from under a guest.
    fn check_unused(&self, name: &str, force: bool) -> Result<()> {
        let target = names::instance(name);
        let sessions = self.target.sessions();
        let user = sessions
            .iter()
            .find(|session| session.target.as_ref() == Some(&target));
        if let Some(user) = user.filter(|_| !force) {
            bail!(
                "`{name}` is in use by {} at {}: let it log out, or give --force",
                user.initiator,
                user.peer
            );
        }
        Ok(())
    }

    /// Puts a snapshot, or the image, in the place of what was written. Whoever is logged in is sent away: what a
    /// guest has in memory belongs to another disk.
    async fn restore(&self, name: &str, snapshot: Option<&str>, force: bool) -> Result<()> {
        let guest = self.guest(name)?;
        let _turn = guest.turn.lock().await;
        let (before, overlay) = guest.served()?;
        self.check_unused(name, force)?;
        let folder = self.guests.folder()?;
        let (key, base) = self.below(&before)?;
        let base = || base.clone();
        let from = match snapshot {
            Some(snapshot) => {
                let opened = folder.open_snapshot(name, snapshot, key, base());
                Some(opened.await?)
            }
            None => None,
        };
        let options = same_size(&overlay, key);
        let made = folder.next_overlay(name, &before, from.as_ref(), options, base());
        let next = match made.await {
            // A reset needs nothing of what is there, but its space.
            Err(error) if from.is_none() && is_full(&error) => {
                drop(overlay);
                return self.reset_in_place(&guest, before, key, base()).await;
            }
            made => made?,
        };
        let restored = async {
            self.check_unused(name, force)?;
            let overlay = folder.overlay(name, &next, key, base()).await?;
            self.target.withdraw(&names::instance(name));
            folder.describe(name, &next)?;
            anyhow::Ok(overlay)
        };
        let (now, overlay, goes) = match restored.await {
            Ok(overlay) => (next, overlay, before),
            Err(error) => {
                // As before: with its target, if that was withdrawn already, and on disk whatever got there.
                if !self.target.names().contains(&names::instance(name)) {
                    self.export_guest(&guest, before.clone(), overlay)?;
                }
                folder.describe(name, &before)?;
                folder.drop_overlay(name, &next)?;
                return Err(error);
            }
        };
        if let Err(error) = self.export_guest(&guest, now.clone(), overlay) {
            let why = Unserved::by(name, Some(&now.image), &error);
            say(&[give_up(&guest, now, why)]);
            return Err(error);
        }
        info!(instance = name, snapshot, "restored");
        folder.drop_overlay(name, &goes)
    }

    /// A reset on a disk that has no space for another overlay, however small.
    async fn reset_in_place(
        &self,
        guest: &Guest,
        before: Description,
        key: ImageKey,
        base: Base,
    ) -> Result<()> {
        let (name, folder) = (&guest.name, self.guests.folder()?);
        self.target.withdraw(&names::instance(name));
        guest.set(Now::Waiting {
            description: before.clone(),
        });
        let reset = async {
            let next = folder.renew(name, &before)?;
            self.open_guest(guest, &next, (key, base)).await
        };
        if let Err(error) = reset.await {
            let why = Unserved::by(name, Some(&before.image), &error);
            say(&[give_up(guest, before, why)]);
            return Err(error);
        }
        info!(instance = name, "reset in the space that it had");
        Ok(())
    }

    async fn change(
        &self,
        name: &str,
        quota: Option<Setting<u64>>,
        outage: Option<Setting<Outage>>,
    ) -> Result<Arc<Guest>> {
        let guest = self.guest(name)?;
        let _turn = guest.turn.lock().await;
        let (mut description, overlay) = guest.served()?;
        if let Some(quota) = quota {
            description.quota = quota.value();
        }
        if let Some(outage) = outage {
            description.outage = outage.value();
        }
        self.guests.folder()?.describe(name, &description)?;
        overlay.set_quota(description.quota);
        if let Base::Cached(cached) = overlay.base() {
            let image = self.image(&description.image).map(|image| image.outage);
            let outage = description
                .outage
                .or_else(|| image.ok())
                .unwrap_or_default();
            cached.set_deadline(outage.patience());
        }
        guest.set(Now::Served {
            description,
            overlay,
        });
        drop(_turn);
        Ok(guest)
    }
}

fn give_up(guest: &Guest, description: Description, why: Unserved) -> Unserved {
    guest.set(Now::Broken {
        description: Some(description),
        cause: why.why(),
    });
    why
}

fn say(unserved: &[Unserved]) {
    for line in lines(unserved) {
        error!("{line}");
    }
}

/// Instances that one command can create.
const MOST_AT_ONCE: u32 = 1000;
/// Folders that are made at a time.
const AT_ONCE: usize = 16;
