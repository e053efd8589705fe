//! What went over the wire during a check, to be shown when it fails.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use iscsi_proto::wire::bhs::FINAL;
use iscsi_proto::wire::{Header, Pdu};

use crate::wire::describe::{describe, most_shown, name, tag};

/// The lines of one check, shared by its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript(Arc<Mutex<Lines>>);

/// Which way a PDU went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the suite.
    Sent,
    /// To the suite.
    Received,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// A PDU.
    Pdu(Way, Pdu),
    /// Raw bytes that were sent: what they are, and how many.
    Bytes(String, usize),
    /// Something else that happened.
    Note(String),
}

#[derive(Debug, Default)]
struct Lines {
    began: Option<Instant>,
    connections: usize,
    /// How it began.
    first: Vec<Line>,
    /// How many lines after the first are gone.
    dropped: usize,
    /// How it went lately.
    last: VecDeque<Line>,
    /// With all of its data, unlike in the lines.
    received: Option<Pdu>,
}

#[derive(Debug)]
struct Line {
    seconds: f64,
    connection: usize,
    entry: Entry,
    /// How much data the PDU had before it was cut.
    length: usize,
    run: Option<Run>,
}

/// PDUs of data that follow each other without a gap.
#[derive(Clone, Copy, Debug)]
struct Run {
    task: u32,
    transfer: u32,
    first_sn: u32,
    next_sn: u32,
    offset: u32,
    next_offset: u32,
    pdus: usize,
    finals: usize,
    bytes: usize,
}

impl Transcript {
    /// The number of a new connection, from 1.
    pub(crate) fn next_connection(&self) -> usize {
        let mut lines = self.lines();
        lines.connections += 1;
        lines.connections
    }

    pub(crate) fn add(&self, connection: usize, entry: Entry) {
        let mut lines = self.lines();
        let began = *lines.began.get_or_insert_with(Instant::now);
        if let Entry::Pdu(Way::Received, pdu) = &entry {
            lines.received = Some(pdu.clone());
        }
        let line = Line::new(began.elapsed().as_secs_f64(), connection, entry);
        lines.add(line);
    }

    /// The last PDU from the peer.
    pub(crate) fn last_received(&self) -> Option<Pdu> {
        self.lines().received.clone()
    }

    /// The lines, decoded: seconds, connection, direction, PDU.
    pub(crate) fn show(&self) -> Vec<String> {
        let lines = self.lines();
        let mut shown: Vec<String> = lines.first.iter().map(Line::show).collect();
        if lines.dropped > 0 {
            shown.push(format!("({} lines left out)", lines.dropped));
        }
        shown.extend(lines.last.iter().map(Line::show));
        shown
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn add(&mut self, line: Line) {
        let before = self.last.back_mut().or_else(|| self.first.last_mut());
        if before.is_some_and(|before| before.fold(&line)) {
            return;
        }
        if self.first.len() < FIRST_LINES {
            self.first.push(line);
            return;
        }
        if self.last.len() >= LAST_LINES {
            self.last.pop_front();
            self.dropped += 1;
        }
        self.last.push_back(line);
    }
}

impl Line {
    fn new(seconds: f64, connection: usize, mut entry: Entry) -> Self {
        let mut length = 0;
        let mut run = None;
        if let Entry::Pdu(_, pdu) = &mut entry {
            length = pdu.data.len();
            run = Run::of(pdu);
            // A copy, since a slice would keep all that it is of.
            let most = most_shown(&pdu.header);
            pdu.data = Bytes::copy_from_slice(pdu.data.get(..most).unwrap_or(&pdu.data));
        }
        Self {
            seconds,
            connection,
            entry,
            length,
            run,
        }
    }

    /// Takes a PDU that goes on with the data of this line.
    fn fold(&mut self, next: &Self) -> bool {
        let (Entry::Pdu(way, pdu), Entry::Pdu(next_way, next_pdu)) = (&self.entry, &next.entry)
        else {
            return false;
        };
        let alike = self.connection == next.connection
            && way == next_way
            && pdu.header.common().opcode == next_pdu.header.common().opcode;
        match (&mut self.run, &next.run) {
            (Some(run), Some(next)) if alike => run.fold(next),
            _ => false,
        }
    }

    fn show(&self) -> String {
        let what = match (&self.entry, &self.run) {
            (Entry::Pdu(way, pdu), Some(run)) if run.pdus > 1 => {
                format!("{} {} {}", way.arrow(), name(&pdu.header), run.show())
            }
            (Entry::Pdu(way, pdu), _) => format!("{} {}", way.arrow(), describe(pdu, self.length)),
            (Entry::Bytes(what, bytes), _) => format!("-> {bytes} bytes: {what}"),
            (Entry::Note(note), _) => format!("   {note}"),
        };
        format!("{:7.3} [{}] {what}", self.seconds, self.connection)
    }
}

impl Way {
    fn arrow(self) -> &'static str {
        match self {
            Self::Sent => "->",
            Self::Received => "<-",
        }
    }
}

impl Run {
    /// A run of one, if the PDU is of data and says nothing else: a status, say, or a wish for an acknowledgement.
    fn of(pdu: &Pdu) -> Option<Self> {
        let (transfer, sn, offset) = match &pdu.header {
            Header::DataIn(h) if h.flags & !FINAL == 0 => {
                (h.target_transfer_tag, h.data_sn, h.buffer_offset)
            }
            Header::DataOut(h) if h.flags & !FINAL == 0 => {
                (h.target_transfer_tag, h.data_sn, h.buffer_offset)
            }
            _ => return None,
        };
        let common = pdu.header.common();
        let bytes = u32::try_from(pdu.data.len()).ok()?;
        Some(Self {
            task: common.initiator_task_tag.get(),
            transfer: transfer.get(),
            first_sn: sn.get(),
            next_sn: sn.get().wrapping_add(1),
            offset: offset.get(),
            next_offset: offset.get().wrapping_add(bytes),
            pdus: 1,
            finals: usize::from(common.flags & FINAL != 0),
            bytes: pdu.data.len(),
        })
    }

    fn fold(&mut self, next: &Self) -> bool {
        let follows = (self.task, self.transfer, self.next_sn, self.next_offset)
            == (next.task, next.transfer, next.first_sn, next.offset);
        if follows {
            self.next_sn = next.next_sn;
            self.next_offset = next.next_offset;
            self.pdus += next.pdus;
            self.finals += next.finals;
            self.bytes += next.bytes;
        }
        follows
    }

    fn show(&self) -> String {
        format!(
            "ITT={} TTT={} DataSN {}..{}, {} PDUs, {} with F, {} bytes from offset {}",
            tag(self.task),
            tag(self.transfer),
            self.first_sn,
            self.next_sn.wrapping_sub(1),
            self.pdus,
            self.finals,
            self.bytes,
            self.offset
        )
    }
}

/// So many lines are kept of the beginning.
const FIRST_LINES: usize = 60;
/// So many lines are kept of the end.
const LAST_LINES: usize = 140;

#[cfg(test)]
mod tests {
    use iscsi_proto::wire::bhs::{DataIn, STATUS};

    use super::*;

    fn data_in(flags: u8, number: u32, data: &'static [u8]) -> Entry {
        let header = DataIn {
            flags,
            data_sn: number.into(),
            buffer_offset: (number * 512).into(),
            ..DataIn::default()
        };
        Entry::Pdu(Way::Received, Pdu::new(header, Bytes::from_static(data)))
    }

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let transcript = Transcript::default();
        for number in 0..300 {
            transcript.add(1, Entry::Note(format!("line {number}.")));
        }
        let shown = transcript.show();
        assert_eq!(shown.len(), 201);
        assert!(shown[59].ends_with(" line 59."));
        assert_eq!(shown[60], "(100 lines left out)");
        assert!(shown[61].ends_with(" line 160."));
        assert!(shown[200].ends_with(" line 299."));
    }

    #[test]
    fn data_in_a_row_is_one_line() {
        let transcript = Transcript::default();
        for number in 0..100 {
            let flags = if number % 10 == 9 { FINAL } else { 0 };
            transcript.add(1, data_in(flags, number, &[7; 512]));
        }
        // A gap, another connection, and a status are each worth a line.
        transcript.add(1, data_in(0, 101, &[7; 512]));
        transcript.add(2, data_in(0, 102, &[7; 512]));
        transcript.add(2, data_in(FINAL | STATUS, 103, &[7; 512]));
        let shown = transcript.show();
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert!(
            shown[0].ends_with(
                "<- Data-In ITT=00000000 TTT=00000000 DataSN 0..99, 100 PDUs, 10 with F, 51200 bytes from offset 0"
            ),
            "{}",
            shown[0]
        );
        assert!(shown[3].contains(" S GOOD "), "{}", shown[3]);
    }

    #[test]
    fn a_line_keeps_what_it_shows_and_the_last_pdu_all() {
        let transcript = Transcript::default();
        transcript.add(1, data_in(STATUS, 0, &[7; 512]));
        assert!(transcript.show()[0].ends_with(&format!("data[512]={}..", "07".repeat(64))));
        assert_eq!(
            transcript.last_received().map(|pdu| pdu.data.len()),
            Some(512)
        );
        let lines = transcript.lines();
        assert!(matches!(&lines.first[0].entry, Entry::Pdu(_, pdu) if pdu.data.len() == 64));
    }
}
