//! A target on the loopback, disks that do as they are told, and an initiator written by hand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iscsi_target::{AccessRules, Export, Target, TargetOptions, Unit, UnitIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vmthunder_volume::testing::{Fault, FaultyVolume, MemVolume};
use vmthunder_volume::{BlockSize, Class, Geometry, Result, Span, Volume};

pub(crate) const DISK: &str = "iqn.2001-04.com.example:disk";
pub(crate) const HOST: &str = "iqn.2001-04.com.example:host";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const BLOCKS: u64 = 1024;

/// READ(10) of block 2.
pub(crate) const READ_BLOCK_2: [u8; 10] = [0x28, 0, 0, 0, 0, 2, 0, 0, 1, 0];
pub(crate) const TEST_UNIT_READY: [u8; 6] = [0; 6];

/// WRITE(10) of one block.
pub(crate) fn write_block(block: u8) -> [u8; 10] {
    [0x2a, 0, 0, 0, 0, block, 0, 0, 1, 0]
}

/// READ(10) of one block.
pub(crate) fn read_block(block: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, block, 0, 0, 1, 0]
}

/// A disk whose reads and writes can be held, and whose reads go wrong as told. Every block holds its number, modulo
/// 251, in each byte.
#[derive(Debug)]
pub(crate) struct Disk {
    faulty: FaultyVolume<MemVolume>,
    gate: watch::Sender<Gate>,
    begun: watch::Sender<usize>,
}

/// What hangs, oldest first. The latest goes on first: that is as bad as it can be.
#[derive(Debug, Default)]
struct Gate {
    shut: bool,
    hanging: Vec<u64>,
    latest: u64,
}

/// A read or write that hung, until it has ended or was dropped.
struct Passage<'a> {
    disk: &'a Disk,
    number: u64,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.disk
            .gate
            .send_modify(|gate| gate.hanging.retain(|number| *number != self.number));
    }
}

impl Disk {
    pub(crate) fn new() -> Arc<Self> {
        let geometry = Geometry::new(BlockSize::B512, BLOCKS);
        let bytes = (0..geometry.bytes())
            .map(|at| u8::try_from(at / 512 % 251).expect("below 251"))
            .collect();
        Arc::new(Self {
            faulty: FaultyVolume::new(MemVolume::new(geometry, bytes)),
            gate: watch::Sender::default(),
            begun: watch::Sender::new(0),
        })
    }

    /// Lets one coming read go wrong.
    pub(crate) fn queue(&self, fault: Fault) {
        self.faulty.queue(fault);
    }

    pub(crate) fn below(&self) -> &MemVolume {
        self.faulty.below()
    }

    pub(crate) fn block(&self, block: usize) -> Vec<u8> {
        self.below().contents()[512 * block..512 * (block + 1)].to_vec()
    }

    /// From now on every read and write hangs.
    pub(crate) fn hold(&self) {
        self.begun.send_replace(0);
        self.gate.send_modify(|gate| gate.shut = true);
    }

    /// What hangs goes on.
    pub(crate) fn let_go(&self) {
        self.gate.send_modify(|gate| gate.shut = false);
    }

    /// Waits until so many reads and writes hang, or have hung since they were held.
    pub(crate) async fn hangs(&self, count: usize) {
        let mut begun = self.begun.subscribe();
        timeout(PATIENCE, begun.wait_for(|begun| *begun >= count))
            .await
            .expect("the commands reach the disk")
            .expect("the disk is there");
    }

    async fn pass(&self) -> Option<Passage<'_>> {
        let mut number = None;
        self.gate.send_if_modified(|gate| {
            if gate.shut || !gate.hanging.is_empty() {
                gate.latest += 1;
                gate.hanging.push(gate.latest);
                number = Some(gate.latest);
            }
            false
        });
        let passage = Passage {
            disk: self,
            number: number?,
        };
        self.begun.send_modify(|begun| *begun += 1);
        let next = |gate: &Gate| !gate.shut && gate.hanging.last() == Some(&passage.number);
        let mut gate = self.gate.subscribe();
        let _ = gate.wait_for(next).await;
        Some(passage)
    }
}

impl Volume for Disk {
    fn geometry(&self) -> Geometry {
        self.faulty.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        let _passage = self.pass().await;
        self.faulty.read(span, class).await
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let _passage = self.pass().await;
        self.faulty.write(offset, bytes).await
    }

    async fn flush(&self) -> Result<()> {
        let _passage = self.pass().await;
        self.faulty.flush().await
    }

    async fn trim(&self, span: Span) -> Result<()> {
        let _passage = self.pass().await;
        self.faulty.trim(span).await
    }
}

/// A target with one export, `DISK`, of unit 0 and unit 3. It serves until it is dropped.
pub(crate) struct World {
    pub(crate) target: Arc<Target<Arc<Disk>>>,
    /// Behind unit 0.
    pub(crate) volume: Arc<Disk>,
    /// Behind unit 3.
    pub(crate) other: Arc<Disk>,
    pub(crate) address: String,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new(options: TargetOptions) -> Self {
        Self::with_access(options, AccessRules::default()).await
    }

    /// With rules for `DISK`.
    pub(crate) async fn with_access(options: TargetOptions, access: AccessRules) -> Self {
        let (volume, other) = (Disk::new(), Disk::new());
        let target = Target::new(options);
        let export = Export {
            access,
            ..export(&volume, &other)
        };
        target.export(export).expect("a first export");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback works");
        let address = listener.local_addr().expect("a bound socket").to_string();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(Arc::clone(&target).serve(listener, stop.clone()));
        Self {
            target,
            volume,
            other,
            address,
            stop,
            serving,
        }
    }

    pub(crate) async fn connect(&self) -> Initiator {
        Initiator::connect(&self.address).await
    }

    /// A session with `DISK` of the initiator `HOST`.
    pub(crate) async fn log_in(&self, isid: u8) -> Initiator {
        let mut initiator = self.connect().await;
        let response = initiator.log_in(isid, &normal(DISK)).await;
        assert_eq!(response.header[36..38], [0, 0]);
        initiator
    }

    /// As above, and there is nothing to be told of either unit.
    pub(crate) async fn settled(&self, isid: u8) -> Initiator {
        let mut initiator = self.log_in(isid).await;
        for lun in [0, 3] {
            let (status, _, sense) = initiator.scsi(lun, &TEST_UNIT_READY, 0).await;
            assert_eq!((status, sense[..2].to_vec()), (2, vec![6, 0x29]));
        }
        initiator
    }
}

/// The keys of a login to a target.
pub(crate) fn normal(target: &str) -> String {
    format!("InitiatorName={HOST}\0TargetName={target}\0SessionType=Normal\0")
}

/// The keys of a discovery login.
pub(crate) fn discovery() -> String {
    format!("InitiatorName={HOST}\0SessionType=Discovery\0")
}

pub(crate) fn unit(number: u16, volume: &Arc<Disk>) -> Unit<Arc<Disk>> {
    let identity = UnitIdentity::locally_assigned(number.into(), "disk");
    Unit::new(number, Arc::clone(volume), identity)
}

pub(crate) fn export(volume: &Arc<Disk>, other: &Arc<Disk>) -> Export<Arc<Disk>> {
    let name = DISK.parse().expect("a name");
    Export::new(name, vec![unit(0, volume), unit(3, other)])
}

/// A PDU: header and data without padding.
#[derive(Clone, Debug)]
pub(crate) struct Pdu {
    pub(crate) header: [u8; 48],
    pub(crate) data: Vec<u8>,
}

impl Pdu {
    /// A NOP-In that is no answer and asks for none (RFC 7143 §11.19).
    fn is_about_the_window(&self) -> bool {
        self.header[0] == 0x20 && self.header[16..24] == [0xff; 8]
    }

    pub(crate) fn tag(&self) -> u32 {
        word(&self.header, 16)
    }
}

/// The four bytes of a header from `at` on.
pub(crate) fn word(header: &[u8; 48], at: usize) -> u32 {
    header[at..at + 4]
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// An initiator that sends what it is told.
pub(crate) struct Initiator {
    pub(crate) stream: TcpStream,
    pub(crate) cmd_sn: u32,
    /// MaxCmdSN of the latest PDU.
    pub(crate) max_cmd_sn: u32,
    pub(crate) stat_sn: u32,
    pub(crate) tag: u32,
    /// The session's handle.
    pub(crate) tsih: u16,
    /// Answers that came before they were asked for.
    early: VecDeque<Pdu>,
}

impl Initiator {
    pub(crate) async fn connect(address: &str) -> Self {
        Self::connect_from("127.0.0.1", address).await
    }

    /// Connects from another address of the loopback.
    pub(crate) async fn connect_from(own: &str, address: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("the loopback works");
        let own = format!("{own}:0").parse().expect("an address");
        socket.bind(own).expect("the loopback works");
        let address = address.parse().expect("an address");
        Self {
            stream: socket.connect(address).await.expect("the loopback works"),
            cmd_sn: 1,
            max_cmd_sn: 1,
            stat_sn: 0,
            tag: 0,
            tsih: 0,
            early: VecDeque::new(),
        }
    }

    pub(crate) async fn send(&mut self, header: [u8; 48], data: &[u8]) {
        let mut bytes = header.to_vec();
        bytes[5..8].copy_from_slice(
            &u32::try_from(data.len())
                .expect("a short PDU")
                .to_be_bytes()[1..],
        );
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.send_bytes(&bytes).await;
    }

    /// Sends PDUs in one go.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // A target that has closed the connection shows when its answer is read.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next PDU that asks or says more than how wide the window is; none if the target closed the connection.
    pub(crate) async fn receive(&mut self) -> Option<Pdu> {
        if let Some(pdu) = self.early.pop_front() {
            return Some(pdu);
        }
        loop {
            let pdu = self.read().await?;
            if !pdu.is_about_the_window() {
                return Some(pdu);
            }
        }
    }

    async fn read(&mut self) -> Option<Pdu> {
        let pdu = timeout(PATIENCE, async {
            let mut header = [0; 48];
            self.stream.read_exact(&mut header).await.ok()?;
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            let mut data = vec![0; length.next_multiple_of(4)];
            self.stream.read_exact(&mut data).await.ok()?;
            data.truncate(length);
            Some(Pdu { header, data })
        })
        .await
        .expect("the target answers in time")?;
        self.max_cmd_sn = word(&pdu.header, 32);
        Some(pdu)
    }

    /// The answer to one task; what comes before it is kept.
    pub(crate) async fn answer_to(&mut self, tag: u32) -> Pdu {
        if let Some(at) = self.early.iter().position(|pdu| pdu.tag() == tag) {
            return self.early.remove(at).expect("it is there");
        }
        loop {
            let pdu = self.read().await.expect("an answer");
            if pdu.is_about_the_window() {
                continue;
            }
            if pdu.tag() == tag {
                return pdu;
            }
            self.early.push_back(pdu);
        }
    }

    /// True if the target closes the connection without another word.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.receive().await.is_none()
    }

    /// One login request in the stage and with the flags given.
    pub(crate) async fn login_request(
        &mut self,
        flags: u8,
        isid: u8,
        tsih: u16,
        cid: u16,
        keys: &str,
    ) -> Option<Pdu> {
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x43, flags]);
        header[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, isid]);
        header[14..16].copy_from_slice(&tsih.to_be_bytes());
        header[20..22].copy_from_slice(&cid.to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.stat_sn.to_be_bytes());
        self.send(header, keys.as_bytes()).await;
        let response = self.receive().await?;
        assert_eq!(response.header[0], 0x23, "{response:?}");
        self.stat_sn = word(&response.header, 24).wrapping_add(1);
        self.tsih = u16::from_be_bytes([response.header[14], response.header[15]]);
        Some(response)
    }

    /// One login request that goes straight from operational negotiation to full feature phase.
    pub(crate) async fn log_in(&mut self, isid: u8, keys: &str) -> Pdu {
        let response = self.login_request(0x87, isid, 0, 0, keys).await;
        response.expect("a login response")
    }

    pub(crate) fn header(&mut self, opcode: u8, flags: u8, lun: u8) -> [u8; 48] {
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
    pub(crate) async fn command(&mut self, lun: u8, cdb: &[u8], expect: u32, write: &[u8]) -> u32 {
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
    pub(crate) async fn scsi(
        &mut self,
        lun: u8,
        cdb: &[u8],
        expect: u32,
    ) -> (u8, Vec<u8>, [u8; 3]) {
        let tag = self.command(lun, cdb, expect, &[]).await;
        self.outcome(tag).await
    }

    /// Writes one block and takes the status.
    pub(crate) async fn write(&mut self, lun: u8, block: u8, fill: u8) -> u8 {
        let tag = self
            .command(lun, &write_block(block), 0, &[fill; 512])
            .await;
        self.outcome(tag).await.0
    }

    /// The answer to a command that was sent: status, read data, sense key with its codes.
    pub(crate) async fn outcome(&mut self, tag: u32) -> (u8, Vec<u8>, [u8; 3]) {
        let answer = self.answer_to(tag).await;
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
                assert_eq!(answer.data[2], 0x70, "fixed format behind the length");
                (
                    answer.header[3],
                    Vec::new(),
                    [answer.data[4], answer.data[14], answer.data[15]],
                )
            }
            other => panic!("opcode {other:02x}h"),
        }
    }

    /// Sends a task management function, for immediate delivery.
    pub(crate) async fn order(&mut self, function: u8, lun: u8, task: Option<u32>) -> u32 {
        let mut header = self.header(0x42, 0x80 | function, lun);
        let (referenced, number) = match task {
            // The number matters for tasks only that do not exist (RFC 7143 §11.6.1); it is one of long ago.
            Some(tag) => (tag, 0_u32),
            None => (u32::MAX, 0),
        };
        header[20..24].copy_from_slice(&referenced.to_be_bytes());
        header[32..36].copy_from_slice(&number.to_be_bytes());
        self.send(header, &[]).await;
        self.tag
    }

    /// Carries a task management function out and takes its response code.
    pub(crate) async fn manage(&mut self, function: u8, lun: u8, task: Option<u32>) -> u8 {
        let tag = self.order(function, lun, task).await;
        let answer = self.answer_to(tag).await;
        assert_eq!(answer.header[0], 0x22);
        answer.header[2]
    }

    /// Waits until a command may be sent: the target says so in a NOP-In if it has nothing else to say.
    pub(crate) async fn window_opens(&mut self) {
        while self.max_cmd_sn.wrapping_sub(self.cmd_sn) > u32::MAX / 2 {
            let pdu = self.read().await.expect("another PDU");
            if !pdu.is_about_the_window() {
                self.early.push_back(pdu);
            }
        }
    }

    /// Asks for targets.
    pub(crate) async fn send_targets(&mut self, scope: &str) -> String {
        let mut header = self.header(0x04, 0x80, 0);
        header[20..24].copy_from_slice(&[0xff; 4]);
        self.cmd_sn += 1;
        self.send(header, format!("SendTargets={scope}\0").as_bytes())
            .await;
        let answer = self.answer_to(self.tag).await;
        assert_eq!(answer.header[..2], [0x24, 0x80]);
        String::from_utf8(answer.data).expect("text")
    }

    /// Clears what the unit has to say to a new nexus.
    pub(crate) async fn settle(&mut self, lun: u8) {
        assert_eq!(
            self.scsi(lun, &TEST_UNIT_READY, 0).await,
            (2, vec![], [6, 0x29, 0x00])
        );
    }
}
