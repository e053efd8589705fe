//! Task management of all tasks of a unit or a target (RFC 7143 §4.2.3, §11.5; SAM-5 §7).
//!
//! While WRITEs wait for their data the target has to wait as well before it answers, so every check here sends the
//! data behind the request (RFC 7143 §4.2.3.3).

use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::management::{
    ABORT_TASK_SET, CLEAR_TASK_SET, COLD_RESET, COMPLETE, Held, Managed, UNIT_RESET, WARM_RESET,
};
use crate::session::{CHECK_CONDITION, Session, Task};
use crate::wire::Heard;
use crate::words;

checks! {
    "task-sets.abort.complete", "SAM-5 §7.3", Must, Writes,
        "ABORT TASK SET while a WRITE runs"
        => "response 0, Function complete", abort_complete;
    "task-sets.abort.waits-for-data", "RFC 7143 §4.2.3.3", Must, Writes,
        "ABORT TASK SET while a WRITE waits for its data, a ping, then the data"
        => "no response before the data that an R2T has asked for", abort_waits;
    "task-sets.abort.waits-for-commands", "RFC 7143 §11.6.1", Must, Reads,
        "an immediate ABORT TASK SET, a ping, then the command whose number comes before"
        => "no response before that command has come", abort_waits_for_commands;
    "task-sets.abort.last-word", "RFC 7143 §11.5.1", Must, Writes,
        "ABORT TASK SET while two WRITEs run"
        => "nothing about either behind the response", abort_last_word;
    "task-sets.abort.later", "RFC 7143 §11.5.1", Must, Writes,
        "an immediate ABORT TASK SET, and a command with the number that it shows"
        => "the command is carried out: only lower numbers are meant", abort_later;
    "task-sets.abort.other-session", "SAM-5 §7.3", Must, Writes,
        "ABORT TASK SET while a WRITE of another session runs"
        => "that WRITE ends with GOOD", abort_other_session;
    "task-sets.clear.complete", "SAM-5 §7.5", Must, Writes,
        "CLEAR TASK SET while a WRITE runs"
        => "response 0, Function complete", clear_complete;
    "task-sets.clear.waits-for-data", "RFC 7143 §4.2.3.3", Must, Writes,
        "CLEAR TASK SET while a WRITE waits for its data, a ping, then the data"
        => "no response before the data that an R2T has asked for", clear_waits;
    "task-sets.clear.other-session", "SAM-5 §7.5", Must, Writes,
        "CLEAR TASK SET while a WRITE of another session runs, one task set for all"
        => "that WRITE does not end with GOOD", clear_other_session;
    "task-sets.clear.attention", "SAM-5 §7.5", Must, Writes,
        "CLEAR TASK SET while a WRITE of another session runs, one task set for all"
        => "the other session hears of it: 6/2F/00, or status TASK ABORTED", clear_attention;
    "task-sets.unit-reset.complete", "RFC 7143 §11.5.1", Must, Writes,
        "LOGICAL UNIT RESET while a WRITE runs"
        => "response 0, Function complete", reset_complete;
    "task-sets.unit-reset.waits-for-data", "RFC 7143 §4.2.3.3", Must, Writes,
        "LOGICAL UNIT RESET while a WRITE waits for its data, a ping, then the data"
        => "no response before the data that an R2T has asked for", reset_waits;
    "task-sets.unit-reset.last-word", "RFC 7143 §11.5.1", Must, Writes,
        "LOGICAL UNIT RESET while two WRITEs run"
        => "nothing about either behind the response", reset_last_word;
    "task-sets.unit-reset.other-session", "SAM-5 §6.3.3", Must, Writes,
        "LOGICAL UNIT RESET while a WRITE of another session runs"
        => "that WRITE does not end with GOOD", reset_other_session;
    "task-sets.unit-reset.attention", "SAM-5 §6.3.3", Must, Writes,
        "LOGICAL UNIT RESET, then TEST UNIT READY in another session"
        => "a Unit Attention 6/29/xx", reset_attention;
    "task-sets.unit-reset.reservation", "SPC-2 §5.5", Must, Writes,
        "RESERVE (6), LOGICAL UNIT RESET from another session, and its RESERVE (6)"
        => "GOOD: the reset has released the unit", reset_reservation;
    "task-sets.warm-reset", "RFC 7143 §11.5.1", Must, Writes,
        "TARGET WARM RESET while a WRITE runs"
        => "response 5, 6 or 255; or 0, and nothing about the WRITE behind it", warm_reset;
    "task-sets.cold-reset", "RFC 7143 §11.6.1", Must, Writes,
        "TARGET COLD RESET from one of two sessions"
        => "response 5, 6 or 255; or the connections of both are closed", cold_reset;
}

async fn abort_complete(bench: &Bench) -> Verdict {
    is_complete(bench, ABORT_TASK_SET).await
}

async fn clear_complete(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let inquiry = session.run(&Task::read(&[0x12, 0, 0, 0, 96], 96)).await?;
    let inquiry = inquiry.good("INQUIRY")?.data;
    // SAM asks for it where commands are queued, which CMDQUE says.
    if inquiry.get(7).is_none_or(|byte| byte & 0x02 == 0) {
        skip!("INQUIRY says that the unit queues no commands");
    }
    is_complete(bench, CLEAR_TASK_SET).await
}

async fn reset_complete(bench: &Bench) -> Verdict {
    is_complete(bench, UNIT_RESET).await
}

async fn is_complete(bench: &Bench, function: u8) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x11).await?;
    let response = carried_out(&mut session, function, &[held]).await?;
    ensure!(
        response == COMPLETE,
        "response {response} to function {function}, which every unit has to carry out"
    );
    Ok(())
}

async fn abort_waits(bench: &Bench) -> Verdict {
    waits_for_data(bench, ABORT_TASK_SET).await
}

async fn clear_waits(bench: &Bench) -> Verdict {
    waits_for_data(bench, CLEAR_TASK_SET).await
}

async fn reset_waits(bench: &Bench) -> Verdict {
    waits_for_data(bench, UNIT_RESET).await
}

async fn waits_for_data(bench: &Bench, function: u8) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x22).await?;
    let request = session.management(function);
    session.send(Pdu::bare(request)).await;
    match session.said_before_ping().await {
        // Neither answer nor echo: the target waits with everything.
        Err(Finding::Violation(_)) => {}
        said => early(&said?, "the data of a WRITE")?,
    }
    session.satisfy(&held).await?;
    session.managed(&request).await?;
    Ok(())
}

async fn abort_waits_for_commands(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let command = session.command(&Task::bare(&[0; 6]));
    let request = session.management(ABORT_TASK_SET);
    session.send(Pdu::bare(request)).await;
    early(
        &session.said_before_ping().await?,
        "the command with the number before its own",
    )?;
    session.send(Pdu::bare(command)).await;
    let (response, _) = session.managed(&request).await?;
    if response.response != COMPLETE {
        skip!("response {} to ABORT TASK SET", response.response);
    }
    for pdu in session.said_before_ping().await? {
        ensure!(
            pdu.header.common().initiator_task_tag != command.initiator_task_tag,
            "{} for a command that ABORT TASK SET covers, behind its response",
            Heard::Pdu(pdu)
        );
    }
    Ok(())
}

async fn abort_last_word(bench: &Bench) -> Verdict {
    last_word(bench, ABORT_TASK_SET).await
}

async fn reset_last_word(bench: &Bench) -> Verdict {
    last_word(bench, UNIT_RESET).await
}

async fn last_word(bench: &Bench, function: u8) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = [
        bench.hold(&mut session, 0, 0x33).await?,
        bench.hold(&mut session, 1, 0x44).await?,
    ];
    complete(&mut session, function, &held).await?;
    ended(&mut session, &held).await
}

async fn abort_later(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x55).await?;
    let request = session.management(ABORT_TASK_SET);
    session.send(Pdu::bare(request)).await;
    let (later, _) = session.open(&Task::bare(&[0; 6])).await;
    session.satisfy(&held).await?;
    let (mut managed, mut served) = (false, false);
    for _ in 0..MOST_ANSWERS {
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            other if managed => {
                violation!("{other} to a command that came behind ABORT TASK SET")
            }
            other => violation!("{other} to ABORT TASK SET"),
        };
        match pdu.header {
            Header::TaskManagementResponse(_) => managed = true,
            Header::ScsiResponse(answer)
                if answer.initiator_task_tag == later.initiator_task_tag =>
            {
                ensure!(
                    answer.response == 0 && answer.status == 0,
                    "the command behind ABORT TASK SET has response {:#04x} and status {:#04x}",
                    answer.response,
                    answer.status
                );
                served = true;
            }
            _ => {}
        }
        if managed && served {
            return Ok(());
        }
    }
    violation!("{MOST_ANSWERS} PDUs, and no answer to ABORT TASK SET and the command behind it")
}

async fn abort_other_session(bench: &Bench) -> Verdict {
    let (mut session, mut other, held) = two_sessions(bench).await?;
    complete(&mut session, ABORT_TASK_SET, &[]).await?;
    match other.conclude(&held).await {
        Ok(reply) => reply.good("the WRITE of the other session").map(drop),
        Err(Finding::Violation(why)) => {
            violation!("the WRITE of the other session does not end: {why}")
        }
        Err(finding) => Err(finding),
    }
}

async fn clear_other_session(bench: &Bench) -> Verdict {
    let (mut session, mut other, held) = two_sessions(bench).await?;
    shares_task_set(&mut session).await?;
    complete_beside(&mut session, CLEAR_TASK_SET, &mut other, &held).await?;
    taken_away(&mut other, &held).await
}

async fn clear_attention(bench: &Bench) -> Verdict {
    let (mut session, mut other, held) = two_sessions(bench).await?;
    shares_task_set(&mut session).await?;
    complete_beside(&mut session, CLEAR_TASK_SET, &mut other, &held).await?;
    let aborted = |pdu: &Pdu| {
        held.is_about(pdu)
            && matches!(pdu.header, Header::ScsiResponse(answer) if answer.status == TASK_ABORTED)
    };
    if other.said_before_ping().await?.iter().any(aborted) {
        return Ok(());
    }
    let told = attentions(&mut other).await?;
    ensure!(
        told.iter().any(|(asc, _)| *asc == 0x2f),
        "the session whose WRITE was cleared is not told: no 6/2f/00 among {}",
        attention_codes(&told)
    );
    Ok(())
}

async fn reset_other_session(bench: &Bench) -> Verdict {
    let (mut session, mut other, held) = two_sessions(bench).await?;
    complete_beside(&mut session, UNIT_RESET, &mut other, &held).await?;
    taken_away(&mut other, &held).await
}

async fn reset_attention(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut other = bench.session().await?;
    complete(&mut session, UNIT_RESET, &[]).await?;
    let told = attentions(&mut other).await?;
    ensure!(
        told.iter().any(|(asc, _)| *asc == 0x29),
        "another session is not told of the reset: no 6/29/xx among {}",
        attention_codes(&told)
    );
    Ok(())
}

async fn reset_reservation(bench: &Bench) -> Verdict {
    let reserve = Task::bare(&[0x16, 0, 0, 0, 0, 0]);
    let mut owner = bench.session().await?;
    let mut other = bench.session().await?;
    let reply = owner.run(&reserve).await?;
    if reply.status != 0 {
        skip!("RESERVE (6): {}", reply.outcome());
    }
    let released = released_by_reset(&mut other, &reserve).await;
    // The reset may have ended both sessions; whoever had them may come back.
    for login in [other.login, owner.login] {
        let mut session = bench.log_in_as(login, &[]).await?;
        attentions(&mut session).await?;
        // Who holds nothing releases nothing, and is told GOOD all the same.
        session.run(&Task::bare(&[0x17, 0, 0, 0, 0, 0])).await?;
    }
    released
}

/// Resets a unit that somebody else has reserved, and reserves it.
async fn released_by_reset(session: &mut Session, reserve: &Task) -> Verdict {
    let reply = session.run(reserve).await?;
    if reply.status != CONFLICT {
        skip!(
            "RESERVE (6) of a reserved unit: {} instead of a conflict",
            reply.outcome()
        );
    }
    complete(session, UNIT_RESET, &[]).await?;
    attentions(session).await?;
    let reply = session.run(reserve).await?;
    reply.good("RESERVE (6) behind the reset").map(drop)
}

async fn warm_reset(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = [bench.hold(&mut session, 0, 0x66).await?];
    match carried_out(&mut session, WARM_RESET, &held).await? {
        COMPLETE => ended(&mut session, &held).await,
        5 | 6 | 255 => Ok(()),
        other => violation!("response {other} to TARGET WARM RESET instead of 0, 5, 6 or 255"),
    }
}

async fn cold_reset(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut other = bench.session().await?;
    let request = session.management(COLD_RESET);
    session.send(Pdu::bare(request)).await;
    match session.outcome(&request).await? {
        // The response need not arrive (RFC 7143 §11.5.1).
        Managed::Closed => {}
        Managed::Answered(answer, _) => match answer.response {
            COMPLETE => closed(&mut session, "the session that asked for the reset").await?,
            5 | 6 | 255 => return Ok(()),
            other => violation!("response {other} to TARGET COLD RESET instead of 0, 5, 6 or 255"),
        },
        Managed::Rejected(reason) => {
            violation!("TARGET COLD RESET is rejected with reason {reason:#04x}, not answered")
        }
    }
    closed(&mut other, "another session").await
}

/// Asks for a function while commands wait for their data, sends the data, and takes the response.
async fn carried_out(session: &mut Session, function: u8, held: &[Held]) -> Result<u8, Finding> {
    let request = session.management(function);
    session.send(Pdu::bare(request)).await;
    for held in held {
        session.satisfy(held).await?;
    }
    Ok(session.managed(&request).await?.0.response)
}

/// Has a function carried out; a target that declines is judged elsewhere.
async fn complete(session: &mut Session, function: u8, held: &[Held]) -> Verdict {
    match carried_out(session, function, held).await? {
        COMPLETE => Ok(()),
        other => skip!("task management function {function} has response {other}"),
    }
}

/// Has a function carried out that concerns a WRITE of another session. A target that waits for its data, as it may
/// (RFC 7143 §4.2.3.3), may let it end before.
async fn complete_beside(
    session: &mut Session,
    function: u8,
    other: &mut Session,
    held: &Held,
) -> Verdict {
    let request = session.management(function);
    let (response, _, fed) = session.manage_beside(request, held, Some(other)).await?;
    match response.response {
        COMPLETE if fed => {
            skip!("the target waits for the data of the other session's WRITE first")
        }
        COMPLETE => Ok(()),
        other => skip!("task management function {function} has response {other}"),
    }
}

/// A session, another one, and a WRITE of that other one that waits for its data.
async fn two_sessions(bench: &Bench) -> Result<(Session, Session, Held), Finding> {
    let session = bench.session().await?;
    let mut other = bench.solicited().await?;
    let held = bench.hold(&mut other, 0, 0x77).await?;
    Ok((session, other, held))
}

/// Ends the check if every nexus has a task set of its own (SPC-4 §7.5.8: TST of the Control mode page).
async fn shares_task_set(session: &mut Session) -> Verdict {
    let sense = [0x1a, 0x08, 0x0a, 0, 255, 0];
    let reply = session.run(&Task::read(&sense, 255)).await?;
    if reply.status != 0 {
        skip!("there is no Control mode page: {}", reply.outcome());
    }
    let descriptors = reply.data.get(3).map_or(0, |length| usize::from(*length));
    match reply.data.get(4 + descriptors + 2) {
        Some(byte) if byte >> 5 == 0 => Ok(()),
        _ => skip!("every nexus has a task set of its own"),
    }
}

/// Sends the data of a WRITE that another session has had aborted; it must not succeed.
async fn taken_away(session: &mut Session, held: &Held) -> Verdict {
    session.satisfy(held).await?;
    for _ in 0..2 {
        for pdu in session.said_before_ping().await? {
            let succeeds = matches!(pdu.header, Header::ScsiResponse(answer)
                if answer.response == 0 && answer.status == 0);
            ensure!(
                !held.is_about(&pdu) || !succeeds,
                "the WRITE of the other session ends with GOOD, although all tasks were aborted"
            );
        }
    }
    Ok(())
}

/// Nothing more may be said about these.
async fn ended(session: &mut Session, held: &[Held]) -> Verdict {
    for pdu in session.said_before_ping().await? {
        ensure!(
            !held.iter().any(|held| held.is_about(&pdu)),
            "{} about an aborted task, behind the response",
            Heard::Pdu(pdu)
        );
    }
    Ok(())
}

/// A response that came too early, if it claims that the function was carried out.
fn early(said: &[Pdu], what: &str) -> Verdict {
    for pdu in said {
        if let Header::TaskManagementResponse(answer) = pdu.header {
            if answer.response != COMPLETE {
                skip!("the function has response {}", answer.response);
            }
            violation!("the function is complete before the target has {what}");
        }
    }
    Ok(())
}

/// The codes of the Unit Attentions that a session gets until its unit is ready.
async fn attentions(session: &mut Session) -> Result<Vec<(u8, u8)>, Finding> {
    let mut told = Vec::new();
    for _ in 0..MOST_ATTENTIONS {
        let reply = session.run(&Task::bare(&[0; 6])).await?;
        match (reply.status, reply.codes()) {
            (CHECK_CONDITION, (6, asc, ascq)) => told.push((asc, ascq)),
            _ => return Ok(told),
        }
    }
    violation!("{MOST_ATTENTIONS} Unit Attentions in a row")
}

fn attention_codes(told: &[(u8, u8)]) -> String {
    words::list(
        told.iter()
            .map(|(asc, ascq)| words::sense((6, *asc, *ascq))),
    )
}

async fn closed(session: &mut Session, whose: &str) -> Verdict {
    for _ in 0..MOST_ANSWERS {
        match session.next().await {
            Heard::Closed => return Ok(()),
            Heard::Pdu(_) => {}
            other => violation!("the connection of {whose} is not closed: {other}"),
        }
    }
    violation!("the connection of {whose} is not closed")
}

/// Status TASK ABORTED.
const TASK_ABORTED: u8 = 0x40;
/// Status RESERVATION CONFLICT.
const CONFLICT: u8 = 0x18;
/// The most PDUs for a few answers.
const MOST_ANSWERS: usize = 16;
/// The most Unit Attentions for one reset.
const MOST_ATTENTIONS: usize = 8;
