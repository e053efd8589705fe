//! CHAP as an initiator takes part in it (RFC 7143 §9.2.1, §12.1.3), against targets that are honest, sloppy and
//! hostile. Responses were computed with Python's hashlib.

use iscsi_proto::login::{
    Account, Algorithm, InitiatorChap, InitiatorLogin, InitiatorOffer, InitiatorStep, LoginError,
    Secret, Unproven,
};
use iscsi_proto::params::Key;
use proptest::prelude::{prop, prop_assert, proptest};

use crate::{ACCEPTED, finished, offer, parts, refusal, response, sent};

type Step = Result<InitiatorStep, LoginError>;

fn account(name: &str, secret: &str) -> Account {
    Account {
        name: name.to_owned(),
        secret: Secret::new(secret).expect("a secret"),
    }
}

/// Proves "alice"; with `mutual`, 64 65 .. 73 has to be answered after 07 and "another secret".
fn chap(mutual: bool) -> InitiatorChap {
    InitiatorChap {
        account: account("alice", "secret secret"),
        mutual: mutual.then(|| account("disk", "another secret")),
        algorithms: Algorithm::ALL.to_vec(),
        identifier: 7,
        challenge: (100..116).collect(),
    }
}

fn login(chap: InitiatorChap) -> InitiatorLogin {
    InitiatorLogin::new(InitiatorOffer {
        chap: Some(chap),
        ..offer()
    })
}

const CHALLENGE: &str = "CHAP_I=42\0CHAP_C=0x000102030405060708090a0b0c0d0e0f\0";
const PROOF: &str = "CHAP_N=alice\0CHAP_R=0xf261face79416a5c7e0f7971b47f836d\0";
const MUTUAL: &str = "CHAP_I=7\0CHAP_C=0x6465666768696a6b6c6d6e6f70717273\0";
const ANSWER: &str = "CHAP_N=disk\0CHAP_R=0xcff2b1cae49e52639a28531ddce1c7f0\0";

/// A login whose method is CHAP, the algorithms offered.
fn offered(chap: InitiatorChap) -> InitiatorLogin {
    let mut login = login(chap);
    login.start();
    let second = sent(login.handle(&response(0x00, "TargetPortalGroupTag=1\0AuthMethod=CHAP\0")));
    assert_eq!(parts(&second), (0x00, "CHAP_A=8,7,6,5\0"));
    login
}

/// A login that has answered the challenge.
fn answered(chap: InitiatorChap) -> InitiatorLogin {
    let mut login = offered(chap);
    let keys = format!("CHAP_A=5\0{CHALLENGE}");
    let third = sent(login.handle(&response(0x00, &keys)));
    assert!(parts(&third).1.starts_with(PROOF));
    login
}

fn unproven(step: Step) -> Unproven {
    match step {
        Err(LoginError::Unproven(cause)) => cause,
        other => panic!("taken: {other:?}"),
    }
}

/// RFC 7143 Appendix B: "only the initiator is authenticated by the target via CHAP".
#[test]
fn we_prove_ourselves() {
    let mut login = login(chap(false));
    let first = login.start();
    let (flags, text) = parts(&first);
    assert_eq!(
        flags, 0x00,
        "no wish for the next stage that could come true"
    );
    assert!(
        text.ends_with("SessionType=Normal\0AuthMethod=CHAP,None\0"),
        "{text:?}"
    );
    let second = sent(login.handle(&response(0x00, "TargetPortalGroupTag=1\0AuthMethod=CHAP\0")));
    assert_eq!(parts(&second), (0x00, "CHAP_A=8,7,6,5\0"));
    let keys = format!("CHAP_A=5\0{CHALLENGE}");
    let third = sent(login.handle(&response(0x00, &keys)));
    assert_eq!(parts(&third), (0x81, PROOF));
    let fourth = sent(login.handle(&response(0x81, "")));
    assert_eq!(parts(&fourth).0, 0x87);
    finished(login.handle(&response(0x87, ACCEPTED)));
}

/// RFC 7143 Appendix B: "the initiator and target authenticate each other via CHAP".
#[test]
fn both_prove_themselves() {
    let mut login = login(chap(true));
    let first = login.start();
    assert!(
        parts(&first).1.ends_with("AuthMethod=CHAP\0"),
        "None will not do"
    );
    sent(login.handle(&response(0x00, "TargetPortalGroupTag=1\0AuthMethod=CHAP\0")));
    let keys = format!("CHAP_A=5\0{CHALLENGE}");
    let third = sent(login.handle(&response(0x00, &keys)));
    assert_eq!(parts(&third), (0x81, format!("{PROOF}{MUTUAL}").as_str()));
    let fourth = sent(login.handle(&response(0x81, ANSWER)));
    assert_eq!(parts(&fourth).0, 0x87);
    finished(login.handle(&response(0x87, ACCEPTED)));
}

#[test]
fn every_algorithm_proves_both() {
    for (number, ours, theirs) in [
        (
            "5",
            "f261face79416a5c7e0f7971b47f836d",
            "cff2b1cae49e52639a28531ddce1c7f0",
        ),
        (
            "6",
            "684e3622eb98359d9aca4433ff40ba4a0f1560bc",
            "d11ab57493fc11636376afc2abcf60640f7424ba",
        ),
        (
            "7",
            "af423b3750112f42e2ccc0abcb9faa1ca0e3ead117db39ab120dbdaf85c8161f",
            "a4df3923543fc4b72c43a04c7ff396e318a793b46f742fe6a08270f46f0f4987",
        ),
        (
            "8",
            "59ea491f6174da995a82b7a3ea335b1741f9c7f35cab198c0ff24c8ac7049158",
            "1a5f07a370e27a2816cd454302481a0e4b867ceb633f3ad26c17add6f434225c",
        ),
    ] {
        let mut login = offered(chap(true));
        let third = sent(login.handle(&response(0x00, &format!("CHAP_A={number}\0{CHALLENGE}"))));
        assert_eq!(
            parts(&third).1,
            format!("CHAP_N=alice\0CHAP_R=0x{ours}\0{MUTUAL}")
        );
        let answer = format!("CHAP_N=disk\0CHAP_R=0x{theirs}\0");
        assert_eq!(parts(&sent(login.handle(&response(0x81, &answer)))).0, 0x87);
    }
}

/// RFC 7143 §6.1: targets may write base64, and numbers in hex.
#[test]
fn both_encodings_are_read() {
    let mut login = offered(chap(true));
    let keys = "CHAP_C=0bAAECAwQFBgcICQoLDA0ODw==\0CHAP_I=0x2A\0CHAP_A=0x5\0";
    assert!(
        parts(&sent(login.handle(&response(0x00, keys))))
            .1
            .starts_with(PROOF)
    );
    let answer = "CHAP_R=0bz/KxyuSeUmOaKFMd3OHH8A==\0CHAP_N=disk\0";
    sent(login.handle(&response(0x81, answer)));
}

#[test]
fn only_what_is_configured_is_offered() {
    let mut login = login(InitiatorChap {
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        ..chap(false)
    });
    login.start();
    let second = sent(login.handle(&response(0x00, "AuthMethod=CHAP\0")));
    assert_eq!(parts(&second).1, "CHAP_A=7,5\0");
    for number in ["6", "8", "7,5", "9", "Reject", ""] {
        let mut login = InitiatorLogin::new(InitiatorOffer {
            chap: Some(InitiatorChap {
                algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
                ..chap(false)
            }),
            ..offer()
        });
        login.start();
        sent(login.handle(&response(0x00, "AuthMethod=CHAP\0")));
        let step = login.handle(&response(0x00, &format!("CHAP_A={number}\0{CHALLENGE}")));
        assert_eq!(unproven(step), Unproven::Algorithm, "{number}");
    }
}

/// Who has credentials takes a target that wants none, but not if that target has to prove itself.
#[test]
fn a_target_may_want_no_proof() {
    for flags in [0x00, 0x81] {
        let mut login = login(chap(false));
        login.start();
        let step = login.handle(&response(flags, "AuthMethod=None\0"));
        if flags == 0x81 {
            assert_eq!(step, Err(LoginError::BadTransition), "nobody asked for it");
            continue;
        }
        assert_eq!(parts(&sent(step)), (0x81, ""));
        assert_eq!(parts(&sent(login.handle(&response(0x81, "")))).0, 0x87);
        finished(login.handle(&response(0x87, ACCEPTED)));
    }
    let mut strict = login(chap(true));
    strict.start();
    assert_eq!(
        strict.handle(&response(0x00, "AuthMethod=None\0")),
        Err(LoginError::BadAnswer(Key::AuthMethod))
    );
    for (keys, expected) in [
        ("", LoginError::NoMethod),
        ("AuthMethod=Reject\0", LoginError::NoMethod),
        ("TargetAlias=x\0", LoginError::NoMethod),
        (
            "AuthMethod=NotUnderstood\0",
            LoginError::BadAnswer(Key::AuthMethod),
        ),
    ] {
        for mutual in [false, true] {
            let mut login = login(chap(mutual));
            login.start();
            assert_eq!(
                login.handle(&response(0x00, keys)),
                Err(expected.clone()),
                "{keys}"
            );
        }
    }
}

/// RFC 7143 §9.2.1, §12.1.3: "If the target authentication fails, the initiator MUST close the connection".
#[test]
fn a_target_that_does_not_prove_itself_is_left() {
    for (flags, keys, expected) in [
        (0x81, "", Unproven::Skipped),
        (0x00, "", Unproven::Skipped),
        (0x81, "CHAP_N=disk\0", Unproven::MissingKey(Key::ChapR)),
        (
            0x81,
            "CHAP_R=0xcff2b1cae49e52639a28531ddce1c7f0\0",
            Unproven::MissingKey(Key::ChapN),
        ),
        (
            0x81,
            "CHAP_N=disk\0CHAP_R=0xcff2b1cae49e52639a28531ddce1c7f1\0",
            Unproven::Credentials,
        ),
        (
            0x81,
            "CHAP_N=disk\0CHAP_R=0xcff2b1cae49e52639a28531ddce1c7\0",
            Unproven::Credentials,
        ),
        (
            0x81,
            "CHAP_N=other\0CHAP_R=0xcff2b1cae49e52639a28531ddce1c7f0\0",
            Unproven::Credentials,
        ),
        // What we would have answered ourselves: somebody lets us, or has our secret for its own.
        (
            0x81,
            "CHAP_N=disk\0CHAP_R=0xc4b8141a77c69023ff7df3325211e929\0",
            Unproven::Reflected,
        ),
        (
            0x81,
            "CHAP_N=disk\0CHAP_R=12\0",
            Unproven::BadKey(Key::ChapR),
        ),
    ] {
        let step = answered(chap(true)).handle(&response(flags, keys));
        assert_eq!(unproven(step), expected, "{keys:?}");
    }
    let again = format!("CHAP_A=5\0{ANSWER}");
    let step = answered(chap(true)).handle(&response(0x81, &again));
    assert_eq!(step, Err(LoginError::Redeclared));
}

/// RFC 7143 §9.2.1: "Originators MUST NOT reuse the CHAP challenge sent by the responder", and vice versa.
#[test]
fn our_own_challenge_is_not_answered() {
    let keys = "CHAP_A=5\0CHAP_I=7\0CHAP_C=0x6465666768696a6b6c6d6e6f70717273\0";
    let step = offered(chap(true)).handle(&response(0x00, keys));
    assert_eq!(unproven(step), Unproven::Reflected);
}

/// RFC 7143 §9.2: "Whenever an iSCSI initiator gets a response whose keys, or their values, are not according to the
/// step definition, it MUST abort the connection".
#[test]
fn steps_against_the_rules_end_the_login() {
    let whole = format!("CHAP_A=5\0{CHALLENGE}");
    for (flags, keys, expected) in [
        (0x00, "", Unproven::MissingKey(Key::ChapA)),
        (0x00, CHALLENGE, Unproven::MissingKey(Key::ChapA)),
        (
            0x00,
            "CHAP_A=5\0CHAP_I=1\0",
            Unproven::MissingKey(Key::ChapC),
        ),
        (
            0x00,
            "CHAP_A=5\0CHAP_C=0x00\0",
            Unproven::MissingKey(Key::ChapI),
        ),
        (
            0x00,
            "CHAP_A=5\0CHAP_I=256\0CHAP_C=0x00\0",
            Unproven::BadKey(Key::ChapI),
        ),
        (
            0x00,
            "CHAP_A=5\0CHAP_I=1\0CHAP_C=0x\0",
            Unproven::BadKey(Key::ChapC),
        ),
        (
            0x00,
            &format!("{whole}CHAP_N=disk\0"),
            Unproven::BadKey(Key::ChapN),
        ),
        (
            0x00,
            &format!("CHAP_A=5\0CHAP_I=1\0CHAP_C=0x{}\0", "00".repeat(1025)),
            Unproven::BadKey(Key::ChapC),
        ),
    ] {
        let step = offered(chap(true)).handle(&response(flags, keys));
        assert_eq!(unproven(step), expected, "{keys:?}");
    }
    let step = offered(chap(false)).handle(&response(0x81, &whole));
    assert_eq!(
        step,
        Err(LoginError::BadTransition),
        "we did not ask for it"
    );

    let mut early = login(chap(false));
    early.start();
    let step = early.handle(&response(0x00, "AuthMethod=CHAP\0CHAP_A=5\0"));
    assert_eq!(unproven(step), Unproven::BadKey(Key::ChapA));

    let mut open = InitiatorLogin::new(offer());
    open.start();
    let step = open.handle(&response(0x00, "AuthMethod=None\0CHAP_A=5\0"));
    assert_eq!(unproven(step), Unproven::BadKey(Key::ChapA));
    let step = answered(chap(false)).handle(&response(0x81, ANSWER));
    assert_eq!(unproven(step), Unproven::BadKey(Key::ChapN), "nobody asked");
}

/// Who has something to prove begins with the security stage.
#[test]
fn credentials_do_not_skip_security() {
    let mut login = InitiatorLogin::new(InitiatorOffer {
        chap: Some(chap(false)),
        skip_security: true,
        ..offer()
    });
    assert_eq!(parts(&login.start()).0, 0x00);
}

/// A target may wait with the transition; we go on to ask for it (RFC 7143 §6.3.3).
#[test]
fn a_target_may_wait_with_the_transition() {
    let mut login = answered(chap(true));
    let fourth = sent(login.handle(&response(0x00, ANSWER)));
    assert_eq!(parts(&fourth), (0x81, ""));
    assert_eq!(parts(&sent(login.handle(&response(0x81, "")))).0, 0x87);
}

/// RFC 7143 §11.13.5: a redirection is accepted before and after the proof, and a refusal is told.
#[test]
fn redirections_and_refusals_come_at_any_step() {
    let redirection = refusal(1, 1, "TargetAddress=10.0.0.9:3261\0");
    let steps = [login(chap(true)), offered(chap(true)), answered(chap(true))];
    for mut login in steps {
        assert_eq!(
            login.handle(&redirection),
            Ok(InitiatorStep::Redirect {
                address: "10.0.0.9:3261".to_owned(),
                permanent: false
            })
        );
    }
    let step = answered(chap(true)).handle(&refusal(2, 1, ""));
    assert!(
        matches!(step, Ok(InitiatorStep::Refused(status)) if (status.class, status.detail) == (2, 1))
    );
}

#[test]
fn secrets_are_never_printed() {
    let printed = format!("{:?} {:?}", chap(true), answered(chap(true)));
    assert!(printed.contains("alice"));
    assert!(!printed.contains("secret secret") && !printed.contains("115, 101, 99"));
}

proptest! {
    /// Whatever a target says, it is not let in without the proof that it owes.
    #[test]
    fn no_target_gets_away_without_a_proof(
        responses in prop::collection::vec(
            (
                prop::sample::select(vec![0x00u8, 0x81, 0x83, 0x04, 0x87, 0x40]),
                "(AuthMethod=(CHAP|None|Reject)\0)?(CHAP_A=[5-9]\0)?(CHAP_I=[0-9]{1,3}\0CHAP_C=0x[0-9a-f]{2,9}\0)?(CHAP_N=disk\0)?(CHAP_R=0x[0-9a-f]{32}\0)?",
            ),
            1..8,
        ),
    ) {
        let mut login = login(chap(true));
        login.start();
        for (flags, keys) in &responses {
            match login.handle(&response(*flags, keys)) {
                Ok(InitiatorStep::Send(pdu)) => prop_assert!(parts(&pdu).0 & 0x0c == 0, "still the security stage"),
                Ok(other) => prop_assert!(false, "{other:?}"),
                Err(_) => break,
            }
        }
    }
}
