//! REPORT SUPPORTED OPERATION CODES: is what it says true? (SPC-3 §6.23)
//!
//! Only commands that do no harm are tried, each in a form that moves nothing.

use std::fmt;

use bytes::Bytes;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::checks::room;
use crate::fields::Fields;
use crate::session::{Session, Task};
use crate::words;

checks! {
    "opcodes.all.lengths", "SPC-3 §6.23.2", Must, Reads,
        "REPORT SUPPORTED OPERATION CODES for all commands"
        => "COMMAND DATA LENGTH is the number of bytes behind it, and whole descriptors fill it", all_lengths;
    "opcodes.all.cdb-lengths", "SPC-3 §6.23.2", Must, Reads,
        "REPORT SUPPORTED OPERATION CODES for all commands"
        => "each CDB LENGTH is that of the group of its operation code", all_cdb_lengths;
    "opcodes.all.mandatory", "SPC-3 §6.23.2", Must, Reads,
        "REPORT SUPPORTED OPERATION CODES for all commands"
        => "a list that holds the mandatory commands, and the command itself", all_mandatory;
    "opcodes.all.known", "SPC-3 §6.23.2", Must, Reads,
        "each listed command that does no harm"
        => "anything but INVALID COMMAND OPERATION CODE", all_known;
    "opcodes.all.complete", "SPC-3 §6.23.2", Must, Reads,
        "harmless commands that are not listed"
        => "CHECK CONDITION: what is supported is listed", all_complete;
    "opcodes.one.agrees", "SPC-3 §6.23.3", Must, Reads,
        "REPORT SUPPORTED OPERATION CODES for one command, again and again"
        => "SUPPORT says of each command what the list of all commands says", one_agrees;
    "opcodes.one.usage", "SPC-3 §6.23.3", Must, Reads,
        "REPORT SUPPORTED OPERATION CODES for one command, again and again"
        => "CDB USAGE DATA as long as the CDB, with the operation code and the service action in their places", one_usage;
    "opcodes.one.unsupported", "SPC-3 §6.23.3", Must, Reads,
        "REPORT SUPPORTED OPERATION CODES for operation code 1Fh, which no command has"
        => "SUPPORT 001b: not supported", one_unsupported;
    "opcodes.options.without-action", "SPC-3 §6.23.1", Must, Reads,
        "REPORTING OPTIONS 001b for an operation code that has service actions"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", options_without_action;
    "opcodes.options.with-action", "SPC-3 §6.23.1", Must, Reads,
        "REPORTING OPTIONS 010b for TEST UNIT READY, which has no service actions"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", options_with_action;
    "opcodes.options.reserved", "SPC-3 §6.23.1", Must, Reads,
        "REPORTING OPTIONS 111b, which is reserved"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", options_reserved;
    "opcodes.allocation", "SPC-3 §4.3.4.6", Must, Reads,
        "REPORT SUPPORTED OPERATION CODES for all commands with ALLOCATION LENGTH 6"
        => "six bytes, COMMAND DATA LENGTH not adjusted to the cut", allocation;
    "opcodes.timeouts", "SPC-4 §6.35", Must, Reads,
        "REPORT SUPPORTED OPERATION CODES for all commands with RCTD"
        => "the same commands; where CTDP is one a timeouts descriptor of length 000Ah follows", timeouts;
}

/// A command descriptor of the list of all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listed {
    opcode: u8,
    /// None where the operation code has no service actions.
    action: Option<u16>,
    cdb_bytes: u16,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}h", self.opcode)?;
        if let Some(action) = self.action {
            write!(f, "/{action:02x}h")?;
        }
        write!(f, " of {} bytes", self.cdb_bytes)
    }
}

/// A command that does no harm: its name, its CDB, what it may bring.
struct Harmless {
    name: &'static str,
    opcode: u8,
    /// None where the operation code has no service actions.
    action: Option<u8>,
    cdb: &'static [u8],
    room: u32,
}

impl Harmless {
    const fn plain(name: &'static str, cdb: &'static [u8], room: u32) -> Self {
        let opcode = match cdb {
            [opcode, ..] => *opcode,
            [] => 0,
        };
        Self {
            name,
            opcode,
            action: None,
            cdb,
            room,
        }
    }

    const fn with_action(name: &'static str, cdb: &'static [u8], room: u32) -> Self {
        let plain = Self::plain(name, cdb, room);
        Self {
            action: match cdb {
                [_, action, ..] => Some(*action),
                _ => None,
            },
            ..plain
        }
    }

    fn task(&self) -> Task {
        match self.room {
            0 => Task::bare(self.cdb),
            room => Task::read(self.cdb, room),
        }
    }

    fn is(&self, listed: &Listed) -> bool {
        listed.opcode == self.opcode && listed.action == self.action.map(u16::from)
    }
}

async fn all_lengths(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = all(&mut session, 0, ROOM).await?;
    let length = Fields::of(COMMAND, &data).four(0)?;
    ensure!(
        u32::try_from(data.len()).ok() == length.checked_add(4),
        "COMMAND DATA LENGTH is {length}, and {} bytes come",
        data.len()
    );
    take_apart(&data)?;
    Ok(())
}

async fn all_cdb_lengths(bench: &Bench) -> Verdict {
    for one in list(&mut bench.session().await?).await? {
        let lawful: &[u16] = match one.opcode {
            0x00..=0x1f => &[6],
            0x20..=0x5f => &[10],
            // Variable length, and what is wrapped in it.
            0x7e | 0x7f => continue,
            0x80..=0x9f => &[16],
            0xa0..=0xbf => &[12],
            // Reserved, and of a vendor.
            _ => continue,
        };
        ensure!(
            lawful.contains(&one.cdb_bytes),
            "CDB LENGTH of operation code {:02x}h is {} instead of {}",
            one.opcode,
            one.cdb_bytes,
            words::list(lawful)
        );
    }
    Ok(())
}

async fn all_mandatory(bench: &Bench) -> Verdict {
    let list = list(&mut bench.session().await?).await?;
    for opcode in [0x00, 0x12, 0x25, 0x28, 0xa0] {
        ensure!(
            list.iter().any(|one| one.opcode == opcode),
            "operation code {opcode:02x}h is mandatory, and not listed"
        );
    }
    let own = |one: &Listed| one.opcode == 0xa3 && one.action == Some(0x0c);
    ensure!(
        list.iter().any(own),
        "REPORT SUPPORTED OPERATION CODES (A3h/0Ch) does not list itself"
    );
    Ok(())
}

async fn all_known(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let list = list(&mut session).await?;
    for harmless in &HARMLESS {
        if !list.iter().any(|listed| harmless.is(listed)) {
            continue;
        }
        let reply = session.run(&harmless.task()).await?;
        ensure!(
            !reply.is_unknown_opcode(),
            "{} is listed, and ends with {}",
            harmless.name,
            reply.outcome()
        );
    }
    Ok(())
}

async fn all_complete(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let list = list(&mut session).await?;
    for harmless in &HARMLESS {
        if list.iter().any(|listed| harmless.is(listed)) {
            continue;
        }
        let reply = session.run(&harmless.task()).await?;
        ensure!(
            reply.status != 0,
            "{} is not listed, and ends with GOOD",
            harmless.name
        );
    }
    Ok(())
}

async fn one_agrees(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let list = list(&mut session).await?;
    for harmless in &HARMLESS {
        let listed = list.iter().any(|listed| harmless.is(listed));
        let Some(data) = one(&mut session, harmless).await? else {
            ensure!(!listed, "{} is listed, and refused alone", harmless.name);
            continue;
        };
        let support = Fields::of(COMMAND, &data).byte(1)? & 7;
        let lawful = match support {
            // Data about the command is not available now.
            0 => true,
            1 => !listed,
            // In conformance with a standard, or in a vendor's way.
            3 | 5 => listed,
            _ => false,
        };
        ensure!(
            lawful,
            "SUPPORT of {} is {support:03b}b, and the command is {} all commands",
            harmless.name,
            if listed { "among" } else { "not among" }
        );
    }
    Ok(())
}

async fn one_usage(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let list = list(&mut session).await?;
    for harmless in &HARMLESS {
        let Some(listed) = list.iter().find(|listed| harmless.is(listed)) else {
            continue;
        };
        let Some(data) = one(&mut session, harmless).await? else {
            continue;
        };
        let fields = Fields::of(COMMAND, &data);
        if fields.byte(1)? & 7 != 3 {
            continue;
        }
        let size = fields.two(2)?;
        let usage = fields.part(4, size.into())?;
        ensure!(
            size == listed.cdb_bytes,
            "CDB SIZE of {} is {size}, and CDB LENGTH {} among all commands",
            harmless.name,
            listed.cdb_bytes
        );
        ensure!(
            usage.first() == Some(&harmless.opcode),
            "CDB USAGE DATA of {} does not begin with the operation code: {}",
            harmless.name,
            words::hex(usage)
        );
        let action = usage.get(1).map(|byte| byte & 0x1f);
        ensure!(
            harmless.action.is_none() || action == harmless.action,
            "CDB USAGE DATA of {} is {}: no service action in byte 1",
            harmless.name,
            words::hex(usage)
        );
    }
    Ok(())
}

async fn one_unsupported(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = known(&mut session, &report(1, 0x1f, 0, ROOM)).await?;
    let data = reply.good("REPORT SUPPORTED OPERATION CODES for 1Fh")?.data;
    let support = Fields::of(COMMAND, &data).byte(1)? & 7;
    ensure!(
        support == 1,
        "SUPPORT of operation code 1Fh is {support:03b}b instead of 001b"
    );
    Ok(())
}

async fn options_without_action(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = known(&mut session, &report(1, 0xa3, 0, ROOM)).await?;
    reply.fails_with("REPORTING OPTIONS 001b for A3h", 5, 0x24, 0)
}

async fn options_with_action(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = known(&mut session, &report(2, 0, 0, ROOM)).await?;
    reply.fails_with("REPORTING OPTIONS 010b for TEST UNIT READY", 5, 0x24, 0)
}

async fn options_reserved(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = known(&mut session, &report(7, 0, 0, ROOM)).await?;
    reply.fails_with("REPORTING OPTIONS 111b", 5, 0x24, 0)
}

async fn allocation(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let whole = all(&mut session, 0, ROOM).await?;
    let task = report(0, 0, 0, 6);
    room::is_cut(
        &mut session,
        "REPORT SUPPORTED OPERATION CODES",
        task,
        6,
        &whole,
    )
    .await
}

async fn timeouts(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let plain = list(&mut session).await?;
    // RCTD is reserved in SPC-3: who does not know it may pay no attention, and sets no CTDP.
    let data = all(&mut session, RCTD, ROOM).await?;
    let timed = take_apart(&data)?;
    ensure!(
        timed == plain,
        "with RCTD the commands are {}, without {}",
        words::list(&timed),
        words::list(&plain)
    );
    Ok(())
}

/// REPORT SUPPORTED OPERATION CODES.
fn report(options: u8, opcode: u8, action: u16, allocation: u32) -> Task {
    let [high, low] = action.to_be_bytes();
    let [a, b, c, d] = allocation.to_be_bytes();
    let cdb = [0xa3, 0x0c, options, opcode, high, low, a, b, c, d, 0, 0];
    Task::read(&cdb, allocation)
}

/// A reply of a unit that knows the command; it is optional.
async fn known(session: &mut Session, task: &Task) -> Result<crate::session::Reply, Finding> {
    let plain = session.run(&report(0, 0, 0, 4)).await?;
    // An operation code may be known for other service actions.
    if plain.is_unknown_opcode() || plain.codes() == (5, 0x24, 0) {
        skip!("REPORT SUPPORTED OPERATION CODES is not supported");
    }
    session.run(task).await
}

async fn all(session: &mut Session, options: u8, allocation: u32) -> Result<Bytes, Finding> {
    let reply = known(session, &report(options, 0, 0, allocation)).await?;
    Ok(reply.good("REPORT SUPPORTED OPERATION CODES")?.data)
}

async fn list(session: &mut Session) -> Result<Vec<Listed>, Finding> {
    take_apart(&all(session, 0, ROOM).await?)
}

/// What is told of one command; nothing if the question is refused, because the operation code has no service
/// actions, or has some.
async fn one(session: &mut Session, harmless: &Harmless) -> Result<Option<Bytes>, Finding> {
    let (options, action) = match harmless.action {
        None => (1, 0),
        Some(action) => (2, action.into()),
    };
    let task = report(options, harmless.opcode, action, ROOM);
    let reply = session.run(&task).await?;
    if reply.codes() == (5, 0x24, 0) {
        return Ok(None);
    }
    Ok(Some(reply.good("REPORT SUPPORTED OPERATION CODES")?.data))
}

fn take_apart(data: &[u8]) -> Result<Vec<Listed>, Finding> {
    let mut at = 4;
    let mut found = Vec::new();
    let fields = Fields::of("the list of all commands", data);
    while at < data.len() {
        let flags = fields.byte(at + 5)?;
        let listed = Listed {
            opcode: fields.byte(at)?,
            action: (flags & 1 != 0).then_some(fields.two(at + 2)?),
            cdb_bytes: fields.two(at + 6)?,
        };
        found.push(listed);
        at += 8;
        // CTDP: a command timeouts descriptor follows.
        if flags & 2 != 0 {
            let length = fields.two(at)?;
            ensure!(
                length == 0x0a,
                "the timeouts descriptor of {listed} has length {length:04x}h instead of 000Ah"
            );
            fields.part(at, 12)?;
            at += 12;
        }
    }
    Ok(found)
}

const COMMAND: &str = "the data of REPORT SUPPORTED OPERATION CODES";
/// Room for more commands than there are operation codes.
const ROOM: u32 = 8192;
/// Return command timeouts descriptors.
const RCTD: u8 = 0x80;
/// Commands that read nothing, or nothing but what describes the unit. Where something is described a few bytes are
/// asked for: there are targets that do not survive an allocation length of zero.
const HARMLESS: [Harmless; 19] = [
    Harmless::plain("TEST UNIT READY", &[0x00], 0),
    Harmless::plain("REQUEST SENSE", &[0x03, 0, 0, 0, 18], 18),
    Harmless::plain("INQUIRY", &[0x12, 0, 0, 0, 36], 36),
    Harmless::plain("MODE SENSE (6)", &[0x1a, 0, 0x3f, 0, 4], 4),
    Harmless::plain("READ CAPACITY (10)", &[0x25], 8),
    Harmless::plain("READ (10)", &[0x28], 0),
    Harmless::plain("VERIFY (10)", &[0x2f], 0),
    Harmless::plain("SYNCHRONIZE CACHE (10)", &[0x35, 0, 0, 0, 0, 0, 0, 0, 1], 0),
    Harmless::plain("LOG SENSE", &[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 4], 4),
    Harmless::plain("MODE SENSE (10)", &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 8], 8),
    Harmless::with_action("PERSISTENT RESERVE IN", &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8], 8),
    Harmless::plain("READ (16)", &[0x88], 0),
    Harmless::plain("VERIFY (16)", &[0x8f], 0),
    Harmless::plain(
        "SYNCHRONIZE CACHE (16)",
        &[0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        0,
    ),
    Harmless::with_action(
        "READ CAPACITY (16)",
        &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32],
        32,
    ),
    Harmless::with_action(
        "GET LBA STATUS",
        &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24],
        24,
    ),
    Harmless::plain("REPORT LUNS", &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16], 16),
    Harmless::with_action(
        "REPORT TARGET PORT GROUPS",
        &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 16],
        16,
    ),
    Harmless::plain("READ (12)", &[0xa8], 0),
];
