//! Asynchronous Messages (RFC 7143 §11.9). No request makes a target send one; what comes is looked at when there is
//! cause to send some.

use iscsi_proto::wire::bhs::{AsyncMessage, FINAL, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::checks::discovery;
use crate::management::{COMPLETE, UNIT_RESET};
use crate::session::{Session, sense};
use crate::wire::Heard;

checks! {
    "notices.reinstatement", "RFC 7143 §11.9.1", Must, Reads,
        "a login that reinstates a session"
        => "the old connection closes, and Asynchronous Messages before that are in their form", reinstatement;
    "notices.unit-reset", "RFC 7143 §11.9", Must, Writes,
        "a LOGICAL UNIT RESET by another initiator port"
        => "Asynchronous Messages about it, if any come, are in their form", unit_reset;
    "notices.discovery", "RFC 7143 §7.4.3", Should, Reads,
        "a login that reinstates a discovery session"
        => "nothing is said on the old connection, which closes", quiet_discovery;
}

/// A message has to have its fields as its event wants them, and the StatSN that was next.
fn expect_form(session: &Session, message: &Pdu, stat_sn: u32) -> Verdict {
    let Header::AsyncMessage(header) = &message.header else {
        return Ok(());
    };
    let event = header.async_event;
    ensure!(
        header.flags == FINAL && header.initiator_task_tag.get() == RESERVED_TAG,
        "an Asynchronous Message has byte 1 {:#04x} and Initiator Task Tag {:08x} instead of 0x80 and ffffffff",
        header.flags,
        header.initiator_task_tag.get()
    );
    ensure!(
        header.stat_sn.get() == stat_sn,
        "an Asynchronous Message has StatSN {} where {stat_sn} is next",
        header.stat_sn.get()
    );
    ensure!(
        matches!(event, 0..=5 | 248..=255),
        "AsyncEvent {event} is none that there is"
    );
    ensure!(
        event != 5,
        "AsyncEvent 5 needs TaskReporting=FastAbort, which nobody agreed to"
    );
    ensure!(
        event >= 248 || header.async_vcode == 0,
        "AsyncVCode is {} with AsyncEvent {event}, which has none",
        header.async_vcode
    );
    expect_parameters(session, header)?;
    expect_data(event, &message.data)
}

/// What the parameters mean with each event; where they mean nothing they are zero (RFC 7143 §11.9.1).
fn expect_parameters(session: &Session, header: &AsyncMessage) -> Verdict {
    let parameter_1 = header.parameter_1.get();
    let cid = session.login.cid;
    match header.async_event {
        1 | 3 | 4 => ensure!(
            parameter_1 == 0,
            "Parameter1 is {parameter_1} with AsyncEvent {}, which has none",
            header.async_event
        ),
        2 => ensure!(
            parameter_1 == cid,
            "Parameter1 of a Connection Drop Notification is {parameter_1}, and the connection is {cid}"
        ),
        _ => {}
    }
    Ok(())
}

/// Sense data belongs to a SCSI event, and to no other.
fn expect_data(event: u8, data: &[u8]) -> Verdict {
    let length = data.first_chunk::<2>().map(|two| u16::from_be_bytes(*two));
    match (event, length) {
        (0, _) if sense(data).is_none() => violation!(
            "a SCSI Asynchronous Event comes with {} bytes of data, and no sense data in them",
            data.len()
        ),
        (1..=5, Some(length)) if length > 0 => {
            violation!("SenseLength is {length} with AsyncEvent {event}, which is no SCSI event")
        }
        (1..=5, None) if !data.is_empty() => {
            violation!("a data segment of one byte has no room for SenseLength")
        }
        _ => Ok(()),
    }
}

/// Every message that a session heard, the first of which has this StatSN if nothing else came.
fn expect_forms(session: &Session, stat_sn: Option<u32>) -> Verdict {
    let mut next = stat_sn;
    for message in &session.notices {
        let Header::AsyncMessage(header) = &message.header else {
            continue;
        };
        let own = header.stat_sn.get();
        expect_form(session, message, next.unwrap_or(own))?;
        next = next.map(|next| next.wrapping_add(1));
    }
    Ok(())
}

/// Takes what comes on the connection of a session that is over, which has to close.
async fn last_words(session: &mut Session) -> Result<Option<Pdu>, Finding> {
    match session.next().await {
        Heard::Closed => Ok(None),
        Heard::Pdu(pdu) => Ok(Some(pdu)),
        other => violation!("the reinstated session's connection has to close: {other}"),
    }
}

async fn reinstatement(bench: &Bench) -> Verdict {
    let mut old = bench.session().await?;
    // Some targets send messages only to those who have pinged them.
    old.said_before_ping().await?;
    let stat_sn = old.exp_stat_sn;
    let _new = bench.log_in_as(old.login.clone(), &[]).await?;
    if let Some(pdu) = last_words(&mut old).await? {
        violation!(
            "{} on the connection of a session that is over",
            Heard::Pdu(pdu)
        );
    }
    expect_forms(&old, Some(stat_sn))
}

async fn unit_reset(bench: &Bench) -> Verdict {
    let mut listener = bench.session().await?;
    listener.said_before_ping().await?;
    let mut other = bench.session().await?;
    let request = other.management(UNIT_RESET);
    let (answer, _) = other.manage(request).await?;
    if answer.response != COMPLETE {
        skip!("the target does not reset the unit");
    }
    let stat_sn = listener.exp_stat_sn;
    listener.notices.clear();
    let alive = listener.said_before_ping().await;
    expect_forms(&listener, Some(stat_sn))?;
    if let Err(Finding::Violation(why)) = alive {
        skip!("to a ping behind the reset: {why}");
    }
    // Nothing is left for the next check.
    listener.take_attentions().await?;
    other.take_attentions().await?;
    expect_forms(&listener, None)
}

async fn quiet_discovery(bench: &Bench) -> Verdict {
    let mut old = discovery::session(bench, &[]).await?;
    let _new = bench.log_in_as(old.login.clone(), &[]).await?;
    let heard = old.next().await;
    if let Heard::Pdu(pdu) = heard {
        violation!("{} in a discovery session", Heard::Pdu(pdu));
    }
    if let Some(pdu) = old.notices.pop() {
        violation!("{} in a discovery session", Heard::Pdu(pdu));
    }
    if heard != Heard::Closed {
        skip!("the target does not end the session that is reinstated");
    }
    Ok(())
}
