//! `vmthunder simulate`, as it is written.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::{byte_size, demo};

#[derive(Debug, Args)]
#[command(after_help = SIMULATE_HELP)]
pub(crate) struct SimulateArgs {
    /// How many nodes boot at once.
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) nodes: u32,
    /// The link of each node, each way: 1Gbit, 25Gbit, 80Mbit.
    #[arg(long, value_name = "RATE", default_value = "1Gbit", value_parser = rate)]
    pub(crate) rate: u64,
    /// The link of the origin. Without it that of a node.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) origin_rate: Option<u64>,
    /// How long a message and its answer are on their way: 200us, 1ms.
    #[arg(long, value_name = "TIME", default_value = "200us", value_parser = time)]
    pub(crate) rtt: Duration,
    /// What a boot reads, all of it as quickly as it can: 200MB, 172MiB.
    #[arg(long, value_name = "BYTES", default_value = "200MB", value_parser = byte_size,
        conflicts_with = "trace")]
    pub(crate) working_set: ByteSize,
    /// The image that these bytes lie scattered in.
    #[arg(long, value_name = "BYTES", default_value = "4GiB", value_parser = byte_size,
        conflicts_with = "trace")]
    pub(crate) image_size: ByteSize,
    /// A recorded boot that every guest replays, with the time that it took between its reads: CSV with the first line
    /// t_us,op,lba,blocks, op R or W (writes are left out), lba and blocks in 512 bytes.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Scales the time between the reads of the trace: 1 as recorded, 0.1 ten times faster.
    #[arg(long, value_name = "X", default_value = "1", value_parser = demo::pace, requires = "trace")]
    pub(crate) pace: f64,
    /// Extents that a node reads ahead of its guest at once, fewer on a slow link; 0 for none.
    #[arg(long, value_name = "EXTENTS", default_value_t = 96, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) prefetch: u32,
    /// What goes wrong. Several may, separated by commas.
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "healthy"
    )]
    pub(crate) scenario: Vec<Trouble>,
    /// Decides everything that is left to chance: the same seed gives the same events.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Play so many seeds, from this one on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) seeds: u32,
    /// Play the same storm as a star, as one binary tree and as a mesh that fetches what is rarest first, too.
    #[arg(long)]
    pub(crate) compare: bool,
    /// Draw how many nodes are done and what the origin sends, over time.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Print one JSON object instead of the table; with several --seeds an array of them.
    #[arg(long)]
    pub(crate) json: bool,
    /// Instead of all this look for a lock: so many small storms with the smallest queues, from --seed on. The last line
    /// says how many got stuck.
    #[arg(long, value_name = "SEEDS", value_parser = clap::value_parser!(u64).range(1..),
        conflicts_with_all = ["trace", "compare", "svg", "json", "seeds"])]
    pub(crate) hunt: Option<u64>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trouble {
    /// Nothing.
    Healthy,
    /// One node in twenty has a tenth of the rate.
    Slow,
    /// One node in ten dies silently within the first half of the bound.
    Deaths,
    /// Every node knows of nine tenths of the others, each of different ones.
    PartialViews,
    /// One node answers its peers with wrong bytes.
    Liar,
    /// One node in twenty stops and comes back under another address; the others learn of it one after the other.
    Churn,
}

const SIMULATE_HELP: &str = "\
The decisions are the daemon's own, the same code: who asks whom, what is refused, who is left out. Links carry their \
framing, queues have the limits that the daemon ships with, disks and guests take their time. The bound is \
max(W/B, W/B0, T_cpu): the working set through the link of a node or of the origin, or the guest's own time. Exit code \
1 if a node was stuck, a byte was wrong, or a request ran against the order that excludes loops.

Examples:
  vmthunder simulate --nodes 160 --rate 1Gbit --working-set 200MB --json | jq .last_node_seconds
  vmthunder simulate --nodes 40 --rate 10Gbit --trace boot.csv --pace 0.1 --compare --svg storm.svg
  vmthunder simulate --scenario deaths,partial-views --seeds 5
  vmthunder simulate --hunt 10000";

/// Bits per second.
fn rate(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text[number.len()..]
        .trim_end_matches("/s")
        .to_ascii_lowercase()
        .as_str()
    {
        "kbit" | "kbps" => 1e3,
        "mbit" | "mbps" => 1e6,
        "gbit" | "gbps" => 1e9,
        "tbit" | "tbps" => 1e12,
        _ => return Err(RATE.to_owned()),
    };
    let bits = number.parse::<f64>().map_err(|_| RATE.to_owned())? * unit;
    // From a modem's to more than any card's.
    if !(1e4..=1e13).contains(&bits) {
        return Err(format!("{RATE}, from 10kbit to 10Tbit"));
    }
    format!("{bits:.0}").parse().map_err(|_| RATE.to_owned())
}

const RATE: &str = "a number of bits per second with its unit, for example 1Gbit or 80Mbit";

fn time(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match &text[number.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(TIME.to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| TIME.to_owned())? * unit;
    if !(0.0..=60.0).contains(&seconds) {
        return Err(format!("{TIME}, at most 60s"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

const TIME: &str = "a time with its unit, for example 200us or 1ms";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{rate, time};

    #[test]
    fn rates_and_times_have_units() {
        assert_eq!(rate("1Gbit"), Ok(1_000_000_000));
        assert_eq!(rate("2.5Gbit/s"), Ok(2_500_000_000));
        assert_eq!(rate("80mbps"), Ok(80_000_000));
        for wrong in [
            "", "1", "Gbit", "1GB", "-1Gbit", "0Gbit", "1e99Gbit", "NaNGbit", "\u{e4}",
        ] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time("0.2ms"), Ok(Duration::from_micros(200)));
        for wrong in ["", "1", "ms", "-1ms", "61s", "infs", "1h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
