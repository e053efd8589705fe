//! The command line as it is written.

mod conformance;
pub(crate) mod demo;
mod disk;
mod image;
mod instance;
mod iscsi;
mod login;
mod lun;
mod serve;
mod simulate;
mod swarm;
mod target;

use std::path::PathBuf;

use anyhow::{Context, Result};
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};

pub(crate) use self::conformance::{ChoiceArgs, ConformanceArgs, InitiatorArgs, ReportArgs};
pub(crate) use self::demo::DemoArgs;
pub(crate) use self::disk::DiskArg;
pub(crate) use self::image::ImageCommand;
pub(crate) use self::instance::{CreateArgs, ExportArgs, InstanceCommand, OutageArg, QuotaArg};
pub(crate) use self::iscsi::{
    BenchArgs, CopyArgs, IscsiArgs, IscsiCommand, PathArgs, PatienceArg, Pattern, ReadArgs,
    ReplayArgs, TrimArgs, UnitArgs, WireArgs, WriteArgs,
};
pub(crate) use self::login::{LoginArgs, SecretArgs};
pub(crate) use self::lun::LunCommand;
pub(crate) use self::serve::ServeArgs;
pub(crate) use self::simulate::{SimulateArgs, Trouble};
pub(crate) use self::swarm::SwarmCommand;
pub(crate) use self::target::{ChapArgs, LimitArgs, TargetArgs};
use crate::config::Config;

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

/// Where the configuration is looked for.
const CONFIG: &str = "/etc/vmthunder/node.toml";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole system on this machine: an origin, several nodes, one boot storm, every byte compared.
    Demo(DemoArgs),
    /// Export files as an iSCSI target: a storage gateway in one line.
    Target(Box<TargetArgs>),
    /// Run a node of a swarm, an origin, a storage gateway, or all of them.
    Serve(ServeArgs),
    /// Prepare and check images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Create, keep, bring back and remove the writable disks of guests on a running node.
    #[command(subcommand)]
    Instance(Box<InstanceCommand>),
    /// List and resize the files that a running node or gateway serves.
    #[command(subcommand)]
    Lun(LunCommand),
    /// Show the nodes of the swarm; make its key, and change it while nodes run.
    #[command(subcommand)]
    Swarm(SwarmCommand),
    /// Show what a running node or gateway does: who is logged in, images, instances, and where the bytes came from.
    Status(StatusArgs),
    /// Ask any iSCSI target: an initiator for scripts.
    #[command(subcommand, after_help = iscsi::OUTCOMES)]
    Iscsi(IscsiCommand),
    /// What if: play a boot storm of any size in this process, with the decisions of the daemon, from a seed.
    Simulate(Box<SimulateArgs>),
    // Its arguments say what it is.
    Conformance(Box<ConformanceArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object instead of the tables.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// What is brought to a running node's own disk.
#[derive(Debug, Args)]
pub(crate) struct FillArgs {
    /// Its name.
    pub(crate) name: String,
    /// How much is brought in a second, for example 100MiB; without it 32 MiB. It can be given again while that lasts.
    #[arg(long, value_name = "SIZE", value_parser = byte_size)]
    pub(crate) rate: Option<ByteSize>,
    /// Come back as soon as it has begun; `vmthunder status` tells how far it is.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print a JSON object instead of a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// Which running node or gateway is meant.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The configuration that the node was started with: names its control socket.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(crate) config: PathBuf,
    /// The control socket itself: what `vmthunder target --control` was given.
    #[arg(long, value_name = "SOCKET", conflicts_with = "config")]
    pub(crate) control: Option<PathBuf>,
}

impl NodeArgs {
    /// The control socket that is meant.
    pub(crate) fn socket(&self) -> Result<PathBuf> {
        if let Some(socket) = &self.control {
            return Ok(socket.clone());
        }
        let config = Config::load(&self.config).context(
            "whom to ask is told by --config FILE of a node, or by --control SOCKET of `vmthunder target`",
        )?;
        config
            .control
            .context("the configuration names no control socket")
    }
}

fn byte_size(text: &str) -> std::result::Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if i64::try_from(size.as_u64()).is_ok() => Ok(size),
        Ok(_) => Err("no file can be that large: at most 8 EiB less one byte".to_owned()),
        Err(_) => Err("a number of bytes, or one with a unit, for example 20GiB".to_owned()),
    }
}
