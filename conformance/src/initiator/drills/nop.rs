//! Pings in both directions (RFC 7143 §11.18, §11.19).

use iscsi_proto::wire::bhs::{NopOut, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};

use crate::check::{Finding, Verdict, ensure, skip, violation};
use crate::initiator::caller::Caller;
use crate::initiator::drill::drills;
use crate::initiator::drills::numbering::is_command;
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;
use crate::wire::Heard;
use crate::words;

drills! {
    "nop.answered", "RFC 7143 §11.18", Must, Normal, Succeeds,
        "a NOP-In with a Target Transfer Tag while a command runs"
        => "a NOP-Out with the same Target Transfer Tag", answered;
    "nop.answered.form", "RFC 7143 §11.18.1", Must, Normal, Succeeds,
        "a NOP-In with a Target Transfer Tag while a command runs"
        => "the answer is immediate, with the F bit and the reserved Initiator Task Tag", form;
    "nop.answered.lun", "RFC 7143 §11.18.2", Must, Normal, Succeeds,
        "a NOP-In with a Target Transfer Tag and LUN 5"
        => "the LUN is copied", lun;
    "nop.answered.each", "RFC 7143 §11.18", Must, Normal, Succeeds,
        "eight NOP-Ins in a row, each with a tag of its own"
        => "eight NOP-Outs, one with each tag", each;
    "nop.unanswered", "RFC 7143 §11.18", Should, Normal, Succeeds,
        "NOP-Ins that only carry numbers"
        => "no NOP-Out in response", unanswered;
    "nop.own", "RFC 7143 §11.18", Must, Normal, Succeeds,
        "no answer to the first command for a while"
        => "a ping of the initiator's has the F bit, a tag of its own, and the reserved Target Transfer Tag", own;
}

/// Pings while the first command runs; the session, the tag of the ping and the answer.
async fn pinged(stage: &mut Stage, lun: u64) -> Result<(Caller, u32, NopOut), Finding> {
    let (mut caller, command) = stage
        .request(&Manner::PLAIN, "no command came", is_command)
        .await?;
    caller.held = Some(Vec::new());
    caller.serve(command).await;
    let tag = caller.ping(lun).await;
    let patience = caller.scene.patience;
    match caller.reaction(patience, is_answer).await {
        Heard::Pdu(Pdu {
            header: Header::NopOut(answer),
            ..
        }) => Ok((caller, tag, answer)),
        other => violation!("a ping is not answered: {other}"),
    }
}

async fn answered(stage: &mut Stage) -> Verdict {
    let (mut caller, tag, answer) = pinged(stage, 0).await?;
    ensure!(
        answer.target_transfer_tag.get() == tag,
        "the Target Transfer Tag of the ping is {tag:08x}, of the answer {:08x}",
        answer.target_transfer_tag.get()
    );
    caller.release().await;
    stage.see_off(caller).await
}

async fn form(stage: &mut Stage) -> Verdict {
    let (mut caller, _, answer) = pinged(stage, 0).await?;
    ensure!(
        answer.opcode == 0x40,
        "byte 0 of the answer is {:#04x}: it is not immediate",
        answer.opcode
    );
    ensure!(
        answer.flags == 0x80,
        "byte 1 of the answer is {:#04x} instead of 0x80",
        answer.flags
    );
    ensure!(
        answer.initiator_task_tag.get() == RESERVED_TAG,
        "the answer has Initiator Task Tag {:08x}, which asks for an answer in turn",
        answer.initiator_task_tag.get()
    );
    caller.release().await;
    stage.see_off(caller).await
}

async fn lun(stage: &mut Stage) -> Verdict {
    let asked = 5 << 48;
    let (mut caller, _, answer) = pinged(stage, asked).await?;
    ensure!(
        answer.lun.get() == asked,
        "the LUN of the ping is {asked:016x}, of the answer {:016x}",
        answer.lun.get()
    );
    caller.release().await;
    stage.see_off(caller).await
}

async fn each(stage: &mut Stage) -> Verdict {
    let (mut caller, command) = stage
        .request(&Manner::PLAIN, "no command came", is_command)
        .await?;
    caller.held = Some(Vec::new());
    caller.serve(command).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(caller.ping(0).await);
    }
    while !open.is_empty() {
        let patience = caller.scene.patience;
        let heard = caller.reaction(patience, is_answer).await;
        let Heard::Pdu(Pdu {
            header: Header::NopOut(answer),
            ..
        }) = heard
        else {
            violation!("{} of 8 pings are not answered: {heard}", open.len());
        };
        let tag = answer.target_transfer_tag.get();
        let Some(at) = open.iter().position(|open| *open == tag) else {
            violation!("an answer has Target Transfer Tag {tag:08x}, which is none that is open");
        };
        open.remove(at);
    }
    caller.release().await;
    stage.see_off(caller).await
}

async fn unanswered(stage: &mut Stage) -> Verdict {
    let mut caller = stage.caller(&Manner::PLAIN).await?;
    let mut sent = false;
    while let Heard::Pdu(pdu) = caller.hear().await {
        if let Header::NopOut(nop) = pdu.header {
            ensure!(
                nop.initiator_task_tag.get() != RESERVED_TAG || !sent,
                "a NOP-Out answers a NOP-In that is no ping"
            );
        }
        if is_command(&pdu) {
            caller.tell_numbers().await;
            sent = true;
        }
        caller.serve(pdu).await;
    }
    if !sent {
        skip!("no command came");
    }
    stage.see_off(caller).await
}

async fn own(stage: &mut Stage) -> Verdict {
    let (mut caller, command) = stage
        .request(&Manner::PLAIN, "no command came", is_command)
        .await?;
    caller.held = Some(Vec::new());
    caller.serve(command).await;
    let patience = caller.scene.patience;
    let is_ping = |pdu: &Pdu| matches!(pdu.header, Header::NopOut(_));
    let Heard::Pdu(pdu) = caller.reaction(patience, is_ping).await else {
        caller.release().await;
        stage.see_off(caller).await?;
        skip!("no ping came within {}", words::time(patience));
    };
    let Header::NopOut(ping) = pdu.header else {
        skip!("no ping came");
    };
    let (task, transfer) = (
        ping.initiator_task_tag.get(),
        ping.target_transfer_tag.get(),
    );
    ensure!(
        ping.flags == 0x80,
        "byte 1 of the ping is {:#04x} instead of 0x80",
        ping.flags
    );
    ensure!(
        transfer == RESERVED_TAG,
        "the ping has Target Transfer Tag {transfer:08x}, but nothing that it answers"
    );
    ensure!(
        task != RESERVED_TAG || ping.opcode == 0x40,
        "a NOP-Out that wants no answer is not immediate"
    );
    ensure!(
        !caller.open.contains(&task),
        "the ping has the tag of a command under way"
    );
    caller.serve(pdu).await;
    caller.release().await;
    stage.see_off(caller).await
}

/// True for a NOP-Out that answers a ping.
fn is_answer(pdu: &Pdu) -> bool {
    matches!(&pdu.header, Header::NopOut(nop) if nop.target_transfer_tag.get() != RESERVED_TAG)
}
