//! Sense data, and which errors have which codes (SPC-3 §4.5, §6.27; RFC 7143 §11.4.7).

use iscsi_proto::scsi::SenseSpecific;
use iscsi_proto::wire::Header;

use super::{capacity, inquiry, room};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::fields::Fields;
use crate::session::{CHECK_CONDITION, Reply, Session, Task};
use crate::words;

checks! {
    "sense.autosense", "RFC 7143 §11.4.7", Must, Reads,
        "commands with an unknown operation code, an invalid field, an address out of range"
        => "CHECK CONDITION, each time with sense data in the SCSI Response", autosense;
    "sense.length", "RFC 7143 §11.4.7.1", Must, Reads,
        "a command with an invalid field"
        => "SenseLength within the data segment, and sense data that reaches the additional sense code", length;
    "sense.format", "SPC-3 §7.4.6", Must, Reads,
        "a command with an invalid field, and MODE SENSE for the control page"
        => "current sense in fixed format (70h), or in descriptor format (72h) where D_SENSE is one", format;
    "sense.field-pointer", "SPC-3 §4.5.2.4.2", Must, Reads,
        "INQUIRY with EVPD zero and a page code"
        => "a field pointer, if any, that points at these fields of the CDB", field_pointer;
    "sense.opcode", "SPC-3 §4.5.6", Must, Reads,
        "operation code 1Fh, which no command has"
        => "ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE", opcode;
    "sense.service-action", "SPC-3 §4.5.6", Must, Reads,
        "SERVICE ACTION IN (16) with service action 1Fh, which is reserved"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB or INVALID COMMAND OPERATION CODE", service_action;
    "sense.naca", "SAM-5 §5.2", Must, Reads,
        "TEST UNIT READY with NACA, where NORMACA is zero"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", naca;
    "sense.unsupported-unit", "SAM-5 §5.11", Must, Reads,
        "TEST UNIT READY to a logical unit that does not exist"
        => "ILLEGAL REQUEST, LOGICAL UNIT NOT SUPPORTED", unsupported_unit;
    "sense.address.beyond", "SBC-3 §5.13", Must, Reads,
        "READ (16) of the block behind the last one"
        => "ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE", beyond;
    "sense.address.across", "SBC-3 §5.13", Must, Reads,
        "READ (16) of two blocks, the first of which is the last one"
        => "ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE, and no data", across;
    "sense.address.wrap", "SBC-3 §5.13", Must, Reads,
        "READ (16) of two blocks from address FFFFFFFFFFFFFFFFh on"
        => "ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE", wrap;
    "sense.request.none", "SPC-3 §6.27", Must, Reads,
        "REQUEST SENSE where nothing is pending"
        => "GOOD with NO SENSE, NO ADDITIONAL SENSE INFORMATION", request_none;
    "sense.request.after-autosense", "RFC 7143 §11.4.7", Must, Reads,
        "a command with an invalid field, then REQUEST SENSE"
        => "GOOD with NO SENSE: the sense data has gone with the SCSI Response", request_after_autosense;
    "sense.request.fixed", "SPC-3 §6.27", Must, Reads,
        "REQUEST SENSE with DESC zero"
        => "18 bytes or more of current sense in fixed format", request_fixed;
    "sense.request.descriptor", "SPC-3 §6.27", Must, Reads,
        "REQUEST SENSE with DESC one"
        => "current sense in descriptor format, or INVALID FIELD IN CDB, or fixed format where D_SENSE cannot be one", request_descriptor;
    "sense.request.allocation", "SPC-3 §4.3.4.6", Must, Reads,
        "REQUEST SENSE with ALLOCATION LENGTH 8 and 0"
        => "so many bytes, ADDITIONAL SENSE LENGTH not adjusted to the cut", request_allocation;
    "sense.request.unsupported-unit", "SPC-3 §6.27", Must, Reads,
        "REQUEST SENSE to a logical unit that does not exist"
        => "GOOD, and LOGICAL UNIT NOT SUPPORTED as its data", request_unsupported_unit;
}

async fn autosense(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let beyond = capacity::read_16(bench.facts.blocks, 1, bench.facts.block_bytes);
    for (what, task) in [
        ("an unknown operation code", Task::bare(&[UNKNOWN])),
        ("an invalid field", invalid_field()),
        ("an address out of range", beyond),
    ] {
        let reply = session.run(&task).await?;
        ensure!(
            reply.status == CHECK_CONDITION,
            "a command with {what}: {} instead of CHECK CONDITION",
            reply.outcome()
        );
        ensure!(
            reply.sense.is_some(),
            "CHECK CONDITION of a command with {what} comes without sense data"
        );
    }
    Ok(())
}

async fn length(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&invalid_field()).await?;
    let segment = segment(&reply)?;
    let length = usize::from(Fields::of("the data of the SCSI Response", segment).two(0)?);
    ensure!(
        length + 2 <= segment.len(),
        "SenseLength is {length}, and the data segment has {} bytes behind it",
        segment.len().saturating_sub(2)
    );
    let sense = segment.get(2..2 + length).unwrap_or_default();
    let fields = Fields::of("the sense data", sense);
    let enough = match fields.byte(0)? & 0x7f {
        // Up to the additional sense code qualifier in fixed format.
        0x70 | 0x71 => length >= 14 && fields.byte(7)? >= 6,
        _ => length >= 8,
    };
    ensure!(
        enough,
        "{length} bytes of sense data end before the additional sense code: {}",
        words::hex(sense)
    );
    Ok(())
}

async fn format(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let (described, _) = descriptor_bit(&mut session).await?;
    let reply = session.run(&invalid_field()).await?;
    let segment = segment(&reply)?;
    let code = Fields::of("the data of the SCSI Response", segment).byte(2)? & 0x7f;
    let wanted = if described { 0x72 } else { 0x70 };
    ensure!(
        code == wanted,
        "the response code of the sense data is {code:02x}h instead of {wanted:02x}h, D_SENSE being {}",
        u8::from(described)
    );
    Ok(())
}

async fn field_pointer(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&invalid_field()).await?;
    let specific = reply.sense.and_then(|sense| sense.specific);
    let Some(SenseSpecific::Field {
        in_command, byte, ..
    }) = specific
    else {
        skip!("SKSV is zero: no field is pointed at");
    };
    // EVPD is in byte 1, the page code in byte 2: either can be said to be the one that is wrong.
    ensure!(
        in_command && (byte == 1 || byte == 2),
        "the field pointer has C/D {} and points at byte {byte}, while bytes 1 and 2 of the CDB do not fit",
        u8::from(in_command)
    );
    Ok(())
}

async fn opcode(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&Task::bare(&[UNKNOWN])).await?;
    reply.fails_with("operation code 1Fh", 5, 0x20, 0)
}

async fn service_action(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&Task::bare(&[0x9e, 0x1f])).await?;
    // SPC-3 has both codes for it: of a field, and of a command that both bytes name.
    ensure!(
        reply.is_unknown_opcode() || reply.codes() == (5, 0x24, 0),
        "service action 1Fh of SERVICE ACTION IN (16): {} instead of CHECK CONDITION 5/24/00 or 5/20/00",
        reply.outcome()
    );
    Ok(())
}

async fn naca(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = inquiry::standard_data(&mut session).await?;
    if Fields::of("standard INQUIRY data", &data).byte(3)? & 0x20 != 0 {
        skip!("NORMACA is one: ACA is supported");
    }
    let reply = session.run(&Task::bare(&[0, 0, 0, 0, 0, 0x04])).await?;
    reply.fails_with("TEST UNIT READY with NACA", 5, 0x24, 0)
}

async fn unsupported_unit(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    capacity::leave_for_no_unit(&mut session).await?;
    let reply = session.run(&Task::bare(&[0; 6])).await?;
    reply.fails_with("TEST UNIT READY to a unit that does not exist", 5, 0x25, 0)
}

async fn beyond(bench: &Bench) -> Verdict {
    out_of_range(bench, bench.facts.blocks, 1).await
}

async fn across(bench: &Bench) -> Verdict {
    out_of_range(bench, bench.facts.blocks.saturating_sub(1), 2).await
}

async fn wrap(bench: &Bench) -> Verdict {
    out_of_range(bench, u64::MAX, 2).await
}

async fn out_of_range(bench: &Bench, lba: u64, blocks: u32) -> Verdict {
    let mut session = bench.session().await?;
    let bytes = bench.facts.block_bytes.saturating_mul(blocks);
    let reply = session.run(&capacity::read_16(lba, blocks, bytes)).await?;
    let what = format!("READ (16) of {blocks} blocks from {lba:#x} on");
    reply.fails_with(&what, 5, 0x21, 0)?;
    ensure!(
        reply.data.is_empty(),
        "{what} brings {} bytes, and LOGICAL BLOCK ADDRESS OUT OF RANGE",
        reply.data.len()
    );
    Ok(())
}

async fn request_none(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    nothing_pending(&mut session, "TEST UNIT READY is GOOD").await
}

async fn request_after_autosense(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&invalid_field()).await?;
    let outcome = reply.outcome();
    nothing_pending(&mut session, &format!("the last command had {outcome}")).await
}

async fn nothing_pending(session: &mut Session, when: &str) -> Verdict {
    let (key, (asc, ascq)) = requested(session).await?;
    // Power conditions and the like are told with NO SENSE, too.
    ensure!(
        key == 0 && ((asc, ascq) == (0, 0) || asc == 0x5e),
        "REQUEST SENSE brings {key:x}/{asc:02x}/{ascq:02x}, while {when}"
    );
    Ok(())
}

async fn request_fixed(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = session.run(&request(0, 252)).await?;
    let data = data.good("REQUEST SENSE")?.data;
    let fields = Fields::of("the data of REQUEST SENSE", &data);
    ensure!(
        fields.byte(0)? & 0x7f == 0x70,
        "REQUEST SENSE with DESC zero brings response code {:02x}h instead of 70h",
        fields.byte(0)? & 0x7f
    );
    ensure!(
        data.len() >= 18 && usize::from(fields.byte(7)?) + 8 == data.len(),
        "{} bytes of sense data, with ADDITIONAL SENSE LENGTH {}",
        data.len(),
        fields.byte(7)?
    );
    Ok(())
}

async fn request_descriptor(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    // Descriptor format is no duty, and who does not have it may say so in two ways.
    let (set, changeable) = descriptor_bit(&mut session).await?;
    let reply = session.run(&request(1, 252)).await?;
    if reply.codes() == (5, 0x24, 0) {
        return Ok(());
    }
    let data = reply.good("REQUEST SENSE with DESC")?.data;
    let fields = Fields::of("the data of REQUEST SENSE", &data);
    let code = fields.byte(0)? & 0x7f;
    if code == 0x70 && !set && !changeable {
        skip!("D_SENSE cannot be one: there is no descriptor format");
    }
    ensure!(
        code == 0x72,
        "REQUEST SENSE with DESC one brings response code {code:02x}h instead of 72h"
    );
    ensure!(
        usize::from(fields.byte(7)?) + 8 == data.len(),
        "{} bytes of sense data, with ADDITIONAL SENSE LENGTH {}",
        data.len(),
        fields.byte(7)?
    );
    Ok(())
}

async fn request_allocation(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let whole = session.run(&request(0, 252)).await?;
    let whole = whole.good("REQUEST SENSE")?.data;
    for bytes in [8, 0] {
        let task = request(0, bytes);
        room::is_cut(&mut session, "REQUEST SENSE", task, bytes.into(), &whole).await?;
    }
    Ok(())
}

async fn request_unsupported_unit(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    capacity::leave_for_no_unit(&mut session).await?;
    let (key, (asc, ascq)) = requested(&mut session).await?;
    ensure!(
        (key, asc, ascq) == (5, 0x25, 0),
        "REQUEST SENSE to a unit that does not exist brings {key:x}/{asc:02x}/{ascq:02x} instead of 5/25/00"
    );
    Ok(())
}

/// What REQUEST SENSE brings in fixed format: sense key, additional sense code and its qualifier.
pub(super) async fn requested(session: &mut Session) -> Result<(u8, (u8, u8)), Finding> {
    let reply = session.run(&request(0, 252)).await?;
    let data = reply.good("REQUEST SENSE")?.data;
    let fields = Fields::of("the data of REQUEST SENSE", &data);
    Ok((fields.byte(2)? & 0x0f, (fields.byte(12)?, fields.byte(13)?)))
}

/// D_SENSE, and whether it can be changed. Without a control page it is zero: fixed format is what everybody
/// understands.
async fn descriptor_bit(session: &mut Session) -> Result<(bool, bool), Finding> {
    let mut bits = [false; 2];
    // Current values, then changeable ones.
    for (bit, page) in bits.iter_mut().zip([0x0a, 0x4a]) {
        let task = Task::read(&[0x1a, 0x08, page, 0, 255, 0], 255);
        let control = session.run(&task).await?.data;
        *bit = control.get(6).is_some_and(|byte| byte & 0x04 != 0);
    }
    Ok(bits.into())
}

fn request(descriptor: u8, allocation: u8) -> Task {
    Task::read(&[0x03, descriptor, 0, 0, allocation, 0], allocation.into())
}

/// INQUIRY with EVPD zero and a page code.
fn invalid_field() -> Task {
    Task::read(&[0x12, 0, 0x83, 0, 255, 0], 255)
}

/// The data segment of a SCSI Response.
fn segment(reply: &Reply) -> Result<&[u8], Finding> {
    let response = reply.pdus.last();
    match response.map(|pdu| (&pdu.header, &pdu.data)) {
        Some((Header::ScsiResponse(_), data)) => Ok(data),
        _ => Err(Finding::Violation(format!(
            "INQUIRY with EVPD zero and a page code: {} instead of CHECK CONDITION",
            reply.outcome()
        ))),
    }
}

/// An operation code that no command of any device type has.
const UNKNOWN: u8 = 0x1f;
