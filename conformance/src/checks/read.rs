//! READ in its forms (SBC-3 §5.11 to §5.13).

use bytes::Bytes;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::checks::blocks::{
    Disk, READ_6, READ_10, READ_12, READ_16, SCRATCH, can_name, cdb, name,
};
use crate::session::{Reply, Task};

checks! {
    "read.forms", "SBC-3 §5.11", Must, Reads,
        "the same blocks by READ (6), (10), (12) and (16), as far as they are supported"
        => "the same bytes", forms;
    "read.zero-blocks", "SBC-3 §5.11", Must, Reads,
        "READ (10), (12) and (16) of no blocks"
        => "GOOD without data: no error, and not 65536 blocks either", zero_blocks;
    "read.six.zero-is-256", "SBC-2 §5.5", Must, Reads,
        "READ (6) with a TRANSFER LENGTH of zero"
        => "256 blocks", six_zero;
    "read.six.address", "SBC-2 §5.5", Must, Reads,
        "READ (6) of block 10000h"
        => "what READ (10) says of that block: 21 bits of address count", six_address;
    "read.beyond-end", "SBC-3 §4.5", Must, Reads,
        "READ (10), (12) and (16) of the block behind the last"
        => "CHECK CONDITION 5/21/00", beyond;
    "read.partly-beyond-end", "SBC-3 §4.5", Must, Reads,
        "READ of the last block and one more"
        => "CHECK CONDITION 5/21/00", partly_beyond;
    "read.last-block", "SBC-3 §5.11", Must, Reads,
        "READ (16) of the last block" => "GOOD and a block", last;
    "read.wraparound", "SBC-3 §4.5", Must, Reads,
        "READ of two blocks at the greatest address there is"
        => "CHECK CONDITION 5/21/00: the address does not wrap", wraparound;
    "read.sixteen.address", "SBC-3 §5.13", Must, Reads,
        "READ (16) with bit 32 of the address, on a unit that ends before it"
        => "CHECK CONDITION 5/21/00: 64 bits of address count", high_address;
    "read.sixteen.length", "SBC-3 §5.13", Must, Reads,
        "READ (12) and (16) of 65537 blocks with room for one"
        => "a refusal or a residual overflow: 32 bits of length count", long_length;
    "read.fua-and-dpo", "SBC-3 §5.11", Must, Reads,
        "READ with FUA, DPO and both, where MODE SENSE has DPOFUA"
        => "GOOD and the same bytes", fua;
    "read.protect", "SBC-3 §5.11", Should, Reads,
        "READ (10) with RDPROTECT on a unit without protection information"
        => "CHECK CONDITION 5/24/00", protect;
    "read.group-number", "SBC-3 §5.11", Must, Reads,
        "READ (10) and (16) with a GROUP NUMBER"
        => "the same bytes, or CHECK CONDITION 5/24/00", group;
    "read.reserved-bits", "SPC-4 §4.2.5", Must, Reads,
        "READ (10) with reserved and obsolete bits set"
        => "the same bytes, or CHECK CONDITION 5/24/00", reserved;
    "read.long", "SBC-3 §5.11", Must, Reads,
        "READ of up to 1 MiB, and the same blocks in small pieces"
        => "the same bytes", long;
    "read.maximum", "SBC-3 §6.5.3", Must, Reads,
        "READ (16) of one block more than MAXIMUM TRANSFER LENGTH"
        => "CHECK CONDITION 5/24/00", maximum;
}

async fn forms(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let expected = disk.read(SCRATCH, FEW).await?;
    for opcode in [READ_6, READ_12, READ_16] {
        let reply = disk.get(opcode, 0, SCRATCH, FEW).await?;
        if !reply.is_unknown_opcode() {
            let found = reply.good(name(opcode))?.data;
            same(opcode, &found, &expected)?;
        }
    }
    Ok(())
}

async fn zero_blocks(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    for opcode in [READ_10, READ_12, READ_16] {
        // There is room for a block, should the target mean to send any.
        let room = disk.bytes(1);
        let task = Task::read(&cdb(opcode, 0, SCRATCH, 0), room);
        let reply = disk.session.run(&task).await?;
        if reply.is_unknown_opcode() {
            continue;
        }
        let data = reply.good(&format!("{} of no blocks", name(opcode)))?.data;
        ensure!(
            data.is_empty(),
            "{} of no blocks brings {} bytes",
            name(opcode),
            data.len()
        );
    }
    Ok(())
}

async fn six_zero(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let room = disk.bytes(256);
    let task = Task::read(&cdb(READ_6, 0, SCRATCH, 0), room);
    let reply = disk.session.run(&task).await?;
    if reply.is_unknown_opcode() {
        skip!("READ (6) is not supported");
    }
    let data = reply.good("READ (6) with length 0")?.data;
    let expected = disk.read(SCRATCH, 256).await?;
    same(READ_6, &data, &expected)
}

async fn six_address(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let six = disk.get(READ_6, 0, 0x1_0000, 1).await?;
    if six.is_unknown_opcode() {
        skip!("READ (6) is not supported");
    }
    let ten = disk.get(READ_10, 0, 0x1_0000, 1).await?;
    ensure!(
        six.outcome() == ten.outcome() && six.data == ten.data,
        "READ (6) of block 65536: {} and {} bytes; READ (10): {} and {} bytes, or not the same ones",
        six.outcome(),
        six.data.len(),
        ten.outcome(),
        ten.data.len()
    );
    Ok(())
}

async fn beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let end = disk.blocks;
    for opcode in [READ_10, READ_12, READ_16] {
        if can_name(opcode, end, 1) {
            let reply = disk.get(opcode, 0, end, 1).await?;
            out_of_range(opcode, &reply)?;
        }
    }
    Ok(())
}

async fn partly_beyond(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let last = disk.blocks - 1;
    for opcode in [READ_10, READ_12, READ_16] {
        if can_name(opcode, last, 2) {
            let reply = disk.get(opcode, 0, last, 2).await?;
            out_of_range(opcode, &reply)?;
        }
    }
    Ok(())
}

async fn last(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let reply = disk.get(READ_16, 0, disk.blocks - 1, 1).await?;
    if reply.is_unknown_opcode() {
        skip!("READ (16) is not supported");
    }
    let data = reply.good("READ (16) of the last block")?.data;
    ensure!(
        data.len() == disk.block(),
        "the last block has {} bytes",
        data.len()
    );
    Ok(())
}

async fn wraparound(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let reply = disk.get(READ_16, 0, u64::MAX, 2).await?;
    out_of_range(READ_16, &reply)?;
    if disk.blocks < u64::from(u32::MAX) {
        let reply = disk.get(READ_10, 0, u32::MAX.into(), 2).await?;
        out_of_range(READ_10, &reply)?;
    }
    Ok(())
}

async fn high_address(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let far = SCRATCH + (1 << 32);
    if disk.blocks > far {
        skip!("the unit has so many blocks");
    }
    let reply = disk.get(READ_16, 0, far, 1).await?;
    if reply.is_unknown_opcode() {
        skip!("READ (16) is not supported");
    }
    out_of_range(READ_16, &reply)
}

async fn long_length(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    for opcode in [READ_12, READ_16] {
        let task = Task::read(&cdb(opcode, 0, 0, 0x1_0001), disk.bytes(1));
        let reply = disk.session.run(&task).await?;
        // More than there is, more than the target transfers, or more than the initiator has room for.
        ensure!(
            reply.status != 0 || reply.flags & OVERFLOW != 0,
            "{} of 65537 blocks succeeds like one of a single block",
            name(opcode)
        );
    }
    Ok(())
}

async fn fua(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if !disk.takes_fua().await? {
        skip!("MODE SENSE has DPOFUA=0");
    }
    let expected = disk.read(SCRATCH, FEW).await?;
    for flags in [FUA, DPO, FUA | DPO] {
        for opcode in [READ_10, READ_16] {
            let reply = disk.get(opcode, flags, SCRATCH, FEW).await?;
            if !reply.is_unknown_opcode() {
                let what = format!("{} with byte 1 = {flags:#04x}", name(opcode));
                same(opcode, &reply.good(&what)?.data, &expected)?;
            }
        }
    }
    Ok(())
}

async fn protect(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    if disk.has_protection().await? {
        skip!("the unit supports protection information");
    }
    for code in 1..=5 {
        let reply = disk.get(READ_10, code << 5, SCRATCH, 1).await?;
        reply.fails_with(&format!("READ (10) with RDPROTECT {code}"), 5, 0x24, 0)?;
    }
    Ok(())
}

async fn group(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    odd(&mut disk, READ_10, 6, 5).await?;
    odd(&mut disk, READ_16, 14, 5).await
}

async fn reserved(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    // RELADR and FUA_NV of older standards.
    odd(&mut disk, READ_10, 1, 0x01).await?;
    odd(&mut disk, READ_10, 1, 0x02).await?;
    odd(&mut disk, READ_10, 6, 0xc0).await
}

/// A READ with bits that mean nothing: whoever does not refuse them reads what was asked for.
async fn odd(disk: &mut Disk, opcode: u8, byte: usize, bits: u8) -> Verdict {
    let expected = disk.read(SCRATCH, FEW).await?;
    let mut cdb = cdb(opcode, 0, SCRATCH, FEW);
    if let Some(byte) = cdb.get_mut(byte) {
        *byte |= bits;
    }
    let reply = disk.session.run(&Task::read(&cdb, disk.bytes(FEW))).await?;
    let what = format!("{} with byte {byte} = {bits:#04x}", name(opcode));
    match reply.status {
        0 => same(opcode, &reply.data, &expected)
            .map_err(|_| Finding::Violation(format!("{what} reads something else"))),
        _ if opcode == READ_16 && reply.is_unknown_opcode() => Ok(()),
        _ => reply.fails_with(&what, 5, 0x24, 0),
    }
}

async fn long(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let most = disk.limits().await?.transfer_blocks;
    let mut blocks = (1 << 20) / disk.block_bytes;
    if most != 0 {
        blocks = blocks.min(most);
    }
    // A write of an earlier session that is still under way may change the blocks between two READs; not every time.
    let mut differs = None;
    for _ in 0..TRIES {
        differs = differing_piece(&mut disk, blocks).await?;
        if differs.is_none() {
            break;
        }
    }
    if let Some((at, piece)) = differs {
        violation!(
            "a READ of {blocks} blocks differs from READs of {piece} in the blocks from {at}"
        );
    }
    Ok(())
}

/// Reads blocks at once and in pieces: the first block and the length of a piece that differs.
async fn differing_piece(disk: &mut Disk, blocks: u32) -> Result<Option<(u32, u32)>, Finding> {
    let all = disk.read(SCRATCH, blocks).await?;
    let piece = (blocks / 8).max(1);
    let mut at = 0;
    while at < blocks {
        let count = piece.min(blocks - at);
        let found = disk.read(SCRATCH + u64::from(at), count).await?;
        let start = usize::try_from(disk.bytes(at)).unwrap_or(usize::MAX);
        if all.get(start..start + found.len()) != Some(&found[..]) {
            return Ok(Some((at, piece)));
        }
        at += count;
    }
    Ok(None)
}

/// How often blocks are read that somebody else may be writing.
const TRIES: usize = 3;

async fn maximum(bench: &Bench) -> Verdict {
    let mut disk = Disk::open(bench).await?;
    let most = disk.limits().await?.transfer_blocks;
    if most == 0 {
        skip!("MAXIMUM TRANSFER LENGTH is 0: no limit is reported");
    }
    let Some(more) = most.checked_add(1) else {
        skip!("MAXIMUM TRANSFER LENGTH is no limit");
    };
    if u64::from(more) > disk.blocks {
        skip!("the unit has no more blocks than MAXIMUM TRANSFER LENGTH, {most}");
    }
    let task = Task::read(&cdb(READ_16, 0, 0, more), disk.bytes(1));
    let reply = disk.session.run(&task).await?;
    reply.fails_with(&format!("READ (16) of {more} blocks"), 5, 0x24, 0)
}

fn same(opcode: u8, found: &Bytes, expected: &Bytes) -> Verdict {
    ensure!(
        found == expected,
        "{} brings {} bytes, and not the {} that READ (10) brings",
        name(opcode),
        found.len(),
        expected.len()
    );
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
/// Residual overflow (RFC 7143 §11.4.1).
const OVERFLOW: u8 = 0x04;
const FEW: u32 = 8;
