//! Asynchronous Messages and Rejects (RFC 7143 §11.9, §11.17).

use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::wire::{Header, Pdu};
use tokio::time::Instant;

use crate::check::{Finding, Verdict, ensure, skip, violation};
use crate::initiator::caller::{
    Caller, after, behind_its_length, cmd_sn, exp_stat_sn, is_numbered,
};
use crate::initiator::drill::drills;
use crate::initiator::drills::numbering::{acknowledges_all, is_command};
use crate::initiator::manner::Manner;
use crate::initiator::scsi::read_of;
use crate::initiator::stage::Stage;
use crate::wire::Heard;
use crate::words;

drills! {
    "notice.logout", "RFC 7143 §11.9.1", Must, Normal, Either,
        "event 1, the target requests a logout within 2 s, while a command runs"
        => "a Logout Request within 2 s", logout;
    "notice.logout.reason", "RFC 7143 §11.9.1", Must, Normal, Either,
        "event 1, the target requests a logout"
        => "the reason of the logout is \"close the session\" or \"close the connection\"", logout_reason;
    "notice.logout.no-more", "RFC 7143 §11.9.1", Should, Normal, Either,
        "event 1, the target requests a logout, and the answer to a command a little later"
        => "no new command on this connection", no_more;
    "notice.connection-dropped", "RFC 7143 §11.9.1", Should, Normal, Either,
        "event 2, the connection will be dropped, with Time2Wait 1, and it is"
        => "no new login before 1 s is over", connection_dropped;
    "notice.session-dropped", "RFC 7143 §11.9.1", Should, Normal, Either,
        "event 3, all connections will be dropped, with Time2Wait 1, and they are"
        => "no new login before 1 s is over", session_dropped;
    "notice.scsi", "RFC 7143 §11.9.1", Must, Normal, Succeeds,
        "event 0, with sense data 3Fh/0Eh, between commands"
        => "the session goes on", scsi;
    "notice.vendor", "RFC 7143 §11.9.1", Should, Normal, Succeeds,
        "event 250, vendor-specific, with data, between commands"
        => "the session goes on", vendor;
    "notice.negotiation", "RFC 7143 §11.9.1", Must, Normal, Succeeds,
        "event 4, the target requests a negotiation within 2 s"
        => "a Text Request, or a Logout Request, within 2 s", negotiation;
    "notice.counts", "RFC 7143 §11.9", Must, Normal, Succeeds,
        "event 0, which advances StatSN"
        => "ExpStatSN of the next request acknowledges it", counts;
    "reject.command", "RFC 7143 §7.3", Must, Normal, Either,
        "a Reject, command not supported, for a read; its CmdSN is still expected"
        => "the gap is closed by a command with that CmdSN or an abort, or the session is left", rejected;
}

/// The session while its first command runs: the command is held, and so are those after it.
async fn in_a_command(stage: &mut Stage) -> Result<Caller, Finding> {
    let (mut caller, command) = stage
        .request(&Manner::PLAIN, "no command came", is_command)
        .await?;
    caller.held = Some(Vec::new());
    caller.serve(command).await;
    Ok(caller)
}

async fn logout(stage: &mut Stage) -> Verdict {
    let (caller, heard) = asked_to_leave(stage).await?;
    match heard {
        Heard::Pdu(_) => stage.see_off(caller).await,
        other => violation!(
            "the target asks for a logout within {}: {other}",
            words::time(GRACE)
        ),
    }
}

async fn logout_reason(stage: &mut Stage) -> Verdict {
    let (caller, heard) = asked_to_leave(stage).await?;
    let Heard::Pdu(Pdu {
        header: Header::LogoutRequest(logout),
        ..
    }) = heard
    else {
        skip!("no logout came");
    };
    let reason = logout.reason & 0x7f;
    ensure!(
        reason <= 1,
        "the reason of the logout is {reason} instead of 0 or 1"
    );
    stage.see_off(caller).await
}

/// Asks for a logout while a command runs, whose answer follows; what comes of it.
async fn asked_to_leave(stage: &mut Stage) -> Result<(Caller, Heard), Finding> {
    let mut caller = in_a_command(stage).await?;
    caller.announce(1, [0, 0, 2], Bytes::new()).await;
    caller.release().await;
    let mut heard = caller.reaction(GRACE, is_logout).await;
    if let Heard::Pdu(pdu) = &mut heard {
        caller.serve(pdu.clone()).await;
    }
    Ok((caller, heard))
}

async fn no_more(stage: &mut Stage) -> Verdict {
    let mut caller = in_a_command(stage).await?;
    caller.announce(1, [0, 0, 2], Bytes::new()).await;
    // What comes in this time may have been on its way already.
    let early = caller.reaction(ON_ITS_WAY, is_logout).await;
    caller.release().await;
    if let Heard::Pdu(logout) = early {
        caller.serve(logout).await;
        return stage.see_off(caller).await;
    }
    match caller
        .reaction(GRACE, |pdu| is_logout(pdu) || is_numbered(pdu))
        .await
    {
        Heard::Pdu(pdu) if is_numbered(&pdu) && !is_logout(&pdu) => violation!(
            "{} with CmdSN {} although the target has asked for a logout {} before",
            Heard::Pdu(pdu.clone()),
            cmd_sn(&pdu).unwrap_or_default(),
            words::time(ON_ITS_WAY)
        ),
        Heard::Pdu(pdu) => caller.serve(pdu).await,
        _ => {}
    }
    stage.see_off(caller).await
}

async fn connection_dropped(stage: &mut Stage) -> Verdict {
    dropped(stage, 2).await
}

async fn session_dropped(stage: &mut Stage) -> Verdict {
    dropped(stage, 3).await
}

/// Announces that the connection will be dropped, drops it, and looks when the initiator comes back.
async fn dropped(stage: &mut Stage, event: u8) -> Verdict {
    let mut caller = in_a_command(stage).await?;
    let cid = caller
        .record
        .first()
        .map_or(0, |first| first.request.cid.get());
    let named = if event == 2 { cid } else { 0 };
    caller.announce(event, [named, 1, 0], Bytes::new()).await;
    caller.wire.half_close().await;
    drop(caller);
    let closed = Instant::now();
    let Some(entry) = stage.next().await else {
        skip!("the initiator does not come back");
    };
    let away = closed.elapsed();
    ensure!(
        away >= ALMOST_A_SECOND,
        "Time2Wait is 1 s, and the initiator is back after {} ms",
        away.as_millis()
    );
    let caller = entry.log_in(&Manner::PLAIN).await?;
    stage.see_off(caller).await
}

async fn scsi(stage: &mut Stage) -> Verdict {
    let sense = Bytes::from_static(&[
        0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3f, 0x0e, 0, 0, 0, 0,
    ]);
    goes_on(stage, 0, behind_its_length(&sense)).await
}

async fn vendor(stage: &mut Stage) -> Verdict {
    goes_on(stage, 250, Bytes::from_static(b"\0\0words of a vendor")).await
}

/// Announces something that is of no consequence while a command runs.
async fn goes_on(stage: &mut Stage, event: u8, data: Bytes) -> Verdict {
    let mut caller = in_a_command(stage).await?;
    caller.announce(event, [0, 0, 0], data).await;
    caller.release().await;
    let patience = caller.scene.patience;
    match caller.reaction(patience, |_| true).await {
        Heard::Pdu(pdu) => caller.serve(pdu).await,
        Heard::Closed => violation!("the initiator drops the connection after event {event}"),
        _ => {}
    }
    stage.see_off(caller).await
}

async fn negotiation(stage: &mut Stage) -> Verdict {
    let mut caller = in_a_command(stage).await?;
    caller.announce(4, [0, 0, 2], Bytes::new()).await;
    let wanted = |pdu: &Pdu| is_logout(pdu) || matches!(pdu.header, Header::TextRequest(_));
    match caller.reaction(GRACE, wanted).await {
        Heard::Pdu(pdu) => caller.serve(pdu).await,
        other => violation!(
            "the target asks for a negotiation within {}: {other}",
            words::time(GRACE)
        ),
    }
    caller.release().await;
    stage.see_off(caller).await
}

async fn counts(stage: &mut Stage) -> Verdict {
    acknowledges_all(stage, 1, true, |_| true).await
}

/// The gap has to be closed "in order to continue to use the session" (RFC 7143 §7.3), and no time is set for it: whoever
/// sends nothing more has kept the rule so far, and an abort when the command's timer runs out closes the gap. Whoever
/// goes on sending commands, having seen the Reject (it acknowledges it, or has answered the ping behind it), has not.
async fn rejected(stage: &mut Stage) -> Verdict {
    let is_read = |pdu: &Pdu| matches!(&pdu.header, Header::ScsiCommand(command) if read_of(&command.cdb).is_some());
    let (mut caller, read) = stage
        .request(&Manner::PLAIN, "no read came", is_read)
        .await?;
    let missing = cmd_sn(&read).unwrap_or_default();
    let ping = caller.reject_and_ping(&read, COMMAND_NOT_SUPPORTED).await;
    let told = caller.stat_sn;
    let mut seen = false;
    let mut deadline = None;
    let mut waiting = Vec::new();
    loop {
        let now = Instant::now();
        let left = deadline.map_or(UNTIL_IT_LEAVES, |deadline: Instant| {
            deadline.saturating_duration_since(now)
        });
        match caller.reaction(left, |_| true).await {
            Heard::Pdu(pdu) if closes_gap(&pdu, missing) => {
                let aborted = matches!(pdu.header, Header::TaskManagementRequest(_));
                caller.serve(pdu).await;
                if aborted {
                    caller.exp_cmd_sn = missing.wrapping_add(1);
                }
                break;
            }
            // In order behind the gap.
            Heard::Pdu(pdu) if is_numbered(&pdu) => {
                if seen || !after(told, exp_stat_sn(&pdu)) {
                    deadline = deadline.or(Some(now + caller.scene.patience));
                }
                waiting.push(pdu);
            }
            Heard::Pdu(pdu) => {
                seen |= matches!(&pdu.header, Header::NopOut(nop) if nop.target_transfer_tag.get() == ping);
                caller.serve(pdu).await;
            }
            Heard::Silence => violation!(
                "the session is used on after the Reject of CmdSN {missing}, which is still missing {} later: {} later commands wait for it",
                words::time(caller.scene.patience),
                waiting.len()
            ),
            _ => break,
        }
    }
    for pdu in waiting {
        caller.serve(pdu).await;
    }
    stage.see_off(caller).await
}

/// True if a request closes the gap of a CmdSN, or needs it no longer.
fn closes_gap(pdu: &Pdu, missing: u32) -> bool {
    match &pdu.header {
        Header::LogoutRequest(_) => true,
        Header::TaskManagementRequest(abort) => abort.ref_cmd_sn.get() == missing,
        _ => is_numbered(pdu) && cmd_sn(pdu) == Some(missing),
    }
}

fn is_logout(pdu: &Pdu) -> bool {
    matches!(pdu.header, Header::LogoutRequest(_))
}

/// Longer than any visit.
const UNTIL_IT_LEAVES: Duration = Duration::from_secs(600);
/// Parameter3 of the messages that ask for something.
const GRACE: Duration = Duration::from_secs(2);
/// What was sent before a message was read arrives within this time.
const ON_ITS_WAY: Duration = Duration::from_millis(150);
/// Time2Wait, without quarrelling about clocks.
const ALMOST_A_SECOND: Duration = Duration::from_millis(900);
/// Reject reason (RFC 7143 §11.17.1).
const COMMAND_NOT_SUPPORTED: u8 = 0x05;
