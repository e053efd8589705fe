//! Text: key=value pairs, each ended by a zero byte (RFC 7143 §6.1).

use bytes::{BufMut, Bytes, BytesMut};
use nom::bytes::complete::{tag, take_till, take_till1, take_while};
use nom::sequence::{separated_pair, terminated};
use nom::{IResult, Parser};

/// The most text that is taken as one: the 64 KiB that RFC 7143 §6.1 asks for.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The longest key (RFC 7143 §6.1, standard-label).
pub const MAX_KEY_BYTES: usize = 63;

/// A text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The text is longer than the limit.
    #[error("the text is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The last pair is not ended by a zero byte, or a pair has no equals sign.
    #[error("a pair is not of the form key=value")]
    NotAPair,
    /// A key is longer than [`MAX_KEY_BYTES`].
    #[error("a key is longer than 63 bytes")]
    KeyTooLong,
    /// A key holds a byte that no key may hold.
    #[error("a key holds a forbidden byte")]
    BadKey,
    /// A value is not UTF-8.
    #[error("a value is not UTF-8")]
    BadValue,
}

/// Writes pairs as text.
pub fn encode<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Bytes {
    let mut text = BytesMut::new();
    for (key, value) in pairs {
        text.put_slice(key.as_ref().as_bytes());
        text.put_u8(b'=');
        text.put_slice(value.as_ref().as_bytes());
        text.put_u8(0);
    }
    text.freeze()
}

/// Reads at most [`MAX_TEXT_BYTES`] of text. Spare zero bytes between and after pairs are tolerated.
pub fn parse(text: &[u8]) -> Result<Vec<(String, String)>, TextError> {
    parse_within(text, MAX_TEXT_BYTES)
}

/// Reads text up to a limit of the caller's.
pub fn parse_within(text: &[u8], limit: usize) -> Result<Vec<(String, String)>, TextError> {
    if text.len() > limit {
        return Err(TextError::TooLong { limit });
    }
    let mut pairs = Vec::new();
    let mut rest = skip_zeros(text);
    while !rest.is_empty() {
        let (after, (key, value)) = pair(rest).map_err(|_| TextError::NotAPair)?;
        pairs.push((checked_key(key)?, checked_value(value)?));
        rest = skip_zeros(after);
    }
    Ok(pairs)
}

fn pair(input: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
    let key = take_till1(|byte| byte == b'=' || byte == 0);
    let value = take_till(|byte| byte == 0);
    terminated(separated_pair(key, tag("="), value), tag("\0")).parse(input)
}

/// Some initiators count the padding as text.
fn skip_zeros(input: &[u8]) -> &[u8] {
    let skip = take_while::<_, _, nom::error::Error<&[u8]>>(|byte| byte == 0).parse(input);
    skip.map_or(input, |(rest, _)| rest)
}

fn checked_key(key: &[u8]) -> Result<String, TextError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(TextError::KeyTooLong);
    }
    // "#" is no letter of a standard-label, yet X#NodeArchitecture is a key (RFC 7143 §13.26).
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+@_#".contains(byte);
    if !key.iter().all(allowed) {
        return Err(TextError::BadKey);
    }
    String::from_utf8(key.to_vec()).map_err(|_| TextError::BadKey)
}

fn checked_value(value: &[u8]) -> Result<String, TextError> {
    String::from_utf8(value.to_vec()).map_err(|_| TextError::BadValue)
}

#[cfg(test)]
mod tests {
    use super::{TextError, encode, parse, parse_within};
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn a_value_may_hold_equals_signs_and_may_be_empty() {
        assert_eq!(
            parse(b"A=b=c=\0SendTargets=\0"),
            Ok(pairs(&[("A", "b=c="), ("SendTargets", "")]))
        );
        assert_eq!(
            encode(&[("A", "b=c="), ("SendTargets", "")]).as_ref(),
            b"A=b=c=\0SendTargets=\0"
        );
    }

    #[test]
    fn spare_zeros_are_no_pairs() {
        assert_eq!(
            parse(b"\0\0A=1\0\0\0B=2\0\0"),
            Ok(pairs(&[("A", "1"), ("B", "2")]))
        );
        assert_eq!(parse(b""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for text in [&b"A=1"[..], b"A\0", b"=1\0", b"A=1\0B", b"A=1\0B\0C=2\0"] {
            assert_eq!(parse(text), Err(TextError::NotAPair), "{text:?}");
        }
        assert_eq!(parse(b"A B=1\0"), Err(TextError::BadKey));
        assert_eq!(parse(b"A=\xff\0"), Err(TextError::BadValue));
    }

    #[test]
    fn lengths_are_limited() {
        let key = "K".repeat(63);
        assert_eq!(
            parse(format!("{key}=1\0").as_bytes()),
            Ok(pairs(&[(&key, "1")]))
        );
        assert_eq!(
            parse(format!("{key}K=1\0").as_bytes()),
            Err(TextError::KeyTooLong)
        );
        let text = format!("A={}\0", "x".repeat(65_533));
        assert_eq!(text.len(), 65_536);
        assert!(parse(text.as_bytes()).is_ok());
        assert_eq!(
            parse_within(text.as_bytes(), 65_535),
            Err(TextError::TooLong { limit: 65_535 })
        );
    }

    proptest! {
        #[test]
        fn pairs_survive(pairs in prop::collection::vec(("[A-Z][a-zA-Z0-9.@_+-]{0,62}", "[^\0]{0,40}"), 0..20)) {
            prop_assert_eq!(parse(&encode(&pairs)), Ok(pairs));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
