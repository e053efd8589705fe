//! The verified load of `examples/soak`: against a target that is cut off again and again, and against targets that forget
//! and lie, which it has to notice.

mod harness;
#[path = "../examples/soak/load.rs"]
mod load;
#[path = "../examples/soak/model.rs"]
mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::{TARGET, Wire, name, options, soon};
use iscsi_initiator::{
    Bytes, Class, Geometry, IscsiUrl, Options, Outage, Reconnect, Remote, Span, Volume, VolumeError,
};
use iscsi_target::{Export, Target, TargetOptions, Unit, UnitIdentity};
use load::{Figures, Load};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use vmthunder_volume::BlockSize;
use vmthunder_volume::testing::MemVolume;

/// A disk that does not do every so manieth thing.
struct Unfaithful {
    below: MemVolume,
    forgets: u64,
    lies: u64,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Unfaithful {
    fn new(forgets: u64, lies: u64) -> Self {
        let geometry = Geometry::of_bytes(BlockSize::B512, 2 << 20);
        Self {
            below: MemVolume::zeroed(geometry),
            forgets,
            lies,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        }
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }
}

impl Volume for Unfaithful {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes, VolumeError> {
        let bytes = self.below.read(span, class).await?;
        if !is_turn(&self.reads, self.lies) {
            return Ok(bytes);
        }
        let mut bytes = bytes.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 0x10;
        }
        Ok(bytes.into())
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<(), VolumeError> {
        match is_turn(&self.writes, self.forgets) {
            true => Ok(()),
            false => self.below.write(offset, bytes).await,
        }
    }

    async fn flush(&self) -> Result<(), VolumeError> {
        Ok(())
    }

    async fn trim(&self, span: Span) -> Result<(), VolumeError> {
        self.below.trim(span).await
    }
}

/// Counts, and is true once in so many times; with 0, never.
fn is_turn(count: &AtomicU64, every: u64) -> bool {
    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
    every != 0 && number.is_multiple_of(every)
}

/// Loads a disk over so many wires for some rounds, in the middle of each of which one of them is cut.
async fn soak(disk: Unfaithful, ways: usize, rounds: usize) -> Figures {
    let disk = Arc::new(disk);
    let writes = Arc::clone(&disk);
    let more = async |wanted: u64| {
        let enough = writes.writes() + wanted;
        while writes.writes() < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let target = Target::new(TargetOptions::default());
    let unit = Unit::new(0, disk, UnitIdentity::locally_assigned(7, "test"));
    target
        .export(Export::new(name(TARGET), vec![unit]))
        .expect("an export");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(Arc::clone(&target).serve(listener, CancellationToken::new()));
    let mut wires = Vec::new();
    for _ in 0..ways {
        wires.push(Wire::to(&address).await);
    }
    let url = |wire: &Wire| format!("iscsi://{}/{TARGET}/0", wire.address);
    let urls: Vec<IscsiUrl> = wires
        .iter()
        .map(|wire| url(wire).parse().expect("a URL"))
        .collect();
    let patient = Options {
        reconnect: Reconnect {
            outage: Outage::Wait,
            ..options().reconnect
        },
        ..options()
    };
    let remote = soon(Remote::connect(&urls, patient)).await.expect("a unit");
    let mut load = Load::new(remote.clone(), 4, 1);
    for round in 0..rounds {
        let running = load.start();
        soon(more(50)).await;
        wires[round % ways].cut();
        soon(more(50)).await;
        load = soon(running.stop()).await;
        soon(load.check()).await;
    }
    let logins: u64 = remote.paths().iter().map(|path| path.logins).sum();
    assert!(logins > rounds as u64, "{logins} logins");
    load.figures()
}

/// RFC 7143 §7.14 and §4.2.2: what was acknowledged stays, whatever becomes of the connection; whether another way is left
/// or not.
#[tokio::test]
async fn nothing_is_lost_when_a_wire_is_cut() {
    for ways in [1, 2] {
        let figures = soak(Unfaithful::new(0, 0), ways, 6).await;
        assert!(figures.writes > 100, "{ways}: {figures:?}");
        assert_eq!(
            (figures.lost, figures.wrong, figures.errors),
            (0, 0, 0),
            "{ways}: {figures:?}"
        );
    }
}

#[tokio::test]
async fn a_write_that_is_forgotten_is_noticed() {
    let figures = soak(Unfaithful::new(50, 0), 1, 2).await;
    assert!(figures.lost > 0, "{figures:?}");
    assert_eq!(figures.wrong, 0, "{figures:?}");
}

#[tokio::test]
async fn a_read_that_lies_is_noticed() {
    let figures = soak(Unfaithful::new(0, 50), 1, 2).await;
    assert!(figures.wrong > 0, "{figures:?}");
}
