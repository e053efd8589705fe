//! Standard INQUIRY data (SPC-4 §6.4.2).

use bytes::Bytes;
use zerocopy::byteorder::big_endian::U16;

use super::layout::{layout, zero_extended};

/// What a unit says about itself first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandardInquiry {
    /// Peripheral qualifier, three bits: 0 connected, 3 no such unit.
    pub qualifier: u8,
    /// Peripheral device type, five bits: 0 is a direct access block device, 1Fh none.
    pub device_type: u8,
    /// The version of SPC that is claimed: 6 is SPC-4.
    pub version: u8,
    /// The medium can be removed (RMB).
    pub removable: bool,
    /// Copies that do not pass the initiator are supported (3PC).
    pub third_party_copy: bool,
    /// Asymmetric access that is supported, two bits (TPGS).
    pub target_port_groups: u8,
    /// Commands may be queued (CMDQUE).
    pub queueing: bool,
    /// Vendor, padded with spaces or cut to eight characters.
    pub vendor: String,
    /// Product, padded with spaces or cut to sixteen characters.
    pub product: String,
    /// Revision, padded with spaces or cut to four characters.
    pub revision: String,
    /// The standards that are claimed, at most eight.
    pub standards: Vec<u16>,
}

/// Peripheral device type of a direct access block device.
pub const DEVICE_TYPE_BLOCK: u8 = 0x00;

/// Version descriptors of the standards that are followed: SAM-5, SPC-4, SBC-3, iSCSI (SPC-4 table 142).
pub const STANDARDS: [u16; 4] = [0x00a0, 0x0460, 0x04c0, 0x0960];

impl StandardInquiry {
    /// A block device of this product.
    pub fn block_device(vendor: &str, product: &str, revision: &str) -> Self {
        Self {
            qualifier: 0,
            device_type: DEVICE_TYPE_BLOCK,
            removable: false,
            third_party_copy: false,
            version: VERSION_SPC_4,
            target_port_groups: 0,
            queueing: true,
            vendor: vendor.to_owned(),
            product: product.to_owned(),
            revision: revision.to_owned(),
            standards: STANDARDS.to_vec(),
        }
    }

    /// What is said of a logical unit that does not exist (SPC-4 §6.4.1).
    pub fn no_such_unit() -> Self {
        Self {
            qualifier: 3,
            device_type: 0x1f,
            standards: Vec::new(),
            ..Self::block_device("", "", "")
        }
    }

    /// The 96 bytes.
    pub fn build(&self) -> Bytes {
        let mut descriptors = [U16::ZERO; 8];
        for (to, from) in descriptors.iter_mut().zip(&self.standards) {
            *to = (*from).into();
        }
        let layout = Layout {
            peripheral: self.qualifier << 5 | self.device_type & DEVICE_TYPE,
            removable: if self.removable { RMB } else { 0 },
            version: self.version,
            format: HISUP | RESPONSE_FORMAT,
            additional_length: ADDITIONAL_LENGTH,
            access: (self.target_port_groups << 4) & TPGS
                | if self.third_party_copy {
                    THIRD_PARTY
                } else {
                    0
                },
            queueing: if self.queueing { CMDQUE } else { 0 },
            vendor: padded(&self.vendor),
            product: padded(&self.product),
            revision: padded(&self.revision),
            descriptors,
            ..Layout::default()
        };
        Bytes::copy_from_slice(&<[u8; 96]>::from(layout))
    }

    /// Reads standard INQUIRY data; at least the 36 bytes that every device must have.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < MINIMUM_BYTES {
            return None;
        }
        let layout = Layout::from(zero_extended(bytes));
        Some(Self {
            qualifier: layout.peripheral >> 5,
            device_type: layout.peripheral & DEVICE_TYPE,
            removable: layout.removable & RMB != 0,
            third_party_copy: layout.access & THIRD_PARTY != 0,
            version: layout.version,
            target_port_groups: (layout.access & TPGS) >> 4,
            queueing: layout.queueing & CMDQUE != 0,
            vendor: text(&layout.vendor),
            product: text(&layout.product),
            revision: text(&layout.revision),
            standards: layout
                .descriptors
                .iter()
                .map(|one| one.get())
                .filter(|one| *one != 0)
                .collect(),
        })
    }
}

/// Printable ASCII, left-aligned, padded with spaces, as SPC-4 §4.4.1 wants it.
pub(super) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [b' '; N];
    let printable = text.bytes().map(|byte| {
        if (0x20..0x7f).contains(&byte) {
            byte
        } else {
            b'?'
        }
    });
    for (to, from) in out.iter_mut().zip(printable) {
        *to = from;
    }
    out
}

/// Text from the wire without its padding; what is not ASCII becomes U+FFFD.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_matches([' ', '\0'])
        .to_owned()
}

layout! {
    Layout = 96 {
        0 => peripheral: u8,
        1 => removable: u8,
        2 => version: u8,
        3 => format: u8,
        4 => additional_length: u8,
        5 => access: u8,
        6 => ports: u8,
        7 => queueing: u8,
        8 => vendor: [u8; 8],
        16 => product: [u8; 16],
        32 => revision: [u8; 4],
        36 => vendor_specific: [u8; 22],
        58 => descriptors: [U16; 8],
        74 => reserved_74: [u8; 22],
    }
}

const MINIMUM_BYTES: usize = 36;
const VERSION_SPC_4: u8 = 0x06;
const DEVICE_TYPE: u8 = 0x1f;
const HISUP: u8 = 0x10;
const RESPONSE_FORMAT: u8 = 0x02;
const ADDITIONAL_LENGTH: u8 = 91;
const RMB: u8 = 0x80;
const TPGS: u8 = 0x30;
const THIRD_PARTY: u8 = 0x08;
const CMDQUE: u8 = 0x02;

#[cfg(test)]
mod tests {
    use super::StandardInquiry;

    #[test]
    fn a_block_device_introduces_itself() {
        let inquiry = StandardInquiry::block_device("VMTHNDR", "a rather long product name", "1");
        let bytes = inquiry.build();
        assert_eq!(bytes.len(), 96);
        assert_eq!(bytes[..8], [0x00, 0x00, 0x06, 0x12, 0x5b, 0x00, 0x00, 0x02]);
        assert_eq!(&bytes[8..36], b"VMTHNDR a rather long pr1   ");
        assert_eq!(
            bytes[58..66],
            [0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0, 0x09, 0x60]
        );
        assert!(bytes[66..].iter().all(|byte| *byte == 0));
        let parsed = StandardInquiry::parse(&bytes).unwrap();
        assert_eq!(parsed.product, "a rather long pr");
        assert_eq!(
            StandardInquiry {
                product: inquiry.product.clone(),
                ..parsed
            },
            inquiry
        );
    }

    #[test]
    fn an_old_device_answers_36_bytes() {
        let mut bytes = vec![0x05, 0x80, 0x05, 0x02, 31, 0, 0, 0];
        bytes.extend_from_slice(b"TGT     VIRTUAL-CDROM   0001");
        let parsed = StandardInquiry::parse(&bytes).unwrap();
        assert_eq!(
            (parsed.qualifier, parsed.device_type, parsed.version),
            (0, 5, 5)
        );
        assert_eq!(parsed.vendor, "TGT");
        assert!(parsed.standards.is_empty());
        assert_eq!(StandardInquiry::parse(&bytes[..35]), None);
    }

    #[test]
    fn a_removable_unit_that_copies_and_knows_groups() {
        let inquiry = StandardInquiry {
            removable: true,
            third_party_copy: true,
            target_port_groups: 1,
            ..StandardInquiry::block_device("V", "P", "1")
        };
        let bytes = inquiry.build();
        assert_eq!(bytes[..8], [0x00, 0x80, 0x06, 0x12, 0x5b, 0x18, 0x00, 0x02]);
        assert_eq!(StandardInquiry::parse(&bytes), Some(inquiry));
    }

    #[test]
    fn a_missing_unit_has_qualifier_three() {
        assert_eq!(StandardInquiry::no_such_unit().build()[0], 0x7f);
    }
}
