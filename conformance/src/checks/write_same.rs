//! WRITE SAME: one block again and again (SBC-3 §5.43, §5.44).

use bytes::Bytes;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::checks::blocks::{Disk, SCRATCH, cdb};
use crate::session::{Reply, Task};

checks! {
    "write-same.ten", "SBC-3 §5.43", Must, Writes,
        "WRITE SAME (10) amid blocks whose content is known"
        => "each block holds the one that was sent, and the blocks around keep their content", ten;
    "write-same.sixteen", "SBC-3 §5.44", Must, Writes,
        "WRITE SAME (16) amid blocks whose content is known"
        => "each block holds the one that was sent, and the blocks around keep their content", sixteen;
    "write-same.no-blocks", "SBC-3 §6.5.3", Must, Writes,
        "WRITE SAME (10) and (16) of no blocks, where WSNZ is 1"
        => "CHECK CONDITION 5/24/00", no_blocks;
    "write-same.maximum", "SBC-3 §6.5.3", Must, Writes,
        "WRITE SAME (16) of one block more than MAXIMUM WRITE SAME LENGTH"
        => "CHECK CONDITION 5/24/00", maximum;
    "write-same.beyond-end", "SBC-3 §4.5", Must, Writes,
        "WRITE SAME (10) and (16) of the last block and one more"
        => "CHECK CONDITION 5/21/00", beyond;
    "write-same.unmap.zeros", "SBC-3 §5.44", Must, Writes,
        "WRITE SAME with UNMAP and a block of zeros, where LBPRZ is 1"
        => "the blocks read as zeros, unmapped or not", unmap_zeros;
    "write-same.unmap.data", "SBC-3 §5.44", Must, Writes,
        "WRITE SAME with UNMAP and a block that is not zero, where LBPRZ is 1"
        => "the blocks hold the data: they would not if they were unmapped", unmap_data;
    "write-same.no-data-out", "SBC-3 §5.44", Must, Writes,
        "WRITE SAME (16) with NDOB" => "the blocks read as zeros", no_data_out;
    "write-same.anchor", "SBC-3 §5.44", Must, Writes,
        "WRITE SAME (16) with ANCHOR and without UNMAP" => "CHECK CONDITION 5/24/00", anchor;
    "write-same.protect", "SBC-3 §5.43", Should, Writes,
        "WRITE SAME (10) with WRPROTECT on a unit without protection information"
        => "CHECK CONDITION 5/24/00", protect;
}

async fn ten(bench: &Bench) -> Verdict {
    replicated(bench, TEN).await
}

async fn sixteen(bench: &Bench) -> Verdict {
    replicated(bench, SIXTEEN).await
}

async fn replicated(bench: &Bench, opcode: u8) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let old = disk.pattern(1, COUNT + 2);
    disk.write(SCRATCH, &old).await?;
    let block = disk.pattern(2, 1);
    same(&mut disk, opcode, 0, SCRATCH + 1, COUNT, &block)
        .await?
        .good(name(opcode))?;
    let size = disk.block();
    let count = usize::try_from(COUNT).unwrap_or(0);
    let expected = [&old[..size], &block.repeat(count), &old[old.len() - size..]].concat();
    let why = format!("in and around {} of {COUNT} blocks", name(opcode));
    disk.holds(SCRATCH, &expected.into(), &why).await
}

async fn no_blocks(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if !disk.limits().await?.no_empty_write_same {
        skip!("WSNZ is 0: no blocks mean all up to the end");
    }
    let block = disk.pattern(1, 1);
    disk.write(SCRATCH, &block).await?;
    for opcode in [TEN, SIXTEEN] {
        let reply = send(&mut disk, opcode, 0, SCRATCH, 0, &block).await?;
        if !reply.is_unknown_opcode() {
            reply.fails_with(&format!("{} of no blocks", name(opcode)), 5, 0x24, 0)?;
        }
    }
    Ok(())
}

async fn maximum(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let most = disk.limits().await?.write_same_blocks;
    let more = u32::try_from(most.saturating_add(1)).unwrap_or(u32::MAX);
    if most == 0 {
        skip!("MAXIMUM WRITE SAME LENGTH is 0: no limit is reported");
    }
    if u64::from(more) <= most || SCRATCH + u64::from(more) > disk.blocks {
        skip!("MAXIMUM WRITE SAME LENGTH is {most}: more blocks cannot be named");
    }
    let block = disk.pattern(1, 1);
    disk.write(SCRATCH, &block).await?;
    same(&mut disk, SIXTEEN, 0, SCRATCH, more, &block)
        .await?
        .fails_with(&format!("WRITE SAME (16) of {more} blocks"), 5, 0x24, 0)
}

async fn beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (last, block) = (disk.blocks - 1, disk.pattern(1, 1));
    disk.write(SCRATCH, &block).await?;
    for opcode in [TEN, SIXTEEN] {
        if crate::checks::blocks::can_name(opcode, last, 2) {
            let reply = send(&mut disk, opcode, 0, last, 2, &block).await?;
            if !reply.is_unknown_opcode() {
                reply.fails_with(name(opcode), 5, 0x21, 0)?;
            }
        }
    }
    Ok(())
}

async fn unmap_zeros(bench: &Bench) -> Verdict {
    let (mut disk, opcode) = unmapping(bench).await?;
    disk.write(SCRATCH, &disk.pattern(1, COUNT)).await?;
    let zeros = Bytes::from(vec![0; disk.block()]);
    same(&mut disk, opcode, UNMAP, SCRATCH, COUNT, &zeros)
        .await?
        .good("WRITE SAME with UNMAP and zeros")?;
    reads_zeros(&mut disk, "WRITE SAME with UNMAP and zeros").await
}

async fn unmap_data(bench: &Bench) -> Verdict {
    let (mut disk, opcode) = unmapping(bench).await?;
    disk.write(SCRATCH, &disk.pattern(1, COUNT)).await?;
    let block = disk.pattern(2, 1);
    same(&mut disk, opcode, UNMAP, SCRATCH, COUNT, &block)
        .await?
        .good("WRITE SAME with UNMAP and data")?;
    let all = block.repeat(usize::try_from(COUNT).unwrap_or(0));
    disk.holds(SCRATCH, &all.into(), "after WRITE SAME with UNMAP and data")
        .await
}

async fn no_data_out(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if disk.provisioning().await?.reads_pattern {
        skip!("LBPRZ is 010b: with NDOB a pattern is written");
    }
    disk.write(SCRATCH, &disk.pattern(1, COUNT)).await?;
    let task = Task::bare(&cdb(SIXTEEN, NDOB, SCRATCH, COUNT));
    let reply = known(disk.session.run(&task).await?)?;
    // Before SBC-3 the bit was reserved: who does not know it may refuse it, or go by the data that does not come.
    const ILLEGAL_REQUEST: u8 = 5;
    if reply.codes().0 == ILLEGAL_REQUEST {
        skip!("WRITE SAME (16) with NDOB: {}", reply.outcome());
    }
    reply.good("WRITE SAME (16) with NDOB")?;
    reads_zeros(&mut disk, "WRITE SAME with NDOB").await
}

async fn anchor(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let block = disk.pattern(1, 1);
    disk.write(SCRATCH, &block).await?;
    same(&mut disk, SIXTEEN, ANCHOR, SCRATCH, COUNT, &block)
        .await?
        .fails_with("WRITE SAME with ANCHOR and without UNMAP", 5, 0x24, 0)
}

async fn protect(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if disk.has_protection().await? {
        skip!("the unit supports protection information");
    }
    let block = disk.pattern(1, 1);
    disk.write(SCRATCH, &block).await?;
    same(&mut disk, TEN, 0x20, SCRATCH, 1, &block)
        .await?
        .fails_with("WRITE SAME with WRPROTECT 1", 5, 0x24, 0)
}

/// A unit that unmaps by WRITE SAME where what is not mapped reads as zeros, and the form that does.
async fn unmapping(bench: &Bench) -> Result<(Disk, u8), Finding> {
    let mut disk = Disk::open(bench).await?;
    let provisioning = disk.provisioning().await?;
    if !provisioning.reads_zeros {
        skip!("LBPRZ is 0: what is not mapped may read as anything");
    }
    let opcode = match (provisioning.write_same_16, provisioning.write_same_10) {
        (true, _) => SIXTEEN,
        (false, true) => TEN,
        _ => skip!("LBPWS and LBPWS10 are 0: WRITE SAME does not unmap"),
    };
    Ok((disk, opcode))
}

async fn reads_zeros(disk: &mut Disk, what: &str) -> Verdict {
    let found = disk.read(SCRATCH, COUNT).await?;
    let spoilt = found.iter().position(|byte| *byte != 0);
    ensure!(
        spoilt.is_none(),
        "after {what}: byte {} of {} is not zero",
        spoilt.unwrap_or(0),
        found.len()
    );
    Ok(())
}

/// WRITE SAME, which is skipped where it is not supported.
async fn same(
    disk: &mut Disk,
    opcode: u8,
    flags: u8,
    lba: u64,
    blocks: u32,
    block: &Bytes,
) -> Result<Reply, Finding> {
    known(send(disk, opcode, flags, lba, blocks, block).await?)
}

async fn send(
    disk: &mut Disk,
    opcode: u8,
    flags: u8,
    lba: u64,
    blocks: u32,
    block: &Bytes,
) -> Result<Reply, Finding> {
    let task = Task::write(&cdb(opcode, flags, lba, blocks), block.clone());
    disk.session.run(&task).await
}

fn known(reply: Reply) -> Result<Reply, Finding> {
    if reply.is_unknown_opcode() {
        skip!("WRITE SAME is not supported");
    }
    Ok(reply)
}

fn name(opcode: u8) -> &'static str {
    if opcode == TEN {
        "WRITE SAME (10)"
    } else {
        "WRITE SAME (16)"
    }
}

const TEN: u8 = 0x41;
const SIXTEEN: u8 = 0x93;
const NDOB: u8 = 0x01;
const UNMAP: u8 = 0x08;
const ANCHOR: u8 = 0x10;
const COUNT: u32 = 64;
