//! The keys of a login, and what initiators do about those of the target (RFC 7143 §6.2, §12, §13).

use iscsi_proto::wire::bhs::CONTINUE;

use crate::check::{Verdict, ensure, skip, violation};
use crate::initiator::drill::drills;
use crate::initiator::drills::numbering::is_command;
use crate::initiator::login::{Exchange, Record};
use crate::initiator::manner::Manner;
use crate::initiator::negotiate::numeral;
use crate::initiator::stage::Stage;
use crate::login::{OPERATIONAL, SECURITY};
use crate::wire::Heard;
use crate::words;

drills! {
    "login.keys.once", "RFC 7143 §6.3", Should, Normal, Succeeds,
        "a login that takes one request more than the initiator expects"
        => "no key is declared or proposed twice", once;
    "login.keys.values", "RFC 7143 §13", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "the values of all keys are of the kind and in the range that are defined for them", values;
    "login.keys.stage", "RFC 7143 §12", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "no operational key in the security stage, and no security key in the operational stage", stage_keys;
    "login.keys.constants", "RFC 7143 §6.2", Must, Normal, Succeeds,
        "nothing but an ordinary login"
        => "Reject, Irrelevant and NotUnderstood are not proposed", constants;
    "login.keys.unknown", "RFC 7143 §6.2", Must, Normal, Succeeds,
        "X-org.vmthunder.drill=1"
        => "X-org.vmthunder.drill=NotUnderstood, and the login goes on", unknown;
    "login.keys.known", "RFC 7143 §6.2", Must, Normal, Succeeds,
        "TargetAlias and TargetPortalGroupTag"
        => "neither is answered NotUnderstood", known;
    "login.keys.answered", "RFC 7143 §6.2.2", Must, Normal, Succeeds,
        "a proposal for a key that the initiator did not send itself"
        => "an answer with an admissible value", answered;
    "login.keys.continued", "RFC 7143 §6.2", Must, Normal, Succeeds,
        "responses of 16 bytes of text each, with the C bit"
        => "each with the C bit is answered by a request without data, and the parts are put together", continued;
    "login.keys.long", "RFC 7143 §6.1", Must, Normal, Succeeds,
        "X-org.vmthunder.drill=1, then a response of more than 7000 bytes of such keys"
        => "the login goes on: up to 8192 bytes have to be taken", long;
    "login.keys.irrelevant", "RFC 7143 §6.2", Must, Normal, Succeeds,
        "InitialR2T=Yes, ImmediateData=No and FirstBurstLength=Irrelevant"
        => "the login goes on: the negotiation has not failed", irrelevant;
    "login.keys.rejected", "RFC 7143 §6.3", Should, Normal, Either,
        "MaxOutstandingR2T=Reject, then two responses with T=0"
        => "the key is not proposed again in this login", rejected;
    "login.keys.digest-not-offered", "RFC 7143 §6.2.1", Must, Normal, Either,
        "HeaderDigest=CRC64, which nobody offered"
        => "a protocol error: no command is sent in such a session", digest_not_offered;
    "login.keys.method-not-offered", "RFC 7143 §6.2.1", Must, Normal, Either,
        "AuthMethod=KRB5, which nobody offered"
        => "a protocol error: no command is sent in such a session", method_not_offered;
    "login.keys.redeclared", "RFC 7143 §6.3", Must, Normal, Either,
        "MaxRecvDataSegmentLength twice, with different values"
        => "the initiator detects it and drops the connection", redeclared;
}

async fn once(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        reluctance: 1,
        ..Manner::PLAIN
    };
    stage
        .login(&manner, |record| {
            let mut seen: Vec<&str> = Vec::new();
            for (key, _) in &record.keys.0 {
                ensure!(!seen.contains(&key.as_str()), "{key} is sent twice");
                seen.push(key);
            }
            Ok(())
        })
        .await
}

async fn values(stage: &mut Stage) -> Verdict {
    stage.login(&Manner::PLAIN, judge_values).await
}

fn judge_values(record: &Record) -> Verdict {
    for (key, value) in &record.keys.0 {
        let range = match key.as_str() {
            "MaxRecvDataSegmentLength" | "MaxBurstLength" | "FirstBurstLength" => {
                Some((512, 0x00ff_ffff))
            }
            "MaxConnections" | "MaxOutstandingR2T" => Some((1, 65_535)),
            "DefaultTime2Wait" | "DefaultTime2Retain" => Some((0, 3600)),
            "ErrorRecoveryLevel" => Some((0, 2)),
            "iSCSIProtocolLevel" => Some((0, 31)),
            _ => None,
        };
        if let Some((least, most)) = range {
            let number = numeral(value);
            ensure!(
                number.is_some_and(|number| (least..=most).contains(&number)),
                "{key}={value} is not a number from {least} to {most}"
            );
        }
        let allowed: &[&str] = match key.as_str() {
            "InitialR2T"
            | "ImmediateData"
            | "DataPDUInOrder"
            | "DataSequenceInOrder"
            | "IFMarker"
            | "OFMarker" => &["Yes", "No"],
            "SessionType" => &["Normal", "Discovery"],
            _ => continue,
        };
        ensure!(
            allowed.contains(&value.as_str()),
            "{key}={value} is none of {}",
            words::list(allowed)
        );
    }
    Ok(())
}

async fn stage_keys(stage: &mut Stage) -> Verdict {
    stage
        .login(&Manner::PLAIN, |record| {
            for (stage, key) in &record.staged {
                let anywhere = ANY_STAGE.contains(&key.as_str()) || key.starts_with("X-");
                let method = METHODS.iter().any(|method| key.starts_with(method));
                let security = *stage == SECURITY;
                ensure!(
                    anywhere || method == security,
                    "{key} is sent in stage {stage}, where it is not allowed"
                );
            }
            Ok(())
        })
        .await
}

async fn constants(stage: &mut Stage) -> Verdict {
    stage
        .login(&Manner::PLAIN, |record| {
            for (key, value) in &record.keys.0 {
                ensure!(
                    !matches!(value.as_str(), "Reject" | "Irrelevant" | "NotUnderstood"),
                    "{key}={value} answers nothing that the target sent"
                );
            }
            Ok(())
        })
        .await
}

async fn unknown(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        asks: &[("X-org.vmthunder.drill", "1")],
        ..Manner::PLAIN
    };
    let caller = stage.caller(&manner).await?;
    match caller.replies.get("X-org.vmthunder.drill") {
        Some("NotUnderstood") => stage.see_off(caller).await,
        Some(other) => violation!("X-org.vmthunder.drill={other} instead of NotUnderstood"),
        None => violation!("X-org.vmthunder.drill is not answered"),
    }
}

async fn known(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        declares: &[("TargetAlias", "a target for drills")],
        reluctance: 3,
        ..Manner::PLAIN
    };
    stage
        .login(&manner, |record| {
            for (key, value) in &record.keys.0 {
                ensure!(
                    value != "NotUnderstood",
                    "{key}=NotUnderstood, although every initiator has to comprehend {key}"
                );
            }
            Ok(())
        })
        .await
}

async fn answered(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        asks: PROPOSALS,
        asks_one: true,
        ..Manner::PLAIN
    };
    let caller = stage.caller(&manner).await?;
    let offers = |key: &str| caller.record.opening.get(key).is_some();
    let proposal = PROPOSALS.iter().find(|(key, _)| {
        let sent = caller.record.keys.get(key).is_some();
        !offers(key) && (caller.replies.get(key).is_some() || !sent)
    });
    let Some((key, proposed)) = proposal else {
        skip!("the initiator proposes every key itself");
    };
    let Some(answer) = caller.replies.get(key) else {
        violation!("{key}={proposed} is not answered");
    };
    let admissible = match (numeral(proposed), numeral(answer)) {
        // The result is the larger one for DefaultTime2Wait, the smaller one for all others.
        (Some(proposed), Some(answer)) if *key == "DefaultTime2Wait" => answer >= proposed,
        (Some(proposed), Some(answer)) => answer <= proposed,
        _ => proposed.split(',').any(|value| answer == value) || answer == "Reject",
    };
    ensure!(
        admissible,
        "{key}={proposed} is answered {key}={answer}, which is not admissible"
    );
    stage.see_off(caller).await
}

async fn continued(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        text_part: 16,
        ..Manner::PLAIN
    };
    stage
        .login(&manner, |record| {
            let pairs = record.exchanges.iter().zip(record.exchanges.iter().skip(1));
            for (before, after) in pairs {
                let continues = before
                    .answer
                    .is_some_and(|answer| answer.flags & CONTINUE != 0);
                ensure!(
                    !continues || after.text == 0,
                    "the request after a response with the C bit has {} bytes of text",
                    after.text
                );
            }
            Ok(())
        })
        .await
}

async fn long(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        asks: &[("X-org.vmthunder.drill", "1")],
        afterwards: LONG,
        ..Manner::PLAIN
    };
    match stage.entry().await?.log_in(&manner).await {
        Ok(caller) => stage.see_off(caller).await,
        Err(given_up) if !spoke_again(&given_up.entry.record) => {
            // Another rule.
            skip!("the initiator ends the login at a short key that it does not know");
        }
        Err(given_up) => Err(given_up.into()),
    }
}

async fn irrelevant(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        wants: &[("InitialR2T", "Yes"), ("ImmediateData", "No")],
        insists: &[("FirstBurstLength", "Irrelevant")],
        ..Manner::PLAIN
    };
    let caller = stage.caller(&manner).await?;
    if caller.record.keys.get("FirstBurstLength").is_none() {
        skip!("the initiator does not propose FirstBurstLength");
    }
    stage.see_off(caller).await
}

async fn rejected(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        insists: &[("MaxOutstandingR2T", "Reject")],
        reluctance: 3,
        ..Manner::PLAIN
    };
    let entry = stage.entry().await?;
    let (caller, record) = match entry.log_in(&manner).await {
        Ok(caller) => {
            let record = caller.record.clone();
            (Some(caller), record)
        }
        Err(given_up) => (None, given_up.entry.record),
    };
    let proposed = record.keys.all("MaxOutstandingR2T").count();
    if proposed == 0 {
        skip!("the initiator does not propose MaxOutstandingR2T");
    }
    ensure!(
        proposed == 1,
        "MaxOutstandingR2T is proposed {proposed} times in one login"
    );
    stage.outcome(caller).await;
    Ok(())
}

async fn digest_not_offered(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        insists: &[("HeaderDigest", "CRC64")],
        ..Manner::PLAIN
    };
    no_commands(stage, &manner, |record| {
        record.keys.get("HeaderDigest").is_some()
    })
    .await
}

async fn method_not_offered(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        insists: &[("AuthMethod", "KRB5")],
        ..Manner::PLAIN
    };
    no_commands(stage, &manner, |record| {
        let offered = record.keys.get("AuthMethod");
        offered.is_some_and(|offered| !offered.contains("KRB5"))
    })
    .await
}

async fn redeclared(stage: &mut Stage) -> Verdict {
    let manner = Manner {
        afterwards: &[("MaxRecvDataSegmentLength", "16384")],
        ..Manner::PLAIN
    };
    // Not a check that an initiator may leave to others (§7.10): §6.3 says in so many words that it MUST detect it, and
    // MUST drop the connection.
    no_commands(stage, &manner, spoke_again).await
}

/// True if the login came to what the target says afterwards.
fn spoke_again(record: &Record) -> bool {
    let operational = |exchange: &&Exchange| exchange.request.flags >> 2 & 3 == OPERATIONAL;
    let mut second = record.exchanges.iter().filter(operational).skip(1);
    second.any(|exchange| exchange.answer.is_some())
}

/// A login in which the target does what no initiator may accept: no command may follow.
async fn no_commands(stage: &mut Stage, manner: &Manner, applies: fn(&Record) -> bool) -> Verdict {
    match stage.entry().await?.log_in(manner).await {
        Ok(mut caller) => {
            if !applies(&caller.record) {
                stage.outcome(Some(caller)).await;
                skip!("the key is not proposed, or the login does not come to that");
            }
            let patience = caller.scene.patience;
            if let Heard::Pdu(pdu) = caller.reaction(patience, is_command).await {
                violation!(
                    "{}: the session is used as if nothing were wrong",
                    Heard::Pdu(pdu)
                );
            }
        }
        Err(given_up) if !applies(&given_up.entry.record) => {
            skip!("the key is not proposed, or the login does not come to that");
        }
        Err(_given_up) => {}
    }
    Ok(())
}

/// Keys that are allowed in both stages.
const ANY_STAGE: &[&str] = &[
    "SessionType",
    "InitiatorName",
    "TargetName",
    "TargetAddress",
    "InitiatorAlias",
    "TargetAlias",
    "TargetPortalGroupTag",
];
/// What security keys begin with.
const METHODS: &[&str] = &["AuthMethod", "CHAP_", "SRP_", "KRB_", "TargetAuth"];
/// Proposals that a target may make; the first is made whose key the initiator did not send.
const PROPOSALS: &[(&str, &str)] = &[
    ("DefaultTime2Retain", "0"),
    ("DefaultTime2Wait", "0"),
    ("MaxConnections", "1"),
    ("MaxOutstandingR2T", "1"),
    ("ErrorRecoveryLevel", "0"),
    // Both have to be among the values (RFC 7143 §13.23).
    ("TaskReporting", "ResponseFence,RFC3720"),
];
/// 250 bytes.
const WORD: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\
abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqr\
stuvwxyzabcdefghijklmnop";
/// More than 7000 bytes of text.
const LONG: &[(&str, &str)] = &[
    ("X-org.vmthunder.drill.a", WORD),
    ("X-org.vmthunder.drill.b", WORD),
    ("X-org.vmthunder.drill.c", WORD),
    ("X-org.vmthunder.drill.d", WORD),
    ("X-org.vmthunder.drill.e", WORD),
    ("X-org.vmthunder.drill.f", WORD),
    ("X-org.vmthunder.drill.g", WORD),
    ("X-org.vmthunder.drill.h", WORD),
    ("X-org.vmthunder.drill.i", WORD),
    ("X-org.vmthunder.drill.j", WORD),
    ("X-org.vmthunder.drill.k", WORD),
    ("X-org.vmthunder.drill.l", WORD),
    ("X-org.vmthunder.drill.m", WORD),
    ("X-org.vmthunder.drill.n", WORD),
    ("X-org.vmthunder.drill.o", WORD),
    ("X-org.vmthunder.drill.p", WORD),
    ("X-org.vmthunder.drill.q", WORD),
    ("X-org.vmthunder.drill.r", WORD),
    ("X-org.vmthunder.drill.s", WORD),
    ("X-org.vmthunder.drill.t", WORD),
    ("X-org.vmthunder.drill.u", WORD),
    ("X-org.vmthunder.drill.v", WORD),
    ("X-org.vmthunder.drill.w", WORD),
    ("X-org.vmthunder.drill.x", WORD),
    ("X-org.vmthunder.drill.y", WORD),
    ("X-org.vmthunder.drill.z", WORD),
];
