//! SANITIZE (SBC-3 §4.11, §5.24): what was written can be read no more.
//!
//! The work is a task of its own: it survives the session that asked for it, and LOGICAL UNIT RESET. It waits for the
//! writes that are under way, and keeps everybody else out until it is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::scsi::sanitize::{self, Overwrite};
use iscsi_proto::scsi::{Command, SanitizeAction, Sense, SenseData};
use iscsi_proto::session::Response;
use tokio::time::{Instant, sleep, sleep_until};
use vmthunder_volume::{Allocation, Span, Volume};

use super::LogicalUnit;
use super::admit::asks_no_medium;
use super::ranges::Hold;
use super::spans::length_32;
use crate::asker::Asker;
use crate::failure::{Access, Failure};

/// How fast blocks are overwritten, so that other units of the same disk stay usable.
const BYTES_PER_SECOND: u64 = 256 << 20;

/// How long a SANITIZE keeps the unit from being ready at least. No unit attention tells of it, and who checks paths does
/// so every five seconds (multipath-tools): nobody shall take the new content for the old.
const SHORTEST: Duration = Duration::from_secs(8);

/// Bytes that are overwritten at once.
const TURN_BYTES: u64 = 1 << 20;

/// Bytes that are given back at once.
const ERASE_BYTES: u64 = 64 << 20;

/// Where a SANITIZE is.
#[derive(Debug, Default)]
pub(super) struct Sanitizing {
    /// Spares the lock while there is nothing to say.
    unusual: AtomicBool,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Calm,
    Running {
        /// How much is done, in parts of 65536.
        done: u16,
        unrestricted: bool,
    },
    Failed {
        /// EXIT FAILURE MODE will do (AUSE).
        unrestricted: bool,
    },
}

/// What is to be done.
#[derive(Clone, Debug)]
enum Wipe {
    Overwrite(Overwrite),
    Erase,
}

impl Sanitizing {
    /// Why a command cannot be obeyed now.
    pub(super) fn refusal(&self, command: &Command) -> Option<SenseData> {
        let sense = self.sense()?;
        let refused = match command {
            Command::Sanitize { .. } => matches!(self.phase(), Phase::Running { .. }),
            _ => !asks_no_medium(command),
        };
        refused.then_some(sense)
    }

    /// What REQUEST SENSE tells of it.
    pub(super) fn sense(&self) -> Option<SenseData> {
        if !self.unusual.load(Ordering::Acquire) {
            return None;
        }
        match self.phase() {
            Phase::Calm => None,
            Phase::Running { done, .. } => {
                Some(SenseData::progress(Sense::SANITIZE_IN_PROGRESS, done))
            }
            Phase::Failed { .. } => Some(Sense::SANITIZE_FAILED.into()),
        }
    }

    /// Begins, unless one is going on.
    fn begin(&self, unrestricted: bool) -> Result<(), SenseData> {
        let mut phase = self.lock();
        if let Phase::Running { done, .. } = *phase {
            return Err(SenseData::progress(Sense::SANITIZE_IN_PROGRESS, done));
        }
        *phase = Phase::Running {
            done: 0,
            unrestricted,
        };
        self.unusual.store(true, Ordering::Release);
        Ok(())
    }

    /// EXIT FAILURE MODE.
    fn forgive(&self) -> Result<(), SenseData> {
        let mut phase = self.lock();
        if let Phase::Failed {
            unrestricted: false,
        } = *phase
        {
            return Err(SenseData::cdb_field(1, 4));
        }
        *phase = Phase::Calm;
        self.unusual.store(false, Ordering::Release);
        Ok(())
    }

    fn progress(&self, part: u64, whole: u64) {
        let parts = u128::from(part) * 65_536 / u128::from(whole.max(1));
        if let Phase::Running { done, .. } = &mut *self.lock() {
            *done = u16::try_from(parts).unwrap_or(u16::MAX);
        }
    }

    fn end(&self, wiped: bool) {
        let mut phase = self.lock();
        if let Phase::Running { unrestricted, .. } = *phase {
            *phase = if wiped {
                Phase::Calm
            } else {
                Phase::Failed { unrestricted }
            };
            self.unusual.store(!wiped, Ordering::Release);
        }
    }

    fn phase(&self) -> Phase {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Volume> LogicalUnit<V> {
    /// How long the parameter list is.
    pub(super) fn sanitize_bytes(
        &self,
        action: SanitizeAction,
        parameter_length: u16,
    ) -> Result<u32, Failure> {
        sanitize::check_length(action, parameter_length, self.block_bytes())?;
        Ok(parameter_length.into())
    }

    pub(super) async fn sanitize(
        &self,
        asked: Asked,
        list: Bytes,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        let wipe = match asked.action {
            SanitizeAction::Overwrite => {
                Wipe::Overwrite(Overwrite::parse(&list, self.block_bytes())?)
            }
            SanitizeAction::BlockErase => Wipe::Erase,
            SanitizeAction::CryptographicErase => return Err(SenseData::cdb_field(1, 4).into()),
            SanitizeAction::ExitFailure => {
                self.sanitizing.forgive()?;
                return Ok(Response::good());
            }
        };
        let unit = self.own(asker)?;
        self.sanitizing.begin(asked.unrestricted)?;
        let work = tokio::spawn(async move { unit.wipe(wipe).await });
        if !asked.immediate {
            let ended = work.await;
            ended.map_err(|_| Failure::from(Sense::SANITIZE_FAILED))??;
        }
        Ok(Response::written(length_32(&list)))
    }

    /// The work itself.
    async fn wipe(&self, wipe: Wipe) -> Result<(), Failure> {
        let mut running = Running {
            sanitizing: &self.sanitizing,
            wiped: false,
        };
        let everything = Span::new(0, u64::MAX);
        let _held = self.hold(everything, Hold::Alone).await?;
        let mut pace = Pace::new();
        let wiped = match wipe {
            Wipe::Overwrite(overwrite) => self.overwrite_all(&overwrite, &mut pace).await,
            Wipe::Erase => self.erase_all(&mut pace).await,
        };
        wiped.map_err(|_| Failure::from(Sense::SANITIZE_FAILED))?;
        sleep_until(pace.began + SHORTEST).await;
        running.wiped = true;
        Ok(())
    }

    /// Each pass ends on the medium, else the next one would only change what a cache holds.
    async fn overwrite_all(&self, overwrite: &Overwrite, pace: &mut Pace) -> Result<(), Failure> {
        let passes = u64::from(overwrite.passes);
        for pass in 0..passes {
            let inverted = overwrite.invert && pass % 2 == 1;
            let flip = if inverted { 0xff } else { 0 };
            let block_bytes = usize::try_from(self.block_bytes()).unwrap_or(0);
            let block: Vec<u8> = overwrite
                .pattern
                .iter()
                .cycle()
                .take(block_bytes)
                .map(|byte| byte ^ flip)
                .collect();
            let mut at = 0;
            while let Some(part) = self.next_part(at, TURN_BYTES) {
                self.fill(part, &block, false).await?;
                at = part.end();
                let whole = self.geometry().bytes();
                self.sanitizing.progress(pass * whole + at, whole * passes);
                pace.keep(part.length()).await;
            }
            self.flush().await?;
        }
        Ok(())
    }

    /// What takes space is overwritten with zeros before it is given back: whoever gets the space finds nothing.
    async fn erase_all(&self, pace: &mut Pace) -> Result<(), Failure> {
        let mut at = 0;
        while let Some(part) = self.next_part(at, TURN_BYTES) {
            let allocated = self.unit.volume.allocation(part).await;
            let (kind, run) = allocated.map_err(|error| self.failed(&error, Access::Reading))?;
            let length = run.length().clamp(1, part.length());
            let run = Span::new(at, length);
            if kind == Allocation::Mapped {
                self.fill(run, &[], true).await?;
                pace.keep(length).await;
            }
            at = run.end();
            self.sanitizing.progress(at, self.geometry().bytes());
        }
        self.flush().await?;
        let mut at = 0;
        while let Some(part) = self.next_part(at, ERASE_BYTES) {
            self.trim(part).await?;
            at = part.end();
        }
        self.flush().await
    }

    /// The next part of the volume, which may have grown or shrunk meanwhile.
    fn next_part(&self, at: u64, most: u64) -> Option<Span> {
        let rest = self.geometry().bytes().saturating_sub(at);
        (rest > 0).then(|| Span::new(at, rest.min(most)))
    }
}

/// What the command descriptor block asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) action: SanitizeAction,
    pub(super) immediate: bool,
    pub(super) unrestricted: bool,
}

/// A SANITIZE that ends without having said how has failed.
struct Running<'a> {
    sanitizing: &'a Sanitizing,
    wiped: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.sanitizing.end(self.wiped);
    }
}

/// Keeps work below [`BYTES_PER_SECOND`].
struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            bytes: 0,
        }
    }

    async fn keep(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let due = Duration::from_millis(self.bytes.saturating_mul(1000) / BYTES_PER_SECOND);
        if let Some(early) = due.checked_sub(self.began.elapsed())
            && early >= SHORTEST_PAUSE
        {
            sleep(early).await;
        }
    }
}

/// Shorter pauses are gathered.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
