//! What a target says unasked: asynchronous messages, and how wide the command window is (RFC 7143 §11.9 and §11.19).

use bytes::{BufMut, Bytes, BytesMut};

use crate::session::AsyncNotice;
use crate::session::target::full_feature::FullFeature;
use crate::wire::bhs::{AsyncMessage, FINAL, NopIn, RESERVED_TAG};
use crate::wire::opcode::AsyncEvent;
use crate::wire::serial::Serial;

impl FullFeature {
    /// In discovery sessions nothing is said (RFC 7143 §7.4.3). A drop is announced to everybody: who does not
    /// understand it loses nothing but the connection that it loses anyway.
    pub(super) fn notify(&mut self, notice: AsyncNotice) {
        if !self.is_normal() {
            return;
        }
        match notice {
            AsyncNotice::Scsi { lun, sense } if self.keepalive.knows_nop() => {
                let message = AsyncMessage {
                    lun: lun.0.into(),
                    ..message(AsyncEvent::SCSI)
                };
                self.respond(message, event_segment(sense));
            }
            AsyncNotice::Scsi { .. } => {}
            AsyncNotice::DropConnection { time2wait } => self.announce_drop(time2wait),
            AsyncNotice::DropSession { time2wait } => {
                let message = AsyncMessage {
                    parameter_2: time2wait.into(),
                    ..message(AsyncEvent::SESSION_DROP)
                };
                self.respond(message, Bytes::new());
            }
        }
    }

    /// Parameter3 stays 0: nothing of a lost connection is kept.
    pub(super) fn announce_drop(&mut self, time2wait: u16) {
        let message = AsyncMessage {
            parameter_1: self.cid.into(),
            parameter_2: time2wait.into(),
            ..message(AsyncEvent::CONNECTION_DROP)
        };
        self.respond(message, Bytes::new());
    }

    pub(super) fn set_window(&mut self, commands: u32) {
        let before = self.window.max();
        self.window.set_depth(commands);
        self.announce_window(before);
    }

    /// The initiator learns how wide the window is from the next answer. Where none is due, or where it may send
    /// nothing until it knows, a NOP-In says it (RFC 7143 §11.4.11). It asks for nothing, so it goes to initiators that
    /// never pinged, too.
    pub(super) fn announce_window(&mut self, before: Serial) {
        let was_closed = before.lt(self.window.expected());
        let changed = before != self.window.max();
        if changed && (was_closed || self.tasks.is_empty()) && self.is_normal() {
            self.remark(NopIn {
                flags: FINAL,
                initiator_task_tag: RESERVED_TAG.into(),
                target_transfer_tag: RESERVED_TAG.into(),
                ..NopIn::default()
            });
        }
    }
}

/// A message that carries no more than its event.
pub(super) fn message(event: AsyncEvent) -> AsyncMessage {
    AsyncMessage {
        flags: FINAL,
        initiator_task_tag: RESERVED_TAG.into(),
        async_event: event.0,
        ..AsyncMessage::default()
    }
}

/// Sense data behind its length (RFC 7143 §11.9.4).
fn event_segment(mut sense: Bytes) -> Bytes {
    sense.truncate(usize::from(u8::MAX));
    let mut segment = BytesMut::with_capacity(2 + sense.len());
    segment.put_u16(u16::try_from(sense.len()).unwrap_or(0));
    segment.put_slice(&sense);
    segment.freeze()
}
