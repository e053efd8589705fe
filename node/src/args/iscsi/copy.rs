//! `vmthunder iscsi copy`, as it is written.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::Args;

use super::{UnitArgs, depth, help};

/// Copy a logical unit into a file, a file into a unit, or a unit into another, leaving out zeros.
///
/// Files are raw: byte for byte what the unit holds, no format of an image.
///
/// Blocks that the source says it does not store are not read, and zeros are not written where the destination reads
/// as zeros anyway. Many reads and writes are under way at once. What was copied is noted now and then in a small
/// journal, so that a copy that was interrupted, killed or cut off from its target goes on with --resume.
#[derive(Debug, Args)]
#[command(after_help = help::EXIT_CODES, after_long_help = help::COPY)]
pub(crate) struct CopyArgs {
    /// A URL `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`, a file, or a block device.
    pub(crate) source: String,
    /// The same: a unit, a file that does not exist yet, or with `--force` one that does, or a block device.
    pub(crate) destination: String,
    /// Go on with a copy that did not come to its end. Without a journal it begins.
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,
    /// Overwrite a file or block device that is there already.
    #[arg(long)]
    pub(crate) force: bool,
    /// Copy a file that looks like a qcow2 image, or into one of such a name, byte for byte.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Do not ask before a unit is overwritten.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Read both again afterwards, and compare every byte.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Pieces of 1 MiB that are under way at once; as many are held in memory.
    #[arg(long, value_name = "NUMBER", default_value = "16", value_parser = depth)]
    pub(crate) depth: NonZeroU16,
    /// Where is noted what was copied. Without it beside the file that is written, or else read, as FILE.copying; a
    /// copy from unit to unit cannot go on without.
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Another portal of the destination, where both are units: then `--portal` is one of the source. May be repeated.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) to_portal: Vec<String>,
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
}
