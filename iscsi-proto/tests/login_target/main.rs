//! The target's end of the login against Login Requests written out by hand (RFC 7143 §11.12, §11.13).

mod chap;
mod each_key;
mod fields;
mod keys;
mod long_texts;
mod odd_keys;

use std::collections::VecDeque;

use bytes::Bytes;
use iscsi_proto::login::{
    Admission, Authentication, Identity, LoginStatus, Outcome, TargetLogin, TargetOffer,
    TargetStep, Violation,
};
use iscsi_proto::params::SessionType;
use iscsi_proto::wire::framer::{self, Digests};
use iscsi_proto::wire::serial::Serial;
use iscsi_proto::wire::{Header, Pdu};
use proptest::prelude::{any, prop, proptest};

const NAMES: &str = "InitiatorName=iqn.1999-07.com.os:hostid.77\0TargetName=iqn.1999-07.com.example:diskarray.sn.88\0";
const ADMISSION: Admission = Admission {
    tsih: 0x0102,
    command_window: 32,
};
const OPEN: Authentication = Authentication {
    portal_group_tag: 3,
    none: true,
    chap: None,
};

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
    Pdu {
        header: Header::decode(&bytes),
        ahs: Bytes::new(),
        data: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn edited(pdu: &Pdu, offset: usize, value: u8) -> Pdu {
    let mut bytes: [u8; 48] = pdu.header.as_bytes().try_into().expect("48 bytes");
    bytes[offset] = value;
    Pdu {
        header: Header::decode(&bytes),
        ..pdu.clone()
    }
}

fn wire(pdu: &Pdu) -> Vec<u8> {
    let mut out = VecDeque::new();
    framer::encode(pdu, Digests::default(), &mut out);
    out.into_iter().flatten().collect()
}

fn text(pdu: &Pdu) -> &str {
    std::str::from_utf8(&pdu.data).expect("text")
}

/// The response's byte 1: T, C, CSG, NSG.
fn flags(pdu: &Pdu) -> u8 {
    pdu.header.as_bytes()[1]
}

fn ask(login: &mut TargetLogin, pdu: &Pdu) -> Identity {
    match login.handle(pdu) {
        TargetStep::Identified(identity) => identity,
        other => panic!("did not ask: {other:?}"),
    }
}

/// Lets everybody in, in answer to both questions.
fn admit(login: &mut TargetLogin) -> TargetStep {
    let step = login.authenticate(OPEN);
    settle(login, step)
}

/// A request, and what comes of it when everybody is let in.
fn handle(login: &mut TargetLogin, pdu: &Pdu) -> TargetStep {
    let step = login.handle(pdu);
    settle(login, step)
}

fn settle(login: &mut TargetLogin, step: TargetStep) -> TargetStep {
    match step {
        TargetStep::Identified(_) => admit(login),
        TargetStep::Authenticated { .. } => login.admit(ADMISSION),
        step => step,
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
    let TargetStep::Failed { reply, status, .. } = step else {
        panic!("not failed: {step:?}")
    };
    if let Some(reply) = reply {
        let bytes = reply.header.as_bytes();
        assert_eq!(
            (bytes[0], bytes[36], bytes[37]),
            (0x23, status.class, status.detail)
        );
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
    let (pdu, outcome) = finished(admit(&mut login));
    (text(&pdu).to_owned(), outcome)
}

/// RFC 7143 §4.2.4, §6.3, §11.12, §11.13: a login in two stages.
#[test]
fn two_stages_byte_for_byte() {
    let mut login = login();
    let identity = ask(
        &mut login,
        &request(
            0x81,
            &format!("{NAMES}SessionType=Normal\0AuthMethod=CHAP,None\0"),
        ),
    );
    assert_eq!(
        identity.initiator_name.as_str(),
        "iqn.1999-07.com.os:hostid.77"
    );
    assert_eq!(
        identity.target_name.unwrap().as_str(),
        "iqn.1999-07.com.example:diskarray.sn.88"
    );
    assert_eq!(
        (identity.session_type, identity.tsih, identity.cid),
        (SessionType::Normal, 0, 2)
    );
    assert_eq!(identity.isid, [0x80, 0, 0, 0, 0, 1]);

    let first = wire(&reply(admit(&mut login)));
    let header = [
        0x23, 0x81, 0x00, 0x00, 0x00, 0x00, 0x00, 0x27, 0x80, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x00, //
        0x0a, 0x0b, 0x0c, 0x0d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
        0x7b, //
        0x00, 0x00, 0x00, 0x9a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00,
    ];
    assert_eq!(first[..48], header);
    assert_eq!(first[48..], *b"TargetPortalGroupTag=3\0AuthMethod=None\0\0");

    let (last, outcome) = finished(login.handle(&request(0x87, "MaxBurstLength=65536\0")));
    let last = wire(&last);
    let header = [
        0x23, 0x87, 0x00, 0x00, 0x00, 0x00, 0x00, 0x35, 0x80, 0x00, 0x00, 0x00, 0x00, 0x01, 0x01,
        0x02, //
        0x0a, 0x0b, 0x0c, 0x0d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
        0x7b, //
        0x00, 0x00, 0x00, 0x9a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00,
    ];
    assert_eq!(last[..48], header);
    assert_eq!(
        last[48..],
        *b"MaxBurstLength=65536\0MaxRecvDataSegmentLength=262144\0\0\0\0"
    );
    assert_eq!(
        (outcome.next_cmd_sn, outcome.next_stat_sn),
        (Serial(123), Serial(3))
    );
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
    assert!(
        !params.header_digest && !params.data_digest && params.initial_r2t && params.immediate_data
    );
    assert_eq!(
        (params.max_burst_length, params.first_burst_length),
        (262_144, 65_536)
    );
    assert_eq!(
        (
            params.max_outstanding_r2t,
            params.time2wait,
            params.time2retain
        ),
        (1, 2, 20)
    );
}

/// RFC 7143 §6.3: the table of transitions.
#[test]
fn security_may_lead_straight_to_full_feature() {
    let mut login = login();
    ask(&mut login, &request(0x83, NAMES));
    let (pdu, outcome) = finished(admit(&mut login));
    assert_eq!(
        (flags(&pdu), text(&pdu)),
        (0x83, "TargetPortalGroupTag=3\0")
    );
    assert_eq!(
        outcome.params.max_recv_data_segment_length, 8192,
        "nothing else was declared"
    );
}

#[test]
fn the_alias_goes_out_with_the_first_response() {
    let offer = TargetOffer {
        target_alias: Some("Bob-s Disk".into()),
        ..TargetOffer::default()
    };
    let (text, outcome) = one_request(offer, "InitiatorAlias=x=y z\0");
    assert!(
        text.starts_with("TargetPortalGroupTag=3\0TargetAlias=Bob-s Disk\0"),
        "{text:?}"
    );
    assert_eq!(outcome.identity.initiator_alias.as_deref(), Some("x=y z"));
}

/// RFC 7143 §4.2.7, §6.3, §13.5: who and where to.
#[test]
fn names_are_needed_and_checked() {
    let first = |text: &str| failed(login().handle(&request(0x87, text)));
    let target = "TargetName=iqn.1999-07.com.example:diskarray.sn.88\0";
    let initiator = "InitiatorName=iqn.1999-07.com.os:hostid.77\0";
    assert_eq!(first(""), (0x02, 0x07));
    assert_eq!(first(target), (0x02, 0x07));
    assert_eq!(first(initiator), (0x02, 0x07));
    assert_eq!(
        first(&format!("{initiator}SessionType=Normal\0")),
        (0x02, 0x07)
    );
    assert_eq!(
        first(&format!("{initiator}{target}SessionType=Other\0")),
        (0x02, 0x09)
    );
    assert_eq!(first(&format!("{target}InitiatorName=me\0")), (0x02, 0x00));
    assert_eq!(
        first(&format!("{initiator}TargetName=disk\0")),
        (0x02, 0x03)
    );
}

/// RFC 7143 §6.3.2, §12.1: without a method in common there is no session.
#[test]
fn authentication_that_we_lack_fails() {
    let step = handle(
        &mut login(),
        &request(0x81, &format!("{NAMES}AuthMethod=CHAP\0")),
    );
    let TargetStep::Failed {
        reply: Some(pdu),
        status,
        violation: Some(Violation::Authentication),
    } = step
    else {
        panic!("{step:?}")
    };
    assert_eq!(
        (status, text(&pdu)),
        (
            LoginStatus {
                class: 2,
                detail: 1
            },
            "AuthMethod=Reject\0"
        )
    );
    assert_eq!(flags(&pdu), 0, "T, CSG and NSG are reserved in a refusal");
}

/// RFC 7143 §6.3, §11.12.3.
#[test]
fn stages_follow_the_rules_of_the_standard() {
    // Reserved CSG, full feature as CSG, T without progress, T and C together, reserved NSG.
    for bad in [0x08, 0x0c, 0x8f, 0x80, 0x84, 0x85, 0x82, 0x86, 0xc1, 0xc7] {
        assert_eq!(
            failed(login().handle(&request(bad, NAMES))),
            (0x02, 0x00),
            "{bad:#04x}"
        );
    }
    let mut skipped = login();
    ask(&mut skipped, &request(0x00, NAMES));
    reply(admit(&mut skipped));
    assert_eq!(
        failed(skipped.handle(&request(0x87, ""))),
        (0x02, 0x00),
        "the stage was not left"
    );
}

#[test]
fn what_belongs_to_another_login_ends_this_one() {
    // Version-min; then ISID, TSIH, task tag, CID of a second request.
    assert_eq!(
        failed(login().handle(&edited(&request(0x87, NAMES), 3, 1))),
        (0x02, 0x05)
    );
    for offset in [13, 15, 19, 21] {
        let mut login = login();
        ask(&mut login, &request(0x81, NAMES));
        reply(admit(&mut login));
        let other = edited(&request(0x87, ""), offset, 0x55);
        assert_eq!(failed(login.handle(&other)), (0x02, 0x00), "byte {offset}");
    }
    let mut newer = login();
    ask(&mut newer, &edited(&request(0x87, NAMES), 2, 9));
    let (pdu, _) = finished(admit(&mut newer));
    assert_eq!(
        pdu.header.as_bytes()[2..4],
        [0, 0],
        "Version-max and Version-active"
    );
}

/// RFC 7143 §4.2.4, §11.13.5: nothing but logins until the full feature phase.
#[test]
fn other_pdus_are_invalid_during_login() {
    let nop = edited(&request(0x80, ""), 0, 0x40);
    assert_eq!(
        login().handle(&nop),
        TargetStep::Failed {
            reply: None,
            status: LoginStatus::INVALID_DURING_LOGIN,
            violation: Some(Violation::NotALogin),
        }
    );
    let mut login = login();
    ask(&mut login, &request(0x81, NAMES));
    reply(admit(&mut login));
    assert_eq!(failed(login.handle(&nop)), (0x02, 0x0b));
    let after = login.handle(&request(0x87, ""));
    assert!(
        matches!(after, TargetStep::Failed { reply: None, .. }),
        "what has failed stays silent"
    );
}

/// RFC 7143 §6.3: one request is outstanding at most.
#[test]
fn one_request_at_a_time() {
    let mut login = login();
    ask(&mut login, &request(0x81, NAMES));
    assert_eq!(failed(login.handle(&request(0x81, ""))), (0x02, 0x00));
}

/// RFC 7143 §11.13.5, §13.8, §6.3.1: refusals, redirections and sessions that do not exist.
#[test]
fn the_driver_decides() {
    let mut refused = login();
    ask(&mut refused, &request(0x81, NAMES));
    assert_eq!(
        failed(refused.refuse(LoginStatus::AUTHORIZATION_FAILURE)),
        (0x02, 0x02)
    );

    let mut moved = login();
    ask(&mut moved, &request(0x81, NAMES));
    let TargetStep::Failed {
        reply: Some(pdu),
        status,
        violation: None,
    } = moved.redirect("10.0.0.2:3260,1", false)
    else {
        panic!()
    };
    assert_eq!(
        (status.class, status.detail, text(&pdu)),
        (1, 1, "TargetAddress=10.0.0.2:3260\0")
    );
    assert_eq!(pdu.header.as_bytes()[36..38], [0x01, 0x01]);

    let mut adding = login();
    let identity = ask(&mut adding, &edited(&request(0x81, NAMES), 15, 7));
    assert_eq!(identity.tsih, 7, "a connection for an existing session");
    assert_eq!(
        failed(adding.refuse(LoginStatus::SESSION_DOES_NOT_EXIST)),
        (0x02, 0x0a)
    );

    let mut twice = login();
    assert_eq!(failed(twice.admit(ADMISSION)), (0x03, 0x00), "nobody asked");
    ask(&mut login(), &request(0x81, NAMES));
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
            let pdu = opcode.map_or_else(|| pdu.clone(), |opcode| edited(&pdu, 0, opcode));
            let step = login.handle(&pdu);
            let _ = if admits { settle(&mut login, step) } else { login.refuse(LoginStatus::NOT_FOUND) };
        }
    }
}
