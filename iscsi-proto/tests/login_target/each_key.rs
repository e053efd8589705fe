//! The keys of RFC 7143 §13 one by one: who may send them when, what is answered, what holds in the end, and what
//! holds without them.

use iscsi_proto::login::{DigestPolicy, Operational, TargetLogin, TargetOffer};
use iscsi_proto::params::{Params, SessionType};

use crate::{NAMES, failed, finished, handle, login, request, text};

const INITIATOR: &str = "InitiatorName=iqn.1999-07.com.os:hostid.77\0";
const TARGET: &str = "TargetName=iqn.1999-07.com.example:diskarray.sn.88\0";

/// The answers to an operational request, without what the target says anyway, and what holds then.
fn settled(offer: &TargetOffer, names: &str, keys: &str) -> (String, Params) {
    let mut login = TargetLogin::new(offer.clone());
    let (pdu, outcome) = finished(handle(
        &mut login,
        &request(0x87, &format!("{names}{keys}")),
    ));
    let answers = text(&pdu)
        .strip_prefix("TargetPortalGroupTag=3\0")
        .and_then(|text| text.strip_suffix("MaxRecvDataSegmentLength=262144\0"))
        .expect("what the target says anyway");
    (answers.to_owned(), outcome.params)
}

pub(crate) fn normal(keys: &str) -> (String, Params) {
    settled(&TargetOffer::default(), NAMES, keys)
}

pub(crate) fn discovery(keys: &str) -> (String, Params) {
    let names = format!("{INITIATOR}SessionType=Discovery\0");
    settled(&TargetOffer::default(), &names, keys)
}

/// The status of a first request in the stage of these flags.
pub(crate) fn status(flags: u8, keys: &str) -> (u8, u8) {
    failed(handle(&mut login(), &request(flags, keys)))
}

/// What is proposed, and what is answered: in a normal session, then in a discovery session.
fn answered(key: &str, table: &[(&str, &str, &str)]) {
    for (proposed, in_normal, in_discovery) in table {
        let keys = format!("{key}={proposed}\0");
        assert_eq!(normal(&keys).0, format!("{key}={in_normal}\0"), "{keys:?}");
        assert_eq!(
            discovery(&keys).0,
            format!("{key}={in_discovery}\0"),
            "{keys:?} in discovery"
        );
    }
    // Operational keys do not belong to the security stage, and come once.
    let once = format!("{NAMES}{key}={}\0", table[0].0);
    assert_eq!(status(0x81, &once), (2, 0), "{key} in the security stage");
    assert_eq!(
        status(0x87, &format!("{once}{key}={}\0", table[0].0)),
        (2, 0),
        "{key} twice"
    );
    for reserved in ["Irrelevant", "NotUnderstood", "Reject"] {
        let keys = format!("{NAMES}{key}={reserved}\0");
        assert_eq!(
            status(0x87, &keys),
            (2, 0),
            "{keys:?}: a word for answers only"
        );
    }
}

/// RFC 7143 §13.1: a list, of which the first known value counts; default None.
#[test]
fn digests() {
    for key in ["HeaderDigest", "DataDigest"] {
        answered(
            key,
            &[
                ("None", "None", "None"),
                ("CRC32C", "CRC32C", "CRC32C"),
                ("CRC32C,None", "CRC32C", "CRC32C"),
                ("None,CRC32C", "None", "None"),
                ("Y-com.example.sum,CRC32C", "CRC32C", "CRC32C"),
                ("crc32c", "Reject", "Reject"),
                ("CRC32C ", "Reject", "Reject"),
                ("", "Reject", "Reject"),
            ],
        );
    }
    let (_, params) = normal("HeaderDigest=CRC32C\0");
    assert!(params.header_digest && !params.data_digest);
    let (_, params) = normal("DataDigest=CRC32C,None\0HeaderDigest=None,CRC32C\0");
    assert!(!params.header_digest && params.data_digest);
    let (_, params) = normal("");
    assert!(!params.header_digest && !params.data_digest);
    let refusing = TargetOffer {
        digests: DigestPolicy::Refuse,
        ..TargetOffer::default()
    };
    let (answers, _) = settled(&refusing, NAMES, "HeaderDigest=CRC32C,None\0");
    assert_eq!(answers, "HeaderDigest=None\0");
}

/// RFC 7143 §13.2: 1 to 65,535, the minimum counts, irrelevant in discovery; we have one connection per session.
#[test]
fn max_connections() {
    answered(
        "MaxConnections",
        &[
            ("1", "1", "Irrelevant"),
            ("8", "1", "Irrelevant"),
            ("65535", "1", "Irrelevant"),
            ("0xffff", "1", "Irrelevant"),
            ("0", "Reject", "Irrelevant"),
            ("65536", "Reject", "Irrelevant"),
        ],
    );
}

/// RFC 7143 §13.3: SendTargets is for the full feature phase only.
#[test]
fn send_targets() {
    assert_eq!(status(0x87, &format!("{NAMES}SendTargets=All\0")), (2, 0));
    assert_eq!(status(0x81, &format!("{NAMES}SendTargets=All\0")), (2, 0));
}

/// RFC 7143 §13.4, §13.5 and §4.2.7.1: the names come first, in either stage, with up to 223 bytes, and never again.
#[test]
fn names() {
    let long = format!("iqn.1999-07.com.os:{}", "x".repeat(204));
    assert_eq!(long.len(), 223);
    for flags in [0x81, 0x87] {
        let keys = format!("InitiatorName={long}\0TargetName={long}\0");
        let mut login = login();
        let step = handle(&mut login, &request(flags, &keys));
        assert!(
            !matches!(step, iscsi_proto::login::TargetStep::Failed { .. }),
            "{step:?}"
        );
        assert_eq!(
            failed(login.handle(&request(0x87, INITIATOR))),
            (2, 0),
            "again"
        );
        assert_eq!(
            status(flags, &format!("{INITIATOR}TargetName={long}x\0")),
            (2, 3)
        );
        assert_eq!(
            status(flags, &format!("{TARGET}InitiatorName={long}x\0")),
            (2, 0)
        );
        assert_eq!(status(flags, &format!("{NAMES}{TARGET}")), (2, 0), "twice");
    }
    // Not known to be missing before the whole text is there; but then.
    assert_eq!(status(0x87, TARGET), (2, 7));
    assert_eq!(status(0x87, INITIATOR), (2, 7));
}

/// RFC 7143 §13.6, §13.7: aliases are UTF-8 for people, in either stage, from one side each.
#[test]
fn aliases() {
    let offer = TargetOffer {
        target_alias: Some("Bobs Diskstöße".to_owned()),
        ..TargetOffer::default()
    };
    for (flags, expected) in [(0x87, Some("Server 4 / ü")), (0x83, Some("Server 4 / ü"))] {
        let mut login = TargetLogin::new(offer.clone());
        let keys = format!("{NAMES}InitiatorAlias=Server 4 / ü\0");
        let (pdu, outcome) = finished(handle(&mut login, &request(flags, &keys)));
        assert!(text(&pdu).starts_with("TargetPortalGroupTag=3\0TargetAlias=Bobs Diskstöße\0"));
        assert_eq!(outcome.identity.initiator_alias.as_deref(), expected);
    }
    let (answers, _) = settled(&offer, &format!("{INITIATOR}SessionType=Discovery\0"), "");
    assert_eq!(answers, "", "not in discovery");
    let unsayable = TargetOffer {
        target_alias: Some("x".repeat(256)),
        ..offer
    };
    assert_eq!(settled(&unsayable, NAMES, "").0, "", "too long to be said");
    let mut listening = login();
    let keys = format!("{NAMES}InitiatorAlias={}\0", "y".repeat(256));
    let (_, outcome) = finished(handle(&mut listening, &request(0x87, &keys)));
    assert_eq!(
        outcome.identity.initiator_alias, None,
        "too long to be kept"
    );
    assert_eq!(status(0x87, &format!("{NAMES}TargetAlias=mine\0")), (2, 0));
}

/// RFC 7143 §13.8, §13.9: addresses and portal groups are the target's to tell.
#[test]
fn what_only_targets_tell() {
    for key in ["TargetAddress=10.0.0.1:3260,1", "TargetPortalGroupTag=1"] {
        for flags in [0x81, 0x87] {
            assert_eq!(status(flags, &format!("{NAMES}{key}\0")), (2, 0), "{key}");
        }
    }
}

/// RFC 7143 §13.10: OR, default Yes.
#[test]
fn initial_r2t() {
    answered(
        "InitialR2T",
        &[
            ("Yes", "Yes", "Irrelevant"),
            ("No", "No", "Irrelevant"),
            ("yes", "Reject", "Irrelevant"),
            ("1", "Reject", "Irrelevant"),
            ("Yes,No", "Reject", "Irrelevant"),
        ],
    );
    assert!(normal("").1.initial_r2t);
    assert!(!normal("InitialR2T=No\0").1.initial_r2t);
    let insisting = TargetOffer {
        operational: Operational {
            initial_r2t: true,
            ..Operational::default()
        },
        ..TargetOffer::default()
    };
    let (answers, params) = settled(&insisting, NAMES, "InitialR2T=No\0");
    assert_eq!(
        (answers.as_str(), params.initial_r2t),
        ("InitialR2T=Yes\0", true)
    );
}

/// RFC 7143 §13.11: AND, default Yes.
#[test]
fn immediate_data() {
    answered(
        "ImmediateData",
        &[
            ("Yes", "Yes", "Irrelevant"),
            ("No", "No", "Irrelevant"),
            ("NO", "Reject", "Irrelevant"),
            ("", "Reject", "Irrelevant"),
        ],
    );
    assert!(normal("").1.immediate_data);
    assert!(!normal("ImmediateData=No\0").1.immediate_data);
    assert!(
        normal("ImmediateData=0\0").1.immediate_data,
        "what was rejected changes nothing"
    );
}

/// RFC 7143 §13.12: declared by each side for itself, 512 to 2**24 - 1, default 8,192; never answered.
#[test]
fn max_recv_data_segment_length() {
    for (declared, holds) in [("512", 512), ("16777215", 16_777_215), ("0x1000", 4096)] {
        for of in [normal, discovery] {
            let (answers, params) = of(&format!("MaxRecvDataSegmentLength={declared}\0"));
            assert_eq!(
                (answers.as_str(), params.max_send_data_segment_length),
                ("", holds)
            );
            assert_eq!(params.max_recv_data_segment_length, 262_144);
        }
    }
    assert_eq!(normal("").1.max_send_data_segment_length, 8192);
    for declared in ["0", "511", "16777216", "many", "512~1024", "Irrelevant"] {
        let keys = format!("{NAMES}MaxRecvDataSegmentLength={declared}\0");
        assert_eq!(status(0x87, &keys), (2, 0), "{declared}");
    }
    let early = format!("{NAMES}MaxRecvDataSegmentLength=4096\0");
    assert_eq!(status(0x81, &early), (2, 0));
}

/// RFC 7143 §13.13: 512 to 2**24 - 1, the minimum counts, default 262,144.
#[test]
fn max_burst_length() {
    answered(
        "MaxBurstLength",
        &[
            ("512", "512", "Irrelevant"),
            ("16777215", "1048576", "Irrelevant"),
            ("0X10000", "65536", "Irrelevant"),
            ("511", "Reject", "Irrelevant"),
            ("16777216", "Reject", "Irrelevant"),
            ("1024~2048", "Reject", "Irrelevant"),
        ],
    );
    assert_eq!(normal("").1.max_burst_length, 262_144);
    assert_eq!(normal("MaxBurstLength=4096\0").1.max_burst_length, 4096);
}

/// RFC 7143 §13.14: as MaxBurstLength, which it must not exceed, default 65,536; irrelevant without unsolicited data.
#[test]
fn first_burst_length() {
    answered(
        "FirstBurstLength",
        &[
            ("512", "512", "Irrelevant"),
            // Both ends leave MaxBurstLength at 262,144.
            ("16777215", "262144", "Irrelevant"),
            ("511", "Reject", "Irrelevant"),
            ("16777216", "Reject", "Irrelevant"),
        ],
    );
    assert_eq!(normal("").1.first_burst_length, 65_536);
    assert_eq!(normal("MaxBurstLength=4096\0").1.first_burst_length, 4096);
    for (keys, answer) in [
        ("FirstBurstLength=65536\0MaxBurstLength=512\0", "512"),
        ("MaxBurstLength=65536\0FirstBurstLength=65537\0", "65536"),
        ("ImmediateData=No\0FirstBurstLength=512\0", "Irrelevant"),
        (
            "FirstBurstLength=512\0InitialR2T=Yes\0ImmediateData=No\0",
            "Irrelevant",
        ),
        (
            "FirstBurstLength=512\0InitialR2T=No\0ImmediateData=No\0",
            "512",
        ),
        (
            "FirstBurstLength=512\0InitialR2T=Yes\0ImmediateData=Yes\0",
            "512",
        ),
    ] {
        let (answers, _) = normal(keys);
        assert!(
            answers.contains(&format!("FirstBurstLength={answer}\0")),
            "{keys:?}: {answers:?}"
        );
    }
}

/// RFC 7143 §13.14, §6.2 "integrity rules": what was agreed upon in pieces may not go together.
#[test]
fn bursts_that_do_not_go_together_end_the_login() {
    let mut login = login();
    let keys = format!("{NAMES}FirstBurstLength=65536\0");
    crate::reply(handle(&mut login, &request(0x04, &keys)));
    assert_eq!(
        failed(login.handle(&request(0x87, "MaxBurstLength=32768\0"))),
        (2, 0)
    );
}

/// RFC 7143 §13.15: 0 to 3,600, the maximum counts, default 2; §13.16: the minimum counts, default 20.
#[test]
fn times() {
    answered(
        "DefaultTime2Wait",
        &[
            ("0", "0", "0"),
            ("3600", "3600", "3600"),
            ("3601", "Reject", "Reject"),
            ("two", "Reject", "Reject"),
        ],
    );
    answered(
        "DefaultTime2Retain",
        &[
            ("0", "0", "0"),
            ("3600", "0", "0"),
            ("3601", "Reject", "Reject"),
            ("-1", "Reject", "Reject"),
        ],
    );
    let (_, params) = normal("");
    assert_eq!((params.time2wait, params.time2retain), (2, 20));
    let patient = TargetOffer {
        operational: Operational {
            time2wait: 7,
            time2retain: 30,
            ..Operational::default()
        },
        ..TargetOffer::default()
    };
    let (answers, params) = settled(
        &patient,
        NAMES,
        "DefaultTime2Wait=3\0DefaultTime2Retain=99\0",
    );
    assert_eq!(answers, "DefaultTime2Wait=7\0DefaultTime2Retain=30\0");
    assert_eq!((params.time2wait, params.time2retain), (7, 30));
}

/// RFC 7143 §13.17: 1 to 65,535, the minimum counts, default 1.
#[test]
fn max_outstanding_r2t() {
    answered(
        "MaxOutstandingR2T",
        &[
            ("1", "1", "Irrelevant"),
            ("65535", "4", "Irrelevant"),
            ("0", "Reject", "Irrelevant"),
            ("65536", "Reject", "Irrelevant"),
        ],
    );
    assert_eq!(normal("").1.max_outstanding_r2t, 1);
    assert_eq!(normal("MaxOutstandingR2T=3\0").1.max_outstanding_r2t, 3);
}

/// RFC 7143 §13.18, §13.19: OR, default Yes; data comes in order here.
#[test]
fn orders_of_data() {
    for key in ["DataPDUInOrder", "DataSequenceInOrder"] {
        answered(
            key,
            &[
                ("Yes", "Yes", "Irrelevant"),
                ("No", "Yes", "Irrelevant"),
                ("Perhaps", "Reject", "Irrelevant"),
            ],
        );
    }
}

/// RFC 7143 §7.1.5 and §13.20: 0 to 2, the minimum counts, default 0; §7.4.1: always 0 in discovery.
#[test]
fn error_recovery_level() {
    answered(
        "ErrorRecoveryLevel",
        &[
            ("0", "0", "0"),
            ("1", "0", "0"),
            ("2", "0", "0"),
            ("3", "Reject", "Reject"),
        ],
    );
}

/// RFC 7143 §13.21: Normal if nothing is said, told in the first text in either stage.
#[test]
fn session_type() {
    assert_eq!(normal("").1.session_type, SessionType::Normal);
    assert_eq!(
        normal("SessionType=Normal\0").1.session_type,
        SessionType::Normal
    );
    assert_eq!(discovery("").1.session_type, SessionType::Discovery);
    for value in ["discovery", "", "Discovery,Normal", "Boot"] {
        let keys = format!("{NAMES}SessionType={value}\0");
        assert_eq!(status(0x81, &keys), (2, 9), "{value}");
    }
    let mut late = login();
    crate::reply(handle(&mut late, &request(0x04, NAMES)));
    let step = late.handle(&request(0x87, "SessionType=Discovery\0"));
    assert_eq!(failed(step), (2, 9), "too late");
}

/// RFC 7143 §13.23: a list, irrelevant in discovery. With one connection per session every response is fenced without
/// further ado (RFC 7143 §4.2.2.3.3); fast aborts are not offered.
#[test]
fn task_reporting() {
    answered(
        "TaskReporting",
        &[
            ("RFC3720", "RFC3720", "Irrelevant"),
            ("ResponseFence", "ResponseFence", "Irrelevant"),
            (
                "FastAbort,ResponseFence,RFC3720",
                "ResponseFence",
                "Irrelevant",
            ),
            ("RFC3720,ResponseFence,FastAbort", "RFC3720", "Irrelevant"),
            ("FastAbort", "Reject", "Irrelevant"),
        ],
    );
}

/// RFC 7143 §13.24: the level of the standard is 1; RFC 7144 §7.1.1: the minimum counts, up to 31.
#[test]
fn protocol_level() {
    answered(
        "iSCSIProtocolLevel",
        &[
            ("1", "1", "Irrelevant"),
            ("2", "1", "Irrelevant"),
            ("31", "1", "Irrelevant"),
            ("0", "0", "Irrelevant"),
            ("32", "Reject", "Irrelevant"),
        ],
    );
}
