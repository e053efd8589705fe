//! The security stage as the target sees it (RFC 7143 §6.3.2): which method, and how far it got.

use crate::login::chap::{ChapPolicy, Step, Verifier};
use crate::login::value::{CHAP, NONE};
use crate::login::{Authentication, Violation};

/// How an initiator has to prove itself, and how far it got.
#[derive(Debug)]
pub(crate) struct Security {
    /// It need not.
    none: bool,
    method: Method,
}

#[derive(Debug)]
enum Method {
    /// Not settled yet.
    Open(Option<Box<ChapPolicy>>),
    None,
    Chap(Box<Verifier>),
}

impl Security {
    pub(crate) fn new(authentication: Authentication) -> Self {
        Self {
            none: authentication.none,
            method: Method::Open(authentication.chap.map(Box::new)),
        }
    }

    /// The values of AuthMethod that are allowed, in the order in which we propose them.
    pub(crate) fn methods(&self) -> &'static [&'static str] {
        let chap = !matches!(self.method, Method::Open(None));
        match (chap, self.none) {
            (true, true) => &[CHAP, NONE],
            (true, false) => &[CHAP],
            (false, true) => &[NONE],
            (false, false) => &[],
        }
    }

    /// True until a method is settled.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.method, Method::Open(_))
    }

    /// True if the initiator need not prove anything any more.
    pub(crate) fn is_over(&self) -> bool {
        match &self.method {
            Method::Open(_) => self.none,
            Method::None => true,
            Method::Chap(verifier) => verifier.account().is_some(),
        }
    }

    /// The account that was proven.
    pub(crate) fn account(&self) -> Option<&str> {
        match &self.method {
            Method::Chap(verifier) => verifier.account(),
            Method::Open(_) | Method::None => None,
        }
    }

    /// The method is settled.
    pub(crate) fn settle(&mut self, method: &str) {
        if let Method::Open(policy) = &mut self.method {
            self.method = match policy.take() {
                Some(policy) if method == CHAP => Method::Chap(Box::new(Verifier::new(*policy))),
                _ => Method::None,
            };
        }
    }

    /// Takes the method's own keys; gives those to be sent.
    pub(crate) fn take(&mut self, step: Step) -> Result<Vec<(String, String)>, Violation> {
        match &mut self.method {
            Method::Chap(verifier) => verifier.take(step),
            Method::Open(_) | Method::None => Ok(step.finish().map(|()| Vec::new())?),
        }
    }
}
