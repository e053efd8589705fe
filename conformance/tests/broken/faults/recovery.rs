//! Targets that promise to recover and do not, or do so wrongly.

use iscsi_proto::wire::bhs::SnackRequest;
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "every ErrorRecoveryLevel is agreed to, and SNACK rejected",
        trips: "recovery.level.kept",
        behind: Kind::Plain,
        saboteur: agree_to_all,
    },
    Fault {
        name: "ErrorRecoveryLevel 1 is agreed to, and SNACK dropped",
        trips: "recovery.level.kept",
        behind: Kind::Recovering,
        saboteur: drop_snacks,
    },
    Fault {
        name: "SNACK is dropped",
        trips: "recovery.snack.level-0",
        behind: Kind::Plain,
        saboteur: drop_snacks,
    },
    Fault {
        name: "a SNACK ends the connection",
        trips: "recovery.snack.level-0",
        behind: Kind::Plain,
        saboteur: || {
            Box::new(|seen, lane| match seen {
                Seen::Request(pdu) if matches!(pdu.header, Header::SnackRequest(_)) => {
                    lane.hang_up();
                    Act::Replace(Vec::new())
                }
                _ => Act::Pass,
            })
        },
    },
    Fault {
        name: "SNACK is rejected for the digest of its data",
        trips: "recovery.snack.level-0",
        behind: Kind::Plain,
        saboteur: || {
            edit::responses(|pdu| {
                if let Header::Reject(reject) = &mut pdu.header {
                    reject.reason = 0x02;
                }
            })
        },
    },
    Fault {
        name: "a status that is sent again has another number",
        trips: "recovery.status.one",
        behind: Kind::Recovering,
        saboteur: || {
            on_replica(|pdu| {
                if let Header::ScsiResponse(response) = &mut pdu.header {
                    response.stat_sn = response.stat_sn.get().wrapping_add(1).into();
                }
            })
        },
    },
    Fault {
        name: "of a run of statuses only the first is sent again",
        trips: "recovery.status.run",
        behind: Kind::Recovering,
        saboteur: first_only,
    },
    Fault {
        name: "an acknowledged status is asked for in vain",
        trips: "recovery.status.acknowledged",
        behind: Kind::Recovering,
        saboteur: drop_snacks,
    },
    Fault {
        name: "data that is sent again is numbered anew",
        trips: "recovery.data.one",
        behind: Kind::Recovering,
        saboteur: || {
            on_replica(|pdu| {
                if let Header::DataIn(data) = &mut pdu.header {
                    data.data_sn = 0.into();
                }
            })
        },
    },
    Fault {
        name: "a SNACK for everything brings the first Data-In",
        trips: "recovery.data.all",
        behind: Kind::Recovering,
        saboteur: first_only,
    },
    Fault {
        name: "the acknowledgement of data is no SNACK that the target knows",
        trips: "recovery.data.acknowledgement",
        behind: Kind::Recovering,
        saboteur: || {
            edit::answer(|pdu, lane| match &pdu.header {
                Header::SnackRequest(snack) if snack.kind & 0x0f == 2 => {
                    Some(vec![edit::reject(pdu, 0x05, lane)])
                }
                _ => None,
            })
        },
    },
    Fault {
        name: "the response to an R-Data SNACK lacks the SNACK Tag",
        trips: "recovery.r-data",
        behind: Kind::Recovering,
        saboteur: || {
            on_replica(|pdu| {
                if let Header::ScsiResponse(response) = &mut pdu.header {
                    response.snack_tag = 0.into();
                }
            })
        },
    },
    Fault {
        name: "R-Data SNACK is missing",
        trips: "recovery.r-data",
        behind: Kind::Recovering,
        saboteur: || {
            edit::answer(|pdu, lane| match &pdu.header {
                Header::SnackRequest(snack) if snack.kind & 0x0f == 3 => {
                    Some(vec![edit::reject(pdu, 0x05, lane)])
                }
                _ => None,
            })
        },
    },
    Fault {
        name: "an R2T that is sent again has another Target Transfer Tag",
        trips: "recovery.r2t",
        behind: Kind::Recovering,
        saboteur: || {
            on_replica(|pdu| {
                if let Header::ReadyToTransfer(r2t) = &mut pdu.header {
                    r2t.target_transfer_tag = 0x0bad_0bad.into();
                }
            })
        },
    },
];

fn drop_snacks() -> Saboteur {
    edit::swallow_requests(|pdu| matches!(pdu.header, Header::SnackRequest(_)))
}

/// Answers the ErrorRecoveryLevel that was offered, as if nothing followed from it.
fn agree_to_all() -> Saboteur {
    edit::answered_keys(|pairs| {
        for (key, value) in pairs {
            if key == "ErrorRecoveryLevel" {
                "2".clone_into(value);
            }
        }
    })
}

/// Takes every SNACK for one about a single PDU.
fn first_only() -> Saboteur {
    edit::requests(|pdu| {
        if let Header::SnackRequest(snack) = &mut pdu.header {
            *snack = SnackRequest {
                run_length: 1.into(),
                ..*snack
            };
        }
    })
}

/// Rewrites what comes behind a SNACK.
fn on_replica(mut edit: impl FnMut(&mut Pdu) + Send + 'static) -> Saboteur {
    let mut asked = false;
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) => {
            asked |= matches!(pdu.header, Header::SnackRequest(_));
            Act::Pass
        }
        Seen::Response(pdu) if asked => {
            let mut pdu = pdu.clone();
            edit(&mut pdu);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}
