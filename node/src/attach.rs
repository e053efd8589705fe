//! Getting at an image: the file that it is, or origin → swarm → cache.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use iscsi_initiator::{Options, Remote, Session};
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use tracing::{info, warn};
use vmthunder_cache::{Cache, ImageKey, Store};
use vmthunder_swarm::forest::NodeName;
use vmthunder_swarm::manifest::{
    ExtentHashes, HASHES_PER_PAGE, Hashes, Header, ManifestError, Root,
};
use vmthunder_swarm::peer::{PeerAddress, PeerSessions, PeerVolume};
use vmthunder_swarm::{Swarm, SwarmOptions, Verify};
use vmthunder_volume::{Access, BlockSize, Class, Extent, RawFile, Volume};

use crate::config::{Member, Source, beside};
use crate::export::{Base, Cached, Fetched};
use crate::login::with_secret;
use crate::names;
use crate::observe::causes;

/// How long a node asks for its images' origins before it gives up its start.
const ORIGIN_PATIENCE: Duration = Duration::from_secs(300);

/// How long a guest's read is tried before it fails.
const GUEST_PATIENCE: Duration = Duration::from_secs(60);

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
    pub(crate) image: Base,
    /// The manifest, where others can be given it.
    pub(crate) manifest: Option<Base>,
}

/// What the images of a node share.
pub(crate) struct Surroundings {
    pub(crate) node: NodeName,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) sessions: Arc<PeerSessions>,
    pub(crate) members: Vec<Member>,
}

/// Makes an image ready to be served.
pub(crate) async fn attach(
    image: &crate::config::Image,
    around: &Surroundings,
) -> Result<Attached> {
    match &image.source {
        Source::File { path, manifest } => {
            attach_file(&image.name, path, manifest.as_deref()).await
        }
        Source::Origin {
            url,
            secret_file,
            manifest,
            root,
        } => {
            let store = around
                .store
                .as_ref()
                .context("a node with an origin has a cache")?;
            let name = names::initiator(around.node.as_str());
            let options = Options {
                // Whoever waits for a busy origin waits above the flights of the cache.
                repeats_busy: false,
                ..with_secret(name, url, secret_file.as_deref())?
            };
            let origin = Origin::reach(url, &options).await?;
            let header = origin.manifest(manifest.as_deref(), root.as_ref()).await?;
            match header {
                Some((header, pages)) => {
                    around
                        .sealed(&image.name, url, store, origin, header, pages)
                        .await
                }
                None => around.unsealed(&image.name, url, store, origin),
            }
        }
    }
}

/// A file that is an image: this node is its origin.
async fn attach_file(name: &str, path: &Path, named: Option<&Path>) -> Result<Attached> {
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
            image = name,
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
            image: Base::File(image),
            manifest: None,
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
        image: Base::File(image),
        manifest: Some(Base::File(pages)),
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

/// Lets guests wait for what is fetched.
fn patient(fetched: Fetched) -> Base {
    Base::Cached(Arc::new(Cached::new(fetched, GUEST_PATIENCE)))
}

/// A logical unit that holds an image, on any target.
struct Origin {
    session: Session,
    lun: u16,
    image: Remote,
}

/// Where the pages of a manifest are read from.
enum Pages {
    /// A file beside the configuration.
    File(RawFile),
    /// The origin's own logical unit for it.
    Remote(Remote),
}

impl Origin {
    /// Logs in, and waits for an origin that is not there yet.
    async fn reach(url: &IscsiUrl, options: &Options) -> Result<Self> {
        let started = tokio::time::Instant::now();
        let mut said = String::new();
        loop {
            match Self::try_reach(url, options).await {
                Ok(origin) => return Ok(origin),
                Err(error) if started.elapsed() > ORIGIN_PATIENCE => {
                    return Err(error)
                        .with_context(|| format!("the origin {url} cannot be reached"));
                }
                Err(error) => {
                    let causes = causes(&error);
                    if said != causes {
                        warn!(origin = %url, "cannot be used yet, asked again every second for {} s: {causes}",
                            ORIGIN_PATIENCE.as_secs());
                        said = causes;
                    }
                }
            }
            tokio::time::sleep(ORIGIN_PAUSE).await;
        }
    }

    async fn try_reach(url: &IscsiUrl, options: &Options) -> Result<Self> {
        let session = Session::connect(url, options.clone()).await?;
        let lun = url.lun().unwrap_or(0);
        let image = Remote::attach(session.clone(), Lun::from_number(lun)).await?;
        Ok(Self {
            session,
            lun,
            image,
        })
    }

    /// The image's manifest: the file that the configuration names, else the logical unit behind the image's.
    async fn manifest(
        &self,
        file: Option<&Path>,
        root: Option<&Root>,
    ) -> Result<Option<(Header, Pages)>> {
        let found = match file {
            Some(path) => {
                let pages = open(path)?;
                let header = Header::read(&pages, root)
                    .await
                    .with_context(|| path.display().to_string())?;
                Some((header, Pages::File(pages)))
            }
            None => self.own_manifest(root).await?,
        };
        let Some((header, pages)) = found else {
            ensure!(
                root.is_none(),
                "`root` is given, but the origin has no manifest to prove its content with"
            );
            return Ok(None);
        };
        let (said, is) = (header.image_geometry(), self.image.geometry());
        ensure!(
            said.bytes() == is.bytes(),
            "the manifest is for {} bytes, the origin has {}",
            said.bytes(),
            is.bytes()
        );
        ensure!(
            said.block_size() == is.block_size(),
            "the manifest and the origin differ in block size"
        );
        Ok(Some((header, pages)))
    }

    /// Our own origins serve a manifest as the next logical unit; a foreign target has another disk there, or none.
    async fn own_manifest(&self, root: Option<&Root>) -> Result<Option<(Header, Pages)>> {
        let Some(lun) = self.lun.checked_add(1) else {
            return Ok(None);
        };
        let Ok(pages) = Remote::attach(self.session.clone(), Lun::from_number(lun)).await else {
            return Ok(None);
        };
        match Header::read(&pages, root).await {
            Ok(header) => Ok(Some((header, Pages::Remote(pages)))),
            Err(ManifestError::Magic | ManifestError::Short) => Ok(None),
            Err(ManifestError::Corrupt) if root.is_some() => {
                bail!("the origin's manifest is damaged, or for another content than `root` names")
            }
            Err(error) => bail!("the origin's manifest: {error}"),
        }
    }
}

impl Surroundings {
    /// An image with a manifest: fetched from peers and the origin, every extent verified.
    async fn sealed(
        &self,
        name: &str,
        url: &IscsiUrl,
        store: &Arc<Store>,
        origin: Origin,
        header: Header,
        pages: Pages,
    ) -> Result<Attached> {
        let header = Arc::new(header);
        let root = header.root();
        let (hashes, manifest): (Verify, _) = match pages {
            Pages::File(file) => {
                let file = Arc::new(file);
                let hashes = Hashes::new(
                    Arc::clone(&header),
                    Arc::clone(&file),
                    Hashes::<RawFile>::DEFAULT_PAGES,
                );
                (Verify::Extents(Arc::new(hashes)), Base::File(file))
            }
            Pages::Remote(remote) => {
                let swarm = self.swarm(
                    remote,
                    Verify::Pages(Arc::clone(&header)),
                    root.manifest_designator(),
                );
                let key =
                    ImageKey(*blake3::hash(&[b"manifest", root.0.as_slice()].concat()).as_bytes());
                let cache = Cache::new(Arc::clone(store), key, swarm);
                let hashes = Hashes::new(
                    Arc::clone(&header),
                    cache.clone(),
                    Hashes::<Fetched>::DEFAULT_PAGES,
                );
                (Verify::Extents(Arc::new(hashes)), patient(cache))
            }
        };
        let swarm = self.swarm(origin.image, hashes, root.image_designator());
        info!(image = name, origin = %url, %root, "attached");
        Ok(Attached {
            name: name.to_owned(),
            source: url.to_string(),
            key: ImageKey(root.0),
            root: Some(root),
            image: patient(Cache::new(Arc::clone(store), ImageKey(root.0), swarm)),
            manifest: Some(manifest),
        })
    }

    /// An image without a manifest: cached, but nothing is taken from peers, since nothing can be verified. Its
    /// identity is the origin's URL, designators and size: when one changes, what is cached no longer counts.
    fn unsealed(
        &self,
        name: &str,
        url: &IscsiUrl,
        store: &Arc<Store>,
        origin: Origin,
    ) -> Result<Attached> {
        warn!(image = name, origin = %url, "no manifest: nothing is verified and peers are not asked; \
            make one with `vmthunder image import {url} --manifest FILE`");
        let mut identity = blake3::Hasher::new();
        identity.update(url.to_string().as_bytes());
        identity.update(&origin.image.geometry().bytes().to_le_bytes());
        for designator in origin.image.designators() {
            identity.update(&designator.value);
        }
        let key = ImageKey(*identity.finalize().as_bytes());
        let swarm = Swarm::new(
            self.node.clone(),
            origin.image,
            Verify::Nothing,
            SwarmOptions::default(),
        );
        Ok(Attached {
            name: name.to_owned(),
            source: url.to_string(),
            key,
            root: None,
            image: patient(Cache::new(Arc::clone(store), key, swarm)),
            manifest: None,
        })
    }

    /// The origin's logical unit and the peers' copies of it as one volume.
    fn swarm(
        &self,
        origin: Remote,
        verify: Verify,
        designator: [u8; 8],
    ) -> Swarm<Remote, PeerVolume> {
        let geometry = origin.geometry();
        let swarm = Swarm::new(self.node.clone(), origin, verify, SwarmOptions::default());
        let peer = |member: &Member| {
            let target_name = names::swarm(member.name.as_str()).to_string();
            let address = PeerAddress {
                portal: member.address.clone(),
                target_name,
            };
            let volume = PeerVolume::new(Arc::clone(&self.sessions), address, designator, geometry);
            (member.name.clone(), volume)
        };
        swarm.set_members(self.members.iter().map(peer).collect());
        swarm
    }
}
