//! SendTargets: what is asked and what is answered (RFC 7143 appendix C).

use bytes::Bytes;

use crate::name::{IscsiName, NameError};
use crate::url::IscsiUrl;
use crate::wire::text::{self, TextError};

/// The longest answer that is read: some 30,000 records.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The key that asks.
pub const SEND_TARGETS: &str = "SendTargets";

/// A target, and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRecord {
    /// The target's name.
    pub name: IscsiName,
    /// Addresses of the form host:port with their target portal group tags. None means: where you asked.
    pub addresses: Vec<(String, u16)>,
}

/// Whose records are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoverScope {
    /// Those of all targets; in discovery sessions only.
    All,
    /// Those of the target that the session is logged in to.
    Own,
    /// Those of one target.
    Name(IscsiName),
}

/// An answer to SendTargets that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// It is no text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A target's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It holds a key that is neither TargetName nor TargetAddress, or an address before any name.
    #[error("the answer to SendTargets holds a key that does not belong there")]
    StrayKey,
    /// An address is not of the form `host[:port][,tag]`.
    #[error("a target address is not of the form host[:port][,tag]")]
    BadAddress,
}

impl DiscoverScope {
    /// Reads the value of SendTargets.
    pub fn parse(value: &str) -> Result<Self, NameError> {
        Ok(match value {
            "All" => Self::All,
            "" => Self::Own,
            name => Self::Name(name.parse()?),
        })
    }

    /// The value of SendTargets.
    pub fn as_value(&self) -> &str {
        match self {
            Self::All => "All",
            Self::Own => "",
            Self::Name(name) => name.as_str(),
        }
    }
}

/// Writes the answer to SendTargets.
pub fn encode(records: &[TargetRecord]) -> Bytes {
    let mut pairs = Vec::new();
    for record in records {
        pairs.push(("TargetName", record.name.to_string()));
        let address =
            |(address, tag): &(String, u16)| ("TargetAddress", format!("{address},{tag}"));
        pairs.extend(record.addresses.iter().map(address));
    }
    text::encode(&pairs)
}

/// Reads the answer to SendTargets. The default port is filled in where none is given.
pub fn parse(answer: &[u8]) -> Result<Vec<TargetRecord>, DiscoveryError> {
    let mut records: Vec<TargetRecord> = Vec::new();
    for (key, value) in text::parse_within(answer, MAX_ANSWER_BYTES)? {
        match (key.as_str(), records.last_mut()) {
            ("TargetName", _) => records.push(TargetRecord {
                name: value.parse()?,
                addresses: Vec::new(),
            }),
            ("TargetAddress", Some(record)) => record.addresses.push(parse_address(&value)?),
            _ => return Err(DiscoveryError::StrayKey),
        }
    }
    Ok(records)
}

/// Reads a TargetAddress (RFC 7143 §13.8) as host:port and tag. The tag may be missing in a redirection.
pub fn parse_address(value: &str) -> Result<(String, u16), DiscoveryError> {
    let (place, tag) = match value.split_once(',') {
        Some((place, tag)) => (place, tag.parse().map_err(|_| DiscoveryError::BadAddress)?),
        None => (value, UNTOLD_TAG),
    };
    let portal = IscsiUrl::at(place).map_err(|_| DiscoveryError::BadAddress)?;
    Ok((portal.address(), tag))
}

/// The tag of an address that tells none: the one that a target with a single portal group has.
const UNTOLD_TAG: u16 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{DiscoverScope, DiscoveryError, TargetRecord, encode, parse, parse_address};

    fn record(name: &str, addresses: &[(&str, u16)]) -> TargetRecord {
        let addresses = addresses
            .iter()
            .map(|&(address, tag)| (address.to_owned(), tag))
            .collect();
        TargetRecord {
            name: name.parse().unwrap(),
            addresses,
        }
    }

    /// The second example of RFC 7143 appendix C.
    #[test]
    fn the_example_of_the_standard() {
        let text = b"TargetName=iqn.1993-11.com.example:diskarray.sn.8675309\0\
            TargetAddress=10.1.0.45:3000,1\0TargetAddress=10.1.1.45:3000,2\0\
            TargetName=iqn.1993-11.com.example:diskarray.sn.1234567\0\
            TargetAddress=10.1.0.45:3000,1\0TargetAddress=10.1.1.45:3000,2\0";
        let addresses = [("10.1.0.45:3000", 1), ("10.1.1.45:3000", 2)];
        let records = vec![
            record("iqn.1993-11.com.example:diskarray.sn.8675309", &addresses),
            record("iqn.1993-11.com.example:diskarray.sn.1234567", &addresses),
        ];
        assert_eq!(parse(text), Ok(records.clone()));
        assert_eq!(encode(&records).as_ref(), &text[..]);
    }

    /// The examples of RFC 7143 §13.8.
    #[test]
    fn addresses_come_with_and_without_port_and_tag() {
        for (value, address, tag) in [
            ("10.0.0.1:5003,1", "10.0.0.1:5003", 1),
            (
                "[1080:0:0:0:8:800:200C:417A],65",
                "[1080:0:0:0:8:800:200C:417A]:3260",
                65,
            ),
            (
                "[1080::8:800:200C:417A]:5003,1",
                "[1080::8:800:200C:417A]:5003",
                1,
            ),
            (
                "computingcenter.example.com,23",
                "computingcenter.example.com:3260",
                23,
            ),
            ("10.0.0.2", "10.0.0.2:3260", 1),
        ] {
            assert_eq!(parse_address(value), Ok((address.to_owned(), tag)));
        }
        for value in [
            "", ",1", ":3260,1", "a:0", "a:1x", "a:70000", "[::1", "[::1]x:1", "a,65536", "a b",
            "a:1:2",
        ] {
            assert_eq!(
                parse_address(value),
                Err(DiscoveryError::BadAddress),
                "{value}"
            );
        }
    }

    #[test]
    fn strays_are_refused() {
        assert_eq!(
            parse(b"TargetAddress=10.0.0.1,1\0"),
            Err(DiscoveryError::StrayKey)
        );
        assert_eq!(
            parse(b"TargetName=iqn.2001-04.com.example\0TargetAlias=x\0"),
            Err(DiscoveryError::StrayKey)
        );
        assert_eq!(parse(b""), Ok(Vec::new()));
    }

    #[test]
    fn scopes_are_values() {
        for value in ["All", "", "iqn.2001-04.com.example"] {
            assert_eq!(DiscoverScope::parse(value).unwrap().as_value(), value);
        }
        assert!(DiscoverScope::parse("all").is_err());
    }

    proptest! {
        #[test]
        fn no_address_panics(value in ".{0,40}") {
            if let Ok((address, _)) = parse_address(&value) {
                prop_assert!(parse_address(&address).is_ok());
            }
        }
    }
}
