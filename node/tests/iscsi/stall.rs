//! A portal that lets so many bytes of answers through and then falls silent: a copy through it stays in its middle
//! for as long as a test wants.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Where it listens. It lives as long as the test's process.
pub(crate) fn portal(target: &str, most: usize) -> SocketAddr {
    counted(target, most, Duration::ZERO).0
}

/// One that lets 64 KiB through at a time, and then pauses.
pub(crate) fn slow(target: &str, pause: Duration) -> SocketAddr {
    counted(target, usize::MAX, pause).0
}

/// A portal, and how many bytes it still lets through.
pub(crate) fn counted(
    target: &str,
    most: usize,
    pause: Duration,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let target = target.to_owned();
    let left = Arc::new(AtomicUsize::new(most));
    let told = Arc::clone(&left);
    std::thread::spawn(move || {
        for guest in listener.incoming().map_while(Result::ok) {
            let Ok(host) = TcpStream::connect(&target) else {
                break;
            };
            let (from, to) = (guest.try_clone().unwrap(), host.try_clone().unwrap());
            std::thread::spawn(move || {
                pass(from, to, &AtomicUsize::new(usize::MAX), Duration::ZERO);
            });
            let left = Arc::clone(&left);
            std::thread::spawn(move || pass(host, guest, &left, pause));
        }
    });
    (address, told)
}

/// Passes bytes on while there are some left. Then it holds both ends open and does nothing.
fn pass(mut from: TcpStream, mut to: TcpStream, left: &AtomicUsize, pause: Duration) {
    let mut buffer = vec![0; 65_536];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(read))
        });
        if before.unwrap() <= read {
            std::thread::park();
        }
        std::thread::sleep(pause);
    }
}
