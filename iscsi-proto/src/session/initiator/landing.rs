//! Read data on its way from the stream to the buffer of its command, without a stop in between.

use std::time::Instant;

use bytes::buf::Limit;
use bytes::{Buf, BufMut, BytesMut};

use crate::session::initiator::{InitiatorSession, Phase, ProtocolError};
use crate::wire::bhs::{BHS_BYTES, DataIn};
use crate::wire::framer::Segment;

/// A Data-In PDU whose header was taken. Its task knows how much of its data is missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landing {
    pub(super) header: DataIn,
    pub(super) segment: Segment,
}

impl InitiatorSession {
    /// Where the next bytes of the stream go, if they are so much read data that it is worth it: a driver may read up
    /// to this limit straight into it, instead of into the input that it hands to `handle_bytes`, which it calls next in
    /// either case. Only when `handle_bytes` has taken all of the input.
    pub fn landing(&mut self) -> Option<Limit<&mut BytesMut>> {
        let landing = self.landing?;
        let left = self.left_to_land(landing);
        let Phase::FullFeature(full) = &mut self.phase else {
            return None;
        };
        let incoming = full.incoming(&landing.header).ok()?;
        (left >= MIN_LANDING_BYTES).then(|| incoming.buffer().limit(left))
    }

    /// How many bytes, at least, the PDU lacks that is on its way; worth reserving before the next read.
    pub fn missing(&self) -> usize {
        match self.landing {
            Some(landing) => self.left_to_land(landing) + landing.segment.tail_bytes(),
            None => self.framer.missing(),
        }
    }

    /// How many bytes, at most, are worth reading into the input: what comes after them will have a
    /// [`landing`](Self::landing).
    pub fn appetite(&self) -> usize {
        match self.bulk {
            true => self.missing() + BHS_BYTES,
            false => usize::MAX,
        }
    }

    /// Takes the data of a Data-In PDU off the front of `input`; true if the PDU is whole now.
    pub(super) fn land(&mut self, now: Instant, landing: Landing, input: &mut BytesMut) -> bool {
        let left = self.left_to_land(landing);
        let Phase::FullFeature(full) = &mut self.phase else {
            return false;
        };
        let Ok(incoming) = full.incoming(&landing.header) else {
            self.end(ProtocolError::UnknownTask.into());
            return false;
        };
        let part = left.min(input.len());
        incoming
            .buffer()
            .extend_from_slice(input.get(..part).unwrap_or_default());
        input.advance(part);
        let tail_bytes = landing.segment.tail_bytes();
        let Some(tail) = input.get(..tail_bytes).filter(|_| part == left) else {
            return false;
        };
        let is_sound = incoming.settle(landing.segment, tail);
        input.advance(tail_bytes);
        self.landing = None;
        self.bulk = landing.segment.data_bytes() >= BULK_BYTES;
        full.stats.pdus_in += 1;
        let ended = full.handle_data_in(now, &landing.header, is_sound);
        self.end_on_error(ended);
        true
    }

    fn left_to_land(&self, landing: Landing) -> usize {
        match &self.phase {
            Phase::FullFeature(full) => full.left_to_land(&landing.header),
            _ => 0,
        }
    }
}

/// Less than this is copied from the input: a system call costs more.
const MIN_LANDING_BYTES: usize = 4096;

/// A data segment of this length makes others of the kind likely.
const BULK_BYTES: usize = 32 * 1024;
