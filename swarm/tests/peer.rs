//! Peers over iSCSI, on the loopback.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use iscsi_target::{
    AccessRules, ChapRules, DerivedChap, Export, Target, TargetOptions, Unit, UnitIdentity,
};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vmthunder_swarm::forest::NodeName;
use vmthunder_swarm::membership::keys::{Keyring, Keys, PEER_ALGORITHMS};
use vmthunder_swarm::peer::{PeerAddress, PeerOptions, PeerProof, PeerSessions, PeerVolume};
use vmthunder_volume::testing::{Fault, FaultyVolume, MemVolume};
use vmthunder_volume::{BlockSize, Class, EXTENT_BYTES, Error, Geometry, Span, Volume};

const TARGET: &str = "iqn.2026-01.example:swarm.peer";

fn geometry() -> Geometry {
    Geometry::of_bytes(BlockSize::B512, 4 * EXTENT_BYTES)
}

fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

/// A peer that serves two images, of sevens and of eights, under these designators.
async fn peer() -> (SocketAddr, CancellationToken, [[u8; 8]; 2]) {
    peer_with(Fault::None).await
}

/// The same, whose sevens go wrong.
async fn peer_with(fault: Fault) -> (SocketAddr, CancellationToken, [[u8; 8]; 2]) {
    peer_for(AccessRules::default(), fault).await
}

/// The same for those only that these rules let in.
async fn peer_for(
    access: AccessRules,
    fault: Fault,
) -> (SocketAddr, CancellationToken, [[u8; 8]; 2]) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    peer_on(listener, access, fault)
}

/// The same, on a port that is open already.
fn peer_on(
    listener: TcpListener,
    access: AccessRules,
    fault: Fault,
) -> (SocketAddr, CancellationToken, [[u8; 8]; 2]) {
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
        access,
        ..Export::new(TARGET.parse().expect("a name"), units)
    };
    let target = Target::new(TargetOptions::default());
    target.export(export).expect("the only one");
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
    sessions_that_prove(None, request_timeout)
}

fn sessions_that_prove(proof: Option<PeerProof>, request_timeout: Duration) -> Arc<PeerSessions> {
    PeerSessions::new(PeerOptions {
        initiator_name: "iqn.2026-01.example:node.me".into(),
        proof,
        connect_timeout: Duration::from_secs(10),
        request_timeout,
        most_sessions: NonZeroUsize::new(4).expect("not none"),
    })
}

fn volume(sessions: &Arc<PeerSessions>, address: SocketAddr, designator: [u8; 8]) -> PeerVolume {
    let address = PeerAddress {
        node: name("peer"),
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

const OLD: &str = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW: &str = "2 202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

fn keys(lines: &[&str]) -> Keys {
    Keys::parse(&lines.join("\n")).expect("keys")
}

/// Lets in who proves to be the node `me` by a key of the ring.
fn guarded(ring: &Arc<Keyring>) -> AccessRules {
    let ring = Arc::clone(ring);
    let derived = DerivedChap::new(move |_| {
        let (accounts, own) = ring.now().to_serve(&name("peer"), &name("me")).ok()?;
        ChapRules::new(accounts, own, PEER_ALGORITHMS.to_vec()).ok()
    });
    AccessRules {
        derived_chap: Some(derived),
        ..AccessRules::default()
    }
}

fn proving(node: &str, ring: &Arc<Keyring>) -> Arc<PeerSessions> {
    let proof = PeerProof {
        node: name(node),
        keys: Arc::clone(ring),
    };
    sessions_that_prove(Some(proof), Duration::from_secs(10))
}

#[tokio::test]
async fn who_lacks_the_key_gets_nothing_and_neither_does_a_target_without_it() {
    let theirs = Keyring::new(keys(&[OLD]));
    let (address, _stop, [sevens, _]) = peer_for(guarded(&theirs), Fault::None).await;
    let right = volume(&proving("me", &theirs), address, sevens);
    assert_eq!(read(&right, Class::Demand).await.expect("let in"), 7);
    let other = Keyring::new(keys(&[NEW]));
    for sessions in [
        sessions(),
        proving("me", &other),
        proving("somebody", &theirs),
    ] {
        let wrong = volume(&sessions, address, sevens);
        assert!(matches!(
            read(&wrong, Class::Demand).await,
            Err(Error::Unavailable)
        ));
    }
    // Who has the key asks for it: a target that proves nothing is no peer.
    let (open, _stop, [sevens, _]) = peer().await;
    let wrong = volume(&proving("me", &theirs), open, sevens);
    assert!(matches!(
        read(&wrong, Class::Demand).await,
        Err(Error::Unavailable)
    ));
}

/// Each step of docs/membership.md: nobody is shut out in between, old sessions go on, and in the end the old key is worth
/// nothing.
#[tokio::test]
async fn a_key_is_changed_while_peers_read() {
    let steps: [&[&str]; 4] = [&[OLD], &[OLD, NEW], &[NEW, OLD], &[NEW]];
    let (mine, theirs) = (Keyring::new(keys(&[OLD])), Keyring::new(keys(&[OLD])));
    let (address, _stop, [sevens, _]) = peer_for(guarded(&theirs), Fault::None).await;
    let lasting = volume(&proving("me", &mine), address, sevens);
    for step in steps {
        theirs.replace(keys(step));
        for (when, lines) in [("before", None), ("after", Some(step))] {
            if let Some(lines) = lines {
                mine.replace(keys(lines));
            }
            let fresh = volume(&proving("me", &mine), address, sevens);
            for volume in [&lasting, &fresh] {
                let got = read(volume, Class::Demand).await;
                assert_eq!(got.expect("let in"), 7, "{step:?} {when} it is taken here");
            }
        }
    }
    let late = volume(&proving("me", &Keyring::new(keys(&[OLD]))), address, sevens);
    assert!(read(&late, Class::Demand).await.is_err());
}

#[tokio::test]
async fn a_peer_that_comes_after_it_was_looked_for_is_found_by_the_next_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let portal = listener.local_addr().unwrap();
    drop(listener);
    let designator = UnitIdentity::locally_assigned(7, "image").designator;
    let sessions = sessions();
    let late = volume(&sessions, portal, designator);
    let address = PeerAddress {
        node: name("peer"),
        portal: portal.to_string(),
        target_name: TARGET.into(),
    };
    for _ in 0..4 {
        sessions.keep(std::slice::from_ref(&address)).await;
        late.find().await;
    }
    assert_eq!(sessions.open(), 0);
    let listener = TcpListener::bind(portal).await.expect("still free");
    let (_, _stop, _) = peer_on(listener, AccessRules::default(), Fault::None);
    // Those that come while the first of them logs in wait with it.
    let (first, second) = tokio::join!(read(&late, Class::Demand), read(&late, Class::Demand));
    assert_eq!((first.expect("there now"), second.expect("too")), (7, 7));
}

#[tokio::test]
async fn sessions_are_opened_ahead_of_need_and_the_idle_ones_make_room() {
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(peer().await);
    }
    let sessions = sessions();
    let address = |at: usize| PeerAddress {
        node: name("peer"),
        portal: peers[at].0.to_string(),
        target_name: TARGET.into(),
    };
    sessions.keep(&[address(0), address(1)]).await;
    assert_eq!(sessions.open(), 4, "two to each, before anybody reads");
    let (first, third) = (
        volume(&sessions, peers[0].0, peers[0].2[0]),
        volume(&sessions, peers[2].0, peers[2].2[0]),
    );
    assert_eq!(read(&first, Class::Peer).await.map_err(|_| ()), Err(()));
    first.find().await;
    assert_eq!(read(&first, Class::Peer).await.expect("found"), 7);
    assert_eq!(read(&third, Class::Demand).await.expect("let in"), 7);
    assert_eq!(sessions.open(), 4, "one that was never used is closed");
    assert_eq!(read(&first, Class::Peer).await.expect("still open"), 7);
}
