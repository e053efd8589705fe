//! A target that says anything: nothing panics, nothing grows. And one that says what is right, in any shape.

use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use zerocopy::FromBytes;

use crate::params::Params;
use crate::session::Transfer;
use crate::session::initiator::bench::Bench;
use crate::wire::bhs::{BHS_BYTES, ReadyToTransfer, ScsiCommand};
use crate::wire::{Header, Pdu};

/// One thing that happens to a session.
#[derive(Clone, Debug)]
enum Step {
    /// A header with data; with the StatSN that is due, or its own.
    Receive(Vec<u8>, Vec<u8>, bool),
    Garbage(Vec<u8>),
    Submit(Option<bool>),
    Send(u8),
    Wait(u8),
}

/// A header whose fields are often right by chance: small numbers where the session uses small numbers.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let opcodes = prop::sample::select(vec![
        0x20u8, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f, 0x00, 0x1c,
    ]);
    let number = || {
        prop_oneof![
            0u32..6,
            5u32..16,
            98u32..112,
            prop::sample::select(vec![512, 1024, 4096]),
            any::<u32>(),
            proptest::strategy::Just(u32::MAX)
        ]
    };
    let numbers = prop::collection::vec(number(), 8);
    (opcodes, any::<[u8; 3]>(), 0u64..4, numbers).prop_map(
        |(opcode, [flags, a, b], lun, numbers)| {
            let mut bytes = vec![opcode, flags, a & 0x0f, b & 0x0f, 0, 0, 0, 0];
            bytes.extend((lun << 48).to_be_bytes());
            bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
            bytes
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (header(), prop::collection::vec(any::<u8>(), 0..80), prop::bool::weighted(0.9)).prop_map(|(header, data, due)| Step::Receive(header, data, due)),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Step::Garbage),
        3 => any::<Option<bool>>().prop_map(Step::Submit),
        3 => any::<u8>().prop_map(Step::Send),
        1 => any::<u8>().prop_map(Step::Wait),
    ]
}

fn hostile_params() -> Params {
    Params {
        initial_r2t: false,
        first_burst_length: 1024,
        max_burst_length: 4096,
        max_send_data_segment_length: 512,
        max_recv_data_segment_length: 4096,
        max_outstanding_r2t: 2,
        ..Params::default()
    }
}

fn apply(bench: &mut Bench, step: Step) {
    match step {
        Step::Receive(mut header, data, due) => {
            if let (true, Some(full)) = (due, bench.full()) {
                header[24..28].copy_from_slice(&full.numbers.exp_stat_sn().0.to_be_bytes());
            }
            let header: [u8; BHS_BYTES] = header.try_into().expect("48 bytes");
            bench.receive(Pdu::new(Header::decode(&header), data.into()));
        }
        Step::Garbage(bytes) => bench.receive_bytes(&bytes),
        Step::Submit(kind) => {
            let transfer = match kind {
                None => Transfer::None,
                Some(true) => Transfer::Read(4096),
                Some(false) => Transfer::Write(Bytes::from(vec![1; 8192])),
            };
            let _ = bench.try_submit(transfer);
            let _ = bench.session.discover(bench.now);
        }
        Step::Send(parts) => {
            for _ in 0..parts {
                bench.session.poll_transmit();
            }
        }
        Step::Wait(seconds) => bench.pass(std::time::Duration::from_secs(seconds.into())),
    }
    while bench.event().is_some() {}
}

proptest! {
    #[test]
    fn no_target_makes_it_panic_or_grow(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new(hostile_params());
        for step in steps {
            apply(&mut bench, step);
            let Some(full) = bench.full() else { break };
            // Eight requests, an abort for each, and the session's own few.
            prop_assert!(full.tasks.len() <= 8 * 2 + 3, "{} tasks", full.tasks.len());
            prop_assert!(full.waiting.len() + full.urgent.len() + full.management.len() <= full.tasks.len());
            prop_assert!(full.sequences.len() <= 8 * 3);
            prop_assert!(full.pings.len() <= 64);
            prop_assert!(full.events.is_empty());
        }
    }

    /// Whatever was agreed upon, an honest target gets every byte once, and never more than it takes.
    #[test]
    fn every_byte_of_a_write_arrives_once(
        length in 0usize..20_000,
        (initial_r2t, immediate_data) in any::<(bool, bool)>(),
        segment in 512u32..3000,
        first_burst in 512u32..5000,
        max_burst in 512u32..5000,
        at_once in 1u16..4,
    ) {
        let params = Params {
            initial_r2t,
            immediate_data,
            first_burst_length: first_burst.min(max_burst),
            max_burst_length: max_burst,
            max_send_data_segment_length: segment,
            max_outstanding_r2t: at_once,
            ..Params::default()
        };
        let data: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).expect("a byte")).collect();
        let mut bench = Bench::new(params.clone());
        bench.submit(Transfer::Write(data.clone().into()));
        let arrived = play_target(&mut bench, &params, length);
        prop_assert_eq!(arrived, data);
    }
}

/// Collects what is sent, asks for the rest, and checks the rules on the way.
fn play_target(bench: &mut Bench, params: &Params, length: usize) -> Vec<u8> {
    let mut arrived: Vec<u8> = Vec::new();
    let (mut asked, mut r2t_sn) = (0, 0);
    loop {
        for pdu in bench.sent() {
            assert!(pdu.data.len() <= params.max_send_data_segment_length as usize);
            if let Header::DataOut(header) = &pdu.header {
                assert_eq!(header.buffer_offset.get() as usize, arrived.len());
            }
            arrived.extend_from_slice(&pdu.data);
        }
        if asked == 0 {
            let unasked = length.min(params.first_burst_length as usize);
            let immediate = unasked.min(params.max_send_data_segment_length as usize);
            let immediate = if params.immediate_data { immediate } else { 0 };
            assert_eq!(
                arrived.len(),
                if params.initial_r2t {
                    immediate
                } else {
                    unasked
                }
            );
        }
        asked = arrived.len();
        if asked == length {
            return arrived;
        }
        for _ in 0..params.max_outstanding_r2t {
            let part = (length - asked).min(params.max_burst_length as usize);
            if part > 0 {
                bench.receive(ask(bench.last_tag(), r2t_sn, asked, part));
                asked += part;
                r2t_sn += 1;
            }
        }
    }
}

fn ask(tag: u32, r2t_sn: u32, offset: usize, length: usize) -> Pdu {
    Pdu::bare(ReadyToTransfer {
        initiator_task_tag: tag.into(),
        target_transfer_tag: (1000 + r2t_sn).into(),
        r2t_sn: r2t_sn.into(),
        buffer_offset: u32::try_from(offset).expect("small").into(),
        desired_data_transfer_length: u32::try_from(length).expect("small").into(),
        ..ReadyToTransfer::default()
    })
}

#[test]
fn the_command_of_a_write_without_data_is_final() {
    let mut bench = Bench::new(hostile_params());
    bench.submit(Transfer::Write(Bytes::new()));
    let sent = bench.sent();
    let command = ScsiCommand::read_from_bytes(sent[0].header.as_bytes()).expect("48 bytes");
    assert_eq!(
        (command.flags, command.expected_data_transfer_length.get()),
        (0xa1, 0)
    );
}
