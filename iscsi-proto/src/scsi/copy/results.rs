//! Parameter data of RECEIVE COPY RESULTS (SPC-4 §6.24 to §6.27).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{BLOCK_TO_BLOCK, IDENTIFICATION_CSCD, MAX_CSCDS, MAX_DESCRIPTOR_BYTES, MAX_SEGMENTS};

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyStatus {
    /// Whether it goes on.
    pub state: CopyState,
    /// Segments that were looked at.
    pub segments: u16,
    /// Bytes that were written; more than 32 bits are told in KiB, MiB and so on.
    pub bytes: u64,
}

/// COPY MANAGER STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It goes on.
    InProgress,
    /// It ended well.
    Completed,
    /// It ended with an error.
    Failed,
}

impl CopyStatus {
    /// The parameter data, 12 bytes.
    pub fn build(&self) -> Bytes {
        let state = match self.state {
            CopyState::InProgress => 0,
            CopyState::Completed => 1,
            CopyState::Failed => 2,
        };
        let (mut units, mut count) = (0u8, self.bytes);
        while count > u64::from(u32::MAX) {
            (units, count) = (units + 1, count >> 10);
        }
        let mut out = BytesMut::with_capacity(STATUS_BYTES);
        // AVAILABLE DATA counts what follows it. No data is held, so HDD is zero.
        out.put_u32(8);
        out.put_u8(state);
        out.put_u16(self.segments);
        out.put_u8(units);
        out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
        out.freeze()
    }

    /// Reads the parameter data; what does not say that it goes on or ended well, failed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.get(4..STATUS_BYTES)?;
        let state = match rest.get_u8() & STATUS_BITS {
            0 => CopyState::InProgress,
            1 => CopyState::Completed,
            _ => CopyState::Failed,
        };
        let segments = rest.get_u16();
        let shift = u32::from(rest.get_u8()).saturating_mul(10);
        let count = u64::from(rest.get_u32());
        Some(Self {
            state,
            segments,
            bytes: count.checked_mul(1u64.checked_shl(shift)?)?,
        })
    }
}

/// Which copies can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatingParameters {
    /// Copies without an identifier are welcome (SNLID).
    pub without_list_id: bool,
    /// Most CSCD descriptors.
    pub maximum_cscds: u16,
    /// Most segment descriptors.
    pub maximum_segments: u16,
    /// Bytes of all descriptors.
    pub maximum_descriptor_bytes: u32,
    /// Bytes in one segment; zero is no limit.
    pub maximum_segment_bytes: u32,
    /// Copies at a time, of all nexuses.
    pub concurrent: u8,
    /// Segments are multiples of two to this power bytes.
    pub granularity_exponent: u8,
    /// Descriptor types, ascending.
    pub types: Vec<u8>,
}

impl OperatingParameters {
    /// What [`CopyList::parse`](super::CopyList::parse) takes, with the limits that are the copier's own.
    pub fn new(maximum_segment_bytes: u32, concurrent: u8, granularity_exponent: u8) -> Self {
        Self {
            without_list_id: true,
            maximum_cscds: u16::try_from(MAX_CSCDS).unwrap_or(u16::MAX),
            maximum_segments: u16::try_from(MAX_SEGMENTS).unwrap_or(u16::MAX),
            maximum_descriptor_bytes: u32::try_from(MAX_DESCRIPTOR_BYTES).unwrap_or(u32::MAX),
            maximum_segment_bytes,
            concurrent,
            granularity_exponent,
            types: vec![BLOCK_TO_BLOCK, IDENTIFICATION_CSCD],
        }
    }

    /// The parameter data.
    pub fn build(&self) -> Bytes {
        let count = u8::try_from(self.types.len()).unwrap_or(u8::MAX);
        let mut out = BytesMut::new();
        out.put_u32(u32::from(count) + 40);
        out.put_u8(u8::from(self.without_list_id));
        out.put_bytes(0, 3);
        out.put_u16(self.maximum_cscds);
        out.put_u16(self.maximum_segments);
        out.put_u32(self.maximum_descriptor_bytes);
        out.put_u32(self.maximum_segment_bytes);
        // No inline data, no held data, no stream devices.
        out.put_bytes(0, 14);
        out.put_u16(self.concurrent.into());
        out.put_u8(self.concurrent);
        out.put_u8(self.granularity_exponent);
        out.put_bytes(0, 5);
        out.put_u8(count);
        out.put_slice(self.types.get(..usize::from(count)).unwrap_or_default());
        out.freeze()
    }

    /// Reads the parameter data; types that were cut off are left out.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, types) = bytes.split_first_chunk::<PARAMETER_BYTES>()?;
        let mut rest = &header[4..];
        let flags = rest.get_u8();
        rest.advance(3);
        let (maximum_cscds, maximum_segments) = (rest.get_u16(), rest.get_u16());
        let (maximum_descriptor_bytes, maximum_segment_bytes) = (rest.get_u32(), rest.get_u32());
        rest.advance(16);
        let (concurrent, granularity_exponent) = (rest.get_u8(), rest.get_u8());
        rest.advance(5);
        let count = usize::from(rest.get_u8());
        Some(Self {
            without_list_id: flags & SNLID != 0,
            maximum_cscds,
            maximum_segments,
            maximum_descriptor_bytes,
            maximum_segment_bytes,
            concurrent,
            granularity_exponent,
            types: types.get(..count).unwrap_or(types).to_vec(),
        })
    }
}

/// FAILED SEGMENT DETAILS where no copy failed: no data is available.
pub fn no_failure() -> Bytes {
    Bytes::from_static(&[0; 4])
}

/// RECEIVE DATA where nothing is held.
pub fn held_data() -> Bytes {
    Bytes::from_static(&[0; 4])
}

const STATUS_BYTES: usize = 12;
const STATUS_BITS: u8 = 0x7f;
const PARAMETER_BYTES: usize = 44;
const SNLID: u8 = 0x01;
