//! Getting at an image: the file that it is, or origin → swarm → cache.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use iscsi_initiator::Options;
use tracing::{info, warn};
use vmthunder_cache::{Cache, ImageKey, Store};
use vmthunder_swarm::forest::NodeName;
use vmthunder_swarm::manifest::{ExtentHashes, HASHES_PER_PAGE, Hashes, Header, Root};
use vmthunder_swarm::peer::{PeerSessions, PeerVolume};
use vmthunder_swarm::{Swarm, SwarmOptions, Verify};
use vmthunder_volume::{Access, BlockSize, Class, Extent, RawFile, Volume};

use crate::config::{Outage, Source, beside};
use crate::export::{Base, Fetched};
use crate::known::{Identity, Known};
use crate::local::Local;
use crate::login::with_secret;
use crate::members::{Members, keep_view};
use crate::names;
use crate::observe::causes;
use crate::origin::{Late, LateVolume, Miss, Origin, Reach};
use crate::switch::{Sources, Switch};

/// How long a start waits for the origins of its images before it serves what it has without them.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

/// The pause between two attempts to reach an origin.
const ORIGIN_PAUSE: Duration = Duration::from_secs(1);

/// An image that a node can serve.
pub(crate) struct Attached {
    pub(crate) name: String,
    /// Where it comes from, for people.
    pub(crate) source: String,
    /// What its cached extents and its overlays are filed under.
    pub(crate) key: ImageKey,
    /// Its identity, if it has a manifest.
    pub(crate) root: Option<Root>,
    /// What guests' reads do in an outage, if their instances do not say.
    pub(crate) outage: Outage,
    pub(crate) image: Base,
    /// The manifest, where others can be given it.
    pub(crate) manifest: Option<Base>,
    /// Its origin, if that is elsewhere.
    pub(crate) origin: Option<Arc<Late>>,
}

/// What the images of a node share.
pub(crate) struct Surroundings {
    pub(crate) node: NodeName,
    pub(crate) store: Option<Arc<Store>>,
    /// What is known of images whose origins were reached once.
    pub(crate) known: Option<Known>,
    pub(crate) sessions: Arc<PeerSessions>,
    pub(crate) members: Arc<Members>,
}

/// What became of an attempt to attach an image.
pub(crate) enum Attempt {
    /// It can be served.
    Attached(Box<Attached>),
    /// Its origin is away, and it was never seen here before.
    Away(anyhow::Error),
}

impl Attached {
    /// The image for an instance: with its own patience in an outage, and a copy here if it has one.
    pub(crate) fn for_instance(&self, outage: Option<Outage>, local: Option<Arc<Local>>) -> Base {
        match self.image.cache() {
            Some(fetched) => {
                let geometry = fetched.geometry();
                let sources = Sources {
                    local,
                    fetched: Some(fetched),
                };
                let patience = outage.unwrap_or(self.outage).patience();
                Base::switched(Switch::new(geometry, sources), patience)
            }
            None => self.image.clone(),
        }
    }
}

/// Makes an image ready to be served.
pub(crate) async fn attach(
    image: &crate::config::Image,
    around: &Arc<Surroundings>,
) -> Result<Attempt> {
    match &image.source {
        Source::File { path, manifest } => {
            let attached = attach_file(image, path, manifest.as_deref()).await?;
            Ok(Attempt::Attached(Box::new(attached)))
        }
        Source::Origin {
            url,
            secret_file,
            manifest,
            root,
        } => {
            let name = names::initiator(around.node.as_str());
            let options = Options {
                // Whoever waits for a busy origin waits above the flights of the cache.
                repeats_busy: false,
                ..with_secret(name, url, secret_file.as_deref())?
            };
            let sealed = match manifest {
                Some(path) => Some(manifest_file(path, root.as_ref()).await?),
                None => None,
            };
            let origin = Origin {
                url: url.clone(),
                options,
                root: *root,
                manifest: sealed.as_ref().map(|(header, _)| header.clone()),
            };
            around.attach_origin(image, origin, sealed).await
        }
    }
}

/// The manifest that a configuration names.
async fn manifest_file(path: &Path, root: Option<&Root>) -> Result<(Header, RawFile)> {
    let pages = open(path)?;
    let header = Header::read(&pages, root)
        .await
        .with_context(|| path.display().to_string())?;
    Ok((header, pages))
}

/// A file that is an image: this node is its origin.
async fn attach_file(
    config: &crate::config::Image,
    path: &Path,
    named: Option<&Path>,
) -> Result<Attached> {
    let name = &config.name;
    let image = Arc::new(open(path)?);
    let source = path.display().to_string();
    let manifest = &named.map_or_else(|| beside(path), Path::to_owned);
    let missing = !manifest
        .try_exists()
        .with_context(|| manifest.display().to_string())?;
    if missing {
        // Who names a manifest counts on being verified.
        ensure!(
            named.is_none(),
            "the manifest {0} is not there; make it with `vmthunder image import {source} --manifest {0}`",
            manifest.display()
        );
        warn!(
            image = %name,
            "no manifest at {}: nothing can be verified and nodes will not ask each other; \
            make one with `vmthunder image import {} --manifest {}`",
            manifest.display(),
            path.display(),
            manifest.display()
        );
        let key = ImageKey(*blake3::hash(source.as_bytes()).as_bytes());
        return Ok(Attached {
            name: name.to_owned(),
            source,
            key,
            root: None,
            outage: config.outage,
            image: Base::File(image),
            manifest: None,
            origin: None,
        });
    }
    let pages = Arc::new(open(manifest)?);
    let header = Header::read(&*pages, None)
        .await
        .with_context(|| manifest.display().to_string())?;
    ensure!(
        header.image_geometry() == image.geometry(),
        "{source} has {} bytes, but its manifest is for {}: the image changed; run `vmthunder image import {source}` again",
        image.geometry().bytes(),
        header.image_geometry().bytes()
    );
    let root = header.root();
    check_pages(header, &pages).await.with_context(|| {
        format!(
            "the manifest {} is damaged; run `vmthunder image import {source}` again",
            manifest.display()
        )
    })?;
    Ok(Attached {
        name: name.to_owned(),
        source,
        key: ImageKey(root.0),
        root: Some(root),
        outage: config.outage,
        image: Base::File(image),
        manifest: Some(Base::File(pages)),
        origin: None,
    })
}

/// Reads one hash of every page, and so each page whole: better to fail at the start than to make nodes believe that
/// the image is another one.
async fn check_pages(header: Header, pages: &Arc<RawFile>) -> Result<()> {
    let extents = header.image_geometry().extents();
    let hashes = Hashes::new(Arc::new(header), Arc::clone(pages), 1);
    for page in 0..extents.div_ceil(HASHES_PER_PAGE) {
        let first = Extent(page * HASHES_PER_PAGE);
        hashes.hash_of(first, Class::Fill).await?;
    }
    Ok(())
}

/// Opens an image or a manifest for reading.
pub(crate) fn open(path: &Path) -> Result<RawFile> {
    RawFile::open(path, Access::ReadOnly, BlockSize::B512)
        .with_context(|| format!("cannot open {}", path.display()))
}

impl Surroundings {
    /// An image of an origin: as that says, or, while it is away, as it said before.
    async fn attach_origin(
        self: &Arc<Self>,
        image: &crate::config::Image,
        origin: Origin,
        file: Option<(Header, RawFile)>,
    ) -> Result<Attempt> {
        let known = self
            .known
            .as_ref()
            .context("a node with an origin has a folder")?;
        let found = match tokio::time::timeout(FIRST_PATIENCE, origin.find()).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Miss::Wrong(error))) => return Err(error),
            Ok(Err(Miss::Away(error))) => Err(error),
            Err(_) => Err(anyhow!("it does not answer")),
        };
        let before = match &file {
            // Without the block size of a foreign origin, but that must be the manifest's.
            Some((header, _)) => Some(Identity::sealed(header.clone())),
            None => known.load(&image.name, &origin).await,
        };
        match (found, before) {
            (Ok(found), _) => {
                if let Err(error) = known.save(&image.name, &origin, &found.identity) {
                    warn!(
                        image = image.name,
                        "cannot be served while its origin is away: {error:#}"
                    );
                }
                let identity = found.identity.clone();
                let (attached, late) = self.put_together(image, &origin, &identity, file)?;
                late.here(found);
                let late = Arc::downgrade(&late);
                tokio::spawn(pursue(
                    image.name.clone(),
                    origin.clone(),
                    identity,
                    late,
                    true,
                ));
                info!(image = image.name, origin = %origin.url, "attached");
                Ok(Attempt::Attached(Box::new(attached)))
            }
            (Err(error), Some(identity)) => {
                warn!(image = image.name, origin = %origin.url,
                    "the origin is away: what is cached or peers have is served, and it is asked again every second: {}",
                    causes(&error));
                let (attached, late) = self.put_together(image, &origin, &identity, file)?;
                let late = Arc::downgrade(&late);
                tokio::spawn(pursue(image.name.clone(), origin, identity, late, false));
                Ok(Attempt::Attached(Box::new(attached)))
            }
            (Err(error), None) => Ok(Attempt::Away(error)),
        }
    }

    /// The layers over an image of an origin, which need not be there yet.
    fn put_together(
        &self,
        image: &crate::config::Image,
        origin: &Origin,
        identity: &Identity,
        file: Option<(Header, RawFile)>,
    ) -> Result<(Attached, Arc<Late>)> {
        let store = self.store.as_ref();
        let store = store.context("a node with an origin has a cache")?;
        let Identity { geometry, key, .. } = *identity;
        let late = Arc::new(Late::default());
        let below = LateVolume::image(&late, geometry);
        let attached = |cache, root, manifest| Attached {
            name: image.name.clone(),
            source: origin.url.to_string(),
            key,
            root,
            outage: image.outage,
            image: Base::fetched(cache, image.outage.patience()),
            manifest,
            origin: Some(Arc::clone(&late)),
        };
        let Some(header) = &identity.header else {
            warn!(image = image.name, origin = %origin.url, "no manifest: nothing is verified and peers are not \
                asked; make one with `vmthunder image import {} --manifest FILE`", origin.url);
            let swarm = self.swarm(image, below, Verify::Nothing);
            let cache = Cache::new(Arc::clone(store), key, swarm);
            return Ok((attached(cache, None, None), late));
        };
        let header = Arc::new(header.clone());
        let root = header.root();
        let (hashes, manifest): (Verify, _) = match file {
            Some((_, file)) => {
                let file = Arc::new(file);
                let pages = Hashes::<RawFile>::DEFAULT_PAGES;
                let hashes = Hashes::new(Arc::clone(&header), Arc::clone(&file), pages);
                (Verify::Extents(Arc::new(hashes)), Base::File(file))
            }
            None => {
                let pages = LateVolume::manifest(&late, header.manifest_geometry());
                let verify = Verify::Pages(Arc::clone(&header));
                let swarm = self.swarm(image, pages, verify);
                let key =
                    ImageKey(*blake3::hash(&[b"manifest", root.0.as_slice()].concat()).as_bytes());
                let cache = Cache::new(Arc::clone(store), key, swarm);
                self.keep_view(&cache, root.manifest_designator());
                let pages = Hashes::<Fetched>::DEFAULT_PAGES;
                let hashes = Hashes::new(Arc::clone(&header), cache.clone(), pages);
                let verify = Verify::Extents(Arc::new(hashes));
                (verify, Base::fetched(cache, image.outage.patience()))
            }
        };
        let cache = Cache::new(Arc::clone(store), key, self.swarm(image, below, hashes));
        self.keep_view(&cache, root.image_designator());
        Ok((attached(cache, Some(root), Some(manifest)), late))
    }

    /// The origin's logical unit and the peers' copies of it as one volume.
    fn swarm(
        &self,
        image: &crate::config::Image,
        origin: LateVolume,
        verify: Verify,
    ) -> Swarm<LateVolume, PeerVolume> {
        let options = SwarmOptions {
            name: image.name.clone(),
            ..image.swarm.clone()
        };
        Swarm::new(self.node.clone(), origin, verify, options)
    }

    /// Shows what is cached of a logical unit who else may have it.
    fn keep_view(&self, cache: &Fetched, designator: [u8; 8]) {
        keep_view(&self.node, &self.members, &self.sessions, cache, designator);
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
