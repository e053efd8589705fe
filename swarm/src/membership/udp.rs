//! Gossip over UDP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::membership::envelope::{MOST_BYTES, Refused};
use crate::membership::gossip::{Gossip, GossipOptions, Now};
use crate::membership::{Event, Images, Membership, Through};

/// How often the names of seeds are resolved anew.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// The shortest time between two lines in the log about datagrams that are refused.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// This node's part of the gossip, on a socket.
pub struct UdpGossip {
    gossip: Gossip,
    socket: UdpSocket,
    start: Instant,
    resolving: Option<JoinHandle<Vec<SocketAddr>>>,
    seeds: Vec<String>,
    resolve_at: Instant,
    say_at: Instant,
    counters: Arc<GossipCounters>,
    buffer: Vec<u8>,
}

/// What a node counts of its gossip.
#[derive(Debug, Default)]
pub struct GossipCounters {
    /// Datagrams that were taken in.
    pub received: AtomicU64,
    /// Datagrams that were sent.
    pub sent: AtomicU64,
    /// Datagrams that were refused: made with another key, late, or no datagrams of a swarm at all.
    pub refused: AtomicU64,
}

impl UdpGossip {
    /// Takes part through this socket. Seeds are `HOST:PORT`; those in `options` are asked as well.
    pub fn new(socket: UdpSocket, seeds: Vec<String>, options: GossipOptions) -> Self {
        let start = Instant::now();
        Self {
            gossip: Gossip::new(moment(start), options),
            socket,
            start,
            resolving: None,
            seeds,
            resolve_at: start,
            say_at: start,
            counters: Arc::default(),
            buffer: vec![0; MOST_BYTES + 1],
        }
    }

    /// What is counted.
    pub fn counters(&self) -> Arc<GossipCounters> {
        Arc::clone(&self.counters)
    }

    /// The addresses of seeds; what has none is left out.
    pub async fn resolve(seeds: &[String]) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for seed in seeds {
            match lookup_host(seed).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => warn!(seed, %error, "a seed has no address; it is looked for again"),
            }
        }
        found
    }

    fn send_all(&mut self) {
        while let Some((to, datagram)) = self.gossip.poll_send() {
            match self.socket.try_send_to(&datagram, to) {
                Ok(_) => {
                    self.counters.sent.fetch_add(1, Ordering::Relaxed);
                }
                // What is lost is said again.
                Err(error) => debug!(%to, %error, "a datagram is lost"),
            }
        }
    }

    fn take(&mut self, received: io::Result<(usize, SocketAddr)>) {
        let (length, from) = match received {
            Ok(received) => received,
            // Linux tells here that nobody listens where something was sent to.
            Err(error) => return debug!(%error, "nothing received"),
        };
        let datagram = self.buffer.get(..length).unwrap_or_default();
        match self.gossip.handle_datagram(moment(self.start), datagram) {
            Ok(()) => {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
            }
            Err(refused) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                let worth_a_line =
                    matches!(refused, Refused::Epoch | Refused::Tag | Refused::Clock);
                if worth_a_line && self.say_at <= now {
                    self.say_at = now + SAY_EVERY;
                    warn!(%from, cause = %refused, "a node is not listened to");
                }
            }
        }
    }

    async fn resolved(
        resolving: &mut Option<JoinHandle<Vec<SocketAddr>>>,
        at: Instant,
    ) -> Option<Vec<SocketAddr>> {
        match resolving {
            Some(task) => {
                let found = task.await.unwrap_or_default();
                *resolving = None;
                Some(found)
            }
            None => {
                sleep_until(at).await;
                None
            }
        }
    }
}

impl Membership for UdpGossip {
    const THROUGH: Through = Through::Gossip;

    async fn next(&mut self) -> Event {
        loop {
            self.send_all();
            if let Some(event) = self.gossip.poll_event() {
                return event;
            }
            let due = self.start + self.gossip.next_time();
            tokio::select! {
                received = self.socket.recv_from(&mut self.buffer) => self.take(received),
                () = sleep_until(due) => self.gossip.handle_time(moment(self.start)),
                found = Self::resolved(&mut self.resolving, self.resolve_at) => match found {
                    Some(seeds) if !seeds.is_empty() => self.gossip.set_seeds(seeds),
                    Some(_) => {}
                    None => {
                        self.resolve_at = Instant::now() + RESOLVE_EVERY;
                        let seeds = self.seeds.clone();
                        self.resolving = Some(tokio::spawn(async move { Self::resolve(&seeds).await }));
                    }
                },
            }
        }
    }

    async fn set_draining(&mut self, draining: bool) {
        self.gossip.set_draining(moment(self.start), draining);
        self.send_all();
    }

    async fn set_images(&mut self, images: Images) {
        self.gossip.set_images(moment(self.start), images);
        self.send_all();
    }

    async fn leave(mut self) {
        self.gossip.leave(moment(self.start));
        self.send_all();
    }
}

fn moment(start: Instant) -> Now {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let unix_us = since.map_or(0, |since| since.as_micros());
    Now {
        elapsed: start.elapsed(),
        unix_us: u64::try_from(unix_us).unwrap_or(u64::MAX),
    }
}
