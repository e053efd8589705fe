//! The target's end of the login.

use crate::login::ltds::{Incoming, Outgoing};
use crate::login::negotiate::Negotiation;
use crate::login::offer::sendable_alias;
use crate::login::security::Security;
use crate::login::stage::{Position, Stage};
use crate::login::talk::Talk;
use crate::login::{
    ChapPolicy, Identity, LoginStatus, MAX_LOGIN_EXCHANGES, TargetOffer, VERSION, Violation,
};
use crate::params::{Key, Params, Sender, SessionType};
use crate::wire::bhs::{LoginRequest, LoginResponse};
use crate::wire::serial::Serial;
use crate::wire::{Header, Pdu, text};

/// How somebody has to prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// The portal group of the portal that the initiator came to.
    pub portal_group_tag: u16,
    /// AuthMethod None will do.
    pub none: bool,
    /// CHAP will do.
    pub chap: Option<ChapPolicy>,
}

/// The driver's decision to let somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The session's handle; not 0.
    pub tsih: u16,
    /// How many commands may be under way at once.
    pub command_window: u32,
}

/// What a login has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was agreed upon.
    pub params: Params,
    /// With whom.
    pub identity: Identity,
    /// The CmdSN expected first.
    pub next_cmd_sn: Serial,
    /// The StatSN to be used first.
    pub next_stat_sn: Serial,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetStep {
    /// Send this and go on.
    Reply(Pdu),
    /// Somebody wants in: call [`TargetLogin::authenticate`], [`TargetLogin::refuse`] or [`TargetLogin::redirect`].
    Identified(Identity),
    /// It has proven itself as it had to: call [`TargetLogin::admit`], [`TargetLogin::refuse`] or
    /// [`TargetLogin::redirect`].
    Authenticated {
        /// Who wants in.
        identity: Identity,
        /// The account that was proven; nothing if AuthMethod None had to do.
        account: Option<String>,
    },
    /// Send this; full feature phase begins.
    Finished {
        /// The final response.
        reply: Pdu,
        /// What was agreed upon.
        outcome: Outcome,
    },
    /// Send this, if there is something to send, and close the connection.
    Failed {
        /// The last response.
        reply: Option<Pdu>,
        /// What it says.
        status: LoginStatus,
        /// What the initiator did wrong; nothing if the driver kept it out.
        violation: Option<Violation>,
    },
}

/// The login of one connection, seen from the target. Feed it every PDU until it is finished or has failed.
///
/// Methods: `handle` (a PDU has arrived) and the driver's verbs `authenticate`, `admit`, `refuse` and `redirect`; each
/// gives the next step.
#[derive(Debug)]
pub struct TargetLogin {
    offer: TargetOffer,
    state: State,
    /// The first request: all others must belong to the same login.
    leading: Option<LoginRequest>,
    incoming: Incoming,
    exchanges: u32,
    command_window: u32,
    stat_sn: Serial,
    /// What was agreed upon for the session that the connection is added to.
    continued: Option<Params>,
}

#[derive(Debug)]
enum State {
    /// Waits for the whole of the first text; the stage is known once its first piece is there.
    ExpectNames(Option<Stage>),
    /// The driver decides how the initiator has to prove itself.
    ExpectAuthentication {
        identity: Identity,
        stage: Stage,
        pairs: Vec<(String, String)>,
        asked: Position,
    },
    /// The driver decides whether the initiator, who has proven itself, comes in.
    ExpectAdmission { talk: Talk, asked: Position },
    /// Waits for the next request.
    ExpectRequest(Talk),
    /// Finished or failed.
    Over,
}

impl TargetLogin {
    /// Waits for the first Login Request.
    pub fn new(offer: TargetOffer) -> Self {
        Self {
            offer,
            state: State::ExpectNames(None),
            leading: None,
            incoming: Incoming::default(),
            exchanges: 0,
            command_window: 1,
            stat_sn: FIRST_STAT_SN,
            continued: None,
        }
    }

    /// Before [`authenticate`](Self::authenticate): the connection goes on with a session that was negotiated before.
    pub fn continue_session(&mut self, session: Params) {
        self.continued = Some(session);
    }

    /// A PDU has arrived.
    pub fn handle(&mut self, pdu: &Pdu) -> TargetStep {
        if matches!(self.state, State::Over) {
            return TargetStep::Failed {
                reply: None,
                status: Violation::OutOfTurn.into(),
                violation: Some(Violation::OutOfTurn),
            };
        }
        self.advance(pdu)
            .unwrap_or_else(|violation| self.fail(violation))
    }

    /// Says how the initiator has to prove itself, in answer to [`TargetStep::Identified`].
    pub fn authenticate(&mut self, authentication: Authentication) -> TargetStep {
        let State::ExpectAuthentication {
            identity,
            stage,
            pairs,
            asked,
        } = self.take_state()
        else {
            return self.refuse(LoginStatus::TARGET_ERROR);
        };
        let policy = authentication.chap.as_ref();
        if policy.is_some_and(|policy| policy.check().is_err()) {
            return self.refuse(LoginStatus::TARGET_ERROR);
        }
        self.begin(identity, stage, &pairs, asked, authentication)
            .unwrap_or_else(|violation| self.fail(violation))
    }

    /// Lets the initiator in, in answer to [`TargetStep::Authenticated`].
    pub fn admit(&mut self, admission: Admission) -> TargetStep {
        let State::ExpectAdmission { mut talk, asked } = self.take_state() else {
            return self.refuse(LoginStatus::TARGET_ERROR);
        };
        if admission.tsih == 0 {
            return self.refuse(LoginStatus::TARGET_ERROR);
        }
        talk.admitted = true;
        talk.tsih = admission.tsih;
        self.command_window = admission.command_window.max(1);
        self.send(talk, asked)
    }

    /// Keeps the initiator out.
    pub fn refuse(&mut self, status: LoginStatus) -> TargetStep {
        self.end(status, None, &[])
    }

    /// Sends the initiator to another portal, host\[:port\] (RFC 7143 §13.8).
    pub fn redirect(&mut self, address: &str, permanent: bool) -> TargetStep {
        let status = if permanent {
            LoginStatus::MOVED_PERMANENTLY
        } else {
            LoginStatus::MOVED_TEMPORARILY
        };
        // A redirection names no portal group.
        let place = address.split(',').next().unwrap_or_default();
        self.end(status, None, &[(Key::TargetAddress.rule().name, place)])
    }

    fn advance(&mut self, pdu: &Pdu) -> Result<TargetStep, Violation> {
        let Header::LoginRequest(request) = pdu.header else {
            return Err(Violation::NotALogin);
        };
        self.check_belongs(request)?;
        self.exchanges += 1;
        if self.exchanges > MAX_LOGIN_EXCHANGES {
            return Err(Violation::TooManyExchanges);
        }
        let position = Position::decode(request.flags)?;
        match self.take_state() {
            State::ExpectNames(stage) => self.take_names(stage, position, pdu),
            State::ExpectRequest(talk) => self.take_request(talk, position, pdu),
            State::ExpectAuthentication { .. } | State::ExpectAdmission { .. } | State::Over => {
                Err(Violation::OutOfTurn)
            }
        }
    }

    /// All requests of a login carry the same identifiers (RFC 7143 §11.12.4 to §11.12.7); the version is settled by
    /// the first.
    fn check_belongs(&mut self, request: LoginRequest) -> Result<(), Violation> {
        let leading = *self.leading.get_or_insert(request);
        if request.version_min > VERSION {
            return Err(Violation::Version);
        }
        let identifiers = |request: LoginRequest| {
            let LoginRequest {
                isid,
                tsih,
                cid,
                initiator_task_tag,
                ..
            } = request;
            (isid, tsih, cid, initiator_task_tag)
        };
        if identifiers(leading) != identifiers(request) {
            return Err(Violation::AnotherLogin);
        }
        Ok(())
    }

    fn take_names(
        &mut self,
        stage: Option<Stage>,
        position: Position,
        pdu: &Pdu,
    ) -> Result<TargetStep, Violation> {
        let stage = stage.unwrap_or(position.current);
        check_stage(stage, position)?;
        let Some(pairs) = self.incoming.take(&pdu.data, position.continues)? else {
            self.state = State::ExpectNames(Some(stage));
            return Ok(self.acknowledge(stage));
        };
        let leading = self.leading.unwrap_or_default();
        let identity = Identity::from_names(&pairs, &leading)?;
        self.state = State::ExpectAuthentication {
            identity: identity.clone(),
            stage,
            pairs,
            asked: position,
        };
        Ok(TargetStep::Identified(identity))
    }

    /// Answers the first text.
    fn begin(
        &mut self,
        identity: Identity,
        stage: Stage,
        pairs: &[(String, String)],
        asked: Position,
        authentication: Authentication,
    ) -> Result<TargetStep, Violation> {
        let portal_group_tag = authentication.portal_group_tag;
        let security = Security::new(authentication);
        let wishes = self.offer.wishes(security.methods());
        let mut negotiation = Negotiation::new(Sender::Target, identity.session_type, wishes);
        if let Some(session) = self.continued.take() {
            negotiation.continue_session(session);
        }
        let mut talk = Talk {
            tsih: identity.tsih,
            identity,
            admitted: false,
            security,
            stage,
            negotiation,
            outgoing: Outgoing::default(),
            granted: None,
            declared_segment: None,
        };
        let mut answers = vec![(
            Key::TargetPortalGroupTag.to_string(),
            portal_group_tag.to_string(),
        )];
        let alias = sendable_alias(self.offer.target_alias.as_ref());
        if let (Some(alias), SessionType::Normal) = (alias, talk.identity.session_type) {
            answers.push((Key::TargetAlias.to_string(), alias));
        }
        answers.extend(talk.take(pairs)?);
        self.respond(talk, answers, asked)
    }

    fn take_request(
        &mut self,
        mut talk: Talk,
        position: Position,
        pdu: &Pdu,
    ) -> Result<TargetStep, Violation> {
        check_stage(talk.stage, position)?;
        if talk.outgoing.is_pending() {
            if !pdu.data.is_empty() || position.continues {
                return Err(Violation::OutOfTurn);
            }
            return Ok(self.send(talk, position));
        }
        let Some(pairs) = self.incoming.take(&pdu.data, position.continues)? else {
            let stage = talk.stage;
            self.state = State::ExpectRequest(talk);
            return Ok(self.acknowledge(stage));
        };
        let names_session_type =
            |(name, _): &(String, String)| name == Key::SessionType.rule().name;
        if pairs.iter().any(names_session_type) && !talk.negotiation.has_seen(Key::SessionType) {
            return Err(Violation::SessionType);
        }
        let answers = talk.take(&pairs)?;
        self.respond(talk, answers, position)
    }

    /// Decides whether the stage is over, and sends what is to be said.
    fn respond(
        &mut self,
        mut talk: Talk,
        mut pairs: Vec<(String, String)>,
        asked: Position,
    ) -> Result<TargetStep, Violation> {
        if talk.stage == Stage::Operational && talk.declared_segment.is_none() {
            let segment = self
                .offer
                .operational
                .bounded()
                .max_recv_data_segment_length;
            talk.declared_segment = Some(segment);
            pairs.push((
                Key::MaxRecvDataSegmentLength.to_string(),
                segment.to_string(),
            ));
        }
        if asked.next.is_some() && talk.negotiation.awaits_answer() {
            return Err(match talk.stage {
                Stage::Security => Violation::Unauthenticated,
                _ => Violation::BadAnswer,
            });
        }
        talk.granted = asked.next;
        if !talk.security.is_over() {
            match talk.stage {
                Stage::Security => talk.granted = None,
                _ => return Err(Violation::Unauthenticated),
            }
            // Who leaves the choice of a method to us, and wants to go on, is told what we want (RFC 7143 §6.3.2).
            if asked.next.is_some() && talk.security.is_open() {
                if talk.security.methods().is_empty() {
                    return Err(Violation::Unauthenticated);
                }
                pairs.extend(talk.negotiation.propose(&[Key::AuthMethod]));
            }
        }
        if talk.granted == Some(Stage::FullFeature) && !talk.negotiation.is_consistent() {
            return Err(Violation::Disagreement);
        }
        let unacceptable = talk.negotiation.unacceptable();
        if talk.granted == Some(Stage::FullFeature) && !unacceptable.is_empty() {
            if talk.stage == Stage::Security {
                talk.granted = Some(Stage::Operational);
            } else if unacceptable
                .iter()
                .any(|&key| talk.negotiation.has_seen(key))
            {
                return Err(Violation::Disagreement);
            } else {
                talk.granted = None;
                pairs.extend(talk.negotiation.propose(&unacceptable));
            }
        }
        talk.outgoing = Outgoing::new(&pairs);
        let proven = talk.granted.is_some() || talk.stage == Stage::Operational;
        if talk.admitted || !proven {
            return Ok(self.send(talk, asked));
        }
        let step = TargetStep::Authenticated {
            identity: talk.identity.clone(),
            account: talk.security.account().map(str::to_owned),
        };
        self.state = State::ExpectAdmission { talk, asked };
        Ok(step)
    }

    /// Sends the next piece of what is to be said; with the last piece the stage changes, if that was granted and is
    /// still asked for.
    fn send(&mut self, mut talk: Talk, asked: Position) -> TargetStep {
        let (piece, continues) = talk.outgoing.next_piece();
        let next = talk
            .granted
            .filter(|&granted| !continues && asked.next.is_some_and(|asked| granted <= asked));
        let position = Position {
            continues,
            current: talk.stage,
            next,
        };
        let mut response = self.response(LoginStatus::SUCCESS);
        response.flags = position.encode();
        self.stat_sn = self.stat_sn.next();
        if next == Some(Stage::FullFeature) {
            response.tsih = talk.tsih.into();
            let reply = Pdu::new(response, piece);
            return TargetStep::Finished {
                reply,
                outcome: self.outcome(&talk),
            };
        }
        talk.stage = next.unwrap_or(talk.stage);
        self.state = State::ExpectRequest(talk);
        TargetStep::Reply(Pdu::new(response, piece))
    }

    /// The empty response that asks for the rest of a long request (RFC 7143 §6.2).
    fn acknowledge(&mut self, current: Stage) -> TargetStep {
        let mut response = self.response(LoginStatus::SUCCESS);
        response.flags = Position {
            continues: false,
            current,
            next: None,
        }
        .encode();
        self.stat_sn = self.stat_sn.next();
        TargetStep::Reply(Pdu::bare(response))
    }

    fn outcome(&self, talk: &Talk) -> Outcome {
        Outcome {
            params: talk.negotiation.params(talk.declared_segment),
            identity: talk.identity.clone(),
            next_cmd_sn: self.cmd_sn(),
            next_stat_sn: self.stat_sn,
        }
    }

    fn fail(&mut self, violation: Violation) -> TargetStep {
        let pairs: &[_] = match violation {
            Violation::Authentication => &[(Key::AuthMethod.rule().name, "Reject")],
            _ => &[],
        };
        self.end(violation.into(), Some(violation), pairs)
    }

    /// Ends the login. To somebody who never sent a Login Request there is nothing to say.
    fn end(
        &mut self,
        status: LoginStatus,
        violation: Option<Violation>,
        pairs: &[(&str, &str)],
    ) -> TargetStep {
        self.state = State::Over;
        let reply = self
            .leading
            .map(|_| Pdu::new(self.response(status), text::encode(pairs)));
        TargetStep::Failed {
            reply,
            status,
            violation,
        }
    }

    fn response(&self, status: LoginStatus) -> LoginResponse {
        let leading = self.leading.unwrap_or_default();
        LoginResponse {
            isid: leading.isid,
            tsih: leading.tsih,
            initiator_task_tag: leading.initiator_task_tag,
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.cmd_sn().0.into(),
            max_cmd_sn: (self.cmd_sn() + (self.command_window - 1)).0.into(),
            status_class: status.class,
            status_detail: status.detail,
            ..LoginResponse::default()
        }
    }

    /// The CmdSN of the leading request: logins are immediate and do not advance it (RFC 7143 §11.12.8).
    fn cmd_sn(&self) -> Serial {
        Serial(self.leading.map_or(0, |leading| leading.cmd_sn.get()))
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Over)
    }
}

fn check_stage(stage: Stage, position: Position) -> Result<(), Violation> {
    if stage == position.current {
        Ok(())
    } else {
        Err(Violation::Stage)
    }
}

/// Any number will do (RFC 7143 §4.2.2.2).
const FIRST_STAT_SN: Serial = Serial(1);
