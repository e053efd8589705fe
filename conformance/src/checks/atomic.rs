//! COMPARE AND WRITE, ORWRITE and WRITE ATOMIC: what is read and what is written are one step, or all that is written
//! (SBC-3 §5.2, §5.5, SBC-4 §5.50).

use bytes::Bytes;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::checks::blocks::{Disk, SCRATCH, cdb};
use crate::session::{CHECK_CONDITION, Reply, Task};

checks! {
    "compare-and-write.equal", "SBC-3 §5.2", Must, Writes,
        "COMPARE AND WRITE with what the blocks hold" => "GOOD, and they hold the new data", equal;
    "compare-and-write.miscompare", "SBC-3 §5.2", Must, Writes,
        "COMPARE AND WRITE with one byte that the block does not hold"
        => "CHECK CONDITION E/1D/00", miscompare;
    "compare-and-write.untouched", "SBC-3 §5.2", Must, Writes,
        "COMPARE AND WRITE of two blocks, the second of which differs"
        => "neither is written", untouched;
    "compare-and-write.offset", "SBC-3 §5.2", Must, Writes,
        "COMPARE AND WRITE with a difference in the first, a middle and the last byte"
        => "INFORMATION is valid and has the offset of the first difference", offset;
    "compare-and-write.zero-blocks", "SBC-3 §5.2", Must, Writes,
        "COMPARE AND WRITE of no blocks" => "GOOD, and nothing is written", zero_blocks;
    "compare-and-write.beyond-end", "SBC-3 §4.5", Must, Writes,
        "COMPARE AND WRITE of the block behind the last"
        => "CHECK CONDITION 5/21/00", beyond;
    "compare-and-write.half-the-data", "SBC-3 §5.2", Must, Writes,
        "COMPARE AND WRITE with the data to compare and none to write"
        => "no error is required, but what nobody sent is not written", half;
    "compare-and-write.neighbours", "SBC-3 §5.2", Must, Writes,
        "COMPARE AND WRITE amid blocks whose content is known"
        => "the blocks around keep it", neighbours;
    "compare-and-write.one-winner", "SBC-3 §5.2", Must, Writes,
        "COMPARE AND WRITE by two sessions at once that expect the same and write their own"
        => "one succeeds, the other miscompares, and the block has the winner's data", one_winner;
    "compare-and-write.no-lost-update", "SBC-3 §5.2", Must, Writes,
        "two sessions that count up one block by COMPARE AND WRITE"
        => "no increment is lost", no_lost_update;
    "compare-and-write.protect", "SBC-3 §5.2", Should, Writes,
        "COMPARE AND WRITE with WRPROTECT on a unit without protection information"
        => "CHECK CONDITION 5/24/00", protect;
    "orwrite.either", "SBC-3 §5.5", Must, Writes,
        "ORWRITE (16)" => "each bit that was set or is sent is set, and no other", either;
    "orwrite.zero-blocks", "SBC-3 §5.5", Must, Writes,
        "ORWRITE (16) of no blocks" => "GOOD, and nothing is written", or_nothing;
    "orwrite.beyond-end", "SBC-3 §4.5", Must, Writes,
        "ORWRITE (16) of the last block and one more"
        => "CHECK CONDITION 5/21/00", or_beyond;
    "write-atomic.stored", "SBC-4 §5.50", Must, Writes,
        "WRITE ATOMIC (16) of eight blocks amid others"
        => "they hold the data, and the blocks around keep their content", whole;
    "write-atomic.beyond-end", "SBC-3 §4.5", Must, Writes,
        "WRITE ATOMIC (16) of the last block and one more"
        => "CHECK CONDITION 5/21/00", whole_beyond;
    "write-atomic.untouched", "SBC-4 §5.50", Must, Writes,
        "WRITE ATOMIC (16) of the last block and one more"
        => "the last block keeps its content: all blocks are written or none", whole_untouched;
    "write-atomic.maximum", "SBC-4 §5.50", Must, Writes,
        "WRITE ATOMIC (16) of one block more than MAXIMUM ATOMIC TRANSFER LENGTH"
        => "CHECK CONDITION 5/24/00", whole_maximum;
}

async fn equal(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (old, new) = (disk.pattern(1, 1), disk.pattern(2, 1));
    disk.write(SCRATCH, &old).await?;
    exchange(&mut disk, SCRATCH, &old, &new)
        .await?
        .good("COMPARE AND WRITE of what the block holds")?;
    disk.holds(SCRATCH, &new, "after COMPARE AND WRITE").await
}

async fn miscompare(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (old, new) = (disk.pattern(1, 1), disk.pattern(2, 1));
    disk.write(SCRATCH, &old).await?;
    for at in [0, old.len() / 2, old.len() - 1] {
        let reply = exchange(&mut disk, SCRATCH, &changed(&old, at), &new).await?;
        let what = format!("COMPARE AND WRITE with a difference in byte {at}");
        reply.fails_with(&what, 0xe, 0x1d, 0)?;
    }
    Ok(())
}

async fn untouched(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (old, new) = (disk.pattern(1, 2), disk.pattern(2, 2));
    disk.write(SCRATCH, &old).await?;
    let expected = changed(&old, disk.block());
    let reply = of_two(&mut disk, &expected, &new).await?;
    ensure!(
        reply.status == CHECK_CONDITION,
        "COMPARE AND WRITE of two blocks, the second of which differs: {}",
        reply.outcome()
    );
    disk.holds(SCRATCH, &old, "after COMPARE AND WRITE that failed")
        .await
}

async fn offset(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (old, new) = (disk.pattern(1, 1), disk.pattern(2, 1));
    disk.write(SCRATCH, &old).await?;
    for at in [0, 1, old.len() / 2, old.len() - 1] {
        // A second difference behind the first one must not be the one that is told.
        let expected = changed(&changed(&old, at), old.len() - 1);
        let expected = if at == old.len() - 1 {
            changed(&old, at)
        } else {
            expected
        };
        let reply = exchange(&mut disk, SCRATCH, &expected, &new).await?;
        reply.fails_with("COMPARE AND WRITE that differs", 0xe, 0x1d, 0)?;
        let told = reply.sense.and_then(|sense| sense.information);
        let wanted = u64::try_from(at).ok();
        let Some(told) = told else {
            violation!("MISCOMPARE without valid INFORMATION; byte {at} is the first that differs");
        };
        ensure!(
            Some(told) == wanted,
            "INFORMATION is {told}; byte {at} is the first that differs"
        );
    }
    Ok(())
}

async fn zero_blocks(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let old = disk.pattern(1, 1);
    disk.write(SCRATCH, &old).await?;
    let task = Task::bare(&cdb_of(SCRATCH, 0));
    let reply = known(disk.session.run(&task).await?)?;
    reply.good("COMPARE AND WRITE of no blocks")?;
    disk.holds(SCRATCH, &old, "after COMPARE AND WRITE of no blocks")
        .await
}

async fn beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let end = disk.blocks;
    disk.write(SCRATCH, &disk.pattern(1, 1)).await?;
    let block = disk.pattern(2, 1);
    exchange(&mut disk, end, &block, &block).await?.fails_with(
        "COMPARE AND WRITE behind the last block",
        5,
        0x21,
        0,
    )
}

async fn half(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let old = disk.pattern(1, 1);
    disk.write(SCRATCH, &old).await?;
    let task = Task::write(&cdb_of(SCRATCH, 1), old.clone());
    known(disk.session.run(&task).await?)?;
    let why = "after COMPARE AND WRITE without data to write";
    disk.holds(SCRATCH, &old, why).await
}

async fn neighbours(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (old, new) = (disk.pattern(1, 3), disk.pattern(2, 1));
    disk.write(SCRATCH, &old).await?;
    let block = disk.block();
    let middle = old.slice(block..2 * block);
    exchange(&mut disk, SCRATCH + 1, &middle, &new)
        .await?
        .good("COMPARE AND WRITE of what the block holds")?;
    let expected = [&old[..block], &new, &old[2 * block..]].concat().into();
    disk.holds(SCRATCH, &expected, "around COMPARE AND WRITE of one block")
        .await
}

async fn one_winner(bench: &Bench) -> Verdict {
    let mut one = Disk::open(bench).await?;
    let mut two = Disk::open(bench).await?;
    let mut present = one.pattern(0, 1);
    one.write(SCRATCH, &present).await?;
    for round in 0..ROUNDS {
        let (first, second) = (one.pattern(2 * round + 1, 1), one.pattern(2 * round + 2, 1));
        let (left, right) = tokio::join!(
            exchange(&mut one, SCRATCH, &present, &first),
            exchange(&mut two, SCRATCH, &present, &second)
        );
        let (left, right) = (left?, right?);
        if is_busy(&left) || is_busy(&right) {
            skip!("the target is too busy for two sessions");
        }
        let (winner, loser) = match (left.status, right.status) {
            (0, CHECK_CONDITION) => (first, right),
            (CHECK_CONDITION, 0) => (second, left),
            _ => violation!(
                "two sessions exchange the same block at once: {} for one, {} for the other",
                left.outcome(),
                right.outcome()
            ),
        };
        loser.fails_with("COMPARE AND WRITE that came too late", 0xe, 0x1d, 0)?;
        one.holds(
            SCRATCH,
            &winner,
            "after the one COMPARE AND WRITE that succeeded",
        )
        .await?;
        present = winner;
    }
    Ok(())
}

async fn no_lost_update(bench: &Bench) -> Verdict {
    let mut one = Disk::open(bench).await?;
    let mut two = Disk::open(bench).await?;
    let zero = numbered(&one, 0);
    one.write(SCRATCH, &zero).await?;
    let (left, right) = tokio::join!(count_up(&mut one), count_up(&mut two));
    left?;
    right?;
    let expected = numbered(&one, 2 * INCREMENTS);
    let why = format!("after {INCREMENTS} increments by each of two sessions");
    one.holds(SCRATCH, &expected, &why).await
}

/// Counts up the block, again and again where another one was quicker.
async fn count_up(disk: &mut Disk) -> Verdict {
    let mut done = 0;
    for _ in 0..MOST_TRIES {
        if done == INCREMENTS {
            return Ok(());
        }
        let present = disk.read(SCRATCH, 1).await?;
        let value = present
            .first_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let next = numbered(disk, value.wrapping_add(1));
        let reply = exchange(disk, SCRATCH, &present, &next).await?;
        if reply.status == 0 {
            done += 1;
        } else if !is_busy(&reply) {
            reply.fails_with("COMPARE AND WRITE that came too late", 0xe, 0x1d, 0)?;
        }
    }
    ensure!(
        done == INCREMENTS,
        "only {done} of {INCREMENTS} increments in {MOST_TRIES} tries, with one other session that does the same"
    );
    Ok(())
}

/// A block that holds a number.
fn numbered(disk: &Disk, value: u64) -> Bytes {
    let mut block = vec![0; disk.block()];
    if let Some(front) = block.first_chunk_mut::<8>() {
        *front = value.to_be_bytes();
    }
    block.into()
}

async fn protect(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if disk.has_protection().await? {
        skip!("the unit supports protection information");
    }
    let old = disk.pattern(1, 1);
    disk.write(SCRATCH, &old).await?;
    let mut cdb = cdb_of(SCRATCH, 1);
    cdb[1] = 0x20;
    let task = Task::write(&cdb, old.repeat(2));
    known(disk.session.run(&task).await?)?.fails_with(
        "COMPARE AND WRITE with WRPROTECT 1",
        5,
        0x24,
        0,
    )
}

async fn either(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (old, sent) = (disk.pattern(1, 2), disk.pattern(2, 2));
    disk.write(SCRATCH, &old).await?;
    let reply = disk.put(ORWRITE, 0, SCRATCH, &sent).await?;
    or_known(reply)?.good("ORWRITE (16)")?;
    let either: Vec<u8> = old.iter().zip(&sent).map(|(old, new)| old | new).collect();
    disk.holds(SCRATCH, &either.into(), "after ORWRITE (16)")
        .await
}

async fn or_nothing(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let old = disk.pattern(1, 1);
    disk.write(SCRATCH, &old).await?;
    let task = Task::bare(&cdb(ORWRITE, 0, SCRATCH, 0));
    or_known(disk.session.run(&task).await?)?.good("ORWRITE (16) of no blocks")?;
    disk.holds(SCRATCH, &old, "after ORWRITE of no blocks")
        .await
}

async fn or_beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let (last, data) = (disk.blocks - 1, disk.pattern(1, 2));
    disk.write(SCRATCH, &disk.pattern(1, 1)).await?;
    let reply = disk.put(ORWRITE, 0, last, &data).await?;
    or_known(reply)?.fails_with("ORWRITE (16) over the end", 5, 0x21, 0)
}

async fn whole(bench: &Bench) -> Verdict {
    let mut disk = writing_whole(bench).await?;
    let old = disk.pattern(1, 24);
    disk.write(SCRATCH, &old).await?;
    let new = disk.pattern(2, 8);
    let reply = write_whole(&mut disk, SCRATCH + 8, 8, new.clone()).await?;
    reply.good("WRITE ATOMIC (16) of eight blocks")?;
    let third = old.len() / 3;
    let expected = [&old[..third], &new, &old[2 * third..]].concat().into();
    disk.holds(SCRATCH, &expected, "in and around WRITE ATOMIC (16)")
        .await
}

async fn whole_beyond(bench: &Bench) -> Verdict {
    let mut disk = writing_whole(bench).await?;
    let (last, data) = (disk.blocks - 1, disk.pattern(1, 2));
    let reply = write_whole(&mut disk, last, 2, data).await?;
    reply.fails_with("WRITE ATOMIC (16) over the end", 5, 0x21, 0)
}

async fn whole_untouched(bench: &Bench) -> Verdict {
    let mut disk = writing_whole(bench).await?;
    let (last, old) = (disk.blocks - 1, disk.pattern(1, 1));
    disk.write(last, &old).await?;
    let data = disk.pattern(2, 2);
    write_whole(&mut disk, last, 2, data).await?;
    disk.holds(last, &old, "after WRITE ATOMIC (16) over the end")
        .await
}

async fn whole_maximum(bench: &Bench) -> Verdict {
    let mut disk = writing_whole(bench).await?;
    let most = disk.limits().await?.atomic_blocks;
    if most >= 0xffff || SCRATCH + u64::from(most) >= disk.blocks {
        skip!("MAXIMUM ATOMIC TRANSFER LENGTH is {most}: more blocks cannot be named");
    }
    let data = disk.pattern(1, most + 1);
    let reply = write_whole(&mut disk, SCRATCH, most + 1, data).await?;
    let what = format!("WRITE ATOMIC (16) of {} blocks", most + 1);
    reply.fails_with(&what, 5, 0x24, 0)
}

/// A unit that writes single blocks atomically, wherever they are.
async fn writing_whole(bench: &Bench) -> Result<Disk, Finding> {
    let mut disk = Disk::open(bench).await?;
    let limits = disk.limits().await?;
    if limits.atomic_blocks < 8 {
        skip!(
            "MAXIMUM ATOMIC TRANSFER LENGTH is {}: WRITE ATOMIC is not supported, or not for eight blocks",
            limits.atomic_blocks
        );
    }
    if limits.atomic_units.iter().any(|unit| *unit > 1) {
        skip!("atomic writes have to be aligned, or of certain lengths");
    }
    disk.write(SCRATCH, &disk.pattern(0, 1)).await?;
    Ok(disk)
}

async fn write_whole(
    disk: &mut Disk,
    lba: u64,
    blocks: u32,
    data: Bytes,
) -> Result<Reply, Finding> {
    // Sixteen bits of length, behind a boundary of zero.
    let task = Task::write(&cdb(WRITE_ATOMIC, 0, lba, blocks), data);
    let reply = disk.session.run(&task).await?;
    if reply.is_unknown_opcode() {
        skip!("WRITE ATOMIC (16) is not supported");
    }
    Ok(reply)
}

/// COMPARE AND WRITE of one block.
async fn exchange(
    disk: &mut Disk,
    lba: u64,
    expected: &Bytes,
    new: &Bytes,
) -> Result<Reply, Finding> {
    let data = [&expected[..], new].concat();
    let reply = disk
        .session
        .run(&Task::write(&cdb_of(lba, 1), data))
        .await?;
    known(reply)
}

/// COMPARE AND WRITE of two blocks, unless only one is supported (MAXIMUM COMPARE AND WRITE LENGTH).
async fn of_two(disk: &mut Disk, expected: &Bytes, new: &Bytes) -> Result<Reply, Finding> {
    let data = [&expected[..], new].concat();
    let task = Task::write(&cdb_of(SCRATCH, 2), data);
    let reply = known(disk.session.run(&task).await?)?;
    if reply.codes() == (5, 0x24, 0) {
        skip!("COMPARE AND WRITE of two blocks is not supported");
    }
    Ok(reply)
}

fn cdb_of(lba: u64, blocks: u8) -> [u8; 16] {
    // The number of blocks is where other commands have the last byte of theirs.
    cdb(COMPARE_AND_WRITE, 0, lba, blocks.into())
}

fn known(reply: Reply) -> Result<Reply, Finding> {
    if reply.is_unknown_opcode() {
        skip!("COMPARE AND WRITE is not supported");
    }
    Ok(reply)
}

/// BUSY or TASK SET FULL: nobody promises that there is room for everybody.
fn is_busy(reply: &Reply) -> bool {
    matches!(reply.status, 0x08 | 0x28)
}

fn or_known(reply: Reply) -> Result<Reply, Finding> {
    if reply.is_unknown_opcode() {
        skip!("ORWRITE (16) is not supported");
    }
    Ok(reply)
}

/// The same bytes but for one.
fn changed(data: &Bytes, at: usize) -> Bytes {
    let mut data = data.to_vec();
    if let Some(byte) = data.get_mut(at) {
        *byte = !*byte;
    }
    data.into()
}

const COMPARE_AND_WRITE: u8 = 0x89;
const ORWRITE: u8 = 0x8b;
const WRITE_ATOMIC: u8 = 0x9c;
/// How often two sessions try the same block at once.
const ROUNDS: u64 = 8;
/// How often each of two sessions counts up.
const INCREMENTS: u64 = 12;
/// How often it may try.
const MOST_TRIES: u64 = 400;
