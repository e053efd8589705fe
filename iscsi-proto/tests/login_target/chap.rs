//! CHAP as a target demands it (RFC 7143 §9.2.1, §12.1.3): what passes, and everything that must not. Responses were
//! computed with Python's hashlib.

use iscsi_proto::login::{
    Account, Algorithm, Authentication, ChapPolicy, Secret, TargetLogin, TargetStep, Violation,
};
use iscsi_proto::wire::Pdu;
use proptest::prelude::{any, prop, prop_assert, proptest};

use crate::{ADMISSION, NAMES, ask, failed, finished, flags, login, reply, request, text};

/// 00 01 .. 0f, to be hashed after 2a and "secret secret".
const CHALLENGE: &str = "CHAP_A=5\0CHAP_I=42\0CHAP_C=0x000102030405060708090a0b0c0d0e0f\0";
const MD5: &str = "0xf261face79416a5c7e0f7971b47f836d";
/// 64 65 .. 73, to be hashed after 07 and "another secret".
const MUTUAL: &str = "CHAP_I=7\0CHAP_C=0x6465666768696a6b6c6d6e6f70717273\0";

pub(crate) fn account(name: &str, secret: &str) -> Account {
    Account {
        name: name.to_owned(),
        secret: Secret::new(secret).expect("a secret"),
    }
}

fn policy() -> ChapPolicy {
    ChapPolicy {
        accounts: vec![
            account("bob", "a third secret"),
            account("alice", "secret secret"),
        ],
        mutual: Some(account("disk", "another secret")),
        algorithms: Algorithm::ALL.to_vec(),
        identifier: 42,
        challenge: (0..16).collect(),
    }
}

fn demand(chap: ChapPolicy) -> Authentication {
    Authentication {
        portal_group_tag: 3,
        none: false,
        chap: Some(chap),
    }
}

/// A login whose method is settled by a request of these flags.
fn chosen(flags: u8, policy: ChapPolicy) -> TargetLogin {
    let mut login = login();
    ask(
        &mut login,
        &request(flags, &format!("{NAMES}AuthMethod=CHAP,None\0")),
    );
    let first = reply(login.authenticate(demand(policy)));
    assert_eq!(
        (crate::flags(&first), text(&first)),
        (0x00, "TargetPortalGroupTag=3\0AuthMethod=CHAP\0"),
        "no transition, and one PDU"
    );
    login
}

/// A login that has sent its challenge for MD5.
fn challenged(policy: ChapPolicy) -> TargetLogin {
    let mut login = chosen(0x00, policy);
    let second = reply(login.handle(&request(0x00, "CHAP_A=5\0")));
    assert_eq!((flags(&second), text(&second)), (0x00, CHALLENGE));
    login
}

/// The account that was proven.
fn proven(step: TargetStep) -> String {
    match step {
        TargetStep::Authenticated {
            account: Some(account),
            ..
        } => account,
        other => panic!("nothing was proven: {other:?}"),
    }
}

/// The failed step's status and cause; nothing more is said.
fn refused(step: TargetStep) -> (u8, u8, Violation) {
    let TargetStep::Failed {
        reply: Some(reply),
        violation: Some(violation),
        ..
    } = &step
    else {
        panic!("not refused: {step:?}")
    };
    assert!(reply.data.is_empty(), "{:?}", text(reply));
    let violation = *violation;
    let (class, detail) = failed(step);
    (class, detail, violation)
}

fn answer(login: &mut TargetLogin, keys: &str) -> TargetStep {
    login.handle(&request(0x81, keys))
}

/// RFC 7143 §12.1.3, and the last example but two of its Appendix B.
#[test]
fn an_initiator_proves_itself() {
    let mut login = challenged(policy());
    let step = answer(&mut login, &format!("CHAP_N=alice\0CHAP_R={MD5}\0"));
    assert_eq!(proven(step), "alice");
    let third = reply(login.admit(ADMISSION));
    assert_eq!((flags(&third), text(&third)), (0x81, ""));
    let (last, outcome) = finished(login.handle(&request(0x87, "")));
    assert_eq!(flags(&last), 0x87);
    assert_eq!(
        outcome.identity.target_name.expect("a name").as_str().len(),
        39
    );
}

/// RFC 7143 §12.1.3: the target answers the initiator's challenge with the response that changes the stage.
#[test]
fn both_prove_themselves() {
    let mut login = challenged(policy());
    let step = answer(&mut login, &format!("CHAP_N=alice\0CHAP_R={MD5}\0{MUTUAL}"));
    assert_eq!(proven(step), "alice");
    let third = reply(login.admit(ADMISSION));
    assert_eq!(
        (flags(&third), text(&third)),
        (
            0x81,
            "CHAP_N=disk\0CHAP_R=0xcff2b1cae49e52639a28531ddce1c7f0\0"
        )
    );
}

/// RFC 7143 §12.1.3; the numbers of the other algorithms are IANA's.
#[test]
fn every_algorithm_proves_both() {
    for (number, response, mutual) in [
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
        let mut login = chosen(0x00, policy());
        let second = reply(login.handle(&request(0x00, &format!("CHAP_A={number}\0"))));
        assert!(text(&second).starts_with(&format!("CHAP_A={number}\0")));
        let step = answer(
            &mut login,
            &format!("CHAP_N=alice\0CHAP_R=0x{response}\0{MUTUAL}"),
        );
        assert_eq!(proven(step), "alice");
        let third = reply(login.admit(ADMISSION));
        assert_eq!(text(&third), format!("CHAP_N=disk\0CHAP_R=0x{mutual}\0"));
    }
}

/// RFC 7143 §6.1: hex and base64, either case of the prefix and of the digits; numbers in hex, too.
#[test]
fn both_encodings_are_read() {
    for response in [
        "0XF261FACE79416A5C7E0F7971B47F836D",
        "0b8mH6znlBalx+D3lxtH+DbQ==",
        "0B8mH6znlBalx+D3lxtH+DbQ==",
        "0b8mH6znlBalx+D3lxtH+DbQ",
    ] {
        let keys = format!(
            "CHAP_R={response}\0CHAP_N=alice\0CHAP_C=0bZGVmZ2hpamtsbW5vcHFycw==\0CHAP_I=0x7\0"
        );
        let mut login = challenged(policy());
        assert_eq!(proven(answer(&mut login, &keys)), "alice", "{response}");
        let third = reply(login.admit(ADMISSION));
        assert!(text(&third).ends_with("CHAP_R=0xcff2b1cae49e52639a28531ddce1c7f0\0"));
    }
}

/// RFC 7143 §6.2.1: the first that we allow, in the initiator's order; what we do not know is no obstacle.
#[test]
fn the_initiators_order_chooses_the_algorithm() {
    for (offered, allowed, chosen_number) in [
        ("8,7,6,5", Algorithm::ALL.as_slice(), "8"),
        ("5,6,7,8", &Algorithm::ALL, "5"),
        ("8,7,6,5", &[Algorithm::Md5, Algorithm::Sha256], "7"),
        ("9,128,MD5,,7,5", &Algorithm::ALL, "7"),
        ("0x6", &Algorithm::ALL, "6"),
    ] {
        let mut login = chosen(
            0x00,
            ChapPolicy {
                algorithms: allowed.to_vec(),
                ..policy()
            },
        );
        let second = reply(login.handle(&request(0x00, &format!("CHAP_A={offered}\0"))));
        let first = text(&second).split('\0').next().unwrap_or_default();
        assert_eq!(first, format!("CHAP_A={chosen_number}"), "{offered}");
    }
    for offered in ["6,8", "4", "MD5", "", "None", "Reject", "5x"] {
        let mut login = chosen(
            0x00,
            ChapPolicy {
                algorithms: vec![Algorithm::Md5],
                ..policy()
            },
        );
        let step = login.handle(&request(0x00, &format!("CHAP_A={offered}\0")));
        assert_eq!(refused(step), (2, 1, Violation::ChapAlgorithm), "{offered}");
    }
}

/// RFC 7143 §6.3.2: "the first option in the list it supports and is allowed to use".
#[test]
fn the_initiators_order_chooses_the_method() {
    let answered = |offered: &str, none: bool, chap: Option<ChapPolicy>| {
        let mut login = login();
        ask(
            &mut login,
            &request(0x00, &format!("{NAMES}AuthMethod={offered}\0")),
        );
        login.authenticate(Authentication {
            portal_group_tag: 3,
            none,
            chap,
        })
    };
    for (offered, none, chap, method) in [
        ("CHAP,None", true, true, "CHAP"),
        ("None,CHAP", true, true, "None"),
        ("None,CHAP", false, true, "CHAP"),
        ("CHAP,None", true, false, "None"),
        ("KRB5,SRP,CHAP", false, true, "CHAP"),
    ] {
        let first = reply(answered(offered, none, chap.then(policy)));
        assert_eq!(
            text(&first),
            format!("TargetPortalGroupTag=3\0AuthMethod={method}\0")
        );
    }
    for (offered, none, chap) in [
        ("None", false, true),
        ("CHAP", true, false),
        ("KRB5,SRP", true, true),
        ("chap", true, true),
        ("None", false, false),
    ] {
        let TargetStep::Failed {
            reply: Some(pdu), ..
        } = answered(offered, none, chap.then(policy))
        else {
            panic!("{offered} was taken")
        };
        let bytes = pdu.header.as_bytes();
        assert_eq!(
            (bytes[36], bytes[37], text(&pdu)),
            (2, 1, "AuthMethod=Reject\0"),
            "{offered}"
        );
    }
}

/// RFC 7143 §9.2: a response that is wrong, or whose name is, is an "Authentication Failure", and both look the same.
#[test]
fn wrong_names_and_wrong_secrets_look_the_same() {
    let of = |keys: &str| {
        let mut login = challenged(policy());
        let TargetStep::Failed {
            reply: Some(pdu),
            status,
            violation,
        } = answer(&mut login, keys)
        else {
            panic!("{keys:?} was taken")
        };
        assert_eq!((status.class, status.detail), (2, 1), "{keys:?}");
        assert_eq!(violation, Some(Violation::Credentials), "{keys:?}");
        crate::wire(&pdu)
    };
    let unknown = of(&format!("CHAP_N=carol\0CHAP_R={MD5}\0"));
    assert_eq!(unknown.len(), 48, "nothing but the header");
    for keys in [
        "CHAP_N=alice\0CHAP_R=0xf261face79416a5c7e0f7971b47f836c\0",
        // Of another account, of another case, of nobody.
        &format!("CHAP_N=bob\0CHAP_R={MD5}\0"),
        &format!("CHAP_N=Alice\0CHAP_R={MD5}\0"),
        &format!("CHAP_N=\0CHAP_R={MD5}\0"),
        &format!("CHAP_N={}\0CHAP_R={MD5}\0", "a".repeat(4000)),
        // Too short, too long, of another algorithm.
        "CHAP_N=alice\0CHAP_R=0xf261face79416a5c7e0f7971b47f83\0",
        "CHAP_N=alice\0CHAP_R=0xf261face79416a5c7e0f7971b47f836d00\0",
        "CHAP_N=alice\0CHAP_R=0x0\0",
        "CHAP_N=alice\0CHAP_R=0x684e3622eb98359d9aca4433ff40ba4a0f1560bc\0",
        // The right one for somebody who may not log in: the target itself (RFC 7143 §9.2.1).
        "CHAP_N=disk\0CHAP_R=0x032680f45b4ca74aa606e6d50969274c\0",
        "CHAP_N=alice\0CHAP_R=0x032680f45b4ca74aa606e6d50969274c\0",
    ] {
        assert_eq!(of(keys), unknown, "{keys:?}");
    }
}

/// RFC 7143 §9.2: keys that are missing, too many, or impossible are no "Authentication Failure"; §9.2.1 and §12.1.3
/// for the rest.
#[test]
fn steps_against_the_rules_end_the_login() {
    let right = format!("CHAP_N=alice\0CHAP_R={MD5}\0");
    let missing = (2, 7, Violation::MissingChapKey);
    let bad = (2, 0, Violation::BadChapKey);
    for (keys, expected) in [
        (String::new(), missing),
        ("CHAP_N=alice\0".into(), missing),
        (format!("CHAP_R={MD5}\0"), missing),
        (format!("{right}CHAP_I=7\0"), missing),
        (format!("{right}CHAP_C=0x6465666768696a6b\0"), missing),
        ("CHAP_I=7\0CHAP_C=0x6465666768696a6b\0".into(), missing),
        (format!("{right}CHAP_I=256\0CHAP_C=0x64\0"), bad),
        (format!("{right}CHAP_I=x\0CHAP_C=0x64\0"), bad),
        (format!("{right}CHAP_I=-1\0CHAP_C=0x64\0"), bad),
        (format!("{right}CHAP_I=7\0CHAP_C=0x\0"), bad),
        (format!("{right}CHAP_I=7\0CHAP_C=100\0"), bad),
        (
            format!("{right}CHAP_I=7\0CHAP_C=0x{}\0", "00".repeat(1025)),
            bad,
        ),
        ("CHAP_N=alice\0CHAP_R=f261\0".into(), bad),
        ("CHAP_N=alice\0CHAP_R=0xnothex\0".into(), bad),
        (
            format!("CHAP_N=alice\0CHAP_R=0x{}\0", "00".repeat(1025)),
            bad,
        ),
        // The algorithm was settled before.
        (format!("CHAP_A=5\0{right}"), (2, 0, Violation::Redeclared)),
        (format!("{right}{right}"), (2, 0, Violation::Redeclared)),
        (
            format!("AuthMethod=None\0{right}"),
            (2, 0, Violation::Redeclared),
        ),
        // Our own challenge, however it is written.
        (
            format!("{right}CHAP_I=42\0CHAP_C=0x000102030405060708090A0B0C0D0E0F\0"),
            (2, 1, Violation::ReflectedChallenge),
        ),
        (
            format!("{right}CHAP_I=7\0CHAP_C=0bAAECAwQFBgcICQoLDA0ODw==\0"),
            (2, 1, Violation::ReflectedChallenge),
        ),
    ] {
        assert_eq!(
            refused(answer(&mut challenged(policy()), &keys)),
            expected,
            "{keys:?}"
        );
    }
    for (keys, expected) in [
        ("", missing),
        ("CHAP_N=alice\0CHAP_R=0x00\0", missing),
        ("CHAP_I=1\0CHAP_C=0x00\0", missing),
        ("CHAP_A=5\0CHAP_N=alice\0", bad),
        ("CHAP_A=5\0CHAP_A=5\0", (2, 0, Violation::Redeclared)),
    ] {
        let step = answer(&mut chosen(0x00, policy()), keys);
        assert_eq!(refused(step), expected, "{keys:?}");
    }
}

/// RFC 7143 §12.1.3: without a secret of its own the target cannot be authenticated, which ends the login (§11.13.5,
/// "target authentication is not supported").
#[test]
fn a_target_that_cannot_prove_itself_says_so() {
    let policy = ChapPolicy {
        mutual: None,
        ..policy()
    };
    let right = format!("CHAP_N=alice\0CHAP_R={MD5}\0");
    let step = answer(&mut challenged(policy.clone()), &format!("{right}{MUTUAL}"));
    assert_eq!(refused(step), (2, 1, Violation::NoMutual));
    assert_eq!(proven(answer(&mut challenged(policy), &right)), "alice");
}

/// An impostor learns nothing from its own challenge: the target proves itself to nobody who has not (RFC 7143 §9.2).
#[test]
fn the_target_proves_itself_last() {
    let wrong = format!("CHAP_N=alice\0CHAP_R=0x{}\0{MUTUAL}", "00".repeat(16));
    let step = answer(&mut challenged(policy()), &wrong);
    assert_eq!(refused(step), (2, 1, Violation::Credentials));
}

/// iPXE sets the T bit all the time; the stage does not change before everything is proven (RFC 7143 §6.3.2).
#[test]
fn a_premature_wish_for_the_next_stage_is_no_transition() {
    for wish in [0x81, 0x83] {
        let mut login = chosen(wish, policy());
        let second = reply(login.handle(&request(wish, "CHAP_A=8,7,6,5\0")));
        assert_eq!(flags(&second), 0x00);
        assert!(text(&second).starts_with("CHAP_A=8\0CHAP_I=42\0CHAP_C=0x"));
        let response = "0x59ea491f6174da995a82b7a3ea335b1741f9c7f35cab198c0ff24c8ac7049158";
        let keys = format!("CHAP_N=alice\0CHAP_R={response}\0");
        assert_eq!(proven(login.handle(&request(wish, &keys))), "alice");
        let step = login.admit(ADMISSION);
        let last = match &step {
            TargetStep::Reply(pdu) | TargetStep::Finished { reply: pdu, .. } => pdu,
            other => panic!("{other:?}"),
        };
        assert_eq!(flags(last), wish);
        assert_eq!(matches!(step, TargetStep::Finished { .. }), wish == 0x83);
    }
    // To ask for the next stage instead of a step is no step.
    for keys in ["", "HeaderDigest=None\0"] {
        let (class, _, _) = refused(login_after_choice(keys));
        assert_eq!(class, 2);
    }
    let mut skipping = chosen(0x00, policy());
    let step = skipping.handle(&request(0x87, ""));
    assert_eq!(refused(step), (2, 0, Violation::Stage));
}

fn login_after_choice(keys: &str) -> TargetStep {
    chosen(0x81, policy()).handle(&request(0x81, keys))
}

/// The initiator may take its time with the T bit (RFC 7143 §6.3.3); the driver is asked when the stage ends.
#[test]
fn the_transition_may_come_later_than_the_proof() {
    let mut login = challenged(policy());
    let keys = format!("CHAP_N=alice\0CHAP_R={MD5}\0{MUTUAL}");
    let third = reply(login.handle(&request(0x00, &keys)));
    assert_eq!(flags(&third), 0x00);
    assert!(text(&third).starts_with("CHAP_N=disk\0"));
    assert_eq!(proven(login.handle(&request(0x81, ""))), "alice");
    assert_eq!(flags(&reply(login.admit(ADMISSION))), 0x81);
}

/// RFC 7143 §6.3.1: who skips the security stage is told "Authentication failure"; §6.3.2: who leaves the proposal to
/// the target gets one.
#[test]
fn security_cannot_be_skipped() {
    let mut skipping = login();
    ask(&mut skipping, &request(0x87, NAMES));
    let step = skipping.authenticate(demand(policy()));
    assert_eq!(refused(step), (2, 1, Violation::Unauthenticated));

    let mut silent = login();
    ask(&mut silent, &request(0x81, NAMES));
    let first = reply(silent.authenticate(demand(policy())));
    assert_eq!(
        (flags(&first), text(&first)),
        (0x00, "TargetPortalGroupTag=3\0AuthMethod=CHAP\0")
    );
    // "the initiator sends the first key(s) of the exchange together with its authentication method selection".
    let second = reply(silent.handle(&request(0x00, "AuthMethod=CHAP\0CHAP_A=5\0")));
    assert_eq!(text(&second), CHALLENGE);
    let keys = format!("CHAP_N=alice\0CHAP_R={MD5}\0");
    assert_eq!(proven(answer(&mut silent, &keys)), "alice");

    for (keys, expected) in [
        ("", (2, 1, Violation::Unauthenticated)),
        ("AuthMethod=None\0", (2, 0, Violation::BadAnswer)),
    ] {
        let mut stubborn = login();
        ask(&mut stubborn, &request(0x81, NAMES));
        reply(stubborn.authenticate(demand(policy())));
        assert_eq!(refused(stubborn.handle(&request(0x81, keys))), expected);
    }
    let mut nobody = login();
    ask(&mut nobody, &request(0x81, NAMES));
    let step = nobody.authenticate(Authentication {
        portal_group_tag: 3,
        none: false,
        chap: None,
    });
    assert_eq!(refused(step), (2, 1, Violation::Unauthenticated));
}

/// RFC 7143 §6.2: keys of CHAP are known, and belong to CHAP alone.
#[test]
fn keys_of_chap_without_chap_end_the_login() {
    for method in ["", "AuthMethod=None\0"] {
        let mut login = login();
        ask(
            &mut login,
            &request(0x81, &format!("{NAMES}{method}CHAP_A=5\0")),
        );
        let step = login.authenticate(Authentication {
            portal_group_tag: 3,
            none: true,
            chap: Some(policy()),
        });
        assert_eq!(refused(step), (2, 0, Violation::BadChapKey));
    }
    let mut later = login();
    ask(&mut later, &request(0x87, &format!("{NAMES}CHAP_A=5\0")));
    let step = later.authenticate(Authentication {
        none: true,
        ..demand(policy())
    });
    assert_eq!(refused(step), (2, 0, Violation::KeyNotAllowed));
}

/// RFC 7143 §4.3: discovery sessions may be authenticated like all others.
#[test]
fn discovery_may_need_a_proof_too() {
    let mut login = login();
    let names = "InitiatorName=iqn.1999-07.com.os:hostid.77\0SessionType=Discovery\0";
    ask(
        &mut login,
        &request(0x81, &format!("{names}AuthMethod=CHAP\0")),
    );
    reply(login.authenticate(demand(policy())));
    reply(login.handle(&request(0x81, "CHAP_A=5\0")));
    let keys = format!("CHAP_N=alice\0CHAP_R={MD5}\0");
    assert_eq!(proven(answer(&mut login, &keys)), "alice");
}

/// A configuration that proves nothing lets nobody in: one secret for both directions (RFC 7143 §9.2.1), no algorithm,
/// a challenge that comes again or cannot be sent, names that cannot be sent.
#[test]
fn unusable_policies_are_the_targets_own_error() {
    let base = policy();
    for policy in [
        ChapPolicy {
            mutual: Some(account("disk", "secret secret")),
            ..base.clone()
        },
        ChapPolicy {
            algorithms: Vec::new(),
            ..base.clone()
        },
        ChapPolicy {
            challenge: vec![0; 15],
            ..base.clone()
        },
        ChapPolicy {
            challenge: vec![0; 1025],
            ..base.clone()
        },
        ChapPolicy {
            mutual: Some(account("a\0b", "another secret")),
            ..base.clone()
        },
        ChapPolicy {
            accounts: vec![account("", "secret secret")],
            ..base.clone()
        },
    ] {
        let mut login = login();
        ask(
            &mut login,
            &request(0x81, &format!("{NAMES}AuthMethod=CHAP\0")),
        );
        assert_eq!(failed(login.authenticate(demand(policy))), (3, 0));
    }
    let nobody = ChapPolicy {
        accounts: Vec::new(),
        ..base
    };
    let step = answer(
        &mut challenged(nobody),
        &format!("CHAP_N=alice\0CHAP_R={MD5}\0"),
    );
    assert_eq!(refused(step), (2, 1, Violation::Credentials));
}

/// RFC 7143 §9.2.1: at least 96 bits, 128 bits and more are supported, and nobody gets to see them.
#[test]
fn secrets_are_long_enough_and_never_printed() {
    for (length, legal) in [
        (0, false),
        (11, false),
        (12, true),
        (16, true),
        (255, true),
        (256, false),
    ] {
        assert_eq!(Secret::new(vec![b'x'; length]).is_ok(), legal, "{length}");
    }
    let printed = format!("{:?} {:?}", policy(), demand(policy()));
    assert!(printed.contains("alice"));
    assert!(!printed.contains("secret secret") && !printed.contains("another"));
    assert!(!printed.contains("115, 101, 99"), "not as numbers either");
    let login = format!("{:?}", challenged(policy()));
    assert!(!login.contains("secret secret") && !login.contains("115, 101, 99"));
}

/// RFC 7143 §11.13.5: a redirection may come before the security negotiation and after it; it closes the connection.
#[test]
fn redirections_come_before_or_after_the_proof() {
    let redirected = |step: TargetStep| match step {
        TargetStep::Failed {
            reply: Some(pdu),
            status,
            violation: None,
        } => (status.class, status.detail, text(&pdu).to_owned()),
        other => panic!("{other:?}"),
    };
    let mut before = login();
    ask(
        &mut before,
        &request(0x81, &format!("{NAMES}AuthMethod=CHAP\0")),
    );
    assert_eq!(
        redirected(before.redirect("[fe80::1]:3260,7", true)),
        (1, 2, "TargetAddress=[fe80::1]:3260\0".to_owned())
    );
    let mut after = challenged(policy());
    let keys = format!("CHAP_N=alice\0CHAP_R={MD5}\0");
    assert_eq!(proven(answer(&mut after, &keys)), "alice");
    assert_eq!(
        redirected(after.redirect("10.0.0.9", false)),
        (1, 1, "TargetAddress=10.0.0.9\0".to_owned())
    );
    assert!(matches!(
        after.handle(&request(0x87, "")),
        TargetStep::Failed { reply: None, .. }
    ));
}

fn hostile() -> impl proptest::strategy::Strategy<Value = String> {
    "(CHAP_A=[5-9,x]{0,6}\0)?(CHAP_N=(alice|bob|.{0,3})\0)?(CHAP_R=0[xb][0-9a-f]{0,40}\0)?(CHAP_I=[0-9]{0,4}\0)?(CHAP_C=0[xb][0-9a-zA-Z+/=]{0,12}\0)?(AuthMethod=(CHAP|None|CHAP,None)\0)?"
}

proptest! {
    /// Whatever is sent, nobody gets past CHAP without a response that was asked for.
    #[test]
    fn nobody_gets_in_without_a_proof(
        requests in prop::collection::vec((prop::sample::select(vec![0x00u8, 0x81, 0x83, 0x87, 0x40, 0x04]), hostile()), 1..8),
        identifier in any::<u8>(),
    ) {
        let mut login = login();
        for (index, (flags, keys)) in requests.iter().enumerate() {
            let keys = if index == 0 { format!("{NAMES}{keys}") } else { keys.clone() };
            let mut step = login.handle(&request(*flags, &keys));
            if let TargetStep::Identified(_) = step {
                step = login.authenticate(demand(ChapPolicy { identifier, ..policy() }));
            }
            let let_in = matches!(step, TargetStep::Authenticated { .. } | TargetStep::Finished { .. });
            prop_assert!(!let_in, "{step:?}");
            if let TargetStep::Reply(pdu) = step {
                prop_assert!(flags_of(&pdu) & 0x80 == 0, "no transition");
            }
        }
    }
}

fn flags_of(pdu: &Pdu) -> u8 {
    flags(pdu)
}
