//! Keys in a login: which are known, which may be sent again, what they look like (RFC 7143 §6.2, §6.3, §13).

use super::logins::{
    edited, must_be_blamed, number, opening, operational, ordinary, propose, propose_oddly,
};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::keys::Keys;
use crate::login::{FULL_FEATURE, OPERATIONAL, SECURITY, Talk};
use crate::words;

checks! {
    "login.keys.unknown", "RFC 7143 §6.2", Must, Reads,
        "a key that nobody has defined"
        => "NotUnderstood, and the login goes on", unknown;
    "login.keys.private", "RFC 7143 §6.2", Must, Reads,
        "a private key (X-)"
        => "NotUnderstood, and the login goes on", private;
    "login.keys.longest", "RFC 7143 §6.1", Must, Reads,
        "an unknown key of 63 characters"
        => "NotUnderstood, under the whole name", longest;
    "login.keys.too-long", "RFC 7143 §6.1", Must, Reads,
        "a key of 64 characters"
        => "the end of the login, or an answer to no other key than this", too_long;
    "login.keys.case", "RFC 7143 §6.1", Must, Reads,
        "MAXBURSTLENGTH and Headerdigest"
        => "NotUnderstood: keys are case sensitive", case;
    "login.keys.known", "RFC 7143 §6.2", Must, Reads,
        "all operational keys that both ends may propose, and that RFC 3720 has too"
        => "an answer to each, and never NotUnderstood", known;
    "login.keys.task-reporting", "RFC 7143 §13.23", Must, Reads,
        "TaskReporting=RFC3720,ResponseFence,FastAbort"
        => "one of the three, and never NotUnderstood", task_reporting;
    "login.keys.protocol-level", "RFC 7143 §13.24", Must, Reads,
        "iSCSIProtocolLevel=1"
        => "a level, which is not above 1, and never NotUnderstood", protocol_level;
    "login.keys.markers", "RFC 7143 §13.25", Must, Reads,
        "IFMarker=Yes and OFMarker=Yes, which are obsolete"
        => "Reject or No", markers;
    "login.keys.marker-intervals", "RFC 7143 §13.25", Must, Reads,
        "IFMarkInt and OFMarkInt, which are obsolete"
        => "Reject", marker_intervals;
    "login.keys.architecture", "RFC 7143 §13.26.2", Must, Reads,
        "X#NodeArchitecture with 255 bytes"
        => "the login goes on, whether the key is understood or not", architecture;
    "login.keys.alias", "RFC 7143 §13.7", Must, Reads,
        "an InitiatorAlias of 255 bytes with spaces and letters that are not ASCII"
        => "the login goes on, without an answer to the key", alias;
    "login.keys.max-recv-data", "RFC 7143 §13.12", Must, Reads,
        "MaxRecvDataSegmentLength=65536"
        => "no answer to it; what the target declares for itself is within 512 and 16777215", max_recv_data;
    "login.keys.send-targets", "RFC 7143 §13.3", Must, Reads,
        "SendTargets=All in a login"
        => "no targets: the key is for the full feature phase", send_targets;
    "login.keys.portal-group", "RFC 7143 §6.3.1", Must, Reads,
        "the first request of a login"
        => "TargetPortalGroupTag, a number of 16 bits, in the first response", portal_group;
    "login.keys.portal-group-later", "RFC 7143 §6.3.1", Must, Reads,
        "a first request that takes two PDUs"
        => "TargetPortalGroupTag in the response to the second, which is the first with C=0", portal_group_later;
    "login.keys.senders", "RFC 7143 §13", Must, Reads,
        "an ordinary login"
        => "no key in the responses that only initiators send, and no TargetName", senders;
    "login.keys.said-once", "RFC 7143 §6.3", Should, Reads,
        "an ordinary login"
        => "no key twice in the responses, but for TargetAddress", said_once;
    "login.redeclared.at-once", "RFC 7143 §6.3", Must, Reads,
        "MaxBurstLength twice in one request"
        => "a Login reject that blames the initiator", at_once;
    "login.redeclared.later", "RFC 7143 §6.3", Must, Reads,
        "MaxBurstLength in two requests"
        => "a Login reject that blames the initiator", later;
    "login.redeclared.declaration", "RFC 7143 §6.3", Must, Reads,
        "MaxRecvDataSegmentLength in two requests"
        => "a Login reject that blames the initiator", declaration;
    "login.redeclared.initiator-name", "RFC 7143 §13.5", Must, Reads,
        "InitiatorName again in the operational stage"
        => "a Login reject that blames the initiator", initiator_name;
    "login.redeclared.target-name", "RFC 7143 §13.4", Must, Reads,
        "TargetName again in the operational stage"
        => "a Login reject that blames the initiator", target_name;
}

async fn unknown(bench: &Bench) -> Verdict {
    not_understood(bench, &[("NobodyHasThisKey", "1")]).await
}

async fn private(bench: &Bench) -> Verdict {
    not_understood(bench, &[("X-org.vmthunder.conformance", "Yes,No")]).await
}

async fn longest(bench: &Bench) -> Verdict {
    not_understood(bench, &[(&"K".repeat(63), "1")]).await
}

async fn case(bench: &Bench) -> Verdict {
    not_understood(
        bench,
        &[("MAXBURSTLENGTH", "65536"), ("Headerdigest", "None")],
    )
    .await
}

async fn not_understood(bench: &Bench, keys: &[(&str, &str)]) -> Verdict {
    let answers = propose(bench, keys).await?;
    for (key, value) in keys {
        ensure!(
            answers.get(key) == Some("NotUnderstood"),
            "{key}={value} is answered by {} instead of NotUnderstood",
            answers.get(key).unwrap_or("nothing")
        );
    }
    Ok(())
}

async fn too_long(bench: &Bench) -> Verdict {
    let key = "K".repeat(64);
    let Some(answers) = propose_oddly(bench, &[(&key, "1")]).await? else {
        return Ok(());
    };
    for (name, value) in answers.0.iter().filter(|(name, _)| name.starts_with("KK")) {
        ensure!(
            *name == key,
            "a key of 64 characters is answered under one of {}: {name}={value}",
            name.len()
        );
    }
    Ok(())
}

async fn known(bench: &Bench) -> Verdict {
    // The values are such that none may go unanswered (RFC 7143 §6.2.2).
    let keys = [
        ("HeaderDigest", "CRC32C,None"),
        ("DataDigest", "CRC32C,None"),
        ("MaxConnections", "1"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "262144"),
        ("FirstBurstLength", "65536"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "20"),
        ("MaxOutstandingR2T", "1"),
        ("DataPDUInOrder", "No"),
        ("DataSequenceInOrder", "No"),
        ("ErrorRecoveryLevel", "0"),
    ];
    let answers = propose(bench, &keys).await?;
    for (key, value) in keys {
        ensure_known(&answers, key, value)?;
    }
    Ok(())
}

fn ensure_known<'a>(answers: &'a Keys, key: &str, value: &str) -> Result<&'a str, Finding> {
    let answer = answers.get(key);
    ensure!(
        answer.is_some_and(|answer| answer != "NotUnderstood"),
        "{key}={value} is answered by {}, and RFC 7143 has the key",
        answer.unwrap_or("nothing")
    );
    Ok(answer.unwrap_or_default())
}

async fn task_reporting(bench: &Bench) -> Verdict {
    let list = "RFC3720,ResponseFence,FastAbort";
    let answers = propose(bench, &[("TaskReporting", list)]).await?;
    let answer = ensure_known(&answers, "TaskReporting", list)?;
    ensure!(
        list.split(',').any(|one| one == answer),
        "TaskReporting={list} is answered by {answer}"
    );
    Ok(())
}

async fn protocol_level(bench: &Bench) -> Verdict {
    let answers = propose(bench, &[("iSCSIProtocolLevel", "1")]).await?;
    let answer = ensure_known(&answers, "iSCSIProtocolLevel", "1")?;
    // RFC 7144 has the result function: the minimum.
    ensure!(
        number(answer).is_some_and(|level| level <= 1),
        "iSCSIProtocolLevel=1 is answered by {answer}"
    );
    Ok(())
}

async fn markers(bench: &Bench) -> Verdict {
    obsolete(
        bench,
        &[("IFMarker", "Yes"), ("OFMarker", "Yes")],
        &["Reject", "No"],
    )
    .await
}

async fn marker_intervals(bench: &Bench) -> Verdict {
    let intervals = [("IFMarkInt", "2048~8192"), ("OFMarkInt", "2048~8192")];
    obsolete(bench, &intervals, &["Reject"]).await
}

async fn obsolete(bench: &Bench, keys: &[(&str, &str)], lawful: &[&str]) -> Verdict {
    let answers = propose(bench, keys).await?;
    for (key, value) in keys {
        let answer = answers.get(key).unwrap_or("nothing");
        ensure!(
            lawful.contains(&answer),
            "{key}={value} is answered by {answer} instead of {}",
            lawful.join(" or ")
        );
    }
    Ok(())
}

async fn architecture(bench: &Bench) -> Verdict {
    let value = "Conformance/1,".repeat(18) + "abc";
    propose(bench, &[("X#NodeArchitecture", &value)]).await?;
    Ok(())
}

async fn alias(bench: &Bench) -> Verdict {
    // 11 bytes and 244: as long as a value may be (RFC 7143 §6.1).
    let alias = format!("Rack 4 – {}", "ü".repeat(122));
    let answers = propose(bench, &[("InitiatorAlias", &alias)]).await?;
    ensure!(
        answers.get("InitiatorAlias").is_none(),
        "InitiatorAlias is a declaration, and is answered by {}",
        answers.get("InitiatorAlias").unwrap_or_default()
    );
    Ok(())
}

async fn max_recv_data(bench: &Bench) -> Verdict {
    let answers = propose(bench, &[("MaxRecvDataSegmentLength", "65536")]).await?;
    // A target may declare the same value for itself, at this moment: only words and other numbers tell.
    for value in answers.all("MaxRecvDataSegmentLength") {
        ensure!(
            number(value).is_some_and(|bytes| (512..1 << 24).contains(&bytes)),
            "MaxRecvDataSegmentLength={value} comes from the target: a declaration of 512 to 16777215 may"
        );
    }
    Ok(())
}

async fn send_targets(bench: &Bench) -> Verdict {
    // It is our error: the login may end.
    let Some(answers) = propose_oddly(bench, &[("SendTargets", "All")]).await? else {
        return Ok(());
    };
    ensure!(
        answers.get("TargetName").is_none() && answers.get("TargetAddress").is_none(),
        "SendTargets=All in a login is answered by {}",
        words::keys(&answers)
    );
    Ok(())
}

async fn portal_group(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    let answer = ordinary(talk.ask(SECURITY, None, &keys).await)?;
    ordinary(talk.expect_success(&answer))?;
    ensure_portal_group(&answer.keys)
}

async fn portal_group_later(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let text = opening(bench, &talk.login).encode();
    let mut request = talk.request(SECURITY, None, &Keys::default());
    request.data = text.slice(..20);
    let goes_on = edited(request.clone(), |header| header.flags |= 0x40);
    talk.wire.send(goes_on).await;
    let (header, _) = ordinary(talk.part().await)?;
    if header.status_class != 0 {
        skip!("the target takes no text in pieces");
    }
    request.data = text.slice(20..);
    talk.wire.send(request).await;
    let answer = ordinary(talk.answer(SECURITY).await)?;
    ordinary(talk.expect_success(&answer))?;
    ensure_portal_group(&answer.keys)
}

fn ensure_portal_group(keys: &Keys) -> Verdict {
    let value = keys.get("TargetPortalGroupTag");
    let Some(value) = value else {
        return Err(Finding::Violation(format!(
            "the first response has no TargetPortalGroupTag; it says {}",
            words::keys(keys)
        )));
    };
    // A binary-value may be a base64-constant (RFC 7143 §6.1).
    let in_base64 = value.starts_with("0b") || value.starts_with("0B");
    ensure!(
        in_base64 || number(value).is_some_and(|tag| tag <= 0xffff),
        "TargetPortalGroupTag={value} is no number of 16 bits"
    );
    Ok(())
}

/// All that a target says in an ordinary login.
async fn all_said(bench: &Bench) -> Result<Keys, Finding> {
    let session = ordinary(bench.log_in(&[("MaxBurstLength", "65536")]).await)?;
    Ok(session.answers)
}

async fn senders(bench: &Bench) -> Verdict {
    let said = all_said(bench).await?;
    for key in [
        "InitiatorName",
        "InitiatorAlias",
        "SessionType",
        "SendTargets",
        "TargetName",
    ] {
        ensure!(
            said.get(key).is_none(),
            "{key}={} comes from the target in a login",
            said.get(key).unwrap_or_default()
        );
    }
    Ok(())
}

async fn said_once(bench: &Bench) -> Verdict {
    let said = all_said(bench).await?;
    for (key, _) in said.0.iter().filter(|(key, _)| key != "TargetAddress") {
        let times = said.all(key).count();
        ensure!(times == 1, "{key} comes {times} times in one login");
    }
    Ok(())
}

async fn at_once(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let keys = [("MaxBurstLength", "65536"), ("MaxBurstLength", "32768")];
    offer(&mut talk, &keys).await;
    must_be_blamed(&mut talk, "MaxBurstLength twice in one request").await
}

async fn later(bench: &Bench) -> Verdict {
    twice(bench, "MaxBurstLength", ["65536", "32768"]).await
}

async fn declaration(bench: &Bench) -> Verdict {
    twice(bench, "MaxRecvDataSegmentLength", ["65536", "32768"]).await
}

async fn twice(bench: &Bench, key: &str, values: [&str; 2]) -> Verdict {
    let mut talk = operational(bench).await?;
    let [first, second] = values;
    let answer = talk
        .ask(OPERATIONAL, None, &Keys::of(&[(key, first)]))
        .await;
    ordinary(talk.expect_success(&ordinary(answer)?))?;
    offer(&mut talk, &[(key, second)]).await;
    must_be_blamed(&mut talk, &format!("{key} in two requests of a login")).await
}

async fn initiator_name(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let name = talk.login.initiator.clone();
    offer(&mut talk, &[("InitiatorName", &name)]).await;
    must_be_blamed(&mut talk, "InitiatorName in two requests of a login").await
}

async fn target_name(bench: &Bench) -> Verdict {
    let mut talk = operational(bench).await?;
    let name = bench.subject.target.clone();
    offer(&mut talk, &[("TargetName", &name)]).await;
    must_be_blamed(&mut talk, "TargetName in two requests of a login").await
}

async fn offer(talk: &mut Talk, keys: &[(&str, &str)]) {
    let request = talk.request(OPERATIONAL, Some(FULL_FEATURE), &Keys::of(keys));
    talk.wire.send(request).await;
}
