//! The TransportID of an iSCSI initiator (SPC-4 §7.6.4.6).

use bytes::{BufMut, BytesMut};

use super::super::layout::layout;
use crate::name::IscsiName;
use crate::wire::bhs::Isid;

/// Names an initiator in parameter data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportId {
    /// All ports of an initiator (format 00b).
    Device(IscsiName),
    /// One port of an initiator (format 01b).
    Port(IscsiName, Isid),
}

impl TransportId {
    /// The name of the initiator.
    pub fn initiator(&self) -> &IscsiName {
        match self {
            Self::Device(name) | Self::Port(name, _) => name,
        }
    }

    /// Appends the bytes.
    pub fn put(&self, out: &mut BytesMut) {
        let (format, text) = match self {
            Self::Device(name) => (FORMAT_DEVICE, name.to_string()),
            Self::Port(name, isid) => {
                let digits: String = isid.iter().map(|byte| format!("{byte:02x}")).collect();
                (FORMAT_PORT, format!("{name}{SEPARATOR}{digits}"))
            }
        };
        // The text ends with at least one zero.
        let field = (text.len() + 1).next_multiple_of(4).max(MIN_FIELD_BYTES);
        out.put_u8(format | PROTOCOL_ISCSI);
        out.put_u8(0);
        out.put_u16(u16::try_from(field).unwrap_or(u16::MAX));
        out.put_slice(text.as_bytes());
        out.put_bytes(0, field - text.len());
    }

    /// The one at the front, and how many bytes it takes; none if that is no TransportID of iSCSI.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (front, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let header = Header::from(*front);
        if header.code & PROTOCOL != PROTOCOL_ISCSI {
            return None;
        }
        let field = usize::from(header.additional_length.get());
        if field < MIN_FIELD_BYTES || field % 4 != 0 {
            return None;
        }
        let text = rest.get(..field)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(text.get(..end)?).ok()?;
        let id = match header.code & FORMAT {
            FORMAT_DEVICE => Self::Device(text.parse().ok()?),
            FORMAT_PORT => {
                let (name, digits) = text.split_once(SEPARATOR)?;
                Self::Port(name.parse().ok()?, parse_isid(digits)?)
            }
            _ => return None,
        };
        Some((id, HEADER_BYTES + field))
    }

    /// A list of them that fills all bytes; else the offset of the first that is wrong.
    pub(super) fn parse_list(bytes: &[u8]) -> Result<Vec<Self>, usize> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (id, length) = Self::parse(rest).ok_or(at)?;
            found.push(id);
            at += length;
        }
        Ok(found)
    }
}

/// Leading zeros may be missing.
fn parse_isid(digits: &str) -> Option<Isid> {
    let sound = (1..=ISID_DIGITS).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !sound {
        return None;
    }
    let [_, _, isid @ ..] = u64::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(isid)
}

layout! {
    /// The bytes before the name.
    Header = 4 {
        0 => code: u8,
        1 => _reserved: u8,
        2 => additional_length: zerocopy::big_endian::U16,
    }
}

const HEADER_BYTES: usize = 4;
/// Names shorter than that are filled up.
const MIN_FIELD_BYTES: usize = 20;
const FORMAT: u8 = 0xc0;
const FORMAT_DEVICE: u8 = 0x00;
const FORMAT_PORT: u8 = 0x40;
const PROTOCOL: u8 = 0x0f;
const PROTOCOL_ISCSI: u8 = 0x05;
const SEPARATOR: &str = ",i,0x";
const ISID_DIGITS: usize = 12;
