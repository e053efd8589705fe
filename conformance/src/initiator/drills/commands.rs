//! SCSI Command PDUs, and what holds for all PDUs (RFC 7143 §11, §11.3).

use iscsi_proto::wire::bhs::{FINAL, READ, ScsiCommand, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::check::{Finding, Verdict, ensure};
use crate::initiator::caller::Caller;
use crate::initiator::drill::drills;
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;
use crate::initiator::terms::length;
use crate::wire::Heard;
use crate::words;

drills! {
    "command.direction", "RFC 7143 §11.3.1", Must, Normal, Succeeds,
        "nothing special"
        => "R or W is set when data is expected", direction;
    "command.final", "RFC 7143 §11.3.1", Must, Normal, Succeeds,
        "nothing special"
        => "F is set unless unsolicited data may follow: never without W, nor with all data inside", last;
    "command.attribute", "RFC 7143 §11.3.1", Must, Normal, Succeeds,
        "nothing special"
        => "the task attribute is one of the five that are defined", attribute;
    "pdu.reserved", "RFC 7143 §11", Must, Normal, Succeeds,
        "nothing special"
        => "reserved fields are 0 in all PDUs", reserved;
}

async fn direction(stage: &mut Stage) -> Verdict {
    each(stage, |command, _| {
        let expected = command.expected_data_transfer_length.get();
        ensure!(
            expected == 0 || command.flags & (READ | WRITE) != 0,
            "{expected} bytes are expected, and byte 1 is {:#04x}: neither R nor W is set",
            command.flags
        );
        Ok(true)
    })
    .await
}

async fn last(stage: &mut Stage) -> Verdict {
    each(stage, |command, pdu| {
        let flags = command.flags;
        ensure!(
            flags & (WRITE | FINAL) != 0,
            "byte 1 is {flags:#04x}: neither W nor F is set"
        );
        let all_inside = pdu.data.len() == length(command.expected_data_transfer_length.get());
        ensure!(
            flags & FINAL != 0 || !all_inside,
            "byte 1 is {flags:#04x}: F is not set, although all {} bytes are in the PDU",
            pdu.data.len()
        );
        Ok(true)
    })
    .await
}

async fn attribute(stage: &mut Stage) -> Verdict {
    each(stage, |command, _| {
        let attribute = command.flags & 7;
        ensure!(attribute <= 4, "the task attribute is {attribute}");
        Ok(true)
    })
    .await
}

async fn each(
    stage: &mut Stage,
    look: impl Fn(&ScsiCommand, &Pdu) -> Result<bool, Finding>,
) -> Verdict {
    let look = |_: &Caller, pdu: &Pdu| match &pdu.header {
        Header::ScsiCommand(command) => look(command, pdu),
        _ => Ok(false),
    };
    stage.watch(&Manner::PLAIN, "no command came", look).await
}

async fn reserved(stage: &mut Stage) -> Verdict {
    let look = |_: &Caller, pdu: &Pdu| {
        let bytes = pdu.header.as_bytes();
        for (first, end) in reserved_bytes(&pdu.header) {
            let field = bytes.get(*first..*end).unwrap_or_default();
            ensure!(
                field.iter().all(|byte| *byte == 0),
                "bytes {first} to {} of a {} are {}, and reserved",
                end - 1,
                Heard::Pdu(pdu.clone()),
                words::hex(field)
            );
        }
        let [opcode, flags, ..] = bytes else {
            return Ok(false);
        };
        ensure!(
            opcode & 0x80 == 0,
            "byte 0 of a {} is {opcode:#04x}: bit 0 is reserved",
            Heard::Pdu(pdu.clone())
        );
        let reserved = reserved_flags(&pdu.header);
        ensure!(
            flags & reserved == 0,
            "byte 1 of a {} is {flags:#04x}: the bits {reserved:#04x} are reserved",
            Heard::Pdu(pdu.clone())
        );
        Ok(true)
    };
    stage.watch(&Manner::PLAIN, "no request came", look).await
}

/// Reserved fields of a request, first byte and the one behind the last.
fn reserved_bytes(header: &Header) -> &'static [(usize, usize)] {
    match header {
        Header::ScsiCommand(_) => &[(2, 4)],
        Header::NopOut(_) | Header::TextRequest(_) => &[(2, 4), (32, 48)],
        Header::DataOut(_) => &[(2, 4), (24, 28), (32, 36), (44, 48)],
        Header::LogoutRequest(_) => &[(2, 4), (8, 16), (22, 24), (32, 48)],
        Header::TaskManagementRequest(_) => &[(2, 4), (40, 48)],
        Header::SnackRequest(_) => &[(2, 4), (24, 28), (32, 40)],
        _ => &[],
    }
}

/// Reserved bits of byte 1 of a request.
fn reserved_flags(header: &Header) -> u8 {
    match header {
        Header::ScsiCommand(_) => 0x18,
        Header::NopOut(_) | Header::DataOut(_) => 0x7f,
        Header::TextRequest(_) => 0x3f,
        Header::SnackRequest(_) => 0x70,
        _ => 0,
    }
}
