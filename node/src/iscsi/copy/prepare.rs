//! What has to be known before anything is copied.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use vmthunder_volume::{Access, BlockSize, RawFile, Resize, Space, Span};

use crate::args::{CopyArgs, PathArgs, SecretArgs};
use crate::iscsi::copy::journal::Journal;
use crate::iscsi::copy::side::{Identity, Side};
use crate::iscsi::reach::Place;
use crate::login::{is_url, parse};
use crate::status::size;

/// Both ends of a copy, and how far it is.
pub(super) struct Prepared {
    pub(super) source: Side,
    pub(super) destination: Side,
    pub(super) starts_empty: bool,
    pub(super) journal: Option<Journal>,
    pub(super) done: u64,
}

/// Opens both ends, finds out whether the copy may be made, and begins the journal.
pub(super) async fn prepare(args: &CopyArgs) -> Result<Prepared> {
    let CopyArgs {
        source: from,
        destination: to,
        ..
    } = args;
    ensure!(
        is_url(from) || is_url(to),
        "neither {from} nor {to} is a URL iscsi://HOST[:PORT]/TARGET[/LUN]; files are copied by cp"
    );
    if !is_url(to) {
        ensure!(
            to != "-",
            "a copy is not poured out: `vmthunder iscsi read URL` writes to standard output; a file of this name is ./-"
        );
        ensure!(
            args.raw || !to.to_ascii_lowercase().ends_with(".qcow2"),
            "{to} would be a raw image, whatever its name says; --raw if that is meant, or `qemu-img convert -f raw -O qcow2` afterwards"
        );
    }
    let source = match is_url(from) {
        true => Side::unit(place(from, args, false)?).await?,
        false => Side::source(from, args.raw)?,
    };
    let destination = match is_url(to) {
        true => to_unit(args, &source).await,
        false => to_file(args, &source).await,
    };
    match destination {
        Ok((destination, starts_empty, journal, done)) => Ok(Prepared {
            source,
            destination,
            starts_empty,
            journal,
            done,
        }),
        Err(error) => {
            source.close().await;
            Err(error)
        }
    }
}

/// One end that is a unit. Where both are, a secret of a file belongs to the one whose URL has a user, and `--portal` to
/// the source.
fn place(url: &str, args: &CopyArgs, is_destination: bool) -> Result<Place> {
    let both = is_url(&args.source) && is_url(&args.destination);
    ensure!(
        args.to_portal.is_empty() || is_url(&args.destination),
        "--to-portal: the destination is no unit"
    );
    let mut paths = PathArgs::default();
    if !(both && is_destination) {
        paths.portal.extend_from_slice(&args.unit.paths.portal);
    }
    if is_destination {
        paths.portal.extend_from_slice(&args.to_portal);
    }
    let mut login = args.unit.common.login.clone();
    if both && parse(url)?.user().is_none() {
        login.secrets = SecretArgs::default();
    }
    Place::new(url, &login, &args.unit.common.wire)?.through(&paths)
}

type Destination = (Side, bool, Option<Journal>, u64);

async fn to_unit(args: &CopyArgs, source: &Side) -> Result<Destination> {
    let destination = Side::unit(place(&args.destination, args, true)?).await?;
    match begin_unit(args, source, &destination).await {
        Ok((journal, done)) => Ok((destination, false, journal, done)),
        Err(error) => {
            destination.close().await;
            Err(error)
        }
    }
}

async fn begin_unit(
    args: &CopyArgs,
    source: &Side,
    destination: &Side,
) -> Result<(Option<Journal>, u64)> {
    has_room(source, destination)?;
    let (is, other) = (source.identity(false)?, destination.identity(true)?);
    ensure!(is != other, "source and destination are the same unit");
    let path = args.journal.clone();
    let path = path.or_else(|| source.path().map(beside));
    let journal = path.map(|path| Journal::new(path, is, other));
    let done = match (&journal, args.resume) {
        (None, true) => {
            bail!("a copy from unit to unit goes on only with a journal: --journal FILE")
        }
        (Some(journal), true) => journal.find()?,
        (_, false) => None,
    };
    if done.is_none() {
        destination.ask_consent(args.yes).await?;
        if let Some(journal) = &journal {
            journal.note(0).await?;
        }
    }
    Ok((journal, done.unwrap_or(0)))
}

async fn to_file(args: &CopyArgs, source: &Side) -> Result<Destination> {
    let path = Path::new(&args.destination);
    let shown = path.display();
    let bytes = source.geometry().bytes();
    let exists = path
        .try_exists()
        .with_context(|| format!("cannot look at {shown}"))?;
    let journal = Journal::new(
        args.journal.clone().unwrap_or_else(|| beside(path)),
        source.identity(false)?,
        Identity::File {
            path: absolute(path)?,
            bytes,
            changed: None,
        },
    );
    let is_device = exists && !path.is_file();
    let found = match exists && args.resume {
        true => journal.find()?,
        false => None,
    };
    match (exists, found) {
        (true, None) if !args.force => {
            let resume = match journal.path().exists() {
                true => "; --resume goes on with a copy that did not come to its end",
                false => "",
            };
            bail!("{shown} is there already; --force overwrites it{resume}");
        }
        (true, None) => {
            let destination = Side::file(path, Access::ReadWrite)?;
            // Noted first: from here on what is there is not what it was.
            journal.note(0).await?;
            match is_device {
                true => has_room(source, &destination)?,
                false => empty(&destination, bytes).await?,
            }
            Ok((destination, !is_device, Some(journal), 0))
        }
        (true, Some(done)) => {
            let destination = Side::file(path, Access::ReadWrite)?;
            match is_device {
                true => has_room(source, &destination)?,
                false => go_on(&destination, bytes, done).await?,
            }
            Ok((destination, !is_device, Some(journal), done))
        }
        (false, _) => {
            // Noted first: a file without a journal would be taken for one of somebody else.
            journal.note(0).await?;
            let file = RawFile::create(path, bytes, BlockSize::B512, Space::Sparse);
            let file = file.with_context(|| format!("cannot create {shown}"))?;
            Ok((Side::File(file), true, Some(journal), 0))
        }
    }
}

/// Empties a file that is overwritten, and gives it its size.
async fn empty(destination: &Side, bytes: u64) -> Result<()> {
    resize(destination, bytes).await?;
    let cleared = destination.clear(destination.geometry().whole()).await;
    cleared.with_context(|| format!("cannot empty {}", destination.shown()))
}

/// Takes away what the copy wrote behind what it noted: the source may hold zeros there by now.
async fn go_on(destination: &Side, bytes: u64, done: u64) -> Result<()> {
    resize(destination, bytes).await?;
    let rest = Span::new(done, bytes - done);
    let cleared = destination.clear(rest).await;
    cleared.with_context(|| format!("cannot empty the rest of {}", destination.shown()))
}

async fn resize(destination: &Side, bytes: u64) -> Result<()> {
    if let Side::File(file) = destination {
        let to = Resize {
            bytes,
            space: Space::Sparse,
            shrink: true,
        };
        let resized = file.resize(to).await;
        resized.with_context(|| format!("{} cannot get {bytes} bytes", destination.shown()))?;
    }
    Ok(())
}

/// A unit or a device has the size that it has.
fn has_room(source: &Side, destination: &Side) -> Result<()> {
    let (need, have) = (source.geometry().bytes(), destination.geometry().bytes());
    let block = destination.geometry().block_size().bytes();
    ensure!(
        need <= have,
        "{} has {}, and {} only room for {}",
        source.shown(),
        size(need),
        destination.shown(),
        size(have)
    );
    ensure!(
        need.is_multiple_of(block.into()),
        "{} has {need} bytes, not a whole number of the destination's blocks of {block} bytes",
        source.shown()
    );
    Ok(())
}

/// Where the journal of a copy from or to a file is.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".copying");
    name.into()
}

/// The path of a file that need not be there yet.
fn absolute(path: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot look at {}", path.display());
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            let folder = folder.canonicalize().with_context(cannot)?;
            let name = path.file_name().with_context(cannot)?;
            Ok(folder.join(name))
        }
        Err(error) => Err(error).with_context(cannot),
    }
}
