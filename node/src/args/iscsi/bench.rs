//! `vmthunder iscsi bench`, as it is written.

use std::num::{NonZeroU16, NonZeroU64};
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::{UnitArgs, depth, help};
use crate::args::byte_size;

/// Measure a logical unit: I/O per second, throughput, CPU time, and a histogram of latencies.
///
/// Each session keeps --depth reads or writes under way, and starts the next one when one ends. Reads alone are the
/// default; writes need --destructive, since they overwrite what is on the disk. Never write to a disk that is mounted
/// anywhere, or that anybody else uses.
#[derive(Debug, Args)]
#[command(after_help = help::EXIT_CODES, after_long_help = help::BENCH)]
pub(crate) struct BenchArgs {
    /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
    pub(crate) url: String,
    /// How many of a hundred are reads.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) read_percent: u8,
    /// Bytes of one read or write: a whole number of blocks, up to 16 MiB.
    #[arg(long, value_name = "BYTES", default_value = "4KiB", value_parser = byte_size)]
    pub(crate) block: ByteSize,
    /// Reads and writes that one session keeps under way.
    #[arg(long, value_name = "NUMBER", default_value = "32", value_parser = depth)]
    pub(crate) depth: NonZeroU16,
    /// Sessions, each with a connection of its own.
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) sessions: u16,
    /// Threads that the sessions are spread over; without it one for each session, up to the cores of this machine.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Which blocks come next.
    #[arg(long, value_enum, default_value = "random")]
    pub(crate) pattern: Pattern,
    /// The part of the unit that is used, from its beginning; without it all of it.
    #[arg(long, value_name = "BYTES", value_parser = byte_size)]
    pub(crate) span: Option<ByteSize>,
    /// How long to measure.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// End after so many reads and writes, if that is before the time is up.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) ops: Option<NonZeroU64>,
    /// How long to run before anything is counted.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = warm_up)]
    pub(crate) warm_up: Duration,
    /// Write, which overwrites what is on the disk. Shows which disk that is, and asks for its serial number.
    #[arg(long)]
    pub(crate) destructive: bool,
    /// Do not ask before `--destructive`.
    #[arg(long, requires = "destructive")]
    pub(crate) yes: bool,
    /// Check what is read. Every block tells where it belongs and has a checksum of its own: with --destructive the
    /// span is filled with such blocks first, without it they are expected to be there from a run before.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
}

/// Which blocks come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Any of the span.
    Random,
    /// One behind the other; each session begins in a part of its own.
    Sequential,
}

fn seconds(text: &str) -> Result<Duration, String> {
    within(text, 0.1)
}

fn warm_up(text: &str) -> Result<Duration, String> {
    within(text, 0.0)
}

fn within(text: &str, least: f64) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (least..=86_400.0).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!("seconds, from {least} to 86400")),
    }
}
