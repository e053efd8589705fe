//! Networks in the notation of RFC 4632 and RFC 4291.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses with a common beginning. IPv4 addresses that arrive in IPv6's clothes (RFC 4291 §2.5.5.2) count as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why a string is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It does not begin with an address.
    #[error("a network is an address, or an address and the length of its prefix: 10.1.0.0/16")]
    NoAddress,
    /// The prefix is no number, or longer than the address.
    #[error("the prefix has at most {longest} bits")]
    BadPrefix {
        /// Bits of the address.
        longest: u8,
    },
    /// The address has bits that the prefix leaves open.
    #[error("the address has bits beyond its prefix; did you mean {meant}?")]
    BitsBeyondPrefix {
        /// The network that the address is in.
        meant: Network,
    },
}

impl Network {
    /// True if the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        bits(address) == bits(self.first) && masked(address, self.prefix) == self.first
    }
}

/// The address that stands for everybody who may be the same host: of IPv6, a host has the whole of its subnet.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        address @ IpAddr::V6(_) => masked(address, 64),
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix))
                .unwrap_or_default();
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(prefix))
                .unwrap_or_default();
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(network: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match network.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (network, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NetworkError::NoAddress)?;
        let longest = bits(written);
        let prefix = match prefix {
            None => longest,
            // No sign and no spaces, which the parser of numbers would let pass.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= longest)
                .ok_or(NetworkError::BadPrefix { longest })?,
            Some(_) => return Err(NetworkError::BadPrefix { longest }),
        };
        let meant = |address: IpAddr, prefix: u8| Self {
            first: masked(address, prefix),
            prefix,
        };
        let network = match written.to_canonical() {
            canonical if canonical == written => meant(written, prefix),
            // ::ffff:0:0/96 is the whole of IPv4; a shorter prefix holds more than that.
            canonical => match prefix.checked_sub(96) {
                Some(prefix) => meant(canonical, prefix),
                None => meant(written, prefix),
            },
        };
        let exact = network.first == written || network.first == written.to_canonical();
        if exact {
            Ok(network)
        } else {
            Err(NetworkError::BitsBeyondPrefix { meant: network })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}
