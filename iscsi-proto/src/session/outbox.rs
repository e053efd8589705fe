//! What a session has to say: PDUs as bytes, events, counters.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::session::{Stats, TargetEvent};
use crate::wire::bhs::{
    AsyncMessage, DataIn, LogoutResponse, NopIn, ReadyToTransfer, Reject, ScsiResponse,
    TaskManagementResponse, TextResponse,
};
use crate::wire::framer::{self, Digests};
use crate::wire::serial::Serial;
use crate::wire::{Header, Pdu};

/// Everything on its way out of a target session.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    wire: VecDeque<Bytes>,
    digests: Digests,
    /// For the driver.
    pub(crate) events: VecDeque<TargetEvent>,
    /// What was counted so far.
    pub(crate) stats: Stats,
}

impl Outbox {
    /// Writes digests from the next PDU on.
    pub(crate) fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Puts a PDU into line.
    pub(crate) fn send(&mut self, header: impl Into<Header>, data: Bytes) {
        self.send_pdu(&Pdu::new(header, data));
    }

    /// Puts a whole PDU into line.
    pub(crate) fn send_pdu(&mut self, pdu: &Pdu) {
        self.stats.pdus_out += 1;
        framer::encode(pdu, self.digests, &mut self.wire);
    }

    /// What waits to be fetched.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn held_bytes(&self) -> usize {
        self.wire.iter().map(Bytes::len).sum::<usize>()
            + self.events.len() * size_of::<TargetEvent>()
    }

    /// The next bytes for the wire.
    pub(crate) fn next_bytes(&mut self) -> Option<Bytes> {
        self.wire.pop_front()
    }
}

/// The three numbers that every PDU from a target carries (RFC 7143 §4.2.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) stat_sn: Serial,
    pub(crate) exp_cmd_sn: Serial,
    pub(crate) max_cmd_sn: Serial,
}

/// A header that carries [`Numbers`].
pub(crate) trait Numbered: Into<Header> {
    /// Fills the numbers in.
    fn stamp(&mut self, numbers: Numbers);
}

macro_rules! numbered {
    ($($name:ident,)*) => {
        $(impl Numbered for $name {
            fn stamp(&mut self, numbers: Numbers) {
                self.stat_sn.set(numbers.stat_sn.0);
                self.exp_cmd_sn.set(numbers.exp_cmd_sn.0);
                self.max_cmd_sn.set(numbers.max_cmd_sn.0);
            }
        })*
    };
}

numbered! {
    NopIn,
    ScsiResponse,
    TaskManagementResponse,
    TextResponse,
    DataIn,
    LogoutResponse,
    ReadyToTransfer,
    AsyncMessage,
    Reject,
}
