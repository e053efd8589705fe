//! A node at work: origin → swarm → cache → overlay → target, and the commands that reach it while it runs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use iscsi_target::{AccessRules, Target};
use serde_json::Value;
use tokio::task::AbortHandle;
use tracing::{error, info};
use vmthunder_cache::{SCRUB_BYTES_PER_SECOND, Store, StoreOptions, StoreState};
use vmthunder_swarm::forest::NodeName;
use vmthunder_swarm::peer::{PeerOptions, PeerProof, PeerSessions};
use vmthunder_volume::{EXTENT_BYTES, Volume};

use crate::attach::Surroundings;
use crate::config::{Config, Source};
use crate::control::{Progress, Request};
use crate::export::Export;
use crate::files::Files;
use crate::images::Images;
use crate::instances::{Guests, Instances};
use crate::known::Known;
use crate::local::Locals;
use crate::members::{Belonging, KeyFile, SwarmStatus, keep_sessions};
use crate::mode::Modes;
use crate::names;
use crate::portals::announce;
use crate::serve::Prepared;
use crate::status::{CacheStatus, InitiatorStatus, SpaceStatus, Status};

/// How long a peer may take to answer a request or a login.
const PEER_PATIENCE: Duration = Duration::from_secs(5);

/// Sessions to peers at once: two to each that could be asked for something, in 64 trees, and as many for those that come
/// and go.
const MOST_PEER_SESSIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// A node that serves.
pub(crate) struct Node {
    pub(crate) name: NodeName,
    started: Instant,
    pub(crate) hosts: Vec<String>,
    pub(crate) target: Arc<Target<Export>>,
    pub(crate) around: Arc<Surroundings>,
    pub(crate) images: Images,
    pub(crate) guests: Guests,
    /// Images on this node's own disk; a mere gateway has none.
    pub(crate) locals: Option<Locals>,
    /// What instances and reservations are kept in.
    data: Option<PathBuf>,
    /// How its images are used.
    pub(crate) modes: Modes,
    files: Files,
    /// Who may use images and instances.
    pub(crate) access: AccessRules,
    /// What proves that somebody is of the swarm, if there is one.
    pub(crate) keys: Option<KeyFile>,
    /// Its part in the swarm, until it leaves.
    belonging: Mutex<Option<Belonging>>,
    keeping: AbortHandle,
}

impl Node {
    /// Puts the layers of a node together.
    pub(crate) async fn assemble(
        config: &Config,
        prepared: Prepared,
        belonging: Belonging,
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
        let known = match &config.data {
            Some(data) if caches => Some(Known::open(data.join("images"))?),
            _ => None,
        };
        let around = Arc::new(Surroundings {
            node: config.name.clone(),
            store,
            known,
            sessions: PeerSessions::new(PeerOptions {
                initiator_name: names::initiator(config.name.as_str()).to_string(),
                proof: prepared.keys.as_ref().map(|keys| PeerProof {
                    node: config.name.clone(),
                    keys: keys.ring(),
                }),
                connect_timeout: PEER_PATIENCE,
                request_timeout: PEER_PATIENCE,
                most_sessions: MOST_PEER_SESSIONS,
            }),
            members: Arc::clone(&belonging.members),
        });
        let (name, sessions) = (config.name.clone(), Arc::clone(&around.sessions));
        let keeping = keep_sessions(name, Arc::clone(&around.members), sessions);
        let folder = config.data.as_ref().map(|data| data.join("instances"));
        let node = Self {
            name: config.name.clone(),
            started: Instant::now(),
            hosts,
            target: Target::new(prepared.options),
            around,
            images: Images::default(),
            data: config.data.clone(),
            guests: Guests::new(folder.map(Instances::open).transpose()?),
            locals: config
                .data
                .as_ref()
                .map(|data| Locals::open(data.join("local"))),
            modes: Modes::open(config.data.as_ref().map(|data| data.join("modes"))),
            files: prepared.files,
            access: prepared.access,
            keys: prepared.keys,
            belonging: Mutex::new(Some(belonging)),
            keeping: tokio::spawn(keeping).abort_handle(),
        };
        node.files.export(&node.target)?;
        node.find_instances()?;
        node.take_up_copies().await;
        node.attach_images(&config.images).await?;
        node.serve_waiting().await;
        Ok(node)
    }

    /// What initiators log in to.
    pub(crate) fn target(&self) -> &Arc<Target<Export>> {
        &self.target
    }

    /// Says on standard output what is there.
    pub(crate) fn announce_all(&self) {
        self.files.announce(&self.hosts);
        for image in self.images.all() {
            announce(&self.hosts, &names::image(&image.name), [0]);
        }
        for guest in self.guests.all() {
            if guest.overlay().is_some() {
                announce(&self.hosts, &names::instance(guest.name()), [0]);
            }
        }
    }

    /// Carries a command out.
    pub(crate) async fn answer(&self, request: Request, progress: &Progress) -> Result<Value> {
        match request {
            Request::Status => Ok(serde_json::to_value(self.status())?),
            Request::ReloadKeys => {
                let keys = self.keys.as_ref();
                let keys =
                    keys.context("this node is in no swarm: its configuration has no `[swarm]`")?;
                Ok(serde_json::to_value(keys.reload()?)?)
            }
            Request::Members => {
                let swarm = self.swarm_status();
                let swarm = swarm
                    .context("this node is in no swarm: its configuration has no `[swarm]`")?;
                Ok(serde_json::to_value(swarm)?)
            }
            Request::Instance(request) => self.instance(request, progress).await,
            Request::Image(request) => {
                let status = self.change_image(request, progress).await?;
                Ok(serde_json::to_value(status)?)
            }
            Request::ResizeLun { lun, bytes, shrink } => {
                let (target, hosts) = (&self.target, &self.hosts);
                let resized = self.files.resize(target, hosts, &lun, bytes, shrink);
                Ok(serde_json::to_value(resized.await?)?)
            }
        }
    }

    fn swarm_status(&self) -> Option<SwarmStatus> {
        self.keys.as_ref()?;
        let belonging = self
            .belonging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let images = self.images.all();
        let images = images.iter().map(Arc::as_ref);
        belonging
            .as_ref()
            .map(|belonging| SwarmStatus::of(belonging, images))
    }

    /// Tells the other nodes that this one goes.
    pub(crate) async fn leave(&self) {
        self.keeping.abort();
        let belonging = self
            .belonging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(belonging) = belonging {
            belonging.leave().await;
        }
    }

    fn status(&self) -> Status {
        let stats = self.target.stats();
        let sessions = self.target.sessions();
        Status {
            name: self.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            sessions: sessions.len(),
            sent_bytes: stats.read_bytes,
            received_bytes: stats.written_bytes,
            cache: self.around.store.as_ref().map(|store| {
                let stats = store.stats();
                CacheStatus {
                    capacity_bytes: stats.slots * EXTENT_BYTES,
                    resident_bytes: stats.resident * EXTENT_BYTES,
                    fill_errors: stats.fill_errors,
                    fill_drops: stats.fill_drops,
                    trouble: match stats.state {
                        StoreState::Ok => None,
                        StoreState::Degraded { cause, .. } => Some(cause.to_string()),
                    },
                }
            }),
            images: self
                .images
                .all()
                .iter()
                .map(|image| self.image_status(image))
                .collect(),
            awaited: self.images.awaited(),
            swarm: self.swarm_status(),
            data: self.data.as_deref().and_then(SpaceStatus::of),
            instances: self.summaries(),
            targets: self.files.status(&self.hosts),
            initiators: sessions.into_iter().map(InitiatorStatus::from).collect(),
        }
    }

    /// Makes what guests wrote safe, and the next start a trusting one.
    pub(crate) async fn close(&self) -> Result<()> {
        for guest in self.guests.all() {
            let Some(overlay) = guest.overlay() else {
                continue;
            };
            if let Err(error) = overlay.flush().await {
                error!(instance = guest.name(), %error, "cannot flush");
            }
        }
        let flushed = self.files.flush().await;
        if let Some(store) = &self.around.store {
            store.close().await.context("cannot close the cache")?;
        }
        info!("ended");
        flushed
    }
}

async fn open_store(config: &Config) -> Result<Arc<Store>> {
    let path = config.cache_file.clone().context("no file for the cache")?;
    let options = StoreOptions {
        path: path.clone(),
        bytes: config.cache.as_u64(),
        scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND,
    };
    Store::open(options).await.with_context(|| {
        format!(
            "cannot open the cache of `cache.size` {}, {}: `cache.file` names another place",
            config.cache,
            path.display()
        )
    })
}
