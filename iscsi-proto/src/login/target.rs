//! The target's end of the login.

use crate::login::LoginStatus;
use crate::name::IscsiName;
use crate::params::{Params, SessionType};
use crate::wire::Pdu;
use crate::wire::bhs::Isid;
use crate::wire::serial::Serial;

/// What a target is ready to agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetOffer {
    /// The longest data segment that the target takes.
    pub max_recv_data_segment_length: u32,
    /// The longest sequence of data PDUs.
    pub max_burst_length: u32,
    /// The most unsolicited data of one command.
    pub first_burst_length: u32,
    /// The most R2Ts outstanding for one task.
    pub max_outstanding_r2t: u16,
    /// Insist on R2Ts for all Data-Out.
    pub initial_r2t: bool,
    /// Take data with the command.
    pub immediate_data: bool,
    /// Seconds to wait before a lost connection is reinstated.
    pub time2wait: u16,
    /// Seconds after that for which tasks are kept.
    pub time2retain: u16,
    /// Whether headers and data carry digests.
    pub digests: DigestPolicy,
    /// What the target is called among people.
    pub target_alias: Option<String>,
}

impl Default for TargetOffer {
    fn default() -> Self {
        Self {
            max_recv_data_segment_length: 262_144,
            max_burst_length: 1_048_576,
            first_burst_length: 262_144,
            max_outstanding_r2t: 4,
            initial_r2t: false,
            immediate_data: true,
            time2wait: 0,
            time2retain: 0,
            digests: DigestPolicy::Accept,
            target_alias: None,
        }
    }
}

/// What a target thinks of digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestPolicy {
    /// None.
    Refuse,
    /// What the initiator prefers.
    #[default]
    Accept,
    /// CRC32C, or no session.
    Require,
}

/// Who wants in, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub initiator_name: IscsiName,
    /// What it is called among people.
    pub initiator_alias: Option<String>,
    /// Where to; always there in normal sessions.
    pub target_name: Option<IscsiName>,
    /// What for.
    pub session_type: SessionType,
    /// The initiator's part of the session's identifier.
    pub isid: Isid,
    /// 0 for a new session, else the session that a connection is to be added to.
    pub tsih: u16,
    /// The connection's identifier.
    pub cid: u16,
}

/// The driver's decision to let somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The session's handle; not 0.
    pub tsih: u16,
    /// The portal group of the portal that the initiator came to.
    pub portal_group_tag: u16,
    /// How many commands may be under way at once.
    pub command_window: u32,
}

/// What a login has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was agreed upon.
    pub params: Params,
    /// With whom.
    pub identity: Identity,
    /// The CmdSN expected first.
    pub next_cmd_sn: Serial,
    /// The StatSN to be used first.
    pub next_stat_sn: Serial,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per login step, never many"
)]
pub enum TargetStep {
    /// Send this and go on.
    Reply(Pdu),
    /// Decide, then call [`TargetLogin::admit`], [`TargetLogin::refuse`] or [`TargetLogin::redirect`].
    Ask(Identity),
    /// Send this; full feature phase begins.
    Finished {
        /// The final response.
        reply: Pdu,
        /// What was agreed upon.
        outcome: Outcome,
    },
    /// Send this, if there is something to send, and close the connection.
    Failed {
        /// The last response.
        reply: Option<Pdu>,
        /// Why.
        status: LoginStatus,
    },
}

/// The login of one connection, seen from the target. Feed it every PDU until it is finished or has failed.
#[derive(Debug)]
pub struct TargetLogin {
    offer: TargetOffer,
}

impl TargetLogin {
    /// Waits for the first Login Request.
    pub fn new(offer: TargetOffer) -> Self {
        Self { offer }
    }

    /// A PDU has arrived.
    pub fn handle(&mut self, _pdu: &Pdu) -> TargetStep {
        self.refuse(LoginStatus::TARGET_ERROR)
    }

    /// Lets the initiator in, in answer to [`TargetStep::Ask`].
    pub fn admit(&mut self, _admission: Admission) -> TargetStep {
        self.refuse(LoginStatus::TARGET_ERROR)
    }

    /// Keeps the initiator out.
    pub fn refuse(&mut self, status: LoginStatus) -> TargetStep {
        let _ = &self.offer;
        TargetStep::Failed {
            reply: None,
            status,
        }
    }

    /// Sends the initiator to another portal, host\[:port\] (RFC 7143 §13.8).
    pub fn redirect(&mut self, _address: &str, permanent: bool) -> TargetStep {
        self.refuse(if permanent {
            LoginStatus::MOVED_PERMANENTLY
        } else {
            LoginStatus::MOVED_TEMPORARILY
        })
    }
}
