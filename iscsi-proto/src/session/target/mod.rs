//! The target's side of a session: login, full feature phase, end.

mod aborts;
mod commands;
mod config;
#[cfg(any(test, feature = "fuzzing"))]
mod footprint;
mod full_feature;
mod keepalive;
mod notices;
mod ordering;
mod texts;
mod transfers;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::discovery::TargetRecord;
use crate::login::{Admission, Authentication, LoginStatus, Outcome, TargetLogin, TargetStep};
use crate::params::Params;
use crate::session::connection::{ConnectionEvent, ConnectionState};
use crate::session::outbox::Outbox;
use crate::session::{
    AsyncNotice, Breach, CloseReason, ManagementAnswer, Response, Stats, TargetEvent, TaskId,
};
use crate::wire::framer::{DEFAULT_MAX_DATA_SEGMENT, Digests, Framed, Framer};
use crate::wire::lun::Lun;
use crate::wire::{Header, Pdu};
pub use config::{NopPolicy, SessionLimits, TargetConfig};
use full_feature::FullFeature;

/// One iSCSI session as its target sees it.
///
/// The driver feeds bytes and time (`handle_*`), then drains `poll_event`, acts on the events with the verbs
/// (`authenticate`, `admit`, `receive`, `complete`, ...), then drains `poll_transmit` to the socket before it reads
/// again, and sleeps until `poll_timeout` at the latest. When `is_closed` is true, what `poll_transmit` still gives is
/// sent and the connection is closed. Verbs about tasks that are gone do nothing.
#[derive(Debug)]
pub struct TargetSession {
    config: TargetConfig,
    framer: Framer,
    connection: ConnectionState,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Login(Box<LoginPhase>),
    FullFeature(Box<FullFeature>),
    Over(Outbox),
}

#[derive(Debug)]
struct LoginPhase {
    login: TargetLogin,
    deadline: Instant,
    /// The driver was asked for a decision and has not answered.
    asked: bool,
    command_window: u32,
    /// When the latest bytes came.
    now: Instant,
    out: Outbox,
}

impl LoginPhase {
    fn ask(&mut self, question: TargetEvent) {
        self.asked = true;
        self.out.events.push_back(question);
    }
}

impl TargetSession {
    /// A session on a connection that was just accepted.
    pub fn new(config: TargetConfig, now: Instant) -> Self {
        let login = LoginPhase {
            login: TargetLogin::new(config.offer.clone()),
            deadline: now + config.login_timeout,
            asked: false,
            command_window: config.queue_depth,
            now,
            out: Outbox::default(),
        };
        let mut session = Self {
            config,
            framer: Framer::new(DEFAULT_MAX_DATA_SEGMENT),
            connection: ConnectionState::Free,
            phase: Phase::Login(Box::new(login)),
        };
        session.step(ConnectionEvent::Accepted);
        session
    }

    /// Takes whole PDUs off the front of `input`.
    pub fn handle_bytes(&mut self, now: Instant, input: &mut BytesMut) {
        while !self.is_closed() {
            match self.framer.next(input) {
                Ok(Some(framed)) => self.handle_framed(now, framed),
                Ok(None) => break,
                Err(error) => self.end(
                    ConnectionEvent::Dropped,
                    CloseReason::ProtocolError(error.into()),
                ),
            }
        }
    }

    /// How many bytes, at least, the PDU under way still lacks: worth reserving before the next read.
    pub fn missing(&self) -> usize {
        self.framer.missing()
    }

    /// Lets time pass; call it when `poll_timeout` is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Login(login) if login.deadline <= now => {
                self.end(ConnectionEvent::LoginFailed, CloseReason::LoginTimeout);
            }
            Phase::FullFeature(full) => {
                full.handle_timeout(now);
                self.settle();
            }
            Phase::Login(_) | Phase::Over(_) => {}
        }
    }

    /// The connection is gone.
    pub fn handle_disconnect(&mut self) {
        self.end(ConnectionEvent::Dropped, CloseReason::Disconnected);
    }

    /// Says how the initiator of the pending login has to prove itself, in answer to [`TargetEvent::Login`].
    pub fn authenticate(&mut self, authentication: Authentication) {
        self.decide(|login| login.login.authenticate(authentication));
    }

    /// Before [`authenticate`](Self::authenticate): the pending login is for a connection that takes the place of another
    /// one, whose session was negotiated before. What holds for the session as a whole stays (RFC 7143 §6.3.1).
    pub fn continue_session(&mut self, session: Params) {
        if let Phase::Login(login) = &mut self.phase {
            login.login.continue_session(session);
        }
    }

    /// Lets the initiator of the pending login in, in answer to [`TargetEvent::Authenticated`]. The command window is
    /// the smaller of the admission's and the configuration's.
    pub fn admit(&mut self, admission: Admission) {
        let command_window = admission
            .command_window
            .clamp(1, self.config.queue_depth.max(1));
        self.decide(|login| {
            login.command_window = command_window;
            login.login.admit(Admission {
                command_window,
                ..admission
            })
        });
    }

    /// Turns the initiator of the pending login away.
    pub fn refuse(&mut self, status: LoginStatus) {
        self.decide(|login| login.login.refuse(status));
    }

    /// Sends the initiator of the pending login to another portal, host\[:port\].
    pub fn redirect(&mut self, address: &str, permanent: bool) {
        self.decide(|login| login.login.redirect(address, permanent));
    }

    /// Asks for the first `length` bytes of a command's write data; `DataReady` brings them, at once if they came
    /// with the command. What is asked for is held in memory until then.
    pub fn receive(&mut self, task: TaskId, length: u32) {
        self.in_full_feature(|full| full.receive(task, length));
    }

    /// Ends a command. Ignored if the command was aborted meanwhile.
    pub fn complete(&mut self, task: TaskId, response: Response) {
        self.in_full_feature(|full| full.complete(task, response));
    }

    /// Answers a task management request.
    pub fn answer_management(&mut self, task: TaskId, answer: ManagementAnswer) {
        self.in_full_feature(|full| full.answer_management(task, answer));
    }

    /// Answers a SendTargets request.
    pub fn answer_discovery(&mut self, task: TaskId, records: &[TargetRecord]) {
        self.in_full_feature(|full| full.answer_discovery(task, records));
    }

    /// Asks the initiator to log out within `grace`, and closes the session if it does not. Discovery sessions, and
    /// logins under way, are closed at once (RFC 7143 §7.4.3).
    pub fn request_logout(&mut self, now: Instant, grace: Duration) {
        match &mut self.phase {
            Phase::FullFeature(full) if full.is_normal() => {
                full.request_logout(now, grace);
                self.step(ConnectionEvent::LogoutWanted);
            }
            _ => self.close(),
        }
    }

    /// Takes SCSI tasks away without an answer: another nexus reset their unit, cleared its task set or preempted this
    /// one. Gives back those that the driver works on; what it still says about them is ignored. `None` stands for all
    /// units.
    pub fn purge(&mut self, lun: Option<Lun>) -> Vec<TaskId> {
        let mut known = Vec::new();
        self.in_full_feature(|full| known = full.purge(lun));
        known
    }

    /// Tells the initiator something unasked; after an announced drop the session is over. Discovery sessions are told
    /// nothing (RFC 7143 §7.4.3).
    pub fn notify(&mut self, notice: AsyncNotice) {
        let ends = notice.is_drop();
        self.in_full_feature(|full| full.notify(notice));
        if ends {
            self.close();
        }
    }

    /// Narrows or widens the command window, to one command at least. What the initiator was promised is kept: a
    /// narrower window closes as commands come.
    pub fn set_window(&mut self, commands: u32) {
        self.in_full_feature(|full| full.set_window(commands));
    }

    /// Ends the session at once: it was reinstated, or the target shuts down.
    pub fn close(&mut self) {
        self.end(ConnectionEvent::Closed, CloseReason::Local);
    }

    /// What the driver has to act upon next.
    pub fn poll_event(&mut self) -> Option<TargetEvent> {
        self.outbox().events.pop_front()
    }

    /// The next bytes for the wire.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outbox().next_bytes()
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Login(login) => Some(login.deadline),
            Phase::FullFeature(full) => full.next_timeout(),
            Phase::Over(_) => None,
        }
    }

    /// True once the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// The state of the connection as RFC 7143 §8.1 names it.
    pub fn state(&self) -> ConnectionState {
        self.connection
    }

    /// What was counted so far.
    pub fn stats(&self) -> &Stats {
        match &self.phase {
            Phase::Login(login) => &login.out.stats,
            Phase::FullFeature(full) => &full.out.stats,
            Phase::Over(out) => &out.stats,
        }
    }

    fn outbox(&mut self) -> &mut Outbox {
        match &mut self.phase {
            Phase::Login(login) => &mut login.out,
            Phase::FullFeature(full) => &mut full.out,
            Phase::Over(out) => out,
        }
    }

    fn handle_framed(&mut self, now: Instant, framed: Framed) {
        self.outbox().stats.pdus_in += 1;
        match (&mut self.phase, framed) {
            (Phase::Login(_), Framed::Pdu(pdu)) => self.handle_login(now, &pdu),
            (Phase::Login(_), Framed::DataDigestError(_)) => {
                let reason = CloseReason::ProtocolError(Breach::DataDigest);
                self.end(ConnectionEvent::LoginFailed, reason);
            }
            (Phase::FullFeature(full), framed) => {
                full.handle_framed(now, framed);
                self.settle();
            }
            (Phase::Over(_), _) => {}
        }
    }

    fn handle_login(&mut self, now: Instant, pdu: &Pdu) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        let begun = self.connection != ConnectionState::XptUp;
        // Before the first Login Request nothing else is even answered (RFC 7143 §4.2.4).
        if !begun && !matches!(pdu.header, Header::LoginRequest(_)) {
            let reason = CloseReason::ProtocolError(Breach::NoLogin);
            return self.end(ConnectionEvent::LoginFailed, reason);
        }
        login.now = now;
        let step = login.login.handle(pdu);
        if !begun {
            self.step(ConnectionEvent::LoginRequest);
        }
        self.take_login_step(step);
    }

    fn decide(&mut self, decision: impl FnOnce(&mut LoginPhase) -> TargetStep) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        if std::mem::take(&mut login.asked) {
            let step = decision(login);
            self.take_login_step(step);
        }
    }

    fn take_login_step(&mut self, step: TargetStep) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        match step {
            TargetStep::Reply(pdu) => login.out.send_pdu(&pdu),
            TargetStep::Identified(identity) => login.ask(TargetEvent::Login(identity)),
            TargetStep::Authenticated { identity, account } => {
                login.ask(TargetEvent::Authenticated { identity, account });
            }
            TargetStep::Finished { reply, outcome } => {
                login.out.send_pdu(&reply);
                self.enter_full_feature(outcome);
            }
            TargetStep::Failed {
                reply,
                status,
                violation,
            } => {
                if let Some(pdu) = reply {
                    login.out.send_pdu(&pdu);
                }
                let reason = CloseReason::LoginFailed { status, violation };
                self.end(ConnectionEvent::LoginFailed, reason);
            }
        }
    }

    fn enter_full_feature(&mut self, outcome: Outcome) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        let params = &outcome.params;
        self.framer
            .set_digests(params.header_digest, params.data_digest);
        self.framer
            .set_max_data_segment(params.max_recv_data_segment_length);
        let mut out = std::mem::take(&mut login.out);
        out.set_digests(Digests {
            header: params.header_digest,
            data: params.data_digest,
        });
        let logged_in = TargetEvent::LoggedIn {
            identity: outcome.identity.clone(),
            params: params.clone(),
        };
        out.events.push_back(logged_in);
        let full = FullFeature::new(&self.config, login.command_window, outcome, out, login.now);
        self.phase = Phase::FullFeature(Box::new(full));
        self.step(ConnectionEvent::LoginDone);
    }

    fn in_full_feature(&mut self, verb: impl FnOnce(&mut FullFeature)) {
        if let Phase::FullFeature(full) = &mut self.phase {
            verb(full);
            self.settle();
        }
    }

    /// Ends the session if the full feature phase came to its end.
    fn settle(&mut self) {
        let Phase::FullFeature(full) = &self.phase else {
            return;
        };
        match full.ending {
            None => {}
            Some(CloseReason::LoggedOut) => {
                self.step(ConnectionEvent::LogoutRequest);
                self.end(ConnectionEvent::LogoutDone, CloseReason::LoggedOut);
            }
            Some(reason) => self.end(ConnectionEvent::Dropped, reason),
        }
    }

    /// Every session ends here, once.
    fn end(&mut self, event: ConnectionEvent, reason: CloseReason) {
        let (mut out, tasks) =
            match std::mem::replace(&mut self.phase, Phase::Over(Outbox::default())) {
                Phase::Login(login) => (login.out, Vec::new()),
                Phase::FullFeature(full) => full.dissolve(),
                Phase::Over(out) => {
                    self.phase = Phase::Over(out);
                    return;
                }
            };
        self.step(event);
        if !tasks.is_empty() {
            out.stats.aborted += tasks.len() as u64;
            out.events.push_back(TargetEvent::Aborted(tasks));
        }
        out.events.push_back(TargetEvent::Closed(reason));
        self.phase = Phase::Over(out);
    }

    /// The phases allow no illegal step; should one be tried, the state stays.
    fn step(&mut self, event: ConnectionEvent) {
        let next = self.connection.next(event);
        debug_assert!(next.is_ok(), "{next:?}");
        self.connection = next.unwrap_or(self.connection);
    }
}
