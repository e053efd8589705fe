//! Additional header segments (RFC 7143 §11.2.2).

use bytes::Bytes;
use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16};

/// The most bytes of additional header segments that a header can announce: 255 words.
pub const MAX_AHS_BYTES: usize = 255 * 4;

/// One additional header segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The bytes of a CDB that follow the sixteen in the header (RFC 7143 §11.2.2.3).
    ExtendedCdb(Bytes),
    /// The length expected of the read part of a bidirectional command (RFC 7143 §11.2.2.4).
    BidirectionalReadLength(u32),
    /// A type that RFC 7143 does not define.
    Unknown {
        /// The type.
        kind: u8,
        /// What follows the type.
        payload: Bytes,
    },
}

/// Additional header segments that do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AhsError {
    /// A segment is longer than what is left of the header.
    #[error("an additional header segment is cut off")]
    CutOff,
    /// A segment's length does not suit its type.
    #[error("an additional header segment has a length that does not suit its type")]
    BadLength,
}

/// Takes the segments of a PDU apart.
pub fn segments(ahs: &Bytes) -> Result<Vec<Segment>, AhsError> {
    let mut rest = ahs.as_ref();
    let mut segments = Vec::new();
    while !rest.is_empty() {
        let (after, (kind, payload)) = segment(rest).map_err(|_| AhsError::CutOff)?;
        segments.push(typed(kind, ahs.slice_ref(payload))?);
        rest = after;
    }
    Ok(segments)
}

/// The length counts what follows the type, but not the padding.
fn segment(input: &[u8]) -> nom::IResult<&[u8], (u8, &[u8])> {
    let (rest, (length, kind)) = (be_u16, be_u8).parse(input)?;
    let (rest, payload) = take(length).parse(rest)?;
    let padding = (3 + payload.len()).next_multiple_of(4) - (3 + payload.len());
    let (rest, _) = take(padding).parse(rest)?;
    Ok((rest, (kind, payload)))
}

fn typed(kind: u8, payload: Bytes) -> Result<Segment, AhsError> {
    Ok(match (kind, payload.as_ref()) {
        (EXTENDED_CDB, [_, _, ..]) => Segment::ExtendedCdb(payload.slice(1..)),
        (BIDIRECTIONAL_READ_LENGTH, &[_, a, b, c, d]) => {
            Segment::BidirectionalReadLength(u32::from_be_bytes([a, b, c, d]))
        }
        (EXTENDED_CDB | BIDIRECTIONAL_READ_LENGTH, _) => return Err(AhsError::BadLength),
        _ => Segment::Unknown { kind, payload },
    })
}

const EXTENDED_CDB: u8 = 1;
const BIDIRECTIONAL_READ_LENGTH: u8 = 2;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::{any, prop, proptest};

    use super::{AhsError, Segment, segments};

    /// RFC 7143 §11.2.2, §11.2.2.1, §11.2.2.2, §11.2.2.3 and §11.2.2.4: the types, and lengths without the padding.
    #[test]
    fn segments_are_told_apart() {
        // A CDB of 18 bytes (length 18 - 15 = 3), a read length of 64 KiB, and a type that nobody knows.
        let ahs = Bytes::from_static(&[
            0x00, 0x03, 0x01, 0x00, 0xaa, 0xbb, 0x00, 0x00, //
            0x00, 0x05, 0x02, 0x00, 0x00, 0x01, 0x00, 0x00, //
            0x00, 0x01, 0x3e, 0x77,
        ]);
        let expected = vec![
            Segment::ExtendedCdb(Bytes::from_static(&[0xaa, 0xbb])),
            Segment::BidirectionalReadLength(65_536),
            Segment::Unknown {
                kind: 0x3e,
                payload: Bytes::from_static(&[0x77]),
            },
        ];
        assert_eq!(segments(&ahs), Ok(expected));
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        assert_eq!(
            segments(&Bytes::from_static(&[0, 9, 1, 0])),
            Err(AhsError::CutOff)
        );
        assert_eq!(
            segments(&Bytes::from_static(&[0, 1, 1, 0])),
            Err(AhsError::BadLength)
        );
        assert_eq!(
            segments(&Bytes::from_static(&[0, 1, 2, 0])),
            Err(AhsError::BadLength)
        );
        assert_eq!(segments(&Bytes::from_static(&[0])), Err(AhsError::CutOff));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = segments(&Bytes::from(bytes));
        }
    }
}
