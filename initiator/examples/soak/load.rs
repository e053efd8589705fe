//! Verified load on a unit: lanes that write blocks of their own, read them back, and count what is not as it should be.

use std::time::{Duration, Instant};

use iscsi_initiator::{Class, Comparison, Error, Remote, Span, Volume, VolumeError};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::model::{Begun, MULTIPLIER, Model, mix};

/// What was done, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    /// Writes of which nobody knows whether they happened.
    pub(crate) doubts: u64,
    /// Commands that failed otherwise.
    pub(crate) errors: u64,
    /// Blocks that hold what they held before a write that was acknowledged.
    pub(crate) lost: u64,
    /// Blocks that hold what nobody ever wrote there.
    pub(crate) wrong: u64,
    /// The longest time that a command took.
    pub(crate) longest: Duration,
}

/// Load that rests.
pub(crate) struct Load {
    remote: Remote,
    lanes: Vec<Lane>,
}

/// Load that runs.
pub(crate) struct Running {
    remote: Remote,
    stop: watch::Sender<bool>,
    lanes: Vec<JoinHandle<Lane>>,
}

impl Load {
    /// So many lanes, each with its part of a unit that holds zeros.
    pub(crate) fn new(remote: Remote, lanes: usize, seed: u64) -> Self {
        let geometry = remote.geometry();
        let block_bytes = geometry.block_size().bytes() as usize;
        let blocks = geometry.blocks() / lanes as u64;
        let lane = |number: u64| Lane {
            model: Model::new(
                seed,
                number * blocks,
                usize::try_from(blocks).unwrap_or(usize::MAX),
                block_bytes,
            ),
            remote: remote.clone(),
            random: mix(seed ^ mix(number + 1)),
            compares: true,
            figures: Figures::default(),
        };
        Self {
            lanes: (0..lanes as u64).map(lane).collect(),
            remote,
        }
    }

    /// Lets every lane write and read until it is told to stop.
    pub(crate) fn start(self) -> Running {
        let (stop, stopped) = watch::channel(false);
        let lane = |lane: Lane| tokio::spawn(lane.run(stopped.clone()));
        Running {
            remote: self.remote,
            lanes: self.lanes.into_iter().map(lane).collect(),
            stop,
        }
    }

    /// Reads every block and compares it.
    pub(crate) async fn check(&mut self) {
        let mut checks = JoinSet::new();
        for mut lane in std::mem::take(&mut self.lanes) {
            checks.spawn(async move {
                let mut at = 0;
                while at < lane.model.len() {
                    let blocks = CHECK_BLOCKS.min(lane.model.len() - at);
                    lane.read(at, blocks).await;
                    at += blocks;
                }
                lane
            });
        }
        self.lanes = checks.join_all().await;
    }

    /// The sum over all lanes; the longest time is that of the commands since the last sum.
    pub(crate) fn figures(&mut self) -> Figures {
        let mut sum = Figures::default();
        for Lane { figures, .. } in &mut self.lanes {
            sum.writes += figures.writes;
            sum.reads += figures.reads;
            sum.doubts += figures.doubts;
            sum.errors += figures.errors;
            sum.lost += figures.lost;
            sum.wrong += figures.wrong;
            sum.longest = sum.longest.max(std::mem::take(&mut figures.longest));
        }
        sum
    }
}

impl Running {
    /// Waits until every command has ended.
    pub(crate) async fn stop(self) -> Load {
        // Lanes that ended are gone; nobody listens then.
        let _ = self.stop.send(true);
        let mut lanes = Vec::new();
        for lane in self.lanes {
            lanes.push(lane.await.expect("no lane panics"));
        }
        Load {
            remote: self.remote,
            lanes,
        }
    }
}

/// A part of the unit that nobody else writes.
struct Lane {
    remote: Remote,
    model: Model,
    random: u64,
    compares: bool,
    figures: Figures,
}

/// What a write is done with.
#[derive(Clone, Copy)]
enum How {
    Write,
    Through,
    Zeros,
}

impl Lane {
    async fn run(mut self, stop: watch::Receiver<bool>) -> Self {
        while !*stop.borrow() {
            self.write_some().await;
            if self.draw(4) == 0 {
                self.compare_and_write().await;
            }
            if self.draw(8) == 0 {
                self.flush().await;
            }
            let (block, blocks) = self.some_blocks();
            self.read(block, blocks).await;
        }
        self
    }

    /// Some writes at one time, which may touch each other.
    async fn write_some(&mut self) {
        let mut writes = JoinSet::new();
        let mut spans = Vec::new();
        for _ in 0..=self.draw(MOST_AT_ONCE) {
            let (block, blocks) = self.some_blocks();
            let how = match self.draw(8) {
                0 => How::Through,
                1 => How::Zeros,
                _ => How::Write,
            };
            let write = self.model.begin(block, blocks, matches!(how, How::Zeros));
            let span = self.span(block, blocks);
            spans.push(span);
            let bytes = self.model.bytes(write).into();
            let remote = self.remote.clone();
            writes.spawn(async move {
                let started = Instant::now();
                let result = match how {
                    How::Write => remote.write(span.offset(), bytes).await,
                    How::Through => remote
                        .write_through(span.offset(), &bytes)
                        .await
                        .map_err(VolumeError::from),
                    How::Zeros => remote.write_zeroes(span).await.map_err(VolumeError::from),
                };
                (write, span, result, started)
            });
        }
        while let Some(written) = writes.join_next().await {
            let (write, span, result, started) = written.expect("no write panics");
            self.took(started);
            self.figures.writes += 1;
            match result {
                Ok(()) => self.model.acknowledge(write),
                // One that touches it may have been acknowledged first: then it must not be repeated.
                Err(VolumeError::Unavailable) if touched(&spans, span) => self.doubt(write),
                Err(error) => self.fail(write, &error),
            }
        }
    }

    /// Swaps blocks of which there is no doubt.
    async fn compare_and_write(&mut self) {
        let longest = self.remote.longest_compare_and_write();
        let block = self.draw(self.model.len());
        let Some(expected) = self.model.known(block, 1) else {
            return;
        };
        if !self.compares || longest < expected.len() as u64 {
            return;
        }
        let write = self.model.begin(block, 1, false);
        let new = self.model.bytes(write);
        let started = Instant::now();
        let offset = self.model.offset(block);
        let result = self.remote.compare_and_write(offset, &expected, &new).await;
        self.took(started);
        self.figures.writes += 1;
        match result {
            Ok(Comparison::Written) => self.model.acknowledge(write),
            // The unit holds something else than it should; the read says what.
            Ok(Comparison::Differs { .. }) => {
                self.model.doubt(write);
                self.read(block, 1).await;
            }
            Err(Error::Interrupted | Error::Aborted | Error::TimedOut) => self.doubt(write),
            // Some units tell a length and do not know the command.
            Err(Error::Unsupported) => {
                self.model.doubt(write);
                self.compares = false;
            }
            Err(error) => self.fail(write, &error),
        }
    }

    async fn flush(&mut self) {
        let started = Instant::now();
        if let Err(error) = self.remote.flush().await {
            self.figures.errors += 1;
            eprintln!("flush: {error}");
        }
        self.took(started);
    }

    async fn read(&mut self, block: usize, blocks: usize) {
        let started = Instant::now();
        let span = self.span(block, blocks);
        let read = self.remote.read(span, Class::Demand).await;
        self.took(started);
        self.figures.reads += 1;
        match read {
            Ok(bytes) => {
                let (lost, wrong) = self.model.judge(block, &bytes);
                self.figures.lost += lost;
                self.figures.wrong += wrong;
                if lost + wrong > 0 {
                    eprintln!("read {span}: {lost} blocks lost, {wrong} wrong");
                }
            }
            Err(error) => {
                self.figures.errors += 1;
                eprintln!("read {span}: {error}");
            }
        }
    }

    fn doubt(&mut self, write: Begun) {
        self.figures.doubts += 1;
        self.model.doubt(write);
    }

    fn fail(&mut self, write: Begun, error: &dyn std::error::Error) {
        self.figures.errors += 1;
        self.model.doubt(write);
        eprintln!("write: {error}");
    }

    fn took(&mut self, started: Instant) {
        self.figures.longest = self.figures.longest.max(started.elapsed());
    }

    fn some_blocks(&mut self) -> (usize, usize) {
        let blocks = 1 + self.draw(MOST_BLOCKS.min(self.model.len()));
        (self.draw(self.model.len() - blocks + 1), blocks)
    }

    fn span(&self, block: usize, blocks: usize) -> Span {
        let offset = self.model.offset(block);
        Span::new(offset, self.model.offset(block + blocks) - offset)
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(MULTIPLIER).wrapping_add(1);
        usize::try_from(mix(self.random) % below.max(1) as u64).unwrap_or(0)
    }
}

/// True if another one of the spans touches this one.
fn touched(spans: &[Span], span: Span) -> bool {
    let touching = |other: &&Span| other.offset() < span.end() && span.offset() < other.end();
    spans.iter().filter(touching).count() > 1
}

/// Writes of one lane at one time.
const MOST_AT_ONCE: usize = 4;

/// Blocks of one write, and of one read of a check.
const MOST_BLOCKS: usize = 64;
const CHECK_BLOCKS: usize = 2048;
