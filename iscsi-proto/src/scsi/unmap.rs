//! The UNMAP parameter list (SBC-3 §5.28.2).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Sense, SenseData};

/// Runs of blocks to give back: first block and count.
pub fn build(runs: &[(u64, u32)]) -> Bytes {
    let list = u16::try_from(runs.len() * DESCRIPTOR_BYTES).unwrap_or(u16::MAX);
    let mut out = BytesMut::with_capacity(HEADER_BYTES + runs.len() * DESCRIPTOR_BYTES);
    out.put_u16(list.saturating_add(6));
    out.put_u16(list);
    out.put_u32(0);
    for (lba, blocks) in runs {
        out.put_u64(*lba);
        out.put_u32(*blocks);
        out.put_u32(0);
    }
    out.freeze()
}

/// Reads a parameter list as a device server: an incomplete descriptor at the end is ignored, as SBC-3 has it; a list
/// that promises more than was sent is refused.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<(u64, u32)>, SenseData> {
    if bytes.len() < HEADER_BYTES {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into());
    }
    bytes.advance(2);
    let list = usize::from(bytes.get_u16());
    bytes.advance(4);
    let Some(descriptors) = bytes.get(..list) else {
        return Err(SenseData::list_field(2, 7));
    };
    let runs = descriptors
        .chunks_exact(DESCRIPTOR_BYTES)
        .map(|mut run| (run.get_u64(), run.get_u32()));
    Ok(runs.collect())
}

const HEADER_BYTES: usize = 8;
const DESCRIPTOR_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::{Sense, SenseData};

    #[test]
    fn one_run() {
        let bytes = super::build(&[(0x10, 0x20)]);
        let expected = [
            0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0,
        ];
        assert_eq!(bytes.as_ref(), expected);
        assert_eq!(super::parse(&bytes), Ok(vec![(0x10, 0x20)]));
        assert_eq!(super::parse(&bytes[..23]), Err(SenseData::list_field(2, 7)));
        assert_eq!(
            super::parse(&bytes[..7]),
            Err(Sense::new(5, 0x1a, 0).into())
        );
        assert_eq!(super::parse(&[0, 6, 0, 0, 0, 0, 0, 0]), Ok(vec![]));
    }
}
