//! CHAP as an ordinary initiator does it (RFC 7143 §12.1.3, RFC 1994), computed here and not by the code that our own
//! target and initiator share.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha3::Digest as _;

use crate::bench::Bench;
use crate::check::{Finding, violation};
use crate::keys::Keys;
use crate::login::{OPERATIONAL, SECURITY, Talk};
use crate::subject::Credentials;
use crate::words;

/// The hash of identifier, secret and challenge; `None` for an algorithm that nobody registered.
pub(crate) fn respond(
    algorithm: u8,
    identifier: u8,
    secret: &[u8],
    challenge: &[u8],
) -> Option<Vec<u8>> {
    let message = [&[identifier], secret, challenge].concat();
    Some(match algorithm {
        5 => md5::Md5::digest(&message).to_vec(),
        6 => sha1::Sha1::digest(&message).to_vec(),
        7 => sha2::Sha256::digest(&message).to_vec(),
        8 => sha3::Sha3_256::digest(&message).to_vec(),
        _ => return None,
    })
}

/// A hex-constant (RFC 7143 §6.1).
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A base64-constant (RFC 7143 §6.1).
pub(crate) fn base64(bytes: &[u8]) -> String {
    format!("0b{}", STANDARD.encode(bytes))
}

/// Reads a hex-constant or a base64-constant.
pub(crate) fn decode(value: &str) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    match prefix {
        "0b" | "0B" => STANDARD.decode(digits).ok(),
        "0x" | "0X" => {
            let digits = if digits.len() % 2 == 0 {
                digits.to_owned()
            } else {
                format!("0{digits}")
            };
            (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
                .collect()
        }
        _ => None,
    }
}

/// What a target sends in its second step: algorithm, identifier, challenge.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub(crate) algorithm: u8,
    pub(crate) identifier: u8,
    pub(crate) challenge: Vec<u8>,
}

impl Challenge {
    /// Reads CHAP_A, CHAP_I and CHAP_C.
    pub(crate) fn parse(keys: &Keys) -> Result<Self, Finding> {
        let number = |key: &str| keys.get(key).and_then(|value| value.parse().ok());
        let (Some(algorithm), Some(identifier), Some(challenge)) = (
            number("CHAP_A"),
            number("CHAP_I"),
            keys.get("CHAP_C").and_then(decode),
        ) else {
            violation!(
                "CHAP_A, CHAP_I and CHAP_C are the answer to CHAP_A; what came is {}",
                words::keys(keys)
            );
        };
        Ok(Self {
            algorithm,
            identifier,
            challenge,
        })
    }
}

/// Proves the suite to the target after the target chose CHAP; ends in the operational stage.
pub(crate) async fn prove(talk: &mut Talk, account: &Credentials) -> Result<(), Finding> {
    let (_, proof) = proof(talk, account).await?;
    let answer = talk.ask(SECURITY, Some(OPERATIONAL), &proof).await?;
    talk.expect_success(&answer)?;
    if answer.moves_to(OPERATIONAL) {
        return Ok(());
    }
    talk.insist().await
}

/// Lets the target choose an algorithm and challenge the suite: that algorithm, and the keys that answer.
async fn proof(talk: &mut Talk, account: &Credentials) -> Result<(u8, Keys), Finding> {
    // MD5 first, which every target knows; one that does not allow it has a choice.
    let offer = Keys::of(&[("CHAP_A", "5,6,7,8")]);
    let answer = talk.ask(SECURITY, None, &offer).await?;
    talk.expect_success(&answer)?;
    let challenge = Challenge::parse(&answer.keys)?;
    let Some(response) = respond(
        challenge.algorithm,
        challenge.identifier,
        &account.secret,
        &challenge.challenge,
    ) else {
        violation!("CHAP_A={} was not offered", challenge.algorithm);
    };
    let keys = Keys::of(&[("CHAP_N", &account.user), ("CHAP_R", &hex(&response))]);
    Ok((challenge.algorithm, keys))
}

/// How a target proves itself otherwise than the subject says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// With another secret.
    Secret,
    /// Under this name.
    Name(String),
}

/// Whether the target proves itself as the subject says, so that a mistake in that is not taken for the target's.
/// Whatever else goes wrong is for the checks to find: then nothing is known.
pub(crate) async fn misfit(bench: &Bench) -> Option<Misfit> {
    let (own, its) = (bench.subject.chap.as_ref()?, bench.subject.mutual.as_ref()?);
    let mut talk = bench.talk(bench.login()).await.ok()?;
    let mut keys = talk.login.names();
    keys.set("AuthMethod", "CHAP");
    let chosen = talk.ask(SECURITY, None, &keys).await.ok()?;
    chosen
        .keys
        .get("AuthMethod")
        .filter(|method| *method == "CHAP")?;
    let (algorithm, mut keys) = proof(&mut talk, own).await.ok()?;
    let mut challenge = [0; 16];
    getrandom::fill(&mut challenge).ok()?;
    let [identifier, ..] = challenge;
    keys.set("CHAP_I", &identifier.to_string());
    keys.set("CHAP_C", &hex(&challenge));
    let answer = talk.ask(SECURITY, Some(OPERATIONAL), &keys).await.ok()?;
    let (name, proven) = (answer.keys.get("CHAP_N")?, answer.keys.get("CHAP_R")?);
    if decode(proven) != respond(algorithm, identifier, &its.secret, &challenge) {
        return Some(Misfit::Secret);
    }
    (name != its.user).then(|| Misfit::Name(name.to_owned()))
}
