//! VERIFY, WRITE AND VERIFY, SYNCHRONIZE CACHE and PRE-FETCH (SBC-3 §5.8, §5.26 to §5.31, §5.37 to §5.39).

use bytes::Bytes;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::checks::blocks::{Disk, SCRATCH, can_name, cdb};
use crate::session::{Reply, Task};

checks! {
    "verify.readable", "SBC-3 §5.29", Must, Reads,
        "VERIFY (10), (12) and (16) with BYTCHK 00b" => "GOOD, and no data is asked for", readable;
    "verify.equal", "SBC-3 §5.29", Must, Writes,
        "VERIFY (10), (12) and (16) with BYTCHK 01b and the data that the blocks hold" => "GOOD", equal;
    "verify.miscompare", "SBC-3 §5.29", Must, Writes,
        "VERIFY with BYTCHK 01b and data that differs in its last byte"
        => "CHECK CONDITION E/1D/00", miscompare;
    "verify.writes-nothing", "SBC-3 §5.29", Must, Writes,
        "VERIFY with BYTCHK 01b and other data" => "the blocks keep their content", writes_nothing;
    "verify.one-block", "SBC-3 §5.29", Must, Writes,
        "VERIFY with BYTCHK 11b and one block of data, of blocks that all hold it and of others"
        => "GOOD, then CHECK CONDITION E/1D/00", one_block;
    "verify.zero-blocks", "SBC-3 §5.29", Must, Reads,
        "VERIFY (10) and (16) of no blocks" => "GOOD", zero_blocks;
    "verify.beyond-end", "SBC-3 §4.5", Must, Reads,
        "VERIFY (10), (12) and (16) of the last block and one more"
        => "CHECK CONDITION 5/21/00", beyond;
    "verify.protect", "SBC-3 §5.29", Should, Reads,
        "VERIFY (10) with VRPROTECT on a unit without protection information"
        => "CHECK CONDITION 5/24/00", protect;
    "write-and-verify.stored", "SBC-3 §5.37", Must, Writes,
        "WRITE AND VERIFY (10), (12) and (16) with BYTCHK 00b and 01b"
        => "GOOD, and the data is there", stored;
    "write-and-verify.beyond-end", "SBC-3 §4.5", Must, Writes,
        "WRITE AND VERIFY (10) of the last block and one more"
        => "CHECK CONDITION 5/21/00", stored_beyond;
    "synchronize-cache.whole", "SBC-3 §5.26", Must, Reads,
        "SYNCHRONIZE CACHE (10) and (16) of no blocks, from the first and from the last one"
        => "GOOD: up to the end of the medium", whole;
    "synchronize-cache.written", "SBC-3 §5.26", Must, Writes,
        "SYNCHRONIZE CACHE of blocks that were written" => "GOOD, and they hold the data", written;
    "synchronize-cache.immediate", "SBC-3 §5.26", Must, Reads,
        "SYNCHRONIZE CACHE (10) and (16) with IMMED"
        => "GOOD, or CHECK CONDITION 5/24/00", immediate;
    "synchronize-cache.beyond-end", "SBC-3 §4.5", Should, Reads,
        "SYNCHRONIZE CACHE (10) of the last block and one more"
        => "CHECK CONDITION 5/21/00", whole_beyond;
    "pre-fetch.status", "SBC-3 §5.8", Must, Reads,
        "PRE-FETCH (10) and (16), with IMMED and without"
        => "CONDITION MET if all blocks fit into the cache, else GOOD", pre_fetch;
    "pre-fetch.beyond-end", "SBC-3 §4.5", Must, Reads,
        "PRE-FETCH (10) and (16) of the last block and one more"
        => "CHECK CONDITION 5/21/00", pre_fetch_beyond;
}

async fn readable(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    each(&mut disk, &VERIFY, SCRATCH, FEW, |what, reply| {
        reply.good(what).map(drop)
    })
    .await
}

async fn equal(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let data = disk.pattern(1, FEW);
    disk.write(SCRATCH, &data).await?;
    let mut known = false;
    for (opcode, name) in VERIFY {
        let reply = disk.put(opcode, COMPARE, SCRATCH, &data).await?;
        if !reply.is_unknown_opcode() {
            known = true;
            comparing(reply)?.good(&format!("{name} of what the blocks hold"))?;
        }
    }
    supported(known, "VERIFY")
}

async fn miscompare(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let data = disk.pattern(1, FEW);
    disk.write(SCRATCH, &data).await?;
    let other = changed(&data, data.len() - 1);
    let mut known = false;
    for (opcode, name) in VERIFY {
        let reply = disk.put(opcode, COMPARE, SCRATCH, &other).await?;
        if !reply.is_unknown_opcode() {
            known = true;
            let what = format!("{name} of what the blocks do not hold");
            comparing(reply)?.fails_with(&what, 0xe, 0x1d, 0)?;
        }
    }
    supported(known, "VERIFY")
}

async fn writes_nothing(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (data, other) = (disk.pattern(1, FEW), disk.pattern(2, FEW));
    disk.write(SCRATCH, &data).await?;
    let reply = disk.put(VERIFY_10, COMPARE, SCRATCH, &other).await?;
    supported(!reply.is_unknown_opcode(), "VERIFY (10)")?;
    comparing(reply)?;
    disk.holds(SCRATCH, &data, "after VERIFY with other data")
        .await
}

async fn one_block(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if !disk.claims_sbc_3().await? {
        skip!(
            "the unit claims neither SBC-3 nor SBC-4: before them the second bit of BYTCHK was reserved"
        );
    }
    let block = disk.pattern(1, 1);
    let all = Bytes::from(block.repeat(4));
    disk.write(SCRATCH, &all).await?;
    let task = Task::write(&cdb(VERIFY_10, COMPARE_ONE, SCRATCH, 4), block.clone());
    let reply = disk.session.run(&task).await?;
    supported(!reply.is_unknown_opcode(), "VERIFY (10)")?;
    comparing(reply)?.good("VERIFY of blocks that are all equal to the one")?;
    disk.write(SCRATCH, &changed(&all, all.len() - 1)).await?;
    let reply = disk.session.run(&task).await?;
    reply.fails_with("VERIFY with a fourth block that differs", 0xe, 0x1d, 0)
}

async fn zero_blocks(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    each(&mut disk, &VERIFY, SCRATCH, 0, |what, reply| {
        reply.good(&format!("{what} of no blocks")).map(drop)
    })
    .await
}

async fn beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let last = disk.blocks - 1;
    each(&mut disk, &VERIFY, last, 2, out_of_range).await
}

async fn protect(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if disk.has_protection().await? {
        skip!("the unit supports protection information");
    }
    for code in 1..=5 {
        let task = Task::bare(&cdb(VERIFY_10, code << 5, SCRATCH, 1));
        let reply = disk.session.run(&task).await?;
        supported(!reply.is_unknown_opcode(), "VERIFY (10)")?;
        reply.fails_with(&format!("VERIFY (10) with VRPROTECT {code}"), 5, 0x24, 0)?;
    }
    Ok(())
}

async fn stored(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    disk.write(SCRATCH, &disk.pattern(1, FEW)).await?;
    let mut known = false;
    for (seed, (opcode, name)) in (2..).zip(WRITE_AND_VERIFY) {
        for flags in [0, COMPARE] {
            let data = disk.pattern(seed << 8 | u64::from(flags), FEW);
            let reply = disk.put(opcode, flags, SCRATCH, &data).await?;
            if reply.is_unknown_opcode() {
                continue;
            }
            known = true;
            let reply = if flags == 0 { reply } else { comparing(reply)? };
            reply.good(&format!("{name} with byte 1 = {flags:#04x}"))?;
            disk.holds(SCRATCH, &data, &format!("after {name}")).await?;
        }
    }
    supported(known, "WRITE AND VERIFY")
}

async fn stored_beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let last = disk.blocks - 1;
    disk.write(last, &disk.pattern(1, 1)).await?;
    let (opcode, name) = if can_name(WRITE_AND_VERIFY_10, last, 2) {
        (WRITE_AND_VERIFY_10, "WRITE AND VERIFY (10)")
    } else {
        (WRITE_AND_VERIFY_16, "WRITE AND VERIFY (16)")
    };
    let reply = disk.put(opcode, 0, last, &disk.pattern(2, 2)).await?;
    supported(!reply.is_unknown_opcode(), name)?;
    out_of_range(name, reply)
}

async fn whole(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let last = disk.blocks - 1;
    for lba in [0, last] {
        each(&mut disk, &SYNCHRONIZE, lba, 0, |what, reply| {
            reply.good(&format!("{what} from block {lba}")).map(drop)
        })
        .await?;
    }
    Ok(())
}

async fn written(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let data = disk.pattern(1, FEW);
    disk.write(SCRATCH, &data).await?;
    each(&mut disk, &SYNCHRONIZE, SCRATCH, FEW, |what, reply| {
        reply.good(what).map(drop)
    })
    .await?;
    disk.holds(SCRATCH, &data, "after SYNCHRONIZE CACHE").await
}

async fn immediate(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    for (opcode, name) in SYNCHRONIZE {
        let task = Task::bare(&cdb(opcode, IMMED, 0, 0));
        let reply = disk.session.run(&task).await?;
        if reply.status != 0 && !reply.is_unknown_opcode() {
            // Whoever does not support IMMED says so.
            reply.fails_with(&format!("{name} with IMMED"), 5, 0x24, 0)?;
        }
    }
    Ok(())
}

async fn whole_beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let last = disk.blocks - 1;
    each(&mut disk, &SYNCHRONIZE, last, 2, out_of_range).await
}

async fn pre_fetch(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let mut known = false;
    for (opcode, name) in PRE_FETCH {
        for flags in [0, IMMED] {
            let task = Task::bare(&cdb(opcode, flags, SCRATCH, FEW));
            let reply = disk.session.run(&task).await?;
            if !reply.is_unknown_opcode() {
                known = true;
                ensure!(
                    matches!(reply.status, 0 | CONDITION_MET),
                    "{name} with byte 1 = {flags:#04x}: {} instead of GOOD or CONDITION MET",
                    reply.outcome()
                );
            }
        }
    }
    supported(known, "PRE-FETCH")
}

async fn pre_fetch_beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let last = disk.blocks - 1;
    each(&mut disk, &PRE_FETCH, last, 2, out_of_range).await
}

/// Judges the answers to a command without data in the forms that are supported; if there is none, it is skipped.
async fn each(
    disk: &mut Disk,
    forms: &[(u8, &'static str)],
    lba: u64,
    blocks: u32,
    judge: impl Fn(&str, Reply) -> Verdict,
) -> Verdict {
    let mut known = false;
    for (opcode, name) in forms {
        if !can_name(*opcode, lba, blocks) {
            continue;
        }
        let task = Task::bare(&cdb(*opcode, 0, lba, blocks));
        let reply = disk.session.run(&task).await?;
        if !reply.is_unknown_opcode() {
            known = true;
            judge(name, reply)?;
        }
    }
    supported(known, forms.first().map_or("", |(_, name)| name))
}

fn supported(known: bool, what: &str) -> Verdict {
    if !known {
        skip!("{what} is not supported");
    }
    Ok(())
}

/// BYTCHK is not supported by everybody.
fn comparing(reply: Reply) -> Result<Reply, Finding> {
    if reply.codes() == (5, 0x24, 0) {
        skip!("this BYTCHK is not supported");
    }
    Ok(reply)
}

fn out_of_range(what: &str, reply: Reply) -> Verdict {
    reply.fails_with(what, 5, 0x21, 0)
}

/// The same bytes but for one.
fn changed(data: &Bytes, at: usize) -> Bytes {
    let mut data = data.to_vec();
    if let Some(byte) = data.get_mut(at) {
        *byte = !*byte;
    }
    data.into()
}

const VERIFY_10: u8 = 0x2f;
const VERIFY: [(u8, &str); 3] = [
    (VERIFY_10, "VERIFY (10)"),
    (0xaf, "VERIFY (12)"),
    (0x8f, "VERIFY (16)"),
];
const WRITE_AND_VERIFY_10: u8 = 0x2e;
const WRITE_AND_VERIFY_16: u8 = 0x8e;
const WRITE_AND_VERIFY: [(u8, &str); 3] = [
    (WRITE_AND_VERIFY_10, "WRITE AND VERIFY (10)"),
    (0xae, "WRITE AND VERIFY (12)"),
    (WRITE_AND_VERIFY_16, "WRITE AND VERIFY (16)"),
];
const SYNCHRONIZE: [(u8, &str); 2] = [
    (0x35, "SYNCHRONIZE CACHE (10)"),
    (0x91, "SYNCHRONIZE CACHE (16)"),
];
const PRE_FETCH: [(u8, &str); 2] = [(0x34, "PRE-FETCH (10)"), (0x90, "PRE-FETCH (16)")];
/// BYTCHK 01b.
const COMPARE: u8 = 0x02;
/// BYTCHK 11b.
const COMPARE_ONE: u8 = 0x06;
const IMMED: u8 = 0x02;
const CONDITION_MET: u8 = 0x04;
const FEW: u32 = 8;
