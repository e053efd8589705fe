//! Names and the secrets that prove them.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A name and the secret that proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// CHAP_N.
    pub name: String,
    /// What both sides know and nobody sends.
    pub secret: Secret,
}

/// A CHAP secret: 12 to 255 bytes, never printed, gone from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Box<[u8]>>);

/// A secret that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Shorter than 96 bits, which nobody may use without IPsec (RFC 7143 §9.2.1).
    #[error("a CHAP secret has at least {} bytes", Secret::MIN_BYTES)]
    TooShort,
    /// Longer than anybody types.
    #[error("a CHAP secret has at most {} bytes", Secret::MAX_BYTES)]
    TooLong,
}

impl Secret {
    /// The shortest secret: 96 bits (RFC 7143 §9.2.1).
    pub const MIN_BYTES: usize = 12;

    /// The longest secret.
    pub const MAX_BYTES: usize = 255;

    /// A secret of these bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, InvalidSecret> {
        let bytes = bytes.as_ref();
        if bytes.len() < Self::MIN_BYTES {
            return Err(InvalidSecret::TooShort);
        }
        if bytes.len() > Self::MAX_BYTES {
            return Err(InvalidSecret::TooLong);
        }
        Ok(Self(Zeroizing::new(bytes.into())))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}
