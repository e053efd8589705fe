//! Many commands in one go: more than a turn of the session does.

use iscsi_target::TargetOptions;

use crate::harness::{Initiator, READ_BLOCK_2, World, write_block};

/// More than two turns of 64 commands, less than the window.
const BURST: usize = 100;

/// A SCSI command PDU: `flags` are its second byte, `write` is its immediate data.
fn command(
    initiator: &mut Initiator,
    flags: u8,
    cdb: &[u8],
    length: u32,
    write: &[u8],
) -> (u32, Vec<u8>) {
    let mut header = initiator.header(0x01, flags, 0);
    let immediate = u32::try_from(write.len()).expect("a short PDU");
    header[5..8].copy_from_slice(&immediate.to_be_bytes()[1..]);
    header[20..24].copy_from_slice(&length.to_be_bytes());
    header[32..32 + cdb.len()].copy_from_slice(cdb);
    initiator.cmd_sn += 1;
    (initiator.tag, [&header, write].concat())
}

/// A session that uses one unit alone: nothing but answers and requests wakes it.
async fn settled(world: &World) -> Initiator {
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    initiator
}

/// What the last turn asks of the session leads to work, though nothing comes from the initiator any more.
#[tokio::test]
async fn a_burst_of_writes_with_all_of_their_data_is_answered() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = settled(&world).await;
    for round in 0..10 {
        let (mut bytes, mut tags) = (Vec::new(), Vec::new());
        for _ in 0..BURST {
            let cdb = write_block(round);
            let (tag, pdu) = command(&mut initiator, 0xa1, &cdb, 512, &[round; 512]);
            tags.push(tag);
            bytes.extend(pdu);
        }
        initiator.send_bytes(&bytes).await;
        for tag in tags {
            assert_eq!(initiator.outcome(tag).await.0, 0, "round {round}");
        }
        assert_eq!(world.volume.block(round.into()), vec![round; 512]);
    }
}

/// RFC 7143 §11.3.1: a command that is behind others with HEAD OF QUEUE begins when they have ended, whatever else is
/// still under way.
#[tokio::test]
async fn what_waited_for_the_last_of_a_burst_begins() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = settled(&world).await;
    // A write whose data does not come.
    let (_, awaiting) = command(&mut initiator, 0xa1, &write_block(9), 512, &[]);
    initiator.send_bytes(&awaiting).await;
    let r2t = initiator.receive().await.expect("an R2T");
    assert_eq!(r2t.header[0], 0x31);
    for round in 0..10 {
        let (mut bytes, mut tags) = (Vec::new(), Vec::new());
        for number in 0..=BURST {
            let attribute = if number == BURST { 0xc1 } else { 0xc3 };
            let (tag, pdu) = command(&mut initiator, attribute, &READ_BLOCK_2, 512, &[]);
            tags.push(tag);
            bytes.extend(pdu);
        }
        initiator.send_bytes(&bytes).await;
        for tag in tags {
            assert_eq!(initiator.outcome(tag).await.0, 0, "round {round}");
        }
    }
}
