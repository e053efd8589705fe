//! The end of the target.

use std::time::Duration;

use iscsi_target::TargetOptions;
use tokio::time::timeout;
use vmthunder_volume::testing::Fault;

use crate::harness::{PATIENCE, READ_BLOCK_2, World, discovery, write_block};

/// RFC 7143 §11.9.1: the initiator is asked to log out, and may use the time that it is given.
#[tokio::test]
async fn initiators_are_asked_to_log_out() {
    let world = World::new(TargetOptions {
        logout_grace: PATIENCE,
        ..TargetOptions::default()
    })
    .await;
    let mut initiator = world.settled(1).await;
    let mut asking = world.connect().await;
    asking.log_in(2, &discovery()).await;
    let mut half = world.connect().await;
    world.stop.cancel();
    let request = initiator.receive().await.expect("a message");
    assert_eq!((request.header[0], request.header[36]), (0x32, 1));
    assert_eq!(
        request.header[40..44],
        [0, 0, 0, 20],
        "Parameter2, Parameter3"
    );
    assert!(asking.is_closed().await, "discovery sessions are closed");
    assert!(half.is_closed().await, "so are logins");
    // What is under way still comes to its end.
    initiator.stat_sn += 1;
    assert_eq!(initiator.write(0, 2, 0x22).await, 0);
    let mut logout = initiator.header(0x46, 0x80, 0);
    logout[28..32].copy_from_slice(&initiator.stat_sn.to_be_bytes());
    initiator.send(logout, &[]).await;
    let answer = initiator.receive().await.expect("an answer");
    assert_eq!((answer.header[0], answer.header[2]), (0x26, 0));
    assert!(initiator.is_closed().await);
    timeout(PATIENCE, world.serving)
        .await
        .expect("serving ends")
        .unwrap();
    assert_eq!(world.volume.block(2), [0x22; 512]);
}

/// Whoever does not log out, and whatever hangs, the end comes.
#[tokio::test]
async fn stopping_closes_everything() {
    let world = World::new(TargetOptions {
        logout_grace: Duration::from_millis(100),
        write_grace: Duration::from_millis(100),
        ..TargetOptions::default()
    })
    .await;
    let mut initiator = world.settled(1).await;
    world.volume.queue(Fault::Hang);
    initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
    world.other.hold();
    initiator.command(3, &write_block(2), 0, &[0x11; 512]).await;
    world.other.hangs(1).await;
    world.stop.cancel();
    let request = initiator.receive().await.expect("a message");
    assert_eq!((request.header[0], request.header[36]), (0x32, 1));
    let drop = initiator.receive().await.expect("a message");
    assert_eq!(
        (drop.header[0], drop.header[36]),
        (0x32, 2),
        "the connection is dropped"
    );
    assert!(initiator.is_closed().await);
    timeout(PATIENCE, world.serving)
        .await
        .expect("serving ends")
        .unwrap();
    assert_eq!(world.target.stats().sessions, 0);
}
