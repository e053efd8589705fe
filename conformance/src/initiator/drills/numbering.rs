//! CmdSN, the window, StatSN (RFC 7143 §4.2.2).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::wire::bhs::RESERVED_TAG;
use iscsi_proto::wire::{Header, Pdu};
use tokio::time::sleep;

use crate::check::{Verdict, ensure, skip, violation};
use crate::initiator::caller::{
    Caller, after, behind_its_length, cmd_sn, exp_stat_sn, is_numbered, quiet_nop, with_numbers,
};
use crate::initiator::drill::drills;
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;
use crate::wire::Heard;
use crate::words;

drills! {
    "numbering.first-command", "RFC 7143 §11.12.8", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "the first non-immediate command has the CmdSN of the login", first_command;
    "numbering.steps", "RFC 7143 §4.2.2.1", Must, Normal, Succeeds,
        "nothing special"
        => "CmdSN goes up by 1 with each non-immediate command", steps;
    "numbering.immediate", "RFC 7143 §4.2.2.1", Must, Normal, Succeeds,
        "a ping during the first command, so that there is an immediate request"
        => "immediate requests have the current CmdSN and do not advance it", immediate;
    "numbering.exp-stat-sn", "RFC 7143 §4.2.2.2", Must, Normal, Succeeds,
        "answers with a StatSN each"
        => "ExpStatSN never goes back, nor past what was sent", acknowledged;
    "numbering.exp-stat-sn.keeps-up", "RFC 7143 §11.3.3", Must, Normal, Succeeds,
        "time between the last answer and the next request"
        => "ExpStatSN of a request that follows all answers acknowledges them", keeps_up;
    "numbering.stat-sn.wraps", "RFC 7143 §4.2.2.2", Must, Normal, Succeeds,
        "StatSN from 4294967293 on, which wraps soon"
        => "ExpStatSN wraps too, and the session goes on", wraps;
    "numbering.window.closed", "RFC 7143 §4.2.2.1", Must, Normal, Succeeds,
        "a login that ends with a closed window, which opens after 0.7 s"
        => "no non-immediate command before, and then the commands come", closed;
    "numbering.window.one", "RFC 7143 §4.2.2.1", Must, Normal, Succeeds,
        "a window that takes one command at a time"
        => "no command has a CmdSN beyond MaxCmdSN", one;
    "numbering.window.older", "RFC 7143 §4.2.2.1", Must, Normal, Succeeds,
        "a NOP-In with a smaller MaxCmdSN than was told before"
        => "the smaller one is ignored: commands go on", older;
    "numbering.window.absurd", "RFC 7143 §4.2.2.1", Must, Normal, Succeeds,
        "a NOP-In whose MaxCmdSN is less than its ExpCmdSN - 1"
        => "both are ignored: commands go on with the numbers of before", absurd;
    "numbering.stat-sn.gap", "RFC 7143 §7.9", Must, Normal, Either,
        "a SCSI Response whose StatSN leaves five out"
        => "the missing ones are fetched, or the connection is logged out or dropped", gap;
    "numbering.stat-sn.nop", "RFC 7143 §11.19.2", Must, Normal, Succeeds,
        "a NOP-In that is no answer, then a status with the same StatSN"
        => "the NOP-In does not count: ExpStatSN is as if it had not been sent", uncounted;
    "numbering.tags", "RFC 7143 §4.2.5.3", Must, Normal, Succeeds,
        "commands that are answered late"
        => "no two commands under way have the same Initiator Task Tag, and none has 0xffffffff", tags;
}

async fn first_command(stage: &mut Stage) -> Verdict {
    let mut caller = stage.caller(&Manner::PLAIN).await?;
    let login = caller.exp_cmd_sn;
    let Some(first) = caller.serve_until(is_numbered).await else {
        skip!("no command came");
    };
    let number = cmd_sn(&first).unwrap_or_default();
    ensure!(
        number == login,
        "the login had CmdSN {login}, the first command has {number}"
    );
    caller.serve(first).await;
    stage.see_off(caller).await
}

async fn steps(stage: &mut Stage) -> Verdict {
    let look = |caller: &Caller, pdu: &Pdu| {
        if !is_numbered(pdu) {
            return Ok(false);
        }
        let (number, due) = (cmd_sn(pdu).unwrap_or_default(), caller.exp_cmd_sn);
        ensure!(
            number == due,
            "a command has CmdSN {number} where {due} is next"
        );
        Ok(true)
    };
    stage.watch(&Manner::PLAIN, "no command came", look).await
}

async fn immediate(stage: &mut Stage) -> Verdict {
    let mut caller = stage.caller(&Manner::PLAIN).await?;
    caller.held = Some(Vec::new());
    let mut pinged = false;
    let mut seen = false;
    while let Heard::Pdu(pdu) = caller.hear().await {
        if let (Some(number), true) = (cmd_sn(&pdu), pdu.header.is_immediate()) {
            let current = caller.exp_cmd_sn;
            ensure!(
                number == current,
                "{} is immediate and has CmdSN {number}, while {current} is the current one",
                Heard::Pdu(pdu)
            );
            seen = true;
            caller.release().await;
        } else if let (Some(number), current) = (cmd_sn(&pdu), caller.exp_cmd_sn) {
            ensure!(
                number == current,
                "a command has CmdSN {number} where {current} is next"
            );
        }
        caller.serve(pdu).await;
        if !std::mem::replace(&mut pinged, true) {
            caller.ping(0).await;
        }
    }
    if !seen {
        skip!("nothing immediate came");
    }
    stage.see_off(caller).await
}

async fn acknowledged(stage: &mut Stage) -> Verdict {
    let mut before = None;
    let mut session = 0;
    let look = move |caller: &Caller, pdu: &Pdu| {
        let (number, next) = (exp_stat_sn(pdu), caller.stat_sn);
        if std::mem::replace(&mut session, caller.tsih) != caller.tsih {
            before = None;
        }
        ensure!(
            !after(number, next),
            "{} has ExpStatSN {number}, while the next StatSN is {next}",
            Heard::Pdu(pdu.clone())
        );
        if let Some(before) = before.replace(number) {
            ensure!(
                !after(before, number),
                "ExpStatSN goes back from {before} to {number}"
            );
        }
        Ok(true)
    };
    stage.watch(&Manner::PLAIN, "no request came", look).await
}

async fn keeps_up(stage: &mut Stage) -> Verdict {
    acknowledges_all(stage, 1, false, |_| true).await
}

async fn wraps(stage: &mut Stage) -> Verdict {
    acknowledges_all(stage, 0xffff_fffd, false, |next| next < 0x1000).await
}

/// Between commands the window is closed for long enough that all answers have arrived when it opens; what comes then
/// has to acknowledge them; so it has to with a `notice` in front of the opening. `tells` says for which StatSN the rule is looked into.
pub(crate) async fn acknowledges_all(
    stage: &mut Stage,
    stat_sn: u32,
    notice: bool,
    tells: fn(u32) -> bool,
) -> Verdict {
    let manner = Manner {
        stat_sn,
        window: 1,
        ..Manner::PLAIN
    };
    let mut caller = stage.caller(&manner).await?;
    let (mut seen, mut behind) = (0, 0);
    while seen < ENOUGH {
        let Some(command) = caller.serve_until(is_numbered).await else {
            break;
        };
        caller.window = 0;
        caller.serve(command).await;
        // The data of a write may have to come first.
        for _ in 0..MOST_BURSTS {
            let heard = caller.reaction(LONG_ENOUGH, |pdu| !is_data(pdu)).await;
            if let Heard::Pdu(pdu) = heard {
                caller.serve(pdu).await;
            } else if caller.open.is_empty() {
                break;
            }
        }
        if notice {
            caller.announce(0, [0, 0, 0], not_of_interest()).await;
            sleep(LONG_ENOUGH).await;
        }
        caller.window = 1;
        caller.tell_numbers().await;
        let patience = caller.scene.patience;
        let Heard::Pdu(pdu) = caller.reaction(patience, |_| true).await else {
            break;
        };
        let (number, next) = (exp_stat_sn(&pdu), caller.stat_sn);
        ensure!(
            !after(number, next),
            "the next StatSN is {next}, and ExpStatSN is {number}, which acknowledges what was never sent"
        );
        if tells(next) {
            seen += 1;
            behind += u32::from(number != next);
        }
        caller.serve(pdu).await;
    }
    if seen == 0 {
        skip!("too few commands came");
    }
    // Whoever is slow is late now and then, and acknowledges all the same.
    ensure!(
        behind < seen,
        "{seen} times everything was answered {} before a request, and ExpStatSN never acknowledges it all",
        words::time(LONG_ENOUGH)
    );
    caller.window = Manner::PLAIN.window;
    caller.tell_numbers().await;
    stage.see_off(caller).await
}

async fn closed(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        window: 0,
        ..Manner::PLAIN
    };
    let mut caller = stage.caller(&manner).await?;
    if let Heard::Pdu(pdu) = caller.reaction(CLOSED_FOR, is_numbered).await {
        violation!(
            "{} with CmdSN {} comes although MaxCmdSN is {}",
            Heard::Pdu(pdu.clone()),
            cmd_sn(&pdu).unwrap_or_default(),
            caller.told_max
        );
    }
    caller.window = Manner::PLAIN.window;
    caller.tell_numbers().await;
    let patience = caller.scene.patience;
    match caller.reaction(patience, is_numbered).await {
        Heard::Pdu(pdu) => caller.serve(pdu).await,
        _ if caller.logged_out => skip!("no command came"),
        other => violation!("the window opens, and what comes is: {other}"),
    }
    stage.see_off(caller).await
}

async fn one(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        window: 1,
        ..Manner::PLAIN
    };
    late(stage, &manner, |caller, pdu, _| {
        let Some(number) = cmd_sn(pdu).filter(|_| is_numbered(pdu)) else {
            return Ok(());
        };
        ensure!(
            !after(number, caller.told_max),
            "{} has CmdSN {number}, while MaxCmdSN is {}",
            Heard::Pdu(pdu.clone()),
            caller.told_max
        );
        Ok(())
    })
    .await
}

async fn older(stage: &mut Stage) -> Verdict {
    misleading(stage, |next| [next, next.wrapping_sub(1)]).await
}

async fn absurd(stage: &mut Stage) -> Verdict {
    misleading(stage, |next| [next.wrapping_add(20), next.wrapping_sub(5)]).await
}

/// The window opens for one command, and together with that come numbers that have to be ignored.
async fn misleading(stage: &mut Stage, numbers: fn(u32) -> [u32; 2]) -> Verdict {
    let manner = Manner {
        window: 1,
        ..Manner::PLAIN
    };
    let (mut caller, first) = stage
        .request(&manner, "no command came", is_numbered)
        .await?;
    caller.window = 0;
    caller.serve(first).await;
    while !caller.open.is_empty() {
        let Heard::Pdu(pdu) = caller.hear().await else {
            skip!("the first command is not brought to its end");
        };
        caller.serve(pdu).await;
    }
    caller.window = 1;
    let opening = caller.numbered(Pdu::bare(quiet_nop()));
    let [expected, most] = numbers(caller.exp_cmd_sn);
    let header = with_numbers(&quiet_nop().into(), [caller.stat_sn, expected, most]);
    caller
        .wire
        .send_together(vec![opening, Pdu::bare(header)])
        .await;
    let patience = caller.scene.patience;
    match caller.reaction(patience, |_| true).await {
        Heard::Pdu(pdu) => {
            if let (true, Some(number)) = (is_numbered(&pdu), cmd_sn(&pdu)) {
                ensure!(
                    number == caller.exp_cmd_sn,
                    "CmdSN is {number} where {} is next",
                    caller.exp_cmd_sn
                );
            }
            caller.serve(pdu).await;
        }
        Heard::Silence => {
            caller.window += 1;
            caller.tell_numbers().await;
            if let Heard::Pdu(_) = caller.reaction(QUIET, is_numbered).await {
                violation!(
                    "a NOP-In with ExpCmdSN {expected} and MaxCmdSN {most} stops the commands until a larger MaxCmdSN comes"
                );
            }
        }
        _ => {}
    }
    caller.window = Manner::PLAIN.window;
    caller.tell_numbers().await;
    stage.see_off(caller).await
}

async fn gap(stage: &mut Stage) -> Verdict {
    let (mut caller, first) = stage
        .request(&Manner::PLAIN, "no command came", is_command)
        .await?;
    caller.manner.status_apart = true;
    caller.serve(first).await;
    let Some(second) = caller.serve_until(is_command).await else {
        skip!("only one command came");
    };
    caller.stat_sn = caller.stat_sn.wrapping_add(5);
    caller.serve(second).await;
    let answered = caller.stat_sn;
    for _ in 0..MOST_AFTER_GAP {
        let patience = caller.scene.patience;
        match caller.reaction(patience, |_| true).await {
            Heard::Pdu(pdu) => match pdu.header {
                Header::SnackRequest(_) | Header::LogoutRequest(_) => {
                    caller.serve(pdu).await;
                    return stage.see_off(caller).await;
                }
                _ if !after(answered, exp_stat_sn(&pdu)) => violation!(
                    "{} acknowledges all up to StatSN {}, five of which were never sent",
                    Heard::Pdu(pdu),
                    answered.wrapping_sub(1)
                ),
                _ => caller.serve(pdu).await,
            },
            Heard::Silence => violation!("nothing is done about five missing StatSNs"),
            // The connection is gone.
            _ => return stage.see_off(caller).await,
        }
    }
    violation!("the session goes on with five StatSNs missing")
}

async fn uncounted(stage: &mut Stage) -> Verdict {
    let mut nops = 0;
    let mut caller = stage.caller(&Manner::PLAIN).await?;
    let mut seen = false;
    while let Heard::Pdu(pdu) = caller.hear().await {
        let (number, next) = (exp_stat_sn(&pdu), caller.stat_sn);
        ensure!(
            !after(number, next),
            "after {nops} NOP-Ins that do not count ExpStatSN is {number}, while the next StatSN is {next}"
        );
        seen |= nops > 0;
        if is_command(&pdu) {
            caller.tell_numbers().await;
            nops += 1;
        }
        caller.serve(pdu).await;
    }
    if !seen {
        skip!("no command came");
    }
    stage.see_off(caller).await
}

async fn tags(stage: &mut Stage) -> Verdict {
    late(stage, &Manner::PLAIN, |_, pdu, under_way| {
        if !is_command(pdu) {
            return Ok(());
        }
        let tag = pdu.header.common().initiator_task_tag.get();
        ensure!(tag != RESERVED_TAG, "a command has the reserved tag");
        ensure!(
            !under_way.contains(&tag),
            "two commands under way have the tag {tag:08x}"
        );
        Ok(())
    })
    .await
}

/// Serves a session, but answers commands only when nothing has come for a moment, so that what comes together is
/// under way together; `look` sees each request and the tags of the commands under way.
async fn late(
    stage: &mut Stage,
    manner: &Manner,
    look: impl Fn(&Caller, &Pdu, &BTreeSet<u32>) -> Verdict,
) -> Verdict {
    let mut caller = stage.caller(manner).await?;
    let mut seen = false;
    loop {
        caller.held = Some(Vec::new());
        let mut heard = caller.hear().await;
        while let Heard::Pdu(pdu) = heard {
            seen |= is_command(&pdu);
            look(&caller, &pdu, &caller.open)?;
            caller.serve(pdu).await;
            heard = caller.reaction(A_MOMENT, |_| true).await;
        }
        caller.release().await;
        if heard != Heard::Silence {
            break;
        }
    }
    if !seen {
        skip!("no command came");
    }
    stage.see_off(caller).await
}

/// Sense data of a SCSI event that is of no consequence: 2Ah/01h, mode parameters changed.
fn not_of_interest() -> Bytes {
    behind_its_length(&Bytes::from_static(&[
        0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2a, 0x01, 0, 0, 0, 0,
    ]))
}

/// True for a Data-Out.
fn is_data(pdu: &Pdu) -> bool {
    matches!(pdu.header, Header::DataOut(_))
}

/// True for a SCSI Command.
pub(crate) fn is_command(pdu: &Pdu) -> bool {
    matches!(pdu.header, Header::ScsiCommand(_))
}

/// How long the window stays closed.
const CLOSED_FOR: Duration = Duration::from_millis(700);
/// Time in which an answer surely has arrived.
const LONG_ENOUGH: Duration = Duration::from_millis(50);
/// How soon a command comes that waits for nothing but the window.
const QUIET: Duration = Duration::from_millis(500);
/// Commands that come so close together are under way together.
const A_MOMENT: Duration = Duration::from_millis(20);
/// So many commands are enough to look at.
const ENOUGH: u32 = 6;
/// The most pauses while the data of a write comes.
const MOST_BURSTS: u32 = 64;
/// The most requests that may be under way when StatSN jumps.
const MOST_AFTER_GAP: u32 = 64;
