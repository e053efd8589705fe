//! Initiators that ask for targets wrongly.

use iscsi_proto::wire::bhs::{FINAL, IMMEDIATE, NopOut, TextRequest};
use iscsi_proto::wire::{Header, Pdu, text};

use crate::stumbling::faults::login_keys::hangs_up;
use crate::stumbling::faults::numbering::change;
use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "discovery by nobody",
        trips: "discovery.names",
        saboteur: || edit::asked_keys(|keys| keys.retain(|(key, _)| key != "InitiatorName")),
    },
    Fault {
        name: "SendTargets=all",
        trips: "discovery.request",
        saboteur: || {
            edit::asked_keys(|keys| {
                for (key, value) in keys {
                    if key == "SendTargets" {
                        "all".clone_into(value);
                    }
                }
            })
        },
    },
    Fault {
        name: "another key beside SendTargets",
        trips: "discovery.request",
        saboteur: || {
            texts(|_, pdu| {
                let keys = [("SendTargets", "All"), ("MaxRecvDataSegmentLength", "8192")];
                pdu.data = text::encode(&keys);
            })
        },
    },
    Fault {
        name: "SendTargets without F",
        trips: "discovery.request",
        saboteur: || fields(|number, text| text.flags &= if number == 0 { !FINAL } else { 0xff }),
    },
    Fault {
        name: "a Target Transfer Tag of 0 in a new request",
        trips: "discovery.request.tags",
        saboteur: || fields(|_, text| text.target_transfer_tag = 0.into()),
    },
    Fault {
        name: "SendTargets with the reserved tag",
        trips: "discovery.request.tags",
        saboteur: || fields(|_, text| text.initiator_task_tag = u32::MAX.into()),
    },
    Fault {
        name: "pings in a discovery session",
        trips: "discovery.only",
        saboteur: || {
            Box::new(|seen, lane| {
                if let Seen::Request(pdu) = seen
                    && let Header::TextRequest(text) = &pdu.header
                {
                    lane.to_target(Pdu::bare(NopOut {
                        opcode: IMMEDIATE,
                        flags: FINAL,
                        initiator_task_tag: 77.into(),
                        target_transfer_tag: u32::MAX.into(),
                        cmd_sn: text.cmd_sn,
                        exp_stat_sn: text.exp_stat_sn,
                        ..NopOut::default()
                    }));
                }
                Act::Pass
            })
        },
    },
    Fault {
        name: "discovery ends with a logout of the connection",
        trips: "discovery.only",
        saboteur: || {
            edit::requests(|pdu| {
                if let Header::LogoutRequest(logout) = &mut pdu.header {
                    logout.reason |= 1;
                }
            })
        },
    },
    Fault {
        name: "the rest of the list is asked for as a new list",
        trips: "discovery.pieces",
        saboteur: || fields(|_, text| text.target_transfer_tag = u32::MAX.into()),
    },
    Fault {
        name: "the first part of a list is taken for all of it",
        trips: "discovery.pieces",
        saboteur: || {
            edit::responses(|pdu| {
                if let Header::TextResponse(text) = &mut pdu.header {
                    text.flags = FINAL;
                    text.target_transfer_tag = u32::MAX.into();
                }
            })
        },
    },
    Fault {
        name: "a new tag for each part of the list",
        trips: "discovery.pieces.task",
        saboteur: || {
            let mut own = 0;
            let mut number = 0;
            Box::new(move |seen, _| {
                let (Seen::Request(pdu) | Seen::Response(pdu)) = seen else {
                    return Act::Pass;
                };
                let mut pdu = pdu.clone();
                match pdu.header {
                    Header::TextRequest(text) => {
                        own = text.initiator_task_tag.get();
                        number += 1;
                        change(&mut pdu, 16, |tag| tag + number * 64);
                    }
                    Header::TextResponse(_) => change(&mut pdu, 16, |_| own),
                    _ => {}
                }
                Act::Replace(vec![pdu])
            })
        },
    },
    Fault {
        name: "the question is repeated with each part",
        trips: "discovery.continued",
        saboteur: || texts(|_, pdu| pdu.data = text::encode(&[("SendTargets", "All")])),
    },
    Fault {
        name: "no room for a long list",
        trips: "discovery.many",
        saboteur: || {
            let mut bytes = 0;
            hangs_up(move |_, more| {
                bytes += more;
                bytes > 64 * 1024
            })
        },
    },
    Fault {
        name: "stumbles over an IPv6 address",
        trips: "discovery.addresses",
        saboteur: || hangs_up(|keys, _| keys.iter().any(|(_, value)| value.starts_with('['))),
    },
];

/// Changes Text Requests; they are numbered from 0.
fn texts(mut edit: impl FnMut(u32, &mut Pdu) + Send + 'static) -> Saboteur {
    let mut number = 0;
    edit::requests(move |pdu| {
        if matches!(pdu.header, Header::TextRequest(_)) {
            edit(number, pdu);
            number += 1;
        }
    })
}

fn fields(mut edit: impl FnMut(u32, &mut TextRequest) + Send + 'static) -> Saboteur {
    texts(move |number, pdu| {
        if let Header::TextRequest(text) = &mut pdu.header {
            edit(number, text);
        }
    })
}
