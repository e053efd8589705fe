//! What the checks of block commands share: CDBs, a place on the medium for scratch, and what a unit says of its limits.

use bytes::Bytes;

use crate::bench::Bench;
use crate::check::{Finding, ensure, skip};
use crate::session::{Reply, Session, Task};

pub(crate) const READ_6: u8 = 0x08;
pub(crate) const WRITE_6: u8 = 0x0a;
pub(crate) const READ_10: u8 = 0x28;
pub(crate) const WRITE_10: u8 = 0x2a;
pub(crate) const READ_16: u8 = 0x88;
pub(crate) const WRITE_16: u8 = 0x8a;
pub(crate) const READ_12: u8 = 0xa8;
pub(crate) const WRITE_12: u8 = 0xaa;

/// The first block that checks may overwrite.
pub(crate) const SCRATCH: u64 = 256;

/// A command that names blocks. Where address and count lie follows from the group of the operation code
/// (SPC-4 §4.2.5.1); the six-byte form has no room for flags.
pub(crate) fn cdb(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h] = lba.to_be_bytes();
    let [i, j, k, l] = blocks.to_be_bytes();
    match opcode >> 5 {
        0 => [opcode, f & 0x1f, g, h, l, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        4 => [opcode, flags, a, b, c, d, e, f, g, h, i, j, k, l, 0, 0],
        5 => [opcode, flags, e, f, g, h, i, j, k, l, 0, 0, 0, 0, 0, 0],
        _ => [opcode, flags, e, f, g, h, 0, k, l, 0, 0, 0, 0, 0, 0, 0],
    }
}

/// True if a form of a command has room for these numbers.
pub(crate) fn can_name(opcode: u8, lba: u64, blocks: u32) -> bool {
    match opcode >> 5 {
        0 => lba < 1 << 21 && blocks <= 256,
        4 => true,
        5 => lba <= u64::from(u32::MAX),
        _ => lba <= u64::from(u32::MAX) && blocks <= 0xffff,
    }
}

/// What a form of READ or WRITE is called.
pub(crate) fn name(opcode: u8) -> &'static str {
    match opcode {
        READ_6 => "READ (6)",
        READ_10 => "READ (10)",
        READ_12 => "READ (12)",
        READ_16 => "READ (16)",
        WRITE_6 => "WRITE (6)",
        WRITE_10 => "WRITE (10)",
        WRITE_12 => "WRITE (12)",
        WRITE_16 => "WRITE (16)",
        _ => "the command",
    }
}

/// The form that surely exists and has room for these numbers.
fn form(ten: u8, sixteen: u8, lba: u64, blocks: u32) -> u8 {
    if can_name(ten, lba.saturating_add(blocks.into()), blocks) {
        ten
    } else {
        sixteen
    }
}

/// A unit, as one session sees it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) session: Session,
    /// How many blocks there are.
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u32,
    salt: u64,
}

/// What a unit says of its limits (SBC-3 §6.5.3; of WRITE ATOMIC: SBC-4 §6.6); zeros where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// WSNZ: WRITE SAME of no blocks is not supported.
    pub(crate) no_empty_write_same: bool,
    pub(crate) transfer_blocks: u32,
    pub(crate) unmap_blocks: u32,
    pub(crate) unmap_descriptors: u32,
    pub(crate) write_same_blocks: u64,
    /// The longest WRITE ATOMIC.
    pub(crate) atomic_blocks: u32,
    /// What its address and its length have to be multiples of.
    pub(crate) atomic_units: [u32; 2],
}

/// What a unit says of thin provisioning (SBC-3 §5.16, §6.5.4).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Provisioning {
    /// LBPRZ: what is not mapped reads as zeros.
    pub(crate) reads_zeros: bool,
    /// LBPRZ is 010b: it reads as a pattern of the maker's.
    pub(crate) reads_pattern: bool,
    /// LBPU: UNMAP is supported.
    pub(crate) unmap: bool,
    /// LBPWS: WRITE SAME (16) with the UNMAP bit is supported.
    pub(crate) write_same_16: bool,
    /// LBPWS10: WRITE SAME (10) with the UNMAP bit is supported.
    pub(crate) write_same_10: bool,
    /// ANC_SUP: blocks can be anchored.
    pub(crate) anchors: bool,
}

impl Disk {
    /// An ordinary session, and a unit of at least 8 MiB.
    pub(crate) async fn open(bench: &Bench) -> Result<Self, Finding> {
        bench.facts.has_room()?;
        let mut salt = [0; 8];
        // Without randomness a write that does nothing goes unnoticed when an earlier run wrote the same.
        let _no_randomness = getrandom::fill(&mut salt);
        Ok(Self {
            session: bench.session().await?,
            blocks: bench.facts.blocks,
            block_bytes: bench.facts.block_bytes,
            salt: u64::from_ne_bytes(salt),
        })
    }

    /// Bytes of so many blocks.
    pub(crate) fn bytes(&self, blocks: u32) -> u32 {
        blocks.saturating_mul(self.block_bytes)
    }

    /// A block's bytes, as an index.
    pub(crate) fn block(&self) -> usize {
        usize::try_from(self.block_bytes).unwrap_or(usize::MAX)
    }

    /// Content that no block has by chance; another one for each seed.
    pub(crate) fn pattern(&self, seed: u64, blocks: u32) -> Bytes {
        let length = usize::try_from(self.bytes(blocks)).unwrap_or(0);
        let mut state = self.salt ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            // Xorshift: never zero, and eight bytes at a time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            out.extend_from_slice(&state.to_be_bytes());
        }
        out.truncate(length);
        out.into()
    }

    /// A READ of some form that expects all its blocks.
    pub(crate) async fn get(
        &mut self,
        opcode: u8,
        flags: u8,
        lba: u64,
        blocks: u32,
    ) -> Result<Reply, Finding> {
        let task = Task::read(&cdb(opcode, flags, lba, blocks), self.bytes(blocks));
        self.session.run(&task).await
    }

    /// A WRITE of some form, or a command of the same shape, of as many blocks as the data has.
    pub(crate) async fn put(
        &mut self,
        opcode: u8,
        flags: u8,
        lba: u64,
        data: &Bytes,
    ) -> Result<Reply, Finding> {
        let blocks = u32::try_from(data.len() / self.block()).unwrap_or(u32::MAX);
        let task = Task::write(&cdb(opcode, flags, lba, blocks), data.clone());
        self.session.run(&task).await
    }

    /// What blocks hold; that they can be read is not what the check is about.
    pub(crate) async fn read(&mut self, lba: u64, blocks: u32) -> Result<Bytes, Finding> {
        let opcode = form(READ_10, READ_16, lba, blocks);
        let data = self.get(opcode, 0, lba, blocks).await?;
        let data = data.good(name(opcode))?.data;
        let expected = self.bytes(blocks);
        ensure!(
            u32::try_from(data.len()) == Ok(expected),
            "{} of {blocks} blocks brings {} bytes instead of {expected}",
            name(opcode),
            data.len()
        );
        Ok(data)
    }

    /// Prepares blocks; a unit that is write protected makes the check not applicable.
    pub(crate) async fn write(&mut self, lba: u64, data: &Bytes) -> Result<(), Finding> {
        let blocks = u32::try_from(data.len() / self.block()).unwrap_or(u32::MAX);
        let opcode = form(WRITE_10, WRITE_16, lba, blocks);
        let reply = self.put(opcode, 0, lba, data).await?;
        if reply.codes().0 == DATA_PROTECT {
            skip!("the unit is write protected");
        }
        reply.good(name(opcode))?;
        Ok(())
    }

    /// Blocks must hold this; `why` says since when.
    pub(crate) async fn holds(
        &mut self,
        lba: u64,
        expected: &Bytes,
        why: &str,
    ) -> Result<(), Finding> {
        let blocks = u32::try_from(expected.len() / self.block()).unwrap_or(u32::MAX);
        let found = self.read(lba, blocks).await?;
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let (found, wanted) = (found.get(at), expected.get(at));
            let lba = lba.saturating_add(u64::try_from(at / self.block()).unwrap_or(0));
            ensure!(
                found == wanted,
                "{why}: byte {} of block {lba} is {:02x} instead of {:02x}",
                at % self.block(),
                found.copied().unwrap_or(0),
                wanted.copied().unwrap_or(0)
            );
        }
        Ok(())
    }

    /// A page of vital product data, if there is one.
    pub(crate) async fn vital(&mut self, page: u8) -> Result<Option<Bytes>, Finding> {
        let task = Task::read(&[0x12, 1, page, 0, 255], 255);
        let reply = self.session.run(&task).await?;
        let is_it = reply.status == 0 && reply.data.get(1) == Some(&page);
        Ok(is_it.then_some(reply.data))
    }

    /// VPD page B0h.
    pub(crate) async fn limits(&mut self) -> Result<Limits, Finding> {
        let Some(page) = self.vital(0xb0).await? else {
            return Ok(Limits::default());
        };
        Ok(Limits {
            no_empty_write_same: byte(&page, 4) & 1 != 0,
            transfer_blocks: word(&page, 8),
            unmap_blocks: word(&page, 20),
            unmap_descriptors: word(&page, 24),
            write_same_blocks: u64::from(word(&page, 36)) << 32 | u64::from(word(&page, 40)),
            atomic_blocks: word(&page, 44),
            atomic_units: [word(&page, 48), word(&page, 52)],
        })
    }

    /// READ CAPACITY (16) and VPD page B2h.
    pub(crate) async fn provisioning(&mut self) -> Result<Provisioning, Finding> {
        let capacity = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32];
        let capacity = self.session.run(&Task::read(&capacity, 32)).await?;
        let capacity = capacity.good("READ CAPACITY (16)")?.data;
        let managed = byte(&capacity, 14) & 0x80 != 0;
        let (true, Some(page)) = (managed, self.vital(0xb2).await?) else {
            return Ok(Provisioning::default());
        };
        let offers = |bit: u8| byte(&page, 5) & bit != 0;
        Ok(Provisioning {
            reads_zeros: byte(&capacity, 14) & 0x40 != 0,
            reads_pattern: byte(&page, 5) & 0x1c == 0x08,
            unmap: offers(0x80),
            write_same_16: offers(0x40),
            write_same_10: offers(0x20),
            anchors: offers(0x02),
        })
    }

    /// DPOFUA in the device-specific parameter of MODE SENSE (SBC-3 §6.4.1).
    pub(crate) async fn takes_fua(&mut self) -> Result<bool, Finding> {
        let task = Task::read(&[0x1a, 0, 0x3f, 0, 255], 255);
        let reply = self.session.run(&task).await?;
        Ok(reply.status == 0 && byte(&reply.data, 2) & 0x10 != 0)
    }

    /// PROTECT in the standard INQUIRY data: protection information is supported (SPC-4 §6.4.2).
    pub(crate) async fn has_protection(&mut self) -> Result<bool, Finding> {
        Ok(byte(&self.inquiry().await?, 5) & 1 != 0)
    }

    /// A version descriptor of SBC-3 or SBC-4 in the standard INQUIRY data (SPC-4 §6.4.2).
    pub(crate) async fn claims_sbc_3(&mut self) -> Result<bool, Finding> {
        let inquiry = self.inquiry().await?;
        let descriptors = inquiry.get(58..74).unwrap_or_default().chunks_exact(2);
        let mut codes = descriptors.map(|code| word(code, 0) >> 16);
        Ok(codes.any(|code| matches!(code, 0x04c0..=0x04df | 0x0600..=0x061f)))
    }

    async fn inquiry(&mut self) -> Result<Bytes, Finding> {
        let task = Task::read(&[0x12, 0, 0, 0, 96], 96);
        Ok(self.session.run(&task).await?.good("INQUIRY")?.data)
    }
}

/// A byte of a page; what is missing is zero.
pub(crate) fn byte(page: &[u8], at: usize) -> u8 {
    page.get(at).copied().unwrap_or(0)
}

/// Four bytes of a page; what is missing is zero.
pub(crate) fn word(page: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, 1, 2, 3].map(|index| byte(page, at + index)))
}

/// Sense key DATA PROTECT.
const DATA_PROTECT: u8 = 7;
