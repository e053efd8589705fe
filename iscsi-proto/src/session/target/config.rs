//! How a target session behaves, and what it puts up with.

use std::time::Duration;

use crate::login::TargetOffer;

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
    /// Bytes of the text requests of one exchange.
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
            nop: Some(NopPolicy {
                interval: Duration::from_secs(15),
                timeout: Duration::from_secs(30),
            }),
            limits: SessionLimits::default(),
        }
    }
}
