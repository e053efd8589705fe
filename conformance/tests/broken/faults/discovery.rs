//! Targets that break the rules of `discovery`.

use iscsi_proto::wire::bhs::{FINAL, LogoutResponse, NopIn, ScsiResponse, TaskManagementResponse};
use iscsi_proto::wire::{Header, Pdu, text};

use crate::broken::faults::chap::answer;
use crate::broken::{Act, Fault, Kind, Lane, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("discovery.login", "discovery takes a target's name", || {
        refused(|pairs| !has(pairs, "TargetName"), 0x0207)
    }),
    fault("discovery.login", "there are no discovery sessions", || {
        refused(|_| true, 0x0209)
    }),
    fault(
        "discovery.named",
        "discovery takes no target's name",
        || refused(|pairs| has(pairs, "TargetName"), 0x0200),
    ),
    fault(
        "discovery.named.portal-group",
        "the portal group is for normal sessions",
        || edit::answered_keys(|pairs| pairs.retain(|(key, _)| key != "TargetPortalGroupTag")),
    ),
    fault(
        "discovery.digests",
        "a digest is agreed on that is not there",
        || {
            let mut ask = edit::asked_keys(|pairs| exchange(pairs, "HeaderDigest", "None"));
            let mut say = said("HeaderDigest", "CRC32C");
            Box::new(move |seen, lane| match seen {
                Seen::Request(_) => ask(seen, lane),
                _ => say(seen, lane),
            })
        },
    ),
    fault(
        "discovery.digests",
        "a digest is chosen that nobody offered",
        || said("DataDigest", "CRC32"),
    ),
    fault(
        "discovery.recovery-level",
        "the level of recovery is agreed on",
        || said("ErrorRecoveryLevel", "1"),
    ),
    fault(
        "discovery.max-connections",
        "several connections are agreed on",
        || said("MaxConnections", "4"),
    ),
    fault(
        "discovery.irrelevant-keys",
        "keys without use are not answered",
        || edit::answered_keys(|pairs| pairs.retain(|(key, _)| key != "MaxBurstLength")),
    ),
    fault(
        "discovery.irrelevant-keys",
        "keys without use are not understood",
        || said("DataPDUInOrder", "NotUnderstood"),
    ),
    fault("discovery.scsi-command", "commands are answered", || {
        instead(|pdu, lane| {
            let (stat_sn, exp_cmd_sn, max_cmd_sn) = lane.numbers;
            matches!(pdu.header, Header::ScsiCommand(_)).then(|| {
                Pdu::bare(ScsiResponse {
                    flags: FINAL,
                    status: 2,
                    initiator_task_tag: pdu.header.common().initiator_task_tag,
                    stat_sn: stat_sn.wrapping_add(1).into(),
                    exp_cmd_sn: exp_cmd_sn.wrapping_add(1).into(),
                    max_cmd_sn: max_cmd_sn.into(),
                    ..ScsiResponse::default()
                })
            })
        })
    }),
    fault(
        "discovery.task-management",
        "task management is answered",
        || {
            instead(|pdu, lane| {
                let (stat_sn, exp_cmd_sn, max_cmd_sn) = lane.numbers;
                matches!(pdu.header, Header::TaskManagementRequest(_)).then(|| {
                    Pdu::bare(TaskManagementResponse {
                        flags: FINAL,
                        response: 0xff,
                        initiator_task_tag: pdu.header.common().initiator_task_tag,
                        stat_sn: stat_sn.wrapping_add(1).into(),
                        exp_cmd_sn: exp_cmd_sn.into(),
                        max_cmd_sn: max_cmd_sn.into(),
                        ..TaskManagementResponse::default()
                    })
                })
            })
        },
    ),
    fault("discovery.nop", "pings are answered", || {
        instead(|pdu, lane| {
            let (stat_sn, exp_cmd_sn, max_cmd_sn) = lane.numbers;
            matches!(pdu.header, Header::NopOut(_)).then(|| {
                Pdu::bare(NopIn {
                    flags: FINAL,
                    initiator_task_tag: pdu.header.common().initiator_task_tag,
                    target_transfer_tag: u32::MAX.into(),
                    stat_sn: stat_sn.wrapping_add(1).into(),
                    exp_cmd_sn: exp_cmd_sn.into(),
                    max_cmd_sn: max_cmd_sn.into(),
                    ..NopIn::default()
                })
            })
        })
    }),
    fault("discovery.logout", "nobody logs out of discovery", || {
        edit::answer(|pdu, lane| {
            let is_logout = matches!(pdu.header, Header::LogoutRequest(_));
            is_logout.then(|| vec![edit::reject(pdu, 0x05, lane)])
        })
    }),
    fault("discovery.logout", "the connection stays open", || {
        Box::new(|seen, lane| {
            if matches!(seen, Seen::TargetClosed) {
                lane.stay();
            }
            Act::Pass
        })
    }),
    fault(
        "discovery.logout.connection",
        "every logout will do",
        || {
            instead(|pdu, lane| {
                let (stat_sn, exp_cmd_sn, max_cmd_sn) = lane.numbers;
                matches!(pdu.header, Header::LogoutRequest(_)).then(|| {
                    Pdu::bare(LogoutResponse {
                        flags: FINAL,
                        initiator_task_tag: pdu.header.common().initiator_task_tag,
                        stat_sn: stat_sn.wrapping_add(1).into(),
                        exp_cmd_sn: exp_cmd_sn.into(),
                        max_cmd_sn: max_cmd_sn.into(),
                        ..LogoutResponse::default()
                    })
                })
            })
        },
    ),
    fault(
        "discovery.reinstatement",
        "sessions with one ISID stand side by side",
        || own_isids(),
    ),
    fault(
        "discovery.beside",
        "discovery reinstates a normal session",
        || {
            let mut discovered = false;
            Box::new(move |seen, lane| match seen {
                Seen::Request(_) if lane.number > 1 => {
                    discovered = true;
                    Act::Pass
                }
                Seen::Request(_) if discovered => {
                    lane.hang_up();
                    Act::Replace(Vec::new())
                }
                _ => Act::Pass,
            })
        },
    ),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Plain,
        saboteur,
    }
}

fn has(pairs: &[(String, String)], key: &str) -> bool {
    pairs.iter().any(|(name, _)| name == key)
}

/// Refuses discovery sessions with such names.
fn refused(which: fn(&[(String, String)]) -> bool, status: u16) -> Saboteur {
    edit::answer(move |pdu, lane| {
        let Header::LoginRequest(request) = &pdu.header else {
            return None;
        };
        let pairs = text::parse(&pdu.data).unwrap_or_default();
        let discovers = pairs.iter().any(|(_, value)| value == "Discovery");
        (discovers && which(&pairs)).then(|| vec![answer(request, lane, 0, status, &[])])
    })
}

/// Answers this value for a key.
fn said(key: &'static str, value: &'static str) -> Saboteur {
    edit::answered_keys(move |pairs| exchange(pairs, key, value))
}

fn exchange(pairs: &mut [(String, String)], key: &str, value: &str) {
    for (_, old) in pairs.iter_mut().filter(|(name, _)| name == key) {
        value.clone_into(old);
    }
}

/// Answers a request in the target's place.
fn instead(with: fn(&Pdu, &Lane) -> Option<Pdu>) -> Saboteur {
    edit::answer(move |pdu, lane| with(pdu, lane).map(|answer| vec![answer]))
}

/// Gives each connection an ISID of its own.
fn own_isids() -> Saboteur {
    Box::new(|seen, lane| match seen {
        Seen::Request(pdu) => {
            let mut pdu = pdu.clone();
            if let Header::LoginRequest(request) = &mut pdu.header {
                request.isid[3] ^= u8::try_from(lane.number).unwrap();
            }
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}
