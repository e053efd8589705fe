//! What each end brings to CHAP.

use crate::login::chap::binary::MAX_BINARY_BYTES;
use crate::login::chap::{Account, Algorithm};

/// How a target wants an initiator to prove itself. Identifier and challenge are random, and new for every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChapPolicy {
    /// Who may log in; one of these must be proven.
    pub accounts: Vec<Account>,
    /// What the target proves itself with, should the initiator ask.
    pub mutual: Option<Account>,
    /// What is allowed; the initiator's order decides.
    pub algorithms: Vec<Algorithm>,
    /// CHAP_I.
    pub identifier: u8,
    /// CHAP_C: [`ChapPolicy::CHALLENGE_BYTES`] random bytes are enough.
    pub challenge: Vec<u8>,
}

/// What an initiator proves itself with. Identifier and challenge are random, and new for every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiatorChap {
    /// Who we are.
    pub account: Account,
    /// Who the target must prove to be; nothing if it need not.
    pub mutual: Option<Account>,
    /// What we are ready to use, what we prefer first.
    pub algorithms: Vec<Algorithm>,
    /// CHAP_I of the challenge that goes to the target.
    pub identifier: u8,
    /// CHAP_C that goes to the target: [`ChapPolicy::CHALLENGE_BYTES`] random bytes are enough.
    pub challenge: Vec<u8>,
}

/// Why nobody can, or nobody should, prove anything this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableChap {
    /// One secret for both directions: who is challenged could let the challenger answer (RFC 7143 §9.2.1).
    #[error("initiator and target must have different CHAP secrets")]
    SharedSecret,
    /// No algorithm is allowed.
    #[error("no CHAP algorithm is allowed")]
    NoAlgorithm,
    /// The challenge is too short to be guessed never, or too long to be sent.
    #[error("a CHAP challenge has 16 to 1024 bytes")]
    Challenge,
    /// A name has no characters, too many, or one that no text holds.
    #[error("a CHAP name has 1 to 255 bytes, none of them zero")]
    Name,
}

impl ChapPolicy {
    /// How long a challenge is best: as long as the longest response.
    pub const CHALLENGE_BYTES: usize = 32;

    /// Finds what is wrong with the configuration; a login with such a policy fails.
    pub fn check(&self) -> Result<(), UnusableChap> {
        check_accounts(&self.accounts, self.mutual.as_ref())?;
        check_random(&self.algorithms, &self.challenge)
    }
}

impl InitiatorChap {
    /// Finds what is wrong with the configuration; a login with it fails.
    pub fn check(&self) -> Result<(), UnusableChap> {
        check_accounts(std::slice::from_ref(&self.account), self.mutual.as_ref())?;
        check_random(&self.algorithms, &self.challenge)
    }
}

/// Finds what is wrong with accounts before anybody logs in: `mutual` proves the other side's identity.
pub fn check_accounts(accounts: &[Account], mutual: Option<&Account>) -> Result<(), UnusableChap> {
    let legal = |name: &str| (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains('\0');
    if !accounts
        .iter()
        .chain(mutual)
        .all(|account| legal(&account.name))
    {
        return Err(UnusableChap::Name);
    }
    if mutual.is_some_and(|mutual| {
        accounts
            .iter()
            .any(|account| account.secret == mutual.secret)
    }) {
        return Err(UnusableChap::SharedSecret);
    }
    Ok(())
}

fn check_random(algorithms: &[Algorithm], challenge: &[u8]) -> Result<(), UnusableChap> {
    if algorithms.is_empty() {
        return Err(UnusableChap::NoAlgorithm);
    }
    if !(MIN_CHALLENGE_BYTES..=MAX_BINARY_BYTES).contains(&challenge.len()) {
        return Err(UnusableChap::Challenge);
    }
    Ok(())
}

/// The longest CHAP_N (RFC 7143 §6.1: a simple-value).
const MAX_NAME_BYTES: usize = 255;

/// Shorter challenges come again.
const MIN_CHALLENGE_BYTES: usize = 16;
