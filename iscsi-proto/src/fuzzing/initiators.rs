//! An initiator session whose target says whatever a fuzzer wants.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::fuzzing::Source;
use crate::fuzzing::script::written;
use crate::fuzzing::sessions::start;
use crate::login::{
    Admission, Authentication, DigestChoice, DigestPolicy, InitiatorOffer, Operational, TargetOffer,
};
use crate::session::{
    InitiatorConfig, InitiatorEvent, InitiatorSession, Request, RequestId, TargetConfig,
    TargetEvent, TargetSession, Transfer,
};
use crate::wire::bhs::BHS_BYTES;
use crate::wire::framer::Digests;
use crate::wire::lun::Lun;
use crate::wire::{Header, Pdu};

/// Opcodes of a target, those that matter more often than others.
const OPCODES: [u8; 16] = [
    0x25, 0x25, 0x25, 0x21, 0x21, 0x31, 0x31, 0x20, 0x22, 0x24, 0x26, 0x32, 0x3f, 0x23, 0x25, 0x00,
];

/// A whole session. No request ends twice or was never made, and after the session's end there is silence.
pub fn initiator(input: &[u8]) {
    let mut source = Source::new(input);
    let mut world = World::new(&mut source);
    while !source.is_empty() && !world.ended {
        world.step(&mut source);
        world.settle();
    }
    world.session.handle_disconnect();
    world.settle();
    assert!(world.ended && world.session.is_closed());
    assert!(world.session.poll_event().is_none());
}

struct World {
    session: InitiatorSession,
    now: Instant,
    input: BytesMut,
    digests: Digests,
    stat_sn: u32,
    tag: u32,
    cmd_sn: u32,
    open: BTreeSet<RequestId>,
    logged_in: bool,
    ended: bool,
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let now = start();
        let name = |name: &str| name.parse().expect("a name");
        let offer = InitiatorOffer {
            header_digest: DigestChoice::PreferNone,
            data_digest: DigestChoice::PreferNone,
            ..InitiatorOffer::normal(
                name("iqn.2026-01.org.example:host"),
                name("iqn.2026-01.org.example:disk"),
                [0x80, 0, 0, 0, 0, 1],
            )
        };
        let mut world = Self {
            session: InitiatorSession::new(InitiatorConfig::new(offer), now),
            now,
            input: BytesMut::new(),
            digests: Digests::default(),
            stat_sn: 1,
            tag: 0,
            cmd_sn: 0,
            open: BTreeSet::new(),
            logged_in: false,
            ended: false,
        };
        if source.byte() < 240 {
            world.log_in(source.byte());
            world.settle();
            assert!(world.logged_in, "two ends that understand each other");
        }
        world
    }

    /// A login with a target that is none of the fuzzer's.
    fn log_in(&mut self, choice: u8) {
        let digests = if choice & 0x01 == 0 {
            DigestPolicy::Refuse
        } else {
            DigestPolicy::Require
        };
        let offer = TargetOffer {
            digests,
            operational: Operational {
                initial_r2t: choice & 0x02 != 0,
                immediate_data: choice & 0x04 == 0,
                max_recv_data_segment_length: 4_096,
                max_burst_length: 16_384,
                first_burst_length: 4_096,
                ..Operational::default()
            },
            ..TargetOffer::default()
        };
        let config = TargetConfig {
            offer,
            ..TargetConfig::default()
        };
        let mut target = TargetSession::new(config, self.now);
        let (mut asked, mut said) = (BytesMut::new(), BytesMut::new());
        for _ in 0..8 {
            while let Some(bytes) = self.session.poll_transmit() {
                self.learn(&bytes);
                asked.extend_from_slice(&bytes);
            }
            target.handle_bytes(self.now, &mut asked);
            while let Some(event) = target.poll_event() {
                match event {
                    TargetEvent::Login(_) => target.authenticate(Authentication {
                        portal_group_tag: 1,
                        none: true,
                        chap: None,
                    }),
                    TargetEvent::Authenticated { .. } => target.admit(Admission {
                        tsih: 1,
                        command_window: 8,
                    }),
                    _ => {}
                }
            }
            while let Some(bytes) = target.poll_transmit() {
                if let Some(head) = bytes.first_chunk::<BHS_BYTES>() {
                    self.stat_sn = word(head, 24).wrapping_add(1);
                }
                said.extend_from_slice(&bytes);
            }
            self.session.handle_bytes(self.now, &mut said);
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.byte() {
            0..150 => self.say(source),
            150..165 => {
                let length = usize::from(source.byte());
                let bytes = source.take(length).to_vec();
                self.hear(&bytes);
            }
            165..225 => self.ask(source),
            225..235 => {
                let open: Vec<RequestId> = self.open.iter().copied().collect();
                if !open.is_empty() {
                    self.session.abort(self.now, source.pick(&open));
                }
            }
            235..250 => {
                self.now += Duration::from_secs(u64::from(source.byte() % 20));
                self.session.handle_timeout(self.now);
            }
            _ => self.session.logout(self.now),
        }
    }

    /// A PDU of the target: numbers that fit, most of the time.
    fn say(&mut self, source: &mut Source<'_>) {
        let mut header = [0; BHS_BYTES];
        header[0] = source.pick(&OPCODES);
        header[1] = source.pick(&[0x80, 0x81, 0x00, 0x80, 0x83, 0x85, 0x82, 0x84]);
        header[2] = source.pick(&[0, 0, 0, 1, 2, 4, 6, 9]);
        header[3] = source.pick(&[0, 0, 0, 2, 8, 0x18, 0x28]);
        let words = [
            (16, source.near(self.tag.wrapping_sub(4))),
            (20, source.pick(&[u32::MAX, 0, 1, 2])),
            (24, self.stat_sn),
            (28, self.cmd_sn),
            (32, self.cmd_sn.wrapping_add(8)),
            (36, source.near(0)),
            (40, source.pick(&[0, 0, 512, 4_096, 8_192])),
            (44, source.pick(&[0, 512, 1_024, 4_096, 16_384])),
        ];
        for (offset, word) in words {
            header[offset..offset + 4].copy_from_slice(&word.to_be_bytes());
        }
        if source.byte() >= 0xf0 {
            header[usize::from(source.byte()) % BHS_BYTES] = source.byte();
        }
        let uses_number =
            !matches!(header[0], 0x31 | 0x00) && (header[0] != 0x25 || header[1] & 1 != 0);
        self.stat_sn = self.stat_sn.wrapping_add(u32::from(uses_number));
        let length = source.pick(&[0, 0, 4, 20, 512, 512, 4_096]);
        let pdu = Pdu::new(
            Header::decode(&header),
            Bytes::from(vec![header[1]; length]),
        );
        self.hear(&written(&pdu, self.digests));
    }

    fn ask(&mut self, source: &mut Source<'_>) {
        let choice = source.byte();
        let length = source.pick(&[0u32, 4, 512, 4_096, 20_000]);
        let transfer = match choice % 3 {
            0 => Transfer::None,
            1 => Transfer::Read(length),
            _ => Transfer::Write(Bytes::from(vec![0xda; length as usize])),
        };
        let asked = if choice >= 0xf0 {
            self.session.reset_unit(self.now, Lun(0))
        } else {
            let request = Request {
                lun: Lun(u64::from(choice % 2) << 48),
                cdb: [choice; 16],
                transfer,
            };
            self.session.submit(self.now, request)
        };
        if let Ok(id) = asked {
            assert!(self.open.insert(id), "a name is used once");
        }
    }

    /// A header first, then its data; straight to where it belongs, if the session wants that.
    fn hear(&mut self, bytes: &[u8]) {
        let (head, mut data) = bytes.split_at(bytes.len().min(BHS_BYTES));
        self.input.extend_from_slice(head);
        self.session.handle_bytes(self.now, &mut self.input);
        if let Some(mut landing) = self.session.landing() {
            let fits = data.len().min(landing.remaining_mut());
            let (landed, rest) = data.split_at(fits);
            landing.put_slice(landed);
            data = rest;
        }
        self.input.extend_from_slice(data);
        self.session.handle_bytes(self.now, &mut self.input);
    }

    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.ended, "nothing happens after the end: {event:?}");
            match event {
                InitiatorEvent::Completed { request, .. }
                | InitiatorEvent::Managed { request, .. }
                | InitiatorEvent::Discovered { request, .. } => {
                    assert!(self.open.remove(&request), "{request:?} ended twice");
                }
                InitiatorEvent::LoggedIn(params) => {
                    self.logged_in = true;
                    self.digests = Digests {
                        header: params.header_digest,
                        data: params.data_digest,
                    };
                }
                InitiatorEvent::Ended(_) => self.ended = true,
                _ => {}
            }
        }
        while let Some(bytes) = self.session.poll_transmit() {
            self.learn(&bytes);
        }
    }

    /// What the target knows of the initiator's tags and numbers.
    fn learn(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk::<BHS_BYTES>()
            && matches!(head[0] & 0x3f, 0x01..=0x04)
        {
            self.tag = word(head, 16);
            self.cmd_sn = word(head, 24).wrapping_add(u32::from(head[0] & 0x40 == 0));
        }
    }
}

fn word(head: &[u8; BHS_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}
