//! The initiator's end of CHAP.

use subtle::ConstantTimeEq;

use crate::login::chap::step::{self, BadStep, Step};
use crate::login::chap::{Algorithm, InitiatorChap};
use crate::params::Key;

/// Proves ourselves to a target, and lets it prove itself if it has to.
#[derive(Debug)]
pub(crate) struct Prover {
    chap: InitiatorChap,
    progress: Progress,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    Begin,
    ExpectChallenge,
    ExpectProof(Algorithm),
    Done,
}

/// How a target fails to take part in CHAP; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It sent other keys, or other values, than the step has.
    #[error("the target broke the rules of CHAP with the key {0}")]
    BadKey(Key),
    /// A key of the step is missing.
    #[error("the target left out the key {0}")]
    MissingKey(Key),
    /// It chose an algorithm that was not offered.
    #[error("the target chose a CHAP algorithm that was not offered")]
    Algorithm,
    /// It sent our own challenge back, or what we would have answered ourselves (RFC 7143 §9.2.1).
    #[error("the target sent back what is ours")]
    Reflected,
    /// It has another name, or another secret, than it must have.
    #[error("the target is not the one that it has to be")]
    Credentials,
    /// It went on without having proven itself, or without having let us.
    #[error("the target skips the authentication")]
    Skipped,
}

impl Prover {
    pub(crate) fn new(chap: InitiatorChap) -> Self {
        Self {
            chap,
            progress: Progress::Begin,
        }
    }

    /// True if nothing is left to prove on either side.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.progress, Progress::Done)
    }

    /// True if what was said last, once it is answered, leaves nothing to prove.
    pub(crate) fn is_last_step(&self) -> bool {
        matches!(self.progress, Progress::ExpectProof(_) | Progress::Done)
    }

    /// Takes the keys of one response; gives those of the next request.
    pub(crate) fn take(&mut self, step: Step) -> Result<Vec<(String, String)>, Unproven> {
        match self.progress {
            Progress::Begin => self.offer_algorithms(step),
            Progress::ExpectChallenge => self.take_challenge(step),
            Progress::ExpectProof(algorithm) => self.take_proof(algorithm, step),
            Progress::Done => Ok(step.finish().map(|()| Vec::new())?),
        }
    }

    fn offer_algorithms(&mut self, step: Step) -> Result<Vec<(String, String)>, Unproven> {
        step.finish()?;
        self.progress = Progress::ExpectChallenge;
        let numbers: Vec<String> = self
            .chap
            .algorithms
            .iter()
            .map(|algorithm| algorithm.number().to_string())
            .collect();
        Ok(vec![(Key::ChapA.to_string(), numbers.join(","))])
    }

    fn take_challenge(&mut self, mut step: Step) -> Result<Vec<(String, String)>, Unproven> {
        let algorithm = step.take(Key::ChapA)?;
        let (identifier, challenge) = step.take_challenge()?;
        step.finish()?;
        let algorithm = Algorithm::from_value(&algorithm)
            .filter(|algorithm| self.chap.algorithms.contains(algorithm))
            .ok_or(Unproven::Algorithm)?;
        // Ours was not sent yet on this connection, but perhaps on another one.
        if challenge == self.chap.challenge {
            return Err(Unproven::Reflected);
        }
        let account = &self.chap.account;
        let response = algorithm.respond(identifier, &account.secret, &challenge);
        let mut answer = Vec::from(step::response(&account.name, &response));
        self.progress = if self.chap.mutual.is_some() {
            answer.extend(step::challenge(self.chap.identifier, &self.chap.challenge));
            Progress::ExpectProof(algorithm)
        } else {
            Progress::Done
        };
        Ok(answer)
    }

    fn take_proof(
        &mut self,
        algorithm: Algorithm,
        mut step: Step,
    ) -> Result<Vec<(String, String)>, Unproven> {
        if step.is_empty() {
            return Err(Unproven::Skipped);
        }
        let (name, response) = step.take_response()?;
        step.finish()?;
        let InitiatorChap {
            account,
            mutual,
            identifier,
            challenge,
            ..
        } = &self.chap;
        let made = |secret| algorithm.respond(*identifier, secret, challenge);
        if made(&account.secret).ct_eq(&response).into() {
            return Err(Unproven::Reflected);
        }
        let proven = mutual.as_ref().is_some_and(|mutual| {
            let named = mutual.name.as_bytes().ct_eq(name.as_bytes());
            (named & made(&mutual.secret).ct_eq(&response)).into()
        });
        if !proven {
            return Err(Unproven::Credentials);
        }
        self.progress = Progress::Done;
        Ok(Vec::new())
    }
}

impl From<BadStep> for Unproven {
    fn from(bad: BadStep) -> Self {
        match bad {
            BadStep::Missing(key) => Self::MissingKey(key),
            BadStep::Bad(key) => Self::BadKey(key),
        }
    }
}
