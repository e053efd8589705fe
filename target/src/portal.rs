//! Listens: accept, limit, stop.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, warn};
use vmthunder_volume::Volume;

use crate::Target;
use crate::connection::Connection;
use crate::metrics::Counters;

/// The pause after the operating system refused a connection, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<V: Volume> Target<V> {
    /// Accepts connections until `stop`, then closes all of them and returns when they are gone. May be called for
    /// several listeners.
    ///
    /// From this call on the portal is told to those who ask for targets, and until the future has ended or is dropped:
    /// all portals are one portal group, and an initiator that comes in through one may use each that it can reach (RFC
    /// 7143 §4.3, appendix C).
    pub fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        // One without an address cannot be told.
        let portal = listener.local_addr().ok().map(plain);
        self.portals.open(portal);
        let open = OpenPortal {
            target: self,
            portal,
        };
        async move { open.target.accept(listener, stop).await }
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(connection) = self.connection(&stream, peer) else {
                        continue;
                    };
                    let place = self.lobby.enter(peer.ip());
                    let span = debug_span!("connection", %peer);
                    let run = connection.run(stream, place, stop.clone());
                    connections.spawn(run.instrument(span));
                }
                Err(error) if self.lobby.make_room() => {
                    debug!(%error, "the connection that waited longest for its login makes room");
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Who waits to be accepted need not wait for the others to log out.
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    fn connection(self: &Arc<Self>, stream: &TcpStream, peer: SocketAddr) -> Option<Connection<V>> {
        Counters::add(&self.counters.connections, 1);
        stream.set_nodelay(true).ok()?;
        let local = plain(stream.local_addr().ok()?);
        Some(Connection::new(Arc::clone(self), local, plain(peer)))
    }
}

/// The addresses that a target listens on.
#[derive(Debug, Default)]
pub(crate) struct Portals(Mutex<Vec<SocketAddr>>);

impl Portals {
    fn open(&self, portal: Option<SocketAddr>) {
        self.list().extend(portal);
    }

    fn close(&self, portal: Option<SocketAddr>) {
        let mut list = self.list();
        if let Some(place) = list.iter().position(|open| Some(*open) == portal) {
            list.remove(place);
        }
    }

    /// Those that an initiator can reach that came in at `local`, that one first.
    pub(crate) fn reachable(&self, local: SocketAddr) -> Vec<SocketAddr> {
        let mut reachable = vec![local];
        for portal in self
            .list()
            .iter()
            .filter_map(|open| seen_from(*open, local))
        {
            if reachable.len() < MOST_TOLD && !reachable.contains(&portal) {
                reachable.push(portal);
            }
        }
        reachable
    }

    fn list(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of a portal for an initiator that came in at `local`; `None` if it is likely to be of no use there.
fn seen_from(portal: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
    let (ip, here) = (portal.ip(), local.ip());
    match ip {
        // Every address of this machine: the one that works is known. A wildcard of IPv6 takes IPv4 as well.
        _ if ip.is_unspecified() => {
            (ip.is_ipv6() || here.is_ipv4()).then(|| SocketAddr::new(here, portal.port()))
        }
        _ if ip.is_ipv4() != here.is_ipv4() || ip.is_loopback() != here.is_loopback() => None,
        // It means nothing without the name of an interface.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => None,
        _ => Some(portal),
    }
}

/// A portal that is told to initiators for as long as this lives.
struct OpenPortal<V> {
    target: Arc<Target<V>>,
    portal: Option<SocketAddr>,
}

impl<V> Drop for OpenPortal<V> {
    fn drop(&mut self) {
        self.target.portals.close(self.portal);
    }
}

/// The most portals that initiators are told of.
const MOST_TOLD: usize = 64;

/// An IPv4 address as such, where a socket for both versions gives it inside of an IPv6 one: initiators that know IPv4
/// alone could not read it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::Portals;

    #[test]
    fn an_initiator_is_told_of_what_it_can_reach() {
        let portals = Portals::default();
        for portal in [
            "192.0.2.1:3260",
            "198.51.100.1:3260",
            "127.0.0.1:3260",
            "0.0.0.0:3261",
            "[::]:3262",
            "[2001:db8::1]:3260",
            "[fe80::1]:3260",
        ] {
            portals.open(portal.parse().ok());
        }
        let told = |local: &str| -> Vec<String> {
            let reachable = portals.reachable(local.parse().expect("an address"));
            reachable.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            told("198.51.100.1:3260"),
            [
                "198.51.100.1:3260",
                "192.0.2.1:3260",
                "198.51.100.1:3261",
                "198.51.100.1:3262"
            ]
        );
        assert_eq!(
            told("127.0.0.1:3260"),
            ["127.0.0.1:3260", "127.0.0.1:3261", "127.0.0.1:3262"]
        );
        assert_eq!(
            told("[2001:db8::7]:3262"),
            ["[2001:db8::7]:3262", "[2001:db8::1]:3260"]
        );
        portals.close("192.0.2.1:3260".parse().ok());
        assert_eq!(told("198.51.100.1:3260").len(), 3);
    }
}
