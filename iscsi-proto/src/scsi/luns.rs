//! REPORT LUNS parameter data (SPC-4 §6.33).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The list of logical unit numbers, each of the eight bytes that SAM-5 §4.7 gives it.
pub fn build(luns: &[u64]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + luns.len() * LUN_BYTES);
    out.put_u32(u32::try_from(luns.len() * LUN_BYTES).unwrap_or(u32::MAX));
    out.put_u32(0);
    for lun in luns {
        out.put_u64(*lun);
    }
    out.freeze()
}

/// The whole numbers that `bytes` holds, and the length in bytes that the complete answer would have.
pub fn parse(mut bytes: &[u8]) -> Option<(Vec<u64>, u64)> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let list = u64::from(bytes.get_u32());
    bytes.advance(4);
    let held = usize::try_from(list).unwrap_or(usize::MAX).min(bytes.len());
    let luns = bytes[..held]
        .chunks_exact(LUN_BYTES)
        .map(|mut lun| lun.get_u64())
        .collect();
    Some((luns, list + HEADER_BYTES as u64))
}

const HEADER_BYTES: usize = 8;
const LUN_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    #[test]
    fn two_units() {
        let bytes = super::build(&[0, 0x0001_0000_0000_0000]);
        assert_eq!(
            bytes.as_ref(),
            [
                0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(
            super::parse(&bytes),
            Some((vec![0, 0x0001_0000_0000_0000], 24))
        );
        assert_eq!(super::parse(&bytes[..17]), Some((vec![0], 24)));
        assert_eq!(super::parse(&[0xff; 8]), Some((vec![], 0x1_0000_0007)));
        assert_eq!(super::parse(&bytes[..7]), None);
    }
}
