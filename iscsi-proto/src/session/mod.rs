//! The full feature phase (RFC 7143 §4.2 to §4.4 and §11): one connection is one session, error recovery level 0.

mod exchange;
mod initiator;
mod management;
mod stats;
mod target;

pub use exchange::{CloseReason, Command, DiscoverScope, Response, TargetEvent, TaskAttribute, TaskId};
pub use initiator::{
    Completion, DiscoverError, InitiatorConfig, InitiatorEvent, InitiatorSession, InitiatorStats, Outcome, ProtocolError,
    Request, RequestId, Residual, SessionEnd, SubmitError, Transfer,
};
pub use management::{ManagementAnswer, ManagementFunction};
pub use stats::Stats;
pub use target::{NopPolicy, SessionLimits, TargetConfig, TargetSession};
