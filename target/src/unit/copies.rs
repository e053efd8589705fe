//! The copies of a unit's initiators: how many at a time, and how they ended.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use iscsi_proto::scsi::copy::{CopyState, CopyStatus};
use iscsi_proto::scsi::{Sense, SenseData};

use crate::failure::Failure;
use crate::sessions::ItNexus;

/// Copies that one unit carries out at a time, of all initiators.
pub(super) const MAX_COPIES: u8 = 16;

/// Results that are held for all initiators of a unit; the oldest is given up for a new one.
const MAX_RESULTS: usize = 256;

/// What RECEIVE COPY RESULTS can ask for.
#[derive(Debug, Default)]
pub(super) struct Copies {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    running: u8,
    /// In the order in which the copies began.
    results: VecDeque<(ItNexus, u8, CopyResult)>,
}

/// How a copy stands, or how it ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyResult {
    pub(super) status: CopyStatus,
    pub(super) sense: Option<SenseData>,
}

/// A copy that is going on. If it is dropped before its end, it was aborted.
#[derive(Debug)]
pub(super) struct Copying<'a> {
    copies: &'a Copies,
    key: Option<(ItNexus, u8)>,
    result: CopyResult,
}

impl Copies {
    /// Begins a copy; without an identifier nobody can ask for its results.
    pub(super) fn begin(
        &self,
        nexus: &ItNexus,
        list_id: Option<u8>,
    ) -> Result<Copying<'_>, Failure> {
        let result = CopyResult {
            status: CopyStatus {
                state: CopyState::InProgress,
                segments: 0,
                bytes: 0,
            },
            sense: None,
        };
        let mut table = self.lock();
        if table.running >= MAX_COPIES {
            return Err(Failure::Busy);
        }
        if let Some(list_id) = list_id {
            table.add(nexus, list_id, result)?;
        }
        table.running += 1;
        Ok(Copying {
            copies: self,
            key: list_id.map(|id| (nexus.clone(), id)),
            result,
        })
    }

    /// The results of a copy.
    pub(super) fn result(&self, nexus: &ItNexus, list_id: u8) -> Option<CopyResult> {
        let table = self.lock();
        let found = table
            .results
            .iter()
            .find(|(owner, id, _)| owner == nexus && *id == list_id);
        found.map(|(_, _, result)| *result)
    }

    /// The results of a nexus that is gone.
    pub(super) fn forget(&self, nexus: &ItNexus) {
        self.lock().results.retain(|(owner, ..)| owner != nexus);
    }

    /// The results of everybody.
    pub(super) fn forget_all(&self) {
        self.lock().results.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, nexus: &ItNexus, list_id: u8, result: CopyResult) -> Result<(), SenseData> {
        let same = self
            .results
            .iter()
            .position(|(owner, id, _)| owner == nexus && *id == list_id);
        match same.and_then(|at| Some((at, self.results.get(at)?))) {
            Some((_, (_, _, older))) if older.status.state == CopyState::InProgress => {
                return Err(OPERATION_IN_PROGRESS.into());
            }
            Some((at, _)) => drop(self.results.remove(at)),
            None => {}
        }
        if self.results.len() >= MAX_RESULTS {
            self.results.pop_front();
        }
        self.results.push_back((nexus.clone(), list_id, result));
        Ok(())
    }
}

impl Copying<'_> {
    pub(super) fn wrote(&mut self, bytes: u64) {
        let status = &mut self.result.status;
        status.bytes = status.bytes.saturating_add(bytes);
        self.publish();
    }

    pub(super) fn segment_done(&mut self) {
        let status = &mut self.result.status;
        status.segments = status.segments.saturating_add(1);
        self.publish();
    }

    pub(super) fn end(mut self, outcome: &Result<(), Failure>) {
        self.result.status.state = match outcome {
            Ok(()) => CopyState::Completed,
            Err(_) => CopyState::Failed,
        };
        if let Err(Failure::Check(sense) | Failure::Described(sense)) = outcome {
            self.result.sense = Some(*sense);
        }
    }

    fn publish(&self) {
        let Some((nexus, list_id)) = &self.key else {
            return;
        };
        let mut table = self.copies.lock();
        // Not there any more if the nexus is gone, or the unit was reset.
        let own = table
            .results
            .iter_mut()
            .find(|(owner, id, _)| owner == nexus && id == list_id);
        if let Some((_, _, result)) = own {
            *result = self.result;
        }
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        if self.result.status.state == CopyState::InProgress {
            self.result.status.state = CopyState::Failed;
        }
        self.publish();
        self.copies.lock().running -= 1;
    }
}

/// FAILED SEGMENT DETAILS: the status of the copy and its sense (SPC-4 §6.26).
pub(super) fn failed_details(sense: &SenseData) -> Bytes {
    let sense = sense.to_fixed_bytes();
    let mut out = BytesMut::new();
    let length = u16::try_from(sense.len()).unwrap_or(u16::MAX);
    // AVAILABLE DATA counts what follows it.
    out.put_u32(u32::from(length) + 56);
    out.put_bytes(0, 52);
    out.put_u8(CHECK_CONDITION);
    out.put_u8(0);
    out.put_u16(length);
    out.put_slice(&sense);
    out.freeze()
}

/// OPERATION IN PROGRESS: the list identifier is in use (SPC-4 §6.4.3.2).
const OPERATION_IN_PROGRESS: Sense = Sense::new(5, 0x00, 0x16);
const CHECK_CONDITION: u8 = 0x02;
