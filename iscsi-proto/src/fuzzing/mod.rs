//! What a fuzzer throws its bytes at, with the promises that have to hold whatever the bytes are; compiled for tests and
//! with the feature `fuzzing` alone. Every entry point runs twice: under `cargo xtask fuzz`, and as an ordinary test
//! over the corpus in `fuzz/corpus` and a few thousand changes of it.

mod answers;
mod frames;
mod initiators;
mod logins;
mod replay;
mod script;
mod sessions;
mod source;
mod texts;
mod watch;

pub use frames::framer;
pub use initiators::initiator;
pub use logins::login;
pub use replay::replay;
pub use script::Script;
pub use sessions::session;
pub use source::Source;
pub use texts::text;
pub use watch::Watch;

#[cfg(test)]
mod tests {
    use super::{framer, initiator, login, replay, session, text};

    /// RFC 7143 §11.2: no byte stream does more than end its connection.
    #[test]
    fn the_framer_keeps_its_promises() {
        replay("framer", 2_000, framer);
    }

    /// RFC 7143 §6.1: no text does more than to be refused.
    #[test]
    fn texts_keep_their_promises() {
        replay("text", 2_000, text);
    }

    /// RFC 7143 §6.3: nobody comes in who was not let in.
    #[test]
    fn a_login_keeps_its_promises() {
        replay("login", 1_000, login);
    }

    /// RFC 7143 §4.2.2: the numbers hold, whatever an initiator and a driver do.
    #[test]
    fn a_session_keeps_its_promises() {
        replay("session", 1_000, session);
    }

    /// RFC 7143 §7.7: whatever a target says, no request of an initiator ends twice.
    #[test]
    fn an_initiator_keeps_its_promises() {
        replay("initiator", 1_000, initiator);
    }
}
