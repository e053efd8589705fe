//! What a unit can do beyond a volume, against our target and against units that know less.

mod harness;
#[path = "harness/unit.rs"]
mod unit;

use std::sync::Arc;

use bytes::Bytes;
use harness::{attach, disk, options, pattern, serve, soon};
use iscsi_initiator::{
    BlockSize, Class, Command, Comparison, Error, RawCommand, Remote, Sense, Span, Status,
    Transfer, Volume, VolumeError,
};
use iscsi_proto::scsi::vpd::{BlockLimits, Provisioning};
use unit::{BLOCK, Unit};

const MIB: u64 = 1024 * 1024;

/// Changes of every kind, one after another, and a byte array that they are done to as well.
#[tokio::test]
async fn the_unit_and_a_model_stay_the_same() {
    for block_size in [BlockSize::B512, BlockSize::B4096] {
        let served = serve(disk(block_size, 4 * MIB)).await;
        let remote = soon(attach(&served.address, options())).await;
        let mut model = pattern(4 * MIB, 1);
        let block = block_size.bytes() as usize;
        let mut seed = 7u64;
        for _ in 0..400 {
            let mut draw = |below: usize| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) as usize % below
            };
            let length = (1 + draw(16)) * block;
            let at = draw((model.len() - length) / block) * block;
            let old = model[at..at + length].to_vec();
            let new = pattern(length as u64, draw(1 << 20) as u64);
            let offset = at as u64;
            match draw(4) {
                0 => {
                    let span = Span::new(offset, length as u64);
                    soon(remote.write_zeroes(span)).await.expect("zeros");
                    model[at..at + length].fill(0);
                }
                1 => {
                    let bytes = Bytes::from(new.clone());
                    soon(remote.write_through(offset, &bytes))
                        .await
                        .expect("written");
                    model[at..at + length].copy_from_slice(&new);
                }
                2 => {
                    let found = soon(remote.compare_and_write(offset, &old, &new)).await;
                    assert_eq!(found.expect("an answer"), Comparison::Written);
                    model[at..at + length].copy_from_slice(&new);
                }
                _ => {
                    let mut wrong = old.clone();
                    let differs = draw(length);
                    wrong[differs] ^= 0x40;
                    let found = soon(remote.compare_and_write(offset, &wrong, &new)).await;
                    let at = Some(differs);
                    assert_eq!(found.expect("an answer"), Comparison::Differs { at });
                }
            }
        }
        let whole = remote.geometry().whole();
        assert!(soon(remote.read(whole, Class::Demand)).await.expect("read") == model);
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    let unit = Arc::new(Unit::comparing(2));
    let remote = soon(attach(&unit.serve().await, options())).await;
    assert_eq!(remote.longest_compare_and_write(), 1024);
    let block = [0; BLOCK];
    for (offset, length) in [(1, BLOCK), (64 * 512, BLOCK), (0, 100)] {
        let bytes = vec![0; length];
        let span = Span::new(offset, length as u64);
        let zeroed = soon(remote.write_zeroes(span)).await;
        assert!(matches!(zeroed, Err(Error::OutOfRange)), "{offset}");
        let compared = soon(remote.compare_and_write(offset, &bytes, &bytes)).await;
        assert!(matches!(compared, Err(Error::OutOfRange)), "{offset}");
        let through = soon(remote.write_through(offset, &bytes.into())).await;
        assert!(matches!(through, Err(Error::OutOfRange)), "{offset}");
    }
    let unequal = soon(remote.compare_and_write(0, &block, &[])).await;
    assert!(matches!(unequal, Err(Error::OutOfRange)));
    let long = [0; 3 * BLOCK];
    let long = soon(remote.compare_and_write(0, &long, &long)).await;
    assert!(matches!(long, Err(Error::TooLong)));
    let nothing = soon(remote.compare_and_write(0, &[], &[])).await;
    assert!(matches!(nothing, Ok(Comparison::Written)));
    assert!(soon(remote.write_zeroes(Span::new(512, 0))).await.is_ok());
    assert!(unit.came().is_empty());

    let unit = Arc::new(Unit::new(64));
    let remote = soon(attach(&unit.serve().await, options())).await;
    let unknown = soon(remote.compare_and_write(0, &block, &block)).await;
    assert!(matches!(unknown, Err(Error::Unsupported)));
    assert!(unit.came().is_empty());
    let meaning = VolumeError::from(Error::Unsupported);
    assert!(matches!(meaning, VolumeError::Unsupported));
}

/// SBC-3 §5.47: one block of zeros for each command, as many commands as MAXIMUM WRITE SAME LENGTH makes necessary, and
/// UNMAP where LBPWS and LBPRZ promise that zeros are read afterwards.
#[tokio::test]
async fn write_same_is_cut_and_gives_space_back_where_zeros_are_promised() {
    for (write_same_16, reads_zeros, unmaps) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
    ] {
        let unit = Arc::new(Unit {
            limits: BlockLimits {
                maximum_write_same: 10,
                ..BlockLimits::default()
            },
            provisioning: Provisioning {
                write_same_16,
                reads_zeros,
                ..Provisioning::default()
            },
            ..Unit::new(64)
        });
        let remote = soon(attach(&unit.serve().await, options())).await;
        soon(remote.write_zeroes(Span::new(512, 25 * 512)))
            .await
            .expect("zeros");
        let came = unit.came.lock().expect("no panic").clone();
        let told: Vec<_> = came
            .iter()
            .map(|(cdb, length)| (cdb[0], cdb[1], cdb[9], cdb[13], *length))
            .collect();
        let unmap = if unmaps { 0x08 } else { 0 };
        let part = |lba, blocks| (0x93, unmap, lba, blocks, BLOCK);
        assert_eq!(told, [part(1, 10), part(11, 10), part(21, 5)]);
        check_zeros(&unit, 1..26);
    }
}

#[tokio::test]
async fn a_unit_without_write_same_gets_zeros_written() {
    for refusal in [Sense::INVALID_OPERATION_CODE, Sense::INVALID_FIELD_IN_CDB] {
        let refuse = match refusal {
            Sense::INVALID_OPERATION_CODE => |command: &Command| match command {
                Command::WriteSame(_) => Some(Sense::INVALID_OPERATION_CODE),
                _ => None,
            },
            _ => |command: &Command| match command {
                // It takes nine blocks and did not say so.
                Command::WriteSame(same) if same.range.blocks() > 9 => {
                    Some(Sense::INVALID_FIELD_IN_CDB)
                }
                _ => None,
            },
        };
        let unit = Arc::new(Unit {
            refuse,
            ..Unit::new(64)
        });
        let remote = soon(attach(&unit.serve().await, options())).await;
        soon(remote.write_zeroes(Span::new(1024, 20 * 512)))
            .await
            .expect("zeros");
        assert_eq!(unit.came(), [(0x93, 0), (0x8a, 20 * BLOCK)]);
        check_zeros(&unit, 2..22);
    }
}

/// Another refusal is the answer: nothing else is tried.
#[tokio::test]
async fn an_error_of_write_same_is_an_error() {
    let unit = Arc::new(Unit {
        refuse: |command| match command {
            Command::WriteSame(_) => Some(Sense::WRITE_PROTECTED),
            _ => None,
        },
        ..Unit::new(64)
    });
    let remote = soon(attach(&unit.serve().await, options())).await;
    let refused = soon(remote.write_zeroes(Span::new(0, 512))).await;
    assert!(
        matches!(refused, Err(Error::Status { sense: Some(sense), .. }) if sense == Sense::WRITE_PROTECTED)
    );
    assert_eq!(unit.came(), [(0x93, 0)]);
}

/// SPC-4 §4.5.3: INFORMATION may be missing, or nonsense.
#[tokio::test]
async fn a_place_that_is_none_is_not_believed() {
    let unit = Arc::new(Unit::comparing(1));
    let remote = soon(attach(&unit.serve().await, options())).await;
    let held = unit.bytes.lock().expect("no panic")[..BLOCK].to_vec();
    for (differs, at) in [(0, Some(0)), (5, None)] {
        let mut wrong = held.clone();
        wrong[differs] ^= 1;
        let found = soon(remote.compare_and_write(0, &wrong, &held)).await;
        assert_eq!(found.expect("an answer"), Comparison::Differs { at });
    }
    let found = soon(remote.compare_and_write(0, &held, &[9; BLOCK])).await;
    assert_eq!(found.expect("an answer"), Comparison::Written);
    assert_eq!(unit.bytes.lock().expect("no panic")[..BLOCK], [9; BLOCK]);
}

/// Carried out, and its answer lost: a second time it would meet its own bytes.
#[tokio::test]
async fn a_comparison_whose_answer_was_lost_is_not_repeated() {
    let unit = Arc::new(Unit::comparing(1));
    let remote = soon(attach(&unit.serve().await, options())).await;
    let held = unit.bytes.lock().expect("no panic")[..BLOCK].to_vec();
    *unit.cuts.lock().expect("no panic") = 1;
    let lost = soon(remote.compare_and_write(0, &held, &[9; BLOCK])).await;
    assert!(matches!(lost, Err(Error::Interrupted)), "{lost:?}");
    let span = Span::new(0, BLOCK as u64);
    let found = soon(remote.read(span, Class::Demand)).await.expect("read");
    assert_eq!(found[..], [9; BLOCK]);
    assert_eq!(unit.came(), [(0x89, 2 * BLOCK)]);
}

/// SBC-3 §4.15, and a unit that refuses the bit.
#[tokio::test]
async fn a_unit_without_fua_is_flushed() {
    let knows = Arc::new(Unit::new(64));
    let remote = soon(attach(&knows.serve().await, options())).await;
    let bytes = Bytes::from(vec![3; BLOCK]);
    soon(remote.write_through(512, &bytes)).await.expect("done");
    assert_eq!(knows.came(), [(0x8a, BLOCK)]);
    assert_eq!(knows.came.lock().expect("no panic")[0].0[1], 0x08);

    let refuses = Arc::new(Unit {
        refuse: |command| match command {
            Command::Write { caching, .. } if caching.force_unit_access => {
                Some(Sense::INVALID_FIELD_IN_CDB)
            }
            _ => None,
        },
        ..Unit::new(64)
    });
    let remote = soon(attach(&refuses.serve().await, options())).await;
    soon(remote.write_through(512, &bytes)).await.expect("done");
    assert_eq!(refuses.came(), [(0x8a, 0), (0x8a, BLOCK), (0x35, 0)]);
}

#[tokio::test]
async fn commands_as_bytes_are_repeated_only_if_they_change_nothing() {
    let unit = Arc::new(Unit::new(64));
    let remote = soon(attach(&unit.serve().await, options())).await;
    let command = RawCommand::new(&[0xc1, 2, 3, 4, 5, 6, 7]).expect("seven bytes");
    let run = |remote: &Remote, command| {
        let remote = remote.clone();
        async move {
            remote
                .execute_raw(command, Transfer::None, Class::Demand)
                .await
        }
    };
    let done = soon(run(&remote, command)).await.expect("an answer");
    assert_eq!(done.status, Status::GOOD);
    let padded = [0xc1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(unit.came.lock().expect("no panic")[0].0, padded);

    *unit.cuts.lock().expect("no panic") = 1;
    let lost = soon(run(&remote, command)).await;
    assert!(matches!(lost, Err(Error::Interrupted)), "{lost:?}");
    assert_eq!(unit.came().len(), 2);

    *unit.cuts.lock().expect("no panic") = 1;
    let again = soon(run(&remote, command.changes_nothing())).await;
    assert_eq!(again.expect("an answer").status, Status::GOOD);
    assert_eq!(unit.came().len(), 4);

    for length in [0, 5, 17] {
        let refused = RawCommand::new(&vec![0; length]);
        assert!(matches!(refused, Err(Error::CommandLength(found)) if found == length));
    }
}

fn check_zeros(unit: &Unit, zeros: std::ops::Range<usize>) {
    let bytes = unit.bytes.lock().expect("no panic");
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        let zero = block.iter().all(|byte| *byte == 0);
        assert_eq!(zero, zeros.contains(&number), "block {number}");
    }
}
