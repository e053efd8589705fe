//! Who is judged, and how to get in.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

/// A target and one of its logical units.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `HOST:PORT` of the portal.
    pub address: String,
    /// The target's name.
    pub target: String,
    /// The logical unit's number.
    pub lun: u16,
    /// The suite's own name as an initiator.
    pub initiator: String,
    /// What the suite proves itself with, if the target asks for it.
    pub chap: Option<Credentials>,
    /// What the target proves itself with, if it is asked for it.
    pub mutual: Option<Credentials>,
    /// How long the suite waits for an answer before it calls it missing.
    pub patience: Duration,
}

/// A CHAP name and its secret; printing it shows the name alone.
#[derive(Clone)]
pub struct Credentials {
    /// CHAP_N.
    pub user: String,
    /// What proves it.
    pub secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.user).finish()
    }
}
