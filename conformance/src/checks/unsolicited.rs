//! Unsolicited data that a target has to refuse (RFC 7143 §4.2.5.2, §11.4.7.2, §13.11).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, ScsiCommand};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::session::Session;
use crate::stretch::{End, Stretch};
use crate::wire::Heard;

use super::data_out::{data_out, pieces, send_cut, session, takes_immediate, uninvited};
use super::r2t::is_incorrect_amount;

checks! {
    "unsolicited.immediate.not-agreed", "RFC 7143 §13.11", Must, Writes,
        "InitialR2T=Yes, ImmediateData=No, and a WRITE with immediate data"
        => "CHECK CONDITION, ABORTED COMMAND, 0c/0c: unexpected unsolicited data; nothing is written", immediate_not_agreed;
    "unsolicited.data-out.not-agreed", "RFC 7143 §13.11", Must, Writes,
        "InitialR2T=Yes, ImmediateData=No, and a WRITE with unsolicited Data-Out PDUs"
        => "CHECK CONDITION, ABORTED COMMAND, 0c/0c: unexpected unsolicited data; nothing is written", data_out_not_agreed;
    "unsolicited.too-little", "RFC 7143 §11.4.7.2", Must, Writes,
        "FirstBurstLength=4096, and a WRITE of 8 KiB with 2 KiB of unsolicited Data-Out"
        => "CHECK CONDITION, ABORTED COMMAND, 0c/0d: incorrect amount of data", too_little;
    "unsolicited.too-much", "RFC 7143 §11.4.7.2", Must, Writes,
        "FirstBurstLength=4096, and a WRITE of 8 KiB with 6 KiB of unsolicited Data-Out"
        => "CHECK CONDITION, ABORTED COMMAND, 0c/0d: incorrect amount of data", too_much;
    "unsolicited.immediate.too-much", "RFC 7143 §4.2.5.2", Must, Writes,
        "FirstBurstLength=1024, and a WRITE with 2 KiB of immediate data"
        => "the WRITE fails, or is carried out with all of its bytes", immediate_too_much;
    "unsolicited.failure.waits", "RFC 7143 §11.4.2", Must, Writes,
        "InitialR2T=No, a WRITE behind the end of the unit, and later its unsolicited data"
        => "the status waits for the F bit", failure_waits;
    "unsolicited.exactly", "RFC 7143 §4.2.5.2", Must, Writes,
        "FirstBurstLength=4096, and a WRITE of 8 KiB with 4 KiB of unsolicited Data-Out"
        => "GOOD after the rest was asked for: it is the right amount", exactly;
}

/// Anything but CHECK CONDITION, "Unexpected unsolicited data", is a violation.
fn is_unexpected(end: &End, what: &str) -> Verdict {
    match &end.reply {
        Some(reply) => reply.fails_with(what, 0x0b, 0x0c, 0x0c),
        None => violation!("{what}: the connection is closed instead of CHECK CONDITION b/0c/0c"),
    }
}

/// A stretch whose content is known.
async fn known(
    bench: &Bench,
    session: &mut Session,
    bytes: u32,
) -> Result<(Stretch, Bytes), Finding> {
    let stretch = Stretch::of(bench, bytes)?;
    let data = stretch.pattern(bench);
    session
        .run(&stretch.write(&data))
        .await?
        .good("WRITE (10)")?;
    Ok((stretch, data))
}

async fn immediate_not_agreed(bench: &Bench) -> Verdict {
    let keys = [("InitialR2T", "Yes"), ("ImmediateData", "No")];
    let mut session = session(bench, &keys).await?;
    let (stretch, before) = known(bench, &mut session, 4096).await?;
    let data = stretch.pattern(bench);
    let command = session.command(&stretch.write(&data));
    session.send(Pdu::new(command, data.clone())).await;
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    let what = "immediate data although ImmediateData=No";
    is_unexpected(&end, what)?;
    stretch.holds(&mut session, &before, what).await
}

async fn data_out_not_agreed(bench: &Bench) -> Verdict {
    let keys = [("InitialR2T", "Yes"), ("ImmediateData", "No")];
    let mut session = session(bench, &keys).await?;
    let (stretch, before) = known(bench, &mut session, 4096).await?;
    let data = stretch.pattern(bench);
    let mut command = session.command(&stretch.write(&data));
    command.flags &= !FINAL;
    session.send(Pdu::bare(command)).await;
    send_cut(&mut session, &command, None, 0, &pieces(&data, 1024)).await;
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    let what = "unsolicited Data-Out although InitialR2T=Yes";
    is_unexpected(&end, what)?;
    stretch.holds(&mut session, &before, what).await
}

/// A WRITE of 8 KiB with so many bytes of unsolicited Data-Out, where 4 KiB are right.
async fn burst(bench: &Bench, bytes: usize) -> Result<(Session, Stretch, Bytes, End), Finding> {
    let keys = [
        ("InitialR2T", "No"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "8192"),
        ("FirstBurstLength", "4096"),
    ];
    let mut session = uninvited(bench, &keys).await?;
    if session.terms.first_burst != 4096 {
        skip!(
            "FirstBurstLength=4096 ends as {}",
            session.terms.first_burst
        );
    }
    let stretch = Stretch::of(bench, 8192)?;
    let data = stretch.pattern(bench);
    let command: ScsiCommand = {
        let mut command = session.command(&stretch.write(&data));
        command.flags &= !FINAL;
        command
    };
    session.send(Pdu::bare(command)).await;
    let sent = pieces(&data.slice(..bytes.min(data.len())), 1024);
    send_cut(&mut session, &command, None, 0, &sent).await;
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    Ok((session, stretch, data, end))
}

async fn too_little(bench: &Bench) -> Verdict {
    let (.., end) = burst(bench, 2048).await?;
    is_incorrect_amount(&end, "unsolicited data short of FirstBurstLength")
}

async fn too_much(bench: &Bench) -> Verdict {
    let (.., end) = burst(bench, 6144).await?;
    is_incorrect_amount(&end, "unsolicited data beyond FirstBurstLength")
}

async fn exactly(bench: &Bench) -> Verdict {
    let (mut session, stretch, data, end) = burst(bench, 4096).await?;
    let what = "a WRITE with FirstBurstLength bytes of unsolicited data";
    ensure!(end.is_good(), "{what}: {} instead of GOOD", end.outcome());
    stretch.holds(&mut session, &data, what).await
}

async fn immediate_too_much(bench: &Bench) -> Verdict {
    let keys = [("ImmediateData", "Yes"), ("FirstBurstLength", "1024")];
    let mut session = session(bench, &keys).await?;
    takes_immediate(&session)?;
    if session.terms.first_burst != 1024 || session.terms.target_segment < 2048 {
        skip!(
            "FirstBurstLength is {} and the target takes segments of {}",
            session.terms.first_burst,
            session.terms.target_segment
        );
    }
    let stretch = Stretch::of(bench, 4096)?;
    let data = stretch.pattern(bench);
    let command = session.command(&stretch.write(&data));
    session.send(Pdu::new(command, data.slice(..2048))).await;
    // It is the initiator's error, and no answer to it is laid down: RFC 7143 §11.4.7.2 speaks of data that is not
    // immediate, and §7.10 lets a target look away.
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    if end.is_good() {
        let what = "a WRITE with 2048 bytes of immediate data where FirstBurstLength is 1024";
        stretch.holds(&mut session, &data, what).await?;
    }
    Ok(())
}

async fn failure_waits(bench: &Bench) -> Verdict {
    let keys = [("InitialR2T", "No"), ("ImmediateData", "No")];
    let mut session = uninvited(bench, &keys).await?;
    let behind = Stretch::behind_the_end(bench)?;
    let data = behind.pattern(bench);
    let mut command = session.command(&behind.write(&data));
    command.flags &= !FINAL;
    session.send(Pdu::bare(command)).await;
    if let Some(pdu) = session.said_before_ping().await?.into_iter().next() {
        match &pdu.header {
            Header::ScsiResponse(response) => violation!(
                "status {:#04x} while the unsolicited data of the command is still to come",
                response.status
            ),
            _ => violation!("{} while unsolicited data is to come", Heard::Pdu(pdu)),
        }
    }
    let mut last = data_out(&session, &command, None, 0, 0);
    last.flags = FINAL;
    session.send(Pdu::new(last, data.clone())).await;
    let end = session
        .end_of(command.initiator_task_tag.get(), &data)
        .await?;
    ensure!(
        !end.is_good(),
        "GOOD for a WRITE behind the end of the unit"
    );
    Ok(())
}
