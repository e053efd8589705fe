//! The target's side of a session.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::discovery::TargetRecord;
use crate::login::{Admission, LoginStatus, TargetOffer};
use crate::session::{ManagementAnswer, Response, Stats, TargetEvent, TaskId};

/// How a target session behaves.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// What is offered during login.
    pub offer: TargetOffer,
    /// Commands that may be outstanding at once: the command window.
    pub queue_depth: u32,
    /// How long the login phase may take.
    pub login_timeout: Duration,
    /// Pings from the target's side; `None` for none.
    pub nop: Option<NopPolicy>,
    /// What a peer may make grow, and how far.
    pub limits: SessionLimits,
}

/// When the target asks whether the initiator is still there. Only initiators that pinged first are asked: boot
/// firmware does not expect the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopPolicy {
    /// Silence after which a ping is sent.
    pub interval: Duration,
    /// How long to wait for the answer.
    pub timeout: Duration,
}

/// What a peer may make grow, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// SCSI commands and text requests for immediate delivery at once.
    pub immediate_commands: u32,
    /// Task management requests at once.
    pub management_requests: u32,
    /// Bytes of write data held or asked for, all tasks together; one task may always exceed it alone.
    pub write_bytes: u64,
    /// Bytes of one text request, continuations included.
    pub text_bytes: usize,
    /// How long a task management answer waits for write data that the affected tasks asked for.
    pub abort_grace: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            immediate_commands: 8,
            management_requests: 8,
            write_bytes: 16 << 20,
            text_bytes: 64 << 10,
            abort_grace: Duration::from_secs(2),
        }
    }
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self {
            offer: TargetOffer::default(),
            queue_depth: 128,
            login_timeout: Duration::from_secs(15),
            nop: Some(NopPolicy { interval: Duration::from_secs(15), timeout: Duration::from_secs(30) }),
            limits: SessionLimits::default(),
        }
    }
}

/// One iSCSI session as its target sees it.
///
/// The driver feeds bytes and time (`handle_*`), then drains `poll_event`, acts on the events with the verbs
/// (`admit`, `receive`, `complete`, ...), then drains `poll_transmit` to the socket before it reads again, and
/// sleeps until `poll_timeout` at the latest. When `is_closed` is true, what `poll_transmit` still gives is sent and
/// the connection is closed.
#[derive(Debug)]
pub struct TargetSession {
    stats: Stats,
}

impl TargetSession {
    /// A session on a connection that was just accepted.
    pub fn new(_config: TargetConfig, _now: Instant) -> Self { Self { stats: Stats::default() } }

    /// Takes whole PDUs off the front of `input`.
    pub fn handle_bytes(&mut self, _now: Instant, _input: &mut BytesMut) {  }

    /// Lets time pass; call it when `poll_timeout` is due.
    pub fn handle_timeout(&mut self, _now: Instant) {  }

    /// The connection is gone.
    pub fn handle_disconnect(&mut self) {  }

    /// Lets the initiator of the pending login in.
    pub fn admit(&mut self, _admission: Admission) {  }

    /// Turns the initiator of the pending login away, or to another address.
    pub fn refuse(&mut self, _status: LoginStatus) {  }

    /// Asks for the first `length` bytes of a command's write data; `DataReady` brings them.
    pub fn receive(&mut self, _task: TaskId, _length: u32) {  }

    /// Ends a command. Ignored if the command was aborted meanwhile.
    pub fn complete(&mut self, _task: TaskId, _response: Response) {  }

    /// Answers a task management request.
    pub fn answer_management(&mut self, _task: TaskId, _answer: ManagementAnswer) {  }

    /// Answers a SendTargets request.
    pub fn answer_discovery(&mut self, _task: TaskId, _records: &[TargetRecord]) {  }

    /// Asks the initiator to log out within `grace`; closes the session if it does not.
    pub fn request_logout(&mut self, _now: Instant, _grace: Duration) {  }

    /// Ends the session at once: it was reinstated, or the target shuts down.
    pub fn close(&mut self) {  }

    /// What the driver has to act upon next.
    pub fn poll_event(&mut self) -> Option<TargetEvent> { None }

    /// The next bytes for the wire.
    pub fn poll_transmit(&mut self) -> Option<Bytes> { None }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> { None }

    /// True once the session is over.
    pub fn is_closed(&self) -> bool { false }

    /// What was counted so far.
    pub fn stats(&self) -> &Stats { &self.stats }
}
