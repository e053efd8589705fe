//! WRITE in its forms (SBC-3 §5.33 to §5.35).

use bytes::Bytes;

use crate::bench::Bench;
use crate::check::{Verdict, checks, ensure, skip};
use crate::checks::blocks::{
    Disk, READ_6, READ_10, READ_12, READ_16, SCRATCH, WRITE_6, WRITE_10, WRITE_12, WRITE_16,
    can_name, cdb, name,
};
use crate::session::{Reply, Task};

checks! {
    "write.six", "SBC-2 §5.24", Must, Writes,
        "WRITE (6), and a READ of the blocks" => "the same bytes", six;
    "write.six.zero-is-256", "SBC-2 §5.24", Must, Writes,
        "WRITE (6) with a TRANSFER LENGTH of zero, with data for 256 blocks"
        => "256 blocks are written", six_zero;
    "write.ten", "SBC-3 §5.33", Must, Writes,
        "WRITE (10), and a READ of the blocks" => "the same bytes", ten;
    "write.twelve", "SBC-3 §5.34", Must, Writes,
        "WRITE (12), and a READ of the blocks" => "the same bytes", twelve;
    "write.sixteen", "SBC-3 §5.35", Must, Writes,
        "WRITE (16), and a READ of the blocks" => "the same bytes", sixteen;
    "write.read-in-all-forms", "SBC-3 §5.11", Must, Writes,
        "WRITE (10), and READs of the blocks in all forms" => "the same bytes", read_in_all_forms;
    "write.neighbours", "SBC-3 §5.33", Must, Writes,
        "WRITE (10) amid blocks whose content is known" => "the blocks around keep it", neighbours;
    "write.overlapping", "SBC-3 §5.33", Must, Writes,
        "two WRITEs of overlapping blocks, one after the other"
        => "the second holds where they overlap, the first where they do not", overlapping;
    "write.zero-blocks", "SBC-3 §5.33", Must, Writes,
        "WRITE (10), (12) and (16) of no blocks" => "GOOD, and nothing is written", zero_blocks;
    "write.beyond-end", "SBC-3 §4.5", Must, Writes,
        "WRITE (10), (12) and (16) of the block behind the last"
        => "CHECK CONDITION 5/21/00", beyond;
    "write.partly-beyond-end", "SBC-3 §4.5", Must, Writes,
        "WRITE of the last block and one more" => "CHECK CONDITION 5/21/00", partly_beyond;
    "write.last-block", "SBC-3 §5.33", Must, Writes,
        "WRITE of the last block" => "it holds the data", last;
    "write.wraparound", "SBC-3 §4.5", Must, Writes,
        "WRITE (16) of two blocks at the greatest address there is"
        => "CHECK CONDITION 5/21/00: the address does not wrap", wraparound;
    "write.sixteen.address", "SBC-3 §5.35", Must, Writes,
        "WRITE (16) with bit 32 of the address, on a unit that ends before it"
        => "CHECK CONDITION 5/21/00, and the block of the low 32 bits keeps its content", high_address;
    "write.fua-and-dpo", "SBC-3 §5.33", Must, Writes,
        "WRITE with FUA, DPO and both, where MODE SENSE has DPOFUA"
        => "GOOD, and the data is there", fua;
    "write.protect", "SBC-3 §5.33", Should, Writes,
        "WRITE (10) with WRPROTECT on a unit without protection information"
        => "CHECK CONDITION 5/24/00, and nothing is written", protect;
    "write.long", "SBC-3 §5.33", Must, Writes,
        "WRITE of up to 1 MiB" => "every byte is where it belongs", long;
    "write.maximum", "SBC-3 §6.5.3", Must, Writes,
        "WRITE (16) of one block more than MAXIMUM TRANSFER LENGTH"
        => "CHECK CONDITION 5/24/00", maximum;
    "write.seen-by-others", "SBC-3 §4.15", Must, Writes,
        "WRITE by one session, READ by another" => "the data that was written", seen_by_others;
    "write.outlives-session", "SBC-3 §4.15", Must, Writes,
        "WRITE, a logout, and a READ in a new session" => "the data that was written", outlives;
}

async fn six(bench: &Bench) -> Verdict {
    stored(bench, WRITE_6).await
}

async fn ten(bench: &Bench) -> Verdict {
    stored(bench, WRITE_10).await
}

async fn twelve(bench: &Bench) -> Verdict {
    stored(bench, WRITE_12).await
}

async fn sixteen(bench: &Bench) -> Verdict {
    stored(bench, WRITE_16).await
}

async fn stored(bench: &Bench, opcode: u8) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    disk.write(SCRATCH, &disk.pattern(1, FEW)).await?;
    let new = disk.pattern(2, FEW);
    put(&mut disk, opcode, 0, SCRATCH, &new).await?;
    disk.holds(SCRATCH, &new, &format!("after {}", name(opcode)))
        .await
}

async fn six_zero(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    disk.write(SCRATCH + 255, &disk.pattern(1, 2)).await?;
    let new = disk.pattern(2, 256);
    let task = Task::write(&cdb(WRITE_6, 0, SCRATCH, 0), new.clone());
    let reply = disk.session.run(&task).await?;
    if reply.is_unknown_opcode() {
        skip!("WRITE (6) is not supported");
    }
    reply.good("WRITE (6) with length 0")?;
    disk.holds(SCRATCH, &new, "after WRITE (6) with length 0")
        .await
}

async fn read_in_all_forms(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let new = disk.pattern(1, FEW);
    disk.write(SCRATCH, &new).await?;
    for opcode in [READ_6, READ_10, READ_12, READ_16] {
        let reply = disk.get(opcode, 0, SCRATCH, FEW).await?;
        if !reply.is_unknown_opcode() {
            let found = reply.good(name(opcode))?.data;
            ensure!(
                found == new,
                "{} does not bring what WRITE (10) wrote",
                name(opcode)
            );
        }
    }
    Ok(())
}

async fn neighbours(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let old = disk.pattern(1, FEW + 2);
    disk.write(SCRATCH, &old).await?;
    let new = disk.pattern(2, FEW);
    put(&mut disk, WRITE_10, 0, SCRATCH + 1, &new).await?;
    let (block, end) = (disk.block(), old.len());
    let before = old.slice(..block);
    let behind = old.slice(end - block..);
    disk.holds(SCRATCH, &before, "the block before those that were written")
        .await?;
    let last = SCRATCH + 1 + u64::from(FEW);
    disk.holds(last, &behind, "the block behind those that were written")
        .await
}

async fn overlapping(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (first, second) = (disk.pattern(1, FEW), disk.pattern(2, FEW));
    let half = SCRATCH + u64::from(FEW / 2);
    disk.write(SCRATCH, &first).await?;
    disk.write(half, &second).await?;
    let rest = first.slice(..first.len() / 2);
    disk.holds(SCRATCH, &rest, "where only the first WRITE was")
        .await?;
    disk.holds(half, &second, "where the second WRITE was")
        .await
}

async fn zero_blocks(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let old = disk.pattern(1, 1);
    disk.write(SCRATCH, &old).await?;
    for opcode in [WRITE_10, WRITE_12, WRITE_16] {
        let task = Task::bare(&cdb(opcode, 0, SCRATCH, 0));
        let reply = disk.session.run(&task).await?;
        if !reply.is_unknown_opcode() {
            reply.good(&format!("{} of no blocks", name(opcode)))?;
        }
    }
    disk.holds(SCRATCH, &old, "after WRITEs of no blocks").await
}

async fn beyond(bench: &Bench) -> Verdict {
    let mut disk = writable(bench).await?;
    let (end, data) = (disk.blocks, disk.pattern(1, 1));
    for opcode in [WRITE_10, WRITE_12, WRITE_16] {
        if can_name(opcode, end, 1) {
            let reply = disk.put(opcode, 0, end, &data).await?;
            out_of_range(opcode, &reply)?;
        }
    }
    Ok(())
}

/// Whether the last block is written all the same is left open (SBC-3 §4.5).
async fn partly_beyond(bench: &Bench) -> Verdict {
    let mut disk = writable(bench).await?;
    let (last, data) = (disk.blocks - 1, disk.pattern(1, 2));
    for opcode in [WRITE_10, WRITE_12, WRITE_16] {
        if can_name(opcode, last, 2) {
            let reply = disk.put(opcode, 0, last, &data).await?;
            out_of_range(opcode, &reply)?;
        }
    }
    Ok(())
}

async fn last(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (last, new) = (disk.blocks - 1, disk.pattern(1, 1));
    disk.write(last, &new).await?;
    disk.holds(last, &new, "after a WRITE of it").await
}

async fn wraparound(bench: &Bench) -> Verdict {
    let mut disk = writable(bench).await?;
    // Should the address wrap, block 0 gets what it holds already.
    let mut data = disk.pattern(1, 1).to_vec();
    data.extend_from_slice(&disk.read(0, 1).await?);
    let reply = disk.put(WRITE_16, 0, u64::MAX, &data.into()).await?;
    out_of_range(WRITE_16, &reply)
}

async fn high_address(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let far = SCRATCH + (1 << 32);
    if disk.blocks > far {
        skip!("the unit has so many blocks");
    }
    let old = disk.pattern(1, 1);
    disk.write(SCRATCH, &old).await?;
    let reply = disk.put(WRITE_16, 0, far, &disk.pattern(2, 1)).await?;
    if reply.is_unknown_opcode() {
        skip!("WRITE (16) is not supported");
    }
    disk.holds(SCRATCH, &old, "after a WRITE 2^32 blocks behind it")
        .await?;
    out_of_range(WRITE_16, &reply)
}

async fn fua(bench: &Bench) -> Verdict {
    let mut disk = writable(bench).await?;
    if !disk.takes_fua().await? {
        skip!("MODE SENSE has DPOFUA=0");
    }
    for (seed, flags) in [(1, FUA), (2, DPO), (3, FUA | DPO)] {
        let new = disk.pattern(seed, FEW);
        put(&mut disk, WRITE_10, flags, SCRATCH, &new).await?;
        disk.holds(
            SCRATCH,
            &new,
            &format!("after a WRITE with byte 1 = {flags:#04x}"),
        )
        .await?;
    }
    Ok(())
}

async fn protect(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if disk.has_protection().await? {
        skip!("the unit supports protection information");
    }
    let old = disk.pattern(1, 1);
    disk.write(SCRATCH, &old).await?;
    for code in 1..=5 {
        let new = disk.pattern(2, 1);
        let reply = disk.put(WRITE_10, code << 5, SCRATCH, &new).await?;
        reply.fails_with(&format!("WRITE (10) with WRPROTECT {code}"), 5, 0x24, 0)?;
    }
    disk.holds(SCRATCH, &old, "after WRITEs that were refused")
        .await
}

async fn long(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let most = disk.limits().await?.transfer_blocks;
    let mut blocks = (1 << 20) / disk.block_bytes;
    if most != 0 {
        blocks = blocks.min(most);
    }
    let data = disk.pattern(1, blocks);
    disk.write(SCRATCH, &data).await?;
    disk.holds(SCRATCH, &data, &format!("after a WRITE of {blocks} blocks"))
        .await
}

async fn maximum(bench: &Bench) -> Verdict {
    let mut disk = writable(bench).await?;
    let most = disk.limits().await?.transfer_blocks;
    if most == 0 {
        skip!("MAXIMUM TRANSFER LENGTH is 0: no limit is reported");
    }
    let Some(more) = most.checked_add(1) else {
        skip!("MAXIMUM TRANSFER LENGTH is no limit");
    };
    if SCRATCH + u64::from(more) > disk.blocks {
        skip!("the unit has hardly more blocks than MAXIMUM TRANSFER LENGTH, {most}");
    }
    // One block of data is enough: it is not to be asked for.
    let task = Task::write(&cdb(WRITE_16, 0, SCRATCH, more), disk.pattern(1, 1));
    let reply = disk.session.run(&task).await?;
    reply.fails_with(&format!("WRITE (16) of {more} blocks"), 5, 0x24, 0)
}

async fn seen_by_others(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let mut other = Disk::open(bench).await?;
    for seed in 1..=3 {
        let new = disk.pattern(seed, FEW);
        disk.write(SCRATCH, &new).await?;
        other
            .holds(SCRATCH, &new, "after a WRITE in another session")
            .await?;
    }
    Ok(())
}

async fn outlives(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let new = disk.pattern(1, FEW);
    disk.write(SCRATCH, &new).await?;
    let logout = disk.session.logout(0);
    disk.session
        .send(iscsi_proto::wire::Pdu::bare(logout))
        .await;
    disk.session.receive().await?;
    let mut later = Disk::open(bench).await?;
    later
        .holds(SCRATCH, &new, "after a WRITE in a session that has ended")
        .await
}

/// A unit that can be written to: else what it refuses, it refuses for that.
async fn writable(bench: &Bench) -> Result<Disk, crate::check::Finding> {
    let mut disk = Disk::open(bench).await?;
    disk.write(SCRATCH, &disk.pattern(9, 1)).await?;
    Ok(disk)
}

/// A WRITE of some form that has to succeed, if the form is supported.
async fn put(disk: &mut Disk, opcode: u8, flags: u8, lba: u64, data: &Bytes) -> Verdict {
    let reply = disk.put(opcode, flags, lba, data).await?;
    if reply.is_unknown_opcode() {
        skip!("{} is not supported", name(opcode));
    }
    reply.good(name(opcode))?;
    Ok(())
}

/// LBA OUT OF RANGE, unless the form is not supported at all.
fn out_of_range(opcode: u8, reply: &Reply) -> Verdict {
    if reply.is_unknown_opcode() {
        return Ok(());
    }
    reply.fails_with(name(opcode), 5, 0x21, 0)
}

const FUA: u8 = 0x08;
const DPO: u8 = 0x10;
const FEW: u32 = 8;
