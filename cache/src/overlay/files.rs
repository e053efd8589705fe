//! The three files of an overlay in their directory.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use zerocopy::{FromZeros, IntoBytes};

use super::OverlayError;
use super::format::{Header, LOG_START, MAP_START, RawHeader};
use super::masks::{PAGE_BYTES, RAW_PAGE_BYTES};
use crate::disk::{Disk, FileDisk};

/// Where an overlay keeps its bytes.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The overlay's own blocks, each at its own offset.
    pub(super) data: Arc<dyn Disk>,
    /// What the overlay is, and the masks as of the last flush.
    pub(super) map: Arc<dyn Disk>,
    /// What changed in the masks since.
    pub(super) recent: Arc<dyn Disk>,
}

impl Files {
    /// Makes a new overlay in the directory. The file `map` appears last and whole: without it there is none.
    pub(super) fn create(directory: &Path, header: &Header) -> Result<Self, OverlayError> {
        fs::create_dir_all(directory)?;
        let unfinished = directory.join("map.new");
        let map = FileDisk::open_or_create(&unfinished)?;
        if !map.lock()? {
            return Err(OverlayError::InUse);
        }
        if fs::exists(directory.join("map"))? {
            fs::remove_file(&unfinished)?;
            return Err(OverlayError::Exists);
        }
        let data = FileDisk::open_or_create(&directory.join("data"))?;
        let recent = FileDisk::open_or_create(&directory.join("recent"))?;
        let files = Self {
            data: Arc::new(data),
            map: Arc::new(map),
            recent: Arc::new(recent),
        };
        files.lay_out(header)?;
        fs::rename(&unfinished, directory.join("map"))?;
        File::open(directory)?.sync_all()?;
        Ok(files)
    }

    /// Opens the overlay in the directory, and keeps others out.
    pub(super) fn open(directory: &Path) -> Result<Self, OverlayError> {
        let map = FileDisk::open(&directory.join("map"))?;
        if !map.lock()? {
            return Err(OverlayError::InUse);
        }
        let data = FileDisk::open(&directory.join("data"))?;
        let recent = FileDisk::open_or_create(&directory.join("recent"))?;
        Ok(Self {
            data: Arc::new(data),
            map: Arc::new(map),
            recent: Arc::new(recent),
        })
    }

    /// Gives the space of an overlay back but for its header, which it returns.
    pub(super) fn give_up(directory: &Path) -> Result<Header, OverlayError> {
        let map = FileDisk::open(&directory.join("map"))?;
        let header = read_header(&map)?;
        FileDisk::open_or_create(&directory.join("data"))?.set_size(0)?;
        FileDisk::open_or_create(&directory.join("recent"))?.set_size(0)?;
        map.set_size(MAP_START)?;
        Ok(header)
    }

    /// True while somebody keeps others out of the directory.
    pub(super) fn are_open(directory: &Path) -> io::Result<bool> {
        match FileDisk::open(&directory.join("map")) {
            Ok(map) => Ok(!map.lock()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes an empty overlay, on media when this returns.
    pub(super) fn lay_out(&self, header: &Header) -> io::Result<()> {
        for disk in [&self.data, &self.recent, &self.map] {
            disk.set_size(0)?;
        }
        self.data.set_size(header.bytes)?;
        self.recent.set_size(LOG_START)?;
        self.map
            .set_size(MAP_START + header.bytes.div_ceil(PAGE_BYTES) * RAW_PAGE_BYTES)?;
        self.map.write_at(0, header.raw().as_bytes())?;
        for disk in [&self.data, &self.recent, &self.map] {
            disk.sync()?;
        }
        Ok(())
    }

    /// Makes everything survive the loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        for disk in [&self.data, &self.recent, &self.map] {
            disk.sync()?;
        }
        Ok(())
    }

    /// What the overlay in these files is.
    pub(super) fn header(&self) -> Result<Header, OverlayError> {
        let header = read_header(self.map.as_ref())?;
        let pages = header.bytes.div_ceil(PAGE_BYTES);
        if self.data.size()? < header.bytes || self.map.size()? < MAP_START + pages * RAW_PAGE_BYTES
        {
            return Err(OverlayError::Damaged);
        }
        Ok(header)
    }
}

fn read_header(map: &dyn Disk) -> Result<Header, OverlayError> {
    if map.size()? < MAP_START {
        return Err(OverlayError::Damaged);
    }
    let mut raw = RawHeader::new_zeroed();
    map.read_at(0, raw.as_mut_bytes())?;
    raw.parse()
}
