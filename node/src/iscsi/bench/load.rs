//! Sessions that keep a unit busy.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use iscsi_initiator::Remote;
use tokio::sync::{Notify, mpsc};
use vmthunder_volume::Geometry;

use crate::args::{BenchArgs, Pattern};
use crate::iscsi::bench::tally::Tally;
use crate::iscsi::bench::{content, region};
use crate::iscsi::reach::{Place, Reached, reach};

/// What is under way at the end may take so much longer before it counts as unfinished.
const GRACE: Duration = Duration::from_secs(3);

/// How long a logout may hold up the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is to be done, and how far it is.
#[derive(Debug)]
pub(super) struct Load {
    place: Place,
    /// Bytes of one read or write.
    block: u64,
    /// Blocks of that length that are used.
    blocks: u64,
    read_percent: u8,
    pattern: Pattern,
    depth: u16,
    sessions: u16,
    verify: bool,
    phase: AtomicU8,
    begin: Notify,
    ready: AtomicUsize,
    /// Reads and writes that are left to be done, if that is limited.
    left: Option<AtomicI64>,
    done: AtomicU64,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Sessions log in.
    Connecting = 0,
    /// They read and write, and nothing is counted.
    WarmUp = 1,
    /// Everything is counted.
    Measured = 2,
    /// It is over.
    Over = 3,
}

impl Load {
    pub(super) fn new(args: &BenchArgs, place: &Place, geometry: Geometry) -> Result<Self> {
        let (block, span) = (args.block.as_u64(), region(args, geometry)?);
        let mut place = place.clone();
        let depth = args.depth.get();
        // Nothing that we ask for waits on our own side.
        place.options.queue_limit = place.options.queue_limit.max(depth.into());
        let left = args
            .ops
            .map(|ops| i64::try_from(ops.get()).unwrap_or(i64::MAX));
        Ok(Self {
            place,
            block,
            blocks: span.length() / block,
            read_percent: args.read_percent,
            pattern: args.pattern,
            depth,
            sessions: args.sessions,
            verify: args.verify,
            phase: AtomicU8::new(Phase::Connecting as u8),
            begin: Notify::new(),
            ready: AtomicUsize::new(0),
            left: left.map(AtomicI64::new),
            done: AtomicU64::new(0),
        })
    }

    /// Bytes of one read or write.
    pub(super) fn block(&self) -> u64 {
        self.block
    }

    /// Bytes that are used.
    pub(super) fn span(&self) -> u64 {
        self.blocks * self.block
    }

    /// Sessions that are logged in.
    pub(super) fn ready(&self) -> usize {
        self.ready.load(Ordering::Acquire)
    }

    /// Reads and writes that were counted.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Begins a phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.begin.notify_waiters();
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) == phase as u8
    }

    /// Waits for the warm-up.
    async fn begun(&self) {
        loop {
            let begins = self.begin.notified();
            if !self.is(Phase::Connecting) {
                return;
            }
            begins.await;
        }
    }

    /// Waits until it has been over for so long that nothing ends any more that was under way.
    async fn overdue(&self) {
        loop {
            let changes = self.begin.notified();
            if self.is(Phase::Over) {
                return tokio::time::sleep(GRACE).await;
            }
            changes.await;
        }
    }

    /// True if another read or write may be begun that counts.
    fn take(&self) -> bool {
        match &self.left {
            Some(left) => left.fetch_sub(1, Ordering::Relaxed) > 0,
            None => true,
        }
    }
}

/// Drives every `threads`-th session from number `thread` on, in a runtime of its own. The first error is told at
/// once, since the other sessions go on.
pub(super) fn drive(
    load: &Load,
    thread: u16,
    threads: u16,
    failures: &mpsc::UnboundedSender<Result<()>>,
) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a thread");
    let tally = RefCell::new(Tally::new()?);
    let driven = runtime.and_then(|runtime| {
        let sessions = (thread..load.sessions).step_by(threads.max(1).into());
        let sessions = sessions.map(|number| session(load, number, &tally, failures));
        runtime.block_on(try_join_all(sessions))
    });
    if let Err(error) = driven {
        // Then nobody listens any more, since another error came first.
        let _ = failures.send(Err(error));
    }
    Ok(tally.into_inner())
}

/// One session from its login to its logout.
async fn session(
    load: &Load,
    number: u16,
    tally: &RefCell<Tally>,
    failures: &mpsc::UnboundedSender<Result<()>>,
) -> Result<()> {
    let reached = reach(load.place.clone()).await?;
    let lanes = lanes(load, number, &reached, tally, failures).await;
    // It is closed all the same.
    let _late = tokio::time::timeout(FAREWELL, reached.close()).await;
    lanes
}

async fn lanes(
    load: &Load,
    number: u16,
    reached: &Reached,
    tally: &RefCell<Tally>,
    failures: &mpsc::UnboundedSender<Result<()>>,
) -> Result<()> {
    let remote = reached.attach().await?;
    load.ready.fetch_add(1, Ordering::Release);
    load.begun().await;
    let lane = Lane {
        load,
        remote: &remote,
        tally,
        random: Cell::new(seed()?),
        next: Cell::new(load.blocks / u64::from(load.sessions.max(1)) * u64::from(number)),
        filler: Bytes::from(content::of(seed()? & !7, load.block)),
    };
    // One that fails does not keep the others from being counted.
    let run = async || {
        if let Err(error) = lane.run().await {
            tally.borrow_mut().errors += 1;
            // Then nobody listens any more, since another error came first.
            let _ = failures.send(Err(error));
        }
    };
    join_all((0..load.depth).map(|_| run())).await;
    Ok(())
}

/// What the lanes of a session share: each keeps one read or write under way.
struct Lane<'a> {
    load: &'a Load,
    remote: &'a Remote,
    tally: &'a RefCell<Tally>,
    random: Cell<u64>,
    /// The next block where they come one behind the other.
    next: Cell<u64>,
    /// What is written where nobody checks it.
    filler: Bytes,
}

impl Lane<'_> {
    async fn run(&self) -> Result<()> {
        loop {
            let counts = self.load.is(Phase::Measured);
            if self.load.is(Phase::Over) || (counts && !self.load.take()) {
                return Ok(());
            }
            let is_read = self.random() % 100 < u64::from(self.load.read_percent);
            let at = self.block() * self.load.block;
            let begun = Instant::now();
            let operation = async {
                match is_read {
                    true => self.read(at, counts).await,
                    false => self.write(at).await,
                }
            };
            let ended = tokio::select! {
                biased;
                ended = operation => ended,
                () = self.load.overdue() => {
                    self.tally.borrow_mut().unfinished(is_read, begun.elapsed());
                    return Ok(());
                }
            };
            ended?;
            // What ends after the end does not count as done; there the time is over. How long it took does.
            if counts {
                let in_time = self.load.is(Phase::Measured);
                self.tally
                    .borrow_mut()
                    .count(is_read, begun.elapsed(), in_time);
                self.load.done.fetch_add(in_time.into(), Ordering::Relaxed);
            }
        }
    }

    async fn read(&self, at: u64, counts: bool) -> Result<()> {
        let bytes = self.remote.read_at(at, self.load.block).await;
        let bytes = bytes.with_context(|| format!("cannot read at byte {at}"))?;
        if self.load.verify
            && counts
            && let Some(wrong) = content::first_wrong(at, &bytes)
        {
            self.tally.borrow_mut().wrong(wrong);
        }
        Ok(())
    }

    async fn write(&self, at: u64) -> Result<()> {
        let bytes = match self.load.verify {
            true => Bytes::from(content::of(at, self.load.block)),
            false => self.filler.clone(),
        };
        let written = self.remote.write_at(at, bytes).await;
        written.with_context(|| format!("cannot write at byte {at}"))
    }

    fn block(&self) -> u64 {
        match self.load.pattern {
            Pattern::Random => self.random() % self.load.blocks,
            Pattern::Sequential => {
                let block = self.next.get() % self.load.blocks;
                self.next.set(block + 1);
                block
            }
        }
    }

    /// A random number (xorshift64*, Vigna 2016).
    fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

/// Not zero, from which the numbers would never leave.
fn seed() -> Result<u64> {
    Ok(getrandom::u64().context("the operating system gives no random numbers")? | 1 << 63)
}
