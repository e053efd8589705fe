//! A target that does what a test tells it: it plays a small disk, or answers something else, or keeps silent, or cuts
//! the wire.

#![allow(dead_code, reason = "no test uses all of it")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use iscsi_proto::login::{Admission, Authentication, LoginStatus};
use iscsi_proto::scsi::capacity::Capacity;
use iscsi_proto::scsi::vpd::{self, Designator};
use iscsi_proto::scsi::{Command, Sense, Status};
use iscsi_proto::session::{
    AsyncNotice, Command as Arrived, ManagementAnswer, ManagementFunction, Response, TargetConfig,
    TargetEvent, TargetSession, TaskId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::soon;

/// What arrived, and on which connection, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cue {
    pub(crate) connection: u32,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Login,
    Read(u64),
    /// Block address, first byte of the data.
    Write(u64, u8),
    /// A command by its operation code.
    Other(u8),
    Manage(ManagementFunction),
}

/// What to do about it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// What a disk does.
    Play,
    Status(u8),
    Sense(u8, u8, u8),
    Manage(ManagementAnswer),
    Refuse(LoginStatus),
    AskLogout(Duration),
    Drop {
        time2wait: u16,
    },
    Cut,
}

type Script = Box<dyn FnMut(Cue) -> Vec<Act> + Send>;

/// The target; its portals share one disk of one unit.
#[derive(Clone)]
pub(crate) struct Actor(Arc<Mutex<Stage>>);

pub(crate) struct Stage {
    script: Option<Script>,
    connections: u32,
    /// Everything that arrived, in order.
    pub(crate) journal: Vec<Cue>,
    pub(crate) disk: Vec<u8>,
    pub(crate) block_bytes: u32,
    pub(crate) designator: u8,
    /// Commands that it takes at once.
    pub(crate) window: u32,
    pub(crate) write_cache: bool,
}

impl Actor {
    pub(crate) fn new(script: impl FnMut(Cue) -> Vec<Act> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Stage {
            script: Some(Box::new(script)),
            connections: 0,
            journal: Vec::new(),
            disk: vec![0; 64 * 512],
            block_bytes: 512,
            designator: 7,
            window: 64,
            write_cache: false,
        })))
    }

    pub(crate) fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().expect("no panic")
    }

    /// Goes on with another script.
    pub(crate) fn direct(&self, script: impl FnMut(Cue) -> Vec<Act> + Send + 'static) {
        self.stage().script = Some(Box::new(script));
    }

    /// Opens a portal of a portal group.
    pub(crate) async fn portal(&self, portal_group_tag: u16) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let actor = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = actor.stage().connections;
                actor.stage().connections += 1;
                let scene = Scene {
                    number,
                    portal_group_tag,
                    stream,
                    actor: actor.clone(),
                    writing: Vec::new(),
                };
                tokio::spawn(scene.play());
            }
        });
        address
    }

    /// The writes that arrived: connection, block address, first byte.
    pub(crate) fn writes(&self) -> Vec<(u32, u64, u8)> {
        let write = |cue: &Cue| match cue.what {
            What::Write(lba, byte) => Some((cue.connection, lba, byte)),
            _ => None,
        };
        self.stage().journal.iter().filter_map(write).collect()
    }

    /// The task management functions that arrived, and on which connection.
    pub(crate) fn managed(&self) -> Vec<(u32, ManagementFunction)> {
        let managed = |cue: &Cue| match cue.what {
            What::Manage(function) => Some((cue.connection, function)),
            _ => None,
        };
        self.stage().journal.iter().filter_map(managed).collect()
    }

    /// Waits until something like this arrived so often.
    pub(crate) async fn arrived(&self, times: usize, like: impl Fn(What) -> bool) {
        let arrived = async {
            while self
                .stage()
                .journal
                .iter()
                .filter(|cue| like(cue.what))
                .count()
                < times
            {
                tokio::task::yield_now().await;
            }
        };
        soon(arrived).await;
    }

    fn acts(&self, connection: u32, what: What) -> Vec<Act> {
        let cue = Cue { connection, what };
        let mut script = {
            let mut stage = self.stage();
            stage.journal.push(cue);
            stage.script.take().expect("one at a time")
        };
        let acts = script(cue);
        self.stage().script = Some(script);
        acts
    }
}

/// One connection.
struct Scene {
    number: u32,
    portal_group_tag: u16,
    stream: TcpStream,
    actor: Actor,
    writing: Vec<(TaskId, u64)>,
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

impl Scene {
    async fn play(mut self) {
        let config = TargetConfig {
            nop: None,
            ..TargetConfig::default()
        };
        let mut session = TargetSession::new(config, now());
        let mut input = BytesMut::new();
        let mut cut = false;
        while !cut && !session.is_closed() {
            match self.stream.read_buf(&mut input).await {
                Ok(1..) => session.handle_bytes(now(), &mut input),
                Ok(0) | Err(_) => return,
            }
            while let Some(event) = session.poll_event() {
                cut |= self.take(&mut session, event);
            }
            while let Some(part) = session.poll_transmit() {
                if self.stream.write_all(&part).await.is_err() {
                    return;
                }
            }
        }
    }

    /// True if the wire is to be cut.
    fn take(&mut self, session: &mut TargetSession, event: TargetEvent) -> bool {
        let (what, task, data) = match event {
            TargetEvent::Login(_) => (What::Login, None, Vec::new()),
            TargetEvent::Authenticated { .. } => {
                let command_window = self.actor.stage().window;
                session.admit(Admission {
                    tsih: 1,
                    command_window,
                });
                return false;
            }
            TargetEvent::Command(arrived) => return self.begin(session, &arrived),
            TargetEvent::DataReady { task, data } => {
                let writing = self
                    .writing
                    .iter()
                    .position(|(writing, _)| *writing == task);
                let (_, lba) = self.writing.remove(writing.expect("a write"));
                let first = data.iter().find_map(|part| part.first().copied());
                (
                    What::Write(lba, first.unwrap_or_default()),
                    Some(task),
                    data,
                )
            }
            TargetEvent::Management {
                task,
                function,
                affected,
                ..
            } => {
                self.writing
                    .retain(|(writing, _)| !affected.contains(writing));
                (What::Manage(function), Some(task), Vec::new())
            }
            _ => return false,
        };
        self.perform(session, what, task, &data, None)
    }

    fn begin(&mut self, session: &mut TargetSession, arrived: &Arrived) -> bool {
        let command = Command::parse(&arrived.cdb);
        let what = match &command {
            Ok(Command::Write { range, .. }) => {
                self.writing.push((arrived.task, range.lba()));
                session.receive(arrived.task, arrived.expected_length);
                return false;
            }
            Ok(Command::Read { range, .. }) => What::Read(range.lba()),
            _ => What::Other(arrived.cdb[0]),
        };
        let response = match &command {
            Ok(command) => self.answer(command, arrived.expected_length),
            Err(_) => invalid(),
        };
        self.perform(session, what, Some(arrived.task), &[], Some(response))
    }

    fn perform(
        &mut self,
        session: &mut TargetSession,
        what: What,
        task: Option<TaskId>,
        data: &[Bytes],
        response: Option<Response>,
    ) -> bool {
        let mut cut = false;
        for act in self.actor.acts(self.number, what) {
            match (act, task) {
                (Act::Play, None) => session.authenticate(Authentication {
                    portal_group_tag: self.portal_group_tag,
                    none: true,
                    chap: None,
                }),
                (Act::Play, Some(task)) => match (what, &response) {
                    (What::Manage(_), _) => {
                        session.answer_management(task, ManagementAnswer::Complete);
                    }
                    (What::Write(lba, _), _) => session.complete(task, self.write(lba, data)),
                    (_, Some(response)) => session.complete(task, response.clone()),
                    _ => {}
                },
                (Act::Status(status), Some(task)) => {
                    session.complete(task, Response::status(Status(status)));
                }
                (Act::Sense(key, asc, ascq), Some(task)) => {
                    let sense = Sense::new(key, asc, ascq).to_fixed_bytes();
                    session.complete(task, Response::check_condition(sense));
                }
                (Act::Manage(answer), Some(task)) => session.answer_management(task, answer),
                (Act::Refuse(status), _) => session.refuse(status),
                (Act::AskLogout(grace), _) => session.request_logout(now(), grace),
                (Act::Drop { time2wait }, _) => {
                    session.notify(AsyncNotice::DropSession { time2wait });
                }
                (Act::Cut, _) => cut = true,
                (Act::Status(_) | Act::Sense(..) | Act::Manage(_), None) => {}
            }
        }
        cut
    }

    fn write(&self, lba: u64, data: &[Bytes]) -> Response {
        let mut stage = self.actor.stage();
        let start = usize::try_from(lba).expect("small") * 512;
        let data = data.concat();
        match stage.disk.get_mut(start..start + data.len()) {
            Some(blocks) => {
                blocks.copy_from_slice(&data);
                Response::written(u32::try_from(data.len()).expect("small"))
            }
            None => out_of_range(),
        }
    }

    /// What a disk answers.
    fn answer(&self, command: &Command, expected: u32) -> Response {
        let stage = self.actor.stage();
        match command {
            Command::Read { range, .. } => {
                let start = usize::try_from(range.lba()).expect("small") * 512;
                match stage.disk.get(start..start + expected as usize) {
                    Some(blocks) => Response::read(vec![Bytes::copy_from_slice(blocks)]),
                    None => out_of_range(),
                }
            }
            Command::ReadCapacity16 { .. } => {
                let capacity = Capacity {
                    blocks: stage.disk.len() as u64 / u64::from(stage.block_bytes),
                    block_bytes: stage.block_bytes,
                    physical_exponent: 0,
                    thin: false,
                    reads_zeros: false,
                };
                Response::read(vec![capacity.build_16()])
            }
            Command::Inquiry {
                page: Some(vpd::DEVICE_IDENTIFICATION),
                ..
            } => {
                let name = Designator::naa([0x30, 0, 0, 0, 0, 0, 0, stage.designator]);
                Response::read(vec![vpd::designators_page(&[name])])
            }
            Command::ModeSense { page: 0x08, .. } => {
                // Header of four bytes, then the caching page with its WCE bit (SBC-3 §6.4.5).
                let mut mode = vec![23, 0, 0, 0, 0x08, 0x12];
                mode.push(if stage.write_cache { 0x04 } else { 0x00 });
                mode.resize(24, 0);
                Response::read(vec![mode.into()])
            }
            Command::SynchronizeCache { .. } | Command::TestUnitReady => Response::good(),
            _ => invalid(),
        }
    }
}

fn invalid() -> Response {
    Response::check_condition(Sense::INVALID_FIELD_IN_CDB.to_fixed_bytes())
}

fn out_of_range() -> Response {
    Response::check_condition(Sense::new(0x5, 0x21, 0x00).to_fixed_bytes())
}
