//! What initiators may make grow, and what is answered at the limit.

use std::time::Duration;

use iscsi_target::{ExportError, TargetLimits, TargetOptions};
use tokio::time::timeout;

use crate::harness::{
    DISK, Initiator, PATIENCE, READ_BLOCK_2, World, discovery, normal, unit, write_block,
};

/// However many connections one source opens without logging in, another gets in.
#[tokio::test]
async fn who_does_not_log_in_keeps_nobody_out() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            logins: 8,
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    })
    .await;
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(Initiator::connect_from("127.0.0.9", &world.address).await);
    }
    let mut quiet = world.connect().await;
    for _ in 0..100 {
        flood.push(Initiator::connect_from("127.0.0.9", &world.address).await);
    }
    assert_eq!(quiet.log_in(1, &normal(DISK)).await.header[36..38], [0, 0]);
    quiet.settle(0).await;
    // From the flood's own address, too, who logs in at once gets in.
    let mut same = Initiator::connect_from("127.0.0.9", &world.address).await;
    assert_eq!(same.log_in(2, &normal(DISK)).await.header[36..38], [0, 0]);
    for mut driven_out in flood.drain(..190) {
        assert!(driven_out.is_closed().await);
    }
    assert!(world.target.stats().connections_refused >= 190);
    assert_eq!(quiet.scsi(0, &READ_BLOCK_2, 512).await.0, 0);
}

/// Half a login is none.
#[tokio::test]
async fn who_stops_in_the_middle_of_a_login_is_driven_out_as_well() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            logins: 2,
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    })
    .await;
    let mut slow = world.connect().await;
    let response = slow.login_request(0x04, 1, 0, 0, &normal(DISK)).await;
    assert_eq!(response.unwrap().header[36..38], [0, 0]);
    let _others = (world.connect().await, world.connect().await);
    assert!(slow.is_closed().await);
    assert_eq!(world.target.stats().sessions, 0, "its seat is free again");
}

/// The target holds more than it should: windows narrow, everybody still gets everything.
#[tokio::test]
async fn beyond_the_limit_of_bytes_everybody_gets_little_at_a_time() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            bytes_in_flight: 1 << 20,
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    })
    .await;
    let mut greedy = world.settled(1).await;
    let mut modest = world.settled(2).await;
    // Nobody reads what these send, and more than the limit waits for the sockets.
    let read_all = [0x28, 0, 0, 0, 0, 0, 0, 0x04, 0x00, 0];
    let mut tags = Vec::new();
    for _ in 0..60 {
        tags.push(greedy.command(0, &read_all, 1024 * 512, &[]).await);
    }
    // What was promised is kept, so the window narrows as commands come.
    for _ in 0..128 {
        assert_eq!(modest.scsi(3, &READ_BLOCK_2, 512).await.0, 0);
    }
    let window = modest.max_cmd_sn.wrapping_sub(modest.cmd_sn) + 1;
    let (held, reads) = (
        world.target.stats().bytes_in_flight,
        world.volume.below().reads(),
    );
    if held > 1 << 20 {
        assert!(window <= 16, "{window} of 128");
    }
    // What waits in the target and in the sockets between, generously.
    assert!(reads < 40, "{reads} answers for one who takes none");
    for tag in tags {
        let mut bytes = 0;
        while bytes < 1024 * 512 {
            bytes += greedy.answer_to(tag).await.data.len();
        }
    }
    greedy.window_opens().await;
    assert_eq!(greedy.scsi(0, &READ_BLOCK_2, 512).await.0, 0);
    assert_eq!(world.target.stats().bytes_in_flight, 0);
}

/// One that takes nothing does not hold the memory of all others for ever.
#[tokio::test]
async fn who_takes_nothing_is_dropped_when_others_want_the_memory() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            bytes_in_flight: 1 << 20,
            ..TargetLimits::default()
        },
        stall_grace: Duration::from_millis(100),
        ..TargetOptions::default()
    })
    .await;
    let mut greedy = world.settled(1).await;
    let read_all = [0x28, 0, 0, 0, 0, 0, 0, 0x04, 0x00, 0];
    for _ in 0..60 {
        greedy.command(0, &read_all, 1024 * 512, &[]).await;
    }
    let dropped = async {
        while world.target.stats().sessions > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, dropped).await.expect("it is dropped");
    assert_eq!(world.target.stats().bytes_in_flight, 0);
    let mut modest = world.settled(2).await;
    assert_eq!(modest.scsi(0, &READ_BLOCK_2, 512).await.0, 0);
}

/// What a session leaves behind counts until it ends: new sessions do not add to it without bound.
#[tokio::test]
async fn writes_that_outlive_their_session_are_not_forgotten() {
    let world = World::new(TargetOptions {
        write_grace: Duration::from_millis(50),
        ..TargetOptions::default()
    })
    .await;
    world.volume.hold();
    let mut initiator = world.settled(1).await;
    initiator.command(0, &write_block(5), 0, &[0x55; 512]).await;
    world.volume.hangs(1).await;
    drop(initiator);
    let over = async {
        while world.target.stats().sessions > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, over).await.expect("the session ends");
    assert!(world.target.stats().bytes_in_flight >= 512);
    world.volume.let_go();
    let given_back = async {
        while world.target.stats().bytes_in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, given_back).await.expect("the write ends");
    assert_eq!(world.volume.block(5), [0x55; 512]);
}

#[tokio::test]
async fn an_export_has_so_many_units() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            units: 2,
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    })
    .await;
    let third = unit(7, &world.other);
    assert!(matches!(
        world.target.add_unit(&DISK.parse().unwrap(), third),
        Err(ExportError::TooManyUnits { most: 2 })
    ));
}

/// A discovery session is not pinged (RFC 7143 §7.4.3), so it would stay for ever.
#[tokio::test]
async fn a_discovery_session_that_asks_nothing_is_closed() {
    let world = World::new(TargetOptions {
        discovery_grace: Duration::from_millis(300),
        ..TargetOptions::default()
    })
    .await;
    let mut asking = world.connect().await;
    let response = asking.log_in(1, &discovery()).await;
    assert_eq!(response.header[36..38], [0, 0]);
    assert!(asking.send_targets("All").await.contains(DISK));
    assert!(asking.is_closed().await);
    // Normal sessions may be silent as long as they answer pings.
    let mut quiet = world.settled(2).await;
    let mut asking = world.connect().await;
    asking.log_in(3, &discovery()).await;
    assert!(asking.is_closed().await);
    assert_eq!(quiet.scsi(0, &READ_BLOCK_2, 512).await.0, 0);
}
