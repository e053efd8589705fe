//! READ CAPACITY and REPORT LUNS (SBC-3 §5.15, §5.16; SPC-3 §6.21).

use bytes::Bytes;
use iscsi_proto::wire::lun::Lun;

use super::{inquiry, room};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, violation};
use crate::fields::Fields;
use crate::session::{Session, Task};
use crate::words;

checks! {
    "capacity.ten.length", "SBC-3 §5.15", Must, Reads,
        "READ CAPACITY (10), room for 64 bytes"
        => "eight bytes, the rest as underflow", ten_length;
    "capacity.ten.agrees", "SBC-3 §5.15", Must, Reads,
        "READ CAPACITY (10) and (16)"
        => "the same last address, or FFFFFFFFh where (10) has no room for it, and the same block length", ten_agrees;
    "capacity.sixteen.length", "SBC-3 §5.16", Must, Reads,
        "READ CAPACITY (16) with ALLOCATION LENGTH 64"
        => "32 bytes, the rest as underflow", sixteen_length;
    "capacity.sixteen.allocation", "SPC-3 §4.3.4.6", Must, Reads,
        "READ CAPACITY (16) with ALLOCATION LENGTH 12, 8 and 0"
        => "so many bytes of the data", sixteen_allocation;
    "capacity.sixteen.alignment", "SBC-3 §5.16", Must, Reads,
        "READ CAPACITY (16)"
        => "LOWEST ALIGNED LOGICAL BLOCK ADDRESS within the first physical block", sixteen_alignment;
    "capacity.last-block", "SBC-3 §5.16", Must, Reads,
        "READ (16) of the RETURNED LOGICAL BLOCK ADDRESS"
        => "the block", last_block;
    "luns.own", "SPC-3 §6.21", Must, Reads,
        "REPORT LUNS"
        => "a list that holds the logical unit that is judged", luns_own;
    "luns.length", "SPC-3 §6.21", Must, Reads,
        "REPORT LUNS with ALLOCATION LENGTH 2048"
        => "LUN LIST LENGTH a multiple of eight, and so many bytes behind the header", luns_length;
    "luns.unique", "SPC-3 §6.21", Must, Reads,
        "REPORT LUNS"
        => "each logical unit once", luns_unique;
    "luns.each-is-there", "SPC-3 §6.21", Must, Reads,
        "INQUIRY to the logical units of REPORT LUNS"
        => "no PERIPHERAL QUALIFIER 011b: what is listed exists", luns_each;
    "luns.allocation", "RFC 7143 §11.4.5.2", Must, Reads,
        "REPORT LUNS with ALLOCATION LENGTH 8"
        => "eight bytes with the LUN LIST LENGTH of the whole list, or INVALID FIELD IN CDB", luns_allocation;
    "luns.overflow", "RFC 7143 §11.4.5.2", Must, Reads,
        "REPORT LUNS with ALLOCATION LENGTH 16 and an Expected Data Transfer Length of 16"
        => "at most 16 bytes, and no overflow: the list is cut, not the transfer", luns_overflow;
    "luns.select", "SPC-3 §6.21", Must, Reads,
        "REPORT LUNS with SELECT REPORT 02h"
        => "what 00h brings, and well known logical units", luns_select;
    "luns.select.well-known", "SPC-3 §6.21", Must, Reads,
        "REPORT LUNS with SELECT REPORT 01h"
        => "well known logical units alone", luns_well_known;
    "luns.select.reserved", "SPC-3 §6.21", Must, Reads,
        "REPORT LUNS with SELECT REPORT 55h, which is reserved"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", luns_reserved;
    "luns.zero", "SPC-3 §6.21", Must, Reads,
        "REPORT LUNS to LUN 0, whichever the logical unit is"
        => "GOOD, and a list that holds the logical unit that is judged", luns_zero;
}

async fn ten_length(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let task = Task::read(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 64);
    let reply = session.run(&task).await?.good("READ CAPACITY (10)")?;
    ensure!(
        reply.data.len() == 8,
        "READ CAPACITY (10) brings {} bytes instead of 8",
        reply.data.len()
    );
    room::underflow(&reply, 64)
}

async fn ten_agrees(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let ten = session
        .run(&Task::read(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8))
        .await?;
    let ten = ten.good("READ CAPACITY (10)")?.data;
    let sixteen = sixteen(&mut session).await?;
    let ten = Fields::of("READ CAPACITY (10) data", &ten);
    let sixteen = Fields::of("READ CAPACITY (16) data", &sixteen);
    let last = sixteen.eight(0)?;
    let short = u32::try_from(last).unwrap_or(u32::MAX);
    ensure!(
        ten.four(0)? == short,
        "the last address is {last:#x} by READ CAPACITY (16), and {:#x} by (10) instead of {short:#x}",
        ten.four(0)?
    );
    ensure!(
        ten.four(4)? == sixteen.four(8)?,
        "blocks have {} bytes by READ CAPACITY (16), and {} by (10)",
        sixteen.four(8)?,
        ten.four(4)?
    );
    Ok(())
}

async fn sixteen_length(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&capacity_16(64)).await?;
    let reply = reply.good("READ CAPACITY (16)")?;
    ensure!(
        reply.data.len() == 32,
        "READ CAPACITY (16) brings {} bytes instead of 32",
        reply.data.len()
    );
    room::underflow(&reply, 64)
}

async fn sixteen_allocation(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let whole = sixteen(&mut session).await?;
    for bytes in [12, 8, 0] {
        let task = capacity_16(u32::try_from(bytes).unwrap_or(0));
        room::is_cut(&mut session, "READ CAPACITY (16)", task, bytes, &whole).await?;
    }
    Ok(())
}

async fn sixteen_alignment(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = sixteen(&mut session).await?;
    let fields = Fields::of("READ CAPACITY (16) data", &data);
    let exponent = u32::from(fields.byte(13)? & 0x0f);
    let lowest = u32::from(fields.two(14)? & 0x3fff);
    ensure!(
        lowest < 1 << exponent,
        "a physical block is {} logical ones, and block {lowest} is said to be the first that begins one",
        1 << exponent
    );
    Ok(())
}

async fn last_block(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = sixteen(&mut session).await?;
    let fields = Fields::of("READ CAPACITY (16) data", &data);
    let (last, bytes) = (fields.eight(0)?, fields.four(8)?);
    let reply = session.run(&read_16(last, 1, bytes)).await?;
    let block = reply.good("READ (16) of the last block")?.data;
    ensure!(
        u32::try_from(block.len()) == Ok(bytes),
        "the last block brings {} of {bytes} bytes",
        block.len()
    );
    Ok(())
}

async fn luns_own(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let list = luns(&mut session).await?;
    holds_own(&session, &list)
}

async fn luns_length(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&report_luns(0, ROOM)).await?;
    let data = reply.good("REPORT LUNS")?.data;
    let length = Fields::of("the list of REPORT LUNS", &data).four(0)?;
    ensure!(
        length % 8 == 0,
        "LUN LIST LENGTH is {length}, which is no multiple of 8"
    );
    let whole = u64::from(length) + 8;
    ensure!(
        u64::try_from(data.len()) == Ok(whole.min(ROOM.into())),
        "LUN LIST LENGTH {length} makes {whole} bytes with the header, and {} come",
        data.len()
    );
    Ok(())
}

async fn luns_unique(bench: &Bench) -> Verdict {
    let mut list = luns(&mut bench.session().await?).await?;
    list.sort_unstable();
    let twice = list.windows(2).find(|pair| pair.first() == pair.last());
    ensure!(
        twice.is_none(),
        "logical unit {:#018x} is listed twice",
        twice.and_then(|pair| pair.first()).unwrap_or(&0)
    );
    Ok(())
}

async fn luns_each(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for lun in luns(&mut session).await?.into_iter().take(MOST_UNITS) {
        session.lun = Lun(lun);
        let data = inquiry::standard_data(&mut session).await?;
        let first = Fields::of("standard INQUIRY data", &data).byte(0)?;
        ensure!(
            first >> 5 != 3,
            "logical unit {lun:#018x} is listed, and INQUIRY to it brings byte 0 as {first:#04x}"
        );
    }
    Ok(())
}

async fn luns_allocation(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let whole = session.run(&report_luns(0, ROOM)).await?;
    let whole = whole.good("REPORT LUNS")?.data;
    let reply = session.run(&report_luns(0, 8)).await?;
    // SPC asked for an error below 16 bytes, SPC-3 says that there should be 16 at least and no more.
    if reply.codes() == (5, 0x24, 0) {
        return Ok(());
    }
    room::is_cut(&mut session, "REPORT LUNS", report_luns(0, 8), 8, &whole).await
}

async fn luns_overflow(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&report_luns(0, 16)).await?;
    let reply = reply.good("REPORT LUNS with ALLOCATION LENGTH 16")?;
    ensure!(
        reply.flags & 0x04 == 0,
        "an overflow of {} is told, while ALLOCATION LENGTH cuts the list to what is expected",
        reply.residual
    );
    Ok(())
}

async fn luns_select(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let ordinary = luns(&mut session).await?;
    let all = selected(&mut session, 2).await?;
    let missing = ordinary.iter().find(|lun| !all.contains(lun));
    ensure!(
        missing.is_none(),
        "SELECT REPORT 02h leaves logical unit {:#018x} out, which 00h lists",
        missing.unwrap_or(&0)
    );
    let odd = all
        .iter()
        .find(|lun| !ordinary.contains(lun) && !is_well_known(**lun));
    ensure!(
        odd.is_none(),
        "SELECT REPORT 02h lists {:#018x}, which is not well known, and not listed by 00h",
        odd.unwrap_or(&0)
    );
    Ok(())
}

async fn luns_well_known(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let list = selected(&mut session, 1).await?;
    let odd = list.iter().find(|lun| !is_well_known(**lun));
    ensure!(
        odd.is_none(),
        "SELECT REPORT 01h lists {:#018x}, which is no well known logical unit",
        odd.unwrap_or(&0)
    );
    Ok(())
}

async fn luns_reserved(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let reply = session.run(&report_luns(0x55, ROOM)).await?;
    reply.fails_with("REPORT LUNS with SELECT REPORT 55h", 5, 0x24, 0)
}

async fn luns_zero(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let own = session.lun;
    session.lun = Lun(0);
    let list = luns(&mut session).await?;
    session.lun = own;
    holds_own(&session, &list)
}

/// READ CAPACITY (16) data, whole.
pub(super) async fn sixteen(session: &mut Session) -> Result<Bytes, Finding> {
    let reply = session.run(&capacity_16(32)).await?;
    Ok(reply.good("READ CAPACITY (16)")?.data)
}

/// REPORT LUNS.
pub(super) fn report_luns(select: u8, allocation: u32) -> Task {
    let [a, b, c, d] = allocation.to_be_bytes();
    let cdb = [0xa0, 0, select, 0, 0, 0, a, b, c, d, 0, 0];
    Task::read(&cdb, allocation)
}

/// READ (16).
pub(super) fn read_16(lba: u64, blocks: u32, bytes: u32) -> Task {
    let mut cdb = vec![0x88, 0];
    cdb.extend(lba.to_be_bytes());
    cdb.extend(blocks.to_be_bytes());
    Task::read(&cdb, bytes)
}

/// From here on the session's commands go to a logical unit that does not exist.
pub(super) async fn leave_for_no_unit(session: &mut Session) -> Verdict {
    let list = luns(session).await?;
    // In peripheral device addressing, or in flat space addressing.
    let is_listed = |number: u16| {
        list.iter()
            .any(|lun| *lun >> 48 == u64::from(number) || *lun >> 48 == u64::from(number | 0x4000))
    };
    match (1..=255).rev().find(|number| !is_listed(*number)) {
        Some(number) => session.lun = Lun::from_number(number),
        None => violation!("REPORT LUNS lists all of 255 logical units"),
    }
    Ok(())
}

fn capacity_16(allocation: u32) -> Task {
    let mut cdb = vec![0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
    cdb.extend(allocation.to_be_bytes());
    Task::read(&cdb, allocation)
}

async fn luns(session: &mut Session) -> Result<Vec<u64>, Finding> {
    selected(session, 0).await
}

async fn selected(session: &mut Session, select: u8) -> Result<Vec<u64>, Finding> {
    let reply = session.run(&report_luns(select, ROOM)).await?;
    let data = reply
        .good(&format!("REPORT LUNS with SELECT REPORT {select:02x}h"))?
        .data;
    let length = Fields::of("the list of REPORT LUNS", &data).four(0)?;
    let listed = usize::try_from(length).unwrap_or(usize::MAX);
    let (luns, _) = data.get(8..).unwrap_or_default().as_chunks::<8>();
    Ok(luns
        .iter()
        .take(listed / 8)
        .map(|lun| u64::from_be_bytes(*lun))
        .collect())
}

fn holds_own(session: &Session, list: &[u64]) -> Verdict {
    // One and the same number may be told in another form than the suite uses.
    let own = session.lun;
    let named =
        |lun: &u64| *lun == own.0 || own.number().is_some() && Lun(*lun).number() == own.number();
    ensure!(
        list.iter().any(named),
        "logical unit {own} is not among {}",
        words::list(list.iter().map(|lun| Lun(*lun)))
    );
    Ok(())
}

/// Address method 3, extended address method 1 (SAM-5 §4.7.7).
fn is_well_known(lun: u64) -> bool {
    lun >> 56 == 0xc1
}

/// Room for 255 logical units.
const ROOM: u32 = 2048;
/// So many logical units are asked who they are.
const MOST_UNITS: usize = 16;
