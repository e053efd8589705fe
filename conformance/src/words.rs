//! What was seen, in words for people, and never endless. [`Judged`](crate::Judged) takes control characters out.

use std::fmt::Display;
use std::time::Duration;

use crate::keys::Keys;

/// Bytes in hexadecimal digits, `0a 0b`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes
        .iter()
        .take(MOST_SHOWN)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    match bytes.len().checked_sub(MOST_SHOWN) {
        _ if bytes.is_empty() => "no bytes".to_owned(),
        Some(more @ 1..) => format!("{} and {more} more bytes", shown.join(" ")),
        _ => shown.join(" "),
    }
}

/// `6, 10 and 12`.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut shown: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let more = shown.len().saturating_sub(MOST_SHOWN);
    shown.truncate(MOST_SHOWN);
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    match shown.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// Codes of one byte, `00h and 83h`.
pub(crate) fn codes(codes: &[u8]) -> String {
    list(codes.iter().map(|code| format!("{code:02x}h")))
}

/// Task tags, `00000001 and 00000002`.
pub(crate) fn tags(tags: &[u32]) -> String {
    list(tags.iter().map(|tag| format!("{tag:08x}")))
}

/// Sense key, additional sense code and qualifier, `5/25/00`.
pub(crate) fn sense((key, asc, ascq): (u8, u8, u8)) -> String {
    format!("{key:x}/{asc:02x}/{ascq:02x}")
}

/// What a peer wrote, in quotation marks.
pub(crate) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// `2 s`, `150 ms`.
pub(crate) fn time(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}

/// `CHAP_A=5 and CHAP_I=7`.
pub(crate) fn keys(keys: &Keys) -> String {
    match keys.0.is_empty() {
        true => "no keys".to_owned(),
        false => {
            let pairs = keys.0.iter();
            list(pairs.map(|(key, value)| format!("{key}={value}")))
        }
    }
}

/// So many bytes, or things of a list, are shown.
const MOST_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{codes, hex, keys, list, sense, tags, time};
    use crate::keys::Keys;

    #[test]
    fn what_was_seen_is_told_in_words() {
        assert_eq!(hex(&[0x0a, 0xff]), "0a ff");
        assert_eq!(hex(&[]), "no bytes");
        assert!(hex(&[0; 70]).ends_with("00 and 6 more bytes"));
        assert_eq!(hex(&[0; 64]).len(), 64 * 3 - 1);
        assert_eq!(list([6, 10, 12]), "6, 10 and 12");
        assert_eq!(list(Vec::<u8>::new()), "none");
        assert!(list(0..100).ends_with("63 and 36 more"));
        assert_eq!(codes(&[0, 0x83]), "00h and 83h");
        assert_eq!(tags(&[1]), "00000001");
        assert_eq!(sense((5, 0x25, 0)), "5/25/00");
        assert_eq!(time(Duration::from_millis(1500)), "1500 ms");
        assert_eq!(time(Duration::from_secs(2)), "2 s");
        assert_eq!(keys(&Keys::default()), "no keys");
        assert_eq!(keys(&Keys::of(&[("A", "1"), ("B", "")])), "A=1 and B=");
    }
}
