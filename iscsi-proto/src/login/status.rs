//! What a Login Response says about the login (RFC 7143 §11.13.5).

use std::fmt;

/// Status-Class and Status-Detail. Values that the standard does not know survive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginStatus {
    /// 0 success, 1 redirection, 2 the initiator's fault, 3 the target's.
    pub class: u8,
    /// What exactly.
    pub detail: u8,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $class:literal, $detail:literal, $text:literal;)*) => {
        impl LoginStatus {
            $($(#[$doc])* pub const $name: Self = Self { class: $class, detail: $detail };)*

            fn text(self) -> Option<&'static str> {
                Some(match self {
                    $(Self::$name => $text,)*
                    _ => return None,
                })
            }
        }
    };
}

statuses! {
    /// The login is proceeding.
    SUCCESS = 0x00, 0x00, "success";
    /// The target is elsewhere for now.
    MOVED_TEMPORARILY = 0x01, 0x01, "target moved temporarily";
    /// The target is elsewhere for good.
    MOVED_PERMANENTLY = 0x01, 0x02, "target moved permanently";
    /// The initiator broke the rules.
    INITIATOR_ERROR = 0x02, 0x00, "initiator error";
    /// The initiator is not who it says it is.
    AUTHENTICATION_FAILURE = 0x02, 0x01, "authentication failure";
    /// The initiator may not use the target.
    AUTHORIZATION_FAILURE = 0x02, 0x02, "authorization failure";
    /// There is no such target here.
    NOT_FOUND = 0x02, 0x03, "target not found";
    /// There is no such target any more.
    TARGET_REMOVED = 0x02, 0x04, "target removed";
    /// No version in common.
    UNSUPPORTED_VERSION = 0x02, 0x05, "unsupported version";
    /// The session has all the connections that it may have.
    TOO_MANY_CONNECTIONS = 0x02, 0x06, "too many connections";
    /// InitiatorName or TargetName is missing.
    MISSING_PARAMETER = 0x02, 0x07, "missing parameter";
    /// The session cannot span to this connection.
    CANNOT_INCLUDE_IN_SESSION = 0x02, 0x08, "cannot include in session";
    /// The target does not support this type of session.
    SESSION_TYPE_NOT_SUPPORTED = 0x02, 0x09, "session type not supported";
    /// There is no such session to add a connection to.
    SESSION_DOES_NOT_EXIST = 0x02, 0x0a, "session does not exist";
    /// Something other than a Login Request during the login.
    INVALID_DURING_LOGIN = 0x02, 0x0b, "invalid during login";
    /// The target has an error of its own.
    TARGET_ERROR = 0x03, 0x00, "target error";
    /// The target is not operational.
    SERVICE_UNAVAILABLE = 0x03, 0x01, "service unavailable";
    /// The target is out of sessions, connections or memory.
    OUT_OF_RESOURCES = 0x03, 0x02, "out of resources";
}

impl fmt::Display for LoginStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({:02x}{:02x}h)",
            self.text().unwrap_or("unknown status"),
            self.class,
            self.detail
        )
    }
}

impl fmt::Debug for LoginStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
