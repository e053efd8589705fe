//! The command line as it is written.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};

/// Boot hundreds of virtual machines from one image in the time of one, over nothing but iSCSI.
#[derive(Debug, Parser)]
#[command(name = "vmthunder", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// What is logged to standard error: error, warn, info, debug or trace. The variable RUST_LOG says it in detail.
    #[arg(long, global = true, default_value = "warn", value_name = "LEVEL",
        value_parser = ["error", "warn", "info", "debug", "trace"], hide_possible_values = true)]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 all is well, 1 something differs or failed, 2 the command could not run.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole system on this machine: an origin, several nodes, one boot storm, every byte compared.
    Demo(DemoArgs),
    /// Export files as an iSCSI target: a storage gateway in one line.
    Target(TargetArgs),
    /// Run a node of a swarm, an origin, or both.
    Serve(ServeArgs),
    /// Prepare and check images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Create, list and remove the writable disks of guests on a running node.
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Show what a running node does: images, instances, and where the bytes came from.
    Status(StatusArgs),
    /// Ask any iSCSI target: an initiator for scripts.
    #[command(subcommand)]
    Iscsi(IscsiCommand),
}

#[derive(Debug, Args)]
#[command(after_help = DEMO_HELP)]
pub(crate) struct DemoArgs {
    /// How many nodes boot at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub(crate) nodes: u32,
    /// The image to boot from: a raw disk. Without it one is generated.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// The block trace to replay: CSV with the first line t_us,op,lba,blocks, op R or W (writes are left out), lba and
    /// blocks in 512 bytes. Without it a Debian 12 boot.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Wait between reads as the trace did, scaled: 1 as recorded, 0.1 ten times faster. Without it do not wait.
    #[arg(long, value_name = "X", value_parser = pace)]
    pub(crate) pace: Option<f64>,
    /// Print one JSON object on standard output instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

const DEMO_HELP: &str = "\
First every node reads from the origin and from its peers (swarm), then the same boot with every node reading from the \
origin alone (star). The columns: what guests got out of their node's cache, and what the node fetched from peers and \
from the origin. Exit code 1 if a byte was wrong. Files go into a folder under $TMPDIR, about 170 MiB for each node, \
and are removed at the end.

Example:
  vmthunder demo --nodes 4 --json | jq .swarm.origin_copies";

#[derive(Debug, Args)]
#[command(after_help = TARGET_HELP)]
pub(crate) struct TargetArgs {
    /// The files or block devices to export; the first is LUN 0.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Where to listen; may be repeated. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:3260")]
    pub(crate) listen: Vec<String>,
    /// The target's name. Without it `iqn.2026-11.org.vmthunder:` and the first file's name without its ending.
    #[arg(long, value_name = "IQN")]
    pub(crate) iqn: Option<String>,
    /// Refuse writes.
    #[arg(long)]
    pub(crate) read_only: bool,
}

const TARGET_HELP: &str = "\
Prints one line `ready iscsi://HOST:PORT/IQN/LUN` on standard output per LUN and address when it listens, and logs to \
standard error. Logical units have blocks of 512 bytes and are thin: UNMAP punches holes into the file. Writes reach \
the page cache before they are answered, and the disk when the initiator flushes. Ends on SIGINT or SIGTERM.

There is no authentication yet: whoever reaches the address may use the target. Listen where only friends are.

Example:
  vmthunder target disk.raw --listen 127.0.0.1:3260
  qemu-img info iscsi://127.0.0.1:3260/iqn.2026-11.org.vmthunder:disk/0";

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(crate) config: PathBuf,
    /// End when standard input closes, so that a parent's death ends the node too.
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
}

/// Where the configuration is looked for.
const CONFIG: &str = "/etc/vmthunder/node.toml";

const SERVE_HELP: &str = "\
A configuration:
  name = \"node-1\"                  # the node's permanent name in the swarm
  data = \"/var/lib/vmthunder\"      # cache, instances, control socket
  listen = [\"0.0.0.0:3260\"]

  [cache]
  size = \"8 GiB\"                   # the default; taken from the disk at the first start

  [[image]]                        # an image kept here: this node is its origin
  name = \"debian\"
  file = \"debian.raw\"              # made known by: vmthunder image import debian.raw
  # manifest = \"debian.raw.manifest\"

  [[image]]                        # an image kept elsewhere, on any iSCSI target
  name = \"alma\"
  origin = \"iscsi://10.0.0.1/iqn.2026-11.org.vmthunder:image.alma/0\"
  # manifest = \"alma.manifest\"     # for an origin that is no node: vmthunder image import
  # root = \"...\"                   # accept this content alone

  [[member]]                       # the nodes of the swarm; the node's own entry is skipped
  name = \"node-2\"
  address = \"10.0.0.2:3260\"

Prints one line `ready iscsi://HOST:PORT/IQN/LUN` on standard output per logical unit and address when it serves. Ends \
on SIGINT or SIGTERM.

There is no authentication yet: whoever reaches the address may read every image and write to every instance. Listen \
where only friends are.";

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Read an image once and write its manifest: the hashes by which every copy is verified. Prints the content's root,
    /// the hash of all, and the manifest's path.
    Import {
        /// A raw disk, or the iscsi:// URL of a logical unit.
        source: String,
        /// Where to write the manifest; one that is there is replaced. Without it beside the file, with `.manifest`
        /// behind its name; a URL needs it.
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
    },
    /// List the images of a configuration with their size and content.
    List {
        /// The configuration, in TOML.
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
        /// Print a JSON array instead of the table.
        #[arg(long)]
        json: bool,
    },
    /// Read a whole image and compare it with its manifest. Exit code 1 if it differs.
    Verify {
        /// A raw disk, or the iscsi:// URL of a logical unit.
        source: String,
        /// The manifest. Without it the file beside the image; a URL needs it.
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Create an instance: a private, writable disk over a shared image. Prints its URL.
    Create {
        /// Its name, part of its target name: 1 to 63 of a-z, 0-9, `-` and `.`.
        name: String,
        /// The name of the image that it begins as.
        #[arg(long, value_name = "NAME")]
        image: String,
        /// Its size, if larger than the image: bytes, or with a unit, for example 20GiB (GB and G are 1000³ bytes).
        #[arg(long, value_parser = byte_size)]
        size: Option<ByteSize>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the instances.
    List {
        /// Print a JSON array instead of the table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Remove an instance and everything that was written to it.
    Remove {
        /// Its name.
        name: String,
        /// Remove it even if a guest has it attached.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object instead of the tables.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// Which node is meant.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The configuration that the node was started with: names its control socket.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IscsiCommand {
    /// List the targets of a portal and their addresses.
    Discover {
        /// `iscsi://HOST[:PORT]`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
    },
    /// Show what a logical unit says about itself.
    Inquiry {
        /// `iscsi://HOST[:PORT]/TARGET/LUN`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
    },
    /// Show the size of a logical unit.
    Capacity {
        /// `iscsi://HOST[:PORT]/TARGET/LUN`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
    },
    /// Read blocks to standard output.
    Read {
        /// `iscsi://HOST[:PORT]/TARGET/LUN`
        url: String,
        /// The first block.
        #[arg(long, default_value_t = 0)]
        lba: u64,
        /// How many blocks.
        #[arg(long, default_value_t = 1)]
        blocks: u64,
    },
    /// Write standard input, whole blocks, and flush.
    Write {
        /// `iscsi://HOST[:PORT]/TARGET/LUN`
        url: String,
        /// The first block.
        #[arg(long, default_value_t = 0)]
        lba: u64,
    },
    /// Copy a whole logical unit into a file, leaving out zeros.
    Copy {
        /// `iscsi://HOST[:PORT]/TARGET/LUN`
        url: String,
        /// The file to write; it must not exist yet.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct IscsiArgs {
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

fn byte_size(text: &str) -> Result<ByteSize, String> {
    text.parse()
        .map_err(|_| "a number of bytes, or one with a unit, for example 20GiB".to_owned())
}

fn pace(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(pace) if pace.is_finite() && (0.0..=1000.0).contains(&pace) => Ok(pace),
        _ => Err("a number from 0 to 1000".to_owned()),
    }
}
