//! `vmthunder iscsi replay`, as it is written.

use std::path::PathBuf;

use clap::Args;

use super::{UnitArgs, help};
use crate::args::demo::pace;

/// Do with a logical unit what a recorded guest did with its disk: the reads of a trace, one after the other, each after
/// the time that the guest took before it.
///
/// With --image every byte that is read is compared. The writes of the trace are left out unless --destructive is said:
/// then each writes bytes of its own, and reads behind it must find these.
#[derive(Debug, Args)]
#[command(after_help = help::EXIT_CODES, after_long_help = help::REPLAY)]
pub(crate) struct ReplayArgs {
    /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
    pub(crate) url: String,
    /// The trace: CSV with the first line t_us,op,lba,blocks, op R or W, lba and blocks in 512 bytes. Without it a Debian
    /// 12 boot.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// What the unit holds: a raw disk.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// Scales the guest's own time: 1 as recorded, 0.1 ten times faster, 0 none.
    #[arg(long, value_name = "X", default_value = "0", value_parser = pace)]
    pub(crate) pace: f64,
    /// Write what the trace writes, which overwrites what is on the disk. Shows which disk that is, and asks for its
    /// serial number.
    #[arg(long)]
    pub(crate) destructive: bool,
    /// Do not ask before `--destructive`.
    #[arg(long, requires = "destructive")]
    pub(crate) yes: bool,
    /// Print `"ready"` and log in when a line comes on standard input: for many that are to begin together.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
}
