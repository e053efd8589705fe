//! Who becomes which session, and what becomes of the session that was there before (RFC 7143 §6.3).

use std::time::Duration;

use iscsi_target::{ExportError, TargetLimits, TargetOptions};
use tokio::time::timeout;

use crate::harness::{
    DISK, Initiator, PATIENCE, READ_BLOCK_2, TEST_UNIT_READY, World, discovery, export, normal,
    write_block,
};

/// The status of a login.
async fn status(initiator: &mut Initiator, isid: u8, keys: &str) -> [u8; 2] {
    let response = initiator.log_in(isid, keys).await;
    [response.header[36], response.header[37]]
}

/// RFC 7143 §11.13.5
#[tokio::test]
async fn who_is_not_wanted_is_told_why() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            sessions: 1,
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    })
    .await;
    let mut stranger = world.connect().await;
    let keys = normal("iqn.2001-04.com.example:other");
    assert_eq!(status(&mut stranger, 1, &keys).await, [2, 3], "not found");
    assert!(stranger.is_closed().await);
    let _first = world.log_in(1).await;
    let mut second = world.connect().await;
    let told = status(&mut second, 2, &normal(DISK)).await;
    assert_eq!(told, [3, 2], "out of resources");
    assert!(second.is_closed().await);
    assert_eq!(world.target.stats().logins_refused, 2);
    // Who reinstates a session takes no more room than the session did.
    world.log_in(1).await.settle_after_loss().await;
}

#[tokio::test]
async fn one_initiator_does_not_take_all_sessions() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            sessions_per_initiator: 2,
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    })
    .await;
    let own = (world.log_in(1).await, world.log_in(2).await);
    let mut third = world.connect().await;
    assert_eq!(status(&mut third, 3, &normal(DISK)).await, [3, 2]);
    let mut other = world.connect().await;
    let keys = normal(DISK).replace(":host", ":neighbour");
    assert_eq!(status(&mut other, 3, &keys).await, [0, 0]);
    drop(own);
}

/// RFC 7143 §6.3.1 and §6.3.4: a TSIH that is not 0 names a session, which has to exist and to be the initiator's own.
#[tokio::test]
async fn a_connection_cannot_join_a_session() {
    let world = World::new(TargetOptions::default()).await;
    let mut first = world.settled(1).await;
    let tsih = first.tsih;
    assert_ne!(tsih, 0);
    let keys = normal(DISK);
    for (isid, tsih, cid, expected) in [
        // A second connection: there is but one.
        (1, tsih, 1, [2, 6]),
        // Of no session, and of somebody else's.
        (1, tsih.wrapping_add(1), 0, [2, 0x0a]),
        (2, tsih, 0, [2, 0x0a]),
    ] {
        let mut joining = world.connect().await;
        let response = joining.login_request(0x87, isid, tsih, cid, &keys).await;
        let header = response.expect("a login response").header;
        assert_eq!(header[36..38], expected, "{isid} {tsih} {cid}");
        assert!(joining.is_closed().await);
    }
    assert_eq!(first.scsi(0, &READ_BLOCK_2, 512).await.0, 0);
}

/// RFC 7143 §6.3.1: the session is over with the Logout Response, although a write of it is not.
#[tokio::test]
async fn nobody_joins_a_session_that_was_logged_out() {
    let world = World::new(TargetOptions::default()).await;
    let mut first = world.settled(1).await;
    world.volume.hold();
    first.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    let logout = first.header(0x46, 0x80, 0);
    first.send(logout, &[]).await;
    let response = first.receive().await.expect("a logout response");
    assert_eq!(response.header[0], 0x26);
    let mut late = world.connect().await;
    let (tsih, keys) = (first.tsih, normal(DISK));
    let response = late.login_request(0x87, 1, tsih, 0, &keys).await;
    let header = response.expect("a login response").header;
    assert_eq!(header[36..38], [2, 0x0a]);
}

/// RFC 7143 §4.4.3, §6.3.5, §6.3.5.1 and §11.14.5: the old session is gone, its tasks with it, and the nexus is told
/// that it was lost.
#[tokio::test]
async fn a_session_is_reinstated() {
    let world = World::new(TargetOptions::default()).await;
    let mut old = world.settled(1).await;
    let other = world.log_in(2).await;
    world.volume.hold();
    old.command(0, &READ_BLOCK_2, 512, &[]).await;
    world.volume.hangs(1).await;
    let mut new = world.log_in(1).await;
    assert!(old.is_closed().await, "without an answer");
    assert_ne!(new.tsih, old.tsih);
    new.settle_after_loss().await;
    let sessions = world.target.sessions();
    assert_eq!(sessions.len(), 2);
    assert!(
        sessions
            .iter()
            .all(|session| session.tsih != 0 && session.target == Some(DISK.parse().unwrap()))
    );
    drop(other);
}

/// RFC 7143 §6.3.4, §6.3.6 and §11.14.5: the old connection is implicitly logged out, its tasks are terminated without a
/// word, and the session goes on: same handle, same agreements, and the initiator is told that commands were cleared.
#[tokio::test]
async fn a_connection_is_reinstated() {
    let world = World::new(TargetOptions::default()).await;
    let mut old = world.connect().await;
    let keys = format!("{}MaxBurstLength=4096\0InitialR2T=Yes\0", normal(DISK));
    let response = old.login_request(0x87, 1, 0, 9, &keys).await.unwrap();
    assert_eq!(response.header[36..38], [0, 0]);
    old.settle(0).await;
    // RESERVE(6) is lost with a nexus, and this nexus is not lost.
    assert_eq!(old.scsi(0, &[0x16, 0, 0, 0, 0, 0], 0).await.0, 0);
    let mut other = world.settled(2).await;
    world.volume.hold();
    old.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    let mut new = world.connect().await;
    new.cmd_sn = 500;
    let (tsih, keys) = (old.tsih, normal(DISK));
    let (response, ()) = tokio::join!(new.login_request(0x87, 1, tsih, 9, &keys), async {
        assert!(old.is_closed().await, "without an answer");
        assert_eq!(other.scsi(3, &TEST_UNIT_READY, 0).await.0, 0);
        world.volume.let_go();
    });
    assert_eq!(response.unwrap().header[36..38], [0, 0]);
    assert_eq!(new.tsih, tsih);
    assert_eq!(world.volume.block(2), [0x11; 512], "it had ended before");
    let told = new.scsi(0, &TEST_UNIT_READY, 0).await;
    assert_eq!(told, (2, vec![], [6, 0x47, 0x7f]));
    assert_eq!(new.scsi(0, &TEST_UNIT_READY, 0).await.0, 0);
    assert_eq!(new.scsi(3, &TEST_UNIT_READY, 0).await.2, [6, 0x29, 0]);
    let conflict = other.scsi(0, &TEST_UNIT_READY, 0).await;
    assert_eq!(conflict.0, 0x18, "the reservation is still there");
    // 8 KiB come in bursts of 4 KiB: what was agreed upon at first still holds.
    let read_16 = [0x28, 0, 0, 0, 0, 0, 0, 0, 16, 0];
    new.command(0, &read_16, 8192, &[]).await;
    let burst = new.receive().await.unwrap();
    assert_eq!((burst.header[1] & 0x80, burst.data.len()), (0x80, 4096));
    assert_eq!(new.receive().await.unwrap().data.len(), 4096);
    assert_eq!(world.target.stats().sessions, 2);
}

/// RFC 7143 §6.3.3: what holds for the session is not spoken of again.
#[tokio::test]
async fn a_connection_that_is_reinstated_changes_nothing_of_its_session() {
    let world = World::new(TargetOptions::default()).await;
    let mut old = world.settled(1).await;
    let mut new = world.connect().await;
    let keys = format!("{}MaxBurstLength=4096\0", normal(DISK));
    let response = new.login_request(0x87, 1, old.tsih, 0, &keys).await;
    assert_eq!(response.unwrap().header[36..38], [2, 0]);
    assert_eq!(
        old.scsi(0, &TEST_UNIT_READY, 0).await.0,
        0,
        "nothing has happened"
    );
    // What is the connection's own may differ.
    let mut new = world.connect().await;
    let keys = format!("{}MaxRecvDataSegmentLength=512\0", normal(DISK));
    let response = new.login_request(0x87, 1, old.tsih, 0, &keys).await;
    assert_eq!(response.unwrap().header[36..38], [0, 0]);
    assert!(old.is_closed().await);
    new.command(0, &[0x28, 0, 0, 0, 0, 2, 0, 0, 2, 0], 1024, &[])
        .await;
    assert_eq!(new.receive().await.unwrap().data, [2; 512]);
}

/// A write of the old session must not land on top of what the new one writes.
#[tokio::test]
async fn reinstatement_waits_for_writes_that_are_under_way() {
    let world = World::new(TargetOptions::default()).await;
    let mut old = world.settled(1).await;
    world.volume.hold();
    old.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    let mut new = world.connect().await;
    let mut newer = world.connect().await;
    // The first newcomer is replaced by the second before it is in; the second has to wait for the old one, too.
    let login = async {
        let response = new.log_in_or_nothing(1, &normal(DISK)).await;
        assert!(response.is_none(), "replaced while it waited");
        new
    };
    let login = tokio::spawn(login);
    assert!(old.is_closed().await, "the newcomer has taken its place");
    let keys = normal(DISK);
    let (response, ()) = tokio::join!(newer.log_in(1, &keys), async {
        login.await.expect("it is replaced");
        assert_eq!(world.volume.block(2), [2; 512]);
        world.volume.let_go();
    });
    assert_eq!(response.header[36..38], [0, 0]);
    assert_eq!(world.volume.block(2), [0x11; 512]);
    newer.settle_after_loss().await;
    assert_eq!(newer.write(0, 2, 0x22).await, 0);
    assert_eq!(world.volume.block(2), [0x22; 512]);
}

#[tokio::test]
async fn who_waits_for_a_predecessor_does_not_hold_up_the_end() {
    let world = World::new(TargetOptions {
        write_grace: Duration::from_millis(200),
        ..TargetOptions::default()
    })
    .await;
    let mut old = world.settled(1).await;
    world.volume.hold();
    old.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    let mut new = world.connect().await;
    let login = tokio::spawn(async move { new.log_in_or_nothing(1, &normal(DISK)).await });
    assert!(old.is_closed().await);
    world.stop.cancel();
    timeout(PATIENCE, world.serving)
        .await
        .expect("serving ends")
        .unwrap();
    login
        .await
        .expect("the newcomer is told something, or closed");
    assert_eq!(world.target.stats().sessions, 0);
}

#[tokio::test]
async fn exports_come_and_go() {
    let world = World::new(TargetOptions::default()).await;
    let again = world.target.export(export(&world.volume, &world.other));
    assert!(matches!(again, Err(ExportError::NameTaken)));
    let mut initiator = world.log_in(1).await;
    assert!(world.target.withdraw(&DISK.parse().unwrap()));
    assert!(initiator.is_closed().await, "its sessions are closed");
    let mut late = world.connect().await;
    assert_eq!(status(&mut late, 1, &normal(DISK)).await, [2, 3]);
    let again = world.target.export(export(&world.volume, &world.other));
    again.unwrap();
    world.log_in(1).await.settle(0).await;
}

/// RFC 7143 §13.8 and appendix C: the address is where the initiator asked, with the portal group.
#[tokio::test]
async fn discovery_names_the_target_where_it_was_asked() {
    let world = World::new(TargetOptions {
        portal_group_tag: 5,
        ..TargetOptions::default()
    })
    .await;
    let mut initiator = world.connect().await;
    assert_eq!(status(&mut initiator, 1, &discovery()).await, [0, 0]);
    let record = format!("TargetName={DISK}\0TargetAddress={},5\0", world.address);
    assert_eq!(initiator.send_targets("All").await, record);
    assert_eq!(initiator.send_targets(DISK).await, record);
    let unknown = initiator.send_targets("iqn.2001-04.com.example:other");
    assert_eq!(unknown.await, "");
    // A normal session knows its own target alone.
    let mut session = world.settled(2).await;
    assert_eq!(session.send_targets("").await, record);
    assert_eq!(session.send_targets(DISK).await, record);
}

impl Initiator {
    /// Clears what unit 0 has to say to a nexus that was lost.
    async fn settle_after_loss(&mut self) {
        let told = self.scsi(0, &TEST_UNIT_READY, 0).await;
        assert_eq!(told, (2, vec![], [6, 0x29, 0x07]));
    }

    async fn log_in_or_nothing(&mut self, isid: u8, keys: &str) -> Option<[u8; 2]> {
        let response = self.login_request(0x87, isid, 0, 0, keys).await?;
        Some([response.header[36], response.header[37]])
    }
}
