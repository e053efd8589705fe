//! Initiators that prove themselves wrongly, or believe whatever a target proves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iscsi_conformance::initiator::ACCOUNTS;
use iscsi_proto::wire::{Header, Pdu, text};
use md5::{Digest as _, Md5};

use crate::stumbling::faults::login::value;
use crate::stumbling::faults::login_keys::answered;
use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "does not offer MD5",
        trips: "chap.offer",
        saboteur: || value("CHAP_A", |_| "7,8".to_owned()),
    },
    Fault {
        name: "tells its name with the algorithms",
        trips: "chap.offer",
        saboteur: || {
            edit::asked_keys(|keys| {
                if keys.iter().any(|(key, _)| key == "CHAP_A") {
                    keys.push(("CHAP_N".to_owned(), ACCOUNTS.initiator.user.to_owned()));
                }
            })
        },
    },
    Fault {
        name: "another identifier in the hash",
        trips: "chap.response",
        saboteur: || answered("CHAP_I", "3"),
    },
    Fault {
        name: "takes base64 for the bytes themselves",
        trips: "chap.response.base64",
        saboteur: || {
            edit::answered_keys(|keys| {
                for (key, value) in keys {
                    if key == "CHAP_C" {
                        *value = format!("0b{}", STANDARD.encode(value.as_bytes()));
                    }
                }
            })
        },
    },
    Fault {
        name: "the first 16 bytes of a challenge alone",
        trips: "chap.response.long",
        saboteur: || {
            edit::answered_keys(|keys| {
                for (key, value) in keys {
                    if key == "CHAP_C" {
                        *value = cut(value);
                    }
                }
            })
        },
    },
    Fault {
        name: "takes an unknown algorithm for MD5",
        trips: "chap.algorithm.not-offered",
        saboteur: || answered("CHAP_A", "5"),
    },
    Fault {
        name: "the low byte of an identifier is enough",
        trips: "chap.identifier.too-large",
        saboteur: || answered("CHAP_I", "0"),
    },
    Fault {
        name: "challenges the target with its own challenge",
        trips: "chap.mutual.challenge",
        saboteur: || {
            let mut heard = String::new();
            Box::new(move |seen, _| match seen {
                Seen::Response(pdu) => {
                    if let Some(challenge) = keys_of(pdu).remove("CHAP_C") {
                        heard = challenge;
                    }
                    Act::Pass
                }
                Seen::Request(pdu) => edited(pdu, |keys| {
                    for (key, value) in keys {
                        if key == "CHAP_C" {
                            value.clone_from(&heard);
                        }
                    }
                }),
                Seen::TargetClosed => Act::Pass,
            })
        },
    },
    Fault {
        name: "a challenge without bytes",
        trips: "chap.mutual.challenge",
        saboteur: || value("CHAP_C", |_| "0b".to_owned()),
    },
    Fault {
        name: "believes a wrong proof",
        trips: "chap.mutual.wrong",
        saboteur: believes,
    },
    Fault {
        name: "believes a proof with its own secret",
        trips: "chap.mutual.own-secret",
        saboteur: believes,
    },
    Fault {
        name: "does not mind that there is no proof",
        trips: "chap.mutual.missing",
        saboteur: believes,
    },
];

/// The initiator sees the right proof, whatever the target sent. Its algorithm is MD5.
fn believes() -> Saboteur {
    let asked: Arc<Mutex<Option<String>>> = Arc::default();
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) => {
            let mut keys = keys_of(pdu);
            if let (Some(identifier), Some(challenge)) =
                (keys.remove("CHAP_I"), keys.remove("CHAP_C"))
            {
                *asked.lock().unwrap() = Some(proof(&identifier, &challenge));
            }
            edited(pdu, |keys| {
                for (key, value) in keys {
                    if key == "CHAP_A" {
                        "5".clone_into(value);
                    }
                }
            })
        }
        Seen::Response(pdu) => match asked.lock().unwrap().take() {
            Some(response) => edited(pdu, |keys| {
                keys.retain(|(key, _)| !key.starts_with("CHAP_"));
                keys.push(("CHAP_N".to_owned(), ACCOUNTS.target.user.to_owned()));
                keys.push(("CHAP_R".to_owned(), response.clone()));
            }),
            None => Act::Pass,
        },
        Seen::TargetClosed => Act::Pass,
    })
}

/// CHAP_R of the target (RFC 1994 §4.1).
fn proof(identifier: &str, challenge: &str) -> String {
    let mut hash = Md5::new();
    hash.update([identifier.parse::<u8>().unwrap()]);
    hash.update(ACCOUNTS.target.secret);
    hash.update(bytes(challenge));
    let digits = hash.finalize();
    let digits = digits.iter().map(|byte| format!("{byte:02x}"));
    format!("0x{}", digits.collect::<String>())
}

fn bytes(value: &str) -> Vec<u8> {
    match value.strip_prefix("0b") {
        Some(digits) => STANDARD.decode(digits).unwrap(),
        None => {
            let digits = value.strip_prefix("0x").unwrap();
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            (0..digits.len()).step_by(2).map(byte).collect()
        }
    }
}

fn cut(challenge: &str) -> String {
    format!("0b{}", STANDARD.encode(&bytes(challenge)[..16]))
}

fn keys_of(pdu: &Pdu) -> HashMap<String, String> {
    match pdu.header {
        Header::LoginRequest(_) | Header::LoginResponse(_) => text::parse(&pdu.data)
            .unwrap_or_default()
            .into_iter()
            .collect(),
        _ => HashMap::new(),
    }
}

fn edited(pdu: &Pdu, edit: impl Fn(&mut Vec<(String, String)>)) -> Act {
    if !matches!(
        pdu.header,
        Header::LoginRequest(_) | Header::LoginResponse(_)
    ) {
        return Act::Pass;
    }
    let mut keys = text::parse(&pdu.data).unwrap_or_default();
    edit(&mut keys);
    let mut pdu = pdu.clone();
    pdu.data = text::encode(&keys);
    Act::Replace(vec![pdu])
}
