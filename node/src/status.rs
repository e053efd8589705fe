//! What a node tells about itself.

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
        line(format_args!(
            "cache: {} of {}{errors}",
            size(cache.resident_bytes),
            size(cache.capacity_bytes)
        ))?;
    }
    let mut images = table(&[
        "image",
        "size",
        "content",
        "from cache",
        "peers",
        "origin",
        "corrupt",
        "source",
    ]);
    for image in &status.images {
        let root = image
            .root
            .as_deref()
            .map_or("no manifest", |root| root.get(..12).unwrap_or(root));
        images.add_row([
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
    line(images)?;
    if status.instances.is_empty() {
        return Ok(());
    }
    print_instances(&status.instances)
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
