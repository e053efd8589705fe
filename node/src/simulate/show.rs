//! What a simulation found out, as a table or as JSON.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use vmthunder_sim::{Report, Scenario, Shape};

use crate::args::SimulateArgs;
use crate::observe::line;
use crate::status::{print_json, table};

/// One storm. Times are in seconds, virtual ones; sizes in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    shape: &'static str,
    seed: u64,
    nodes: u32,
    rate_bits_per_second: u64,
    origin_rate_bits_per_second: u64,
    round_trip_seconds: f64,
    working_set_bytes: u64,
    prefetch_extents: u32,
    scenario: Vec<String>,
    /// max(W/B, W/B0, T_cpu).
    bound_seconds: f64,
    /// The guest's own time, T_cpu.
    think_seconds: f64,
    last_node_seconds: f64,
    /// The last of those whose link is not slow.
    last_fast_node_seconds: f64,
    median_node_seconds: f64,
    last_node_over_bound: f64,
    /// What the origin sent, in working sets.
    origin_copies: f64,
    /// What the busiest node sent, in working sets.
    max_upload_over_working_set: f64,
    /// The longest that a guest waited for one read.
    longest_read_seconds: f64,
    /// Extents asked for, over extents that came.
    asked_over_delivered: f64,
    refused_requests: u64,
    given_up_requests: u64,
    hedges: u64,
    /// Answers with wrong bytes, all of them noticed.
    wrong_answers: u64,
    /// Extents that were handed up although no right bytes had come.
    wrong_extents: u64,
    /// Requests against the order that excludes loops.
    uphill_requests: u64,
    stuck_nodes: u32,
    events: u64,
    event_log_hash: String,
    /// The same storm in other shapes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) compare: Vec<Self>,
}

impl Figures {
    pub(crate) fn new(args: &SimulateArgs, scenario: &Scenario, report: &Report) -> Self {
        let bound = scenario.bound();
        let troubles = args
            .scenario
            .iter()
            .filter_map(ValueEnum::to_possible_value);
        Self {
            shape: name(scenario.shape),
            seed: scenario.seed,
            nodes: scenario.nodes,
            rate_bits_per_second: scenario.rate,
            origin_rate_bits_per_second: scenario.origin_rate,
            round_trip_seconds: scenario.round_trip.as_secs_f64(),
            working_set_bytes: scenario.boot.bytes(),
            prefetch_extents: scenario.prefetch,
            scenario: troubles.map(|value| value.get_name().to_owned()).collect(),
            bound_seconds: bound.as_secs_f64(),
            think_seconds: scenario.boot.think().as_secs_f64(),
            last_node_seconds: report.last.as_secs_f64(),
            last_fast_node_seconds: report.last_fast.as_secs_f64(),
            median_node_seconds: report.median.as_secs_f64(),
            last_node_over_bound: over(report.last, bound),
            origin_copies: report.origin_copies,
            max_upload_over_working_set: report.most_uploads,
            longest_read_seconds: report.longest_read.as_secs_f64(),
            asked_over_delivered: report.asked as f64 / report.delivered.max(1) as f64,
            refused_requests: report.refused,
            given_up_requests: report.silent,
            hedges: report.hedges,
            wrong_answers: report.corrupt,
            wrong_extents: report.wrong,
            uphill_requests: report.uphill,
            stuck_nodes: report.stuck,
            events: report.events,
            event_log_hash: format!("{:016x}", report.log_hash),
            compare: Vec::new(),
        }
    }

    /// Nothing happened that never may.
    pub(crate) fn is_sound(&self) -> bool {
        self.stuck_nodes == 0 && self.wrong_extents == 0 && self.uphill_requests == 0
    }
}

pub(crate) fn name(shape: Shape) -> &'static str {
    match shape {
        Shape::Forest => "forest",
        Shape::Mesh => "mesh",
        Shape::Tree => "tree",
        Shape::Star => "star",
    }
}

pub(crate) fn print(all: &[Figures], json: bool) -> Result<()> {
    match all {
        [one] if json => return print_json(one),
        _ if json => return print_json(&all),
        _ => {}
    }
    let Some(first) = all.first() else {
        return Ok(());
    };
    line(format_args!(
        "{} nodes, {} Mbit/s (origin {}), working set {:.1} MB, {}: nobody can be quicker than {:.3} s",
        first.nodes,
        first.rate_bits_per_second / 1_000_000,
        first.origin_rate_bits_per_second / 1_000_000,
        first.working_set_bytes as f64 / 1e6,
        first.scenario.join(", "),
        first.bound_seconds
    ))?;
    let mut rows = table(&[
        "shape",
        "seed",
        "last",
        "/ bound",
        "median",
        "copies",
        "upload",
        "longest read",
        "stuck",
    ]);
    for figures in all
        .iter()
        .flat_map(|one| std::iter::once(one).chain(&one.compare))
    {
        rows.add_row([
            figures.shape.to_owned(),
            figures.seed.to_string(),
            format!("{:.3} s", figures.last_node_seconds),
            format!("{:.3}", figures.last_node_over_bound),
            format!("{:.3} s", figures.median_node_seconds),
            format!("{:.3}", figures.origin_copies),
            format!("{:.3}", figures.max_upload_over_working_set),
            format!("{:.3} s", figures.longest_read_seconds),
            figures.stuck_nodes.to_string(),
        ]);
    }
    line(rows)
}

fn over(time: Duration, bound: Duration) -> f64 {
    time.as_secs_f64() / bound.as_secs_f64().max(f64::MIN_POSITIVE)
}
