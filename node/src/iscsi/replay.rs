//! `vmthunder iscsi replay`: a guest without a machine.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use iscsi_initiator::Remote;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, sleep_until};
use vmthunder_volume::{Class, Error as VolumeError, RawFile, Span, Volume};

use crate::args::ReplayArgs;
use crate::attach::open;
use crate::demo::trace::{BLOCK, Trace, Write};
use crate::iscsi::fact;
use crate::iscsi::reach::{Place, with_unit};
use crate::observe::line;
use crate::status::size;

/// Blocks that one replay may write: 1 GiB, which are remembered to be recognised.
const MOST_WRITTEN: u64 = 1 << 21;

/// Times are counted in steps of a microsecond, to a thousandth.
const DIGITS: u8 = 3;

/// Replays a trace; false if a byte was wrong or something failed.
pub(super) async fn run(args: &ReplayArgs) -> Result<bool> {
    let trace = Trace::load(args.trace.as_deref())?;
    let image = args.image.as_deref().map(|path| image(path, &trace));
    let image = image.transpose()?;
    let place = Place::of(&args.url, &args.unit.common)?.through(&args.unit.paths)?;
    let writes: &[Write] = match args.destructive {
        true => &trace.writes,
        false => &[],
    };
    let written: u64 = writes.iter().map(|write| write.span.length() / BLOCK).sum();
    ensure!(
        written <= MOST_WRITTEN,
        "the trace writes {}, more than {}",
        size(written * BLOCK),
        size(MOST_WRITTEN * BLOCK)
    );
    if args.destructive && !args.yes {
        ensure!(
            !args.wait,
            "--wait takes a line from standard input, where nobody can be asked then: say --yes, too"
        );
        with_unit(place.clone(), async |unit| {
            let whole = unit.attach().await?.geometry().bytes();
            unit.ask_consent(whole, "--destructive writes to", args.yes)
                .await
        })
        .await?;
    }
    if args.wait {
        wait().await?;
    }
    let began = Instant::now();
    let report = with_unit(place, async |unit| {
        let disk = unit.attach().await?;
        check(&disk, &trace, !writes.is_empty())?;
        let mut guest = Guest::new(disk, image)?;
        guest.replay(&trace, writes, args.pace, began).await;
        Ok(guest.report)
    })
    .await?;
    report.show(&trace, writes, args.unit.common.json)?;
    Ok(report.wrong_bytes == 0 && report.errors == 0)
}

/// What the unit should hold.
fn image(path: &Path, trace: &Trace) -> Result<RawFile> {
    let image = open(path)?;
    ensure!(
        trace.end() <= image.geometry().bytes(),
        "the trace {} reads up to byte {}, but {} has {} bytes: it is of another disk",
        trace.name,
        trace.end(),
        path.display(),
        image.geometry().bytes()
    );
    Ok(image)
}

/// Says that it could begin, and waits until somebody says that it shall.
async fn wait() -> Result<()> {
    line("\"ready\"")?;
    let mut said = String::new();
    let mut input = BufReader::new(tokio::io::stdin());
    let read = input.read_line(&mut said).await;
    ensure!(
        read.context("cannot read standard input")? > 0,
        "standard input was closed before it said that the replay shall begin"
    );
    Ok(())
}

/// Finds out that the trace is not one of this disk.
fn check(disk: &Remote, trace: &Trace, writes: bool) -> Result<()> {
    let geometry = disk.geometry();
    let block = geometry.block_size().bytes();
    ensure!(
        u64::from(block) == BLOCK,
        "traces count in blocks of {BLOCK} bytes, and this unit has blocks of {block}"
    );
    let ends = trace.writes.iter().map(|write| write.span.end());
    let end = ends.chain([trace.end()]).max().unwrap_or_default();
    ensure!(
        end <= geometry.bytes(),
        "the trace {} goes up to byte {end}, but the unit has {} bytes: it is of another disk",
        trace.name,
        geometry.bytes()
    );
    if writes && disk.is_read_only() {
        return Err(VolumeError::ReadOnly).context("the unit is write-protected");
    }
    Ok(())
}

/// Whoever uses the disk.
struct Guest {
    disk: Remote,
    image: Option<RawFile>,
    /// Which write a block is of.
    written: HashMap<u64, usize>,
    report: Report,
}

impl Guest {
    fn new(disk: Remote, image: Option<RawFile>) -> Result<Self> {
        Ok(Self {
            disk,
            image,
            written: HashMap::new(),
            report: Report {
                took: Duration::ZERO,
                own: Duration::ZERO,
                read_bytes: 0,
                wrong_bytes: 0,
                errors: 0,
                first_trouble: None,
                longest: (Duration::ZERO, Duration::ZERO),
                times: Histogram::new(DIGITS).context("a histogram")?,
            },
        })
    }

    /// One request after the other, each after the guest's own time.
    ///
    /// Timers wake late, by up to a millisecond or more. So that thousands of thoughts do not add that up, each ends when
    /// it should have ended by the times that thoughts and requests took so far.
    async fn replay(&mut self, trace: &Trace, writes: &[Write], pace: f64, began: Instant) {
        let mut due = Instant::now();
        let mut last_us = 0;
        let mut writes = writes.iter().enumerate().peekable();
        for (number, read) in trace.reads.iter().enumerate() {
            while let Some((at, write)) = writes.next_if(|(_, write)| write.after <= number) {
                self.think(&mut due, &mut last_us, write.at_us, pace).await;
                let (from, answer) = (Instant::now(), self.write(at, write.span).await);
                self.count(began, from, &mut due, write.span, answer);
            }
            self.think(&mut due, &mut last_us, read.at_us, pace).await;
            let (from, answer) = (
                Instant::now(),
                self.disk
                    .read_at(read.span.offset(), read.span.length())
                    .await,
            );
            self.count(began, from, &mut due, read.span, answer.as_ref().map(drop));
            if let Ok(bytes) = answer {
                self.compare(read.span, &bytes).await;
            }
        }
        for (at, write) in writes {
            self.think(&mut due, &mut last_us, write.at_us, pace).await;
            let (from, answer) = (Instant::now(), self.write(at, write.span).await);
            self.count(began, from, &mut due, write.span, answer);
        }
        self.report.took = began.elapsed();
    }

    /// The guest's own time between the last request and this one.
    async fn think(&mut self, due: &mut Instant, last_us: &mut u64, at_us: u64, pace: f64) {
        let gap = Duration::from_micros(at_us.saturating_sub(*last_us)).mul_f64(pace);
        *last_us = at_us.max(*last_us);
        self.report.own += gap;
        *due += gap;
        sleep_until(*due).await;
    }

    /// Counts a request that was answered.
    fn count<E: std::fmt::Display>(
        &mut self,
        began: Instant,
        from: Instant,
        due: &mut Instant,
        span: Span,
        answer: Result<(), E>,
    ) {
        let took = from.elapsed();
        *due += took;
        let report = &mut self.report;
        report.longest = report.longest.max((took, from - began));
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        report.times.saturating_record(us.max(1));
        if let Err(error) = answer {
            report.errors += 1;
            report
                .first_trouble
                .get_or_insert_with(|| format!("span {span}: {error}"));
        }
    }

    async fn write(&mut self, number: usize, span: Span) -> Result<(), iscsi_initiator::Error> {
        let mut bytes = Vec::new();
        for block in blocks(span) {
            bytes.extend(pattern(number, block));
        }
        let written = self.disk.write_at(span.offset(), bytes).await;
        if written.is_ok() {
            self.written
                .extend(blocks(span).map(|block| (block, number)));
        }
        written
    }

    /// Compares what was read with what was written there, or else with the image.
    async fn compare(&mut self, span: Span, read: &[u8]) {
        let Some(image) = &self.image else {
            return;
        };
        let original = match image.read(span, Class::Demand).await {
            Ok(bytes) => bytes,
            Err(error) => return self.trouble(format!("the image, span {span}: {error}")),
        };
        self.report.read_bytes += span.length();
        let step = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        let missing = original.len().abs_diff(read.len()) as u64;
        let both = blocks(span).zip(read.chunks(step).zip(original.chunks(step)));
        let wrong = both.map(|(block, (read, original))| {
            let own = self
                .written
                .get(&block)
                .map(|number| pattern(*number, block));
            let should = own.as_ref().map_or(original, |own| own.as_slice());
            read.iter().zip(should).filter(|(a, b)| a != b).count() as u64
        });
        let wrong = wrong.sum::<u64>() + missing;
        if wrong > 0 {
            self.report.wrong_bytes += wrong;
            let first = &mut self.report.first_trouble;
            first.get_or_insert_with(|| format!("span {span}: {wrong} bytes are wrong"));
        }
    }

    fn trouble(&mut self, what: String) {
        self.report.errors += 1;
        self.report.first_trouble.get_or_insert(what);
    }
}

fn blocks(span: Span) -> std::ops::Range<u64> {
    span.offset() / BLOCK..span.end() / BLOCK
}

/// What a write leaves in a block, and no other write in no other block.
fn pattern(number: usize, block: u64) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("write {number} of block {block}").as_bytes());
    let mut bytes = vec![0; usize::try_from(BLOCK).unwrap_or_default()];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// What came of it.
struct Report {
    took: Duration,
    own: Duration,
    read_bytes: u64,
    wrong_bytes: u64,
    errors: u64,
    first_trouble: Option<String>,
    /// How long, and when it began.
    longest: (Duration, Duration),
    times: Histogram<u64>,
}

impl Report {
    fn show(&self, trace: &Trace, writes: &[Write], json: bool) -> Result<()> {
        let ms = |percent: f64| self.times.value_at_percentile(percent) as f64 / 1000.0;
        let (longest, at) = (self.longest.0.as_secs_f64() * 1000.0, self.longest.1);
        if json {
            // On one line, as `ready` is: whoever waited reads lines.
            return line(json!({
                "trace": trace.name,
                "reads": trace.reads.len(),
                "writes": writes.len(),
                "seconds": self.took.as_secs_f64(),
                "own_seconds": self.own.as_secs_f64(),
                "read_bytes": self.read_bytes,
                "wrong_bytes": self.wrong_bytes,
                "errors": self.errors,
                "first_trouble": self.first_trouble,
                "longest_ms": longest,
                "longest_at_s": at.as_secs_f64(),
                "p50_ms": ms(50.0),
                "p99_ms": ms(99.0),
            }));
        }
        fact("trace", &trace.name)?;
        fact(
            "requests",
            format_args!("{} reads, {} writes", trace.reads.len(), writes.len()),
        )?;
        fact(
            "time",
            format_args!(
                "{:.2} s, of which {:.2} s the guest's own",
                self.took.as_secs_f64(),
                self.own.as_secs_f64()
            ),
        )?;
        fact(
            "latency",
            format_args!(
                "half {:.2} ms, 99 of 100 {:.2} ms, the longest {longest:.2} ms",
                ms(50.0),
                ms(99.0)
            ),
        )?;
        fact("compared", size(self.read_bytes))?;
        fact("wrong bytes", self.wrong_bytes)?;
        fact("errors", self.errors)?;
        match &self.first_trouble {
            Some(trouble) => fact("first", trouble),
            None => Ok(()),
        }
    }
}
