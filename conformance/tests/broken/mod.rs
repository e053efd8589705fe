//! A deliberately broken target: a sound one, and in front of it a saboteur that rewrites, swallows and invents PDUs.
//!
//! Each [`Fault`] breaks one rule and is switched on by its name.

pub(crate) mod edit;
pub(crate) mod faults;
mod proxy;
mod recovery;
pub(crate) mod scsi;
mod several;
mod sound;

use std::net::SocketAddr;

use iscsi_proto::wire::Pdu;
use iscsi_proto::wire::bhs::AnyHeader;

pub(crate) use proxy::{Lane, Post, Proxy};
pub(crate) use sound::{CHAP, Kind, NAME, Sound};

/// One broken rule.
pub(crate) struct Fault {
    /// What the target does wrong, in a word or three.
    pub(crate) name: &'static str,
    /// The check that has to notice.
    pub(crate) trips: &'static str,
    /// The sound target behind it.
    pub(crate) behind: Kind,
    /// Makes the saboteur.
    pub(crate) saboteur: fn() -> Saboteur,
}

/// Decides about everything that passes, on all connections of one target.
pub(crate) type Saboteur = Box<dyn FnMut(Seen<'_>, &mut Lane) -> Act + Send>;

/// What passes.
pub(crate) enum Seen<'a> {
    /// A PDU from the initiator, digests and padding taken off, however wrong they were.
    Request(&'a Pdu),
    /// A PDU from the target.
    Response(&'a Pdu),
    /// The sound target has closed the connection.
    TargetClosed,
}

/// What becomes of it.
pub(crate) enum Act {
    /// It goes on as it is.
    Pass,
    /// These go on in its place; none at all swallows it.
    Replace(Vec<Pdu>),
}

/// A target with a fault, or a sound one behind a saboteur that does nothing.
pub(crate) struct Broken {
    pub(crate) address: SocketAddr,
    _proxy: Proxy,
    _sound: Sound,
}

impl Broken {
    /// Starts it on a free port of the loopback.
    pub(crate) async fn start(kind: Kind, saboteur: Saboteur) -> Self {
        let sound = Sound::start(kind).await;
        let proxy = Proxy::start(sound.address, saboteur).await;
        Self {
            address: proxy.address,
            _proxy: proxy,
            _sound: sound,
        }
    }
}

/// Lets everything pass.
pub(crate) fn nothing() -> Saboteur {
    Box::new(|_, _| Act::Pass)
}

/// The fields that every header has.
pub(crate) fn common(pdu: &Pdu) -> AnyHeader {
    pdu.header.common()
}
