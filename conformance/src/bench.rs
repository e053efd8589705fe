//! What a check works with: the subject, what is known of it, and connections to it that are written down.

use std::sync::atomic::{AtomicU16, Ordering};

use crate::check::Finding;
use crate::keys::Keys;
use crate::login::{Login, Talk};
use crate::probe::Facts;
use crate::session::Session;
use crate::subject::Subject;
use crate::wire::{Transcript, Wire};

/// The place where one check is played.
pub(crate) struct Bench {
    pub(crate) subject: Subject,
    pub(crate) facts: Facts,
    pub(crate) transcript: Transcript,
    qualifiers: AtomicU16,
    random: [u8; 3],
}

impl Bench {
    /// A bench with an empty transcript.
    pub(crate) fn new(subject: Subject, facts: Facts) -> Self {
        let mut random = [0; 3];
        // Without randomness ISIDs repeat from run to run, which reinstates the sessions of a run beside this one.
        let _no_randomness = getrandom::fill(&mut random);
        Self {
            subject,
            facts,
            transcript: Transcript::default(),
            qualifiers: AtomicU16::new(1),
            random,
        }
    }

    /// A connection without a login.
    pub(crate) async fn connect(&self) -> Result<Wire, Finding> {
        Wire::connect(
            &self.subject.address,
            self.subject.patience,
            &self.transcript,
        )
        .await
        .map_err(|error| Finding::Unreachable(error.to_string()))
    }

    /// An ordinary login to the subject's target: an ISID of its own, no keys beyond the names.
    pub(crate) fn login(&self) -> Login {
        Login::new(&self.subject, self.isid())
    }

    /// An ISID that no other login of this run has (RFC 7143 §11.12.5: type 10b, random).
    pub(crate) fn isid(&self) -> [u8; 6] {
        let [high, low] = self
            .qualifiers
            .fetch_add(1, Ordering::Relaxed)
            .to_be_bytes();
        let [a, b, c] = self.random;
        [0x80, a, b, c, high, low]
    }

    /// A connection in the security stage, nothing sent yet.
    pub(crate) async fn talk(&self, login: Login) -> Result<Talk, Finding> {
        Ok(Talk::new(self.connect().await?, login, &self.subject))
    }

    /// A session with these operational keys; a refusal is a violation.
    pub(crate) async fn log_in(&self, keys: &[(&str, &str)]) -> Result<Session, Finding> {
        self.log_in_as(self.login(), keys).await
    }

    /// A session of this login with these operational keys, and those that every initiator's login has (see [`usual`]).
    pub(crate) async fn log_in_as(
        &self,
        login: Login,
        keys: &[(&str, &str)],
    ) -> Result<Session, Finding> {
        self.log_in_with(login, usual(keys)).await
    }

    /// A session of this login with these operational keys and no other.
    pub(crate) async fn log_in_with(&self, login: Login, keys: Keys) -> Result<Session, Finding> {
        let mut talk = self.talk(login).await?;
        talk.authenticate().await?;
        talk.finish(keys).await
    }

    /// An ordinary session whose unit is ready: Unit Attentions of the login are taken. What goes wrong here is not
    /// what the check is about.
    pub(crate) async fn session(&self) -> Result<Session, Finding> {
        self.session_with(&[]).await
    }

    /// Like [`Self::session`], with operational keys.
    pub(crate) async fn session_with(&self, keys: &[(&str, &str)]) -> Result<Session, Finding> {
        let ready = async {
            let mut session = self.log_in(keys).await?;
            session.take_attentions().await?;
            Ok(session)
        };
        ready.await.map_err(|finding| match finding {
            Finding::Violation(why) => {
                Finding::Unreachable(format!("an ordinary session does not come about: {why}"))
            }
            other => other,
        })
    }

    /// A discovery session.
    pub(crate) async fn discovery(&self, keys: &[(&str, &str)]) -> Result<Session, Finding> {
        let mut login = self.login();
        login.target = None;
        self.log_in_as(login, keys).await
    }
}

/// Operational keys, with what goes with them. MaxRecvDataSegmentLength is always declared, if only as its default: every
/// initiator does so, and there are targets that take silence for zero, or for their own limit. FirstBurstLength goes with
/// MaxBurstLength, for it may not exceed it (RFC 7143 §13.14), and nobody should have to rely on its default.
pub(crate) fn usual(keys: &[(&str, &str)]) -> Keys {
    let mut keys = Keys::of(keys);
    if keys.get("MaxRecvDataSegmentLength").is_none() {
        keys.set("MaxRecvDataSegmentLength", "8192");
    }
    if let (Some(most), None) = (keys.number("MaxBurstLength"), keys.get("FirstBurstLength")) {
        keys.set("FirstBurstLength", &most.min(65_536).to_string());
    }
    keys
}
