//! Pings in both directions, logout in both directions, and the session's clock (RFC 7143 §11.14 to §11.19).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::session::CloseReason;
use crate::session::target::full_feature::{FullFeature, Request, seconds};
use crate::session::target::notices::message;
use crate::wire::bhs::{
    AsyncMessage, FINAL, LogoutRequest, LogoutResponse, NopIn, NopOut, RESERVED_TAG,
};
use crate::wire::opcode::{AsyncEvent, LogoutAnswer, LogoutReason, RejectReason};

/// What is known about the initiator being alive.
#[derive(Debug)]
pub(super) struct Keepalive {
    heard: Instant,
    /// The initiator pinged, so it knows what a NOP is.
    knows_nop: bool,
    /// An answer to our ping is due.
    pinged_until: Option<Instant>,
    /// The initiator was asked to log out.
    logout_until: Option<Instant>,
}

impl Keepalive {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            knows_nop: false,
            pinged_until: None,
            logout_until: None,
        }
    }

    /// True if the initiator pinged.
    pub(super) fn knows_nop(&self) -> bool {
        self.knows_nop
    }

    /// Whatever comes proves that the initiator is alive, not only the answer to a ping.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged_until = None;
    }
}

impl FullFeature {
    /// A ping of the initiator is echoed (RFC 7143 §11.18 and §11.19).
    pub(super) fn ping(&mut self, request: Request, header: NopOut, data: &Bytes) {
        self.keepalive.knows_nop = true;
        self.release(request.delivery);
        let limit = usize::try_from(self.params.max_send_data_segment_length).unwrap_or(usize::MAX);
        let echo = NopIn {
            flags: FINAL,
            lun: header.lun,
            initiator_task_tag: request.initiator_task_tag.into(),
            target_transfer_tag: RESERVED_TAG.into(),
            ..NopIn::default()
        };
        self.respond(echo, data.slice(..data.len().min(limit)));
    }

    /// The answer to a ping of ours, or a mere acknowledgement: neither is answered (RFC 7143 §11.18.1).
    pub(super) fn nop_without_ping(&mut self) {
        self.keepalive.knows_nop = true;
    }

    /// Discovery sessions end as a whole (RFC 7143 §4.3).
    pub(super) fn check_logout(&self, header: &LogoutRequest) -> Result<(), RejectReason> {
        match LogoutReason(header.reason & 0x7f) {
            LogoutReason::CLOSE_SESSION => Ok(()),
            LogoutReason::CLOSE_CONNECTION | LogoutReason::RECOVERY if self.is_normal() => Ok(()),
            LogoutReason::CLOSE_CONNECTION | LogoutReason::RECOVERY => {
                Err(RejectReason::PROTOCOL_ERROR)
            }
            _ => Err(RejectReason::INVALID_PDU_FIELD),
        }
    }

    pub(super) fn logout(&mut self, request: Request, header: LogoutRequest) {
        let answer = match LogoutReason(header.reason & 0x7f) {
            LogoutReason::CLOSE_SESSION => LogoutAnswer::CLOSED,
            _ if header.cid.get() != self.cid => LogoutAnswer::NO_SUCH_CONNECTION,
            LogoutReason::CLOSE_CONNECTION => LogoutAnswer::CLOSED,
            _ => LogoutAnswer::RECOVERY_NOT_SUPPORTED,
        };
        self.release(request.delivery);
        let response = LogoutResponse {
            flags: FINAL,
            response: answer.0,
            initiator_task_tag: request.initiator_task_tag.into(),
            time2wait: self.params.time2wait.into(),
            time2retain: self.params.time2retain.into(),
            ..LogoutResponse::default()
        };
        self.respond(response, Bytes::new());
        if answer == LogoutAnswer::CLOSED {
            self.ending = Some(CloseReason::LoggedOut);
        }
    }

    pub(super) fn request_logout(&mut self, now: Instant, grace: Duration) {
        self.keepalive.logout_until = Some(now + grace);
        let message = AsyncMessage {
            parameter_3: seconds(grace).into(),
            ..message(AsyncEvent::LOGOUT_REQUEST)
        };
        self.respond(message, Bytes::new());
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.expire_drains(now);
        if self.keepalive.logout_until.is_some_and(|due| due <= now) {
            // Time is up: said before it is done, if the initiator still listens (RFC 7143 §11.9.1).
            self.announce_drop(0);
            self.ending = Some(CloseReason::LogoutTimeout);
        } else if self.keepalive.pinged_until.is_some_and(|due| due <= now) {
            self.ending = Some(CloseReason::Silent);
        } else if self.next_ping().is_some_and(|due| due <= now) {
            self.send_ping(now);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let watch = self.keepalive.pinged_until.or_else(|| self.next_ping());
        [
            watch,
            self.keepalive.logout_until,
            self.management_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn next_ping(&self) -> Option<Instant> {
        let policy = self
            .nop
            .filter(|_| self.keepalive.knows_nop && self.is_normal())?;
        Some(self.keepalive.heard + policy.interval)
    }

    fn send_ping(&mut self, now: Instant) {
        let Some(policy) = self.nop else { return };
        self.keepalive.pinged_until = Some(now + policy.timeout);
        let ping = NopIn {
            flags: FINAL,
            initiator_task_tag: RESERVED_TAG.into(),
            target_transfer_tag: self.new_tag().into(),
            ..NopIn::default()
        };
        self.remark(ping);
    }
}
