//! Everything that must not pass.

use iscsi_proto::login::{Authentication, ChapPolicy, Secret, TargetStep, Violation};
use proptest::prelude::{any, prop, prop_assert, proptest};

use crate::chap::{
    CHALLENGE, MD5, MUTUAL, account, answer, challenged, chosen, demand, policy, proven, refused,
};
use crate::{ADMISSION, NAMES, ask, failed, flags, login, reply, request, text};

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
        for (index, (wish, keys)) in requests.iter().enumerate() {
            let keys = if index == 0 { format!("{NAMES}{keys}") } else { keys.clone() };
            let mut step = login.handle(&request(*wish, &keys));
            if let TargetStep::Identified(_) = step {
                step = login.authenticate(demand(ChapPolicy { identifier, ..policy() }));
            }
            let let_in = matches!(step, TargetStep::Authenticated { .. } | TargetStep::Finished { .. });
            prop_assert!(!let_in, "{step:?}");
            if let TargetStep::Reply(pdu) = step {
                prop_assert!(flags(&pdu) & 0x80 == 0, "no transition");
            }
        }
    }
}
