//! Sessions that write, abort, reset, clear and reinstate each other at random over disks that hang now and then,
//! against a stupid oracle: what a block may hold.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use iscsi_target::TargetOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::harness::{DISK, PATIENCE, World, normal};

const SESSIONS: usize = 3;
const LUNS: [u8; 2] = [0, 3];
const BLOCKS: u8 = 4;
const STEPS: usize = 300;
/// Stamps are no contents that a disk has at first.
const FIRST_STAMP: u32 = 0x8000_0000;

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const CLEAR_TASK_SET: u8 = 4;
const LOGICAL_UNIT_RESET: u8 = 5;
const TARGET_WARM_RESET: u8 = 6;

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let top = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(top).expect("31 bits") % limit
    }
}

/// A write, by the oracle's clock.
#[derive(Clone, Copy, Debug)]
struct Written {
    lun: u8,
    block: u8,
    begun: u64,
    /// When it can happen no more; not known yet.
    ended: Option<u64>,
    acknowledged: bool,
}

/// What every block may hold.
#[derive(Default)]
struct Oracle {
    clock: u64,
    writes: BTreeMap<u32, Written>,
}

impl Oracle {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn begin(&mut self, lun: u8, block: u8) -> u32 {
        let begun = self.tick();
        let stamp = FIRST_STAMP + u32::try_from(self.writes.len()).expect("a short test");
        let write = Written {
            lun,
            block,
            begun,
            ended: None,
            acknowledged: false,
        };
        self.writes.insert(stamp, write);
        stamp
    }

    fn end(&mut self, stamp: u32, acknowledged: bool) {
        let now = self.tick();
        let write = self.writes.get_mut(&stamp).expect("a write that was begun");
        (write.ended, write.acknowledged) = (Some(now), acknowledged);
    }

    /// Whether a block may show this content to whoever looks from `since` on: no write that was acknowledged before
    /// then, and began when this one could happen no more, may be missing.
    fn check(&self, lun: u8, block: u8, content: &[u8], since: u64) {
        let stamp = u32::from_le_bytes(content[..4].try_into().expect("four bytes"));
        assert!(
            content.chunks(4).all(|word| word == &content[..4]),
            "a torn block"
        );
        let ended = match self.writes.get(&stamp) {
            Some(write) => {
                assert_eq!((write.lun, write.block), (lun, block), "strayed");
                write.ended
            }
            None => {
                assert!(stamp < FIRST_STAMP, "never written");
                Some(0)
            }
        };
        let Some(ended) = ended else { return };
        let lost = self.writes.iter().find(|(_, write)| {
            (write.lun, write.block) == (lun, block)
                && write.acknowledged
                && write.begun > ended
                && write.ended.is_some_and(|end| end < since)
        });
        assert!(
            lost.is_none(),
            "block {block} of unit {lun} holds {stamp:x} {:?}, and lost {lost:x?}",
            self.writes.get(&stamp)
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read { lun: u8, block: u8, since: u64 },
    Write { stamp: u32, lun: u8 },
    Management,
}

/// A session with a task that reads its socket.
struct Session {
    isid: u8,
    tsih: u16,
    writer: OwnedWriteHalf,
    answers: mpsc::UnboundedReceiver<([u8; 48], Vec<u8>)>,
    pending: HashMap<u32, Kind>,
    tag: u32,
    cmd_sn: u32,
    max_cmd_sn: u32,
}

impl Session {
    /// A new session, or a new connection of one.
    async fn new(world: &World, isid: u8, tsih: u16) -> Self {
        let mut initiator = world.connect().await;
        let keys = normal(DISK);
        let response = initiator.login_request(0x87, isid, tsih, 0, &keys).await;
        assert_eq!(response.expect("a login response").header[36..38], [0, 0]);
        let tsih = initiator.tsih;
        let (mut reader, writer) = initiator.stream.into_split();
        let (sender, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let mut header = [0; 48];
                if reader.read_exact(&mut header).await.is_err() {
                    return;
                }
                let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
                let mut data = vec![0; length.next_multiple_of(4)];
                if reader.read_exact(&mut data).await.is_err() {
                    return;
                }
                let _ = sender.send((header, data));
            }
        });
        Self {
            isid,
            tsih,
            writer,
            answers,
            pending: HashMap::new(),
            tag: 0,
            cmd_sn: 1,
            max_cmd_sn: 1,
        }
    }

    fn may_send(&self) -> bool {
        self.max_cmd_sn.wrapping_sub(self.cmd_sn) < u32::MAX / 2 && self.pending.len() < 40
    }

    async fn send(&mut self, mut header: [u8; 48], data: &[u8], kind: Kind) {
        self.tag += 1;
        header[16..20].copy_from_slice(&self.tag.to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[6..8].copy_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
        if header[0] == 0x01 {
            self.cmd_sn += 1;
        }
        self.pending.insert(self.tag, kind);
        let bytes = [&header[..], data].concat();
        self.writer.write_all(&bytes).await.expect("a connection");
    }

    async fn command(&mut self, lun: u8, opcode: u8, block: u8, data: &[u8], kind: Kind) {
        let mut header = [0; 48];
        header[0] = 0x01;
        header[1] = if data.is_empty() { 0xc0 } else { 0xa0 };
        header[9] = lun;
        header[22..24].copy_from_slice(&[2, 0]);
        header[32..42].copy_from_slice(&[opcode, 0, 0, 0, 0, block, 0, 0, 1, 0]);
        self.send(header, data, kind).await;
    }

    /// Takes one answer. Nothing may answer what is not pending.
    fn take(&mut self, oracle: &mut Oracle, header: &[u8; 48], data: &[u8]) -> Option<u32> {
        self.max_cmd_sn = u32::from_be_bytes(header[32..36].try_into().expect("four bytes"));
        let tag = u32::from_be_bytes(header[16..20].try_into().expect("four bytes"));
        if tag == u32::MAX {
            return None;
        }
        let kind = self
            .pending
            .remove(&tag)
            .unwrap_or_else(|| panic!("an answer to task {tag}, which is over: {header:x?}"));
        match (header[0], kind) {
            (0x25, Kind::Read { lun, block, since }) => {
                assert_eq!((header[1] & 0x01, data.len()), (1, 512));
                oracle.check(lun, block, data, since);
            }
            (0x21, Kind::Read { .. }) => assert_ne!(header[3], 0, "a read without data"),
            // A write that was refused never happens.
            (0x21, Kind::Write { stamp, .. }) => oracle.end(stamp, header[3] == 0),
            (0x22, Kind::Management) => {
                assert!([0, 1].contains(&header[2]), "{header:x?}");
                return Some(tag);
            }
            other => panic!("{other:?}"),
        }
        None
    }

    fn take_all(&mut self, oracle: &mut Oracle) {
        while let Ok((header, data)) = self.answers.try_recv() {
            self.take(oracle, &header, &data);
        }
    }

    /// Carries a function out; tasks that it covers, and that were not answered before, are over.
    async fn manage(&mut self, oracle: &mut Oracle, function: u8, lun: u8, task: Option<u32>) {
        let covered: Vec<u32> = match task {
            Some(task) => vec![task],
            None => self.pending.keys().copied().collect(),
        };
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x42, 0x80 | function]);
        header[9] = lun;
        header[20..24].copy_from_slice(&task.unwrap_or(u32::MAX).to_be_bytes());
        self.send(header, &[], Kind::Management).await;
        let own = self.tag;
        loop {
            let answer = timeout(PATIENCE, self.answers.recv()).await;
            let (header, data) = answer
                .expect("an answer in bounded time")
                .expect("a connection");
            if self.take(oracle, &header, &data) == Some(own) {
                break;
            }
        }
        let on_all = function == TARGET_WARM_RESET;
        for tag in covered {
            let over = match self.pending.get(&tag) {
                Some(Kind::Read { lun: of, .. }) => on_all || *of == lun,
                Some(Kind::Write { stamp, lun: of }) if on_all || *of == lun => {
                    oracle.end(*stamp, false);
                    true
                }
                _ => false,
            };
            if over {
                self.pending.remove(&tag);
            }
        }
    }

    /// Comes back as the same initiator port, or with another connection of the same session: all that was under way is
    /// over.
    async fn reinstate(&mut self, world: &World, oracle: &mut Oracle, goes_on: bool) {
        let tsih = if goes_on { self.tsih } else { 0 };
        let new = Self::new(world, self.isid, tsih).await;
        let mut old = std::mem::replace(self, new);
        old.take_all(oracle);
        for kind in old.pending.values() {
            if let Kind::Write { stamp, .. } = kind {
                oracle.end(*stamp, false);
            }
        }
    }
}

async fn step(world: &World, sessions: &mut [Session], oracle: &mut Oracle, dice: &mut Dice) {
    let session = &mut sessions[dice.below(SESSIONS)];
    let (lun, block) = (
        LUNS[dice.below(LUNS.len())],
        u8::try_from(dice.below(BLOCKS.into())).expect("few blocks"),
    );
    let disk = if lun == 0 {
        &world.volume
    } else {
        &world.other
    };
    match dice.below(100) {
        0..40 if session.may_send() => {
            let stamp = oracle.begin(lun, block);
            let data = stamp.to_le_bytes().repeat(128);
            let kind = Kind::Write { stamp, lun };
            session.command(lun, 0x2a, block, &data, kind).await;
        }
        40..70 if session.may_send() => {
            let since = oracle.tick();
            let kind = Kind::Read { lun, block, since };
            session.command(lun, 0x28, block, &[], kind).await;
        }
        70..78 => disk.hold(),
        78..84 => disk.let_go(),
        84..95 => {
            let functions = [
                ABORT_TASK,
                ABORT_TASK_SET,
                CLEAR_TASK_SET,
                LOGICAL_UNIT_RESET,
                TARGET_WARM_RESET,
            ];
            let function = functions[dice.below(functions.len())];
            let commands = session
                .pending
                .iter()
                .filter(|(_, kind)| match kind {
                    Kind::Read { lun: of, .. } | Kind::Write { lun: of, .. } => *of == lun,
                    Kind::Management => false,
                })
                .map(|(tag, _)| *tag);
            let task = match function {
                ABORT_TASK => commands.min(),
                _ => None,
            };
            if function == ABORT_TASK && task.is_none() {
                return;
            }
            // Mostly the disks come to life while the function waits; now and then it has to give up.
            if dice.below(2) != 0 {
                world.volume.let_go();
                world.other.let_go();
            }
            session.manage(oracle, function, lun, task).await;
        }
        95..98 => session.reinstate(world, oracle, dice.below(2) == 0).await,
        _ => tokio::task::yield_now().await,
    }
    for session in sessions {
        session.take_all(oracle);
    }
}

/// No write that was acknowledged is lost, and no task that is over is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_stays_and_what_is_over_is_not_answered() {
    for seed in [
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0x2545_f491_4f6c_dd1d,
    ] {
        println!("seed {seed:x}");
        let mut options = TargetOptions {
            write_grace: Duration::from_millis(100),
            ..TargetOptions::default()
        };
        options.session.limits.abort_grace = Duration::from_millis(100);
        let world = World::new(options).await;
        let (mut oracle, mut dice) = (Oracle::default(), Dice(seed));
        let mut sessions = Vec::new();
        for isid in 1..=u8::try_from(SESSIONS).expect("few sessions") {
            sessions.push(Session::new(&world, isid, 0).await);
        }
        for _ in 0..STEPS {
            step(&world, &mut sessions, &mut oracle, &mut dice).await;
        }
        world.volume.let_go();
        world.other.let_go();
        for session in &mut sessions {
            for lun in LUNS {
                session
                    .manage(&mut oracle, LOGICAL_UNIT_RESET, lun, None)
                    .await;
            }
        }
        let now = oracle.tick();
        let acknowledged = oracle.writes.values().filter(|write| write.acknowledged);
        assert!(acknowledged.count() > 20, "the test does something");
        for (lun, disk) in [(0, &world.volume), (3, &world.other)] {
            for block in 0..BLOCKS {
                oracle.check(lun, block, &disk.block(block.into()), now);
            }
        }
    }
}
