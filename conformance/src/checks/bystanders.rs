//! What one connection does wrongly is its own session's affair: whoever else is logged in must not suffer (RFC 7143
//! §7.7, §7.14).

use iscsi_proto::wire::bhs::{BHS_BYTES, FINAL, IMMEDIATE, NopOut, READ, U24, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, violation};
use crate::session::{Session, Task};
use crate::wire::Heard;

checks! {
    "bystanders.long-segment", "RFC 7143 §7.7", Must, Reads,
        "a header that announces a data segment of 16 MiB"
        => "the session beside it goes on, and a new one comes about", long_segment;
    "bystanders.cut-header", "RFC 7143 §7.14", Must, Reads,
        "20 bytes of a header, and the end of the connection"
        => "the session beside it goes on, and a new one comes about", cut_header;
    "bystanders.cut-data", "RFC 7143 §7.14", Must, Reads,
        "100 of the 4,096 bytes of data that a header announces, and the end of the connection"
        => "the session beside it goes on, and a new one comes about", cut_data;
    "bystanders.noise", "RFC 7143 §7.7", Must, Reads,
        "4,096 bytes of FFh"
        => "the session beside it goes on, and a new one comes about", noise;
    "bystanders.running-task", "RFC 7143 §7.14", Must, Writes,
        "the end of a connection on which a WRITE waits for its data"
        => "the session beside it goes on, and a new one comes about", running_task;
    "bystanders.odd-commands", "RFC 7143 §7.7", Must, Reads,
        "commands with neither F nor W, with a length but no direction, with both directions but no AHS"
        => "whatever becomes of them, the session beside them goes on", odd_commands;
}

async fn long_segment(bench: &Bench) -> Verdict {
    let (onlooker, mut session) = two(bench).await?;
    let bytes = announcing(&mut session, U24::MAX, BHS_BYTES);
    session
        .wire
        .send_bytes("a header that announces 16 MiB", &bytes)
        .await;
    let some = [0x5a; 4096];
    session
        .wire
        .send_bytes("the beginning of them", &some)
        .await;
    leave(session).await;
    unharmed(bench, onlooker).await
}

async fn cut_header(bench: &Bench) -> Verdict {
    let (onlooker, mut session) = two(bench).await?;
    let bytes = announcing(&mut session, 0, CUT_AT);
    session
        .wire
        .send_bytes("20 bytes of a header", &bytes)
        .await;
    leave(session).await;
    unharmed(bench, onlooker).await
}

async fn cut_data(bench: &Bench) -> Verdict {
    let (onlooker, mut session) = two(bench).await?;
    let mut bytes = announcing(&mut session, 4096, BHS_BYTES);
    bytes.extend([0x5a; 100]);
    session
        .wire
        .send_bytes("a ping with too little data", &bytes)
        .await;
    leave(session).await;
    unharmed(bench, onlooker).await
}

async fn noise(bench: &Bench) -> Verdict {
    let (onlooker, mut session) = two(bench).await?;
    session.wire.send_bytes("noise", &[0xff; 4096]).await;
    leave(session).await;
    unharmed(bench, onlooker).await
}

async fn running_task(bench: &Bench) -> Verdict {
    let onlooker = bench.session().await?;
    let mut session = bench.solicited().await?;
    bench.hold(&mut session, 0, 0x11).await?;
    leave(session).await;
    unharmed(bench, onlooker).await
}

async fn odd_commands(bench: &Bench) -> Verdict {
    let onlooker = bench.session().await?;
    let inquiry = Task::read(&[0x12, 0, 0, 0, 96], 96);
    // Byte 1: nothing, F alone, and F with R and W.
    let mut odd = Vec::new();
    for flags in [0, FINAL, FINAL | READ | WRITE] {
        odd.push((flags | SIMPLE, bench.session().await?));
    }
    for (flags, session) in &mut odd {
        let mut command = session.command(&inquiry);
        command.flags = *flags;
        session.send(Pdu::bare(command)).await;
        // All that counts is that its end is not the end of others.
        let ping = session.ping();
        session.send(Pdu::bare(ping)).await;
        if let Heard::Nonsense(why) = session.next().await {
            violation!("a command with byte 1 {flags:#04x} brings no PDU: {why}");
        }
    }
    unharmed(bench, onlooker).await
}

/// Ends a connection, and waits until the target has noticed.
async fn leave(mut session: Session) {
    session.wire.half_close().await;
    session.wire.patience /= 4;
    for _ in 0..MOST_WORDS {
        if !matches!(session.next().await, Heard::Pdu(_)) {
            return;
        }
    }
}

/// An onlooker, and a session that is about to misbehave.
async fn two(bench: &Bench) -> Result<(Session, Session), Finding> {
    Ok((bench.session().await?, bench.session().await?))
}

/// The beginning of a ping whose data segment has this length.
fn announcing(session: &mut Session, length: u32, bytes: usize) -> Vec<u8> {
    let header = NopOut {
        opcode: NopOut::OPCODE | IMMEDIATE,
        data_segment_length: U24::new(length),
        ..session.ping()
    };
    let header = Header::from(header);
    header.as_bytes().iter().copied().take(bytes).collect()
}

/// A login and a command of somebody new, then a command of the onlooker.
async fn unharmed(bench: &Bench, mut onlooker: Session) -> Verdict {
    let ready = Task::bare(&[0; 6]);
    match bench.session().await {
        Ok(mut newcomer) => newcomer.run(&ready).await?.good("a new session")?,
        Err(Finding::Unreachable(why) | Finding::Violation(why)) => {
            violation!("no new session comes about: {why}")
        }
        Err(other) => return Err(other),
    };
    match onlooker.run(&ready).await {
        Ok(reply) => reply.good("the session beside it").map(drop),
        Err(Finding::Violation(why)) => violation!("the session beside it suffers: {why}"),
        Err(other) => Err(other),
    }
}

/// The most PDUs that a target may still have to say.
const MOST_WORDS: usize = 16;
/// Task attribute SIMPLE.
const SIMPLE: u8 = 1;
/// Bytes of a header that is cut off.
const CUT_AT: usize = 20;
