use super::{KeyError, Keyring, Keys, SwarmKey};
use crate::forest::NodeName;

const ONE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const TWO: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

fn keys(lines: &[(u32, &str)]) -> Keys {
    let text: Vec<String> = lines
        .iter()
        .map(|(epoch, key)| format!("{epoch} {key}"))
        .collect();
    Keys::parse(&text.join("\n")).unwrap()
}

fn name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

#[test]
fn a_key_is_written_as_it_is_read() {
    let keys = keys(&[(7, ONE)]);
    assert_eq!(*keys.all()[0].line(), format!("7 {ONE}"));
    assert_eq!(
        format!("{keys:?}"),
        "Keys([SwarmKey of epoch 7])",
        "never printed"
    );
    let made = SwarmKey::new(3, *blake3::hash(b"random").as_bytes());
    assert_eq!(Keys::parse(&made.line()).unwrap().all(), [made]);
}

#[test]
fn what_is_no_key_is_refused_with_its_line() {
    let refused = |text: &str| Keys::parse(text).unwrap_err();
    assert_eq!(refused("# nothing\n\n"), KeyError::Empty);
    for text in [
        "correct horse battery staple",
        ONE,
        &format!("1 {ONE}0"),
        &format!("1 {ONE} x"),
        &format!("-1 {ONE}"),
    ] {
        assert_eq!(refused(text), KeyError::Form(1), "{text}");
    }
    assert_eq!(
        refused(&format!("# one\n1 {}", "ab".repeat(32))),
        KeyError::NotRandom(2)
    );
    assert_eq!(
        refused(&format!("1 {ONE}\n1 {TWO}")),
        KeyError::SameEpoch(2)
    );
    let third = blake3::hash(b"third").to_hex();
    assert_eq!(
        refused(&format!("1 {ONE}\n2 {TWO}\n3 {third}")),
        KeyError::TooMany(3)
    );
}

/// RFC 7143 §9.2.1: no secret serves in two directions, or for two pairs.
#[test]
fn every_pair_direction_role_and_epoch_has_a_secret_and_a_name_of_its_own() {
    let both = keys(&[(1, ONE), (2, TWO)]);
    let mut accounts = Vec::new();
    for (me, peer) in [("a", "b"), ("b", "a"), ("a", "bc"), ("ab", "c")] {
        for credentials in both.to_dial(&name(me), &name(peer)).unwrap() {
            accounts.push(credentials.account);
            accounts.extend(credentials.mutual);
        }
    }
    assert_eq!(accounts.len(), 16);
    for (at, one) in accounts.iter().enumerate() {
        for other in &accounts[at + 1..] {
            assert_ne!(one.secret, other.secret, "{} and {}", one.name, other.name);
        }
    }
    let dialed = both.to_dial(&name("a"), &name("b")).unwrap();
    assert_eq!(dialed[0].account.name, "initiator.a.1");
    assert_eq!(dialed[1].mutual.as_ref().unwrap().name, "target.b.2");
}

/// Computed with Python's hmac and hashlib.
#[test]
fn secrets_are_those_of_another_implementation() {
    let derived = keys(&[(1, ONE)]).all()[0].derive(&[b"chap", b"initiator", b"a", b"b"]);
    let hex: String = derived.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "277049482df4dcf6269206f302091ca9026874580531ad2361bf584b6fd32ad4"
    );
}

/// The steps of a rotation: the new key is accepted everywhere before anybody uses it, and the old one until nobody does.
#[test]
fn in_every_step_of_a_rotation_one_of_the_dialers_proofs_fits() {
    let steps = [
        keys(&[(1, ONE)]),
        keys(&[(1, ONE), (2, TWO)]),
        keys(&[(2, TWO), (1, ONE)]),
        keys(&[(2, TWO)]),
    ];
    let (a, b) = (name("a"), name("b"));
    let fits = |dialer: &Keys, target: &Keys| {
        let (accounts, own) = target.to_serve(&b, &a).unwrap();
        let mut dialed = dialer.to_dial(&a, &b).unwrap().into_iter();
        dialed.any(|proof| accounts.contains(&proof.account) && proof.mutual == own)
    };
    for pair in steps.windows(2) {
        assert!(fits(&pair[0], &pair[1]) && fits(&pair[1], &pair[0]));
    }
    assert!(
        !fits(&steps[0], &steps[3]),
        "the old key is worth nothing in the end"
    );
}

#[test]
fn a_ring_is_changed_while_it_is_in_use() {
    let ring = Keyring::new(keys(&[(1, ONE)]));
    let before = ring.now();
    ring.replace(keys(&[(2, TWO)]));
    assert_eq!(before.all()[0].epoch(), 1);
    assert_eq!(ring.now().all()[0].epoch(), 2);
}
