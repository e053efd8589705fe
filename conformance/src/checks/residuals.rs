//! Residuals: what a command moves against what its initiator expects (RFC 7143 §11.4.5).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, OVERFLOW, READ, ScsiCommand, UNDERFLOW, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::session::{Flow, Reply, Session, Task};
use crate::stretch::{Stretch, writable};
use crate::wire::Heard;

use super::numbering::ready;

checks! {
    "residual.none", "RFC 7143 §11.4.5.2", Must, Reads,
        "READ, INQUIRY and TEST UNIT READY that expect just what they move"
        => "neither the O bit nor the U bit", none;
    "residual.none.count", "RFC 7143 §11.4.5.1", Should, Reads,
        "READ, INQUIRY and TEST UNIT READY that expect just what they move"
        => "a Residual Count of 0", none_count;
    "residual.read.underflow", "RFC 7143 §11.4.5.2", Must, Reads,
        "a READ of one block that expects three"
        => "the U bit, and the bytes of two blocks as the Residual Count", read_underflow;
    "residual.read.overflow", "RFC 7143 §11.4.5.2", Must, Reads,
        "a READ of three blocks that expects one"
        => "the O bit, and the bytes of two blocks as the Residual Count", read_overflow;
    "residual.read.room", "RFC 7143 §11.7.6", Must, Reads,
        "a READ of three blocks that expects one"
        => "not a byte beyond the Expected Data Transfer Length", read_room;
    "residual.read.no-room", "RFC 7143 §11.4.5.2", Must, Reads,
        "a READ of one block that expects no data"
        => "no data, the O bit, and the bytes of a block as the Residual Count", read_no_room;
    "residual.read.wrong-way", "RFC 7143 §11.3.1", Must, Reads,
        "a READ whose initiator says that it writes"
        => "a status, and no Data-In: the R bit is not set", read_wrong_way;
    "residual.no-data", "RFC 7143 §11.4.5.2", Must, Reads,
        "TEST UNIT READY that expects 512 bytes"
        => "the U bit, and 512 as the Residual Count", no_data;
    "residual.allocation.short", "RFC 7143 §11.4.5.3", Must, Reads,
        "INQUIRY whose allocation length and Expected Data Transfer Length are 8"
        => "8 bytes, and no O bit: the data was cut by the command itself", allocation_short;
    "residual.allocation.long", "RFC 7143 §11.4.5.3", Must, Reads,
        "INQUIRY with an allocation length of 8 that expects 96 bytes"
        => "8 bytes, the U bit, and 88 as the Residual Count", allocation_long;
    "residual.write.underflow", "RFC 7143 §11.4.5.2", Must, Writes,
        "a WRITE of one block that brings three"
        => "the U bit and the bytes of two blocks, the first block written and the others untouched", write_underflow;
    "residual.write.overflow", "RFC 7143 §11.4.5.2", Must, Writes,
        "a WRITE of three blocks that brings one"
        => "the O bit and the bytes of two blocks; no R2T for data that is not there", write_overflow;
    "residual.write.no-room", "RFC 7143 §11.3.1", Must, Writes,
        "a WRITE of one block that brings no data"
        => "a status, no R2T, and nothing written", write_no_room;
    "residual.write.wrong-way", "RFC 7143 §11.3.1", Must, Writes,
        "a WRITE whose initiator says that it reads"
        => "a status, no R2T, and nothing written", write_wrong_way;
}

/// A command that expects another number of bytes, or the other way, than its CDB says.
fn bent(session: &mut Session, task: &Task, direction: u8, expects: u32) -> ScsiCommand {
    let mut command = session.command(task);
    command.flags = FINAL | direction | SIMPLE;
    command.expected_data_transfer_length = expects.into();
    command
}

/// The status of a command that was bent, and the data that came.
async fn reply(session: &mut Session, command: ScsiCommand) -> Result<Reply, Finding> {
    session.send(Pdu::bare(command)).await;
    session
        .follow(command.initiator_task_tag.get(), Bytes::new())
        .await
}

/// A target may refuse a command whose amount of data does not fit: Linux does with WRITE, as INVALID FIELD IN COMMAND
/// INFORMATION UNIT. Then the command moves nothing that could be counted.
fn carried_out(reply: Reply, what: &str) -> Result<Reply, Finding> {
    if reply.status != 0 {
        skip!("the target refuses {what}: {}", reply.outcome());
    }
    Ok(reply)
}

fn says(reply: &Reply, what: &str, flag: u8, count: u32) -> Verdict {
    let name = |flags: u8| match flags & (OVERFLOW | UNDERFLOW) {
        0 => "neither O nor U",
        OVERFLOW => "O",
        UNDERFLOW => "U",
        _ => "O and U together",
    };
    ensure!(
        reply.flags & (OVERFLOW | UNDERFLOW) == flag,
        "{what}: {} instead of {}",
        name(reply.flags),
        name(flag)
    );
    ensure!(
        flag == 0 || reply.residual == count,
        "{what}: a Residual Count of {} instead of {count}",
        reply.residual
    );
    Ok(())
}

/// READ, INQUIRY and TEST UNIT READY without a residual.
async fn exact(bench: &Bench) -> Result<Vec<(&'static str, Reply)>, Finding> {
    let mut session = bench.session().await?;
    let read = Stretch::of(bench, 16384)?.read();
    let mut replies = Vec::new();
    for (what, task) in [
        ("READ (10)", read),
        ("INQUIRY", Task::read(&[0x12, 0, 0, 0, 36], 36)),
        ("TEST UNIT READY", ready()),
    ] {
        replies.push((what, session.run(&task).await?.good(what)?));
    }
    Ok(replies)
}

async fn none(bench: &Bench) -> Verdict {
    let replies = exact(bench).await?;
    replies
        .iter()
        .try_for_each(|(what, reply)| says(reply, what, 0, 0))
}

async fn none_count(bench: &Bench) -> Verdict {
    for (what, reply) in exact(bench).await? {
        ensure!(
            reply.flags & (OVERFLOW | UNDERFLOW) != 0 || reply.residual == 0,
            "{what}: a Residual Count of {} without O and U",
            reply.residual
        );
    }
    Ok(())
}

/// What a READ of some blocks does that expects other bytes, or another direction.
async fn read(bench: &Bench, blocks: u32, direction: u8, expects: u32) -> Result<Reply, Finding> {
    let mut session = bench.session().await?;
    let block = bench.facts.block_bytes;
    let task = Stretch::of(bench, blocks * block)?.read();
    let command = bent(&mut session, &task, direction, expects * block);
    reply(&mut session, command).await
}

async fn read_underflow(bench: &Bench) -> Verdict {
    let what = "a READ of one block that expects three";
    let reply = carried_out(read(bench, 1, READ, 3).await?, what)?;
    ensure!(
        u32::try_from(reply.data.len()) == Ok(bench.facts.block_bytes),
        "{what}: {} bytes",
        reply.data.len()
    );
    says(&reply, what, UNDERFLOW, 2 * bench.facts.block_bytes)
}

async fn read_overflow(bench: &Bench) -> Verdict {
    let what = "a READ of three blocks that expects one";
    let reply = carried_out(read(bench, 3, READ, 1).await?, what)?;
    says(&reply, what, OVERFLOW, 2 * bench.facts.block_bytes)
}

async fn read_room(bench: &Bench) -> Verdict {
    let reply = read(bench, 3, READ, 1).await?;
    ensure!(
        u32::try_from(reply.data.len()).is_ok_and(|bytes| bytes <= bench.facts.block_bytes),
        "{} bytes come for a READ that expects {}",
        reply.data.len(),
        bench.facts.block_bytes
    );
    Ok(())
}

async fn read_no_room(bench: &Bench) -> Verdict {
    let what = "a READ of one block that expects no data";
    let reply = carried_out(read(bench, 1, 0, 0).await?, what)?;
    ensure!(
        reply.data.is_empty(),
        "{what}: {} bytes come",
        reply.data.len()
    );
    says(&reply, what, OVERFLOW, bench.facts.block_bytes)
}

async fn read_wrong_way(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let stretch = Stretch::of(bench, bench.facts.block_bytes)?;
    let command = bent(&mut session, &stretch.read(), WRITE, stretch.bytes());
    session.send(Pdu::bare(command)).await;
    // A target may ask for the data before it looks at the command.
    let data = stretch.pattern(bench);
    let end = end_without_data_in(&mut session, &command, &data).await?;
    ensure!(
        !matches!(&end, Some(flags) if flags & (OVERFLOW | UNDERFLOW) == OVERFLOW | UNDERFLOW),
        "O and U together"
    );
    Ok(())
}

/// Follows a command up to its status, and does what R2Ts ask for; Data-In is a violation. Byte 1 of the response, or
/// nothing if the target closed the connection.
async fn end_without_data_in(
    session: &mut Session,
    command: &ScsiCommand,
    data: &Bytes,
) -> Result<Option<u8>, Finding> {
    for _ in 0..MOST_PDUS {
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            Heard::Closed => return Ok(None),
            other => violation!("{other} where the status of the command is due"),
        };
        let is_about = pdu.header.common().initiator_task_tag == command.initiator_task_tag;
        match &pdu.header {
            Header::Reject(_) => {}
            Header::ReadyToTransfer(r2t) if is_about => session.obey(r2t, data).await?,
            Header::ScsiResponse(response) if is_about => return Ok(Some(response.flags)),
            _ => violation!("{} for a command without the R bit", Heard::Pdu(pdu)),
        }
    }
    violation!("no status after {MOST_PDUS} PDUs")
}

async fn no_data(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let command = bent(&mut session, &ready(), READ, 512);
    let reply = reply(&mut session, command).await?;
    let what = "TEST UNIT READY that expects 512 bytes";
    says(&carried_out(reply, what)?, what, UNDERFLOW, 512)
}

/// INQUIRY with an allocation length of 8.
async fn inquiry(bench: &Bench, expects: u32) -> Result<Reply, Finding> {
    let mut session = bench.session().await?;
    let task = Task {
        flow: Flow::In(expects),
        ..Task::read(&[0x12, 0, 0, 0, 8], 8)
    };
    let reply = session.run(&task).await?.good("INQUIRY")?;
    ensure!(
        reply.data.len() == 8,
        "{} bytes of INQUIRY data for an allocation length of 8",
        reply.data.len()
    );
    Ok(reply)
}

async fn allocation_short(bench: &Bench) -> Verdict {
    let reply = inquiry(bench, 8).await?;
    says(
        &reply,
        "INQUIRY whose data is cut by its allocation length",
        0,
        0,
    )
}

async fn allocation_long(bench: &Bench) -> Verdict {
    let reply = inquiry(bench, 96).await?;
    says(&reply, "INQUIRY of 8 bytes that expects 96", UNDERFLOW, 88)
}

/// A session for WRITEs, three blocks, what is on them, and what may be written on them.
async fn canvas(bench: &Bench) -> Result<(Session, Stretch, Bytes, Bytes), Finding> {
    let mut session = bench.session().await?;
    writable(&mut session).await?;
    let stretch = Stretch::of(bench, 3 * bench.facts.block_bytes)?;
    let before = stretch.pattern(bench);
    let write = stretch.write(&before);
    session.run(&write).await?.good("WRITE (10)")?;
    Ok((session, stretch, before, stretch.pattern(bench)))
}

async fn write_underflow(bench: &Bench) -> Verdict {
    let (mut session, stretch, before, data) = canvas(bench).await?;
    let block = bench.facts.block_bytes;
    let what = "a WRITE of one block that brings three";
    let task = stretch.head(block).write(&data);
    let reply = carried_out(session.run(&task).await?, what)?;
    let cut = usize::try_from(block).unwrap_or(usize::MAX);
    let mut expected = data.slice(..cut.min(data.len())).to_vec();
    expected.extend(before.iter().skip(cut));
    stretch.holds(&mut session, &expected.into(), what).await?;
    says(&reply, what, UNDERFLOW, 2 * block)
}

async fn write_overflow(bench: &Bench) -> Verdict {
    let (mut session, stretch, _, data) = canvas(bench).await?;
    let block = bench.facts.block_bytes;
    let what = "a WRITE of three blocks that brings one";
    let cut = usize::try_from(block).unwrap_or(usize::MAX).min(data.len());
    let task = stretch.write(&data.slice(..cut));
    // An R2T beyond what was announced is a violation that `run` finds.
    let reply = carried_out(session.run(&task).await?, what)?;
    says(&reply, what, OVERFLOW, 2 * block)
}

/// A WRITE of a block without data: nothing may be asked for, and nothing written.
async fn write_without_data(bench: &Bench, direction: u8, expects: u32, what: &str) -> Verdict {
    let (mut session, stretch, before, data) = canvas(bench).await?;
    let block = bench.facts.block_bytes;
    let task = stretch.head(block).write(&data);
    let command = bent(&mut session, &task, direction, expects);
    session.send(Pdu::bare(command)).await;
    for _ in 0..MOST_PDUS {
        let pdu = session.receive().await?;
        match &pdu.header {
            Header::ReadyToTransfer(_) => violation!("{what}: an R2T"),
            Header::DataIn(header) if header.flags & 1 == 0 => {}
            _ => break,
        }
    }
    stretch.holds(&mut session, &before, what).await
}

async fn write_no_room(bench: &Bench) -> Verdict {
    write_without_data(bench, 0, 0, "a WRITE without the W bit").await
}

async fn write_wrong_way(bench: &Bench) -> Verdict {
    let block = bench.facts.block_bytes;
    write_without_data(bench, READ, block, "a WRITE with the R bit").await
}

/// Task attribute SIMPLE (RFC 7143 §11.3.1).
const SIMPLE: u8 = 1;
/// The most PDUs of one command.
const MOST_PDUS: usize = 64;
