//! An initiator made of bytes.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use iscsi_proto::login::{Admission, Authentication};
use iscsi_proto::session::{
    Command, Response, SessionLimits, TargetConfig, TargetEvent, TargetSession, TaskId,
};

pub(crate) const NO_TAG: u32 = 0xffff_ffff;
/// Keys of a login that leaves everything to the target's liking: immediate and unsolicited data.
pub(crate) const EAGER: &str = "InitialR2T=No|ImmediateData=Yes|FirstBurstLength=4096|MaxBurstLength=8192|\
    MaxRecvDataSegmentLength=2048|MaxOutstandingR2T=1";
/// Keys of a login without unsolicited data of any kind.
pub(crate) const PATIENT: &str = "InitialR2T=Yes|ImmediateData=No|MaxBurstLength=8192|\
    MaxRecvDataSegmentLength=2048|MaxOutstandingR2T=2";

/// A session, the time, and both ends of its wire.
pub(crate) struct Wire {
    pub(crate) session: TargetSession,
    pub(crate) now: Instant,
    said: BytesMut,
}

/// A PDU from the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) head: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Heard {
    pub(crate) fn opcode(&self) -> u8 {
        self.head[0]
    }

    pub(crate) fn word(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.head[offset..offset + 4].try_into().unwrap())
    }

    pub(crate) fn tag(&self) -> u32 {
        self.word(16)
    }

    pub(crate) fn stat_sn(&self) -> u32 {
        self.word(24)
    }
}

/// A PDU for the target, byte by byte.
#[derive(Clone, Debug)]
pub(crate) struct Say {
    pub(crate) head: [u8; 48],
    pub(crate) data: Vec<u8>,
}

impl Say {
    pub(crate) fn new(opcode: u8, flags: u8, tag: u32) -> Self {
        let mut head = [0; 48];
        head[0] = opcode;
        head[1] = flags;
        head[16..20].copy_from_slice(&tag.to_be_bytes());
        Self {
            head,
            data: Vec::new(),
        }
    }

    pub(crate) fn word(mut self, offset: usize, value: u32) -> Self {
        self.head[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn byte(mut self, offset: usize, value: u8) -> Self {
        self.head[offset] = value;
        self
    }

    pub(crate) fn lun(self, number: u8) -> Self {
        self.byte(9, number)
    }

    pub(crate) fn cmd_sn(self, number: u32) -> Self {
        self.word(24, number)
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.to_vec();
        let length = u32::try_from(self.data.len()).unwrap().to_be_bytes();
        bytes[5..8].copy_from_slice(&length[1..]);
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

/// READ(10) or whatever: the session does not look into it.
pub(crate) fn read(tag: u32, cmd_sn: u32, length: u32) -> Say {
    Say::new(0x01, 0xc1, tag)
        .word(20, length)
        .cmd_sn(cmd_sn)
        .byte(32, 0x28)
}

pub(crate) fn write(tag: u32, cmd_sn: u32, length: u32, last: bool, immediate: &[u8]) -> Say {
    let flags = if last { 0xa1 } else { 0x21 };
    Say::new(0x01, flags, tag)
        .word(20, length)
        .cmd_sn(cmd_sn)
        .byte(32, 0x2a)
        .data(immediate)
}

pub(crate) fn data_out(
    tag: u32,
    transfer: u32,
    data_sn: u32,
    offset: u32,
    last: bool,
    data: &[u8],
) -> Say {
    let flags = if last { 0x80 } else { 0x00 };
    Say::new(0x05, flags, tag)
        .word(20, transfer)
        .word(36, data_sn)
        .word(40, offset)
        .data(data)
}

pub(crate) fn ping(tag: u32, cmd_sn: u32, data: &[u8]) -> Say {
    Say::new(0x40, 0x80, tag)
        .word(20, NO_TAG)
        .cmd_sn(cmd_sn)
        .data(data)
}

/// An immediate task management request.
pub(crate) fn manage(function: u8, tag: u32, cmd_sn: u32, referenced: u32, ref_cmd_sn: u32) -> Say {
    Say::new(0x42, 0x80 | function, tag)
        .word(20, referenced)
        .cmd_sn(cmd_sn)
        .word(32, ref_cmd_sn)
}

pub(crate) fn text(tag: u32, cmd_sn: u32, transfer: u32, flags: u8, text: &[u8]) -> Say {
    Say::new(0x04, flags, tag)
        .word(20, transfer)
        .cmd_sn(cmd_sn)
        .data(text)
}

pub(crate) fn login(keys: &str) -> Say {
    let kind = if keys.contains("Discovery") {
        ""
    } else {
        "TargetName=iqn.2026-01.org.example:disk\0"
    };
    let names = format!("InitiatorName=iqn.2026-01.org.example:host\0{kind}");
    let keys: String = keys
        .split('|')
        .filter(|key| !key.is_empty())
        .map(|key| format!("{key}\0"))
        .collect();
    // T, CSG operational, NSG full feature; ISID 80 00 00 00 00 01, CID 7, CmdSN 100.
    Say::new(0x43, 0x87, 1)
        .byte(8, 0x80)
        .byte(13, 1)
        .byte(21, 7)
        .cmd_sn(100)
        .data((names + &keys).as_bytes())
}

pub(crate) fn config() -> TargetConfig {
    TargetConfig {
        queue_depth: 4,
        ..TargetConfig::default()
    }
}

impl Wire {
    pub(crate) fn new(config: TargetConfig) -> Self {
        let now = Instant::now();
        Self {
            session: TargetSession::new(config, now),
            now,
            said: BytesMut::new(),
        }
    }

    /// A session whose login is over. The first CmdSN is 100.
    pub(crate) fn logged_in(keys: &str) -> Self {
        Self::logged_in_with(config(), keys)
    }

    pub(crate) fn logged_in_with(config: TargetConfig, keys: &str) -> Self {
        Self::after(config, &login(keys))
    }

    /// A session whose first CmdSN is this one.
    pub(crate) fn logged_in_at(cmd_sn: u32, keys: &str) -> Self {
        Self::after(config(), &login(keys).cmd_sn(cmd_sn))
    }

    fn after(config: TargetConfig, login: &Say) -> Self {
        let mut wire = Self::new(config);
        wire.say(login);
        assert!(matches!(wire.event(), Some(TargetEvent::Login(_))));
        wire.session.authenticate(Authentication {
            portal_group_tag: 1,
            none: true,
            chap: None,
        });
        assert!(matches!(
            wire.event(),
            Some(TargetEvent::Authenticated { account: None, .. })
        ));
        wire.session.admit(Admission {
            tsih: 5,
            command_window: 64,
        });
        assert!(matches!(wire.event(), Some(TargetEvent::LoggedIn { .. })));
        let heard = wire.hear();
        assert_eq!(
            (heard.len(), heard[0].opcode(), heard[0].head[36]),
            (1, 0x23, 0),
            "a Login Response, success"
        );
        wire
    }

    pub(crate) fn limited(limits: SessionLimits, keys: &str) -> Self {
        Self::logged_in_with(TargetConfig { limits, ..config() }, keys)
    }

    pub(crate) fn say(&mut self, pdu: &Say) {
        self.say_bytes(&pdu.bytes());
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        self.said.extend_from_slice(bytes);
        self.session.handle_bytes(self.now, &mut self.said);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }

    pub(crate) fn event(&mut self) -> Option<TargetEvent> {
        self.session.poll_event()
    }

    /// The next event, which has to be a command.
    pub(crate) fn command(&mut self) -> Command {
        match self.event() {
            Some(TargetEvent::Command(command)) => command,
            other => panic!("a command was expected, not {other:?}"),
        }
    }

    /// The next event, which has to be write data.
    pub(crate) fn data_ready(&mut self) -> (TaskId, Vec<u8>) {
        match self.event() {
            Some(TargetEvent::DataReady { task, data }) => (task, data.concat()),
            other => panic!("data was expected, not {other:?}"),
        }
    }

    pub(crate) fn good(&mut self, task: TaskId) {
        self.session.complete(task, Response::good());
    }

    pub(crate) fn read(&mut self, task: TaskId, data: &'static [u8]) {
        self.session
            .complete(task, Response::read(vec![Bytes::from_static(data)]));
    }

    /// Everything that the target said, cut into PDUs; for sessions without digests.
    pub(crate) fn hear(&mut self) -> Vec<Heard> {
        let mut bytes = Vec::new();
        while let Some(part) = self.session.poll_transmit() {
            bytes.extend_from_slice(&part);
        }
        let (mut heard, mut rest) = (Vec::new(), bytes.as_slice());
        while !rest.is_empty() {
            let (head, after) = rest.split_at(48);
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            let (padded, next) = after.split_at(length.next_multiple_of(4));
            heard.push(Heard {
                head: head.to_vec(),
                data: padded[..length].to_vec(),
            });
            rest = next;
        }
        heard
    }

    /// Everything that the target said, which has to be one PDU.
    pub(crate) fn hear_one(&mut self) -> Heard {
        let heard = self.hear();
        assert_eq!(heard.len(), 1, "{heard:02x?}");
        heard.into_iter().next().unwrap()
    }

    /// The next thing said has to be CHECK CONDITION with this sense, in fixed format.
    pub(crate) fn hear_sense(&mut self, tag: u32, key: u8, asc: u8, ascq: u8) {
        let heard = self.hear_one();
        assert_eq!(
            (heard.opcode(), heard.head[2], heard.head[3], heard.tag()),
            (0x21, 0x00, 0x02, tag)
        );
        assert_eq!(heard.data[..2], [0x00, 18], "SenseLength");
        assert_eq!(
            (heard.data[2], heard.data[4], heard.data[14], heard.data[15]),
            (0x70, key, asc, ascq)
        );
    }

    /// The next thing said has to be a Reject for this very PDU.
    pub(crate) fn hear_reject(&mut self, reason: u8, bad: &Say) {
        let heard = self.hear_one();
        assert_eq!(
            (heard.opcode(), heard.head[1], heard.head[2], heard.tag()),
            (0x3f, 0x80, reason, NO_TAG)
        );
        assert_eq!(heard.data, bad.bytes()[..48]);
    }
}
