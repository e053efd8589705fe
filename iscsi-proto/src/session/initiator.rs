//! The initiator's side of a session.

mod exchange;

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::wire::lun::Lun;

pub use exchange::{
    Completion, DiscoverError, InitiatorConfig, InitiatorEvent, InitiatorStats, Outcome, ProtocolError, Request,
    RequestId, Residual, SessionEnd, SubmitError, Transfer,
};

/// One iSCSI session as its initiator sees it.
///
/// The driver feeds bytes and time (`handle_*`), drains `poll_event`, submits requests with the verbs, then drains
/// `poll_transmit` to the socket and sleeps until `poll_timeout` at the latest. The session has something to
/// transmit from its first moment: the login. When `is_closed` is true, what `poll_transmit` still gives may be sent
/// and the connection is closed.
#[derive(Debug)]
pub struct InitiatorSession {
    stats: InitiatorStats,
}

impl InitiatorSession {
    /// A session on a connection that was just made.
    pub fn new(_config: InitiatorConfig, _now: Instant) -> Self {
        Self { stats: InitiatorStats::default() }
    }

    /// Takes whole PDUs off the front of `input`.
    pub fn handle_bytes(&mut self, _now: Instant, _input: &mut BytesMut) {}

    /// Lets time pass; call it when `poll_timeout` is due.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// The connection is gone.
    pub fn handle_disconnect(&mut self) {}

    /// Sends a command as soon as the target's command window allows it; `Completed` ends it.
    pub fn submit(&mut self, _now: Instant, _request: Request) -> Result<RequestId, SubmitError> {
        Err(SubmitError::NotLoggedIn)
    }

    /// Aborts a command. `Completed` still ends it, perhaps with an answer that was quicker.
    pub fn abort(&mut self, _now: Instant, _request: RequestId) {}

    /// Resets a logical unit; `Managed` ends it. Its commands end as aborted.
    pub fn reset_unit(&mut self, _now: Instant, _lun: Lun) -> Result<RequestId, SubmitError> {
        Err(SubmitError::NotLoggedIn)
    }

    /// Asks what targets there are; `Discovered` ends it.
    pub fn discover(&mut self, _now: Instant) -> Result<RequestId, SubmitError> {
        Err(SubmitError::NotLoggedIn)
    }

    /// Ends the session in order; `Ended` follows.
    pub fn logout(&mut self, _now: Instant) {}

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<InitiatorEvent> {
        None
    }

    /// The next bytes for the wire.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        None
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// True once the session is over.
    pub fn is_closed(&self) -> bool {
        true
    }

    /// What was counted so far.
    pub fn stats(&self) -> &InitiatorStats {
        &self.stats
    }
}
