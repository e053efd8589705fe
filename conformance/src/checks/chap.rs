//! CHAP, one way (RFC 7143 §12.1.3).

use std::collections::BTreeSet;

use crate::bench::Bench;
use crate::chap::{Challenge, base64, hex, respond};
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::keys::Keys;
use crate::login::{Answer, FULL_FEATURE, OPERATIONAL, Refusal, SECURITY, Talk};
use crate::subject::Credentials;
use crate::wire::Heard;
use crate::words;

checks! {
    "chap.md5", "RFC 7143 §12.1.3", Must, Reads,
        "CHAP_A=5, then the MD5 response to the target's challenge"
        => "the initiator is let in", md5;
    "chap.sha1", "RFC 7143 §12.1.3", Must, Reads,
        "CHAP_A=6, then the SHA-1 response to the target's challenge"
        => "the initiator is let in, or the target does not know the algorithm", sha1;
    "chap.sha256", "RFC 7143 §12.1.3", Must, Reads,
        "CHAP_A=7, then the SHA-256 response to the target's challenge"
        => "the initiator is let in, or the target does not know the algorithm", sha256;
    "chap.sha3-256", "RFC 7143 §12.1.3", Must, Reads,
        "CHAP_A=8, then the SHA3-256 response to the target's challenge"
        => "the initiator is let in, or the target does not know the algorithm", sha3_256;
    "chap.algorithms.order", "RFC 7143 §6.2.1", Must, Reads,
        "two algorithms that the target knows, in either order"
        => "the target chooses the first one in the list", order;
    "chap.algorithms.unknown", "RFC 7143 §6.2.1", Must, Reads,
        "CHAP_A with numbers that nobody registered in front of known ones"
        => "the target ignores them and chooses a known one", unknown_algorithms;
    "chap.algorithms.none", "RFC 7143 §12.1.3", Must, Reads,
        "CHAP_A with nothing but numbers that nobody registered"
        => "the login is refused as Authentication Failure (0201), or as an initiator error (0200): 5 must be offered",
        no_algorithm;
    "chap.response.wrong", "RFC 7143 §12.1.3", Must, Reads,
        "a CHAP_R that another secret made"
        => "the login is refused as Authentication Failure (0201), and the connection closes", wrong_response;
    "chap.response.length", "RFC 7143 §12.1.3", Must, Reads,
        "the right CHAP_R cut short, with a byte too many, and without any digits"
        => "the login is refused as an initiator's error (0200, 0201 or 0207)", wrong_length;
    "chap.response.encoding", "RFC 7143 §6.1", Must, Reads,
        "the right CHAP_R in base64, and in hexadecimal with capital letters"
        => "the initiator is let in", encodings;
    "chap.name.wrong", "RFC 7143 §12.1.3", Must, Reads,
        "the right CHAP_R with a CHAP_N that is nobody's, and with one of more than 255 bytes"
        => "the login is refused, the former as Authentication Failure (0201)", wrong_name;
    "chap.keys.missing", "RFC 7143 §9.2", Must, Reads,
        "CHAP_N without CHAP_R, CHAP_R without CHAP_N, and both before any challenge"
        => "the login is refused as Initiator Error (0200) or Missing Parameter (0207)", missing_keys;
    "chap.challenge.form", "RFC 7143 §12.1.3", Must, Reads,
        "CHAP_A"
        => "CHAP_A, CHAP_I and CHAP_C in one response, the challenge of 1 to 1024 bytes", challenge_form;
    "chap.challenge.new", "RFC 1994 §4.1", Must, Reads,
        "logins one after the other and two at once, up to the challenge"
        => "no challenge comes twice", new_challenges;
    "chap.transit.premature", "RFC 7143 §6.3.2", Must, Reads,
        "the T bit with AuthMethod, and with CHAP_A, for the next stage and for the full feature phase"
        => "the stage does not change before the proof", premature_transit;
    "chap.stage.skipped", "RFC 7143 §6.3.1", Must, Reads,
        "a login that begins in the operational stage, to a target that does not let AuthMethod=None in"
        => "the login is refused", skipped_stage;
    "chap.method", "RFC 7143 §6.2.1", Must, Reads,
        "AuthMethod with None alone, and with a method of the suite's own in front of CHAP"
        => "a method that was offered, or a refusal", methods;
}

/// Every algorithm that has a number.
pub(super) const ALGORITHMS: [(u8, &str); 4] =
    [(5, "MD5"), (6, "SHA-1"), (7, "SHA-256"), (8, "SHA3-256")];
/// All of them, for checks that are about something else.
pub(super) const ANY: &str = "5,6,7,8";
const AUTHENTICATION_FAILURE: u16 = 0x0201;
/// What RFC 7143 §9.2 has for keys that do not belong in a step, and for those that are missing.
pub(super) const BAD_STEP: [u16; 2] = [0x0200, 0x0207];

/// What is done to the right response.
type Damage = fn(Vec<u8>) -> Vec<u8>;
/// How a response is written.
type Encode = fn(&[u8]) -> String;

/// A login in which the target has chosen CHAP.
pub(super) async fn chosen(bench: &Bench) -> Result<(Talk, Credentials), Finding> {
    let Some(account) = bench.subject.chap.clone() else {
        skip!(
            "no CHAP account was given: name its user in the URL (iscsi://USER@HOST), and its secret with --chap-secret-file"
        );
    };
    let mut talk = bench.talk(bench.login()).await?;
    let mut keys = talk.login.names();
    keys.set("AuthMethod", "CHAP");
    match attempt(&mut talk, None, &keys).await? {
        Refusal::None(answer) if answer.keys.get("AuthMethod") == Some("CHAP") => {
            Ok((talk, account))
        }
        _ => skip!("the target does not use CHAP"),
    }
}

/// A request of the security stage that the target may refuse.
pub(super) async fn attempt(
    talk: &mut Talk,
    next: Option<u8>,
    keys: &Keys,
) -> Result<Refusal, Finding> {
    talk.wire.send(talk.request(SECURITY, next, keys)).await;
    let refusal = talk.refusal().await?;
    if let Refusal::None(answer) = &refusal {
        talk.exp_stat_sn = answer.header.stat_sn.get().wrapping_add(1);
    }
    Ok(refusal)
}

/// The target's challenge to one who offers these algorithms; nothing if it refuses them.
pub(super) async fn challenged(
    talk: &mut Talk,
    algorithms: &str,
) -> Result<Option<Challenge>, Finding> {
    let offer = Keys::of(&[("CHAP_A", algorithms)]);
    match attempt(talk, None, &offer).await? {
        Refusal::None(answer) => Challenge::parse(&answer.keys).map(Some),
        Refusal::Status(_) | Refusal::Closed => Ok(None),
    }
}

/// A login up to the target's challenge, to whatever algorithm it likes.
pub(super) async fn ready(bench: &Bench) -> Result<(Talk, Credentials, Challenge), Finding> {
    let (mut talk, account) = chosen(bench).await?;
    match challenged(&mut talk, ANY).await? {
        Some(challenge) => Ok((talk, account, challenge)),
        None => violation!("CHAP_A={ANY} is refused"),
    }
}

/// The right response.
pub(super) fn right(account: &Credentials, challenge: &Challenge) -> Result<Vec<u8>, Finding> {
    let Challenge {
        algorithm,
        identifier,
        challenge,
    } = challenge;
    match respond(*algorithm, *identifier, &account.secret, challenge) {
        Some(response) => Ok(response),
        None => violation!("CHAP_A={algorithm} is the target's choice, which was not offered"),
    }
}

/// Anything but a refusal with one of these statuses is a violation.
pub(super) fn expect_refusal(refusal: &Refusal, what: &str, statuses: &[u16]) -> Verdict {
    match refusal {
        Refusal::Status(status) if statuses.contains(status) => Ok(()),
        Refusal::Status(status) => {
            violation!(
                "{what} is refused with status {status:04x} instead of {}",
                words::list(statuses.iter().map(|status| format!("{status:04x}")))
            )
        }
        Refusal::None(answer) if answer.header.flags & 0x80 != 0 => {
            violation!("{what} is taken for a proof: the stage changes")
        }
        Refusal::None(_) => violation!("{what} is answered as if the login could go on"),
        Refusal::Closed => {
            violation!("{what} closes the connection without a Login Response that says why")
        }
    }
}

/// Sends a proof; the initiator has to be let in.
async fn expect_entry(talk: &mut Talk, what: &str, name: &str, response: &str) -> Verdict {
    let proof = Keys::of(&[("CHAP_N", name), ("CHAP_R", response)]);
    match attempt(talk, Some(OPERATIONAL), &proof).await? {
        Refusal::None(answer) if answer.moves_to(OPERATIONAL) => Ok(()),
        Refusal::None(_) => talk.insist().await,
        Refusal::Status(status) => violation!("{what} is refused with status {status:04x}"),
        Refusal::Closed => violation!("{what} closes the connection"),
    }
}

/// What would be refused means nothing if the right proof is refused too.
async fn enter(bench: &Bench) -> Verdict {
    let (mut talk, account, challenge) = ready(bench).await?;
    let response = hex(&right(&account, &challenge)?);
    match expect_entry(&mut talk, "the right proof", &account.user, &response).await {
        Err(Finding::Violation(why)) => Err(Finding::Unreachable(why)),
        other => other,
    }
}

async fn md5(bench: &Bench) -> Verdict {
    algorithm(bench, 5).await
}

async fn sha1(bench: &Bench) -> Verdict {
    algorithm(bench, 6).await
}

async fn sha256(bench: &Bench) -> Verdict {
    algorithm(bench, 7).await
}

async fn sha3_256(bench: &Bench) -> Verdict {
    algorithm(bench, 8).await
}

async fn algorithm(bench: &Bench, number: u8) -> Verdict {
    let proven = prove_with(bench, number, number).await?;
    let Refusal::Status(status) = proven else {
        ensure!(
            matches!(proven, Refusal::None(_)),
            "the right response to CHAP_A={number} closes the connection"
        );
        return Ok(());
    };
    // Some take a number for another hash; saying for which spares people a long search.
    for (other, name) in ALGORITHMS {
        let another = other != number;
        if another && matches!(prove_with(bench, number, other).await?, Refusal::None(_)) {
            violation!(
                "under CHAP_A={number} the right response is refused with status {status:04x}, and one made with {name} is let in"
            );
        }
    }
    violation!("the right response to CHAP_A={number} is refused with status {status:04x}")
}

/// A login with this CHAP_A and a response made with the algorithm of another number.
pub(super) async fn prove_with(
    bench: &Bench,
    number: u8,
    made_with: u8,
) -> Result<Refusal, Finding> {
    let (mut talk, account) = chosen(bench).await?;
    let Some(challenge) = challenged(&mut talk, &number.to_string()).await? else {
        skip!("the target does not know CHAP_A={number}, or does not allow it");
    };
    ensure!(
        challenge.algorithm == number,
        "CHAP_A={number} is offered, and CHAP_A={} is the answer",
        challenge.algorithm
    );
    let made = Challenge {
        algorithm: made_with,
        ..challenge
    };
    let response = hex(&right(&account, &made)?);
    let proof = Keys::of(&[("CHAP_N", &account.user), ("CHAP_R", &response)]);
    attempt(&mut talk, Some(OPERATIONAL), &proof).await
}

async fn order(bench: &Bench) -> Verdict {
    let mut known = Vec::new();
    for (number, _) in ALGORITHMS {
        let (mut talk, _) = chosen(bench).await?;
        if challenged(&mut talk, &number.to_string()).await?.is_some() {
            known.push(number);
        }
    }
    let [first, second, ..] = known.as_slice() else {
        skip!(
            "the target knows no two algorithms: of those of the suite {}",
            words::list(&known)
        );
    };
    for (first, second) in [(first, second), (second, first)] {
        let (mut talk, _) = chosen(bench).await?;
        let list = format!("{first},{second}");
        let Some(challenge) = challenged(&mut talk, &list).await? else {
            violation!("each of {first} and {second} will do alone, and CHAP_A={list} is refused");
        };
        ensure!(
            challenge.algorithm == *first,
            "the answer to CHAP_A={list} is CHAP_A={}, not the first that the target knows",
            challenge.algorithm
        );
    }
    Ok(())
}

async fn unknown_algorithms(bench: &Bench) -> Verdict {
    let (mut talk, _) = chosen(bench).await?;
    let list = format!("99,100,{ANY}");
    let Some(challenge) = challenged(&mut talk, &list).await? else {
        violation!("CHAP_A={list} is refused");
    };
    ensure!(
        ALGORITHMS
            .iter()
            .any(|(number, _)| *number == challenge.algorithm),
        "the answer to CHAP_A={list} is CHAP_A={}",
        challenge.algorithm
    );
    Ok(())
}

async fn no_algorithm(bench: &Bench) -> Verdict {
    let (mut talk, _) = chosen(bench).await?;
    let offer = Keys::of(&[("CHAP_A", "99,100")]);
    let refusal = attempt(&mut talk, None, &offer).await?;
    // Whoever does not offer 5 breaks a rule too (RFC 7143 §12.1.3).
    expect_refusal(&refusal, "CHAP_A=99,100", &[AUTHENTICATION_FAILURE, 0x0200])
}

async fn wrong_response(bench: &Bench) -> Verdict {
    enter(bench).await?;
    let (mut talk, account, challenge) = ready(bench).await?;
    let wrong = Credentials {
        secret: [account.secret.as_slice(), b"!"].concat().into(),
        ..account.clone()
    };
    let response = hex(&right(&wrong, &challenge)?);
    let proof = Keys::of(&[("CHAP_N", &account.user), ("CHAP_R", &response)]);
    let refusal = attempt(&mut talk, Some(OPERATIONAL), &proof).await?;
    expect_refusal(&refusal, "a wrong CHAP_R", &[AUTHENTICATION_FAILURE])?;
    let after = talk.wire.next().await;
    ensure!(
        after == Heard::Closed,
        "after a login that failed the connection has to close: {after}"
    );
    Ok(())
}

async fn wrong_length(bench: &Bench) -> Verdict {
    enter(bench).await?;
    let cases: [(&str, Damage); 3] = [
        ("half of the right CHAP_R", |mut right| {
            right.truncate(right.len() / 2);
            right
        }),
        (
            "the right CHAP_R with a zero byte behind it",
            |mut right| {
                right.push(0);
                right
            },
        ),
        ("CHAP_R=0x", |_| Vec::new()),
    ];
    for (what, damage) in cases {
        let (mut talk, account, challenge) = ready(bench).await?;
        let response = hex(&damage(right(&account, &challenge)?));
        let proof = Keys::of(&[("CHAP_N", &account.user), ("CHAP_R", &response)]);
        let refusal = attempt(&mut talk, Some(OPERATIONAL), &proof).await?;
        // Wrong in its form or wrong as a proof: both are true.
        expect_refusal(&refusal, what, &[AUTHENTICATION_FAILURE, 0x0200, 0x0207])?;
    }
    Ok(())
}

async fn encodings(bench: &Bench) -> Verdict {
    enter(bench).await?;
    let cases: [(&str, Encode); 2] = [
        ("the right CHAP_R in base64", base64),
        ("the right CHAP_R in capital letters", |bytes| {
            hex(bytes).to_uppercase()
        }),
    ];
    for (what, encode) in cases {
        let (mut talk, account, challenge) = ready(bench).await?;
        let response = encode(&right(&account, &challenge)?);
        expect_entry(&mut talk, what, &account.user, &response).await?;
    }
    Ok(())
}

async fn wrong_name(bench: &Bench) -> Verdict {
    enter(bench).await?;
    let (mut talk, account, challenge) = ready(bench).await?;
    let response = hex(&right(&account, &challenge)?);
    let stranger = format!("not-{}", account.user);
    let proof = Keys::of(&[("CHAP_N", &stranger), ("CHAP_R", &response)]);
    let refusal = attempt(&mut talk, Some(OPERATIONAL), &proof).await?;
    expect_refusal(
        &refusal,
        "a CHAP_N that is nobody's",
        &[AUTHENTICATION_FAILURE],
    )?;

    let (mut talk, account, challenge) = ready(bench).await?;
    let response = hex(&right(&account, &challenge)?);
    let long = account.user.clone() + &"x".repeat(256);
    let proof = Keys::of(&[("CHAP_N", &long), ("CHAP_R", &response)]);
    match attempt(&mut talk, Some(OPERATIONAL), &proof).await? {
        // No text value is that long (RFC 7143 §6.1), so there are several ways to say no.
        Refusal::Status(_) | Refusal::Closed => Ok(()),
        Refusal::None(_) => violation!("a CHAP_N of {} bytes is let in", long.len()),
    }
}

async fn missing_keys(bench: &Bench) -> Verdict {
    for missing in ["CHAP_R", "CHAP_N"] {
        let (mut talk, account, challenge) = ready(bench).await?;
        let response = hex(&right(&account, &challenge)?);
        let mut proof = Keys::of(&[("CHAP_N", &account.user), ("CHAP_R", &response)]);
        proof.remove(missing);
        let refusal = attempt(&mut talk, Some(OPERATIONAL), &proof).await?;
        expect_refusal(&refusal, &format!("a proof without {missing}"), &BAD_STEP)?;
    }
    let (mut talk, account) = chosen(bench).await?;
    let proof = Keys::of(&[("CHAP_N", &account.user), ("CHAP_R", &hex(&[0x5a; 16]))]);
    let refusal = attempt(&mut talk, Some(OPERATIONAL), &proof).await?;
    expect_refusal(&refusal, "a proof before any challenge", &BAD_STEP)
}

async fn challenge_form(bench: &Bench) -> Verdict {
    let (_, _, challenge) = ready(bench).await?;
    let bytes = challenge.challenge.len();
    ensure!(
        (1..=1024).contains(&bytes),
        "CHAP_C has {bytes} bytes instead of 1 to 1024"
    );
    Ok(())
}

async fn new_challenges(bench: &Bench) -> Verdict {
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let (_, _, challenge) = ready(bench).await?;
        ensure!(
            seen.insert(challenge.challenge),
            "a challenge comes again in a later login"
        );
    }
    let (mut one, _) = chosen(bench).await?;
    let Ok((mut other, _)) = chosen(bench).await else {
        // There are targets that take one login after the other: nothing comes on a connection beside.
        return Ok(());
    };
    for talk in [&mut one, &mut other] {
        let Some(challenge) = challenged(talk, ANY).await? else {
            violation!("CHAP_A={ANY} is refused while another login is under way");
        };
        ensure!(
            seen.insert(challenge.challenge),
            "a challenge comes again on a connection beside"
        );
    }
    Ok(())
}

async fn premature_transit(bench: &Bench) -> Verdict {
    // Skips where there is no CHAP.
    let (_, _) = chosen(bench).await?;
    for next in [OPERATIONAL, FULL_FEATURE] {
        let mut talk = bench.talk(bench.login()).await?;
        let mut keys = talk.login.names();
        keys.set("AuthMethod", "CHAP");
        for (what, keys) in [
            ("AuthMethod", keys),
            ("CHAP_A", Keys::of(&[("CHAP_A", ANY)])),
        ] {
            match attempt(&mut talk, Some(next), &keys).await? {
                Refusal::None(answer) => stays(&answer, what)?,
                // Nobody has to ask to move on that early, and nobody is let in.
                Refusal::Status(_) | Refusal::Closed => break,
            }
        }
    }
    Ok(())
}

fn stays(answer: &Answer, what: &str) -> Verdict {
    ensure!(
        answer.header.flags & 0x80 == 0,
        "the answer to {what} has the T bit: the security stage ends before the proof"
    );
    Ok(())
}

/// A login that offers no authentication; `None` means that nothing more is to be looked at: it is let in.
async fn without_proof(bench: &Bench) -> Result<Option<Refusal>, Finding> {
    let mut talk = bench.talk(bench.login()).await?;
    let mut keys = talk.login.names();
    keys.set("AuthMethod", "None");
    Ok(match attempt(&mut talk, Some(OPERATIONAL), &keys).await? {
        Refusal::None(answer) if answer.keys.get("AuthMethod") == Some("None") => None,
        other => Some(other),
    })
}

async fn skipped_stage(bench: &Bench) -> Verdict {
    let (_, _) = chosen(bench).await?;
    if without_proof(bench).await?.is_none() {
        skip!("the target lets initiators in that prove nothing");
    }
    let mut talk = bench.talk(bench.login()).await?;
    let request = talk.request(OPERATIONAL, Some(FULL_FEATURE), &talk.login.names());
    talk.wire.send(request).await;
    match talk.refusal().await? {
        Refusal::Status(_) | Refusal::Closed => Ok(()),
        Refusal::None(answer) if answer.moves_to(FULL_FEATURE) => violation!(
            "AuthMethod=None is refused, and a login that leaves the security stage out is let in"
        ),
        Refusal::None(_) => violation!(
            "AuthMethod=None is refused, and a login that leaves the security stage out goes on"
        ),
    }
}

async fn methods(bench: &Bench) -> Verdict {
    let (_, _) = chosen(bench).await?;
    if let Some(Refusal::None(answer)) = without_proof(bench).await? {
        let method = answer.keys.get("AuthMethod").unwrap_or("(nothing)");
        ensure!(
            method == "Reject",
            "the answer to AuthMethod=None is AuthMethod={method}, which was not offered"
        );
    }
    let mut talk = bench.talk(bench.login()).await?;
    let mut keys = talk.login.names();
    let list = "Z-org.vmthunder.conformance,CHAP";
    keys.set("AuthMethod", list);
    match attempt(&mut talk, None, &keys).await? {
        Refusal::None(answer) => {
            let method = answer.keys.get("AuthMethod");
            ensure!(
                method == Some("CHAP"),
                "the answer to AuthMethod={list} is AuthMethod={}",
                method.unwrap_or("(nothing)")
            );
            Ok(())
        }
        Refusal::Status(status) => {
            violation!(
                "AuthMethod=CHAP will do, and AuthMethod={list} is refused with status {status:04x}"
            )
        }
        Refusal::Closed => violation!("AuthMethod={list} closes the connection"),
    }
}
