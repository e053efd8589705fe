//! What went over the wire during a check, to be shown when it fails.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use iscsi_proto::wire::Pdu;

use crate::wire::describe::describe;

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
    dropped: usize,
    kept: VecDeque<(f64, usize, Entry)>,
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
        if lines.kept.len() >= MOST_LINES {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        lines
            .kept
            .push_back((began.elapsed().as_secs_f64(), connection, entry));
    }

    /// The last PDU from the peer.
    pub(crate) fn last_received(&self) -> Option<Pdu> {
        let lines = self.lines();
        lines
            .kept
            .iter()
            .rev()
            .find_map(|(_, _, entry)| match entry {
                Entry::Pdu(Way::Received, pdu) => Some(pdu.clone()),
                _ => None,
            })
    }

    /// The lines, decoded: seconds, connection, direction, PDU.
    pub(crate) fn show(&self) -> Vec<String> {
        let lines = self.lines();
        let mut shown = Vec::with_capacity(lines.kept.len() + 1);
        if lines.dropped > 0 {
            shown.push(format!("({} lines before these left out)", lines.dropped));
        }
        shown.extend(lines.kept.iter().map(|(seconds, connection, entry)| {
            let what = match entry {
                Entry::Pdu(Way::Sent, pdu) => format!("-> {}", describe(pdu)),
                Entry::Pdu(Way::Received, pdu) => format!("<- {}", describe(pdu)),
                Entry::Bytes(what, bytes) => format!("-> {bytes} bytes: {what}"),
                Entry::Note(note) => format!("   {note}"),
            };
            format!("{seconds:7.3} [{connection}] {what}")
        }));
        shown
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most lines that are kept; the oldest go first.
const MOST_LINES: usize = 200;
