//! One TCP connection: PDUs or raw bytes out, PDUs in, each wait bounded.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::framer::{self, Digests, Framed, Framer};
use iscsi_proto::wire::{Header, Pdu};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::check::Finding;
use crate::wire::describe::name;
use crate::wire::transcript::{Entry, Transcript, Way};
use crate::words;

/// A portal that could not be connected to.
#[derive(Debug)]
pub struct CannotReach {
    address: String,
    cause: String,
}

impl std::fmt::Display for CannotReach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot connect to {}: {}", self.address, self.cause)
    }
}

impl std::error::Error for CannotReach {}

/// What came, or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A PDU whose digests, if any, are right.
    Pdu(Pdu),
    /// A PDU whose data digest is wrong.
    DataDigestError(Header),
    /// Bytes that are no PDU: a wrong header digest, or a segment longer than was declared.
    Nonsense(String),
    /// The peer has closed the connection.
    Closed,
    /// Nothing came in time.
    Silence,
}

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    number: usize,
    transcript: Transcript,
    framer: Framer,
    input: BytesMut,
    /// What is put on PDUs that are sent.
    pub(crate) digests: Digests,
    /// How long to wait for an answer.
    pub(crate) patience: Duration,
    /// True once something could not be sent; nothing more is then.
    pub(crate) broken: bool,
}

impl Wire {
    /// Connects to `HOST:PORT`.
    pub(crate) async fn connect(
        address: &str,
        patience: Duration,
        transcript: &Transcript,
    ) -> Result<Self, CannotReach> {
        let cannot = |cause: String| CannotReach {
            address: address.to_owned(),
            cause,
        };
        let stream = timeout(patience, TcpStream::connect(address))
            .await
            .map_err(|_late| cannot(format!("no answer within {}", words::time(patience))))?
            .map_err(|error| cannot(error.to_string()))?;
        Ok(Self::over(stream, patience, transcript))
    }

    /// A connection that exists already.
    pub(crate) fn over(stream: TcpStream, patience: Duration, transcript: &Transcript) -> Self {
        // Only costs time where it fails.
        let _slower = stream.set_nodelay(true);
        Self {
            stream,
            number: transcript.next_connection(),
            transcript: transcript.clone(),
            framer: Framer::new(framer::DEFAULT_MAX_DATA_SEGMENT),
            input: BytesMut::new(),
            digests: Digests::default(),
            patience,
            broken: false,
        }
    }

    /// Bytes that were read from the connection already, to be taken again.
    pub(crate) fn unread(&mut self, bytes: BytesMut) {
        let later = std::mem::replace(&mut self.input, bytes);
        self.input.extend_from_slice(&later);
    }

    /// Bytes that came and are no PDU, or none yet.
    pub(crate) fn untaken(&self) -> &[u8] {
        &self.input
    }

    /// `HOST:PORT` of this side.
    pub(crate) fn local_address(&self) -> String {
        let address = self.stream.local_addr();
        address.map_or_else(|_| String::new(), |address| address.to_string())
    }

    /// Digests in both directions from the next PDU on.
    pub(crate) fn set_digests(&mut self, header: bool, data: bool) {
        self.digests = Digests { header, data };
        self.framer.set_digests(header, data);
    }

    /// The longest data segment that was declared to the peer; a longer one is nonsense.
    pub(crate) fn set_max_data_segment(&mut self, bytes: u32) {
        self.framer.set_max_data_segment(bytes);
    }

    /// Sends a PDU. A connection that the peer has closed is no error here: reading tells.
    pub(crate) async fn send(&mut self, pdu: Pdu) {
        if self.broken {
            return;
        }
        let bytes = self.encode(&pdu);
        self.note(Entry::Pdu(Way::Sent, pdu));
        self.write(&bytes).await;
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn half_close(&mut self) {
        // A connection that is gone needs no closing.
        let _gone = self.stream.shutdown().await;
        self.note(Entry::Note("this side is closed".to_owned()));
    }

    /// Sends PDUs in one piece, so that the peer has all of them before it can react to the first.
    pub(crate) async fn send_together(&mut self, pdus: Vec<Pdu>) {
        let mut bytes = Vec::new();
        for pdu in pdus {
            bytes.extend(self.encode(&pdu));
            self.note(Entry::Pdu(Way::Sent, pdu));
        }
        self.write(&bytes).await;
    }

    /// Sends bytes, whatever they are; `what` names them in the transcript.
    pub(crate) async fn send_bytes(&mut self, what: &str, bytes: &[u8]) {
        self.note(Entry::Bytes(what.to_owned(), bytes.len()));
        self.write(bytes).await;
    }

    /// The bytes that [`Self::send`] would send, to be damaged by a check.
    pub(crate) fn encode(&self, pdu: &Pdu) -> Vec<u8> {
        let mut parts = VecDeque::new();
        framer::encode(pdu, self.digests, &mut parts);
        parts
            .iter()
            .flat_map(|part: &Bytes| part.iter().copied())
            .collect()
    }

    async fn write(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        // Whoever stops reading is found out by the answer that does not come.
        let sent = timeout(self.patience, self.stream.write_all(bytes)).await;
        if !matches!(sent, Ok(Ok(()))) {
            // Half of a PDU may have gone: whatever came behind it would be taken for the rest.
            self.broken = true;
            self.note(Entry::Note("that could not be sent".to_owned()));
        }
    }

    /// What comes next, within the patience.
    pub(crate) async fn next(&mut self) -> Heard {
        self.next_within(self.patience).await
    }

    /// What comes next, within a time. It begins anew whenever bytes of a PDU come, for a slow wire is no silent peer;
    /// who drips for ever is waited for [`MOST_TIMES`] as long.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Heard {
        let began = Instant::now();
        let most = time.saturating_mul(MOST_TIMES);
        let mut came = began;
        let heard = loop {
            match self.framer.next(&mut self.input) {
                Ok(Some(Framed::Pdu(pdu))) => break Heard::Pdu(pdu),
                Ok(Some(Framed::DataDigestError(header))) => break Heard::DataDigestError(header),
                Ok(None) => {}
                Err(error) => break Heard::Nonsense(error.to_string()),
            }
            let deadline = (came + time).min(began + most);
            match timeout_at(deadline, self.stream.read_buf(&mut self.input)).await {
                Err(_late) => break Heard::Silence,
                Ok(Ok(0) | Err(_)) => break Heard::Closed,
                Ok(Ok(_)) => came = Instant::now(),
            }
        };
        self.note(match &heard {
            Heard::Pdu(pdu) => Entry::Pdu(Way::Received, pdu.clone()),
            Heard::DataDigestError(header) => Entry::Note(format!(
                "received a wrong data digest behind a {}",
                name(header)
            )),
            Heard::Nonsense(why) => Entry::Note(format!("received nonsense: {why}")),
            Heard::Closed => Entry::Note("the peer closed the connection".to_owned()),
            Heard::Silence => Entry::Note(match self.input.len() {
                0 => format!("nothing for {}", words::time(time)),
                part if began.elapsed() >= most => {
                    format!("{part} bytes of a PDU in {}", words::time(most))
                }
                part => format!(
                    "{part} bytes of a PDU, and no more for {}",
                    words::time(time)
                ),
            }),
        });
        heard
    }

    /// The next PDU; anything else is a violation.
    pub(crate) async fn receive(&mut self) -> Result<Pdu, Finding> {
        match self.next().await {
            Heard::Pdu(pdu) => Ok(pdu),
            other => Err(Finding::Violation(other.to_string())),
        }
    }

    /// A line of the check's own in the transcript.
    pub(crate) fn note(&self, entry: Entry) {
        self.transcript.add(self.number, entry);
    }
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pdu(pdu) => write!(f, "{}", name(&pdu.header)),
            Self::DataDigestError(header) => {
                write!(f, "{} with a wrong data digest", name(header))
            }
            Self::Nonsense(why) => write!(f, "what came is no PDU: {why}"),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Silence => f.write_str(NO_ANSWER),
        }
    }
}

/// What is said of silence.
pub(crate) const NO_ANSWER: &str = "no answer in time";
/// So many times the patience one PDU may take to come.
const MOST_TIMES: u32 = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use iscsi_proto::wire::Pdu;
    use iscsi_proto::wire::bhs::NopIn;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::sleep;

    use super::{Heard, Wire};
    use crate::wire::Transcript;

    const PATIENCE: Duration = Duration::from_secs(1);

    /// What is heard of a peer that sends the first bytes of a PDU of 64 one at a time, each after a pause; and the
    /// last line that is written down.
    async fn heard(bytes: usize, rest: Duration) -> (Heard, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(ours, listener.accept());
        let (mut theirs, _) = theirs.unwrap();
        let transcript = Transcript::default();
        let mut wire = Wire::over(ours.unwrap(), PATIENCE, &transcript);
        let pdu = Pdu::new(NopIn::default(), Bytes::from_static(b"slow, not silent"));
        let encoded = wire.encode(&pdu);
        assert_eq!(encoded.len(), 64);
        let drips = async {
            for byte in encoded.iter().take(bytes) {
                sleep(rest).await;
                theirs.write_all(&[*byte]).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let heard = tokio::select! {
            heard = wire.next() => heard,
            () = drips => unreachable!("it never ends"),
        };
        (heard, transcript.show().pop().unwrap_or_default())
    }

    #[tokio::test]
    async fn who_drips_is_waited_for_and_who_stops_or_never_ends_is_not() {
        let quick = PATIENCE / 32;
        let (whole, stops, late, endless, silent) = tokio::join!(
            heard(64, quick),
            heard(12, quick),
            heard(60, quick),
            heard(64, PATIENCE / 7),
            heard(0, quick),
        );
        // It takes two patiences.
        assert!(matches!(whole.0, Heard::Pdu(_)), "{whole:?}");
        for ((heard, line), told) in [
            (stops, "12 bytes of a PDU, and no more for 1 s"),
            (late, "60 bytes of a PDU, and no more for 1 s"),
            (endless, "bytes of a PDU in 8 s"),
            (silent, "nothing for 1 s"),
        ] {
            assert_eq!(heard, Heard::Silence);
            assert!(line.ends_with(told), "{line}");
        }
    }
}
