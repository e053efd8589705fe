//! The target's end of CHAP.

use subtle::{Choice, ConstantTimeEq};

use crate::login::Violation;
use crate::login::chap::step::{self, BadStep, Step};
use crate::login::chap::{Account, Algorithm, ChapPolicy};
use crate::params::Key;

/// Asks an initiator to prove itself.
#[derive(Debug)]
pub(crate) struct Verifier {
    policy: ChapPolicy,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    ExpectAlgorithms,
    ExpectResponse(Algorithm),
    /// The name of the account.
    Proven(String),
}

impl Verifier {
    pub(crate) fn new(policy: ChapPolicy) -> Self {
        Self {
            policy,
            progress: Progress::ExpectAlgorithms,
        }
    }

    /// The account that was proven.
    pub(crate) fn account(&self) -> Option<&str> {
        match &self.progress {
            Progress::Proven(account) => Some(account),
            _ => None,
        }
    }

    /// Takes the keys of one request; gives those of the response.
    pub(crate) fn take(&mut self, step: Step) -> Result<Vec<(String, String)>, Violation> {
        match self.progress {
            Progress::ExpectAlgorithms => self.take_algorithms(step),
            Progress::ExpectResponse(algorithm) => self.take_response(algorithm, step),
            Progress::Proven(_) => Ok(step.finish().map(|()| Vec::new())?),
        }
    }

    fn take_algorithms(&mut self, mut step: Step) -> Result<Vec<(String, String)>, Violation> {
        let offered = step.take(Key::ChapA)?;
        step.finish()?;
        let allowed = &self.policy.algorithms;
        let algorithm = offered
            .split(',')
            .filter_map(Algorithm::from_value)
            .find(|algorithm| allowed.contains(algorithm))
            .ok_or(Violation::ChapAlgorithm)?;
        self.progress = Progress::ExpectResponse(algorithm);
        let mut answer = vec![(Key::ChapA.to_string(), algorithm.number().to_string())];
        answer.extend(step::challenge(
            self.policy.identifier,
            &self.policy.challenge,
        ));
        Ok(answer)
    }

    fn take_response(
        &mut self,
        algorithm: Algorithm,
        mut step: Step,
    ) -> Result<Vec<(String, String)>, Violation> {
        let (name, response) = step.take_response()?;
        let challenge = if step.has(Key::ChapI) || step.has(Key::ChapC) {
            Some(step.take_challenge()?)
        } else {
            None
        };
        step.finish()?;
        if !bool::from(self.is_proven(algorithm, &name, &response)) {
            return Err(Violation::Credentials);
        }
        self.progress = Progress::Proven(name);
        match challenge {
            None => Ok(Vec::new()),
            Some((identifier, challenge)) => {
                self.answer_challenge(algorithm, identifier, &challenge)
            }
        }
    }

    /// True if one of the accounts has this name and makes this response. It takes the same time whether the name, the
    /// secret or nothing is wrong: every account is tried to its end.
    fn is_proven(&self, algorithm: Algorithm, name: &str, response: &[u8]) -> Choice {
        let made = |account: &Account| {
            let expected = algorithm.respond(
                self.policy.identifier,
                &account.secret,
                &self.policy.challenge,
            );
            expected.ct_eq(response)
        };
        let proven = self
            .policy
            .accounts
            .iter()
            .fold(Choice::from(0), |proven, account| {
                let named = account.name.as_bytes().ct_eq(name.as_bytes());
                proven | (named & made(account))
            });
        // What we would have answered ourselves proves nothing (RFC 7143 §9.2.1).
        let reflected = self
            .policy
            .mutual
            .as_ref()
            .map_or_else(|| Choice::from(0), made);
        proven & !reflected
    }

    /// The initiator wants us to prove ourselves.
    fn answer_challenge(
        &self,
        algorithm: Algorithm,
        identifier: u8,
        challenge: &[u8],
    ) -> Result<Vec<(String, String)>, Violation> {
        if challenge == self.policy.challenge {
            return Err(Violation::ReflectedChallenge);
        }
        let mutual = self.policy.mutual.as_ref().ok_or(Violation::NoMutual)?;
        let response = algorithm.respond(identifier, &mutual.secret, challenge);
        Ok(step::response(&mutual.name, &response).into())
    }
}

impl From<BadStep> for Violation {
    fn from(bad: BadStep) -> Self {
        match bad {
            BadStep::Missing(_) => Self::MissingChapKey,
            BadStep::Bad(_) => Self::BadChapKey,
        }
    }
}
