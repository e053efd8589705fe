//! `vmthunder instance`, as it is written.

use bytesize::ByteSize;
use clap::Subcommand;

use super::{NodeArgs, byte_size};

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
