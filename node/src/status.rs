//! What a node tells about itself.

use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};

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
    /// The images.
    pub(crate) images: Vec<ImageStatus>,
    /// The instances.
    pub(crate) instances: Vec<InstanceStatus>,
    /// The files that are served as they are.
    #[serde(default)]
    pub(crate) targets: Vec<TargetStatus>,
    /// Who is logged in.
    #[serde(default)]
    pub(crate) initiators: Vec<InitiatorStatus>,
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

/// The node's cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CacheStatus {
    /// How much it can hold.
    pub(crate) capacity_bytes: u64,
    /// How much it holds.
    pub(crate) resident_bytes: u64,
    /// Fills that failed; what they held is fetched again.
    pub(crate) fill_errors: u64,
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

/// An instance of the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InstanceStatus {
    /// Its name.
    pub(crate) name: String,
    /// The image that it began as.
    pub(crate) image: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// Where it can be attached.
    pub(crate) urls: Vec<String>,
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
        let trouble = cache.trouble.as_ref();
        let trouble = trouble.map_or_else(String::new, |why| format!(", DEGRADED: {why}"));
        line(format_args!(
            "cache: {} of {}{errors}{trouble}",
            size(cache.resident_bytes),
            size(cache.capacity_bytes)
        ))?;
    }
    if !status.images.is_empty() {
        print_images(&status.images)?;
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
        rows.add_row([
            image.name.clone(),
            size(image.bytes),
            root.to_owned(),
            size(image.from_cache),
            size(image.from_peers),
            size(image.from_origin),
            image.corrupt.to_string(),
            image.source.clone(),
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
    let mut rows = table(&["instance", "image", "size", "attach as"]);
    for instance in instances {
        rows.add_row([
            instance.name.clone(),
            instance.image.clone(),
            size(instance.bytes),
            instance.urls.join("\n"),
        ]);
    }
    line(rows)
}

/// Prints a value as one JSON object on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string_pretty(value)?)
}
