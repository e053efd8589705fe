//! Commands that bring data to the target: immediate and unsolicited data, R2T, Data-Out (RFC 7143 §11.7, §11.8).

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::{DataOut, FINAL, RESERVED_TAG, ReadyToTransfer, ScsiCommand};

use crate::initiator::caller::Caller;
use crate::initiator::scsi::{Answer, write_of};
use crate::initiator::terms::{end_of, length};

/// A command whose data is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) command: ScsiCommand,
    gathered: BytesMut,
    /// Unsolicited Data-Out PDUs are still to come.
    pub(crate) unsolicited: bool,
    /// Bytes that came without being asked for.
    pub(crate) unasked: u32,
    /// Up to where data came or was asked for.
    asked: u32,
    /// How much the command needs.
    needs: u32,
    /// R2Ts that are not answered in full.
    pub(crate) bursts: Vec<Burst>,
    pub(crate) r2ts: u32,
}

/// What an R2T asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    pub(crate) tag: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Where the next Data-Out begins.
    pub(crate) at: u32,
    /// Its DataSN.
    pub(crate) data_sn: u32,
}

impl Write {
    fn keep(&mut self, offset: u32, data: &Bytes) {
        if end_of(offset, data) > u64::from(self.command.expected_data_transfer_length.get()) {
            return;
        }
        let (start, end) = (length(offset), length(offset) + data.len());
        if self.gathered.len() < end {
            self.gathered.resize(end, 0);
        }
        if let Some(room) = self.gathered.get_mut(start..end) {
            room.copy_from_slice(data);
        }
    }
}

impl Caller {
    /// A command with data for the target came, with its immediate data.
    pub(crate) async fn begin_write(&mut self, command: &ScsiCommand, immediate: &Bytes) {
        let expected = command.expected_data_transfer_length.get();
        if expected > LONGEST_WRITE {
            let too_long = Answer::check(&PARAMETER_LIST_LENGTH);
            self.respond(command, &too_long, 0).await;
            return;
        }
        let blocks = write_of(&command.cdb);
        let bytes = blocks.map(|blocks| blocks.count.saturating_mul(512));
        let expected_bytes = u64::from(expected);
        let needs = bytes.map_or(expected_bytes, |bytes| bytes.min(expected_bytes));
        let unasked = u32::try_from(immediate.len()).unwrap_or(u32::MAX);
        let mut write = Write {
            command: *command,
            gathered: BytesMut::new(),
            unsolicited: command.flags & FINAL == 0,
            unasked,
            asked: unasked,
            needs: u32::try_from(needs).unwrap_or(u32::MAX),
            bursts: Vec::new(),
            r2ts: 0,
        };
        write.keep(0, immediate);
        let tag = command.initiator_task_tag.get();
        self.writes.insert(tag, write);
        self.go_on(tag).await;
    }

    /// A Data-Out came; what belongs to no command is dropped.
    pub(crate) async fn take_data(&mut self, header: &DataOut, data: &Bytes) {
        let tag = header.initiator_task_tag.get();
        let Some(write) = self.writes.get_mut(&tag) else {
            return;
        };
        let offset = header.buffer_offset.get();
        write.keep(offset, data);
        let last = header.flags & FINAL != 0;
        let transfer = header.target_transfer_tag.get();
        if transfer == RESERVED_TAG {
            let end = u32::try_from(end_of(offset, data)).unwrap_or(u32::MAX);
            write.unasked = write
                .unasked
                .saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
            write.asked = write.asked.max(end);
            write.unsolicited = write.unsolicited && !last;
        } else if let Some(burst) = write.bursts.iter_mut().find(|burst| burst.tag == transfer) {
            burst.at = u32::try_from(end_of(offset, data)).unwrap_or(u32::MAX);
            burst.data_sn = burst.data_sn.wrapping_add(1);
            if last {
                write.bursts.retain(|burst| burst.tag != transfer);
            }
        }
        self.go_on(tag).await;
    }

    /// Asks for what is missing, or ends the command.
    async fn go_on(&mut self, tag: u32) {
        let at_once = self.manner.bursts_at_once.min(self.terms.max_r2t).max(1);
        while let Some(write) = self.writes.get(&tag) {
            let outstanding = u32::try_from(write.bursts.len()).unwrap_or(u32::MAX);
            if write.unsolicited || outstanding >= at_once {
                return;
            }
            if write.asked >= write.needs {
                if outstanding == 0 {
                    self.end_write(tag).await;
                }
                return;
            }
            let wished = self
                .manner
                .bursts
                .get(length(write.r2ts) % self.manner.bursts.len().max(1));
            let most = wished.map_or(self.terms.max_burst, |wish| (*wish).max(1));
            let taken = most
                .min(self.terms.max_burst)
                .min(write.needs - write.asked);
            self.solicit(tag, write.asked, taken).await;
        }
    }

    /// Sends an R2T for these bytes of a command.
    pub(crate) async fn solicit(&mut self, tag: u32, offset: u32, bytes: u32) {
        let transfer = self.transfer_tag();
        let Some(write) = self.writes.get_mut(&tag) else {
            return;
        };
        let header = ReadyToTransfer {
            flags: FINAL,
            lun: write.command.lun,
            initiator_task_tag: tag.into(),
            target_transfer_tag: transfer.into(),
            r2t_sn: write.r2ts.into(),
            buffer_offset: offset.into(),
            desired_data_transfer_length: bytes.into(),
            ..ReadyToTransfer::default()
        };
        write.r2ts += 1;
        write.asked = write.asked.max(offset.saturating_add(bytes));
        write.bursts.push(Burst {
            tag: transfer,
            start: offset,
            end: offset.saturating_add(bytes),
            at: offset,
            data_sn: 0,
        });
        self.tell(header).await;
    }

    async fn end_write(&mut self, tag: u32) {
        let Some(write) = self.writes.remove(&tag) else {
            return;
        };
        let answer = self.execute(&write.command, &write.gathered.freeze());
        self.respond(&write.command, &answer, write.r2ts).await;
    }
}

/// The longest write that is kept in memory.
const LONGEST_WRITE: u32 = 32 * 1024 * 1024;
/// ILLEGAL REQUEST, PARAMETER LIST LENGTH ERROR.
const PARAMETER_LIST_LENGTH: [u8; 18] =
    [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x1a, 0, 0, 0, 0, 0];
