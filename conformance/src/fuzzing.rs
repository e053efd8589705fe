//! What a fuzzer throws its bytes at, with the promises that have to hold whatever a peer says; compiled for tests and
//! with the feature `fuzzing` alone.

use bytes::BytesMut;
use iscsi_proto::wire::framer::{Framed, Framer};

use crate::chap::{Challenge, base64, decode, hex};
use crate::check::{Finding, Level, Rule};
use crate::initiator::numeral;
use crate::keys::Keys;
use crate::run::Judged;
use crate::wire::{Entry, Transcript, Way};
use crate::words;

/// PDUs of a peer as a verdict shows them: in lines that are not endless, without control characters.
pub fn shown(input: &[u8]) {
    let transcript = Transcript::default();
    let mut framer = Framer::new(LONGEST_SEGMENT);
    let mut stream = BytesMut::from(input);
    let mut nonsense = "nothing".to_owned();
    loop {
        let entry = match framer.next(&mut stream) {
            Ok(Some(Framed::Pdu(pdu))) => Entry::Pdu(Way::Received, pdu),
            Ok(Some(Framed::DataDigestError(_)) | None) => break,
            Err(error) => {
                nonsense = error.to_string();
                break;
            }
        };
        transcript.add(1, entry);
    }
    let text = String::from_utf8_lossy(input).into_owned();
    let verdict = Err(Finding::Violation(format!("{nonsense}: {text}")));
    let judged = Judged::of(&RULE, verdict, &transcript, 0.0);
    assert!(judged.transcript.len() <= MOST_LINES);
    for line in judged.transcript.iter().chain([&judged.detail]) {
        assert!(line.chars().all(|character| !character.is_control()));
        assert!(line.len() <= LONGEST_LINE, "{} bytes", line.len());
    }
}

/// The text of a peer: what is read is written the same way again, and so are the values in it.
pub fn keys(input: &[u8]) {
    let Ok(keys) = Keys::parse(input) else {
        return;
    };
    assert_eq!(Keys::parse(&keys.encode()), Ok(keys.clone()));
    assert!(words::keys(&keys).len() <= input.len() * 4 + LONGEST_LINE);
    let _ = Challenge::parse(&keys);
    for (key, value) in &keys.0 {
        assert!(keys.all(key).any(|found| found == value));
        assert!(keys.get(key).is_some());
        if let Some(bytes) = decode(value) {
            assert_eq!(decode(&hex(&bytes)).as_deref(), Some(&bytes[..]));
            assert_eq!(decode(&base64(&bytes)).as_deref(), Some(&bytes[..]));
        }
        if let Some(number) = numeral(value) {
            assert_eq!(numeral(&number.to_string()), Some(number));
        }
    }
}

const RULE: Rule = Rule {
    name: "fuzzed",
    section: "none",
    level: Level::Must,
    sends: "nothing",
    expects: "nothing",
};
/// More than any input has.
const LONGEST_SEGMENT: u32 = 65_536;
/// A transcript keeps its beginning and its end, and says what it left out.
const MOST_LINES: usize = 201;
/// Eight bytes for each character that a line may have: it may be escaped.
const LONGEST_LINE: usize = 16_384;

#[cfg(test)]
mod tests {
    use iscsi_proto::fuzzing::replay;

    use super::{keys, shown};

    #[test]
    fn what_is_shown_keeps_its_promises() {
        replay("shown", 2_000, shown);
    }

    #[test]
    fn texts_keep_their_promises() {
        replay("keys", 2_000, keys);
    }
}
