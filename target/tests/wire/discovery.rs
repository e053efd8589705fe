//! Which discovery session replaces which.

use std::sync::Arc;

use iscsi_target::TargetOptions;
use tokio::net::TcpListener;

use crate::harness::{DISK, Initiator, World, discovery, normal};

/// A second portal of the same target.
async fn second_portal(world: &World) -> String {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("the loopback works");
    let address = listener.local_addr().expect("a bound socket").to_string();
    tokio::spawn(Arc::clone(&world.target).serve(listener, world.stop.clone()));
    address
}

async fn discover(address: &str, isid: u8, keys: &str) -> Initiator {
    let mut initiator = Initiator::connect(address).await;
    let response = initiator.log_in(isid, keys).await;
    assert_eq!(response.header[36..38], [0, 0]);
    initiator
}

/// RFC 7143 §7.4.2.1: the same initiator port at the same portal replaces its session; at another portal it does not.
#[tokio::test]
async fn an_unnamed_discovery_session_is_reinstated_at_its_own_portal_alone() {
    let world = World::new(TargetOptions::default()).await;
    let elsewhere = second_portal(&world).await;
    let mut first = discover(&world.address, 1, &discovery()).await;
    let mut there = discover(&elsewhere, 1, &discovery()).await;
    let mut other = discover(&world.address, 2, &discovery()).await;
    assert_eq!(world.target.sessions().len(), 3);
    let mut second = discover(&world.address, 1, &discovery()).await;
    assert!(first.is_closed().await);
    for session in [&mut second, &mut there, &mut other] {
        assert!(session.send_targets("All").await.contains(DISK));
    }
}

/// RFC 7143 §7.4.2.2: a session with the target that a discovery session named replaces it, wherever it comes in; one
/// that names no target does not.
#[tokio::test]
async fn a_named_discovery_session_is_reinstated_by_name() {
    let world = World::new(TargetOptions::default()).await;
    let elsewhere = second_portal(&world).await;
    let named = format!("{}TargetName={DISK}\0", discovery());
    let mut first = discover(&world.address, 1, &named).await;
    let mut unnamed = discover(&world.address, 1, &discovery()).await;
    assert!(first.send_targets("All").await.contains(DISK));
    let mut second = discover(&elsewhere, 1, &named).await;
    assert!(first.is_closed().await);
    let _normal = discover(&world.address, 1, &normal(DISK)).await;
    assert!(second.is_closed().await);
    assert!(unnamed.send_targets("All").await.contains(DISK));
}

/// RFC 7143 §6.3.4: the connection of a discovery session is not replaced; elsewhere there is not even its session.
#[tokio::test]
async fn a_connection_of_a_discovery_session_is_not_reinstated() {
    let world = World::new(TargetOptions::default()).await;
    let elsewhere = second_portal(&world).await;
    let mut first = discover(&world.address, 1, &discovery()).await;
    for (portal, status) in [(&elsewhere, [2, 0x0a]), (&world.address, [2, 6])] {
        let mut next = Initiator::connect(portal).await;
        let (tsih, keys) = (first.tsih, discovery());
        let response = next.login_request(0x87, 1, tsih, 0, &keys).await;
        assert_eq!(response.expect("a login response").header[36..38], status);
    }
    assert!(first.send_targets("All").await.contains(DISK));
}

/// RFC 7143 §4.3, appendix C: SendTargets tells every portal of the group, with its tag, as long as it is open.
#[tokio::test]
async fn all_portals_of_the_group_are_told_at_each() {
    let world = World::new(TargetOptions::default()).await;
    let elsewhere = second_portal(&world).await;
    for (here, other) in [(&world.address, &elsewhere), (&elsewhere, &world.address)] {
        let mut session = discover(here, 1, &discovery()).await;
        let told = session.send_targets("All").await;
        let addresses: Vec<_> = told
            .split('\0')
            .filter_map(|key| key.strip_prefix("TargetAddress="))
            .collect();
        assert_eq!(addresses, [format!("{here},1"), format!("{other},1")]);
    }
}
