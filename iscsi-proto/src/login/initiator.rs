//! The initiator's end of the login.

use crate::login::LoginStatus;
use crate::name::IscsiName;
use crate::params::{Key, Params, SessionType};
use crate::wire::Pdu;
use crate::wire::bhs::{Isid, LoginRequest};
use crate::wire::serial::Serial;
use crate::wire::text::TextError;

/// Who logs in, where to, and what it is ready to agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiatorOffer {
    /// Who.
    pub initiator_name: IscsiName,
    /// What it is called among people.
    pub initiator_alias: Option<String>,
    /// Where to; normal sessions need it.
    pub target_name: Option<IscsiName>,
    /// What for.
    pub session_type: SessionType,
    /// The initiator's part of the session's identifier.
    pub isid: Isid,
    /// The connection's identifier.
    pub cid: u16,
    /// The CmdSN of the login and of the first command.
    pub cmd_sn: Serial,
    /// Begin with the operational stage; targets that insist on authentication refuse that.
    pub skip_security: bool,
    /// Whether headers carry digests.
    pub header_digest: DigestChoice,
    /// Whether data carries digests.
    pub data_digest: DigestChoice,
    /// Wait for an R2T before sending Data-Out.
    pub initial_r2t: bool,
    /// Send data with the command.
    pub immediate_data: bool,
    /// The longest data segment that the initiator takes.
    pub max_recv_data_segment_length: u32,
    /// The longest sequence of data PDUs.
    pub max_burst_length: u32,
    /// The most unsolicited data of one command.
    pub first_burst_length: u32,
    /// The most R2Ts outstanding for one task.
    pub max_outstanding_r2t: u16,
    /// Seconds to wait before a lost connection is reinstated.
    pub time2wait: u16,
    /// Seconds after that for which tasks are kept.
    pub time2retain: u16,
}

impl InitiatorOffer {
    /// The offer of an initiator for a target's normal session.
    pub fn normal(initiator_name: IscsiName, target_name: IscsiName, isid: Isid) -> Self {
        Self {
            target_name: Some(target_name),
            ..Self::discovery(initiator_name, isid)
        }
        .with_type(SessionType::Normal)
    }

    /// The offer of an initiator for a discovery session.
    pub fn discovery(initiator_name: IscsiName, isid: Isid) -> Self {
        Self {
            initiator_name,
            initiator_alias: None,
            target_name: None,
            session_type: SessionType::Discovery,
            isid,
            cid: 0,
            cmd_sn: Serial(1),
            skip_security: false,
            header_digest: DigestChoice::None,
            data_digest: DigestChoice::None,
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_segment_length: 262_144,
            max_burst_length: 1_048_576,
            first_burst_length: 262_144,
            max_outstanding_r2t: 4,
            time2wait: 0,
            time2retain: 0,
        }
    }

    fn with_type(self, session_type: SessionType) -> Self {
        Self {
            session_type,
            ..self
        }
    }
}

/// What an initiator thinks of digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestChoice {
    /// None.
    #[default]
    None,
    /// None, or CRC32C if the target insists.
    PreferNone,
    /// CRC32C, or none if the target has none.
    PreferCrc32c,
    /// CRC32C, or no session.
    Crc32c,
}

/// What a login has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiatorOutcome {
    /// What was agreed upon.
    pub params: Params,
    /// The session's handle.
    pub tsih: u16,
    /// The portal group of the target's portal.
    pub portal_group_tag: Option<u16>,
    /// What the target is called among people.
    pub target_alias: Option<String>,
    /// The CmdSN of the first command.
    pub cmd_sn: Serial,
    /// The StatSN expected next.
    pub exp_stat_sn: Serial,
    /// The CmdSN that the target expects next.
    pub exp_cmd_sn: Serial,
    /// The last CmdSN that the target takes.
    pub max_cmd_sn: Serial,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per login step, never many"
)]
pub enum InitiatorStep {
    /// Send this and wait for the answer.
    Send(Pdu),
    /// Full feature phase begins.
    Finished(InitiatorOutcome),
    /// Close the connection and log in there instead.
    Redirect {
        /// host:port, with brackets where the host has colons.
        address: String,
        /// True if the target will not come back.
        permanent: bool,
    },
    /// The target keeps us out.
    Refused(LoginStatus),
}

/// What a target did that no target may do; the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Something other than the Login Response that was due.
    #[error("the target sent something other than the Login Response that was due")]
    UnexpectedPdu,
    /// A field of the response is impossible.
    #[error("the target sent a Login Response with an impossible field")]
    BadField,
    /// The target changed stages without being asked to, or to the wrong one.
    #[error("the target changed the stage of the login against the rules")]
    BadTransition,
    /// The text is none.
    #[error("the target sent malformed text: {0}")]
    Text(#[from] TextError),
    /// The target sent a key twice, or one that is not its to send.
    #[error("the target sent the key {0} against the rules")]
    BadKey(Key),
    /// The target's answer is none of those possible.
    #[error("the target's answer to {0} is unacceptable")]
    BadAnswer(Key),
    /// The target redirects us to nowhere.
    #[error("the target redirects without an address")]
    NoAddress,
    /// The login does not end.
    #[error("the target goes on negotiating without end")]
    TooLong,
}

/// The login of one connection, seen from the initiator: send what [`InitiatorLogin::start`] gives, then feed it
/// every PDU until it is done.
#[derive(Debug)]
pub struct InitiatorLogin {
    offer: InitiatorOffer,
}

impl InitiatorLogin {
    /// A login that has not begun.
    pub fn new(offer: InitiatorOffer) -> Self {
        Self { offer }
    }

    /// The first Login Request.
    pub fn start(&mut self) -> Pdu {
        Pdu::bare(LoginRequest {
            isid: self.offer.isid,
            ..LoginRequest::default()
        })
    }

    /// A PDU has arrived.
    pub fn handle(&mut self, _pdu: &Pdu) -> Result<InitiatorStep, LoginError> {
        Err(LoginError::UnexpectedPdu)
    }
}
