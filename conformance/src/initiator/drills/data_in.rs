//! Data of the target in all the forms that it may have (RFC 7143 §11.7), and reads that go wrong (§7.8, §7.9).

use crate::check::Verdict;
use crate::initiator::caller::Caller;
use crate::initiator::drill::drills;
use crate::initiator::drills::spoil::{Spoil, spoiled};
use crate::initiator::manner::Manner;
use crate::initiator::scsi::read_of;
use crate::initiator::stage::Stage;
use iscsi_proto::wire::{Header, Pdu};

drills! {
    "data-in.small", "RFC 7143 §11.7", Must, Normal, Succeeds,
        "Data-In of 4, 512, 8, 1024 and 2048 bytes, over and over again"
        => "the data is put together", small;
    "data-in.odd", "RFC 7143 §11.7.7", Must, Normal, Succeeds,
        "Data-In of 1, 3, 1021 and 2047 bytes, padded, each a sequence of its own"
        => "the padding is left out, and the data is put together", odd;
    "data-in.status-apart", "RFC 7143 §11.7.3", Must, Normal, Succeeds,
        "the status in a SCSI Response behind the data"
        => "the command ends with the response, not with the data", apart;
    "data-in.sequences", "RFC 7143 §13.13", Must, Normal, Succeeds,
        "MaxBurstLength=4096: reads in several sequences, each with an F bit"
        => "the F bit does not end the command", sequences;
    "data-in.longest", "RFC 7143 §13.12", Must, Normal, Succeeds,
        "Data-In as long as the initiator declared to take"
        => "they are taken", longest;
    "data-in.empty", "RFC 7143 §11.7.7", Must, Normal, Succeeds,
        "a Data-In without data in front of the others"
        => "it is taken and counted", empty;
    "data-in.gap", "RFC 7143 §7.9", Must, Normal, Either,
        "a read whose second Data-In is left out"
        => "the missing one is asked for, or the read ends with an error or is repeated", gap;
}

async fn small(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        segments: &[4, 512, 8, 1024, 2048],
        ..Manner::PLAIN
    };
    reads(stage, &manner, 2).await
}

async fn odd(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        segments: &[1, 3, 1021, 2047],
        ..Manner::PLAIN
    };
    reads(stage, &manner, 2).await
}

async fn apart(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        status_apart: true,
        ..Manner::PLAIN
    };
    reads(stage, &manner, 1).await
}

async fn sequences(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[("MaxBurstLength", "4096"), ("FirstBurstLength", "4096")],
        ..Manner::PLAIN
    };
    reads(stage, &manner, 2).await
}

async fn longest(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[("MaxBurstLength", "16777215")],
        ..Manner::PLAIN
    };
    let mut seen = false;
    let look = |caller: &Caller, pdu: &Pdu| {
        let full = caller.terms.initiator_segment.min(caller.terms.max_burst);
        seen |= blocks_of(pdu).is_some_and(|blocks| blocks * 512 >= u64::from(full));
        Ok(seen)
    };
    let missing = "nothing was read that fills a segment";
    stage.watch(&manner, missing, look).await
}

/// Such a PDU "should be avoided", but an initiator "MUST be able to properly receive" it (RFC 7143 §11.7.7); and it counts,
/// for DataSN advances by 1 with each Data-In PDU (§4.2.2.4), not with each that has data.
async fn empty(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        empty_first: true,
        ..Manner::PLAIN
    };
    reads(stage, &manner, 1).await
}

/// An initiator need not look for all that a target may do wrong, "unless this document requires it" (RFC 7143 §7.10);
/// a DataSN out of order it MUST treat like a digest error, whether there are digests or not (§7.9). Whatever keeps its
/// user from taking the read for good is enough: §7.8 has it ask again or fail, and allows to begin anew.
async fn gap(stage: &mut Stage) -> Verdict {
    spoiled(stage, &Manner::PLAIN, Spoil::Gap).await
}

/// Serves reads in a manner; there has to be one of so many blocks. That the data is right is what its user says.
async fn reads(stage: &mut Stage, manner: &Manner, least: u64) -> Verdict {
    let look = |_: &Caller, pdu: &Pdu| Ok(blocks_of(pdu).is_some_and(|blocks| blocks >= least));
    let missing = "nothing was read that is long enough";
    stage.watch(manner, missing, look).await
}

fn blocks_of(pdu: &Pdu) -> Option<u64> {
    match &pdu.header {
        Header::ScsiCommand(command) => read_of(&command.cdb).map(|blocks| blocks.count),
        _ => None,
    }
}
