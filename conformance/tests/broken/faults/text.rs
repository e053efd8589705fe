//! Targets that break the rules of `text`.

use std::collections::BTreeSet;

use bytes::Bytes;
use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::{CONTINUE, FINAL, RESERVED_TAG, TextRequest, TextResponse};

use crate::broken::{Fault, Kind, Saboteur, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("text.final", "a final response has a tag", || {
        responses(|response, _| response.target_transfer_tag = 7.into())
    }),
    fault("text.final", "no response is ever final", || {
        responses(|response, _| response.flags &= !FINAL)
    }),
    fault("text.final", "the F bit and the C bit go together", || {
        responses(|response, _| response.flags |= CONTINUE)
    }),
    fault("text.not-final", "every response is final", || {
        responses(|response, _| {
            response.flags |= FINAL;
            response.target_transfer_tag = RESERVED_TAG.into();
        })
    }),
    fault("text.not-final", "there is no tag to go on with", || {
        responses(|response, _| response.target_transfer_tag = RESERVED_TAG.into())
    }),
    fault("text.continued", "a piece is answered", || {
        responses(|response, text| {
            if response.flags & FINAL == 0 {
                *text = Bytes::from_static(b"X-org.vmthunder.k00=NotUnderstood\0");
            }
        })
    }),
    fault("text.continued", "a piece is taken for the whole", || {
        requests(|request, _| {
            if request.flags & CONTINUE != 0 {
                request.flags = FINAL;
            }
        })
    }),
    fault(
        "text.length",
        "what is behind the fifteenth key is lost",
        || edit::asked_keys(|pairs| pairs.truncate(15)),
    ),
    fault(
        "text.answer-length",
        "the answer comes in one piece",
        || {
            edit::asked_keys(|pairs| {
                for (key, value) in pairs {
                    if key == "MaxRecvDataSegmentLength" {
                        "8192".clone_into(value);
                    }
                }
            })
        },
    ),
    fault(
        "text.answer-length",
        "the second piece is the first again",
        || {
            let mut first: Option<Bytes> = None;
            responses(move |_, text| match &first {
                None => first = Some(text.clone()),
                Some(first) => *text = first.clone(),
            })
        },
    ),
    fault(
        "text.tag.unknown",
        "a tag that nobody gave is not looked at",
        || requests(|request, _| request.target_transfer_tag = RESERVED_TAG.into()),
    ),
    fault("text.tag.stale", "a tag is good for ever", || {
        let mut used = BTreeSet::new();
        requests(move |request, _| {
            let tag = request.target_transfer_tag.get();
            if !used.insert(tag) {
                request.target_transfer_tag = RESERVED_TAG.into();
            }
        })
    }),
    fault(
        "text.restart",
        "who begins anew is told off for the same key",
        || {
            let mut seen = BTreeSet::new();
            edit::answer(move |pdu, lane| {
                let Header::TextRequest(request) = &pdu.header else {
                    return None;
                };
                let again = !seen.insert(request.initiator_task_tag.get());
                again.then(|| vec![edit::reject(pdu, 0x04, lane)])
            })
        },
    ),
    fault("text.immediate", "immediate requests are counted", || {
        responses(|response, _| {
            response.exp_cmd_sn = (response.exp_cmd_sn.get().wrapping_add(1)).into();
        })
    }),
    fault(
        "text.numbered",
        "the response comes ahead of the count",
        || {
            responses(|response, _| {
                response.exp_cmd_sn = (response.exp_cmd_sn.get().wrapping_sub(1)).into();
            })
        },
    ),
    fault("text.stat-sn", "Text Responses are not counted", || {
        let mut first = None;
        responses(move |response, _| {
            response.stat_sn = *first.get_or_insert(response.stat_sn);
        })
    }),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Plain,
        saboteur,
    }
}

/// Rewrites Text Responses.
pub(crate) fn responses(
    mut edit: impl FnMut(&mut TextResponse, &mut Bytes) + Send + 'static,
) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::TextResponse(response) = &mut pdu.header {
            edit(response, &mut pdu.data);
        }
    })
}

/// Rewrites Text Requests before the target sees them.
pub(crate) fn requests(
    mut edit: impl FnMut(&mut TextRequest, &mut Bytes) + Send + 'static,
) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::TextRequest(request) = &mut pdu.header {
            edit(request, &mut pdu.data);
        }
    })
}
