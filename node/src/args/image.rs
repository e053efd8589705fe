//! `vmthunder image`, as it is written.

use std::path::PathBuf;

use clap::Subcommand;

use super::{CONFIG, FillArgs, LoginArgs, NodeArgs};
use crate::status::ModeName;

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
        #[command(flatten)]
        login: LoginArgs,
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
    /// Bring an image to a running node's disk and use it there, while guests go on: the node, all its instances, and those
    /// whom it serves need neither its origin nor its peers from then on, and the sessions to them end.
    #[command(after_help = RELEASE_HELP)]
    Release(FillArgs),
    /// Change how a running node uses an image, while guests go on. It is kept over restarts.
    #[command(after_help = MODE_HELP)]
    Mode {
        /// The image's name.
        name: String,
        /// How it is used.
        #[arg(value_enum)]
        mode: ModeName,
        /// Print a JSON object instead of a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Read a whole image and compare it with its manifest. Exit code 1 if it differs.
    Verify {
        /// A raw disk, or the iscsi:// URL of a logical unit.
        source: String,
        /// The manifest. Without it the file beside the image; a URL needs it.
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        #[command(flatten)]
        login: LoginArgs,
    },
}

const RELEASE_HELP: &str = "\
It is fetched, verified and kept as by `vmthunder instance turn-off`, and shares its copy. It goes on when this command is \
ended, and after a restart of the node or its death. `vmthunder image mode NAME normal` goes back.

Exit codes: 0 it is released (with --no-wait: it is, or will be), 2 it is not; everything is as it was.";

const MODE_HELP: &str = "\
A released image becomes normal, or passthrough, in the same way; its copy is removed when no instance uses it. What is \
cached stays in the cache. Instances that are turned off go on with their copy in any mode.

Exit codes: 0 it is so, 2 it is not; everything is as it was.";
