//! Commands that fail, and connections that break in their midst: nobody may be told that they went well.

use crate::check::Verdict;
use crate::initiator::drill::drills;
use crate::initiator::drills::spoil::{Spoil, spoiled, spoiled_write};
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;

drills! {
    "status.busy", "SAM-5 §5.3", Must, Normal, Either,
        "BUSY for a read"
        => "the read is repeated, or fails", busy;
    "status.busy.write", "SAM-5 §5.3", Must, Normal, Either,
        "BUSY for a write"
        => "the write is repeated, or fails", busy_write;
    "status.task-set-full", "SAM-5 §5.3", Must, Normal, Either,
        "TASK SET FULL for a read"
        => "the read is repeated, or fails", full;
    "status.attention", "SAM-5 §5.14", Must, Normal, Either,
        "a Unit Attention, 29h/00h, for a read"
        => "the read is repeated, or fails", attention;
    "status.attention.write", "SAM-5 §5.14", Must, Normal, Either,
        "a Unit Attention, 29h/00h, for a write"
        => "the write is repeated, or fails", attention_write;
    "status.descriptor-sense", "SPC-4 §4.5", Must, Normal, Either,
        "MEDIUM ERROR for a read, with sense data in descriptor format"
        => "the read is repeated, or fails", descriptor;
    "status.failure", "RFC 7143 §11.4.3", Must, Normal, Either,
        "response 01h, target failure, with a status of GOOD, for a read"
        => "the read is repeated, or fails", failure;
    "loss.read", "RFC 7143 §7.14", Must, Normal, Either,
        "a closed connection in answer to a read"
        => "the read is repeated in another session, or fails", read;
    "loss.data-in", "RFC 7143 §7.14", Must, Normal, Either,
        "a closed connection in the midst of the data of a read"
        => "the read is repeated in another session, or fails", data_in;
    "loss.write", "RFC 7143 §7.14", Must, Normal, Either,
        "a closed connection in answer to a write"
        => "the write is repeated in another session, or fails", write;
    "loss.data-out", "RFC 7143 §7.14", Must, Normal, Either,
        "a closed connection behind an R2T"
        => "the write is repeated in another session, or fails", data_out;
}

async fn busy(stage: &mut Stage) -> Verdict {
    spoiled(stage, &Manner::PLAIN, Spoil::Status(0x08, &[])).await
}

async fn busy_write(stage: &mut Stage) -> Verdict {
    spoiled_write(stage, &SOLICITED, Spoil::Status(0x08, &[])).await
}

async fn full(stage: &mut Stage) -> Verdict {
    spoiled(stage, &Manner::PLAIN, Spoil::Status(0x28, &[])).await
}

async fn attention(stage: &mut Stage) -> Verdict {
    spoiled(stage, &Manner::PLAIN, Spoil::Status(0x02, ATTENTION)).await
}

async fn attention_write(stage: &mut Stage) -> Verdict {
    spoiled_write(stage, &SOLICITED, Spoil::Status(0x02, ATTENTION)).await
}

async fn descriptor(stage: &mut Stage) -> Verdict {
    spoiled(stage, &Manner::PLAIN, Spoil::Status(0x02, MEDIUM_ERROR)).await
}

async fn failure(stage: &mut Stage) -> Verdict {
    spoiled(stage, &Manner::PLAIN, Spoil::Response(0x01)).await
}

async fn read(stage: &mut Stage) -> Verdict {
    spoiled(stage, &Manner::PLAIN, Spoil::Close).await
}

async fn data_in(stage: &mut Stage) -> Verdict {
    spoiled(stage, &Manner::PLAIN, Spoil::CloseInTheMiddle).await
}

async fn write(stage: &mut Stage) -> Verdict {
    spoiled_write(stage, &Manner::PLAIN, Spoil::Close).await
}

async fn data_out(stage: &mut Stage) -> Verdict {
    spoiled_write(stage, &SOLICITED, Spoil::CloseInTheMiddle).await
}

/// No data comes by itself that a failed write would have to wait for.
const SOLICITED: Manner = Manner {
    wants: &[("ImmediateData", "No"), ("InitialR2T", "Yes")],
    ..Manner::PLAIN
};
/// UNIT ATTENTION, POWER ON, RESET, OR BUS DEVICE RESET OCCURRED, in fixed format.
const ATTENTION: &[u8] = &[0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0];
/// MEDIUM ERROR, UNRECOVERED READ ERROR, in descriptor format with an information descriptor.
const MEDIUM_ERROR: &[u8] = &[
    0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1,
];
