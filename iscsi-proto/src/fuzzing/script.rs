//! An initiator that follows the rules most of the time, as a fuzzer tells it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::fuzzing::Source;
use crate::wire::bhs::{
    BHS_BYTES, DataOut, FINAL, IMMEDIATE, LoginRequest, LogoutRequest, NopOut, RESERVED_TAG,
    ReadyToTransfer, ScsiCommand, TaskManagementRequest, TextRequest,
};
use crate::wire::framer::{Digests, encode};
use crate::wire::{Header, Pdu};

/// Operation codes that block devices know, and a few that nobody does.
const OPERATIONS: [u8; 40] = [
    0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2e, 0x2f,
    0x34, 0x35, 0x37, 0x41, 0x42, 0x48, 0x4d, 0x55, 0x5a, 0x5e, 0x5f, 0x83, 0x84, 0x88, 0x89, 0x8a,
    0x8b, 0x8e, 0x8f, 0x93, 0x9c, 0x9e, 0xa0, 0xa3,
];

/// Keys of a login, one line each.
const LOGINS: [&str; 6] = [
    "InitialR2T=No|ImmediateData=Yes|FirstBurstLength=4096|MaxBurstLength=8192|MaxOutstandingR2T=1",
    "InitialR2T=Yes|ImmediateData=No|MaxBurstLength=4096|MaxOutstandingR2T=3",
    "HeaderDigest=CRC32C|DataDigest=CRC32C|ImmediateData=Yes|MaxRecvDataSegmentLength=512",
    "DataDigest=CRC32C,None|InitialR2T=No|FirstBurstLength=1024",
    "HeaderDigest=CRC32C,None|TaskReporting=ResponseFence",
    "SessionType=Discovery",
];

/// Texts of the full feature phase.
const TEXTS: [&str; 8] = [
    "",
    "SendTargets=All\0",
    "SendTargets=\0",
    "SendTargets=iqn.2026-01.org.example:disk\0",
    "MaxRecvDataSegmentLength=1024\0",
    "MaxBurstLength=512\0",
    "X-org.example.a=b\0",
    "SendTargets",
];

/// The initiator.
#[derive(Debug)]
pub struct Script {
    digests: Digests,
    cmd_sn: u32,
    /// Requests for data that were not answered yet.
    requests: VecDeque<ReadyToTransfer>,
}

impl Script {
    /// The first CmdSN that a script uses: close to the end, so that the numbers wrap.
    pub const FIRST_CMD_SN: u32 = 0xffff_fff0;

    /// A login request, by number, of an initiator port to a target.
    pub fn login(number: u8, port: u8, target: &str) -> Vec<u8> {
        let keys = LOGINS[usize::from(number) % LOGINS.len()];
        let mut said = "InitiatorName=iqn.2026-01.org.example:host\0".to_owned();
        if !keys.contains("Discovery") {
            said += &format!("TargetName={target}\0");
        }
        for key in keys.split('|') {
            said += &format!("{key}\0");
        }
        let header = LoginRequest {
            opcode: LoginRequest::OPCODE | IMMEDIATE,
            // Transit from the operational stage to the full feature phase.
            flags: 0x87,
            isid: [0x80, 0, 0, 0, 0, port],
            initiator_task_tag: 1.into(),
            cmd_sn: Self::FIRST_CMD_SN.into(),
            ..LoginRequest::default()
        };
        written(&Pdu::new(header, said.into()), Digests::default())
    }

    /// A script for a session that is logged in.
    pub fn new(digests: Digests) -> Self {
        Self {
            digests,
            cmd_sn: Self::FIRST_CMD_SN,
            requests: VecDeque::new(),
        }
    }

    /// The target asks for data.
    pub fn asked(&mut self, request: ReadyToTransfer) {
        if self.requests.len() < 64 {
            self.requests.push_back(request);
        }
    }

    /// What the initiator says next; most often one PDU.
    pub fn say(&mut self, source: &mut Source<'_>) -> Vec<u8> {
        let kind = source.byte();
        let header: Header = match kind % 16 {
            0..=4 => self.command(source).into(),
            5..=7 => return self.send_data(source),
            8 => self.ping(source).into(),
            9 => self.manage(source).into(),
            10 | 11 => return self.ask(source),
            12 => {
                let length = usize::from(source.byte());
                return source.take(length).to_vec();
            }
            13 if kind >= 0xe0 => self.logout(source).into(),
            _ => {
                let mut header = [0; BHS_BYTES];
                let given = source.take(BHS_BYTES);
                header[..given.len()].copy_from_slice(given);
                Header::decode(&header)
            }
        };
        let length = source.pick(&[0, 0, 0, 4, 64, 512, 1_024, 4_096]);
        let ahs = match source.byte() {
            // The expected length of the read part of a bidirectional command, and one segment that is cut off.
            0xf0 => Bytes::from_static(&[0, 5, 2, 0, 0, 0, 4, 0]),
            0xf1 => Bytes::from_static(&[0, 9, 1, 0]),
            _ => Bytes::new(),
        };
        let pdu = Pdu {
            header,
            ahs,
            data: vec![kind; length].into(),
        };
        self.spoilt(&pdu, source)
    }

    fn command(&mut self, source: &mut Source<'_>) -> ScsiCommand {
        let mut cdb = [0; 16];
        let given = source.take(16);
        cdb[..given.len()].copy_from_slice(given);
        cdb[0] = OPERATIONS[usize::from(cdb[0]) % OPERATIONS.len()];
        let (opcode, cmd_sn) = self.number(source, ScsiCommand::OPCODE);
        ScsiCommand {
            opcode,
            flags: source.pick(&[
                0x81, 0xc1, 0xc1, 0xa1, 0xa1, 0x21, 0xe1, 0xc2, 0xa3, 0xc4, 0x00,
            ]),
            lun: (u64::from(source.pick(&[0u8, 0, 0, 1, 2])) << 48).into(),
            initiator_task_tag: source.near(0).into(),
            expected_data_transfer_length: source
                .pick(&[0u32, 4, 512, 512, 1_024, 4_096, 8_192, 20_000, u32::MAX])
                .into(),
            cmd_sn: cmd_sn.into(),
            cdb,
            ..ScsiCommand::default()
        }
    }

    /// Answers a request for data as it was meant, or nearly so.
    fn send_data(&mut self, source: &mut Source<'_>) -> Vec<u8> {
        let asked = self
            .requests
            .front()
            .copied()
            .unwrap_or_else(|| ReadyToTransfer {
                target_transfer_tag: RESERVED_TAG.into(),
                desired_data_transfer_length: u32::from(source.half()).into(),
                ..ReadyToTransfer::default()
            });
        let honest = source.byte() < 192;
        let most = asked.desired_data_transfer_length.get().min(16_384);
        let mut header = DataOut {
            flags: FINAL,
            lun: asked.lun,
            initiator_task_tag: asked.initiator_task_tag,
            target_transfer_tag: asked.target_transfer_tag,
            buffer_offset: asked.buffer_offset,
            ..DataOut::default()
        };
        let mut length = most;
        if honest {
            self.requests.pop_front();
        } else {
            header.flags = source.pick(&[0x00, 0x80]);
            header.initiator_task_tag = source.near(asked.initiator_task_tag.get()).into();
            header.target_transfer_tag = source.near(asked.target_transfer_tag.get()).into();
            header.data_sn = source.near(0).into();
            header.buffer_offset = source.near(asked.buffer_offset.get()).into();
            length = u32::from(source.half()).min(most);
        }
        let data = vec![0xd0; usize::try_from(length).unwrap_or(0)];
        self.spoilt(&Pdu::new(header, data.into()), source)
    }

    fn ping(&mut self, source: &mut Source<'_>) -> NopOut {
        let (opcode, cmd_sn) = self.number(source, NopOut::OPCODE);
        NopOut {
            opcode,
            flags: FINAL,
            initiator_task_tag: source.near(100).into(),
            target_transfer_tag: source.pick(&[RESERVED_TAG, 0, 1]).into(),
            cmd_sn: cmd_sn.into(),
            ..NopOut::default()
        }
    }

    fn manage(&mut self, source: &mut Source<'_>) -> TaskManagementRequest {
        let (opcode, cmd_sn) = self.number(source, TaskManagementRequest::OPCODE);
        TaskManagementRequest {
            opcode,
            // Every function but the cold reset, which would end the story.
            function: FINAL | source.pick(&[1, 1, 1, 2, 3, 4, 5, 6, 8, 9]),
            lun: (u64::from(source.byte() % 3) << 48).into(),
            initiator_task_tag: source.near(200).into(),
            referenced_task_tag: source.near(0).into(),
            cmd_sn: cmd_sn.into(),
            ref_cmd_sn: source.near(self.cmd_sn.wrapping_sub(4)).into(),
            ..TaskManagementRequest::default()
        }
    }

    fn ask(&mut self, source: &mut Source<'_>) -> Vec<u8> {
        let (opcode, cmd_sn) = self.number(source, TextRequest::OPCODE);
        let header = TextRequest {
            opcode,
            flags: source.pick(&[0x80, 0x80, 0x00, 0x40, 0xc0]),
            initiator_task_tag: source.near(300).into(),
            target_transfer_tag: source
                .pick(&[RESERVED_TAG, RESERVED_TAG, 1, 2, 3, 4])
                .into(),
            cmd_sn: cmd_sn.into(),
            ..TextRequest::default()
        };
        let mut said = source.pick(&TEXTS).to_owned();
        if source.byte() >= 0xc0 {
            let length = usize::from(source.byte());
            said += &String::from_utf8_lossy(source.take(length));
        }
        self.spoilt(&Pdu::new(header, said.into()), source)
    }

    fn logout(&mut self, source: &mut Source<'_>) -> LogoutRequest {
        let (opcode, cmd_sn) = self.number(source, LogoutRequest::OPCODE);
        LogoutRequest {
            opcode,
            reason: FINAL | (source.byte() % 4),
            initiator_task_tag: 400.into(),
            cid: u16::from(source.byte() % 2).into(),
            cmd_sn: cmd_sn.into(),
            ..LogoutRequest::default()
        }
    }

    /// Immediate or in order; now and then out of it.
    fn number(&mut self, source: &mut Source<'_>, opcode: u8) -> (u8, u32) {
        match source.byte() {
            0..160 => {
                let cmd_sn = self.cmd_sn;
                self.cmd_sn = cmd_sn.wrapping_add(1);
                (opcode, cmd_sn)
            }
            160..230 => (opcode | IMMEDIATE, self.cmd_sn),
            _ => (opcode, source.near(self.cmd_sn)),
        }
    }

    /// The PDU's bytes; now and then one of them is damaged on the way.
    fn spoilt(&self, pdu: &Pdu, source: &mut Source<'_>) -> Vec<u8> {
        let mut bytes = written(pdu, self.digests);
        if source.byte() >= 0xf8 {
            let at = usize::from(source.half()) % bytes.len();
            bytes[at] ^= 1 << (source.byte() % 8);
        }
        bytes
    }
}

/// A PDU as bytes.
pub(super) fn written(pdu: &Pdu, digests: Digests) -> Vec<u8> {
    let mut parts = VecDeque::new();
    encode(pdu, digests, &mut parts);
    parts.iter().flatten().copied().collect()
}
