//! PDUs that no initiator should send, and those that only look odd (RFC 7143 §7.3, §7.7, §11, §11.17).
//!
//! The standard often leaves a choice between a Reject, a closed connection and an error of the command. What it never
//! leaves open is that nothing is said at all, that the command is carried out, or that others have to suffer.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{
    AnyHeader, BHS_BYTES, DataOut, FINAL, IMMEDIATE, LoginRequest, READ, RESERVED_TAG, Reject,
    SnackRequest, WRITE,
};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::management::ABORT_TASK_SET;
use crate::session::{CHECK_CONDITION, Session, Task, sense};
use crate::wire::Heard;
use crate::words;

checks! {
    "reject.opcode.unassigned", "RFC 7143 §11", Must, Reads,
        "PDUs with the opcodes 07h, 0Fh and 1Bh, which nobody has assigned"
        => "a Reject, or a closed connection", unassigned_opcodes;
    "reject.opcode.target", "RFC 7143 §11.2.1.2", Must, Reads,
        "NOP-In, SCSI Response and Text Response, which only targets may send"
        => "nothing, a Reject or a closed connection, but no answer", target_opcodes;
    "reject.header.form", "RFC 7143 §11.17", Must, Reads,
        "something that the target rejects"
        => "a Reject with byte 1 80h and Initiator Task Tag ffffffff", form;
    "reject.header.reason", "RFC 7143 §11.17.1", Must, Reads,
        "something that the target rejects"
        => "one of the reasons 02h to 0Ah or 0Ch", reason;
    "reject.header.copy", "RFC 7143 §11.17.4", Must, Reads,
        "something that the target rejects"
        => "the rejected header, all of its 48 bytes, as the data of the Reject", copy;
    "reject.header.stat-sn", "RFC 7143 §11.17.3", Must, Reads,
        "something that the target rejects, and a ping"
        => "a Reject with the next StatSN, and the answer to the ping with the one behind it", stat_sn;
    "reject.command.number", "RFC 7143 §7.3", Must, Reads,
        "a command that the target rejects, then another one with the same CmdSN"
        => "ExpCmdSN stays with the Reject, and the other command is carried out", number;
    "reject.task.lives-on", "RFC 7143 §7.3", Must, Writes,
        "a SNACK that is rejected about a WRITE that runs, then the data of the WRITE"
        => "a SCSI Response: a Reject ends no task", lives_on;
    "reject.attribute.reserved", "RFC 7143 §11", Must, Reads,
        "commands with the task attributes 5, 6 and 7, which are reserved"
        => "a Reject, an error or a closed connection, but not GOOD", attributes;
    "reject.tag.reserved", "RFC 7143 §11", Must, Reads,
        "a command with Initiator Task Tag ffffffff, which is reserved"
        => "a Reject, an error or a closed connection, but not GOOD", reserved_tag;
    "reject.ahs.unknown-type", "RFC 7143 §11", Must, Reads,
        "a command with an additional header segment of type 3Fh, which is reserved"
        => "a Reject, an error or a closed connection, but not GOOD", unknown_ahs;
    "reject.ahs.cut-off", "RFC 7143 §7.7", Must, Reads,
        "a command with an AHSLength that reaches beyond TotalAHSLength"
        => "a Reject, an error or a closed connection, but not GOOD", cut_ahs;
    "reject.ahs.extended-cdb", "RFC 7143 §11.2.2.3", Must, Reads,
        "a CDB of 32 bytes, 16 of them in an additional header segment, then another command"
        => "a status or a Reject for the first one, GOOD for the second", extended_cdb;
    "reject.flags.no-data", "RFC 7143 §11.3.1", Must, Reads,
        "commands without data that set R, and W, with a length of 0"
        => "GOOD: either bit may be set where there is nothing to transfer", no_data;
    "reject.reserved.command", "RFC 7143 §11", Must, Reads,
        "a SCSI Command with all reserved bits and fields set"
        => "GOOD: reserved fields are ignored", reserved_in_command;
    "reject.reserved.ping", "RFC 7143 §11", Must, Reads,
        "a NOP-Out with all reserved bits and fields set"
        => "the answer: reserved fields are ignored", reserved_in_ping;
    "reject.reserved.management", "RFC 7143 §11", Must, Reads,
        "an ABORT TASK SET with all reserved bits and fields set"
        => "the answer: reserved fields are ignored", reserved_in_management;
    "reject.reserved.data-out", "RFC 7143 §11", Must, Writes,
        "a Data-Out with all reserved bits and fields set"
        => "GOOD for its WRITE: reserved fields are ignored", reserved_in_data;
    "reject.lun.unknown-method", "SAM-5 §4.7", Must, Reads,
        "TEST UNIT READY to a LUN of an addressing method that does not exist"
        => "CHECK CONDITION 5/25/00 or a Reject, but not GOOD", unknown_lun;
    "reject.login.late", "RFC 7143 §4.6.3.2", Must, Reads,
        "a Login Request in the full feature phase"
        => "no login: a Reject, a refusal or a closed connection", late_login;
    "reject.data-out.stray", "RFC 7143 §11.17.1", Must, Reads,
        "a Data-Out for a task that does not exist"
        => "nothing, a Reject with reason 04h or 09h, or a closed connection", stray_data;
}

/// What a target did with something that it should not like.
enum Fate {
    /// A Reject, and its data.
    Rejected(Reject, Bytes),
    /// Something else.
    Answered(Pdu),
    /// Closed the connection.
    Closed,
    /// Went on as if nothing had come.
    Ignored,
}

async fn unassigned_opcodes(bench: &Bench) -> Verdict {
    for opcode in [0x07, 0x0f, 0x1b] {
        let mut session = bench.session().await?;
        let bad = unassigned(&mut session, opcode);
        match fate(&mut session, bad).await? {
            Fate::Rejected(..) | Fate::Closed => {}
            Fate::Answered(pdu) => violation!("{} to opcode {opcode:#04x}", Heard::Pdu(pdu)),
            Fate::Ignored => violation!(
                "not a word about opcode {opcode:#04x}, while a ping behind it is answered"
            ),
        }
    }
    Ok(())
}

async fn target_opcodes(bench: &Bench) -> Verdict {
    for opcode in [0x20, 0x21, 0x24] {
        let mut session = bench.session().await?;
        let bad = unassigned(&mut session, opcode);
        if let Fate::Answered(pdu) = fate(&mut session, bad).await? {
            violation!(
                "{} to opcode {opcode:#04x}, which is a target's",
                Heard::Pdu(pdu)
            );
        }
    }
    Ok(())
}

async fn form(bench: &Bench) -> Verdict {
    let Provoked { reject, .. } = provoked(bench).await?;
    ensure!(
        reject.flags == FINAL,
        "byte 1 of the Reject is {:#04x} instead of 0x80",
        reject.flags
    );
    ensure!(
        reject.initiator_task_tag.get() == RESERVED_TAG,
        "bytes 16 to 19 of the Reject are {:08x} instead of ffffffff",
        reject.initiator_task_tag.get()
    );
    Ok(())
}

async fn reason(bench: &Bench) -> Verdict {
    let Provoked { reject, .. } = provoked(bench).await?;
    ensure!(
        matches!(reject.reason, 0x02..=0x0a | 0x0c),
        "reason {:#04x} is not in the list of reasons",
        reject.reason
    );
    Ok(())
}

async fn copy(bench: &Bench) -> Verdict {
    let Provoked { bad, data, .. } = provoked(bench).await?;
    let header = bad.header.as_bytes();
    ensure!(
        data.len() >= BHS_BYTES,
        "the Reject has {} bytes of data; the header that it returns has 48",
        data.len()
    );
    ensure!(
        data.get(..BHS_BYTES) == Some(header),
        "the 48 bytes that the Reject returns are not the header of the rejected PDU"
    );
    Ok(())
}

async fn stat_sn(bench: &Bench) -> Verdict {
    let Provoked {
        mut session,
        reject,
        next,
        ..
    } = provoked(bench).await?;
    ensure!(
        reject.stat_sn.get() == next,
        "StatSN of the Reject is {}, {next} is next",
        reject.stat_sn.get()
    );
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    let pdu = match session.next().await {
        Heard::Pdu(pdu) => pdu,
        Heard::Closed => skip!("the connection is closed behind the Reject"),
        other => violation!("{other} to a ping behind the Reject"),
    };
    let Header::NopIn(nop) = pdu.header else {
        violation!("{} instead of a NOP-In", Heard::Pdu(pdu));
    };
    // The ping that came with the bad PDU took a number as well.
    let behind = next.wrapping_add(2);
    ensure!(
        nop.stat_sn.get() == behind,
        "StatSN behind the Reject and a ping is {}, {behind} is next",
        nop.stat_sn.get()
    );
    Ok(())
}

async fn number(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut bad = session.command(&Task::bare(&[0; 6]));
    bad.flags |= 0x07;
    let cmd_sn = bad.cmd_sn.get();
    // Not the number of this command, but its own is what the ping behind it shows.
    session.cmd_sn = cmd_sn;
    let Fate::Rejected(reject, _) = fate(&mut session, Pdu::bare(bad)).await? else {
        skip!("a command with a reserved task attribute is not rejected");
    };
    ensure!(
        reject.exp_cmd_sn.get() == cmd_sn && session.exp_cmd_sn == cmd_sn,
        "ExpCmdSN is {} behind the Reject of CmdSN {cmd_sn}, which does not count as received",
        session.exp_cmd_sn
    );
    match session.run(&Task::bare(&[0; 6])).await {
        Ok(reply) => reply.good("TEST UNIT READY with the number of the rejected command"),
        Err(Finding::Violation(why)) => {
            violation!("a command with the number of the rejected one, {cmd_sn}: {why}")
        }
        Err(other) => Err(other),
    }
    .map(drop)
}

async fn lives_on(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x11).await?;
    let mut bad = snack(&session);
    bad.initiator_task_tag = held.header.initiator_task_tag;
    let Fate::Rejected(..) = fate(&mut session, Pdu::bare(bad)).await? else {
        skip!("a SNACK at ErrorRecoveryLevel 0 is not rejected");
    };
    match session.conclude(&held).await {
        Ok(_) => Ok(()),
        Err(Finding::Violation(why)) => violation!("the task has no end behind a Reject: {why}"),
        Err(other) => Err(other),
    }
}

async fn attributes(bench: &Bench) -> Verdict {
    for attribute in [5, 6, 7] {
        let mut session = bench.session().await?;
        let mut command = session.command(&Task::bare(&[0; 6]));
        command.flags = FINAL | attribute;
        let what = format!("task attribute {attribute}");
        refused(&mut session, Pdu::bare(command), &what).await?;
    }
    Ok(())
}

async fn reserved_tag(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut command = session.command(&Task::bare(&[0; 6]));
    command.initiator_task_tag = RESERVED_TAG.into();
    refused(&mut session, Pdu::bare(command), "the reserved tag").await
}

async fn unknown_ahs(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let command = session.command(&Task::bare(&[0; 6]));
    let mut pdu = Pdu::bare(command);
    // AHSLength 5, AHSType 3Fh.
    pdu.ahs = Bytes::from_static(&[0, 5, 0x3f, 0, 1, 2, 3, 4]);
    refused(&mut session, pdu, "AHS type 3Fh").await
}

async fn cut_ahs(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let command = session.command(&Task::bare(&[0; 6]));
    let mut pdu = Pdu::bare(command);
    // An Extended CDB of 100 bytes where there is room for four.
    pdu.ahs = Bytes::from_static(&[0, 100, 0x01, 0, 1, 2, 3, 4]);
    refused(&mut session, pdu, "an AHS that is cut off").await
}

async fn extended_cdb(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let length = bench.facts.block_bytes;
    // READ (32): 7Fh, 24 bytes behind byte 7, service action 0009h; one block from block 0.
    let read = Task::read(
        &[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x09, 0, 0, 0, 0, 0, 0],
        length,
    );
    let command = session.command(&read);
    let mut pdu = Pdu::bare(command);
    let mut ahs = vec![0, 17, 0x01, 0];
    ahs.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    pdu.ahs = ahs.into();
    session.send(pdu).await;
    for _ in 0..MOST_ANSWERS {
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            other => violation!("{other} to a CDB of 32 bytes"),
        };
        match pdu.header {
            Header::DataIn(data) if data.flags & 0x01 == 0 => {}
            _ => break,
        }
    }
    match session.run(&Task::bare(&[0; 6])).await {
        Ok(reply) => reply
            .good("TEST UNIT READY behind a CDB of 32 bytes")
            .map(drop),
        // A rejected command leaves a gap in the numbers, which the initiator has to fill.
        Err(_) if session.exp_cmd_sn == command.cmd_sn.get() => Ok(()),
        Err(other) => Err(other),
    }
}

async fn no_data(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for (flag, name) in [(READ, "R"), (WRITE, "W")] {
        let mut command = session.command(&Task::bare(&[0; 6]));
        command.flags |= flag;
        let tag = command.initiator_task_tag.get();
        session.send(Pdu::bare(command)).await;
        match session.follow(tag, Bytes::new()).await {
            Ok(reply) => reply.good(&format!("TEST UNIT READY with {name} set"))?,
            Err(Finding::Violation(why)) => {
                violation!("TEST UNIT READY with {name} set and a length of 0: {why}")
            }
            Err(other) => return Err(other),
        };
    }
    Ok(())
}

async fn reserved_in_command(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut command = session.command(&Task::bare(&[0; 6]));
    command.opcode |= 0x80;
    command.flags |= 0x18;
    command.reserved_2 = [0xff; 2];
    session.send(Pdu::bare(command)).await;
    let tag = command.initiator_task_tag.get();
    let reply = session.follow(tag, Bytes::new()).await?;
    reply.good("TEST UNIT READY with reserved bits set")?;
    Ok(())
}

async fn reserved_in_ping(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut ping = session.ping();
    ping.opcode |= 0x80;
    ping.flags = 0xff;
    ping.reserved_2 = [0xff; 2];
    ping.reserved_32 = [0xff; 16];
    session.send(Pdu::bare(ping)).await;
    let pdu = session.receive().await?;
    ensure!(
        matches!(pdu.header, Header::NopIn(nop) if nop.initiator_task_tag == ping.initiator_task_tag),
        "{} to a ping with reserved bits set",
        Heard::Pdu(pdu)
    );
    Ok(())
}

async fn reserved_in_management(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.management(ABORT_TASK_SET);
    request.opcode |= 0x80;
    request.reserved_2 = [0xff; 2];
    request.ref_cmd_sn = u32::MAX.into();
    request.exp_data_sn = u32::MAX.into();
    request.reserved_40 = [0xff; 8];
    let (response, _) = session.manage(request).await?;
    ensure!(
        matches!(response.response, 0 | 5),
        "response {} to ABORT TASK SET with reserved bits set",
        response.response
    );
    Ok(())
}

async fn reserved_in_data(bench: &Bench) -> Verdict {
    let mut session = bench.solicited().await?;
    let held = bench.hold(&mut session, 0, 0x22).await?;
    let length = held.r2t.desired_data_transfer_length.get();
    if length > session.terms.target_segment || held.r2t.buffer_offset.get() != 0 {
        skip!("the block does not fit into one Data-Out");
    }
    let end = usize::try_from(length).unwrap_or(usize::MAX);
    let data = held.data.get(..end).unwrap_or_default();
    let header = DataOut {
        opcode: DataOut::OPCODE | 0x80,
        flags: 0xff,
        reserved_2: [0xff; 2],
        lun: held.header.lun,
        initiator_task_tag: held.header.initiator_task_tag,
        target_transfer_tag: held.r2t.target_transfer_tag,
        reserved_24: [0xff; 4],
        exp_stat_sn: session.exp_stat_sn.into(),
        reserved_32: [0xff; 4],
        reserved_44: [0xff; 4],
        ..DataOut::default()
    };
    session
        .send(Pdu::new(header, Bytes::copy_from_slice(data)))
        .await;
    let reply = session.follow(held.tag(), held.data).await?;
    reply.good("a WRITE whose Data-Out has reserved bits set")?;
    Ok(())
}

async fn unknown_lun(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut command = session.command(&Task::bare(&[0; 6]));
    // Addressing method 11b, extended method Eh of the longest form: nobody has defined it.
    command.lun = 0xfe00_0000_0000_0000.into();
    match fate(&mut session, Pdu::bare(command)).await? {
        Fate::Rejected(..) | Fate::Closed => Ok(()),
        Fate::Ignored => violation!("no answer to TEST UNIT READY to a LUN of an unknown method"),
        Fate::Answered(pdu) => {
            let Header::ScsiResponse(answer) = pdu.header else {
                violation!("{} to TEST UNIT READY", Heard::Pdu(pdu));
            };
            let sense = sense(&pdu.data).map(|sense| sense.sense);
            let codes = sense.map_or((0, 0, 0), |sense| (sense.key, sense.asc, sense.ascq));
            ensure!(
                answer.status == CHECK_CONDITION && codes == (5, 0x25, 0),
                "status {:#04x} with sense {} from a unit that does not exist, instead of 5/25/00",
                answer.status,
                words::sense(codes)
            );
            Ok(())
        }
    }
}

async fn late_login(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = LoginRequest {
        opcode: LoginRequest::OPCODE | IMMEDIATE,
        // From the operational stage into the full feature phase.
        flags: FINAL | 1 << 2 | 3,
        isid: session.login.isid,
        tsih: session.tsih.into(),
        initiator_task_tag: session.tag().into(),
        cid: session.login.cid.into(),
        cmd_sn: session.cmd_sn.into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        ..LoginRequest::default()
    };
    let bad = Pdu::new(request, session.login.names().encode());
    match fate(&mut session, bad).await? {
        Fate::Answered(Pdu {
            header: Header::LoginResponse(answer),
            ..
        }) => ensure!(
            answer.status_class != 0,
            "a login succeeds on a connection in the full feature phase"
        ),
        Fate::Answered(pdu) => violation!("{} to a Login Request", Heard::Pdu(pdu)),
        Fate::Rejected(..) | Fate::Closed | Fate::Ignored => {}
    }
    Ok(())
}

async fn stray_data(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let stray = DataOut {
        flags: FINAL,
        lun: session.lun.0.into(),
        initiator_task_tag: 0x00ab_cdef.into(),
        target_transfer_tag: 0x0012_3456.into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        ..DataOut::default()
    };
    let pdu = Pdu::new(stray, Bytes::from_static(&[0xee; 512]));
    match fate(&mut session, pdu).await? {
        Fate::Rejected(reject, _) => ensure!(
            matches!(reject.reason, 0x04 | 0x09),
            "a Data-Out for no task is rejected with reason {:#04x} instead of 0x09",
            reject.reason
        ),
        Fate::Answered(pdu) => violation!("{} to a Data-Out for no task", Heard::Pdu(pdu)),
        Fate::Closed | Fate::Ignored => {}
    }
    Ok(())
}

/// Sends something, and a ping behind it: then nobody has to wait long for what is not said.
async fn fate(session: &mut Session, bad: Pdu) -> Result<Fate, Finding> {
    session.send(bad).await;
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    let mut fate = Fate::Ignored;
    let mut answered = false;
    let patience = session.wire.patience;
    for _ in 0..MOST_ANSWERS {
        let heard = session.next().await;
        let pdu = match heard {
            Heard::Pdu(pdu) => pdu,
            Heard::Closed => {
                fate = match fate {
                    Fate::Ignored => Fate::Closed,
                    other => other,
                };
                break;
            }
            Heard::Silence if answered => break,
            other => violation!("{other} to a ping behind something bad"),
        };
        match pdu.header {
            Header::NopIn(nop) if nop.initiator_task_tag == ping.initiator_task_tag => {
                answered = true;
            }
            Header::Reject(reject) => fate = Fate::Rejected(reject, pdu.data),
            _ => fate = Fate::Answered(pdu),
        }
        if answered && !matches!(fate, Fate::Ignored) {
            break;
        }
        // A command may take longer than a ping, but not much.
        session.wire.patience = if answered { patience / 4 } else { patience };
    }
    session.wire.patience = patience;
    Ok(fate)
}

/// A command that must not succeed, and about which something must be said.
async fn refused(session: &mut Session, pdu: Pdu, what: &str) -> Verdict {
    match fate(session, pdu).await? {
        Fate::Rejected(..) | Fate::Closed => Ok(()),
        Fate::Ignored => violation!("not a word about a command with {what}"),
        Fate::Answered(pdu) => match pdu.header {
            Header::ScsiResponse(answer) if answer.response != 0 || answer.status != 0 => Ok(()),
            Header::ScsiResponse(_) => violation!("GOOD for a command with {what}"),
            _ => violation!("{} to a command with {what}", Heard::Pdu(pdu)),
        },
    }
}

/// A Reject, and what it was for.
struct Provoked {
    session: Session,
    bad: Pdu,
    reject: Reject,
    data: Bytes,
    /// The StatSN that was next before it.
    next: u32,
}

/// Has a target reject something.
async fn provoked(bench: &Bench) -> Result<Provoked, Finding> {
    for attempt in 0..2 {
        let mut session = bench.session().await?;
        let next = session.exp_stat_sn;
        let bad = match attempt {
            0 => unassigned(&mut session, 0x0f),
            _ => Pdu::bare(snack(&session)),
        };
        if let Fate::Rejected(reject, data) = fate(&mut session, bad.clone()).await? {
            return Ok(Provoked {
                session,
                bad,
                reject,
                data,
                next,
            });
        }
    }
    skip!("neither an unassigned opcode nor a SNACK at ErrorRecoveryLevel 0 is rejected")
}

/// An immediate PDU of an opcode that a target does not expect, with a tag and numbers in their usual places.
fn unassigned(session: &mut Session, opcode: u8) -> Pdu {
    let mut specific_20 = [0; 28];
    let numbers = [RESERVED_TAG, session.cmd_sn, session.exp_stat_sn];
    for (place, number) in specific_20.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    let header = AnyHeader {
        opcode: opcode | IMMEDIATE,
        flags: FINAL,
        lun: session.lun.0.into(),
        initiator_task_tag: session.tag().into(),
        specific_20,
        ..AnyHeader::default()
    };
    Pdu::bare(Header::Unknown(header))
}

/// A Status SNACK for a status that was never sent.
fn snack(session: &Session) -> SnackRequest {
    SnackRequest {
        kind: FINAL | 1,
        initiator_task_tag: RESERVED_TAG.into(),
        target_transfer_tag: RESERVED_TAG.into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        beg_run: session.exp_stat_sn.wrapping_add(1000).into(),
        run_length: 1.into(),
        ..SnackRequest::default()
    }
}

/// The most PDUs for one that is bad.
const MOST_ANSWERS: usize = 16;
