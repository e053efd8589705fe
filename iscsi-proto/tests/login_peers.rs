//! What other people's programs say while logging in, as recorded: libiscsi 1.19 and QEMU 10.0 with its iscsi driver
//! towards our target, tgt 1.0.85 towards our initiator.

use bytes::Bytes;
use iscsi_proto::login::{
    Account, Admission, Algorithm, Authentication, InitiatorChap, InitiatorLogin, InitiatorOffer,
    InitiatorStep, Secret, TargetLogin, TargetOffer, TargetStep,
};
use iscsi_proto::params::Params;
use iscsi_proto::wire::bhs::{LoginRequest, LoginResponse};
use iscsi_proto::wire::{Header, Pdu};

/// What libiscsi says after the names and digests, to any target.
const LIBISCSI: &str = "InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=262144\0FirstBurstLength=262144\0\
    DefaultTime2Wait=2\0DefaultTime2Retain=0\0MaxOutstandingR2T=1\0ErrorRecoveryLevel=0\0IFMarker=No\0OFMarker=No\0\
    MaxConnections=1\0MaxRecvDataSegmentLength=262144\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0";

/// Our answer to a first request that asks for full feature phase at once, and the outcome.
fn answer(request: &str) -> (String, Params) {
    let header = LoginRequest {
        opcode: 0x43,
        flags: 0x87,
        ..LoginRequest::default()
    };
    let mut login = TargetLogin::new(TargetOffer::default());
    let step = login.handle(&Pdu::new(
        header,
        Bytes::copy_from_slice(request.as_bytes()),
    ));
    assert!(matches!(step, TargetStep::Identified(_)), "{step:?}");
    let step = login.authenticate(Authentication {
        portal_group_tag: 1,
        none: true,
        chap: None,
    });
    assert!(
        matches!(step, TargetStep::Authenticated { account: None, .. }),
        "{step:?}"
    );
    let admission = Admission {
        tsih: 1,
        command_window: 32,
    };
    let TargetStep::Finished { reply, outcome } = login.admit(admission) else {
        panic!("not finished")
    };
    (
        String::from_utf8(reply.data.to_vec()).expect("text"),
        outcome.params,
    )
}

#[test]
fn libiscsi_discovers() {
    let (text, params) = answer(&format!(
        "InitiatorName=iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-ls\0SessionType=Discovery\0\
         HeaderDigest=None\0DataDigest=None\0{LIBISCSI}"
    ));
    let expected = "TargetPortalGroupTag=1\0HeaderDigest=None\0DataDigest=None\0InitialR2T=Irrelevant\0\
        ImmediateData=Irrelevant\0MaxBurstLength=Irrelevant\0FirstBurstLength=Irrelevant\0DefaultTime2Wait=2\0\
        DefaultTime2Retain=0\0MaxOutstandingR2T=Irrelevant\0ErrorRecoveryLevel=0\0IFMarker=No\0OFMarker=No\0\
        MaxConnections=Irrelevant\0DataPDUInOrder=Irrelevant\0DataSequenceInOrder=Irrelevant\0\
        MaxRecvDataSegmentLength=262144\0";
    assert_eq!(text, expected);
    assert!(!params.header_digest);
}

#[test]
fn qemu_with_a_header_digest() {
    let (text, params) = answer(&format!(
        "InitiatorName=iqn.2008-11.org.linux-kvm\0TargetName=iqn.2026-01.org.example:disk\0SessionType=Normal\0\
         HeaderDigest=CRC32C\0DataDigest=None\0{LIBISCSI}"
    ));
    let expected = "TargetPortalGroupTag=1\0HeaderDigest=CRC32C\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0\
        MaxBurstLength=262144\0FirstBurstLength=262144\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0\
        MaxOutstandingR2T=1\0ErrorRecoveryLevel=0\0IFMarker=No\0OFMarker=No\0MaxConnections=1\0DataPDUInOrder=Yes\0\
        DataSequenceInOrder=Yes\0MaxRecvDataSegmentLength=262144\0";
    assert_eq!(text, expected);
    assert!(
        params.header_digest && !params.data_digest && !params.initial_r2t && params.immediate_data
    );
    assert_eq!(
        (params.max_burst_length, params.first_burst_length),
        (262_144, 262_144)
    );
}

#[test]
fn tgt_answers_in_two_stages_and_declares_no_segment() {
    let initiator = "iqn.2026-01.org.example:me".parse().expect("a name");
    let target = "iqn.2026-01.org.example:tgt".parse().expect("a name");
    let mut login = InitiatorLogin::new(InitiatorOffer::normal(
        initiator,
        target,
        [0x80, 0, 0, 0, 0, 1],
    ));
    let Header::LoginRequest(first) = login.start().header else {
        panic!("no Login Request")
    };
    let mut respond = |flags, tsih: u16, text: &'static str| {
        let tag = first.initiator_task_tag;
        let header = LoginResponse {
            flags,
            tsih: tsih.into(),
            initiator_task_tag: tag,
            ..LoginResponse::default()
        };
        login.handle(&Pdu::new(header, Bytes::from_static(text.as_bytes())))
    };
    let step = respond(0x81, 0, "TargetPortalGroupTag=1\0AuthMethod=None\0");
    assert!(matches!(step, Ok(InitiatorStep::Send(_))), "{step:?}");
    let answers = "HeaderDigest=None\0DataDigest=None\0MaxConnections=1\0InitialR2T=Yes\0ImmediateData=Yes\0\
        MaxBurstLength=262144\0FirstBurstLength=65536\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0\
        MaxOutstandingR2T=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0\0";
    let Ok(InitiatorStep::Finished(outcome)) = respond(0x87, 256, answers) else {
        panic!("not finished")
    };
    assert_eq!((outcome.tsih, outcome.portal_group_tag), (256, Some(1)));
    let params = outcome.params;
    assert!(params.initial_r2t && params.immediate_data);
    assert_eq!(
        (
            params.max_send_data_segment_length,
            params.max_recv_data_segment_length
        ),
        (8192, 262_144)
    );
}

/// tgt 1.0.85 knows 5, and takes 7 for SHA-1 where it is SHA-256: it must find 5 first, which RFC 7143 §12.1.3 has every
/// initiator offer.
#[test]
fn the_usual_offer_of_algorithms_suits_tgt() {
    let initiator = "iqn.2026-01.org.example:me".parse().expect("a name");
    let target = "iqn.2026-01.org.example:tgt".parse().expect("a name");
    let mut login = InitiatorLogin::new(InitiatorOffer {
        chap: Some(InitiatorChap {
            account: Account {
                name: "alice".to_owned(),
                secret: Secret::new("0123456789abcdef").expect("a secret"),
            },
            mutual: None,
            algorithms: Algorithm::OFFERED.to_vec(),
            identifier: 1,
            challenge: vec![1; 32],
        }),
        ..InitiatorOffer::normal(initiator, target, [0x80, 0, 0, 0, 0, 1])
    });
    login.start();
    let chosen = Pdu::new(
        LoginResponse::default(),
        Bytes::from_static(b"TargetPortalGroupTag=1\0AuthMethod=CHAP\0"),
    );
    let Ok(InitiatorStep::Send(offer)) = login.handle(&chosen) else {
        panic!("nothing is offered")
    };
    let text = std::str::from_utf8(&offer.data).expect("text");
    let numbers = text
        .strip_prefix("CHAP_A=")
        .and_then(|text| text.strip_suffix('\0'))
        .expect("algorithms");
    let first = numbers
        .split(',')
        .find(|number| ["5", "7"].contains(number));
    assert_eq!(first, Some("5"));
    let mut all: Vec<&str> = numbers.split(',').collect();
    all.sort_unstable();
    assert_eq!(all, ["5", "6", "7", "8"]);
}
