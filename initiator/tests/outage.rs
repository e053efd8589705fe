//! A unit as a volume, over a wire that breaks.

mod harness;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::{TARGET, Wire, attach, connect, disk, export, name, options, pattern, serve, soon};
use iscsi_initiator::{Error, Options, Outage, PathState, Reconnect, Remote, Session};
use iscsi_proto::scsi::Command;
use iscsi_proto::session::Transfer;
use iscsi_proto::wire::lun::Lun;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use vmthunder_volume::{BlockSize, Class, Error as VolumeError, Span, Volume};

const MIB: u64 = 1024 * 1024;

/// RFC 7143 §7.1.4.4 and §7.14: the session is recovered, and what it lost is sent again.
#[tokio::test]
async fn traffic_survives_a_wire_that_is_cut_again_and_again() {
    let disk = disk(BlockSize::B512, 16 * MIB);
    let served = serve(Arc::clone(&disk)).await;
    let wire = Wire::to(&served.address).await;
    let remote = soon(attach(&wire.address, options())).await;
    wire.set_lifetime(1_500_000);
    wire.cut();
    let mut work = JoinSet::new();
    for lane in 0..8u64 {
        work.spawn(write_and_verify(remote.clone(), lane * 2 * MIB));
    }
    while let Some(done) = soon(work.join_next()).await {
        done.expect("no lane panics");
    }
    assert!(
        wire.connections() > 5,
        "only {} connections",
        wire.connections()
    );
    wire.set_lifetime(0);
    wire.cut();
    let read = soon(remote.read(remote.geometry().whole(), Class::Demand))
        .await
        .expect("read");
    assert!(read == disk.below().contents());
}

/// Overwrites two mebibytes again and again, and reads back what must be there.
async fn write_and_verify(remote: Remote, start: u64) {
    for round in 0..4 {
        for part in 0..16 {
            let offset = start + part * 128 * 1024;
            let bytes = Bytes::from(pattern(128 * 1024, round * 1000 + start + part));
            soon(remote.write(offset, bytes.clone()))
                .await
                .expect("written");
            let span = Span::new(offset, 128 * 1024);
            let read = soon(remote.read(span, Class::Demand)).await.expect("read");
            assert!(read == bytes, "round {round} part {part}");
        }
    }
}

#[tokio::test]
async fn commands_wait_for_the_deadline_and_no_longer() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let wire = Wire::to(&served.address).await;
    let reconnect = Reconnect {
        outage: Outage::Deadline(Duration::from_millis(200)),
        ..options().reconnect
    };
    let remote = soon(attach(
        &wire.address,
        Options {
            reconnect,
            ..options()
        },
    ))
    .await;
    wire.set_down(true);
    let span = Span::new(0, 4096);
    assert!(matches!(
        soon(remote.read(span, Class::Demand)).await,
        Err(VolumeError::Unavailable)
    ));
    assert!(matches!(
        soon(remote.read(span, Class::Peer)).await,
        Err(VolumeError::Unavailable)
    ));
    assert!(!is_connected(&remote));
    wire.set_down(false);
    let back = async {
        while remote.read(span, Class::Demand).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(back).await;
    assert!(is_connected(&remote));
}

#[tokio::test]
async fn a_read_outlives_an_outage() {
    let disk = disk(BlockSize::B512, MIB);
    let served = serve(Arc::clone(&disk)).await;
    let wire = Wire::to(&served.address).await;
    let remote = soon(attach(&wire.address, options())).await;
    wire.set_down(true);
    let reader = tokio::spawn({
        let remote = remote.clone();
        async move { remote.read(Span::new(0, MIB), Class::Demand).await }
    });
    let lost = async {
        while is_connected(&remote) {
            tokio::task::yield_now().await;
        }
    };
    soon(lost).await;
    assert!(!reader.is_finished());
    wire.set_down(false);
    let read = soon(reader).await.expect("no panic").expect("read");
    assert!(read == disk.below().contents());
}

#[tokio::test]
async fn another_unit_behind_the_same_name_is_fenced() {
    for (bytes, designator) in [(2 * MIB, 7), (MIB, 8)] {
        let served = serve(disk(BlockSize::B512, MIB)).await;
        let wire = Wire::to(&served.address).await;
        let remote = soon(attach(&wire.address, options())).await;
        let span = Span::new(0, 4096);
        assert!(soon(remote.read(span, Class::Demand)).await.is_ok());
        wire.set_down(true);
        served.target.withdraw(&name(TARGET));
        export(&served.target, disk(BlockSize::B512, bytes), designator);
        wire.set_down(false);
        assert!(matches!(
            soon(remote.read(span, Class::Demand)).await,
            Err(VolumeError::Corrupt)
        ));
        let write = soon(remote.write(0, Bytes::from(vec![0; 512]))).await;
        assert!(matches!(write, Err(VolumeError::Corrupt)));
        // Not even if the right one came back.
        served.target.withdraw(&name(TARGET));
        export(&served.target, disk(BlockSize::B512, MIB), 7);
        assert!(matches!(
            soon(remote.read(span, Class::Demand)).await,
            Err(VolumeError::Corrupt)
        ));
    }
}

#[tokio::test]
async fn a_command_that_nobody_may_repeat_is_interrupted() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let wire = Wire::to(&served.address).await;
    let session = soon(connect(&wire.address, options())).await;
    wire.set_lifetime(1);
    wire.cut();
    let stop = Command::StartStopUnit {
        start: true,
        load_eject: false,
        immediate: false,
        power_condition: 0,
    };
    let answer = tokio::spawn({
        let session = session.clone();
        async move {
            session
                .execute(Lun(0), &stop, Transfer::None, Class::Demand)
                .await
        }
    });
    wire.set_lifetime(0);
    // It was either sent on the connection that was cut, or never before the next one.
    let answer = soon(answer).await.expect("no panic");
    assert!(
        matches!(answer, Ok(_) | Err(Error::Interrupted)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn redirections_are_followed_but_not_for_ever() {
    let disk = disk(BlockSize::B512, MIB);
    let served = serve(Arc::clone(&disk)).await;
    let temporary = redirector(served.address.clone(), 0x01).await;
    let remote = soon(attach(&temporary, options())).await;
    let read = soon(remote.read(Span::new(0, 4096), Class::Demand))
        .await
        .expect("read");
    assert!(read == disk.below().contents()[..4096]);
    let own_tail = redirector(String::new(), 0x02).await;
    let circle = soon(Session::connect_to(&own_tail, &name(TARGET), options())).await;
    assert!(matches!(circle, Err(Error::TooManyRedirects)));
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let refused = soon(Session::connect_to(&address, &name(TARGET), options())).await;
    assert!(matches!(refused, Err(Error::Connect(_))));
}

/// A portal that sends every login elsewhere (RFC 7143 §11.13.5); with no address, to itself.
async fn redirector(elsewhere: String, detail: u8) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address").to_string();
    let elsewhere = if elsewhere.is_empty() {
        own.clone()
    } else {
        elsewhere
    };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 48];
            stream
                .read_exact(&mut request)
                .await
                .expect("a login request");
            let length = usize::from(request[6]) << 8 | usize::from(request[7]);
            let mut text = vec![0; length.next_multiple_of(4)];
            stream.read_exact(&mut text).await.expect("its text");
            let mut address = format!("TargetAddress={elsewhere}\0").into_bytes();
            let mut response = [0; 48];
            response[0] = 0x23;
            response[7] = u8::try_from(address.len()).expect("short");
            response[8..14].copy_from_slice(&request[8..14]);
            response[16..20].copy_from_slice(&request[16..20]);
            response[28..32].copy_from_slice(&request[24..28]);
            response[32..36].copy_from_slice(&request[24..28]);
            response[36] = 0x01;
            response[37] = detail;
            address.resize(address.len().next_multiple_of(4), 0);
            stream
                .write_all(&[&response[..], &address].concat())
                .await
                .expect("written");
        }
    });
    own
}

fn is_connected(remote: &Remote) -> bool {
    matches!(remote.paths()[0].state, PathState::Connected)
}
