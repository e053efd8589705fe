//! Header and data digests (RFC 7143 §7.8, §11.2.3, §13.1).

use crate::check::Verdict;
use crate::initiator::caller::Caller;
use crate::initiator::drill::drills;
use crate::initiator::drills::spoil::{Spoil, spoiled};
use crate::initiator::manner::{Digests, Manner};
use crate::initiator::stage::Stage;
use iscsi_proto::wire::Pdu;

drills! {
    "digests.header", "RFC 7143 §11.2.3", Must, Normal, Succeeds,
        "HeaderDigest=CRC32C, if it is offered"
        => "the header digest of every PDU is right", header;
    "digests.data", "RFC 7143 §11.2.3", Must, Normal, Succeeds,
        "DataDigest=CRC32C, if it is offered"
        => "the data digest of every PDU with data is right, padding included", data;
    "digests.none", "RFC 7143 §13.1", Must, Normal, Succeeds,
        "HeaderDigest=None and DataDigest=None, although CRC32C is offered, too"
        => "no PDU has a digest", none;
    "digests.header.wrong", "RFC 7143 §7.8", Must, Normal, Either,
        "a Data-In with a wrong header digest"
        => "it is discarded, or the connection closed: the read fails or is repeated", header_wrong;
    "digests.data.wrong", "RFC 7143 §7.8", Must, Normal, Either,
        "a Data-In with a wrong data digest"
        => "it is discarded: asked for again, or the read fails or is repeated", data_wrong;
}

const HEADER: Manner = with(Digests {
    header: true,
    data: false,
});
const DATA: Manner = with(Digests {
    header: false,
    data: true,
});

const fn with(digests: Digests) -> Manner {
    Manner {
        digests,
        // Lengths that take padding.
        bursts: &[1001, 4, 8191],
        ..Manner::PLAIN
    }
}

// What a PDU without the right digest means is decided where it is heard, for all drills.
async fn header(stage: &mut Stage) -> Verdict {
    let look = |caller: &Caller, _: &Pdu| Ok(caller.terms.header_digest);
    stage
        .watch(&HEADER, "no header digest is offered", look)
        .await
}

async fn data(stage: &mut Stage) -> Verdict {
    let look = |caller: &Caller, _: &Pdu| Ok(caller.terms.data_digest);
    stage.watch(&DATA, "no data digest is offered", look).await
}

async fn none(stage: &mut Stage) -> Verdict {
    let look = |caller: &Caller, _: &Pdu| {
        let offered = |key| {
            let mut values = caller.record.keys.get(key).unwrap_or_default().split(',');
            values.any(|value| value == "CRC32C")
        };
        let refused = !caller.terms.header_digest && !caller.terms.data_digest;
        Ok(refused && (offered("HeaderDigest") || offered("DataDigest")))
    };
    let missing = "the initiator does not leave the choice";
    stage.watch(&Manner::PLAIN, missing, look).await
}

async fn header_wrong(stage: &mut Stage) -> Verdict {
    spoiled(stage, &HEADER, Spoil::HeaderDigest).await
}

async fn data_wrong(stage: &mut Stage) -> Verdict {
    spoiled(stage, &DATA, Spoil::DataDigest).await
}
