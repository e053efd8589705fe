//! What passes, and as whom.

use iscsi_proto::login::{Algorithm, Authentication, ChapPolicy, TargetStep, Violation};

use crate::chap::{MD5, MUTUAL, answer, challenged, chosen, demand, policy, proven, refused};
use crate::{ADMISSION, NAMES, ask, finished, flags, login, reply, request, text};

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
