//! Names, networks and addresses as an operator writes them.

use std::net::IpAddr;

use iscsi_proto::login::{Account, Algorithm, Secret};
use iscsi_proto::name::IscsiName;

use super::{
    AccessRules, ChapRules, ChapRulesError, NamePattern, Network, NetworkError, PatternError,
    PortalAddress, PortalAddressError, Redirect,
};

fn name(name: &str) -> IscsiName {
    name.parse().unwrap()
}

fn pattern(pattern: &str) -> NamePattern {
    pattern.parse().unwrap()
}

fn network(network: &str) -> Network {
    network.parse().unwrap()
}

fn address(address: &str) -> IpAddr {
    address.parse().unwrap()
}

#[test]
fn a_pattern_fits_names_without_regard_to_case() {
    let host = name("iqn.2001-04.com.Example:host-07");
    for fits in [
        "*",
        "iqn.2001-04.com.example:host-07",
        "IQN.2001-04.COM.EXAMPLE:*",
        "iqn.*:host-??",
        "*-07",
        "iqn.2001-04.com.example:host-07*",
        "**h*0*7",
    ] {
        assert!(pattern(fits).matches(&host), "{fits}");
    }
    for not in [
        "iqn.2001-04.com.example:host",
        "iqn.2001-04.com.example:host-07?",
        "iqn.2001-04.com.example:host-?",
        "*-08",
        "eui.*",
        "?",
    ] {
        assert!(!pattern(not).matches(&host), "{not}");
    }
    assert_eq!(pattern("IQN.*").to_string(), "IQN.*");
}

#[test]
fn a_pattern_of_many_stars_is_no_work() {
    let long = name(&format!("iqn.2001-04.com.example:{}", "a".repeat(199)));
    assert!(!pattern(&format!("{}b", "*a".repeat(100))).matches(&long));
}

#[test]
fn what_is_no_pattern_is_refused() {
    assert_eq!("".parse::<NamePattern>(), Err(PatternError::Empty));
    assert_eq!(
        "iqn.[ab]*".parse::<NamePattern>(),
        Err(PatternError::BadCharacter('['))
    );
    assert_eq!(
        "*".repeat(224).parse::<NamePattern>(),
        Err(PatternError::TooLong)
    );
}

#[test]
fn a_network_holds_its_addresses() {
    for (network_of, inside, outside) in [
        ("10.1.0.0/16", "10.1.255.255", "10.2.0.0"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
        ("0.0.0.0/0", "255.1.2.3", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("::/0", "2001:db8::1", "10.0.0.1"),
        ("10.0.0.0/8", "::ffff:10.9.9.9", "::ffff:11.0.0.0"),
        ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
        ("::1", "::1", "::2"),
    ] {
        let network = network(network_of);
        assert!(network.contains(address(inside)), "{network_of} {inside}");
        assert!(
            !network.contains(address(outside)),
            "{network_of} {outside}"
        );
    }
}

#[test]
fn what_is_no_network_is_refused() {
    let error = |network: &str| network.parse::<Network>().unwrap_err();
    assert_eq!(error("10.0.0"), NetworkError::NoAddress);
    assert_eq!(error("example.com/8"), NetworkError::NoAddress);
    assert_eq!(
        error("10.0.0.0/33"),
        NetworkError::BadPrefix { longest: 32 }
    );
    assert_eq!(error("10.0.0.0/"), NetworkError::BadPrefix { longest: 32 });
    assert_eq!(
        error("10.0.0.0/+8"),
        NetworkError::BadPrefix { longest: 32 }
    );
    assert_eq!(error("::/129"), NetworkError::BadPrefix { longest: 128 });
    assert_eq!(
        error("10.1.2.3/16").to_string(),
        "the address has bits beyond its prefix; did you mean 10.1.0.0/16?"
    );
}

#[test]
fn a_portal_is_a_host_and_perhaps_a_port() {
    for good in [
        "10.0.0.1",
        "10.0.0.1:3261",
        "storage-2.example.com",
        "[2001:db8::1]",
        "[2001:db8::1]:3260",
    ] {
        assert_eq!(good.parse::<PortalAddress>().unwrap().as_str(), good);
    }
    for host in [
        "",
        ":3260",
        "2001:db8::1]",
        "[2001:db8::1",
        "[host]",
        "[::1]x",
        "a b",
        "a,1",
        "2001:db8::1",
        "host:1:2",
    ] {
        assert_eq!(
            host.parse::<PortalAddress>(),
            Err(PortalAddressError::BadHost),
            "{host}"
        );
    }
    for port in ["host:", "host:0", "host:65536", "host:+1"] {
        assert_eq!(
            port.parse::<PortalAddress>(),
            Err(PortalAddressError::BadPort),
            "{port}"
        );
    }
}

#[test]
fn both_the_name_and_the_network_must_fit() {
    let rules = AccessRules {
        initiators: vec![pattern("*:one"), pattern("*:two")],
        networks: vec![network("10.0.0.0/8"), network("::1")],
        ..AccessRules::default()
    };
    let two = name("iqn.2001-04.com.example:two");
    assert!(rules.admit(&two, address("10.1.1.1")));
    assert!(rules.admit(&two, address("::1")));
    assert!(!rules.admit(&two, address("11.1.1.1")));
    assert!(!rules.admit(&name("iqn.2001-04.com.example:three"), address("10.1.1.1")));
    assert!(AccessRules::default().admit(&two, address("11.1.1.1")));
}

#[test]
fn the_first_redirect_that_fits_decides_and_nobody_is_sent_in_a_circle() {
    let redirect = |initiators: &str, address: &str, after_authentication| Redirect {
        initiators: vec![pattern(initiators)],
        address: address.parse().unwrap(),
        permanent: false,
        after_authentication,
    };
    let rules = AccessRules {
        redirects: vec![
            redirect("*:one", "10.0.0.1", false),
            redirect("*:two", "10.0.0.2:3260", true),
            redirect("*", "10.0.0.3", false),
        ],
        ..AccessRules::default()
    };
    let to = |initiator: &str, local: &str, authenticated| {
        let initiator = name(&format!("iqn.2001-04.com.example:{initiator}"));
        rules
            .redirection(&initiator, local.parse().unwrap(), authenticated)
            .map(|redirect| redirect.address.to_string())
    };
    let here = "10.0.0.9:3260";
    assert_eq!(to("one", here, false).as_deref(), Some("10.0.0.1"));
    assert_eq!(to("one", here, true), None);
    assert_eq!(to("two", here, false), None);
    assert_eq!(to("two", here, true).as_deref(), Some("10.0.0.2:3260"));
    assert_eq!(
        to("one", "10.0.0.1:3260", false).as_deref(),
        Some("10.0.0.3"),
        "who is there already goes to the next rule"
    );
    assert_eq!(
        to("three", "[::ffff:10.0.0.3]:3260", false),
        None,
        "also when the socket dresses the address up"
    );
    assert_eq!(
        to("three", "10.0.0.3:3261", false).as_deref(),
        Some("10.0.0.3"),
        "another port is another portal"
    );
}

fn account(name: &str, secret: &str) -> Account {
    Account {
        name: name.to_owned(),
        secret: Secret::new(secret).unwrap(),
    }
}

/// RFC 7143 §9.2.1
#[test]
fn no_secret_serves_in_both_directions() {
    let accounts = vec![
        account("one", "secret of one"),
        account("two", "secret of two"),
    ];
    let rules = |accounts, mutual| ChapRules::new(accounts, mutual, Algorithm::ALL.to_vec());
    assert!(rules(accounts.clone(), Some(account("one", "secret of us"))).is_ok());
    assert_eq!(
        rules(accounts.clone(), Some(account("us", "secret of two"))),
        Err(ChapRulesError::SecretOfBothDirections("two".into()))
    );
    assert_eq!(
        rules([&accounts[..], &accounts[..1]].concat(), None),
        Err(ChapRulesError::SameName("one".into()))
    );
    assert_eq!(rules(Vec::new(), None), Err(ChapRulesError::NoAccount));
    assert_eq!(
        ChapRules::new(accounts, None, Vec::new()),
        Err(ChapRulesError::NoAlgorithm)
    );
}
