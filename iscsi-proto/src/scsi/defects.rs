//! READ DEFECT DATA(10) and (12) parameter data (SBC-4 §5.19, §5.20), of a medium that has no defects.

use bytes::Bytes;

use super::Form;

/// What the header of a defect list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefectList {
    /// The primary list is in it (PLISTV).
    pub primary: bool,
    /// The grown list is in it (GLISTV).
    pub grown: bool,
    /// DEFECT LIST FORMAT, three bits.
    pub format: u8,
    /// Bytes of address descriptors behind the header.
    pub length: u32,
}

impl DefectList {
    /// An empty list that answers for what was asked.
    pub fn empty(primary: bool, grown: bool, format: u8) -> Self {
        Self {
            primary,
            grown,
            format: format & FORMAT,
            length: 0,
        }
    }

    /// The header: four bytes in the ten-byte form, eight in the twelve-byte form.
    pub fn build(&self, form: Form) -> Bytes {
        let flags = if self.primary { PLISTV } else { 0 }
            | if self.grown { GLISTV } else { 0 }
            | self.format & FORMAT;
        if form == Form::Ten {
            let length = u16::try_from(self.length).unwrap_or(u16::MAX);
            let [high, low] = length.to_be_bytes();
            return Bytes::copy_from_slice(&[0, flags, high, low]);
        }
        // The generation code is zero: the list never changes.
        let [a, b, c, d] = self.length.to_be_bytes();
        Bytes::copy_from_slice(&[0, flags, 0, 0, a, b, c, d])
    }

    /// Reads the header.
    pub fn parse(form: Form, bytes: &[u8]) -> Option<Self> {
        let [_, flags, high, low] = *bytes.first_chunk::<4>()?;
        let length = if form == Form::Ten {
            u16::from_be_bytes([high, low]).into()
        } else {
            let [.., a, b, c, d] = *bytes.first_chunk::<8>()?;
            u32::from_be_bytes([a, b, c, d])
        };
        Some(Self {
            primary: flags & PLISTV != 0,
            grown: flags & GLISTV != 0,
            format: flags & FORMAT,
            length,
        })
    }
}

const PLISTV: u8 = 0x10;
const GLISTV: u8 = 0x08;
const FORMAT: u8 = 0x07;

#[cfg(test)]
mod tests {
    use super::DefectList;
    use crate::scsi::Form;

    #[test]
    fn a_medium_without_defects() {
        let both = DefectList::empty(true, true, 0x0d);
        assert_eq!(both.build(Form::Ten).as_ref(), [0, 0x1d, 0, 0]);
        assert_eq!(
            both.build(Form::Twelve).as_ref(),
            [0, 0x1d, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            DefectList::parse(Form::Ten, &both.build(Form::Ten)),
            Some(both)
        );
        assert_eq!(DefectList::parse(Form::Twelve, &[0, 0x1d, 0, 0]), None);
    }

    #[test]
    fn a_foreign_medium_with_defects() {
        let grown = DefectList {
            length: 0x0102,
            ..DefectList::empty(false, true, 3)
        };
        assert_eq!(
            DefectList::parse(Form::Ten, &[0, 0x0b, 1, 2, 9]),
            Some(grown)
        );
        let bytes = [0, 0x0b, 7, 7, 0, 0, 1, 2];
        assert_eq!(DefectList::parse(Form::Twelve, &bytes), Some(grown));
    }
}
