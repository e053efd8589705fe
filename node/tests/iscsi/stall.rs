//! A portal that lets so many bytes of answers through and then falls silent: a copy through it stays in its middle
//! for as long as a test wants.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where it listens. It lives as long as the test's process.
pub(crate) fn portal(target: &str, most: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let target = target.to_owned();
    let left = Arc::new(AtomicUsize::new(most));
    std::thread::spawn(move || {
        for guest in listener.incoming().map_while(Result::ok) {
            let Ok(host) = TcpStream::connect(&target) else {
                break;
            };
            let (from, to) = (guest.try_clone().unwrap(), host.try_clone().unwrap());
            std::thread::spawn(move || pass(from, to, &AtomicUsize::new(usize::MAX)));
            let left = Arc::clone(&left);
            std::thread::spawn(move || pass(host, guest, &left));
        }
    });
    address
}

/// Passes bytes on while there are some left. Then it holds both ends open and does nothing.
fn pass(mut from: TcpStream, mut to: TcpStream, left: &AtomicUsize) {
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
    }
}
