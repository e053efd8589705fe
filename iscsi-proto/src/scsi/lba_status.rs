//! GET LBA STATUS parameter data (SBC-3 §5.5).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// How a run of blocks is provisioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbaStatus {
    /// The first block.
    pub lba: u64,
    /// The number of blocks.
    pub blocks: u32,
    /// Whether the blocks take space.
    pub provisioning: Provisioning,
}

/// Whether blocks take space (SBC-3 table 38).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// They do, or it is not known.
    Mapped,
    /// They do not.
    Deallocated,
    /// They do not, but space is reserved for them.
    Anchored,
}

/// The parameter data.
pub fn build(runs: &[LbaStatus]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + runs.len() * DESCRIPTOR_BYTES);
    // The parameter data length counts what follows its own four bytes.
    out.put_u32(u32::try_from(runs.len() * DESCRIPTOR_BYTES + 4).unwrap_or(u32::MAX));
    out.put_u32(0);
    for run in runs {
        out.put_u64(run.lba);
        out.put_u32(run.blocks);
        out.put_u8(match run.provisioning {
            Provisioning::Mapped => 0,
            Provisioning::Deallocated => 1,
            Provisioning::Anchored => 2,
        });
        out.put_bytes(0, 3);
    }
    out.freeze()
}

/// The whole descriptors that `bytes` holds; values that the standard does not name count as mapped.
pub fn parse(mut bytes: &[u8]) -> Option<Vec<LbaStatus>> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let length = usize::try_from(bytes.get_u32())
        .unwrap_or(usize::MAX)
        .saturating_sub(4);
    bytes.advance(4);
    let held = length.min(bytes.len());
    let runs = bytes[..held]
        .chunks_exact(DESCRIPTOR_BYTES)
        .map(|mut run| LbaStatus {
            lba: run.get_u64(),
            blocks: run.get_u32(),
            provisioning: match run.get_u8() & 0x0f {
                1 => Provisioning::Deallocated,
                2 => Provisioning::Anchored,
                _ => Provisioning::Mapped,
            },
        });
    Some(runs.collect())
}

const HEADER_BYTES: usize = 8;

/// Bytes of one descriptor.
pub const DESCRIPTOR_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::{LbaStatus, Provisioning};

    #[test]
    fn a_hole_behind_content() {
        let runs = [
            LbaStatus {
                lba: 0,
                blocks: 8,
                provisioning: Provisioning::Mapped,
            },
            LbaStatus {
                lba: 8,
                blocks: 0x100,
                provisioning: Provisioning::Deallocated,
            },
        ];
        let bytes = super::build(&runs);
        let mut expected = vec![0, 0, 0, 36, 0, 0, 0, 0];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 1, 0, 1, 0, 0, 0]);
        assert_eq!(bytes.as_ref(), expected);
        assert_eq!(super::parse(&bytes).unwrap(), runs);
        assert_eq!(super::parse(&bytes[..30]).unwrap(), runs[..1]);
        assert_eq!(super::parse(&bytes[..7]), None);
    }
}
