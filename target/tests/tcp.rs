//! The whole target over loopback TCP, its initiator written by hand: PDUs are spelled as bytes (RFC 7143 §11).

use std::sync::Arc;
use std::time::Duration;

use iscsi_target::{Export, ExportError, Target, TargetLimits, TargetOptions, Unit, UnitIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vmthunder_volume::testing::{Fault, FaultyVolume, MemVolume};
use vmthunder_volume::{BlockSize, Error, Geometry};

const DISK: &str = "iqn.2001-04.com.example:disk";
const PATIENCE: Duration = Duration::from_secs(20);

type Volume = Arc<FaultyVolume<MemVolume>>;

/// A target that serves, until it is dropped.
struct World {
    target: Arc<Target<Volume>>,
    volume: Volume,
    address: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl World {
    async fn new(options: TargetOptions) -> Self {
        let geometry = Geometry::new(BlockSize::B512, 1024);
        let bytes = (0..geometry.bytes())
            .map(|at| u8::try_from(at / 512 % 251).expect("below 251"))
            .collect();
        let volume = Arc::new(FaultyVolume::new(MemVolume::new(geometry, bytes)));
        let target = Target::new(options);
        target.export(export(&volume)).expect("a first export");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback works");
        let address = listener.local_addr().expect("a bound socket").to_string();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(Arc::clone(&target).serve(listener, stop.clone()));
        Self {
            target,
            volume,
            address,
            stop,
            serving,
        }
    }

    async fn log_in(&self, isid: u8) -> Initiator {
        let mut initiator = Initiator::connect(&self.address).await;
        let response = initiator
            .log_in(isid, &format!("TargetName={DISK}\0SessionType=Normal\0"))
            .await;
        assert_eq!(response.header[36..38], [0, 0]);
        initiator
    }
}

fn export(volume: &Volume) -> Export<Volume> {
    let unit = |number: u16| {
        let identity = UnitIdentity::locally_assigned(number.into(), "disk");
        Unit::new(number, Arc::clone(volume), identity)
    };
    let name = DISK.parse().expect("a name");
    Export::new(name, vec![unit(0), unit(3)])
}

/// A PDU: header and data without padding.
#[derive(Debug)]
struct Pdu {
    header: [u8; 48],
    data: Vec<u8>,
}

/// The four bytes of a header from `at` on.
fn word(header: &[u8; 48], at: usize) -> u32 {
    header[at..at + 4]
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// An initiator that sends what it is told.
struct Initiator {
    stream: TcpStream,
    cmd_sn: u32,
    stat_sn: u32,
    tag: u32,
}

impl Initiator {
    async fn connect(address: &str) -> Self {
        Self {
            stream: TcpStream::connect(address)
                .await
                .expect("the loopback works"),
            cmd_sn: 1,
            stat_sn: 0,
            tag: 0,
        }
    }

    async fn send(&mut self, header: [u8; 48], data: &[u8]) {
        let mut bytes = header.to_vec();
        bytes[5..8].copy_from_slice(
            &u32::try_from(data.len())
                .expect("a short PDU")
                .to_be_bytes()[1..],
        );
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.stream
            .write_all(&bytes)
            .await
            .expect("the loopback works");
    }

    /// The next PDU; none if the target closed the connection.
    async fn receive(&mut self) -> Option<Pdu> {
        timeout(PATIENCE, async {
            let mut header = [0; 48];
            self.stream.read_exact(&mut header).await.ok()?;
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            let mut data = vec![0; length.next_multiple_of(4)];
            self.stream.read_exact(&mut data).await.ok()?;
            data.truncate(length);
            Some(Pdu { header, data })
        })
        .await
        .expect("the target answers in time")
    }

    /// One login request that goes straight from operational negotiation to full feature phase.
    async fn log_in(&mut self, isid: u8, keys: &str) -> Pdu {
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x43, 0x87]);
        header[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, isid]);
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        let text = format!("InitiatorName=iqn.2001-04.com.example:host\0{keys}");
        self.send(header, text.as_bytes()).await;
        let response = self.receive().await.expect("a login response");
        assert_eq!(response.header[0], 0x23);
        self.stat_sn = word(&response.header, 24).wrapping_add(1);
        response
    }

    fn header(&mut self, opcode: u8, flags: u8, lun: u8) -> [u8; 48] {
        self.tag += 1;
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[opcode, flags]);
        header[9] = lun;
        header[16..20].copy_from_slice(&self.tag.to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.stat_sn.to_be_bytes());
        header
    }

    /// Sends a SCSI command; `expect` is the length of its buffer for read data.
    async fn command(&mut self, lun: u8, cdb: &[u8], expect: u32, write: &[u8]) -> u32 {
        let direction = if !write.is_empty() {
            0x20
        } else if expect != 0 {
            0x40
        } else {
            0
        };
        let mut header = self.header(0x01, 0x80 | direction, lun);
        let length = if write.is_empty() {
            expect
        } else {
            u32::try_from(write.len()).expect("a short PDU")
        };
        header[20..24].copy_from_slice(&length.to_be_bytes());
        header[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmd_sn += 1;
        self.send(header, write).await;
        self.tag
    }

    /// Sends a SCSI command and takes its answer: status, read data, sense key with its codes.
    async fn scsi(&mut self, lun: u8, cdb: &[u8], expect: u32) -> (u8, Vec<u8>, [u8; 3]) {
        self.command(lun, cdb, expect, &[]).await;
        let answer = self.receive().await.expect("an answer");
        assert_eq!(answer.header[16..20], self.tag.to_be_bytes());
        match answer.header[0] {
            0x25 => {
                assert_eq!(
                    answer.header[1] & 0x81,
                    0x81,
                    "the only Data-In PDU, with status"
                );
                (answer.header[3], answer.data, [0; 3])
            }
            0x21 if answer.data.is_empty() => (answer.header[3], Vec::new(), [0; 3]),
            0x21 => {
                assert_eq!(
                    answer.data[..3],
                    [0, 18, 0x70],
                    "sense length, then fixed format"
                );
                (
                    answer.header[3],
                    Vec::new(),
                    [answer.data[4], answer.data[14], answer.data[15]],
                )
            }
            other => panic!("opcode {other:02x}h"),
        }
    }

    /// Clears what the unit has to say to a new nexus.
    async fn settle(&mut self, lun: u8) {
        assert_eq!(
            self.scsi(lun, &[0x00], 0).await,
            (2, vec![], [6, 0x29, 0x00])
        );
    }
}

const READ_BLOCK_2: [u8; 10] = [0x28, 0, 0, 0, 0, 2, 0, 0, 1, 0];

#[tokio::test]
async fn attention_is_told_once_and_not_to_inquiry() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    let (status, inquiry, _) = initiator.scsi(0, &[0x12, 0, 0, 0, 36, 0], 36).await;
    assert_eq!((status, &inquiry[8..16]), (0, &b"VMTHNDR "[..]));
    let (status, luns, _) = initiator
        .scsi(9, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256)
        .await;
    assert_eq!(
        (status, luns),
        (
            0,
            vec![
                0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0
            ]
        )
    );
    initiator.settle(0).await;
    assert_eq!(initiator.scsi(0, &[0x00], 0).await.0, 0);
    let (status, sense, _) = initiator.scsi(3, &[0x03, 0, 0, 0, 18, 0], 18).await;
    assert_eq!(
        (status, sense[2], sense[12], sense[13]),
        (0, 6, 0x29, 0),
        "REQUEST SENSE reports it as data"
    );
    assert_eq!(initiator.scsi(3, &[0x00], 0).await.0, 0);
    let (_, sense, _) = initiator.scsi(3, &[0x03, 1, 0, 0, 18, 0], 18).await;
    assert_eq!(sense, [0x72, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_missing_unit_says_so() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    let (status, inquiry, _) = initiator.scsi(1, &[0x12, 0, 0, 0, 36, 0], 36).await;
    assert_eq!((status, inquiry[0]), (0, 0x7f));
    assert_eq!(initiator.scsi(1, &[0x00], 0).await.2, [5, 0x25, 0x00]);
    assert_eq!(
        initiator.scsi(1, &READ_BLOCK_2, 512).await.2,
        [5, 0x25, 0x00]
    );
    let (status, sense, _) = initiator.scsi(1, &[0x03, 0, 0, 0, 18, 0], 18).await;
    assert_eq!((status, sense[2], sense[12]), (0, 5, 0x25));
}

#[tokio::test]
async fn blocks_travel_both_ways() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await,
        (0, vec![2; 512], [0; 3])
    );
    initiator
        .command(0, &[0x2a, 8, 0, 0, 0, 2, 0, 0, 1, 0], 0, &[0x77; 512])
        .await;
    let answer = initiator.receive().await.unwrap();
    assert_eq!((answer.header[0], answer.header[3]), (0x21, 0));
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await,
        (0, vec![0x77; 512], [0; 3])
    );
    assert_eq!(world.volume.below().contents()[1024..1536], [0x77; 512]);
    let stats = world.target.stats();
    assert_eq!(
        (
            stats.read_bytes,
            stats.written_bytes,
            stats.commands,
            stats.failures
        ),
        (1024, 512, 4, 1)
    );
    assert_eq!((stats.connections, stats.logins, stats.sessions), (1, 1, 1));
}

#[tokio::test]
async fn a_command_that_waits_holds_up_nobody_and_can_be_aborted() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    world.volume.queue(Fault::Hang);
    let stuck = initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await.0,
        0,
        "a later command overtakes"
    );
    // ABORT TASK, immediate, with the tag and CmdSN of the stuck command.
    let mut abort = initiator.header(0x42, 0x81, 0);
    abort[20..24].copy_from_slice(&stuck.to_be_bytes());
    abort[32..36].copy_from_slice(&(initiator.cmd_sn - 2).to_be_bytes());
    initiator.send(abort, &[]).await;
    let answer = initiator.receive().await.unwrap();
    assert_eq!(
        (answer.header[0], answer.header[2]),
        (0x22, 0),
        "function complete"
    );
    assert_eq!(initiator.scsi(0, &READ_BLOCK_2, 512).await.0, 0);
}

#[tokio::test]
async fn a_reset_is_told_to_everybody() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.log_in(1).await, world.log_in(2).await);
    one.settle(0).await;
    other.settle(0).await;
    let reset = one.header(0x42, 0x85, 0);
    one.send(reset, &[]).await;
    let answer = one.receive().await.unwrap();
    assert_eq!((answer.header[0], answer.header[2]), (0x22, 0));
    for initiator in [&mut one, &mut other] {
        assert_eq!(initiator.scsi(0, &[0x00], 0).await.2, [6, 0x29, 0x03]);
        assert_eq!(initiator.scsi(0, &[0x00], 0).await.0, 0);
    }
}

#[tokio::test]
async fn refusals_of_the_volume_reach_the_initiator() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    world.volume.queue(Fault::Fail(Error::Busy));
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await.0,
        0x08,
        "BUSY: nothing else is under way"
    );
    world.volume.queue(Fault::Hang);
    initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
    world.volume.queue(Fault::Fail(Error::Busy));
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await.0,
        0x28,
        "TASK SET FULL"
    );
    world.volume.queue(Fault::Fail(Error::Corrupt));
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await.2,
        [3, 0x11, 0x00]
    );
}

#[tokio::test]
async fn who_is_not_wanted_is_told_why() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            sessions: 1,
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    })
    .await;
    let mut stranger = Initiator::connect(&world.address).await;
    let response = stranger
        .log_in(
            1,
            "TargetName=iqn.2001-04.com.example:other\0SessionType=Normal\0",
        )
        .await;
    assert_eq!(response.header[36..38], [2, 3], "target not found");
    assert!(stranger.receive().await.is_none());
    let _first = world.log_in(1).await;
    let mut second = Initiator::connect(&world.address).await;
    let response = second
        .log_in(2, &format!("TargetName={DISK}\0SessionType=Normal\0"))
        .await;
    assert_eq!(response.header[36..38], [3, 2], "out of resources");
    assert_eq!(world.target.stats().logins_refused, 2);
}

#[tokio::test]
async fn a_session_is_reinstated() {
    let world = World::new(TargetOptions::default()).await;
    let mut old = world.log_in(1).await;
    let other = world.log_in(2).await;
    let mut new = world.log_in(1).await;
    assert!(old.receive().await.is_none(), "the old session is closed");
    new.settle(0).await;
    let sessions = world.target.sessions();
    assert_eq!(sessions.len(), 2);
    assert!(
        sessions
            .iter()
            .all(|session| session.tsih != 0 && session.target == Some(DISK.parse().unwrap()))
    );
    drop(other);
}

#[tokio::test]
async fn exports_come_and_go() {
    let world = World::new(TargetOptions::default()).await;
    let again = world.target.export(export(&world.volume));
    assert!(matches!(again, Err(ExportError::NameTaken)));
    let mut initiator = world.log_in(1).await;
    assert!(world.target.withdraw(&DISK.parse().unwrap()));
    assert!(
        initiator.receive().await.is_none(),
        "its sessions are closed"
    );
    let mut late = Initiator::connect(&world.address).await;
    let response = late
        .log_in(1, &format!("TargetName={DISK}\0SessionType=Normal\0"))
        .await;
    assert_eq!(response.header[36..38], [2, 3]);
    world.target.export(export(&world.volume)).unwrap();
    world.log_in(1).await.settle(0).await;
}

#[tokio::test]
async fn discovery_names_the_target_where_it_was_asked() {
    let world = World::new(TargetOptions {
        portal_group_tag: 5,
        ..TargetOptions::default()
    })
    .await;
    let mut initiator = Initiator::connect(&world.address).await;
    let response = initiator.log_in(1, "SessionType=Discovery\0").await;
    assert_eq!(response.header[36..38], [0, 0]);
    let mut header = initiator.header(0x04, 0x80, 0);
    header[20..24].copy_from_slice(&[0xff; 4]);
    initiator.send(header, b"SendTargets=All\0").await;
    let answer = initiator.receive().await.unwrap();
    assert_eq!(answer.header[..2], [0x24, 0x80]);
    let expected = format!("TargetName={DISK}\0TargetAddress={},5\0", world.address);
    assert_eq!(String::from_utf8(answer.data).unwrap(), expected);
}

#[tokio::test]
async fn connections_without_login_are_limited() {
    let world = World::new(TargetOptions {
        limits: TargetLimits {
            logins: 1,
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    })
    .await;
    let session = world.log_in(1).await;
    let mut idle = Initiator::connect(&world.address).await;
    // The login of the first has given its place to the second; the third finds none.
    let mut refused = Initiator::connect(&world.address).await;
    assert!(refused.receive().await.is_none());
    let response = idle
        .log_in(2, &format!("TargetName={DISK}\0SessionType=Normal\0"))
        .await;
    assert_eq!(response.header[36..38], [0, 0]);
    assert_eq!(world.target.stats().connections_refused, 1);
    drop(session);
}

#[tokio::test]
async fn stopping_closes_everything() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    world.volume.queue(Fault::Hang);
    initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
    world.stop.cancel();
    assert!(initiator.receive().await.is_none());
    timeout(PATIENCE, world.serving)
        .await
        .expect("serving ends")
        .unwrap();
    assert_eq!(world.target.stats().sessions, 0);
}

/// 120 answers of 256 KiB for one who does not read: all are given in the end, few are read from the volume before.
#[tokio::test]
async fn a_slow_reader_is_bounded() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    let read_half = [0x28, 0, 0, 0, 0, 0, 0, 0x02, 0x00, 0];
    for _ in 0..120 {
        initiator.command(0, &read_half, 512 * 512, &[]).await;
    }
    // Another session's commands give the first one's task many turns.
    let mut other = world.log_in(2).await;
    other.settle(0).await;
    for _ in 0..500 {
        assert_eq!(other.scsi(0, &[0x00], 0).await.0, 0);
    }
    // What waits in the target and in the sockets between, generously.
    assert!(
        world.volume.below().reads() < 100,
        "the target reads ahead of the reader without bound"
    );
    let mut ended = 0;
    let mut bytes = 0;
    while ended < 120 {
        let answer = initiator.receive().await.expect("an answer");
        assert_eq!(answer.header[0], 0x25);
        bytes += answer.data.len();
        ended += u32::from(answer.header[1] & 0x01);
    }
    assert_eq!(bytes, 120 * 512 * 512);
    assert_eq!(world.volume.below().reads(), 120);
}
