//! An initiator session and a target session back to back, in virtual time. Whatever both agreed upon, and however
//! the wire cuts their bytes: what was written is what is read, and a plain byte array knows what that is.
#![expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; the time of the pair is its own"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use iscsi_proto::login::{
    Admission, Authentication, DigestChoice, InitiatorOffer, Operational, TargetOffer,
};
use iscsi_proto::scsi::Status;
use iscsi_proto::session::{
    Completion, InitiatorConfig, InitiatorEvent, InitiatorSession, ManagementAnswer, Outcome,
    Request, RequestId, Residual, Response, SessionLimits, TargetConfig, TargetEvent,
    TargetSession, TaskId, Transfer,
};
use iscsi_proto::wire::lun::Lun;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest,
};

/// Every command of a round has a slot of the disk for itself, so that the order of commands does not matter.
const SLOT: usize = 40_000;
const SLOTS: usize = 6;

#[derive(Clone, Debug)]
struct Op {
    slot: usize,
    offset: usize,
    length: usize,
    writes: bool,
    aborted: bool,
}

fn op(slot: usize) -> impl Strategy<Value = Op> {
    let length = prop_oneof![1 => 0usize..16, 2 => 0usize..5_000, 2 => 0usize..30_000];
    (
        0usize..10_000,
        length,
        any::<bool>(),
        prop::bool::weighted(0.1),
    )
        .prop_map(move |(offset, length, writes, abort)| Op {
            slot,
            offset,
            length,
            writes,
            aborted: abort && !writes,
        })
}

fn round() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(any::<bool>(), SLOTS).prop_flat_map(|used| {
        let slots = used.iter().enumerate().filter(|(_, used)| **used);
        slots.map(|(slot, _)| op(slot)).collect::<Vec<_>>()
    })
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![Just(512u32), 512u32..2_000, 512u32..40_000]
}

#[derive(Clone, Debug)]
struct Limits {
    segments: (u32, u32),
    bursts: (u32, u32),
    first_bursts: (u32, u32),
    r2ts: u16,
    initial_r2t: bool,
    immediate_data: bool,
    digests: bool,
    window: u32,
    write_bytes: u64,
}

fn limits() -> impl Strategy<Value = Limits> {
    let lengths = (
        (length(), length()),
        (length(), length()),
        (length(), length()),
    );
    (
        lengths,
        1u16..4,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        1u32..8,
        0u64..50_000,
    )
        .prop_map(
            |(
                (segments, bursts, first_bursts),
                r2ts,
                initial_r2t,
                immediate_data,
                digests,
                window,
                write_bytes,
            )| Limits {
                segments,
                // FirstBurstLength must not exceed MaxBurstLength (RFC 7143 §13.14).
                bursts: (bursts.0.max(first_bursts.0), bursts.1.max(first_bursts.1)),
                first_bursts,
                r2ts,
                initial_r2t,
                immediate_data,
                digests,
                window,
                write_bytes,
            },
        )
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}

struct Pair {
    initiator: InitiatorSession,
    target: TargetSession,
    to_target: BytesMut,
    to_initiator: BytesMut,
    target_input: BytesMut,
    initiator_input: BytesMut,
    disk: Vec<u8>,
    /// What the target's driver has to do, in any order.
    work: Vec<Work>,
    writes: BTreeMap<TaskId, usize>,
    completed: BTreeMap<RequestId, Outcome>,
    dice: Dice,
    now: Instant,
}

enum Work {
    Read(TaskId, usize, usize),
    Receive(TaskId, u32),
    Write(TaskId, Vec<Bytes>),
    Manage(TaskId),
}

/// The driver's own language: the sessions do not look into a CDB.
fn cdb(op: &Op) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = if op.writes { 0x2a } else { 0x28 };
    let start = u32::try_from(op.slot * SLOT + op.offset).expect("a small disk");
    cdb[2..6].copy_from_slice(&start.to_be_bytes());
    cdb[6..10].copy_from_slice(
        &u32::try_from(op.length)
            .expect("a small disk")
            .to_be_bytes(),
    );
    cdb
}

fn span(cdb: &[u8; 16]) -> (usize, usize) {
    let word =
        |at: usize| u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]]) as usize;
    (word(2), word(6))
}

fn configs(limits: &Limits) -> (InitiatorConfig, TargetConfig) {
    let name = |name: &str| name.parse().expect("a name");
    let digest = if limits.digests {
        DigestChoice::Crc32c
    } else {
        DigestChoice::None
    };
    let offer = InitiatorOffer {
        header_digest: digest,
        data_digest: digest,
        operational: Operational {
            initial_r2t: limits.initial_r2t,
            immediate_data: limits.immediate_data,
            max_recv_data_segment_length: limits.segments.0,
            max_burst_length: limits.bursts.0,
            first_burst_length: limits.first_bursts.0,
            max_outstanding_r2t: 3,
            ..Operational::default()
        },
        ..InitiatorOffer::normal(
            name("iqn.2026-01.org.example:i"),
            name("iqn.2026-01.org.example:t"),
            [0x80; 6],
        )
    };
    let target = TargetConfig {
        offer: TargetOffer {
            operational: Operational {
                max_recv_data_segment_length: limits.segments.1,
                max_burst_length: limits.bursts.1,
                first_burst_length: limits.first_bursts.1,
                max_outstanding_r2t: limits.r2ts,
                ..Operational::default()
            },
            ..TargetOffer::default()
        },
        queue_depth: limits.window,
        limits: SessionLimits {
            write_bytes: limits.write_bytes,
            ..SessionLimits::default()
        },
        ..TargetConfig::default()
    };
    (InitiatorConfig::new(offer), target)
}

impl Pair {
    fn new(limits: &Limits, seed: u64) -> Self {
        let now = Instant::now();
        let (initiator, target) = configs(limits);
        let mut pair = Self {
            initiator: InitiatorSession::new(initiator, now),
            target: TargetSession::new(target, now),
            to_target: BytesMut::new(),
            to_initiator: BytesMut::new(),
            target_input: BytesMut::new(),
            initiator_input: BytesMut::new(),
            disk: vec![0; SLOT * SLOTS],
            work: Vec::new(),
            writes: BTreeMap::new(),
            completed: BTreeMap::new(),
            dice: Dice(seed),
            now,
        };
        pair.settle();
        pair
    }

    /// Moves bytes in pieces of any size, and lets the driver work in any order, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..1_000_000 {
            self.take_events();
            while let Some(bytes) = self.initiator.poll_transmit() {
                self.to_target.extend_from_slice(&bytes);
            }
            while let Some(bytes) = self.target.poll_transmit() {
                self.to_initiator.extend_from_slice(&bytes);
            }
            let idle =
                self.to_target.is_empty() && self.to_initiator.is_empty() && self.work.is_empty();
            if idle {
                return;
            }
            match self.dice.below(3) {
                0 => self.carry_to_target(),
                1 => self.carry_to_initiator(),
                _ => self.do_some_work(),
            }
        }
        panic!("the sessions do not come to rest");
    }

    fn carry_to_target(&mut self) {
        let piece = 1 + self.dice.below(3_000);
        let piece = self.to_target.split_to(piece.min(self.to_target.len()));
        self.target_input.extend_from_slice(&piece);
        self.target.handle_bytes(self.now, &mut self.target_input);
    }

    fn carry_to_initiator(&mut self) {
        let piece = 1 + self.dice.below(3_000);
        let piece = self
            .to_initiator
            .split_to(piece.min(self.to_initiator.len()));
        // A driver may put read data where it belongs, or into its input like the rest; both at any time.
        let direct = self.dice.below(2) == 0;
        match self.initiator.landing().filter(|_| direct) {
            Some(mut landing) => {
                let fits = piece.len().min(landing.remaining_mut());
                landing.put_slice(&piece[..fits]);
                self.initiator_input.extend_from_slice(&piece[fits..]);
            }
            None => self.initiator_input.extend_from_slice(&piece),
        }
        self.initiator
            .handle_bytes(self.now, &mut self.initiator_input);
    }

    fn do_some_work(&mut self) {
        if self.work.is_empty() {
            return;
        }
        let pick = self.dice.below(self.work.len());
        match self.work.remove(pick) {
            Work::Read(task, start, length) => {
                // Parts of odd sizes, so that PDUs and parts do not end together.
                let data = self.disk[start..start + length]
                    .chunks(7_001)
                    .map(Bytes::copy_from_slice)
                    .collect();
                self.target.complete(task, Response::read(data));
            }
            Work::Receive(task, length) => self.target.receive(task, length),
            Work::Write(task, data) => {
                let data = data.concat();
                let start = self.writes[&task];
                self.disk[start..start + data.len()].copy_from_slice(&data);
                let length = u32::try_from(data.len()).expect("a small disk");
                self.target.complete(task, Response::written(length));
            }
            Work::Manage(task) => self
                .target
                .answer_management(task, ManagementAnswer::Complete),
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.target.poll_event() {
            match event {
                TargetEvent::Login(_) => self.target.authenticate(Authentication {
                    portal_group_tag: 1,
                    none: true,
                    chap: None,
                }),
                TargetEvent::Authenticated { .. } => {
                    self.target.admit(Admission {
                        tsih: 1,
                        command_window: 64,
                    });
                }
                TargetEvent::Command(command) => {
                    let (start, length) = span(&command.cdb);
                    if command.writes {
                        self.writes.insert(command.task, start);
                        self.work
                            .push(Work::Receive(command.task, command.expected_length));
                    } else {
                        self.work.push(Work::Read(command.task, start, length));
                    }
                }
                TargetEvent::DataReady { task, data } => self.work.push(Work::Write(task, data)),
                TargetEvent::Management { task, .. } => self.work.push(Work::Manage(task)),
                TargetEvent::LoggedIn { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        while let Some(event) = self.initiator.poll_event() {
            match event {
                InitiatorEvent::Completed { request, outcome } => {
                    assert!(
                        self.completed.insert(request, outcome).is_none(),
                        "ended twice"
                    );
                }
                InitiatorEvent::LoggedIn(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn bytes(op: &Op, salt: usize) -> Vec<u8> {
    (0..op.length)
        .map(|at| u8::try_from((at * 31 + salt * 7 + op.slot) % 253).expect("below 253"))
        .collect()
}

fn good(data: &[u8]) -> (Status, Vec<u8>, Residual) {
    (Status(0x00), data.to_vec(), Residual::None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// RFC 7143 §4.2.5: the bytes that go in are the bytes that come out, whatever was negotiated.
    #[test]
    fn what_is_written_is_what_is_read(
        limits in limits(),
        rounds in prop::collection::vec(round(), 1..6),
        seed in any::<u64>(),
    ) {
        let mut pair = Pair::new(&limits, seed);
        let mut model = vec![0u8; SLOT * SLOTS];
        for (number, round) in rounds.iter().enumerate() {
            let mut asked = Vec::new();
            for op in round {
                let data = bytes(op, number);
                let start = op.slot * SLOT + op.offset;
                let transfer = if op.writes {
                    model[start..start + op.length].copy_from_slice(&data);
                    Transfer::Write(data.into())
                } else {
                    Transfer::Read(u32::try_from(op.length).expect("a small disk"))
                };
                let request = Request { lun: Lun::from_number(0), cdb: cdb(op), transfer };
                let id = pair.initiator.submit(pair.now, request).expect("room");
                if op.aborted {
                    pair.initiator.abort(pair.now, id);
                }
                asked.push((id, op.clone()));
            }
            pair.settle();
            for (id, op) in asked {
                let start = op.slot * SLOT + op.offset;
                let expected: &[u8] = if op.writes { &[] } else { &model[start..start + op.length] };
                match pair.completed.remove(&id).expect("every command ends") {
                    Outcome::Answered(Completion { status, data, residual, .. }) => {
                        prop_assert_eq!((status, data.to_vec(), residual), good(expected));
                    }
                    outcome => prop_assert_eq!((outcome, op.aborted), (Outcome::Aborted, true)),
                }
            }
        }
        prop_assert_eq!(&pair.disk, &model);
        pair.initiator.logout(pair.now);
        while let Some(bytes) = pair.initiator.poll_transmit() {
            pair.target_input.extend_from_slice(&bytes);
        }
        pair.target.handle_bytes(pair.now, &mut pair.target_input);
        prop_assert_eq!(pair.target.is_closed(), true);
    }
}

/// RFC 7143 §11.18 and §11.19: pings of both sides are answered.
#[test]
fn both_sides_keep_an_idle_session_alive() {
    let limits = Limits {
        segments: (8_192, 8_192),
        bursts: (65_536, 65_536),
        first_bursts: (8_192, 8_192),
        r2ts: 1,
        initial_r2t: true,
        immediate_data: true,
        digests: true,
        window: 8,
        write_bytes: 1 << 20,
    };
    let mut pair = Pair::new(&limits, 1);
    for _ in 0..100 {
        let due = [pair.initiator.poll_timeout(), pair.target.poll_timeout()]
            .into_iter()
            .flatten()
            .min();
        pair.now = due.expect("somebody pings");
        pair.initiator.handle_timeout(pair.now);
        pair.target.handle_timeout(pair.now);
        pair.settle();
    }
    assert!(!pair.initiator.is_closed() && !pair.target.is_closed());
    assert!(pair.target.stats().pdus_in > 50);
    pair.now += Duration::from_secs(3_600);
    pair.target.handle_timeout(pair.now);
    pair.now += Duration::from_secs(3_600);
    pair.target.handle_timeout(pair.now);
    assert!(pair.target.is_closed(), "silence for hours");
}
