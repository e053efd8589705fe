//! Names of units, ports and devices: page 83h (SPC-4 §7.8.6).

use bytes::{BufMut, Bytes, BytesMut};

use super::{DEVICE_IDENTIFICATION, body, page};
use crate::scsi::inquiry::padded;

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

    /// The name of the target device, all its ports together.
    pub fn device_name(name: &str) -> Self {
        Self {
            association: 2,
            kind: KIND_NAME,
            code_set: UTF_8,
            value: name_string(name),
        }
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

    /// The number that [`relative_target_port`](Self::relative_target_port) holds.
    pub fn as_relative_target_port(&self) -> Option<u16> {
        self.as_port_number(KIND_RELATIVE_TARGET_PORT)
    }

    /// The number that [`target_port_group`](Self::target_port_group) holds.
    pub fn as_target_port_group(&self) -> Option<u16> {
        self.as_port_number(KIND_TARGET_PORT_GROUP)
    }

    /// True if it is a name that no other unit has: T10 vendor, EUI-64, NAA, SCSI name or UUID of the logical unit.
    pub fn names_unit(&self) -> bool {
        self.association == 0
            && matches!(
                self.kind,
                KIND_T10_VENDOR | KIND_EUI_64 | KIND_NAA | KIND_NAME | KIND_UUID
            )
    }

    fn as_port_number(&self, kind: u8) -> Option<u16> {
        let &[_, _, high, low] = self.value.as_ref() else {
            return None;
        };
        (self.association == 1 && self.kind == kind).then_some(u16::from_be_bytes([high, low]))
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

/// A name as SPC-4 §7.8.6.11 wants it: ended by a zero, padded with zeros to a multiple of four.
fn name_string(name: &str) -> Bytes {
    let mut value = name.as_bytes().to_vec();
    value.resize((value.len() / 4 + 1) * 4, 0);
    value.into()
}

const KIND_T10_VENDOR: u8 = 1;
const KIND_EUI_64: u8 = 2;
const KIND_NAA: u8 = 3;
const KIND_RELATIVE_TARGET_PORT: u8 = 4;
const KIND_TARGET_PORT_GROUP: u8 = 5;
const KIND_NAME: u8 = 8;
const KIND_UUID: u8 = 10;
const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF_8: u8 = 3;
const PROTOCOL_ISCSI: u8 = 5;
const PIV: u8 = 0x80;
