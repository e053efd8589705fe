//! Several connections in one session (RFC 7143 §4.2.1, §4.2.2, §4.2.5.1), where a target agrees to them.

use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::management::SOLICITED;
use crate::session::{Session, Task, Terms};
use crate::wire::Heard;

checks! {
    "connections.join", "RFC 7143 §6.3.1", Must, Reads,
        "a login with the session's ISID and TSIH and a CID of its own, where MaxConnections is 2"
        => "success, and the same TSIH", join;
    "connections.stat-sn", "RFC 7143 §4.2.2.2", Must, Reads,
        "pings on either connection of a session"
        => "the StatSN of each connection goes on where that connection was", stat_sn;
    "connections.cmd-sn", "RFC 7143 §4.2.2.1", Must, Reads,
        "a command on one connection, and behind it on the other one the command before it"
        => "the first waits for the second, for CmdSN counts the session", cmd_sn;
    "connections.allegiance", "RFC 7143 §4.2.5.1", Must, Writes,
        "a WRITE on the second connection"
        => "R2T and status on the second connection, nothing on the first", allegiance;
    "connections.logout", "RFC 7143 §11.14", Must, Reads,
        "a logout of the second connection alone"
        => "response 0 and the end of that connection; the first one goes on", logout;
}

async fn join(bench: &Bench) -> Verdict {
    let first = first(bench).await?;
    let second = second(bench, &first).await?;
    ensure!(
        second.tsih == first.tsih,
        "the second connection is one of TSIH {}, the session has {}",
        second.tsih,
        first.tsih
    );
    Ok(())
}

async fn stat_sn(bench: &Bench) -> Verdict {
    let (mut first, mut second) = both(bench).await?;
    // Once around, so that every connection has to go on where it was.
    for _ in 0..2 {
        for (session, which) in [(&mut second, "second"), (&mut first, "first")] {
            let next = session.exp_stat_sn;
            let ping = session.ping();
            session.send(Pdu::bare(ping)).await;
            let pdu = session.receive().await?;
            let Header::NopIn(nop) = pdu.header else {
                violation!("{} instead of a NOP-In", Heard::Pdu(pdu));
            };
            ensure!(
                nop.stat_sn.get() == next,
                "StatSN {} on the {which} connection, where {next} is next",
                nop.stat_sn.get()
            );
        }
    }
    Ok(())
}

async fn cmd_sn(bench: &Bench) -> Verdict {
    let (mut first, mut second) = both(bench).await?;
    let ready = Task::bare(&[0; 6]);
    let early = first.command(&ready);
    let late = {
        second.cmd_sn = early.cmd_sn.get().wrapping_add(1);
        second.command(&ready)
    };
    first.cmd_sn = second.cmd_sn;
    second.send(Pdu::bare(late)).await;
    for pdu in second.said_before_ping().await? {
        ensure!(
            pdu.header.common().initiator_task_tag != late.initiator_task_tag,
            "CmdSN {} is answered on one connection before {} has come on the other one",
            late.cmd_sn.get(),
            early.cmd_sn.get()
        );
    }
    first.send(Pdu::bare(early)).await;
    for (session, command) in [(&mut first, early), (&mut second, late)] {
        let tag = command.initiator_task_tag.get();
        let reply = session.follow(tag, bytes::Bytes::new()).await?;
        reply.good("TEST UNIT READY")?;
    }
    Ok(())
}

async fn allegiance(bench: &Bench) -> Verdict {
    let (mut first, mut second) = both(bench).await?;
    let held = bench.hold(&mut second, 0, 0x11).await?;
    let reply = second.conclude(&held).await?;
    reply.good("a WRITE on the second connection")?;
    first.cmd_sn = second.cmd_sn;
    for pdu in first.said_before_ping().await? {
        ensure!(
            !held.is_about(&pdu),
            "{} about a task of the second connection on the first one",
            Heard::Pdu(pdu)
        );
    }
    Ok(())
}

async fn logout(bench: &Bench) -> Verdict {
    let (mut first, mut second) = both(bench).await?;
    let request = second.logout(1);
    second.send(Pdu::bare(request)).await;
    let pdu = second.receive().await?;
    let Header::LogoutResponse(answer) = pdu.header else {
        violation!("{} instead of a Logout Response", Heard::Pdu(pdu));
    };
    ensure!(
        answer.response == 0,
        "response {} to the logout of a connection",
        answer.response
    );
    match second.next().await {
        Heard::Closed => {}
        other => violation!("{other} behind the Logout Response, instead of a closed connection"),
    }
    match first.run(&Task::bare(&[0; 6])).await {
        Ok(reply) => reply
            .good("TEST UNIT READY on the other connection")
            .map(drop),
        Err(Finding::Violation(why)) => {
            violation!("the first connection does not outlive the second one: {why}")
        }
        Err(other) => Err(other),
    }
}

/// A session whose target agrees to a second connection.
async fn first(bench: &Bench) -> Result<Session, Finding> {
    let mut keys = SOLICITED.to_vec();
    keys.push(("MaxConnections", "2"));
    let session = bench.session_with(&keys).await?;
    match session.answers.number("MaxConnections") {
        Some(2) => Ok(session),
        _ => skip!("the target does not agree to a second connection"),
    }
}

/// The second connection of a session.
async fn second(bench: &Bench, first: &Session) -> Result<Session, Finding> {
    let mut login = first.login.clone();
    login.tsih = first.tsih;
    login.cid = first.login.cid.wrapping_add(1);
    login.cmd_sn = first.cmd_sn;
    let mut second = bench.log_in_as(login, &[]).await?;
    second.terms = Terms {
        target_segment: second.terms.target_segment,
        own_segment: second.terms.own_segment,
        ..first.terms
    };
    // A tag names a task of the whole session (RFC 7143 §11.2.1.8).
    second.tags_from(FAR_TAG);
    second.cmd_sn = first.cmd_sn;
    Ok(second)
}

/// Both; that they come about is judged elsewhere.
async fn both(bench: &Bench) -> Result<(Session, Session), Finding> {
    let first = first(bench).await?;
    match second(bench, &first).await {
        Ok(second) => Ok((first, second)),
        Err(Finding::Violation(why)) => skip!("a second connection does not come about: {why}"),
        Err(other) => Err(other),
    }
}

/// Tags that the first connection does not come to.
const FAR_TAG: u32 = 0x0100_0000;
