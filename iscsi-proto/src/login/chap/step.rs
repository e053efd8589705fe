//! The keys of one step of CHAP.

use crate::login::chap::binary;
use crate::params::{Key, parse_number};

/// What one side sent in one step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    keys: Vec<(Key, String)>,
}

/// What is wrong with the keys of a step, as opposed to what they prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadStep {
    /// A key of the step is missing.
    Missing(Key),
    /// A key has no business in the step, or has a value that it never has.
    Bad(Key),
}

impl Step {
    pub(crate) fn new(keys: Vec<(Key, String)>) -> Self {
        Self { keys }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn has(&self, key: Key) -> bool {
        self.keys.iter().any(|&(sent, _)| sent == key)
    }

    /// Takes a key that the step must have.
    pub(crate) fn take(&mut self, key: Key) -> Result<String, BadStep> {
        let place = self.keys.iter().position(|&(sent, _)| sent == key);
        place
            .map(|place| self.keys.swap_remove(place).1)
            .ok_or(BadStep::Missing(key))
    }

    /// CHAP_I and CHAP_C.
    pub(crate) fn take_challenge(&mut self) -> Result<(u8, Vec<u8>), BadStep> {
        let identifier = self.take(Key::ChapI)?;
        let challenge = self.take(Key::ChapC)?;
        let identifier = parse_number(&identifier)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(BadStep::Bad(Key::ChapI))?;
        let challenge = binary::decode(&challenge).ok_or(BadStep::Bad(Key::ChapC))?;
        Ok((identifier, challenge))
    }

    /// CHAP_N and CHAP_R.
    pub(crate) fn take_response(&mut self) -> Result<(String, Vec<u8>), BadStep> {
        let name = self.take(Key::ChapN)?;
        let response = self.take(Key::ChapR)?;
        let response = binary::decode(&response).ok_or(BadStep::Bad(Key::ChapR))?;
        Ok((name, response))
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), BadStep> {
        match self.keys.first() {
            None => Ok(()),
            Some(&(key, _)) => Err(BadStep::Bad(key)),
        }
    }
}

/// CHAP_I and CHAP_C as they are sent.
pub(crate) fn challenge(identifier: u8, challenge: &[u8]) -> [(String, String); 2] {
    [
        (Key::ChapI.to_string(), identifier.to_string()),
        (Key::ChapC.to_string(), binary::encode(challenge)),
    ]
}

/// CHAP_N and CHAP_R as they are sent.
pub(crate) fn response(name: &str, response: &[u8]) -> [(String, String); 2] {
    [
        (Key::ChapN.to_string(), name.to_owned()),
        (Key::ChapR.to_string(), binary::encode(response)),
    ]
}
