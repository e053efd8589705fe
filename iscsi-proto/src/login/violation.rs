//! How an initiator breaks the rules of the login, and the one function that says what a target answers.

use crate::login::LoginStatus;
use crate::wire::text::TextError;

/// How an initiator breaks the rules of the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
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
    /// The login takes more keys than anybody needs.
    #[error("the login has too many keys")]
    TooManyKeys,
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
    #[error(
        "no authentication method in common: one end wants CHAP and the other does not offer it, or not with a hash that both know"
    )]
    Authentication,
    /// AuthMethod None is not enough.
    #[error("the initiator does not prove itself")]
    Unauthenticated,
    /// No CHAP algorithm in common.
    #[error("no CHAP algorithm in common")]
    ChapAlgorithm,
    /// CHAP_N and CHAP_R do not go together; which of the two is wrong is nobody's business.
    #[error("the name or the secret is wrong")]
    Credentials,
    /// The initiator sent our own challenge back (RFC 7143 §9.2.1).
    #[error("the challenge is our own one")]
    ReflectedChallenge,
    /// We have nothing to prove ourselves with.
    #[error("the initiator wants the target to prove itself, which it cannot")]
    NoMutual,
    /// A key that CHAP needs now is missing (RFC 7143 §9.2).
    #[error("a key of CHAP is missing")]
    MissingChapKey,
    /// A key of CHAP came out of its step, or has a value that it never has (RFC 7143 §9.2).
    #[error("a key of CHAP came out of its step, or with an impossible value")]
    BadChapKey,
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
}

impl From<Violation> for LoginStatus {
    fn from(violation: Violation) -> Self {
        use Violation as V;
        match violation {
            V::NotALogin => Self::INVALID_DURING_LOGIN,
            V::Version => Self::UNSUPPORTED_VERSION,
            V::MissingName | V::MissingChapKey => Self::MISSING_PARAMETER,
            V::TargetName => Self::NOT_FOUND,
            V::SessionType => Self::SESSION_TYPE_NOT_SUPPORTED,
            V::Authentication | V::Unauthenticated | V::ChapAlgorithm | V::Credentials => {
                Self::AUTHENTICATION_FAILURE
            }
            V::ReflectedChallenge | V::NoMutual => Self::AUTHENTICATION_FAILURE,
            V::Stage | V::ContinueAndTransit | V::AnotherLogin | V::OutOfTurn => {
                Self::INITIATOR_ERROR
            }
            V::Text(_) | V::TooManyExchanges | V::InitiatorName | V::Redeclared => {
                Self::INITIATOR_ERROR
            }
            V::TooManyKeys | V::KeyNotAllowed | V::ReservedValue | V::BadDeclaration => {
                Self::INITIATOR_ERROR
            }
            V::BadAnswer | V::Disagreement | V::BadChapKey => Self::INITIATOR_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Violation;
    use crate::login::LoginStatus;

    #[test]
    fn answers_are_those_of_the_standard() {
        for (violation, class, detail) in [
            (Violation::NotALogin, 0x02, 0x0b),
            (Violation::Version, 0x02, 0x05),
            (Violation::MissingName, 0x02, 0x07),
            (Violation::TargetName, 0x02, 0x03),
            (Violation::SessionType, 0x02, 0x09),
            (Violation::Authentication, 0x02, 0x01),
            (Violation::Unauthenticated, 0x02, 0x01),
            (Violation::Credentials, 0x02, 0x01),
            (Violation::NoMutual, 0x02, 0x01),
            (Violation::MissingChapKey, 0x02, 0x07),
            (Violation::BadChapKey, 0x02, 0x00),
            (Violation::Redeclared, 0x02, 0x00),
        ] {
            assert_eq!(
                LoginStatus::from(violation),
                LoginStatus { class, detail },
                "{violation}"
            );
        }
    }
}
