//! A target in the same process, and a wire to it that can be cut.

#![allow(dead_code, reason = "no test uses all of it")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use iscsi_initiator::{Options, Outage, Reconnect, Remote, Session};
use iscsi_proto::name::IscsiName;
use iscsi_proto::wire::lun::Lun;
use iscsi_target::{Export, Target, TargetOptions, Unit, UnitIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vmthunder_volume::testing::{FaultyVolume, MemVolume};
use vmthunder_volume::{BlockSize, Geometry};

pub(crate) type Disk = Arc<FaultyVolume<MemVolume>>;

pub(crate) const TARGET: &str = "iqn.2025-01.io.vmthunder.test:target";

/// A target with one export of one unit.
pub(crate) struct Served {
    pub(crate) address: String,
    pub(crate) target: Arc<Target<Disk>>,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn disk(block_size: BlockSize, bytes: u64) -> Disk {
    let geometry = Geometry::of_bytes(block_size, bytes);
    Arc::new(FaultyVolume::new(MemVolume::new(
        geometry,
        pattern(bytes, 1),
    )))
}

/// Bytes that differ wherever one looks.
pub(crate) fn pattern(length: u64, seed: u64) -> Vec<u8> {
    (0..length)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed) >> 29).to_le_bytes()[0])
        .collect()
}

pub(crate) fn name(name: &str) -> IscsiName {
    name.parse().expect("a name")
}

pub(crate) fn export(target: &Target<Disk>, disk: Disk, designator: u64) {
    let identity = UnitIdentity::locally_assigned(designator, "test");
    let export = Export::new(name(TARGET), vec![Unit::new(0, disk, identity)]);
    target.export(export).expect("an export");
}

pub(crate) async fn serve(disk: Disk) -> Served {
    let target = Target::new(TargetOptions::default());
    export(&target, disk, 7);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&target).serve(listener, stop.clone()));
    Served {
        address,
        target,
        stop,
    }
}

pub(crate) fn options() -> Options {
    let reconnect = Reconnect {
        first_delay: Duration::from_millis(5),
        longest_delay: Duration::from_millis(20),
        outage: Outage::Deadline(Duration::from_secs(20)),
    };
    Options {
        reconnect,
        ..Options::new(name("iqn.2025-01.io.vmthunder.test:initiator"))
    }
}

/// The same, with this policy while the target is away.
pub(crate) fn with_outage(outage: Outage) -> Options {
    let reconnect = Reconnect {
        outage,
        ..options().reconnect
    };
    Options {
        reconnect,
        ..options()
    }
}

pub(crate) async fn connect(address: &str, options: Options) -> Session {
    Session::connect_to(address, &name(TARGET), options)
        .await
        .expect("a session")
}

pub(crate) async fn attach(address: &str, options: Options) -> Remote {
    Remote::attach(connect(address, options).await, Lun::default())
        .await
        .expect("a unit")
}

/// Nothing in these tests takes longer.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("in time")
}

/// A wire that can be cut, now or after so many bytes, and kept cut.
pub(crate) struct Wire {
    pub(crate) address: String,
    cuts: watch::Sender<u64>,
    silences: watch::Sender<u64>,
    state: Arc<WireState>,
}

#[derive(Default)]
struct WireState {
    down: AtomicBool,
    connections: AtomicU64,
    /// Each connection is cut after so many bytes; 0 for never.
    lifetime: AtomicU64,
}

impl Wire {
    pub(crate) async fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let upstream: SocketAddr = upstream.parse().expect("an address");
        let state = Arc::new(WireState::default());
        let (cuts, cut) = watch::channel(0);
        let (silences, silence) = watch::channel(0);
        tokio::spawn(listen(listener, upstream, Arc::clone(&state), cut, silence));
        Self {
            address,
            cuts,
            silences,
            state,
        }
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Nothing comes through the connections that there are any more; they stay open.
    pub(crate) fn silence(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }

    /// Cuts every connection and refuses new ones, or lets them through again.
    pub(crate) fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
        if down {
            self.cut();
        }
    }

    /// Cuts every connection to come after so many bytes; 0 for never.
    pub(crate) fn set_lifetime(&self, bytes: u64) {
        self.state.lifetime.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn listen(
    listener: TcpListener,
    upstream: SocketAddr,
    state: Arc<WireState>,
    cut: watch::Receiver<u64>,
    silence: watch::Receiver<u64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        if state.down.load(Ordering::SeqCst) {
            continue;
        }
        state.connections.fetch_add(1, Ordering::SeqCst);
        let Ok(server) = TcpStream::connect(upstream).await else {
            continue;
        };
        // A wire adds no time of its own.
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a socket");
        }
        let lifetime = match state.lifetime.load(Ordering::SeqCst) {
            0 => u64::MAX,
            bytes => bytes,
        };
        let mut cut = cut.clone();
        cut.mark_unchanged();
        let mut silence = silence.clone();
        silence.mark_unchanged();
        tokio::spawn(async move {
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let carrying = async {
                tokio::select! {
                    () = carry(client_read, server_write, lifetime) => {}
                    () = carry(server_read, client_write, lifetime) => {}
                }
            };
            tokio::pin!(carrying);
            tokio::select! {
                () = &mut carrying => {}
                _ = cut.changed() => {}
                _ = silence.changed() => {
                    let _ = cut.changed().await;
                }
            }
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut lifetime: u64) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let part = length.min(usize::try_from(lifetime).unwrap_or(usize::MAX));
        lifetime -= part as u64;
        if to.write_all(&buffer[..part]).await.is_err() || lifetime == 0 {
            return;
        }
    }
}
