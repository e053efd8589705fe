//! The sound target that a saboteur stands in front of: ours, in this very process, with a disk in memory.

use std::net::SocketAddr;

use iscsi_proto::login::{Account, Algorithm, Secret};
use iscsi_target::{AccessRules, ChapRules, Export, Target, TargetOptions, Unit, UnitIdentity};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Geometry};

/// How the sound target is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everybody may log in; LUN 0 is writable and thin.
    Plain,
    /// CHAP is asked for, and given when it is asked for.
    Chap,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Chap];
}

/// A running target.
pub(crate) struct Sound {
    pub(crate) address: SocketAddr,
    _ends: DropGuard,
}

/// The target's name.
pub(crate) const NAME: &str = "iqn.2013-07.org.vmthunder:sound";
/// The initiator's user and secret, then the target's.
pub(crate) const CHAP: [(&str, &str); 2] = [
    ("initiator", "an initiator's secret"),
    ("target", "a secret of the target"),
];
/// The size of the disk: two LUNs' worth of tests fit.
const BYTES: u64 = 32 * 1024 * 1024;

impl Sound {
    pub(crate) async fn start(kind: Kind) -> Self {
        let geometry = Geometry::of_bytes(BlockSize::B512, BYTES);
        let identity = UnitIdentity::locally_assigned(0x0123_4567_89ab_cdef, "sound");
        let unit = Unit {
            thin: true,
            ..Unit::new(0, MemVolume::zeroed(geometry), identity)
        };
        let mut export = Export::new(NAME.parse().unwrap(), vec![unit]);
        export.access = access(kind);
        let target = Target::new(TargetOptions::default());
        target.export(export).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(target.serve(listener, stop.clone()));
        Self {
            address,
            _ends: stop.drop_guard(),
        }
    }
}

fn access(kind: Kind) -> AccessRules {
    let [initiator, target] = CHAP.map(|(name, secret)| Account {
        name: name.to_owned(),
        secret: Secret::new(secret).unwrap(),
    });
    match kind {
        Kind::Plain => AccessRules::default(),
        Kind::Chap => AccessRules {
            chap: Some(
                ChapRules::new(vec![initiator], Some(target), Algorithm::ALL.to_vec()).unwrap(),
            ),
            ..AccessRules::default()
        },
    }
}
