//! Secrets (RFC 7143 §12.1.3): what the target asks for, and what becomes of those that do not know.

use std::sync::{Arc, Mutex};

use iscsi_proto::login::{Account, Algorithm, Secret};
use iscsi_target::{AccessRules, ChapRules, DerivedChap, ExportError, Redirect, TargetOptions};
use md5::{Digest, Md5};

use crate::harness::{DISK, Initiator, World, discovery, export, normal};

const SECRET: &[u8] = b"correct horse";
const OWN_SECRET: &[u8] = b"battery staple";

fn account(name: &str, secret: &[u8]) -> Account {
    Account {
        name: name.to_owned(),
        secret: Secret::new(secret).expect("as it should be"),
    }
}

fn rules() -> AccessRules {
    let accounts = vec![
        account("guest", SECRET),
        account("other", b"a third secret"),
    ];
    let mutual = Some(account("us", OWN_SECRET));
    AccessRules {
        chap: Some(
            ChapRules::new(accounts, mutual, vec![Algorithm::Md5]).expect("as it should be"),
        ),
        ..AccessRules::default()
    }
}

/// RFC 1994 §4.1
fn response(identifier: u8, secret: &[u8], challenge: &[u8]) -> String {
    let hash = Md5::new()
        .chain_update([identifier])
        .chain_update(secret)
        .chain_update(challenge)
        .finalize();
    hash.iter()
        .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn value(text: &[u8], key: &str) -> Option<String> {
    let text = String::from_utf8(text.to_vec()).expect("as it should be");
    let mut pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(name, _)| *name == key)?.1;
    Some(value.to_owned())
}

fn binary(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix("0x").expect("hexadecimal");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("as it should be"))
        .collect()
}

/// Goes through the security stage as far as the target lets it; gives the status and the last text.
async fn prove(
    initiator: &mut Initiator,
    isid: u8,
    keys: &str,
    name: &str,
    secret: &[u8],
    more: &str,
) -> ([u8; 2], Vec<u8>) {
    let status = |header: &[u8; 48]| [header[36], header[37]];
    let keys = format!("{keys}AuthMethod=CHAP,None\0");
    let Some(first) = initiator.login_request(0x00, isid, 0, 0, &keys).await else {
        return ([0xff, 0xff], Vec::new());
    };
    if status(&first.header) != [0, 0] {
        return (status(&first.header), first.data);
    }
    assert_eq!(value(&first.data, "AuthMethod").as_deref(), Some("CHAP"));
    let second = initiator
        .login_request(0x00, isid, 0, 0, "CHAP_A=7,5\0")
        .await
        .expect("a challenge");
    assert_eq!(value(&second.data, "CHAP_A").as_deref(), Some("5"));
    let identifier = value(&second.data, "CHAP_I")
        .expect("as it should be")
        .parse()
        .expect("as it should be");
    let challenge = binary(&value(&second.data, "CHAP_C").expect("as it should be"));
    assert!(challenge.len() >= 16);
    let answer = response(identifier, secret, &challenge);
    let keys = format!("CHAP_N={name}\0CHAP_R={answer}\0{more}");
    let third = initiator
        .login_request(0x81, isid, 0, 0, &keys)
        .await
        .expect("a verdict");
    (status(&third.header), third.data)
}

/// Ends a login that has proven itself.
async fn finish(initiator: &mut Initiator, isid: u8) {
    let last = initiator.login_request(0x87, isid, 0, 0, "").await;
    assert_eq!(last.expect("the last response").header[36..38], [0, 0]);
}

/// RFC 7143 §12.1.3, both directions.
#[tokio::test]
async fn both_sides_prove_themselves() {
    let world = World::with_access(TargetOptions::default(), rules()).await;
    let mut guest = world.connect().await;
    let challenge = "CHAP_I=77\0CHAP_C=0x00112233445566778899aabbccddeeff\0";
    let (status, text) = prove(&mut guest, 1, &normal(DISK), "guest", SECRET, challenge).await;
    assert_eq!(status, [0, 0]);
    assert_eq!(value(&text, "CHAP_N").as_deref(), Some("us"));
    let expected = response(
        77,
        OWN_SECRET,
        &binary("0x00112233445566778899aabbccddeeff"),
    );
    assert_eq!(value(&text, "CHAP_R"), Some(expected));
    finish(&mut guest, 1).await;
    guest.settle(0).await;
    assert_eq!(world.target.stats().authentication_failures, 0);
}

/// RFC 7143 §6.3.1 and §12.1.3: authentication failure, whatever is wrong.
#[tokio::test]
async fn who_proves_nothing_stays_outside() {
    let world = World::with_access(TargetOptions::default(), rules()).await;
    let mut silent = world.connect().await;
    let response = silent.log_in(1, &normal(DISK)).await;
    assert_eq!(response.header[36..38], [2, 1], "no security stage");
    assert!(silent.is_closed().await);
    let mut plain = world.connect().await;
    let keys = format!("{}AuthMethod=None\0", normal(DISK));
    let response = plain.login_request(0x81, 1, 0, 0, &keys).await.unwrap();
    assert_eq!(response.header[36..38], [2, 1], "no method in common");
    for (name, secret) in [("guest", OWN_SECRET), ("nobody", SECRET)] {
        let mut wrong = world.connect().await;
        let (status, _) = prove(&mut wrong, 1, &normal(DISK), name, secret, "").await;
        assert_eq!(status, [2, 1], "{name}");
        assert!(wrong.is_closed().await);
    }
    let stats = world.target.stats();
    assert_eq!((stats.authentication_failures, stats.logins), (4, 0));
}

/// A login that has not proven itself must not end the session of one who has.
#[tokio::test]
async fn nobody_is_thrown_out_by_one_who_only_claims_to_be_it() {
    let world = World::with_access(TargetOptions::default(), rules()).await;
    let mut guest = world.connect().await;
    prove(&mut guest, 1, &normal(DISK), "guest", SECRET, "").await;
    finish(&mut guest, 1).await;
    guest.settle(0).await;
    // The same name and ISID without a secret, and with the wrong one.
    let mut thief = world.connect().await;
    assert_eq!(thief.log_in(1, &normal(DISK)).await.header[36..38], [2, 1]);
    let mut thief = world.connect().await;
    let (status, _) = prove(&mut thief, 1, &normal(DISK), "guest", OWN_SECRET, "").await;
    assert_eq!(status, [2, 1]);
    // With the secret of somebody else, who may log in as itself but not end another's session.
    let mut neighbour = world.connect().await;
    let other = b"a third secret";
    let (status, _) = prove(&mut neighbour, 1, &normal(DISK), "other", other, "").await;
    assert_eq!(status, [2, 2], "authorization failure");
    let mut neighbour = world.connect().await;
    let (status, _) = prove(&mut neighbour, 2, &normal(DISK), "other", other, "").await;
    assert_eq!(status, [0, 0]);
    assert_eq!(guest.scsi(0, &[0; 6], 0).await.0, 0, "the session lives");
    // The one it is may.
    let mut again = world.connect().await;
    let (status, _) = prove(&mut again, 1, &normal(DISK), "guest", SECRET, "").await;
    assert_eq!(status, [0, 0]);
    assert!(guest.is_closed().await);
}

/// The first wrong secrets are forgiven; then each attempt waits, and others do not.
#[tokio::test]
async fn who_guesses_waits_and_nobody_else() {
    let world = World::with_access(TargetOptions::default(), rules()).await;
    for _ in 0..3 {
        let mut wrong = world.connect().await;
        let (status, _) = prove(&mut wrong, 1, &normal(DISK), "guest", OWN_SECRET, "").await;
        assert_eq!(status, [2, 1]);
    }
    assert_eq!(world.target.stats().logins_delayed, 0);
    let neighbour = normal(DISK).replace(":host", ":neighbour");
    let (mut held_up, mut free) = (world.connect().await, world.connect().await);
    let keys = normal(DISK);
    let (held_up, free) = tokio::join!(
        prove(&mut held_up, 1, &keys, "guest", SECRET, ""),
        prove(&mut free, 2, &neighbour, "guest", SECRET, ""),
    );
    assert_eq!((held_up.0, free.0), ([0, 0], [0, 0]));
    assert_eq!(world.target.stats().logins_delayed, 1);
    // Who has got it right is under no suspicion any more.
    let mut again = world.connect().await;
    prove(&mut again, 1, &keys, "guest", SECRET, "").await;
    assert_eq!(world.target.stats().logins_delayed, 1);
}

/// RFC 7143 §9.2.1: a challenge that comes back is no challenge.
#[tokio::test]
async fn our_own_challenge_is_not_answered() {
    let world = World::with_access(TargetOptions::default(), rules()).await;
    let mut mirror = world.connect().await;
    let keys = format!("{}AuthMethod=CHAP\0", normal(DISK));
    mirror.login_request(0x00, 1, 0, 0, &keys).await.unwrap();
    let second = mirror.login_request(0x00, 1, 0, 0, "CHAP_A=5\0").await;
    let text = second.unwrap().data;
    let (identifier, challenge) = (
        value(&text, "CHAP_I").unwrap(),
        value(&text, "CHAP_C").unwrap(),
    );
    let answer = response(identifier.parse().unwrap(), SECRET, &binary(&challenge));
    let keys = format!("CHAP_N=guest\0CHAP_R={answer}\0CHAP_I={identifier}\0CHAP_C={challenge}\0");
    let third = mirror.login_request(0x81, 1, 0, 0, &keys).await.unwrap();
    assert_eq!(third.header[36..38], [2, 1]);
    assert!(value(&third.data, "CHAP_R").is_none());
    assert!(mirror.is_closed().await);
}

/// RFC 7143 §9.2.1: a secret that initiators prove themselves with proves no target, whichever export it is of.
#[tokio::test]
async fn no_secret_serves_in_both_directions_of_the_target() {
    let options = TargetOptions {
        discovery: rules(),
        ..TargetOptions::default()
    };
    let world = World::with_access(options, rules()).await;
    let swapped = ChapRules::new(
        vec![account("guest", OWN_SECRET)],
        None,
        Algorithm::ALL.to_vec(),
    );
    let mut mixed = export(&world.volume, &world.other);
    mixed.name = "iqn.2001-04.com.example:mixed".parse().unwrap();
    mixed.access.chap = Some(swapped.unwrap());
    assert!(matches!(
        world.target.export(mixed),
        Err(ExportError::SecretOfBothDirections)
    ));
}

#[tokio::test]
async fn discovery_has_a_secret_of_its_own() {
    let options = TargetOptions {
        discovery: rules(),
        ..TargetOptions::default()
    };
    let world = World::new(options).await;
    let mut silent = world.connect().await;
    assert_eq!(silent.log_in(1, &discovery()).await.header[36..38], [2, 1]);
    let mut asking = world.connect().await;
    let (status, _) = prove(&mut asking, 1, &discovery(), "guest", SECRET, "").await;
    assert_eq!(status, [0, 0]);
    finish(&mut asking, 1).await;
    assert!(asking.send_targets("All").await.contains(DISK));
    let mut open = world.connect().await;
    assert_eq!(open.log_in(2, &normal(DISK)).await.header[36..38], [0, 0]);
}

/// RFC 7143 §11.13.5: a redirection may come after the security negotiation; then nobody else learns the address.
#[tokio::test]
async fn only_who_has_proven_itself_is_sent_elsewhere() {
    let mut rules = rules();
    rules.redirects = vec![Redirect {
        initiators: Vec::new(),
        address: "10.0.0.7".parse().unwrap(),
        permanent: false,
        after_authentication: true,
    }];
    let world = World::with_access(TargetOptions::default(), rules).await;
    let mut wrong = world.connect().await;
    let (status, text) = prove(&mut wrong, 1, &normal(DISK), "guest", OWN_SECRET, "").await;
    assert_eq!((status, value(&text, "TargetAddress")), ([2, 1], None));
    let mut guest = world.connect().await;
    let (status, text) = prove(&mut guest, 1, &normal(DISK), "guest", SECRET, "").await;
    assert_eq!(status, [1, 1]);
    assert_eq!(value(&text, "TargetAddress").as_deref(), Some("10.0.0.7"));
}

/// What follows from the name is asked anew for every login, and whom it gives nothing may not log in.
#[tokio::test]
async fn derived_secrets_change_while_the_target_serves() {
    let now = Arc::new(Mutex::new(Some(SECRET)));
    let asked = Arc::clone(&now);
    let derived = DerivedChap::new(move |initiator| {
        let secret = (*asked.lock().unwrap())?;
        let accounts = vec![account(initiator.as_str(), secret)];
        ChapRules::new(accounts, None, vec![Algorithm::Md5]).ok()
    });
    let access = AccessRules {
        derived_chap: Some(derived),
        ..AccessRules::default()
    };
    let world = World::with_access(TargetOptions::default(), access).await;
    let keys = normal(DISK);
    let name = value(keys.as_bytes(), "InitiatorName").unwrap();
    let mut host = world.connect().await;
    let (status, _) = prove(&mut host, 1, &keys, &name, SECRET, "").await;
    assert_eq!(status, [0, 0]);
    *now.lock().unwrap() = Some(OWN_SECRET);
    for (secret, expected) in [(SECRET, [2, 1]), (OWN_SECRET, [0, 0])] {
        let mut host = world.connect().await;
        let (status, _) = prove(&mut host, 2, &keys, &name, secret, "").await;
        assert_eq!(status, expected);
    }
    *now.lock().unwrap() = None;
    let mut host = world.connect().await;
    assert_eq!(host.log_in(3, &keys).await.header[36..38], [2, 2]);
}
