//! Who logs in, where to, and what for: names and the type of the session (RFC 7143 §4.2.7.1, §6.3, §13).

use super::logins::{
    AUTHENTICATION_FAILURE, AUTHORIZATION_FAILURE, INITIATOR_ERROR, NO_TARGET, go_on, must_end,
    must_fail, opening,
};
use crate::bench::Bench;
use crate::chap;
use crate::check::{Finding, Verdict, checks, ensure, violation};
use crate::keys::Keys;
use crate::login::{OPERATIONAL, SECURITY, Talk};
use crate::session::Task;

checks! {
    "login.names.no-initiator", "RFC 7143 §6.3", Must, Reads,
        "a first request without InitiatorName"
        => "status 0207 (or 0200)", no_initiator;
    "login.names.empty-initiator", "RFC 7143 §6.1", Must, Reads,
        "an empty InitiatorName"
        => "the login fails: a name has one character at least", empty_initiator;
    "login.names.longest-initiator", "RFC 7143 §4.2.7.1", Must, Reads,
        "an InitiatorName of 223 bytes"
        => "the login goes on, unless that initiator may not come in", longest_initiator;
    "login.names.no-target", "RFC 7143 §6.3", Must, Reads,
        "a first request of a normal session without TargetName"
        => "status 0207 (or 0200)", no_target;
    "login.names.unknown-target", "RFC 7143 §11.13.5", Must, Reads,
        "a TargetName that nobody has"
        => "status 0203, or one that hides which targets there are", unknown_target;
    "login.names.longest-target", "RFC 7143 §4.2.7.1", Must, Reads,
        "a TargetName of 223 bytes that nobody has"
        => "the status that a short one is refused with", longest_target;
    "login.names.any-order", "RFC 7143 §6.3", Must, Reads,
        "a first request whose last key is InitiatorName"
        => "the login goes on", any_order;
    "login.names.session-type", "RFC 7143 §13.21", Must, Reads,
        "SessionType=Strange"
        => "the login fails", session_type;
    "login.names.session-type-case", "RFC 7143 §6.1", Must, Reads,
        "SessionType=normal"
        => "the login fails: values are case sensitive", session_type_case;
    "login.names.session-type-left-out", "RFC 7143 §13.21", Must, Reads,
        "a login without SessionType"
        => "a normal session, which takes SCSI commands", session_type_left_out;
}

/// Sends a first request that asks for the operational stage.
async fn begin(bench: &Bench, edit: impl FnOnce(&mut Keys)) -> Result<Talk, Finding> {
    let mut talk = bench.talk(bench.login()).await?;
    let mut keys = opening(bench, &talk.login);
    edit(&mut keys);
    let request = talk.request(SECURITY, Some(OPERATIONAL), &keys);
    talk.wire.send(request).await;
    Ok(talk)
}

async fn no_initiator(bench: &Bench) -> Verdict {
    let mut talk = begin(bench, |keys| keys.remove("InitiatorName")).await?;
    must_fail(&mut talk, "InitiatorName is missing", MISSING).await
}

async fn no_target(bench: &Bench) -> Verdict {
    let mut talk = begin(bench, |keys| keys.remove("TargetName")).await?;
    must_fail(&mut talk, "TargetName is missing", MISSING).await
}

async fn empty_initiator(bench: &Bench) -> Verdict {
    let mut talk = begin(bench, |keys| keys.set("InitiatorName", "")).await?;
    must_end(&mut talk, "InitiatorName is empty").await
}

async fn longest_initiator(bench: &Bench) -> Verdict {
    let name = longest();
    let mut talk = begin(bench, |keys| keys.set("InitiatorName", &name)).await?;
    let answer = talk.answer(SECURITY).await?;
    // Who may come in is the target's own business.
    ensure!(
        [0, AUTHENTICATION_FAILURE, AUTHORIZATION_FAILURE].contains(&answer.status()),
        "an InitiatorName of {} bytes is refused with status {:#06x}",
        name.len(),
        answer.status()
    );
    Ok(())
}

async fn unknown_target(bench: &Bench) -> Verdict {
    let mut talk = begin(bench, |keys| keys.set("TargetName", NO_TARGET)).await?;
    // Not found, removed; or nothing about it to those who have not proven themselves, or are not let in.
    let fitting = [
        0x0203,
        0x0204,
        AUTHENTICATION_FAILURE,
        AUTHORIZATION_FAILURE,
    ];
    must_fail(&mut talk, "nobody has this TargetName", &fitting).await
}

async fn longest_target(bench: &Bench) -> Verdict {
    let mut statuses = Vec::new();
    let name = longest();
    for target in [NO_TARGET, &name] {
        let mut talk = begin(bench, |keys| keys.set("TargetName", target)).await?;
        let answer = talk.answer(SECURITY).await?;
        statuses.push(answer.status());
    }
    if let [short, long] = statuses[..] {
        ensure!(
            short == long,
            "a TargetName of {} bytes is answered with status {long:#06x}, one of {} with {short:#06x}",
            name.len(),
            NO_TARGET.len()
        );
    }
    Ok(())
}

async fn any_order(bench: &Bench) -> Verdict {
    let mut talk = begin(bench, |keys| keys.0.reverse()).await?;
    let answer = talk.answer(SECURITY).await?;
    ensure!(
        answer.status() == 0,
        "a first request that names the initiator last is refused with status {:#06x}",
        answer.status()
    );
    Ok(())
}

async fn session_type(bench: &Bench) -> Verdict {
    let mut talk = begin(bench, |keys| keys.set("SessionType", "Strange")).await?;
    must_end(&mut talk, "SessionType=Strange").await
}

async fn session_type_case(bench: &Bench) -> Verdict {
    let mut talk = begin(bench, |keys| keys.set("SessionType", "normal")).await?;
    must_end(&mut talk, "SessionType=normal").await
}

async fn session_type_left_out(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let mut keys = opening(bench, &talk.login);
    keys.remove("SessionType");
    let answer = talk.ask(SECURITY, Some(OPERATIONAL), &keys).await?;
    talk.expect_success(&answer)?;
    let mut session = match (answer.keys.get("AuthMethod"), &bench.subject.chap) {
        (Some("CHAP"), Some(account)) => {
            chap::prove(&mut talk, account).await?;
            talk.finish(Keys::default()).await?
        }
        _ => go_on(bench, talk, SECURITY, answer).await?,
    };
    // Whatever TEST UNIT READY says: it is taken.
    match session.run(&Task::bare(&[0; 6])).await {
        Err(Finding::Violation(why)) => {
            violation!("a session without SessionType takes no TEST UNIT READY: {why}")
        }
        Err(other) => Err(other),
        Ok(_) => Ok(()),
    }
}

/// A name of 223 bytes.
fn longest() -> String {
    let mut name = "iqn.2013-07.org.vmthunder:".to_owned();
    name += &"x".repeat(223 - name.len());
    name
}

/// What fits where a name is missing: the status for it, and the one for all that has none of its own.
const MISSING: &[u16] = &[0x0207, INITIATOR_ERROR];
