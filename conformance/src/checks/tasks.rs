//! Task management of single tasks, and its answers (RFC 7143 §11.5, §11.6).

use iscsi_proto::wire::bhs::{FINAL, IMMEDIATE, TaskManagementRequest};
use iscsi_proto::wire::lun::Lun;
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::management::{
    ABORT_TASK, ABORT_TASK_SET, CLEAR_ACA, COMPLETE, Held, Managed, NO_TASK, REJECTED, SOLICITED,
    TASK_REASSIGN, UNIT_RESET,
};
use crate::session::{Session, Task};
use crate::wire::Heard;

checks! {
    "tasks.abort.complete", "RFC 7143 §11.6.1", Must, Writes,
        "ABORT TASK of a WRITE that waits for its data"
        => "response 0, Function complete", complete;
    "tasks.abort.last-word", "RFC 7143 §11.5.1", Must, Writes,
        "ABORT TASK of a WRITE that waits for its data, and behind the answer the data"
        => "nothing more about the task once the abort is answered", last_word;
    "tasks.abort.data", "SAM-5 §7.2", Must, Writes,
        "ABORT TASK of a WRITE that waits for its data, and behind the answer the data"
        => "what was on the medium before", data;
    "tasks.abort.others", "RFC 7143 §11.5.1", Must, Writes,
        "ABORT TASK of one of two WRITEs that wait for their data"
        => "the other one ends with GOOD", others;
    "tasks.abort.tag-free", "RFC 7143 §11.2.1.8", Must, Writes,
        "TEST UNIT READY under the tag of a command that was aborted"
        => "GOOD: the tag names no task any more", tag_free;
    "tasks.abort.unseen", "RFC 7143 §11.6.1", Must, Reads,
        "ABORT TASK of a command that was never sent, its number next in the window"
        => "response 0, Function complete", unseen;
    "tasks.abort.unseen-counts", "RFC 7143 §7.11", Must, Reads,
        "ABORT TASK of a command that was never sent, then a command with the number behind it"
        => "the command is carried out: the number before it counts as received", unseen_counts;
    "tasks.abort.outside-window", "RFC 7143 §11.6.1", Must, Reads,
        "ABORT TASK of an unknown task whose number lies beyond MaxCmdSN"
        => "response 1, Task does not exist", outside_window;
    "tasks.abort.finished", "RFC 7143 §7.11", Must, Reads,
        "ABORT TASK of a command whose status has come"
        => "response 1, Task does not exist", finished;
    "tasks.abort.management", "RFC 7143 §11.5.1", Must, Writes,
        "ABORT TASK of an ABORT TASK SET that waits for write data"
        => "response 255, Function rejected", management;
    "tasks.abort.other-unit", "RFC 7143 §4.2.5.3", Must, Writes,
        "ABORT TASK with the tag of a running WRITE, but the LUN of no unit"
        => "the WRITE goes on, and ends with GOOD", other_unit;
    "tasks.function.unassigned", "RFC 7143 §11.5.1", Must, Reads,
        "task management functions 0, 13 and 127"
        => "a refusal, never Function complete", unassigned;
    "tasks.function.answered", "RFC 7143 §11.6.1", Must, Reads,
        "ABORT TASK, ABORT TASK SET and CLEAR ACA while nothing runs"
        => "a response of 0 to 7 or 255", answered;
    "tasks.reassign", "RFC 7143 §7.2.2", Must, Writes,
        "TASK REASSIGN of a WRITE that runs on this very connection"
        => "response 4, reassignment not supported; 3, still allegiant, at ErrorRecoveryLevel 2", reassign;
    "tasks.unit.absent", "RFC 7143 §11.6.1", Should, Reads,
        "LOGICAL UNIT RESET of a LUN that REPORT LUNS does not show"
        => "a response other than 0, best 2", absent_unit;
    "tasks.response.form", "RFC 7143 §11.6", Must, Reads,
        "ABORT TASK SET while nothing runs"
        => "the request's tag, byte 1 is 80h, no data segment, no AHS", form;
    "tasks.response.stat-sn", "RFC 7143 §4.2.2.2", Must, Reads,
        "ABORT TASK SET while nothing runs, and a ping behind it"
        => "the response takes the next StatSN, the ping's answer the one behind that", stat_sn;
    "tasks.immediate.number", "RFC 7143 §4.2.2.1", Must, Reads,
        "an immediate ABORT TASK SET, then a command with the same CmdSN"
        => "ExpCmdSN stays, and the command is carried out", immediate_number;
    "tasks.immediate.room", "RFC 7143 §4.2.2.1", Must, Writes,
        "an immediate ABORT TASK SET that waits for write data, and an immediate TEST UNIT READY"
        => "neither is rejected: one immediate request of either kind is not too many", immediate_room;
    "tasks.numbered", "RFC 7143 §4.2.2.1", Must, Reads,
        "an ABORT TASK SET that is not immediate"
        => "its number is acknowledged: ExpCmdSN of the response is one more", numbered;
}

async fn complete(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x11).await?;
    let abort = session.abortion(&held.header);
    let (response, before, fed) = session.manage_beside(abort, &held, None).await?;
    let ended = before.iter().any(|pdu| held.is_about(pdu));
    ensure!(
        fed || !ended,
        "the WRITE that lacks its data is answered although it is aborted"
    );
    // Whoever waits for the data may let the WRITE end first.
    ensure!(
        response.response == COMPLETE || fed && ended && response.response == NO_TASK,
        "response {} about a task that runs, instead of 0",
        response.response
    );
    Ok(())
}

async fn last_word(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x22).await?;
    aborted(&mut session, &held)
        .await?
        .late(&mut session, &held)
        .await?;
    // Some answers come a little later than that to a ping.
    for _ in 0..2 {
        for pdu in session.said_before_ping().await? {
            ensure!(
                !held.is_about(&pdu),
                "{} about the task behind the answer to its abort",
                Heard::Pdu(pdu)
            );
        }
    }
    Ok(())
}

async fn data(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let before = bench.block(&mut session, 0).await?;
    let fill = before.first().map_or(0, |byte| !byte);
    let held = bench.hold(&mut session, 0, fill).await?;
    aborted(&mut session, &held)
        .await?
        .late(&mut session, &held)
        .await?;
    // Whatever is said about the late data is judged elsewhere.
    session.said_before_ping().await?;
    let mut reader = bench.session().await?;
    let after = bench.block(&mut reader, 0).await?;
    ensure!(
        after == before,
        "the data of the aborted WRITE is on the medium"
    );
    Ok(())
}

async fn others(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let gone = bench.hold(&mut session, 0, 0x33).await?;
    let stays = bench.hold(&mut session, 1, 0x44).await?;
    aborted(&mut session, &gone).await?;
    match session.conclude(&stays).await {
        Ok(reply) => reply.good("the WRITE that nobody aborted").map(drop),
        Err(Finding::Violation(why)) => {
            violation!("the WRITE that nobody aborted does not end: {why}")
        }
        Err(other) => Err(other),
    }
}

async fn tag_free(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x55).await?;
    // The target may lawfully wait for the data that it asked for before it forgets the task.
    aborted(&mut session, &held)
        .await?
        .late(&mut session, &held)
        .await?;
    session.said_before_ping().await?;
    let mut command = session.command(&Task::bare(&[0; 6]));
    command.initiator_task_tag = held.header.initiator_task_tag;
    session.send(Pdu::bare(command)).await;
    match session.follow(held.tag(), held.data).await {
        Ok(reply) => reply.good("TEST UNIT READY").map(drop),
        Err(Finding::Violation(why)) => violation!("a command under the free tag: {why}"),
        Err(other) => Err(other),
    }
}

async fn unseen(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = unseen_abort(&mut session);
    let (response, _) = session.manage(request).await?;
    ensure!(
        response.response == COMPLETE,
        "response {} for a number within the window, instead of 0",
        response.response
    );
    Ok(())
}

async fn unseen_counts(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = unseen_abort(&mut session);
    let (response, _) = session.manage(request).await?;
    if response.response != COMPLETE {
        skip!(
            "ABORT TASK of a command that did not come has response {}",
            response.response
        );
    }
    let missing = request.ref_cmd_sn.get();
    match session.run(&Task::bare(&[0; 6])).await {
        Ok(reply) => reply.good("TEST UNIT READY").map(drop),
        Err(_) => violation!(
            "the command behind CmdSN {missing} is not carried out, although ABORT TASK of {missing} was complete"
        ),
    }
}

async fn outside_window(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.management(ABORT_TASK);
    request.referenced_task_tag = UNKNOWN_TAG.into();
    request.ref_cmd_sn = session.max_cmd_sn.wrapping_add(BEYOND).into();
    let (response, _) = session.manage(request).await?;
    ensure!(
        response.response == NO_TASK,
        "response {} for CmdSN {} beyond MaxCmdSN {}, instead of 1",
        response.response,
        request.ref_cmd_sn.get(),
        session.max_cmd_sn
    );
    Ok(())
}

async fn finished(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let (command, data) = session.open(&Task::bare(&[0; 6])).await;
    let tag = command.initiator_task_tag.get();
    session.follow(tag, data).await?;
    let abort = session.abortion(&command);
    let (response, _) = session.manage(abort).await?;
    ensure!(
        response.response == NO_TASK,
        "response {} about a command that was answered before, instead of 1",
        response.response
    );
    Ok(())
}

async fn management(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x66).await?;
    let set = session.management(ABORT_TASK_SET);
    session.send(Pdu::bare(set)).await;
    // Numbered, because a second immediate one may lawfully be one too many.
    let mut abort = session.management(ABORT_TASK);
    abort.opcode &= !IMMEDIATE;
    abort.cmd_sn = session.take_cmd_sn().into();
    abort.referenced_task_tag = set.initiator_task_tag;
    abort.ref_cmd_sn = set.cmd_sn;
    session.send(Pdu::bare(abort)).await;
    let first = match session.receive().await?.header {
        Header::TaskManagementResponse(response) => response,
        other => violation!("{} instead of a response", Heard::Pdu(Pdu::bare(other))),
    };
    if first.initiator_task_tag == set.initiator_task_tag {
        skip!("ABORT TASK SET does not wait for the data of the tasks, so it cannot be aborted");
    }
    ensure!(
        first.response == REJECTED,
        "response {} to ABORT TASK of a task management request, instead of 255",
        first.response
    );
    session.satisfy(&held).await?;
    session.managed(&set).await?;
    Ok(())
}

async fn other_unit(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let absent = absent_lun(&mut session).await?;
    let held = bench.hold(&mut session, 0, 0x77).await?;
    let mut abort = session.abortion(&held.header);
    abort.lun = absent.0.into();
    session.send(Pdu::bare(abort)).await;
    // How the target says that the fields do not fit together is its own affair.
    if let Managed::Closed = session.outcome(&abort).await? {
        return Ok(());
    }
    match session.conclude(&held).await {
        Ok(reply) => reply.good("the WRITE").map(drop),
        Err(Finding::Violation(why)) => {
            violation!("the WRITE was aborted by a request for another unit, {absent}: {why}")
        }
        Err(other) => Err(other),
    }
}

async fn unassigned(bench: &Bench) -> Verdict {
    for function in [0, 13, 127] {
        let mut session = bench.session().await?;
        let request = session.management(function);
        session.send(Pdu::bare(request)).await;
        // A closed connection or a Reject says no as well (RFC 7143 §7.7, §11).
        if let Managed::Answered(response, _) = session.outcome(&request).await? {
            ensure!(
                response.response != COMPLETE,
                "function {function}, which nobody has defined, is said to be complete"
            );
        }
    }
    Ok(())
}

async fn answered(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for function in [ABORT_TASK, ABORT_TASK_SET, CLEAR_ACA] {
        let mut request = session.management(function);
        if function == ABORT_TASK {
            request.referenced_task_tag = UNKNOWN_TAG.into();
            request.ref_cmd_sn = session.cmd_sn.wrapping_sub(1).into();
        }
        let (response, _) = session.manage(request).await?;
        ensure!(
            matches!(response.response, 0..=7 | REJECTED),
            "response {} to function {function} is none that is defined",
            response.response
        );
    }
    Ok(())
}

async fn reassign(bench: &Bench) -> Verdict {
    let mut keys = SOLICITED.to_vec();
    keys.push(("ErrorRecoveryLevel", "2"));
    let mut session = bench.session_with(&keys).await?;
    // Who does not agree to 2 when it is offered does not support it (RFC 7143 §7.1.5).
    let expected = match session.answers.number("ErrorRecoveryLevel") {
        Some(2) => 3,
        _ => 4,
    };
    let held = bench.hold(&mut session, 0, 0x88).await?;
    let mut request = session.management(TASK_REASSIGN);
    request.referenced_task_tag = held.header.initiator_task_tag;
    let (response, _) = session.manage(request).await?;
    ensure!(
        response.response == expected,
        "response {} to TASK REASSIGN, instead of {expected}",
        response.response
    );
    Ok(())
}

async fn absent_unit(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let absent = absent_lun(&mut session).await?;
    let mut request = session.management(UNIT_RESET);
    request.lun = absent.0.into();
    let (response, _) = session.manage(request).await?;
    // SAM leaves it open whether a router of tasks says that there is no such unit; but nothing was completed.
    ensure!(
        response.response != COMPLETE,
        "the reset of LUN {absent}, which does not exist, is said to be complete"
    );
    Ok(())
}

async fn form(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.management(ABORT_TASK_SET);
    session.send(Pdu::bare(request)).await;
    let pdu = session.receive().await?;
    let Header::TaskManagementResponse(response) = pdu.header else {
        violation!(
            "{} instead of a Task Management Function Response",
            Heard::Pdu(pdu)
        );
    };
    ensure!(
        response.initiator_task_tag == request.initiator_task_tag,
        "the tag of the request is {:08x}, of the response {:08x}",
        request.initiator_task_tag.get(),
        response.initiator_task_tag.get()
    );
    ensure!(
        response.flags == FINAL,
        "byte 1 is {:#04x} instead of 0x80",
        response.flags
    );
    ensure!(
        pdu.ahs.is_empty() && pdu.data.is_empty(),
        "{} bytes of AHS and {} of data where both lengths must be 0",
        pdu.ahs.len(),
        pdu.data.len()
    );
    Ok(())
}

async fn stat_sn(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let next = session.exp_stat_sn;
    let request = session.management(ABORT_TASK_SET);
    let (response, _) = session.manage(request).await?;
    ensure!(
        response.stat_sn.get() == next,
        "StatSN of the response is {}, {next} is next",
        response.stat_sn.get()
    );
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    let pdu = session.receive().await?;
    let Header::NopIn(nop) = pdu.header else {
        violation!("{} instead of a NOP-In", Heard::Pdu(pdu));
    };
    let behind = next.wrapping_add(1);
    ensure!(
        nop.stat_sn.get() == behind,
        "StatSN behind the response is {}, {behind} is next",
        nop.stat_sn.get()
    );
    Ok(())
}

async fn immediate_number(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.management(ABORT_TASK_SET);
    let (response, _) = session.manage(request).await?;
    ensure!(
        response.exp_cmd_sn.get() == session.cmd_sn,
        "ExpCmdSN is {} behind an immediate request, while {} is the next number",
        response.exp_cmd_sn.get(),
        session.cmd_sn
    );
    session
        .run(&Task::bare(&[0; 6]))
        .await?
        .good("TEST UNIT READY")?;
    Ok(())
}

async fn immediate_room(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x99).await?;
    let set = session.management(ABORT_TASK_SET);
    session.send(Pdu::bare(set)).await;
    let mut ready = session.command(&Task::bare(&[0; 6]));
    // An immediate command leaves the numbers alone.
    session.cmd_sn = ready.cmd_sn.get();
    ready.opcode |= IMMEDIATE;
    session.send(Pdu::bare(ready)).await;
    session.satisfy(&held).await?;
    let (mut managed, mut served) = (false, false);
    for _ in 0..MOST_ANSWERS {
        let pdu = session.receive().await?;
        let about = pdu.header.common().initiator_task_tag;
        match pdu.header {
            Header::Reject(reject) if reject.reason == TOO_MANY_IMMEDIATE => {
                violation!("one immediate request of either kind is one too many")
            }
            Header::Reject(reject) => violation!(
                "one of two immediate requests is rejected with reason {:#04x}",
                reject.reason
            ),
            Header::TaskManagementResponse(_) => managed |= about == set.initiator_task_tag,
            Header::ScsiResponse(_) => served |= about == ready.initiator_task_tag,
            _ => {}
        }
        if managed && served {
            return Ok(());
        }
    }
    violation!("{MOST_ANSWERS} PDUs, and an immediate request without an answer")
}

async fn numbered(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.management(ABORT_TASK_SET);
    request.opcode &= !IMMEDIATE;
    request.cmd_sn = session.take_cmd_sn().into();
    let (response, _) = session.manage(request).await?;
    ensure!(
        response.exp_cmd_sn.get() == session.cmd_sn,
        "ExpCmdSN of the response is {}; the request had CmdSN {}",
        response.exp_cmd_sn.get(),
        request.cmd_sn.get()
    );
    Ok(())
}

/// When a command was aborted.
enum Aborted {
    /// While its data had not come.
    Early,
    /// When its data had come: nothing forbids a target to wait for what it has asked for.
    Fed,
}

impl Aborted {
    /// Sends the data that comes too late, unless it was waited for.
    async fn late(self, session: &mut Session, held: &Held) -> Verdict {
        match self {
            Self::Early => session.satisfy(held).await,
            Self::Fed => Ok(()),
        }
    }
}

/// Aborts a command; a target that does not is judged elsewhere.
async fn aborted(session: &mut Session, held: &Held) -> Result<Aborted, Finding> {
    let request = session.abortion(&held.header);
    let (response, before, fed) = session.manage_beside(request, held, None).await?;
    if before.iter().any(|pdu| held.is_about(pdu)) {
        skip!("the WRITE ends before it is aborted");
    }
    match response.response {
        COMPLETE if fed => Ok(Aborted::Fed),
        COMPLETE => Ok(Aborted::Early),
        other => skip!("ABORT TASK has response {other}"),
    }
}

/// ABORT TASK of a command that never comes; its number is used up.
fn unseen_abort(session: &mut Session) -> TaskManagementRequest {
    let missing = session.take_cmd_sn();
    let mut request = session.management(ABORT_TASK);
    request.referenced_task_tag = UNKNOWN_TAG.into();
    request.ref_cmd_sn = missing.into();
    request
}

/// A LUN that REPORT LUNS does not show.
pub(super) async fn absent_lun(session: &mut Session) -> Result<Lun, Finding> {
    let report = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0];
    let reply = session.run(&Task::read(&report, 0x1000)).await?;
    let list = reply.good("REPORT LUNS")?.data;
    let (luns, _) = list.get(8..).unwrap_or_default().as_chunks::<8>();
    let shown: Vec<u64> = luns.iter().map(|lun| u64::from_be_bytes(*lun)).collect();
    let mut candidates = (1..=255).rev().map(Lun::from_number);
    match candidates.find(|lun| !shown.contains(&lun.0) && *lun != session.lun) {
        Some(lun) => Ok(lun),
        None => skip!("REPORT LUNS shows every unit from 1 to 255"),
    }
}

/// A tag that no command of the suite has.
const UNKNOWN_TAG: u32 = 0x00ab_cdef;
/// So far beyond the window that no window reaches it.
const BEYOND: u32 = 0x1000_0000;
/// Reject reason 06h: too many immediate commands.
const TOO_MANY_IMMEDIATE: u8 = 0x06;
/// The most PDUs for two answers.
const MOST_ANSWERS: usize = 16;
