//! A wire between an initiator and a target that can be cut, held, and left dead without a word.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

/// A portal that leads to another one.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Tells those who hold bytes back that they need not any more.
    released: Condvar,
}

#[derive(Default)]
struct State {
    /// Where connections lead; none are taken without.
    upstream: Option<SocketAddr>,
    held: bool,
    over: bool,
    wires: Vec<Arc<Wire>>,
}

/// One connection.
struct Wire {
    client: TcpStream,
    server: TcpStream,
    /// What arrives is swallowed.
    dead: AtomicBool,
}

impl Proxy {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if state.lock().over {
                    return;
                }
                // A client that finds nobody behind the wire is cut off.
                let _refused = Shared::connect(&state, client);
            }
        });
        Ok(Self { address, shared })
    }

    /// Lets connections through to `HOST:PORT`, or refuses them from now on.
    pub(crate) fn lead_to(&self, upstream: Option<&str>) -> Result<()> {
        let upstream = upstream.map(str::parse).transpose();
        self.shared.lock().upstream = upstream.context("an address of a portal")?;
        Ok(())
    }

    /// Ends every connection: both sides learn of it.
    pub(crate) fn cut(&self) {
        for wire in self.shared.lock().wires.drain(..) {
            wire.end(true);
        }
        self.shared.released.notify_all();
    }

    /// Swallows whatever arrives on the connections that there are; new ones are good. The initiator does not learn of it,
    /// the target if it is told.
    pub(crate) fn go_dead(&self, tell_the_target: bool) {
        for wire in &self.shared.lock().wires {
            wire.dead.store(true, Ordering::SeqCst);
            if tell_the_target {
                // It may be gone already.
                let _gone = wire.server.shutdown(Shutdown::Both);
            }
        }
    }

    /// Holds what arrives back, or lets it go on.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.lock().held = held;
        self.shared.released.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.cut();
        self.hold(false);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(shared: &Arc<Self>, client: TcpStream) -> Result<()> {
        let upstream = shared.lock().upstream.context("nobody is there")?;
        let server = TcpStream::connect(upstream)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = [client.try_clone()?, server.try_clone()?];
        let others = [server.try_clone()?, client.try_clone()?];
        let wire = Arc::new(Wire {
            client,
            server,
            dead: AtomicBool::new(false),
        });
        shared.lock().wires.push(Arc::clone(&wire));
        for (from, to) in ends.into_iter().zip(others) {
            let (shared, wire) = (Arc::clone(shared), Arc::clone(&wire));
            thread::spawn(move || shared.carry(&wire, from, to));
        }
        Ok(())
    }

    /// Carries bytes one way until an end is gone.
    fn carry(&self, wire: &Arc<Wire>, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let state = self.lock();
            let waiting = |state: &mut State| state.held && !state.over;
            let released = self.released.wait_while(state, waiting);
            drop(released);
            if wire.dead.load(Ordering::SeqCst) {
                continue;
            }
            if to
                .write_all(buffer.get(..length).unwrap_or_default())
                .is_err()
            {
                break;
            }
        }
        // The target's end of a dead wire says nothing to the initiator.
        wire.end(!wire.dead.load(Ordering::SeqCst));
        self.lock().wires.retain(|other| !Arc::ptr_eq(other, wire));
    }
}

impl Wire {
    fn end(&self, tell_the_client: bool) {
        // Either may be gone already.
        let _gone = self.server.shutdown(Shutdown::Both);
        if tell_the_client {
            let _gone = self.client.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::Proxy;

    const LIMIT: Duration = Duration::from_secs(10);

    /// The two ends of a new connection through the proxy.
    fn pair(proxy: &Proxy, behind: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(proxy.address).unwrap();
        let server = behind.accept().unwrap().0;
        for end in [&client, &server] {
            end.set_read_timeout(Some(LIMIT)).unwrap();
        }
        (client, server)
    }

    fn say(from: &mut TcpStream, to: &mut TcpStream, byte: u8) {
        from.write_all(&[byte]).unwrap();
        let mut heard = [0];
        to.read_exact(&mut heard).unwrap();
        assert_eq!(heard, [byte]);
    }

    #[test]
    fn a_wire_carries_holds_goes_dead_and_is_cut() {
        let behind = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start().unwrap();
        let mut refused = TcpStream::connect(proxy.address).unwrap();
        refused.set_read_timeout(Some(LIMIT)).unwrap();
        assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0);

        let place = behind.local_addr().unwrap().to_string();
        proxy.lead_to(Some(&place)).unwrap();
        let (mut client, mut server) = pair(&proxy, &behind);
        say(&mut client, &mut server, 1);
        say(&mut server, &mut client, 2);

        proxy.hold(true);
        client.write_all(&[3]).unwrap();
        server
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        assert!(server.read(&mut [0]).is_err());
        server.set_read_timeout(Some(LIMIT)).unwrap();
        proxy.hold(false);
        let mut heard = [0];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(heard, [3]);

        proxy.go_dead(true);
        assert_eq!(server.read(&mut [0]).unwrap_or(0), 0);
        client.write_all(&[4]).unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        assert!(client.read(&mut [0]).is_err());

        let (mut client, mut server) = pair(&proxy, &behind);
        say(&mut client, &mut server, 5);
        proxy.cut();
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
        assert_eq!(server.read(&mut [0]).unwrap_or(0), 0);
    }
}
