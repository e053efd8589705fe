//! The parameter list of EXTENDED COPY(LID1): who copies what to whom.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    BLOCK_TO_BLOCK, IDENTIFICATION_CSCD, LIST_HEADER_BYTES, MAX_CSCDS, MAX_DESCRIPTOR_BYTES,
    MAX_SEGMENTS,
};
use crate::scsi::vpd::Designator;
use crate::scsi::{Sense, SenseData};

/// A copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyList {
    /// What RECEIVE COPY RESULTS asks for.
    pub list_id: u8,
    /// What becomes of the results.
    pub usage: ListIdUsage,
    /// The segments are obeyed in order (STR).
    pub sequential: bool,
    /// PRIORITY, three bits.
    pub priority: u8,
    /// The sources and destinations.
    pub cscds: Vec<Cscd>,
    /// What is copied.
    pub segments: Vec<Segment>,
}

/// What becomes of the results of a copy (SPC-4 §6.4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListIdUsage {
    /// They are held until they are asked for.
    Hold,
    /// They may be forgotten.
    Discard,
    /// The list has no identifier; it must be zero.
    None,
}

/// A copy source or copy destination: a block device, named by a designator (SPC-4 §6.4.5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cscd {
    /// Nobody: what names it ends the copy (NUL).
    pub null: bool,
    /// Peripheral device type, five bits.
    pub device_type: u8,
    /// The port of the copy's server that shall be used; zero leaves it open.
    pub relative_initiator_port: u16,
    /// The name of the logical unit; at most 20 bytes.
    pub designator: Designator,
    /// PAD: what is left over of a segment is filled up.
    pub pad: bool,
    /// Bytes in a block.
    pub block_bytes: u32,
}

/// Blocks of one device that are copied to another (SPC-4 §6.4.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `blocks` counts blocks of the destination (DC).
    pub counts_destination: bool,
    /// What is left over is kept for the next segment (CAT).
    pub carry: bool,
    /// The index of the source among the CSCDs.
    pub source: u16,
    /// The index of the destination among the CSCDs.
    pub destination: u16,
    /// The number of blocks.
    pub blocks: u16,
    /// The first block that is read.
    pub source_lba: u64,
    /// The first block that is written.
    pub destination_lba: u64,
}

impl CopyList {
    /// The list.
    pub fn build(&self) -> Bytes {
        let usage = match self.usage {
            ListIdUsage::Hold => 0b00,
            ListIdUsage::Discard => 0b10,
            ListIdUsage::None => 0b11,
        };
        let sequential = if self.sequential { STR } else { 0 };
        let cscd_bytes = self.cscds.len() * CSCD_BYTES;
        let segment_bytes = self.segments.len() * SEGMENT_BYTES;
        let mut out = BytesMut::with_capacity(LIST_HEADER_BYTES + cscd_bytes + segment_bytes);
        out.put_u8(self.list_id);
        out.put_u8(sequential | usage << USAGE_SHIFT | self.priority & PRIORITY);
        out.put_u16(u16::try_from(cscd_bytes).unwrap_or(u16::MAX));
        out.put_u32(0);
        out.put_u32(u32::try_from(segment_bytes).unwrap_or(u32::MAX));
        out.put_u32(0);
        self.cscds.iter().for_each(|cscd| cscd.put(&mut out));
        self.segments
            .iter()
            .for_each(|segment| segment.put(&mut out));
        out.freeze()
    }

    /// Reads a list that is not empty. The order of the checks is what initiators rely on: lengths, counts, types.
    pub fn parse(list: &[u8]) -> Result<Self, SenseData> {
        let header = Header::parse(list)?;
        let cscds = parse_cscds(header.cscds)?;
        let segments = parse_segments(header.segments, LIST_HEADER_BYTES + header.cscds.len())?;
        Ok(Self {
            list_id: header.list_id,
            usage: header.usage,
            sequential: header.flags & STR != 0,
            priority: header.flags & PRIORITY,
            cscds,
            segments,
        })
    }
}

struct Header<'a> {
    list_id: u8,
    usage: ListIdUsage,
    flags: u8,
    cscds: &'a [u8],
    segments: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(list: &'a [u8]) -> Result<Self, SenseData> {
        let short = Sense::PARAMETER_LIST_LENGTH_ERROR;
        let (header, rest) = list.split_first_chunk::<LIST_HEADER_BYTES>().ok_or(short)?;
        let mut header = &header[..];
        let (list_id, flags) = (header.get_u8(), header.get_u8());
        let cscd_bytes = usize::from(header.get_u16());
        header.advance(4);
        let segment_bytes = usize::try_from(header.get_u32()).unwrap_or(usize::MAX);
        let inline_bytes = header.get_u32();
        if cscd_bytes.saturating_add(segment_bytes) > MAX_DESCRIPTOR_BYTES {
            return Err(short.into());
        }
        let (cscds, rest) = rest.split_at_checked(cscd_bytes).ok_or(short)?;
        let segments = rest.get(..segment_bytes).ok_or(short)?;
        if inline_bytes != 0 {
            return Err(Sense::INLINE_DATA_EXCEEDED.into());
        }
        let usage = match flags >> USAGE_SHIFT & USAGE_BITS {
            0b00 => ListIdUsage::Hold,
            0b10 => ListIdUsage::Discard,
            0b11 if list_id == 0 => ListIdUsage::None,
            0b11 => return Err(SenseData::list_field(0, 7)),
            _ => return Err(SenseData::list_field(1, 4)),
        };
        Ok(Self {
            list_id,
            usage,
            flags,
            cscds,
            segments,
        })
    }
}

fn parse_cscds(bytes: &[u8]) -> Result<Vec<Cscd>, SenseData> {
    // All types that are 32 bytes long count; longer ones are not supported.
    if bytes.len() / CSCD_BYTES > MAX_CSCDS {
        return Err(Sense::TOO_MANY_CSCD_DESCRIPTORS.into());
    }
    let mut found = Vec::new();
    for (index, descriptor) in bytes.chunks(CSCD_BYTES).enumerate() {
        if descriptor.first() != Some(&IDENTIFICATION_CSCD) {
            return Err(Sense::UNSUPPORTED_CSCD_DESCRIPTOR.into());
        }
        let descriptor = descriptor
            .first_chunk::<CSCD_BYTES>()
            .ok_or_else(|| SenseData::list_field(2, 7))?;
        found.push(Cscd::parse(
            descriptor,
            LIST_HEADER_BYTES + index * CSCD_BYTES,
        )?);
    }
    Ok(found)
}

/// Segments that begin at this byte of the list.
fn parse_segments(bytes: &[u8], mut at: usize) -> Result<Vec<Segment>, SenseData> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some(kind) = rest.first() {
        if found.len() == MAX_SEGMENTS {
            return Err(Sense::TOO_MANY_SEGMENT_DESCRIPTORS.into());
        }
        if *kind != BLOCK_TO_BLOCK {
            return Err(Sense::UNSUPPORTED_SEGMENT_DESCRIPTOR.into());
        }
        // A descriptor that the list cuts off: SEGMENT DESCRIPTOR LIST LENGTH is wrong.
        let (descriptor, behind) = rest
            .split_first_chunk::<SEGMENT_BYTES>()
            .ok_or_else(|| SenseData::list_field(8, 7))?;
        found.push(Segment::parse(descriptor, at)?);
        at += SEGMENT_BYTES;
        rest = behind;
    }
    Ok(found)
}

impl Cscd {
    fn put(&self, out: &mut BytesMut) {
        let null = if self.null { NUL } else { 0 };
        out.put_u8(IDENTIFICATION_CSCD);
        out.put_u8(null | self.device_type & DEVICE_TYPE);
        out.put_u16(self.relative_initiator_port);
        let Designator {
            association,
            kind,
            code_set,
            value,
        } = &self.designator;
        let value = value.get(..DESIGNATOR_BYTES).unwrap_or(value);
        let length = u8::try_from(value.len()).unwrap_or(0);
        out.put_slice(&[
            code_set & 0x0f,
            (association & 0x03) << 4 | kind & 0x0f,
            0,
            length,
        ]);
        out.put_slice(value);
        out.put_bytes(0, DESIGNATOR_BYTES - value.len());
        let pad = if self.pad { PAD } else { 0 };
        out.put_u32(u32::from(pad) << 24 | self.block_bytes & BLOCK_BYTES);
    }

    /// `at` is where the descriptor is in the list.
    fn parse(bytes: &[u8; CSCD_BYTES], at: usize) -> Result<Self, SenseData> {
        let mut rest = &bytes[1..];
        let flags = rest.get_u8();
        // LU ID TYPE tells how a descriptor's LUN field is meant. This type of descriptor has none: it is ignored.
        let relative_initiator_port = rest.get_u16();
        let (code_set, kind) = (rest.get_u8(), rest.get_u8());
        rest.advance(1);
        let length = usize::from(rest.get_u8());
        let value = rest
            .get(..length)
            .filter(|value| value.len() <= DESIGNATOR_BYTES)
            .ok_or_else(|| SenseData::list_field(at + 7, 7))?;
        let value = Bytes::copy_from_slice(value);
        rest.advance(DESIGNATOR_BYTES);
        let device = rest.get_u32();
        Ok(Self {
            null: flags & NUL != 0,
            device_type: flags & DEVICE_TYPE,
            relative_initiator_port,
            designator: Designator {
                association: kind >> 4 & 0x03,
                kind: kind & 0x0f,
                code_set: code_set & 0x0f,
                value,
            },
            pad: device >> 24 & u32::from(PAD) != 0,
            block_bytes: device & BLOCK_BYTES,
        })
    }
}

impl Segment {
    fn put(&self, out: &mut BytesMut) {
        let counts = if self.counts_destination { DC } else { 0 };
        out.put_u8(BLOCK_TO_BLOCK);
        out.put_u8(counts | if self.carry { CAT } else { 0 });
        out.put_u16(SEGMENT_LENGTH);
        out.put_u16(self.source);
        out.put_u16(self.destination);
        out.put_u16(0);
        out.put_u16(self.blocks);
        out.put_u64(self.source_lba);
        out.put_u64(self.destination_lba);
    }

    /// `at` is where the descriptor is in the list.
    fn parse(bytes: &[u8; SEGMENT_BYTES], at: usize) -> Result<Self, SenseData> {
        let mut rest = &bytes[1..];
        let flags = rest.get_u8();
        if rest.get_u16() != SEGMENT_LENGTH {
            return Err(SenseData::list_field(at + 2, 7));
        }
        let (source, destination) = (rest.get_u16(), rest.get_u16());
        rest.advance(2);
        Ok(Self {
            counts_destination: flags & DC != 0,
            carry: flags & CAT != 0,
            source,
            destination,
            blocks: rest.get_u16(),
            source_lba: rest.get_u64(),
            destination_lba: rest.get_u64(),
        })
    }
}

const CSCD_BYTES: usize = 32;
const SEGMENT_BYTES: usize = 28;
/// Without the four bytes in front of it and of itself.
const SEGMENT_LENGTH: u16 = 0x18;
const DESIGNATOR_BYTES: usize = 20;
const STR: u8 = 0x20;
const USAGE_SHIFT: u8 = 3;
const USAGE_BITS: u8 = 0b11;
const PRIORITY: u8 = 0x07;
const NUL: u8 = 0x20;
const DEVICE_TYPE: u8 = 0x1f;
const PAD: u8 = 0x04;
const BLOCK_BYTES: u32 = 0x00ff_ffff;
const DC: u8 = 0x02;
const CAT: u8 = 0x01;
