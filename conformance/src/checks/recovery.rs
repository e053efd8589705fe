//! SNACK, and what an ErrorRecoveryLevel promises (RFC 7143 §7.1.5, §11.16).
//!
//! Most rules bind only who has agreed to a level above 0. What no target may do is to agree to one and not to keep it.

use iscsi_proto::wire::bhs::{FINAL, RESERVED_TAG, STATUS, SnackRequest};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::management::SOLICITED;
use crate::session::{Reply, Session, Task};
use crate::wire::Heard;
use crate::words;

checks! {
    "recovery.level.kept", "RFC 7143 §7.1.5", Must, Reads,
        "ErrorRecoveryLevel=2 in the login; a Status SNACK if the answer is not 0"
        => "a target that answers 1 or 2 sends the status again", level_kept;
    "recovery.snack.level-0", "RFC 7143 §11.16", Must, Reads,
        "a Status SNACK for a status that was never sent, at ErrorRecoveryLevel 0"
        => "a Reject", level_0;
    "recovery.status.one", "RFC 7143 §11.16", Must, Reads,
        "a Status SNACK for the status of a command"
        => "the very PDU once more, but for ExpCmdSN, MaxCmdSN and ExpDataSN", status_one;
    "recovery.status.run", "RFC 7143 §11.16.7", Must, Reads,
        "a Status SNACK with RunLength 0 from the first of two statuses"
        => "both of them once more", status_run;
    "recovery.status.acknowledged", "RFC 7143 §11.16", Must, Reads,
        "a Status SNACK for a status that ExpStatSN has acknowledged"
        => "a Reject with reason 04h, Protocol Error", status_acknowledged;
    "recovery.data.one", "RFC 7143 §11.16", Must, Reads,
        "a Data SNACK for the second Data-In of a READ"
        => "the very PDU once more, but for ExpCmdSN and MaxCmdSN", data_one;
    "recovery.data.all", "RFC 7143 §11.16", Must, Reads,
        "a Data SNACK with BegRun and RunLength 0"
        => "every Data-In of the READ once more", data_all;
    "recovery.data.acknowledgement", "RFC 7143 §11.16.2", Must, Reads,
        "a SNACK of type DataACK for a Data-In with the A bit"
        => "nothing: it is not answered", data_acknowledgement;
    "recovery.r-data", "RFC 7143 §11.16.3", Must, Reads,
        "an R-Data SNACK behind a READ"
        => "all data once more, and a SCSI Response with the SNACK Tag and the old StatSN", r_data;
    "recovery.r2t", "RFC 7143 §11.16", Must, Writes,
        "an R2T SNACK for the R2T of a WRITE, then the data"
        => "the very R2T once more, and GOOD", r2t;
}

async fn level_kept(bench: &Bench) -> Verdict {
    let mut session = bench.session_with(&[("ErrorRecoveryLevel", "2")]).await?;
    let level = session.answers.number("ErrorRecoveryLevel").unwrap_or(0);
    if level == 0 {
        return Ok(());
    }
    let reply = unacknowledged(&mut session, &Task::bare(&[0; 6])).await?;
    let lost = last(&reply)?;
    let snack = status_snack(&session, stat_sn(lost), 1);
    let said = said_to(&mut session, snack).await?;
    match said.iter().find(|pdu| is_replica(pdu, lost)) {
        Some(_) => Ok(()),
        None => violation!(
            "ErrorRecoveryLevel={level} is the answer, but a Status SNACK brings {}",
            named(&said)
        ),
    }
}

async fn level_0(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let snack = status_snack(&session, session.exp_stat_sn.wrapping_add(FAR), 1);
    session.send(Pdu::bare(snack)).await;
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    match session.next().await {
        // At level 0 a recovery may fail, but a SNACK for what was never sent has its answer at every level.
        Heard::Closed => violation!("the connection is closed instead of the SNACK rejected"),
        Heard::Pdu(Pdu {
            header: Header::Reject(reject),
            ..
        }) => {
            // Who knows no SNACK at all may say so.
            ensure!(
                matches!(reject.reason, 0x03..=0x05),
                "a SNACK at ErrorRecoveryLevel 0 is rejected with reason {:#04x} instead of 0x04",
                reject.reason
            );
            Ok(())
        }
        Heard::Pdu(pdu) => violation!(
            "{} behind a SNACK at ErrorRecoveryLevel 0 instead of a Reject",
            Heard::Pdu(pdu)
        ),
        other => violation!("{other} to a SNACK at ErrorRecoveryLevel 0"),
    }
}

async fn status_one(bench: &Bench) -> Verdict {
    let mut session = recovering(bench).await?;
    let reply = unacknowledged(&mut session, &Task::bare(&[0; 6])).await?;
    let lost = last(&reply)?;
    let snack = status_snack(&session, stat_sn(lost), 1);
    expect_replicas(&mut session, snack, &[lost]).await
}

async fn status_run(bench: &Bench) -> Verdict {
    let mut session = recovering(bench).await?;
    let first = unacknowledged(&mut session, &Task::bare(&[0; 6])).await?;
    let second = unacknowledged(&mut session, &Task::bare(&[0; 6])).await?;
    let lost = [last(&first)?, last(&second)?];
    let snack = status_snack(&session, stat_sn(lost[0]), 0);
    expect_replicas(&mut session, snack, &lost).await
}

async fn status_acknowledged(bench: &Bench) -> Verdict {
    let mut session = recovering(bench).await?;
    let reply = session.run(&Task::bare(&[0; 6])).await?;
    // The ping acknowledges it.
    session.said_before_ping().await?;
    let snack = status_snack(&session, stat_sn(last(&reply)?), 1);
    expect_protocol_error(&mut session, snack).await
}

async fn data_one(bench: &Bench) -> Verdict {
    let (mut session, reply) = read(bench).await?;
    let Some(lost) = reply.pdus.get(1) else {
        skip!("{} bytes come in a single Data-In", reply.data.len());
    };
    let snack = data_snack(&session, &reply, 1, 1);
    expect_replicas(&mut session, snack, &[lost]).await
}

async fn data_all(bench: &Bench) -> Verdict {
    let (mut session, reply) = read(bench).await?;
    let all = reply.pdus.iter();
    let all: Vec<&Pdu> = all
        .filter(|pdu| matches!(pdu.header, Header::DataIn(_)))
        .collect();
    let snack = data_snack(&session, &reply, 0, 0);
    expect_replicas(&mut session, snack, &all).await
}

async fn data_acknowledgement(bench: &Bench) -> Verdict {
    let (mut session, reply) = read(bench).await?;
    let mut asking = reply.pdus.iter().filter_map(|pdu| match pdu.header {
        Header::DataIn(data) if data.flags & ACKNOWLEDGE != 0 => Some(data),
        _ => None,
    });
    let Some(asking) = asking.next() else {
        skip!("no Data-In asks for an acknowledgement");
    };
    let snack = SnackRequest {
        kind: FINAL | 2,
        lun: asking.lun,
        initiator_task_tag: RESERVED_TAG.into(),
        target_transfer_tag: asking.target_transfer_tag,
        beg_run: asking.data_sn.get().wrapping_add(1).into(),
        ..status_snack(&session, 0, 0)
    };
    let said = said_to(&mut session, snack).await?;
    ensure!(
        said.is_empty(),
        "{} to the acknowledgement of data",
        named(&said)
    );
    Ok(())
}

async fn r_data(bench: &Bench) -> Verdict {
    let (mut session, reply) = read(bench).await?;
    let snack = SnackRequest {
        kind: FINAL | 3,
        target_transfer_tag: SNACK_TAG.into(),
        ..data_snack(&session, &reply, 0, 0)
    };
    let said = said_to(&mut session, snack).await?;
    let mut data = Vec::new();
    for pdu in &said {
        if matches!(pdu.header, Header::DataIn(_)) {
            data.extend_from_slice(&pdu.data);
        }
    }
    ensure!(
        data == reply.data,
        "{} bytes come again, of {}",
        data.len(),
        reply.data.len()
    );
    let Some(Header::ScsiResponse(response)) = said.last().map(|pdu| pdu.header) else {
        violation!("no SCSI Response at the end of {}", named(&said));
    };
    let old = stat_sn(last(&reply)?);
    ensure!(
        response.snack_tag.get() == SNACK_TAG && response.stat_sn.get() == old,
        "SNACK Tag {:08x} and StatSN {} instead of {SNACK_TAG:08x} and {old}",
        response.snack_tag.get(),
        response.stat_sn.get()
    );
    Ok(())
}

async fn r2t(bench: &Bench) -> Verdict {
    let mut keys = SOLICITED.to_vec();
    keys.push(("ErrorRecoveryLevel", "1"));
    let mut session = bench.session_with(&keys).await?;
    claims(&session)?;
    let held = bench.hold(&mut session, 0, 0x11).await?;
    let snack = SnackRequest {
        kind: FINAL,
        lun: held.header.lun,
        initiator_task_tag: held.header.initiator_task_tag,
        run_length: 1.into(),
        ..status_snack(&session, 0, 0)
    };
    let lost = Pdu::bare(held.r2t);
    expect_replicas(&mut session, snack, &[&lost]).await?;
    session.conclude(&held).await?.good("the WRITE")?;
    Ok(())
}

/// A session whose target has agreed to ErrorRecoveryLevel 1.
async fn recovering(bench: &Bench) -> Result<Session, Finding> {
    let keys = [
        ("ErrorRecoveryLevel", "1"),
        ("MaxRecvDataSegmentLength", "512"),
    ];
    let session = bench.session_with(&keys).await?;
    claims(&session)?;
    Ok(session)
}

fn claims(session: &Session) -> Verdict {
    match session.answers.number("ErrorRecoveryLevel") {
        Some(1) => Ok(()),
        _ => skip!("the target does not agree to ErrorRecoveryLevel 1"),
    }
}

/// Runs a command and does not acknowledge its status.
async fn unacknowledged(session: &mut Session, task: &Task) -> Result<Reply, Finding> {
    let before = session.exp_stat_sn;
    let reply = session.run(task).await?;
    session.exp_stat_sn = before;
    Ok(reply)
}

/// A READ whose data comes in several PDUs, and whose status is not acknowledged.
async fn read(bench: &Bench) -> Result<(Session, Reply), Finding> {
    let mut session = recovering(bench).await?;
    let block = bench.facts.block_bytes.max(1);
    let blocks = u8::try_from((2048 / block).max(1)).unwrap_or(1);
    let cdb = [0x28, 0, 0, 0, 0, 0, 0, 0, blocks];
    let read = Task::read(&cdb, block.saturating_mul(blocks.into()));
    let reply = unacknowledged(&mut session, &read).await?;
    Ok((session, reply.good("READ (10)")?))
}

/// The PDU with the status.
fn last(reply: &Reply) -> Result<&Pdu, Finding> {
    match reply.pdus.last() {
        Some(pdu) => Ok(pdu),
        None => violation!("a command without a status"),
    }
}

fn stat_sn(pdu: &Pdu) -> u32 {
    let four = pdu.header.as_bytes().get(24..28);
    let four = four.and_then(|four| four.try_into().ok());
    four.map_or(0, u32::from_be_bytes)
}

fn status_snack(session: &Session, begin: u32, length: u32) -> SnackRequest {
    SnackRequest {
        kind: FINAL | 1,
        initiator_task_tag: RESERVED_TAG.into(),
        target_transfer_tag: RESERVED_TAG.into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        beg_run: begin.into(),
        run_length: length.into(),
        ..SnackRequest::default()
    }
}

fn data_snack(session: &Session, reply: &Reply, begin: u32, length: u32) -> SnackRequest {
    let first = reply.pdus.first().map(|pdu| pdu.header.common());
    SnackRequest {
        kind: FINAL,
        lun: session.lun.0.into(),
        initiator_task_tag: first
            .map_or_else(|| RESERVED_TAG.into(), |first| first.initiator_task_tag),
        ..status_snack(session, begin, length)
    }
}

/// Sends a SNACK and takes all that comes up to the answer to a ping behind it.
async fn said_to(session: &mut Session, snack: SnackRequest) -> Result<Vec<Pdu>, Finding> {
    session.send(Pdu::bare(snack)).await;
    match session.said_before_ping().await {
        Err(Finding::Violation(why)) => violation!("a SNACK, and {why}"),
        said => said,
    }
}

async fn expect_replicas(session: &mut Session, snack: SnackRequest, lost: &[&Pdu]) -> Verdict {
    let said = said_to(session, snack).await?;
    for pdu in lost {
        ensure!(
            said.iter().any(|again| is_replica(again, pdu)),
            "the SNACK brings {}, and no exact replica of the {} with number {}",
            named(&said),
            Heard::Pdu((*pdu).clone()),
            number(pdu)
        );
    }
    Ok(())
}

async fn expect_protocol_error(session: &mut Session, snack: SnackRequest) -> Verdict {
    let said = said_to(session, snack).await?;
    let reasons = said.iter().filter_map(|pdu| match pdu.header {
        Header::Reject(reject) => Some(reject.reason),
        _ => None,
    });
    let reasons: Vec<u8> = reasons.collect();
    ensure!(
        reasons == [0x04],
        "the SNACK brings {} with reasons {}, instead of one Reject with reason 04h",
        named(&said),
        words::codes(&reasons)
    );
    Ok(())
}

/// The same PDU but for ExpCmdSN and MaxCmdSN; ExpDataSN of a response and StatSN of an R2T are those of now as well.
fn is_replica(again: &Pdu, first: &Pdu) -> bool {
    let (again_bytes, bytes) = (again.header.as_bytes(), first.header.as_bytes());
    let free = |at: usize| match first.header {
        Header::ScsiResponse(_) => (28..40).contains(&at),
        Header::ReadyToTransfer(_) => (24..36).contains(&at),
        _ => (28..36).contains(&at),
    };
    let mut places = again_bytes.iter().zip(bytes).enumerate();
    let same = places.all(|(at, (again, first))| again == first || free(at));
    same && again_bytes.len() == bytes.len() && again.data == first.data
}

/// What a transcript would number the PDU by.
fn number(pdu: &Pdu) -> String {
    match &pdu.header {
        Header::DataIn(data) if data.flags & STATUS == 0 => {
            format!("DataSN {}", data.data_sn.get())
        }
        Header::ReadyToTransfer(r2t) => format!("R2TSN {}", r2t.r2t_sn.get()),
        _ => format!("StatSN {}", stat_sn(pdu)),
    }
}

fn named(said: &[Pdu]) -> String {
    if said.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<String> = said
        .iter()
        .map(|pdu| Heard::Pdu(pdu.clone()).to_string())
        .collect();
    names.join(", ")
}

/// The A bit of Data-In.
const ACKNOWLEDGE: u8 = 0x40;
/// So far ahead that no number of a check comes to it.
const FAR: u32 = 1000;
/// A SNACK Tag of an R-Data SNACK.
const SNACK_TAG: u32 = 0x0051_ac00;
