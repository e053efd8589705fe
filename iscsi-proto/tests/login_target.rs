//! The target's end of the login against Login Requests written out by hand (RFC 7143 §11.12, §11.13).

use std::collections::VecDeque;

use bytes::Bytes;
use iscsi_proto::login::{
    Admission, DigestPolicy, Identity, LoginStatus, Outcome, TargetLogin, TargetOffer, TargetStep,
};
use iscsi_proto::params::SessionType;
use iscsi_proto::wire::framer::{self, Digests};
use iscsi_proto::wire::serial::Serial;
use iscsi_proto::wire::{Header, Pdu};
use proptest::prelude::{any, prop, proptest};

const NAMES: &str = "InitiatorName=iqn.1999-07.com.os:hostid.77\0TargetName=iqn.1999-07.com.example:diskarray.sn.88\0";
const ADMISSION: Admission = Admission { tsih: 0x0102, portal_group_tag: 3, command_window: 32 };

/// A Login Request: immediate, ISID 80 00 00 00 00 01, task tag 0a0b0c0d, CID 2, CmdSN 123 (the number of RFC 7143
/// §11.12.8).
fn request(flags: u8, text: &str) -> Pdu {
    let mut bytes = [0; 48];
    bytes[0] = 0x43;
    bytes[1] = flags;
    bytes[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 1]);
    bytes[16..20].copy_from_slice(&[0x0a, 0x0b, 0x0c, 0x0d]);
    bytes[20..22].copy_from_slice(&[0, 2]);
    bytes[24..28].copy_from_slice(&[0, 0, 0, 123]);
    Pdu { header: Header::decode(&bytes), ahs: Bytes::new(), data: Bytes::copy_from_slice(text.as_bytes()) }
}

fn edited(pdu: &Pdu, offset: usize, value: u8) -> Pdu {
    let mut bytes: [u8; 48] = pdu.header.as_bytes().try_into().unwrap();
    bytes[offset] = value;
    Pdu { header: Header::decode(&bytes), ..pdu.clone() }
}

fn wire(pdu: &Pdu) -> Vec<u8> {
    let mut out = VecDeque::new();
    framer::encode(pdu, Digests::default(), &mut out);
    out.into_iter().flatten().collect()
}

fn text(pdu: &Pdu) -> &str {
    std::str::from_utf8(&pdu.data).unwrap()
}

/// The response's byte 1: T, C, CSG, NSG.
fn flags(pdu: &Pdu) -> u8 {
    pdu.header.as_bytes()[1]
}

fn ask(login: &mut TargetLogin, pdu: &Pdu) -> Identity {
    match login.handle(pdu) {
        TargetStep::Ask(identity) => identity,
        other => panic!("did not ask: {other:?}"),
    }
}

fn reply(step: TargetStep) -> Pdu {
    match step {
        TargetStep::Reply(pdu) => pdu,
        other => panic!("no reply: {other:?}"),
    }
}

fn finished(step: TargetStep) -> (Pdu, Outcome) {
    match step {
        TargetStep::Finished { reply, outcome } => (reply, outcome),
        other => panic!("not finished: {other:?}"),
    }
}

/// Class and detail, and that the response's bytes 36 and 37 say the same.
fn failed(step: TargetStep) -> (u8, u8) {
    let TargetStep::Failed { reply, status } = step else { panic!("not failed: {step:?}") };
    if let Some(reply) = reply {
        let bytes = reply.header.as_bytes();
        assert_eq!((bytes[0], bytes[36], bytes[37]), (0x23, status.class, status.detail));
    }
    (status.class, status.detail)
}

fn login() -> TargetLogin {
    TargetLogin::new(TargetOffer::default())
}

/// Logs in in one request in the operational stage; gives the answer's text and the outcome.
fn one_request(offer: TargetOffer, keys: &str) -> (String, Outcome) {
    let mut login = TargetLogin::new(offer);
    ask(&mut login, &request(0x87, &format!("{NAMES}{keys}")));
    let (pdu, outcome) = finished(login.admit(ADMISSION));
    (text(&pdu).to_owned(), outcome)
}

/// What is answered to keys in a first operational request, without what the target always says.
fn answers(keys: &str) -> String {
    let (text, _) = one_request(TargetOffer::default(), keys);
    let text = text.strip_prefix("TargetPortalGroupTag=3\0").expect("portal group first");
    text.strip_suffix("MaxRecvDataSegmentLength=262144\0").expect("segment last").to_owned()
}

/// What becomes of keys that break the rules, in a first operational request.
fn refused(keys: &str) -> (u8, u8) {
    failed(login().handle(&request(0x87, &format!("{NAMES}{keys}"))))
}

#[test]
fn two_stages_byte_for_byte() {
    let mut login = login();
    let identity = ask(&mut login, &request(0x81, &format!("{NAMES}SessionType=Normal\0AuthMethod=CHAP,None\0")));
    assert_eq!(identity.initiator_name.as_str(), "iqn.1999-07.com.os:hostid.77");
    assert_eq!(identity.target_name.unwrap().as_str(), "iqn.1999-07.com.example:diskarray.sn.88");
    assert_eq!((identity.session_type, identity.tsih, identity.cid), (SessionType::Normal, 0, 2));
    assert_eq!(identity.isid, [0x80, 0, 0, 0, 0, 1]);

    let first = wire(&reply(login.admit(ADMISSION)));
    let header = [
        0x23, 0x81, 0x00, 0x00, 0x00, 0x00, 0x00, 0x27, 0x80, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, //
        0x0a, 0x0b, 0x0c, 0x0d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x7b, //
        0x00, 0x00, 0x00, 0x9a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];
    assert_eq!(first[..48], header);
    assert_eq!(first[48..], *b"TargetPortalGroupTag=3\0AuthMethod=None\0\0");

    let (last, outcome) = finished(login.handle(&request(0x87, "MaxBurstLength=65536\0")));
    let last = wire(&last);
    let header = [
        0x23, 0x87, 0x00, 0x00, 0x00, 0x00, 0x00, 0x35, 0x80, 0x00, 0x00, 0x00, 0x00, 0x01, 0x01, 0x02, //
        0x0a, 0x0b, 0x0c, 0x0d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x7b, //
        0x00, 0x00, 0x00, 0x9a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];
    assert_eq!(last[..48], header);
    assert_eq!(last[48..], *b"MaxBurstLength=65536\0MaxRecvDataSegmentLength=262144\0\0\0\0");
    assert_eq!((outcome.next_cmd_sn, outcome.next_stat_sn), (Serial(123), Serial(3)));
    assert_eq!(outcome.params.max_burst_length, 65_536);
    assert_eq!(outcome.params.max_recv_data_segment_length, 262_144);
    assert_eq!(outcome.params.max_send_data_segment_length, 8192);
}

/// "An initiator that chooses to operate without iSCSI security and with all the operational parameters taking the
/// default values" (RFC 7143 §6.3.1).
#[test]
fn the_shortest_login_gives_the_defaults() {
    let (_, outcome) = one_request(TargetOffer::default(), "");
    let params = outcome.params;
    assert!(!params.header_digest && !params.data_digest && params.initial_r2t && params.immediate_data);
    assert_eq!((params.max_burst_length, params.first_burst_length), (262_144, 65_536));
    assert_eq!((params.max_outstanding_r2t, params.time2wait, params.time2retain), (1, 2, 20));
    assert_eq!((params.error_recovery_level, params.max_connections), (0, 1));
}

#[test]
fn security_may_lead_straight_to_full_feature() {
    let mut login = login();
    ask(&mut login, &request(0x83, NAMES));
    let (pdu, outcome) = finished(login.admit(ADMISSION));
    assert_eq!((flags(&pdu), text(&pdu)), (0x83, "TargetPortalGroupTag=3\0"));
    assert_eq!(outcome.params.max_recv_data_segment_length, 8192, "nothing else was declared");
}

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
        assert_eq!(answers(&format!("{key}={value}\0")), format!("{key}=Reject\0"), "{key}={value}");
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

#[test]
fn discovery_needs_no_target_and_finds_much_irrelevant() {
    let mut login = login();
    let names = "InitiatorName=iqn.1999-07.com.os:hostid.77\0SessionType=Discovery\0";
    let identity = ask(&mut login, &request(0x87, &format!("{names}MaxBurstLength=262144\0DataDigest=None\0")));
    assert_eq!((identity.session_type, identity.target_name), (SessionType::Discovery, None));
    let (pdu, outcome) = finished(login.admit(ADMISSION));
    let expected = "TargetPortalGroupTag=3\0MaxBurstLength=Irrelevant\0DataDigest=None\0\
        MaxRecvDataSegmentLength=262144\0";
    assert_eq!(text(&pdu), expected);
    assert_eq!(outcome.params.session_type, SessionType::Discovery);
}

#[test]
fn the_alias_goes_out_with_the_first_response() {
    let offer = TargetOffer { target_alias: Some("Bob-s Disk".into()), ..TargetOffer::default() };
    let (text, outcome) = one_request(offer, "InitiatorAlias=x=y z\0");
    assert!(text.starts_with("TargetPortalGroupTag=3\0TargetAlias=Bob-s Disk\0"), "{text:?}");
    assert_eq!(outcome.identity.initiator_alias.as_deref(), Some("x=y z"));
}

#[test]
fn names_are_needed_and_checked() {
    let first = |text: &str| failed(login().handle(&request(0x87, text)));
    let target = "TargetName=iqn.1999-07.com.example:diskarray.sn.88\0";
    let initiator = "InitiatorName=iqn.1999-07.com.os:hostid.77\0";
    assert_eq!(first(""), (0x02, 0x07));
    assert_eq!(first(target), (0x02, 0x07));
    assert_eq!(first(initiator), (0x02, 0x07));
    assert_eq!(first(&format!("{initiator}SessionType=Normal\0")), (0x02, 0x07));
    assert_eq!(first(&format!("{initiator}{target}SessionType=Other\0")), (0x02, 0x09));
    assert_eq!(first(&format!("{target}InitiatorName=me\0")), (0x02, 0x00));
    assert_eq!(first(&format!("{initiator}TargetName=disk\0")), (0x02, 0x03));
}

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
    let early = failed(login().handle(&request(0x81, &format!("{NAMES}MaxBurstLength=65536\0"))));
    assert_eq!(early, (0x02, 0x00), "an operational key in the security stage");
}

#[test]
fn keys_may_not_come_again_in_a_later_request_either() {
    let mut login = login();
    ask(&mut login, &request(0x04, &format!("{NAMES}MaxBurstLength=65536\0")));
    assert_eq!(flags(&reply(login.admit(ADMISSION))), 0x04, "no T without T");
    assert_eq!(failed(login.handle(&request(0x87, "MaxBurstLength=65536\0"))), (0x02, 0x00));
}

#[test]
fn authentication_that_we_lack_fails() {
    let step = login().handle(&request(0x81, &format!("{NAMES}AuthMethod=CHAP\0")));
    let TargetStep::Failed { reply: Some(pdu), status } = step else { panic!("{step:?}") };
    assert_eq!((status, text(&pdu)), (LoginStatus { class: 2, detail: 1 }, "AuthMethod=Reject\0"));
    assert_eq!(flags(&pdu), 0, "T, CSG and NSG are reserved in a refusal");
}

#[test]
fn stages_follow_the_rules_of_the_standard() {
    // Reserved CSG, full feature as CSG, T without progress, T and C together, reserved NSG.
    for bad in [0x08, 0x0c, 0x8f, 0x80, 0x84, 0x85, 0x82, 0x86, 0xc1, 0xc7] {
        assert_eq!(failed(login().handle(&request(bad, NAMES))), (0x02, 0x00), "{bad:#04x}");
    }
    let mut skipped = login();
    ask(&mut skipped, &request(0x00, NAMES));
    reply(skipped.admit(ADMISSION));
    assert_eq!(failed(skipped.handle(&request(0x87, ""))), (0x02, 0x00), "the stage was not left");
}

#[test]
fn what_belongs_to_another_login_ends_this_one() {
    // Version-min; then ISID, TSIH, task tag, CID of a second request.
    assert_eq!(failed(login().handle(&edited(&request(0x87, NAMES), 3, 1))), (0x02, 0x05));
    for offset in [13, 15, 19, 21] {
        let mut login = login();
        ask(&mut login, &request(0x81, NAMES));
        reply(login.admit(ADMISSION));
        let other = edited(&request(0x87, ""), offset, 0x55);
        assert_eq!(failed(login.handle(&other)), (0x02, 0x00), "byte {offset}");
    }
    let mut newer = login();
    ask(&mut newer, &edited(&request(0x87, NAMES), 2, 9));
    let (pdu, _) = finished(newer.admit(ADMISSION));
    assert_eq!(pdu.header.as_bytes()[2..4], [0, 0], "Version-max and Version-active");
}

#[test]
fn other_pdus_are_invalid_during_login() {
    let nop = edited(&request(0x80, ""), 0, 0x40);
    assert_eq!(login().handle(&nop), TargetStep::Failed { reply: None, status: LoginStatus::INVALID_DURING_LOGIN });
    let mut login = login();
    ask(&mut login, &request(0x81, NAMES));
    reply(login.admit(ADMISSION));
    assert_eq!(failed(login.handle(&nop)), (0x02, 0x0b));
    let after = login.handle(&request(0x87, ""));
    assert!(matches!(after, TargetStep::Failed { reply: None, .. }), "what has failed stays silent");
}

#[test]
fn one_request_at_a_time() {
    let mut login = login();
    ask(&mut login, &request(0x81, NAMES));
    assert_eq!(failed(login.handle(&request(0x81, ""))), (0x02, 0x00));
}

#[test]
fn the_driver_decides() {
    let mut refused = login();
    ask(&mut refused, &request(0x81, NAMES));
    assert_eq!(failed(refused.refuse(LoginStatus::AUTHORIZATION_FAILURE)), (0x02, 0x02));

    let mut moved = login();
    ask(&mut moved, &request(0x81, NAMES));
    let TargetStep::Failed { reply: Some(pdu), status } = moved.redirect("10.0.0.2:3260,1", false) else { panic!() };
    assert_eq!((status.class, status.detail, text(&pdu)), (1, 1, "TargetAddress=10.0.0.2:3260\0"));
    assert_eq!(pdu.header.as_bytes()[36..38], [0x01, 0x01]);

    let mut adding = login();
    let identity = ask(&mut adding, &edited(&request(0x81, NAMES), 15, 7));
    assert_eq!(identity.tsih, 7, "a connection for an existing session");
    assert_eq!(failed(adding.refuse(LoginStatus::SESSION_DOES_NOT_EXIST)), (0x02, 0x0a));

    let mut twice = login();
    assert_eq!(failed(twice.admit(ADMISSION)), (0x03, 0x00), "nobody asked");
    ask(&mut login(), &request(0x81, NAMES));
}

/// Keys may span PDUs (RFC 7143 §6.1); each piece is answered by an empty response (§6.2).
#[test]
fn a_long_request_is_put_together() {
    let whole = format!("{NAMES}X-com.example.long={}\0MaxBurstLength=65536\0", "x".repeat(9000));
    let mut login = login();
    let pieces: Vec<&str> = vec![&whole[..50], &whole[50..8000], &whole[8000..]];
    for piece in &pieces[..2] {
        let answer = reply(login.handle(&request(0x44, piece)));
        assert_eq!((flags(&answer), answer.data.len()), (0x04, 0));
    }
    ask(&mut login, &request(0x87, pieces[2]));
    let (pdu, _) = finished(login.admit(ADMISSION));
    let expected = "TargetPortalGroupTag=3\0X-com.example.long=NotUnderstood\0MaxBurstLength=65536\0\
        MaxRecvDataSegmentLength=262144\0";
    assert_eq!(text(&pdu), expected);
    assert_eq!(pdu.header.as_bytes()[24..28], [0, 0, 0, 3], "every response has its own StatSN");
}

#[test]
fn a_long_response_is_sent_in_pieces() {
    let unknown: String = (0..600).map(|number| format!("X-{number}=1\0")).collect();
    let mut login = login();
    ask(&mut login, &request(0x87, &format!("{NAMES}{unknown}")));
    let first = reply(login.admit(ADMISSION));
    assert_eq!((flags(&first), first.data.len()), (0x44, 8192));
    let (last, _) = finished(login.handle(&request(0x87, "")));
    let whole = [&first.data[..], &last.data[..]].concat();
    let expected: String = (0..600).map(|number| format!("X-{number}=NotUnderstood\0")).collect();
    assert_eq!(
        std::str::from_utf8(&whole).unwrap(),
        format!("TargetPortalGroupTag=3\0{expected}MaxRecvDataSegmentLength=262144\0")
    );
}

#[test]
fn while_a_long_response_is_fetched_requests_are_empty() {
    let unknown: String = (0..600).map(|number| format!("X-{number}=1\0")).collect();
    let mut login = login();
    ask(&mut login, &request(0x87, &format!("{NAMES}{unknown}")));
    reply(login.admit(ADMISSION));
    assert_eq!(failed(login.handle(&request(0x87, "MaxBurstLength=65536\0"))), (0x02, 0x00));
}

#[test]
fn endless_texts_and_logins_end() {
    let mut long = login();
    let piece = "x".repeat(8192);
    for _ in 0..8 {
        reply(long.handle(&request(0x44, &piece)));
    }
    assert_eq!(failed(long.handle(&request(0x44, "x"))), (0x02, 0x00), "more than 64 KiB");

    let mut slow = login();
    ask(&mut slow, &request(0x04, NAMES));
    reply(slow.admit(ADMISSION));
    for _ in 1..128 {
        reply(slow.handle(&request(0x04, "")));
    }
    assert_eq!(failed(slow.handle(&request(0x04, ""))), (0x02, 0x00), "more than 128 requests");
}

/// What the defaults allow and the target does not, it proposes itself; with T=0, since an answer is due.
#[test]
fn a_restrictive_target_proposes() {
    let offer = TargetOffer {
        max_burst_length: 32_768,
        immediate_data: false,
        digests: DigestPolicy::Require,
        ..TargetOffer::default()
    };
    let mut login = TargetLogin::new(offer.clone());
    ask(&mut login, &request(0x83, NAMES));
    let first = reply(login.admit(ADMISSION));
    assert_eq!(flags(&first), 0x81, "not yet full feature: the operational stage is needed");
    let second = reply(login.handle(&request(0x87, "InitialR2T=No\0")));
    let expected = "InitialR2T=No\0MaxRecvDataSegmentLength=262144\0HeaderDigest=CRC32C\0DataDigest=CRC32C\0\
        ImmediateData=No\0MaxBurstLength=32768\0FirstBurstLength=32768\0";
    assert_eq!((flags(&second), text(&second)), (0x04, expected));
    let answer = "HeaderDigest=CRC32C\0DataDigest=CRC32C\0ImmediateData=No\0MaxBurstLength=32768\0\
        FirstBurstLength=16384\0";
    let (last, outcome) = finished(login.handle(&request(0x87, answer)));
    assert_eq!((flags(&last), text(&last)), (0x87, ""));
    assert!(outcome.params.header_digest && outcome.params.data_digest && !outcome.params.immediate_data);
    assert_eq!((outcome.params.max_burst_length, outcome.params.first_burst_length), (32_768, 16_384));

    // Silence, a greater number, and None are no answers.
    for answer in ["", "MaxBurstLength=65536\0", "HeaderDigest=None\0"] {
        let mut login = TargetLogin::new(offer.clone());
        ask(&mut login, &request(0x87, &format!("{NAMES}InitialR2T=No\0")));
        reply(login.admit(ADMISSION));
        assert_eq!(failed(login.handle(&request(0x87, answer))), (0x02, 0x00), "{answer:?}");
    }
}

#[test]
fn a_digest_that_is_required_or_refused() {
    let offer = |digests| TargetOffer { digests, ..TargetOffer::default() };
    let (text, outcome) = one_request(offer(DigestPolicy::Refuse), "HeaderDigest=CRC32C,None\0DataDigest=CRC32C\0");
    assert!(text.contains("HeaderDigest=None\0DataDigest=Reject\0"), "{text:?}");
    assert!(!outcome.params.header_digest && !outcome.params.data_digest);
    let mut login = TargetLogin::new(offer(DigestPolicy::Require));
    ask(&mut login, &request(0x87, &format!("{NAMES}HeaderDigest=None\0DataDigest=CRC32C\0")));
    assert_eq!(failed(login.admit(ADMISSION)), (0x02, 0x00));
}

proptest! {
    /// Whatever comes, the login gives an answer or none, and never panics.
    #[test]
    fn no_requests_panic(
        requests in prop::collection::vec((any::<u8>(), "(InitiatorName=iqn.1999-07.a\0)?(TargetName=iqn.1999-07.b\0)?([A-Z][a-z]{1,3}=[a-zA-Z0-9,~]{0,6}\0|MaxBurstLength=[0-9]{1,9}\0|AuthMethod=None\0|FirstBurstLength=[0-9]{1,9}\0){0,5}.{0,3}"), 1..8),
        opcode in prop::option::of(any::<u8>()),
        admits in any::<bool>(),
    ) {
        let mut login = login();
        for (flags, text) in &requests {
            let pdu = request(*flags, text);
            let pdu = opcode.map_or(pdu.clone(), |opcode| edited(&pdu, 0, opcode));
            if let TargetStep::Ask(_) = login.handle(&pdu) {
                let _ = if admits { login.admit(ADMISSION) } else { login.refuse(LoginStatus::NOT_FOUND) };
            }
        }
    }
}
