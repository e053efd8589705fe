//! Logging out (RFC 7143 §11.14, §11.15).

use iscsi_proto::wire::bhs::{LogoutRequest, LogoutResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::keys::Keys;
use crate::login::{OPERATIONAL, Refusal, SECURITY};
use crate::session::{Session, Task};
use crate::wire::Heard;

checks! {
    "logout.session", "RFC 7143 §11.15.1", Must, Reads,
        "a Logout Request for the session (reason 0)"
        => "a Logout Response 0 for the same task", of_session;
    "logout.session.closes", "RFC 7143 §11.15", Must, Reads,
        "a Logout Request for the session"
        => "the connection closes behind the Logout Response", session_closes;
    "logout.connection", "RFC 7143 §11.15.1", Must, Reads,
        "a Logout Request for the connection (reason 1) with its own CID"
        => "a Logout Response 0, and the connection closes", of_connection;
    "logout.recovery", "RFC 7143 §11.15.1", Must, Reads,
        "a Logout Request to remove the connection for recovery (reason 2) at ErrorRecoveryLevel 0"
        => "a Logout Response 2: recovery is not supported", recovery;
    "logout.unknown-connection", "RFC 7143 §11.15.1", Must, Reads,
        "a Logout Request for a connection (reason 1) with a CID that the session does not have"
        => "a Logout Response 1, CID not found, and the session goes on", unknown_connection;
    "logout.session.cid", "RFC 7143 §11.14.3", Must, Reads,
        "a Logout Request for the session with a CID that it does not have"
        => "a Logout Response 0: the CID has no meaning there", foreign_cid;
    "logout.reserved-reason", "RFC 7143 §11.17.1", Should, Reads,
        "a Logout Request with the reserved reason 5"
        => "a Reject, or a Logout Response that is no success", reserved_reason;
    "logout.response.form", "RFC 7143 §11.15.2", Must, Reads,
        "a Logout Request"
        => "a Logout Response without AHS and data, with byte 1 of 0x80", form;
    "logout.immediate", "RFC 7143 §4.2.2.1", Must, Reads,
        "an immediate Logout Request"
        => "ExpCmdSN of the response is not advanced", immediate;
    "logout.numbered", "RFC 7143 §4.2.2.1", Must, Reads,
        "a Logout Request that is not immediate"
        => "ExpCmdSN of the response is advanced by one", numbered;
    "logout.stat-sn", "RFC 7143 §4.2.2.2", Must, Reads,
        "a Logout Request behind a ping"
        => "the Logout Response has the next StatSN", stat_sn;
    "logout.with-commands", "RFC 7143 §11.14", Must, Reads,
        "commands, and an immediate Logout Request behind them"
        => "no more than their answers before the Logout Response, and nothing behind it", with_commands;
    "logout.session.is-over", "RFC 7143 §6.3.1", Must, Reads,
        "after the logout of a session, a login with its ISID and TSIH"
        => "the login is refused: the session does not exist", is_over;
    "logout.session.may-begin-anew", "RFC 7143 §6.3.1", Must, Reads,
        "after the logout of a session, a login with its ISID and without TSIH"
        => "a new session", begins_anew;
}

/// What a Logout Request comes to: a response, or a Reject's reason.
enum Left {
    Response(LogoutResponse, Pdu),
    Reject(u8),
}

async fn leave(session: &mut Session, request: LogoutRequest) -> Result<Left, Finding> {
    session.send(Pdu::bare(request)).await;
    let pdu = session.receive().await?;
    match pdu.header {
        Header::LogoutResponse(response) => {
            ensure!(
                response.initiator_task_tag == request.initiator_task_tag,
                "the Logout Request has the Initiator Task Tag {:08x}, the Logout Response {:08x}",
                request.initiator_task_tag.get(),
                response.initiator_task_tag.get()
            );
            Ok(Left::Response(response, pdu))
        }
        Header::Reject(reject) => Ok(Left::Reject(reject.reason)),
        _ => violation!("{} instead of a Logout Response", Heard::Pdu(pdu)),
    }
}

/// Like [`leave`]; a Reject is a violation.
async fn response(
    session: &mut Session,
    request: LogoutRequest,
) -> Result<(LogoutResponse, Pdu), Finding> {
    match leave(session, request).await? {
        Left::Response(response, pdu) => Ok((response, pdu)),
        Left::Reject(reason) => {
            violation!("the Logout Request is rejected with reason {reason:#04x}")
        }
    }
}

/// The answer has to be this one.
async fn expect(session: &mut Session, request: LogoutRequest, answer: u8) -> Verdict {
    let (response, _) = response(session, request).await?;
    ensure!(
        response.response == answer,
        "the Logout Response is {} instead of {answer}",
        response.response
    );
    Ok(())
}

async fn expect_closed(session: &mut Session) -> Verdict {
    let after = session.next().await;
    ensure!(
        after == Heard::Closed,
        "behind the Logout Response the connection has to close: {after}"
    );
    Ok(())
}

async fn of_session(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.logout(0);
    expect(&mut session, request, 0).await
}

async fn session_closes(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.logout(0);
    response(&mut session, request).await?;
    expect_closed(&mut session).await
}

async fn of_connection(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.logout(1);
    expect(&mut session, request, 0).await?;
    expect_closed(&mut session).await
}

async fn recovery(bench: &Bench) -> Verdict {
    let mut session = bench.session_with(&[("ErrorRecoveryLevel", "0")]).await?;
    let request = session.logout(2);
    expect(&mut session, request, 2).await
}

async fn unknown_connection(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.logout(1);
    request.cid = session.login.cid.wrapping_add(77).into();
    expect(&mut session, request, 1).await?;
    session.said_before_ping().await?;
    Ok(())
}

async fn foreign_cid(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.logout(0);
    request.cid = session.login.cid.wrapping_add(77).into();
    expect(&mut session, request, 0).await
}

async fn reserved_reason(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.logout(5);
    session.send(Pdu::bare(request)).await;
    match session.next().await {
        // Whoever hangs up has refused it, too.
        Heard::Closed => Ok(()),
        Heard::Pdu(Pdu {
            header: Header::Reject(_),
            ..
        }) => Ok(()),
        Heard::Pdu(Pdu {
            header: Header::LogoutResponse(response),
            ..
        }) => {
            ensure!(
                response.response != 0,
                "a logout for the reserved reason 5 succeeds"
            );
            Ok(())
        }
        other => violation!("{other} on a Logout Request with a reserved reason"),
    }
}

async fn form(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.logout(0);
    let (response, pdu) = response(&mut session, request).await?;
    ensure!(
        pdu.ahs.is_empty() && pdu.data.is_empty(),
        "the Logout Response has {} bytes of AHS and {} of data",
        pdu.ahs.len(),
        pdu.data.len()
    );
    ensure!(
        response.flags == 0x80,
        "byte 1 of the Logout Response is {:#04x} instead of 0x80",
        response.flags
    );
    Ok(())
}

async fn immediate(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.logout(0);
    let (response, _) = response(&mut session, request).await?;
    ensure!(
        response.exp_cmd_sn.get() == session.cmd_sn,
        "an immediate Logout Request with CmdSN {} makes ExpCmdSN {}",
        session.cmd_sn,
        response.exp_cmd_sn.get()
    );
    Ok(())
}

async fn numbered(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.logout(0);
    request.opcode = LogoutRequest::OPCODE;
    request.cmd_sn = session.take_cmd_sn().into();
    let (response, _) = response(&mut session, request).await?;
    ensure!(
        response.exp_cmd_sn.get() == session.cmd_sn,
        "a Logout Request with CmdSN {} that is not immediate makes ExpCmdSN {}",
        request.cmd_sn.get(),
        response.exp_cmd_sn.get()
    );
    Ok(())
}

async fn stat_sn(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    session.said_before_ping().await?;
    let expected = session.exp_stat_sn;
    let request = session.logout(0);
    let (response, _) = response(&mut session, request).await?;
    ensure!(
        response.stat_sn.get() == expected,
        "StatSN {} where {expected} is next",
        response.stat_sn.get()
    );
    Ok(())
}

async fn with_commands(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let room = session.max_cmd_sn.wrapping_sub(session.cmd_sn);
    let count = room.saturating_add(1).clamp(1, 8);
    for _ in 0..count {
        let command = session.command(&Task::bare(&[0; 6]));
        session.send(Pdu::bare(command)).await;
    }
    let request = session.logout(0);
    session.send(Pdu::bare(request)).await;
    for _ in 0..=count {
        let pdu = session.receive().await?;
        match pdu.header {
            Header::LogoutResponse(_) => return expect_closed(&mut session).await,
            // Those that were done before.
            Header::ScsiResponse(_) => {}
            _ => violation!("{} before the Logout Response", Heard::Pdu(pdu)),
        }
    }
    violation!("{count} commands have more than {count} answers, and a logout has none")
}

/// Logs a session out; the login that it had.
async fn left(bench: &Bench) -> Result<Session, Finding> {
    let mut session = bench.session().await?;
    let request = session.logout(0);
    expect(&mut session, request, 0).await?;
    expect_closed(&mut session).await?;
    Ok(session)
}

async fn is_over(bench: &Bench) -> Verdict {
    let session = left(bench).await?;
    let mut login = session.login.clone();
    login.tsih = session.tsih;
    login.cid = login.cid.wrapping_add(1);
    let mut talk = bench.talk(login).await?;
    let mut keys = talk.login.names();
    keys.set("AuthMethod", "CHAP,None");
    let request = talk.request(SECURITY, Some(OPERATIONAL), &keys);
    talk.wire.send(request).await;
    match talk.refusal().await? {
        Refusal::Status(_) | Refusal::Closed => return Ok(()),
        Refusal::None(answer) if answer.keys.get("AuthMethod") == Some("CHAP") => {
            skip!("the target asks for a proof before it looks for the session")
        }
        Refusal::None(_) => {}
    }
    // It may look for the session as late as this.
    match talk.finish(Keys::default()).await {
        Ok(_) => violation!(
            "a login with the TSIH {} of a session that is logged out is let in",
            session.tsih
        ),
        Err(_) => Ok(()),
    }
}

async fn begins_anew(bench: &Bench) -> Verdict {
    let session = left(bench).await?;
    let login = session.login.clone();
    let mut session = bench.log_in_as(login, &[]).await?;
    session.take_attentions().await
}
