//! Stages of a login: transit, order, what may be sent when (RFC 7143 §6.3, §11.12, §11.13).

use std::collections::VecDeque;

use iscsi_proto::wire::bhs::{FINAL, IMMEDIATE, LoginRequest};
use iscsi_proto::wire::{Header, Pdu};

use super::logins::{
    AUTHENTICATION_FAILURE, current_stage, edited, go_on, must_end, opened, opening, operational,
    ordinary, transits,
};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::keys::Keys;
use crate::login::{FULL_FEATURE, OPERATIONAL, Refusal, SECURITY, Talk};
use crate::session::Session;
use crate::wire::Heard;

checks! {
    "login.standard.two-stages", "RFC 7143 §6.3", Must, Reads,
        "a login through the security and the operational stage"
        => "both stages end, and a ping is answered in the full feature phase", two_stages;
    "login.standard.one-request", "RFC 7143 §6.3.1", Must, Reads,
        "a login that begins in the operational stage and asks for the full feature phase at once"
        => "the full feature phase, or status 0201 from a target that wants authentication", one_request;
    "login.standard.security-only", "RFC 7143 §6.3", Must, Reads,
        "a login that asks to go from the security stage to the full feature phase"
        => "the full feature phase at once, or by way of the operational stage", security_only;
    "login.standard.no-keys", "RFC 7143 §6.3", Must, Reads,
        "an empty operational stage"
        => "the full feature phase with the default values", no_keys;
    "login.exchanges.six", "RFC 7143 §6.2", Should, Reads,
        "seven requests of one key each in the operational stage, and one that asks to end it"
        => "each is answered: at least six exchanges are allowed", six_exchanges;
    "login.transit.not-asked-in-security", "RFC 7143 §11.13.6", Must, Reads,
        "a request of the security stage with T=0, and something in the reserved NSG"
        => "T=0 in the response", not_asked_in_security;
    "login.transit.not-asked-in-operational", "RFC 7143 §11.13.6", Must, Reads,
        "a request of the operational stage with T=0, and something in the reserved NSG"
        => "T=0 in the response", not_asked_in_operational;
    "login.transit.not-beyond", "RFC 7143 §6.3", Must, Reads,
        "a request to go from the security stage to the operational stage"
        => "an NSG that is not beyond the operational stage", not_beyond;
    "login.transit.late", "RFC 7143 §6.3", Must, Reads,
        "the T bit only in the third request of the operational stage"
        => "the full feature phase: earlier settings of the T bit do not count", late;
    "login.stages.current", "RFC 7143 §6.3", Must, Reads,
        "requests of the security and of the operational stage"
        => "the CSG of each request in its response", current;
    "login.stages.reserved-current", "RFC 7143 §11.12.3", Must, Reads,
        "a first request with CSG=2, which is reserved"
        => "the login fails", reserved_current;
    "login.stages.reserved-next", "RFC 7143 §11.12.3", Must, Reads,
        "T=1 with NSG=2, which is reserved"
        => "the login fails", reserved_next;
    "login.stages.full-feature-first", "RFC 7143 §6.3", Must, Reads,
        "a first request with CSG=3"
        => "the login fails: no login starts in the full feature phase", full_feature_first;
    "login.stages.back", "RFC 7143 §6.3", Must, Reads,
        "T=1 from the operational stage to the security stage"
        => "no such transit", back;
    "login.stages.to-itself", "RFC 7143 §6.3", Must, Reads,
        "T=1 from the operational stage to the operational stage"
        => "no such transit", to_itself;
    "login.stages.security-again", "RFC 7143 §6.3", Must, Reads,
        "a request with CSG=0 after the transit to the operational stage"
        => "no security stage behind the operational one", security_again;
    "login.stages.without-transit", "RFC 7143 §6.3", Must, Reads,
        "a request with CSG=1 after one of the security stage that did not ask for a transit"
        => "no change of stage without the T bit", without_transit;
    "login.full-feature.again", "RFC 7143 §4.2.4", Must, Reads,
        "a Login Request in the full feature phase"
        => "no second login on the connection", again;
}

async fn two_stages(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    talk.authenticate().await?;
    let mut session = talk.finish(Keys::default()).await?;
    session.said_before_ping().await?;
    Ok(())
}

async fn one_request(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let names = talk.login.names();
    let answer = talk.ask(OPERATIONAL, Some(FULL_FEATURE), &names).await?;
    // Lawful for every target, not only for those that want CHAP.
    if answer.status() == AUTHENTICATION_FAILURE {
        return Ok(());
    }
    let mut session = go_on(bench, talk, OPERATIONAL, answer).await?;
    session.said_before_ping().await?;
    Ok(())
}

async fn security_only(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let mut keys = talk.login.names();
    keys.set("AuthMethod", "None");
    let answer = match talk.ask(SECURITY, Some(FULL_FEATURE), &keys).await {
        // That it hangs up instead of saying so is another rule.
        Err(Finding::Violation(_)) if bench.subject.chap.is_some() => {
            skip!("the target lets nobody in without authentication")
        }
        answer => answer?,
    };
    if answer.status() == AUTHENTICATION_FAILURE || answer.keys.get("AuthMethod") == Some("Reject")
    {
        skip!("the target lets nobody in without authentication");
    }
    let mut session = go_on(bench, talk, SECURITY, answer).await?;
    session.said_before_ping().await?;
    Ok(())
}

async fn no_keys(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let nothing = Keys::default();
    let answer = talk.ask(OPERATIONAL, Some(FULL_FEATURE), &nothing).await?;
    let mut session = go_on(bench, talk, OPERATIONAL, answer).await?;
    session.said_before_ping().await?;
    Ok(())
}

async fn six_exchanges(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let keys = [
        ("MaxConnections", "1"),
        ("InitialR2T", "Yes"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "65536"),
        ("FirstBurstLength", "65536"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
    ];
    let rest = one_by_one(&mut talk, &keys).await?;
    let answer = talk.ask(OPERATIONAL, Some(FULL_FEATURE), &rest).await?;
    go_on(bench, talk, OPERATIONAL, answer).await?;
    Ok(())
}

/// One request without the T bit for each of these pairs, which says one key: an answer to what the target has proposed
/// meanwhile, and else the next pair that this has not settled. Answers that are left, which the next request owes.
async fn one_by_one(talk: &mut Talk, pairs: &[(&str, &str)]) -> Result<Keys, Finding> {
    let mut own = VecDeque::from(Keys::of(pairs).0);
    let mut owed = VecDeque::new();
    for number in 1..=pairs.len() {
        let pair = owed.pop_front().or_else(|| own.pop_front());
        let said = Keys(pair.into_iter().collect());
        let answer = talk.ask(OPERATIONAL, None, &said).await?;
        ensure!(
            answer.status() == 0,
            "request {number} of the stage is refused with status {:#06x}",
            answer.status()
        );
        let replies = talk.replies(&answer.keys);
        own.retain(|(key, _)| replies.get(key).is_none());
        owed.extend(replies.0);
    }
    Ok(Keys(owed.into()))
}

async fn not_asked_in_security(bench: &Bench) -> Verdict {
    let talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    not_asked(talk, SECURITY, OPERATIONAL, &keys).await
}

async fn not_asked_in_operational(bench: &Bench) -> Verdict {
    let talk = operational(bench).await?;
    let keys = Keys::of(&[("MaxConnections", "1")]);
    not_asked(talk, OPERATIONAL, FULL_FEATURE, &keys).await
}

async fn not_asked(mut talk: Talk, stage: u8, reserved: u8, keys: &Keys) -> Verdict {
    let request = talk.request(stage, None, keys);
    let request = edited(request, |header| header.flags |= reserved);
    talk.wire.send(request).await;
    let answer = talk.answer(stage).await?;
    ordinary(talk.expect_success(&answer))?;
    ensure!(
        !transits(&answer),
        "T=0 in the request, and byte 1 of the response is {:#04x}: T=1",
        answer.header.flags
    );
    Ok(())
}

async fn not_beyond(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    let answer = talk.ask(SECURITY, Some(OPERATIONAL), &keys).await?;
    ordinary(talk.expect_success(&answer))?;
    // Only CHAP stands between the request and the transit.
    ensure!(
        !transits(&answer) || answer.moves_to(OPERATIONAL),
        "NSG=1 is asked for, and byte 1 of the response is {:#04x}: NSG={}",
        answer.header.flags,
        answer.header.flags & 3
    );
    Ok(())
}

async fn late(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let keys = [("MaxConnections", "1"), ("DefaultTime2Wait", "2")];
    let rest = ordinary(one_by_one(&mut talk, &keys).await)?;
    let answer = talk.ask(OPERATIONAL, Some(FULL_FEATURE), &rest).await?;
    go_on(bench, talk, OPERATIONAL, answer).await?;
    Ok(())
}

async fn current(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    let answer = talk.ask(SECURITY, None, &keys).await?;
    ordinary(talk.expect_success(&answer))?;
    ensure!(
        current_stage(&answer) == SECURITY,
        "CSG={} in the response to a request of the security stage",
        current_stage(&answer)
    );
    // There are targets that take one login after the other.
    drop(talk);
    let mut talk = operational(bench).await?;
    let keys = Keys::of(&[("MaxConnections", "1")]);
    let answer = talk.ask(OPERATIONAL, None, &keys).await?;
    ordinary(talk.expect_success(&answer))?;
    ensure!(
        current_stage(&answer) == OPERATIONAL,
        "CSG={} in the response to a request of the operational stage",
        current_stage(&answer)
    );
    Ok(())
}

async fn reserved_current(bench: &Bench) -> Verdict {
    first_in(bench, 2, "CSG=2 is reserved").await
}

async fn full_feature_first(bench: &Bench) -> Verdict {
    first_in(bench, FULL_FEATURE, "CSG=3 in the first request").await
}

async fn first_in(bench: &Bench, stage: u8, what: &str) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let names = talk.login.names();
    talk.wire.send(talk.request(stage, None, &names)).await;
    must_end(&mut talk, what).await
}

async fn reserved_next(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let request = talk.request(OPERATIONAL, Some(2), &Keys::default());
    talk.wire.send(request).await;
    must_end(&mut talk, "T=1 with NSG=2, which is reserved").await
}

async fn back(bench: &Bench) -> Verdict {
    no_transit(bench, SECURITY).await
}

async fn to_itself(bench: &Bench) -> Verdict {
    no_transit(bench, OPERATIONAL).await
}

/// Going on without the transit is lawful as well as failing.
async fn no_transit(bench: &Bench, next: u8) -> Verdict {
    let mut talk = operational(bench).await?;
    let request = talk.request(OPERATIONAL, Some(next), &Keys::default());
    talk.wire.send(request).await;
    if let Refusal::None(answer) = talk.refusal().await? {
        ensure!(
            !transits(&answer),
            "there is no way from stage 1 to stage {next}, and byte 1 of the response is {:#04x}: T=1",
            answer.header.flags
        );
    }
    Ok(())
}

async fn security_again(bench: &Bench) -> Verdict {
    let talk = operational(bench).await?;
    not_in(talk, SECURITY).await
}

async fn without_transit(bench: &Bench) -> Verdict {
    let talk = opened(bench).await?;
    not_in(talk, OPERATIONAL).await
}

/// A request of a stage that the login is not in; a response that stays in the right stage is lawful.
async fn not_in(mut talk: Talk, stage: u8) -> Verdict {
    talk.wire
        .send(talk.request(stage, None, &Keys::default()))
        .await;
    if let Refusal::None(answer) = talk.refusal().await? {
        ensure!(
            current_stage(&answer) != stage,
            "the login is not in stage {stage}, and the response goes on there: byte 1 is {:#04x}",
            answer.header.flags
        );
    }
    Ok(())
}

async fn again(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let tag = session.tag();
    let login = &session.login;
    let names = login.names();
    let request = LoginRequest {
        opcode: LoginRequest::OPCODE | IMMEDIATE,
        flags: FINAL | OPERATIONAL << 2 | FULL_FEATURE,
        isid: login.isid,
        tsih: session.tsih.into(),
        initiator_task_tag: tag.into(),
        cid: login.cid.into(),
        cmd_sn: session.cmd_sn.into(),
        exp_stat_sn: session.exp_stat_sn.into(),
        ..LoginRequest::default()
    };
    session.send(Pdu::new(request, names.encode())).await;
    no_second_login(&mut session).await
}

async fn no_second_login(session: &mut Session) -> Verdict {
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    for _ in 0..MOST_WORDS {
        match session.next().await {
            Heard::Closed => return Ok(()),
            Heard::Pdu(pdu) => match pdu.header {
                Header::LoginResponse(header) if header.status_class == 0 => {
                    violation!("a Login Request in the full feature phase is granted")
                }
                Header::NopIn(_) => return Ok(()),
                _ => {}
            },
            other => violation!("{other} to a ping behind a Login Request"),
        }
    }
    violation!("no answer to a ping behind a Login Request among {MOST_WORDS} PDUs")
}

/// The most PDUs that may come before the answer to a ping.
const MOST_WORDS: usize = 8;
