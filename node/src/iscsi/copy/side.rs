//! One end of a copy: a file, or a unit.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use iscsi_initiator::Remote;
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use vmthunder_volume::{Access, Allocation, BlockSize, Class, Geometry, RawFile, Span, Volume};

use crate::iscsi::copy::quoted;
use crate::iscsi::outcome::{Kind, Told};
use crate::iscsi::reach::{Place, Reached, reach};
use crate::iscsi::unit::readable;

/// One end of a copy.
#[derive(Debug)]
pub(super) enum Side {
    File(RawFile),
    Unit(Box<(Reached, Remote)>),
}

/// What an end is, so that a copy goes on between the same two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Identity {
    /// A unit, wherever it is reached.
    Unit { names: Vec<String>, bytes: u64 },
    /// A file.
    File {
        path: PathBuf,
        bytes: u64,
        /// When it was changed last, in nanoseconds since 1970; not of what we write to.
        changed: Option<u64>,
    },
}

impl Side {
    /// A unit.
    pub(super) async fn unit(place: Place) -> Result<Self> {
        let reached = reach(place).await?;
        match reached.attach().await {
            Ok(remote) => Ok(Self::Unit(Box::new((reached, remote)))),
            Err(error) => {
                reached.close().await;
                Err(error)
            }
        }
    }

    /// A file that is there.
    pub(super) fn file(path: &Path, access: Access) -> Result<Self> {
        let cannot = || format!("cannot open {}", path.display());
        let file = RawFile::open(path, access, BlockSize::B512).with_context(cannot)?;
        Ok(Self::File(file))
    }

    /// A file as the source of a copy: it has to be whole blocks.
    pub(super) fn source(text: &str, is_raw: bool) -> Result<Self> {
        let path = Path::new(text);
        let side = Self::file(path, Access::ReadOnly)?;
        ensure!(
            is_raw || !is_qcow2(path)?,
            "{} is an image in the format qcow2, which this program does not read: `qemu-img convert -O raw` makes a raw one; --raw copies its bytes as they are",
            path.display()
        );
        let about = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        let bytes = side.geometry().bytes();
        ensure!(bytes > 0, "{} is empty", path.display());
        ensure!(
            !about.is_file() || about.len() == bytes,
            "{} has {} bytes, not a whole number of blocks of 512 bytes",
            path.display(),
            about.len()
        );
        Ok(side)
    }

    /// What this is. `written` leaves out what our own writes change.
    pub(super) fn identity(&self, written: bool) -> Result<Identity> {
        let bytes = self.geometry().bytes();
        match self {
            Self::Unit(unit) => {
                let (reached, remote) = unit.as_ref();
                let mut names: Vec<_> = remote.designators().iter().map(readable).collect();
                if names.is_empty() {
                    // A unit without a name of its own is known by its target's.
                    let target = reached.place.url.target().map(ToString::to_string);
                    names.push(format!("{} {}", target.unwrap_or_default(), reached.lun));
                }
                Ok(Identity::Unit { names, bytes })
            }
            Self::File(file) => {
                let path = file.path();
                let cannot = || format!("cannot look at {}", path.display());
                let about = std::fs::metadata(path).with_context(cannot)?;
                let changed = match about.is_file() && !written {
                    true => about.modified().ok(),
                    false => None,
                };
                let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                Ok(Identity::File {
                    path: path.canonicalize().with_context(cannot)?,
                    bytes,
                    changed: changed.and_then(|at| u64::try_from(at.as_nanos()).ok()),
                })
            }
        }
    }

    /// How this is typed, without a secret.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(file) => quoted(file.path()),
            Self::Unit(unit) => unit.0.place.url.to_string(),
        }
    }

    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file.path()),
            Self::Unit(_) => None,
        }
    }

    /// Makes a span read as zeros.
    pub(super) async fn clear(&self, span: Span) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.trim(span).await?),
            // UNMAP may leave blocks as they are that it does not fit.
            Self::Unit(unit) => Ok(unit.1.write_zeroes(span).await?),
        }
    }

    /// Lets what is read next come from the disk, and not from what this machine remembers of writing it.
    pub(super) fn forget(&self) -> Result<()> {
        if let Self::File(file) = self {
            let cannot = || format!("cannot read {} back", file.path().display());
            let opened = File::open(file.path()).with_context(cannot)?;
            fadvise(&opened, 0, None, Advice::DontNeed).with_context(cannot)?;
        }
        Ok(())
    }

    /// Logs out.
    pub(super) async fn close(&self) {
        if let Self::Unit(unit) = self {
            unit.0.close().await;
        }
    }

    /// Asks whether a unit may be overwritten; files are named by who types them.
    pub(super) async fn ask_consent(&self, yes: bool) -> Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Unit(unit) => {
                let (reached, remote) = unit.as_ref();
                if remote.is_read_only() {
                    let text = format!("{} is write-protected", reached.place.url);
                    return Err(Told::new(Kind::WriteProtected, text).into());
                }
                let bytes = remote.geometry().bytes();
                reached
                    .ask_consent(bytes, "iscsi copy overwrites", yes)
                    .await
            }
        }
    }
}

/// True if a file begins as qcow2 images do.
fn is_qcow2(path: &Path) -> Result<bool> {
    let cannot = || format!("cannot read {}", path.display());
    let mut magic = Vec::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(4).read_to_end(&mut magic).with_context(cannot)?;
    Ok(magic == b"QFI\xfb")
}

/// What a volume does, with errors that say why.
impl Side {
    pub(super) fn geometry(&self) -> Geometry {
        match self {
            Self::File(file) => file.geometry(),
            Self::Unit(unit) => unit.1.geometry(),
        }
    }

    pub(super) async fn read(&self, span: Span) -> Result<Bytes> {
        match self {
            Self::File(file) => Ok(file.read(span, Class::Demand).await?),
            Self::Unit(unit) => Ok(unit.1.read_at(span.offset(), span.length()).await?),
        }
    }

    pub(super) async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.write(offset, bytes).await?),
            Self::Unit(unit) => Ok(unit.1.write_at(offset, bytes).await?),
        }
    }

    pub(super) async fn flush(&self) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.flush().await?),
            Self::Unit(unit) => Ok(unit.1.synchronize().await?),
        }
    }

    pub(super) async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        match self {
            Self::File(file) => Ok(file.allocation(span).await?),
            Self::Unit(unit) => {
                let (kind, length) = unit.1.allocation_at(span.offset(), span.length()).await?;
                Ok((kind, Span::new(span.offset(), length)))
            }
        }
    }
}
