//! A node at work: origin → swarm → cache → overlay → target, and the commands that reach it while it runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use iscsi_target::{AccessRules, Target, Unit, UnitIdentity};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::{error, info};
use vmthunder_cache::overlay::Overlay;
use vmthunder_cache::{SCRUB_BYTES_PER_SECOND, Store, StoreOptions, StoreState};
use vmthunder_swarm::forest::NodeName;
use vmthunder_swarm::peer::{PeerOptions, PeerSessions};
use vmthunder_volume::{Class, EXTENT_BYTES, Volume};

use crate::attach::{Attached, Surroundings, attach};
use crate::config::{Config, Source, check_name};
use crate::control::Request;
use crate::export::{Base, Export};
use crate::files::Files;
use crate::instances::Instances;
use crate::names;
use crate::portals::{announce, urls};
use crate::serve::Prepared;
use crate::status::{CacheStatus, InitiatorStatus, InstanceStatus, Status};

/// How long a peer may take to answer a request or a login.
const PEER_PATIENCE: Duration = Duration::from_secs(5);

/// A node that serves.
pub(crate) struct Node {
    name: NodeName,
    started: Instant,
    hosts: Vec<String>,
    target: Arc<Target<Export>>,
    store: Option<Arc<Store>>,
    images: Vec<Attached>,
    /// Where instances live; a mere gateway has none.
    folder: Option<Instances>,
    files: Files,
    /// Who may use images and instances.
    access: AccessRules,
    running: Mutex<Vec<Running>>,
}

/// An instance that is exported.
struct Running {
    name: String,
    image: String,
    overlay: Arc<Overlay<Base>>,
}

impl Node {
    /// Puts the layers of a node together.
    pub(crate) async fn assemble(
        config: &Config,
        prepared: Prepared,
        hosts: Vec<String>,
    ) -> Result<Self> {
        let caches = config
            .images
            .iter()
            .any(|image| matches!(image.source, Source::Origin { .. }));
        let store = if caches {
            Some(open_store(config).await?)
        } else {
            None
        };
        let around = Surroundings {
            node: config.name.clone(),
            store: store.clone(),
            sessions: PeerSessions::new(PeerOptions {
                initiator_name: names::initiator(config.name.as_str()).to_string(),
                connect_timeout: PEER_PATIENCE,
                request_timeout: PEER_PATIENCE,
            }),
            members: config.members.clone(),
        };
        let mut images = Vec::new();
        for image in &config.images {
            images.push(
                attach(image, &around)
                    .await
                    .with_context(|| format!("image `{}`", image.name))?,
            );
        }
        let folder = config.data.as_ref().map(|data| data.join("instances"));
        let node = Self {
            name: config.name.clone(),
            started: Instant::now(),
            hosts,
            target: Target::new(prepared.options),
            store,
            images,
            folder: folder.map(Instances::open).transpose()?,
            files: prepared.files,
            access: prepared.access,
            running: Mutex::new(Vec::new()),
        };
        node.files.export(&node.target)?;
        node.export_images()?;
        node.open_instances().await?;
        Ok(node)
    }

    /// What initiators log in to.
    pub(crate) fn target(&self) -> &Arc<Target<Export>> {
        &self.target
    }

    fn export_images(&self) -> Result<()> {
        let mut to_peers = Vec::new();
        for image in &self.images {
            let units = image.units(0);
            let name = names::image(&image.name);
            self.target.export(iscsi_target::Export {
                access: self.access.clone(),
                ..iscsi_target::Export::new(name, units)
            })?;
            let next = u16::try_from(to_peers.len()).context("too many images")?;
            if matches!(image.image, Base::Cached(_)) && image.root.is_some() {
                to_peers.extend(image.units(next));
            }
        }
        if to_peers.is_empty() {
            return Ok(());
        }
        let name = names::swarm(self.name.as_str());
        let export = iscsi_target::Export {
            class: Class::Peer,
            relative_port: 2,
            // Peers have names of this program and no secret; what they get is what the network may see.
            access: AccessRules {
                networks: self.access.networks.clone(),
                ..AccessRules::default()
            },
            ..iscsi_target::Export::new(name, to_peers)
        };
        Ok(self.target.export(export)?)
    }

    /// Serves the instances of the last run again. One that cannot be opened keeps no other from being served.
    async fn open_instances(&self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        for (name, description) in folder.list()? {
            let opened = async {
                let description = description?;
                let image = self.image(&description.image)?;
                let overlay = folder
                    .overlay(&name, image.key, image.image.clone())
                    .await?;
                self.export_instance(&name, &description.image, overlay)
            };
            match opened.await {
                Ok(instance) => self.running.lock().await.push(instance),
                Err(error) => error!(
                    instance = name,
                    "is not served: {error:#}; bring its folder back from a copy, \
                    or remove it with `vmthunder instance remove {name}`"
                ),
            }
        }
        Ok(())
    }

    fn export_instance(
        &self,
        name: &str,
        image: &str,
        overlay: Arc<Overlay<Base>>,
    ) -> Result<Running> {
        let designator = names::designator(&["instance", self.name.as_str(), name]);
        let unit = Unit::new(
            0,
            Export::Instance(Arc::clone(&overlay)),
            UnitIdentity::new(designator, "instance"),
        );
        let target = names::instance(name);
        self.target.export(iscsi_target::Export {
            access: self.access.clone(),
            ..iscsi_target::Export::new(target, vec![unit])
        })?;
        Ok(Running {
            name: name.to_owned(),
            image: image.to_owned(),
            overlay,
        })
    }

    fn folder(&self) -> Result<&Instances> {
        self.folder
            .as_ref()
            .context("a gateway has no instances; `vmthunder serve` does")
    }

    fn image(&self, name: &str) -> Result<&Attached> {
        self.images
            .iter()
            .find(|image| image.name == name)
            .with_context(|| format!("there is no image `{name}`"))
    }

    /// Says on standard output what is there.
    pub(crate) async fn announce_all(&self) {
        self.files.announce(&self.hosts);
        for image in &self.images {
            announce(&self.hosts, &names::image(&image.name), [0]);
        }
        for instance in self.running.lock().await.iter() {
            announce(&self.hosts, &names::instance(&instance.name), [0]);
        }
    }

    /// Carries a command out.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request) -> Result<Value> {
        match request {
            Request::Status => Ok(serde_json::to_value(self.status().await)?),
            Request::CreateInstance { name, image, size } => Ok(serde_json::to_value(
                self.create(&name, &image, size).await?,
            )?),
            Request::RemoveInstance { name, force } => {
                self.remove(&name, force).await.map(|()| json!(null))
            }
            Request::ResizeLun { lun, bytes, shrink } => {
                let node = Arc::clone(self);
                // Whoever asked may not wait for the end: initiators are told all the same.
                let resized = tokio::spawn(async move {
                    let Self {
                        files,
                        target,
                        hosts,
                        ..
                    } = &*node;
                    files.resize(target, hosts, &lun, bytes, shrink).await
                });
                Ok(serde_json::to_value(resized.await??)?)
            }
        }
    }

    async fn create(&self, name: &str, image: &str, size: Option<u64>) -> Result<InstanceStatus> {
        // Held to the end: two who ask for one name must not meet in its folder.
        let mut running = self.running.lock().await;
        let from = self.image(image)?;
        let overlay = self
            .folder()?
            .create(name, image, size, from.key, from.image.clone())
            .await?;
        let instance = match self.export_instance(name, image, overlay) {
            Ok(instance) => instance,
            Err(error) => {
                self.folder()?.remove(name)?;
                return Err(error);
            }
        };
        announce(&self.hosts, &names::instance(name), [0]);
        info!(instance = name, image, "created");
        let described = self.describe(&instance);
        running.push(instance);
        Ok(described)
    }

    async fn remove(&self, name: &str, force: bool) -> Result<()> {
        check_name("instance", name)?;
        let mut running = self.running.lock().await;
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
        self.target.withdraw(&target);
        running.retain(|instance| instance.name != name);
        self.folder()?.remove(name)?;
        info!(instance = name, "removed");
        Ok(())
    }

    fn describe(&self, instance: &Running) -> InstanceStatus {
        InstanceStatus {
            name: instance.name.clone(),
            image: instance.image.clone(),
            bytes: instance.overlay.geometry().bytes(),
            urls: urls(&self.hosts, &names::instance(&instance.name), 0),
        }
    }

    async fn status(&self) -> Status {
        let stats = self.target.stats();
        let sessions = self.target.sessions();
        Status {
            name: self.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            sessions: sessions.len(),
            sent_bytes: stats.read_bytes,
            received_bytes: stats.written_bytes,
            cache: self.store.as_ref().map(|store| {
                let stats = store.stats();
                CacheStatus {
                    capacity_bytes: stats.slots * EXTENT_BYTES,
                    resident_bytes: stats.resident * EXTENT_BYTES,
                    fill_errors: stats.fill_errors,
                    trouble: match stats.state {
                        StoreState::Ok => None,
                        StoreState::Degraded { cause, .. } => Some(cause.to_string()),
                    },
                }
            }),
            images: self
                .images
                .iter()
                .map(|image| image.status(&self.hosts))
                .collect(),
            instances: self
                .running
                .lock()
                .await
                .iter()
                .map(|instance| self.describe(instance))
                .collect(),
            targets: self.files.status(&self.hosts),
            initiators: sessions
                .into_iter()
                .map(|session| InitiatorStatus {
                    initiator: session.initiator.to_string(),
                    peer: session.peer.to_string(),
                    target: session.target.map(|target| target.to_string()),
                })
                .collect(),
        }
    }

    /// Makes what guests wrote safe, and the next start a trusting one.
    pub(crate) async fn close(&self) -> Result<()> {
        for instance in self.running.lock().await.iter() {
            if let Err(error) = instance.overlay.flush().await {
                error!(instance = instance.name, %error, "cannot flush");
            }
        }
        let flushed = self.files.flush().await;
        if let Some(store) = &self.store {
            store.close().await.context("cannot close the cache")?;
        }
        info!("ended");
        flushed
    }
}

async fn open_store(config: &Config) -> Result<Arc<Store>> {
    let data = config.data.as_ref().context("no folder for the cache")?;
    let path = data.join("cache");
    let options = StoreOptions {
        path: path.clone(),
        bytes: config.cache.as_u64(),
        scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND,
    };
    Store::open(options).await.with_context(|| {
        format!(
            "cannot open the cache {} of `cache.size` {}",
            path.display(),
            config.cache
        )
    })
}
