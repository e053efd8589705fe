//! Both ends of the login, back to back: whatever each is ready to agree to, they agree on the same.

use bytes::BytesMut;
use iscsi_proto::login::{
    Admission, Authentication, DigestChoice, DigestPolicy, InitiatorLogin, InitiatorOffer,
    InitiatorOutcome, InitiatorStep, LoginError, Operational, Outcome, TargetLogin, TargetOffer,
    TargetStep,
};
use iscsi_proto::params::{Params, SessionType};
use iscsi_proto::wire::Pdu;
use iscsi_proto::wire::framer::{Digests, Framed, Framer, encode};
use iscsi_proto::wire::serial::Serial;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

/// Over the wire, as both ends do it while logging in: no digests, segments of 8,192 bytes.
fn carried(pdu: &Pdu) -> Pdu {
    let mut out = std::collections::VecDeque::new();
    encode(pdu, Digests::default(), &mut out);
    let mut input: BytesMut = out.into_iter().flatten().collect();
    match Framer::new(8192).next(&mut input) {
        Ok(Some(Framed::Pdu(pdu))) if input.is_empty() => pdu,
        other => panic!("not one PDU: {other:?}"),
    }
}

/// Both outcomes, or that one of the ends refused.
fn join(initiator: InitiatorOffer, target: TargetOffer) -> Option<(InitiatorOutcome, Outcome)> {
    let mut initiator = InitiatorLogin::new(initiator);
    let mut target = TargetLogin::new(target);
    let mut request = initiator.start();
    for _ in 0..20 {
        let mut step = target.handle(&carried(&request));
        if let TargetStep::Identified(_) = step {
            step = target.authenticate(Authentication {
                portal_group_tag: 1,
                none: true,
                chap: None,
            });
        }
        if let TargetStep::Authenticated { .. } = step {
            step = target.admit(Admission {
                tsih: 7,
                command_window: 64,
            });
        }
        let (reply, outcome) = match step {
            TargetStep::Reply(reply) => (reply, None),
            TargetStep::Finished { reply, outcome } => (reply, Some(outcome)),
            TargetStep::Failed { .. } => return None,
            TargetStep::Identified(_) | TargetStep::Authenticated { .. } => panic!("asked twice"),
        };
        match (initiator.handle(&carried(&reply)), outcome) {
            (Ok(InitiatorStep::Send(next)), None) => request = next,
            (Ok(InitiatorStep::Finished(ours)), Some(theirs)) => return Some((ours, theirs)),
            (Err(LoginError::BadAnswer(_)), _) => return None,
            other => panic!("the ends disagree about the end: {other:?}"),
        }
    }
    panic!("the login does not end");
}

/// The target's view of the same session: the two segment lengths change places.
fn mirrored(params: &Params) -> Params {
    Params {
        max_recv_data_segment_length: params.max_send_data_segment_length,
        max_send_data_segment_length: params.max_recv_data_segment_length,
        ..params.clone()
    }
}

fn digest_choices() -> impl Strategy<Value = DigestChoice> {
    prop_oneof![
        Just(DigestChoice::None),
        Just(DigestChoice::PreferNone),
        Just(DigestChoice::PreferCrc32c),
        Just(DigestChoice::Crc32c),
    ]
}

/// Any number, the bounds of the standard and beyond more often than others.
fn sizes() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0u32..20_000,
        Just(512),
        Just(65_536),
        Just(262_144),
        Just(16_777_215)
    ]
}

fn initiator_offers() -> impl Strategy<Value = InitiatorOffer> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let numbers = (
        sizes(),
        sizes(),
        sizes(),
        any::<u16>(),
        any::<u16>(),
        any::<u16>(),
    );
    (
        flags,
        (digest_choices(), digest_choices()),
        numbers,
        any::<u32>(),
    )
        .prop_map(|(flags, digests, numbers, cmd_sn)| {
            let name = "iqn.2026-01.org.example:node".parse().expect("a name");
            let target = "iqn.2026-01.org.example:disk".parse().expect("a name");
            let (discovery, skip_security, initial_r2t, immediate_data) = flags;
            let (
                max_recv_data_segment_length,
                max_burst_length,
                first_burst_length,
                r2t,
                time2wait,
                time2retain,
            ) = numbers;
            let offer = if discovery {
                InitiatorOffer::discovery(name, [0; 6])
            } else {
                InitiatorOffer::normal(name, target, [0; 6])
            };
            InitiatorOffer {
                cmd_sn: Serial(cmd_sn),
                skip_security,
                header_digest: digests.0,
                data_digest: digests.1,
                operational: Operational {
                    initial_r2t,
                    immediate_data,
                    max_recv_data_segment_length,
                    max_burst_length,
                    first_burst_length,
                    max_outstanding_r2t: r2t,
                    time2wait,
                    time2retain,
                },
                initiator_alias: immediate_data.then(|| "x".repeat(usize::from(r2t % 300))),
                ..offer
            }
        })
}

fn target_offers() -> impl Strategy<Value = TargetOffer> {
    let digests = prop_oneof![
        Just(DigestPolicy::Refuse),
        Just(DigestPolicy::Accept),
        Just(DigestPolicy::Require)
    ];
    let numbers = (
        sizes(),
        sizes(),
        sizes(),
        any::<u16>(),
        any::<u16>(),
        any::<u16>(),
    );
    (digests, numbers, any::<bool>(), any::<bool>()).prop_map(
        |(digests, numbers, initial_r2t, immediate_data)| {
            let (
                max_recv_data_segment_length,
                max_burst_length,
                first_burst_length,
                r2t,
                time2wait,
                time2retain,
            ) = numbers;
            TargetOffer {
                operational: Operational {
                    max_recv_data_segment_length,
                    max_burst_length,
                    first_burst_length,
                    max_outstanding_r2t: r2t,
                    initial_r2t,
                    immediate_data,
                    time2wait,
                    time2retain,
                },
                digests,
                target_alias: initial_r2t.then(|| "disk".to_owned()),
            }
        },
    )
}

/// True if the two opinions about digests can be reconciled.
fn compatible(choice: DigestChoice, policy: DigestPolicy) -> bool {
    match policy {
        DigestPolicy::Refuse => choice != DigestChoice::Crc32c,
        DigestPolicy::Accept => true,
        DigestPolicy::Require => choice != DigestChoice::None,
    }
}

proptest! {
    #[test]
    fn both_ends_agree(initiator in initiator_offers(), target in target_offers()) {
        let possible = compatible(initiator.header_digest, target.digests)
            && compatible(initiator.data_digest, target.digests);
        let cmd_sn = initiator.cmd_sn;
        let bound = |size: u32| size.clamp(512, 16_777_215);
        let (here, there) = (initiator.operational, target.operational);
        let burst = bound(here.max_burst_length).min(bound(there.max_burst_length));
        let normal = initiator.session_type == SessionType::Normal;
        let outcome = join(initiator, target);
        prop_assert_eq!(outcome.is_some(), possible);
        let Some((ours, theirs)) = outcome else { return Ok(()) };

        let mut seen_there = mirrored(&theirs.params);
        if !normal {
            // Irrelevant to discovery: each end keeps its own opinion.
            let Params { initial_r2t, immediate_data, max_burst_length, first_burst_length, .. } = ours.params;
            let max_outstanding_r2t = ours.params.max_outstanding_r2t;
            seen_there = Params {
                initial_r2t, immediate_data, max_burst_length, first_burst_length, max_outstanding_r2t, ..seen_there
            };
        }
        if normal && ours.params.initial_r2t && !ours.params.immediate_data {
            seen_there.first_burst_length = ours.params.first_burst_length;
        }
        prop_assert_eq!(&ours.params, &seen_there);
        if normal {
            prop_assert_eq!(ours.params.max_burst_length, burst);
            prop_assert!(ours.params.first_burst_length <= burst);
            prop_assert_eq!(ours.params.initial_r2t, here.initial_r2t || there.initial_r2t);
            prop_assert_eq!(ours.params.immediate_data, here.immediate_data && there.immediate_data);
        }
        prop_assert_eq!(ours.params.max_recv_data_segment_length, bound(here.max_recv_data_segment_length));
        prop_assert_eq!(ours.params.max_send_data_segment_length, bound(there.max_recv_data_segment_length));
        prop_assert_eq!((ours.cmd_sn, ours.exp_cmd_sn, theirs.next_cmd_sn), (cmd_sn, cmd_sn, cmd_sn));
        prop_assert_eq!(ours.max_cmd_sn, cmd_sn + 63);
        prop_assert_eq!(ours.exp_stat_sn, theirs.next_stat_sn);
        prop_assert_eq!((ours.tsih, ours.portal_group_tag), (7, Some(1)));
    }
}

#[test]
fn defaults_on_both_ends_give_large_transfers_without_waiting() {
    let name = "iqn.2026-01.org.example:node".parse().expect("a name");
    let target = "iqn.2026-01.org.example:disk".parse().expect("a name");
    let offer = InitiatorOffer::normal(name, target, [0; 6]);
    let (ours, _) = join(offer, TargetOffer::default()).expect("they agree");
    let params = ours.params;
    assert!(
        params.immediate_data
            && !params.initial_r2t
            && !params.header_digest
            && !params.data_digest
    );
    assert_eq!(
        (params.max_burst_length, params.first_burst_length),
        (1_048_576, 262_144)
    );
    assert_eq!(
        (
            params.max_outstanding_r2t,
            params.time2wait,
            params.time2retain
        ),
        (4, 0, 0)
    );
}
