//! What a peer does wrong, and the one function that says how a target answers.

use crate::login::LoginStatus;
use crate::wire::framer::FrameError;
use crate::wire::opcode::RejectReason;
use crate::wire::text::TextError;

/// What an initiator does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The byte stream cannot be cut into PDUs any more.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Data was damaged on its way.
    #[error("the data digest does not match")]
    DataDigest,

    /// Something other than a Login Request during the login.
    #[error("something other than a Login Request during the login")]
    NotALogin,
    /// No version in common.
    #[error("no version of the protocol in common")]
    Version,
    /// A stage code is reserved, is not the current stage, or does not lie ahead of it.
    #[error("the stage of the login is not the current one, or the next one does not follow it")]
    Stage,
    /// The C bit and the T bit are both set.
    #[error("a Login Request cannot both continue and transit")]
    ContinueAndTransit,
    /// ISID, TSIH, CID or Initiator Task Tag changed within one login.
    #[error("a Login Request belongs to another login than the one before")]
    AnotherLogin,
    /// A request came before the last one was answered, or was not empty while a long response was being fetched.
    #[error("a Login Request came out of turn")]
    OutOfTurn,
    /// The text is none.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The login takes more requests than anybody needs.
    #[error("the login takes too many exchanges")]
    TooManyExchanges,
    /// InitiatorName or TargetName is missing.
    #[error("InitiatorName or TargetName is missing")]
    MissingName,
    /// InitiatorName is no name.
    #[error("InitiatorName is not an iSCSI name")]
    InitiatorName,
    /// TargetName is no name, so no target has it.
    #[error("TargetName is not an iSCSI name")]
    TargetName,
    /// SessionType is neither Normal nor Discovery, or came late.
    #[error("SessionType is neither Normal nor Discovery, or came late")]
    SessionType,
    /// No authentication method in common.
    #[error("no authentication method in common")]
    Authentication,
    /// A key was sent twice (RFC 7143 §6.3).
    #[error("a key was sent twice")]
    Redeclared,
    /// A key was sent in the wrong stage or by the wrong side.
    #[error("a key was sent in the wrong stage or by the wrong side")]
    KeyNotAllowed,
    /// A word that only an answer may be was proposed (RFC 7143 §6.2).
    #[error("a reserved word was proposed as a value")]
    ReservedValue,
    /// A declared value is out of its bounds.
    #[error("a declared value is out of its bounds")]
    BadDeclaration,
    /// An answer to a proposal of ours is none of those possible, or there is none.
    #[error("an answer is not possible, or missing")]
    BadAnswer,
    /// The values agreed upon are not acceptable together, or to us.
    #[error("the values agreed upon are not acceptable")]
    Disagreement,

    /// An opcode that no initiator may send.
    #[error("the opcode is not supported")]
    UnknownOpcode,
    /// A field with an impossible value.
    #[error("a field has an impossible value")]
    BadField,
    /// A PDU that is not allowed in this state.
    #[error("the PDU is not allowed in this state")]
    NotNow,
}

/// How a target answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With a Reject PDU; the session goes on.
    Reject(RejectReason),
    /// With a Login Response, and the end of the connection.
    LoginStatus(LoginStatus),
    /// With the end of the connection.
    Drop,
}

impl From<&ProtocolError> for Answer {
    fn from(error: &ProtocolError) -> Self {
        use ProtocolError as E;
        match error {
            E::Frame(_) => Self::Drop,
            E::DataDigest => Self::Reject(RejectReason::DATA_DIGEST_ERROR),
            E::NotALogin => Self::LoginStatus(LoginStatus::INVALID_DURING_LOGIN),
            E::Version => Self::LoginStatus(LoginStatus::UNSUPPORTED_VERSION),
            E::MissingName => Self::LoginStatus(LoginStatus::MISSING_PARAMETER),
            E::TargetName => Self::LoginStatus(LoginStatus::NOT_FOUND),
            E::SessionType => Self::LoginStatus(LoginStatus::SESSION_TYPE_NOT_SUPPORTED),
            E::Authentication => Self::LoginStatus(LoginStatus::AUTHENTICATION_FAILURE),
            E::Stage | E::ContinueAndTransit | E::AnotherLogin | E::OutOfTurn => INITIATOR_ERROR,
            E::Text(_) | E::TooManyExchanges | E::InitiatorName | E::Redeclared => INITIATOR_ERROR,
            E::KeyNotAllowed | E::ReservedValue | E::BadDeclaration => INITIATOR_ERROR,
            E::BadAnswer | E::Disagreement => INITIATOR_ERROR,
            E::UnknownOpcode => Self::Reject(RejectReason::COMMAND_NOT_SUPPORTED),
            E::BadField => Self::Reject(RejectReason::INVALID_PDU_FIELD),
            E::NotNow => Self::Reject(RejectReason::PROTOCOL_ERROR),
        }
    }
}

const INITIATOR_ERROR: Answer = Answer::LoginStatus(LoginStatus::INITIATOR_ERROR);

#[cfg(test)]
mod tests {
    use super::{Answer, ProtocolError};
    use crate::login::LoginStatus;
    use crate::wire::framer::FrameError;
    use crate::wire::opcode::RejectReason;

    #[test]
    fn answers_are_those_of_the_standard() {
        for (error, class, detail) in [
            (ProtocolError::NotALogin, 0x02, 0x0b),
            (ProtocolError::Version, 0x02, 0x05),
            (ProtocolError::MissingName, 0x02, 0x07),
            (ProtocolError::TargetName, 0x02, 0x03),
            (ProtocolError::SessionType, 0x02, 0x09),
            (ProtocolError::Authentication, 0x02, 0x01),
            (ProtocolError::Redeclared, 0x02, 0x00),
        ] {
            assert_eq!(
                Answer::from(&error),
                Answer::LoginStatus(LoginStatus { class, detail })
            );
        }
        assert_eq!(
            Answer::from(&ProtocolError::DataDigest),
            Answer::Reject(RejectReason(0x02))
        );
        assert_eq!(
            Answer::from(&ProtocolError::Frame(FrameError::HeaderDigest)),
            Answer::Drop
        );
    }
}
