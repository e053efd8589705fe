//! `vmthunder instance`, as it is written.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Subcommand};

use super::{FillArgs, NodeArgs, byte_size};
use crate::config::Outage;
use crate::instances::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Create instances: private, writable disks over a shared image. Prints their URLs.
    Create(CreateArgs),
    /// List the instances.
    List {
        /// Print a JSON array instead of the table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show one: its URL, image, size, space, snapshots and who is logged in.
    Show {
        /// Its name.
        name: String,
        /// Print a JSON object instead of lines.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Remove instances, everything that was written to them, and their snapshots.
    Remove {
        /// Their names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Remove them even if guests have them attached.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Keep what an instance holds at this moment, while its guest goes on.
    #[command(after_help = SNAPSHOT_HELP)]
    Snapshot {
        /// Its name.
        name: String,
        /// The name of the snapshot: 1 to 63 of a-z, 0-9, `-` and `.`.
        snapshot: String,
        /// Remove this snapshot instead.
        #[arg(long)]
        remove: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Bring an instance back to a snapshot. What was written since is lost; the snapshot stays.
    Rollback {
        /// Its name.
        name: String,
        /// The snapshot.
        snapshot: String,
        /// Do it even if a guest has it attached: its sessions end, and it must start again.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Bring an instance back to its image. Everything that was written is lost; snapshots stay.
    Reset {
        /// Its name.
        name: String,
        /// Do it even if a guest has it attached: its sessions end, and it must start again.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Write an instance to a file, or a snapshot of it, while its guest goes on.
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
    /// Bring all that an instance can still need to this node's disk, and read it from there while its guest goes on:
    /// from then on it needs neither origin nor peers nor the cache.
    #[command(after_help = TURN_OFF_HELP)]
    TurnOff(FillArgs),
    /// Go back to the cache and the swarm, while the guest goes on.
    #[command(after_help = TURN_ON_HELP)]
    TurnOn {
        /// Its name.
        name: String,
        /// Print a JSON object instead of a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Change the settings of an instance while its guest goes on.
    Change {
        /// Its name.
        name: String,
        /// The most that what is written may take on disk, for example 10GiB, or `none`.
        #[arg(long, value_name = "SIZE", value_parser = quota, required_unless_present = "outage")]
        quota: Option<QuotaArg>,
        /// What its guest's reads do in an outage: `wait`, `fail`, the time after which they fail, for example 90s, or
        /// `image` for what the image's configuration says.
        #[arg(long, value_name = "POLICY", value_parser = own_outage)]
        outage: Option<OutageArg>,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name, part of its target name: 1 to 63 of a-z, 0-9, `-` and `.`.
    pub(crate) name: String,
    /// The name of the image that it begins as.
    #[arg(long, value_name = "NAME")]
    pub(crate) image: String,
    /// Its size, if larger than the image: bytes, or with a unit, for example 20GiB (GB and G are 1000³ bytes); rounded
    /// up to whole blocks.
    #[arg(long, value_parser = byte_size)]
    pub(crate) size: Option<ByteSize>,
    /// Create so many, named NAME-1, NAME-2 and so on: all of them or none.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u32>,
    /// The most that what is written to it may take on disk. A write that would take more is refused, and works again
    /// once there is room.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) quota: Option<ByteSize>,
    /// What its guest's reads do while neither cache nor peers nor origin answer: `wait`, `fail`, or the time after
    /// which they fail, for example 90s. Without it what the image's configuration says.
    #[arg(long, value_name = "POLICY")]
    pub(crate) outage: Option<Outage>,
    /// Print a JSON array instead of the URLs.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Its name.
    pub(crate) name: String,
    /// The file: it must not be there yet, and the node must be able to write to its folder.
    pub(crate) file: PathBuf,
    /// What it is written as; without it qcow2 if the file's name ends with .qcow2, else raw.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// The snapshot; without it what the instance holds now.
    #[arg(long, value_name = "NAME")]
    pub(crate) snapshot: Option<String>,
    /// Print a JSON object instead of a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// A quota as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QuotaArg {
    None,
    Bytes(ByteSize),
}

/// A policy of an instance's own, or none.
pub(crate) type OutageArg = Option<Outage>;

fn quota(text: &str) -> Result<QuotaArg, String> {
    match text {
        "none" => Ok(QuotaArg::None),
        _ => some_bytes(text).map(QuotaArg::Bytes),
    }
}

fn some_bytes(text: &str) -> Result<ByteSize, String> {
    match byte_size(text)? {
        ByteSize(0) => {
            Err("with a quota of 0 every write would be refused; for none leave it out, or say none where it is changed".to_owned())
        }
        bytes => Ok(bytes),
    }
}

fn own_outage(text: &str) -> Result<OutageArg, String> {
    match text {
        "image" => Ok(None),
        _ => match text.parse() {
            Ok(outage) => Ok(Some(outage)),
            Err(error) => Err(format!("{error}, or image")),
        },
    }
}

const EXPORT_HELP: &str = "\
The file is the whole disk, image included, with holes for zeros: it needs nothing else. It appears when it is complete, \
on the disk, and was read back. An export whose command is ended is given up.

What the instance holds now is copied first, so that its guest can go on. Where the file system of the data folder \
shares blocks (XFS, btrfs) that takes no time and no space; elsewhere it takes as much space there as was written, for \
as long as the export lasts. A snapshot that is exported is not copied.";

const TURN_OFF_HELP: &str = "\
The image is fetched from cache, peers and origin behind everything that guests ask for, compared with its manifest, \
brought to the disk, read again from there and compared once more; then the instance reads it there. All instances of an \
image share one copy. It goes on when this command is ended, and after a restart of the node or its death, without \
fetching anything twice; `instance turn-on` ends it. What does not fit is refused: 512 MiB are left to what guests write.

It can be said again at any time: it waits until it is done, and takes another --rate.

Exit codes: 0 it is turned off (with --no-wait: it is, or will be), 2 it is not; everything is as it was.";

const TURN_ON_HELP: &str = "\
The copy on this node's disk is removed when no other instance uses it. It can be said again at any time, and ends a \
turning off that is under way.

Exit codes: 0 it is turned on, 2 it is not; everything is as it was.";

const SNAPSHOT_HELP: &str = "\
The snapshot is what the disk would hold if the guest lost power at this moment: everything that the guest was told to \
be written is in it. Where the file system shares blocks (XFS, btrfs) it takes no time and no space; elsewhere what \
was written is copied while the guest goes on, and takes its space a second time.";
