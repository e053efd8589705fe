//! CHAP: who has the secret proves it without sending it (RFC 7143 §12.1.3, RFC 1994).

mod account;

pub use account::{Account, InvalidSecret, Secret};

/// The hash that makes a response out of a secret and a challenge; the numbers are those of CHAP_A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// MD5, which every initiator offers (RFC 7143 §12.1.3).
    Md5 = 5,
    /// SHA-1 (IANA, "PPP Authentication Algorithms").
    Sha1 = 6,
    /// SHA-256.
    Sha256 = 7,
    /// SHA3-256.
    Sha3_256 = 8,
}

impl Algorithm {
    /// Every algorithm, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];
}

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
    /// CHAP_C: at least 16 random bytes, at most 1,024.
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
    /// CHAP_C that goes to the target: at least 16 random bytes, at most 1,024.
    pub challenge: Vec<u8>,
}
