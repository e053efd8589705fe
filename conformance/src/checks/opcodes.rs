//! Commands that must exist, and what a unit says about those that it has (SPC-3 §6.23, §6.24; SBC-3 §5.1).

pub(super) mod supported;

use super::capacity;
use crate::bench::Bench;
use crate::check::{Verdict, checks, ensure, skip};
use crate::management::{ABORT_TASK, ABORT_TASK_SET, COMPLETE, NO_TASK, UNIT_RESET};
use crate::session::{Session, Task};

checks! {
    "opcodes.primary", "SPC-3 §6.1", Must, Reads,
        "TEST UNIT READY, INQUIRY, REPORT LUNS and REQUEST SENSE"
        => "GOOD: they are mandatory", primary;
    "opcodes.block", "SBC-3 §5.1", Must, Reads,
        "READ (10), READ CAPACITY (10)"
        => "GOOD: they are mandatory for block devices", block;
    "opcodes.block.sixteen", "SBC-3 §5.1", Must, Reads,
        "READ (16), READ CAPACITY (16)"
        => "GOOD: they are mandatory since SBC-3", block_sixteen;
    "opcodes.management.abort-task", "SPC-3 §6.24", Must, Reads,
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, then ABORT TASK of a task that does not exist"
        => "\"task management function not supported\" exactly where ATS is zero", abort_task;
    "opcodes.management.abort-task-set", "SPC-3 §6.24", Must, Reads,
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, then ABORT TASK SET where no task is"
        => "\"function complete\" exactly where ATSS is one", abort_task_set;
    "opcodes.management.unit-reset", "SPC-3 §6.24", Must, Writes,
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, then LOGICAL UNIT RESET"
        => "\"function complete\" exactly where LURS is one", unit_reset;
}

async fn primary(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for (name, task) in [
        ("TEST UNIT READY", Task::bare(&[0; 6])),
        ("INQUIRY", Task::read(&[0x12, 0, 0, 0, 36, 0], 36)),
        ("REPORT LUNS", capacity::report_luns(0, 256)),
        ("REQUEST SENSE", Task::read(&[0x03, 0, 0, 0, 18, 0], 18)),
    ] {
        session.run(&task).await?.good(name)?;
    }
    Ok(())
}

async fn block(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let read = Task::read(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], bench.facts.block_bytes);
    session.run(&read).await?.good("READ (10)")?;
    let capacity = Task::read(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8);
    session.run(&capacity).await?.good("READ CAPACITY (10)")?;
    Ok(())
}

async fn block_sixteen(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let read = capacity::read_16(0, 1, bench.facts.block_bytes);
    session.run(&read).await?.good("READ (16)")?;
    capacity::sixteen(&mut session).await?;
    Ok(())
}

async fn abort_task(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let claimed = functions(&mut session).await? & 0x80 != 0;
    let mut request = session.management(ABORT_TASK);
    // Of a tag that nothing has, and of a number that is used up.
    request.referenced_task_tag = session.tag().into();
    request.ref_cmd_sn = session.cmd_sn.wrapping_sub(1).into();
    let response = session.manage(request).await?.0.response;
    agrees(claimed, response, &[COMPLETE, NO_TASK], "ABORT TASK", "ATS")
}

async fn abort_task_set(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let claimed = functions(&mut session).await? & 0x40 != 0;
    let request = session.management(ABORT_TASK_SET);
    let response = session.manage(request).await?.0.response;
    agrees(claimed, response, &[COMPLETE], "ABORT TASK SET", "ATSS")
}

async fn unit_reset(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let claimed = functions(&mut session).await? & 0x08 != 0;
    let request = session.management(UNIT_RESET);
    let response = session.manage(request).await?.0.response;
    agrees(claimed, response, &[COMPLETE], "LOGICAL UNIT RESET", "LURS")
}

fn agrees(claimed: bool, response: u8, done: &[u8], function: &str, bit: &str) -> Verdict {
    ensure!(
        claimed == done.contains(&response),
        "{bit} is {}, and {function} is answered with {response}",
        u8::from(claimed)
    );
    Ok(())
}

/// Byte 0 of what REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS brings.
async fn functions(session: &mut Session) -> Result<u8, crate::check::Finding> {
    let cdb = [0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
    let reply = session.run(&Task::read(&cdb, 16)).await?;
    // Optional; an operation code may be known for other service actions.
    if reply.is_unknown_opcode() || reply.codes() == (5, 0x24, 0) {
        skip!("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS is not supported");
    }
    let data = reply
        .good("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS")?
        .data;
    ensure!(
        data.len() >= 4,
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS brings {} bytes instead of 4",
        data.len()
    );
    Ok(data.first().copied().unwrap_or(0))
}
