//! Vital product data: pages that INQUIRY answers (SPC-4 §7.8, SBC-3 §6.5).

use bytes::{BufMut, Bytes, BytesMut};
use zerocopy::byteorder::big_endian::{U16, U32, U64};

use super::inquiry::padded;
use super::layout::{layout, zero_extended};

/// Supported VPD pages.
pub const SUPPORTED_PAGES: u8 = 0x00;
/// Unit serial number.
pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
/// Device identification.
pub const DEVICE_IDENTIFICATION: u8 = 0x83;
/// Extended INQUIRY data.
pub const EXTENDED_INQUIRY: u8 = 0x86;
/// Block limits.
pub const BLOCK_LIMITS: u8 = 0xb0;
/// Block device characteristics.
pub const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
/// Logical block provisioning.
pub const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;

/// A page of a block device: four bytes of header, then the body.
pub fn page(code: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + body.len());
    out.put_u8(0);
    out.put_u8(code);
    out.put_u16(u16::try_from(body.len()).unwrap_or(u16::MAX));
    out.put_slice(body);
    out.freeze()
}

/// The body of a page if it is the one that was asked for, as far as it was sent.
pub fn body(code: u8, bytes: &[u8]) -> Option<&[u8]> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [_, own, high, low] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    (own == code).then(|| rest.get(..length).unwrap_or(rest))
}

/// The unit serial number page.
pub fn serial_page(serial: &str) -> Bytes {
    let printable: Vec<u8> = serial
        .bytes()
        .map(|byte| {
            if (0x20..0x7f).contains(&byte) {
                byte
            } else {
                b'?'
            }
        })
        .collect();
    page(UNIT_SERIAL_NUMBER, &printable)
}

/// One way to name a unit, its port or its device (SPC-4 §7.8.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Designator {
    /// What is named: 0 the logical unit, 1 the target port, 2 the target device.
    pub association: u8,
    /// DESIGNATOR TYPE, four bits: 1 T10 vendor, 2 EUI-64, 3 NAA, 4 relative target port, 5 target port group, 8 name.
    pub kind: u8,
    /// CODE SET: 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    /// The designator itself, at most 255 bytes.
    pub value: Bytes,
}

impl Designator {
    /// An NAA identifier of the logical unit; the first four bits tell its type (3: locally assigned).
    pub fn naa(identifier: [u8; 8]) -> Self {
        Self {
            association: 0,
            kind: KIND_NAA,
            code_set: BINARY,
            value: Bytes::copy_from_slice(&identifier),
        }
    }

    /// A T10 vendor identification with a vendor's own identifier of the logical unit.
    pub fn t10_vendor(vendor: &str, identifier: &str) -> Self {
        let mut value = padded::<8>(vendor).to_vec();
        value.extend(identifier.bytes().take(usize::from(u8::MAX) - value.len()));
        Self {
            association: 0,
            kind: KIND_T10_VENDOR,
            code_set: ASCII,
            value: value.into(),
        }
    }

    /// The number of the target port in its device.
    pub fn relative_target_port(number: u16) -> Self {
        Self::port_number(KIND_RELATIVE_TARGET_PORT, number)
    }

    /// The group of the target port.
    pub fn target_port_group(number: u16) -> Self {
        Self::port_number(KIND_TARGET_PORT_GROUP, number)
    }

    /// The name of the target port: the device's name with the portal group (RFC 7143 §4.4.2).
    pub fn port_name(name: &str, portal_group_tag: u16) -> Self {
        let value = name_string(&format!("{name},t,0x{portal_group_tag:04x}"));
        Self {
            association: 1,
            kind: KIND_NAME,
            code_set: UTF_8,
            value,
        }
    }

    fn port_number(kind: u8, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self {
            association: 1,
            kind,
            code_set: BINARY,
            value: Bytes::copy_from_slice(&[0, 0, high, low]),
        }
    }

    fn put(&self, out: &mut BytesMut) {
        let named = self.association != 0;
        let length = u8::try_from(self.value.len()).unwrap_or(u8::MAX);
        out.put_u8(if named { PROTOCOL_ISCSI << 4 } else { 0 } | self.code_set & 0x0f);
        out.put_u8(if named { PIV } else { 0 } | (self.association & 0x03) << 4 | self.kind & 0x0f);
        out.put_u8(0);
        out.put_u8(length);
        out.put_slice(self.value.get(..usize::from(length)).unwrap_or(&self.value));
    }
}

/// The device identification page.
pub fn designators_page(designators: &[Designator]) -> Bytes {
    let mut out = BytesMut::new();
    designators
        .iter()
        .for_each(|designator| designator.put(&mut out));
    page(DEVICE_IDENTIFICATION, &out)
}

/// Reads the device identification page; a designator that was cut off is left out.
pub fn parse_designators(bytes: &[u8]) -> Option<Vec<Designator>> {
    let mut rest = body(DEVICE_IDENTIFICATION, bytes)?;
    let mut found = Vec::new();
    while let Some((&[codes, kinds, _, length], after)) = rest.split_first_chunk::<4>() {
        let Some((value, behind)) = after.split_at_checked(usize::from(length)) else {
            break;
        };
        found.push(Designator {
            association: kinds >> 4 & 0x03,
            kind: kinds & 0x0f,
            code_set: codes & 0x0f,
            value: Bytes::copy_from_slice(value),
        });
        rest = behind;
    }
    Some(found)
}

/// The extended INQUIRY data page of a unit with simple, ordered and head of queue tasks and no protection.
pub fn extended_inquiry_page() -> Bytes {
    let mut body = [0u8; LONG_BODY_BYTES];
    body[1] = HEADSUP | ORDSUP | SIMPSUP;
    page(EXTENDED_INQUIRY, &body)
}

/// Limits of commands, in blocks; zero means that none is reported (SBC-3 §6.5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// WRITE SAME of zero blocks is refused (WSNZ).
    pub no_empty_write_same: bool,
    /// Transfers should be multiples of this.
    pub optimal_granularity: u16,
    /// Longest transfer.
    pub maximum_transfer: u32,
    /// Longest transfer without a delay.
    pub optimal_transfer: u32,
    /// Longest PRE-FETCH.
    pub maximum_prefetch: u32,
    /// Most blocks in one UNMAP.
    pub maximum_unmap_blocks: u32,
    /// Most descriptors in one UNMAP.
    pub maximum_unmap_descriptors: u32,
    /// Blocks are given back in multiples of this.
    pub unmap_granularity: u32,
    /// Longest WRITE SAME.
    pub maximum_write_same: u64,
}

impl BlockLimits {
    /// The block limits page.
    pub fn build(&self) -> Bytes {
        let layout = BlockLimitsLayout {
            flags: u8::from(self.no_empty_write_same),
            optimal_granularity: self.optimal_granularity.into(),
            maximum_transfer: self.maximum_transfer.into(),
            optimal_transfer: self.optimal_transfer.into(),
            maximum_prefetch: self.maximum_prefetch.into(),
            maximum_unmap_blocks: self.maximum_unmap_blocks.into(),
            maximum_unmap_descriptors: self.maximum_unmap_descriptors.into(),
            unmap_granularity: self.unmap_granularity.into(),
            maximum_write_same: self.maximum_write_same.into(),
            ..BlockLimitsLayout::default()
        };
        page(BLOCK_LIMITS, &<[u8; LONG_BODY_BYTES]>::from(layout))
    }

    /// Reads the block limits page; what an older device does not send is zero.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let layout = BlockLimitsLayout::from(zero_extended(body(BLOCK_LIMITS, bytes)?));
        Some(Self {
            no_empty_write_same: layout.flags & WSNZ != 0,
            optimal_granularity: layout.optimal_granularity.get(),
            maximum_transfer: layout.maximum_transfer.get(),
            optimal_transfer: layout.optimal_transfer.get(),
            maximum_prefetch: layout.maximum_prefetch.get(),
            maximum_unmap_blocks: layout.maximum_unmap_blocks.get(),
            maximum_unmap_descriptors: layout.maximum_unmap_descriptors.get(),
            unmap_granularity: layout.unmap_granularity.get(),
            maximum_write_same: layout.maximum_write_same.get(),
        })
    }
}

/// The block device characteristics page of a device that does not rotate (SBC-3 §6.5.2).
pub fn characteristics_page() -> Bytes {
    let mut body = [0u8; LONG_BODY_BYTES];
    body[1] = NON_ROTATING;
    page(BLOCK_DEVICE_CHARACTERISTICS, &body)
}

/// How blocks can be given back (SBC-3 §6.5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioning {
    /// By UNMAP (LBPU).
    pub unmap: bool,
    /// By WRITE SAME(16) with the UNMAP bit (LBPWS).
    pub write_same_16: bool,
    /// By WRITE SAME(10) with the UNMAP bit (LBPWS10).
    pub write_same_10: bool,
    /// They read as zeros then (LBPRZ).
    pub reads_zeros: bool,
    /// The unit is thin provisioned.
    pub thin: bool,
}

impl Provisioning {
    /// The logical block provisioning page.
    pub fn build(&self) -> Bytes {
        let flags = if self.unmap { LBPU } else { 0 }
            | if self.write_same_16 { LBPWS } else { 0 }
            | if self.write_same_10 { LBPWS10 } else { 0 }
            | if self.reads_zeros { LBPRZ } else { 0 };
        page(
            LOGICAL_BLOCK_PROVISIONING,
            &[0, flags, if self.thin { TYPE_THIN } else { 0 }, 0],
        )
    }

    /// Reads the logical block provisioning page.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [_, flags, kind, _] = zero_extended::<4>(body(LOGICAL_BLOCK_PROVISIONING, bytes)?);
        Some(Self {
            unmap: flags & LBPU != 0,
            write_same_16: flags & LBPWS != 0,
            write_same_10: flags & LBPWS10 != 0,
            reads_zeros: flags & LBPRZ != 0,
            thin: kind & TYPE_BITS == TYPE_THIN,
        })
    }
}

/// A name as SPC-4 §7.8.6.11 wants it: ended by a zero, padded with zeros to a multiple of four.
fn name_string(name: &str) -> Bytes {
    let mut value = name.as_bytes().to_vec();
    value.resize((value.len() / 4 + 1) * 4, 0);
    value.into()
}

layout! {
    BlockLimitsLayout = 60 {
        0 => flags: u8,
        1 => maximum_compare_and_write: u8,
        2 => optimal_granularity: U16,
        4 => maximum_transfer: U32,
        8 => optimal_transfer: U32,
        12 => maximum_prefetch: U32,
        16 => maximum_unmap_blocks: U32,
        20 => maximum_unmap_descriptors: U32,
        24 => unmap_granularity: U32,
        28 => unmap_alignment: U32,
        32 => maximum_write_same: U64,
        40 => reserved_40: [u8; 20],
    }
}

const HEADER_BYTES: usize = 4;
const LONG_BODY_BYTES: usize = 60;
const KIND_T10_VENDOR: u8 = 1;
const KIND_NAA: u8 = 3;
const KIND_RELATIVE_TARGET_PORT: u8 = 4;
const KIND_TARGET_PORT_GROUP: u8 = 5;
const KIND_NAME: u8 = 8;
const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF_8: u8 = 3;
const PROTOCOL_ISCSI: u8 = 5;
const PIV: u8 = 0x80;
const HEADSUP: u8 = 0x04;
const ORDSUP: u8 = 0x02;
const SIMPSUP: u8 = 0x01;
const WSNZ: u8 = 0x01;
const NON_ROTATING: u8 = 0x01;
const LBPU: u8 = 0x80;
const LBPWS: u8 = 0x40;
const LBPWS10: u8 = 0x20;
const LBPRZ: u8 = 0x04;
const TYPE_BITS: u8 = 0x07;
const TYPE_THIN: u8 = 0x02;
