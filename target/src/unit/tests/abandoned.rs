//! Commands that change several runs of blocks, and that nobody waits for any more.

use iscsi_proto::scsi::Command;
use tokio::sync::Semaphore;

use super::{Bench, block};
use crate::tasks::poll_once;

/// UNMAP of blocks 0 and 200.
const UNMAP: [u8; 10] = [0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0];

fn unmap_list() -> Vec<u8> {
    let mut list = vec![0; 40];
    (list[1], list[3]) = (38, 32);
    (list[19], list[31], list[35]) = (1, 200, 1);
    list
}

/// What is written after an abort was answered stays: no run of an aborted UNMAP is given back behind it.
#[tokio::test]
async fn an_aborted_unmap_stays_in_front_of_later_writes_with_all_its_runs() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let bench = Bench::new();
    *bench.disk().gate.lock().unwrap() = Some(&GATE);
    let list = unmap_list();
    let mut unmap = Box::pin(bench.run(&UNMAP, &list));
    assert!(poll_once(unmap.as_mut()).await.is_pending());
    let mut whole = [0; 16];
    whole[..10].copy_from_slice(&UNMAP);
    bench.unit().fence(&Command::parse(&whole).unwrap());
    let write = [0x2a, 0, 0, 0, 0, 200, 0, 0, 1, 0];
    let new = block(0xee);
    let later = bench.run_as(bench.other(), &write, &new);
    GATE.add_permits(3);
    let (unmapped, later) = tokio::join!(unmap, later);
    assert_eq!((unmapped.status.0, later.status.0), (0, 0));
    assert_eq!(bench.blocks(0, 1), block(0));
    assert!(bench.blocks(200, 1) == new, "the later write is lost");
}
