//! CHAP, both ways: the target proves itself too (RFC 7143 §12.1.3, §9.2.1).

use crate::bench::Bench;
use crate::chap::{Challenge, base64, decode, hex, respond};
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::checks::chap::{
    ALGORITHMS, ANY, BAD_STEP, attempt, challenged, chosen, expect_refusal, prove_with, ready,
    right,
};
use crate::keys::Keys;
use crate::login::{OPERATIONAL, Refusal};
use crate::subject::Credentials;
use crate::wire::Heard;
use crate::words;

checks! {
    "chap.mutual.response", "RFC 7143 §12.1.3", Must, Reads,
        "the proof with a challenge for the target in hexadecimal and in base64, with each algorithm that it knows"
        => "the target's CHAP_N, and the CHAP_R that its secret makes", responses;
    "chap.mutual.challenge-length", "RFC 7143 §12.1.3", Must, Reads,
        "the proof with challenges of 16 and of 1024 bytes for the target"
        => "the target's CHAP_N, and the CHAP_R that its secret makes", lengths;
    "chap.mutual.reflected", "RFC 7143 §9.2.1", Must, Reads,
        "the proof, and the target's own challenge as a challenge for it"
        => "the login is refused, and the connection closes", reflected;
    "chap.mutual.malformed", "RFC 7143 §9.2", Must, Reads,
        "the proof with CHAP_I=256, with CHAP_C alone, and with a CHAP_C of 1025 bytes"
        => "the login is refused as Initiator Error (0200) or Missing Parameter (0207)", malformed;
    "chap.mutual.unasked", "RFC 7143 §12.1.3", Must, Reads,
        "the proof without a challenge for the target"
        => "no CHAP_N and no CHAP_R in the answer", unasked;
}

/// CHAP_I of the suite's challenges.
const IDENTIFIER: u8 = 0xa7;

/// What the target proves itself with.
fn mutual(bench: &Bench) -> Result<Credentials, Finding> {
    match &bench.subject.mutual {
        Some(mutual) => Ok(mutual.clone()),
        None => skip!(
            "nothing was given that the target proves itself with: --mutual-user and --mutual-secret-file name it"
        ),
    }
}

/// The keys of the suite's proof.
fn proof(account: &Credentials, challenge: &Challenge) -> Result<Keys, Finding> {
    let response = hex(&right(account, challenge)?);
    Ok(Keys::of(&[
        ("CHAP_N", &account.user),
        ("CHAP_R", &response),
    ]))
}

/// Bytes that no target sends as its own challenge.
fn bytes(count: usize) -> Vec<u8> {
    (0u8..=250).cycle().take(count).collect()
}

/// Logs in with this algorithm and challenges the target.
async fn challenge_target(
    bench: &Bench,
    algorithms: &str,
    bytes: &[u8],
    written: &str,
    what: &str,
) -> Verdict {
    let account = mutual(bench)?;
    let (mut talk, own) = chosen(bench).await?;
    let Some(challenge) = challenged(&mut talk, algorithms).await? else {
        skip!("the target does not know CHAP_A={algorithms}, or does not allow it");
    };
    let mut keys = proof(&own, &challenge)?;
    keys.set("CHAP_I", &IDENTIFIER.to_string());
    keys.set("CHAP_C", written);
    let answer = match attempt(&mut talk, Some(OPERATIONAL), &keys).await? {
        Refusal::None(answer) => answer,
        // The target may be set up to prove nothing.
        Refusal::Status(0x0201) => skip!("the target does not prove itself"),
        Refusal::Status(status) => violation!("{what} is refused with status {status:04x}"),
        Refusal::Closed => violation!("{what} closes the connection"),
    };
    let (Some(name), Some(response)) = (answer.keys.get("CHAP_N"), answer.keys.get("CHAP_R"))
    else {
        violation!(
            "{what} is not answered with CHAP_N and CHAP_R: {}",
            words::keys(&answer.keys)
        );
    };
    ensure!(
        name == account.user,
        "the target says CHAP_N={name} instead of {}",
        account.user
    );
    let expected = respond(challenge.algorithm, IDENTIFIER, &account.secret, bytes);
    ensure!(
        decode(response) == expected,
        "{what}, CHAP_A={}: the target's CHAP_R is {response} instead of {}",
        challenge.algorithm,
        expected.as_deref().map(hex).unwrap_or_default()
    );
    Ok(())
}

async fn responses(bench: &Bench) -> Verdict {
    mutual(bench)?;
    let challenge = bytes(24);
    let mut proven = false;
    for (number, name) in ALGORITHMS {
        // An algorithm that one side cannot prove itself with is not looked at twice.
        match prove_with(bench, number, number).await {
            Ok(Refusal::None(_)) => {}
            Ok(_) | Err(Finding::NotApplicable(_)) => continue,
            Err(other) => return Err(other),
        }
        let number = number.to_string();
        let what = format!("a challenge in hexadecimal for the target, {name}");
        match challenge_target(bench, &number, &challenge, &hex(&challenge), &what).await {
            Err(Finding::NotApplicable(_)) => continue,
            other => other?,
        }
        proven = true;
        let what = format!("a challenge in base64 for the target, {name}");
        match challenge_target(bench, &number, &challenge, &base64(&challenge), &what).await {
            Err(Finding::NotApplicable(_)) => {
                violation!(
                    "{what}, is refused with status 0201, and the same in hexadecimal is not"
                )
            }
            other => other?,
        }
    }
    if !proven {
        skip!("the target does not prove itself");
    }
    Ok(())
}

async fn lengths(bench: &Bench) -> Verdict {
    for count in [16, 1024] {
        let challenge = bytes(count);
        let what = format!("a challenge of {count} bytes for the target");
        challenge_target(bench, ANY, &challenge, &hex(&challenge), &what).await?;
    }
    Ok(())
}

async fn reflected(bench: &Bench) -> Verdict {
    mutual(bench)?;
    let (mut talk, own, challenge) = ready(bench).await?;
    let mut keys = proof(&own, &challenge)?;
    keys.set("CHAP_I", &challenge.identifier.to_string());
    keys.set("CHAP_C", &hex(&challenge.challenge));
    match attempt(&mut talk, Some(OPERATIONAL), &keys).await? {
        Refusal::Closed => return Ok(()),
        Refusal::Status(_) => {}
        Refusal::None(_) => violation!("the target answers its own challenge"),
    }
    let after = talk.wire.next().await;
    ensure!(
        after == Heard::Closed,
        "the connection has to close when the target's own challenge comes back: {after}"
    );
    Ok(())
}

async fn malformed(bench: &Bench) -> Verdict {
    mutual(bench)?;
    let challenge = hex(&bytes(24));
    let long = hex(&bytes(1025));
    let cases: [(&str, &[(&str, &str)]); 3] = [
        ("CHAP_I=256", &[("CHAP_I", "256"), ("CHAP_C", &challenge)]),
        ("CHAP_C without CHAP_I", &[("CHAP_C", &challenge)]),
        (
            "a CHAP_C of 1025 bytes",
            &[("CHAP_I", "1"), ("CHAP_C", &long)],
        ),
    ];
    for (what, pairs) in cases {
        let (mut talk, own, challenge) = ready(bench).await?;
        let mut keys = proof(&own, &challenge)?;
        keys.0.extend(Keys::of(pairs).0);
        let refusal = attempt(&mut talk, Some(OPERATIONAL), &keys).await?;
        // A target that proves nothing may say so first.
        if !matches!(refusal, Refusal::Status(0x0201)) {
            expect_refusal(&refusal, what, &BAD_STEP)?;
        }
    }
    Ok(())
}

async fn unasked(bench: &Bench) -> Verdict {
    let (mut talk, own, challenge) = ready(bench).await?;
    let keys = proof(&own, &challenge)?;
    let answer = match attempt(&mut talk, Some(OPERATIONAL), &keys).await? {
        Refusal::None(answer) => answer,
        Refusal::Status(status) => {
            violation!("the right proof is refused with status {status:04x}")
        }
        Refusal::Closed => violation!("the right proof closes the connection"),
    };
    for key in ["CHAP_N", "CHAP_R"] {
        ensure!(
            answer.keys.get(key).is_none(),
            "the target was asked for no proof, and answers with {key}"
        );
    }
    Ok(())
}
