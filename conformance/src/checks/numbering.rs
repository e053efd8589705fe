//! CmdSN, ExpCmdSN and MaxCmdSN: the command window (RFC 7143 §4.2.2.1).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, IMMEDIATE, NopOut, ScsiCommand, TaskManagementRequest};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::session::{Numbers, Session, Task};
use crate::stretch::{Stretch, writable};
use crate::wire::Heard;
use crate::words;

checks! {
    "numbering.window.begin", "RFC 7143 §11.12.8", Must, Reads,
        "a login with CmdSN 123, and then TEST UNIT READY"
        => "ExpCmdSN is 123 at the end of the login, and 124 with the status of the command of that number", begin;
    "numbering.window.sane", "RFC 7143 §4.2.2.1", Must, Reads,
        "pings, commands with and without data, a task management request"
        => "no PDU with a MaxCmdSN below ExpCmdSN - 1", sane;
    "numbering.window.whole", "RFC 7143 §4.2.2.1", Must, Reads,
        "as many commands at once as the window has room for"
        => "each is answered, and the window is open again afterwards", whole;
    "numbering.window.r2t", "RFC 7143 §4.2.2.1", Must, Writes,
        "a WRITE whose data the target has to ask for"
        => "ExpCmdSN and MaxCmdSN of every R2T are sane, and the Data-Out PDUs take no number", r2t;
    "numbering.exp-cmdsn.acknowledges", "RFC 7143 §4.2.2.1", Must, Reads,
        "commands one after the other"
        => "ExpCmdSN of each status is the command's CmdSN plus one: the command is acknowledged, and none that was not sent", acknowledges;
    "numbering.exp-cmdsn.data-in", "RFC 7143 §4.2.2.1", Must, Reads,
        "a READ of several PDUs"
        => "ExpCmdSN of the PDU with the status is beyond the command's CmdSN", data_in;
    "numbering.exp-cmdsn.gap", "RFC 7143 §4.2.2.1", Must, Reads,
        "a command whose predecessor is missing, and a ping"
        => "ExpCmdSN stays at the number that is missing", gap_not_acknowledged;
    "numbering.cmdsn.above-window", "RFC 7143 §4.2.2.1", Must, Reads,
        "TEST UNIT READY with a CmdSN beyond MaxCmdSN"
        => "silence: no status, no Reject, and ExpCmdSN stays", above_window;
    "numbering.cmdsn.below-window", "RFC 7143 §4.2.2.1", Must, Reads,
        "TEST UNIT READY with the CmdSN before ExpCmdSN"
        => "silence: no status, no Reject, and ExpCmdSN stays", below_window;
    "numbering.cmdsn.far-below-window", "RFC 7143 §4.2.2.1", Must, Reads,
        "TEST UNIT READY with a CmdSN half a billion before ExpCmdSN"
        => "silence: no status, no Reject, and ExpCmdSN stays", far_below_window;
    "numbering.cmdsn.duplicate", "RFC 7143 §4.2.2.1", Must, Reads,
        "two commands of one CmdSN whose predecessor is missing, then the predecessor"
        => "the duplicate is ignored, the others are answered", duplicate;
    "numbering.cmdsn.gap", "RFC 7143 §4.2.2.1", Must, Reads,
        "a command whose predecessor is missing, a ping, then the predecessor"
        => "the command waits for its predecessor; then both are answered", gap;
    "numbering.cmdsn.order", "RFC 7143 §4.2.2.1", Must, Reads,
        "three ORDERED commands, the last one first"
        => "they are carried out in the order of their numbers", order;
    "numbering.cmdsn.wrap", "RFC 7143 §4.2.2.1", Must, Reads,
        "a login with CmdSN fffffff0, and 32 commands"
        => "numbers go on at 0 behind ffffffff", wrap;
    "numbering.cmdsn.wrap-in-window", "RFC 7143 §4.2.2.1", Must, Reads,
        "a login with CmdSN ffffffff; command 0, then command ffffffff"
        => "0 comes after ffffffff: it waits, and both are answered", wrap_in_window;
    "numbering.cmdsn.numbered-ping", "RFC 7143 §4.2.2.1", Must, Reads,
        "a NOP-Out that is not immediate, then a command"
        => "the NOP-Out takes a CmdSN like a command, and is acknowledged with its answer", numbered_ping;
}

/// TEST UNIT READY.
pub(super) fn ready() -> Task {
    Task::bare(&[0; 6])
}

/// True if a number comes after another one in serial number arithmetic (RFC 1982).
fn is_after(number: u32, other: u32) -> bool {
    number != other && number.wrapping_sub(other) < 1 << 31
}

/// "MUST NOT transmit a MaxCmdSN that is less than ExpCmdSN - 1".
fn sane_window(pdu: &Pdu) -> Verdict {
    let numbers = Numbers::of(&pdu.header);
    let least = numbers.exp_cmd_sn.wrapping_sub(1);
    ensure!(
        !is_after(least, numbers.max_cmd_sn),
        "{} with ExpCmdSN {} and MaxCmdSN {}",
        Heard::Pdu(pdu.clone()),
        numbers.exp_cmd_sn,
        numbers.max_cmd_sn
    );
    Ok(())
}

/// An immediate ABORT TASK for a task that is over: every target answers it somehow.
pub(super) fn vain_abort(session: &mut Session, over: &ScsiCommand) -> TaskManagementRequest {
    TaskManagementRequest {
        opcode: TaskManagementRequest::OPCODE | IMMEDIATE,
        function: FINAL | 1,
        lun: session.lun.0.into(),
        initiator_task_tag: session.tag().into(),
        referenced_task_tag: over.initiator_task_tag,
        cmd_sn: session.cmd_sn.into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        ref_cmd_sn: over.cmd_sn,
        ..TaskManagementRequest::default()
    }
}

/// A ping, commands without and with data, and a task management request: what the target says.
pub(super) async fn conversation(
    bench: &Bench,
    session: &mut Session,
) -> Result<Vec<Pdu>, Finding> {
    let ping = session.ping();
    session
        .send(Pdu::new(ping, Bytes::from_static(b"ping")))
        .await;
    let mut said = vec![session.receive().await?];
    let (command, rest) = session.open(&ready()).await;
    let reply = session.follow(command.initiator_task_tag.get(), rest);
    said.extend(reply.await?.pdus);
    let request = vain_abort(session, &command);
    session.send(Pdu::bare(request)).await;
    said.push(session.receive().await?);
    for bytes in [4096, 65536] {
        let read = Stretch::of(bench, bytes)?.read();
        said.extend(session.run(&read).await?.good("READ (10)")?.pdus);
    }
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    said.push(session.receive().await?);
    Ok(said)
}

/// Takes the SCSI Responses of these tasks, in whatever order they come; anything else is a violation.
pub(super) async fn answers(session: &mut Session, tags: &[u32]) -> Result<Vec<Pdu>, Finding> {
    let mut left = tags.to_vec();
    let mut came = Vec::new();
    while !left.is_empty() {
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            other => violation!("{other} where the status of {} is due", words::tags(&left)),
        };
        let tag = pdu.header.common().initiator_task_tag.get();
        let expected = left.iter().position(|left| *left == tag);
        match (&pdu.header, expected) {
            (Header::ScsiResponse(_), Some(at)) => {
                left.swap_remove(at);
                came.push(pdu);
            }
            _ => violation!(
                "{} about task {tag:08x} where the status of {} is due",
                Heard::Pdu(pdu),
                words::tags(&left)
            ),
        }
    }
    Ok(came)
}

async fn begin(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.cmd_sn = 123;
    let mut session = bench.log_in_as(login, &[]).await?;
    ensure!(
        session.exp_cmd_sn == 123,
        "the login has CmdSN 123, its last response ExpCmdSN {}",
        session.exp_cmd_sn
    );
    session.run(&ready()).await?;
    ensure!(
        session.exp_cmd_sn == 124,
        "the first command has CmdSN 123, its status ExpCmdSN {}",
        session.exp_cmd_sn
    );
    Ok(())
}

async fn sane(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    conversation(bench, &mut session)
        .await?
        .iter()
        .try_for_each(sane_window)
}

async fn whole(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let room = session
        .max_cmd_sn
        .wrapping_sub(session.cmd_sn)
        .wrapping_add(1);
    ensure!(
        is_after(session.max_cmd_sn.wrapping_add(1), session.cmd_sn),
        "no command is under way, and MaxCmdSN is {} while {} is the next CmdSN",
        session.max_cmd_sn,
        session.cmd_sn
    );
    let mut tags = Vec::new();
    for _ in 0..room.min(MOST_AT_ONCE) {
        let command = session.command(&ready());
        tags.push(command.initiator_task_tag.get());
        session.send(Pdu::bare(command)).await;
    }
    // BUSY and TASK SET FULL are answers, too.
    answers(&mut session, &tags).await?;
    session.said_before_ping().await?;
    ensure!(
        is_after(session.max_cmd_sn.wrapping_add(1), session.cmd_sn),
        "{} commands are answered, and MaxCmdSN is still {} while {} is the next CmdSN",
        tags.len(),
        session.max_cmd_sn,
        session.cmd_sn
    );
    Ok(())
}

async fn r2t(bench: &Bench) -> Verdict {
    let keys = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "4096"),
    ];
    let mut session = bench.session_with(&keys).await?;
    writable(&mut session).await?;
    let stretch = Stretch::of(bench, 16384)?;
    let number = session.cmd_sn;
    let write = stretch.write(&stretch.pattern(bench));
    let reply = session.run(&write).await?.good("WRITE (10)")?;
    for pdu in &reply.pdus {
        sane_window(pdu)?;
    }
    ensure!(
        session.exp_cmd_sn == number.wrapping_add(1),
        "after a WRITE with CmdSN {number} and its Data-Out PDUs ExpCmdSN is {}",
        session.exp_cmd_sn
    );
    session.run(&ready()).await?;
    Ok(())
}

async fn acknowledges(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for _ in 0..4 {
        let number = session.cmd_sn;
        session.run(&ready()).await?;
        ensure!(
            session.exp_cmd_sn == number.wrapping_add(1),
            "the status of the command with CmdSN {number}, the last one sent, comes with ExpCmdSN {}",
            session.exp_cmd_sn
        );
    }
    Ok(())
}

async fn data_in(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let number = session.cmd_sn;
    let read = Stretch::of(bench, 65536)?.read();
    session.run(&read).await?.good("READ (10)")?;
    ensure!(
        session.exp_cmd_sn == number.wrapping_add(1),
        "the status of the READ with CmdSN {number} comes with ExpCmdSN {}",
        session.exp_cmd_sn
    );
    Ok(())
}

/// Two commands, of which only the second one was sent, and what was said to it before a ping was answered.
async fn second_alone(session: &mut Session) -> Result<(ScsiCommand, ScsiCommand), Finding> {
    if session.max_cmd_sn == session.cmd_sn {
        skip!("the window holds one command");
    }
    let first = session.command(&ready());
    let second = session.command(&ready());
    session.send(Pdu::bare(second)).await;
    let said = session.said_before_ping().await?;
    if let Some(pdu) = said.into_iter().next() {
        violation!(
            "{} to the command with CmdSN {} while {} is missing",
            Heard::Pdu(pdu),
            second.cmd_sn.get(),
            first.cmd_sn.get()
        );
    }
    Ok((first, second))
}

async fn gap_not_acknowledged(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let (first, second) = second_alone(&mut session).await?;
    ensure!(
        session.exp_cmd_sn == first.cmd_sn.get(),
        "CmdSN {} is missing, and the target acknowledges with ExpCmdSN {}",
        first.cmd_sn.get(),
        session.exp_cmd_sn
    );
    session.send(Pdu::bare(first)).await;
    let tags = [first, second].map(|command| command.initiator_task_tag.get());
    answers(&mut session, &tags).await?;
    ensure!(
        session.exp_cmd_sn == session.cmd_sn,
        "all commands came, {} is the next CmdSN, and ExpCmdSN is {}",
        session.cmd_sn,
        session.exp_cmd_sn
    );
    Ok(())
}

async fn gap(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let (first, second) = second_alone(&mut session).await?;
    session.send(Pdu::bare(first)).await;
    let tags = [first, second].map(|command| command.initiator_task_tag.get());
    answers(&mut session, &tags).await?;
    Ok(())
}

/// Sends TEST UNIT READY with a number that it must not have: nothing may come of it.
async fn ignored(session: &mut Session, number: u32) -> Verdict {
    let next = session.cmd_sn;
    let mut stray = session.command(&ready());
    stray.cmd_sn = number.into();
    session.cmd_sn = next;
    session.send(Pdu::bare(stray)).await;
    let window = (session.exp_cmd_sn, session.max_cmd_sn);
    let about = format!(
        "to a command with CmdSN {number}, outside the window of {} to {}, that has to be ignored silently",
        window.0, window.1
    );
    nothing_said(session, &about).await?;
    ensure!(
        session.exp_cmd_sn == next,
        "a command with CmdSN {number} was to be ignored, and moves ExpCmdSN from {next} to {}",
        session.exp_cmd_sn
    );
    // Whoever carries the stray command out late answers it at the latest with this one.
    session.run(&ready()).await?;
    Ok(())
}

/// Nothing may come before the answer to a ping.
pub(super) async fn nothing_said(session: &mut Session, about: &str) -> Verdict {
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    match session.next().await {
        Heard::Pdu(pdu) if pdu.header.common().initiator_task_tag == ping.initiator_task_tag => {
            Ok(())
        }
        other => violation!("{other} {about}"),
    }
}

async fn above_window(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    // Some way beyond the end, lest the window reaches it while the command is on its way.
    let number = session.max_cmd_sn.wrapping_add(1000);
    ignored(&mut session, number).await
}

async fn below_window(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let number = session.cmd_sn.wrapping_sub(1);
    ignored(&mut session, number).await
}

async fn far_below_window(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let number = session.cmd_sn.wrapping_sub(1 << 29);
    ignored(&mut session, number).await
}

async fn duplicate(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let (first, second) = second_alone(&mut session).await?;
    let next = session.cmd_sn;
    let mut double = session.command(&ready());
    double.cmd_sn = second.cmd_sn;
    session.cmd_sn = next;
    session.send(Pdu::bare(double)).await;
    session.send(Pdu::bare(first)).await;
    let tags = [first, second].map(|command| command.initiator_task_tag.get());
    answers(&mut session, &tags).await?;
    let said = session.said_before_ping().await?;
    if let Some(pdu) = said.into_iter().next() {
        violation!(
            "{} about a second command with CmdSN {}, that has to be ignored silently",
            Heard::Pdu(pdu),
            second.cmd_sn.get()
        );
    }
    Ok(())
}

async fn order(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    if session.max_cmd_sn.wrapping_sub(session.cmd_sn) < 2 {
        skip!("the window holds less than three commands");
    }
    let mut commands = [(); 3].map(|()| session.command(&ready()));
    for command in &mut commands {
        // One ends before the next one begins (SAM-5 §8.6), so the statuses tell the order.
        command.flags = FINAL | ORDERED;
    }
    for command in commands.iter().rev() {
        session.send(Pdu::bare(*command)).await;
    }
    let tags = commands.map(|command| command.initiator_task_tag.get());
    let came = answers(&mut session, &tags).await?;
    let is_refused = |pdu: &Pdu| matches!(&pdu.header, Header::ScsiResponse(r) if r.status != 0);
    if came.iter().any(is_refused) {
        skip!("the unit does not take ORDERED commands");
    }
    let came: Vec<u32> = came
        .iter()
        .map(|pdu| pdu.header.common().initiator_task_tag.get())
        .collect();
    ensure!(
        came == tags,
        "tasks {} in the order of their CmdSN are answered as {}",
        words::tags(&tags),
        words::tags(&came)
    );
    Ok(())
}

async fn wrap(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.cmd_sn = 0xffff_fff0;
    let mut session = bench.log_in_as(login, &[]).await?;
    for _ in 0..32 {
        let number = session.cmd_sn;
        let command = session.command(&ready());
        session.send(Pdu::bare(command)).await;
        let said = answers(&mut session, &[command.initiator_task_tag.get()]).await?;
        said.iter().try_for_each(sane_window)?;
        ensure!(
            session.exp_cmd_sn == number.wrapping_add(1),
            "the status of the command with CmdSN {number} comes with ExpCmdSN {}",
            session.exp_cmd_sn
        );
    }
    Ok(())
}

async fn wrap_in_window(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.cmd_sn = u32::MAX;
    let mut session = bench.log_in_as(login, &[]).await?;
    let (first, second) = second_alone(&mut session).await?;
    session.send(Pdu::bare(first)).await;
    let tags = [first, second].map(|command| command.initiator_task_tag.get());
    answers(&mut session, &tags).await?;
    Ok(())
}

async fn numbered_ping(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let number = session.take_cmd_sn();
    let ping = NopOut {
        opcode: NopOut::OPCODE,
        cmd_sn: number.into(),
        ..session.ping()
    };
    session.send(Pdu::bare(ping)).await;
    let answer = session.receive().await?;
    ensure!(
        matches!(&answer.header, Header::NopIn(nop) if nop.initiator_task_tag == ping.initiator_task_tag),
        "{} instead of the answer to a NOP-Out",
        Heard::Pdu(answer)
    );
    ensure!(
        session.exp_cmd_sn == number.wrapping_add(1),
        "the answer to the NOP-Out with CmdSN {number} comes with ExpCmdSN {}",
        session.exp_cmd_sn
    );
    session.run(&ready()).await?;
    Ok(())
}

/// Task attribute ORDERED (RFC 7143 §11.3.1).
const ORDERED: u8 = 2;
/// The most commands that are sent at once: more would say nothing new.
const MOST_AT_ONCE: u32 = 256;
