//! `recent`: what changed since the masks were last written to `map`.
//!
//! Nothing here is ever synced. The log speaks only within the run of the machine in which it was written, where
//! the page cache keeps it whole however the program ends; after a loss of power it is from another run, and void.
//! Records are numbered without end, so what an older log left in the file is never taken for a newer one's.

use std::io;
use std::sync::Arc;

use zerocopy::{FromZeros, IntoBytes};

use super::format::{LOG_START, RECORD_BYTES, RawLogHeader, RawRecord, Record};
use crate::disk::{BootId, Disk};
use crate::fault::{self, Fault};

/// The log of an open overlay.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    boot: BootId,
    start: u64,
    tail: u64,
    sequence: u64,
}

/// A point in the log: everything before it is in `map`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    tail: u64,
    sequence: u64,
}

impl Log {
    /// Reads the log, shows each record in order, and goes on behind the last one. `take` says whether the record
    /// makes sense; the log ends at the first that does not.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        boot: BootId,
        mut take: impl FnMut(Record) -> bool,
    ) -> io::Result<Self> {
        let size = disk.size()?;
        let Some((start, first)) = beginning(disk.as_ref(), boot)? else {
            // Void. What an older log left could have any number, so it goes altogether.
            if !fault::made(Fault::LogNotEmptied) {
                disk.set_size(0)?;
                disk.set_size(LOG_START)?;
            }
            let log = Self {
                disk,
                boot,
                start: LOG_START,
                tail: LOG_START,
                sequence: 0,
            };
            log.write_header(LOG_START, 0)?;
            return Ok(log);
        };
        let mut log = Self {
            disk,
            boot,
            start,
            tail: start,
            sequence: first,
        };
        let mut piece = vec![RawRecord::new_zeroed(); PIECE_RECORDS];
        'pieces: while log.tail < size {
            let room = (size - log.tail) / RECORD_BYTES;
            let count = usize::try_from(room)
                .unwrap_or(PIECE_RECORDS)
                .min(PIECE_RECORDS);
            let records = piece.get_mut(..count).unwrap_or_default();
            if records.is_empty() {
                break;
            }
            log.disk.read_at(log.tail, records.as_mut_bytes())?;
            for raw in records.iter() {
                match raw.parse(log.sequence) {
                    Some(record) if take(record) => {
                        log.tail += RECORD_BYTES;
                        log.sequence += 1;
                    }
                    _ => break 'pieces,
                }
            }
        }
        Ok(log)
    }

    /// True if the log speaks for this run of the machine.
    pub(super) fn speaks(disk: &dyn Disk, boot: BootId) -> io::Result<bool> {
        Ok(beginning(disk, boot)?.is_some())
    }

    /// Adds a record. After an error it is not there.
    pub(super) fn append(&mut self, record: Record) -> io::Result<()> {
        self.disk
            .write_at(self.tail, record.raw(self.sequence).as_bytes())?;
        self.go_on();
        Ok(())
    }

    /// Adds a record if that needs no waiting; false if it is not there.
    pub(super) fn append_now(&mut self, record: Record) -> bool {
        let raw = record.raw(self.sequence);
        let done = self.disk.write_now(self.tail, raw.as_bytes());
        if done {
            self.go_on();
        }
        done
    }

    fn go_on(&mut self) {
        self.tail += RECORD_BYTES;
        self.sequence += 1;
    }

    /// Bytes of records.
    pub(super) fn length(&self) -> u64 {
        self.tail - self.start
    }

    /// The end of the log now.
    pub(super) fn position(&self) -> Position {
        Position {
            tail: self.tail,
            sequence: self.sequence,
        }
    }

    /// Forgets what stands before `position`, because `map` has it. Records behind it stay: others go on writing
    /// while a flush is under way.
    pub(super) fn forget_before(&mut self, position: Position) -> io::Result<()> {
        // The header first: as long as it names the old beginning, records must go on behind the old end.
        if position.tail == self.tail {
            self.write_header(LOG_START, self.sequence)?;
            self.start = LOG_START;
            self.tail = LOG_START;
            return Ok(());
        }
        self.write_header(position.tail, position.sequence)?;
        let freed = self.start.next_multiple_of(PAGE);
        self.start = position.tail;
        let whole = self.start - self.start % PAGE;
        if whole > freed {
            // The space matters only to a log that never becomes empty; a file system that cannot give it back
            // keeps it until the log does.
            self.disk.punch(freed, whole - freed).ok();
        }
        Ok(())
    }

    /// Makes the log speak for nobody.
    pub(super) fn void(&self) -> io::Result<()> {
        let nobody = RawLogHeader::new(BootId([0; 16]), self.start, self.sequence);
        self.disk.write_at(0, nobody.as_bytes())
    }

    fn write_header(&self, start: u64, sequence: u64) -> io::Result<()> {
        self.disk
            .write_at(0, RawLogHeader::new(self.boot, start, sequence).as_bytes())
    }
}

/// Where the first record stands and its number, if the log speaks for this run of the machine.
fn beginning(disk: &dyn Disk, boot: BootId) -> io::Result<Option<(u64, u64)>> {
    let mut header = RawLogHeader::new_zeroed();
    if disk.size()? >= LOG_START {
        disk.read_at(0, header.as_mut_bytes())?;
    }
    Ok(header.parse(boot))
}

const PIECE_RECORDS: usize = 4096;
const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Log, Record};
    use crate::disk::{BootId, Disk};
    use crate::overlay::format::Change;
    use crate::testing::{CrashDisk, Machine};

    fn record(sector: u64) -> Record {
        Record {
            sector,
            sectors: 1,
            change: Change::Own,
        }
    }

    fn open(disk: &Arc<CrashDisk>, boot: u8) -> (Log, Vec<u64>) {
        let mut sectors = Vec::new();
        let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
        let log = Log::open(disk, BootId([boot; 16]), |record| {
            sectors.push(record.sector);
            true
        });
        (log.unwrap(), sectors)
    }

    #[test]
    fn what_was_written_during_a_flush_stays_and_older_records_never_return() {
        let disk = CrashDisk::new(&Machine::new());
        let (mut log, found) = open(&disk, 1);
        assert!(found.is_empty());
        (0..300).for_each(|sector| log.append(record(sector)).unwrap());
        let position = log.position();
        log.append(record(300)).unwrap();
        log.forget_before(position).unwrap();
        log.append(record(301)).unwrap();
        let (mut log, found) = open(&disk, 1);
        assert_eq!(found, [300, 301]);
        let position = log.position();
        log.forget_before(position).unwrap();
        assert_eq!((log.length(), open(&disk, 1).1), (0, vec![]));
        // Over the places of older records, whose successors stand behind.
        log.append(record(7)).unwrap();
        assert_eq!(open(&disk, 1).1, [7]);
        assert!(open(&disk, 2).1.is_empty(), "another run of the machine");
        assert!(open(&disk, 1).1.is_empty(), "and void from then on");
    }

    #[test]
    fn a_voided_log_speaks_for_nobody() {
        let disk = CrashDisk::new(&Machine::new());
        let (mut log, _) = open(&disk, 1);
        log.append(record(1)).unwrap();
        log.void().unwrap();
        assert!(open(&disk, 1).1.is_empty());
        let (mut unknown, _) = open(&disk, 0);
        unknown.append(record(1)).unwrap();
        assert!(
            open(&disk, 0).1.is_empty(),
            "a machine without a boot id vouches for nothing"
        );
    }
}
