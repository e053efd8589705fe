//! Vital product data: pages that INQUIRY answers (SPC-4 §7.8, SBC-3 §6.5).

use bytes::{BufMut, Bytes, BytesMut};

mod block;
mod copy;
mod designators;
mod primary;

pub use block::{BlockLimits, Characteristics, Provisioning};
pub use copy::{CopySupport, third_party_copy_page};
pub use designators::{Designator, designators_page, parse_designators};
pub use primary::{ExtendedInquiry, mode_page_policy_page};

/// Supported VPD pages.
pub const SUPPORTED_PAGES: u8 = 0x00;
/// Unit serial number.
pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
/// Device identification.
pub const DEVICE_IDENTIFICATION: u8 = 0x83;
/// Extended INQUIRY data.
pub const EXTENDED_INQUIRY: u8 = 0x86;
/// Mode page policy.
pub const MODE_PAGE_POLICY: u8 = 0x87;
/// Third-party copy.
pub const THIRD_PARTY_COPY: u8 = 0x8f;
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

const HEADER_BYTES: usize = 4;
const LONG_BODY_BYTES: usize = 60;

#[cfg(test)]
mod tests;
