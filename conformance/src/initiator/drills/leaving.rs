//! Task management, coming back, and the end of a session (RFC 7143 §4.2.6, §6.3.5, §11.5, §11.14).

use std::time::Duration;

use iscsi_proto::wire::bhs::{RESERVED_TAG, TaskManagementRequest};
use iscsi_proto::wire::{Header, Pdu};

use crate::check::{Finding, Verdict, ensure, skip, violation};
use crate::initiator::caller::{Caller, cmd_sn};
use crate::initiator::drill::drills;
use crate::initiator::drills::numbering::is_command;
use crate::initiator::manner::Manner;
use crate::initiator::scsi::read_of;
use crate::initiator::stage::Stage;
use crate::wire::Heard;
use crate::words;

drills! {
    "management.form", "RFC 7143 §11.5", Must, Normal, Either,
        "no answer to a read for a while"
        => "a task management request, if one comes, has the F bit, a function that is defined, and no data", form;
    "management.abort", "RFC 7143 §11.5.4", Must, Normal, Either,
        "no answer to a read for a while"
        => "ABORT TASK names the tag and the LUN of a command under way; other functions name no tag", abort;
    "management.ref-cmd-sn", "RFC 7143 §11.5.5", Must, Normal, Either,
        "no answer to a read for a while"
        => "RefCmdSN of ABORT TASK is the CmdSN of the command", ref_cmd_sn;
    "loss.tsih", "RFC 7143 §11.12.6", Must, Normal, Either,
        "a closed connection in answer to a read"
        => "the TSIH of the next login is 0, or that of the session that was lost", tsih;
    "loss.names", "RFC 7143 §6.3", Must, Normal, Either,
        "a closed connection in answer to a read"
        => "the next login begins with both names again", names;
    "logout.form", "RFC 7143 §11.14", Must, Normal, Succeeds,
        "nothing special"
        => "a Logout Request has the F bit, a reason that is defined, and no data", logout_form;
    "logout.last", "RFC 7143 §11.14", Must, Normal, Succeeds,
        "the answer to the logout a little later"
        => "no new request behind the Logout Request", logout_last;
    "logout.sent", "RFC 7143 §4.2.6", Should, Normal, Succeeds,
        "nothing special"
        => "a session is logged out before its connection is closed", logout_sent;
    "logout.closes", "RFC 7143 §11.14", Must, Normal, Succeeds,
        "the answer to the logout, then a half-closed connection"
        => "the initiator closes the connection completely", logout_closes;
}

/// Holds the first read until a task management request comes; the session, the read and the request.
async fn managed(stage: &mut Stage) -> Result<(Caller, Pdu, TaskManagementRequest, Pdu), Finding> {
    let is_read = |pdu: &Pdu| matches!(&pdu.header, Header::ScsiCommand(command) if read_of(&command.cdb).is_some());
    let (mut caller, read) = stage
        .request(&Manner::PLAIN, "no read came", is_read)
        .await?;
    caller.held = Some(Vec::new());
    caller.serve(read.clone()).await;
    let patience = caller.scene.patience;
    let is_management = |pdu: &Pdu| matches!(pdu.header, Header::TaskManagementRequest(_));
    let heard = caller.reaction(patience, is_management).await;
    let Heard::Pdu(pdu) = heard else {
        caller.release().await;
        stage.outcome(Some(caller)).await;
        skip!(
            "no task management request came within {}",
            words::time(patience)
        );
    };
    let Header::TaskManagementRequest(request) = pdu.header else {
        skip!("no task management request came");
    };
    Ok((caller, read, request, pdu))
}

/// Serves what is left.
async fn done(stage: &mut Stage, mut caller: Caller, pdu: Pdu) -> Verdict {
    caller.serve(pdu).await;
    // What was aborted needs no answer.
    let aborted = |held: &Pdu, caller: &Caller| {
        !caller
            .open
            .contains(&held.header.common().initiator_task_tag.get())
    };
    let mut held = caller.held.take().unwrap_or_default();
    held.retain(|held| !aborted(held, &caller));
    caller.held = Some(held);
    caller.release().await;
    stage.see_off(caller).await
}

async fn form(stage: &mut Stage) -> Verdict {
    let (caller, _, request, pdu) = managed(stage).await?;
    let function = request.function & 0x7f;
    ensure!(
        request.function & 0x80 != 0,
        "byte 1 of the request is {:#04x}: the F bit is not set",
        request.function
    );
    ensure!(
        (1..=8).contains(&function),
        "there is no function {function}"
    );
    ensure!(
        pdu.data.is_empty() && pdu.ahs.is_empty(),
        "the request has {} bytes of data and {} of additional headers",
        pdu.data.len(),
        pdu.ahs.len()
    );
    done(stage, caller, pdu).await
}

async fn abort(stage: &mut Stage) -> Verdict {
    let (caller, read, request, pdu) = managed(stage).await?;
    let tag = request.referenced_task_tag.get();
    if request.function & 0x7f == ABORT_TASK {
        ensure!(
            caller.open.contains(&tag),
            "ABORT TASK names tag {tag:08x}, which no command under way has"
        );
        let lun = read.header.common().lun.get();
        ensure!(
            request.lun.get() == lun,
            "the LUN of the command is {lun:016x}, of ABORT TASK {:016x}",
            request.lun.get()
        );
    } else if request.function & 0x7f != TASK_REASSIGN {
        ensure!(
            tag == RESERVED_TAG,
            "function {} names tag {tag:08x} instead of the reserved one",
            request.function & 0x7f
        );
    }
    done(stage, caller, pdu).await
}

async fn ref_cmd_sn(stage: &mut Stage) -> Verdict {
    let (caller, read, request, pdu) = managed(stage).await?;
    let same = request.referenced_task_tag == read.header.common().initiator_task_tag;
    if request.function & 0x7f != ABORT_TASK || !same {
        done(stage, caller, pdu).await?;
        skip!("no ABORT TASK for the read came");
    }
    let (number, due) = (request.ref_cmd_sn.get(), cmd_sn(&read).unwrap_or_default());
    ensure!(
        number == due,
        "the command has CmdSN {due}, and RefCmdSN is {number}"
    );
    done(stage, caller, pdu).await
}

async fn tsih(stage: &mut Stage) -> Verdict {
    let lost = lose(stage).await?;
    let Some(mut entry) = stage.next().await else {
        skip!("the initiator does not come back");
    };
    let asked = entry.ask().await;
    let tsih = entry.record.tsih();
    ensure!(
        tsih == 0 || tsih == lost,
        "the session that was lost had TSIH {lost}, and the next login has {tsih}"
    );
    if let Ok(asked) = asked {
        // The session is gone; and a login that was looked at cannot be begun anew.
        entry.refuse(&asked, 0x0301, &[]).await;
    }
    drop(entry);
    stage.outcome(None).await;
    Ok(())
}

async fn names(stage: &mut Stage) -> Verdict {
    lose(stage).await?;
    let Some(entry) = stage.next().await else {
        skip!("the initiator does not come back");
    };
    let judge = |keys: &crate::keys::Keys| {
        for key in ["InitiatorName", "TargetName"] {
            ensure!(
                keys.get(key).is_some(),
                "the first request of the next login has no {key}"
            );
        }
        Ok(())
    };
    match entry.log_in(&Manner::PLAIN).await {
        Ok(caller) => {
            judge(&caller.record.opening)?;
            stage.see_off(caller).await
        }
        Err(given_up) => {
            judge(&given_up.entry.record.opening)?;
            drop(given_up);
            stage.outcome(None).await;
            Ok(())
        }
    }
}

/// Closes the connection when a read comes; the session's TSIH.
async fn lose(stage: &mut Stage) -> Result<u16, Finding> {
    let mut caller = stage.caller(&Manner::PLAIN).await?;
    if caller.serve_until(is_command).await.is_none() {
        skip!("no command came");
    }
    caller.wire.half_close().await;
    Ok(caller.tsih)
}

async fn logout_form(stage: &mut Stage) -> Verdict {
    let look = |caller: &Caller, pdu: &Pdu| {
        let Header::LogoutRequest(logout) = &pdu.header else {
            return Ok(false);
        };
        let reason = logout.reason & 0x7f;
        ensure!(
            logout.reason & 0x80 != 0,
            "byte 1 of the logout is {:#04x}: bit 0 has to be 1",
            logout.reason
        );
        ensure!(reason <= 2, "there is no logout for reason {reason}");
        ensure!(
            pdu.data.is_empty() && pdu.ahs.is_empty(),
            "the logout has {} bytes of data and {} of additional headers",
            pdu.data.len(),
            pdu.ahs.len()
        );
        let cid = caller
            .record
            .first()
            .map_or(0, |first| first.request.cid.get());
        ensure!(
            reason == 0 || logout.cid.get() == cid,
            "the logout closes connection {} of a session whose only one is {cid}",
            logout.cid.get()
        );
        Ok(true)
    };
    stage.watch(&Manner::PLAIN, "no logout came", look).await
}

async fn logout_last(stage: &mut Stage) -> Verdict {
    let (mut caller, logout) = stage
        .request(&Manner::PLAIN, "no logout came", is_logout)
        .await?;
    match caller.wire.next_within(A_LITTLE).await {
        Heard::Pdu(pdu) => violation!("{} behind the Logout Request", Heard::Pdu(pdu)),
        _ => caller.serve(logout).await,
    }
    match caller.hear().await {
        Heard::Pdu(pdu) => violation!("{} behind the Logout Request", Heard::Pdu(pdu)),
        _ => stage.see_off(caller).await,
    }
}

async fn logout_sent(stage: &mut Stage) -> Verdict {
    let mut next = Some(stage.caller(&Manner::PLAIN).await?);
    while let Some(mut caller) = next.take() {
        caller.serve_to_the_end().await;
        ensure!(
            caller.logged_out,
            "the connection is closed in the full feature phase without a logout"
        );
        drop(caller);
        next = stage.another(&Manner::PLAIN).await?;
    }
    Ok(())
}

async fn logout_closes(stage: &mut Stage) -> Verdict {
    let (mut caller, logout) = stage
        .request(&Manner::PLAIN, "no logout came", is_logout)
        .await?;
    caller.serve(logout).await;
    caller.wire.half_close().await;
    match caller.wire.next().await {
        Heard::Closed => stage.see_off(caller).await,
        Heard::Silence => violation!(
            "the connection is still open {} after the logout was answered",
            words::time(caller.wire.patience)
        ),
        other => violation!("{other} after the logout was answered"),
    }
}

fn is_logout(pdu: &Pdu) -> bool {
    matches!(pdu.header, Header::LogoutRequest(_))
}

/// Task management functions (RFC 7143 §11.5.1).
const ABORT_TASK: u8 = 1;
const TASK_REASSIGN: u8 = 8;
/// How long the answer to a logout is held back.
const A_LITTLE: Duration = Duration::from_millis(100);
