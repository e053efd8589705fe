//! Retries, tags in use, immediate delivery, connection allegiance (RFC 7143 §4.2.2.1, §4.2.5.1, §7.2.1).

use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, IMMEDIATE, NopOut, READ, ScsiCommand};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::session::{Session, Task};
use crate::stretch::{Stretch, writable};
use crate::wire::Heard;
use crate::words;

use super::numbering::{answers, nothing_said, ready, vain_abort};

checks! {
    "numbering.retry.answered", "RFC 7143 §7.2.1", Must, Reads,
        "the same TEST UNIT READY again after it was answered"
        => "the retry is ignored silently", retry_after_answer;
    "numbering.retry.waiting", "RFC 7143 §7.2.1", Must, Reads,
        "a command whose predecessor is missing, the same again, then the predecessor"
        => "the command is answered once", retry_while_waiting;
    "numbering.retry.in-progress", "RFC 7143 §7.2.1", Must, Writes,
        "the same WRITE again while the target waits for its data, then the data"
        => "the retry is ignored silently: no further R2T, and one status", retry_in_progress;
    "numbering.tag.in-use", "RFC 7143 §4.2.2.1", Must, Writes,
        "INQUIRY under the tag of a WRITE that waits for its data"
        => "the INQUIRY is not carried out beside the WRITE: no data comes for it", tag_in_use;
    "numbering.immediate.no-number", "RFC 7143 §4.2.2.1", Must, Reads,
        "an immediate NOP-Out and an immediate task management request, then a command with the same CmdSN"
        => "ExpCmdSN does not move, and the command is carried out", no_number;
    "numbering.immediate.command", "RFC 7143 §4.2.2.1", Must, Reads,
        "an immediate TEST UNIT READY, then one with the same CmdSN that is not"
        => "neither takes the other's place: both are answered", immediate_command;
    "numbering.immediate.two-at-once", "RFC 7143 §4.2.2.1", Must, Reads,
        "an immediate task management request and an immediate NOP-Out, without waiting in between"
        => "both are answered", two_at_once;
    "numbering.immediate.full-window", "RFC 7143 §4.2.2.1", Must, Reads,
        "a window full of commands whose predecessor is missing, and an immediate NOP-Out with a CmdSN beyond it"
        => "the NOP-Out is answered at once; the commands once the gap is filled", full_window;
    "numbering.immediate.beyond-window", "RFC 7143 §4.2.2.1", Must, Reads,
        "an immediate NOP-Out whose CmdSN is MaxCmdSN plus one"
        => "it is answered: CmdSN of immediate commands may lie outside the window", beyond_window;
    "numbering.allegiance", "RFC 7143 §4.2.5.1", Must, Reads,
        "commands with the same tags and numbers in two sessions at once"
        => "each answer comes on the connection of its command", allegiance;
}

async fn retry_after_answer(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let command = session.command(&ready());
    let tag = command.initiator_task_tag.get();
    session.send(Pdu::bare(command)).await;
    answers(&mut session, &[tag]).await?;
    session.send(Pdu::bare(command)).await;
    nothing_said(
        &mut session,
        "to a retry of a command that is answered already",
    )
    .await?;
    session.run(&ready()).await?;
    Ok(())
}

async fn retry_while_waiting(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    if session.max_cmd_sn == session.cmd_sn {
        skip!("the window holds one command");
    }
    let commands = [(); 2].map(|()| session.command(&ready()));
    let [first, second] = commands;
    for command in [second, second, first] {
        session.send(Pdu::bare(command)).await;
    }
    let tags = commands.map(|command| command.initiator_task_tag.get());
    answers(&mut session, &tags).await?;
    nothing_said(
        &mut session,
        "although each command is answered: one was sent twice",
    )
    .await
}

/// A WRITE that waits for the data of its first R2T.
async fn waiting_write(bench: &Bench) -> Result<(Session, ScsiCommand, Bytes, Pdu), Finding> {
    let keys = [("InitialR2T", "Yes"), ("ImmediateData", "No")];
    let mut session = bench.session_with(&keys).await?;
    writable(&mut session).await?;
    let stretch = Stretch::of(bench, 4096)?;
    let (command, data) = session.open(&stretch.write(&stretch.pattern(bench))).await;
    let r2t = session.r2t(command.initiator_task_tag.get()).await?;
    Ok((session, command, data, Pdu::bare(r2t)))
}

async fn retry_in_progress(bench: &Bench) -> Verdict {
    let (mut session, command, data, r2t) = waiting_write(bench).await?;
    session.send(Pdu::bare(command)).await;
    nothing_said(&mut session, "to a retry of a WRITE in progress").await?;
    if let Header::ReadyToTransfer(r2t) = r2t.header {
        session.obey(&r2t, &data).await?;
    }
    let tag = command.initiator_task_tag.get();
    session
        .follow(tag, data.clone())
        .await?
        .good("WRITE (10)")?;
    nothing_said(&mut session, "after the status of a WRITE that was retried").await?;
    Stretch::of(bench, 4096)?
        .holds(&mut session, &data, "a WRITE that was retried")
        .await
}

async fn tag_in_use(bench: &Bench) -> Verdict {
    let (mut session, write, ..) = waiting_write(bench).await?;
    let mut inquiry = session.command(&Task::read(&[0x12, 0, 0, 0, 96], 96));
    inquiry.initiator_task_tag = write.initiator_task_tag;
    inquiry.flags = FINAL | READ | 1;
    session.send(Pdu::bare(inquiry)).await;
    // Ignoring, a Reject, OVERLAPPED COMMANDS ATTEMPTED and the end of the connection are all lawful.
    for _ in 0..MOST_SAID {
        let Heard::Pdu(pdu) = session.wire.next_within(LATE).await else {
            return Ok(());
        };
        match &pdu.header {
            Header::DataIn(_) => violation!("Data-In for an INQUIRY under the tag of a WRITE"),
            Header::ScsiResponse(answer) if answer.status == 0 => {
                violation!("GOOD under the tag of a WRITE that waits for its data")
            }
            _ => {}
        }
    }
    Ok(())
}

async fn no_number(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let command = session.command(&ready());
    session.send(Pdu::bare(command)).await;
    answers(&mut session, &[command.initiator_task_tag.get()]).await?;
    let next = session.cmd_sn;
    let ping = session.ping();
    let abort = vain_abort(&mut session, &command);
    for (what, pdu) in [
        ("NOP-Out", Pdu::bare(ping)),
        ("task management request", Pdu::bare(abort)),
    ] {
        session.send(pdu).await;
        session.receive().await?;
        ensure!(
            session.exp_cmd_sn == next,
            "an immediate {what} moves ExpCmdSN from {next} to {}",
            session.exp_cmd_sn
        );
    }
    let command = session.command(&ready());
    session.send(Pdu::bare(command)).await;
    answers(&mut session, &[command.initiator_task_tag.get()]).await?;
    Ok(())
}

async fn immediate_command(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let next = session.cmd_sn;
    let mut at_once = session.command(&ready());
    session.cmd_sn = next;
    at_once.opcode |= IMMEDIATE;
    session.send(Pdu::bare(at_once)).await;
    let answer = session.receive().await?;
    if matches!(answer.header, Header::Reject(_)) {
        skip!("the target takes no immediate SCSI commands");
    }
    ensure!(
        matches!(&answer.header, Header::ScsiResponse(r) if r.initiator_task_tag == at_once.initiator_task_tag),
        "{} instead of the status of an immediate command",
        Heard::Pdu(answer)
    );
    ensure!(
        session.exp_cmd_sn == next,
        "an immediate command moves ExpCmdSN from {next} to {}",
        session.exp_cmd_sn
    );
    let command = session.command(&ready());
    session.send(Pdu::bare(command)).await;
    answers(&mut session, &[command.initiator_task_tag.get()]).await?;
    Ok(())
}

async fn two_at_once(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let command = session.command(&ready());
    session.send(Pdu::bare(command)).await;
    answers(&mut session, &[command.initiator_task_tag.get()]).await?;
    let abort = vain_abort(&mut session, &command);
    let ping = session.ping();
    let mut bytes = session.wire.encode(&Pdu::bare(abort));
    bytes.extend(session.wire.encode(&Pdu::bare(ping)));
    session
        .wire
        .send_bytes("an immediate ABORT TASK and an immediate NOP-Out", &bytes)
        .await;
    let mut left = vec![
        abort.initiator_task_tag.get(),
        ping.initiator_task_tag.get(),
    ];
    while !left.is_empty() {
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            other => violation!(
                "{other} where answers to immediate {} are due",
                words::tags(&left)
            ),
        };
        let tag = pdu.header.common().initiator_task_tag.get();
        let Some(at) = left.iter().position(|left| *left == tag) else {
            violation!(
                "{} where answers to immediate {} are due",
                Heard::Pdu(pdu),
                words::tags(&left)
            );
        };
        left.swap_remove(at);
    }
    Ok(())
}

/// An immediate NOP-Out with this CmdSN has to be answered before anything else is said.
async fn answered(session: &mut Session, cmd_sn: u32) -> Verdict {
    let ping = NopOut {
        cmd_sn: cmd_sn.into(),
        ..session.ping()
    };
    session.send(Pdu::bare(ping)).await;
    match session.next().await {
        Heard::Pdu(pdu) => ensure!(
            matches!(&pdu.header, Header::NopIn(nop) if nop.initiator_task_tag == ping.initiator_task_tag),
            "{} instead of the answer to an immediate NOP-Out with CmdSN {cmd_sn}",
            Heard::Pdu(pdu)
        ),
        other => violation!(
            "{other} to an immediate NOP-Out with CmdSN {cmd_sn}, while ExpCmdSN is {} and MaxCmdSN {}",
            session.exp_cmd_sn,
            session.max_cmd_sn
        ),
    }
    Ok(())
}

async fn full_window(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let room = session
        .max_cmd_sn
        .wrapping_sub(session.cmd_sn)
        .wrapping_add(1);
    if !(2..=WIDEST).contains(&room) {
        skip!("the window has room for {room} commands: not to be filled sensibly");
    }
    let commands: Vec<ScsiCommand> = (0..room).map(|_| session.command(&ready())).collect();
    for command in commands.iter().skip(1) {
        session.send(Pdu::bare(*command)).await;
    }
    let beyond = session.cmd_sn;
    answered(&mut session, beyond).await?;
    for command in commands.iter().take(1) {
        session.send(Pdu::bare(*command)).await;
    }
    let tags: Vec<u32> = commands
        .iter()
        .map(|command| command.initiator_task_tag.get())
        .collect();
    answers(&mut session, &tags).await?;
    Ok(())
}

async fn beyond_window(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let beyond = session.max_cmd_sn.wrapping_add(1);
    answered(&mut session, beyond).await?;
    session.run(&ready()).await?;
    Ok(())
}

async fn allegiance(bench: &Bench) -> Verdict {
    // Both begin with the same CmdSN and count their tags alike.
    let mut one = bench.session().await?;
    let mut other = bench.session().await?;
    for _ in 0..3 {
        let (first, second) = (one.command(&ready()), other.command(&ready()));
        other.send(Pdu::bare(second)).await;
        one.send(Pdu::bare(first)).await;
        for (session, command) in [(&mut one, first), (&mut other, second)] {
            answers(session, &[command.initiator_task_tag.get()]).await?;
        }
    }
    nothing_said(&mut one, "about a command that came on another connection").await?;
    nothing_said(
        &mut other,
        "about a command that came on another connection",
    )
    .await
}

/// How long data for a command that must not run may take to come.
const LATE: Duration = Duration::from_millis(500);
/// The most PDUs that are looked at.
const MOST_SAID: usize = 16;
/// The widest window that is filled.
const WIDEST: u32 = 512;
