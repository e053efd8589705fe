//! Targets that break the rules of `send_targets`.

use bytes::Bytes;
use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::FINAL;
use iscsi_proto::wire::text;

use crate::broken::faults::text::responses;
use crate::broken::{Act, Fault, Kind, NAME, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("sendtargets.discovery.all", "the list is empty", || {
        responses(|_, text| *text = Bytes::new())
    }),
    fault(
        "sendtargets.discovery.records",
        "an alias is in the list",
        || added("TargetAlias", "sound"),
    ),
    fault(
        "sendtargets.discovery.records",
        "the addresses come first",
        || records(|pairs| pairs.reverse()),
    ),
    fault(
        "sendtargets.discovery.addresses",
        "addresses have no tag",
        || address(|address| address.split_once(',').unwrap().0.to_owned()),
    ),
    fault(
        "sendtargets.discovery.addresses",
        "IPv6 addresses have no brackets",
        || address(|_| "fd00::1:3260,1".to_owned()),
    ),
    fault("sendtargets.discovery.addresses", "the port is 0", || {
        address(|_| "192.0.2.1:0,1".to_owned())
    }),
    fault(
        "sendtargets.discovery.portal-group",
        "the list has another tag",
        || address(|_| "192.0.2.1:3260,7".to_owned()),
    ),
    fault("sendtargets.discovery.name", "only All is known", || {
        asked(|value| value != "All", "")
    }),
    fault(
        "sendtargets.discovery.name-only",
        "a name is taken for All",
        || asked(|value| value != "All", "All"),
    ),
    fault(
        "sendtargets.discovery.unknown-name",
        "an unknown name is taken for All",
        || asked(|value| value != "All", "All"),
    ),
    fault(
        "sendtargets.discovery.empty",
        "no value is taken for All",
        || asked(str::is_empty, "All"),
    ),
    fault(
        "sendtargets.discovery.again",
        "the list is given once",
        || {
            let mut given = false;
            responses(move |response, text| {
                if given {
                    *text = Bytes::new();
                }
                given = response.flags & FINAL != 0;
            })
        },
    ),
    fault(
        "sendtargets.discovery.long",
        "long lists end with the first piece",
        || {
            responses(|response, text| {
                response.flags = FINAL;
                response.target_transfer_tag = u32::MAX.into();
                let end = text.iter().rposition(|byte| *byte == 0).unwrap();
                text.truncate(end + 1);
            })
        },
    ),
    fault(
        "sendtargets.discovery.long",
        "short segments are not minded",
        || edit::asked_keys(|pairs| pairs.retain(|(key, _)| key != "MaxRecvDataSegmentLength")),
    ),
    fault(
        "sendtargets.normal.own",
        "the session's own target is not known",
        || responses(|_, text| *text = Bytes::new()),
    ),
    fault("sendtargets.normal.own", "neighbours are listed", || {
        added("TargetName", "iqn.2013-07.org.vmthunder:another")
    }),
    fault(
        "sendtargets.normal.own",
        "SendTargets is for discovery sessions",
        || {
            edit::answer(|pdu, lane| {
                let is_text = matches!(pdu.header, Header::TextRequest(_));
                is_text.then(|| vec![edit::reject(pdu, 0x05, lane)])
            })
        },
    ),
    fault(
        "sendtargets.normal.own",
        "Text Requests are dropped",
        || edit::swallow_requests(|pdu| matches!(pdu.header, Header::TextRequest(_))),
    ),
    fault(
        "sendtargets.normal.name",
        "the own name is not known",
        || asked(|value| value == NAME, "iqn.2013-07.org.vmthunder:nobody"),
    ),
    fault(
        "sendtargets.normal.all",
        "All is taken for the own target",
        || asked(|value| value == "All", ""),
    ),
    fault(
        "sendtargets.normal.addresses",
        "addresses have no tag",
        || address(|address| address.split_once(',').unwrap().0.to_owned()),
    ),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Redirecting,
        saboteur,
    }
}

/// Asks the target with another value.
fn asked(which: fn(&str) -> bool, instead: &'static str) -> Saboteur {
    edit::asked_keys(move |pairs| {
        for (key, value) in pairs {
            if key == "SendTargets" && which(value) {
                instead.clone_into(value);
            }
        }
    })
}

/// Rewrites the pairs of whole lists.
fn records(mut edit: impl FnMut(&mut Vec<(String, String)>) + Send + 'static) -> Saboteur {
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) if matches!(pdu.header, Header::TextResponse(_)) => {
            let mut pdu = pdu.clone();
            if let Ok(mut pairs) = text::parse(&pdu.data) {
                edit(&mut pairs);
                pdu.data = text::encode(&pairs);
            }
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

/// Says something more behind the list.
fn added(key: &'static str, value: &'static str) -> Saboteur {
    records(move |pairs| pairs.push((key.to_owned(), value.to_owned())))
}

/// Rewrites the addresses of a list.
fn address(edit: fn(&str) -> String) -> Saboteur {
    records(move |pairs| {
        for (key, value) in pairs {
            if key == "TargetAddress" {
                *value = edit(value);
            }
        }
    })
}
