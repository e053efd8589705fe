//! The hashes that CHAP makes responses with.

use sha3::Digest;

use crate::login::chap::Secret;
use crate::params::parse_number;

/// The hash that makes a response out of a secret and a challenge; the numbers are those of CHAP_A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// MD5, which every initiator must offer (RFC 7143 §12.1.3).
    Md5 = 5,
    /// SHA-1. This number and the next ones: IANA, "PPP Authentication Algorithms".
    Sha1 = 6,
    /// SHA-256.
    Sha256 = 7,
    /// SHA3-256.
    Sha3_256 = 8,
}

impl Algorithm {
    /// Every algorithm, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];

    /// Every algorithm, in the order in which an initiator had best offer them. tgt, and targets of its kin, take 7 for
    /// SHA-1 and then stumble over the response, so it comes after what they know by its right number.
    pub const OFFERED: [Self; 4] = [Self::Sha3_256, Self::Sha1, Self::Md5, Self::Sha256];

    /// The algorithm of this number as CHAP_A writes it.
    pub(crate) fn from_value(value: &str) -> Option<Self> {
        let number = parse_number(value)?;
        Self::ALL
            .into_iter()
            .find(|algorithm| u64::from(algorithm.number()) == number)
    }

    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The response to a challenge: the hash of identifier, secret and challenge (RFC 1994 §4.1).
    pub(crate) fn respond(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
        let parts = [&[identifier], secret.expose(), challenge];
        match self {
            Self::Md5 => hash::<md5::Md5>(parts),
            Self::Sha1 => hash::<sha1::Sha1>(parts),
            Self::Sha256 => hash::<sha2::Sha256>(parts),
            Self::Sha3_256 => hash::<sha3::Sha3_256>(parts),
        }
    }
}

fn hash<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
    let mut hash = D::new();
    parts.into_iter().for_each(|part| hash.update(part));
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Secret};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 7143 §12.1.3, RFC 1994 §4.1. Computed with Python's hashlib.
    #[test]
    fn responses_are_those_of_another_implementation() {
        let secret = Secret::new("secret secret").unwrap();
        let challenge: Vec<u8> = (0..16).collect();
        for (algorithm, response) in [
            (Algorithm::Md5, "f261face79416a5c7e0f7971b47f836d"),
            (Algorithm::Sha1, "684e3622eb98359d9aca4433ff40ba4a0f1560bc"),
            (
                Algorithm::Sha256,
                "af423b3750112f42e2ccc0abcb9faa1ca0e3ead117db39ab120dbdaf85c8161f",
            ),
            (
                Algorithm::Sha3_256,
                "59ea491f6174da995a82b7a3ea335b1741f9c7f35cab198c0ff24c8ac7049158",
            ),
        ] {
            assert_eq!(
                hex(&algorithm.respond(0x2a, &secret, &challenge)),
                response,
                "{algorithm:?}"
            );
        }
    }

    #[test]
    fn algorithms_are_found_by_their_numbers() {
        assert_eq!(Algorithm::from_value("5"), Some(Algorithm::Md5));
        assert_eq!(Algorithm::from_value("6"), Some(Algorithm::Sha1));
        assert_eq!(Algorithm::from_value("7"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::from_value("0x08"), Some(Algorithm::Sha3_256));
        for value in ["0", "4", "9", "128", "MD5", "", "-5", "5 ", "261"] {
            assert_eq!(Algorithm::from_value(value), None, "{value}");
        }
    }
}
