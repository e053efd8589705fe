//! What the store's disk is given in time: a limit for reads, another try after it was out of use, and a scrubber.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use blocking::{Task, unblock};
use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::Store;
use crate::body::{Found, lock};

/// Reads and fills that take too long.
#[derive(Debug, Default)]
pub(crate) struct Late {
    /// Reads under way on the pool.
    reading: AtomicUsize,
    overdue: AtomicUsize,
    since: Mutex<Option<SystemTime>>,
    /// When the fill under way began.
    fill: Mutex<Option<SystemTime>>,
}

/// Ends a fill.
pub(crate) struct Fill<'a>(&'a Late);

/// A read on the pool that is waited for only so long.
#[derive(Debug)]
pub(crate) struct Reading {
    task: Task<Option<Bytes>>,
    course: Arc<Course>,
}

/// A read is counted as overdue once, until it ends after all.
#[derive(Debug)]
struct Course {
    late: Arc<Late>,
    state: AtomicU8,
}

impl Late {
    /// True while reads that are overdue have not ended: others had better not wait behind them.
    pub(crate) fn is_late(&self) -> bool {
        self.overdue.load(Ordering::Acquire) > 0
    }

    /// Since when the disk does not answer.
    pub(crate) fn since(&self) -> Option<SystemTime> {
        let long = |began: &SystemTime| began.elapsed().is_ok_and(|took| took > LIMIT);
        lock(&self.since).or_else(|| lock(&self.fill).filter(long))
    }

    /// A fill begins.
    pub(crate) fn begin_fill(&self) -> Fill<'_> {
        *lock(&self.fill) = Some(SystemTime::now());
        Fill(self)
    }

    fn add(&self) {
        let mut since = lock(&self.since);
        if self.overdue.fetch_add(1, Ordering::AcqRel) == 0 {
            *since = Some(SystemTime::now());
            tracing::error!(
                limit_s = LIMIT.as_secs(),
                "cache disk does not answer: reads go past it until it does"
            );
        }
    }

    fn remove(&self) {
        let mut since = lock(&self.since);
        if self.overdue.fetch_sub(1, Ordering::AcqRel) == 1 {
            *since = None;
            tracing::warn!("cache disk answers again");
        }
    }
}

impl Drop for Fill<'_> {
    fn drop(&mut self) {
        *lock(&self.0.fill) = None;
    }
}

impl Reading {
    /// Begins to read a part of an extent of `length` bytes.
    pub(crate) fn begin(store: &Arc<Store>, found: Found, length: u32, part: Range<usize>) -> Self {
        let course = Arc::new(Course {
            late: Arc::clone(&store.late),
            state: AtomicU8::new(UNDER_WAY),
        });
        let (store, ours) = (Arc::clone(store), Arc::clone(&course));
        let task = unblock(move || {
            ours.late.reading.fetch_add(1, Ordering::Relaxed);
            let bytes = store.read_wait(&found, length, part);
            ours.late.reading.fetch_sub(1, Ordering::Relaxed);
            if ours.state.swap(ENDED, Ordering::AcqRel) == OVERDUE {
                ours.late.remove();
            }
            bytes
        });
        Self { task, course }
    }

    /// The bytes, if they are to be had and come in time.
    pub(crate) async fn end(self) -> Option<Bytes> {
        let Self { mut task, course } = self;
        if let Ok(bytes) = timeout(LIMIT, &mut task).await {
            return bytes;
        }
        course.late.add();
        let now =
            course
                .state
                .compare_exchange(UNDER_WAY, OVERDUE, Ordering::AcqRel, Ordering::Acquire);
        if now.is_err() {
            course.late.remove();
        }
        task.detach();
        None
    }
}

/// Where the scrubber is.
#[derive(Debug)]
pub(crate) struct Scrubber {
    slot: u32,
    /// Bytes that may be read now.
    budget: u64,
    /// Turns left to whoever reads for a guest.
    yielded: u32,
}

impl Scrubber {
    /// Begins anywhere: after each start somewhere else.
    pub(crate) fn new(slots: u64) -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let slot = u64::from(now.subsec_nanos()) * slots / 1_000_000_000;
        Self {
            slot: u32::try_from(slot).unwrap_or(0),
            budget: 0,
            yielded: 0,
        }
    }

    /// Goes on for `bytes` bytes, unless guests are waiting for the disk.
    pub(crate) fn turn(&mut self, store: &Store, bytes: u64) {
        let busy = store.late.reading.load(Ordering::Relaxed) > 0;
        if busy && self.yielded < MOST_YIELDED {
            self.yielded += 1;
            return;
        }
        self.yielded = 0;
        // Slow rates save up for a whole slot.
        self.budget = (self.budget + bytes).min(bytes.max(MOST_AT_ONCE));
        for _ in 0..MOST_SLOTS {
            if self.budget < MOST_AT_ONCE {
                return;
            }
            match store.scrub(self.slot) {
                Some(read) => {
                    self.budget = self.budget.saturating_sub(read);
                    self.slot += 1;
                }
                None if self.slot == 0 => return,
                None => {
                    self.slot = 0;
                    store.counters.scrub_passes.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Looks after the store until nobody has it any more. `rate`: bytes that the scrubber reads in a second.
pub(crate) async fn tend(store: Weak<Store>, rate: u64) {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let slots = store.upgrade().map_or(0, |store| store.stats().slots);
    let mut scrubber = Scrubber::new(slots);
    let mut pause = SHORTEST_PAUSE;
    let mut next_try = Instant::now() + pause;
    let mut looked = Instant::now();
    loop {
        turns.tick().await;
        let Some(store) = store.upgrade() else {
            return;
        };
        if store.is_out_of_use() {
            if Instant::now() >= next_try {
                unblock(move || store.heal()).await;
                // Also after it worked: a disk that comes and goes is not opened all the time.
                pause = (pause * 2).min(LONGEST_PAUSE);
                next_try = Instant::now() + pause;
            }
            continue;
        }
        if next_try.elapsed() > LONGEST_PAUSE {
            pause = SHORTEST_PAUSE;
        }
        if store.is_closed() {
            return;
        }
        let look = looked.elapsed() >= PLACE_PAUSE;
        if look {
            looked = Instant::now();
        } else if rate == 0 {
            continue;
        }
        scrubber = unblock(move || {
            if look {
                store.check_place();
            }
            if rate > 0 {
                scrubber.turn(&store, rate / TURNS_PER_SECOND);
            }
            scrubber
        })
        .await;
    }
}

/// How long a read from the SSD may take before its reader asks the volume below.
const LIMIT: Duration = Duration::from_secs(2);
const TURNS_PER_SECOND: u64 = 2;
const TURN: Duration = Duration::from_millis(500);
/// Between two tries to open a disk that is out of use.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two looks whether the file is still there.
const PLACE_PAUSE: Duration = Duration::from_secs(5);
/// How many turns in a row the scrubber gives up for guests.
const MOST_YIELDED: u32 = 8;
/// Slots that a turn looks at, most of them empty.
const MOST_SLOTS: u32 = 16 * 1024;
/// What reading one slot takes.
const MOST_AT_ONCE: u64 = 65_536;

const UNDER_WAY: u8 = 0;
const OVERDUE: u8 = 1;
const ENDED: u8 = 2;
