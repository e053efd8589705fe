//! What the standard says about single PDUs, as far as it takes units to show it.

use iscsi_target::TargetOptions;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::harness::{PATIENCE, TEST_UNIT_READY, World, word};

/// RFC 7143 §11.4.5.3: what the allocation length cuts off is no overflow; what the buffer has room for and does not
/// get is underflow.
#[tokio::test]
async fn a_list_of_units_that_was_cut_is_no_overflow() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    // Units 0 and 3: eight bytes and sixteen. Allocation length, buffer, bytes sent, flags, residual.
    for (allocation, buffer, sent, flags, residual) in [
        (24, 24, 24, 0x81, 0),
        (16, 16, 16, 0x81, 0),
        (16, 24, 16, 0x83, 8),
        (64, 64, 24, 0x83, 40),
        (24, 16, 16, 0x85, 8),
    ] {
        let cdb = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, allocation, 0, 0];
        let tag = initiator.command(0, &cdb, buffer, &[]).await;
        let answer = initiator.answer_to(tag).await;
        assert_eq!((answer.header[0], answer.header[1]), (0x25, flags));
        assert_eq!(word(&answer.header, 44), residual);
        assert_eq!(
            (answer.data.len(), &answer.data[..4]),
            (sent, &[0, 0, 0, 16][..])
        );
    }
}

/// RFC 7143 §11.2.2.3: a command whose CDB goes on in an additional header segment is refused, and nothing else is.
#[tokio::test]
async fn a_long_cdb_is_refused() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    // VERIFY(32): operation code 7Fh, 24 bytes behind the eighth; 17 bytes of AHS, of which one is reserved.
    let mut header = initiator.header(0x01, 0x80, 0);
    let tag = word(&header, 16);
    header[4] = 5;
    header[32] = 0x7f;
    header[39] = 24;
    header[41] = 0x0a;
    initiator.cmd_sn += 1;
    initiator.send(header, &[]).await;
    let mut segment = [0; 20];
    segment[..4].copy_from_slice(&[0, 17, 0x01, 0]);
    let sent = initiator.stream.write_all(&segment).await;
    sent.expect("the target reads on");
    assert_eq!(initiator.outcome(tag).await, (2, vec![], [5, 0x20, 0x00]));
    assert_eq!(initiator.scsi(0, &TEST_UNIT_READY, 0).await.0, 0);
}

/// RFC 7143 §6.3.5.1: the end of a session is the loss of its nexus, which gives up what it had reserved by RESERVE(6).
#[tokio::test]
async fn a_session_that_ends_loses_its_nexus() {
    const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
    let world = World::new(TargetOptions::default()).await;
    let mut first = world.settled(1).await;
    let mut second = world.settled(2).await;
    assert_eq!(first.scsi(0, &RESERVE, 0).await.0, 0);
    assert_eq!(second.scsi(0, &TEST_UNIT_READY, 0).await.0, 0x18);
    // Logout of the session, immediate.
    let header = first.header(0x46, 0x80, 0);
    first.send(header, &[]).await;
    assert_eq!(first.receive().await.expect("an answer").header[0], 0x26);
    assert!(first.is_closed().await);
    let gone = async {
        while world.target.sessions().len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the session ends");
    assert_eq!(second.scsi(0, &TEST_UNIT_READY, 0).await.0, 0);
}
