//! Files that are served as they are: opened or created, exported, listed, resized.

use std::ffi::OsStr;
use std::fs::FileType;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use iscsi_proto::name::IscsiName;
use iscsi_proto::url::IscsiUrl;
use iscsi_target::{AccessRules, Target, Unit, UnitIdentity};
use rustix::fs::{Access as Permissions, access};
use tracing::{info, warn};
use vmthunder_volume::{Access, RawFile, Resize, ResizeError, Space, Volume};

use crate::config::{Config, Disk, FileTarget};
use crate::export::{Base, Export};
use crate::names;
use crate::portals::{announce, urls};
use crate::secrets;
use crate::status::{LunStatus, TargetStatus};

/// The files that a node serves, open and locked.
pub(crate) struct Files {
    targets: Vec<Opened>,
}

struct Opened {
    name: IscsiName,
    access: AccessRules,
    luns: Vec<OpenLun>,
}

struct OpenLun {
    number: u16,
    disk: Disk,
    volume: Arc<RawFile>,
    reservations: Option<PathBuf>,
}

impl Files {
    /// Opens every file of a configuration, and creates those that are missing where a size says so.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let state = match &config.state {
            Some(folder) if !config.targets.is_empty() => Some(state_folder(folder)?),
            _ => None,
        };
        Ok(Self {
            targets: open_all(&config.targets, state.as_deref())?,
        })
    }

    /// Offers them to initiators.
    pub(crate) fn export(&self, target: &Target<Export>) -> Result<()> {
        for opened in &self.targets {
            let mut export = iscsi_target::Export::new(opened.name.clone(), opened.units());
            export.access = opened.access.clone();
            target
                .export(export)
                .with_context(|| format!("target {}", opened.name))?;
        }
        Ok(())
    }

    /// Says on standard output that they are there.
    pub(crate) fn announce(&self, hosts: &[String]) {
        for opened in &self.targets {
            announce(
                hosts,
                &opened.name,
                opened.luns.iter().map(|lun| lun.number),
            );
        }
    }

    /// What is served as what.
    pub(crate) fn status(&self, hosts: &[String]) -> Vec<TargetStatus> {
        let status = |opened: &Opened| TargetStatus {
            name: opened.name.to_string(),
            luns: opened
                .luns
                .iter()
                .map(|lun| lun.status(&opened.name, hosts))
                .collect(),
        };
        self.targets.iter().map(status).collect()
    }

    /// Gives a LUN another size, or looks for its new one, and tells its initiators.
    pub(crate) async fn resize(
        &self,
        target: &Target<Export>,
        hosts: &[String],
        which: &str,
        bytes: Option<u64>,
        shrink: bool,
    ) -> Result<LunStatus> {
        let (opened, lun) = self.find(which)?;
        let before = lun.volume.geometry();
        let resized = match bytes {
            Some(bytes) => {
                let space = lun.disk.space;
                lun.volume
                    .resize(Resize {
                        bytes,
                        space,
                        shrink,
                    })
                    .await
            }
            None => lun.volume.refresh(shrink).await,
        };
        let path = lun.disk.file.display();
        let now = resized.map_err(|error| match error {
            ResizeError::Shrinks { .. } => anyhow!(
                "{path}: {error}; what lies behind the new end would be lost: if that is meant, give --shrink"
            ),
            ResizeError::Device => anyhow!(
                "{path}: {error} (lvextend, for example); then leave the size out here"
            ),
            ResizeError::ReadOnly if bytes.is_some() => anyhow!(
                "{path}: {error} here; if others made it larger, leave the size out"
            ),
            other => anyhow!(other).context(path.to_string()),
        })?;
        if now != before {
            target.resized(&opened.name, lun.number);
            info!(target = %opened.name, lun = lun.number, from = before.bytes(), to = now.bytes(), "resized");
        }
        Ok(lun.status(&opened.name, hosts))
    }

    /// Makes what initiators wrote safe.
    pub(crate) async fn flush(&self) -> Result<()> {
        let mut done = Ok(());
        for lun in self.targets.iter().flat_map(|opened| &opened.luns) {
            let flushed = lun.volume.flush().await;
            let flushed =
                flushed.with_context(|| format!("cannot flush {}", lun.disk.file.display()));
            // The others are flushed all the same.
            done = done.and(flushed);
        }
        done
    }

    fn find(&self, which: &str) -> Result<(&Opened, &OpenLun)> {
        let (target, number) = place(which)?;
        let named = |opened: &&Opened| {
            let name = opened.name.as_str();
            name == target || name.rsplit_once(':').is_some_and(|(_, end)| end == target)
        };
        let mut fitting = self.targets.iter().filter(named);
        let opened = match (fitting.next(), fitting.next()) {
            (Some(only), None) => only,
            (Some(_), Some(_)) => bail!("several targets end with `{target}`: give the whole name"),
            (None, _) => {
                let known: Vec<_> = self
                    .targets
                    .iter()
                    .map(|opened| opened.name.as_str())
                    .collect();
                bail!(
                    "no target of files is named `{target}`; there are: {}",
                    known.join(", ")
                )
            }
        };
        let lun = opened.luns.iter().find(|lun| lun.number == number);
        let lun = lun.with_context(|| format!("{} has no LUN {number}", opened.name))?;
        Ok((opened, lun))
    }
}

impl Opened {
    fn units(&self) -> Vec<Unit<Export>> {
        self.luns.iter().map(|lun| lun.unit(&self.name)).collect()
    }
}

impl OpenLun {
    /// What initiators recognise the disk by.
    fn identity(&self, target: &IscsiName) -> UnitIdentity {
        let number = self.number.to_string();
        match &self.disk.serial {
            Some(serial) => UnitIdentity {
                serial: serial.clone(),
                ..UnitIdentity::new(names::designator(&["serial", serial]), PRODUCT)
            },
            None => {
                // Two files are two disks, wherever they are: initiators would join what has one identity.
                let file = std::path::absolute(&self.disk.file);
                let file = file.unwrap_or_else(|_| self.disk.file.clone());
                let (machine, file) = (names::machine(), file.to_string_lossy());
                let parts = ["gateway", &machine, &file, target.as_str(), &number];
                UnitIdentity::new(names::designator(&parts), PRODUCT)
            }
        }
    }

    fn unit(&self, target: &IscsiName) -> Unit<Export> {
        let identity = self.identity(target);
        let volume = Export::Base(Base::File(Arc::clone(&self.volume)));
        let mut unit = Unit::new(self.number, volume, identity);
        unit.read_only = self.disk.read_only;
        unit.thin = self.disk.space == Space::Sparse;
        unit.removable = self.disk.removable;
        unit.reservations_file.clone_from(&self.reservations);
        unit.atomic_file = self.reservations.as_deref().map(journal);
        unit
    }

    fn status(&self, target: &IscsiName, hosts: &[String]) -> LunStatus {
        let geometry = self.volume.geometry();
        LunStatus {
            target: target.to_string(),
            lun: self.number,
            file: self.disk.file.clone(),
            bytes: geometry.bytes(),
            configured_bytes: self.disk.bytes,
            block_bytes: geometry.block_size().bytes(),
            read_only: self.disk.read_only,
            removable: self.disk.removable,
            thin: self.disk.space == Space::Sparse,
            serial: self.identity(target).serial,
            urls: urls(hosts, target, self.number),
        }
    }
}

/// What INQUIRY calls a file.
const PRODUCT: &str = "gateway";

/// The folder of reservations inside the folder of what outlives a node.
fn state_folder(state: &Path) -> Result<PathBuf> {
    let folder = state.join("reservations");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// What is wrong is found before anything is created: secrets first, then the files that are there.
fn open_all(targets: &[FileTarget], state: Option<&Path>) -> Result<Vec<Opened>> {
    let mut opened = Vec::new();
    for target in targets {
        let access = secrets::rules(&target.access);
        opened.push(Opened {
            name: target.name.clone(),
            access: access.with_context(|| format!("target {}", target.name))?,
            luns: Vec::new(),
        });
    }
    for missing in [false, true] {
        for (target, opened) in targets.iter().zip(&mut opened) {
            let disks = target.disks.iter();
            for (number, disk) in disks.filter(|(_, disk)| is_missing(disk) == missing) {
                let volume = Arc::new(open_disk(disk)?);
                let place = format!("{}.{number}", target.name);
                opened.luns.push(OpenLun {
                    number: *number,
                    disk: disk.clone(),
                    volume,
                    reservations: reservations(disk, &place, state)?,
                });
            }
        }
    }
    for target in &mut opened {
        target.luns.sort_by_key(|lun| lun.number);
    }
    Ok(opened)
}

/// True if a file has to be created.
fn is_missing(disk: &Disk) -> bool {
    let found = std::fs::metadata(&disk.file);
    disk.bytes.is_some() && found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Where the registrations of a LUN are kept. Beside a file that nobody else can write to, since its lock guards them
/// too; beside a block device they would not outlive the next start of the system.
fn reservations(disk: &Disk, place: &str, state: Option<&Path>) -> Result<Option<PathBuf>> {
    if let Some(folder) = state {
        return Ok(Some(folder.join(place)));
    }
    let kind = std::fs::metadata(&disk.file)?.file_type();
    if disk.read_only || kind.is_block_device() {
        return Ok(None);
    }
    let folder = match disk.file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if access(folder, Permissions::WRITE_OK).is_err() {
        warn!(
            "nothing can be kept beside {}: no persistent reservations that survive the loss of power, and no WRITE \
            ATOMIC; a folder for them would be --state DIR",
            disk.file.display()
        );
        return Ok(None);
    }
    let mut beside = disk.file.clone().into_os_string();
    beside.push(".reservations");
    Ok(Some(beside.into()))
}

/// Where the journal of atomic writes is, which lies beside the registrations.
fn journal(reservations: &Path) -> PathBuf {
    let mut path = reservations.to_owned();
    if path.extension() == Some(OsStr::new("reservations")) {
        path.set_extension("");
    }
    let mut path = path.into_os_string();
    path.push(".atomic");
    path.into()
}

fn open_disk(disk: &Disk) -> Result<RawFile> {
    let path = disk.file.display();
    let kind = match (std::fs::metadata(&disk.file), disk.bytes) {
        (Ok(found), _) => found.file_type(),
        (Err(error), Some(bytes)) if error.kind() == ErrorKind::NotFound => {
            ensure!(
                !disk.read_only,
                "{path} is missing, and would be created for reading only: leave out the size or the read-only"
            );
            let made = RawFile::create(&disk.file, bytes, disk.block_size, disk.space);
            return made.with_context(|| format!("cannot create {path} with {bytes} bytes"));
        }
        (Err(error), None) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "cannot open {path}: there is no such file; a size would create it, for example 20GiB"
            )
        }
        (Err(error), _) => return Err(error).with_context(|| format!("cannot open {path}")),
    };
    let access = if disk.read_only {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let volume = RawFile::open(&disk.file, access, disk.block_size)
        .with_context(|| format!("cannot open {path}"))?;
    check_size(disk, kind, &volume)?;
    Ok(volume)
}

fn check_size(disk: &Disk, kind: FileType, volume: &RawFile) -> Result<()> {
    let path = disk.file.display();
    let (served, block) = (volume.geometry().bytes(), disk.block_size.bytes());
    ensure!(
        served > 0,
        "{path} is smaller than one block of {block} bytes"
    );
    let found = match kind.is_file() {
        true => std::fs::metadata(&disk.file)?.len(),
        false => served,
    };
    if let Some(wanted) = disk.bytes {
        ensure!(
            found == wanted,
            "{path} is there and has {found} bytes, not the {wanted} that its size should be; nothing was changed: \
            say {found}, or leave the size out and use `vmthunder lun resize`"
        );
    }
    if found > served {
        warn!(
            "{path} has {found} bytes: what is behind the last whole block of {block} is not served"
        );
    }
    Ok(())
}

/// The target and the number that `TARGET[/LUN]` or a URL means.
fn place(text: &str) -> Result<(String, u16)> {
    if text.starts_with("iscsi://") {
        let url: IscsiUrl = text.parse()?;
        let target = url.target().context("the URL names no target")?;
        return Ok((target.to_string(), url.lun().unwrap_or(0)));
    }
    match text.split_once('/') {
        None => Ok((text.to_owned(), 0)),
        Some((target, number)) => {
            let number = number
                .parse()
                .with_context(|| format!("`{number}` is no number of a LUN"))?;
            Ok((target.to_owned(), number))
        }
    }
}
