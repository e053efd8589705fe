//! What the demo found out, as a table or as JSON.

use anyhow::Result;
use serde::Serialize;

use crate::observe::line;
use crate::status::{Status, print_json, size, table};

/// The whole demo. Sizes are in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Nodes that booted at once.
    pub(crate) nodes: u32,
    /// The trace that was replayed.
    pub(crate) trace: String,
    /// Its reads.
    pub(crate) reads_per_node: usize,
    /// The extents that it touches, whole.
    pub(crate) working_set_bytes: u64,
    /// Bytes that were compared with what they should be.
    pub(crate) bytes_checked: u64,
    /// Bytes among them that were something else.
    pub(crate) wrong_bytes: u64,
    /// Where the first of them was.
    pub(crate) first_wrong: Option<String>,
    /// The storm in which nodes read from each other.
    pub(crate) swarm: Storm,
    /// The storm in which every node reads from the origin alone.
    pub(crate) star: Storm,
    /// Each node.
    pub(crate) per_node: Vec<PerNode>,
}

/// One node in both storms: the swarm's figures, and the star's beside them.
#[derive(Debug, Serialize)]
pub(crate) struct PerNode {
    /// The node's name.
    pub(crate) name: String,
    /// In the swarm.
    #[serde(flatten)]
    pub(crate) swarm: NodeFigures,
    /// In the star.
    pub(crate) star: NodeFigures,
}

/// One storm.
#[derive(Debug, Serialize)]
pub(crate) struct Storm {
    /// When the last node was done.
    pub(crate) seconds: f64,
    /// When half of the nodes were done.
    pub(crate) median_seconds: f64,
    /// Bytes that left the origin, manifest included.
    pub(crate) origin_bytes: u64,
    /// The same in working sets.
    pub(crate) origin_copies: f64,
}

/// One node in one storm.
#[derive(Debug, Serialize)]
pub(crate) struct NodeFigures {
    /// When it was done.
    pub(crate) seconds: f64,
    /// Bytes that its guest got out of its cache.
    pub(crate) from_cache: u64,
    /// Bytes that it fetched from peers.
    pub(crate) from_peers: u64,
    /// Bytes that it fetched from the origin.
    pub(crate) from_origin: u64,
}

impl NodeFigures {
    /// A node as it stands after a storm.
    pub(crate) fn new(seconds: f64, status: &Status) -> Self {
        let sum = |of: fn(&crate::status::ImageStatus) -> u64| status.images.iter().map(of).sum();
        Self {
            seconds,
            from_cache: sum(|image| image.from_cache),
            from_peers: sum(|image| image.from_peers),
            from_origin: sum(|image| image.from_origin),
        }
    }
}

impl Storm {
    /// A storm of which the nodes' times, the origin's bytes and the working set are known.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio of byte counts needs no more than 52 bits"
    )]
    pub(crate) fn new(times: &[f64], origin_bytes: u64, working_set: u64) -> Self {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        Self {
            seconds: times.last().copied().unwrap_or_default(),
            median_seconds: times.get(times.len() / 2).copied().unwrap_or_default(),
            origin_bytes,
            origin_copies: origin_bytes as f64 / working_set.max(1) as f64,
        }
    }
}

impl Report {
    /// Prints the report on standard output.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            return print_json(self);
        }
        line(format_args!(
            "{} nodes boot at once: {} reads each ({}), working set {}",
            self.nodes,
            self.reads_per_node,
            self.trace,
            size(self.working_set_bytes)
        ))?;
        let mut rows = table(&[
            "node",
            "swarm",
            "from cache",
            "from peers",
            "from origin",
            "star",
            "from origin",
        ]);
        for node in &self.per_node {
            rows.add_row([
                node.name.clone(),
                seconds(node.swarm.seconds),
                size(node.swarm.from_cache),
                size(node.swarm.from_peers),
                size(node.swarm.from_origin),
                seconds(node.star.seconds),
                size(node.star.from_origin),
            ]);
        }
        line(rows)?;
        let mut sums = table(&["", "swarm", "star: all from the origin"]);
        sums.add_row([
            "last node".to_owned(),
            seconds(self.swarm.seconds),
            seconds(self.star.seconds),
        ]);
        sums.add_row([
            "left the origin".to_owned(),
            size(self.swarm.origin_bytes),
            size(self.star.origin_bytes),
        ]);
        sums.add_row([
            "origin copies".to_owned(),
            copies(&self.swarm),
            copies(&self.star),
        ]);
        line(sums)?;
        line(
            "Loopback is faster than any network, so the times compare processors; a real origin sends the bytes.",
        )?;
        line(format_args!(
            "{} compared, {} bytes wrong",
            size(self.bytes_checked),
            self.wrong_bytes
        ))?;
        match &self.first_wrong {
            Some(place) => line(format_args!("first wrong: {place}")),
            None => Ok(()),
        }
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn copies(storm: &Storm) -> String {
    format!("{:.3}", storm.origin_copies)
}
