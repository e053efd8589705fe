//! What a target does about digests that are wrong (RFC 7143 §7.8).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{DataOut, FINAL, IMMEDIATE, RESERVED_TAG, Reject, TextRequest};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::session::Session;
use crate::stretch::{Stretch, writable};
use crate::wire::Heard;

use super::data_out::{asked, data_out, pieces, takes_immediate, waiting};
use super::digests::digested;

checks! {
    "digest.header.wrong.ping", "RFC 7143 §7.8", Must, Reads,
        "a ping with a wrong header digest, then a sound one"
        => "the first one is not answered: it is thrown away, or the connection closed", header_ping;
    "digest.header.wrong.write", "RFC 7143 §7.8", Must, Writes,
        "a WRITE with a wrong header digest"
        => "it is thrown away, or the connection closed: nothing is written", header_write;
    "digest.data.wrong.ping", "RFC 7143 §7.8", Must, Reads,
        "a ping with a wrong data digest"
        => "Reject with reason 02, or the end of the connection; no echo", data_ping;
    "digest.data.wrong.text", "RFC 7143 §7.8", Must, Reads,
        "a Text Request with a wrong data digest"
        => "Reject with reason 02, or the end of the connection; no Text Response", data_text;
    "digest.data.wrong.reject", "RFC 7143 §11.17", Must, Reads,
        "a ping with a wrong data digest"
        => "the Reject has the next StatSN, and the header of the ping as its data", data_reject;
    "digest.data.wrong.command", "RFC 7143 §7.8", Must, Writes,
        "a WRITE with a wrong digest of its immediate data"
        => "Reject with reason 02, or the end of the connection; nothing is written", data_command;
    "digest.data.wrong.retry", "RFC 7143 §7.8", Must, Writes,
        "a WRITE with a wrong digest of its immediate data, and after the Reject the same without damage"
        => "the WRITE is carried out: its number was still awaited", data_retry;
    "digest.data.wrong.data-out", "RFC 7143 §7.8", Must, Writes,
        "Data-Out with a wrong data digest"
        => "Reject with reason 02, then a recovery R2T or CHECK CONDITION b/47/05; or the end of the connection", data_data_out;
    "digest.data.wrong.waits", "RFC 7143 §7.8", Must, Writes,
        "an R2T answered with several PDUs, the first one with a wrong data digest"
        => "a status does not come before the F bit", data_waits;
}

/// Sends a PDU whose header digest is wrong.
async fn send_with_bad_header(session: &mut Session, pdu: &Pdu, what: &str) {
    let mut bytes = session.wire.encode(pdu);
    if let Some(byte) = bytes.get_mut(48 + pdu.ahs.len()) {
        *byte ^= 0xff;
    }
    let what = format!("{what} with a wrong header digest");
    session.wire.send_bytes(&what, &bytes).await;
}

/// Sends a PDU whose data digest is wrong.
async fn send_with_bad_data(session: &mut Session, pdu: &Pdu, what: &str) {
    let mut bytes = session.wire.encode(pdu);
    if let Some(byte) = bytes.last_mut() {
        *byte ^= 0xff;
    }
    let what = format!("{what} with a wrong data digest");
    session.wire.send_bytes(&what, &bytes).await;
}

/// Takes the Reject of a PDU with a wrong data digest; nothing if the target closes the connection instead, which
/// escalates the error to session recovery.
async fn reject(session: &mut Session, what: &str) -> Result<Option<(Reject, Bytes)>, Finding> {
    match session.next().await {
        Heard::Closed => Ok(None),
        Heard::Pdu(Pdu {
            header: Header::Reject(reject),
            data,
            ..
        }) => {
            ensure!(
                reject.reason == 0x02,
                "{what} with a wrong data digest is rejected with reason {:#04x}, not 0x02",
                reject.reason
            );
            Ok(Some((reject, data)))
        }
        other => violation!("{other} to {what} with a wrong data digest"),
    }
}

async fn header_ping(bench: &Bench) -> Verdict {
    let mut session = digested(bench, true, false, &[]).await?;
    let ping = session.ping();
    send_with_bad_header(&mut session, &Pdu::bare(ping), "a NOP-Out").await;
    let sound = session.ping();
    session.send(Pdu::bare(sound)).await;
    // Who looks for the beginning of a later PDU may find none, and say nothing.
    if let Heard::Pdu(pdu) = session.next().await {
        ensure!(
            pdu.header.common().initiator_task_tag != ping.initiator_task_tag,
            "{} to a NOP-Out with a wrong header digest",
            Heard::Pdu(pdu)
        );
    }
    Ok(())
}

/// A session with digests that takes immediate data, and a stretch whose content is known.
async fn known(bench: &Bench, header: bool) -> Result<(Session, Stretch, Bytes), Finding> {
    let mut session = digested(bench, header, !header, &[("ImmediateData", "Yes")]).await?;
    takes_immediate(&session)?;
    writable(&mut session).await?;
    let stretch = Stretch::of(bench, 4096)?;
    let data = stretch.pattern(bench);
    session
        .run(&stretch.write(&data))
        .await?
        .good("WRITE (10)")?;
    Ok((session, stretch, data))
}

async fn header_write(bench: &Bench) -> Verdict {
    let (mut session, stretch, before) = known(bench, true).await?;
    let data = stretch.pattern(bench);
    let command = session.command(&stretch.write(&data));
    send_with_bad_header(&mut session, &Pdu::new(command, data), "a WRITE").await;
    let what = "a WRITE with a wrong header digest";
    if let Heard::Pdu(pdu) = session.next().await {
        ensure!(
            pdu.header.common().initiator_task_tag != command.initiator_task_tag,
            "{} to {what}",
            Heard::Pdu(pdu)
        );
    }
    let mut other = bench.session().await?;
    stretch.holds(&mut other, &before, what).await
}

async fn data_ping(bench: &Bench) -> Verdict {
    let mut session = digested(bench, false, true, &[]).await?;
    let ping = Pdu::new(session.ping(), Bytes::from_static(b"damaged on its way"));
    send_with_bad_data(&mut session, &ping, "a NOP-Out").await;
    if reject(&mut session, "a NOP-Out").await?.is_some()
        && let Some(pdu) = session.said_before_ping().await?.into_iter().next()
    {
        violation!("{} behind the Reject of a NOP-Out", Heard::Pdu(pdu));
    }
    Ok(())
}

async fn data_text(bench: &Bench) -> Verdict {
    let mut session = digested(bench, false, true, &[]).await?;
    let header = TextRequest {
        opcode: TextRequest::OPCODE | IMMEDIATE,
        flags: FINAL,
        initiator_task_tag: session.tag().into(),
        target_transfer_tag: RESERVED_TAG.into(),
        cmd_sn: session.cmd_sn.into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        ..TextRequest::default()
    };
    let text = Pdu::new(header, Bytes::from_static(b"SendTargets=\0"));
    send_with_bad_data(&mut session, &text, "a Text Request").await;
    if reject(&mut session, "a Text Request").await?.is_some()
        && let Some(pdu) = session.said_before_ping().await?.into_iter().next()
    {
        violation!("{} behind the Reject of a Text Request", Heard::Pdu(pdu));
    }
    Ok(())
}

async fn data_reject(bench: &Bench) -> Verdict {
    let mut session = digested(bench, false, true, &[]).await?;
    let next = session.exp_stat_sn;
    let ping = Pdu::new(session.ping(), Bytes::from_static(b"damaged on its way"));
    let bytes = session.wire.encode(&ping);
    send_with_bad_data(&mut session, &ping, "a NOP-Out").await;
    let Some((reject, data)) = reject(&mut session, "a NOP-Out").await? else {
        skip!("the target closes the connection when a data digest is wrong");
    };
    ensure!(
        reject.stat_sn.get() == next,
        "the Reject has StatSN {}, where {next} is the next one",
        reject.stat_sn.get()
    );
    ensure!(
        reject.initiator_task_tag.get() == RESERVED_TAG && reject.flags == FINAL,
        "byte 1 of the Reject is {:#04x}, and its tag {:08x}",
        reject.flags,
        reject.initiator_task_tag.get()
    );
    ensure!(
        bytes
            .get(..48)
            .is_some_and(|header| data.starts_with(header)),
        "the {} bytes of data of the Reject are not the header of the NOP-Out",
        data.len()
    );
    Ok(())
}

async fn data_command(bench: &Bench) -> Verdict {
    let (mut session, stretch, before) = known(bench, false).await?;
    let data = stretch.pattern(bench);
    let command = Pdu::new(session.command(&stretch.write(&data)), data);
    send_with_bad_data(&mut session, &command, "a WRITE").await;
    reject(&mut session, "a WRITE").await?;
    let mut other = bench.session().await?;
    let what = "a WRITE with a wrong data digest";
    stretch.holds(&mut other, &before, what).await
}

async fn data_retry(bench: &Bench) -> Verdict {
    let (mut session, stretch, _) = known(bench, false).await?;
    let data = stretch.pattern(bench);
    let command = session.command(&stretch.write(&data));
    let pdu = Pdu::new(command, data.clone());
    send_with_bad_data(&mut session, &pdu, "a WRITE").await;
    if reject(&mut session, "a WRITE").await?.is_none() {
        skip!("the target closes the connection when a data digest is wrong");
    }
    session.send(pdu).await;
    let what = "a WRITE that was sent again";
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    ensure!(end.is_good(), "{what}: {} instead of GOOD", end.outcome());
    stretch.holds(&mut session, &data, what).await
}

/// A session with data digests and a WRITE that waits for its data.
async fn writing(bench: &Bench) -> Result<Session, Finding> {
    let keys = [("InitialR2T", "Yes"), ("ImmediateData", "No")];
    let mut session = digested(bench, false, true, &keys).await?;
    writable(&mut session).await?;
    Ok(session)
}

async fn data_data_out(bench: &Bench) -> Verdict {
    let mut session = writing(bench).await?;
    let (command, r2t, stretch, data) = waiting(bench, &mut session).await?;
    let bytes = asked(&r2t, &data)?;
    let from = usize::try_from(r2t.buffer_offset.get()).unwrap_or(0);
    let header = DataOut {
        flags: FINAL,
        ..data_out(&session, &command, Some(&r2t), 0, from)
    };
    let what = "Data-Out";
    send_with_bad_data(&mut session, &Pdu::new(header, bytes), what).await;
    if reject(&mut session, what).await?.is_none() {
        return Ok(());
    }
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    let Some(reply) = &end.reply else {
        return Ok(());
    };
    if end.asked_again == 0 {
        return reply.fails_with("a WRITE whose data was damaged", 0x0b, 0x47, 0x05);
    }
    ensure!(
        end.is_good(),
        "a WRITE whose damaged data was sent again: {} instead of GOOD",
        end.outcome()
    );
    stretch
        .holds(&mut session, &data, "a WRITE with a recovery R2T")
        .await
}

async fn data_waits(bench: &Bench) -> Verdict {
    let mut session = writing(bench).await?;
    let (command, r2t, _, data) = waiting(bench, &mut session).await?;
    let parts = pieces(&asked(&r2t, &data)?, 1024);
    let from = usize::try_from(r2t.buffer_offset.get()).unwrap_or(0);
    let mut offset = from;
    for (part, number) in parts.iter().zip(0u32..) {
        let mut header = data_out(&session, &command, Some(&r2t), number, offset);
        let is_last = usize::try_from(number).is_ok_and(|number| number + 1 == parts.len());
        if is_last {
            header.flags = FINAL;
        }
        offset += part.len();
        let pdu = Pdu::new(header, part.clone());
        if number > 0 {
            session.send(pdu).await;
            continue;
        }
        send_with_bad_data(&mut session, &pdu, "Data-Out").await;
        if reject(&mut session, "Data-Out").await?.is_none() {
            skip!("the target closes the connection when a data digest is wrong");
        }
        let said = session.said_before_ping().await?;
        let status = |pdu: &Pdu| matches!(pdu.header, Header::ScsiResponse(_));
        ensure!(
            !said.iter().any(status),
            "a status while the F bit of what an R2T asked for is still to come"
        );
        if said
            .iter()
            .any(|pdu| matches!(pdu.header, Header::ReadyToTransfer(_)))
        {
            // Asked again at once: that is lawful, and the rest is the business of another check.
            return Ok(());
        }
    }
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    ensure!(
        !end.is_good() || end.asked_again > 0,
        "GOOD for a WRITE of whose data a part was damaged"
    );
    Ok(())
}
