//! `vmthunder image`, as it is written.

use std::path::PathBuf;

use clap::Subcommand;

use super::{CONFIG, LoginArgs};

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
