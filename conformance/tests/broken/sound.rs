//! The sound target that a saboteur stands in front of: ours, in this very process, with a disk in memory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iscsi_proto::login::{Account, Algorithm, Secret};
use iscsi_proto::session::NopPolicy;
use iscsi_target::{
    AccessRules, ChapRules, Export, Redirect, Target, TargetOptions, Unit, UnitIdentity,
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Geometry};

use super::{Proxy, recovery, several};

/// How the sound target is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everybody may log in; LUN 0 is writable and thin, and has atomic writes.
    Plain,
    /// CHAP is asked for, and given when it is asked for.
    Chap,
    /// Many more targets live here, and the last of them has moved. Who is silent is pinged soon.
    Redirecting,
    /// It keeps what it sends, and agrees to ErrorRecoveryLevel 1.
    Recovering,
    /// Sessions may have two connections.
    Several,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] = [
        Self::Plain,
        Self::Chap,
        Self::Redirecting,
        Self::Recovering,
        Self::Several,
    ];
}

/// A running target.
pub(crate) struct Sound {
    pub(crate) address: SocketAddr,
    _before: Option<Proxy>,
    _ends: DropGuard,
    _journal: Journal,
}

/// Where the record of an atomic write lies while there is one.
struct Journal(PathBuf);

/// The target's name.
pub(crate) const NAME: &str = "iqn.2013-07.org.vmthunder:sound";
/// The initiator's user and secret, then the target's.
pub(crate) const CHAP: [(&str, &str); 2] = [
    ("initiator", "an initiator's secret"),
    ("target", "a secret of the target"),
];
/// The size of the disk: two LUNs' worth of tests fit.
const BYTES: u64 = 32 * 1024 * 1024;
/// Blocks that differ: what is read from elsewhere has to show. Made once, for every target begins with it.
static CONTENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..BYTES / 8).flat_map(u64::to_le_bytes).collect());
/// Targets beside the one that is judged: their names fill several PDUs of the smallest size.
const NEIGHBOURS: usize = 12;
/// Where the last of them has moved.
const ELSEWHERE: &str = "192.0.2.1:3260";

impl Sound {
    pub(crate) async fn start(kind: Kind) -> Self {
        let journal = Journal::new();
        let unit = Unit {
            thin: true,
            atomic_file: (kind == Kind::Plain).then(|| journal.0.clone()),
            ..unit("sound", BYTES)
        };
        let mut export = Export::new(NAME.parse().unwrap(), vec![unit]);
        export.access = access(kind);
        let target = Target::new(options(kind));
        target.export(export).unwrap();
        if kind == Kind::Redirecting {
            neighbours().for_each(|export| target.export(export).unwrap());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(target.serve(listener, stop.clone()));
        // What our own target does not offer is done before it.
        let before = match kind {
            Kind::Recovering => Some(Proxy::start(address, recovery::recovering()).await),
            Kind::Several => Some(Proxy::start(address, several::several()).await),
            _ => None,
        };
        Self {
            address: before.as_ref().map_or(address, |before| before.address),
            _before: before,
            _ends: stop.drop_guard(),
            _journal: journal,
        }
    }
}

impl Journal {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("vmthunder-conformance-{process}-{count}");
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // There is none unless something was written atomically.
        let _nothing = std::fs::remove_file(&self.0);
    }
}

fn options(kind: Kind) -> TargetOptions {
    let mut options = TargetOptions::default();
    if kind == Kind::Redirecting {
        options.session.nop = Some(NopPolicy {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
        });
    }
    options
}

fn unit(serial: &str, bytes: u64) -> Unit<MemVolume> {
    let geometry = Geometry::of_bytes(BlockSize::B512, bytes);
    let identity = UnitIdentity::locally_assigned(0x0123_4567_89ab_cdef, serial);
    let length = usize::try_from(bytes).unwrap();
    Unit::new(
        0,
        MemVolume::new(geometry, CONTENT[..length].to_vec()),
        identity,
    )
}

fn neighbours() -> impl Iterator<Item = Export<MemVolume>> {
    (1..=NEIGHBOURS).map(|number| {
        let name = format!("iqn.2013-07.org.vmthunder:a-neighbour-with-a-long-name-{number}");
        let mut export = Export::new(name.parse().unwrap(), vec![unit("neighbour", 4096)]);
        if number == NEIGHBOURS {
            export.access.redirects.push(Redirect {
                initiators: Vec::new(),
                address: ELSEWHERE.parse().unwrap(),
                permanent: false,
                after_authentication: false,
            });
        }
        export
    })
}

fn access(kind: Kind) -> AccessRules {
    let [initiator, target] = CHAP.map(|(name, secret)| Account {
        name: name.to_owned(),
        secret: Secret::new(secret).unwrap(),
    });
    match kind {
        Kind::Plain | Kind::Redirecting | Kind::Recovering | Kind::Several => {
            AccessRules::default()
        }
        Kind::Chap => AccessRules {
            chap: Some(
                ChapRules::new(vec![initiator], Some(target), Algorithm::ALL.to_vec()).unwrap(),
            ),
            ..AccessRules::default()
        },
    }
}
