//! `vmthunder iscsi`, as it is written.

mod bench;
mod copy;
mod help;
mod range;
mod replay;
mod wire;

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) use self::bench::{BenchArgs, Pattern};
pub(crate) use self::copy::CopyArgs;
pub(crate) use self::help::OUTCOMES;
use self::range::RangeArgs;
pub(crate) use self::replay::ReplayArgs;
pub(crate) use self::wire::{PatienceArg, WireArgs};
use super::LoginArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum IscsiCommand {
    /// List the targets of a portal and their addresses.
    #[command(after_help = help::EXIT_CODES, after_long_help = help::DISCOVER)]
    Discover {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
    },
    /// List the logical units of a target: size, name, and what can be done with them.
    #[command(after_help = help::EXIT_CODES, after_long_help = help::LUNS)]
    Luns {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
    },
    /// Show what a logical unit says about itself.
    #[command(after_help = help::EXIT_CODES, after_long_help = help::INQUIRY)]
    Inquiry {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
        url: String,
        /// A page of vital product data instead of the standard data: its number, for example 0x83 or b0. Page 0 lists
        /// the pages that there are.
        #[arg(long, value_name = "PAGE", value_parser = page)]
        page: Option<u8>,
        #[command(flatten)]
        common: IscsiArgs,
    },
    /// Show the size of a logical unit.
    #[command(after_help = help::EXIT_CODES, after_long_help = help::CAPACITY)]
    Capacity {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
        url: String,
        #[command(flatten)]
        common: IscsiArgs,
    },
    /// Show how a session with a target and one of its units stands: what was negotiated, the ways there, the round
    /// trip, whether the unit is ready, and who holds it.
    #[command(after_help = help::EXIT_CODES, after_long_help = help::STATUS)]
    Status {
        /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
        url: String,
        #[command(flatten)]
        unit: UnitArgs,
    },
    /// Read blocks to standard output, or to a file; all of them if nothing is said about which.
    #[command(after_help = help::EXIT_CODES, after_long_help = help::READ)]
    Read(ReadArgs),
    /// Write blocks from standard input, or from a file, over what the unit holds, and flush. It does not ask: see with
    /// `iscsi inquiry` which unit it is.
    #[command(after_help = help::EXIT_CODES, after_long_help = help::WRITE)]
    Write(WriteArgs),
    /// Give the space of blocks back; they read as zeros from then on.
    #[command(after_help = help::EXIT_CODES, after_long_help = help::TRIM)]
    Trim(TrimArgs),
    // Their arguments say what they are.
    Copy(CopyArgs),
    Bench(BenchArgs),
    Replay(ReplayArgs),
}

impl IscsiCommand {
    /// True if standard output holds one JSON value, whatever becomes of the command.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::Discover { common, .. }
            | Self::Luns { common, .. }
            | Self::Inquiry { common, .. }
            | Self::Capacity { common, .. } => common.json,
            Self::Status { unit, .. } => unit.common.json,
            Self::Read(args) => args.common.json,
            Self::Write(args) => args.unit.common.json,
            Self::Trim(args) => args.unit.common.json,
            Self::Copy(args) => args.unit.common.json,
            Self::Bench(args) => args.unit.common.json,
            Self::Replay(args) => args.unit.common.json,
        }
    }
}

/// What all subcommands take.
#[derive(Debug, Args)]
pub(crate) struct IscsiArgs {
    /// Print one JSON value instead of text; `--help` names its fields.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
    #[command(flatten)]
    pub(crate) wire: WireArgs,
}

/// Other ways to the unit.
#[derive(Debug, Default, Args)]
pub(crate) struct PathArgs {
    /// Another portal of the unit: all of them are used, and what one cannot do another does. May be repeated; `iscsi
    /// discover` lists them.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) portal: Vec<String>,
}

/// What subcommands take that do something with one unit.
#[derive(Debug, Args)]
pub(crate) struct UnitArgs {
    #[command(flatten)]
    pub(crate) paths: PathArgs,
    #[command(flatten)]
    pub(crate) common: IscsiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// A new file to write to, instead of standard output; `--json` needs it.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite a file that is there already.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) paths: PathArgs,
    #[command(flatten)]
    pub(crate) common: IscsiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// The file to write, instead of standard input.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Read back what was written and compare.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// The whole unit.
    #[arg(long, conflicts_with_all = ["lba", "blocks", "offset", "length"])]
    pub(crate) all: bool,
    /// Do not ask before.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
}

/// How many are under way at once.
fn depth(text: &str) -> Result<NonZeroU16, String> {
    text.parse()
        .map_err(|_| format!("a number from 1 to {}", u16::MAX))
}

/// A page's number: hexadecimal, as everybody writes them, with or without 0x.
fn page(text: &str) -> Result<u8, String> {
    let digits = text.trim_start_matches("0x").trim_end_matches(['h', 'H']);
    u8::from_str_radix(digits, 16)
        .map_err(|_| "a number of two hexadecimal digits, for example 0x83 or b0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn a_page_is_written_in_three_ways() {
        for text in ["83", "0x83", "83h"] {
            assert_eq!(page(text), Ok(0x83));
        }
        for text in ["", "0x", "183", "-1", "xyz"] {
            assert!(page(text).is_err(), "{text}");
        }
    }
}
