//! Data for the target in all its lawful forms (RFC 7143 §4.2.5.2, §11.7).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{DataOut, FINAL, RESERVED_TAG, ReadyToTransfer, ScsiCommand};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::session::Session;
use crate::stretch::{Stretch, writable};
use crate::wire::Heard;

use super::numbering::ready;

checks! {
    "data-out.solicited", "RFC 7143 §4.2.5.2", Must, Writes,
        "InitialR2T=Yes, ImmediateData=No, MaxBurstLength=4096, and a WRITE of 32 KiB"
        => "GOOD, and the bytes come back", solicited;
    "data-out.immediate", "RFC 7143 §13.11", Must, Writes,
        "ImmediateData=Yes, and a WRITE with all of its data in the command"
        => "GOOD, and the bytes come back", immediate;
    "data-out.immediate.part", "RFC 7143 §11.3.4", Must, Writes,
        "ImmediateData=Yes, and a WRITE with its first 512 bytes in the command"
        => "the rest is asked for; GOOD, and the bytes come back", immediate_part;
    "data-out.unsolicited", "RFC 7143 §13.10", Must, Writes,
        "InitialR2T=No, and a WRITE whose data follows in Data-Out PDUs without an R2T"
        => "GOOD, and the bytes come back", unsolicited;
    "data-out.mixed", "RFC 7143 §11.3.4", Must, Writes,
        "InitialR2T=No, ImmediateData=Yes, FirstBurstLength=4096: immediate data, unsolicited data, and the rest when asked for"
        => "GOOD, and the bytes come back", mixed;
    "data-out.small-pdus", "RFC 7143 §11.7.1", Must, Writes,
        "a WRITE whose data comes in PDUs of 500 bytes"
        => "GOOD, and the bytes come back", small_pdus;
    "data-out.empty-pdu", "RFC 7143 §11.7.7", Must, Writes,
        "a WRITE with an empty Data-Out PDU among the others"
        => "GOOD, and the bytes come back", empty_pdu;
    "data-out.final-alone", "RFC 7143 §11.7.7", Must, Writes,
        "a WRITE whose F bit comes in an empty Data-Out PDU behind the data"
        => "GOOD once, and the bytes come back", final_alone;
    "data-out.interleaved", "RFC 7143 §4.2.5.2", Must, Writes,
        "two WRITEs at once, their Data-Out PDUs in turns"
        => "GOOD for both, and the bytes of each come back", interleaved;
    "data-out.next-command-first", "RFC 7143 §4.2.5.2", Must, Writes,
        "InitialR2T=No; a WRITE, another command, and then the unsolicited data of the WRITE"
        => "both are carried out, and the bytes come back", next_command_first;
    "data-out.many", "RFC 7143 §4.2.5.2", Must, Writes,
        "eight WRITEs at once, each R2T obeyed as it comes"
        => "GOOD for all, and the bytes of each come back", many;
}

/// Nothing unsolicited, in small bursts.
pub(super) const SOLICITED: &[(&str, &str)] = &[
    ("InitialR2T", "Yes"),
    ("ImmediateData", "No"),
    ("MaxBurstLength", "4096"),
];

/// A session in which the unit may be written.
pub(super) async fn session(bench: &Bench, keys: &[(&str, &str)]) -> Result<Session, Finding> {
    let mut session = bench.session_with(keys).await?;
    writable(&mut session).await?;
    Ok(session)
}

/// A session in which the target takes unsolicited Data-Out.
pub(super) async fn uninvited(bench: &Bench, keys: &[(&str, &str)]) -> Result<Session, Finding> {
    let session = session(bench, keys).await?;
    if session.terms.initial_r2t {
        skip!("the target insists on InitialR2T=Yes");
    }
    Ok(session)
}

/// Skips the check unless the target takes immediate data.
pub(super) fn takes_immediate(session: &Session) -> Verdict {
    if !session.terms.immediate_data {
        skip!("the target insists on ImmediateData=No");
    }
    Ok(())
}

/// The header of a Data-Out PDU that answers an R2T, or of an unsolicited one.
pub(super) fn data_out(
    session: &Session,
    command: &ScsiCommand,
    r2t: Option<&ReadyToTransfer>,
    data_sn: u32,
    offset: usize,
) -> DataOut {
    DataOut {
        lun: command.lun,
        initiator_task_tag: command.initiator_task_tag,
        target_transfer_tag: r2t
            .map_or(RESERVED_TAG, |r2t| r2t.target_transfer_tag.get())
            .into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        data_sn: data_sn.into(),
        buffer_offset: u32::try_from(offset).unwrap_or(u32::MAX).into(),
        ..DataOut::default()
    }
}

/// Data for one sequence, cut into PDUs of these lengths; the last one ends it.
pub(super) async fn send_cut(
    session: &mut Session,
    command: &ScsiCommand,
    r2t: Option<&ReadyToTransfer>,
    from: usize,
    parts: &[Bytes],
) {
    let mut offset = from;
    for (part, number) in parts.iter().zip(0u32..) {
        let mut header = data_out(session, command, r2t, number, offset);
        if usize::try_from(number).is_ok_and(|number| number + 1 == parts.len()) {
            header.flags = FINAL;
        }
        session.send(Pdu::new(header, part.clone())).await;
        offset += part.len();
    }
}

/// The bytes in pieces of at most this length.
pub(super) fn pieces(bytes: &Bytes, length: usize) -> Vec<Bytes> {
    let starts = (0..bytes.len()).step_by(length.max(1));
    starts
        .map(|start| bytes.slice(start..bytes.len().min(start + length)))
        .collect()
}

/// What an R2T asks for, if it lies within the data.
pub(super) fn asked(r2t: &ReadyToTransfer, data: &Bytes) -> Result<Bytes, Finding> {
    let start = usize::try_from(r2t.buffer_offset.get()).unwrap_or(usize::MAX);
    let bytes = usize::try_from(r2t.desired_data_transfer_length.get()).unwrap_or(usize::MAX);
    let end = start.saturating_add(bytes);
    ensure!(
        bytes > 0 && end <= data.len(),
        "an R2T for bytes {start} to {end} of {}",
        data.len()
    );
    Ok(data.slice(start..end))
}

/// A WRITE as the terms of the session allow it, and its bytes read back.
async fn round_trip(bench: &Bench, session: &mut Session, bytes: u32, what: &str) -> Verdict {
    let stretch = Stretch::of(bench, bytes)?;
    let data = stretch.pattern(bench);
    session.run(&stretch.write(&data)).await?.good(what)?;
    stretch.holds(session, &data, what).await
}

async fn solicited(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    round_trip(
        bench,
        &mut session,
        32768,
        "a WRITE without unsolicited data",
    )
    .await
}

async fn immediate(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[("ImmediateData", "Yes")]).await?;
    takes_immediate(&session)?;
    round_trip(bench, &mut session, 4096, "a WRITE with immediate data").await
}

async fn immediate_part(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[("ImmediateData", "Yes")]).await?;
    takes_immediate(&session)?;
    let stretch = Stretch::of(bench, 8192)?;
    let data = stretch.pattern(bench);
    let command = session.command(&stretch.write(&data));
    session.send(Pdu::new(command, data.slice(..512))).await;
    let what = "a WRITE with some immediate data";
    let tag = command.initiator_task_tag.get();
    session.follow(tag, data.clone()).await?.good(what)?;
    stretch.holds(&mut session, &data, what).await
}

async fn unsolicited(bench: &Bench) -> Verdict {
    let keys = [("InitialR2T", "No"), ("ImmediateData", "No")];
    let mut session = uninvited(bench, &keys).await?;
    round_trip(
        bench,
        &mut session,
        16384,
        "a WRITE with unsolicited Data-Out",
    )
    .await
}

async fn mixed(bench: &Bench) -> Verdict {
    let keys = [
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("FirstBurstLength", "4096"),
    ];
    let mut session = uninvited(bench, &keys).await?;
    takes_immediate(&session)?;
    let burst = usize::try_from(session.terms.first_burst).unwrap_or(512);
    let stretch = Stretch::of(bench, 16384)?;
    let data = stretch.pattern(bench);
    let mut command = session.command(&stretch.write(&data));
    command.flags &= !FINAL;
    session.send(Pdu::new(command, data.slice(..256))).await;
    let rest = pieces(&data.slice(256..burst.min(data.len())), 1024);
    send_cut(&mut session, &command, None, 256, &rest).await;
    let what = "a WRITE with immediate, unsolicited and solicited data";
    let tag = command.initiator_task_tag.get();
    session.follow(tag, data.clone()).await?.good(what)?;
    stretch.holds(&mut session, &data, what).await
}

/// A WRITE of 4096 bytes whose R2T was taken.
pub(super) async fn waiting(
    bench: &Bench,
    session: &mut Session,
) -> Result<(ScsiCommand, ReadyToTransfer, Stretch, Bytes), Finding> {
    let stretch = Stretch::of(bench, 4096)?;
    let data = stretch.pattern(bench);
    let (command, data) = session.open(&stretch.write(&data)).await;
    let r2t = session.r2t(command.initiator_task_tag.get()).await?;
    Ok((command, r2t, stretch, data))
}

/// A WRITE whose first R2T is answered with PDUs of a peculiar cut.
async fn peculiar(bench: &Bench, what: &str, cut: fn(Bytes) -> Vec<Bytes>) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    let (command, r2t, stretch, data) = waiting(bench, &mut session).await?;
    let from = usize::try_from(r2t.buffer_offset.get()).unwrap_or(0);
    let parts = cut(asked(&r2t, &data)?);
    send_cut(&mut session, &command, Some(&r2t), from, &parts).await;
    let tag = command.initiator_task_tag.get();
    session.follow(tag, data.clone()).await?.good(what)?;
    stretch.holds(&mut session, &data, what).await
}

async fn small_pdus(bench: &Bench) -> Verdict {
    let what = "a WRITE with PDUs of 500 bytes";
    peculiar(bench, what, |bytes| pieces(&bytes, 500)).await
}

async fn empty_pdu(bench: &Bench) -> Verdict {
    peculiar(bench, "a WRITE with an empty PDU", |bytes| {
        let mut parts = pieces(&bytes, 1024);
        parts.insert(1, Bytes::new());
        parts
    })
    .await
}

async fn final_alone(bench: &Bench) -> Verdict {
    let what = "a WRITE whose F bit comes alone";
    let mut session = session(bench, SOLICITED).await?;
    let (command, r2t, stretch, data) = waiting(bench, &mut session).await?;
    let from = usize::try_from(r2t.buffer_offset.get()).unwrap_or(0);
    let parts = [asked(&r2t, &data)?, Bytes::new()];
    send_cut(&mut session, &command, Some(&r2t), from, &parts).await;
    let tag = command.initiator_task_tag.get();
    // Who has all the data may end the task before the F bit comes, and reject the PDU that has it.
    let end = session.end_of(tag, &data).await?;
    ensure!(end.is_good(), "{what}: {} instead of GOOD", end.outcome());
    let again = session.said_before_ping().await?;
    if let Some(pdu) = again
        .into_iter()
        .find(|pdu| pdu.header.common().initiator_task_tag.get() == tag)
    {
        violation!("{} behind the status of {what}", Heard::Pdu(pdu));
    }
    stretch.holds(&mut session, &data, what).await
}

async fn interleaved(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    if session.max_cmd_sn == session.cmd_sn {
        skip!("the window holds one command");
    }
    let (first, first_r2t, place, old) = waiting(bench, &mut session).await?;
    let other = Stretch::of(bench, 4096)?.beside(64);
    let new = other.pattern(bench);
    let (second, new) = session.open(&other.write(&new)).await;
    let Heard::Pdu(pdu) = session.next().await else {
        skip!("the target asks for the data of one WRITE at a time");
    };
    let Header::ReadyToTransfer(second_r2t) = pdu.header else {
        skip!("{} instead of an R2T for a second WRITE", Heard::Pdu(pdu));
    };
    let parts = [
        pieces(&asked(&first_r2t, &old)?, 1024),
        pieces(&asked(&second_r2t, &new)?, 1024),
    ];
    let most = parts.iter().map(Vec::len).max().unwrap_or(0);
    for number in 0..most {
        for ((command, r2t), parts) in [(&first, &first_r2t), (&second, &second_r2t)]
            .into_iter()
            .zip(&parts)
        {
            let Some(part) = parts.get(number) else {
                continue;
            };
            let sn = u32::try_from(number).unwrap_or(u32::MAX);
            let start = usize::try_from(r2t.buffer_offset.get()).unwrap_or(0);
            let mut header = data_out(&session, command, Some(r2t), sn, start + number * 1024);
            if number + 1 == parts.len() {
                header.flags = FINAL;
            }
            session.send(Pdu::new(header, part.clone())).await;
        }
    }
    let mut tasks = vec![
        (first.initiator_task_tag.get(), old.clone()),
        (second.initiator_task_tag.get(), new.clone()),
    ];
    gather(&mut session, &mut tasks).await?;
    place
        .holds(&mut session, &old, "the first of two WRITEs")
        .await?;
    other
        .holds(&mut session, &new, "the second of two WRITEs")
        .await
}

/// Does what R2Ts of these tasks ask for until each has its status, which has to be GOOD.
async fn gather(session: &mut Session, tasks: &mut Vec<(u32, Bytes)>) -> Verdict {
    for _ in 0..MOST_PDUS {
        if tasks.is_empty() {
            return Ok(());
        }
        let pdu = session.receive().await?;
        let tag = pdu.header.common().initiator_task_tag.get();
        let at = tasks.iter().position(|(task, _)| *task == tag);
        match (&pdu.header, at.and_then(|at| tasks.get(at))) {
            (Header::ReadyToTransfer(r2t), Some((_, data))) => {
                let data = data.clone();
                session.obey(r2t, &data).await?;
            }
            (Header::ScsiResponse(response), Some(_)) => {
                ensure!(
                    response.status == 0,
                    "one of {} WRITEs ends with status {:#04x}",
                    tasks.len(),
                    response.status
                );
                tasks.retain(|(task, _)| *task != tag);
            }
            _ => violation!(
                "{} about task {tag:08x} while WRITEs are under way",
                Heard::Pdu(pdu)
            ),
        }
    }
    violation!(
        "{} WRITEs have no status after {MOST_PDUS} PDUs",
        tasks.len()
    )
}

async fn next_command_first(bench: &Bench) -> Verdict {
    let keys = [("InitialR2T", "No"), ("ImmediateData", "No")];
    let mut session = uninvited(bench, &keys).await?;
    let stretch = Stretch::of(bench, 4096)?;
    let data = stretch.pattern(bench);
    let mut write = session.command(&stretch.write(&data));
    write.flags &= !FINAL;
    session.send(Pdu::bare(write)).await;
    let other = session.command(&ready());
    session.send(Pdu::bare(other)).await;
    send_cut(&mut session, &write, None, 0, &pieces(&data, 1024)).await;
    let mut tasks = vec![
        (write.initiator_task_tag.get(), data.clone()),
        (other.initiator_task_tag.get(), Bytes::new()),
    ];
    gather(&mut session, &mut tasks).await?;
    let what = "a WRITE whose data came behind another command";
    stretch.holds(&mut session, &data, what).await
}

async fn many(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    let room = session
        .max_cmd_sn
        .wrapping_sub(session.cmd_sn)
        .wrapping_add(1);
    let mut writes = Vec::new();
    let mut tasks = Vec::new();
    for number in 0..room.min(8) {
        let stretch = Stretch::of(bench, 8192)?.beside(64 * number);
        let data = stretch.pattern(bench);
        let (command, data) = session.open(&stretch.write(&data)).await;
        tasks.push((command.initiator_task_tag.get(), data.clone()));
        writes.push((stretch, data));
    }
    gather(&mut session, &mut tasks).await?;
    for (stretch, data) in writes {
        stretch
            .holds(&mut session, &data, "one of several WRITEs at once")
            .await?;
    }
    Ok(())
}

/// The most PDUs of several WRITEs.
const MOST_PDUS: usize = 512;
