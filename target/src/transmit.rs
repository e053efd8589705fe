//! What waits to be written to the socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

/// Buffers in one write: IOV_MAX of Linux.
const MAX_SLICES: usize = 1024;

/// Bytes that wait to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    parts: VecDeque<Bytes>,
    bytes: usize,
    /// Since when the socket has taken nothing of what waits.
    stalled: Option<Instant>,
}

impl Transmit {
    /// Since when the socket has taken nothing of what waits.
    pub(crate) fn stalled(&self) -> Option<Instant> {
        self.stalled
    }

    pub(crate) fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Gives back memory that is not needed for now.
    pub(crate) fn rest(&mut self) {
        self.parts.shrink_to_fit();
    }

    /// Writes as much as the socket takes without waiting.
    pub(crate) fn write_to(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.parts.is_empty() {
            let slices: Vec<IoSlice<'_>> = self
                .parts
                .iter()
                .take(MAX_SLICES)
                .map(|part| IoSlice::new(part))
                .collect();
            match stream.try_write_vectored(&slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stalled.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        self.stalled = None;
        while let Some(front) = self.parts.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Transmit;

    #[test]
    fn a_partial_write_leaves_the_rest() {
        let mut transmit = Transmit::default();
        for part in ["abc", "", "defg", "h"] {
            transmit.push(Bytes::from_static(part.as_bytes()));
        }
        assert_eq!(transmit.bytes(), 8);
        transmit.advance(5);
        assert_eq!(transmit.bytes(), 3);
        assert_eq!(transmit.parts, ["fg", "h"]);
        transmit.advance(3);
        assert!(transmit.is_empty() && transmit.bytes() == 0);
    }
}
