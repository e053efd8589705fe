//! A unit in memory that knows as much as a test lets it, behind a target of its own.

#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use iscsi_proto::login::{Admission, Authentication};
use iscsi_proto::scsi::capacity::Capacity;
use iscsi_proto::scsi::vpd::{self, BlockLimits, Provisioning};
use iscsi_proto::scsi::{Command, Sense, SenseData};
use iscsi_proto::session::{
    Command as Arrived, Response, TargetConfig, TargetEvent, TargetSession, TaskId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const BLOCK: usize = 512;

/// What a unit says, and what came.
pub(crate) struct Unit {
    pub(crate) limits: BlockLimits,
    pub(crate) provisioning: Provisioning,
    /// What a command is refused with.
    pub(crate) refuse: fn(&Command) -> Option<Sense>,
    pub(crate) bytes: Mutex<Vec<u8>>,
    /// The commands that came with data, or changed something.
    pub(crate) came: Mutex<Vec<(Vec<u8>, usize)>>,
    /// The next so many of them are not answered: the wire is cut instead.
    pub(crate) cuts: Mutex<u32>,
    /// The next so many of them are carried out and never answered.
    pub(crate) silent: Mutex<u32>,
}

impl Unit {
    pub(crate) fn new(blocks: usize) -> Self {
        Self {
            limits: BlockLimits::default(),
            provisioning: Provisioning::default(),
            refuse: |_| None,
            bytes: Mutex::new(
                (0..blocks * BLOCK)
                    .map(|at| at.to_le_bytes()[0] | 1)
                    .collect(),
            ),
            came: Mutex::default(),
            cuts: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// One of 64 blocks that compares so many of them at once.
    pub(crate) fn comparing(blocks: u8) -> Self {
        Self {
            limits: BlockLimits {
                maximum_compare_and_write: blocks,
                ..BlockLimits::default()
            },
            ..Self::new(64)
        }
    }

    /// Serves the unit; its address.
    pub(crate) async fn serve(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let unit = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let actor = Actor {
                    unit: Arc::clone(&unit),
                    waiting: HashMap::new(),
                };
                tokio::spawn(actor.play(stream));
            }
        });
        address
    }

    /// The operation codes that came, and the bytes that came with each.
    pub(crate) fn came(&self) -> Vec<(u8, usize)> {
        let came = self.came.lock().expect("no panic");
        came.iter().map(|(cdb, length)| (cdb[0], *length)).collect()
    }

    fn blocks(&self) -> u64 {
        (self.bytes.lock().expect("no panic").len() / BLOCK) as u64
    }

    fn answer(&self, command: Command) -> Option<Bytes> {
        match command {
            Command::ReadCapacity16 { .. } => Some(
                Capacity {
                    blocks: self.blocks(),
                    block_bytes: 512,
                    physical_exponent: 0,
                    thin: false,
                    reads_zeros: false,
                }
                .build_16(),
            ),
            Command::Inquiry {
                page: Some(vpd::BLOCK_LIMITS),
                ..
            } => Some(self.limits.build()),
            Command::Inquiry {
                page: Some(vpd::LOGICAL_BLOCK_PROVISIONING),
                ..
            } => Some(self.provisioning.build()),
            Command::Read { range, .. } => {
                let bytes = self.bytes.lock().expect("no panic");
                let start = usize::try_from(range.lba()).expect("small") * BLOCK;
                let end = start + range.blocks() as usize * BLOCK;
                Some(Bytes::copy_from_slice(&bytes[start..end]))
            }
            _ => None,
        }
    }

    /// Carries a change out.
    fn change(&self, command: Command, data: &[u8]) -> Response {
        let mut bytes = self.bytes.lock().expect("no panic");
        let start = |lba: u64| usize::try_from(lba).expect("small") * BLOCK;
        match command {
            Command::Write { range, .. } => {
                bytes[start(range.lba())..][..data.len()].copy_from_slice(data);
            }
            Command::WriteSame(same) => {
                let from = start(same.range.lba());
                for block in bytes[from..][..same.range.blocks() as usize * BLOCK].chunks_mut(BLOCK)
                {
                    block.copy_from_slice(data);
                }
            }
            Command::CompareAndWrite { lba, .. } => {
                let (expected, new) = data.split_at(data.len() / 2);
                let found = &mut bytes[start(lba)..][..expected.len()];
                let at = found.iter().zip(expected).position(|(a, b)| a != b);
                if let Some(at) = at {
                    let sense = SenseData::from(Sense::new(0xe, 0x1d, 0));
                    // Told as some units tell it: beyond what was sent.
                    let sense = sense.with_information(at as u64 * 1000);
                    return Response::check_condition(sense.to_fixed_bytes());
                }
                found.copy_from_slice(new);
            }
            _ => {}
        }
        Response::written(u32::try_from(data.len()).expect("short"))
    }
}

struct Actor {
    unit: Arc<Unit>,
    waiting: HashMap<TaskId, [u8; 16]>,
}

impl Actor {
    async fn play(mut self, mut stream: TcpStream) {
        let now = || tokio::time::Instant::now().into_std();
        let mut session = TargetSession::new(TargetConfig::default(), now());
        let mut input = BytesMut::new();
        while matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            session.handle_bytes(now(), &mut input);
            while let Some(event) = session.poll_event() {
                if self.act(&mut session, event) {
                    return;
                }
            }
            while let Some(part) = session.poll_transmit() {
                if stream.write_all(&part).await.is_err() {
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
            TargetEvent::Command(arrived) => return self.execute(session, arrived),
            TargetEvent::DataReady { task, data } => {
                let cdb = self.waiting.remove(&task).expect("a command");
                return self.finish(session, task, cdb, &data.concat());
            }
            _ => {}
        }
        false
    }

    fn execute(&mut self, session: &mut TargetSession, arrived: Arrived) -> bool {
        let Ok(command) = Command::parse(&arrived.cdb) else {
            // Whatever it is: it is carried out.
            return self.finish(session, arrived.task, arrived.cdb, &[]);
        };
        let answer = self.unit.answer(command);
        if let Some(sense) = (self.unit.refuse)(&command) {
            self.note(&arrived.cdb, 0);
            let refusal = Response::check_condition(sense.to_fixed_bytes());
            session.complete(arrived.task, refusal);
        } else if let Some(answer) = answer {
            session.complete(arrived.task, Response::read(vec![answer]));
        } else if arrived.writes {
            self.waiting.insert(arrived.task, arrived.cdb);
            session.receive(arrived.task, arrived.expected_length);
        } else if matches!(command, Command::SynchronizeCache { .. }) {
            return self.finish(session, arrived.task, arrived.cdb, &[]);
        } else {
            let sense = Sense::INVALID_FIELD_IN_CDB.to_fixed_bytes();
            session.complete(arrived.task, Response::check_condition(sense));
        }
        false
    }

    fn note(&self, cdb: &[u8; 16], length: usize) {
        let mut came = self.unit.came.lock().expect("no panic");
        came.push((cdb.to_vec(), length));
    }

    fn finish(
        &self,
        session: &mut TargetSession,
        task: TaskId,
        cdb: [u8; 16],
        data: &[u8],
    ) -> bool {
        self.note(&cdb, data.len());
        let response = match Command::parse(&cdb) {
            Ok(command) => self.unit.change(command, data),
            Err(_) => Response::written(u32::try_from(data.len()).expect("short")),
        };
        if count_down(&self.unit.cuts) {
            return true;
        }
        if !count_down(&self.unit.silent) {
            session.complete(task, response);
        }
        false
    }
}

/// True so many times as it was set to.
fn count_down(times: &Mutex<u32>) -> bool {
    let mut left = times.lock().expect("no panic");
    let more = *left > 0;
    *left = left.saturating_sub(1);
    more
}
