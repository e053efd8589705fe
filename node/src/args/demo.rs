//! `vmthunder demo`, as it is written.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = DEMO_HELP)]
pub(crate) struct DemoArgs {
    /// How many nodes boot at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub(crate) nodes: u32,
    /// The image to boot from: a raw disk. Without it one is generated.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// The block trace to replay: CSV with the first line t_us,op,lba,blocks, op R or W (writes are left out), lba and
    /// blocks in 512 bytes. Without it a Debian 12 boot.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Wait between reads as the trace did, scaled: 1 as recorded, 0.1 ten times faster. Without it do not wait.
    #[arg(long, value_name = "X", value_parser = pace)]
    pub(crate) pace: Option<f64>,
    /// Print one JSON object on standard output instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

const DEMO_HELP: &str = "\
First every node reads from the origin and from its peers (swarm), then the same boot with every node reading from the \
origin alone (star). The columns: what guests got out of their node's cache, and what the node fetched from peers and \
from the origin. Exit code 1 if a byte was wrong. Files go into a folder under $TMPDIR, about 170 MiB for each node, \
and are removed at the end.

Example:
  vmthunder demo --nodes 4 --json | jq .swarm.origin_copies";

pub(crate) fn pace(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(pace) if pace.is_finite() && (0.0..=1000.0).contains(&pace) => Ok(pace),
        _ => Err("a number from 0 to 1000".to_owned()),
    }
}
