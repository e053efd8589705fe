//! `vmthunder iscsi`, as it is written.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::LoginArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum IscsiCommand {
    /// List the targets of a portal and their addresses.
    Discover {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Show what a logical unit says about itself.
    Inquiry {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET/LUN`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Show the size of a logical unit.
    Capacity {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET/LUN`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Read blocks to standard output.
    Read {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET/LUN`
        url: String,
        /// The first block.
        #[arg(long, default_value_t = 0)]
        lba: u64,
        /// How many blocks.
        #[arg(long, default_value_t = 1)]
        blocks: u64,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Write standard input, whole blocks, and flush.
    Write {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET/LUN`
        url: String,
        /// The first block.
        #[arg(long, default_value_t = 0)]
        lba: u64,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Copy a whole logical unit into a file, leaving out zeros.
    Copy {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET/LUN`
        url: String,
        /// The file to write; it must not exist yet.
        file: PathBuf,
        #[command(flatten)]
        login: LoginArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct IscsiArgs {
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}
