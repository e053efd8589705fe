//! `iscsi://[user[%secret]@]host[:port][/target[/lun]]`: what QEMU and libiscsi take, and without a target the form
//! that discovery takes.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::name::{IscsiName, NameError};

/// The port that IANA assigned to iSCSI.
pub const DEFAULT_PORT: u16 = 3260;

/// Where a unit, a target or a portal is. Printing it never shows the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct IscsiUrl {
    user: Option<String>,
    secret: Option<Zeroizing<String>>,
    host: String,
    port: u16,
    target: Option<IscsiName>,
    lun: Option<u16>,
}

/// Why a string is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not begin with `iscsi://`.
    #[error("an iSCSI URL begins with iscsi://")]
    Scheme,
    /// The host is missing or impossible.
    #[error("the URL's host is missing or impossible")]
    Host,
    /// The port is none.
    #[error("the URL's port is not a number from 1 to 65535")]
    Port,
    /// The user's name is missing.
    #[error("the URL's user is missing")]
    User,
    /// The target's name is none.
    #[error("the URL's target: {0}")]
    Target(#[from] NameError),
    /// The logical unit number is none.
    #[error("the URL's logical unit is not a number from 0 to 65535")]
    Lun,
}

impl IscsiUrl {
    /// The URL of the portal at `host[:port]`; hosts with colons stand in brackets.
    pub fn at(place: &str) -> Result<Self, UrlError> {
        let (host, port) = split_place(place)?;
        if port == 0 {
            return Err(UrlError::Port);
        }
        let host = checked_host(host)?.to_owned();
        Ok(Self {
            user: None,
            secret: None,
            host,
            port,
            target: None,
            lun: None,
        })
    }

    /// The same, at another portal: `host[:port]`.
    pub fn moved_to(&self, place: &str) -> Result<Self, UrlError> {
        let Self { host, port, .. } = Self::at(place)?;
        Ok(Self {
            host,
            port,
            ..self.clone()
        })
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// host:port, with brackets where the host has colons.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The target.
    pub fn target(&self) -> Option<&IscsiName> {
        self.target.as_ref()
    }

    /// The logical unit's number.
    pub fn lun(&self) -> Option<u16> {
        self.lun
    }

    /// The user's name.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The user's secret.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.as_str())
    }
}

impl FromStr for IscsiUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let rest = url.strip_prefix("iscsi://").ok_or(UrlError::Scheme)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(user, place)| (Some(user), place));
        let (user, secret) = split_user(user)?;
        let (target, lun) = path
            .split_once('/')
            .map_or((path, None), |(target, lun)| (target, Some(lun)));
        let target = if target.is_empty() {
            None
        } else {
            Some(target.parse()?)
        };
        let lun = lun
            .map(|lun| lun.parse().map_err(|_| UrlError::Lun))
            .transpose()?;
        if target.is_none() && lun.is_some() {
            return Err(UrlError::Target(NameError::UnknownType));
        }
        Ok(Self {
            user,
            secret,
            target,
            lun,
            ..Self::at(place)?
        })
    }
}

fn split_user(user: Option<&str>) -> Result<(Option<String>, Option<Zeroizing<String>>), UrlError> {
    let Some(user) = user else {
        return Ok((None, None));
    };
    let (user, secret) = user
        .split_once('%')
        .map_or((user, None), |(user, secret)| (user, Some(secret)));
    if user.is_empty() {
        return Err(UrlError::User);
    }
    Ok((
        Some(user.to_owned()),
        secret.map(|secret| Zeroizing::new(secret.to_owned())),
    ))
}

fn split_place(place: &str) -> Result<(&str, u16), UrlError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(inside) => inside.split_once(']').ok_or(UrlError::Host)?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| UrlError::Port)?,
        None if port.is_empty() => DEFAULT_PORT,
        None => return Err(UrlError::Host),
    };
    if place.starts_with('[') && !host.contains(':') {
        return Err(UrlError::Host);
    }
    Ok((host, port))
}

fn checked_host(host: &str) -> Result<&str, UrlError> {
    let legal = if host.contains(':') {
        let (address, zone) = host
            .split_once('%')
            .map_or((host, None), |(address, zone)| (address, Some(zone)));
        address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_label)
    } else {
        is_label(host)
    };
    if legal { Ok(host) } else { Err(UrlError::Host) }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || "-._".contains(c))
}

impl fmt::Display for IscsiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("iscsi://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.address())?;
        if let Some(target) = &self.target {
            write!(f, "/{target}")?;
        }
        if let Some(lun) = self.lun {
            write!(f, "/{lun}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for IscsiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{IscsiUrl, UrlError};
    use crate::name::NameError;

    fn url(text: &str) -> Result<IscsiUrl, UrlError> {
        text.parse()
    }

    #[test]
    fn all_parts_are_found() {
        let found = url("iscsi://me%s3cr%t@10.0.0.1:3261/iqn.2001-04.com.example:disk/7").unwrap();
        assert_eq!((found.user(), found.secret()), (Some("me"), Some("s3cr%t")));
        assert_eq!(
            (found.host(), found.port(), found.lun()),
            ("10.0.0.1", 3261, Some(7))
        );
        assert_eq!(
            found.target().unwrap().as_str(),
            "iqn.2001-04.com.example:disk"
        );
        for printed in [format!("{found}"), format!("{found:?}")] {
            assert_eq!(
                printed,
                "iscsi://me@10.0.0.1:3261/iqn.2001-04.com.example:disk/7"
            );
        }
    }

    #[test]
    fn a_url_moves_to_another_portal() {
        let url = url("iscsi://me%s3cr%t@10.0.0.1:3261/iqn.2001-04.com.example:disk/7").unwrap();
        let moved = url.moved_to("[fe80::1]").unwrap();
        assert_eq!(moved.address(), "[fe80::1]:3260");
        assert_eq!(moved.secret(), Some("s3cr%t"));
        assert_eq!((moved.target(), moved.lun()), (url.target(), Some(7)));
        assert_eq!(url.moved_to("a b"), Err(UrlError::Host));
    }

    #[test]
    fn parts_may_be_left_out() {
        let found = url("iscsi://storage.example").unwrap();
        assert_eq!(
            (found.address().as_str(), found.target(), found.lun()),
            ("storage.example:3260", None, None)
        );
        let found = url("iscsi://[fe80::1%eth0]/iqn.2001-04.com.example").unwrap();
        assert_eq!(
            (found.host(), found.address().as_str()),
            ("fe80::1%eth0", "[fe80::1%eth0]:3260")
        );
        assert_eq!((found.user(), found.lun()), (None, None));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (text, error) in [
            ("http://a/", UrlError::Scheme),
            ("iscsi://", UrlError::Host),
            ("iscsi:///iqn.2001-04.com.example/0", UrlError::Host),
            ("iscsi://a b", UrlError::Host),
            ("iscsi://[::1", UrlError::Host),
            ("iscsi://[a]", UrlError::Host),
            ("iscsi://[::1]x", UrlError::Host),
            ("iscsi://[::g]", UrlError::Host),
            ("iscsi://a:0", UrlError::Port),
            ("iscsi://a:65536", UrlError::Port),
            ("iscsi://%s@a", UrlError::User),
            ("iscsi://a/disk/0", UrlError::Target(NameError::UnknownType)),
            ("iscsi://a//0", UrlError::Target(NameError::UnknownType)),
            ("iscsi://a/iqn.2001-04.com.example/", UrlError::Lun),
            ("iscsi://a/iqn.2001-04.com.example/0/1", UrlError::Lun),
        ] {
            assert_eq!(url(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read(text in "iscsi://([a-z]{1,4}@)?[a-z0-9.]{1,9}(:[1-9][0-9]{0,3})?(/iqn[.]2001-04[.]a(/[0-9]{1,4})?)?") {
            let found = url(&text).unwrap();
            prop_assert_eq!(url(&found.to_string()), Ok(found));
        }

        #[test]
        fn no_text_panics(text in "(iscsi://)?.{0,40}") {
            let _ = url(&text);
        }
    }
}
