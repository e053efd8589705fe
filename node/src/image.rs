//! `vmthunder image`: manifests made and compared.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use iscsi_initiator::{Remote, Session};
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use serde::Serialize;
use vmthunder_swarm::manifest::{
    ExtentHash, ExtentHashes, Hashes, Header, build, manifest_geometry,
};
use vmthunder_volume::{Access, BlockSize, Class, Extent, RawFile, Volume};

use crate::args::{FillArgs, ImageCommand, LoginArgs};
use crate::attach::open;
use crate::config::{Config, Source, beside};
use crate::control::{Request, ask, ask_and_watch};
use crate::login::{of_command, parse};
use crate::mode::ImageRequest;
use crate::observe::{causes, line};
use crate::status::{ImageStatus, print_json, size, table};

/// Extents that are compared at once.
const AT_ONCE: usize = 8;

/// Differing extents that are named; more are counted.
const MOST_NAMED: usize = 10;

/// Carries out a subcommand; false if something differs.
pub(crate) async fn run(command: ImageCommand) -> Result<bool> {
    match command {
        ImageCommand::Import {
            source,
            manifest,
            login,
        } => import(&source, manifest, &login).await.map(|()| true),
        ImageCommand::List { config, json } => {
            list(&Config::load(&config)?, json).await.map(|()| true)
        }
        ImageCommand::Release(args) => release(args).await.map(|()| true),
        ImageCommand::Mode {
            name,
            mode,
            json,
            node,
        } => {
            let wanted = Request::Image(ImageRequest::Mode { name, mode });
            let now: ImageStatus = ask(&node.socket()?, &wanted).await?;
            show_mode(&now, json).map(|()| true)
        }
        ImageCommand::Verify {
            source,
            manifest,
            login,
        } => verify(&source, manifest, &login).await,
    }
}

/// An image that is read once, wherever it is.
enum Image {
    File(RawFile),
    Remote(Remote),
}

impl Image {
    fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.geometry().bytes(),
            Self::Remote(remote) => remote.geometry().bytes(),
        }
    }

    async fn open(source: &str, login: &LoginArgs) -> Result<Self> {
        if !source.starts_with("iscsi://") {
            return Ok(Self::File(open(Path::new(source))?));
        }
        let url = parse(source)?;
        let options = of_command(&url, "import", login)?;
        let session = Session::connect(&url, options)
            .await
            .with_context(|| format!("cannot log in to {url}"))?;
        let remote = Remote::attach(session, Lun::from_number(url.lun().unwrap_or(0))).await;
        Ok(Self::Remote(
            remote.with_context(|| format!("cannot use {url}"))?,
        ))
    }
}

async fn import(source: &str, manifest: Option<PathBuf>, login: &LoginArgs) -> Result<()> {
    let path = place(source, manifest)?;
    let image = Image::open(source, login).await?;
    let source = shown(source);
    ensure!(image.bytes() > 0, "{source} is empty");
    let header = match image {
        Image::File(file) => import_from(Arc::new(file), &path).await,
        Image::Remote(remote) => import_from(Arc::new(remote), &path).await,
    };
    let header = header.with_context(|| format!("cannot make a manifest of {source}"))?;
    line(format_args!("{} {}", header.root(), path.display()))
}

/// A source as it may be printed: without the secret that a URL may hold.
fn shown(source: &str) -> String {
    match source.parse::<IscsiUrl>() {
        Ok(url) => url.to_string(),
        Err(_) => source.to_owned(),
    }
}

fn place(source: &str, manifest: Option<PathBuf>) -> Result<PathBuf> {
    match manifest {
        Some(path) => Ok(path),
        None if source.starts_with("iscsi://") => {
            bail!("name the manifest of {}: --manifest FILE", shown(source))
        }
        None => Ok(beside(Path::new(source))),
    }
}

/// Writes the manifest of an image to a file, whole or not at all.
pub(crate) async fn import_from<V: Volume>(image: Arc<V>, path: &Path) -> Result<Header> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Readable for the user that the node runs as: what a manifest says is no secret.
    let begun = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    begun
        .as_file()
        .set_len(manifest_geometry(image.geometry()).bytes())?;
    let out = RawFile::open(begun.path(), Access::ReadWrite, BlockSize::B512)?;
    let bar = bar(image.geometry().bytes());
    let header = build(image, &out, |progress| bar.set_position(progress.done)).await?;
    bar.finish_and_clear();
    out.flush().await?;
    begun
        .persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(header)
}

async fn verify(source: &str, manifest: Option<PathBuf>, login: &LoginArgs) -> Result<bool> {
    let path = place(source, manifest)?;
    let pages = open(&path)?;
    let header = Arc::new(
        Header::read(&pages, None)
            .await
            .with_context(|| path.display().to_string())?,
    );
    let hashes = Hashes::new(Arc::clone(&header), pages, Hashes::<RawFile>::DEFAULT_PAGES);
    let image = Image::open(source, login).await?;
    let source = shown(source);
    let (is, should) = (image.bytes(), header.image_geometry().bytes());
    if is != should {
        line(format_args!(
            "{source} is not {}: it has {is} bytes, its manifest is for {should}",
            header.root()
        ))?;
        return Ok(false);
    }
    let differing = match image {
        Image::File(file) => differing(&file, &hashes).await?,
        Image::Remote(remote) => differing(&remote, &hashes).await?,
    };
    if differing.is_empty() {
        line(format_args!("{source} is {}", header.root()))?;
        return Ok(true);
    }
    for extent in differing.iter().take(MOST_NAMED) {
        let span = header.image_geometry().extent_span(*extent);
        line(format_args!(
            "differs: bytes {} to {} (extent {extent})",
            span.offset(),
            span.end()
        ))?;
    }
    line(format_args!(
        "{source} is not {}: {} of {} extents differ",
        header.root(),
        differing.len(),
        header.image_geometry().extents()
    ))?;
    Ok(false)
}

/// The extents of a volume that are not what its manifest says.
pub(crate) async fn differing<V: Volume>(
    image: &V,
    hashes: &impl ExtentHashes,
) -> Result<Vec<Extent>> {
    let geometry = hashes.geometry();
    if image.geometry().bytes() != geometry.bytes() {
        bail!(
            "the image has {} bytes, its manifest is for {}",
            image.geometry().bytes(),
            geometry.bytes()
        );
    }
    let bar = bar(geometry.bytes());
    let compare = |extent: Extent| async move {
        let span = geometry.extent_span(extent);
        let bytes = image
            .read(span, Class::Fill)
            .await
            .with_context(|| format!("cannot read bytes {span}"))?;
        let same = match hashes.hash_of(extent, Class::Fill).await? {
            ExtentHash::Zero => bytes.iter().all(|byte| *byte == 0),
            ExtentHash::Blake3(hash) => *blake3::hash(&bytes).as_bytes() == hash,
        };
        anyhow::Ok((extent, span, same))
    };
    let mut compared = futures::stream::iter((0..geometry.extents()).map(Extent))
        .map(compare)
        .buffered(AT_ONCE);
    let mut differing = Vec::new();
    while let Some(compared) = compared.next().await {
        // A file answers without ever waiting: a signal would not be looked at before the end.
        tokio::task::consume_budget().await;
        let (extent, span, same) = compared?;
        bar.inc(span.length());
        if !same {
            differing.push(extent);
        }
    }
    bar.finish_and_clear();
    Ok(differing)
}

async fn release(args: FillArgs) -> Result<()> {
    let wanted = Request::Image(ImageRequest::Release {
        name: args.name,
        rate: args.rate.map(|rate| rate.as_u64()),
        wait: !args.no_wait,
    });
    let bar = bar(0);
    let watch = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let now = ask_and_watch(&args.node.socket()?, &wanted, watch).await;
    bar.finish_and_clear();
    show_mode(&now?, args.json)
}

fn show_mode(image: &ImageStatus, json: bool) -> Result<()> {
    if json {
        return print_json(image);
    }
    line(format_args!("{}: {}", image.name, image.way()))
}

/// An image of a configuration, as `image list --json` prints it.
#[derive(Serialize)]
struct Listed {
    name: String,
    source: String,
    bytes: Option<u64>,
    root: Option<String>,
    note: Option<String>,
}

async fn list(config: &Config, json: bool) -> Result<()> {
    let mut found = Vec::new();
    for image in &config.images {
        found.push(listed(&image.name, &image.source).await);
    }
    if json {
        return print_json(&found);
    }
    let mut rows = table(&["image", "size", "content", "source", "note"]);
    for image in found {
        rows.add_row([
            image.name,
            image.bytes.map_or_else(|| "?".to_owned(), size),
            image.root.unwrap_or_default(),
            image.source,
            image.note.unwrap_or_default(),
        ]);
    }
    line(rows)
}

async fn listed(name: &str, source: &Source) -> Listed {
    let (source, manifest) = match source {
        Source::File { path, manifest } => {
            let manifest = manifest.clone().unwrap_or_else(|| beside(path));
            (path.display().to_string(), Some(manifest))
        }
        Source::Origin { url, manifest, .. } => (url.to_string(), manifest.clone()),
    };
    let mut listed = Listed {
        name: name.to_owned(),
        source,
        bytes: None,
        root: None,
        note: None,
    };
    let Some(manifest) = manifest else {
        listed.note = Some("the origin is asked when the node starts".to_owned());
        return listed;
    };
    let header = match open(&manifest) {
        Ok(pages) => Header::read(&pages, None)
            .await
            .map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match header {
        Ok(header) => {
            listed.bytes = Some(header.image_geometry().bytes());
            listed.root = Some(header.root().to_string());
        }
        Err(error) => listed.note = Some(format!("no manifest: {}", causes(&error))),
    }
    listed
}

/// A progress bar over so many bytes, on standard error and only where somebody looks.
pub(crate) fn bar(bytes: u64) -> ProgressBar {
    let style = "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style)
}
