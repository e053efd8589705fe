//! StatSN: the numbering of what a target sends (RFC 7143 §4.2.2.2).

use bytes::Bytes;
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Verdict, checks, ensure};
use crate::keys::Keys;
use crate::login::{FULL_FEATURE, OPERATIONAL};
use crate::session::{Numbers, Task};
use crate::stretch::{Stretch, writable};
use crate::wire::Heard;

use super::numbering::{conversation, ready};

checks! {
    "numbering.statsn.login", "RFC 7143 §4.2.2.2", Must, Reads,
        "a login, then a command"
        => "StatSN goes up by one from the first Login Response to the status of the command", login;
    "numbering.statsn.continuity", "RFC 7143 §4.2.2.2", Must, Reads,
        "pings, commands with and without data, a task management request"
        => "each answer carries the StatSN after that of the one before", continuity;
    "numbering.statsn.check-condition", "RFC 7143 §11.4.9", Must, Reads,
        "a command that fails, between two that succeed"
        => "its status is numbered like theirs", check_condition;
    "numbering.statsn.data-in", "RFC 7143 §11.7.3", Must, Reads,
        "a READ of many Data-In PDUs, then a ping"
        => "the PDUs without status use no StatSN up", data_in;
    "numbering.statsn.r2t", "RFC 7143 §11.8.3", Must, Writes,
        "a WRITE whose data the target has to ask for in several R2Ts"
        => "every R2T carries the next StatSN, and does not use it up", r2t;
}

/// The StatSN of what counts has to be the next one.
fn follows(pdu: &Pdu, next: &mut u32) -> Verdict {
    if !Numbers::uses_stat_sn(&pdu.header) {
        return Ok(());
    }
    let found = Numbers::of(&pdu.header).stat_sn;
    ensure!(
        found == *next,
        "{} with StatSN {found}, where {next} is the next one",
        Heard::Pdu(pdu.clone())
    );
    *next = found.wrapping_add(1);
    Ok(())
}

async fn login(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    talk.authenticate().await?;
    let next = talk.exp_stat_sn;
    talk.wire
        .send(talk.request(OPERATIONAL, None, &Keys::default()))
        .await;
    let (second, _) = talk.part().await?;
    ensure!(
        second.stat_sn.get() == next,
        "the Login Response in the operational stage has StatSN {}, where {next} is the next one",
        second.stat_sn.get()
    );
    let next = next.wrapping_add(1);
    talk.wire
        .send(talk.request(OPERATIONAL, Some(FULL_FEATURE), &Keys::default()))
        .await;
    let (third, _) = talk.part().await?;
    ensure!(
        third.stat_sn.get() == next,
        "the last Login Response has StatSN {}, where {next} is the next one",
        third.stat_sn.get()
    );
    Ok(())
}

async fn continuity(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut next = session.exp_stat_sn;
    let said = conversation(bench, &mut session).await?;
    said.iter().try_for_each(|pdu| follows(pdu, &mut next))
}

async fn check_condition(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut next = session.exp_stat_sn;
    // INQUIRY of a page without EVPD: INVALID FIELD IN CDB (SPC-4 §6.4.1).
    let fails = Task::read(&[0x12, 0, 0x83, 0, 96], 96);
    for task in [ready(), fails, ready()] {
        let reply = session.run(&task).await?;
        reply
            .pdus
            .iter()
            .try_for_each(|pdu| follows(pdu, &mut next))?;
    }
    Ok(())
}

async fn data_in(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "512")];
    let mut session = bench.session_with(&keys).await?;
    let mut next = session.exp_stat_sn;
    let read = Stretch::of(bench, 16384)?.read();
    let reply = session.run(&read).await?.good("READ (10)")?;
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    let answer = session.receive().await?;
    reply
        .pdus
        .iter()
        .chain([&answer])
        .try_for_each(|pdu| follows(pdu, &mut next))
}

async fn r2t(bench: &Bench) -> Verdict {
    let keys = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "4096"),
    ];
    let mut session = bench.session_with(&keys).await?;
    writable(&mut session).await?;
    let mut next = session.exp_stat_sn;
    let stretch = Stretch::of(bench, 16384)?;
    let write = stretch.write(&stretch.pattern(bench));
    let (command, data): (_, Bytes) = session.open(&write).await;
    let reply = session
        .follow(command.initiator_task_tag.get(), data)
        .await?
        .good("WRITE (10)")?;
    for pdu in &reply.pdus {
        if let Header::ReadyToTransfer(r2t) = &pdu.header {
            ensure!(
                r2t.stat_sn.get() == next,
                "R2T {} carries StatSN {}, and {next} is the next one",
                r2t.r2t_sn.get(),
                r2t.stat_sn.get()
            );
        }
        follows(pdu, &mut next)?;
    }
    Ok(())
}
