//! Data of the initiator: immediate, unsolicited, and in answer to R2Ts (RFC 7143 §4.2.5.2, §11.7, §13).

use iscsi_proto::wire::bhs::{DataOut, FINAL, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};

use crate::check::{Finding, Verdict, ensure, violation};
use crate::initiator::caller::Caller;
use crate::initiator::drill::drills;
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;
use crate::initiator::terms::{length, word};
use crate::initiator::write::{Burst, Write};
use crate::wire::Heard;

drills! {
    "data-out.immediate.off", "RFC 7143 §13.11", Must, Normal, Succeeds,
        "ImmediateData=No"
        => "no data comes with a command", immediate_off;
    "data-out.unsolicited.off", "RFC 7143 §13.10", Must, Normal, Succeeds,
        "InitialR2T=Yes"
        => "no Data-Out comes that no R2T asked for", unsolicited_off;
    "data-out.first-burst", "RFC 7143 §13.14", Must, Normal, Succeeds,
        "FirstBurstLength=4096, and unsolicited data allowed"
        => "no command brings more than 4096 unsolicited bytes", first_burst;
    "data-out.unsolicited.whole", "RFC 7143 §4.2.5.2", Must, Normal, Succeeds,
        "FirstBurstLength=4096, MaxRecvDataSegmentLength=1024, and unsolicited data allowed"
        => "unsolicited Data-Outs fill the first burst, or bring all data of the command", whole;
    "data-out.segment", "RFC 7143 §13.12", Must, Normal, Succeeds,
        "MaxRecvDataSegmentLength=512"
        => "no PDU has more than 512 bytes of data", segment;
    "data-out.offset", "RFC 7143 §11.7.6", Must, Normal, Succeeds,
        "R2Ts for 8192 bytes each, one after the other"
        => "the data begins where the R2T says, and each Data-Out continues the one before", offset;
    "data-out.final", "RFC 7143 §11.7.1", Must, Normal, Succeeds,
        "R2Ts for 8192 bytes each, one after the other"
        => "F is set in the last Data-Out of what an R2T asked for, and there alone", last;
    "data-out.amount", "RFC 7143 §4.2.5.2", Must, Normal, Succeeds,
        "R2Ts for 1000, 4, 2050 and 515 bytes, over and over again"
        => "exactly so many bytes come for each", amount;
    "data-out.data-sn", "RFC 7143 §11.7.5", Must, Normal, Succeeds,
        "MaxRecvDataSegmentLength=1024 and R2Ts for 8192 bytes"
        => "DataSN begins at 0 for each R2T and goes up by 1", data_sn;
    "data-out.unsolicited.data-sn", "RFC 7143 §11.7.5", Must, Normal, Succeeds,
        "MaxRecvDataSegmentLength=1024, and unsolicited data allowed"
        => "DataSN of unsolicited data begins at 0 and goes up by 1", unsolicited_data_sn;
    "data-out.transfer-tag", "RFC 7143 §11.7.4", Must, Normal, Succeeds,
        "R2Ts, each with a Target Transfer Tag of its own"
        => "the Target Transfer Tag is that of an R2T of the same command, or the reserved one for unsolicited data", transfer_tag;
    "data-out.lun", "RFC 7143 §11.7.4", Must, Normal, Succeeds,
        "R2Ts with the LUN of the command"
        => "the LUN is that of the command", lun;
    "data-out.several", "RFC 7143 §13.19", Must, Normal, Succeeds,
        "up to four R2Ts of 4096 bytes at once, if MaxOutstandingR2T allows it"
        => "all are answered, in the order of their offsets", several;
}

async fn immediate_off(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[("ImmediateData", "No")],
        ..Manner::PLAIN
    };
    writes(stage, &manner, |caller, pdu| {
        if !is_write(pdu) {
            return Ok(false);
        }
        ensure!(
            caller.terms.immediate_data || pdu.data.is_empty(),
            "a command brings {} bytes along, although ImmediateData=No was agreed on",
            pdu.data.len()
        );
        Ok(!caller.terms.immediate_data)
    })
    .await
}

async fn unsolicited_off(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[("InitialR2T", "Yes"), ("FirstBurstLength", "4096")],
        bursts: &[65_536],
        ..Manner::PLAIN
    };
    writes(stage, &manner, |_, pdu| {
        if let Header::DataOut(data) = &pdu.header {
            ensure!(
                data.target_transfer_tag.get() != RESERVED_TAG,
                "a Data-Out comes that no R2T asked for, although InitialR2T=Yes was agreed on"
            );
        }
        if is_write(pdu) {
            ensure!(
                pdu.header.common().flags & FINAL != 0,
                "a command without F announces unsolicited data, although InitialR2T=Yes was agreed on"
            );
        }
        Ok(is_write(pdu))
    })
    .await
}

/// Unsolicited data is allowed, but not much of it.
const SMALL_FIRST_BURST: Manner = Manner {
    wants: &[
        ("FirstBurstLength", "4096"),
        ("MaxRecvDataSegmentLength", "1024"),
    ],
    ..Manner::PLAIN
};

async fn first_burst(stage: &mut Stage) -> Verdict {
    writes(stage, &SMALL_FIRST_BURST, |caller, pdu| {
        let most = caller.terms.first_burst;
        let before = match &pdu.header {
            Header::DataOut(data) if data.target_transfer_tag.get() == RESERVED_TAG => {
                let write = write_of(caller, data);
                write.map_or(0, |write| write.unasked)
            }
            _ if is_write(pdu) => 0,
            _ => return Ok(false),
        };
        let unsolicited = u64::from(before) + pdu.data.len() as u64;
        ensure!(
            unsolicited <= u64::from(most),
            "a command brings {unsolicited} unsolicited bytes, while FirstBurstLength is {most}"
        );
        Ok(true)
    })
    .await
}

async fn whole(stage: &mut Stage) -> Verdict {
    writes(stage, &SMALL_FIRST_BURST, |caller, pdu| {
        let Header::DataOut(data) = &pdu.header else {
            return Ok(false);
        };
        let unsolicited = data.target_transfer_tag.get() == RESERVED_TAG;
        let (true, Some(write)) = (unsolicited && data.flags & FINAL != 0, write_of(caller, data))
        else {
            return Ok(false);
        };
        let expected = write.command.expected_data_transfer_length.get();
        let due = expected.min(caller.terms.first_burst);
        let sent = write.unasked.saturating_add(word(pdu.data.len()));
        ensure!(
            sent == due,
            "{sent} unsolicited bytes come for a command of {expected}, where FirstBurstLength {} asks for {due}",
            caller.terms.first_burst
        );
        Ok(true)
    })
    .await
}

async fn segment(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[("MaxRecvDataSegmentLength", "512")],
        ..Manner::PLAIN
    };
    writes(stage, &manner, |caller, pdu| {
        let most = length(caller.terms.target_segment);
        ensure!(
            pdu.data.len() <= most,
            "{} with {} bytes of data, while the target takes {most}",
            Heard::Pdu(pdu.clone()),
            pdu.data.len()
        );
        Ok(!pdu.data.is_empty())
    })
    .await
}

async fn offset(stage: &mut Stage) -> Verdict {
    bursts(stage, &BURSTS, |burst, data, _| {
        let at = data.buffer_offset.get();
        ensure!(
            at == burst.at,
            "a Data-Out has offset {at} where {} is next",
            burst.at
        );
        Ok(())
    })
    .await
}

async fn last(stage: &mut Stage) -> Verdict {
    bursts(stage, &BURSTS, |burst, data, pdu| {
        let end = data
            .buffer_offset
            .get()
            .saturating_add(word(pdu.data.len()));
        let last = data.flags & FINAL != 0;
        ensure!(
            last == (end >= burst.end),
            "a Data-Out up to byte {end} of a burst that ends at {} has F={}",
            burst.end,
            u8::from(last)
        );
        Ok(())
    })
    .await
}

async fn amount(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        bursts: &[1000, 4, 2050, 515],
        ..BURSTS
    };
    bursts(stage, &manner, |burst, data, pdu| {
        let end = data
            .buffer_offset
            .get()
            .saturating_add(word(pdu.data.len()));
        ensure!(
            end <= burst.end,
            "an R2T asked for bytes {} to {}, and a Data-Out brings bytes up to {end}",
            burst.start,
            burst.end
        );
        ensure!(
            data.flags & FINAL == 0 || end == burst.end,
            "an R2T asked for bytes {} to {}, and the last Data-Out ends at {end}",
            burst.start,
            burst.end
        );
        Ok(())
    })
    .await
}

async fn data_sn(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[
            ("MaxRecvDataSegmentLength", "1024"),
            ("ImmediateData", "No"),
            ("InitialR2T", "Yes"),
        ],
        ..BURSTS
    };
    bursts(stage, &manner, |burst, data, _| {
        let number = data.data_sn.get();
        ensure!(
            number == burst.data_sn,
            "a Data-Out has DataSN {number} where {} is next for its R2T",
            burst.data_sn
        );
        Ok(())
    })
    .await
}

async fn unsolicited_data_sn(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[("MaxRecvDataSegmentLength", "1024")],
        ..Manner::PLAIN
    };
    let mut next = (0, 0);
    writes(stage, &manner, |_, pdu| {
        let Header::DataOut(data) = &pdu.header else {
            return Ok(false);
        };
        if data.target_transfer_tag.get() != RESERVED_TAG {
            return Ok(false);
        }
        let (tag, number) = (data.initiator_task_tag.get(), data.data_sn.get());
        let due = if next.0 == tag { next.1 } else { 0 };
        ensure!(
            number == due,
            "an unsolicited Data-Out has DataSN {number} where {due} is next"
        );
        next = match data.flags & FINAL {
            0 => (tag, due + 1),
            _ => (0, 0),
        };
        Ok(true)
    })
    .await
}

async fn transfer_tag(stage: &mut Stage) -> Verdict {
    writes(stage, &BURSTS, |caller, pdu| {
        let Header::DataOut(data) = &pdu.header else {
            return Ok(false);
        };
        let tag = data.target_transfer_tag.get();
        let Some(write) = write_of(caller, data) else {
            violation!(
                "a Data-Out for task {:08x}, which no write under way has",
                data.initiator_task_tag.get()
            );
        };
        let known = match tag {
            RESERVED_TAG => write.unsolicited,
            tag => write.bursts.iter().any(|burst| burst.tag == tag),
        };
        ensure!(
            known,
            "a Data-Out has Target Transfer Tag {tag:08x}, which no R2T of its command has"
        );
        Ok(true)
    })
    .await
}

async fn lun(stage: &mut Stage) -> Verdict {
    writes(stage, &BURSTS, |caller, pdu| {
        let Header::DataOut(data) = &pdu.header else {
            return Ok(false);
        };
        let Some(write) = write_of(caller, data) else {
            return Ok(false);
        };
        // Reserved where no R2T is answered.
        let due = match data.target_transfer_tag.get() {
            RESERVED_TAG => return Ok(false),
            _ => write.command.lun.get(),
        };
        ensure!(
            data.lun.get() == due,
            "the LUN of the command is {due:016x}, of its Data-Out {:016x}",
            data.lun.get()
        );
        Ok(true)
    })
    .await
}

async fn several(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[("ImmediateData", "No"), ("InitialR2T", "Yes")],
        bursts: &[4096],
        bursts_at_once: 4,
        ..Manner::PLAIN
    };
    let look = |caller: &Caller, pdu: &Pdu| {
        let Header::DataOut(data) = &pdu.header else {
            return Ok(false);
        };
        let Some(write) = write_of(caller, data) else {
            return Ok(false);
        };
        let Some(first) = write.bursts.first() else {
            return Ok(false);
        };
        let tag = data.target_transfer_tag.get();
        ensure!(
            tag == first.tag,
            "a Data-Out answers R2T {tag:08x}, while {:08x} for earlier bytes is still open",
            first.tag
        );
        Ok(write.bursts.len() > 1)
    };
    let missing =
        "there were never two R2Ts at once: MaxOutstandingR2T is 1, or nothing long was written";
    stage.watch(&manner, missing, look).await
}

/// R2Ts one after the other.
const BURSTS: Manner = Manner {
    wants: &[("FirstBurstLength", "512"), ("InitialR2T", "Yes")],
    bursts: &[8192],
    ..Manner::PLAIN
};

/// Looks at every Data-Out that answers an R2T.
async fn bursts(
    stage: &mut Stage,
    manner: &Manner,
    judge: impl Fn(&Burst, &DataOut, &Pdu) -> Verdict,
) -> Verdict {
    writes(stage, manner, |caller, pdu| {
        let Header::DataOut(data) = &pdu.header else {
            return Ok(false);
        };
        let tag = data.target_transfer_tag.get();
        let write = write_of(caller, data);
        let burst = write.and_then(|write| write.bursts.iter().find(|burst| burst.tag == tag));
        match burst {
            Some(burst) => judge(burst, data, pdu).map(|()| true),
            None => Ok(false),
        }
    })
    .await
}

async fn writes(
    stage: &mut Stage,
    manner: &Manner,
    look: impl FnMut(&Caller, &Pdu) -> Result<bool, Finding>,
) -> Verdict {
    let missing = "nothing was written that the rule is about";
    stage.watch(manner, missing, look).await
}

fn write_of<'a>(caller: &'a Caller, data: &DataOut) -> Option<&'a Write> {
    caller.writes.get(&data.initiator_task_tag.get())
}

fn is_write(pdu: &Pdu) -> bool {
    matches!(&pdu.header, Header::ScsiCommand(command) if command.flags & 0x20 != 0)
}
