//! What each end brings to the login.

use crate::login::negotiate::Wishes;
use crate::login::value::{CHAP, CRC32C, NONE};
use crate::login::{InitiatorChap, MAX_ALIAS_BYTES};
use crate::name::IscsiName;
use crate::params::{Key, Kind, SessionType};
use crate::wire::bhs::Isid;
use crate::wire::serial::Serial;

/// How data moves: the operational parameters that either end wants (RFC 7143 §13). What lies outside the bounds of
/// the standard is moved to within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operational {
    /// The longest data segment that this end takes.
    pub max_recv_data_segment_length: u32,
    /// The longest sequence of data PDUs.
    pub max_burst_length: u32,
    /// The most unsolicited data of one command.
    pub first_burst_length: u32,
    /// The most R2Ts outstanding for one task.
    pub max_outstanding_r2t: u16,
    /// No Data-Out without an R2T.
    pub initial_r2t: bool,
    /// Commands carry data.
    pub immediate_data: bool,
    /// Seconds to wait before a lost connection is reinstated.
    pub time2wait: u16,
    /// Seconds after that for which tasks are kept.
    pub time2retain: u16,
}

impl Operational {
    pub(crate) fn bounded(self) -> Self {
        let within = |key: Key, number: u32| match key.rule().kind {
            Kind::Minimum(low, high) | Kind::DeclaredNumber(low, high) => number.clamp(low, high),
            _ => number,
        };
        Self {
            max_recv_data_segment_length: within(
                Key::MaxRecvDataSegmentLength,
                self.max_recv_data_segment_length,
            ),
            max_burst_length: within(Key::MaxBurstLength, self.max_burst_length),
            first_burst_length: within(Key::FirstBurstLength, self.first_burst_length),
            max_outstanding_r2t: self.max_outstanding_r2t.max(1),
            time2wait: self.time2wait.min(MAX_SECONDS),
            time2retain: self.time2retain.min(MAX_SECONDS),
            ..self
        }
    }
}

impl Default for Operational {
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
        }
    }
}

/// What a target is ready to agree to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetOffer {
    /// How data moves.
    pub operational: Operational,
    /// Whether headers and data carry digests.
    pub digests: DigestPolicy,
    /// What the target is called among people.
    pub target_alias: Option<String>,
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
    /// Begin with the operational stage, if there is nothing to prove; targets that insist on authentication refuse
    /// that.
    pub skip_security: bool,
    /// What to prove ourselves with. Without a target that must prove itself, too, AuthMethod None will do.
    pub chap: Option<InitiatorChap>,
    /// Whether headers carry digests.
    pub header_digest: DigestChoice,
    /// Whether data carries digests.
    pub data_digest: DigestChoice,
    /// How data moves.
    pub operational: Operational,
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
            chap: None,
            header_digest: DigestChoice::None,
            data_digest: DigestChoice::None,
            operational: Operational::default(),
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

impl TargetOffer {
    pub(crate) fn wishes(&self, auth_method: &'static [&'static str]) -> Wishes {
        let digest = match self.digests {
            DigestPolicy::Refuse => ONLY_NONE,
            DigestPolicy::Accept => PREFER_NONE,
            DigestPolicy::Require => ONLY_CRC32C,
        };
        Wishes {
            auth_method,
            header_digest: digest,
            data_digest: digest,
            operational: self.operational.bounded(),
        }
    }
}

impl InitiatorOffer {
    /// Who has credentials takes less, unless the target must prove itself, too.
    fn methods(&self) -> &'static [&'static str] {
        match &self.chap {
            None => ONLY_NONE,
            Some(InitiatorChap { mutual: None, .. }) => &[CHAP, NONE],
            Some(InitiatorChap {
                mutual: Some(_), ..
            }) => &[CHAP],
        }
    }

    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            auth_method: self.methods(),
            header_digest: self.header_digest.list(),
            data_digest: self.data_digest.list(),
            operational: self.operational.bounded(),
        }
    }
}

impl DigestChoice {
    fn list(self) -> &'static [&'static str] {
        match self {
            Self::None => ONLY_NONE,
            Self::PreferNone => PREFER_NONE,
            Self::PreferCrc32c => PREFER_CRC32C,
            Self::Crc32c => ONLY_CRC32C,
        }
    }
}

/// A peer's alias, if it has not more to say than a name.
pub(crate) fn keepable_alias(alias: &str) -> Option<String> {
    (alias.len() <= MAX_ALIAS_BYTES).then(|| alias.to_owned())
}

/// An alias as it may be sent: nothing that would break the text, nothing longer than a value may be.
pub(crate) fn sendable_alias(alias: Option<&String>) -> Option<String> {
    alias
        .filter(|alias| alias.len() <= MAX_ALIAS_BYTES && !alias.contains('\0'))
        .cloned()
}

const ONLY_NONE: &[&str] = &[NONE];
const PREFER_NONE: &[&str] = &[NONE, CRC32C];
const PREFER_CRC32C: &[&str] = &[CRC32C, NONE];
const ONLY_CRC32C: &[&str] = &[CRC32C];

/// The longest DefaultTime2Wait and DefaultTime2Retain (RFC 7143 §13.15 and §13.16).
const MAX_SECONDS: u16 = 3600;
