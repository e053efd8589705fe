//! An array: one unit behind several ports, each in a portal group of its own, with access states that a test sets and
//! writes that it holds back.

#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use iscsi_proto::login::{Admission, Authentication};
use iscsi_proto::scsi::capacity::Capacity;
use iscsi_proto::scsi::inquiry::StandardInquiry;
use iscsi_proto::scsi::port_groups::{self, AccessState, PortGroup};
use iscsi_proto::scsi::vpd::{self, Designator};
use iscsi_proto::scsi::{Command, Sense};
use iscsi_proto::session::{
    Command as Arrived, ManagementAnswer, ManagementFunction, Response, TargetConfig, TargetEvent,
    TargetSession, TaskId,
};
use iscsi_proto::wire::bhs::Isid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const BLOCK: usize = 512;

/// What happened at a port, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Read(usize),
    /// Block address and first byte, when all of the data was there.
    Write(usize, u64, u8),
    Reset(usize),
    /// REPORT TARGET PORT GROUPS.
    Groups(usize),
    /// A command found the port in another state than an active one.
    Refused(usize),
    /// A login ended a session of the same name in the same portal group, which held writes.
    Reinstated(usize),
    /// SYNCHRONIZE CACHE.
    Flush(usize),
}

/// One unit behind several ports.
pub(crate) struct Array {
    state: Mutex<State>,
}

struct State {
    bytes: Vec<u8>,
    ports: Vec<Port>,
    journal: Vec<Event>,
    /// Writes that arrived and were not carried out yet.
    held: Vec<Held>,
    resets: bool,
    /// All ports are in one portal group.
    one_group: bool,
    /// The write cache is volatile.
    write_cache: bool,
    /// Every new session is told that the unit was switched on, as many targets do.
    greets: bool,
}

struct Held {
    tag: u16,
    isid: Isid,
    start: usize,
    data: Vec<u8>,
}

struct Port {
    access: AccessState,
    /// Writes are neither carried out nor answered.
    holds: bool,
    /// Nothing that reaches the medium is answered.
    silent: bool,
    /// Each of its sessions is told that once, in order.
    attentions: Vec<Sense>,
    /// The blocks that it knows of, if not all.
    blocks: Option<usize>,
}

impl Array {
    pub(crate) fn new(blocks: usize, ports: usize) -> Arc<Self> {
        let port = || Port {
            access: AccessState::ACTIVE_OPTIMIZED,
            holds: false,
            silent: false,
            attentions: Vec::new(),
            blocks: None,
        };
        let state = State {
            bytes: vec![0; blocks * BLOCK],
            ports: (0..ports).map(|_| port()).collect(),
            journal: Vec::new(),
            held: Vec::new(),
            resets: true,
            one_group: false,
            write_cache: false,
            greets: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Serves the unit at a port; its address.
    pub(crate) async fn serve(self: &Arc<Self>, port: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let array = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (attentions, greets) = {
                    let state = array.state();
                    (state.ports[port].attentions.len(), state.greets)
                };
                let actor = Actor {
                    array: Arc::clone(&array),
                    port,
                    waiting: HashMap::new(),
                    attentions,
                    greets,
                    isid: Isid::default(),
                };
                tokio::spawn(actor.play(stream));
            }
        });
        address
    }

    /// A port's state changes, and all ports tell it.
    pub(crate) fn set_access(&self, port: usize, access: AccessState) {
        let mut state = self.state();
        state.ports[port].access = access;
        for port in &mut state.ports {
            port.attentions.push(Sense::ACCESS_STATE_CHANGED);
        }
    }

    /// The sessions of a port are told something, each at its next command.
    pub(crate) fn tell(&self, port: usize, sense: Sense) {
        self.state().ports[port].attentions.push(sense);
    }

    /// The unit grows or shrinks. Nobody is told.
    pub(crate) fn resize(&self, blocks: usize) {
        self.state().bytes.resize(blocks * BLOCK, 0);
    }

    /// A port knows of so many blocks only, or of all.
    pub(crate) fn limit(&self, port: usize, blocks: Option<usize>) {
        self.state().ports[port].blocks = blocks;
    }

    /// The unit's write cache is volatile.
    pub(crate) fn use_write_cache(&self) {
        self.state().write_cache = true;
    }

    /// Every new session is told that the unit was switched on.
    pub(crate) fn greet(&self) {
        self.state().greets = true;
    }

    /// A port's state changes, and nobody says a word.
    pub(crate) fn set_access_silently(&self, port: usize, access: AccessState) {
        self.state().ports[port].access = access;
    }

    /// A port's writes are held back from now on, or not any more.
    pub(crate) fn hold(&self, port: usize, holds: bool) {
        self.state().ports[port].holds = holds;
    }

    /// A port answers no reads and writes from now on, or does again.
    pub(crate) fn set_silent(&self, port: usize, silent: bool) {
        self.state().ports[port].silent = silent;
    }

    /// Resets are refused from now on.
    pub(crate) fn refuse_resets(&self) {
        self.state().resets = false;
    }

    /// All ports are in one portal group from now on.
    pub(crate) fn make_one_group(&self) {
        self.state().one_group = true;
    }

    /// What was held back is carried out now, as late as that may be; how many writes it were.
    pub(crate) fn land(&self) -> usize {
        let mut state = self.state();
        let held = std::mem::take(&mut state.held);
        for Held { start, data, .. } in &held {
            state.bytes[*start..][..data.len()].copy_from_slice(data);
        }
        held.len()
    }

    pub(crate) fn held(&self) -> usize {
        self.state().held.len()
    }

    pub(crate) fn journal(&self) -> Vec<Event> {
        self.state().journal.clone()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }
}

/// A connection to a port.
struct Actor {
    array: Arc<Array>,
    port: usize,
    waiting: HashMap<TaskId, u64>,
    /// The attentions that this session was told.
    attentions: usize,
    greets: bool,
    isid: Isid,
}

impl Actor {
    async fn play(mut self, mut stream: TcpStream) {
        let now = || tokio::time::Instant::now().into_std();
        let mut session = TargetSession::new(TargetConfig::default(), now());
        let mut input = BytesMut::new();
        while matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            session.handle_bytes(now(), &mut input);
            while let Some(event) = session.poll_event() {
                self.act(&mut session, event);
            }
            while let Some(part) = session.poll_transmit() {
                if stream.write_all(&part).await.is_err() {
                    return;
                }
            }
        }
    }

    fn act(&mut self, session: &mut TargetSession, event: TargetEvent) {
        match event {
            TargetEvent::Login(_) => session.authenticate(Authentication {
                portal_group_tag: self.tag(),
                none: true,
                chap: None,
            }),
            TargetEvent::Authenticated { identity, .. } => {
                self.isid = identity.isid;
                self.reinstate();
                session.admit(Admission {
                    tsih: 1,
                    command_window: 64,
                });
            }
            TargetEvent::Command(arrived) => self.execute(session, arrived),
            TargetEvent::DataReady { task, data } => self.written(session, task, &data.concat()),
            TargetEvent::Management { task, function, .. } => {
                let answer = self.manage(function);
                session.answer_management(task, answer);
            }
            _ => {}
        }
    }

    fn tag(&self) -> u16 {
        match self.array.state().one_group {
            true => 1,
            false => u16::try_from(self.port).expect("small") + 1,
        }
    }

    fn reinstate(&self) {
        let tag = self.tag();
        let mut state = self.array.state();
        let before = state.held.len();
        state
            .held
            .retain(|held| (held.tag, held.isid) != (tag, self.isid));
        if state.held.len() < before {
            state.journal.push(Event::Reinstated(self.port));
        }
    }

    fn manage(&self, function: ManagementFunction) -> ManagementAnswer {
        let mut state = self.array.state();
        match function {
            ManagementFunction::LogicalUnitReset if state.resets => {
                state.journal.push(Event::Reset(self.port));
                state.held.clear();
                ManagementAnswer::Complete
            }
            ManagementFunction::LogicalUnitReset => ManagementAnswer::Unsupported,
            _ => ManagementAnswer::Complete,
        }
    }

    fn execute(&mut self, session: &mut TargetSession, arrived: Arrived) {
        let command = Command::parse(&arrived.cdb).expect("a command");
        let array = Arc::clone(&self.array);
        let mut state = array.state();
        if let Command::Inquiry { page, .. } = command {
            return session.complete(arrived.task, self.inquiry(page));
        }
        if let Some(sense) = self.attention(&state) {
            return session.complete(arrived.task, refusal(sense));
        }
        match command {
            Command::ReadCapacity16 { .. } => {
                let limit = state.ports[self.port].blocks;
                let capacity = Capacity {
                    blocks: limit.unwrap_or(state.bytes.len() / BLOCK) as u64,
                    block_bytes: 512,
                    physical_exponent: 0,
                    thin: false,
                    reads_zeros: false,
                };
                session.complete(arrived.task, Response::read(vec![capacity.build_16()]));
            }
            Command::ReportTargetPortGroups { .. } => {
                state.journal.push(Event::Groups(self.port));
                session.complete(arrived.task, Response::read(vec![groups(&state.ports)]));
            }
            Command::ModeSense { .. } => {
                let cache = if state.write_cache { 0x04 } else { 0x00 };
                let page = [[15, 0, 0, 0], [0x08, 0x0a, cache, 0], [0; 4], [0; 4]].concat();
                session.complete(arrived.task, Response::read(vec![page.into()]));
            }
            Command::SynchronizeCache { .. } => {
                state.journal.push(Event::Flush(self.port));
                session.complete(arrived.task, Response::good());
            }
            Command::TestUnitReady => session.complete(arrived.task, Response::good()),
            Command::Read { .. } | Command::Write { .. } | Command::CompareAndWrite { .. } => {
                self.medium(session, arrived, command, &mut state);
            }
            _ => session.complete(arrived.task, refusal(Sense::INVALID_FIELD_IN_CDB)),
        }
    }

    /// What this session has to be told next.
    fn attention(&mut self, state: &State) -> Option<Sense> {
        if std::mem::take(&mut self.greets) {
            return Some(SWITCHED_ON);
        }
        let next = state.ports[self.port].attentions.get(self.attentions)?;
        self.attentions += 1;
        Some(*next)
    }

    fn medium(
        &mut self,
        session: &mut TargetSession,
        arrived: Arrived,
        command: Command,
        state: &mut State,
    ) {
        let not_ready = match state.ports[self.port].access {
            AccessState::TRANSITIONING => Some(0x0a),
            AccessState::STANDBY => Some(0x0b),
            AccessState::UNAVAILABLE => Some(0x0c),
            _ => None,
        };
        if let Some(ascq) = not_ready {
            state.journal.push(Event::Refused(self.port));
            return session.complete(arrived.task, refusal(Sense::new(0x2, 0x04, ascq)));
        }
        match command {
            Command::Read { range, .. } => {
                state.journal.push(Event::Read(self.port));
                if !state.ports[self.port].silent {
                    let start = usize::try_from(range.lba()).expect("small") * BLOCK;
                    let length = range.blocks() as usize * BLOCK;
                    let bytes = Bytes::copy_from_slice(&state.bytes[start..][..length]);
                    session.complete(arrived.task, Response::read(vec![bytes]));
                }
            }
            Command::Write { range, .. } => {
                self.waiting.insert(arrived.task, range.lba());
                session.receive(arrived.task, arrived.expected_length);
            }
            Command::CompareAndWrite { lba, .. } => {
                self.waiting.insert(arrived.task, lba);
                session.receive(arrived.task, arrived.expected_length);
            }
            _ => {}
        }
    }

    fn written(&mut self, session: &mut TargetSession, task: TaskId, data: &[u8]) {
        let lba = self.waiting.remove(&task).expect("a write");
        let start = usize::try_from(lba).expect("small") * BLOCK;
        let (tag, isid) = (self.tag(), self.isid);
        let mut state = self.array.state();
        state.journal.push(Event::Write(self.port, lba, data[0]));
        if state.ports[self.port].holds {
            state.held.push(Held {
                tag,
                isid,
                start,
                data: data.to_vec(),
            });
        } else {
            state.bytes[start..][..data.len()].copy_from_slice(data);
            let length = u32::try_from(data.len()).expect("short");
            session.complete(task, Response::written(length));
        }
    }

    fn inquiry(&self, page: Option<u8>) -> Response {
        let number = u16::try_from(self.port).expect("small") + 1;
        let data = match page {
            None => StandardInquiry {
                target_port_groups: 1,
                ..StandardInquiry::block_device("TEST", "ARRAY", "1")
            }
            .build(),
            Some(vpd::DEVICE_IDENTIFICATION) => vpd::designators_page(&[
                Designator::naa([0x31; 8]),
                Designator::relative_target_port(number),
                Designator::target_port_group(number + 10),
            ]),
            Some(_) => return refusal(Sense::INVALID_FIELD_IN_CDB),
        };
        Response::read(vec![data])
    }
}

/// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED (SPC-4 table 59).
pub(crate) const SWITCHED_ON: Sense = Sense::new(0x6, 0x29, 0x00);

fn groups(ports: &[Port]) -> Bytes {
    let group = |(port, number): (&Port, u16)| PortGroup {
        state: port.access,
        ..PortGroup::active(number + 10, vec![number])
    };
    let groups: Vec<_> = ports.iter().zip(1..).map(group).collect();
    port_groups::build(&groups, false)
}

fn refusal(sense: Sense) -> Response {
    Response::check_condition(sense.to_fixed_bytes())
}
