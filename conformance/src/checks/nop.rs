//! NOP-Out and NOP-In (RFC 7143 §11.18, §11.19).

use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, NopIn, NopOut, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};
use tokio::time::sleep;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::session::{Session, Task};
use crate::wire::Heard;
use crate::words;

checks! {
    "nop.echo", "RFC 7143 §11.19", Must, Reads,
        "an immediate NOP-Out with 100 bytes of ping data"
        => "a NOP-In with the same tag, the reserved Target Transfer Tag and the same data", echo;
    "nop.empty", "RFC 7143 §11.18.3", Must, Reads,
        "a NOP-Out without ping data"
        => "a NOP-In without data", empty;
    "nop.padding", "RFC 7143 §11.19", Must, Reads,
        "NOP-Outs with 1, 2, 3 and 5 bytes of ping data, which are padded"
        => "NOP-Ins with as many bytes", padding;
    "nop.long", "RFC 7143 §11.19", Must, Reads,
        "a NOP-Out with as much ping data as both sides take in one segment"
        => "a NOP-In with all of it", long;
    "nop.cut", "RFC 7143 §11.19", Must, Reads,
        "a NOP-Out with more ping data than the 512 bytes of the suite's MaxRecvDataSegmentLength"
        => "a NOP-In with the first 512 bytes", cut;
    "nop.immediate", "RFC 7143 §4.2.2.1", Must, Reads,
        "an immediate NOP-Out, then a command with the same CmdSN"
        => "ExpCmdSN is not advanced by the former, and the latter is carried out", immediate;
    "nop.numbered", "RFC 7143 §4.2.2.1", Must, Reads,
        "a NOP-Out that is not immediate, then a command with the next CmdSN"
        => "ExpCmdSN is advanced by one with the answer, and the command is carried out", numbered;
    "nop.burst", "RFC 7143 §11.18.1", Must, Reads,
        "as many NOP-Outs that are not immediate as the command window has room for, at most 8, at once"
        => "an answer to each", burst;
    "nop.stat-sn", "RFC 7143 §11.19.2", Must, Reads,
        "three NOP-Outs that ask for an answer"
        => "StatSN goes up by one with each NOP-In", stat_sn;
    "nop.unanswered", "RFC 7143 §11.19", Should, Reads,
        "immediate NOP-Outs with the reserved Initiator Task Tag, as for an acknowledgement, one after the other"
        => "no NOP-In in answer, and no Reject", unanswered;
    "nop.behind-unanswered", "RFC 7143 §11.18.1", Must, Reads,
        "an immediate NOP-Out with the reserved Initiator Task Tag and a ping, both in one write"
        => "the ping is answered", behind_unanswered;
    "nop.unnumbered", "RFC 7143 §11.18.1", Must, Reads,
        "an immediate NOP-Out with the reserved Initiator Task Tag, and a little later a command with the same CmdSN"
        => "CmdSN is not advanced: the command is carried out", unnumbered;
    "nop.target-ping", "RFC 7143 §11.19", Must, Reads,
        "nothing, for a while"
        => "if the target pings: the reserved Initiator Task Tag, no data, and StatSN as it was", target_ping;
}

/// How long a target is given to ping.
const A_WHILE: Duration = Duration::from_secs(2);
/// How long a target is given to answer what asks for no answer.
const A_MOMENT: Duration = Duration::from_millis(250);

/// Sends a ping and takes the answer to it.
async fn answer(
    session: &mut Session,
    ping: NopOut,
    data: Bytes,
) -> Result<(NopIn, Bytes), Finding> {
    session.send(Pdu::new(ping, data)).await;
    let answer = session.receive().await?;
    let Header::NopIn(nop) = answer.header else {
        violation!("{} instead of a NOP-In", Heard::Pdu(answer));
    };
    ensure!(
        nop.initiator_task_tag == ping.initiator_task_tag,
        "the tag of the ping is {:08x}, of the answer {:08x}",
        ping.initiator_task_tag.get(),
        nop.initiator_task_tag.get()
    );
    Ok((nop, answer.data))
}

/// Bytes to be reflected; no two stretches of them are the same.
fn ping_data(bytes: usize) -> Bytes {
    let bytes = (0..bytes).map(|at| (at % 251).to_le_bytes()[0]);
    bytes.collect::<Vec<u8>>().into()
}

/// Sends so many bytes of ping data; all of it, or the first part, has to come back.
async fn expect_echo(session: &mut Session, bytes: usize, back: usize) -> Verdict {
    let ping = session.ping();
    let data = ping_data(bytes);
    let (_, echo) = answer(session, ping, data.clone()).await?;
    ensure!(
        echo.len() == back,
        "{bytes} bytes of ping data come back as {} instead of {back}",
        echo.len()
    );
    ensure!(
        echo == data.slice(..back),
        "{bytes} bytes of ping data come back as other ones"
    );
    Ok(())
}

async fn echo(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let ping = session.ping();
    let text = Bytes::from_static(&[0xa5; 100]);
    let (nop, data) = answer(&mut session, ping, text.clone()).await?;
    ensure!(
        nop.target_transfer_tag.get() == RESERVED_TAG,
        "the answer has Target Transfer Tag {:08x}",
        nop.target_transfer_tag.get()
    );
    ensure!(
        nop.flags == FINAL,
        "byte 1 of the answer is {:#04x}",
        nop.flags
    );
    ensure!(
        data == text,
        "{} bytes of ping data come back as {} other ones",
        text.len(),
        data.len()
    );
    Ok(())
}

async fn empty(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    expect_echo(&mut session, 0, 0).await
}

async fn padding(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for bytes in [1, 2, 3, 5] {
        expect_echo(&mut session, bytes, bytes).await?;
    }
    Ok(())
}

async fn long(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let terms = session.terms;
    let bytes = terms.own_segment.min(terms.target_segment);
    let bytes = usize::try_from(bytes).unwrap_or(512);
    expect_echo(&mut session, bytes, bytes).await
}

async fn cut(bench: &Bench) -> Verdict {
    let mut session = bench
        .session_with(&[("MaxRecvDataSegmentLength", "512")])
        .await?;
    let bytes = session.terms.target_segment.min(2048);
    if bytes <= 512 {
        skip!("the target takes no more than 512 bytes itself");
    }
    // So that an answer that is too long can be seen as one.
    session.wire.set_max_data_segment(65_536);
    expect_echo(&mut session, usize::try_from(bytes).unwrap_or(512), 512).await
}

async fn immediate(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let ping = session.ping();
    let (nop, _) = answer(&mut session, ping, Bytes::new()).await?;
    ensure!(
        nop.exp_cmd_sn.get() == session.cmd_sn,
        "an immediate NOP-Out with CmdSN {} makes ExpCmdSN {}",
        session.cmd_sn,
        nop.exp_cmd_sn.get()
    );
    expect_ready(&mut session, "with the CmdSN of an immediate NOP-Out").await
}

async fn numbered(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let ping = numbered_ping(&mut session);
    let (nop, _) = answer(&mut session, ping, Bytes::new()).await?;
    ensure!(
        nop.exp_cmd_sn.get() == session.cmd_sn,
        "a NOP-Out with CmdSN {} that is not immediate makes ExpCmdSN {}",
        ping.cmd_sn.get(),
        nop.exp_cmd_sn.get()
    );
    expect_ready(&mut session, "behind a NOP-Out that is not immediate").await
}

fn numbered_ping(session: &mut Session) -> NopOut {
    NopOut {
        opcode: NopOut::OPCODE,
        cmd_sn: session.take_cmd_sn().into(),
        ..session.ping()
    }
}

async fn expect_ready(session: &mut Session, when: &str) -> Verdict {
    let reply = session.run(&Task::bare(&[0; 6])).await?;
    reply.good(&format!("TEST UNIT READY {when}"))?;
    Ok(())
}

async fn burst(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let window = session.max_cmd_sn.wrapping_sub(session.cmd_sn);
    let count = window.saturating_add(1).min(8);
    if !(2..=8).contains(&count) {
        skip!("the command window has room for {count} commands");
    }
    let mut tags = Vec::new();
    for _ in 0..count {
        let ping = numbered_ping(&mut session);
        tags.push(ping.initiator_task_tag.get());
        session.send(Pdu::bare(ping)).await;
    }
    for answered in 0..count {
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            other => violation!("{answered} of {count} pings are answered, then: {other}"),
        };
        let tag = pdu.header.common().initiator_task_tag.get();
        let place = tags.iter().position(|open| *open == tag);
        let (Header::NopIn(_), Some(place)) = (&pdu.header, place) else {
            violation!("{} with tag {tag:08x} on {count} pings", Heard::Pdu(pdu));
        };
        tags.swap_remove(place);
    }
    Ok(())
}

async fn stat_sn(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for _ in 0..3 {
        let expected = session.exp_stat_sn;
        let ping = session.ping();
        let (nop, _) = answer(&mut session, ping, Bytes::new()).await?;
        ensure!(
            nop.stat_sn.get() == expected,
            "StatSN {} where {expected} is next",
            nop.stat_sn.get()
        );
    }
    Ok(())
}

/// A NOP-Out that only acknowledges.
fn acknowledgement(session: &mut Session) -> NopOut {
    NopOut {
        initiator_task_tag: RESERVED_TAG.into(),
        ..session.ping()
    }
}

/// Each by itself: what a target does with requests that come together is not for this rule to say.
async fn unanswered(bench: &Bench) -> Verdict {
    const COUNT: u32 = 3;
    let mut session = bench.session().await?;
    let mut unasked = 0;
    for _ in 0..COUNT {
        let nop = acknowledgement(&mut session);
        session.send(Pdu::bare(nop)).await;
        loop {
            // Not through the session, which puts NOP-Ins aside that nobody asked for.
            match session.wire.next_within(A_MOMENT).await {
                Heard::Silence => break,
                Heard::Pdu(pdu) if matches!(pdu.header, Header::NopIn(_)) => unasked += 1,
                other => violation!("{other} on a NOP-Out that asks for no answer"),
            }
        }
    }
    // One may tell of a wider window at any time; one for each NOP-Out is an answer.
    ensure!(
        unasked < COUNT,
        "{COUNT} NOP-Outs that ask for no answer are answered with {unasked} NOP-Ins"
    );
    Ok(())
}

async fn behind_unanswered(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let nop = acknowledgement(&mut session);
    let ping = session.ping();
    let mut bytes = session.wire.encode(&Pdu::bare(nop));
    bytes.extend(session.wire.encode(&Pdu::bare(ping)));
    let what = "a NOP-Out that asks for no answer, and a ping";
    session.wire.send_bytes(what, &bytes).await;
    match session.next().await {
        Heard::Pdu(pdu) => match pdu.header {
            Header::NopIn(nop) if nop.initiator_task_tag == ping.initiator_task_tag => Ok(()),
            _ => violation!("{} in answer to the ping", Heard::Pdu(pdu)),
        },
        other => violation!(
            "a ping right behind a NOP-Out that asks for no answer has none either: {other}"
        ),
    }
}

async fn unnumbered(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let nop = acknowledgement(&mut session);
    session.send(Pdu::bare(nop)).await;
    sleep(A_MOMENT).await;
    let when = "with the CmdSN of a NOP-Out that asks for no answer";
    match expect_ready(&mut session, when).await {
        Err(Finding::Violation(why)) => violation!("TEST UNIT READY {when}: {why}"),
        other => other,
    }
}

async fn target_ping(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    // Some targets ping only those who have pinged them.
    expect_echo(&mut session, 4, 4).await?;
    let expected = session.exp_stat_sn;
    let Heard::Pdu(pdu) = session.wire.next_within(A_WHILE).await else {
        skip!("the target does not ping within {}", words::time(A_WHILE));
    };
    let Header::NopIn(nop) = pdu.header else {
        skip!("the target sends something else: {}", Heard::Pdu(pdu));
    };
    ensure!(
        nop.initiator_task_tag.get() == RESERVED_TAG,
        "a NOP-In that nobody asked for has Initiator Task Tag {:08x}",
        nop.initiator_task_tag.get()
    );
    ensure!(
        pdu.data.is_empty(),
        "a NOP-In that nobody asked for has {} bytes of data",
        pdu.data.len()
    );
    ensure!(
        nop.stat_sn.get() == expected,
        "a NOP-In that nobody asked for has StatSN {} instead of {expected}",
        nop.stat_sn.get()
    );
    let ping = session.ping();
    let (echo, _) = answer(&mut session, ping, Bytes::new()).await?;
    ensure!(
        echo.stat_sn.get() == expected,
        "StatSN is {} behind a NOP-In that nobody asked for, instead of {expected}",
        echo.stat_sn.get()
    );
    Ok(())
}
