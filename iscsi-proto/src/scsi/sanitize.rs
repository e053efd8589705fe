//! SANITIZE: how long its parameter list may be, and the list of OVERWRITE (SBC-4 §5.30).

use bytes::{BufMut, Bytes, BytesMut};

use super::{SanitizeAction, Sense, SenseData};

/// Checks the length of the parameter list: OVERWRITE needs a pattern, the others have no list.
pub fn check_length(
    action: SanitizeAction,
    length: u16,
    block_bytes: u32,
) -> Result<(), SenseData> {
    let fits = match action {
        SanitizeAction::Overwrite => {
            usize::from(length) > HEADER_BYTES
                && u64::from(length) <= u64::from(block_bytes) + HEADER_BYTES as u64
        }
        _ => length == 0,
    };
    if fits {
        Ok(())
    } else {
        Err(SenseData::cdb_field(7, 7))
    }
}

/// The parameter list of SANITIZE with the service action OVERWRITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// The pattern is inverted after each pass.
    pub invert: bool,
    /// Number of passes, 1 to 31.
    pub passes: u8,
    /// The pattern, repeated to fill a block.
    pub pattern: Bytes,
}

impl Overwrite {
    /// The list.
    pub fn build(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.pattern.len());
        out.put_u8(if self.invert { INVERT } else { 0 } | self.passes & COUNT);
        out.put_u8(0);
        out.put_u16(u16::try_from(self.pattern.len()).unwrap_or(u16::MAX));
        out.put_slice(&self.pattern);
        out.freeze()
    }

    /// Reads a list, whose length [`check_length`] found right.
    pub fn parse(list: &[u8], block_bytes: u32) -> Result<Self, SenseData> {
        let ([flags, _, high, low], rest) = list
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        if flags & TEST != 0 {
            return Err(SenseData::list_field(0, 6));
        }
        let passes = flags & COUNT;
        if passes == 0 {
            return Err(SenseData::list_field(0, 4));
        }
        let length = u16::from_be_bytes([*high, *low]);
        let fits = length != 0 && u32::from(length) <= block_bytes;
        let pattern = rest
            .get(..usize::from(length))
            .filter(|_| fits)
            .ok_or_else(|| SenseData::list_field(2, 7))?;
        Ok(Self {
            invert: flags & INVERT != 0,
            passes,
            pattern: Bytes::copy_from_slice(pattern),
        })
    }
}

const HEADER_BYTES: usize = 4;
const INVERT: u8 = 0x80;
const TEST: u8 = 0x60;
const COUNT: u8 = 0x1f;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Overwrite, SanitizeAction, check_length};
    use crate::scsi::SenseData;

    #[test]
    fn two_passes_in_bytes() {
        let list = [0x82, 0, 0, 3, 0xaa, 0xbb, 0xcc];
        let overwrite = Overwrite {
            invert: true,
            passes: 2,
            pattern: Bytes::from_static(&[0xaa, 0xbb, 0xcc]),
        };
        assert_eq!(overwrite.build().as_ref(), list);
        assert_eq!(Overwrite::parse(&list, 512), Ok(overwrite));
    }

    #[test]
    fn what_is_refused_is_pointed_at() {
        let refused: [(&[u8], SenseData); 5] = [
            (&[0x00, 0, 0, 1, 9], SenseData::list_field(0, 4)),
            (&[0x21, 0, 0, 1, 9], SenseData::list_field(0, 6)),
            (&[0x01, 0, 0, 0, 9], SenseData::list_field(2, 7)),
            (&[0x01, 0, 0, 2, 9], SenseData::list_field(2, 7)),
            (&[0x01, 0, 0, 5, 9, 9, 9, 9, 9], SenseData::list_field(2, 7)),
        ];
        for (list, sense) in refused {
            assert_eq!(Overwrite::parse(list, 4), Err(sense), "{list:02x?}");
        }
    }

    #[test]
    fn only_overwrite_has_a_list_and_needs_one() {
        let refused = Err(SenseData::cdb_field(7, 7));
        for (action, length, expected) in [
            (SanitizeAction::Overwrite, 0, refused),
            (SanitizeAction::Overwrite, 4, refused),
            (SanitizeAction::Overwrite, 5, Ok(())),
            (SanitizeAction::Overwrite, 516, Ok(())),
            (SanitizeAction::Overwrite, 517, refused),
            (SanitizeAction::BlockErase, 0, Ok(())),
            (SanitizeAction::BlockErase, 8, refused),
            (SanitizeAction::CryptographicErase, 1, refused),
            (SanitizeAction::ExitFailure, 8, refused),
        ] {
            assert_eq!(
                check_length(action, length, 512),
                expected,
                "{action:?} {length}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_built_parses_to_the_same(
            invert in any::<bool>(), passes in 1u8..32, pattern in proptest::collection::vec(any::<u8>(), 1..=512),
        ) {
            let overwrite = Overwrite { invert, passes, pattern: pattern.into() };
            prop_assert_eq!(Overwrite::parse(&overwrite.build(), 512), Ok(overwrite));
        }

        #[test]
        fn hostile_lists_end(list in proptest::collection::vec(any::<u8>(), 0..16), block in any::<u32>()) {
            if let Ok(overwrite) = Overwrite::parse(&list, block) {
                prop_assert_eq!(Overwrite::parse(&overwrite.build(), block), Ok(overwrite));
            }
        }
    }
}
