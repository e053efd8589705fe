//! The full feature phase (RFC 7143 §4.2 to §4.4 and §11): one connection is one session, error recovery level 0.

mod connection;
mod data_in;
mod data_out;
mod exchange;
mod initiator;
mod management;
mod outbox;
mod stats;
mod target;
mod task;
mod text;
mod window;

pub use crate::discovery::{DiscoverScope, TargetRecord};
pub use connection::{ConnectionEvent, ConnectionState, IllegalTransition};
pub use exchange::{
    AsyncNotice, Breach, CloseReason, Command, Response, TargetEvent, TaskAttribute, TaskId,
};
pub use initiator::{
    Completion, DiscoverError, InitiatorConfig, InitiatorEvent, InitiatorSession, InitiatorStats,
    Outcome, ProtocolError, Request, RequestId, Residual, SessionEnd, SubmitError, Transfer,
};
pub use management::{ManagementAnswer, ManagementFunction};
pub use stats::Stats;
pub use target::{NopPolicy, SessionLimits, TargetConfig, TargetSession};
