//! Sense with what it points at: an address, a field, progress (SPC-4 §4.5).

use bytes::{BufMut, Bytes, BytesMut};

use super::Sense;

/// Sense, and what it is about. Both formats carry it; fixed format leaves out an address that has more than 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SenseData {
    /// What happened.
    pub sense: Sense,
    /// INFORMATION: in most cases the block where it happened.
    pub information: Option<u64>,
    /// The sense-key specific field.
    pub specific: Option<SenseSpecific>,
}

/// The sense-key specific field (SPC-4 §4.5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SenseSpecific {
    /// With ILLEGAL REQUEST: the field in error.
    Field {
        /// In the command descriptor block rather than in the parameter list (C/D).
        in_command: bool,
        /// Its first byte.
        byte: u16,
        /// Its leftmost bit, if bits are pointed at.
        bit: Option<u8>,
    },
    /// With NO SENSE or NOT READY: how much of 65536 parts is done.
    Progress(u16),
}

impl SenseData {
    /// INVALID FIELD IN CDB: the field that begins at this byte, with this as its leftmost bit.
    pub fn cdb_field(byte: usize, bit: u8) -> Self {
        Self::field(Sense::INVALID_FIELD_IN_CDB, true, byte, bit)
    }

    /// INVALID FIELD IN PARAMETER LIST: the field that begins at this byte, with this as its leftmost bit.
    pub fn list_field(byte: usize, bit: u8) -> Self {
        Self::field(Sense::INVALID_FIELD_IN_PARAMETER_LIST, false, byte, bit)
    }

    /// Sense that tells how much of an operation is done, in parts of 65536.
    pub fn progress(sense: Sense, done: u16) -> Self {
        Self {
            specific: Some(SenseSpecific::Progress(done)),
            ..sense.into()
        }
    }

    /// The same with INFORMATION.
    pub fn with_information(self, information: u64) -> Self {
        Self {
            information: Some(information),
            ..self
        }
    }

    /// Current sense in fixed format (SPC-4 §4.5.3); 18 bytes.
    pub fn to_fixed_bytes(&self) -> Bytes {
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let mut out = BytesMut::with_capacity(FIXED_BYTES);
        out.put_u8(FIXED_CURRENT | if information.is_some() { VALID } else { 0 });
        out.put_slice(&[0, self.sense.key]);
        out.put_u32(information.unwrap_or(0));
        // The additional sense length counts what follows it.
        out.put_u8(10);
        out.put_u32(0);
        out.put_slice(&[self.sense.asc, self.sense.ascq, 0]);
        out.put_slice(&self.specific.map_or([0; 3], SenseSpecific::to_bytes));
        out.freeze()
    }

    /// Current sense in descriptor format (SPC-4 §4.5.2), with a descriptor for each thing that is known.
    pub fn to_descriptor_bytes(&self) -> Bytes {
        let mut descriptors = BytesMut::new();
        if let Some(information) = self.information {
            descriptors.put_slice(&[INFORMATION_DESCRIPTOR, 0x0a, VALID, 0]);
            descriptors.put_u64(information);
        }
        if let Some(specific) = self.specific {
            let [flags, high, low] = specific.to_bytes();
            descriptors.put_slice(&[SPECIFIC_DESCRIPTOR, 6, 0, 0, flags, high, low, 0]);
        }
        let Sense { key, asc, ascq } = self.sense;
        let length = u8::try_from(descriptors.len()).unwrap_or(u8::MAX);
        let mut out = BytesMut::with_capacity(DESCRIPTORS_AT + descriptors.len());
        out.put_slice(&[DESCRIPTOR_CURRENT, key, asc, ascq, 0, 0, 0, length]);
        out.put_slice(&descriptors);
        out.freeze()
    }

    /// Reads current or deferred sense of either format; bytes that are missing read as zero, as SPC-4 has it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        match at(0) & RESPONSE_CODE {
            0x70 | 0x71 => {
                let sense = Sense::new(at(2) & KEY, at(12), at(13));
                let information = u32::from_be_bytes([at(3), at(4), at(5), at(6)]);
                Some(Self {
                    sense,
                    information: (at(0) & VALID != 0).then_some(information.into()),
                    specific: SenseSpecific::parse(sense.key, [at(15), at(16), at(17)]),
                })
            }
            0x72 | 0x73 => {
                let mut found = Self::from(Sense::new(at(1) & KEY, at(2), at(3)));
                let rest = bytes.get(DESCRIPTORS_AT..).unwrap_or_default();
                found.take_descriptors(rest.get(..usize::from(at(7))).unwrap_or(rest));
                Some(found)
            }
            _ => None,
        }
    }

    fn take_descriptors(&mut self, mut bytes: &[u8]) {
        while let Some(([kind, length], rest)) = bytes.split_first_chunk::<2>() {
            let (body, behind) = rest
                .split_at_checked(usize::from(*length))
                .unwrap_or((rest, &[]));
            match (*kind, body) {
                (INFORMATION_DESCRIPTOR, [flags, _, value @ ..]) if flags & VALID != 0 => {
                    if let Some(value) = value.first_chunk::<8>() {
                        self.information = Some(u64::from_be_bytes(*value));
                    }
                }
                (SPECIFIC_DESCRIPTOR, [_, _, flags, high, low, ..]) => {
                    self.specific = SenseSpecific::parse(self.sense.key, [*flags, *high, *low]);
                }
                _ => {}
            }
            bytes = behind;
        }
    }

    fn field(sense: Sense, in_command: bool, byte: usize, bit: u8) -> Self {
        Self {
            specific: Some(SenseSpecific::Field {
                in_command,
                byte: u16::try_from(byte).unwrap_or(u16::MAX),
                bit: Some(bit & BIT_POINTER),
            }),
            ..sense.into()
        }
    }
}

impl SenseSpecific {
    fn to_bytes(self) -> [u8; 3] {
        match self {
            Self::Field {
                in_command,
                byte,
                bit,
            } => {
                let command = if in_command { COMMAND_DATA } else { 0 };
                let bit = bit.map_or(0, |bit| BIT_POINTER_VALID | bit & BIT_POINTER);
                let [high, low] = byte.to_be_bytes();
                [SKSV | command | bit, high, low]
            }
            Self::Progress(done) => {
                let [high, low] = done.to_be_bytes();
                [SKSV, high, low]
            }
        }
    }

    fn parse(key: u8, [flags, high, low]: [u8; 3]) -> Option<Self> {
        let value = u16::from_be_bytes([high, low]);
        match key {
            _ if flags & SKSV == 0 => None,
            NO_SENSE | NOT_READY => Some(Self::Progress(value)),
            ILLEGAL_REQUEST => Some(Self::Field {
                in_command: flags & COMMAND_DATA != 0,
                byte: value,
                bit: (flags & BIT_POINTER_VALID != 0).then_some(flags & BIT_POINTER),
            }),
            _ => None,
        }
    }
}

impl From<Sense> for SenseData {
    fn from(sense: Sense) -> Self {
        Self {
            sense,
            information: None,
            specific: None,
        }
    }
}

const FIXED_BYTES: usize = 18;
const FIXED_CURRENT: u8 = 0x70;
const DESCRIPTOR_CURRENT: u8 = 0x72;
const DESCRIPTORS_AT: usize = 8;
const RESPONSE_CODE: u8 = 0x7f;
const KEY: u8 = 0x0f;
const NO_SENSE: u8 = 0x00;
const NOT_READY: u8 = 0x02;
const ILLEGAL_REQUEST: u8 = 0x05;
const INFORMATION_DESCRIPTOR: u8 = 0x00;
const SPECIFIC_DESCRIPTOR: u8 = 0x02;
const VALID: u8 = 0x80;
const SKSV: u8 = 0x80;
const COMMAND_DATA: u8 = 0x40;
const BIT_POINTER_VALID: u8 = 0x08;
const BIT_POINTER: u8 = 0x07;
