//! Everything that is text on the wire or in a configuration: what is understood is said again in the same words.

use crate::discovery::{self, DiscoverScope};
use crate::name::IscsiName;
use crate::params::{Key, parse_number};
use crate::url::IscsiUrl;
use crate::wire::text;

/// Reads text as pairs, as the answer to SendTargets, as names, addresses, numbers and URLs.
pub fn text(input: &[u8]) {
    if let Ok(pairs) = text::parse(input) {
        let said = text::encode(&pairs);
        assert!(said.len() <= input.len());
        assert_eq!(text::parse(&said).as_ref(), Ok(&pairs));
        for (key, value) in &pairs {
            let _ = Key::from_name(key);
            word(value);
        }
    }
    if let Ok(records) = discovery::parse(input) {
        assert_eq!(discovery::parse(&discovery::encode(&records)), Ok(records));
    }
    if let Ok(whole) = std::str::from_utf8(input) {
        word(whole);
    }
}

fn word(value: &str) {
    if let Some(number) = parse_number(value) {
        assert_eq!(parse_number(&number.to_string()), Some(number));
        assert_eq!(parse_number(&format!("{number:#x}")), Some(number));
    }
    if let Ok(name) = value.parse::<IscsiName>() {
        assert_eq!(name.as_str().parse().as_ref(), Ok(&name));
    }
    if let Ok(scope) = DiscoverScope::parse(value) {
        assert_eq!(DiscoverScope::parse(scope.as_value()), Ok(scope));
    }
    let _ = discovery::parse_address(value);
    let _ = IscsiUrl::at(value);
    if let Ok(url) = value.parse::<IscsiUrl>() {
        assert!(!url.host().is_empty());
        // A secret is not shown.
        if url.secret().is_none() {
            assert_eq!(url.to_string().parse().as_ref(), Ok(&url));
        }
    }
}
