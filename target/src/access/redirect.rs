//! Sending initiators to other portals (RFC 7143 §11.13.5).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use iscsi_proto::name::IscsiName;

use crate::access::NamePattern;

/// The port that iSCSI has when none is named (RFC 7143 §13.8).
const ISCSI_PORT: u16 = 3260;

/// The longest host name (RFC 1123 §2.1).
const MAX_HOST_BYTES: usize = 255;

/// Initiators that find the target elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Who is sent; everybody if there is no pattern.
    pub initiators: Vec<NamePattern>,
    /// Where to.
    pub address: PortalAddress,
    /// For good, and not only for now.
    pub permanent: bool,
    /// Only whoever has proven itself learns the address.
    pub after_authentication: bool,
}

impl Redirect {
    pub(crate) fn names(&self, initiator: &IscsiName) -> bool {
        self.initiators.is_empty()
            || self
                .initiators
                .iter()
                .any(|pattern| pattern.matches(initiator))
    }
}

/// Where a portal is: `host`, `host:port`, `[v6]` or `[v6]:port` (RFC 7143 §13.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalAddress(String);

/// Why a string is no address of a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortalAddressError {
    /// There is no host in it, or none that could exist.
    #[error("the address of a portal is host, host:port, [IPv6] or [IPv6]:port")]
    BadHost,
    /// The port is no port.
    #[error("the port is a number from 1 to 65535")]
    BadPort,
}

impl PortalAddress {
    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if this is the given address. A host's name is not looked up.
    pub(crate) fn is_at(&self, local: SocketAddr) -> bool {
        let here = SocketAddr::new(local.ip().to_canonical(), local.port());
        let bare = self.0.trim_start_matches('[').trim_end_matches(']');
        let alone = bare
            .parse()
            .map(|address| SocketAddr::new(address, ISCSI_PORT));
        self.0.parse().or(alone) == Ok(here)
    }
}

impl FromStr for PortalAddress {
    type Err = PortalAddressError;

    fn from_str(address: &str) -> Result<Self, PortalAddressError> {
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(PortalAddressError::BadHost)?;
                host.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| PortalAddressError::BadHost)?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or(PortalAddressError::BadHost)?),
                };
                (host, port)
            }
            // Of two colons, both may belong to an IPv6 address without its brackets.
            None => match address.rsplit_once(':') {
                Some((host, port)) => (check_host(host)?, Some(port)),
                None => (check_host(address)?, None),
            },
        };
        let named = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        };
        if host.is_empty() {
            return Err(PortalAddressError::BadHost);
        }
        match port {
            Some(port) if !named(port) => Err(PortalAddressError::BadPort),
            _ => Ok(Self(address.to_owned())),
        }
    }
}

fn check_host(host: &str) -> Result<&str, PortalAddressError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.len() <= MAX_HOST_BYTES && host.bytes().all(allowed) {
        Ok(host)
    } else {
        Err(PortalAddressError::BadHost)
    }
}

impl fmt::Display for PortalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
