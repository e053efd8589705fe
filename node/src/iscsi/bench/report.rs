//! What was measured, as people and programs read it.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::{BenchArgs, Pattern};
use crate::iscsi::bench::Measured;
use crate::iscsi::bench::load::Load;
use crate::iscsi::bench::tally::{Tally, Times};
use crate::iscsi::outcome::Kind;
use crate::observe::line;
use crate::status::{print_json, size, table};

/// What `iscsi bench --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    block_bytes: u64,
    span_bytes: u64,
    pattern: &'static str,
    read_percent: u8,
    sessions: u16,
    depth: u16,
    seconds: f64,
    ops: u64,
    iops: f64,
    mib_per_second: f64,
    cpu_seconds: f64,
    /// CPU seconds of this program, in the kernel and outside, for 100,000 reads and writes.
    cpu_seconds_per_100k: Option<f64>,
    reads: Direction,
    writes: Direction,
    /// Reads and writes that failed.
    errors: u64,
    /// Those that did not end within some seconds after the end.
    unfinished: u64,
    /// What ended it before its time.
    ended_by: Option<&'static str>,
    verified: bool,
    /// Reads that brought something else than was written.
    wrong_reads: u64,
    /// The first bytes that were wrong.
    wrong_at: Vec<u64>,
}

/// Reads, or writes.
#[derive(Debug, Serialize)]
struct Direction {
    ops: u64,
    iops: f64,
    mib_per_second: f64,
    /// None where nothing was measured.
    latency_us: Option<Latency>,
}

#[derive(Debug, Serialize)]
struct Latency {
    min: f64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
    /// How many took up to so many microseconds, and more than the bucket before.
    buckets: Vec<Bucket>,
}

#[derive(Debug, Serialize)]
struct Bucket {
    up_to: f64,
    ops: u64,
}

impl Report {
    pub(super) fn new(args: &BenchArgs, load: &Load, tally: &Tally, measured: &Measured) -> Self {
        let seconds = measured.took.as_secs_f64();
        let reads = Direction::of(&tally.reads, seconds, load.block());
        let writes = Direction::of(&tally.writes, seconds, load.block());
        let ops = reads.ops + writes.ops;
        let cpu_seconds = measured.cpu.as_secs_f64();
        Self {
            block_bytes: load.block(),
            span_bytes: load.span(),
            pattern: match args.pattern {
                Pattern::Random => "random",
                Pattern::Sequential => "sequential",
            },
            read_percent: args.read_percent,
            sessions: args.sessions,
            depth: args.depth.get(),
            seconds,
            ops,
            iops: reads.iops + writes.iops,
            mib_per_second: reads.mib_per_second + writes.mib_per_second,
            cpu_seconds,
            cpu_seconds_per_100k: (ops > 0).then(|| cpu_seconds * 1e5 / ops as f64),
            reads,
            writes,
            errors: tally.errors,
            unfinished: tally.unfinished,
            ended_by: measured
                .ended_by
                .as_ref()
                .map(|error| Kind::of(error).name()),
            verified: args.verify,
            wrong_reads: tally.wrong,
            wrong_at: tally.wrong_at.clone(),
        }
    }

    /// True if everything that was read was what it should be.
    pub(super) fn is_sound(&self) -> bool {
        self.wrong_reads == 0 && self.errors == 0 && self.unfinished == 0
    }

    /// Reads and writes that did not end.
    pub(super) fn unfinished(&self) -> u64 {
        self.unfinished
    }

    pub(super) fn show(&self, as_json: bool) -> Result<()> {
        if as_json {
            return print_json(self);
        }
        line(format_args!(
            "{} {} blocks of {}, {} session{} with {} under way{}, {:.1} s",
            self.pattern,
            size(self.span_bytes),
            size(self.block_bytes),
            self.sessions,
            if self.sessions == 1 { "" } else { "s" },
            self.depth,
            if self.sessions == 1 { "" } else { " each" },
            self.seconds
        ))?;
        let mut rows = table(&[
            "", "IOPS", "MiB/s", "min µs", "p50", "p90", "p99", "p99.9", "max",
        ]);
        for (name, direction) in [("read", &self.reads), ("write", &self.writes)] {
            let Some(latency) = &direction.latency_us else {
                continue;
            };
            let Latency {
                min,
                mean: _,
                p50,
                p90,
                p99,
                p99_9,
                max,
                buckets: _,
            } = latency;
            let mut row = vec![
                name.to_owned(),
                format!("{:.0}", direction.iops),
                format!("{:.1}", direction.mib_per_second),
            ];
            row.extend([min, p50, p90, p99, p99_9, max].map(|us| format!("{us:.0}")));
            rows.add_row(row);
        }
        line(rows)?;
        line(format_args!(
            "{} reads and writes, {:.0} per second, {:.1} MiB/s; {} CPU seconds of this program per 100,000",
            self.ops,
            self.iops,
            self.mib_per_second,
            self.cpu_seconds_per_100k
                .map_or_else(|| "no".to_owned(), |seconds| format!("{seconds:.2}"))
        ))?;
        if self.errors + self.unfinished > 0 {
            line(format_args!(
                "{} failed, and {} did not end; the latencies count those with their age",
                self.errors, self.unfinished
            ))?;
        }
        self.show_wrong()
    }

    fn show_wrong(&self) -> Result<()> {
        if !self.verified {
            return Ok(());
        }
        if self.wrong_reads == 0 {
            return line("every block that was read is what it should be");
        }
        for at in &self.wrong_at {
            line(format_args!("wrong: byte {at}"))?;
        }
        eprintln!(
            "error: {} reads brought something else than `iscsi bench --verify --destructive` writes there",
            self.wrong_reads
        );
        Ok(())
    }
}

impl Direction {
    fn of(times: &Times, seconds: f64, block: u64) -> Self {
        let (histogram, ops) = (&times.histogram, times.in_time);
        let iops = ops as f64 / seconds.max(f64::EPSILON);
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile: f64| us(histogram.value_at_quantile(quantile));
        Self {
            ops,
            iops,
            mib_per_second: iops * block as f64 / f64::from(1 << 20),
            latency_us: (!histogram.is_empty()).then(|| Latency {
                min: us(histogram.min()),
                mean: histogram.mean() / 1e3,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                max: us(histogram.max()),
                buckets: buckets(histogram),
            }),
        }
    }
}

/// The histogram in buckets, each wider than the one before by the same factor; those that hold nothing are left out.
fn buckets(histogram: &Histogram<u64>) -> Vec<Bucket> {
    let all = histogram.iter_log(FIRST_BUCKET_NS, WIDER);
    let all = all.map(|step| Bucket {
        up_to: step.value_iterated_to() as f64 / 1e3,
        ops: step.count_since_last_iteration(),
    });
    all.filter(|bucket| bucket.ops > 0).collect()
}

/// Where the first bucket ends, and how much wider the next is.
const FIRST_BUCKET_NS: u64 = 1_000;
const WIDER: f64 = 1.25;
