//! Where registrations and a reservation survive the loss of power (SPC-4 §5.13.5).
//!
//! The file holds the whole, little endian, and is replaced as a whole: whatever happens, it has either the state
//! before a command or the one after it. A file that is damaged is an error when the unit is opened: a reservation
//! that is lost in silence is two writers on one disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};
use iscsi_proto::name::{IscsiName, MAX_NAME_BYTES};
use iscsi_proto::scsi::persistent::ReservationType;

use super::persistent::{MAX_REGISTRATIONS, Persistent, Reservation};
use crate::sessions::ItNexus;

/// Why a file cannot be what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("it holds no reservations")]
    Magic,
    #[error("it is of version {0}, which is not known here")]
    Version(u32),
    #[error("it is longer or shorter than it says")]
    Length,
    #[error("it is damaged: the checksum is wrong")]
    Checksum,
    #[error("it says what cannot be")]
    Content,
}

/// The file of one unit.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    folder: PathBuf,
}

impl StateFile {
    pub(super) fn new(path: &Path) -> Self {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        Self {
            path: path.to_owned(),
            folder: folder.unwrap_or_else(|| Path::new(".")).to_owned(),
        }
    }

    /// What is kept; none if nothing is.
    pub(super) fn load(&self) -> io::Result<Option<Persistent>> {
        // A folder that is missing shall not be noticed by an initiator.
        File::open(&self.folder)?;
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        decode(&bytes)
            .map(Some)
            .map_err(|damage| io::Error::new(ErrorKind::InvalidData, damage))
    }

    /// Keeps what shall survive; it is on the disk when this returns.
    pub(super) fn store(&self, state: &Persistent) -> io::Result<()> {
        if state.persists {
            let mut beside = self.path.clone().into_os_string();
            beside.push(".new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(&encode(state))?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
        } else {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(&self.folder)?.sync_all()
    }
}

fn encode(state: &Persistent) -> Vec<u8> {
    let reservation = state.reservation.as_ref();
    let holder = reservation.and_then(Reservation::holder);
    let holder = holder.and_then(|holder| {
        let at = state.registrations.keys().position(|nexus| nexus == holder);
        at.and_then(|at| u16::try_from(at).ok())
    });
    let mut body = Vec::new();
    body.put_u16_le(u16::try_from(state.registrations.len()).unwrap_or(u16::MAX));
    body.put_u8(reservation.map_or(0, |reservation| reservation.kind().code()));
    body.put_u8(0);
    body.put_u16_le(holder.unwrap_or(NO_HOLDER));
    for (nexus, key) in &state.registrations {
        body.put_u64_le(*key);
        body.put_u16_le(nexus.relative_port);
        body.put_slice(&nexus.isid);
        let name = nexus.initiator.as_str();
        body.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        body.put_slice(name.as_bytes());
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.put_slice(&MAGIC);
    out.put_u32_le(VERSION);
    out.put_u32_le(u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX));
    out.put_u32_le(crc32c::crc32c(&body));
    out.put_slice(&body);
    out
}

fn decode(bytes: &[u8]) -> Result<Persistent, Damage> {
    let mut rest = bytes.strip_prefix(&MAGIC).ok_or(Damage::Magic)?;
    let version = rest.try_get_u32_le().map_err(|_| Damage::Length)?;
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let length = rest.try_get_u32_le().map_err(|_| Damage::Length)?;
    let checksum = rest.try_get_u32_le().map_err(|_| Damage::Length)?;
    if usize::try_from(length) != Ok(bytes.len()) {
        return Err(Damage::Length);
    }
    if checksum != crc32c::crc32c(rest) {
        return Err(Damage::Checksum);
    }
    let state = decode_body(rest).ok_or(Damage::Content)?;
    // There is but one way to write a state, so nothing was doubled, out of order or left over.
    if encode(&state) != bytes {
        return Err(Damage::Content);
    }
    Ok(state)
}

fn decode_body(mut body: &[u8]) -> Option<Persistent> {
    let count = usize::from(body.try_get_u16_le().ok()?);
    let kind = body.try_get_u8().ok()?;
    body.try_get_u8().ok()?;
    let holder = usize::from(body.try_get_u16_le().ok()?);
    if count > MAX_REGISTRATIONS {
        return None;
    }
    let mut state = Persistent {
        persists: true,
        ..Persistent::default()
    };
    for _ in 0..count {
        let (nexus, key) = decode_registration(&mut body)?;
        state.registrations.insert(nexus, key);
    }
    if kind != 0 {
        let kind = ReservationType::from_code(kind)?;
        let holder = match kind.all_registrants() {
            true => state.registrations.keys().next()?,
            false => state.registrations.keys().nth(holder)?,
        };
        state.reservation = Some(Reservation::new(kind, holder));
    }
    Some(state)
}

fn decode_registration(body: &mut &[u8]) -> Option<(ItNexus, u64)> {
    let key = body.try_get_u64_le().ok().filter(|key| *key != 0)?;
    let relative_port = body.try_get_u16_le().ok()?;
    let mut isid = [0; 6];
    body.try_copy_to_slice(&mut isid).ok()?;
    let length = usize::from(body.try_get_u8().ok()?);
    let (name, behind) = body.split_at_checked(length)?;
    *body = behind;
    let initiator: IscsiName = std::str::from_utf8(name).ok()?.parse().ok()?;
    let nexus = ItNexus {
        initiator,
        isid,
        relative_port,
    };
    Some((nexus, key))
}

const MAGIC: [u8; 8] = *b"iscsi-pr";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;
/// Where one nexus holds nothing.
const NO_HOLDER: u16 = u16::MAX;
/// Key, port, ISID and the length of the name, then the name.
const MAX_REGISTRATION_BYTES: usize = 8 + 2 + 6 + 1 + MAX_NAME_BYTES;
const MAX_FILE_BYTES: u64 = (HEADER_BYTES + 6 + MAX_REGISTRATIONS * MAX_REGISTRATION_BYTES) as u64;

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
