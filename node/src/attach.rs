//! Getting at an image: the file that it is, or origin → swarm → cache.

use std::path::Path;
use std::sync::Arc;
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
use crate::local::{Local, LocalCopy};
use crate::login::with_secret;
use crate::members::Members;
use crate::names;
use crate::observe::causes;
use crate::origin::{Late, LateVolume, Miss, Origin};
use crate::switch::Course;
use crate::ties::Ties;

/// How long a start waits for the origins of its images before it serves what it has without them.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

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
    /// What ties it to its origin and peers, if that is elsewhere.
    pub(crate) ties: Option<Ties>,
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
    /// What peers know it by, if it is offered to them: they can verify it, and it is no file that they have as origin.
    pub(crate) fn for_peers(&self) -> Option<Root> {
        self.image.course().and(self.root)
    }

    /// The image for an instance: with its own patience in an outage, and a copy here if it has one.
    pub(crate) fn for_instance(&self, outage: Option<Outage>, local: Option<Arc<Local>>) -> Base {
        match self.image.course() {
            Some(course) => Base::of(course, local, outage.unwrap_or(self.outage).patience()),
            None => self.image.clone(),
        }
    }
}

/// Makes an image ready to be served: from its complete copy alone, if it is released.
pub(crate) async fn attach(
    image: &crate::config::Image,
    around: &Arc<Surroundings>,
    released: Option<Arc<LocalCopy>>,
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
            around.attach_origin(image, origin, sealed, released).await
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
            ties: None,
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
        ties: None,
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
        released: Option<Arc<LocalCopy>>,
    ) -> Result<Attempt> {
        if let Some(copy) = released {
            let header = Header::clone(copy.header());
            let wanted = origin.root.or_else(|| Some(file.as_ref()?.0.root()));
            if wanted.is_none_or(|wanted| wanted == header.root()) {
                let attached =
                    self.put_together(image, &origin, &Identity::sealed(header), file)?;
                return Ok(Attempt::Attached(Box::new(attached)));
            }
        }
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
                let attached = self.put_together(image, &origin, &found.identity, file)?;
                if let Some(ties) = &attached.ties {
                    ties.late().here(found);
                    ties.tie(self, true);
                }
                info!(image = image.name, origin = %origin.url, "attached");
                Ok(Attempt::Attached(Box::new(attached)))
            }
            (Err(error), Some(identity)) => {
                warn!(image = image.name, origin = %origin.url,
                    "the origin is away: what is cached or peers have is served, and it is asked again every second: {}",
                    causes(&error));
                let attached = self.put_together(image, &origin, &identity, file)?;
                if let Some(ties) = &attached.ties {
                    ties.tie(self, false);
                }
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
    ) -> Result<Attached> {
        let store = self.store.as_ref();
        let store = store.context("a node with an origin has a cache")?;
        let Identity { geometry, key, .. } = *identity;
        let late = Arc::new(Late::default());
        let below = LateVolume::image(&late, geometry);
        let patience = image.outage.patience();
        let attached = |cache: Fetched, direct, root: Option<Root>, manifest, mut views: Vec<_>| {
            views.extend(root.map(|root| (cache.clone(), root.image_designator())));
            let (name, late) = (image.name.clone(), Arc::clone(&late));
            Attached {
                name: name.clone(),
                source: origin.url.to_string(),
                key,
                root,
                outage: image.outage,
                image: Base::of(Course::image(cache, direct), None, patience),
                manifest,
                ties: Some(Ties::new(
                    name,
                    origin.clone(),
                    identity.clone(),
                    late,
                    views,
                )),
            }
        };
        let Some(header) = &identity.header else {
            warn!(image = image.name, origin = %origin.url, "no manifest: nothing is verified and peers are not \
                asked; make one with `vmthunder image import {} --manifest FILE`", origin.url);
            let swarm = || self.swarm(image, below.clone(), Verify::Nothing);
            let cache = Cache::new(Arc::clone(store), key, swarm());
            return Ok(attached(cache, swarm(), None, None, Vec::new()));
        };
        let header = Arc::new(header.clone());
        let root = header.root();
        let mut views = Vec::new();
        let (hashes, direct_hashes, manifest): (Verify, Verify, _) = match file {
            Some((_, file)) => {
                let file = Arc::new(file);
                let pages = Hashes::<RawFile>::DEFAULT_PAGES;
                let hashes = Hashes::new(Arc::clone(&header), Arc::clone(&file), pages);
                let hashes = Arc::new(hashes);
                let verify = || Verify::Extents(Arc::clone(&hashes) as Arc<dyn ExtentHashes>);
                (verify(), verify(), Base::File(file))
            }
            None => {
                let pages = LateVolume::manifest(&late, header.manifest_geometry());
                let verify = Verify::Pages(Arc::clone(&header));
                let swarm = || self.swarm(image, pages.clone(), verify.clone());
                let key =
                    ImageKey(*blake3::hash(&[b"manifest", root.0.as_slice()].concat()).as_bytes());
                let cache = Cache::new(Arc::clone(store), key, swarm());
                views.push((cache.clone(), root.manifest_designator()));
                let pages = Hashes::<Fetched>::DEFAULT_PAGES;
                let direct = Hashes::new(Arc::clone(&header), swarm(), pages);
                let hashes = Hashes::new(Arc::clone(&header), cache.clone(), pages);
                let course = Course::manifest(cache);
                (
                    Verify::Extents(Arc::new(hashes)),
                    Verify::Extents(Arc::new(direct)),
                    Base::of(course, None, patience),
                )
            }
        };
        let direct = self.swarm(image, below.clone(), direct_hashes);
        let cache = Cache::new(Arc::clone(store), key, self.swarm(image, below, hashes));
        Ok(attached(cache, direct, Some(root), Some(manifest), views))
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
}
