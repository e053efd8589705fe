//! R2T, and answers to it that a target has to notice (RFC 7143 §11.8).

use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, RESERVED_TAG, ReadyToTransfer};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::session::Session;
use crate::stretch::{End, Stretch};
use crate::wire::Heard;
use crate::words;

use super::data_out::{
    SOLICITED, asked, data_out, pieces, send_cut, session, takes_immediate, waiting,
};

checks! {
    "r2t.r2tsn", "RFC 7143 §4.2.2.4", Must, Writes,
        "a WRITE whose data takes several R2Ts"
        => "R2TSN goes up by one from 0", r2t_sn;
    "r2t.length", "RFC 7143 §11.8.4", Must, Writes,
        "MaxBurstLength=4096, and a WRITE of 32 KiB"
        => "every R2T asks for at least one byte and at most 4096", length;
    "r2t.range", "RFC 7143 §11.8", Must, Writes,
        "DataSequenceInOrder=Yes, and a WRITE whose data takes several R2Ts"
        => "the R2Ts ask for continuous ranges, in order, up to the end of the data", range;
    "r2t.tag", "RFC 7143 §11.8.5", Must, Writes,
        "a WRITE whose data takes several R2Ts"
        => "no R2T with Target Transfer Tag ffffffff", tag;
    "r2t.header", "RFC 7143 §11.8", Must, Writes,
        "a WRITE whose data takes several R2Ts"
        => "the F bit, no other flag, no data segment and no additional header segment", header;
    "r2t.one-outstanding", "RFC 7143 §13.17", Must, Writes,
        "MaxOutstandingR2T=1, and a WRITE whose data takes several R2Ts"
        => "no second R2T before the first one is answered", one_outstanding;
    "r2t.some-outstanding", "RFC 7143 §13.17", Must, Writes,
        "MaxOutstandingR2T=3, and a WRITE whose data takes eight R2Ts"
        => "at most as many unanswered R2Ts as were agreed on", some_outstanding;
    "r2t.immediate-is-kept", "RFC 7143 §4.2.5.2", Should, Writes,
        "a WRITE with its first bytes as immediate data"
        => "the R2T asks for the rest, not for what came already", immediate_is_kept;
    "r2t.nothing-left", "RFC 7143 §4.2.5.2", Should, Writes,
        "a WRITE with all of its data in the command"
        => "no R2T", nothing_left;
    "r2t.answer.short", "RFC 7143 §11.4.7.2", Must, Writes,
        "an R2T answered with half of the data and the F bit"
        => "CHECK CONDITION, ABORTED COMMAND, 0c/0d, perhaps behind a Reject; or an R2T for what is missing", short;
    "r2t.answer.long", "RFC 7143 §11.4.7.2", Must, Writes,
        "an R2T answered with more data than it asked for"
        => "CHECK CONDITION, ABORTED COMMAND, 0c/0d; a Reject may come before", long;
    "r2t.answer.elsewhere", "RFC 7143 §11.8", Must, Writes,
        "an R2T answered with data for another Buffer Offset"
        => "the WRITE does not succeed: the data that was asked for did not come; a ping is answered, or the connection closed", elsewhere;
    "r2t.answer.other-tag", "RFC 7143 §11.7.4", Must, Writes,
        "a Data-Out PDU with a Target Transfer Tag that no R2T had, then the right ones"
        => "the WRITE does not succeed with the bytes of the stray PDU, and no R2T asks for more than there is", other_tag;
    "r2t.answer.gap", "RFC 7143 §7.9", Must, Writes,
        "an R2T answered with PDUs whose DataSN leaves out one number"
        => "what seems lost is asked for again, or the WRITE fails: no GOOD without either", gap;
    "r2t.answer.late", "RFC 7143 §11.7.1", Must, Writes,
        "a Data-Out PDU for a WRITE that is over"
        => "no second status, and nothing is written", late;
    "r2t.answer.no-task", "RFC 7143 §11.17.1", Should, Reads,
        "a Data-Out PDU for a task that never was"
        => "a Reject that says Invalid PDU field, if anything is said", no_task;
    "r2t.failure.waits", "RFC 7143 §11.4.2", Must, Writes,
        "an R2T answered first with data for another Buffer Offset, and later with the F bit"
        => "the status waits for the F bit", failure_waits;
}

/// A WRITE of 32 KiB of which nothing is sent unasked: every R2T is judged, with its number, before it is obeyed.
async fn judged(
    bench: &Bench,
    keys: &[(&str, &str)],
    mut judge: impl FnMut(u32, &ReadyToTransfer, &Pdu) -> Verdict,
) -> Verdict {
    let mut session = session(bench, keys).await?;
    if session.terms.max_burst > 4096 {
        skip!("MaxBurstLength=4096 ends as {}", session.terms.max_burst);
    }
    let stretch = Stretch::of(bench, 32768)?;
    let (command, data) = session.open(&stretch.write(&stretch.pattern(bench))).await;
    let tag = command.initiator_task_tag.get();
    for number in 0..MOST_R2TS {
        let pdu = session.receive().await?;
        match &pdu.header {
            Header::ReadyToTransfer(r2t) if r2t.initiator_task_tag.get() == tag => {
                judge(number, r2t, &pdu)?;
                session.obey(r2t, &data).await?;
            }
            Header::ScsiResponse(response) if response.initiator_task_tag.get() == tag => {
                ensure!(
                    response.status == 0,
                    "a WRITE ends with status {:#04x}",
                    response.status
                );
                return Ok(());
            }
            _ => violation!("{} while a WRITE is under way", Heard::Pdu(pdu)),
        }
    }
    violation!("a WRITE has no status after {MOST_R2TS} R2Ts")
}

async fn r2t_sn(bench: &Bench) -> Verdict {
    judged(bench, SOLICITED, |expected, r2t, _| {
        ensure!(
            r2t.r2t_sn.get() == expected,
            "R2T number {expected} of the WRITE has R2TSN {}",
            r2t.r2t_sn.get()
        );
        Ok(())
    })
    .await
}

async fn length(bench: &Bench) -> Verdict {
    judged(bench, SOLICITED, |number, r2t, _| {
        let asked = r2t.desired_data_transfer_length.get();
        ensure!(
            (1..=4096).contains(&asked),
            "R2T number {number} asks for {asked} bytes; MaxBurstLength is 4096"
        );
        Ok(())
    })
    .await
}

async fn range(bench: &Bench) -> Verdict {
    let keys = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "4096"),
        ("DataSequenceInOrder", "Yes"),
    ];
    let mut next = 0;
    judged(bench, &keys, |_, r2t, _| {
        ensure!(
            r2t.buffer_offset.get() == next,
            "R2T {} asks for bytes from {} on, and {next} bytes are before it",
            r2t.r2t_sn.get(),
            r2t.buffer_offset.get()
        );
        next += r2t.desired_data_transfer_length.get();
        Ok(())
    })
    .await?;
    let whole = Stretch::of(bench, 32768)?.bytes();
    ensure!(
        next == whole,
        "GOOD for a WRITE of {whole} bytes of which {next} were asked for"
    );
    Ok(())
}

async fn tag(bench: &Bench) -> Verdict {
    judged(bench, SOLICITED, |_, r2t, _| {
        ensure!(
            r2t.target_transfer_tag.get() != RESERVED_TAG,
            "R2T {} has Target Transfer Tag ffffffff",
            r2t.r2t_sn.get()
        );
        Ok(())
    })
    .await
}

async fn header(bench: &Bench) -> Verdict {
    judged(bench, SOLICITED, |_, r2t, pdu| {
        ensure!(
            r2t.flags == FINAL && r2t.reserved_2 == [0; 2],
            "bytes 1 to 3 of an R2T are {:02x} {}",
            r2t.flags,
            words::hex(&r2t.reserved_2)
        );
        ensure!(
            pdu.data.is_empty() && pdu.ahs.is_empty(),
            "an R2T has {} bytes of data and {} of additional header segments",
            pdu.data.len(),
            pdu.ahs.len()
        );
        Ok(())
    })
    .await
}

/// The unanswered R2Ts that a WRITE of eight bursts has at most.
async fn outstanding(bench: &Bench, asked_for: &str) -> Verdict {
    let keys = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "4096"),
        ("MaxOutstandingR2T", asked_for),
    ];
    let mut session = session(bench, &keys).await?;
    let Some(agreed) = session.answers.number("MaxOutstandingR2T") else {
        skip!("MaxOutstandingR2T is not answered with a number");
    };
    let stretch = Stretch::of(bench, 32768)?;
    let (command, data) = session.open(&stretch.write(&stretch.pattern(bench))).await;
    let first = session.r2t(command.initiator_task_tag.get()).await?;
    let mut unanswered = vec![first];
    let said = match session.said_before_ping().await {
        Err(Finding::Violation(why)) => skip!("to a ping while a WRITE waits for its data: {why}"),
        said => said?,
    };
    for pdu in said {
        match pdu.header {
            Header::ReadyToTransfer(r2t) => unanswered.push(r2t),
            _ => violation!("{} while a WRITE waits for its data", Heard::Pdu(pdu)),
        }
    }
    ensure!(
        u32::try_from(unanswered.len()).is_ok_and(|count| count <= agreed),
        "{} R2Ts are unanswered; MaxOutstandingR2T is {agreed}",
        unanswered.len()
    );
    for r2t in unanswered {
        session.obey(&r2t, &data).await?;
    }
    let reply = session.follow(command.initiator_task_tag.get(), data);
    reply.await?.good("WRITE (10)")?;
    Ok(())
}

async fn one_outstanding(bench: &Bench) -> Verdict {
    outstanding(bench, "1").await
}

async fn some_outstanding(bench: &Bench) -> Verdict {
    outstanding(bench, "3").await
}

async fn immediate_is_kept(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[("ImmediateData", "Yes")]).await?;
    takes_immediate(&session)?;
    let stretch = Stretch::of(bench, 4096)?;
    let data = stretch.pattern(bench);
    let command = session.command(&stretch.write(&data));
    session.send(Pdu::new(command, data.slice(..512))).await;
    let r2t = session.r2t(command.initiator_task_tag.get()).await?;
    ensure!(
        r2t.buffer_offset.get() >= 512,
        "512 bytes came with the command, and an R2T asks for those from {} on",
        r2t.buffer_offset.get()
    );
    session.obey(&r2t, &data).await?;
    let reply = session.follow(command.initiator_task_tag.get(), data);
    reply.await?.good("WRITE (10)")?;
    Ok(())
}

async fn nothing_left(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[("ImmediateData", "Yes")]).await?;
    takes_immediate(&session)?;
    let stretch = Stretch::of(bench, 4096)?;
    let task = stretch.write(&stretch.pattern(bench));
    let reply = session.run(&task).await?.good("WRITE (10)")?;
    let is_r2t = |pdu: &&Pdu| matches!(pdu.header, Header::ReadyToTransfer(_));
    let asked = reply.pdus.iter().filter(is_r2t).count();
    ensure!(
        asked == 0,
        "{asked} R2Ts for a WRITE that brought all of its data"
    );
    Ok(())
}

/// Anything but CHECK CONDITION, "Incorrect amount of data", is a violation.
pub(super) fn is_incorrect_amount(end: &End, what: &str) -> Verdict {
    match &end.reply {
        Some(reply) => reply.fails_with(what, 0x0b, 0x0c, 0x0d),
        None => violation!("{what}: the connection is closed instead of CHECK CONDITION b/0c/0d"),
    }
}

async fn short(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    let (command, r2t, stretch, data) = waiting(bench, &mut session).await?;
    let bytes = asked(&r2t, &data)?;
    let half = [bytes.slice(..bytes.len() / 2)];
    let from = usize::try_from(r2t.buffer_offset.get()).unwrap_or(0);
    send_cut(&mut session, &command, Some(&r2t), from, &half).await;
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    if end.is_good() && end.asked_again > 0 {
        // What is missing counts as lost, and is recovered (RFC 7143 §11.8).
        let what = "a WRITE of which a half was asked for again";
        return stretch.holds(&mut session, &data, what).await;
    }
    is_incorrect_amount(&end, "half of what an R2T asked for")
}

async fn long(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    let stretch = Stretch::of(bench, 8192)?;
    let (command, data) = session.open(&stretch.write(&stretch.pattern(bench))).await;
    let r2t = session.r2t(command.initiator_task_tag.get()).await?;
    let bytes = asked(&r2t, &data)?;
    if bytes.len() == data.len() {
        skip!("the target asks for {} bytes at once", data.len());
    }
    let more = pieces(&data.slice(..bytes.len() + 512), 1024);
    send_cut(&mut session, &command, Some(&r2t), 0, &more).await;
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    is_incorrect_amount(&end, "more than an R2T asked for")
}

async fn elsewhere(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    let (command, r2t, _, data) = waiting(bench, &mut session).await?;
    let bytes = asked(&r2t, &data)?;
    send_cut(&mut session, &command, Some(&r2t), ASTRAY, &[bytes]).await;
    let after = format!(
        "data for Buffer Offset {ASTRAY}, where {} was asked for,",
        r2t.buffer_offset.get()
    );
    let status = status_or_ping(&mut session, None, &after).await?;
    ensure!(status != Some(0), "GOOD for a WRITE after {after} came");
    Ok(())
}

/// The status of the only command, or none if it has none while a ping is answered, or until the connection ends. What
/// R2Ts ask for is sent if it is given.
async fn status_or_ping(
    session: &mut Session,
    data: Option<&Bytes>,
    after: &str,
) -> Result<Option<u8>, Finding> {
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    let (mut status, mut echoed) = (None, false);
    for _ in 0..MOST_SAID {
        let patience = if echoed { LATE } else { session.wire.patience };
        let pdu = match session.wire.next_within(patience).await {
            Heard::Pdu(pdu) => pdu,
            Heard::Silence if !echoed => violation!(
                "{after} leaves a connection that is open and dead: a ping is not answered"
            ),
            // Rejected, thrown away, or the end of the connection: the WRITE has not succeeded.
            _ => return Ok(status),
        };
        match &pdu.header {
            Header::NopIn(_) => echoed = true,
            Header::ScsiResponse(response) => status = Some(response.status),
            Header::ReadyToTransfer(r2t) => {
                if let Some(data) = data {
                    session.obey(r2t, data).await?;
                }
            }
            _ => {}
        }
        if echoed && status.is_some() {
            break;
        }
    }
    Ok(status)
}

async fn other_tag(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    let (command, r2t, stretch, data) = waiting(bench, &mut session).await?;
    let stray = ReadyToTransfer {
        target_transfer_tag: (r2t.target_transfer_tag.get() ^ 0x0055_5555).into(),
        ..r2t
    };
    let garbage = stretch.pattern(bench);
    let header = data_out(&session, &command, Some(&stray), 0, 0);
    session.send(Pdu::new(header, garbage.slice(..512))).await;
    session.obey(&r2t, &data).await?;
    let after = "a Data-Out PDU with another Target Transfer Tag";
    let status = status_or_ping(&mut session, Some(&data), after).await?;
    if status == Some(0) {
        let what = "a WRITE among whose data was a PDU with another Target Transfer Tag";
        stretch.holds(&mut session, &data, what).await?;
    }
    Ok(())
}

async fn gap(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    let (command, r2t, _, data) = waiting(bench, &mut session).await?;
    let parts = pieces(&asked(&r2t, &data)?, 1024);
    let from = usize::try_from(r2t.buffer_offset.get()).unwrap_or(0);
    for (number, part) in parts.iter().enumerate() {
        let sn = u32::try_from(number + usize::from(number > 0)).unwrap_or(u32::MAX);
        let mut header = data_out(&session, &command, Some(&r2t), sn, from + number * 1024);
        if number + 1 == parts.len() {
            header.flags = FINAL;
        }
        session.send(Pdu::new(header, part.clone())).await;
    }
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    ensure!(
        !end.is_good() || end.asked_again > 0,
        "GOOD for a WRITE whose Data-Out PDUs had DataSN 0, 2, 3, ..: one seems lost"
    );
    Ok(())
}

async fn late(bench: &Bench) -> Verdict {
    let mut session = session(bench, SOLICITED).await?;
    let (command, r2t, stretch, data) = waiting(bench, &mut session).await?;
    session.obey(&r2t, &data).await?;
    let tag = command.initiator_task_tag.get();
    session
        .follow(tag, data.clone())
        .await?
        .good("WRITE (10)")?;
    let garbage = stretch.pattern(bench);
    let mut header = data_out(&session, &command, Some(&r2t), 0, 0);
    header.flags = FINAL;
    session.send(Pdu::new(header, garbage)).await;
    // A Reject is lawful, and so is the end of the connection (RFC 7143 §7.7, inconsistent fields).
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    for _ in 0..4 {
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            Heard::Closed => break,
            other => violation!("{other} behind data for a task that is over"),
        };
        match &pdu.header {
            Header::NopIn(_) => break,
            Header::Reject(_) => {}
            _ => violation!("{} for data of a task that is over", Heard::Pdu(pdu)),
        }
    }
    let mut other = bench.session().await?;
    let what = "a WRITE behind whose status more data came";
    stretch.holds(&mut other, &data, what).await
}

async fn no_task(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let ghost = session.command(&super::numbering::ready());
    session.cmd_sn = ghost.cmd_sn.get();
    let mut header = data_out(&session, &ghost, None, 0, 0);
    header.flags = FINAL;
    session
        .send(Pdu::new(header, Bytes::from_static(&[0x5a; 512])))
        .await;
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    for _ in 0..4 {
        let Heard::Pdu(pdu) = session.next().await else {
            return Ok(());
        };
        match &pdu.header {
            Header::NopIn(_) => return Ok(()),
            Header::Reject(reject) => ensure!(
                reject.reason == 0x09,
                "data for a task that never was is rejected with reason {:#04x}, not 0x09",
                reject.reason
            ),
            _ => violation!("{} for data of a task that never was", Heard::Pdu(pdu)),
        }
    }
    Ok(())
}

async fn failure_waits(bench: &Bench) -> Verdict {
    let mut session: Session = session(bench, SOLICITED).await?;
    let (command, r2t, _, data) = waiting(bench, &mut session).await?;
    let bytes = asked(&r2t, &data)?;
    let astray = data_out(&session, &command, Some(&r2t), 0, ASTRAY);
    session.send(Pdu::new(astray, bytes.slice(..512))).await;
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    for _ in 0..4 {
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            other => skip!("after data for another Buffer Offset: {other}"),
        };
        match &pdu.header {
            Header::NopIn(_) => break,
            Header::Reject(_) => {}
            Header::ReadyToTransfer(_) => return Ok(()),
            Header::ScsiResponse(response) => violation!(
                "status {:#04x} while data without the F bit is all that came for an R2T",
                response.status
            ),
            _ => violation!("{} while a WRITE waits for its data", Heard::Pdu(pdu)),
        }
    }
    let mut last = data_out(&session, &command, Some(&r2t), 1, 512);
    last.flags = FINAL;
    session.send(Pdu::new(last, bytes.slice(512..))).await;
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    if end.is_good() && end.asked_again == 0 {
        skip!("GOOD without 512 bytes of the data: the target noticed no error that could wait");
    }
    Ok(())
}

/// Where nothing was asked for.
const ASTRAY: usize = 1 << 20;
/// How long a status may take when pings are answered already.
const LATE: Duration = Duration::from_millis(500);
/// The most PDUs that are looked at.
const MOST_SAID: usize = 8;
/// The most R2Ts of one command.
const MOST_R2TS: u32 = 64;
