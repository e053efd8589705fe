//! What block devices say about themselves: pages B0h, B1h, B2h (SBC-3 §6.6), and whether it is true.

use super::{length_is, listed, wanted};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::checks::{capacity, inquiry};
use crate::fields::Fields;
use crate::session::{Session, Task};
use crate::words;

checks! {
    "vpd.limits.length", "SBC-3 §6.6.3", Must, Reads,
        "INQUIRY for page B0h, if it is listed"
        => "PAGE LENGTH 003Ch; 000Ch of a unit that claims no more than SPC-3 and is fully provisioned", limits_length;
    "vpd.limits.compare-and-write", "SBC-3 §6.6.3", Must, Reads,
        "COMPARE AND WRITE of no blocks, and page B0h"
        => "MAXIMUM COMPARE AND WRITE LENGTH is zero exactly where the command is not supported", compare_and_write;
    "vpd.limits.unmap", "SBC-3 §6.6.3", Must, Reads,
        "INQUIRY for page B0h, where page B2h says that UNMAP is supported"
        => "at least one block and one descriptor", unmap_limits;
    "vpd.characteristics", "SBC-3 §6.6.2", Must, Reads,
        "INQUIRY for page B1h, if it is listed"
        => "PAGE LENGTH 003Ch, and a MEDIUM ROTATION RATE that is not reserved", characteristics;
    "vpd.provisioning.claimed", "SBC-3 §6.6.4", Must, Reads,
        "INQUIRY for page B2h, and READ CAPACITY (16)"
        => "LBPME is one where a way to give blocks back is told", claimed;
    "vpd.provisioning.told", "SBC-3 §4.7.3", Must, Reads,
        "READ CAPACITY (16), and page B2h if LBPME is one"
        => "page B2h with at least one of LBPU, LBPWS and LBPWS10", told;
    "vpd.provisioning.zeros", "SBC-3 §6.6.4", Must, Reads,
        "READ CAPACITY (16), and page B2h if LBPME is one"
        => "LBPRZ says the same in both", zeros;
    "vpd.provisioning.unmap", "SBC-3 §6.6.4", Must, Reads,
        "UNMAP with an empty parameter list, and page B2h"
        => "LBPU is one exactly where UNMAP is supported", unmap;
}

async fn limits_length(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = wanted(&mut session, LIMITS).await?;
    let standard = inquiry::standard_data(&mut session).await?;
    let version = Fields::of("standard INQUIRY data", &standard).byte(2)?;
    let old = version <= SPC_3 && !is_provisioned(&mut session).await?;
    length_is(LIMITS, &data, if old { &[0x0c, 0x3c] } else { &[0x3c] })
}

async fn compare_and_write(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let page = wanted(&mut session, LIMITS).await?;
    let limit = Fields::of("VPD page B0h", &page).byte(5)?;
    // No blocks are compared and none is written: this only asks whether the operation code is known.
    let reply = session.run(&Task::bare(&[0x89])).await?;
    let known = !reply.is_unknown_opcode();
    ensure!(
        known == (limit != 0),
        "MAXIMUM COMPARE AND WRITE LENGTH is {limit}, and COMPARE AND WRITE ends with {}",
        reply.outcome()
    );
    Ok(())
}

async fn unmap_limits(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let provisioning = wanted(&mut session, PROVISIONING).await?;
    if Fields::of("VPD page B2h", &provisioning).byte(5)? & LBPU == 0 {
        skip!("LBPU is zero: UNMAP is not supported");
    }
    let page = wanted(&mut session, LIMITS).await?;
    let fields = Fields::of("VPD page B0h", &page);
    let (blocks, descriptors) = (fields.four(20)?, fields.four(24)?);
    ensure!(
        blocks > 0 && descriptors > 0,
        "MAXIMUM UNMAP LBA COUNT is {blocks} and MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT {descriptors}, while UNMAP is supported"
    );
    Ok(())
}

async fn characteristics(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = wanted(&mut session, CHARACTERISTICS).await?;
    length_is(CHARACTERISTICS, &data, &[0x3c])?;
    let rate = Fields::of("VPD page B1h", &data).two(4)?;
    ensure!(
        matches!(rate, 0 | 1 | 0x0401..=0xfffe),
        "MEDIUM ROTATION RATE is {rate:04x}h, which is reserved"
    );
    Ok(())
}

async fn claimed(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let page = wanted(&mut session, PROVISIONING).await?;
    let ways = Fields::of("VPD page B2h", &page).byte(5)? & WAYS;
    let provisioned = is_provisioned(&mut session).await?;
    ensure!(
        ways == 0 || provisioned,
        "byte 5 of page B2h is {ways:#04x}, and LBPME of READ CAPACITY (16) is zero"
    );
    Ok(())
}

async fn told(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    if !is_provisioned(&mut session).await? {
        skip!("LBPME is zero: the unit is fully provisioned");
    }
    let list = listed(&mut session).await?;
    ensure!(
        list.contains(&PROVISIONING),
        "LBPME is one, and page B2h is not among {}",
        words::codes(&list)
    );
    let page = wanted(&mut session, PROVISIONING).await?;
    let ways = Fields::of("VPD page B2h", &page).byte(5)? & WAYS;
    ensure!(
        ways != 0,
        "LBPME is one, and LBPU, LBPWS and LBPWS10 of page B2h are all zero"
    );
    Ok(())
}

async fn zeros(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    if !is_provisioned(&mut session).await? {
        skip!("LBPME is zero: the unit is fully provisioned");
    }
    let page = wanted(&mut session, PROVISIONING).await?;
    let capacity = capacity::sixteen(&mut session).await?;
    // Three bits since SBC-4; its 010b, a pattern of the vendor, is no zeros.
    let by_page = Fields::of("VPD page B2h", &page).byte(5)? & 0x04 != 0;
    let by_capacity = Fields::of("READ CAPACITY (16) data", &capacity).byte(14)? & 0x40 != 0;
    ensure!(
        by_page == by_capacity,
        "LBPRZ is {} in READ CAPACITY (16), and {} in page B2h",
        u8::from(by_capacity),
        u8::from(by_page)
    );
    Ok(())
}

async fn unmap(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let page = wanted(&mut session, PROVISIONING).await?;
    let claimed = Fields::of("VPD page B2h", &page).byte(5)? & LBPU != 0;
    // An empty parameter list is no error, and names no block.
    let reply = session.run(&Task::bare(&[0x42])).await?;
    ensure!(
        claimed != reply.is_unknown_opcode(),
        "LBPU is {}, and UNMAP ends with {}",
        u8::from(claimed),
        reply.outcome()
    );
    Ok(())
}

/// LBPME of READ CAPACITY (16).
async fn is_provisioned(session: &mut Session) -> Result<bool, Finding> {
    let data = capacity::sixteen(session).await?;
    Ok(Fields::of("READ CAPACITY (16) data", &data).byte(14)? & 0x80 != 0)
}

const LIMITS: u8 = 0xb0;
const CHARACTERISTICS: u8 = 0xb1;
const PROVISIONING: u8 = 0xb2;
/// UNMAP, in byte 5 of page B2h.
const LBPU: u8 = 0x80;
/// UNMAP, WRITE SAME (16) and WRITE SAME (10) with the UNMAP bit.
const WAYS: u8 = 0xe0;
/// VERSION of the standard INQUIRY data.
const SPC_3: u8 = 0x05;
