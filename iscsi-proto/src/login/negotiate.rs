//! Offer and answer (RFC 7143 §6.2): the same rules for both ends, driven by the table of keys.

use std::collections::{BTreeMap, BTreeSet};

use crate::login::stage::Stage;
use crate::login::value::{CRC32C, NONE, Value, Wish, number_within, select, tighten, verify};
use crate::login::{LoginError, MAX_LOGIN_KEYS, Operational, Violation};
use crate::params::{Key, KeyStage, Kind, Params, Sender, SessionType, Use};

/// What one end is ready to agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) auth_method: &'static [&'static str],
    pub(crate) header_digest: &'static [&'static str],
    pub(crate) data_digest: &'static [&'static str],
    /// Within its bounds.
    pub(crate) operational: Operational,
}

impl Wishes {
    fn of(&self, key: Key) -> Option<Wish> {
        let data = &self.operational;
        Some(match key {
            Key::AuthMethod => Wish::List(self.auth_method),
            Key::HeaderDigest => Wish::List(self.header_digest),
            Key::DataDigest => Wish::List(self.data_digest),
            Key::MaxConnections => Wish::Number(1),
            Key::InitialR2T => Wish::Flag(data.initial_r2t),
            Key::ImmediateData => Wish::Flag(data.immediate_data),
            Key::MaxBurstLength => Wish::Number(data.max_burst_length),
            Key::FirstBurstLength => {
                Wish::Number(data.first_burst_length.min(data.max_burst_length))
            }
            Key::DefaultTime2Wait => Wish::Number(data.time2wait.into()),
            Key::DefaultTime2Retain => Wish::Number(data.time2retain.into()),
            Key::MaxOutstandingR2T => Wish::Number(data.max_outstanding_r2t.into()),
            Key::DataPduInOrder | Key::DataSequenceInOrder => Wish::Flag(true),
            Key::ErrorRecoveryLevel => Wish::Number(0),
            // With one connection per session every response is fenced (RFC 7143 §4.2.2.3.3 a); FastAbort would be more.
            Key::TaskReporting => Wish::List(&["RFC3720", "ResponseFence"]),
            Key::IscsiProtocolLevel => Wish::Number(1),
            _ => return None,
        })
    }
}

/// What the peer did wrong, and with which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    TooManyKeys,
    Redeclared,
    NotAllowed(Key),
    Reserved(Key),
    BadDeclaration(Key),
    BadAnswer(Key),
}

/// The negotiation of one login.
#[derive(Debug)]
pub(crate) struct Negotiation {
    role: Sender,
    session_type: SessionType,
    wishes: Wishes,
    /// Keys that the peer has sent.
    seen: BTreeSet<String>,
    /// Keys that we proposed and that the peer has not answered.
    proposed: BTreeSet<Key>,
    settled: BTreeMap<Key, Value>,
    declared: BTreeMap<Key, String>,
    peer_max_data_segment: Option<u32>,
    /// Keys of an authentication method, until somebody takes them.
    authentication: Vec<(Key, String)>,
    /// What was agreed upon for the session that the connection belongs to.
    continued: Option<Params>,
}

impl Negotiation {
    /// A negotiation in which nothing was said. `role` is our own.
    pub(crate) fn new(role: Sender, session_type: SessionType, wishes: Wishes) -> Self {
        Self {
            role,
            session_type,
            wishes,
            seen: BTreeSet::new(),
            proposed: BTreeSet::new(),
            settled: BTreeMap::new(),
            declared: BTreeMap::new(),
            peer_max_data_segment: None,
            authentication: Vec::new(),
            continued: None,
        }
    }

    /// The connection belongs to a session that was negotiated before: what holds for the session as a whole stays, and
    /// is not spoken of again (RFC 7143 §6.3.1).
    pub(crate) fn continue_session(&mut self, session: Params) {
        self.continued = Some(session);
    }

    /// Takes what the peer sent in a stage; gives what is to be answered, in the same order.
    pub(crate) fn receive(
        &mut self,
        pairs: &[(String, String)],
        stage: Stage,
    ) -> Result<Vec<(String, String)>, Fault> {
        if self.seen.len() + pairs.len() > MAX_LOGIN_KEYS {
            return Err(Fault::TooManyKeys);
        }
        // FirstBurstLength depends on three other keys, so it is settled after them.
        let depends = |name: &str| name == Key::FirstBurstLength.rule().name;
        let (last, first): (Vec<_>, Vec<_>) = pairs
            .iter()
            .enumerate()
            .partition(|(_, (name, _))| depends(name));
        let mut answers = Vec::with_capacity(pairs.len());
        for (place, (name, value)) in first.into_iter().chain(last) {
            if let Some(answer) = self.receive_one(name, value, stage)? {
                answers.push((place, (name.clone(), answer)));
            }
        }
        answers.sort_by_key(|&(place, _)| place);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    fn receive_one(
        &mut self,
        name: &str,
        value: &str,
        stage: Stage,
    ) -> Result<Option<String>, Fault> {
        let key = Key::from_name(name);
        if self.role == Sender::Initiator
            && key.is_some_and(|key| key.rule().sender == Sender::Initiator)
        {
            // Some targets echo what we declared.
            return Ok(None);
        }
        // Only TargetAddress may come more than once (RFC 7143 §6.3).
        if !self.seen.insert(name.to_owned()) && key != Some(Key::TargetAddress) {
            return Err(Fault::Redeclared);
        }
        let Some(key) = key else {
            return Ok((value != NOT_UNDERSTOOD).then(|| NOT_UNDERSTOOD.to_owned()));
        };
        self.check_allowed(key, stage)?;
        if self.proposed.remove(&key) {
            self.settle_answer(key, value)?;
            return Ok(None);
        }
        match key.rule().kind {
            Kind::Declared => {
                self.declared.insert(key, value.to_owned());
                Ok(None)
            }
            Kind::DeclaredNumber(low, high) => {
                self.declare_number(key, value, low, high).map(|()| None)
            }
            Kind::Authentication => {
                self.authentication.push((key, value.to_owned()));
                Ok(None)
            }
            Kind::Obsolete(answer) => Ok(Some(answer.to_owned())),
            _ if RESERVED.contains(&value) => Err(Fault::Reserved(key)),
            _ if self.is_irrelevant(key) => Ok(Some(IRRELEVANT.to_owned())),
            _ => Ok(Some(self.settle_proposal(key, value))),
        }
    }

    fn check_allowed(&self, key: Key, stage: Stage) -> Result<(), Fault> {
        let rule = key.rule();
        let wrong_stage = match rule.stage {
            KeyStage::Any => false,
            KeyStage::Security => stage != Stage::Security,
            KeyStage::Operational => stage != Stage::Operational,
        };
        // An initiator forgives a target that is early with its declarations.
        let strict = self.role == Sender::Target;
        let settled_before = self.continued.is_some()
            && rule.usage == Use::LeadingOnly
            && rule.kind != Kind::Declared;
        let out_of_place = rule.usage == Use::FullFeatureOnly || (strict && wrong_stage);
        if rule.sender == self.role || settled_before || out_of_place {
            return Err(Fault::NotAllowed(key));
        }
        Ok(())
    }

    fn declare_number(&mut self, key: Key, value: &str, low: u32, high: u32) -> Result<(), Fault> {
        let number = number_within(value, low, high).ok_or(Fault::BadDeclaration(key))?;
        if key == Key::MaxRecvDataSegmentLength {
            self.peer_max_data_segment = Some(number);
        } else {
            self.declared.insert(key, number.to_string());
        }
        Ok(())
    }

    /// The peer proposes; we select.
    fn settle_proposal(&mut self, key: Key, value: &str) -> String {
        let Some(selected) = self
            .wish(key)
            .and_then(|wish| select(key.rule().kind, value, wish))
        else {
            return REJECT.to_owned();
        };
        self.settled.insert(key, selected);
        selected.to_text()
    }

    /// We proposed; the peer has selected.
    fn settle_answer(&mut self, key: Key, value: &str) -> Result<(), Fault> {
        // Every key that we propose must be understood (RFC 7143 §6.2).
        if [IRRELEVANT, REJECT].contains(&value) {
            return Ok(());
        }
        let selected = self
            .wish(key)
            .and_then(|wish| verify(key.rule().kind, wish, value));
        self.settled
            .insert(key, selected.ok_or(Fault::BadAnswer(key))?);
        Ok(())
    }

    fn wish(&self, key: Key) -> Option<Wish> {
        match (key, self.wishes.of(key)?) {
            (Key::FirstBurstLength, Wish::Number(number)) if self.role == Sender::Target => {
                Some(Wish::Number(number.min(self.number(Key::MaxBurstLength))))
            }
            (_, wish) => Some(wish),
        }
    }

    /// Proposes keys; gives what is to be sent.
    pub(crate) fn propose(&mut self, keys: &[Key]) -> Vec<(String, String)> {
        let mut pairs = Vec::with_capacity(keys.len());
        for &key in keys {
            if let Some(wish) = self.wish(key) {
                self.proposed.insert(key);
                pairs.push((key.to_string(), wish.to_text()));
            }
        }
        pairs
    }

    /// What the peer sent of an authentication method since it was asked last.
    pub(crate) fn take_authentication(&mut self) -> Vec<(Key, String)> {
        std::mem::take(&mut self.authentication)
    }

    /// What was chosen from a list.
    pub(crate) fn choice(&self, key: Key) -> Option<&'static str> {
        match self.settled.get(&key) {
            Some(Value::Choice(choice)) => Some(choice),
            _ => None,
        }
    }

    /// True if a proposal of ours waits for its answer.
    pub(crate) fn awaits_answer(&self) -> bool {
        !self.proposed.is_empty()
    }

    /// True if the peer has sent this key.
    pub(crate) fn has_seen(&self, key: Key) -> bool {
        self.seen.contains(key.rule().name)
    }

    /// What the peer declared.
    pub(crate) fn declared(&self, key: Key) -> Option<&str> {
        self.declared.get(&key).map(String::as_str)
    }

    /// Keys that we cannot leave at what they are now.
    pub(crate) fn unacceptable(&self) -> Vec<Key> {
        LIMITED
            .iter()
            .copied()
            .filter(|&key| !self.is_irrelevant(key) && !self.is_acceptable(key))
            .collect()
    }

    /// True if the values that were settled go together (RFC 7143 §13.14).
    pub(crate) fn is_consistent(&self) -> bool {
        match self.settled.get(&Key::FirstBurstLength) {
            Some(&Value::Number(first)) => first <= self.number(Key::MaxBurstLength),
            _ => true,
        }
    }

    fn is_acceptable(&self, key: Key) -> bool {
        match (self.wish(key), self.value(key)) {
            (Some(Wish::List(choices)), Some(Value::Choice(choice))) => choices.contains(&choice),
            (Some(Wish::Flag(wish)), Some(Value::Flag(value))) => wish || !value,
            // Whoever leaves FirstBurstLength alone knows that MaxBurstLength limits it (RFC 7143 §13.14).
            (Some(Wish::Number(wish)), Some(Value::Number(value)))
                if key == Key::FirstBurstLength =>
            {
                value.min(self.number(Key::MaxBurstLength)) <= wish
            }
            (Some(Wish::Number(wish)), Some(Value::Number(value))) => value <= wish,
            _ => true,
        }
    }

    fn is_irrelevant(&self, key: Key) -> bool {
        let no_burst = || self.flag(Key::InitialR2T) && !self.flag(Key::ImmediateData);
        (self.session_type == SessionType::Discovery && !key.rule().in_discovery)
            || (key == Key::FirstBurstLength && no_burst())
    }

    /// What holds: what was settled, else the default, which an initiator tightens to what it asked for.
    fn value(&self, key: Key) -> Option<Value> {
        if let Some(&value) = self.settled.get(&key) {
            return Some(value);
        }
        let default = self.default_of(key)?;
        match (self.role, self.wishes.of(key)) {
            (Sender::Initiator, Some(wish)) => Some(tighten(key.rule().kind, default, wish)),
            _ => Some(default),
        }
    }

    /// What holds as long as nothing is settled.
    fn default_of(&self, key: Key) -> Option<Value> {
        let default = self.continued.clone().unwrap_or_default();
        Some(match key {
            Key::HeaderDigest | Key::DataDigest => Value::Choice(NONE),
            Key::InitialR2T => Value::Flag(default.initial_r2t),
            Key::ImmediateData => Value::Flag(default.immediate_data),
            Key::MaxBurstLength => Value::Number(default.max_burst_length),
            Key::FirstBurstLength => Value::Number(default.first_burst_length),
            Key::MaxOutstandingR2T => Value::Number(default.max_outstanding_r2t.into()),
            Key::DefaultTime2Wait => Value::Number(default.time2wait.into()),
            Key::DefaultTime2Retain => Value::Number(default.time2retain.into()),
            _ => return None,
        })
    }

    fn flag(&self, key: Key) -> bool {
        self.value(key) == Some(Value::Flag(true))
    }

    fn number(&self, key: Key) -> u32 {
        match self.value(key) {
            Some(Value::Number(number)) => number,
            _ => 0,
        }
    }

    fn short(&self, key: Key) -> u16 {
        u16::try_from(self.number(key)).unwrap_or(u16::MAX)
    }

    /// The outcome. `max_recv_data_segment_length` is what we declared.
    pub(crate) fn params(&self, max_recv_data_segment_length: Option<u32>) -> Params {
        let default = Params::default();
        let digest = |key| self.value(key) == Some(Value::Choice(CRC32C));
        let max_burst_length = self.number(Key::MaxBurstLength);
        Params {
            header_digest: digest(Key::HeaderDigest),
            data_digest: digest(Key::DataDigest),
            initial_r2t: self.flag(Key::InitialR2T),
            immediate_data: self.flag(Key::ImmediateData),
            max_burst_length,
            first_burst_length: self.number(Key::FirstBurstLength).min(max_burst_length),
            max_outstanding_r2t: self.short(Key::MaxOutstandingR2T),
            max_recv_data_segment_length: max_recv_data_segment_length
                .unwrap_or(default.max_recv_data_segment_length),
            max_send_data_segment_length: self
                .peer_max_data_segment
                .unwrap_or(default.max_send_data_segment_length),
            time2wait: self.short(Key::DefaultTime2Wait),
            time2retain: self.short(Key::DefaultTime2Retain),
            session_type: self.session_type,
        }
    }
}

impl From<Fault> for Violation {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooManyKeys => Self::TooManyKeys,
            Fault::Redeclared => Self::Redeclared,
            Fault::NotAllowed(_) => Self::KeyNotAllowed,
            Fault::Reserved(_) => Self::ReservedValue,
            Fault::BadDeclaration(_) => Self::BadDeclaration,
            Fault::BadAnswer(_) => Self::BadAnswer,
        }
    }
}

impl From<Fault> for LoginError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooManyKeys => Self::TooLong,
            Fault::Redeclared => Self::Redeclared,
            Fault::NotAllowed(key) | Fault::Reserved(key) | Fault::BadDeclaration(key) => {
                Self::BadKey(key)
            }
            Fault::BadAnswer(key) => Self::BadAnswer(key),
        }
    }
}

/// Keys whose default may ask more of us than we are ready to give.
const LIMITED: &[Key] = &[
    Key::HeaderDigest,
    Key::DataDigest,
    Key::ImmediateData,
    Key::MaxBurstLength,
    Key::FirstBurstLength,
];

const IRRELEVANT: &str = "Irrelevant";
const REJECT: &str = "Reject";
const NOT_UNDERSTOOD: &str = "NotUnderstood";
/// Words that only an answer may be (RFC 7143 §6.2).
const RESERVED: &[&str] = &[IRRELEVANT, REJECT, NOT_UNDERSTOOD];
