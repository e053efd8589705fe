//! Under which name a session comes back.

mod harness;

use std::sync::{Arc, Mutex};

use harness::{attach, disk, options, serve, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use vmthunder_volume::{BlockSize, Class, Span, Volume};

/// Bytes 8 to 15 of the first Login Request of each connection: ISID and TSIH.
type Names = Arc<Mutex<Vec<[u8; 8]>>>;

/// A wire that notes who comes, and can be cut.
async fn watched(upstream: String) -> (String, Names, watch::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let names = Names::default();
    let (scissors, cut) = watch::channel(());
    tokio::spawn(watch_logins(listener, upstream, Arc::clone(&names), cut));
    (address, names, scissors)
}

async fn watch_logins(
    listener: TcpListener,
    upstream: String,
    names: Names,
    cut: watch::Receiver<()>,
) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut server = TcpStream::connect(&upstream).await.expect("the target");
        let mut header = [0; 48];
        if client.read_exact(&mut header).await.is_err() {
            continue;
        }
        let name = header[8..16].try_into().expect("eight bytes");
        names.lock().expect("no panic").push(name);
        let mut cut = cut.clone();
        cut.mark_unchanged();
        tokio::spawn(async move {
            server.write_all(&header).await.expect("the target reads");
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

/// RFC 7143 §7.15: a session that comes back reinstates the one before, by the same ISID and a TSIH of 0; §10.1.1: no
/// two sessions share one.
#[tokio::test]
async fn a_session_comes_back_under_its_own_name() {
    let served = serve(disk(BlockSize::B512, 1024 * 1024)).await;
    let (address, names, scissors) = watched(served.address.clone()).await;
    let remote = soon(attach(&address, options())).await;
    scissors.send_replace(());
    let span = Span::new(0, 4096);
    let again = async {
        while names.lock().expect("no panic").len() < 2 {
            let _ = remote.read(span, Class::Demand).await;
        }
        remote.read(span, Class::Demand).await
    };
    soon(again).await.expect("read");
    let other = soon(attach(&address, options())).await;
    soon(other.read(span, Class::Demand)).await.expect("read");
    let names = names.lock().expect("no panic").clone();
    let [first, second, third] = names[..] else {
        panic!("{names:02x?}")
    };
    assert_eq!(first, second);
    assert_eq!(
        (first[0] & 0xc0, &first[6..]),
        (0x80, &[0, 0][..]),
        "random"
    );
    assert_ne!(first, third);
}
