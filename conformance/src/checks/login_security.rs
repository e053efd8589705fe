//! Who has to prove what, and the methods to do so: AuthMethod (RFC 7143 §6.3.2, §12.1).

use super::logins::{AUTHENTICATION_FAILURE, Choice, expect_first, opening, operational};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::keys::Keys;
use crate::login::{OPERATIONAL, Refusal, SECURITY, Talk};

checks! {
    "login.security.none-known", "RFC 7143 §6.3.2", Must, Reads,
        "an AuthMethod list of one method that nobody has"
        => "AuthMethod=Reject, or the end of the login", none_known;
    "login.security.unknown-ignored", "RFC 7143 §6.2.1", Must, Reads,
        "a method that nobody has in front of the usual AuthMethod list"
        => "one of the usual methods", unknown_ignored;
    "login.security.not-offered", "RFC 7143 §6.2.1", Must, Reads,
        "AuthMethod=CHAP"
        => "CHAP, Reject or the end of the login, and no method that was not offered", not_offered;
    "login.security.order", "RFC 7143 §6.3.2", Must, Reads,
        "AuthMethod=None,CHAP and CHAP,None"
        => "the first of each list that is also chosen when it is offered alone", order;
    "login.security.left-out", "RFC 7143 §6.3.1", Must, Reads,
        "T=1 to the operational stage, and no AuthMethod"
        => "the transit, a proposal of the target's own, or status 0201", left_out;
    "login.security.own-keys", "RFC 7143 §12", Must, Reads,
        "the first request of an ordinary login"
        => "a response with keys of the security stage only", own_keys;
    "login.security.operational-key", "RFC 7143 §12", Must, Reads,
        "MaxBurstLength in the security stage"
        => "no value for it in that stage", operational_key;
    "login.security.method-too-late", "RFC 7143 §6.3", Must, Reads,
        "AuthMethod in the operational stage"
        => "no method chosen in that stage", method_too_late;
}

/// What a list of methods is answered by.
async fn choice(bench: &Bench, methods: &str) -> Result<Choice, Finding> {
    let mut talk = bench.talk(bench.login()).await?;
    let mut keys = talk.login.names();
    keys.set("AuthMethod", methods);
    talk.wire.send(talk.request(SECURITY, None, &keys)).await;
    Choice::of(talk.refusal().await?, "AuthMethod", methods)
}

async fn none_known(bench: &Bench) -> Verdict {
    let chosen = choice(bench, UNKNOWN).await?;
    ensure!(
        chosen.value().is_none(),
        "AuthMethod={UNKNOWN} is answered by {chosen}"
    );
    Ok(())
}

async fn unknown_ignored(bench: &Bench) -> Verdict {
    let usual = opening(bench, &bench.login());
    let usual = usual.get("AuthMethod").unwrap_or("None");
    let alone = choice(bench, usual).await?;
    if alone.value().is_none() {
        skip!("AuthMethod={usual} is answered by {alone}");
    }
    let chosen = choice(bench, &format!("{UNKNOWN},{usual}")).await?;
    ensure!(
        usual
            .split(',')
            .any(|method| chosen.value() == Some(method)),
        "AuthMethod={UNKNOWN},{usual} is answered by {chosen}"
    );
    Ok(())
}

async fn not_offered(bench: &Bench) -> Verdict {
    let chosen = choice(bench, "CHAP").await?;
    ensure!(
        chosen.value().is_none_or(|method| method == "CHAP"),
        "AuthMethod=CHAP is answered by {chosen}"
    );
    Ok(())
}

async fn order(bench: &Bench) -> Verdict {
    let none = choice(bench, "None").await?;
    let chap = choice(bench, "CHAP").await?;
    for list in ["None,CHAP", "CHAP,None"] {
        let chosen = choice(bench, list).await?;
        let alone = [("None", &none), ("CHAP", &chap)];
        expect_first("AuthMethod", list, &chosen, &alone)?;
    }
    Ok(())
}

async fn left_out(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let names = talk.login.names();
    let answer = talk.ask(SECURITY, Some(OPERATIONAL), &names).await?;
    ensure!(
        [0, AUTHENTICATION_FAILURE].contains(&answer.status()),
        "a first request without AuthMethod is refused with status {:#06x}",
        answer.status()
    );
    Ok(())
}

async fn own_keys(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    let answer = talk.ask(SECURITY, None, &keys).await?;
    for (key, _) in &answer.keys.0 {
        let method_key = ["CHAP_", "KRB_", "SRP_", "SPKM_"];
        let of_a_method = method_key.iter().any(|prefix| key.starts_with(prefix));
        ensure!(
            of_a_method || SECURITY_KEYS.contains(&key.as_str()),
            "{key} is no key of the security stage"
        );
    }
    Ok(())
}

async fn operational_key(bench: &Bench) -> Verdict {
    let talk = bench.talk(bench.login()).await?;
    let mut keys = opening(bench, &talk.login);
    keys.set("MaxBurstLength", "65536");
    no_value(talk, SECURITY, &keys, "MaxBurstLength").await
}

async fn method_too_late(bench: &Bench) -> Verdict {
    let talk = operational(bench).await?;
    let keys = Keys::of(&[("AuthMethod", "None")]);
    no_value(talk, OPERATIONAL, &keys, "AuthMethod").await
}

/// To end the login, to say nothing of the key and to decline it are all lawful: it is a protocol error of ours.
async fn no_value(mut talk: Talk, stage: u8, keys: &Keys, key: &str) -> Verdict {
    talk.wire.send(talk.request(stage, None, keys)).await;
    if let Refusal::None(answer) = talk.refusal().await? {
        let value = answer.keys.get(key).unwrap_or("Reject");
        ensure!(
            ["Reject", "Irrelevant", "NotUnderstood"].contains(&value),
            "{key} is no key of this stage, and is answered by {key}={value}"
        );
    }
    Ok(())
}

/// A method that nobody has, in the form of a private one (RFC 7143 §12.1).
const UNKNOWN: &str = "Z-org.vmthunder.nothing";
/// Keys that RFC 7143 §12 allows in the security stage.
const SECURITY_KEYS: &[&str] = &[
    "SessionType",
    "InitiatorName",
    "TargetName",
    "TargetAddress",
    "InitiatorAlias",
    "TargetAlias",
    "TargetPortalGroupTag",
    "AuthMethod",
];
