//! The initiator's end of the login against Login Responses written out by hand, as good, odd and hostile targets send
//! them (RFC 7143 §11.12, §11.13).

mod chap;

use std::collections::VecDeque;

use bytes::Bytes;
use iscsi_proto::login::{
    DigestChoice, InitiatorLogin, InitiatorOffer, InitiatorOutcome, InitiatorStep, LoginError,
    LoginStatus, Operational,
};
use iscsi_proto::params::Key;
use iscsi_proto::wire::framer::{self, Digests};
use iscsi_proto::wire::serial::Serial;
use iscsi_proto::wire::{Header, Pdu};
use proptest::prelude::{any, prop, proptest};

const ISID: [u8; 6] = [0x80, 0, 0, 0, 0, 1];

fn offer() -> InitiatorOffer {
    let initiator = "iqn.1999-07.com.os:hostid.77".parse().expect("a name");
    let target = "iqn.1999-07.com.example:diskarray.sn.88"
        .parse()
        .expect("a name");
    InitiatorOffer {
        cmd_sn: Serial(123),
        cid: 2,
        ..InitiatorOffer::normal(initiator, target, ISID)
    }
}

/// A Login Response to task tag 0: StatSN 9, ExpCmdSN 123, MaxCmdSN 154.
fn response(flags: u8, text: &str) -> Pdu {
    let mut bytes = [0; 48];
    bytes[0] = 0x23;
    bytes[1] = flags;
    bytes[8..14].copy_from_slice(&ISID);
    bytes[14..16].copy_from_slice(if flags & 0x83 == 0x83 {
        &[0x01, 0x02]
    } else {
        &[0, 0]
    });
    bytes[27] = 9;
    bytes[31] = 123;
    bytes[35] = 154;
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

fn refusal(class: u8, detail: u8, text: &str) -> Pdu {
    edited(&edited(&response(0, text), 36, class), 37, detail)
}

fn wire(pdu: &Pdu) -> Vec<u8> {
    let mut out = VecDeque::new();
    framer::encode(pdu, Digests::default(), &mut out);
    out.into_iter().flatten().collect()
}

/// Byte 1 and the text.
fn parts(pdu: &Pdu) -> (u8, &str) {
    (
        pdu.header.as_bytes()[1],
        std::str::from_utf8(&pdu.data).expect("text"),
    )
}

fn sent(step: Result<InitiatorStep, LoginError>) -> Pdu {
    match step {
        Ok(InitiatorStep::Send(pdu)) => pdu,
        other => panic!("sent nothing: {other:?}"),
    }
}

fn finished(step: Result<InitiatorStep, LoginError>) -> InitiatorOutcome {
    match step {
        Ok(InitiatorStep::Finished(outcome)) => outcome,
        other => panic!("not finished: {other:?}"),
    }
}

/// A login in its operational stage, the proposals sent.
fn operational(offer: InitiatorOffer) -> InitiatorLogin {
    let mut login = InitiatorLogin::new(InitiatorOffer {
        skip_security: true,
        ..offer
    });
    let first = login.start();
    assert_eq!(parts(&first).0, 0x87);
    login
}

const ACCEPTED: &str = "HeaderDigest=None\0DataDigest=None\0MaxConnections=1\0InitialR2T=No\0ImmediateData=Yes\0\
    MaxBurstLength=262144\0FirstBurstLength=65536\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0MaxOutstandingR2T=1\0\
    DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0\0MaxRecvDataSegmentLength=131072\0";

/// RFC 7143 §4.2.4, §6.3, §11.12, §11.13: a login in two stages.
#[test]
fn two_stages_byte_for_byte() {
    let mut login = InitiatorLogin::new(offer());
    let first = wire(&login.start());
    let header = [
        0x43, 0x81, 0x00, 0x00, 0x00, 0x00, 0x00, 0x81, 0x80, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x00, //
        0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x7b, 0x00, 0x00, 0x00,
        0x00, //
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00,
    ];
    assert_eq!(first[..48], header);
    assert_eq!(
        first[48..],
        *b"InitiatorName=iqn.1999-07.com.os:hostid.77\0TargetName=iqn.1999-07.com.example:diskarray.sn.88\0\
           SessionType=Normal\0AuthMethod=None\0\0\0\0"
    );

    let second = wire(&sent(
        login.handle(&response(0x81, "TargetPortalGroupTag=3\0AuthMethod=None\0")),
    ));
    let text =
        b"HeaderDigest=None\0DataDigest=None\0MaxConnections=1\0InitialR2T=No\0ImmediateData=Yes\0\
        MaxBurstLength=1048576\0FirstBurstLength=262144\0DefaultTime2Wait=0\0DefaultTime2Retain=0\0\
        MaxOutstandingR2T=4\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0\0\
        MaxRecvDataSegmentLength=262144\0";
    assert_eq!((second[0], second[1]), (0x43, 0x87));
    assert_eq!(
        second[24..32],
        [0, 0, 0, 123, 0, 0, 0, 10],
        "the same CmdSN, and the response acknowledged"
    );
    assert_eq!(second[48..48 + text.len()], *text);

    let outcome = finished(login.handle(&response(0x87, ACCEPTED)));
    assert_eq!((outcome.tsih, outcome.portal_group_tag), (0x0102, Some(3)));
    assert_eq!(
        (outcome.cmd_sn, outcome.exp_stat_sn),
        (Serial(123), Serial(10))
    );
    assert_eq!(
        (outcome.exp_cmd_sn, outcome.max_cmd_sn),
        (Serial(123), Serial(154))
    );
    let params = outcome.params;
    assert!(
        !params.initial_r2t
            && params.immediate_data
            && !params.header_digest
            && !params.data_digest
    );
    assert_eq!(
        (params.max_burst_length, params.first_burst_length),
        (262_144, 65_536)
    );
    assert_eq!(
        (
            params.max_recv_data_segment_length,
            params.max_send_data_segment_length
        ),
        (262_144, 131_072)
    );
    assert_eq!(
        (
            params.max_outstanding_r2t,
            params.time2wait,
            params.time2retain
        ),
        (1, 2, 0)
    );
}

#[test]
fn discovery_says_less() {
    let initiator = "iqn.1999-07.com.os:hostid.77".parse().expect("a name");
    let mut login = InitiatorLogin::new(InitiatorOffer::discovery(initiator, ISID));
    let first = login.start();
    let names =
        "InitiatorName=iqn.1999-07.com.os:hostid.77\0SessionType=Discovery\0AuthMethod=None\0";
    assert_eq!(parts(&first), (0x81, names));
    let second = sent(login.handle(&response(0x81, "AuthMethod=None\0")));
    let keys = "HeaderDigest=None\0DataDigest=None\0DefaultTime2Wait=0\0DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0\
        MaxRecvDataSegmentLength=262144\0";
    assert_eq!(parts(&second), (0x87, keys));
    assert_eq!(
        finished(login.handle(&response(0x87, ""))).portal_group_tag,
        None
    );
}

/// RFC 7143 §6.3.3: a negotiation may take several exchanges.
#[test]
fn a_target_may_answer_one_key_at_a_time() {
    let mut login = operational(offer());
    for pair in ACCEPTED.split_inclusive('\0') {
        let next = sent(login.handle(&response(0x04, pair)));
        assert_eq!(parts(&next), (0x87, ""));
    }
    let params = finished(login.handle(&response(0x87, ""))).params;
    assert_eq!(
        (params.max_burst_length, params.max_send_data_segment_length),
        (262_144, 131_072)
    );
}

#[test]
fn a_target_may_echo_declarations_and_propose_keys() {
    let mut login = operational(offer());
    let odd = "InitiatorName=iqn.1999-07.com.os:hostid.77\0InitiatorAlias=x\0TargetAlias=Bob-s Disk\0\
        X-com.example.key=7\0IFMarker=No\0TaskReporting=FastAbort,RFC3720\0MaxBurstLength=262144\0";
    let next = sent(login.handle(&response(0x04, odd)));
    assert_eq!(
        parts(&next),
        (
            0x87,
            "X-com.example.key=NotUnderstood\0IFMarker=No\0TaskReporting=RFC3720\0"
        )
    );
    let last = "TargetAddress=10.0.0.1,1\0TargetAddress=10.0.0.2,1\0SessionType=Normal\0InitiatorName=iqn.1999-07.com.os:hostid.77\0";
    assert_eq!(
        finished(login.handle(&response(0x87, last)))
            .target_alias
            .as_deref(),
        Some("Bob-s Disk")
    );
}

#[test]
fn what_a_target_leaves_open_is_taken_carefully() {
    let params =
        finished(operational(offer()).handle(&response(0x87, "InitialR2T=Reject\0"))).params;
    assert!(params.initial_r2t, "the default is Yes");
    // The smaller of the default and what we asked for; the target may think of either.
    assert_eq!(
        (params.max_burst_length, params.first_burst_length),
        (262_144, 65_536)
    );
    assert_eq!(
        (
            params.max_outstanding_r2t,
            params.max_send_data_segment_length
        ),
        (1, 8192)
    );
    let small = InitiatorOffer {
        operational: Operational {
            max_burst_length: 16_384,
            immediate_data: false,
            ..Operational::default()
        },
        ..offer()
    };
    let params = finished(operational(small).handle(&response(0x87, ""))).params;
    assert_eq!(
        (
            params.max_burst_length,
            params.first_burst_length,
            params.immediate_data
        ),
        (16_384, 16_384, false)
    );
}

/// RFC 7143 §6.2.1, §6.2.2, §7.12: a selection that the rules do not admit is a protocol error.
#[test]
fn answers_that_no_target_may_give_end_the_login() {
    for (answer, key) in [
        ("MaxBurstLength=1048577\0", Key::MaxBurstLength),
        ("MaxBurstLength=511\0", Key::MaxBurstLength),
        ("MaxBurstLength=x\0", Key::MaxBurstLength),
        ("DefaultTime2Wait=4\0", Key::DefaultTime2Wait),
        ("HeaderDigest=CRC32C\0", Key::HeaderDigest),
        ("HeaderDigest=None,CRC32C\0", Key::HeaderDigest),
        ("DataPDUInOrder=No\0", Key::DataPduInOrder),
        ("ErrorRecoveryLevel=1\0", Key::ErrorRecoveryLevel),
        ("MaxConnections=2\0", Key::MaxConnections),
    ] {
        let step = operational(InitiatorOffer {
            operational: Operational {
                time2wait: 5,
                ..Operational::default()
            },
            ..offer()
        })
        .handle(&response(0x04, answer));
        assert_eq!(step, Err(LoginError::BadAnswer(key)), "{answer:?}");
    }
    for (answer, key) in [
        (
            "MaxRecvDataSegmentLength=100\0",
            Key::MaxRecvDataSegmentLength,
        ),
        ("TargetPortalGroupTag=65536\0", Key::TargetPortalGroupTag),
        ("TaskReporting=Irrelevant\0", Key::TaskReporting),
    ] {
        let step = operational(offer()).handle(&response(0x04, answer));
        assert_eq!(step, Err(LoginError::BadKey(key)), "{answer:?}");
    }
    for answer in ["MaxBurstLength=512\0MaxBurstLength=512\0", "X-a=1\0X-a=1\0"] {
        assert_eq!(
            operational(offer()).handle(&response(0x04, answer)),
            Err(LoginError::Redeclared)
        );
    }
    assert!(matches!(
        operational(offer()).handle(&response(0x87, "x")),
        Err(LoginError::Text(_))
    ));
}

#[test]
fn digests_are_offered_in_the_order_of_preference_and_may_be_a_condition() {
    for (choice, list) in [
        (DigestChoice::None, "None"),
        (DigestChoice::PreferNone, "None,CRC32C"),
        (DigestChoice::PreferCrc32c, "CRC32C,None"),
        (DigestChoice::Crc32c, "CRC32C"),
    ] {
        let offer = InitiatorOffer {
            header_digest: choice,
            data_digest: choice,
            skip_security: true,
            ..offer()
        };
        let mut login = InitiatorLogin::new(offer);
        let first = login.start();
        assert!(
            parts(&first)
                .1
                .contains(&format!("\0HeaderDigest={list}\0DataDigest={list}\0")),
            "{first:?}"
        );
        let step = login.handle(&response(0x87, "HeaderDigest=Reject\0"));
        if choice == DigestChoice::Crc32c {
            assert_eq!(
                step,
                Err(LoginError::BadAnswer(Key::HeaderDigest)),
                "without a digest we do not go on"
            );
        } else {
            assert!(!finished(step).params.header_digest);
        }
    }
    let crc = InitiatorOffer {
        header_digest: DigestChoice::PreferCrc32c,
        ..offer()
    };
    let params = finished(operational(crc).handle(&response(0x87, "HeaderDigest=CRC32C\0"))).params;
    assert!(params.header_digest && !params.data_digest);
}

/// RFC 7143 §11.13.5, §13.8.
#[test]
fn redirections_lead_to_the_address() {
    for (value, address) in [
        ("10.0.0.2:3261", "10.0.0.2:3261"),
        ("10.0.0.2", "10.0.0.2:3260"),
        ("10.0.0.2:3261,1", "10.0.0.2:3261"),
        ("[fd00::2]", "[fd00::2]:3260"),
        ("[fd00::2]:3261,1", "[fd00::2]:3261"),
        ("node7.example", "node7.example:3260"),
    ] {
        let text = format!("TargetAddress={value}\0TargetAddress=10.0.0.9\0");
        for (detail, permanent) in [(1, false), (2, true), (9, false)] {
            let mut login = InitiatorLogin::new(offer());
            login.start();
            let step = login.handle(&refusal(1, detail, &text));
            let expected = InitiatorStep::Redirect {
                address: address.to_owned(),
                permanent,
            };
            assert_eq!(step, Ok(expected));
        }
    }
    for text in [
        "",
        "TargetName=iqn.1999-07.a\0",
        "TargetAddress=\0",
        "TargetAddress=a:b\0",
    ] {
        assert_eq!(
            operational(offer()).handle(&refusal(1, 1, text)),
            Err(LoginError::NoAddress),
            "{text:?}"
        );
    }
}

/// RFC 7143 §11.13.5.
#[test]
fn refusals_are_told() {
    for (class, detail) in [(2, 1), (2, 3), (3, 1), (3, 2), (2, 0x77), (9, 9)] {
        let step = operational(offer()).handle(&refusal(class, detail, "AuthMethod=Reject\0"));
        assert_eq!(
            step,
            Ok(InitiatorStep::Refused(LoginStatus { class, detail }))
        );
    }
}

/// RFC 7143 §11.13.6, §6.3.
#[test]
fn stages_follow_the_rules_of_the_standard() {
    // Another stage, a stage beyond the one asked for, reserved codes, T and C together.
    for flags in [0x04, 0x83, 0x87, 0x80, 0x82, 0x08, 0x0c, 0xc1] {
        let mut login = InitiatorLogin::new(offer());
        login.start();
        assert_eq!(
            login.handle(&response(flags, "")),
            Err(LoginError::BadTransition),
            "{flags:#04x}"
        );
    }
}

#[test]
fn other_pdus_do_not_belong_here() {
    let mut login = operational(offer());
    assert_eq!(
        login.handle(&edited(&response(0x87, ""), 0, 0x20)),
        Err(LoginError::UnexpectedPdu)
    );
    assert_eq!(
        login.handle(&edited(&response(0x87, ""), 19, 1)),
        Err(LoginError::UnexpectedPdu)
    );
    assert_eq!(
        login.handle(&edited(&response(0x87, ""), 3, 1)),
        Err(LoginError::BadField)
    );
}

/// RFC 7143 §6.1, §6.2, §11.13.7.
#[test]
fn a_long_response_is_put_together() {
    let mut login = operational(offer());
    let alias = "a".repeat(60);
    let whole = format!("TargetAlias={alias}\0{ACCEPTED}");
    for piece in [&whole[..5], &whole[5..90]] {
        assert_eq!(
            parts(&sent(login.handle(&response(0x44, piece)))),
            (0x87, ""),
            "an empty request fetches more"
        );
    }
    let outcome = finished(login.handle(&response(0x87, &whole[90..])));
    assert_eq!(outcome.target_alias.as_deref(), Some(alias.as_str()));
}

/// RFC 7143 §6.2, §11.12.2.
#[test]
fn a_long_request_is_sent_in_pieces() {
    let mut login = operational(offer());
    let unknown: String = (0..600).map(|number| format!("X-{number}=1\0")).collect();
    let first = sent(login.handle(&response(0x04, &unknown)));
    assert_eq!((parts(&first).0, first.data.len()), (0x44, 8192));
    let mut hasty = operational(offer());
    sent(hasty.handle(&response(0x04, &unknown)));
    assert_eq!(
        hasty.handle(&response(0x04, "X-601=1\0")),
        Err(LoginError::BadTransition)
    );
    let last = sent(login.handle(&response(0x04, "")));
    let expected: String = (0..600)
        .map(|number| format!("X-{number}=NotUnderstood\0"))
        .collect();
    let whole = [&first.data[..], &last.data[..]].concat();
    assert_eq!(
        (parts(&last).0, std::str::from_utf8(&whole).expect("text")),
        (0x87, expected.as_str())
    );
    finished(login.handle(&response(0x87, "")));
}

/// RFC 7143 §6.2: "a reasonable [...] number of exchanges".
#[test]
fn endless_logins_end() {
    let mut login = operational(offer());
    for _ in 0..128 {
        sent(login.handle(&response(0x04, "")));
    }
    assert_eq!(login.handle(&response(0x04, "")), Err(LoginError::TooLong));
    let mut login = operational(offer());
    let piece = "x".repeat(8192);
    for _ in 0..8 {
        sent(login.handle(&response(0x44, &piece)));
    }
    assert!(matches!(
        login.handle(&response(0x44, "x")),
        Err(LoginError::Text(_))
    ));
}

proptest! {
    /// Whatever comes, the login gives a step or an error, and never panics.
    #[test]
    fn no_responses_panic(
        responses in prop::collection::vec((any::<u8>(), prop::sample::select(vec![0u8, 0, 0, 1, 2]), "(Target(Address|Name|PortalGroupTag)=[a-z0-9:,]{0,9}\0|MaxBurstLength=[0-9]{1,9}\0|[A-Z][a-z]{1,3}=[a-zA-Z0-9,~]{0,6}\0){0,5}.{0,3}"), 1..8),
        skip_security in any::<bool>(),
    ) {
        let mut login = InitiatorLogin::new(InitiatorOffer { skip_security, ..offer() });
        login.start();
        for (flags, class, text) in &responses {
            let _ = login.handle(&edited(&response(*flags, text), 36, *class));
        }
    }
}
