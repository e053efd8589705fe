//! A target session between an initiator and a driver that both do as a fuzzer says.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::fuzzing::{Script, Source, Watch};
use crate::login::{Admission, Authentication};
use crate::scsi::Status;
use crate::session::{
    AsyncNotice, DiscoverScope, ManagementAnswer, Response, SessionLimits, TargetConfig,
    TargetEvent, TargetRecord, TargetSession, TaskId,
};
use crate::wire::framer::Digests;
use crate::wire::lun::Lun;

/// Commands that may be under way.
const DEPTH: u32 = 8;
/// What a session may hold in memory for its peer, whatever the peer does: write data, commands ahead of their turn,
/// the first bursts of a full window, texts, and some room for what describes them.
const MOST_HELD: usize = 1 << 20;

/// A whole session. The numbers hold, no command is answered twice, and memory has a bound.
pub fn session(input: &[u8]) {
    let mut source = Source::new(input);
    let mut world = World::new(source.byte());
    while !source.is_empty() && !world.closed {
        world.step(&mut source);
        world.settle();
        let held = world.session.held_bytes();
        assert!(held <= MOST_HELD, "{held} bytes are held");
    }
    world.session.close();
    world.settle();
    assert!(world.closed && world.watch.is_whole());
    assert!(world.session.poll_event().is_none() && world.session.poll_transmit().is_none());
}

struct World {
    session: TargetSession,
    script: Script,
    watch: Watch,
    now: Instant,
    input: BytesMut,
    running: Vec<TaskId>,
    management: Vec<TaskId>,
    discoveries: Vec<(TaskId, DiscoverScope)>,
    closed: bool,
}

impl World {
    /// A session that is logged in.
    fn new(login: u8) -> Self {
        let now = start();
        let config = TargetConfig {
            queue_depth: DEPTH,
            limits: SessionLimits {
                write_bytes: 32 << 10,
                text_bytes: 4 << 10,
                ..SessionLimits::default()
            },
            ..TargetConfig::default()
        };
        let mut session = TargetSession::new(config, now);
        let request = Script::login(login, 1, "iqn.2026-01.org.example:disk");
        session.handle_bytes(now, &mut BytesMut::from(request.as_slice()));
        let mut digests = None;
        while let Some(event) = session.poll_event() {
            match event {
                TargetEvent::Login(_) => session.authenticate(Authentication {
                    portal_group_tag: 1,
                    none: true,
                    chap: None,
                }),
                TargetEvent::Authenticated { .. } => session.admit(Admission {
                    tsih: 1,
                    command_window: DEPTH,
                }),
                TargetEvent::LoggedIn { params, .. } => {
                    digests = Some(Digests {
                        header: params.header_digest,
                        data: params.data_digest,
                    });
                }
                other => panic!("no event of a login: {other:?}"),
            }
        }
        let digests = digests.expect("a login that succeeds");
        while session.poll_transmit().is_some() {}
        Self {
            session,
            script: Script::new(digests),
            watch: Watch::new(digests, DEPTH),
            now,
            input: BytesMut::new(),
            running: Vec::new(),
            management: Vec::new(),
            discoveries: Vec::new(),
            closed: false,
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.byte() {
            0..160 => {
                let said = self.script.say(source);
                self.watch.said(&said);
                self.input.extend_from_slice(&said);
                self.session.handle_bytes(self.now, &mut self.input);
            }
            160..190 => self.complete(source),
            190..215 => {
                let length = source.pick(&[0, 512, 4_096, 20_000, u32::MAX]);
                if let Some(task) = one_of(&self.running, source) {
                    self.session.receive(task, length);
                }
            }
            215..225 => self.answer(source),
            225..235 => {
                self.now += Duration::from_secs(u64::from(source.byte() % 20));
                self.session.handle_timeout(self.now);
            }
            235..242 => {
                let lun = source.pick(&[None, Some(Lun(0)), Some(Lun(1 << 48))]);
                let gone = self.session.purge(lun);
                assert!(gone.iter().all(|task| self.running.contains(task)));
                self.running.retain(|task| !gone.contains(task));
                assert!(lun.is_some() || self.running.is_empty(), "all are gone");
            }
            242..247 => self
                .session
                .set_window(u32::from(source.byte()) % (DEPTH + 1)),
            247..252 => self.session.notify(AsyncNotice::Scsi {
                lun: Lun(0),
                sense: Bytes::from_static(&[0x70, 0, 6, 0, 0, 0, 0, 10]),
            }),
            252..254 => {
                let grace = Duration::from_secs(u64::from(source.byte()));
                self.session.request_logout(self.now, grace);
            }
            254 => self
                .session
                .notify(AsyncNotice::DropSession { time2wait: 1 }),
            255 => self.session.handle_disconnect(),
        }
    }

    fn complete(&mut self, source: &mut Source<'_>) {
        let Some(task) = one_of(&self.running, source) else {
            return;
        };
        let length = source.pick(&[0, 4, 512, 3_000, 20_000]);
        let response = match source.byte() % 4 {
            0 => Response::good(),
            1 => Response::written(length),
            2 => Response::read(vec![Bytes::from(vec![0xda; length as usize])]),
            _ => Response {
                status: Status(source.byte()),
                ..Response::read(vec![Bytes::from(vec![0xda; length as usize])])
            },
        };
        self.session.complete(task, response);
        self.running.retain(|running| *running != task);
    }

    fn answer(&mut self, source: &mut Source<'_>) {
        if let Some(task) = one_of(&self.management, source) {
            let answer = source.pick(&[ManagementAnswer::Complete, ManagementAnswer::Rejected]);
            self.session.answer_management(task, answer);
            self.management.retain(|running| *running != task);
        } else if let Some((task, scope)) = self.discoveries.pop() {
            let record = TargetRecord {
                name: "iqn.2026-01.org.example:disk".parse().expect("a name"),
                addresses: vec![("192.0.2.1:3260".to_owned(), 1)],
            };
            let count = if scope == DiscoverScope::All {
                source.byte()
            } else {
                1
            };
            self.session
                .answer_discovery(task, &vec![record; usize::from(count)]);
        }
    }

    /// What the session has to say, to both sides.
    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.closed, "nothing happens after the end: {event:?}");
            match event {
                TargetEvent::Command(command) => {
                    assert!(!self.running.contains(&command.task), "a name is used once");
                    self.running.push(command.task);
                }
                TargetEvent::DataReady { task, .. } => assert!(self.running.contains(&task)),
                TargetEvent::Discover { task, scope } => self.discoveries.push((task, scope)),
                TargetEvent::Management { task, affected, .. } => {
                    assert!(affected.iter().all(|task| self.running.contains(task)));
                    self.running.retain(|task| !affected.contains(task));
                    self.management.push(task);
                }
                TargetEvent::Aborted(tasks) => self.running.retain(|task| !tasks.contains(task)),
                TargetEvent::Closed(_) => self.closed = true,
                other => panic!("no event of the full feature phase: {other:?}"),
            }
        }
        while let Some(bytes) = self.session.poll_transmit() {
            for request in self.watch.hear(&bytes) {
                self.script.asked(request);
            }
        }
        assert_eq!(self.closed, self.session.is_closed());
    }
}

fn one_of(tasks: &[TaskId], source: &mut Source<'_>) -> Option<TaskId> {
    (!tasks.is_empty()).then(|| source.pick(tasks))
}

/// Any moment to begin at.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; the time of the story is its own"
)]
pub(super) fn start() -> Instant {
    Instant::now()
}
