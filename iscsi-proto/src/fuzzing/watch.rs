//! What the other end of a target session's wire can see, and what it may expect of it.

use std::collections::BTreeMap;

use bytes::BytesMut;

use crate::wire::bhs::{AnyHeader, ReadyToTransfer};
use crate::wire::framer::{Digests, Framed, Framer};
use crate::wire::serial::Serial;
use crate::wire::{Header, Pdu};

/// Listens to a target and asserts the promises of RFC 7143 §4.2.2.
#[derive(Debug)]
pub struct Watch {
    framer: Framer,
    input: BytesMut,
    depth: u32,
    stat_sn: Option<Serial>,
    window: Option<(Serial, Serial)>,
    /// SCSI commands that were said, less those that were answered, by tag.
    open: BTreeMap<u32, u32>,
}

impl Watch {
    /// Listens from the full feature phase on.
    pub fn new(digests: Digests, depth: u32) -> Self {
        // An initiator may declare any length up to this one.
        let mut framer = Framer::new(0x00ff_ffff);
        framer.set_digests(digests.header, digests.data);
        Self {
            framer,
            input: BytesMut::new(),
            depth,
            stat_sn: None,
            window: None,
            open: BTreeMap::new(),
        }
    }

    /// The initiator said these bytes. Damaged commands count as well: nobody answers what was never asked.
    pub fn said(&mut self, bytes: &[u8]) {
        let (heads, _) = bytes.as_chunks::<48>();
        if let Some(Header::ScsiCommand(header)) = heads.first().map(Header::decode) {
            *self
                .open
                .entry(header.initiator_task_tag.get())
                .or_default() += 1;
        }
    }

    /// The target said these bytes; gives back its requests for data.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<ReadyToTransfer> {
        self.input.extend_from_slice(bytes);
        let mut requests = Vec::new();
        while let Some(framed) = self.framer.next(&mut self.input).expect("PDUs of a target") {
            let Framed::Pdu(pdu) = framed else {
                panic!("a target's data digest does not match");
            };
            self.number(&pdu);
            requests.extend(self.take(&pdu));
        }
        requests
    }

    /// Whether the target said whole PDUs only.
    pub fn is_whole(&self) -> bool {
        self.input.is_empty()
    }

    fn number(&mut self, pdu: &Pdu) {
        let common = pdu.header.common();
        let (stat_sn, expected, max) = (word(&common, 24), word(&common, 28), word(&common, 32));
        let room = expected.distance(max.next());
        assert!(room <= self.depth, "MaxCmdSN >= ExpCmdSN - 1: {room}");
        if let Some((old_expected, old_max)) = self.window.replace((expected, max)) {
            assert!(
                old_expected.le(expected) && old_max.le(max),
                "the window goes back"
            );
        }
        let (shows, uses) = match &pdu.header {
            Header::DataIn(header) => (header.flags & 0x01 != 0, true),
            Header::ReadyToTransfer(_) => (true, false),
            Header::NopIn(header) => (true, header.initiator_task_tag.get() != u32::MAX),
            _ => (true, true),
        };
        if !shows {
            return;
        }
        if let Some(next) = self.stat_sn {
            assert_eq!(stat_sn, next, "StatSN has no gaps: {:?}", pdu.header);
        }
        self.stat_sn = Some(if uses { stat_sn.next() } else { stat_sn });
    }

    fn take(&mut self, pdu: &Pdu) -> Option<ReadyToTransfer> {
        match &pdu.header {
            Header::ScsiResponse(header) => self.answered(header.initiator_task_tag.get()),
            Header::DataIn(header) if header.flags & 0x01 != 0 => {
                self.answered(header.initiator_task_tag.get());
            }
            Header::ReadyToTransfer(header) => {
                assert!(header.desired_data_transfer_length.get() > 0);
                assert_ne!(header.target_transfer_tag.get(), u32::MAX);
                return Some(*header);
            }
            Header::Reject(header) => {
                assert_eq!(pdu.data.len(), 48, "the header of the PDU that is refused");
                assert_ne!(header.reason, 0x0b, "deprecated");
            }
            Header::DataIn(_)
            | Header::NopIn(_)
            | Header::TaskManagementResponse(_)
            | Header::TextResponse(_)
            | Header::LogoutResponse(_)
            | Header::AsyncMessage(_) => {}
            other => panic!("no PDU of a target in the full feature phase: {other:?}"),
        }
        None
    }

    fn answered(&mut self, tag: u32) {
        let open = self.open.get_mut(&tag).filter(|open| **open > 0);
        *open.unwrap_or_else(|| panic!("{tag:#x} is answered more often than asked")) -= 1;
    }
}

/// A word of a header, at its offset.
fn word(header: &AnyHeader, offset: usize) -> Serial {
    let at = offset - 20;
    let bytes = &header.specific_20[at..at + 4];
    Serial(
        bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u32::from(*byte)),
    )
}
