//! SendTargets: what a target says about where targets are (RFC 7143 appendix C).

use std::net::Ipv6Addr;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::checks::discovery;
use crate::keys::Keys;
use crate::session::Session;
use crate::texts::Said;
use crate::words;

checks! {
    "sendtargets.discovery.all", "RFC 7143 appendix C", Must, Reads,
        "SendTargets=All in a discovery session"
        => "the target that is judged is in the list", all;
    "sendtargets.discovery.records", "RFC 7143 appendix C", Must, Reads,
        "SendTargets=All in a discovery session"
        => "nothing but records: a TargetName each, and its TargetAddress keys behind it", form;
    "sendtargets.discovery.addresses", "RFC 7143 §13.8", Must, Reads,
        "SendTargets=All in a discovery session"
        => "every TargetAddress is host[:port],tag, an IPv6 address in brackets", addresses;
    "sendtargets.discovery.portal-group", "RFC 7143 §13.9", Must, Reads,
        "SendTargets=All in a discovery session, and a login to the target"
        => "the TargetPortalGroupTag of the login is among the tags of the target's addresses", portal_group;
    "sendtargets.discovery.name", "RFC 7143 appendix C", Must, Reads,
        "SendTargets with the target's name in a discovery session"
        => "the record of this target", by_name;
    "sendtargets.discovery.name-only", "RFC 7143 appendix C", Should, Reads,
        "SendTargets with the target's name in a discovery session"
        => "the record of no other target", by_name_only;
    "sendtargets.discovery.unknown-name", "RFC 7143 appendix C", Must, Reads,
        "SendTargets with a name that no target has in a discovery session"
        => "no record", unknown_name;
    "sendtargets.discovery.empty", "RFC 7143 appendix C", Must, Reads,
        "SendTargets without a value in a discovery session without a target"
        => "no record: the session is logged in to no target", empty;
    "sendtargets.discovery.again", "RFC 7143 appendix C", Must, Reads,
        "SendTargets=All twice in one discovery session"
        => "the same list both times", again;
    "sendtargets.discovery.long", "RFC 7143 §11.11.6", Must, Reads,
        "SendTargets=All in a discovery session with MaxRecvDataSegmentLength=512, and in one without"
        => "Text Responses of at most 512 bytes in the former, and the same list in both", long_list;
    "sendtargets.normal.own", "RFC 7143 appendix C", Must, Reads,
        "SendTargets without a value in a normal session"
        => "the record of the session's own target, and of no other", own;
    "sendtargets.normal.name", "RFC 7143 appendix C", Should, Reads,
        "SendTargets with the session's own target's name in a normal session"
        => "the record of this target, and of no other", own_name;
    "sendtargets.normal.all", "RFC 7143 appendix C", Must, Reads,
        "SendTargets=All in a normal session"
        => "no record, for the value is for discovery sessions: a Reject, or an answer without targets", not_all;
    "sendtargets.normal.addresses", "RFC 7143 §13.8", Must, Reads,
        "SendTargets without a value in a normal session"
        => "every TargetAddress is host[:port],tag, an IPv6 address in brackets", own_addresses;
}

/// A target, and its addresses as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
}

/// The records of an answer; a key that has no business there is a violation.
pub(super) fn records(answer: &Keys) -> Result<Vec<Record>, Finding> {
    let mut records: Vec<Record> = Vec::new();
    for (key, value) in &answer.0 {
        match (key.as_str(), records.last_mut()) {
            ("TargetName", _) => records.push(Record {
                name: value.clone(),
                addresses: Vec::new(),
            }),
            ("TargetAddress", Some(record)) => record.addresses.push(value.clone()),
            ("TargetAddress", None) => {
                violation!("TargetAddress={value} comes before any TargetName")
            }
            _ => violation!("{key}={value} in an answer to SendTargets"),
        }
    }
    Ok(records)
}

/// The list of a session, asked for with this value.
pub(super) async fn list(session: &mut Session, value: &str) -> Result<Vec<Record>, Finding> {
    records(&session.ask_text(&[("SendTargets", value)]).await?)
}

/// The list of a session; a target may also refuse the value.
async fn list_if_allowed(session: &mut Session, value: &str) -> Result<Vec<Record>, Finding> {
    let request = session.text();
    let text = Keys::of(&[("SendTargets", value)]).encode();
    let first = match session.say(request, text).await? {
        Said::Text(response, text) => (response, text),
        Said::Reject(_) | Said::Closed(_) => return Ok(Vec::new()),
    };
    let mut answer = Keys::parse(&session.rest_of_text(first).await?)?;
    answer.remove("SendTargets");
    records(&answer)
}

/// `host[:port],tag`: host and tag, or what is wrong.
fn parse_address(address: &str) -> Result<(&str, u16), String> {
    let (place, tag) = address
        .rsplit_once(',')
        .ok_or("it has no portal group tag")?;
    let tag = number(tag)
        .and_then(|tag| u16::try_from(tag).ok())
        .ok_or("its portal group tag is no number of 16 bits")?;
    Ok((check_place(place)?, tag))
}

/// `host[:port]`: the host, or what is wrong.
pub(super) fn check_place(place: &str) -> Result<&str, String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
            host.parse::<Ipv6Addr>()
                .map_err(|_no_address| "what is in brackets is no IPv6 address")?;
            (host, rest)
        }
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err("its host is no name and no address".to_owned());
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(host),
        Some(port) if port.contains(':') => {
            Err("an IPv6 address is not in brackets, or there are two ports".to_owned())
        }
        Some(port) if number(port).is_some_and(|port| (1..=65_535).contains(&port)) => Ok(host),
        _ => Err("its port is no number from 1 to 65535".to_owned()),
    }
}

/// A decimal-constant or a hex-constant.
fn number(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hex {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

fn expect_addresses(records: &[Record]) -> Verdict {
    for record in records {
        for address in &record.addresses {
            if let Err(why) = parse_address(address) {
                violation!("TargetAddress={address} of {}: {why}", record.name);
            }
        }
    }
    Ok(())
}

fn expect_among(target: &str, records: &[Record]) -> Verdict {
    ensure!(
        records.iter().any(|record| record.name == target),
        "{target} is not among the {} targets in the answer",
        records.len()
    );
    Ok(())
}

/// Exactly one record, of the target that is judged.
fn expect_alone(bench: &Bench, records: &[Record]) -> Verdict {
    let target = &bench.subject.target;
    let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    ensure!(
        names == [target.as_str()],
        "the targets in the answer are {} instead of {target} alone",
        words::list(names.iter().map(|name| words::quoted(name)))
    );
    Ok(())
}

fn expect_nobody(records: &[Record], what: &str) -> Verdict {
    match records.first() {
        None => Ok(()),
        Some(record) => violation!(
            "{what} is answered with {} targets, {} among them",
            records.len(),
            record.name
        ),
    }
}

async fn all(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    expect_among(&bench.subject.target, &list(&mut session, "All").await?)
}

async fn form(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    for record in list(&mut session, "All").await? {
        let known = ["iqn.", "eui.", "naa."];
        ensure!(
            known.iter().any(|kind| record.name.starts_with(kind)) && record.name.len() <= 223,
            "TargetName={} is no iSCSI name",
            record.name
        );
    }
    Ok(())
}

async fn addresses(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    let records = list(&mut session, "All").await?;
    if records.iter().all(|record| record.addresses.is_empty()) {
        skip!("no address is in the answer, which means this one");
    }
    expect_addresses(&records)
}

async fn portal_group(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    let records = list(&mut session, &bench.subject.target).await?;
    let addresses = records
        .iter()
        .filter(|record| record.name == bench.subject.target)
        .flat_map(|record| &record.addresses);
    let tags: Vec<u16> = addresses
        .filter_map(|address| parse_address(address).ok())
        .map(|(_, tag)| tag)
        .collect();
    if tags.is_empty() {
        skip!("no address with a portal group tag is in the answer");
    }
    let session = bench.session().await?;
    let tag = session.answers.get("TargetPortalGroupTag").and_then(number);
    let Some(tag) = tag else {
        violation!("the login has no TargetPortalGroupTag that is a number");
    };
    ensure!(
        tags.iter().any(|listed| u32::from(*listed) == tag),
        "the login's TargetPortalGroupTag is {tag}, the tags of the target's addresses are {}",
        words::list(&tags)
    );
    Ok(())
}

async fn by_name(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    let target = &bench.subject.target;
    expect_among(target, &list(&mut session, target).await?)
}

async fn by_name_only(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    let records = list(&mut session, &bench.subject.target).await?;
    expect_alone(bench, &records)
}

async fn unknown_name(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    let name = "iqn.2013-07.org.vmthunder:there-is-no-such-target";
    let records = list_if_allowed(&mut session, name).await?;
    expect_nobody(&records, &format!("SendTargets={name}"))
}

async fn empty(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    let records = list_if_allowed(&mut session, "").await?;
    expect_nobody(&records, "SendTargets without a value")
}

async fn again(bench: &Bench) -> Verdict {
    let mut session = discovery::session(bench, &[]).await?;
    let first = list(&mut session, "All").await?;
    let second = list(&mut session, "All").await?;
    ensure!(
        first == second,
        "{} targets in the first answer, and {} or other ones in the second",
        first.len(),
        second.len()
    );
    Ok(())
}

async fn long_list(bench: &Bench) -> Verdict {
    let mut wide = discovery::session(bench, &[]).await?;
    let whole = list(&mut wide, "All").await?;
    let mut narrow = discovery::session(bench, &[("MaxRecvDataSegmentLength", "512")]).await?;
    let in_pieces = list(&mut narrow, "All").await?;
    ensure!(
        whole == in_pieces,
        "{} targets in an answer of long segments, {} or other ones in one of short segments",
        whole.len(),
        in_pieces.len()
    );
    Ok(())
}

async fn own(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let records = list(&mut session, "").await?;
    expect_alone(bench, &records)
}

async fn own_name(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let records = list(&mut session, &bench.subject.target).await?;
    expect_alone(bench, &records)
}

async fn not_all(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let records = list_if_allowed(&mut session, "All").await?;
    expect_nobody(&records, "SendTargets=All in a normal session")
}

async fn own_addresses(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let records = list(&mut session, "").await?;
    if records.iter().all(|record| record.addresses.is_empty()) {
        skip!("no address is in the answer, which means this one");
    }
    expect_addresses(&records)
}

#[cfg(test)]
mod tests {
    use super::parse_address;

    #[test]
    fn addresses_are_read_as_the_rfc_writes_them() {
        for (address, host, tag) in [
            ("10.0.0.1:5003,1", "10.0.0.1", 1),
            (
                "[1080:0:0:0:8:800:200C:417A],65",
                "1080:0:0:0:8:800:200C:417A",
                65,
            ),
            ("[1080::8:800:200C:417A]:5003,1", "1080::8:800:200C:417A", 1),
            (
                "computingcenter.example.com,23",
                "computingcenter.example.com",
                23,
            ),
            ("host:3260,0x0001", "host", 1),
        ] {
            assert_eq!(parse_address(address), Ok((host, tag)), "{address}");
        }
        for address in [
            "10.0.0.1:5003",
            "10.0.0.1:5003,",
            "10.0.0.1:5003,65536",
            "10.0.0.1:0,1",
            ",1",
            "::1,1",
            "fe80::1:3260,1",
            "[::1,1",
            "[10.0.0.1]:3260,1",
            "[::1]3260,1",
            "a host:3260,1",
            "host:iscsi,1",
        ] {
            assert!(parse_address(address).is_err(), "{address}");
        }
    }
}
