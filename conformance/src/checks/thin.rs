//! Blocks that are given back: UNMAP and GET LBA STATUS (SBC-3 §5.28, §5.4).

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::checks::blocks::{Disk, Provisioning, SCRATCH, word};
use crate::session::{Reply, Task};

checks! {
    "unmap.zeros-or-data", "SBC-3 §5.28", Must, Writes,
        "UNMAP of blocks whose content is known, where LBPRZ is 1"
        => "each reads as zeros, or as before if it stays mapped", zeros_or_data;
    "unmap.deallocated-reads-zeros", "SBC-3 §5.16", Must, Writes,
        "UNMAP and GET LBA STATUS, where LBPRZ is 1"
        => "what is said to be deallocated reads as zeros", deallocated;
    "unmap.neighbours", "SBC-3 §5.28", Must, Writes,
        "UNMAP amid blocks whose content is known" => "the blocks around keep it", neighbours;
    "unmap.several-runs", "SBC-3 §5.28", Must, Writes,
        "UNMAP with three descriptors" => "what lies between them keeps its content", several;
    "unmap.written-again", "SBC-3 §5.28", Must, Writes,
        "UNMAP, then a WRITE of the same blocks"
        => "they hold the data, and are not said to be deallocated", written_again;
    "unmap.no-blocks", "SBC-3 §5.28", Must, Writes,
        "UNMAP with a descriptor of no blocks" => "GOOD, and the block keeps its content", no_blocks;
    "unmap.beyond-end", "SBC-3 §5.28", Must, Writes,
        "UNMAP of the block behind the last" => "CHECK CONDITION 5/21/00", beyond;
    "unmap.list.empty", "SBC-3 §5.28", Must, Writes,
        "UNMAP with a PARAMETER LIST LENGTH of zero, and with a list without descriptors"
        => "GOOD", list_empty;
    "unmap.list.short", "SBC-3 §5.28", Must, Writes,
        "UNMAP with a parameter list of four bytes" => "CHECK CONDITION 5/1A/00", list_short;
    "unmap.list.incomplete", "SBC-3 §5.28", Must, Writes,
        "UNMAP with one and a half descriptors"
        => "GOOD, and the incomplete one is ignored", list_incomplete;
    "unmap.anchor", "SBC-3 §5.28", Must, Writes,
        "UNMAP with ANCHOR, where ANC_SUP is 0" => "CHECK CONDITION 5/24/00", anchor;
    "unmap.descriptor-limit", "SBC-3 §6.5.3", Must, Writes,
        "UNMAP with one descriptor more than MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT"
        => "CHECK CONDITION 5/26/00", descriptor_limit;
    "unmap.block-limit", "SBC-3 §6.5.3", Must, Writes,
        "UNMAP of more blocks than MAXIMUM UNMAP LBA COUNT, all descriptors together"
        => "CHECK CONDITION 5/26/00", block_limit;
    "lba-status.written", "SBC-3 §5.4", Must, Writes,
        "GET LBA STATUS of blocks that were written" => "none is said to be deallocated", written;
    "lba-status.descriptors", "SBC-3 §5.4", Must, Reads,
        "GET LBA STATUS from the first block and from one amid the medium"
        => "descriptors that begin there, follow on each other and end within the medium", descriptors;
    "lba-status.allocation-length", "SPC-4 §4.2.5.6", Must, Reads,
        "GET LBA STATUS with room for no, half a and one descriptor"
        => "no more bytes than that, and the same ones", allocation;
    "lba-status.beyond-end", "SBC-3 §5.4", Must, Reads,
        "GET LBA STATUS from the block behind the last" => "CHECK CONDITION 5/21/00", status_beyond;
}

async fn zeros_or_data(bench: &Bench) -> Verdict {
    let (mut disk, _) = zeroing(bench).await?;
    let blocks = disk.run();
    let old = disk.pattern(1, blocks);
    disk.write(SCRATCH, &old).await?;
    give_back(&mut disk, &[(SCRATCH, blocks)]).await?;
    let found = disk.read(SCRATCH, blocks).await?;
    let both = found.chunks(disk.block()).zip(old.chunks(disk.block()));
    for (lba, (found, old)) in (SCRATCH..).zip(both) {
        ensure!(
            is_zero(found) || found == old,
            "after UNMAP block {lba} holds neither zeros nor what it held before"
        );
    }
    Ok(())
}

async fn deallocated(bench: &Bench) -> Verdict {
    let (mut disk, _) = zeroing(bench).await?;
    let blocks = disk.run();
    disk.write(SCRATCH, &disk.pattern(1, blocks)).await?;
    give_back(&mut disk, &[(SCRATCH, blocks)]).await?;
    let runs = status_of(&mut disk, SCRATCH).await?;
    let found = disk.read(SCRATCH, blocks).await?;
    for (lba, block) in (SCRATCH..).zip(found.chunks(disk.block())) {
        ensure!(
            runs.iter().all(|run| !run.deallocates(lba)) || is_zero(block),
            "block {lba} is said to be deallocated, LBPRZ is 1, and it does not read as zeros"
        );
    }
    Ok(())
}

async fn neighbours(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let blocks = disk.run();
    let old = disk.pattern(1, blocks);
    disk.write(SCRATCH, &old).await?;
    // Neither end is where the units of a medium tend to be.
    give_back(&mut disk, &[(SCRATCH + 3, blocks - 6)]).await?;
    let edge = 3 * disk.block();
    let behind = SCRATCH + u64::from(blocks) - 3;
    disk.holds(SCRATCH, &old.slice(..edge), "before what was unmapped")
        .await?;
    disk.holds(
        behind,
        &old.slice(old.len() - edge..),
        "behind what was unmapped",
    )
    .await
}

async fn several(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    if disk.limits().await?.unmap_descriptors < 3 {
        skip!("MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT is less than 3");
    }
    let old = disk.pattern(1, 48);
    disk.write(SCRATCH, &old).await?;
    // Out of order, which nobody forbids.
    let runs = [(SCRATCH + 40, 8), (SCRATCH, 8), (SCRATCH + 20, 8)];
    give_back(&mut disk, &runs).await?;
    let block = disk.block();
    for (from, to) in [(8, 20), (28, 40)] {
        let kept = old.slice(from * block..to * block);
        let lba = SCRATCH + u64::try_from(from).unwrap_or(0);
        disk.holds(lba, &kept, "between what was unmapped").await?;
    }
    Ok(())
}

async fn written_again(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let blocks = disk.run();
    disk.write(SCRATCH, &disk.pattern(1, blocks)).await?;
    give_back(&mut disk, &[(SCRATCH, blocks)]).await?;
    let new = disk.pattern(2, blocks);
    disk.write(SCRATCH, &new).await?;
    disk.holds(SCRATCH, &new, "after UNMAP and a WRITE").await?;
    let runs = status_of(&mut disk, SCRATCH).await?;
    not_deallocated(&runs, blocks)
}

async fn no_blocks(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let old = disk.pattern(1, 1);
    disk.write(SCRATCH, &old).await?;
    give_back(&mut disk, &[(SCRATCH, 0)]).await?;
    disk.holds(SCRATCH, &old, "after UNMAP of no blocks").await
}

async fn beyond(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let list = list(&[(disk.blocks, 1)]);
    let reply = unmap(&mut disk, 0, list).await?;
    reply.fails_with("UNMAP behind the last block", 5, 0x21, 0)
}

async fn list_empty(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let reply = disk.session.run(&Task::bare(&cdb(0, 0))).await?;
    reply.good("UNMAP with a PARAMETER LIST LENGTH of zero")?;
    let reply = unmap(&mut disk, 0, list(&[])).await?;
    reply.good("UNMAP with a list without descriptors")?;
    Ok(())
}

async fn list_short(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let reply = unmap(&mut disk, 0, vec![0, 6, 0, 0]).await?;
    reply.fails_with("UNMAP with a list of four bytes", 5, 0x1a, 0)
}

async fn list_incomplete(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let old = disk.pattern(1, 2);
    disk.write(SCRATCH, &old).await?;
    let mut list = list(&[(SCRATCH, 1), (SCRATCH + 1, 1)]);
    // The count of the second one is there, but not all of it.
    list.truncate(8 + 16 + 12);
    list[..4].copy_from_slice(&[0, 34, 0, 28]);
    let reply = unmap(&mut disk, 0, list).await?;
    reply.good("UNMAP with one and a half descriptors")?;
    let kept = old.slice(disk.block()..);
    let why = "after UNMAP with an incomplete descriptor of the block";
    disk.holds(SCRATCH + 1, &kept, why).await
}

async fn anchor(bench: &Bench) -> Verdict {
    let (mut disk, provisioning) = unmapping(bench).await?;
    if provisioning.anchors {
        skip!("ANC_SUP is 1");
    }
    disk.write(SCRATCH, &disk.pattern(1, 8)).await?;
    let reply = unmap(&mut disk, ANCHOR, list(&[(SCRATCH, 8)])).await?;
    reply.fails_with("UNMAP with ANCHOR", 5, 0x24, 0)
}

async fn descriptor_limit(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let most = disk.limits().await?.unmap_descriptors;
    if most == 0 || most >= MOST_DESCRIPTORS {
        skip!("MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT is {most}: more do not fit into a list");
    }
    let runs: Vec<_> = (SCRATCH..=SCRATCH + u64::from(most))
        .map(|lba| (lba, 1))
        .collect();
    let reply = unmap(&mut disk, 0, list(&runs)).await?;
    let what = format!("UNMAP with {} descriptors", runs.len());
    reply.fails_with(&what, 5, 0x26, 0)
}

async fn block_limit(bench: &Bench) -> Verdict {
    let (mut disk, _) = unmapping(bench).await?;
    let limits = disk.limits().await?;
    let (most, run) = (limits.unmap_blocks, (4 << 20) / disk.block_bytes);
    // The same four mebibytes again and again: no rule is against that.
    let count = most / run + 1;
    if most == 0 || count > limits.unmap_descriptors.min(MOST_DESCRIPTORS) {
        skip!("MAXIMUM UNMAP LBA COUNT is {most}: more blocks cannot be named");
    }
    let runs: Vec<_> = (0..count).map(|_| (SCRATCH, run)).collect();
    let reply = unmap(&mut disk, 0, list(&runs)).await?;
    let what = format!("UNMAP of {count} times {run} blocks");
    reply.fails_with(&what, 5, 0x26, 0)
}

async fn written(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let blocks = disk.run();
    disk.write(SCRATCH, &disk.pattern(1, blocks)).await?;
    let runs = status_of(&mut disk, SCRATCH).await?;
    not_deallocated(&runs, blocks)
}

async fn descriptors(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    for start in [0, disk.blocks / 2 + 1] {
        let mut next = start;
        for (index, run) in status_of(&mut disk, start).await?.iter().enumerate() {
            ensure!(
                run.lba == next,
                "descriptor {index} is of {} blocks from {}, where block {next} is next",
                run.blocks,
                run.lba
            );
            ensure!(
                run.blocks > 0 && run.end() <= disk.blocks,
                "descriptor {index} is of {} blocks from {}, on a medium of {}",
                run.blocks,
                run.lba,
                disk.blocks
            );
            next = run.end();
        }
        ensure!(next > start, "no descriptor of block {start}");
    }
    Ok(())
}

async fn allocation(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let all = lba_status(&mut disk, SCRATCH, 24).await?;
    let all = all.good("GET LBA STATUS")?.data;
    for room in [0, 4, 8, 16] {
        // The initiator has room for more than it says.
        let task = Task::read(&status_cdb(SCRATCH, room), 64);
        let found = disk.session.run(&task).await?.good("GET LBA STATUS")?.data;
        // Less is lawful: who has room for half a descriptor may get none.
        let most = usize::try_from(room).unwrap_or(0);
        let begins = found.get(8..).unwrap_or_default();
        ensure!(
            found.len() <= most && all.get(8..).unwrap_or_default().starts_with(begins),
            "ALLOCATION LENGTH {room} brings {} bytes, or others than ALLOCATION LENGTH 24",
            found.len()
        );
    }
    Ok(())
}

async fn status_beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    // That it is supported at all.
    status_of(&mut disk, 0).await?;
    let end = disk.blocks;
    let reply = lba_status(&mut disk, end, 24).await?;
    reply.fails_with("GET LBA STATUS from behind the last block", 5, 0x21, 0)
}

/// What a descriptor of GET LBA STATUS says.
#[derive(Clone, Copy, Debug)]
struct Run {
    lba: u64,
    blocks: u32,
    status: u8,
}

impl Run {
    fn end(&self) -> u64 {
        self.lba.saturating_add(self.blocks.into())
    }

    fn deallocates(&self, lba: u64) -> bool {
        self.status == DEALLOCATED && (self.lba..self.end()).contains(&lba)
    }
}

impl Disk {
    /// Enough blocks to be worth unmapping: 256 KiB.
    fn run(&self) -> u32 {
        (256 << 10) / self.block_bytes
    }
}

fn not_deallocated(runs: &[Run], blocks: u32) -> Verdict {
    for lba in SCRATCH..SCRATCH + u64::from(blocks) {
        if runs.iter().any(|run| run.deallocates(lba)) {
            violation!("block {lba} was written, and is said to be deallocated");
        }
    }
    Ok(())
}

/// A unit that has UNMAP, and can be written to.
async fn unmapping(bench: &Bench) -> Result<(Disk, Provisioning), Finding> {
    let mut disk = Disk::open(bench).await?;
    let provisioning = disk.provisioning().await?;
    if !provisioning.unmap {
        skip!("LBPU is 0: UNMAP is not supported");
    }
    disk.write(SCRATCH, &disk.pattern(0, 1)).await?;
    Ok((disk, provisioning))
}

/// The same, if what is not mapped reads as zeros.
async fn zeroing(bench: &Bench) -> Result<(Disk, Provisioning), Finding> {
    let (disk, provisioning) = unmapping(bench).await?;
    if !provisioning.reads_zeros {
        skip!("LBPRZ is 0: what is not mapped may read as anything");
    }
    Ok((disk, provisioning))
}

async fn give_back(disk: &mut Disk, runs: &[(u64, u32)]) -> Verdict {
    unmap(disk, 0, list(runs)).await?.good("UNMAP")?;
    Ok(())
}

async fn unmap(disk: &mut Disk, flags: u8, list: Vec<u8>) -> Result<Reply, Finding> {
    let length = u16::try_from(list.len()).unwrap_or(u16::MAX);
    disk.session
        .run(&Task::write(&cdb(flags, length), list))
        .await
}

fn cdb(flags: u8, length: u16) -> [u8; 10] {
    let [high, low] = length.to_be_bytes();
    [0x42, flags, 0, 0, 0, 0, 0, high, low, 0]
}

/// An UNMAP parameter list: first block and count of each run.
fn list(runs: &[(u64, u32)]) -> Vec<u8> {
    let bytes = u16::try_from(runs.len() * 16).unwrap_or(u16::MAX);
    let mut list = (bytes.saturating_add(6)).to_be_bytes().to_vec();
    list.extend_from_slice(&bytes.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in runs {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

/// The descriptors from a block on.
async fn status_of(disk: &mut Disk, lba: u64) -> Result<Vec<Run>, Finding> {
    let data = lba_status(disk, lba, STATUS_BYTES).await?;
    let data = data.good("GET LBA STATUS")?.data;
    let told = usize::try_from(word(&data, 0)).unwrap_or(0);
    ensure!(
        data.len() >= 24 && told >= 20 && told % 16 == 4,
        "GET LBA STATUS brings {} bytes and says that {told} follow the first four: 4, and 16 for each descriptor",
        data.len()
    );
    let list = data.get(8..data.len().min(told + 4)).unwrap_or_default();
    Ok(list.chunks_exact(16).map(parse_run).collect())
}

fn parse_run(bytes: &[u8]) -> Run {
    Run {
        lba: u64::from(word(bytes, 0)) << 32 | u64::from(word(bytes, 4)),
        blocks: word(bytes, 8),
        status: bytes.get(12).map_or(0, |byte| byte & 0x0f),
    }
}

async fn lba_status(disk: &mut Disk, lba: u64, room: u32) -> Result<Reply, Finding> {
    let task = Task::read(&status_cdb(lba, room), room);
    let reply = disk.session.run(&task).await?;
    // Of an operation code that it knows, a target may call the service action an invalid field.
    if reply.is_unknown_opcode() || reply.codes() == (5, 0x24, 0) {
        skip!("GET LBA STATUS is not supported");
    }
    Ok(reply)
}

fn status_cdb(lba: u64, room: u32) -> [u8; 16] {
    let mut cdb = crate::checks::blocks::cdb(0x9e, 0x12, lba, room);
    cdb[14] = 0;
    cdb
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Descriptors that 16 bits of length have room for.
const MOST_DESCRIPTORS: u32 = 4094;
const STATUS_BYTES: u32 = 4096;
const DEALLOCATED: u8 = 1;
const ANCHOR: u8 = 0x01;
