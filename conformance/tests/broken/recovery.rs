//! What makes the sound target one of ErrorRecoveryLevel 1: it stands before it, keeps what the target sends until it
//! is acknowledged, and sends it again when a SNACK asks for it (RFC 7143 §11.16).

use std::collections::{BTreeMap, VecDeque};

use iscsi_proto::wire::bhs::{DataIn, FINAL, RESERVED_TAG, STATUS, ScsiResponse, SnackRequest};
use iscsi_proto::wire::{Header, Pdu};

use super::several::{is_discovery, number, rewrite};
use super::{Act, Saboteur, Seen};

/// Answers SNACKs on every connection whose login agreed on it.
pub(crate) fn recovering() -> Saboteur {
    let mut connections: BTreeMap<usize, Kept> = BTreeMap::new();
    Box::new(move |seen, lane| {
        let kept = connections.entry(lane.number).or_default();
        match seen {
            Seen::Request(pdu) => match kept.asked(pdu) {
                Some(again) => {
                    again.into_iter().for_each(|pdu| lane.to_initiator(pdu));
                    Act::Replace(Vec::new())
                }
                None => Act::Pass,
            },
            Seen::Response(pdu) => {
                let mut pdu = pdu.clone();
                kept.answered(&mut pdu);
                Act::Replace(vec![pdu])
            }
            _ => Act::Pass,
        }
    })
}

/// What one connection may have to send again.
#[derive(Default)]
struct Kept {
    discovers: bool,
    offered: u32,
    agreed: bool,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    next_stat_sn: u32,
    /// By StatSN, oldest first.
    statuses: VecDeque<(u32, Pdu)>,
    /// Data-In and R2T of each task, by their number.
    sequences: BTreeMap<u32, BTreeMap<u32, Pdu>>,
    luns: BTreeMap<u32, u64>,
}

impl Kept {
    /// What is to be sent again; `None` for a request that the target has to see.
    fn asked(&mut self, pdu: &Pdu) -> Option<Vec<Pdu>> {
        match &pdu.header {
            Header::LoginRequest(_) => {
                self.discovers |= is_discovery(pdu);
                if let Some(level) = number(pdu, LEVEL) {
                    self.offered = level;
                }
                return None;
            }
            Header::ScsiCommand(command) => {
                let tag = command.initiator_task_tag.get();
                self.luns.insert(tag, command.lun.get());
                self.sequences.remove(&tag);
            }
            _ => {}
        }
        self.acknowledge(word(pdu, 28));
        match &pdu.header {
            Header::SnackRequest(snack) if self.agreed => self.again(snack),
            _ => None,
        }
    }

    /// Keeps a PDU as it goes out.
    fn answered(&mut self, pdu: &mut Pdu) {
        if matches!(pdu.header, Header::LoginResponse(_)) {
            self.agreed |= self.offered > 0 && !self.discovers && rewrite(pdu, LEVEL, "0", "1");
        }
        if !self.agreed {
            return;
        }
        let tag = pdu.header.common().initiator_task_tag.get();
        (self.exp_cmd_sn, self.max_cmd_sn) = (word(pdu, 28), word(pdu, 32));
        let is_status = match &mut pdu.header {
            Header::DataIn(data) => {
                let is_status = data.flags & STATUS != 0;
                if is_status {
                    // The last one asks for its acknowledgement.
                    data.flags |= ACKNOWLEDGE;
                    data.target_transfer_tag = transfer_tag(tag).into();
                    data.lun = self.luns.get(&tag).copied().unwrap_or_default().into();
                }
                is_status
            }
            Header::ReadyToTransfer(_) => false,
            Header::NopIn(nop) => nop.initiator_task_tag.get() != RESERVED_TAG,
            _ => true,
        };
        if matches!(pdu.header, Header::DataIn(_) | Header::ReadyToTransfer(_)) {
            let sequence = self.sequences.entry(tag).or_default();
            sequence.insert(word(pdu, 36), pdu.clone());
        }
        if is_status {
            self.next_stat_sn = word(pdu, 24).wrapping_add(1);
            self.statuses.push_back((word(pdu, 24), pdu.clone()));
        }
    }

    fn acknowledge(&mut self, exp_stat_sn: u32) {
        while let Some((number, pdu)) = self.statuses.front() {
            // A number is behind another one if half of all numbers are not between them.
            if number.wrapping_sub(exp_stat_sn) < 1 << 31 {
                return;
            }
            let tag = pdu.header.common().initiator_task_tag.get();
            self.sequences.remove(&tag);
            self.statuses.pop_front();
        }
    }

    fn again(&mut self, snack: &SnackRequest) -> Option<Vec<Pdu>> {
        let (begin, length) = (snack.beg_run.get(), snack.run_length.get());
        let tag = snack.initiator_task_tag.get();
        let sent: Vec<Pdu> = match snack.kind & 0x0f {
            0 => run(self.sequences.get(&tag)?, begin, length)?,
            1 => run(&self.statuses.iter().cloned().collect(), begin, length)?,
            2 => {
                let acknowledged = snack.target_transfer_tag.get();
                let mut sequences = self.sequences.iter_mut();
                let (_, sequence) =
                    sequences.find(|(tag, _)| transfer_tag(**tag) == acknowledged)?;
                sequence.retain(|number, _| *number >= begin);
                Vec::new()
            }
            3 => self.resegmented(tag, snack.target_transfer_tag.get())?,
            _ => return None,
        };
        Some(sent.into_iter().map(|pdu| self.current(pdu)).collect())
    }

    /// All data of a task, and its status under a SNACK Tag (RFC 7143 §11.16.3).
    fn resegmented(&mut self, tag: u32, snack_tag: u32) -> Option<Vec<Pdu>> {
        let sequence = self.sequences.get(&tag)?;
        let mut sent: Vec<Pdu> = sequence.values().cloned().collect();
        let is_of_task = |pdu: &Pdu| pdu.header.common().initiator_task_tag.get() == tag;
        let (number, status) = self.statuses.iter_mut().find(|(_, pdu)| is_of_task(pdu))?;
        let response = match &status.header {
            Header::ScsiResponse(response) => *response,
            Header::DataIn(data) => ScsiResponse {
                flags: FINAL | data.flags & 0x06,
                status: data.status,
                initiator_task_tag: data.initiator_task_tag,
                stat_sn: (*number).into(),
                exp_data_sn: u32::try_from(sent.len()).unwrap().into(),
                residual_count: data.residual_count,
                ..ScsiResponse::default()
            },
            _ => return None,
        };
        status.header = Header::from(ScsiResponse {
            snack_tag: snack_tag.into(),
            ..response
        });
        if !matches!(response.status, 0x02) {
            status.data = bytes::Bytes::new();
        }
        for pdu in &mut sent {
            if let Header::DataIn(data) = &mut pdu.header {
                *data = DataIn {
                    flags: data.flags & FINAL,
                    status: 0,
                    ..*data
                };
            }
        }
        sent.push(status.clone());
        Some(sent)
    }

    /// A replica but for the numbers of the window, and of R2T for StatSN (RFC 7143 §11.16).
    fn current(&self, mut pdu: Pdu) -> Pdu {
        let mut bytes: [u8; 48] = pdu.header.as_bytes().try_into().unwrap();
        bytes[28..32].copy_from_slice(&self.exp_cmd_sn.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.max_cmd_sn.to_be_bytes());
        if matches!(pdu.header, Header::ReadyToTransfer(_)) {
            bytes[24..28].copy_from_slice(&self.next_stat_sn.to_be_bytes());
        }
        pdu.header = Header::decode(&bytes);
        pdu
    }
}

/// The PDUs of a run; `None` if one of them is not there.
fn run(kept: &BTreeMap<u32, Pdu>, begin: u32, length: u32) -> Option<Vec<Pdu>> {
    let all = || kept.values().cloned().collect::<Vec<Pdu>>();
    match (begin, length) {
        (0, 0) => Some(all()),
        (begin, 0) => kept
            .contains_key(&begin)
            .then(|| kept.range(begin..).map(|(_, pdu)| pdu.clone()).collect()),
        (begin, length) => (0..length)
            .map(|place| kept.get(&begin.wrapping_add(place)).cloned())
            .collect(),
    }
}

/// The tag under which the data of a task is acknowledged.
fn transfer_tag(tag: u32) -> u32 {
    tag ^ 0x5a5a_0000
}

fn word(pdu: &Pdu, at: usize) -> u32 {
    u32::from_be_bytes(pdu.header.as_bytes()[at..at + 4].try_into().unwrap())
}

const LEVEL: &str = "ErrorRecoveryLevel";
/// The A bit of Data-In (RFC 7143 §11.7.2).
const ACKNOWLEDGE: u8 = 0x40;
