//! CHAP, demanded by the target (RFC 7143 §12.1.3, §9.2.1). The accounts of both sides are in the invitation.

use tokio::time::timeout;

use crate::chap::{base64, decode, hex, respond};
use crate::check::{Finding, Verdict, ensure, skip, violation};
use crate::initiator::drill::drills;
use crate::initiator::drills::login_status::closes;
use crate::initiator::login::{Asked, Entry};
use crate::initiator::manner::Manner;
use crate::initiator::stage::Stage;
use crate::initiator::visitor::ACCOUNTS;
use crate::keys::Keys;
use crate::login::{OPERATIONAL, SECURITY};
use crate::wire::Heard;
use crate::words;

drills! {
    "chap.offer", "RFC 7143 §12.1.3", Must, Chap, Either,
        "AuthMethod=CHAP"
        => "CHAP_A alone of the keys of CHAP, a list of numbers with 5, MD5, among them", offer;
    "chap.response", "RFC 7143 §12.1.3", Must, Chap, Either,
        "a challenge of 16 bytes in hexadecimal, for the first algorithm that was offered"
        => "the CHAP_N of the initiator, and the CHAP_R that its secret makes", response;
    "chap.response.base64", "RFC 7143 §12.1.3", Must, Chap, Either,
        "a challenge of 16 bytes in base64"
        => "the CHAP_R that the initiator's secret makes of it", in_base64;
    "chap.response.long", "RFC 7143 §12.1.3", Must, Chap, Either,
        "a challenge of 1024 bytes in hexadecimal"
        => "the CHAP_R that the initiator's secret makes of all of it", long;
    "chap.algorithm.not-offered", "RFC 7143 §6.2.1", Must, Chap, Either,
        "CHAP_A=99, which nobody offered, with a challenge"
        => "a protocol error: no proof is sent", algorithm_not_offered;
    "chap.identifier.too-large", "RFC 7143 §12.1.3", Should, Chap, Either,
        "CHAP_I=256, which does not fit into the byte that an identifier has"
        => "no proof is sent", identifier_too_large;
    "chap.mutual.challenge", "RFC 7143 §9.2.1", Must, Chap, Either,
        "a challenge"
        => "if the target has to prove itself, another challenge of at most 1024 bytes and an identifier of one byte", mutual_challenge;
    "chap.mutual.wrong", "RFC 7143 §12.1.3", Must, Chap, Either,
        "a proof of the target that is wrong"
        => "the initiator closes the connection", mutual_wrong;
    "chap.mutual.own-secret", "RFC 7143 §9.2.1", Must, Chap, Either,
        "a proof of the target that is made with the initiator's own secret"
        => "the initiator closes the connection", mutual_own_secret;
    "chap.mutual.missing", "RFC 7143 §12.1.3", Must, Chap, Either,
        "no proof of the target, although it was challenged"
        => "the initiator closes the connection", mutual_missing;
}

/// A login whose next step is the initiator's proof, or what it says instead.
struct Challenged {
    entry: Entry,
    algorithm: u8,
    challenge: Vec<u8>,
}

async fn offer(stage: &mut Stage) -> Verdict {
    let (entry, asked) = begin(stage).await?;
    let Some(list) = asked.keys.get("CHAP_A") else {
        violation!(
            "AuthMethod=CHAP is followed by {} instead of CHAP_A",
            words::keys(&asked.keys)
        );
    };
    let numbers: Option<Vec<u8>> = list.split(',').map(|value| value.parse().ok()).collect();
    ensure!(
        numbers.is_some_and(|numbers| numbers.contains(&MD5)),
        "CHAP_A={list} is no list of numbers with 5 among them"
    );
    for key in ["CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"] {
        ensure!(
            asked.keys.get(key).is_none(),
            "{key} comes together with CHAP_A, before any challenge"
        );
    }
    let mut challenged = challenge(entry, &asked, &CHALLENGE, hex(&CHALLENGE)).await?;
    let proof = step(&mut challenged.entry).await?;
    finish(stage, challenged, &proof).await
}

async fn response(stage: &mut Stage) -> Verdict {
    proven(stage, &CHALLENGE, hex(&CHALLENGE)).await
}

async fn in_base64(stage: &mut Stage) -> Verdict {
    proven(stage, &CHALLENGE, base64(&CHALLENGE)).await
}

async fn long(stage: &mut Stage) -> Verdict {
    let challenge: Vec<u8> = (0..=250).cycle().take(1024).collect();
    proven(stage, &challenge, hex(&challenge)).await
}

/// The initiator has to prove itself to a challenge.
async fn proven(stage: &mut Stage, bytes: &[u8], text: String) -> Verdict {
    let (entry, asked) = begin(stage).await?;
    let mut challenged = challenge(entry, &asked, bytes, text).await?;
    let proof = step(&mut challenged.entry).await?;
    let account = ACCOUNTS.initiator;
    let name = proof.keys.get("CHAP_N").unwrap_or_default();
    if name != account.user {
        finish(stage, challenged, &proof).await?;
        skip!(
            "the initiator is {} instead of {}: give it the account of the URL",
            words::quoted(name),
            account.user
        );
    }
    let due = challenged.response(account.secret, IDENTIFIER, bytes);
    let response = proof.keys.get("CHAP_R").unwrap_or_default();
    ensure!(
        decode(response).is_some_and(|response| response == due),
        "CHAP_R={response} where {} is due to CHAP_A={}, CHAP_I={IDENTIFIER} and a challenge of {} bytes",
        hex(&due),
        challenged.algorithm,
        bytes.len()
    );
    finish(stage, challenged, &proof).await
}

async fn algorithm_not_offered(stage: &mut Stage) -> Verdict {
    let keys = Keys::of(&[
        ("CHAP_A", "99"),
        ("CHAP_I", "1"),
        ("CHAP_C", &hex(&CHALLENGE)),
    ]);
    no_proof(stage, &keys).await
}

async fn identifier_too_large(stage: &mut Stage) -> Verdict {
    let keys = Keys::of(&[
        ("CHAP_A", "5"),
        ("CHAP_I", "256"),
        ("CHAP_C", &hex(&CHALLENGE)),
    ]);
    no_proof(stage, &keys).await
}

/// The target says something that nobody can answer.
async fn no_proof(stage: &mut Stage, keys: &Keys) -> Verdict {
    let (mut entry, asked) = begin(stage).await?;
    let patience = entry.scene.patience;
    if let Err(heard) = entry.answer(&asked, None, 0, keys).await {
        violation!("{heard} in the midst of CHAP");
    }
    // Whoever says nothing at all has not proved itself either.
    if let Ok(Ok(asked)) = timeout(patience, entry.ask()).await {
        ensure!(
            asked.keys.get("CHAP_R").is_none(),
            "{} is answered by a proof",
            words::keys(keys)
        );
    }
    Ok(())
}

async fn mutual_challenge(stage: &mut Stage) -> Verdict {
    let (challenged, proof) = mutual(stage).await?;
    let number = proof.keys.get("CHAP_I").unwrap_or_default();
    ensure!(
        number.parse::<u8>().is_ok(),
        "CHAP_I={number} is no number of one byte"
    );
    let text = proof.keys.get("CHAP_C").unwrap_or_default();
    let Some(bytes) = decode(text) else {
        violation!("CHAP_C={text} is no binary value");
    };
    ensure!(
        (1..=1024).contains(&bytes.len()),
        "CHAP_C has {} bytes",
        bytes.len()
    );
    ensure!(
        bytes != challenged.challenge,
        "the initiator's challenge is the target's own: {}",
        words::hex(&bytes)
    );
    finish(stage, challenged, &proof).await
}

async fn mutual_wrong(stage: &mut Stage) -> Verdict {
    judged_by_initiator(stage, |challenged, identifier, challenge| {
        let mut response = challenged.response(ACCOUNTS.target.secret, identifier, challenge);
        if let Some(byte) = response.first_mut() {
            *byte ^= 1;
        }
        Some(response)
    })
    .await
}

async fn mutual_own_secret(stage: &mut Stage) -> Verdict {
    judged_by_initiator(stage, |challenged, identifier, challenge| {
        Some(challenged.response(ACCOUNTS.initiator.secret, identifier, challenge))
    })
    .await
}

async fn mutual_missing(stage: &mut Stage) -> Verdict {
    judged_by_initiator(stage, |_, _, _| None).await
}

/// The target proves itself in a way that the initiator must not accept, and lets it in.
async fn judged_by_initiator(
    stage: &mut Stage,
    response: fn(&Challenged, u8, &[u8]) -> Option<Vec<u8>>,
) -> Verdict {
    let (mut challenged, proof) = mutual(stage).await?;
    let Some((identifier, challenge)) = challenge_of(&proof.keys) else {
        skip!("the initiator's challenge cannot be read");
    };
    let mut keys = Keys::default();
    if let Some(response) = response(&challenged, identifier, &challenge) {
        keys.set("CHAP_N", ACCOUNTS.target.user);
        keys.set("CHAP_R", &hex(&response));
    }
    let next = proof.next().map(|_| OPERATIONAL);
    if let Err(heard) = challenged.entry.answer(&proof, next, 0, &keys).await {
        violation!("{heard} in the midst of CHAP");
    }
    closes(challenged.entry, "the target failed to prove itself").await
}

/// A login whose initiator wants a proof of the target, up to where that is due.
async fn mutual(stage: &mut Stage) -> Result<(Challenged, Asked), Finding> {
    let (entry, asked) = begin(stage).await?;
    let mut challenged = challenge(entry, &asked, &CHALLENGE, hex(&CHALLENGE)).await?;
    let proof = step(&mut challenged.entry).await?;
    if proof.keys.get("CHAP_C").is_none() && proof.keys.get("CHAP_I").is_none() {
        finish(stage, challenged, &proof).await?;
        skip!("the initiator does not ask the target to prove itself");
    }
    Ok((challenged, proof))
}

impl Challenged {
    fn response(&self, secret: &str, identifier: u8, challenge: &[u8]) -> Vec<u8> {
        let response = respond(self.algorithm, identifier, secret.as_bytes(), challenge);
        response.unwrap_or_default()
    }
}

/// The target chooses CHAP; what the initiator says then.
async fn begin(stage: &mut Stage) -> Result<(Entry, Asked), Finding> {
    let mut entry = stage.entry().await?;
    let asked = step(&mut entry).await?;
    let methods = asked.keys.get("AuthMethod").unwrap_or_default();
    if asked.stage() != SECURITY || methods.split(',').all(|method| method != "CHAP") {
        entry.refuse(&asked, AUTHENTICATION_FAILURE, &[]).await;
        skip!("the initiator does not offer CHAP: give it the account of the URL");
    }
    let keys = Keys::of(&[("TargetPortalGroupTag", "1"), ("AuthMethod", "CHAP")]);
    if let Err(heard) = entry.answer(&asked, None, 0, &keys).await {
        violation!("{heard} in the midst of CHAP");
    }
    let asked = step(&mut entry).await?;
    Ok((entry, asked))
}

/// The target chooses the first algorithm that it knows, and challenges the initiator.
async fn challenge(
    mut entry: Entry,
    asked: &Asked,
    challenge: &[u8],
    text: String,
) -> Result<Challenged, Finding> {
    let list = asked.keys.get("CHAP_A").unwrap_or_default();
    let numbers = list.split(',').filter_map(|value| value.parse::<u8>().ok());
    let known = numbers
        .into_iter()
        .find(|number| respond(*number, 0, &[], &[]).is_some());
    let Some(algorithm) = known else {
        skip!("the initiator offers no algorithm that is known: CHAP_A={list}");
    };
    let keys = Keys::of(&[
        ("CHAP_A", &algorithm.to_string()),
        ("CHAP_I", &IDENTIFIER.to_string()),
        ("CHAP_C", &text),
    ]);
    if let Err(heard) = entry.answer(asked, None, 0, &keys).await {
        violation!("{heard} in the midst of CHAP");
    }
    Ok(Challenged {
        entry,
        algorithm,
        challenge: challenge.to_vec(),
    })
}

async fn step(entry: &mut Entry) -> Result<Asked, Finding> {
    match entry.ask().await {
        Ok(asked) => Ok(asked),
        Err(heard @ (Heard::Pdu(_) | Heard::Closed | Heard::Silence)) => {
            violation!("{heard} where the next step of CHAP is due")
        }
        Err(heard) => violation!("{heard}"),
    }
}

/// Lets the initiator in, with a proof of the target if it wants one, and serves it.
async fn finish(stage: &mut Stage, mut challenged: Challenged, proof: &Asked) -> Verdict {
    let mut keys = Keys::default();
    if let Some((identifier, challenge)) = challenge_of(&proof.keys) {
        let response = challenged.response(ACCOUNTS.target.secret, identifier, &challenge);
        keys.set("CHAP_N", ACCOUNTS.target.user);
        keys.set("CHAP_R", &hex(&response));
    }
    let next = proof.next().map(|_| OPERATIONAL);
    if let Err(heard) = challenged.entry.answer(proof, next, 0, &keys).await {
        violation!("{heard} in the midst of CHAP");
    }
    let caller = challenged.entry.go_on(&Manner::PLAIN).await?;
    stage.see_off(caller).await
}

/// What the initiator challenges the target with.
fn challenge_of(keys: &Keys) -> Option<(u8, Vec<u8>)> {
    let identifier = keys.get("CHAP_I")?.parse().ok()?;
    Some((identifier, decode(keys.get("CHAP_C")?)?))
}

/// CHAP_A of MD5.
const MD5: u8 = 5;
/// CHAP_I of the target's challenges.
const IDENTIFIER: u8 = 0xa7;
/// The target's challenge.
const CHALLENGE: [u8; 16] = *b"sixteen octets !";
/// Status of a login.
const AUTHENTICATION_FAILURE: u16 = 0x0201;
