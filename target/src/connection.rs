//! One TCP connection driving one session: the only place where this crate waits.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use iscsi_proto::login::Identity;
use iscsi_proto::session::CloseReason;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use vmthunder_volume::Volume;

use crate::Target;
use crate::lobby::Place;
use crate::metrics::Counters;
use crate::nexus::Nexus;
use crate::transmit::Transmit;

/// Bytes waiting for a slow reader above which no command begins.
const TRANSMIT_PAUSE_BYTES: usize = 4 << 20;

/// As above, while all sessions together hold more than they should.
const FRUGAL_PAUSE_BYTES: usize = 256 << 10;

/// Bytes waiting for a slow reader above which nothing more is read from it: answers to pings alone could pile up.
const TRANSMIT_STOP_BYTES: usize = 64 << 20;

/// The room that a read has at first, and at most once data flows.
const READ_ROOM: RangeInclusive<usize> = 8 << 10..=256 << 10;

/// Bytes that are read before what they ask for is done.
const READ_TURN_BYTES: usize = 1 << 20;

/// How long a session keeps its buffers when nothing is under way.
const REST: Duration = Duration::from_secs(5);

/// How long a closed session may take to send its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a connection ended before its session did.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the initiator closed the connection")]
    Eof,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the initiator did not take its last answer")]
    Stuck,
    #[error("too many connections wait for their login")]
    DrivenOut,
    #[error("the initiator takes nothing of what it has asked for, and others want the memory")]
    Stalled,
}

/// One connection and its session.
pub(crate) struct Connection<V> {
    nexus: Nexus<V>,
    input: BytesMut,
    read_room: usize,
    /// When the latest bytes came.
    heard: Instant,
    /// When the buffers are given back, unless something comes.
    rest: Option<Instant>,
    transmit: Transmit,
}

impl<V: Volume> Connection<V> {
    pub(crate) fn new(target: Arc<Target<V>>, local: SocketAddr, peer: SocketAddr) -> Self {
        Self {
            nexus: Nexus::new(target, local, peer),
            input: BytesMut::new(),
            read_room: *READ_ROOM.start(),
            heard: Instant::now(),
            rest: None,
            transmit: Transmit::default(),
        }
    }

    /// Serves the connection until its session ends.
    pub(crate) async fn run(mut self, stream: TcpStream, place: Place, stop: CancellationToken) {
        let broken = self.drive(&stream, place, stop).await.err();
        drop(stream);
        let (target, peer) = (self.nexus.target(), self.nexus.peer());
        let unproven = self.nexus.unproven.clone();
        // A connection that broke has nothing to say that the session did not.
        let torn = matches!(broken, Some(Broken::Eof)) && !self.input.is_empty();
        match (broken, self.nexus.end().await) {
            (Some(cause @ Broken::DrivenOut), _) => {
                Counters::add(&target.counters.connections_refused, 1);
                complain(&target, peer, &cause);
            }
            (_, Some(reason)) if is_fault(reason) => match unproven {
                Some(identity) => complain_of_login(&target, peer, &identity, reason),
                None => complain(&target, peer, &reason),
            },
            (_, Some(reason)) if reason != CloseReason::Disconnected => {
                debug!(%reason, "session closed");
            }
            (Some(cause), _) if torn => {
                complain(
                    &target,
                    peer,
                    &format_args!("{cause} in the middle of a PDU"),
                );
            }
            (Some(cause @ (Broken::Stuck | Broken::Stalled)), _) => {
                complain(&target, peer, &cause);
            }
            (Some(cause), _) => debug!(%cause, "connection dropped"),
            (None, _) => debug!("connection closed"),
        }
    }

    async fn drive(
        &mut self,
        stream: &TcpStream,
        place: Place,
        stop: CancellationToken,
    ) -> Result<(), Broken> {
        let mut place = Some(place);
        let mut stopping = false;
        let mut last_words = None;
        let timer = sleep_until(Instant::now().into());
        tokio::pin!(timer);
        loop {
            let unsent = self.transmit.bytes();
            self.nexus.turn(self.may_start(), unsent).await;
            while let Some(part) = self.nexus.session.poll_transmit() {
                self.transmit.push(part);
            }
            self.transmit.write_to(stream)?;
            let closing = self.nexus.session.is_closed();
            if closing {
                if self.transmit.is_empty() {
                    return Ok(());
                }
                last_words.get_or_insert_with(|| Instant::now() + LAST_WORDS);
            }
            if self.nexus.is_logged_in() {
                drop(place.take());
            }
            if !closing && self.may_start() && self.nexus.tasks.may_start() {
                // The turn is full but the work is not done: let others run, then see what came meanwhile.
                tokio::task::yield_now().await;
                self.read_available(stream)?;
                continue;
            }
            let due = [
                self.nexus.deadline(),
                last_words,
                self.rest(),
                self.stalled_until(),
                self.silent_until(),
            ]
            .into_iter()
            .flatten()
            .min();
            if let Some(due) = due.filter(|due| timer.deadline() != (*due).into()) {
                timer.as_mut().reset(due.into());
            }
            let interest = interest(&self.transmit, closing);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !closing && !stopping => {
                    stopping = true;
                    self.nexus.stop();
                }
                () = driven_out(place.as_ref()), if !closing => return Err(Broken::DrivenOut),
                happened = self.nexus.happened(), if !closing => self.nexus.take(happened),
                ready = stream.ready(interest) => {
                    if ready?.is_readable() && !closing {
                        self.read_available(stream)?;
                    }
                }
                () = &mut timer, if due.is_some() => {
                    if last_words.is_some_and(|at| at <= Instant::now()) {
                        return Err(Broken::Stuck);
                    }
                    self.pass_time(Instant::now())?;
                }
            }
        }
    }

    /// When an initiator that takes nothing is dropped: only if it holds much of what others want.
    fn stalled_until(&self) -> Option<Instant> {
        let greedy = self.nexus.is_frugal() && self.transmit.bytes() >= FRUGAL_PAUSE_BYTES;
        let stalled = self.transmit.stalled().filter(|_| greedy)?;
        Some(stalled + self.nexus.stall_grace())
    }

    /// When the buffers are given back: a session in which nothing happens takes next to no memory.
    fn rest(&mut self) -> Option<Instant> {
        let resting = self.input.is_empty() && self.nexus.tasks.is_idle();
        if !resting || self.input.capacity() == 0 {
            self.rest = None;
        } else if self.rest.is_none() {
            self.rest = Some(Instant::now() + REST);
        }
        self.rest
    }

    /// When a session that nobody may ask whether it still lives is over.
    fn silent_until(&self) -> Option<Instant> {
        Some(self.heard + self.nexus.silence_grace()?)
    }

    fn pass_time(&mut self, now: Instant) -> Result<(), Broken> {
        if self.silent_until().is_some_and(|at| at <= now) {
            self.nexus.session.close();
        }
        if self.stalled_until().is_some_and(|at| at <= now) {
            return Err(Broken::Stalled);
        }
        self.nexus.session.handle_timeout(now);
        if self.rest.is_some_and(|at| at <= now) {
            self.input = BytesMut::new();
            self.read_room = *READ_ROOM.start();
            self.transmit.rest();
        }
        Ok(())
    }

    /// The initiator takes what it asked for quickly enough for more.
    fn may_start(&self) -> bool {
        let pause = if self.nexus.is_frugal() {
            FRUGAL_PAUSE_BYTES
        } else {
            TRANSMIT_PAUSE_BYTES
        };
        self.transmit.bytes() < pause
    }

    /// Reads what is there, up to a turn's worth.
    fn read_available(&mut self, stream: &TcpStream) -> Result<(), Broken> {
        let mut total = 0;
        while total < READ_TURN_BYTES && self.transmit.bytes() < TRANSMIT_STOP_BYTES {
            self.input.reserve(self.read_room);
            let room = self.input.capacity() - self.input.len();
            match stream.try_read_buf(&mut self.input) {
                Ok(0) => return Err(Broken::Eof),
                Ok(read) => {
                    total += read;
                    self.rest = None;
                    self.heard = Instant::now();
                    self.nexus
                        .session
                        .handle_bytes(Instant::now(), &mut self.input);
                    if read < room {
                        // Whatever did not fill the room emptied the socket.
                        self.read_room = read
                            .next_power_of_two()
                            .clamp(*READ_ROOM.start(), *READ_ROOM.end());
                        return Ok(());
                    }
                    self.read_room = (self.read_room * 2).min(*READ_ROOM.end());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The initiator's fault, or a sign that something is wrong with it.
fn is_fault(reason: CloseReason) -> bool {
    match reason {
        CloseReason::LoginFailed { violation, .. } => violation.is_some(),
        CloseReason::LoginTimeout | CloseReason::Silent | CloseReason::ProtocolError(_) => true,
        CloseReason::LoggedOut
        | CloseReason::LogoutTimeout
        | CloseReason::Disconnected
        | CloseReason::Local
        | CloseReason::Reset => false,
    }
}

fn complain<V>(target: &Target<V>, peer: SocketAddr, cause: &dyn Display) {
    if let Some(unsaid) = target.complaints.may_say(Instant::now()) {
        warn!(%peer, %cause, unsaid, "connection dropped");
    }
}

/// Somebody said who it is and could not prove it.
fn complain_of_login<V>(
    target: &Target<V>,
    peer: SocketAddr,
    identity: &Identity,
    reason: CloseReason,
) {
    if let Some(unsaid) = target.refusals.may_say(Instant::now()) {
        let initiator = &identity.initiator_name;
        let wanted = identity.target_name.as_ref().map(tracing::field::display);
        warn!(%peer, %initiator, wanted, cause = %reason, unsaid, "login refused");
    }
}

/// The socket is always read, but from one who takes nothing.
fn interest(transmit: &Transmit, closing: bool) -> Interest {
    match (
        transmit.is_empty(),
        closing || transmit.bytes() >= TRANSMIT_STOP_BYTES,
    ) {
        (true, _) => Interest::READABLE,
        (false, true) => Interest::WRITABLE,
        (false, false) => Interest::READABLE | Interest::WRITABLE,
    }
}

async fn driven_out(place: Option<&Place>) {
    match place {
        Some(place) => place.lost.cancelled().await,
        None => std::future::pending().await,
    }
}
