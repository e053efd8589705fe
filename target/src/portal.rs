//! Listens: accept, limit, stop.

use std::net::SocketAddr;
use std::sync::Arc;
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
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
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

/// An IPv4 address as such, where a socket for both versions gives it inside of an IPv6 one: initiators that know IPv4
/// alone could not read it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
