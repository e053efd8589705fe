//! A target that does what a test tells it: answers a command, or keeps silent, or cuts the wire.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use iscsi_proto::login::{Admission, Authentication};
use iscsi_proto::scsi::Command;
use iscsi_proto::scsi::capacity::Capacity;
use iscsi_proto::session::{
    Command as Arrived, Response, TargetConfig, TargetEvent, TargetSession, TaskId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with a write.
#[allow(dead_code, reason = "no test uses all of it")]
pub(crate) enum Verdict {
    Answer,
    Ignore,
    AnswerAndCut,
}

/// Connection (from 0), block address, first byte of the data.
pub(crate) type Write = (u32, u64, u8);

/// The writes that arrived, in order.
pub(crate) type Journal = Arc<Mutex<Vec<Write>>>;

pub(crate) async fn scripted(verdict: fn(Write) -> Verdict) -> (String, Journal) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let journal = Journal::default();
    let script = Arc::clone(&journal);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            Actor {
                number,
                stream,
                journal: Arc::clone(&script),
                verdict,
                writing: Vec::new(),
            }
            .play()
            .await;
        }
    });
    (address, journal)
}

struct Actor {
    number: u32,
    stream: TcpStream,
    journal: Journal,
    verdict: fn(Write) -> Verdict,
    writing: Vec<(TaskId, u64)>,
}

impl Actor {
    async fn play(mut self) {
        let now = || tokio::time::Instant::now().into_std();
        let mut session = TargetSession::new(TargetConfig::default(), now());
        let mut input = BytesMut::new();
        let mut cut = false;
        while !cut
            && self
                .stream
                .read_buf(&mut input)
                .await
                .is_ok_and(|length| length > 0)
        {
            session.handle_bytes(now(), &mut input);
            while let Some(event) = session.poll_event() {
                cut |= self.act(&mut session, event);
            }
            while let Some(part) = session.poll_transmit() {
                if self.stream.write_all(&part).await.is_err() {
                    return;
                }
            }
        }
    }

    /// True if the wire is to be cut.
    fn act(&mut self, session: &mut TargetSession, event: TargetEvent) -> bool {
        match event {
            TargetEvent::Login(_) => session.authenticate(Authentication {
                portal_group_tag: 1,
                none: true,
                chap: None,
            }),
            TargetEvent::Authenticated { .. } => session.admit(Admission {
                tsih: 1,
                command_window: 64,
            }),
            TargetEvent::Command(command) => self.execute(session, command),
            TargetEvent::DataReady { task, data } => return self.written(session, task, &data),
            _ => {}
        }
        false
    }

    fn execute(&mut self, session: &mut TargetSession, arrived: Arrived) {
        match Command::parse(&arrived.cdb) {
            Ok(Command::Write { range, .. }) => {
                self.writing.push((arrived.task, range.lba()));
                session.receive(arrived.task, arrived.expected_length);
            }
            Ok(Command::ReadCapacity16 { .. }) => {
                let capacity = Capacity {
                    blocks: 64,
                    block_bytes: 512,
                    physical_exponent: 0,
                    thin: false,
                    reads_zeros: false,
                };
                session.complete(arrived.task, Response::read(vec![capacity.build_16()]));
            }
            _ => {
                let sense = iscsi_proto::scsi::Sense::INVALID_FIELD_IN_CDB.to_fixed_bytes();
                session.complete(arrived.task, Response::check_condition(sense));
            }
        }
    }

    fn written(&mut self, session: &mut TargetSession, task: TaskId, data: &[Bytes]) -> bool {
        let place = self
            .writing
            .iter()
            .position(|(writing, _)| *writing == task)
            .expect("a write");
        let (_, lba) = self.writing.remove(place);
        let write = (self.number, lba, data[0][0]);
        self.journal.lock().expect("no panic").push(write);
        let verdict = (self.verdict)(write);
        if !matches!(verdict, Verdict::Ignore) {
            session.complete(task, Response::written(512));
        }
        matches!(verdict, Verdict::AnswerAndCut)
    }
}
