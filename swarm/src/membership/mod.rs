//! Who else is in the swarm.
//!
//! However a node learns of the others, it is told of changes through one trait, [`Membership`], and keeps what it knows
//! in one [`Roll`]: a configured list ([`Listed`]), gossip between the nodes ([`gossip`], driven over UDP by [`udp`]), or
//! what they write down in [`etcd`].
//! Who is in the roll may be asked for extents; what a node asks of whom never depends on anything else, so that
//! views may differ (see [`crate::forest`]). Everything that arrives is authenticated by a key that follows from the
//! swarm's ([`keys`]), and nothing here panics on it or grows beyond [`MOST_MEMBERS`].

mod codec;
mod envelope;
pub mod etcd;
pub mod gossip;
mod images;
pub mod keys;
mod roll;
mod tags;
pub mod udp;

use std::collections::VecDeque;

use crate::forest::NodeName;

pub use codec::Identity;
pub use images::{ImageTag, Images, MOST_IMAGES, NoImages};
pub use roll::{Known, Roll, State};

/// The most nodes that a node knows; those beyond are as if they were not there.
pub const MOST_MEMBERS: usize = 16_384;

/// A node of the swarm, as the others need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its permanent name.
    pub name: NodeName,
    /// Where its target is reached: `HOST:PORT`.
    pub address: String,
    /// Grows with every start of the node, and whenever it has to convince the others that it lives; 0 where nobody
    /// counts.
    pub generation: u64,
    /// Whether it asks not to be given new work.
    pub draining: bool,
    /// What it is attached to.
    pub images: Images,
}

/// How a node knows of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// The configuration names it.
    Configuration,
    /// The nodes tell each other.
    Gossip,
    /// They write themselves down in etcd.
    Etcd,
}

/// What changes among the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody is there now, or is there with another address, another generation, or draining.
    Is(Member),
    /// Somebody does not answer; it counts as there until it is known to have left.
    Suspect(NodeName),
    /// Somebody left, or was given up.
    Left(NodeName),
    /// This node is no member: another one that lives has its name.
    NameTaken(Member),
    /// This node is a member, or is one again.
    Joined,
}

/// How a node learns who else is there.
pub trait Membership: Send {
    /// How what it tells is known.
    const THROUGH: Through;

    /// What changes next; pends while nothing does. Nothing is lost if it is dropped.
    fn next(&mut self) -> impl Future<Output = Event> + Send;

    /// Tells the others whether this node wants new work.
    fn set_draining(&mut self, draining: bool) -> impl Future<Output = ()> + Send;

    /// Tells the others which images this node is attached to; before that it counts as attached to every image.
    fn set_images(&mut self, images: Images) -> impl Future<Output = ()> + Send;

    /// Tells the others that this node goes, as well as that can be told at once.
    fn leave(self) -> impl Future<Output = ()> + Send;
}

/// Members that a configuration names: they are there for ever.
#[derive(Debug)]
pub struct Listed(VecDeque<Event>);

impl Listed {
    /// These members.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let members = members.into_iter().map(Event::Is);
        Self(members.chain([Event::Joined]).collect())
    }
}

impl Membership for Listed {
    const THROUGH: Through = Through::Configuration;

    async fn next(&mut self) -> Event {
        match self.0.pop_front() {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    async fn set_draining(&mut self, _draining: bool) {}

    async fn set_images(&mut self, _images: Images) {}

    async fn leave(self) {}
}
