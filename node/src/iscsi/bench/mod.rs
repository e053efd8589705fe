//! `vmthunder iscsi bench`: what a unit can do.

mod content;
mod load;
mod report;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use iscsi_initiator::Remote;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use vmthunder_volume::{Error as VolumeError, Geometry, Span, Volume};

use crate::args::BenchArgs;
use crate::image::bar;
use crate::iscsi::bench::load::{Load, Phase, drive};
use crate::iscsi::bench::report::Report;
use crate::iscsi::bench::tally::Tally;
use crate::iscsi::outcome::{Kind, Told};
use crate::iscsi::reach::{Place, with_unit};
use crate::observe::causes;
use crate::serve::end;
use crate::status::size;

/// The longest read or write.
const LONGEST: u64 = 16 * 1024 * 1024;

/// The most reads and writes under way in all sessions.
const MOST_UNDER_WAY: u64 = 65_536;

/// The most bytes of reads and writes under way in all sessions.
const MOST_MEMORY: u64 = 4 << 30;

/// Bytes of one write that fills the span, and how many are under way.
const FILL: u64 = 1024 * 1024;
const FILLS: usize = 16;

/// How often the line is renewed that shows how it goes.
const TICK: Duration = Duration::from_millis(500);

/// Measures; false if something that was read is not what it should be.
pub(super) async fn run(args: &BenchArgs) -> Result<bool> {
    let place = Place::of(&args.url, &args.unit.common)?.through(&args.unit.paths)?;
    let geometry = prepare(args, place.clone()).await?;
    let load = Arc::new(Load::new(args, &place, geometry)?);
    let threads = threads(args);
    let (ready, readiness) = mpsc::unbounded_channel();
    let mut workers = Vec::new();
    for thread in 0..threads {
        let (load, ready) = (Arc::clone(&load), ready.clone());
        let worker = std::thread::Builder::new().name(format!("bench-{thread}"));
        let worker = worker.spawn(move || drive(&load, thread, threads, &ready));
        workers.push(worker.context("cannot start a thread")?);
    }
    drop(ready);
    let measured = measure(args, &load, readiness).await;
    load.enter(Phase::Over);
    let tally = collect(workers).await;
    let measured = measured?;
    let report = Report::new(args, &load, &tally?, &measured);
    report.show(args.unit.common.json)?;
    match (measured.ended_by, report.unfinished()) {
        (Some(error), _) => Err(Told {
            kind: Kind::of(&error),
            text: causes(&error),
            is_printed: true,
        }
        .into()),
        (None, 0) => Ok(report.is_sound()),
        (None, many) => Err(Told {
            kind: Kind::Unreachable,
            text: format!("{many} reads and writes did not end: the target does not answer"),
            is_printed: true,
        }
        .into()),
    }
}

/// Finds out whether the unit may be measured like that, asks before it is written, and fills it if reads are to be
/// checked.
async fn prepare(args: &BenchArgs, place: Place) -> Result<Geometry> {
    let writes = args.read_percent < 100;
    ensure!(
        !writes || args.destructive,
        "with --read-percent {} it writes, which overwrites what is on the disk: say --destructive if that is meant; never on a disk that is mounted anywhere",
        args.read_percent
    );
    with_unit(place, async |unit| {
        let remote = unit.attach().await?;
        let geometry = remote.geometry();
        let span = region(args, geometry)?;
        if args.destructive {
            if remote.is_read_only() {
                return Err(VolumeError::ReadOnly).context("the unit is write-protected");
            }
            let whole = geometry.bytes();
            let consent = unit.ask_consent(whole, "--destructive writes to", args.yes);
            consent.await?;
        }
        if args.destructive && args.verify {
            fill(&remote, span).await?;
        }
        Ok(geometry)
    })
    .await
}

/// The part of the unit that is used: whole blocks of the length that is read and written.
fn region(args: &BenchArgs, geometry: Geometry) -> Result<Span> {
    let (block, length) = (
        u64::from(geometry.block_size().bytes()),
        args.block.as_u64(),
    );
    ensure!(
        length > 0 && length <= LONGEST && length.is_multiple_of(block),
        "--block: {length} bytes are not a whole number of the unit's blocks of {block} bytes, up to {}",
        size(LONGEST)
    );
    let bytes = match args.span {
        None => geometry.bytes(),
        Some(span) => span.as_u64(),
    };
    ensure!(
        bytes <= geometry.bytes(),
        "--span: the unit has only {}",
        size(geometry.bytes())
    );
    let used = bytes - bytes % length;
    ensure!(used > 0, "--span: {bytes} bytes hold no block of {length}");
    let under_way = u64::from(args.sessions) * u64::from(args.depth.get());
    ensure!(
        under_way <= MOST_UNDER_WAY && under_way.saturating_mul(length) <= MOST_MEMORY,
        "--sessions, --depth and --block: {under_way} of {length} bytes under way are too much; at most {MOST_UNDER_WAY}, and {}",
        size(MOST_MEMORY)
    );
    Ok(Span::new(0, used))
}

/// Writes to every block of a span what [`content`] has for it.
async fn fill(remote: &Remote, span: Span) -> Result<()> {
    let bar = bar(span.length());
    let parts = (0..span.end()).step_by(usize::try_from(FILL).unwrap_or(usize::MAX));
    let write = |at: u64| {
        let bar = &bar;
        async move {
            let length = FILL.min(span.end() - at);
            let bytes = Bytes::from(content::of(at, length));
            let written = remote.write_at(at, bytes).await;
            written.with_context(|| format!("cannot fill the span at byte {at}"))?;
            bar.inc(length);
            anyhow::Ok(())
        }
    };
    let mut written = futures::stream::iter(parts)
        .map(write)
        .buffer_unordered(FILLS);
    while written.try_next().await?.is_some() {}
    bar.finish_and_clear();
    remote.synchronize().await.context("cannot flush")
}

fn threads(args: &BenchArgs) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = u16::try_from(cores).unwrap_or(u16::MAX);
    args.threads.unwrap_or(cores).min(args.sessions).max(1)
}

/// What was measured as a whole.
struct Measured {
    took: Duration,
    cpu: Duration,
    /// What ended it before its time.
    ended_by: Option<Error>,
}

/// Waits for the sessions, then lets them run; how long, and how much CPU time that took.
async fn measure(
    args: &BenchArgs,
    load: &Load,
    mut readiness: mpsc::UnboundedReceiver<Result<()>>,
) -> Result<Measured> {
    let interrupted = end(false);
    tokio::pin!(interrupted);
    let mut failed = async |wait: Duration| {
        let deadline = tokio::time::Instant::now() + wait;
        tokio::select! {
            ended = &mut interrupted => {
                ended.context("cannot wait for signals")?;
                Err(Told::new(Kind::Interrupted, "interrupted").into())
            }
            told = next_failure(&mut readiness) => told,
            () = tokio::time::sleep_until(deadline) => Ok(true),
        }
    };
    while load.ready() < args.sessions.into() {
        if !failed(Duration::from_millis(5)).await? {
            bail!("the sessions ended before they began");
        }
    }
    if !args.warm_up.is_zero() {
        load.enter(Phase::WarmUp);
        failed(args.warm_up).await?;
    }
    let (begun, cpu) = (Instant::now(), cpu_time());
    load.enter(Phase::Measured);
    let live = Live::new();
    let mut ended_by = None;
    while begun.elapsed() < args.seconds {
        match failed(TICK.min(args.seconds.saturating_sub(begun.elapsed()))).await {
            Ok(true) => live.show(load, begun.elapsed()),
            Ok(false) => break,
            Err(error) => {
                ended_by = Some(error);
                break;
            }
        }
    }
    load.enter(Phase::Over);
    let measured = Measured {
        took: begun.elapsed(),
        cpu: cpu_time().saturating_sub(cpu),
        ended_by,
    };
    live.bar.finish_and_clear();
    Ok(measured)
}

/// The next error of a session; false when all of them have ended.
async fn next_failure(readiness: &mut mpsc::UnboundedReceiver<Result<()>>) -> Result<bool> {
    match readiness.recv().await {
        Some(Err(error)) => Err(error),
        Some(Ok(())) => Ok(true),
        None => Ok(false),
    }
}

async fn collect(workers: Vec<JoinHandle<Result<Tally>>>) -> Result<Tally> {
    let collected = tokio::task::spawn_blocking(move || {
        let mut all = Tally::new()?;
        for worker in workers {
            let tally = worker.join().map_err(|_| anyhow!("a thread panicked"))??;
            all.add(&tally)?;
        }
        Ok(all)
    });
    collected.await?
}

/// CPU time of this process, in the kernel and outside.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// The line that shows how it goes.
struct Live {
    bar: ProgressBar,
    before: AtomicU64,
}

impl Live {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self {
            bar: ProgressBar::new_spinner().with_style(style),
            before: AtomicU64::new(0),
        }
    }

    fn show(&self, load: &Load, elapsed: Duration) {
        let done = load.done();
        let since = done - self.before.swap(done, Ordering::Relaxed).min(done);
        let a_second = since as f64 / TICK.as_secs_f64();
        let bytes = a_second * load.block() as f64 / f64::from(1 << 20);
        self.bar.set_message(format!(
            "{:.0} s: {a_second:.0} I/O per second, {bytes:.0} MiB/s",
            elapsed.as_secs_f64()
        ));
        self.bar.tick();
    }
}
