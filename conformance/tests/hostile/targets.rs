//! Targets that do a suite no good.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::{BHS_BYTES, DataIn, FINAL, LoginResponse, NopIn, RESERVED_TAG};
use iscsi_proto::wire::framer::{self, Digests};
use iscsi_proto::wire::{Header, Pdu};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// How a target behaves to whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes connections, reads, and says nothing.
    Silent,
    /// Closes at once.
    Closes,
    /// Closes in the middle of what it is sent.
    ClosesAtRandom,
    /// Answers with random bytes.
    Noise,
    /// Answers with random headers in sound frames.
    RandomPdus,
    /// Does not read.
    Deaf,
    /// Answers a login soundly, a byte at a time.
    Trickles,
    /// Logs everybody in and then says nothing.
    SilentAfterLogin,
    /// Logs everybody in and answers commands with data that has no end.
    Floods,
    /// Logs everybody in and pings without an end.
    Pings,
    /// Logs everybody in and then sends random headers in sound frames.
    RandomAfterLogin,
}

impl Manner {
    pub(crate) const ALL: [Self; 11] = [
        Self::Silent,
        Self::Closes,
        Self::ClosesAtRandom,
        Self::Noise,
        Self::RandomPdus,
        Self::Deaf,
        Self::Trickles,
        Self::SilentAfterLogin,
        Self::Floods,
        Self::Pings,
        Self::RandomAfterLogin,
    ];

    fn logs_in(self) -> bool {
        matches!(
            self,
            Self::Trickles
                | Self::SilentAfterLogin
                | Self::Floods
                | Self::Pings
                | Self::RandomAfterLogin
        )
    }
}

/// A running target; it ends with this.
pub(crate) struct Hostile {
    pub(crate) address: SocketAddr,
    accepting: AbortHandle,
}

impl Hostile {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut seed = 1;
            while let Ok((stream, _)) = listener.accept().await {
                seed += 1;
                connections.spawn(serve(stream, manner, Dice(seed)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A wire to a target over which its answers come a byte at a time; it ends with this.
pub(crate) struct Dripping {
    pub(crate) address: SocketAddr,
    accepting: AbortHandle,
}

impl Dripping {
    pub(crate) async fn start(target: SocketAddr, pace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(drip(stream, target, pace));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Drop for Dripping {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes on what the suite says, and drips the answers, until either side is gone.
async fn drip(mut suite: TcpStream, target: SocketAddr, pace: Duration) -> Option<()> {
    suite.set_nodelay(true).ok()?;
    let mut target = TcpStream::connect(target).await.ok()?;
    let (mut from_suite, mut to_suite) = suite.split();
    let (mut from_target, mut to_target) = target.split();
    let answers = async {
        while let Ok(byte) = from_target.read_u8().await {
            sleep(pace).await;
            to_suite.write_all(&[byte]).await.ok()?;
        }
        Some(())
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_suite, &mut to_target) => {}
        _ = answers => {}
    }
    Some(())
}

/// Numbers from a seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll().to_le_bytes()[0]).collect()
    }

    /// A random header, and some data that its length is true of; `about` is the task that it may be about.
    pub(crate) fn pdu(&mut self, about: &[u8]) -> Pdu {
        const ANSWERS: [u8; 10] = [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f];
        let mut head: [u8; BHS_BYTES] = self.bytes(BHS_BYTES).try_into().unwrap();
        head[0] = ANSWERS[self.below(ANSWERS.len())];
        head[4] = 0;
        if self.below(4) > 0 {
            head[16..20].copy_from_slice(about);
        }
        let count = self.below(200);
        let data = Bytes::from(self.bytes(count));
        Pdu {
            header: Header::decode(&head),
            ahs: Bytes::new(),
            data,
        }
    }
}

/// An end of the connection ends everything here.
async fn serve(mut stream: TcpStream, manner: Manner, mut dice: Dice) -> Option<()> {
    let mut input = BytesMut::new();
    match manner {
        Manner::Closes => return Some(()),
        Manner::Deaf => std::future::pending().await,
        Manner::ClosesAtRandom => {
            let bytes = dice.below(400);
            let mut read = 0;
            while read < bytes {
                read += some(stream.read_buf(&mut input).await.ok()?)?;
                input.clear();
            }
            return Some(());
        }
        _ if manner.logs_in() => log_in(&mut stream, &mut input, manner).await?,
        _ => {}
    }
    loop {
        let request = take(&mut stream, &mut input).await?;
        let tag = &request[16..20];
        match manner {
            Manner::Noise | Manner::RandomPdus | Manner::RandomAfterLogin => {
                let noise = if manner == Manner::Noise {
                    let count = dice.below(500);
                    dice.bytes(count)
                } else {
                    encode(&dice.pdu(tag))
                };
                stream.write_all(&noise).await.ok()?;
            }
            Manner::Floods => flood(&mut stream, tag).await?,
            Manner::Pings => loop {
                let ping = NopIn {
                    flags: FINAL,
                    initiator_task_tag: RESERVED_TAG.into(),
                    target_transfer_tag: 7.into(),
                    ..NopIn::default()
                };
                stream.write_all(&encode(&Pdu::bare(ping))).await.ok()?;
            },
            _ => {}
        }
    }
}

/// Data-In in order, of any length that was asked for and on.
async fn flood(stream: &mut TcpStream, tag: &[u8]) -> Option<()> {
    let tag = u32::from_be_bytes(tag.try_into().unwrap());
    let data = Bytes::from(vec![0; 8192]);
    let mut number = 0u32;
    loop {
        let header = DataIn {
            initiator_task_tag: tag.into(),
            target_transfer_tag: RESERVED_TAG.into(),
            data_sn: number.into(),
            buffer_offset: number.wrapping_mul(8192).into(),
            ..DataIn::default()
        };
        let pdu = Pdu::new(header, data.clone());
        stream.write_all(&encode(&pdu)).await.ok()?;
        number = number.wrapping_add(1);
    }
}

/// Agrees to every login, whatever it says.
async fn log_in(stream: &mut TcpStream, input: &mut BytesMut, manner: Manner) -> Option<()> {
    for stat_sn in 1u32.. {
        let request = take(stream, input).await?;
        let Header::LoginRequest(login) = Header::decode(&request) else {
            return None;
        };
        let answer = LoginResponse {
            flags: login.flags,
            isid: login.isid,
            tsih: 1.into(),
            initiator_task_tag: login.initiator_task_tag,
            stat_sn: stat_sn.into(),
            exp_cmd_sn: login.cmd_sn,
            max_cmd_sn: (login.cmd_sn.get().wrapping_add(32)).into(),
            ..LoginResponse::default()
        };
        let bytes = encode(&Pdu::new(answer, Bytes::from_static(b"AuthMethod=None\0")));
        if manner == Manner::Trickles {
            for byte in bytes {
                sleep(Duration::from_millis(100)).await;
                stream.write_all(&[byte]).await.ok()?;
            }
        } else {
            stream.write_all(&bytes).await.ok()?;
        }
        if login.flags & FINAL != 0 && login.flags & 3 == 3 {
            break;
        }
    }
    Some(())
}

/// The header of the next PDU from the suite; its data is thrown away.
async fn take(stream: &mut TcpStream, input: &mut BytesMut) -> Option<[u8; BHS_BYTES]> {
    loop {
        if let Some(head) = input.first_chunk::<BHS_BYTES>() {
            let head = *head;
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
            let end = BHS_BYTES
                + usize::from(head[4]) * 4
                + usize::try_from(length).unwrap().next_multiple_of(4);
            if input.len() >= end {
                let _taken = input.split_to(end);
                return Some(head);
            }
        }
        some(stream.read_buf(input).await.ok()?)?;
    }
}

fn some(read: usize) -> Option<usize> {
    (read > 0).then_some(read)
}

fn encode(pdu: &Pdu) -> Vec<u8> {
    let mut parts = std::collections::VecDeque::new();
    framer::encode(pdu, Digests::default(), &mut parts);
    parts.iter().flat_map(|part| part.iter().copied()).collect()
}
