//! `vmthunder lun`, as it is written.

use bytesize::ByteSize;
use clap::Subcommand;

use super::{NodeArgs, byte_size};

#[derive(Debug, Subcommand)]
pub(crate) enum LunCommand {
    /// List the files that are served, as what.
    List {
        /// Print a JSON array instead of the table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Give a LUN another size while initiators use it, and tell them. Prints the new capacity.
    #[command(after_help = RESIZE_HELP)]
    Resize {
        /// Which one, as `vmthunder lun list` names it: TARGET, the target's whole name or what follows the last
        /// colon, and the number, 0 if there is none. The URL does as well.
        #[arg(value_name = "TARGET[/LUN]")]
        lun: String,
        /// The new size: bytes, or with a unit, for example 40GiB (GB and G are 1000³ bytes). Without it the size
        /// that the file or block device has been given by others.
        #[arg(value_parser = byte_size)]
        size: Option<ByteSize>,
        /// Let it become smaller: what lies behind the new end is lost.
        #[arg(long)]
        shrink: bool,
        /// Print a JSON object instead of a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
}

const RESIZE_HELP: &str = "\
Initiators that are logged in are told that the capacity has changed (a unit attention); Linux then reads it again on \
`iscsiadm -m session --rescan`. Partitions and file systems are the guest's business: shrink those first, then the \
LUN. A block device is resized where it belongs (lvextend), and then here without SIZE.

Example:
  vmthunder target disk.raw --control /run/disk.sock
  vmthunder lun resize disk/0 40GiB --control /run/disk.sock";
