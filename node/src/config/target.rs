//! `[[target]]`: files that are served as they are. `vmthunder target` is a short way to write one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use iscsi_proto::name::IscsiName;
use iscsi_target::{NamePattern, Network, Redirect};
use serde::Deserialize;
use vmthunder_volume::{BlockSize, Space};

use super::access::{Access, ChapSection, RedirectSection};
use super::{check_name, written};
use crate::names;

/// Logical units of one target at the most: what the simplest form of a LUN can number (SAM-5 §4.7.7.2).
pub(crate) const MOST_LUNS: u16 = 256;

/// The longest serial number: what fits into every page that names it.
const MOST_SERIAL_BYTES: usize = 32;

/// `[[target]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetSection {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "written::list")]
    pub(crate) initiators: Vec<NamePattern>,
    #[serde(default, deserialize_with = "written::list")]
    pub(crate) networks: Vec<Network>,
    pub(crate) chap: Option<ChapSection>,
    #[serde(default, deserialize_with = "redirects")]
    pub(crate) redirect: Vec<Redirect>,
    #[serde(default)]
    pub(crate) lun: Vec<LunSection>,
}

/// `[[target.lun]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LunSection {
    pub(crate) file: PathBuf,
    pub(crate) number: Option<u16>,
    #[serde(default, deserialize_with = "written::some_byte_size")]
    pub(crate) size: Option<ByteSize>,
    #[serde(default = "b512", deserialize_with = "written::block_size")]
    pub(crate) block_size: BlockSize,
    #[serde(default)]
    pub(crate) read_only: bool,
    #[serde(default)]
    pub(crate) removable: bool,
    #[serde(default = "yes")]
    pub(crate) thin: bool,
    pub(crate) serial: Option<String>,
}

fn b512() -> BlockSize {
    BlockSize::B512
}

fn yes() -> bool {
    true
}

fn redirects<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Redirect>, D::Error> {
    let sections = Vec::<RedirectSection>::deserialize(from)?;
    Ok(sections.into_iter().map(Redirect::from).collect())
}

/// A target of files.
#[derive(Debug)]
pub(crate) struct FileTarget {
    /// What initiators log in to.
    pub(crate) name: IscsiName,
    /// Who may.
    pub(crate) access: Access,
    /// Its logical units, by number.
    pub(crate) disks: BTreeMap<u16, Disk>,
}

/// A file or block device, and how it is served.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// The file.
    pub(crate) file: PathBuf,
    /// Created with this size if it is missing; else it must have it.
    pub(crate) bytes: Option<u64>,
    /// The size of its blocks.
    pub(crate) block_size: BlockSize,
    /// Writes are refused.
    pub(crate) read_only: bool,
    /// The medium can be ejected.
    pub(crate) removable: bool,
    /// When it takes its space.
    pub(crate) space: Space,
    /// What it is recognised by.
    pub(crate) serial: Option<String>,
}

impl TargetSection {
    pub(super) fn check(self, folder: &Path) -> Result<FileTarget> {
        let name = name(&self.name)?;
        ensure!(
            !self.lun.is_empty(),
            "it has no LUN: name a file in a section [[target.lun]]"
        );
        let mut disks = BTreeMap::new();
        for (position, lun) in self.lun.into_iter().enumerate() {
            let number = match lun.number {
                Some(number) => number,
                None => u16::try_from(position).unwrap_or(u16::MAX),
            };
            ensure!(
                number < MOST_LUNS,
                "LUN {number}: the numbers are 0 to {}",
                MOST_LUNS - 1
            );
            let file = lun.file.display().to_string();
            let disk = lun.check(folder).with_context(|| file.clone())?;
            ensure!(
                disks.insert(number, disk).is_none(),
                "{file}: there are two LUNs {number}"
            );
        }
        Ok(FileTarget {
            name,
            access: Access {
                initiators: self.initiators,
                networks: self.networks,
                chap: self.chap.map(|chap| chap.check(folder)).transpose()?,
                redirects: self.redirect,
            },
            disks,
        })
    }
}

impl LunSection {
    fn check(self, folder: &Path) -> Result<Disk> {
        if let Some(size) = self.size.map(|size| size.as_u64()) {
            let block = u64::from(self.block_size.bytes());
            ensure!(
                size > 0 && size.is_multiple_of(block),
                "a size of {size} bytes is not one block or more of {block} bytes"
            );
        }
        if let Some(serial) = &self.serial {
            let good = serial.bytes().all(|byte| byte.is_ascii_graphic());
            ensure!(
                good && (1..=MOST_SERIAL_BYTES).contains(&serial.len()),
                "the serial number {serial:?} is not 1 to {MOST_SERIAL_BYTES} letters, digits and signs"
            );
        }
        Ok(Disk {
            file: folder.join(self.file),
            bytes: self.size.map(|size| size.as_u64()),
            block_size: self.block_size,
            read_only: self.read_only,
            removable: self.removable,
            space: if self.thin {
                Space::Sparse
            } else {
                Space::Full
            },
            serial: self.serial,
        })
    }
}

/// A target's name: a whole one, or what follows this program's prefix.
fn name(text: &str) -> Result<IscsiName> {
    let whole = ["iqn.", "eui.", "naa."].iter().any(|kind| {
        text.get(..4)
            .is_some_and(|head| head.eq_ignore_ascii_case(kind))
    });
    if whole {
        return text.parse().with_context(|| format!("the name {text}"));
    }
    check_name("target.name", text)?;
    Ok(names::target(text))
}

/// Checks what targets can only get wrong together.
pub(super) fn check_all(targets: &[FileTarget]) -> Result<()> {
    let mut names = BTreeMap::new();
    let (mut files, mut serials) = (BTreeMap::new(), BTreeMap::new());
    for target in targets {
        ensure!(
            names.insert(&target.name, ()).is_none(),
            "two targets are named {}",
            target.name
        );
        for disk in target.disks.values() {
            let before = files.insert(&disk.file, disk.read_only);
            ensure!(
                before.is_none_or(|read_only| read_only && disk.read_only),
                "{} is listed twice: whoever writes to it must be its only user",
                disk.file.display()
            );
            let Some(serial) = &disk.serial else { continue };
            let other = serials.insert(serial, &disk.file);
            ensure!(
                other.is_none_or(|other| *other == disk.file),
                "two files have the serial number {serial}: initiators would take them for one disk"
            );
        }
    }
    Ok(())
}
