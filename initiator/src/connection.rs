//! One TCP connection that drives one [`InitiatorSession`]: the only place where bytes move.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use iscsi_proto::session::{InitiatorConfig, InitiatorEvent, InitiatorSession};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::Error;

/// A connection and the session on it.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) session: InitiatorSession,
    input: BytesMut,
    unsent: VecDeque<Bytes>,
    alarm: Pin<Box<Sleep>>,
    ending: Ending,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By a reset: what was not sent yet never will be. A write that comes late would overwrite a newer one.
    Abrupt,
    /// In order, since both sides are done with it.
    Orderly,
}

impl Connection {
    /// Connects to `address` and begins to log in.
    pub(crate) async fn open(
        address: &str,
        timeout: Duration,
        config: InitiatorConfig,
    ) -> Result<Self, Error> {
        let connecting = tokio::time::timeout(timeout, TcpStream::connect(address));
        let stream = connecting
            .await
            .map_err(|_| Error::ConnectTimeout)?
            .map_err(cannot_connect)?;
        stream.set_nodelay(true).map_err(cannot_connect)?;
        Ok(Self {
            stream,
            session: InitiatorSession::new(config, now()),
            input: BytesMut::new(),
            unsent: VecDeque::new(),
            alarm: Box::pin(tokio::time::sleep(timeout)),
            ending: Ending::Abrupt,
        })
    }

    /// Both sides are done with the connection.
    pub(crate) fn farewell(&mut self) {
        self.ending = Ending::Orderly;
    }

    /// Where it goes to.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// Waits for the next event.
    pub(crate) async fn event(&mut self) -> InitiatorEvent {
        loop {
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            self.progress().await;
        }
    }

    /// Sends what there is to send, then waits until something was received, or sent, or time matters. May be
    /// dropped and called again. Once the session is closed there is nothing to wait for.
    pub(crate) async fn progress(&mut self) {
        if let Err(_broken) = self.flush() {
            self.session.handle_disconnect();
        }
        if self.session.is_closed() {
            return;
        }
        self.set_alarm();
        self.input.reserve(READ_BYTES);
        let blocked = !self.unsent.is_empty();
        let (mut reader, writer) = self.stream.split();
        let appetite = self.session.appetite();
        let receive = async {
            match self.session.landing() {
                Some(mut landing) => reader.read_buf(&mut landing).await,
                None => {
                    reader
                        .read_buf(&mut (&mut self.input).limit(appetite))
                        .await
                }
            }
        };
        tokio::select! {
            biased;
            received = receive => match received {
                Ok(0) | Err(_) => self.session.handle_disconnect(),
                Ok(_) => self.session.handle_bytes(now(), &mut self.input),
            },
            // An error shows itself at the next write.
            _writable = writer.writable(), if blocked => {}
            () = self.alarm.as_mut() => {
                self.session.handle_timeout(now());
                self.alarm.as_mut().reset(tokio::time::Instant::now() + IDLE);
            }
        }
    }

    /// Writes until the socket is full or nothing is left.
    fn flush(&mut self) -> io::Result<()> {
        loop {
            while self.unsent.len() < MAX_SLICES
                && let Some(part) = self.session.poll_transmit()
            {
                self.unsent.push_back(part);
            }
            if self.unsent.is_empty() {
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, part) in slices.iter_mut().zip(&self.unsent) {
                *slice = IoSlice::new(part);
                count += 1;
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.forget(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what was written off the front.
    fn forget(&mut self, mut written: usize) {
        while let Some(part) = self.unsent.front_mut() {
            if part.len() > written {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.unsent.pop_front();
        }
    }

    /// Arms the alarm for the session's next timeout. An alarm that is too early is left alone: it costs one turn.
    fn set_alarm(&mut self) {
        if let Some(due) = self.session.poll_timeout() {
            let due = tokio::time::Instant::from_std(due);
            if due < self.alarm.deadline() {
                self.alarm.as_mut().reset(due);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.ending == Ending::Abrupt {
            // An error leaves what the system does by itself; there is nothing else to be done.
            let _ = self.stream.set_zero_linger();
        }
    }
}

/// The time, from the clock that tests can hold.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn cannot_connect(error: io::Error) -> Error {
    Error::Connect(Arc::new(error))
}

/// Parts of PDUs in one write.
const MAX_SLICES: usize = 64;

/// Room for headers, and for what is not worth a read of its own; the rest of the data of reads goes elsewhere.
const READ_BYTES: usize = 64 * 1024;

/// How long the alarm sleeps when the session names no time.
const IDLE: Duration = Duration::from_secs(3600);
