//! What stands between: PDUs are taken off both streams, shown to the saboteur, and sent on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::{BHS_BYTES, FINAL};
use iscsi_proto::wire::framer::{self, Digests};
use iscsi_proto::wire::{Header, Pdu, text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Act, Saboteur, Seen};

/// Accepts connections until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    accepting: tokio::task::AbortHandle,
}

/// One connection through the proxy, as a saboteur sees it.
pub(crate) struct Lane {
    /// Which connection, from 1.
    pub(crate) number: usize,
    /// What the login agreed on.
    pub(crate) digests: Digests,
    /// StatSN, ExpCmdSN and MaxCmdSN of the last PDU from the target.
    pub(crate) numbers: (u32, u32, u32),
    /// Keys that the target answered in this login.
    pub(crate) answered: Vec<(String, String)>,
    to_initiator: Vec<Outgoing>,
    to_target: Vec<Outgoing>,
    hang_up: bool,
    stay: bool,
    others: Arc<Others>,
}

/// Something for another connection.
pub(crate) enum Post {
    /// A PDU to its initiator.
    ToInitiator(Pdu),
    /// A PDU to its target.
    ToTarget(Pdu),
    /// Its end.
    HangUp,
}

/// What connections know of one another.
#[derive(Default)]
struct Others {
    letterboxes: Mutex<BTreeMap<usize, mpsc::UnboundedSender<Post>>>,
    torn: AtomicUsize,
}

enum Outgoing {
    Pdu(Pdu),
    Raw(Bytes),
}

#[expect(clippy::wrong_self_convention, reason = "it says where a PDU goes")]
impl Lane {
    fn new(number: usize, others: Arc<Others>) -> Self {
        Self {
            number,
            digests: Digests::default(),
            numbers: (0, 0, 0),
            answered: Vec::new(),
            to_initiator: Vec::new(),
            to_target: Vec::new(),
            hang_up: false,
            stay: false,
            others,
        }
    }

    /// A PDU to the initiator, ahead of what goes on after it.
    pub(crate) fn to_initiator(&mut self, pdu: Pdu) {
        self.to_initiator.push(Outgoing::Pdu(pdu));
    }

    /// Bytes to the initiator as they are.
    pub(crate) fn bytes_to_initiator(&mut self, bytes: Bytes) {
        self.to_initiator.push(Outgoing::Raw(bytes));
    }

    /// A PDU to the target, ahead of what goes on after it.
    pub(crate) fn to_target(&mut self, pdu: Pdu) {
        self.to_target.push(Outgoing::Pdu(pdu));
    }

    /// Something for another connection; whether that one still exists.
    pub(crate) fn post(&self, number: usize, post: Post) -> bool {
        let letterboxes = self.others.letterboxes.lock();
        let letterboxes = letterboxes.unwrap_or_else(PoisonError::into_inner);
        let letterbox = letterboxes.get(&number);
        letterbox.is_some_and(|letterbox| letterbox.send(post).is_ok())
    }

    /// How many connections their initiators have left in the middle of a PDU.
    pub(crate) fn torn(&self) -> usize {
        self.others.torn.load(Ordering::Relaxed)
    }

    fn take(&mut self, post: Post) {
        match post {
            Post::ToInitiator(pdu) => self.to_initiator(pdu),
            Post::ToTarget(pdu) => self.to_target(pdu),
            Post::HangUp => self.hang_up(),
        }
    }

    /// Bytes to the target as they are.
    #[allow(dead_code, reason = "written for initiators that stumble")]
    pub(crate) fn bytes_to_target(&mut self, bytes: Bytes) {
        self.to_target.push(Outgoing::Raw(bytes));
    }

    /// The bytes that a PDU has on this connection.
    pub(crate) fn encode(&self, pdu: &Pdu) -> Vec<u8> {
        encode(pdu, self.digests)
    }

    /// Closes the connection to the initiator behind what is on its way.
    pub(crate) fn hang_up(&mut self) {
        self.hang_up = true;
    }

    /// Keeps the connection to the initiator although the target closed its own.
    pub(crate) fn stay(&mut self) {
        self.stay = true;
    }

    /// Remembers what the target answered, and whether digests begin behind this PDU.
    fn notice(&mut self, pdu: &Pdu) {
        let bytes = pdu.header.as_bytes();
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        self.numbers = (word(24), word(28), word(32));
        let Header::LoginResponse(login) = &pdu.header else {
            return;
        };
        self.answered
            .extend(text::parse(&pdu.data).unwrap_or_default());
        if login.status_class == 0 && login.flags & FINAL != 0 && login.flags & 3 == 3 {
            let on = |key: &str| {
                let mut pairs = self.answered.iter();
                pairs.any(|(name, value)| name == key && value == "CRC32C")
            };
            self.digests = Digests {
                header: on("HeaderDigest"),
                data: on("DataDigest"),
            };
        }
    }
}

impl Proxy {
    /// Listens on a free port and connects on to `target`.
    pub(crate) async fn start(target: SocketAddr, saboteur: Saboteur) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let saboteur = Arc::new(Mutex::new(saboteur));
        let numbers = AtomicUsize::new(1);
        let others = Arc::<Others>::default();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((initiator, _)) = listener.accept().await {
                let Ok(target) = TcpStream::connect(target).await else {
                    continue;
                };
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let (letters, post) = mpsc::unbounded_channel();
                let letterboxes = others.letterboxes.lock();
                letterboxes
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(number, letters);
                let lane = Lane::new(number, others.clone());
                connections.spawn(relay(initiator, target, saboteur.clone(), lane, post));
            }
        });
        Self {
            address,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(
    mut initiator: TcpStream,
    mut target: TcpStream,
    saboteur: Arc<Mutex<Saboteur>>,
    mut lane: Lane,
    mut post: mpsc::UnboundedReceiver<Post>,
) {
    let _slower = (initiator.set_nodelay(true), target.set_nodelay(true));
    let (mut asked, mut answered) = (BytesMut::new(), BytesMut::new());
    let mut target_open = true;
    loop {
        tokio::select! {
            read = initiator.read_buf(&mut asked) => {
                if !matches!(read, Ok(1..)) {
                    // What is no whole PDU goes on as it is.
                    let _gone = target.write_all(&asked).await;
                    let torn = usize::from(!asked.is_empty());
                    lane.others.torn.fetch_add(torn, Ordering::Relaxed);
                    return;
                }
            }
            read = target.read_buf(&mut answered), if target_open => {
                if !matches!(read, Ok(1..)) {
                    target_open = false;
                    decide(&saboteur, Seen::TargetClosed, &mut lane);
                    if !lane.stay {
                        lane.hang_up();
                    }
                }
            }
            Some(letter) = post.recv() => lane.take(letter),
        }
        turn(&mut lane, &saboteur, &mut asked, &mut answered);
        // A peer that is gone is found out by the next read.
        let _gone = write(&mut target, &mut lane.to_target, lane.digests).await;
        let digests = lane.digests;
        let _gone = write(&mut initiator, &mut lane.to_initiator, digests).await;
        if lane.hang_up {
            let _gone = initiator.shutdown().await;
            return;
        }
    }
}

/// Takes whole PDUs off both streams.
fn turn(
    lane: &mut Lane,
    saboteur: &Mutex<Saboteur>,
    asked: &mut BytesMut,
    answered: &mut BytesMut,
) {
    while let Some((pdu, raw)) = cut(asked, lane.digests) {
        match decide(saboteur, Seen::Request(&pdu), lane) {
            Act::Pass => lane.to_target.push(Outgoing::Raw(raw)),
            Act::Replace(pdus) => lane.to_target.extend(pdus.into_iter().map(Outgoing::Pdu)),
        }
    }
    while let Some((pdu, raw)) = cut(answered, lane.digests) {
        let act = decide(saboteur, Seen::Response(&pdu), lane);
        match act {
            Act::Pass => lane.to_initiator.push(Outgoing::Raw(raw)),
            // In the digests of now: those of a login begin behind its last response.
            Act::Replace(pdus) => {
                let encoded = pdus.iter().map(|pdu| lane.encode(pdu).into());
                let encoded: Vec<Bytes> = encoded.collect();
                lane.to_initiator
                    .extend(encoded.into_iter().map(Outgoing::Raw));
            }
        }
        lane.notice(&pdu);
    }
}

fn decide(saboteur: &Mutex<Saboteur>, seen: Seen<'_>, lane: &mut Lane) -> Act {
    let mut saboteur = saboteur.lock().unwrap_or_else(PoisonError::into_inner);
    saboteur(seen, lane)
}

async fn write(
    stream: &mut TcpStream,
    outgoing: &mut Vec<Outgoing>,
    digests: Digests,
) -> std::io::Result<()> {
    for item in outgoing.drain(..) {
        match item {
            Outgoing::Pdu(pdu) => stream.write_all(&encode(&pdu, digests)).await?,
            Outgoing::Raw(bytes) => stream.write_all(&bytes).await?,
        }
    }
    Ok(())
}

fn encode(pdu: &Pdu, digests: Digests) -> Vec<u8> {
    let mut parts = std::collections::VecDeque::new();
    framer::encode(pdu, digests, &mut parts);
    parts.iter().flat_map(|part| part.iter().copied()).collect()
}

/// Takes the next PDU off a stream by its lengths alone: digests are not looked at. Also the very bytes.
fn cut(stream: &mut BytesMut, digests: Digests) -> Option<(Pdu, Bytes)> {
    let head: [u8; BHS_BYTES] = *stream.first_chunk()?;
    let header = Header::decode(&head);
    let ahs_end = BHS_BYTES + usize::from(head[4]) * 4;
    let data_start = ahs_end + if digests.header { 4 } else { 0 };
    let length = usize::try_from(u32::from_be_bytes([0, head[5], head[6], head[7]])).unwrap();
    let data_digest = if digests.data && length > 0 { 4 } else { 0 };
    let end = data_start + length.next_multiple_of(4) + data_digest;
    if stream.len() < end {
        return None;
    }
    let raw = stream.split_to(end).freeze();
    let pdu = Pdu {
        header,
        ahs: raw.slice(BHS_BYTES..ahs_end),
        data: raw.slice(data_start..data_start + length),
    };
    Some((pdu, raw))
}
