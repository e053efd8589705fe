//! Names of units and ports: page 83h (SPC-3 §7.6.3).

use super::{listed, whole};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::session::Session;
use crate::words;

checks! {
    "vpd.designators.lengths", "SPC-3 §7.6.3.1", Must, Reads,
        "INQUIRY for page 83h"
        => "designators that fill the page to its last byte, none of them empty", lengths;
    "vpd.designators.unit", "SPC-3 §7.6.3.11", Must, Reads,
        "INQUIRY for page 83h"
        => "a name of the logical unit: T10 vendor ID, EUI-64, NAA or SCSI name string", unit;
    "vpd.designators.forms", "SPC-3 §7.6.3", Must, Reads,
        "INQUIRY for page 83h"
        => "each designator with the code set and the length of its type", forms;
    "vpd.designators.port-name", "RFC 7143 §4.4.2", Must, Reads,
        "INQUIRY for page 83h"
        => "a SCSI name string of a target port, if there is one, is the target's name, then ,t,0x and the portal group", port_name;
    "vpd.designators.relative-port", "SPC-3 §7.6.3.6", Must, Reads,
        "INQUIRY for page 83h"
        => "a relative target port identifier, if there is one, is not zero", relative_port;
    "vpd.designators.stable", "SPC-3 §7.6.3.11", Must, Reads,
        "INQUIRY for page 83h in two sessions"
        => "the same names of the logical unit", stable;
}

/// One designation descriptor.
#[derive(Debug, PartialEq, Eq)]
struct Designator {
    protocol: Option<u8>,
    code_set: u8,
    association: u8,
    kind: u8,
    value: Vec<u8>,
}

async fn lengths(bench: &Bench) -> Verdict {
    let all = designators(&mut bench.session().await?).await?;
    let empty = all.iter().find(|one| one.value.is_empty());
    ensure!(
        empty.is_none(),
        "a designator of type {} has no bytes",
        empty.map_or(0, |one| one.kind)
    );
    Ok(())
}

async fn unit(bench: &Bench) -> Verdict {
    let all = designators(&mut bench.session().await?).await?;
    // UUIDs are names since SPC-5.
    let names = |one: &Designator| one.association == 0 && [1, 2, 3, 8, 10].contains(&one.kind);
    ensure!(
        all.iter().any(names),
        "none of {} designators names the logical unit",
        all.len()
    );
    Ok(())
}

async fn forms(bench: &Bench) -> Verdict {
    for one in designators(&mut bench.session().await?).await? {
        let Designator {
            kind,
            code_set,
            value,
            ..
        } = &one;
        let bytes = value.len();
        let lawful = match kind {
            1 => bytes >= 8,
            2 => *code_set == BINARY && [8, 12, 16].contains(&bytes),
            3 => {
                let format = value.first().map_or(0, |first| first >> 4);
                *code_set == BINARY && bytes == if format == 6 { 16 } else { 8 }
            }
            4..=6 => *code_set == BINARY && bytes == 4,
            7 => *code_set == BINARY && bytes == 16,
            8 => *code_set == UTF_8 && bytes % 4 == 0 && value.last() == Some(&0),
            _ => true,
        };
        ensure!(
            lawful,
            "a designator of type {kind} has code set {code_set} and {bytes} bytes: {}",
            words::hex(value)
        );
        ensure!(
            matches!(code_set, 1..=3) && one.association < 3,
            "a designator of type {kind} has code set {code_set} and association {}, which is reserved",
            one.association
        );
    }
    Ok(())
}

async fn port_name(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let all = designators(&mut session).await?;
    let Some(name) = all.iter().find(|one| one.association == 1 && one.kind == 8) else {
        skip!("the target port has no SCSI name string");
    };
    let text = String::from_utf8_lossy(&name.value);
    let text = text.trim_end_matches('\0');
    let (target, label) = text.rsplit_once(",t,").unwrap_or((text, ""));
    let digits = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    let tag = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
    ensure!(
        target.eq_ignore_ascii_case(&bench.subject.target) && tag.is_some(),
        "the name of the port is {} instead of \"{},t,0x\" and the portal group tag",
        words::quoted(text),
        bench.subject.target
    );
    let told = session.answers.number("TargetPortalGroupTag");
    ensure!(
        told.is_none() || told == tag.map(u32::from),
        "the name of the port is {}, and the login told portal group {}",
        words::quoted(text),
        told.unwrap_or(0)
    );
    ensure!(
        name.protocol == Some(ISCSI),
        "the name of the port has {} instead of protocol identifier 5, iSCSI",
        match name.protocol {
            Some(protocol) => format!("protocol identifier {protocol}"),
            None => "no protocol identifier".to_owned(),
        }
    );
    Ok(())
}

async fn relative_port(bench: &Bench) -> Verdict {
    let all = designators(&mut bench.session().await?).await?;
    let Some(port) = all.iter().find(|one| one.kind == 4) else {
        skip!("no relative target port identifier is told");
    };
    ensure!(
        port.association == 1,
        "a relative target port identifier has association {}",
        port.association
    );
    ensure!(
        port.value.get(2..4) != Some(&[0, 0]),
        "the relative target port identifier is zero, which is reserved"
    );
    Ok(())
}

async fn stable(bench: &Bench) -> Verdict {
    let (mut one, mut other) = (bench.session().await?, bench.session().await?);
    let names = |all: Vec<Designator>| -> Vec<Designator> {
        all.into_iter().filter(|one| one.association == 0).collect()
    };
    let first = names(designators(&mut one).await?);
    let second = names(designators(&mut other).await?);
    let told = |all: &[Designator]| {
        let one = |one: &Designator| format!("type {} with {}", one.kind, words::hex(&one.value));
        words::list(all.iter().map(one))
    };
    ensure!(
        first == second,
        "one session sees {}, another one {}",
        told(&first),
        told(&second)
    );
    Ok(())
}

/// All designators; a page that they do not fill is a violation.
async fn designators(session: &mut Session) -> Result<Vec<Designator>, Finding> {
    if !listed(session).await?.contains(&0x83) {
        skip!("VPD page 83h is not listed");
    }
    let page = whole(session, 0x83).await?;
    let mut rest = page.get(4..).unwrap_or_default();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let cut = rest
            .split_first_chunk::<4>()
            .and_then(|(head, tail)| Some((head, tail.split_at_checked(head[3].into())?)));
        let Some(([codes, kinds, _, _], (value, behind))) = cut else {
            return Err(Finding::Violation(format!(
                "the last designator is longer than the page: {}",
                words::hex(rest)
            )));
        };
        found.push(Designator {
            protocol: (kinds & 0x80 != 0).then_some(codes >> 4),
            code_set: codes & 0x0f,
            association: kinds >> 4 & 3,
            kind: kinds & 0x0f,
            value: value.to_vec(),
        });
        rest = behind;
    }
    Ok(found)
}

/// Code set of binary values.
const BINARY: u8 = 1;
/// Code set of UTF-8.
const UTF_8: u8 = 3;
/// Protocol identifier.
const ISCSI: u8 = 5;
