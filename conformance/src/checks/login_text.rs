//! Text of a login: pieces, lengths, form (RFC 7143 §6.1, §6.2).

use bytes::Bytes;
use iscsi_proto::wire::Pdu;
use iscsi_proto::wire::bhs::{CONTINUE, FINAL, LoginRequest};

use super::logins::{edited, opening, operational, ordinary, transits};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::keys::Keys;
use crate::login::{Answer, OPERATIONAL, Refusal, SECURITY, Talk};
use crate::words;

checks! {
    "login.text.continue-empty", "RFC 7143 §6.2", Must, Reads,
        "the first half of the first text, with C=1"
        => "a response without data and without T", continue_empty;
    "login.text.continue-and-transit", "RFC 7143 §6.2", Must, Reads,
        "a request with C=1 and T=1"
        => "no transit: the text is not complete", continue_and_transit;
    "login.text.spans-pdus", "RFC 7143 §6.1", Must, Reads,
        "a first text in four PDUs, cut within a key and within values"
        => "the answer to the whole of it", spans_pdus;
    "login.text.spans-pdus-again", "RFC 7143 §6.1", Must, Reads,
        "a text of the operational stage in two PDUs, cut within a value"
        => "the answer to the whole of it", spans_pdus_again;
    "login.text.8192-bytes", "RFC 7143 §6.1", Must, Reads,
        "8192 bytes of keys in three requests of the operational stage"
        => "an answer to each key", bytes_8192;
    "login.text.full-pdu", "RFC 7143 §6.3", Must, Reads,
        "8192 bytes of keys in one PDU: the default MaxRecvDataSegmentLength holds"
        => "an answer to each key", full_pdu;
    "login.text.long-answer", "RFC 7143 §6.3", Must, Reads,
        "600 keys whose answers are longer than a PDU of the login may be"
        => "an answer to each, in data segments of at most 8192 bytes", long_answer;
    "login.text.long-answer-transit", "RFC 7143 §11.13.7", Must, Reads,
        "600 keys whose answers are longer than a PDU of the login may be, with T=1"
        => "T=0 in every response with C=1", long_answer_transit;
    "login.text.one-null", "RFC 7143 §6.1", Must, Reads,
        "the first requests of the security and the operational stage"
        => "one null behind every pair of the response, the last one too", one_null;
    "login.text.key-names", "RFC 7143 §6.1", Must, Reads,
        "the first requests of the security and the operational stage"
        => "keys that begin with a capital letter, have at most 63 characters and none that is not allowed", key_names;
}

/// A request with these bytes of text, C set or not.
fn piece(talk: &Talk, stage: u8, text: Bytes, continues: bool) -> Pdu {
    let mut request = talk.request(stage, None, &Keys::default());
    request.data = text;
    edited(request, |header: &mut LoginRequest| {
        if continues {
            header.flags |= CONTINUE;
        }
    })
}

/// Sends a text cut at these places; the answer to the last piece.
async fn in_pieces(
    talk: &mut Talk,
    stage: u8,
    text: &Bytes,
    cuts: &[usize],
) -> Result<Answer, Finding> {
    let mut start = 0;
    for cut in cuts {
        let part = text.slice(start..*cut);
        let request = piece(talk, stage, part, true);
        talk.wire.send(request).await;
        let (header, _) = talk.part().await?;
        ensure!(
            header.status_class == 0,
            "a text that goes on is refused with status {:02x}{:02x}",
            header.status_class,
            header.status_detail
        );
        start = *cut;
    }
    let request = piece(talk, stage, text.slice(start..), false);
    talk.wire.send(request).await;
    talk.answer(stage).await
}

async fn continue_empty(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let text = opening(bench, &talk.login).encode();
    let request = piece(&talk, SECURITY, text.slice(..text.len() / 2), true);
    talk.wire.send(request).await;
    let (header, data) = talk.part().await?;
    ensure!(
        header.status_class == 0,
        "half a text with C=1 is refused with status {:02x}{:02x}",
        header.status_class,
        header.status_detail
    );
    ensure!(
        data.is_empty(),
        "{} bytes of data in the response to a request with C=1",
        data.len()
    );
    ensure!(
        header.flags & FINAL == 0,
        "byte 1 of the response is {:#04x}: T=1",
        header.flags
    );
    Ok(())
}

async fn continue_and_transit(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let keys = Keys::of(&[("MaxConnections", "1")]);
    let request = talk.request(OPERATIONAL, Some(3), &keys);
    let request = edited(request, |header| header.flags |= CONTINUE);
    talk.wire.send(request).await;
    if let Refusal::None(answer) = talk.refusal().await? {
        ensure!(
            !transits(&answer),
            "a request with C=1 is answered by a transit: byte 1 is {:#04x}",
            answer.header.flags
        );
    }
    Ok(())
}

async fn spans_pdus(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let text = opening(bench, &talk.login).encode();
    // Within "InitiatorName", within the name, and within what is last.
    let cuts = [5, 20, text.len() - 3];
    let answer = in_pieces(&mut talk, SECURITY, &text, &cuts).await?;
    talk.expect_success(&answer)?;
    ensure!(
        answer.keys.get("AuthMethod").is_some(),
        "AuthMethod was proposed in pieces, and the answer to the last piece is {}",
        words::keys(&answer.keys)
    );
    Ok(())
}

async fn spans_pdus_again(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let text = Keys::of(&[("MaxBurstLength", "65536"), ("MaxOutstandingR2T", "1")]).encode();
    // Behind "MaxBurstLength=65".
    let answer = in_pieces(&mut talk, OPERATIONAL, &text, &[17]).await?;
    talk.expect_success(&answer)?;
    let (burst, r2ts) = (
        answer.keys.number("MaxBurstLength"),
        answer.keys.number("MaxOutstandingR2T"),
    );
    // 65 would not be admissible, so a target that takes the pieces for texts has no number here.
    ensure!(
        burst.is_some_and(|burst| (512..=65536).contains(&burst)) && r2ts == Some(1),
        "MaxBurstLength=65536 and MaxOutstandingR2T=1 were proposed in two pieces, and the answer is {}",
        words::keys(&answer.keys)
    );
    Ok(())
}

/// 8192 bytes of text: 64 private keys of 128 bytes each, "=" and null included.
fn bytes_of_keys() -> Keys {
    let pair = |number: usize| (format!("X-org.vmthunder.k{number:02}"), "v".repeat(107));
    Keys((0..64).map(pair).collect())
}

fn ensure_not_understood(asked: &Keys, answered: &Keys) -> Verdict {
    for (key, _) in &asked.0 {
        let value = answered.get(key);
        ensure!(
            value == Some("NotUnderstood"),
            "{key} is answered by {}; {} keys were asked for, {} answered",
            value.unwrap_or("nothing"),
            asked.0.len(),
            answered.0.len()
        );
    }
    Ok(())
}

async fn bytes_8192(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    for part in bytes_of_keys().0.chunks(24) {
        let keys = Keys(part.to_vec());
        let answer = talk.ask(OPERATIONAL, None, &keys).await?;
        talk.expect_success(&answer)?;
        ensure_not_understood(&keys, &answer.keys)?;
    }
    Ok(())
}

async fn full_pdu(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let keys = bytes_of_keys();
    let answer = talk.ask(OPERATIONAL, None, &keys).await?;
    talk.expect_success(&answer)?;
    ensure_not_understood(&keys, &answer.keys)
}

/// 600 keys of 9 bytes each; "NotUnderstood" makes more than 8192 bytes of them.
fn many() -> Keys {
    let key = |number: usize| (format!("X-v{number:03}"), "1".to_owned());
    Keys((0..600).map(key).collect())
}

async fn long_answer(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let keys = many();
    let answer = talk.ask(OPERATIONAL, None, &keys).await?;
    talk.expect_success(&answer)?;
    ensure_not_understood(&keys, &answer.keys)
}

async fn long_answer_transit(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let request = talk.request(OPERATIONAL, Some(3), &many());
    talk.wire.send(request).await;
    for _ in 0..MOST_PIECES {
        let (header, _) = talk.part().await?;
        if header.status_class != 0 {
            skip!(
                "600 private keys are refused with status {:02x}{:02x}",
                header.status_class,
                header.status_detail
            );
        }
        if header.flags & CONTINUE == 0 {
            return Ok(());
        }
        ensure!(
            header.flags & FINAL == 0,
            "byte 1 of the response is {:#04x}: C=1 and T=1",
            header.flags
        );
        let next = talk.request(OPERATIONAL, Some(3), &Keys::default());
        talk.wire.send(next).await;
    }
    violation!("the text of the answer has no end after {MOST_PIECES} PDUs")
}

/// The text of the first response of the security stage, as it is on the wire; nothing if it goes on.
async fn security_text(bench: &Bench) -> Result<Bytes, Finding> {
    let talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    raw_answer(talk, SECURITY, &keys).await
}

/// Such a text of the operational stage.
async fn operational_text(bench: &Bench) -> Result<Bytes, Finding> {
    let talk = operational(bench).await?;
    let keys = Keys::of(&[("MaxBurstLength", "65536"), ("X-org.vmthunder.null", "1")]);
    raw_answer(talk, OPERATIONAL, &keys).await
}

async fn raw_answer(mut talk: Talk, stage: u8, keys: &Keys) -> Result<Bytes, Finding> {
    talk.wire.send(talk.request(stage, None, keys)).await;
    let (header, text) = ordinary(talk.part().await)?;
    let goes_on = header.flags & CONTINUE != 0;
    Ok(if goes_on { Bytes::new() } else { text })
}

async fn one_null(bench: &Bench) -> Verdict {
    ensure_one_null(&security_text(bench).await?)?;
    ensure_one_null(&operational_text(bench).await?)
}

fn ensure_one_null(text: &Bytes) -> Verdict {
    let shown = String::from_utf8_lossy(text).replace('\0', "\\0");
    ensure!(
        text.is_empty() || text.ends_with(b"\0"),
        "no null behind the last pair of \"{shown}\""
    );
    let doubled = text.windows(2).any(|two| two == b"\0\0");
    ensure!(!doubled, "more than one null behind a pair of \"{shown}\"");
    Ok(())
}

async fn key_names(bench: &Bench) -> Verdict {
    ensure_key_names(&security_text(bench).await?)?;
    ensure_key_names(&operational_text(bench).await?)
}

fn ensure_key_names(text: &Bytes) -> Verdict {
    let pairs = text
        .split(|byte| *byte == 0)
        .filter(|pair| !pair.is_empty());
    for pair in pairs {
        let shown = String::from_utf8_lossy(pair);
        let Some(end) = pair.iter().position(|byte| *byte == b'=') else {
            violation!("\"{shown}\" is no key=value pair");
        };
        let key = pair.get(..end).unwrap_or_default();
        // "#" is not of a standard-label, and yet X#NodeArchitecture is a key.
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+@_#".contains(byte);
        let capital = key.first().is_some_and(u8::is_ascii_uppercase);
        ensure!(
            capital && key.len() <= 63 && key.iter().all(allowed),
            "the key of \"{shown}\" is no standard-label"
        );
    }
    Ok(())
}

/// The most PDUs that an answer of 600 keys may take.
const MOST_PIECES: usize = 64;
