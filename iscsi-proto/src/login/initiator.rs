//! The initiator's end of the login.

use crate::discovery;
use crate::login::chap::{Prover, Step, Unproven};
use crate::login::ltds::{Incoming, Outgoing};
use crate::login::negotiate::Negotiation;
use crate::login::offer::{keepable_alias, sendable_alias};
use crate::login::stage::{Position, Stage};
use crate::login::value::NONE;
use crate::login::{InitiatorOffer, LoginStatus, MAX_LOGIN_EXCHANGES, VERSION};
use crate::params::{Key, Params, Sender, SessionType};
use crate::wire::bhs::{IMMEDIATE, LoginRequest, LoginResponse};
use crate::wire::serial::Serial;
use crate::wire::text::{self, TextError};
use crate::wire::{Header, Pdu};

/// What a login has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiatorOutcome {
    /// What was agreed upon.
    pub params: Params,
    /// The session's handle.
    pub tsih: u16,
    /// The portal group of the target's portal.
    pub portal_group_tag: Option<u16>,
    /// What the target is called among people.
    pub target_alias: Option<String>,
    /// The CmdSN of the first command.
    pub cmd_sn: Serial,
    /// The StatSN expected next.
    pub exp_stat_sn: Serial,
    /// The CmdSN that the target expects next.
    pub exp_cmd_sn: Serial,
    /// The last CmdSN that the target takes.
    pub max_cmd_sn: Serial,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitiatorStep {
    /// Send this and wait for the answer.
    Send(Pdu),
    /// Full feature phase begins.
    Finished(InitiatorOutcome),
    /// Close the connection and log in there instead.
    Redirect {
        /// host:port, with brackets where the host has colons.
        address: String,
        /// True if the target will not come back.
        permanent: bool,
    },
    /// The target keeps us out.
    Refused(LoginStatus),
}

/// What a target did that no target may do; the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Something other than the Login Response that was due.
    #[error("the target sent something other than the Login Response that was due")]
    UnexpectedPdu,
    /// A field of the response is impossible.
    #[error("the target sent a Login Response with an impossible field")]
    BadField,
    /// The target changed stages without being asked to, or to the wrong one.
    #[error("the target changed the stage of the login against the rules")]
    BadTransition,
    /// The text is none.
    #[error("the target sent malformed text: {0}")]
    Text(#[from] TextError),
    /// The target sent a key twice.
    #[error("the target sent a key twice")]
    Redeclared,
    /// The target sent a key that is not its to send, or an impossible value.
    #[error("the target sent the key {0} against the rules")]
    BadKey(Key),
    /// The target's answer is none of those possible.
    #[error("the target's answer to {0} is unacceptable")]
    BadAnswer(Key),
    /// The target agrees to no authentication method.
    #[error("the target agrees to no authentication method")]
    NoMethod,
    /// The target did not take part in the authentication as it must.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// The target redirects us to nowhere.
    #[error("the target redirects without an address")]
    NoAddress,
    /// The login does not end.
    #[error("the target goes on negotiating without end")]
    TooLong,
}

/// The login of one connection, seen from the initiator: send what [`InitiatorLogin::start`] gives, then feed it
/// every PDU until it is done.
#[derive(Debug)]
pub struct InitiatorLogin {
    offer: InitiatorOffer,
    stage: Stage,
    negotiation: Negotiation,
    incoming: Incoming,
    outgoing: Outgoing,
    /// What is left to prove.
    prover: Option<Prover>,
    /// The last request asked for the next stage.
    asked: bool,
    declared_segment: Option<u32>,
    exchanges: u32,
    exp_stat_sn: Serial,
}

impl InitiatorLogin {
    /// A login that has not begun.
    pub fn new(offer: InitiatorOffer) -> Self {
        let stage = if offer.skip_security && offer.chap.is_none() {
            Stage::Operational
        } else {
            Stage::Security
        };
        Self {
            stage,
            negotiation: Negotiation::new(Sender::Initiator, offer.session_type, offer.wishes()),
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            prover: offer.chap.clone().map(Prover::new),
            asked: false,
            declared_segment: None,
            exchanges: 0,
            exp_stat_sn: Serial(0),
            offer,
        }
    }

    /// The first Login Request.
    pub fn start(&mut self) -> Pdu {
        let mut pairs = vec![(
            Key::InitiatorName.to_string(),
            self.offer.initiator_name.to_string(),
        )];
        if let Some(alias) = sendable_alias(self.offer.initiator_alias.as_ref()) {
            pairs.push((Key::InitiatorAlias.to_string(), alias));
        }
        if let Some(target_name) = &self.offer.target_name {
            pairs.push((Key::TargetName.to_string(), target_name.to_string()));
        }
        let session_type = match self.offer.session_type {
            SessionType::Normal => "Normal",
            SessionType::Discovery => "Discovery",
        };
        pairs.push((Key::SessionType.to_string(), session_type.to_owned()));
        pairs.extend(self.proposals());
        self.request(&pairs)
    }

    /// A PDU has arrived.
    pub fn handle(&mut self, pdu: &Pdu) -> Result<InitiatorStep, LoginError> {
        let Header::LoginResponse(response) = pdu.header else {
            return Err(LoginError::UnexpectedPdu);
        };
        if response.initiator_task_tag.get() != TASK_TAG {
            return Err(LoginError::UnexpectedPdu);
        }
        let status = LoginStatus {
            class: response.status_class,
            detail: response.status_detail,
        };
        match status.class {
            0 => self.proceed(&response, pdu),
            1 => redirect(status, pdu),
            _ => Ok(InitiatorStep::Refused(status)),
        }
    }

    fn proceed(
        &mut self,
        response: &LoginResponse,
        pdu: &Pdu,
    ) -> Result<InitiatorStep, LoginError> {
        self.exchanges += 1;
        if self.exchanges > MAX_LOGIN_EXCHANGES {
            return Err(LoginError::TooLong);
        }
        if response.version_active != VERSION {
            return Err(LoginError::BadField);
        }
        self.exp_stat_sn = Serial(response.stat_sn.get()).next();
        let position = Position::decode(response.flags).map_err(|_| LoginError::BadTransition)?;
        let lawful = |next| self.asked && next == self.goal();
        if position.current != self.stage || !position.next.is_none_or(lawful) {
            return Err(LoginError::BadTransition);
        }
        if self.outgoing.is_pending() {
            return self.continue_request(position, pdu);
        }
        let Some(pairs) = self.incoming.take(&pdu.data, position.continues)? else {
            return Ok(InitiatorStep::Send(self.request(&[])));
        };
        let mut answers = self.negotiation.receive(&pairs, self.stage)?;
        answers.extend(self.authenticate()?);
        match position.next {
            None => Ok(InitiatorStep::Send(self.request(&answers))),
            Some(Stage::FullFeature) => self.finish(response),
            Some(_) if !self.is_proven() => Err(Unproven::Skipped.into()),
            Some(next) => {
                self.stage = next;
                let proposals = self.proposals();
                Ok(InitiatorStep::Send(self.request(&proposals)))
            }
        }
    }

    /// The target has taken a piece of a long request and asks for the next one.
    fn continue_request(
        &mut self,
        position: Position,
        pdu: &Pdu,
    ) -> Result<InitiatorStep, LoginError> {
        if position.next.is_some() || position.continues || !pdu.data.is_empty() {
            return Err(LoginError::BadTransition);
        }
        Ok(InitiatorStep::Send(self.next_request()))
    }

    /// Takes the keys of the authentication, and gives ours.
    fn authenticate(&mut self) -> Result<Vec<(String, String)>, LoginError> {
        let step = Step::new(self.negotiation.take_authentication());
        let method = self.negotiation.choice(Key::AuthMethod);
        if method == Some(NONE) {
            self.prover = None;
        }
        match &mut self.prover {
            None => Ok(step.finish().map(|()| Vec::new()).map_err(Unproven::from)?),
            Some(_) if method.is_none() => Err(LoginError::NoMethod),
            Some(prover) => Ok(prover.take(step)?),
        }
    }

    fn is_proven(&self) -> bool {
        self.prover.as_ref().is_none_or(Prover::is_done)
    }

    fn finish(&self, response: &LoginResponse) -> Result<InitiatorStep, LoginError> {
        if let Some(&key) = self.negotiation.unacceptable().first() {
            return Err(LoginError::BadAnswer(key));
        }
        let tag = self.negotiation.declared(Key::TargetPortalGroupTag);
        Ok(InitiatorStep::Finished(InitiatorOutcome {
            params: self.negotiation.params(self.declared_segment),
            tsih: response.tsih.get(),
            portal_group_tag: tag.and_then(|tag| tag.parse().ok()),
            target_alias: self
                .negotiation
                .declared(Key::TargetAlias)
                .and_then(keepable_alias),
            cmd_sn: self.offer.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            exp_cmd_sn: Serial(response.exp_cmd_sn.get()),
            max_cmd_sn: Serial(response.max_cmd_sn.get()),
        }))
    }

    /// What is proposed on entering a stage.
    fn proposals(&mut self) -> Vec<(String, String)> {
        if self.stage == Stage::Security {
            return self.negotiation.propose(&[Key::AuthMethod]);
        }
        let segment = self
            .offer
            .operational
            .bounded()
            .max_recv_data_segment_length;
        self.declared_segment = Some(segment);
        let keys = match self.offer.session_type {
            SessionType::Normal => NORMAL_KEYS,
            SessionType::Discovery => DISCOVERY_KEYS,
        };
        let mut pairs = self.negotiation.propose(keys);
        pairs.push((
            Key::MaxRecvDataSegmentLength.to_string(),
            segment.to_string(),
        ));
        pairs
    }

    fn request(&mut self, pairs: &[(String, String)]) -> Pdu {
        self.outgoing = Outgoing::new(pairs);
        self.next_request()
    }

    /// The next piece of what is to be said; with the last piece we ask for the next stage, unless there is more to
    /// prove: some targets take the wish for the deed.
    fn next_request(&mut self) -> Pdu {
        let (piece, continues) = self.outgoing.next_piece();
        self.asked = !continues && self.prover.as_ref().is_none_or(Prover::is_last_step);
        let next = self.asked.then(|| self.goal());
        let request = LoginRequest {
            opcode: LoginRequest::OPCODE | IMMEDIATE,
            flags: Position {
                continues,
                current: self.stage,
                next,
            }
            .encode(),
            isid: self.offer.isid,
            initiator_task_tag: TASK_TAG.into(),
            cid: self.offer.cid.into(),
            cmd_sn: self.offer.cmd_sn.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            ..LoginRequest::default()
        };
        Pdu::new(request, piece)
    }

    fn goal(&self) -> Stage {
        match self.stage {
            Stage::Security => Stage::Operational,
            Stage::Operational | Stage::FullFeature => Stage::FullFeature,
        }
    }
}

/// The target sends us elsewhere; a detail that nobody knows counts as temporary (RFC 7143 §11.13.5).
fn redirect(status: LoginStatus, pdu: &Pdu) -> Result<InitiatorStep, LoginError> {
    let pairs = text::parse(&pdu.data)?;
    let name = Key::TargetAddress.rule().name;
    let (_, value) = pairs
        .iter()
        .find(|(key, _)| key == name)
        .ok_or(LoginError::NoAddress)?;
    let (address, _) = discovery::parse_address(value).map_err(|_| LoginError::NoAddress)?;
    Ok(InitiatorStep::Redirect {
        address,
        permanent: status == LoginStatus::MOVED_PERMANENTLY,
    })
}

/// The login is a connection's first task, so any tag is free (RFC 7143 §6.3).
const TASK_TAG: u32 = 0;

const NORMAL_KEYS: &[Key] = &[
    Key::HeaderDigest,
    Key::DataDigest,
    Key::MaxConnections,
    Key::InitialR2T,
    Key::ImmediateData,
    Key::MaxBurstLength,
    Key::FirstBurstLength,
    Key::DefaultTime2Wait,
    Key::DefaultTime2Retain,
    Key::MaxOutstandingR2T,
    Key::DataPduInOrder,
    Key::DataSequenceInOrder,
    Key::ErrorRecoveryLevel,
];

const DISCOVERY_KEYS: &[Key] = &[
    Key::HeaderDigest,
    Key::DataDigest,
    Key::DefaultTime2Wait,
    Key::DefaultTime2Retain,
    Key::ErrorRecoveryLevel,
];
