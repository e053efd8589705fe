//! A byte stream cut into PDUs, and PDUs written as bytes (RFC 7143 §11.2). No byte sequence makes it panic; bytes
//! that end early mean "wait for more".

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::ahs::MAX_AHS_BYTES;
use crate::wire::bhs::{AnyHeader, BHS_BYTES, U24};
use crate::wire::digest::crc32c;
use crate::wire::{Header, Pdu};

/// The longest data segment that anybody takes until something else was declared (RFC 7143 §13.12).
pub const DEFAULT_MAX_DATA_SEGMENT: u32 = 8192;

/// Which parts of a PDU carry a CRC32C digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// The basic and additional header segments.
    pub header: bool,
    /// The data segment with its padding.
    pub data: bool,
}

/// Takes PDUs off the front of a byte stream.
#[derive(Clone, Debug)]
pub struct Framer {
    max_data_segment: u32,
    digests: Digests,
    /// The header at the front has passed its digest; the data is still on its way.
    header_verified: bool,
    missing: usize,
}

/// What was taken off the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed {
    /// A whole PDU, digests and padding taken off.
    Pdu(Pdu),
    /// A PDU whose data was damaged on its way; the data is thrown away (RFC 7143 §7.8).
    DataDigestError(Header),
}

/// The stream cannot be cut into PDUs any more; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A header was damaged, and with it perhaps the lengths.
    #[error("the header digest does not match")]
    HeaderDigest,
    /// A data segment is longer than what was declared as acceptable.
    #[error("a data segment of {length} bytes is longer than the {limit} declared")]
    TooLong {
        /// The length announced.
        length: u32,
        /// The length declared.
        limit: u32,
    },
}

impl Framer {
    /// A framer that accepts data segments up to a length and expects no digests.
    pub fn new(max_data_segment: u32) -> Self {
        Self {
            max_data_segment,
            digests: Digests::default(),
            header_verified: false,
            missing: BHS_BYTES,
        }
    }

    /// How many bytes, at least, the PDU under way still lacks: worth reserving before the next read.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Expects digests from the next PDU on.
    pub fn set_digests(&mut self, header: bool, data: bool) {
        self.digests = Digests { header, data };
    }

    /// Accepts data segments up to this length from the next PDU on.
    pub fn set_max_data_segment(&mut self, max_data_segment: u32) {
        self.max_data_segment = max_data_segment;
    }

    /// Takes the next PDU off the front of `input`; `None` if it is not whole yet. Nothing is copied: the PDU's
    /// parts are slices of the input.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Framed>, FrameError> {
        Ok(match self.front(input)? {
            Some(front) => self.take(&front, input),
            None => None,
        })
    }

    /// The PDU at the front of `input` as soon as its header segments are whole, and have passed their digest. Nothing
    /// is taken: [`take`](Self::take) or [`open`](Self::open) follows.
    pub fn front(&mut self, input: &BytesMut) -> Result<Option<Front>, FrameError> {
        let Some((head, _)) = input.split_first_chunk::<BHS_BYTES>() else {
            self.missing = BHS_BYTES - input.len();
            return Ok(None);
        };
        let header = Header::decode(head);
        let common = header.common();
        let header_end = BHS_BYTES + usize::from(common.total_ahs_length) * 4;
        let data_start = header_end + if self.digests.header { DIGEST_BYTES } else { 0 };
        let Some(covered) = input
            .get(..header_end)
            .filter(|_| input.len() >= data_start)
        else {
            self.missing = data_start - input.len();
            return Ok(None);
        };
        if self.digests.header && !self.header_verified {
            if input.get(header_end..data_start) != Some(&crc32c(&[covered])[..]) {
                return Err(FrameError::HeaderDigest);
            }
            self.header_verified = true;
        }
        let layout = self.layout(common, header_end, data_start)?;
        Ok(Some(Front { header, layout }))
    }

    /// Takes the PDU of a front off the `input` that it was seen in; `None` if it is not whole yet.
    pub fn take(&mut self, front: &Front, input: &mut BytesMut) -> Option<Framed> {
        let end = front.layout.end;
        if input.len() < end {
            self.missing = end - input.len();
            return None;
        }
        self.begin_next();
        let pdu = input.split_to(end).freeze();
        Some(front.layout.take(front.header, self.digests.data, pdu))
    }

    /// Takes only the header segments of a front off the `input` that it was seen in. What follows there is for the
    /// caller to take: the data segment, and the tail behind it.
    pub fn open(&mut self, front: &Front, input: &mut BytesMut) -> Segment {
        self.begin_next();
        let layout = &front.layout;
        input.advance(layout.data_start.min(input.len()));
        Segment {
            data_bytes: layout.data_end - layout.data_start,
            padding_bytes: layout.padded_end - layout.data_end,
            tail_bytes: layout.end - layout.data_end,
        }
    }

    fn begin_next(&mut self) {
        self.header_verified = false;
        self.missing = BHS_BYTES;
    }

    fn layout(
        &self,
        common: AnyHeader,
        header_end: usize,
        data_start: usize,
    ) -> Result<Layout, FrameError> {
        let length = common.data_segment_length.get();
        if length > self.max_data_segment {
            return Err(FrameError::TooLong {
                length,
                limit: self.max_data_segment,
            });
        }
        let data_end = data_start + usize::try_from(length).unwrap_or(usize::MAX);
        let padded_end = data_start + (data_end - data_start).next_multiple_of(4);
        let digest = if self.digests.data && length > 0 {
            DIGEST_BYTES
        } else {
            0
        };
        Ok(Layout {
            header_end,
            data_start,
            data_end,
            padded_end,
            end: padded_end + digest,
        })
    }
}

/// A PDU whose header segments are there and sound; its data may still be on its way.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    header: Header,
    layout: Layout,
}

impl Front {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

/// The data segment of a PDU, which somebody else takes off the stream.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    data_bytes: usize,
    padding_bytes: usize,
    tail_bytes: usize,
}

impl Segment {
    /// Bytes of the data.
    pub fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Bytes of the tail behind the data: padding and digest.
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// True if the tail has no digest, or one that fits `data` and the padding before it.
    pub fn is_sound(&self, data: &[u8], tail: &[u8]) -> bool {
        match tail.split_at_checked(self.padding_bytes) {
            Some((_, [])) => true,
            Some((padding, digest)) => *digest == crc32c(&[data, padding]),
            None => false,
        }
    }
}

/// Where the parts of a PDU end, counted from its first byte.
#[derive(Clone, Copy, Debug)]
struct Layout {
    header_end: usize,
    data_start: usize,
    data_end: usize,
    padded_end: usize,
    end: usize,
}

impl Layout {
    fn take(&self, header: Header, data_digest: bool, pdu: Bytes) -> Framed {
        let padded = &pdu[self.data_start..self.padded_end];
        if data_digest && !padded.is_empty() && pdu[self.padded_end..self.end] != crc32c(&[padded])
        {
            return Framed::DataDigestError(header);
        }
        let ahs = pdu.slice(BHS_BYTES..self.header_end);
        Framed::Pdu(Pdu {
            header,
            ahs,
            data: pdu.slice(self.data_start..self.data_end),
        })
    }
}

/// Writes a PDU: header with its additional segments and digest, then the very same data, then padding and digest.
/// Sets the header's length fields. The additional segments must be padded to words and fit 255 of them, the data
/// must be shorter than 16 MiB: a session sees to both, and what is beyond is cut off.
pub fn encode(pdu: &Pdu, digests: Digests, out: &mut VecDeque<Bytes>) {
    debug_assert!(
        pdu.ahs.len() <= MAX_AHS_BYTES && pdu.ahs.len().is_multiple_of(4),
        "additional segments"
    );
    let data_length = u32::try_from(pdu.data.len())
        .unwrap_or(u32::MAX)
        .min(U24::MAX);
    debug_assert_eq!(
        usize::try_from(data_length),
        Ok(pdu.data.len()),
        "data segment"
    );
    let data = pdu.data.slice(
        ..usize::try_from(data_length)
            .unwrap_or(0)
            .min(pdu.data.len()),
    );
    out.push_back(encode_header(pdu, data_length, digests.header));
    if data.is_empty() {
        return;
    }
    let padding = &[0; 3][..data.len().next_multiple_of(4) - data.len()];
    let mut tail = BytesMut::with_capacity(padding.len() + DIGEST_BYTES);
    tail.put_slice(padding);
    if digests.data {
        tail.put_slice(&crc32c(&[&data, padding]));
    }
    out.push_back(data);
    if !tail.is_empty() {
        out.push_back(tail.freeze());
    }
}

fn encode_header(pdu: &Pdu, data_length: u32, digest: bool) -> Bytes {
    let words = u8::try_from(pdu.ahs.len() / 4).unwrap_or(u8::MAX);
    let [_, a, b, c] = data_length.to_be_bytes();
    let mut bytes = BytesMut::with_capacity(BHS_BYTES + pdu.ahs.len() + DIGEST_BYTES);
    bytes.put_slice(pdu.header.as_bytes());
    bytes[LENGTHS].copy_from_slice(&[words, a, b, c]);
    bytes.put_slice(&pdu.ahs[..usize::from(words) * 4]);
    if digest {
        let sum = crc32c(&[&bytes]);
        bytes.put_slice(&sum);
    }
    bytes.freeze()
}

const DIGEST_BYTES: usize = 4;

/// TotalAHSLength and DataSegmentLength (RFC 7143 §11.2.1.5 and §11.2.1.6).
const LENGTHS: std::ops::Range<usize> = 4..8;
