//! WRITE ATOMIC(16) (SBC-4 §5.50): all blocks are written or none, whoever looks and whatever ends in between.
//!
//! The data goes into a journal first, then in place: four flushes for one write. Readers of the same blocks wait,
//! others do not. The work is a task of its own, since a write that was dropped half-way would be neither.
//!
//! Whoever writes atomically, or makes such a write whole, holds the blocks first and takes its turn then.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use iscsi_proto::scsi::{LbaRange, Sense, SenseData};
use iscsi_proto::session::Response;
use tokio::sync::Mutex;
use tracing::{error, warn};
use vmthunder_volume::{Class, Span, Volume};

use super::journal::{Journal, Record};
use super::ranges::{Hold, Holding, Ranges};
use super::spans::bytes_32;
use super::{COMPLAINTS, LogicalUnit};
use crate::asker::Asker;
use crate::failure::Failure;
use crate::tasks::poll_once;

/// Bytes in the longest WRITE ATOMIC.
pub(crate) const MAX_ATOMIC_BYTES: u64 = 1 << 20;

/// What makes writes atomic.
#[derive(Debug)]
pub(super) struct Atomic {
    journal: Journal,
    /// Who reads what; atomic writes stay out of it.
    readers: Ranges,
    /// Counts the beginnings and the ends of changes in place: odd while there is one.
    changes: AtomicU64,
    /// The record has to be followed before anything else. Looked at by every command, changed with the lock held.
    due: AtomicBool,
    /// One atomic write at a time, and the record that is due.
    turn: Mutex<Option<Record>>,
}

impl Atomic {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (journal, found) = Journal::open(path)?;
        Ok(Self {
            journal,
            readers: Ranges::default(),
            changes: AtomicU64::new(0),
            due: AtomicBool::new(found.is_some()),
            turn: Mutex::new(found),
        })
    }

    fn is_due(&self) -> bool {
        self.due.load(Ordering::SeqCst)
    }

    /// Begins a change in place, which ends when this is dropped.
    fn change(&self) -> Change<'_> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        Change(self)
    }

    /// How many changes there were; none while one goes on or has to be made whole.
    fn settled(&self) -> Option<u64> {
        let changes = self.changes.load(Ordering::SeqCst);
        (changes.is_multiple_of(2) && !self.is_due()).then_some(changes)
    }
}

/// Blocks are being changed that are to be seen changed all together.
struct Change<'a>(&'a Atomic);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
    }
}

impl<V: Volume> LogicalUnit<V> {
    pub(crate) fn has_atomic_writes(&self) -> bool {
        self.atomic.is_some()
    }

    /// All of the data, or a misunderstanding that cannot be half-way obeyed.
    pub(super) fn write_atomic_bytes(
        &self,
        range: LbaRange,
        boundary: u16,
        offered: u32,
    ) -> Result<u32, Failure> {
        let span = self.checked(range.lba(), range.blocks().into())?;
        if boundary != 0 {
            return Err(SenseData::cdb_field(10, 7).into());
        }
        if span.length() > MAX_ATOMIC_BYTES || bytes_32(span) != offered {
            return Err(SenseData::cdb_field(12, 7).into());
        }
        Ok(bytes_32(span))
    }

    /// The data is on the medium when this is answered, with or without FUA.
    pub(super) async fn write_atomic(
        &self,
        range: LbaRange,
        data: Bytes,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        let span = self.checked(range.lba(), range.blocks().into())?;
        if u64::try_from(data.len()) != Ok(span.length()) {
            return Err(SenseData::cdb_field(12, 7).into());
        }
        if span.is_empty() {
            return Ok(Response::good());
        }
        let (unit, class) = (self.own(asker)?, asker.export.class);
        let mut work = Box::pin(async move { unit.write_whole(span, data, class).await });
        // The place in line for its blocks is taken now: who fences it when it is aborted comes behind.
        match poll_once(work.as_mut()).await {
            Poll::Ready(written) => written?,
            Poll::Pending => tokio::spawn(work)
                .await
                .map_err(|_| Failure::from(Sense::INTERNAL_TARGET_FAILURE))??,
        }
        Ok(Response::written(bytes_32(span)))
    }

    /// Reads a span so that an atomic write is seen done or not begun. Those are rare: a read that none came across waits
    /// for nobody, another one is repeated with them kept out.
    pub(super) async fn read_steadily(&self, span: Span, class: Class) -> Result<Bytes, Failure> {
        let settled = || self.atomic.as_ref().map_or(Some(0), Atomic::settled);
        if let Some(changes) = settled() {
            let data = self.read_span(span, class).await?;
            if settled() == Some(changes) {
                return Ok(data);
            }
        }
        let _steady = self.steady(span).await?;
        self.read_span(span, class).await
    }

    /// Keeps atomic writes out of a span that is read.
    pub(super) async fn steady(&self, span: Span) -> Result<Option<Holding<'_>>, Failure> {
        let Some(atomic) = &self.atomic else {
            return Ok(None);
        };
        let held = atomic.readers.hold(span, Hold::Shared).await?;
        self.check_whole()?;
        Ok(Some(held))
    }

    /// Holds a run that is about to be written.
    pub(super) async fn hold(&self, span: Span, hold: Hold) -> Result<Holding<'_>, Failure> {
        let held = self.ranges.hold(span, hold).await?;
        self.check_whole()?;
        Ok(held)
    }

    /// Makes an atomic write whole that was interrupted, before its blocks are looked at or changed.
    pub(super) async fn make_whole(&self) -> Result<(), Failure> {
        let Some(atomic) = &self.atomic else {
            return Ok(());
        };
        while atomic.is_due() {
            let due = atomic.turn.lock().await.as_ref().map(Record::span);
            let Some(span) = due else {
                break;
            };
            let _written = self.ranges.hold(span, Hold::Alone).await?;
            let mut turn = atomic.turn.lock().await;
            // Another one may be due by now.
            if let Some(record) = turn.as_ref().filter(|record| record.span() == span) {
                self.follow(atomic, record).await?;
                *turn = None;
                atomic.due.store(false, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    /// An atomic write may have failed half-way while a command waited for its blocks: then the initiator sends it again,
    /// and that write is made whole first.
    fn check_whole(&self) -> Result<(), Failure> {
        match &self.atomic {
            Some(atomic) if atomic.is_due() => Err(Failure::Busy),
            _ => Ok(()),
        }
    }

    async fn write_whole(&self, span: Span, data: Bytes, class: Class) -> Result<(), Failure> {
        let Some(atomic) = &self.atomic else {
            return Err(Sense::INVALID_OPERATION_CODE.into());
        };
        let _written = self.hold(span, Hold::Alone).await?;
        let mut turn = atomic.turn.lock().await;
        // The journal has room for one record, and this one is still needed.
        self.check_whole()?;
        let _read = atomic.readers.hold(span, Hold::Alone).await?;
        // Until it is known whether the record has to be followed.
        let _change = atomic.change();
        let old = self.read_span(span, class).await?;
        // What the record says of the blocks before has to hold after a loss of power, too.
        self.flush().await?;
        let block_bytes = usize::try_from(self.block_bytes()).unwrap_or(usize::MAX);
        let record = Record {
            offset: span.offset(),
            before: Record::sums(&old, block_bytes),
            data: data.clone(),
        };
        let written = match atomic.journal.write(&record).await {
            Ok(()) => self.replace(span, data, old).await,
            Err(error) => Ok(Err(self.journal_failed(&error))),
        };
        let ended = match written {
            Ok(answer) => {
                let struck = atomic.journal.strike().await;
                struck
                    .map_err(|error| self.journal_failed(&error))
                    .map(|()| answer)
            }
            Err(failure) => Err(failure),
        };
        ended.unwrap_or_else(|failure| {
            // While the record stands, whatever is written to these blocks would be lost with the next start.
            *turn = Some(record);
            atomic.due.store(true, Ordering::SeqCst);
            Err(failure)
        })
    }

    /// Writes in place; if that fails, puts back what was there. Fails if neither can be done: then the record is
    /// needed.
    async fn replace(
        &self,
        span: Span,
        data: Bytes,
        old: Bytes,
    ) -> Result<Result<(), Failure>, Failure> {
        let Err(failure) = self.put_safely(span, data).await else {
            return Ok(Ok(()));
        };
        self.put_safely(span, old).await?;
        Ok(Err(failure))
    }

    async fn put_safely(&self, span: Span, data: Bytes) -> Result<(), Failure> {
        self.put(span.offset(), data).await?;
        self.flush().await
    }

    /// Writes what a record says, if the blocks are those that it is about.
    async fn follow(&self, atomic: &Atomic, record: &Record) -> Result<(), Failure> {
        let span = record.span();
        let inside = self.geometry().check(span).is_ok();
        if inside && record.fits(&self.read_span(span, Class::Demand).await?) {
            self.put_safely(span, record.data.clone()).await?;
        } else {
            let (target, unit) = (&self.target, self.unit.number);
            warn!(%target, unit, %span, "an atomic write that was interrupted is left out: its blocks have other content");
        }
        let struck = atomic.journal.strike().await;
        struck.map_err(|error| self.journal_failed(&error))
    }

    fn journal_failed(&self, error: &io::Error) -> Failure {
        if let Some(unsaid) = COMPLAINTS.may_say(Instant::now()) {
            let (target, unit) = (&self.target, self.unit.number);
            error!(%target, unit, %error, unsaid, "the journal of atomic writes fails");
        }
        Sense::WRITE_ERROR.into()
    }
}
