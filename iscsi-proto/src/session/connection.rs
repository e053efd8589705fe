//! Connection states of a target: S1 to S8 and T1 to T18 of RFC 7143 §8.1, to be read beside its table.

use std::fmt;

/// A state of the standard connection state diagram for a target (RFC 7143 §8.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// S1: before the connection, and after its clean end.
    Free,
    /// S3: waiting for the login to begin.
    XptUp,
    /// S4: waiting for the login to end.
    InLogin,
    /// S5: the full feature phase.
    LoggedIn,
    /// S6: terminating the tasks before the Logout Response.
    InLogout,
    /// S7: waiting for the Logout that the target asked for.
    LogoutRequested,
    /// S8: broken, with tasks that may not have ended.
    CleanupWait,
}

/// What moves a connection from state to state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The transport connection was accepted.
    Accepted,
    /// The first Login Request came.
    LoginRequest,
    /// The final Login Response of status class 0 was sent.
    LoginDone,
    /// The login failed, timed out, or its connection broke.
    LoginFailed,
    /// A Logout Request came that will be honoured.
    LogoutRequest,
    /// The target asked for a Logout.
    LogoutWanted,
    /// The Logout was carried out, and answered.
    LogoutDone,
    /// The session was reinstated, or its target closes it.
    Closed,
    /// The transport broke, or an error left no other way than to drop it.
    Dropped,
}

/// An event that the state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen in {state}")]
pub struct IllegalTransition {
    /// The state that the connection is in.
    pub state: ConnectionState,
    /// What happened.
    pub event: ConnectionEvent,
}

impl ConnectionState {
    /// The state that an event leads to.
    pub fn next(self, event: ConnectionEvent) -> Result<Self, IllegalTransition> {
        use ConnectionEvent as E;
        Ok(match (self, event) {
            (Self::Free, E::Accepted) => Self::XptUp,        // T3
            (Self::XptUp, E::LoginRequest) => Self::InLogin, // T4
            (Self::XptUp, E::LoginFailed | E::Closed | E::Dropped) => Self::Free, // T6
            (Self::InLogin, E::LoginDone) => Self::LoggedIn, // T5
            (Self::InLogin, E::LoginFailed | E::Closed | E::Dropped) => Self::Free, // T7
            (Self::LoggedIn, E::Closed) => Self::Free,       // T8
            (Self::LoggedIn, E::LogoutRequest) => Self::InLogout, // T9
            (Self::LogoutRequested, E::LogoutRequest) => Self::InLogout, // T10
            (Self::LoggedIn, E::LogoutWanted) => Self::LogoutRequested, // T11
            (Self::LogoutRequested, E::LogoutWanted) => Self::LogoutRequested, // T12
            (Self::InLogout, E::LogoutDone | E::Closed) => Self::Free, // T13
            (Self::LoggedIn, E::Dropped) => Self::CleanupWait, // T15
            (Self::LogoutRequested, E::Dropped) => Self::CleanupWait, // T16
            (Self::InLogout, E::Dropped) => Self::CleanupWait, // T17
            (Self::LogoutRequested, E::Closed) => Self::Free, // T18
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "S1 FREE",
            Self::XptUp => "S3 XPT_UP",
            Self::InLogin => "S4 IN_LOGIN",
            Self::LoggedIn => "S5 LOGGED_IN",
            Self::InLogout => "S6 IN_LOGOUT",
            Self::LogoutRequested => "S7 LOGOUT_REQUESTED",
            Self::CleanupWait => "S8 CLEANUP_WAIT",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionEvent, ConnectionState};

    const STATES: [ConnectionState; 7] = [
        ConnectionState::Free,
        ConnectionState::XptUp,
        ConnectionState::InLogin,
        ConnectionState::LoggedIn,
        ConnectionState::InLogout,
        ConnectionState::LogoutRequested,
        ConnectionState::CleanupWait,
    ];

    const EVENTS: [ConnectionEvent; 9] = [
        ConnectionEvent::Accepted,
        ConnectionEvent::LoginRequest,
        ConnectionEvent::LoginDone,
        ConnectionEvent::LoginFailed,
        ConnectionEvent::LogoutRequest,
        ConnectionEvent::LogoutWanted,
        ConnectionEvent::LogoutDone,
        ConnectionEvent::Closed,
        ConnectionEvent::Dropped,
    ];

    /// RFC 7143 §8.1.2 and §8.1.4: every state with every event, beside the table of the standard.
    #[test]
    fn the_whole_matrix_is_as_written_down() {
        let mut matrix = String::new();
        for state in STATES {
            for event in EVENTS {
                let outcome = state
                    .next(event)
                    .map_or_else(|_| "-".to_owned(), |next| next.to_string());
                matrix.push_str(&format!("{state} + {event:?} = {outcome}\n"));
            }
        }
        assert_eq!(matrix, include_str!("connection_states.txt"), "\n{matrix}");
    }
}
