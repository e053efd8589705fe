//! Peers over iSCSI, on the loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iscsi_target::{Export, Target, TargetOptions, Unit, UnitIdentity};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vmthunder_swarm::peer::{PeerAddress, PeerOptions, PeerSessions, PeerVolume};
use vmthunder_volume::testing::{Fault, FaultyVolume, MemVolume};
use vmthunder_volume::{BlockSize, Class, EXTENT_BYTES, Error, Geometry, Span, Volume};

const TARGET: &str = "iqn.2026-01.example:swarm.peer";

fn geometry() -> Geometry {
    Geometry::of_bytes(BlockSize::B512, 4 * EXTENT_BYTES)
}

/// A peer that serves two images, of sevens and of eights, under these designators.
async fn peer() -> (SocketAddr, CancellationToken, [[u8; 8]; 2]) {
    peer_with(Fault::None).await
}

/// The same, whose sevens go wrong.
async fn peer_with(fault: Fault) -> (SocketAddr, CancellationToken, [[u8; 8]; 2]) {
    let (sevens, eights) = (
        UnitIdentity::locally_assigned(7, "image"),
        UnitIdentity::locally_assigned(8, "image"),
    );
    let designators = [sevens.designator, eights.designator];
    let unit = |number, identity, byte| {
        let volume = FaultyVolume::new(MemVolume::new(geometry(), vec![byte; 4 * 65_536]));
        Unit {
            read_only: true,
            thin: false,
            ..Unit::new(number, volume, identity)
        }
    };
    let units = vec![unit(0, sevens, 7), unit(5, eights, 8)];
    units[0].volume.set(fault);
    let export = Export {
        class: Class::Peer,
        ..Export::new(TARGET.parse().expect("a name"), units)
    };
    let target = Target::new(TargetOptions::default());
    target.export(export).expect("the only one");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, stop) = (
        listener.local_addr().expect("bound"),
        CancellationToken::new(),
    );
    tokio::spawn(target.serve(listener, stop.clone()));
    (address, stop, designators)
}

fn sessions() -> Arc<PeerSessions> {
    sessions_with(Duration::from_secs(10))
}

fn sessions_with(request_timeout: Duration) -> Arc<PeerSessions> {
    PeerSessions::new(PeerOptions {
        initiator_name: "iqn.2026-01.example:node.me".into(),
        connect_timeout: Duration::from_secs(10),
        request_timeout,
    })
}

fn volume(sessions: &Arc<PeerSessions>, address: SocketAddr, designator: [u8; 8]) -> PeerVolume {
    let address = PeerAddress {
        portal: address.to_string(),
        target_name: TARGET.into(),
    };
    PeerVolume::new(sessions.clone(), address, designator, geometry())
}

async fn read(volume: &PeerVolume, class: Class) -> Result<u8, Error> {
    let reading = volume.read(Span::new(EXTENT_BYTES, EXTENT_BYTES), class);
    let bytes = timeout(Duration::from_secs(30), reading)
        .await
        .expect("it ends")?;
    assert_eq!(bytes.len(), 65_536);
    Ok(bytes[0])
}

#[tokio::test]
async fn images_are_found_by_designator() {
    let (address, _stop, [sevens, eights]) = peer().await;
    let sessions = sessions();
    for class in [Class::Demand, Class::Fill] {
        assert_eq!(
            read(&volume(&sessions, address, sevens), class)
                .await
                .unwrap(),
            7
        );
        assert_eq!(
            read(&volume(&sessions, address, eights), class)
                .await
                .unwrap(),
            8
        );
    }
}

#[tokio::test]
async fn an_image_that_the_peer_lacks_is_refused_at_once() {
    let (address, _stop, _) = peer().await;
    let missing = volume(&sessions(), address, [0x3f; 8]);
    for _ in 0..2 {
        assert!(matches!(
            read(&missing, Class::Demand).await,
            Err(Error::Unavailable)
        ));
    }
    assert!(matches!(
        read(&missing, Class::Peer).await,
        Err(Error::Unavailable)
    ));
}

#[tokio::test]
async fn a_forwarded_request_never_waits_for_a_login() {
    let (address, _stop, [sevens, _]) = peer().await;
    let volume = volume(&sessions(), address, sevens);
    assert!(matches!(read(&volume, Class::Peer).await, Err(Error::Busy)));
    // The search goes on behind its back, and whoever may wait finds the same session.
    assert_eq!(read(&volume, Class::Demand).await.unwrap(), 7);
    assert_eq!(read(&volume, Class::Peer).await.unwrap(), 7);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let volume = volume(&sessions(), address, [0x3f; 8]);
    assert!(matches!(
        read(&volume, Class::Demand).await,
        Err(Error::Unavailable)
    ));
    assert!(matches!(
        read(&volume, Class::Peer).await,
        Err(Error::Unavailable)
    ));
}

#[tokio::test]
async fn a_peer_that_goes_while_it_owes_an_answer_is_unavailable() {
    let (address, stop, [sevens, eights]) = peer_with(Fault::Hang).await;
    let sessions = sessions_with(Duration::from_millis(300));
    let (hanging, other) = (
        volume(&sessions, address, sevens),
        volume(&sessions, address, eights),
    );
    // The unit that hangs is found first, so that its request goes ahead of the other's on their session.
    assert!(matches!(
        read(&hanging, Class::Peer).await,
        Err(Error::Busy)
    ));
    assert_eq!(read(&other, Class::Demand).await.unwrap(), 8);
    let owed = tokio::spawn(async move { read(&hanging, Class::Demand).await });
    tokio::task::yield_now().await;
    assert_eq!(read(&other, Class::Demand).await.unwrap(), 8);
    assert!(!owed.is_finished());
    stop.cancel();
    assert!(matches!(owed.await.unwrap(), Err(Error::Unavailable)));
    for class in [Class::Demand, Class::Peer] {
        assert!(matches!(
            read(&other, class).await,
            Err(Error::Unavailable | Error::Busy)
        ));
    }
}
