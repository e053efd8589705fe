//! Targets that break the rules of `chap_mutual`.

use crate::broken::faults::chap::{ask, let_in, restated, say};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "chap.mutual.response",
        "the target's proof is wrong",
        || {
            say("CHAP_R", |_| {
                "0x00112233445566778899aabbccddeeff".to_owned()
            })
        },
    ),
    fault(
        "chap.mutual.response",
        "the target calls itself the initiator",
        || say("CHAP_N", |_| "initiator".to_owned()),
    ),
    fault(
        "chap.mutual.response",
        "a challenge in base64 is taken as letters",
        || {
            ask("CHAP_C", |challenge| match challenge.strip_prefix("0b") {
                Some(letters) => letters.bytes().fold("0x".to_owned(), |hex, letter| {
                    hex + &format!("{letter:02x}")
                }),
                None => challenge.to_owned(),
            })
        },
    ),
    fault(
        "chap.mutual.response",
        "the target proves nothing and says nothing",
        || edit::answered_keys(|pairs| pairs.retain(|(name, _)| name != "CHAP_R")),
    ),
    fault(
        "chap.mutual.challenge-length",
        "a long challenge is cut",
        || {
            ask("CHAP_C", |challenge| {
                challenge.chars().take(2 + 2 * 256).collect()
            })
        },
    ),
    fault(
        "chap.mutual.reflected",
        "the target answers its own challenge",
        || let_in(&[0x0201]),
    ),
    fault(
        "chap.mutual.reflected",
        "whoever reflects may try again",
        || {
            Box::new(|seen, lane| {
                if matches!(seen, Seen::TargetClosed) {
                    lane.stay();
                }
                Act::Pass
            })
        },
    ),
    fault(
        "chap.mutual.malformed",
        "CHAP_I is taken modulo 256",
        || {
            ask("CHAP_I", |number| {
                (number.parse::<u32>().unwrap() % 256).to_string()
            })
        },
    ),
    fault(
        "chap.mutual.malformed",
        "a challenge without a number has number 0",
        || {
            edit::asked_keys(|pairs| {
                let has = |key| pairs.iter().any(|(name, _)| name == key);
                if has("CHAP_C") && !has("CHAP_I") {
                    pairs.push(("CHAP_I".to_owned(), "0".to_owned()));
                }
            })
        },
    ),
    fault(
        "chap.mutual.malformed",
        "too long a challenge is cut",
        || {
            ask("CHAP_C", |challenge| {
                challenge.chars().take(2 + 2 * 1024).collect()
            })
        },
    ),
    fault(
        "chap.mutual.malformed",
        "what is malformed is called a target error",
        || restated(0x0200, 0x0300),
    ),
    fault(
        "chap.mutual.unasked",
        "the target proves itself to everybody",
        || {
            edit::asked_keys(|pairs| {
                let has = |key| pairs.iter().any(|(name, _)| name == key);
                if has("CHAP_R") && !has("CHAP_C") {
                    pairs.push(("CHAP_I".to_owned(), "1".to_owned()));
                    pairs.push(("CHAP_C".to_owned(), "0x0123456789abcdef".to_owned()));
                }
            })
        },
    ),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Chap,
        saboteur,
    }
}
