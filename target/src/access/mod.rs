//! Who may log in: by name, by network, by secret; and who is sent elsewhere.

mod chap;
mod failures;
mod network;
mod pattern;
mod redirect;

use std::net::{IpAddr, SocketAddr};

use iscsi_proto::name::IscsiName;

pub use chap::{ChapRules, ChapRulesError, DerivedChap};
pub(crate) use failures::LoginFailures;
pub(crate) use network::neighbourhood;
pub use network::{Network, NetworkError};
pub use pattern::{NamePattern, PatternError};
pub use redirect::{PortalAddress, PortalAddressError, Redirect};

/// Who may use an export, or ask what exports there are. The default lets everybody in.
///
/// Whom the names or the networks leave out is told that it is not authorized (0202h), and does not find the export
/// when it asks what there is. The name of an export is no secret that one could keep: names travel in the clear, and
/// "not found" would send whoever forgot an initiator in this list on the wrong track.
#[derive(Clone, Debug, Default)]
pub struct AccessRules {
    /// Initiators that may log in, without regard to case; every one if there is no pattern. A name is a claim and no
    /// proof: only a secret proves who somebody is.
    pub initiators: Vec<NamePattern>,
    /// Where they may come from; anywhere if there is no network.
    pub networks: Vec<Network>,
    /// How they have to prove who they are; not at all if there is nothing here.
    pub chap: Option<ChapRules>,
    /// How initiators of this name have to prove who they are: goes before `chap`. Nobody looks after these secrets not
    /// serving in two directions but who derives them.
    pub derived_chap: Option<DerivedChap>,
    /// Who is sent elsewhere; the first that fits decides. Asking what there is is answered here in any case.
    pub redirects: Vec<Redirect>,
}

impl AccessRules {
    /// True if an initiator of this name and address is not left out.
    pub(crate) fn admit(&self, initiator: &IscsiName, from: IpAddr) -> bool {
        let named = self.initiators.is_empty()
            || self
                .initiators
                .iter()
                .any(|pattern| pattern.matches(initiator));
        let near =
            self.networks.is_empty() || self.networks.iter().any(|network| network.contains(from));
        named && near
    }

    /// What an initiator of this name has to prove, if anything; an error if it may not log in whatever it proves.
    pub(crate) fn chap_of(
        &self,
        initiator: &IscsiName,
    ) -> Result<Option<ChapRules>, NotAuthorized> {
        match &self.derived_chap {
            Some(derived) => derived.rules(initiator).map(Some).ok_or(NotAuthorized),
            None => Ok(self.chap.clone()),
        }
    }

    /// Where an initiator is sent that came to `local`. Nobody is sent to where it is.
    pub(crate) fn redirection(
        &self,
        initiator: &IscsiName,
        local: SocketAddr,
        authenticated: bool,
    ) -> Option<&Redirect> {
        let fits =
            |redirect: &&Redirect| redirect.names(initiator) && !redirect.address.is_at(local);
        let redirect = self.redirects.iter().find(fits)?;
        (redirect.after_authentication == authenticated).then_some(redirect)
    }
}

/// An initiator that may not log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAuthorized;

#[cfg(test)]
mod tests;
