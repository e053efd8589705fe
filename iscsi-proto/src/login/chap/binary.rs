//! Binary values as text (RFC 7143 §6.1).

use std::fmt::Write;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The longest CHAP_C and CHAP_R (RFC 7143 §12.1.3).
pub(crate) const MAX_BINARY_BYTES: usize = 1024;

/// Reads a hex-constant or a base64-constant of 1 to [`MAX_BINARY_BYTES`] bytes. A decimal-constant has no length of
/// its own and so cannot stand for a challenge or a response.
pub(crate) fn decode(value: &str) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" => decode_hex(digits.as_bytes())?,
        "0b" | "0B" => BASE64.decode(digits).ok()?,
        _ => return None,
    };
    (1..=MAX_BINARY_BYTES)
        .contains(&bytes.len())
        .then_some(bytes)
}

/// Writes a hex-constant.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// n digits are (n + 1)/2 bytes, so that an odd number of digits begins with half a byte.
fn decode_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (odd, pairs) = digits.split_at(digits.len() % 2);
    let first = odd.iter().map(digit);
    let rest = pairs
        .chunks_exact(2)
        .map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.last()?)?));
    first.chain(rest).collect()
}

/// Some initiators leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    /// RFC 7143 §6.1: hex-constant with its implicit length, and base64-constant.
    #[test]
    fn binary_values_are_hexadecimal_or_base64() {
        assert_eq!(decode("0x0001fF"), Some(vec![0x00, 0x01, 0xff]));
        assert_eq!(decode("0XABC"), Some(vec![0x0a, 0xbc]), "(3 + 1)/2 bytes");
        assert_eq!(decode("0x0"), Some(vec![0]));
        assert_eq!(decode("0bAAH/"), Some(vec![0x00, 0x01, 0xff]));
        assert_eq!(decode("0BAAE="), Some(vec![0x00, 0x01]));
        assert_eq!(decode("0bAAE"), Some(vec![0x00, 0x01]), "without padding");
        assert_eq!(encode(&[0x00, 0x1a, 0xff]), "0x001aff");
    }

    /// RFC 7143 §6.1: a decimal-constant has no implicit length; §12.1.3: 1,024 bytes at most.
    #[test]
    fn other_values_are_refused() {
        for value in [
            "", "0", "0x", "0b", "12345678", "0xg0", "0x1 ", "0x+1", "x00", "0b!!!!", "0bA",
            "0bA===", "0bAA-_", "é0", "0é",
        ] {
            assert_eq!(decode(value), None, "{value}");
        }
        assert_eq!(
            decode(&format!("0x{}", "ab".repeat(1024))).map(|bytes| bytes.len()),
            Some(1024)
        );
        assert_eq!(decode(&format!("0x{}", "ab".repeat(1025))), None);
        assert_eq!(decode(&format!("0b{}", "AAAA".repeat(342))), None);
    }

    proptest! {
        #[test]
        fn binary_values_survive(bytes in prop::collection::vec(any::<u8>(), 1..1025)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in "(0[xXbB])?.{0,20}") {
            let _ = decode(&text);
        }
    }
}
