//! A session that is logged in, and a hand that plays its target.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::login::InitiatorOffer;
use crate::params::Params;
use crate::session::initiator::full_feature::FullFeature;
use crate::session::initiator::numbering::Numbers;
use crate::session::initiator::pdus::{READ_CDB, nop_in, outcome};
use crate::session::initiator::{
    Digests, InitiatorConfig, InitiatorEvent, InitiatorSession, InitiatorStats, Outcome, Phase,
    Request, RequestId, SessionEnd, SubmitError, Transfer,
};
use crate::wire::framer::{Framed, Framer, encode};
use crate::wire::lun::Lun;
use crate::wire::serial::Serial;
use crate::wire::{Header, Pdu};

pub(super) struct Bench {
    pub(super) session: InitiatorSession,
    pub(super) now: Instant,
    params: Params,
    last_tag: u32,
    stat_sn: u32,
}

/// Any moment to begin at.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; the tests' time is theirs"
)]
pub(super) fn start() -> Instant {
    Instant::now()
}

pub(super) fn config() -> InitiatorConfig {
    let name = |name: &str| name.parse().expect("a name");
    let offer = InitiatorOffer::normal(
        name("iqn.2025-01.io.vmthunder:i"),
        name("iqn.2025-01.io.vmthunder:t"),
        [0x80; 6],
    );
    InitiatorConfig {
        queue_limit: 8,
        ..InitiatorConfig::new(offer)
    }
}

impl Bench {
    pub(super) fn new(params: Params) -> Self {
        let now = start();
        let mut session = InitiatorSession::new(config(), now);
        while session.poll_transmit().is_some() {}
        session.digests = Digests {
            header: params.header_digest,
            data: params.data_digest,
        };
        session
            .framer
            .set_digests(params.header_digest, params.data_digest);
        session
            .framer
            .set_max_data_segment(params.max_recv_data_segment_length);
        let full = FullFeature::new(
            &session.config,
            &outcome(params.clone()),
            InitiatorStats::default(),
            now,
        );
        session.phase = Phase::FullFeature(Box::new(full));
        Self {
            session,
            now,
            params,
            last_tag: 0,
            stat_sn: 7,
        }
    }

    pub(super) fn full(&mut self) -> Option<&mut FullFeature> {
        match &mut self.session.phase {
            Phase::FullFeature(full) => Some(full),
            _ => None,
        }
    }

    pub(super) fn try_submit(&mut self, transfer: Transfer) -> Result<RequestId, SubmitError> {
        self.session.submit(
            self.now,
            Request {
                lun: Lun(0),
                cdb: READ_CDB,
                transfer,
            },
        )
    }

    pub(super) fn submit(&mut self, transfer: Transfer) -> RequestId {
        self.try_submit(transfer).expect("room")
    }

    pub(super) fn abort(&mut self, request: RequestId) {
        self.session.abort(self.now, request);
    }

    pub(super) fn reset_unit(&mut self, lun: Lun) -> RequestId {
        self.session.reset_unit(self.now, lun).expect("room")
    }

    pub(super) fn discover(&mut self) -> RequestId {
        self.session.discover(self.now).expect("room")
    }

    /// Lets the window reach up to this number.
    pub(super) fn set_window(&mut self, max_cmd_sn: u32) {
        let start = outcome(self.params.clone());
        let full = self.full().expect("logged in");
        full.numbers = Numbers::new(start.cmd_sn, Serial(max_cmd_sn), start.exp_stat_sn);
    }

    /// Everything that the session wants to send.
    pub(super) fn sent(&mut self) -> Vec<Pdu> {
        let mut bytes = BytesMut::new();
        while let Some(part) = self.session.poll_transmit() {
            bytes.extend_from_slice(&part);
        }
        let mut framer = Framer::new(1 << 20);
        framer.set_digests(self.params.header_digest, self.params.data_digest);
        let mut pdus = Vec::new();
        while let Some(Framed::Pdu(pdu)) = framer.next(&mut bytes).expect("PDUs") {
            if matches!(pdu.header, Header::ScsiCommand(_)) {
                self.last_tag = pdu.header.common().initiator_task_tag.get();
            }
            pdus.push(pdu);
        }
        assert!(bytes.is_empty());
        pdus
    }

    /// The tag of the command that was sent last.
    pub(super) fn last_tag(&self) -> u32 {
        self.last_tag
    }

    /// The StatSN that comes next, if only pings of [`Self::pass_with_pings`] took any.
    pub(super) fn next_stat_sn(&self) -> u32 {
        self.stat_sn
    }

    pub(super) fn receive(&mut self, pdu: Pdu) {
        let mut parts = VecDeque::new();
        encode(&pdu, self.session.digests, &mut parts);
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        self.receive_bytes(&bytes);
    }

    pub(super) fn receive_bytes(&mut self, bytes: &[u8]) {
        self.session
            .handle_bytes(self.now, &mut BytesMut::from(bytes));
    }

    /// Lets time pass, second by second.
    pub(super) fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.now += Duration::from_secs(1);
            if self
                .session
                .poll_timeout()
                .is_some_and(|due| due <= self.now)
            {
                self.session.handle_timeout(self.now);
            }
        }
    }

    /// Lets time pass with a target that answers pings, up to the first thing that is sent beside them.
    pub(super) fn pass_with_pings(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.pass(Duration::from_secs(1));
            let nops: Vec<u32> = match self.full() {
                Some(full) if full.urgent.len() == 1 && full.management_running.is_none() => {
                    full.urgent.iter().copied().collect()
                }
                _ => Vec::new(),
            };
            for tag in nops {
                self.sent();
                self.receive(nop_in(tag, 0xffff_ffff, self.stat_sn, 101, 110));
                self.stat_sn += 1;
            }
        }
    }

    pub(super) fn event(&mut self) -> Option<InitiatorEvent> {
        self.session.poll_event()
    }

    pub(super) fn completed(&mut self) -> (RequestId, Outcome) {
        match self.session.poll_event() {
            Some(InitiatorEvent::Completed { request, outcome }) => (request, outcome),
            other => panic!("no completion but {other:?}"),
        }
    }

    /// How the session ended, if it did; drops other events.
    pub(super) fn ended(&mut self) -> Option<SessionEnd> {
        while let Some(event) = self.session.poll_event() {
            if let InitiatorEvent::Ended(end) = event {
                assert!(self.session.is_closed());
                return Some(end);
            }
        }
        assert!(!self.session.is_closed());
        None
    }
}

/// The headers of PDUs, as bytes.
pub(super) fn headers(pdus: &[Pdu]) -> Vec<&[u8]> {
    pdus.iter().map(|pdu| pdu.header.as_bytes()).collect()
}
