//! Members known through etcd: for fleets that run it anyway.
//!
//! A member holds a lease of [`LEASE_SECONDS`], renews it, and writes one signed line under it (`record`). It lists what
//! the others wrote and watches what changes from that revision on; whatever breaks, it lists and watches anew. etcd is
//! reached through its own HTTP/JSON gateway, so nothing is needed to build this but Rust.
//!
//! Who can write to etcd is not trusted: a line counts only if somebody with the swarm's key made it, and peers prove
//! themselves to each other besides. Whoever can write there can hide members, though.

mod calls;
mod driver;
mod endpoint;
mod error;
mod gateway;
mod record;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::forest::NodeName;
use crate::membership::etcd::driver::{Driver, Wish};
use crate::membership::keys::Keyring;
use crate::membership::{Event, Images, Member, Membership, Through};

pub use endpoint::{Endpoint, Tls};
pub use error::{EndpointError, EtcdError, TlsError};
pub use gateway::Login;

/// For how long the record of a member outlives it.
pub const LEASE_SECONDS: i64 = 10;

/// Events that nobody has taken yet.
const MOST_WAITING: usize = 256;

/// How a node takes part through etcd.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The members of the etcd cluster; one that answers is enough.
    pub endpoints: Vec<Endpoint>,
    /// What the keys of this swarm begin with; it ends with `/`.
    pub prefix: String,
    /// As whom etcd is asked.
    pub login: Option<Login>,
    /// What endpoints with `https` rest on.
    pub tls: Option<Tls>,
    /// The node's permanent name.
    pub name: NodeName,
    /// Where others reach it.
    pub address: SocketAddr,
    /// The swarm's keys.
    pub keys: Arc<Keyring>,
    /// Who was there when this node ran last: taken for there until etcd says more.
    pub remembered: Vec<Member>,
}

/// What a node counts of its dealings with etcd.
#[derive(Debug, Default)]
pub struct EtcdCounters {
    /// Whether it answers and this node is written down there.
    pub answers: AtomicBool,
    /// Records that nobody with the swarm's key made, as often as they were seen.
    pub refused: AtomicU64,
}

/// This node's part, through etcd.
#[derive(Debug)]
pub struct Etcd {
    events: mpsc::Receiver<Event>,
    wish: watch::Sender<Wish>,
    task: JoinHandle<()>,
    counters: Arc<EtcdCounters>,
}

impl Etcd {
    /// Takes part, in the background, until [`Membership::leave`] or until this is dropped.
    pub fn new(options: EtcdOptions) -> Self {
        let (sender, events) = mpsc::channel(MOST_WAITING);
        let (wish, wished) = watch::channel(Wish::default());
        let counters: Arc<EtcdCounters> = Arc::default();
        let driver = Driver::new(options, sender, wished, Arc::clone(&counters));
        Self {
            events,
            wish,
            task: tokio::spawn(driver.run()),
            counters,
        }
    }

    /// What is counted.
    pub fn counters(&self) -> Arc<EtcdCounters> {
        Arc::clone(&self.counters)
    }
}

impl Membership for Etcd {
    const THROUGH: Through = Through::Etcd;

    async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    async fn set_draining(&mut self, draining: bool) {
        self.wish.send_modify(|wish| wish.draining = draining);
    }

    async fn set_images(&mut self, images: Images) {
        self.wish.send_modify(|wish| wish.images = images);
    }

    async fn leave(self) {
        drop(self.events);
        self.wish.send_modify(|wish| wish.leave = true);
        // It fails only by a panic, of which the runtime tells.
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests;
