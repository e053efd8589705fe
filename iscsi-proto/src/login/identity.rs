//! Who logs in, where to, and what for.

use crate::login::Violation;
use crate::login::offer::keepable_alias;
use crate::name::IscsiName;
use crate::params::{Key, SessionType};
use crate::wire::bhs::{Isid, LoginRequest};

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

impl Identity {
    /// Finds the names in the first text (RFC 7143 §6.3).
    pub(crate) fn from_names(
        pairs: &[(String, String)],
        leading: &LoginRequest,
    ) -> Result<Self, Violation> {
        let value = |key: Key| {
            pairs
                .iter()
                .find(|(name, _)| name == key.rule().name)
                .map(|(_, value)| value.as_str())
        };
        let session_type = match value(Key::SessionType) {
            None | Some("Normal") => SessionType::Normal,
            Some("Discovery") => SessionType::Discovery,
            Some(_) => return Err(Violation::SessionType),
        };
        let initiator_name = value(Key::InitiatorName).ok_or(Violation::MissingName)?;
        let initiator_name = initiator_name
            .parse()
            .map_err(|_| Violation::InitiatorName)?;
        let target_name: Option<IscsiName> = match value(Key::TargetName) {
            Some(name) => Some(name.parse().map_err(|_| Violation::TargetName)?),
            None if session_type == SessionType::Normal => return Err(Violation::MissingName),
            None => None,
        };
        Ok(Self {
            initiator_name,
            initiator_alias: value(Key::InitiatorAlias).and_then(keepable_alias),
            target_name,
            session_type,
            isid: leading.isid,
            tsih: leading.tsih.get(),
            cid: leading.cid.get(),
        })
    }
}
