//! What is no part of a login, and the end of one that failed (RFC 7143 §4.2.4, §11.13.5).

use iscsi_proto::wire::bhs::{
    FINAL, IMMEDIATE, NopOut, READ, RESERVED_TAG, ScsiCommand, TextRequest,
};
use iscsi_proto::wire::{Header, Pdu};

use super::logins::{NO_TARGET, must_fail, opened, opening, operational};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, violation};
use crate::keys::Keys;
use crate::login::{OPERATIONAL, Refusal, SECURITY};
use crate::wire::Heard;

checks! {
    "login.first.nop-out", "RFC 7143 §4.2.4", Must, Reads,
        "a NOP-Out before any login"
        => "the end of the connection", first_nop_out;
    "login.first.command", "RFC 7143 §4.2.4", Must, Reads,
        "an INQUIRY before any login"
        => "the end of the connection", first_command;
    "login.first.text", "RFC 7143 §4.2.4", Must, Reads,
        "SendTargets=All before any login"
        => "the end of the connection", first_text;
    "login.intruder.nop-out", "RFC 7143 §4.2.4", Must, Reads,
        "a NOP-Out in the security stage"
        => "a Login Response with status 020b", nop_out_in_between;
    "login.intruder.command", "RFC 7143 §4.2.4", Must, Reads,
        "an INQUIRY in the operational stage"
        => "a Login Response with status 020b", command_in_between;
    "login.intruder.closes", "RFC 7143 §4.2.4", Must, Reads,
        "a NOP-Out in the security stage"
        => "the end of the connection behind the Login Response", intruder_closes;
    "login.failed.closes", "RFC 7143 §11.13.5", Must, Reads,
        "a login to a target that nobody has"
        => "the end of the connection behind the status", failed_closes;
}

fn nop_out() -> Pdu {
    Pdu::bare(NopOut {
        opcode: NopOut::OPCODE | IMMEDIATE,
        flags: FINAL,
        initiator_task_tag: 1.into(),
        target_transfer_tag: RESERVED_TAG.into(),
        cmd_sn: 1.into(),
        ..NopOut::default()
    })
}

/// INQUIRY, 36 bytes.
fn inquiry() -> Pdu {
    let mut cdb = [0; 16];
    (cdb[0], cdb[4]) = (0x12, 36);
    Pdu::bare(ScsiCommand {
        flags: FINAL | READ | 1,
        initiator_task_tag: 1.into(),
        expected_data_transfer_length: 36.into(),
        cmd_sn: 1.into(),
        cdb,
        ..ScsiCommand::default()
    })
}

async fn first_nop_out(bench: &Bench) -> Verdict {
    first(bench, nop_out()).await
}

async fn first_command(bench: &Bench) -> Verdict {
    first(bench, inquiry()).await
}

async fn first_text(bench: &Bench) -> Verdict {
    let header = TextRequest {
        flags: FINAL,
        initiator_task_tag: 1.into(),
        target_transfer_tag: RESERVED_TAG.into(),
        cmd_sn: 1.into(),
        ..TextRequest::default()
    };
    let keys = Keys::of(&[("SendTargets", "All")]);
    first(bench, Pdu::new(header, keys.encode())).await
}

/// A Login Response that refuses is a word of farewell, which nothing forbids.
async fn first(bench: &Bench, pdu: Pdu) -> Verdict {
    let mut wire = bench.connect().await?;
    wire.send(pdu).await;
    for _ in 0..2 {
        match wire.next().await {
            Heard::Closed => return Ok(()),
            Heard::Pdu(Pdu {
                header: Header::LoginResponse(header),
                ..
            }) if header.status_class != 0 => {}
            Heard::Silence => violation!("the connection stays open"),
            other => violation!("{other} instead of the end of the connection"),
        }
    }
    violation!("two Login Responses instead of the end of the connection")
}

async fn nop_out_in_between(bench: &Bench) -> Verdict {
    let mut talk = opened(bench).await?;
    talk.wire.send(nop_out()).await;
    must_fail(&mut talk, "a NOP-Out during the login", &[0x020b]).await
}

async fn command_in_between(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let keys = Keys::of(&[("MaxConnections", "1")]);
    talk.ask(OPERATIONAL, None, &keys).await?;
    talk.wire.send(inquiry()).await;
    must_fail(&mut talk, "a SCSI Command during the login", &[0x020b]).await
}

async fn intruder_closes(bench: &Bench) -> Verdict {
    let mut talk = opened(bench).await?;
    talk.wire.send(nop_out()).await;
    if matches!(talk.refusal().await?, Refusal::Closed) {
        return Ok(());
    }
    let heard = talk.wire.next().await;
    ensure!(
        heard == Heard::Closed,
        "{heard} instead of the end of the connection, behind the answer to a NOP-Out during the login"
    );
    Ok(())
}

async fn failed_closes(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.target = Some(NO_TARGET.to_owned());
    let mut talk = bench.talk(login).await?;
    let keys = opening(bench, &talk.login);
    let request = talk.request(SECURITY, Some(OPERATIONAL), &keys);
    talk.wire.send(request).await;
    match talk.refusal().await? {
        Refusal::Closed => Ok(()),
        Refusal::None(_) => Err(Finding::Unreachable(
            "a target that nobody has is not refused at once".to_owned(),
        )),
        Refusal::Status(status) => {
            let heard = talk.wire.next().await;
            ensure!(
                heard == Heard::Closed,
                "{heard} behind status {status:#06x} instead of the end of the connection"
            );
            Ok(())
        }
    }
}
