//! A login, from the first byte to its end, with a driver that decides as a fuzzer says.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::fuzzing::script::written;
use crate::fuzzing::sessions::start;
use crate::fuzzing::{Source, answers};
use crate::login::{
    Account, Admission, Algorithm, Authentication, ChapPolicy, DigestPolicy, LoginStatus, Secret,
    TargetOffer,
};
use crate::session::{CloseReason, TargetConfig, TargetEvent, TargetSession};
use crate::wire::bhs::{BHS_BYTES, IMMEDIATE, LoginRequest};
use crate::wire::framer::{Digests, Framed, Framer};
use crate::wire::serial::Serial;
use crate::wire::{Header, Pdu};

/// What may stand in a login, right, wrong and absurd.
pub(super) const WORDS: [&str; 64] = [
    "InitiatorName=iqn.2026-01.org.example:host",
    "InitiatorName=IQN.2026-01.org.example:HOST",
    "InitiatorName=nobody",
    "InitiatorAlias=me",
    "TargetName=iqn.2026-01.org.example:disk",
    "TargetName=iqn.2026-01.org.example:none",
    "TargetName=",
    "SessionType=Normal",
    "SessionType=Discovery",
    "SessionType=Other",
    "AuthMethod=None",
    "AuthMethod=CHAP,None",
    "AuthMethod=CHAP",
    "AuthMethod=KRB5,SRP,CHAP",
    "AuthMethod=",
    "CHAP_A=5",
    "CHAP_A=8,7,6,5",
    "CHAP_A=1,5",
    "CHAP_A=0",
    "CHAP_A=five",
    "CHAP_N=host",
    "CHAP_N=other",
    "CHAP_N=",
    "CHAP_R=0x00112233445566778899aabbccddeeff",
    "CHAP_R=0bABEiM0RVZneImaq7zN3u/w==",
    "CHAP_R=0x",
    "CHAP_R=0b",
    "CHAP_I=17",
    "CHAP_I=256",
    "CHAP_C=0x000102030405060708090a0b0c0d0e0f",
    "CHAP_C=0b!!!!",
    "CHAP_C=0x0",
    "HeaderDigest=CRC32C,None",
    "HeaderDigest=CRC32C",
    "HeaderDigest=MD5",
    "DataDigest=CRC32C,None",
    "DataDigest=None",
    "MaxConnections=1",
    "MaxConnections=0",
    "MaxConnections=65536",
    "InitialR2T=No",
    "InitialR2T=Yes",
    "InitialR2T=Maybe",
    "ImmediateData=Yes",
    "ImmediateData=No",
    "MaxRecvDataSegmentLength=512",
    "MaxRecvDataSegmentLength=16777215",
    "MaxRecvDataSegmentLength=511",
    "MaxBurstLength=262144",
    "MaxBurstLength=0x1000",
    "FirstBurstLength=65536",
    "FirstBurstLength=16777216",
    "DefaultTime2Wait=2",
    "DefaultTime2Retain=3601",
    "MaxOutstandingR2T=1",
    "DataPDUInOrder=Yes",
    "DataSequenceInOrder=No",
    "ErrorRecoveryLevel=2",
    "TaskReporting=FastAbort,ResponseFence,RFC3720",
    "iSCSIProtocolLevel=2",
    "IFMarker=Yes",
    "OFMarkInt=2048~65535",
    "X-org.example.key=value",
    "SendTargets=All",
];

/// The TSIH of who is let in.
const HANDLE: u16 = 0x7777;
/// CHAP_I and CHAP_C of every login here. Real drivers draw them.
pub(super) const IDENTIFIER: u8 = 42;
pub(super) const CHALLENGE: &[u8] = b"a fixed question";
/// What the account `host` knows, and what the target does.
const HOST_SECRET: &[u8] = b"what the host knows";
pub(super) const DISK_SECRET: &[u8] = b"what the disk knows";

/// The key that proves who knows a secret.
pub(super) fn right_response(algorithm: Algorithm, secret: &[u8]) -> Vec<u8> {
    let secret = Secret::new(secret).expect("a secret that is long enough");
    let response = algorithm.respond(IDENTIFIER, &secret, CHALLENGE);
    let hex: String = response.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("CHAP_R=0x{hex}\0").into_bytes()
}

/// A whole login, seen from the target, or from the initiator as `answers` has it. Nobody comes in whom the driver did not let in, nor with less proof than the driver asked for; every
/// answer is a Login Response and numbered.
pub fn login(input: &[u8]) {
    let mut source = Source::new(input);
    let control = source.byte();
    if control & 0x80 != 0 {
        return answers::login(control, &mut source);
    }
    let mut world = World::new(control);
    while !source.is_empty() && world.stage < Stage::LoggedIn && !world.session.is_closed() {
        world.step(&mut source);
        world.settle(&mut source);
        let held = world.session.held_bytes();
        assert!(held <= 256 << 10, "{held} bytes are held");
    }
    if world.stage < Stage::LoggedIn {
        world.session.handle_disconnect();
        world.settle(&mut source);
    }
}

/// How far the initiator came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Unknown,
    Identified,
    Challenged,
    Authenticated,
    Admitted,
    LoggedIn,
    Closed,
}

struct World {
    session: TargetSession,
    now: Instant,
    input: BytesMut,
    heard: BytesMut,
    authentication: Authentication,
    stage: Stage,
    /// The right answer to the challenge was said.
    proved: bool,
    stat_sn: Option<Serial>,
}

impl World {
    fn new(control: u8) -> Self {
        let now = start();
        let chap = ChapPolicy {
            accounts: vec![account("host", HOST_SECRET)],
            mutual: (control & 0x02 != 0).then(|| account("disk", DISK_SECRET)),
            algorithms: Algorithm::ALL.to_vec(),
            identifier: IDENTIFIER,
            challenge: CHALLENGE.to_vec(),
        };
        let digests = if control & 0x08 == 0 {
            DigestPolicy::default()
        } else {
            DigestPolicy::Require
        };
        let config = TargetConfig {
            offer: TargetOffer {
                digests,
                ..TargetOffer::default()
            },
            ..TargetConfig::default()
        };
        Self {
            session: TargetSession::new(config, now),
            now,
            input: BytesMut::new(),
            heard: BytesMut::new(),
            authentication: Authentication {
                portal_group_tag: 1,
                none: control & 0x01 == 0,
                chap: (control & 0x05 != 0).then_some(chap),
            },
            stage: Stage::Unknown,
            proved: false,
            stat_sn: None,
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.byte() {
            0..200 => self.request(source),
            200..225 => {
                let length = usize::from(source.byte());
                self.input.extend_from_slice(source.take(length));
            }
            225..250 => {
                let mut header = [0; BHS_BYTES];
                let given = source.take(BHS_BYTES);
                header[..given.len()].copy_from_slice(given);
                let pdu = Pdu::bare(Header::decode(&header));
                self.input
                    .extend_from_slice(&written(&pdu, Digests::default()));
            }
            _ => {
                self.now += Duration::from_secs(u64::from(source.byte() % 8));
                self.session.handle_timeout(self.now);
            }
        }
        self.session.handle_bytes(self.now, &mut self.input);
    }

    /// A Login Request, by the rules most of the time.
    fn request(&mut self, source: &mut Source<'_>) {
        let odd = source.byte();
        let mut header = LoginRequest {
            opcode: LoginRequest::OPCODE | IMMEDIATE,
            // Stages 0, 1 and 3, with and without transit, with and without more to come.
            flags: source.pick(&[0x87, 0x81, 0x83, 0x00, 0x04, 0x40, 0x44, 0xc7, 0x01]),
            isid: [0x80, 0, 0, 0, 0, 1],
            initiator_task_tag: 1.into(),
            cmd_sn: 7.into(),
            ..LoginRequest::default()
        };
        if odd >= 0xe0 {
            header.flags = source.byte();
            header.version_max = source.byte() % 2;
            header.version_min = source.byte() % 2;
            header.tsih = u16::from(source.byte() % 3).into();
            header.initiator_task_tag = source.near(1).into();
            header.cmd_sn = source.near(7).into();
            header.cid = u16::from(source.byte() % 2).into();
            header.exp_stat_sn = source.near(0).into();
        }
        let mut said = Vec::new();
        for _ in 0..source.byte() % 8 {
            match source.byte() {
                255 => {
                    let length = usize::from(source.byte());
                    said.extend_from_slice(source.take(length));
                }
                253 => {
                    let algorithm = source.pick(&Algorithm::ALL);
                    said.extend_from_slice(&right_response(algorithm, HOST_SECRET));
                    self.proved = true;
                }
                254 => said.resize(said.len() + usize::from(source.half() % 8_192), b'x'),
                word => {
                    said.extend_from_slice(WORDS[usize::from(word) % WORDS.len()].as_bytes());
                    said.push(0);
                }
            }
        }
        let pdu = Pdu::new(header, said.into());
        self.input
            .extend_from_slice(&written(&pdu, Digests::default()));
    }

    fn settle(&mut self, source: &mut Source<'_>) {
        while let Some(event) = self.session.poll_event() {
            let before = self.stage;
            match event {
                TargetEvent::Login(_) => {
                    assert_eq!(before, Stage::Unknown);
                    self.stage = Stage::Identified;
                    self.identified(source.byte());
                }
                TargetEvent::Authenticated { account, .. } => {
                    assert_eq!(before, Stage::Challenged);
                    let proved = self.proved && account.as_deref() == Some("host");
                    let nobody = self.authentication.none && account.is_none();
                    assert!(proved || nobody, "{account:?} was not proved");
                    self.stage = Stage::Authenticated;
                    self.authenticated(source.byte());
                }
                TargetEvent::LoggedIn { .. } => {
                    assert_eq!(before, Stage::Admitted);
                    self.stage = Stage::LoggedIn;
                }
                TargetEvent::Closed(reason) => {
                    let refused = matches!(reason, CloseReason::LoginFailed { status, .. } if status.class == 0);
                    assert!(!refused, "a login that failed is no success");
                    self.stage = Stage::Closed;
                }
                other => panic!("no event of a login: {other:?}"),
            }
        }
        self.hear();
    }

    fn identified(&mut self, choice: u8) {
        match choice {
            0..200 => {
                self.stage = Stage::Challenged;
                self.session.authenticate(self.authentication.clone());
            }
            200..225 => self.session.refuse(LoginStatus::AUTHORIZATION_FAILURE),
            225..250 => self
                .session
                .redirect("192.0.2.1:3260", choice.is_multiple_of(2)),
            // The driver thinks about it.
            _ => {}
        }
    }

    fn authenticated(&mut self, choice: u8) {
        match choice {
            0..200 => {
                self.stage = Stage::Admitted;
                self.session.admit(Admission {
                    tsih: HANDLE,
                    command_window: 4,
                });
            }
            200..225 => self.session.refuse(LoginStatus::AUTHORIZATION_FAILURE),
            225..250 => self
                .session
                .redirect("[2001:db8::1]:3260", choice.is_multiple_of(2)),
            _ => {}
        }
    }

    /// Every answer is a Login Response, numbered, and no longer than an initiator takes by default.
    fn hear(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            self.heard.extend_from_slice(&bytes);
        }
        let mut framer = Framer::new(8_192);
        while let Some(framed) = framer.next(&mut self.heard).expect("PDUs of a target") {
            let Framed::Pdu(Pdu {
                header: Header::LoginResponse(header),
                ..
            }) = framed
            else {
                panic!("no Login Response: {framed:?}");
            };
            let stat_sn = Serial(header.stat_sn.get());
            if let Some(next) = self.stat_sn.replace(stat_sn.next()) {
                assert_eq!(stat_sn, next, "StatSN has no gaps");
            }
            let (transit, class) = (header.flags & 0x80 != 0, header.status_class);
            assert!(class == 0 || !transit, "a refusal leads nowhere");
            let done = transit && header.flags & 0x03 == 0x03;
            assert_eq!(
                done,
                self.stage == Stage::LoggedIn,
                "the last response, and it alone"
            );
            assert_eq!(
                done,
                header.tsih.get() == HANDLE,
                "the handle comes with the last response"
            );
        }
        assert!(self.heard.is_empty(), "whole PDUs only");
    }
}

pub(super) fn account(name: &str, secret: &[u8]) -> Account {
    Account {
        name: name.to_owned(),
        secret: Secret::new(secret).expect("a secret that is long enough"),
    }
}
