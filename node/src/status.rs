//! What a node tells about itself.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bytesize::ByteSize;
use comfy_table::{Table, presets};
use iscsi_target::SessionSummary;
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

use crate::members::{SwarmStatus, print_swarm};
use crate::observe::line;

/// What a node does, as `vmthunder status --json` prints it. Sizes are in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The node's name.
    pub(crate) name: String,
    /// The program's version.
    pub(crate) version: String,
    /// Seconds since it began to serve.
    pub(crate) uptime_seconds: u64,
    /// Initiators that are logged in.
    pub(crate) sessions: usize,
    /// Data that left this node over iSCSI.
    pub(crate) sent_bytes: u64,
    /// Data that guests wrote to this node over iSCSI.
    pub(crate) received_bytes: u64,
    /// The cache, where there is one.
    pub(crate) cache: Option<CacheStatus>,
    /// The images that are served.
    pub(crate) images: Vec<ImageStatus>,
    /// The images that are not served yet: their origins were never reached.
    #[serde(default)]
    pub(crate) awaited: Vec<AwaitedStatus>,
    /// The other nodes of the swarm.
    #[serde(default)]
    pub(crate) swarm: Option<SwarmStatus>,
    /// The space where instances are kept; none for a mere gateway.
    #[serde(default)]
    pub(crate) data: Option<SpaceStatus>,
    /// The instances.
    pub(crate) instances: Vec<InstanceStatus>,
    /// The files that are served as they are.
    #[serde(default)]
    pub(crate) targets: Vec<TargetStatus>,
    /// Who is logged in.
    #[serde(default)]
    pub(crate) initiators: Vec<InitiatorStatus>,
}

/// The file system that a folder is on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SpaceStatus {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
    /// What can still be written.
    pub(crate) free_bytes: u64,
}

impl SpaceStatus {
    /// Of this folder, if the system tells.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let found = statvfs(folder).ok()?;
        Some(Self {
            folder: folder.to_owned(),
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }
}

/// An image that is not served yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AwaitedStatus {
    /// Its name.
    pub(crate) name: String,
    /// Why it could not be had when it was last asked for.
    pub(crate) cause: String,
}

/// A target of files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TargetStatus {
    /// Its name.
    pub(crate) name: String,
    /// Its logical units.
    pub(crate) luns: Vec<LunStatus>,
}

/// A file as a logical unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LunStatus {
    /// The target's name.
    pub(crate) target: String,
    /// Its number.
    pub(crate) lun: u16,
    /// The file.
    pub(crate) file: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
    /// The size that it should have had at the start.
    pub(crate) configured_bytes: Option<u64>,
    /// The size of its blocks.
    pub(crate) block_bytes: u32,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
    /// Whether the medium can be ejected.
    pub(crate) removable: bool,
    /// Whether space is taken by writes and given back by UNMAP.
    pub(crate) thin: bool,
    /// The serial number, by which initiators and the log name it.
    pub(crate) serial: String,
    /// Where it can be attached.
    pub(crate) urls: Vec<String>,
}

/// An initiator that is logged in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InitiatorStatus {
    /// Its name.
    pub(crate) initiator: String,
    /// Where it connected from.
    pub(crate) peer: String,
    /// The target; none in a discovery session.
    pub(crate) target: Option<String>,
}

impl From<SessionSummary> for InitiatorStatus {
    fn from(session: SessionSummary) -> Self {
        Self {
            initiator: session.initiator.to_string(),
            peer: session.peer.to_string(),
            target: session.target.map(|target| target.to_string()),
        }
    }
}

/// The node's cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CacheStatus {
    /// How much it can hold.
    pub(crate) capacity_bytes: u64,
    /// How much it holds.
    pub(crate) resident_bytes: u64,
    /// Fills that failed; what they held is fetched again.
    pub(crate) fill_errors: u64,
    /// Fills that were left out, because more was fetched than its disk takes; what they held is fetched again.
    #[serde(default)]
    pub(crate) fill_drops: u64,
    /// Why it is not used, or not in full.
    #[serde(default)]
    pub(crate) trouble: Option<String>,
}

/// An image of the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageStatus {
    /// Its name.
    pub(crate) name: String,
    /// Where it is read from: a path or a URL.
    pub(crate) source: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its identity, if it has a manifest.
    pub(crate) root: Option<String>,
    /// How its origin is; none for a file.
    #[serde(default)]
    pub(crate) origin: Option<OriginStatus>,
    /// How the node uses it.
    #[serde(default)]
    pub(crate) mode: ModeName,
    /// Its copy on this node's disk, if it is released.
    #[serde(default)]
    pub(crate) local: Option<LocalStatus>,
    /// Why it could not be released, when that was tried last.
    #[serde(default)]
    pub(crate) release_failure: Option<String>,
    /// Where it can be attached.
    pub(crate) urls: Vec<String>,
    /// What was read from the cache.
    pub(crate) from_cache: u64,
    /// What was fetched from peers.
    pub(crate) from_peers: u64,
    /// What was fetched from the origin.
    pub(crate) from_origin: u64,
    /// Answers that were not what the manifest says, and were thrown away.
    pub(crate) corrupt: u64,
}

impl ImageStatus {
    /// How the node uses it, for people.
    pub(crate) fn way(&self) -> String {
        let way = match (self.mode, &self.local) {
            (ModeName::Normal, _) => "normal".to_owned(),
            (ModeName::Passthrough, _) => "passthrough".to_owned(),
            (ModeName::Released, Some(local)) if local.state == LocalState::Complete => format!(
                "released, {} on this disk are all that is needed",
                size(local.total_bytes)
            ),
            (ModeName::Released, Some(local)) => format!("is released, {local}"),
            (ModeName::Released, None) => "released".to_owned(),
        };
        match &self.release_failure {
            Some(cause) => format!("{way}; was not released: {cause}"),
            None => way,
        }
    }

    /// True if its origin is of no concern.
    fn is_released(&self) -> bool {
        let local = self.local.as_ref();
        local.is_some_and(|local| local.state == LocalState::Complete)
    }
}

/// How a node uses an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ModeName {
    /// Through the cache and the swarm.
    #[default]
    Normal,
    /// Straight from its origin, verified: neither the cache nor peers are asked.
    Passthrough,
    /// From this node's disk alone.
    #[value(skip)]
    Released,
}

/// How an image's origin is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OriginStatus {
    /// Whether it can be used.
    pub(crate) state: OriginState,
    /// Seconds since it did not answer.
    pub(crate) silent_seconds: u64,
    /// Extents that it has with other content, as far as was noticed in the last minute.
    pub(crate) wrong_extents: usize,
}

/// Whether an origin can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OriginState {
    /// As far as is known.
    Here,
    /// There is no session with it, or it was not reached since the node began.
    Away,
    /// It is connected and does not answer.
    Silent,
    /// Some of its content is not the image's.
    Wrong,
}

/// An instance of the node, as `instance list --json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InstanceStatus {
    /// Its name.
    pub(crate) name: String,
    /// The image that it began as; empty if nobody can tell.
    pub(crate) image: String,
    /// Its size, if it is served.
    pub(crate) bytes: Option<u64>,
    /// What was written takes so much on disk.
    pub(crate) stored_bytes: Option<u64>,
    /// The most that it may take.
    pub(crate) quota_bytes: Option<u64>,
    /// What its guest's reads do in an outage.
    pub(crate) outage: Option<String>,
    /// Sessions of initiators that are logged in to it.
    pub(crate) sessions: usize,
    /// Whether it is served.
    pub(crate) state: InstanceState,
    /// Why it is not, or not in full.
    pub(crate) cause: Option<String>,
    /// How far it is turned off; none if it reads from the cache and the swarm, or from a file.
    #[serde(default)]
    pub(crate) local: Option<LocalStatus>,
    /// Why it could not be turned off, when that was tried last.
    #[serde(default)]
    pub(crate) turn_off_failure: Option<String>,
    /// Where it can be attached.
    pub(crate) urls: Vec<String>,
}

/// The copy of an image on the node's own disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LocalStatus {
    pub(crate) state: LocalState,
    /// So much of the image is there and right; zeros do not count. Begins again with each state.
    pub(crate) done_bytes: u64,
    /// So much there will be.
    pub(crate) total_bytes: u64,
    /// So much was fetched since the node began.
    pub(crate) fetched_bytes: u64,
    /// How long that takes still.
    pub(crate) eta_seconds: Option<u64>,
    /// Why it does not go on at the moment.
    pub(crate) trouble: Option<String>,
    /// Extents of it that readers found rotten, whether or not they were fetched again.
    pub(crate) rotten_extents: usize,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LocalState {
    /// It is fetched; the instance reads from the cache and the swarm as before.
    Filling,
    /// It is read again from the disk and compared.
    Verifying,
    /// The instance reads from it and needs nobody.
    Complete,
}

impl fmt::Display for LocalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |done: u64| done.saturating_mul(100) / self.total_bytes.max(1);
        match self.state {
            LocalState::Complete => f.write_str("off")?,
            LocalState::Filling => write!(f, "{} % here", part(self.done_bytes))?,
            LocalState::Verifying => write!(f, "{} % verified", part(self.done_bytes))?,
        }
        if let Some(trouble) = &self.trouble {
            write!(f, ", {trouble}")?;
        } else if let Some(seconds) = self.eta_seconds {
            write!(f, ", {seconds} s left")?;
        }
        match self.rotten_extents {
            0 => Ok(()),
            rotten => write!(f, ", {rotten} extents were ROTTEN"),
        }
    }
}

/// Whether an instance is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstanceState {
    /// It is.
    Served,
    /// It is, but the last write that needed space was refused.
    Full,
    /// Not before its image is.
    Waiting,
    /// Something is wrong with it.
    Broken,
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Served => "served",
            Self::Full => "FULL",
            Self::Waiting => "waiting",
            Self::Broken => "BROKEN",
        })
    }
}

/// An instance with all that there is to tell, as `instance show --json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InstanceDetail {
    #[serde(flatten)]
    pub(crate) instance: InstanceStatus,
    /// Its target name.
    pub(crate) target: String,
    /// The identity of its image, if that has a manifest.
    pub(crate) root: Option<String>,
    /// Its snapshots, oldest first.
    pub(crate) snapshots: Vec<SnapshotStatus>,
    /// Who is logged in.
    pub(crate) initiators: Vec<InitiatorStatus>,
}

/// A snapshot of an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotStatus {
    /// Its name.
    pub(crate) name: String,
    /// When it was made: seconds since 1970, UTC.
    pub(crate) created: u64,
    /// What it takes on disk, blocks that it shares with others included.
    pub(crate) stored_bytes: u64,
}

/// A table in the form of all tables of this program.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_header(head.iter().copied());
    table
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Prints a status for people.
pub(crate) fn print(status: &Status) -> Result<()> {
    line(format_args!(
        "{} (vmthunder {}), up {} s",
        status.name, status.version, status.uptime_seconds
    ))?;
    line(format_args!(
        "initiators: {} logged in, read {}, wrote {}",
        status.sessions,
        size(status.sent_bytes),
        size(status.received_bytes)
    ))?;
    if let Some(cache) = &status.cache {
        let errors = match cache.fill_errors {
            0 => String::new(),
            errors => format!(", {errors} fills FAILED"),
        };
        let drops = match cache.fill_drops {
            0 => String::new(),
            drops => format!(", {drops} fills left out"),
        };
        let trouble = cache.trouble.as_ref();
        let trouble = trouble.map_or_else(String::new, |why| format!(", DEGRADED: {why}"));
        line(format_args!(
            "cache: {} of {}{errors}{drops}{trouble}",
            size(cache.resident_bytes),
            size(cache.capacity_bytes)
        ))?;
    }
    if let Some(data) = &status.data {
        let full = if data.free_bytes == 0 { ", FULL" } else { "" };
        line(format_args!(
            "data: {} free of {} in {}{full}",
            size(data.free_bytes),
            size(data.bytes),
            data.folder.display()
        ))?;
    }
    if !status.images.is_empty() {
        print_images(&status.images)?;
    }
    for image in &status.awaited {
        line(format_args!(
            "image {} is waited for: {}",
            image.name, image.cause
        ))?;
    }
    if let Some(swarm) = &status.swarm {
        print_swarm(swarm)?;
    }
    if !status.instances.is_empty() {
        print_instances(&status.instances)?;
    }
    let luns: Vec<_> = status
        .targets
        .iter()
        .flat_map(|target| target.luns.clone())
        .collect();
    if !luns.is_empty() {
        print_luns(&luns)?;
    }
    if status.initiators.is_empty() {
        return Ok(());
    }
    let mut rows = table(&["initiator", "from", "target"]);
    for session in &status.initiators {
        let target = session.target.as_deref().unwrap_or("discovery");
        rows.add_row([&session.initiator, &session.peer, target]);
    }
    line(rows)
}

fn print_images(images: &[ImageStatus]) -> Result<()> {
    let mut rows = table(&[
        "image",
        "size",
        "content",
        "from cache",
        "peers",
        "origin",
        "corrupt",
        "source",
    ]);
    for image in images {
        let root = image
            .root
            .as_deref()
            .map_or("no manifest", |root| root.get(..12).unwrap_or(root));
        let origin = image.origin.as_ref().filter(|_| !image.is_released());
        let source = origin.map_or_else(String::new, |origin| {
            let seconds = origin.silent_seconds;
            match origin.state {
                OriginState::Here => String::new(),
                OriginState::Away => " (AWAY)".to_owned(),
                OriginState::Silent => format!(" (NO ANSWER for {seconds} s)"),
                OriginState::Wrong => format!(" ({} EXTENTS WRONG)", origin.wrong_extents),
            }
        });
        let way = match (image.mode, &image.release_failure) {
            (ModeName::Normal, None) => String::new(),
            _ => format!("\n{}", image.way()),
        };
        let source = format!("{}{source}{way}", image.source);
        rows.add_row([
            image.name.clone(),
            size(image.bytes),
            root.to_owned(),
            size(image.from_cache),
            size(image.from_peers),
            size(image.from_origin),
            image.corrupt.to_string(),
            source,
        ]);
    }
    line(rows)
}

/// Prints files as logical units for people.
pub(crate) fn print_luns(luns: &[LunStatus]) -> Result<()> {
    let mut rows = table(&["LUN", "size", "blocks of", "kind", "serial", "file"]);
    for lun in luns {
        let kind = [
            (lun.thin, "thin"),
            (!lun.thin, "full"),
            (lun.read_only, "read-only"),
            (lun.removable, "removable"),
        ];
        let kind: Vec<_> = kind
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, it)| *it)
            .collect();
        rows.add_row([
            format!("{}/{}", lun.target, lun.lun),
            size(lun.bytes),
            lun.block_bytes.to_string(),
            kind.join(", "),
            lun.serial.clone(),
            lun.file.display().to_string(),
        ]);
    }
    line(rows)
}

/// Prints instances for people.
pub(crate) fn print_instances(instances: &[InstanceStatus]) -> Result<()> {
    let mut rows = table(&[
        "instance",
        "image",
        "size",
        "written",
        "quota",
        "logged in",
        "state",
        "attach as",
    ]);
    for instance in instances {
        rows.add_row([
            instance.name.clone(),
            instance.image.clone(),
            instance.bytes.map_or_else(String::new, size),
            instance.stored_bytes.map_or_else(String::new, size),
            instance.quota_bytes.map_or_else(String::new, size),
            instance.sessions.to_string(),
            match &instance.local {
                Some(local) => format!("{}, {local}", instance.state),
                None => instance.state.to_string(),
            },
            instance.urls.join("\n"),
        ]);
    }
    line(rows)
}

/// Prints a value as one JSON object on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string_pretty(value)?)
}
