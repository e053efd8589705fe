//! Unit Attention conditions (SAM-5 §5.14, SPC-3 §6).
//!
//! A standard lets a fresh I_T nexus have a condition pending, and lets it have none; who gives none is not accused
//! of having lost it. Only a reset and a change of mode pages must raise one.

use iscsi_proto::wire::Pdu;

use super::modes::select;
use super::{capacity, sense};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::management::{COMPLETE, Managed, UNIT_RESET};
use crate::session::{CHECK_CONDITION, Reply, Session, Task};

checks! {
    "attention.once", "SAM-5 §5.14", Must, Reads,
        "TEST UNIT READY, again and again from the first command of a session on"
        => "each condition is reported once, resets before all others, and then GOOD", once;
    "attention.report-luns", "SPC-3 §6.21", Must, Reads,
        "REPORT LUNS as the first command of a session, then TEST UNIT READY"
        => "REPORT LUNS is carried out, and a Unit Attention of a reset stays pending", report_luns;
    "attention.request-sense", "SPC-3 §6.27", Must, Reads,
        "REQUEST SENSE as the first command of a session, then TEST UNIT READY"
        => "a pending condition is brought as sense data with GOOD, and with that it is told", request_sense;
    "attention.unit-reset", "SAM-5 §6.3.3", Must, Writes,
        "LOGICAL UNIT RESET, then TEST UNIT READY from another session"
        => "UNIT ATTENTION 29h, once", unit_reset;
    "attention.unit-reset.each", "SAM-5 §5.14", Must, Writes,
        "LOGICAL UNIT RESET, then TEST UNIT READY from two other sessions"
        => "each is told: what one is told stays pending for the other", each_session;
    "attention.unit-reset.not-executed", "SAM-5 §5.14", Must, Writes,
        "LOGICAL UNIT RESET, then a WRITE from another session, and a READ"
        => "the WRITE that is answered with the Unit Attention has written nothing", not_executed;
    "attention.unit-reset.inquiry", "SPC-3 §6.4.1", Must, Writes,
        "LOGICAL UNIT RESET, then INQUIRY and TEST UNIT READY from another session"
        => "INQUIRY brings its data, TEST UNIT READY the Unit Attention", reset_and_inquiry;
    "attention.mode-select", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT that changes what another session sees, then TEST UNIT READY from there"
        => "UNIT ATTENTION, MODE PARAMETERS CHANGED", mode_select;
    "attention.mode-select.own", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT, then TEST UNIT READY in the same session"
        => "GOOD: who changed the mode pages knows it", mode_select_own;
}

async fn once(bench: &Bench) -> Verdict {
    let mut session = fresh(bench).await?;
    let mut told: Vec<(u8, u8, u8)> = Vec::new();
    for _ in 0..MOST_CONDITIONS {
        let reply = session.run(&READY).await?;
        if reply.status == 0 {
            return match told.is_empty() {
                true => skip!("no condition is pending for a new session"),
                false => Ok(()),
            };
        }
        ensure!(
            is_attention(&reply),
            "TEST UNIT READY: {} instead of a Unit Attention or GOOD",
            reply.outcome()
        );
        let codes = reply.codes();
        ensure!(
            !told.contains(&codes),
            "{} is reported a second time",
            reply.outcome()
        );
        ensure!(
            codes.1 != RESET || told.iter().all(|(_, asc, _)| *asc == RESET),
            "{} is reported behind a condition that is no reset",
            reply.outcome()
        );
        told.push(codes);
    }
    violation!("no GOOD after {MOST_CONDITIONS} Unit Attentions")
}

async fn report_luns(bench: &Bench) -> Verdict {
    survives(bench, &capacity::report_luns(0, 256), "REPORT LUNS").await
}

async fn request_sense(bench: &Bench) -> Verdict {
    let mut session = fresh(bench).await?;
    let (key, codes) = sense::requested(&mut session).await?;
    let after = session.run(&READY).await?;
    if key == UNIT_ATTENTION {
        ensure!(
            after.codes() != (key, codes.0, codes.1),
            "{:x}/{:02x}/{:02x} is brought by REQUEST SENSE, and reported again",
            key,
            codes.0,
            codes.1
        );
        return Ok(());
    }
    ensure!(
        !is_attention(&after),
        "REQUEST SENSE brings {key:x}/{:02x}/{:02x}, while this is pending: {}",
        codes.0,
        codes.1,
        after.outcome()
    );
    skip!("no condition is pending for a new session")
}

async fn unit_reset(bench: &Bench) -> Verdict {
    let mut other = bench.session().await?;
    reset(bench).await?;
    let reply = other.run(&READY).await?;
    told_of_reset(&reply, "TEST UNIT READY")?;
    let again = other.run(&READY).await?;
    ensure!(
        !is_attention(&again) || again.codes() != reply.codes(),
        "{} is reported a second time",
        again.outcome()
    );
    Ok(())
}

async fn each_session(bench: &Bench) -> Verdict {
    let (mut one, mut other) = (bench.session().await?, bench.session().await?);
    reset(bench).await?;
    told_of_reset(&one.run(&READY).await?, "TEST UNIT READY")?;
    let reply = other.run(&READY).await?;
    told_of_reset(&reply, "TEST UNIT READY of the second session")
}

async fn not_executed(bench: &Bench) -> Verdict {
    let mut other = bench.session().await?;
    let old = bench.block(&mut other, 0).await?;
    let new: Vec<u8> = old.iter().map(|byte| byte ^ 0xff).collect();
    let write = Task::write(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], new);
    reset(bench).await?;
    let reply = other.run(&write).await?;
    if reply.codes().0 == DATA_PROTECT {
        skip!("nothing can be written to the unit");
    }
    told_of_reset(&reply, "WRITE (10)")?;
    other.take_attentions().await?;
    ensure!(
        bench.block(&mut other, 0).await? == old,
        "a WRITE ends with {} and has written",
        reply.outcome()
    );
    Ok(())
}

async fn reset_and_inquiry(bench: &Bench) -> Verdict {
    let mut other = bench.session().await?;
    reset(bench).await?;
    let reply = other.run(&super::inquiry::standard(96)).await?;
    reply.good("INQUIRY with a Unit Attention pending")?;
    told_of_reset(&other.run(&READY).await?, "TEST UNIT READY behind INQUIRY")
}

async fn mode_select(bench: &Bench) -> Verdict {
    let (mut own, mut other) = (bench.session().await?, bench.session().await?);
    let switch = select::switch(&mut own).await?;
    let before = select::page(&mut other, switch.page).await?;
    switch.flip(&mut own).await?;
    let reply = other.run(&READY).await;
    let after = async {
        other.take_attentions().await?;
        select::page(&mut other, switch.page).await
    };
    let after = after.await;
    switch.restore(&mut own).await?;
    let (reply, after) = (reply?, after?);
    // Mode pages may be kept for each nexus apart; then there is nothing to tell the others.
    if after == before {
        skip!("what one session changes is unchanged for others");
    }
    reply.fails_with(
        "TEST UNIT READY of another session",
        UNIT_ATTENTION,
        0x2a,
        1,
    )
}

async fn mode_select_own(bench: &Bench) -> Verdict {
    let mut own = bench.session().await?;
    let switch = select::switch(&mut own).await?;
    switch.flip(&mut own).await?;
    let reply = own.run(&READY).await;
    switch.restore(&mut own).await?;
    reply?.good("TEST UNIT READY of the session that changed the mode pages")?;
    Ok(())
}

/// A session as its login leaves it, conditions and all.
pub(super) async fn fresh(bench: &Bench) -> Result<Session, Finding> {
    bench.log_in(&[]).await.map_err(|finding| match finding {
        Finding::Violation(why) => {
            Finding::Unreachable(format!("an ordinary session does not come about: {why}"))
        }
        other => other,
    })
}

/// A command that is carried out although a Unit Attention is pending, and that leaves it pending.
pub(super) async fn survives(bench: &Bench, task: &Task, what: &str) -> Verdict {
    let mut session = fresh(bench).await?;
    let reply = session.run(task).await?;
    reply.good(&format!("{what} as the first command of a session"))?;
    if is_attention(&session.run(&READY).await?) {
        return Ok(());
    }
    // Whether one was pending is told by a session that sends nothing else; a later one, in case that the first of
    // an initiator is treated otherwise.
    let mut control = fresh(bench).await?;
    let reply = control.run(&READY).await?;
    ensure!(
        !is_attention(&reply),
        "a new session has {} pending, and behind {what} it has not",
        reply.outcome()
    );
    skip!("no condition is pending for a new session")
}

/// True for a Unit Attention.
fn is_attention(reply: &Reply) -> bool {
    reply.status == CHECK_CONDITION && reply.codes().0 == UNIT_ATTENTION
}

/// SAM-5 leaves open which of the reset conditions it is: they comprise each other.
fn told_of_reset(reply: &Reply, what: &str) -> Verdict {
    ensure!(
        is_attention(reply) && reply.codes().1 == RESET,
        "{what} after a LOGICAL UNIT RESET: {} instead of UNIT ATTENTION 6/29/xx",
        reply.outcome()
    );
    Ok(())
}

/// Resets the unit from a session of its own.
async fn reset(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.management(UNIT_RESET);
    session.send(Pdu::bare(request)).await;
    match session.outcome(&request).await? {
        Managed::Answered(answer, _) if answer.response == COMPLETE => Ok(()),
        Managed::Answered(answer, _) => {
            skip!("LOGICAL UNIT RESET is answered with {}", answer.response)
        }
        Managed::Rejected(reason) => {
            skip!("LOGICAL UNIT RESET is rejected with reason {reason:#04x}")
        }
        Managed::Closed => skip!("LOGICAL UNIT RESET ends the connection"),
    }
}

/// TEST UNIT READY.
const READY: Task = Task {
    cdb: [0; 16],
    flow: crate::session::Flow::None,
};
/// The sense key.
pub(super) const UNIT_ATTENTION: u8 = 6;
/// The sense key of write protection.
const DATA_PROTECT: u8 = 7;
/// The additional sense code of all resets and losses.
const RESET: u8 = 0x29;
/// The most conditions that a new session is told of.
const MOST_CONDITIONS: usize = 16;
