//! Commands that go wrong: their user must not be told that they went well, unless they were repeated.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, ScsiCommand, ScsiResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::check::{Finding, Verdict, skip};
use crate::initiator::caller::{Caller, behind_its_length};
use crate::initiator::manner::Manner;
use crate::initiator::scsi::{Answer, Blocks, read_of, write_of};
use crate::initiator::stage::Stage;
use crate::wire::Heard;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// A Data-In is left out.
    Gap,
    /// The header digest of a Data-In is wrong.
    HeaderDigest,
    /// The data digest of a Data-In is wrong.
    DataDigest,
    /// A status, with this sense.
    Status(u8, &'static [u8]),
    /// A response code other than "completed at target".
    Response(u8),
    /// The connection is closed instead of an answer.
    Close,
    /// The connection is closed when half of the data was sent, or asked for.
    CloseInTheMiddle,
}

/// Spoils the first read of two blocks or more.
pub(crate) async fn spoiled(stage: &mut Stage, manner: &Manner, how: Spoil) -> Verdict {
    spoil_first(stage, manner, how, read_of).await
}

/// Spoils the first write of two blocks or more.
pub(crate) async fn spoiled_write(stage: &mut Stage, manner: &Manner, how: Spoil) -> Verdict {
    spoil_first(stage, manner, how, write_of).await
}

async fn spoil_first(
    stage: &mut Stage,
    manner: &Manner,
    how: Spoil,
    blocks_of: fn(&[u8; 16]) -> Option<Blocks>,
) -> Verdict {
    let long = |pdu: &Pdu| of(pdu, blocks_of).is_some_and(|blocks| blocks.count >= 2);
    let (mut caller, pdu) = stage.request(manner, "no such command came", long).await?;
    ensure_digests(&caller, how)?;
    let (Header::ScsiCommand(command), Some(spoiled)) = (pdu.header, of(&pdu, blocks_of)) else {
        skip!("no such command came");
    };
    caller.acknowledge(&pdu);
    let times = stage.scene.transfers_like(&command.cdb);
    spoil(&mut caller, &command, &pdu.data, how).await;
    let gone = matches!(how, Spoil::Close | Spoil::CloseInTheMiddle);
    let mut repair = Repair::default();
    // Dropping it closes the connection.
    let mut next = Some(caller).filter(|_| !gone);
    loop {
        if let Some(mut caller) = next.take() {
            while let Heard::Pdu(pdu) = caller.hear().await {
                repair.look(&pdu, &command);
                caller.serve(pdu).await;
            }
            repair.dropped |= !caller.logged_out;
        }
        match stage.another(&Manner::PLAIN).await? {
            Some(caller) => next = Some(caller),
            None => break,
        }
    }
    let succeeded = stage.outcome(None).await;
    // As one command, or in parts from its beginning on, on whatever connection.
    let repeated = stage.scene.transfers_like(&command.cdb) > times;
    match succeeded {
        Some(false) => Ok(()),
        _ if repeated || repair.asked => Ok(()),
        Some(true) => Err(Finding::Violation(format!(
            "the command for {} blocks from block {} on failed, was not repeated, and yet the initiator's user got what it wanted",
            spoiled.count, spoiled.first
        ))),
        None if repair.dropped || gone => Ok(()),
        None => Err(Finding::NotApplicable(
            "whether the data was taken for good cannot be told without a command that reports it"
                .to_owned(),
        )),
    }
}

fn ensure_digests(caller: &Caller, how: Spoil) -> Verdict {
    let has = match how {
        Spoil::HeaderDigest => caller.terms.header_digest,
        Spoil::DataDigest => caller.terms.data_digest,
        _ => true,
    };
    if !has {
        skip!("the initiator does not offer the digest");
    }
    Ok(())
}

/// What an initiator did about a command that went wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Repair {
    /// Asked for what was missing.
    asked: bool,
    /// Dropped the connection.
    dropped: bool,
}

impl Repair {
    fn look(&mut self, pdu: &Pdu, spoiled: &ScsiCommand) {
        self.asked |= match &pdu.header {
            Header::SnackRequest(_) => true,
            Header::TaskManagementRequest(abort) => {
                abort.referenced_task_tag == spoiled.initiator_task_tag
            }
            _ => false,
        };
    }
}

fn of(pdu: &Pdu, blocks_of: fn(&[u8; 16]) -> Option<Blocks>) -> Option<Blocks> {
    match &pdu.header {
        Header::ScsiCommand(command) if command.lun.get() == 0 => blocks_of(&command.cdb),
        _ => None,
    }
}

/// Answers a command in a way that it must not be taken for good.
async fn spoil(caller: &mut Caller, command: &ScsiCommand, data: &Bytes, how: Spoil) {
    match how {
        Spoil::Status(status, sense) => {
            let answer = Answer {
                sense: Bytes::from_static(sense),
                ..Answer::status(status)
            };
            caller.respond(command, &answer, 0).await;
        }
        Spoil::Response(response) => {
            let header = ScsiResponse {
                flags: FINAL,
                response,
                initiator_task_tag: command.initiator_task_tag,
                ..ScsiResponse::default()
            };
            let nothing = behind_its_length(&Bytes::new());
            caller.tell_pdu(Pdu::new(header, nothing)).await;
        }
        Spoil::Close => caller.wire.half_close().await,
        Spoil::CloseInTheMiddle if write_of(&command.cdb).is_some() => {
            caller.begin_write(command, data).await;
            caller.wire.half_close().await;
        }
        Spoil::Gap | Spoil::HeaderDigest | Spoil::DataDigest | Spoil::CloseInTheMiddle => {
            caller.manner.segments = &[512];
            caller.manner.status_apart = false;
            let answer = caller.execute(command, &Bytes::new());
            let pdus = caller.data_ins(command, &answer);
            send_spoiled(caller, pdus, how).await;
            caller.manner.segments = &[];
        }
    }
}

/// Sends Data-In with the second one spoiled.
async fn send_spoiled(caller: &mut Caller, pdus: Vec<Pdu>, how: Spoil) {
    for (number, pdu) in pdus.into_iter().enumerate() {
        let pdu = caller.numbered(pdu);
        if number != 1 {
            caller.wire.send(pdu).await;
            continue;
        }
        let mut bytes = caller.wire.encode(&pdu);
        let at = match how {
            Spoil::HeaderDigest => Some(48),
            Spoil::DataDigest => bytes.len().checked_sub(1),
            _ => None,
        };
        if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
            *byte ^= 0x10;
            caller
                .wire
                .send_bytes("a Data-In whose digest is wrong", &bytes)
                .await;
        }
        if how == Spoil::CloseInTheMiddle {
            caller.wire.half_close().await;
            return;
        }
    }
}
