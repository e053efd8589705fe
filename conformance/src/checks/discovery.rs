//! Discovery sessions (RFC 7143 §4.3, §7.4).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, TaskManagementRequest};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, violation};
use crate::checks::send_targets;
use crate::session::{Session, Task};
use crate::wire::Heard;

checks! {
    "discovery.login", "RFC 7143 appendix C", Must, Reads,
        "a login with SessionType=Discovery and without a TargetName"
        => "the initiator is let in", login;
    "discovery.named", "RFC 7143 §7.4.2.2", Must, Reads,
        "a login with SessionType=Discovery and the target's name, then SendTargets=All"
        => "the initiator is let in, and finds the target", named;
    "discovery.named.portal-group", "RFC 7143 §6.3.1", Must, Reads,
        "a login with SessionType=Discovery and the target's name"
        => "TargetPortalGroupTag in the first response", named_portal_group;
    "discovery.digests", "RFC 7143 §6.2.1", Must, Reads,
        "HeaderDigest=CRC32C,None and DataDigest=CRC32C,None in a discovery session, then SendTargets=All"
        => "one of the values offered, or Reject; and PDUs as agreed", digests;
    "discovery.recovery-level", "RFC 7143 §7.4.1", Must, Reads,
        "ErrorRecoveryLevel=2 in a discovery session"
        => "ErrorRecoveryLevel=0", recovery_level;
    "discovery.max-connections", "RFC 7143 §13.21", Must, Reads,
        "MaxConnections=8 in a discovery session"
        => "1, or that the key is Irrelevant", max_connections;
    "discovery.irrelevant-keys", "RFC 7143 §6.2", Must, Reads,
        "the keys that are irrelevant in a discovery session"
        => "an answer to each, Irrelevant or a value, and never NotUnderstood", irrelevant_keys;
    "discovery.scsi-command", "RFC 7143 §4.3", Must, Reads,
        "an INQUIRY in a discovery session"
        => "the request is rejected", scsi_command;
    "discovery.task-management", "RFC 7143 §4.3", Must, Reads,
        "an ABORT TASK SET in a discovery session"
        => "the request is rejected", task_management;
    "discovery.nop", "RFC 7143 §4.3", Must, Reads,
        "a NOP-Out that asks for an answer in a discovery session"
        => "the request is rejected", nop;
    "discovery.logout", "RFC 7143 §4.3", Must, Reads,
        "a Logout Request for the session in a discovery session"
        => "a Logout Response 0, and the connection closes", logout;
    "discovery.logout.connection", "RFC 7143 §4.3", Must, Reads,
        "a Logout Request for the connection in a discovery session"
        => "the request is rejected", logout_of_connection;
    "discovery.reinstatement", "RFC 7143 §7.4.2.1", Must, Reads,
        "a second discovery session with the same InitiatorName and ISID"
        => "it reinstates the first: the first's connection closes, and the second works", reinstatement;
    "discovery.beside", "RFC 7143 §7.4.2.1", Must, Reads,
        "a discovery session with the InitiatorName and ISID of a normal session"
        => "only a discovery session reinstates another: the normal session goes on", beside;
}

/// A discovery session; that there is none is another check's business.
pub(super) async fn session(bench: &Bench, keys: &[(&str, &str)]) -> Result<Session, Finding> {
    bench.discovery(keys).await.map_err(beside_the_point)
}

fn beside_the_point(finding: Finding) -> Finding {
    match finding {
        Finding::Violation(why) => {
            Finding::Unreachable(format!("a discovery session does not come about: {why}"))
        }
        other => other,
    }
}

async fn login(bench: &Bench) -> Verdict {
    bench.discovery(&[]).await?;
    Ok(())
}

/// A discovery session that names the target.
async fn log_in_by_name(bench: &Bench) -> Result<Session, Finding> {
    let mut login = bench.login();
    login.discovers = true;
    bench.log_in_as(login, &[]).await
}

async fn named(bench: &Bench) -> Verdict {
    let mut session = log_in_by_name(bench).await?;
    let records = send_targets::list(&mut session, "All").await?;
    let target = &bench.subject.target;
    ensure!(
        records.iter().any(|record| record.name == *target),
        "{target}, which the login named, is not among the {} targets in the answer",
        records.len()
    );
    Ok(())
}

async fn named_portal_group(bench: &Bench) -> Verdict {
    let session = log_in_by_name(bench).await.map_err(beside_the_point)?;
    ensure!(
        session.answers.get("TargetPortalGroupTag").is_some(),
        "no TargetPortalGroupTag in the login"
    );
    Ok(())
}

async fn digests(bench: &Bench) -> Verdict {
    let offer = "CRC32C,None";
    let mut session = bench
        .discovery(&[("HeaderDigest", offer), ("DataDigest", offer)])
        .await?;
    for key in ["HeaderDigest", "DataDigest"] {
        let answer = session.answers.get(key).unwrap_or("(nothing)");
        ensure!(
            ["CRC32C", "None", "Reject"].contains(&answer),
            "the answer to {key}={offer} is {answer}"
        );
    }
    send_targets::list(&mut session, "All").await?;
    Ok(())
}

async fn recovery_level(bench: &Bench) -> Verdict {
    let session = session(bench, &[("ErrorRecoveryLevel", "2")]).await?;
    let answer = session.answers.get("ErrorRecoveryLevel");
    ensure!(
        answer == Some("0"),
        "the answer to ErrorRecoveryLevel=2 is {} instead of 0",
        answer.unwrap_or("nothing")
    );
    Ok(())
}

async fn max_connections(bench: &Bench) -> Verdict {
    let session = session(bench, &[("MaxConnections", "8")]).await?;
    let answer = session.answers.get("MaxConnections").unwrap_or("nothing");
    ensure!(
        ["1", "Irrelevant", "Reject"].contains(&answer),
        "the answer to MaxConnections=8 is {answer} instead of 1 or Irrelevant"
    );
    Ok(())
}

async fn irrelevant_keys(bench: &Bench) -> Verdict {
    // Each of these values needs an answer: no result function is decided by the value alone (RFC 7143 §6.2.2).
    let offered = [
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "65536"),
        ("FirstBurstLength", "4096"),
        ("MaxOutstandingR2T", "2"),
        ("DataPDUInOrder", "No"),
        ("DataSequenceInOrder", "No"),
    ];
    let session = session(bench, &offered).await?;
    for (key, value) in offered {
        match session.answers.get(key) {
            None => violation!("{key}={value} is not answered"),
            Some("NotUnderstood") => violation!("{key}={value} is answered with NotUnderstood"),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Sends a request that no discovery session takes. A target that hangs up has rejected it, too.
async fn expect_reject(session: &mut Session, request: Pdu, what: &str) -> Verdict {
    session.send(request).await;
    match session.next().await {
        Heard::Closed => Ok(()),
        Heard::Pdu(Pdu {
            header: Header::Reject(_),
            ..
        }) => Ok(()),
        other => violation!("{what} in a discovery session: {other} instead of a Reject"),
    }
}

async fn scsi_command(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[]).await?;
    let inquiry = session.command(&Task::read(&[0x12, 0, 0, 0, 36], 36));
    expect_reject(&mut session, Pdu::bare(inquiry), "an INQUIRY").await
}

async fn task_management(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[]).await?;
    let request = TaskManagementRequest {
        opcode: TaskManagementRequest::OPCODE | 0x40,
        // ABORT TASK SET: nobody else is affected.
        function: FINAL | 2,
        lun: session.lun.0.into(),
        initiator_task_tag: session.tag().into(),
        referenced_task_tag: u32::MAX.into(),
        cmd_sn: session.cmd_sn.into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        ..TaskManagementRequest::default()
    };
    expect_reject(&mut session, Pdu::bare(request), "an ABORT TASK SET").await
}

async fn nop(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[]).await?;
    let ping = session.ping();
    expect_reject(&mut session, Pdu::bare(ping), "a NOP-Out").await
}

async fn logout(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[]).await?;
    let request = session.logout(0);
    session.send(Pdu::bare(request)).await;
    let pdu = session.receive().await?;
    let Header::LogoutResponse(response) = pdu.header else {
        violation!("{} instead of a Logout Response", Heard::Pdu(pdu));
    };
    ensure!(
        response.response == 0,
        "the Logout Response is {} instead of 0",
        response.response
    );
    let after = session.next().await;
    ensure!(
        after == Heard::Closed,
        "after the logout the connection has to close: {after}"
    );
    Ok(())
}

async fn logout_of_connection(bench: &Bench) -> Verdict {
    let mut session = session(bench, &[]).await?;
    let request = session.logout(1);
    session.send(Pdu::bare(request)).await;
    match session.next().await {
        Heard::Closed => Ok(()),
        Heard::Pdu(Pdu {
            header: Header::Reject(_),
            ..
        }) => Ok(()),
        // Not a Reject, and a refusal all the same.
        Heard::Pdu(Pdu {
            header: Header::LogoutResponse(response),
            ..
        }) if response.response != 0 => Ok(()),
        other => violation!(
            "a logout of the connection in a discovery session: {other} instead of a Reject"
        ),
    }
}

async fn reinstatement(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.target = None;
    let again = login.clone();
    let mut first = bench
        .log_in_as(login, &[])
        .await
        .map_err(beside_the_point)?;
    let mut second = bench.log_in_as(again, &[]).await?;
    let heard = first.next().await;
    ensure!(
        heard == Heard::Closed,
        "the reinstated session's connection has to close: {heard}"
    );
    send_targets::list(&mut second, "All").await?;
    Ok(())
}

async fn beside(bench: &Bench) -> Verdict {
    let mut normal = bench.session().await?;
    let mut login = normal.login.clone();
    login.target = None;
    bench
        .log_in_as(login, &[])
        .await
        .map_err(beside_the_point)?;
    let request = normal.ping();
    let data = Bytes::from_static(b"still here");
    normal.send(Pdu::new(request, data)).await;
    match normal.next().await {
        Heard::Pdu(_) => Ok(()),
        other => violation!(
            "behind a discovery session of the same ISID the normal session is gone: {other}"
        ),
    }
}
