//! The initiator's side of a session.
//!
//! A target may send what it likes: nothing here panics on it, and nothing grows beyond the limits of
//! [`InitiatorConfig`] and the constants of these files. What breaks the protocol ends the session (RFC 7143 §7.7).

mod escalation;
mod exchange;
mod full_feature;
mod landing;
mod numbering;
mod payload;
mod receive;
mod spares;
mod task;
mod transmit;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod escalation_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod landing_tests;
#[cfg(test)]
mod pdus;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::login::{InitiatorLogin, InitiatorStep};
use crate::params::Params;
use crate::session::initiator::full_feature::FullFeature;
use crate::session::initiator::landing::Landing;
use crate::wire::framer::{DEFAULT_MAX_DATA_SEGMENT, Digests, Framed, Framer, encode};
use crate::wire::lun::Lun;
use crate::wire::{Header, Pdu};

pub use exchange::{
    Completion, DiscoverError, InitiatorConfig, InitiatorEvent, InitiatorStats, Outcome,
    ProtocolError, Request, RequestId, Residual, SessionEnd, SubmitError, Transfer,
};

/// One iSCSI session as its initiator sees it.
///
/// The driver feeds bytes and time (`handle_*`), drains `poll_event`, submits requests with the verbs, then drains
/// `poll_transmit` to the socket and sleeps until `poll_timeout` at the latest. The session has something to
/// transmit from its first moment: the login. When `is_closed` is true, what `poll_transmit` still gives may be sent
/// and the connection is closed.
#[derive(Debug)]
pub struct InitiatorSession {
    config: InitiatorConfig,
    framer: Framer,
    phase: Phase,
    /// Encoded parts of PDUs, never more than one step of the login or one PDU.
    encoded: VecDeque<Bytes>,
    digests: Digests,
    events: VecDeque<InitiatorEvent>,
    requests: u64,
    /// Read data that is on its way.
    landing: Option<Landing>,
    /// The data segment before was a long one.
    bulk: bool,
    /// The counters of phases that are over.
    stats: InitiatorStats,
}

/// Where a session stands.
#[derive(Debug)]
enum Phase {
    LoggingIn {
        login: Box<InitiatorLogin>,
        deadline: Instant,
    },
    FullFeature(Box<FullFeature>),
    Closed,
}

impl InitiatorSession {
    /// A session on a connection that was just made.
    pub fn new(config: InitiatorConfig, now: Instant) -> Self {
        let mut login = Box::new(InitiatorLogin::new(config.offer.clone()));
        let mut session = Self {
            // Until the login is over the target may send the default length, whatever is offered.
            framer: Framer::new(DEFAULT_MAX_DATA_SEGMENT),
            encoded: VecDeque::new(),
            digests: Digests::default(),
            events: VecDeque::new(),
            requests: 0,
            landing: None,
            bulk: false,
            stats: InitiatorStats::default(),
            phase: Phase::Closed,
            config,
        };
        session.send(&login.start());
        let deadline = now + session.config.login_timeout;
        session.phase = Phase::LoggingIn { login, deadline };
        session
    }

    /// Takes whole PDUs off the front of `input`.
    pub fn handle_bytes(&mut self, now: Instant, input: &mut BytesMut) {
        while !self.is_closed() {
            let taken = match self.landing {
                Some(landing) => self.land(now, landing, input),
                None => self.take_pdu(now, input),
            };
            if !taken {
                return;
            }
        }
    }

    /// Lets time pass; call it when `poll_timeout` is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let ended = match &mut self.phase {
            Phase::LoggingIn { deadline, .. } if *deadline <= now => Err(SessionEnd::LoginTimeout),
            Phase::FullFeature(full) => full.handle_timeout(now),
            _ => Ok(()),
        };
        self.end_on_error(ended);
    }

    /// The connection is gone.
    pub fn handle_disconnect(&mut self) {
        self.end(SessionEnd::Disconnected);
    }

    /// Sends a command as soon as the target's command window allows it; `Completed` ends it.
    pub fn submit(&mut self, now: Instant, request: Request) -> Result<RequestId, SubmitError> {
        let timeout = self.config.command_timeout;
        self.submit_within(now, request, timeout)
    }

    /// The same with a time limit of its own instead of the configured one; `None` for none.
    pub fn submit_within(
        &mut self,
        now: Instant,
        request: Request,
        timeout: Option<Duration>,
    ) -> Result<RequestId, SubmitError> {
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        self.request(|full, id| full.submit(deadline, id, request))
    }

    /// Aborts a command. `Completed` still ends it, perhaps with an answer that was quicker.
    pub fn abort(&mut self, now: Instant, request: RequestId) {
        if let Phase::FullFeature(full) = &mut self.phase {
            full.abort(now, request);
        }
    }

    /// Takes a command back that was not sent yet; true if it was there. No `Completed` follows.
    pub fn withdraw(&mut self, request: RequestId) -> bool {
        match &mut self.phase {
            Phase::FullFeature(full) => full.withdraw(request),
            _ => false,
        }
    }

    /// Resets a logical unit; `Managed` ends it. Its commands end as aborted.
    pub fn reset_unit(&mut self, now: Instant, lun: Lun) -> Result<RequestId, SubmitError> {
        self.request(|full, id| full.reset_unit(now, id, lun))
    }

    /// Asks what targets there are; `Discovered` ends it.
    pub fn discover(&mut self, now: Instant) -> Result<RequestId, SubmitError> {
        self.request(|full, id| full.discover(now, id))
    }

    /// Ends the session in order; `Ended` follows.
    pub fn logout(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::FullFeature(full) => full.logout(now, SessionEnd::LoggedOut),
            Phase::LoggingIn { .. } => self.end(SessionEnd::LoggedOut),
            Phase::Closed => {}
        }
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<InitiatorEvent> {
        self.events.pop_front().or_else(|| match &mut self.phase {
            Phase::FullFeature(full) => full.events.pop_front(),
            _ => None,
        })
    }

    /// The next bytes for the wire.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.encoded.is_empty()
            && let Phase::FullFeature(full) = &mut self.phase
            && let Some(pdu) = full.next_pdu()
        {
            encode(&pdu, self.digests, &mut self.encoded);
        }
        self.encoded.pop_front()
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::LoggingIn { deadline, .. } => Some(*deadline),
            Phase::FullFeature(full) => full.poll_timeout(),
            Phase::Closed => None,
        }
    }

    /// True once the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// The portal group that the session logged in to (TargetPortalGroupTag); `None` before the login is over, or if the
    /// target does not say.
    pub fn portal_group_tag(&self) -> Option<u16> {
        match &self.phase {
            Phase::FullFeature(full) => full.portal_group_tag,
            _ => None,
        }
    }

    /// What the login settled; `None` before it is over, and when the session is.
    pub fn params(&self) -> Option<&Params> {
        match &self.phase {
            Phase::FullFeature(full) => Some(&full.params),
            _ => None,
        }
    }

    /// How many more commands the target takes at the moment (RFC 7143 §4.2.2.1).
    pub fn window(&self) -> u32 {
        match &self.phase {
            Phase::FullFeature(full) => full.numbers.room(),
            _ => 0,
        }
    }

    /// What was counted so far.
    pub fn stats(&self) -> &InitiatorStats {
        match &self.phase {
            Phase::FullFeature(full) => &full.stats,
            _ => &self.stats,
        }
    }

    /// Takes a PDU off the front of `input`, or the header of one with read data; false if it is not whole yet.
    fn take_pdu(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        let front = match self.framer.front(input) {
            Ok(Some(front)) => front,
            Ok(None) => return false,
            Err(_) => {
                self.end(ProtocolError::Framing.into());
                return false;
            }
        };
        let ended = match (&mut self.phase, *front.header()) {
            (Phase::FullFeature(full), Header::DataIn(header)) => {
                let segment = self.framer.open(&front, input);
                self.landing = Some(Landing { header, segment });
                full.announce(&header).map_err(SessionEnd::from)
            }
            _ => match self.framer.take(&front, input) {
                Some(framed) => self.handle_framed(now, framed),
                None => return false,
            },
        };
        self.end_on_error(ended);
        true
    }

    fn handle_framed(&mut self, now: Instant, framed: Framed) -> Result<(), SessionEnd> {
        self.bulk = false;
        match (&mut self.phase, framed) {
            (Phase::FullFeature(full), Framed::Pdu(pdu)) => {
                full.stats.pdus_in += 1;
                full.handle_pdu(now, pdu)
            }
            (Phase::LoggingIn { .. }, Framed::Pdu(pdu)) => self.handle_login(now, &pdu),
            (Phase::Closed, _) => Ok(()),
            (_, Framed::DataDigestError(_)) => Err(ProtocolError::DataDigest.into()),
        }
    }

    fn handle_login(&mut self, now: Instant, pdu: &Pdu) -> Result<(), SessionEnd> {
        self.stats.pdus_in += 1;
        let Phase::LoggingIn { login, .. } = &mut self.phase else {
            return Ok(());
        };
        // Nothing but Login Responses may come before the full feature phase.
        if !matches!(pdu.header, Header::LoginResponse(_)) {
            return Err(ProtocolError::UnexpectedPdu.into());
        }
        match login.handle(pdu).map_err(SessionEnd::Login)? {
            InitiatorStep::Send(pdu) => self.send(&pdu),
            InitiatorStep::Finished(outcome) => {
                let params = outcome.params.clone();
                self.digests = Digests {
                    header: params.header_digest,
                    data: params.data_digest,
                };
                self.framer
                    .set_digests(params.header_digest, params.data_digest);
                self.framer
                    .set_max_data_segment(params.max_recv_data_segment_length);
                self.phase = Phase::FullFeature(Box::new(FullFeature::new(
                    &self.config,
                    &outcome,
                    self.stats,
                    now,
                )));
                self.events.push_back(InitiatorEvent::LoggedIn(params));
            }
            InitiatorStep::Redirect { address, permanent } => {
                return Err(SessionEnd::Redirected { address, permanent });
            }
            InitiatorStep::Refused(status) => return Err(SessionEnd::Refused(status)),
        }
        Ok(())
    }

    fn request(
        &mut self,
        take: impl FnOnce(&mut FullFeature, RequestId) -> Result<(), SubmitError>,
    ) -> Result<RequestId, SubmitError> {
        let full = match &mut self.phase {
            Phase::FullFeature(full) => full,
            Phase::LoggingIn { .. } => return Err(SubmitError::NotLoggedIn),
            Phase::Closed => return Err(SubmitError::Closed),
        };
        let id = RequestId(self.requests);
        take(full, id)?;
        self.requests += 1;
        Ok(id)
    }

    fn send(&mut self, pdu: &Pdu) {
        self.stats.pdus_out += 1;
        encode(pdu, self.digests, &mut self.encoded);
    }

    fn end_on_error(&mut self, ended: Result<(), SessionEnd>) {
        if let Err(end) = ended {
            self.end(end);
        }
    }

    /// Ends the session once. Events that were not fetched yet come first.
    fn end(&mut self, end: SessionEnd) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closed => return,
            Phase::LoggingIn { .. } => {}
            Phase::FullFeature(mut full) => {
                full.give_back();
                self.stats = full.stats;
                self.events.append(&mut full.events);
            }
        }
        self.events.push_back(InitiatorEvent::Ended(end));
    }
}
