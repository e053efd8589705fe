//! What becomes of keys: answered, rejected, refused, proposed (RFC 7143 §6.2, §13).

use iscsi_proto::login::{DigestPolicy, Operational, TargetLogin, TargetOffer};
use iscsi_proto::params::SessionType;

use crate::{
    NAMES, admit, ask, failed, finished, flags, handle, login, one_request, reply, request, text,
};

/// What is answered to keys in a first operational request, without what the target always says.
fn answers(keys: &str) -> String {
    let (text, _) = one_request(TargetOffer::default(), keys);
    let text = text
        .strip_prefix("TargetPortalGroupTag=3\0")
        .expect("portal group first");
    text.strip_suffix("MaxRecvDataSegmentLength=262144\0")
        .expect("segment last")
        .to_owned()
}

/// What becomes of keys that break the rules, in a first operational request.
fn refused(keys: &str) -> (u8, u8) {
    failed(handle(
        &mut login(),
        &request(0x87, &format!("{NAMES}{keys}")),
    ))
}

/// RFC 7143 §6.2: what the standard knows is understood.
#[test]
fn every_key_of_the_standard_is_answered_and_unknown_ones_are_not_understood() {
    let answered = answers(
        "HeaderDigest=CRC32C,None\0DataDigest=Y-x,None,CRC32C\0MaxConnections=8\0InitialR2T=No\0ImmediateData=Yes\0\
         MaxRecvDataSegmentLength=65536\0MaxBurstLength=16776192\0FirstBurstLength=0x10000\0DefaultTime2Wait=5\0\
         DefaultTime2Retain=60\0MaxOutstandingR2T=1\0DataPDUInOrder=No\0DataSequenceInOrder=No\0\
         ErrorRecoveryLevel=2\0TaskReporting=FastAbort,ResponseFence,RFC3720\0iSCSIProtocolLevel=2\0IFMarker=Yes\0\
         OFMarker=No\0IFMarkInt=2048~8192\0OFMarkInt=Reject\0X#NodeArchitecture=ExampleOS/v1234\0\
         X-com.example.bar=3\0InitiatorAlias=Web Server 4\0",
    );
    let expected = "HeaderDigest=CRC32C\0DataDigest=None\0MaxConnections=1\0InitialR2T=No\0ImmediateData=Yes\0\
         MaxBurstLength=1048576\0FirstBurstLength=65536\0DefaultTime2Wait=5\0\
         DefaultTime2Retain=0\0MaxOutstandingR2T=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0\
         ErrorRecoveryLevel=0\0TaskReporting=ResponseFence\0iSCSIProtocolLevel=1\0IFMarker=No\0\
         OFMarker=No\0IFMarkInt=Reject\0OFMarkInt=Reject\0\
         X-com.example.bar=NotUnderstood\0";
    assert_eq!(answered, expected);
}

/// RFC 7143 §6.2.2: what is not admissible may be answered with Reject, which leaves the default.
#[test]
fn inadmissible_proposals_are_rejected_and_leave_the_defaults() {
    for (key, value) in [
        ("HeaderDigest", "MD5"),
        ("HeaderDigest", ""),
        ("MaxConnections", "0"),
        ("MaxConnections", "65536"),
        ("InitialR2T", "no"),
        ("ImmediateData", "Maybe"),
        ("MaxBurstLength", "511"),
        ("MaxBurstLength", "16777216"),
        ("MaxBurstLength", "512~1024"),
        ("MaxBurstLength", "18446744073709551616"),
        ("DefaultTime2Wait", "3601"),
        ("DefaultTime2Retain", "-1"),
        ("MaxOutstandingR2T", "0"),
        ("ErrorRecoveryLevel", "3"),
        ("TaskReporting", "FastAbort"),
    ] {
        assert_eq!(
            answers(&format!("{key}={value}\0")),
            format!("{key}=Reject\0"),
            "{key}={value}"
        );
    }
    let (_, outcome) = one_request(TargetOffer::default(), "MaxBurstLength=511\0");
    assert_eq!(outcome.params.max_burst_length, 262_144);
}

#[test]
fn the_first_burst_is_settled_after_what_it_depends_on() {
    // Before MaxBurstLength in the text, and yet not longer than it.
    assert_eq!(
        answers("FirstBurstLength=262144\0MaxBurstLength=131072\0"),
        "FirstBurstLength=131072\0MaxBurstLength=131072\0"
    );
    assert_eq!(
        answers("FirstBurstLength=65536\0InitialR2T=Yes\0ImmediateData=No\0"),
        "FirstBurstLength=Irrelevant\0InitialR2T=Yes\0ImmediateData=No\0"
    );
}

/// RFC 7143 §4.3, §13.21.
#[test]
fn discovery_needs_no_target_and_finds_much_irrelevant() {
    let mut login = login();
    let names = "InitiatorName=iqn.1999-07.com.os:hostid.77\0SessionType=Discovery\0";
    let identity = ask(
        &mut login,
        &request(
            0x87,
            &format!("{names}MaxBurstLength=262144\0DataDigest=None\0"),
        ),
    );
    assert_eq!(
        (identity.session_type, identity.target_name),
        (SessionType::Discovery, None)
    );
    let (pdu, outcome) = finished(admit(&mut login));
    let expected = "TargetPortalGroupTag=3\0MaxBurstLength=Irrelevant\0DataDigest=None\0\
        MaxRecvDataSegmentLength=262144\0";
    assert_eq!(text(&pdu), expected);
    assert_eq!(outcome.params.session_type, SessionType::Discovery);
}

/// RFC 7143 §6.2, §6.3, §7.13: protocol errors.
#[test]
fn keys_against_the_rules_end_the_login() {
    for keys in [
        "MaxBurstLength=65536\0MaxBurstLength=65536\0",
        "X-a=1\0X-a=1\0",
        "InitiatorName=iqn.1999-07.com.os:hostid.77\0",
        "AuthMethod=None\0",
        "SendTargets=All\0",
        "TargetAlias=mine\0",
        "TargetPortalGroupTag=1\0",
        "TargetAddress=10.0.0.1\0",
        "MaxBurstLength=Irrelevant\0",
        "HeaderDigest=NotUnderstood\0",
        "MaxRecvDataSegmentLength=511\0",
        "MaxRecvDataSegmentLength=16777216\0",
        "MaxBurstLength=65536",
        "no pair\0",
    ] {
        assert_eq!(refused(keys), (0x02, 0x00), "{keys:?}");
    }
    let early = failed(handle(
        &mut login(),
        &request(0x81, &format!("{NAMES}MaxBurstLength=65536\0")),
    ));
    assert_eq!(
        early,
        (0x02, 0x00),
        "an operational key in the security stage"
    );
}

/// RFC 7143 §6.3: a redeclaration is an initiator error.
#[test]
fn keys_may_not_come_again_in_a_later_request_either() {
    let mut login = login();
    ask(
        &mut login,
        &request(0x04, &format!("{NAMES}MaxBurstLength=65536\0")),
    );
    assert_eq!(flags(&reply(admit(&mut login))), 0x04, "no T without T");
    assert_eq!(
        failed(login.handle(&request(0x87, "MaxBurstLength=65536\0"))),
        (0x02, 0x00)
    );
}

/// What the defaults allow and the target does not, it proposes itself; with T=0, since an answer is due.
#[test]
fn a_restrictive_target_proposes() {
    let offer = TargetOffer {
        operational: Operational {
            max_burst_length: 32_768,
            immediate_data: false,
            ..Operational::default()
        },
        digests: DigestPolicy::Require,
        ..TargetOffer::default()
    };
    let mut login = TargetLogin::new(offer.clone());
    ask(&mut login, &request(0x83, NAMES));
    let first = reply(admit(&mut login));
    assert_eq!(
        flags(&first),
        0x81,
        "not yet full feature: the operational stage is needed"
    );
    let second = reply(login.handle(&request(0x87, "InitialR2T=No\0")));
    let expected = "InitialR2T=No\0MaxRecvDataSegmentLength=262144\0HeaderDigest=CRC32C\0DataDigest=CRC32C\0\
        ImmediateData=No\0MaxBurstLength=32768\0FirstBurstLength=32768\0";
    assert_eq!((flags(&second), text(&second)), (0x04, expected));
    let answer = "HeaderDigest=CRC32C\0DataDigest=CRC32C\0ImmediateData=No\0MaxBurstLength=32768\0\
        FirstBurstLength=16384\0";
    let (last, outcome) = finished(login.handle(&request(0x87, answer)));
    assert_eq!((flags(&last), text(&last)), (0x87, ""));
    assert!(
        outcome.params.header_digest
            && outcome.params.data_digest
            && !outcome.params.immediate_data
    );
    assert_eq!(
        (
            outcome.params.max_burst_length,
            outcome.params.first_burst_length
        ),
        (32_768, 16_384)
    );

    // Silence, a greater number, and None are no answers.
    for answer in ["", "MaxBurstLength=65536\0", "HeaderDigest=None\0"] {
        let mut login = TargetLogin::new(offer.clone());
        ask(
            &mut login,
            &request(0x87, &format!("{NAMES}InitialR2T=No\0")),
        );
        reply(admit(&mut login));
        assert_eq!(
            failed(login.handle(&request(0x87, answer))),
            (0x02, 0x00),
            "{answer:?}"
        );
    }
}

#[test]
fn a_digest_that_is_required_or_refused() {
    let offer = |digests| TargetOffer {
        digests,
        ..TargetOffer::default()
    };
    let (text, outcome) = one_request(
        offer(DigestPolicy::Refuse),
        "HeaderDigest=CRC32C,None\0DataDigest=CRC32C\0",
    );
    assert!(
        text.contains("HeaderDigest=None\0DataDigest=Reject\0"),
        "{text:?}"
    );
    assert!(!outcome.params.header_digest && !outcome.params.data_digest);
    let mut login = TargetLogin::new(offer(DigestPolicy::Require));
    ask(
        &mut login,
        &request(
            0x87,
            &format!("{NAMES}HeaderDigest=None\0DataDigest=CRC32C\0"),
        ),
    );
    assert_eq!(failed(admit(&mut login)), (0x02, 0x00));
}
