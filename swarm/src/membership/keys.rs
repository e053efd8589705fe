//! The swarm key, and the secrets that follow from it.
//!
//! A swarm has one key of 256 random bits, and for the time of a change two, each with the number of its epoch. What two
//! nodes prove themselves with is derived from it (HKDF-SHA-256, RFC 5869) for that pair, that direction and that epoch:
//! a secret that leaks opens one way between two nodes and no other. RFC 7143 §9.2.1 wants CHAP secrets that nobody can
//! compute from others; who holds the swarm key can compute these, so they serve between nodes of one swarm only.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use hkdf::Hkdf;
use iscsi_initiator::{Account, Algorithm, Credentials, InvalidSecret, Secret};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::forest::NodeName;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Epochs that are valid at once: the one in use, and the one that comes or goes.
const MOST_KEYS: usize = 2;

/// What separates these keys from what others derive (RFC 5869 §3.1).
const SALT: &[u8] = b"vmthunder swarm v1";

/// The hashes that nodes offer each other.
pub const PEER_ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha3_256, Algorithm::Sha256];

/// The key of one epoch; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SwarmKey {
    epoch: u32,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// The keys that are valid now: the first is used, all are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(Vec<SwarmKey>);

/// Keys that can be replaced while they are in use.
#[derive(Debug)]
pub struct Keyring(RwLock<Arc<Keys>>);

/// Which end of a session proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Initiator,
    Target,
}

/// Why a text holds no keys; lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is none.
    #[error("there is no key in it")]
    Empty,
    /// There are more than can be valid at once.
    #[error("line {0}: more than {MOST_KEYS} keys; remove the oldest")]
    TooMany(usize),
    /// A line has another form.
    #[error(
        "line {0} is not `EPOCH KEY`, a number and 64 hexadecimal digits, as `vmthunder swarm key` writes it"
    )]
    Form(usize),
    /// Nobody could tell the keys apart.
    #[error("line {0}: two keys have the same epoch; the newer key needs a higher one")]
    SameEpoch(usize),
    /// Everybody can guess it.
    #[error("line {0}: these are not 256 random bits; have a key made by `vmthunder swarm key`")]
    NotRandom(usize),
}

impl SwarmKey {
    /// The key of these random bytes.
    pub fn new(epoch: u32, bytes: [u8; KEY_BYTES]) -> Self {
        Self {
            epoch,
            bytes: Zeroizing::new(bytes),
        }
    }

    /// Its number.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The line that a file holds of it.
    pub fn line(&self) -> Zeroizing<String> {
        use std::fmt::Write as _;
        let mut line = Zeroizing::new(format!("{} ", self.epoch));
        for byte in self.bytes.iter() {
            // Writing to a string does not fail.
            let _ = write!(line, "{byte:02x}");
        }
        line
    }

    /// A key for one purpose.
    pub(crate) fn derive(&self, purpose: &[&[u8]]) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut derived = Zeroizing::new([0; KEY_BYTES]);
        let epoch = self.epoch.to_be_bytes();
        let mut info: Vec<u8> = epoch.to_vec();
        for part in purpose {
            // With their lengths: no two purposes run together into the same bytes.
            info.extend_from_slice(&(part.len() as u64).to_be_bytes());
            info.extend_from_slice(part);
        }
        let expanded = Hkdf::<Sha256>::new(Some(SALT), &*self.bytes).expand(&info, &mut *derived);
        debug_assert!(expanded.is_ok(), "32 bytes are at most 255 hashes");
        derived
    }

    /// What `from` proves itself with to `to` at one end of a session.
    fn account(
        &self,
        role: Role,
        from: &NodeName,
        to: &NodeName,
    ) -> Result<Account, InvalidSecret> {
        let role = match role {
            Role::Initiator => "initiator",
            Role::Target => "target",
        };
        let parts = ["chap", role, from.as_str(), to.as_str()].map(str::as_bytes);
        Ok(Account {
            name: format!("{role}.{from}.{}", self.epoch),
            secret: Secret::new(*self.derive(&parts))?,
        })
    }
}

impl Keys {
    /// Reads the lines of a file: `EPOCH KEY`, what is empty or begins with `#` is left out.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys: Vec<SwarmKey> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_line(line).ok_or(KeyError::Form(number))?;
            if !looks_random(&key.bytes) {
                return Err(KeyError::NotRandom(number));
            }
            if keys.iter().any(|other| other.epoch == key.epoch) {
                return Err(KeyError::SameEpoch(number));
            }
            if keys.len() == MOST_KEYS {
                return Err(KeyError::TooMany(number));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self(keys))
    }

    /// The keys, that in use first.
    pub fn all(&self) -> &[SwarmKey] {
        &self.0
    }

    /// What `me` proves itself with to the target of `peer`, and what that has to prove: for each epoch, that in use first.
    pub fn to_dial(
        &self,
        me: &NodeName,
        peer: &NodeName,
    ) -> Result<Vec<Credentials>, InvalidSecret> {
        let each = self.0.iter().map(|key| {
            Ok(Credentials {
                account: key.account(Role::Initiator, me, peer)?,
                mutual: Some(key.account(Role::Target, peer, me)?),
                algorithms: PEER_ALGORITHMS.to_vec(),
            })
        });
        each.collect()
    }

    /// What the target of `me` takes from `peer`, one account for each epoch, and what it proves itself with.
    pub fn to_serve(
        &self,
        me: &NodeName,
        peer: &NodeName,
    ) -> Result<(Vec<Account>, Option<Account>), InvalidSecret> {
        let accounts = self.0.iter();
        let accounts = accounts.map(|key| key.account(Role::Initiator, peer, me));
        let own = self.0.first();
        let own = own.map(|key| key.account(Role::Target, me, peer));
        Ok((accounts.collect::<Result<_, _>>()?, own.transpose()?))
    }
}

impl Keyring {
    /// These keys, for now.
    pub fn new(keys: Keys) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(keys))))
    }

    /// The keys that are valid at the moment.
    pub fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other keys in the place of these; what is under way goes on.
    pub fn replace(&self, keys: Keys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

fn parse_line(line: &str) -> Option<SwarmKey> {
    let mut words = line.split_ascii_whitespace();
    let (epoch, digits) = (words.next()?, words.next()?);
    if words.next().is_some() || digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(SwarmKey {
        epoch: epoch.parse().ok()?,
        bytes,
    })
}

/// Of 32 random bytes hardly ever fewer than 20 are different: what has fewer was typed by somebody.
fn looks_random(bytes: &[u8; KEY_BYTES]) -> bool {
    let mut sorted = Zeroizing::new(*bytes);
    sorted.sort_unstable();
    let different = 1 + sorted
        .windows(2)
        .filter(|two| matches!(two, [a, b] if a != b))
        .count();
    different >= 20
}

impl fmt::Debug for SwarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwarmKey of epoch {}", self.epoch)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
