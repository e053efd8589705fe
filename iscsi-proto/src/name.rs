//! iSCSI names (RFC 7143 §4.2.7): `iqn.`, `eui.` and `naa.`. A name that exists is a valid one.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// The longest name in bytes (RFC 7143 §4.2.7.1).
pub const MAX_NAME_BYTES: usize = 223;

/// The name of an initiator or a target. Written as it was given, compared without regard to case (RFC 3722), cheap
/// to clone.
#[derive(Clone)]
pub struct IscsiName(Arc<str>);

/// Why a string is no iSCSI name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is longer than [`MAX_NAME_BYTES`].
    #[error("an iSCSI name has at most 223 bytes")]
    TooLong,
    /// It begins with none of the known types.
    #[error("an iSCSI name begins with iqn., eui. or naa.")]
    UnknownType,
    /// It holds a character that no name may hold.
    #[error("an iSCSI name consists of letters, digits, dots, dashes and colons")]
    BadCharacter,
    /// The qualified name has no year and month, or no naming authority.
    #[error("the name is not of the form iqn.YYYY-MM.domain[:anything]")]
    NotQualified,
    /// The identifier does not have the right number of hexadecimal digits.
    #[error("eui. takes 16 hexadecimal digits, naa. takes 16 or 32")]
    BadIdentifier,
}

impl IscsiName {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn folded(&self) -> impl Iterator<Item = char> {
        self.0.chars().flat_map(char::to_lowercase)
    }
}

impl FromStr for IscsiName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        if name.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong);
        }
        let (kind, rest) = name.split_once('.').ok_or(NameError::UnknownType)?;
        match kind.to_ascii_lowercase().as_str() {
            "iqn" => check_qualified(rest)?,
            "eui" => check_identifier(rest, &[16])?,
            "naa" => check_identifier(rest, &[16, 32])?,
            _ => return Err(NameError::UnknownType),
        }
        Ok(Self(name.into()))
    }
}

fn check_qualified(rest: &str) -> Result<(), NameError> {
    // RFC 3722 has no underscore, but names with one are all over the world.
    let allowed = |c: char| {
        "-.:_".contains(c) || c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric())
    };
    if !rest.chars().all(allowed) {
        return Err(NameError::BadCharacter);
    }
    let (date, authority) = rest.split_once('.').ok_or(NameError::NotQualified)?;
    let (year, month) = date.split_once('-').ok_or(NameError::NotQualified)?;
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(year, 4) || !digits(month, 2) || authority.is_empty() {
        return Err(NameError::NotQualified);
    }
    Ok(())
}

fn check_identifier(rest: &str, lengths: &[usize]) -> Result<(), NameError> {
    if !lengths.contains(&rest.len()) || !rest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(NameError::BadIdentifier);
    }
    Ok(())
}

impl TryFrom<&str> for IscsiName {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        name.parse()
    }
}

impl TryFrom<String> for IscsiName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl PartialEq for IscsiName {
    fn eq(&self, other: &Self) -> bool {
        self.folded().eq(other.folded())
    }
}

impl Eq for IscsiName {}

impl Hash for IscsiName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().for_each(|c| state.write_u32(c.into()));
        state.write_u32(u32::MAX);
    }
}

impl Ord for IscsiName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.folded().cmp(other.folded())
    }
}

impl PartialOrd for IscsiName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{IscsiName, NameError};

    fn error(name: &str) -> NameError {
        name.parse::<IscsiName>().unwrap_err()
    }

    /// The examples of RFC 7143 §4.2.7.3, §4.2.7.4, §4.2.7.5, §4.2.7.6 and §13.4.
    #[test]
    fn the_examples_of_the_standard_are_names() {
        for name in [
            "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
            "iqn.2001-04.com.example",
            "iqn.2001-04.com.example:storage.tape1.sys1.xyz",
            "eui.02004567A425678D",
            "naa.52004567BA64678D",
            "naa.62004567BA64678D0123456789ABCDEF",
        ] {
            assert_eq!(name.parse::<IscsiName>().unwrap().as_str(), name);
        }
    }

    /// RFC 7143 §4.2.7.3, §4.2.7.4, §4.2.7.5, §4.2.7.6: what the types demand.
    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(error(""), NameError::UnknownType);
        assert_eq!(error("disk.2001-04.com.example"), NameError::UnknownType);
        assert_eq!(error("iqn.com.example"), NameError::NotQualified);
        assert_eq!(error("iqn.2001-4.com.example"), NameError::NotQualified);
        assert_eq!(error("iqn.2001-04."), NameError::NotQualified);
        assert_eq!(
            error("iqn.2001-04.com.example:a b"),
            NameError::BadCharacter
        );
        assert_eq!(
            error("iqn.2001-04.com.example:a/b"),
            NameError::BadCharacter
        );
        assert_eq!(error("eui.02004567A425678"), NameError::BadIdentifier);
        assert_eq!(error("naa.52004567BA64678G"), NameError::BadIdentifier);
    }

    /// RFC 7143 §4.2.7.1: 223 bytes; §4.2.7.2: of UTF-8.
    #[test]
    fn length_is_counted_in_bytes() {
        let name = format!("iqn.2001-04.com.example:{}", "x".repeat(199));
        assert_eq!(name.len(), 223);
        assert!(name.parse::<IscsiName>().is_ok());
        assert_eq!(error(&format!("{name}x")), NameError::TooLong);
    }

    /// RFC 7143 §4.2.7.2, RFC 3722: names are folded before they are compared, whatever the script.
    #[test]
    fn case_does_not_matter() {
        for (upper, lower) in [
            ("iqn.2001-04.com.Example:A", "iqn.2001-04.com.example:a"),
            ("IQN.2001-04.com.example:ÄΩ", "iqn.2001-04.com.example:äω"),
            ("eui.02004567a425678d", "EUI.02004567A425678D"),
        ] {
            let upper: IscsiName = upper.parse().unwrap();
            let lower: IscsiName = lower.parse().unwrap();
            assert_eq!(upper, lower);
            assert_eq!(upper.cmp(&lower), std::cmp::Ordering::Equal);
            assert_eq!(HashSet::from([upper, lower]).len(), 1);
        }
        let one: IscsiName = "iqn.2001-04.com.example:a".parse().unwrap();
        let other: IscsiName = "iqn.2001-04.com.example:ä".parse().unwrap();
        assert_ne!(one, other);
    }
}
