//! Any sequence of commands against an array of bytes that obeys the same rules the simple way.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest,
};

use super::Bench;

/// Blocks that commands play with.
const FIELD: usize = 12;

#[derive(Clone, Copy, Debug)]
enum Step {
    Read,
    Write,
    WriteAndVerify,
    Verify,
    VerifyOne,
    Compare { wrong: bool },
    Or,
    Same { unmap: bool, zero: bool },
    Unmap,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u8, u8, u8)>> {
    let step = prop_oneof![
        Just(Step::Read),
        Just(Step::Write),
        Just(Step::WriteAndVerify),
        Just(Step::Verify),
        Just(Step::VerifyOne),
        any::<bool>().prop_map(|wrong| Step::Compare { wrong }),
        Just(Step::Or),
        any::<(bool, bool)>().prop_map(|(unmap, zero)| Step::Same { unmap, zero }),
        Just(Step::Unmap),
    ];
    prop::collection::vec((step, 0u8..8, 1u8..5, any::<u8>()), 1..40)
}

fn sixteen(opcode: u8, flags: u8, lba: u8, blocks: u8) -> [u8; 16] {
    [
        opcode, flags, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0,
    ]
}

async fn follow(bench: &Bench, model: &mut [u8], step: (Step, u8, u8, u8)) {
    let (step, lba, blocks, fill) = step;
    let length = usize::from(blocks) * 512;
    let at = usize::from(lba) * 512;
    let run = &mut model[at..at + length];
    let data: Vec<u8> = (0..length)
        .map(|index| fill ^ u8::try_from(index / 100).unwrap())
        .collect();
    let command = |opcode, flags| sixteen(opcode, flags, lba, blocks);
    match step {
        Step::Read => assert_eq!(bench.good(&command(0x88, 0), &[]).await, run),
        Step::Write | Step::WriteAndVerify => {
            let verified = matches!(step, Step::WriteAndVerify);
            let (opcode, flags) = if verified { (0x8e, 0x02) } else { (0x8a, 0) };
            bench.good(&command(opcode, flags), &data).await;
            run.copy_from_slice(&data);
        }
        Step::Verify => {
            let status = bench.run(&command(0x8f, 0x02), &data).await.status.0;
            assert_eq!(status == 0, data == run);
            bench.good(&command(0x8f, 0x02), run).await;
        }
        Step::VerifyOne => {
            let first = run[..512].to_vec();
            let status = bench.run(&command(0x8f, 0x06), &first).await.status.0;
            assert_eq!(status == 0, run.chunks(512).all(|block| block == first));
        }
        Step::Compare { wrong } => {
            let mut sent = [&*run, &data].concat();
            let at = usize::from(fill) % length;
            if wrong {
                sent[at] ^= 1;
            }
            let cdb = sixteen(0x89, 0, lba, 0);
            let cdb = [&cdb[..13], &[blocks, 0, 0]].concat();
            let response = bench.run(&cdb, &sent).await;
            if let Some(sense) = response.sense {
                assert!(wrong);
                let offset = u32::from_be_bytes([sense[3], sense[4], sense[5], sense[6]]);
                assert_eq!((sense[2], usize::try_from(offset).unwrap()), (0xe, at));
            } else {
                assert!(!wrong);
                run.copy_from_slice(&data);
            }
        }
        Step::Or => {
            bench.good(&command(0x8b, 0), &data).await;
            run.iter_mut().zip(&data).for_each(|(old, new)| *old |= new);
        }
        Step::Same { unmap, zero } => {
            let block = if zero {
                vec![0; 512]
            } else {
                data[..512].to_vec()
            };
            let flags = if unmap { 0x08 } else { 0 };
            bench.good(&command(0x93, flags), &block).await;
            run.chunks_mut(512)
                .for_each(|one| one.copy_from_slice(&block));
        }
        Step::Unmap => {
            let list = [
                0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0, 0, 0,
            ];
            bench.good(&UNMAP, &list).await;
            run.fill(0);
        }
    }
}

const UNMAP: [u8; 10] = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_unit_is_an_array_of_bytes(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (found, model) = runtime.block_on(async {
            let bench = Bench::new();
            let mut model = bench.blocks(0, FIELD);
            for step in steps {
                follow(&bench, &mut model, step).await;
            }
            (bench.blocks(0, FIELD), model)
        });
        prop_assert_eq!(found, model);
    }
}
