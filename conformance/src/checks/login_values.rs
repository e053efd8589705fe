//! Values that are negotiated in a login: booleans, numbers, lists (RFC 7143 §6.2, §13).

use super::logins::{
    Choice, expect_first, go_on, number, operational, propose, propose_oddly, refusal_of, spelled,
};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, violation};
use crate::keys::Keys;
use crate::login::{FULL_FEATURE, OPERATIONAL, Refusal};
use crate::words;

checks! {
    "login.values.initial-r2t", "RFC 7143 §13.10", Must, Reads,
        "InitialR2T=Yes, and InitialR2T=No"
        => "Yes or no answer to Yes; an answer to No (OR)", initial_r2t;
    "login.values.immediate-data", "RFC 7143 §13.11", Must, Reads,
        "ImmediateData=No, and ImmediateData=Yes"
        => "No or no answer to No; an answer to Yes (AND)", immediate_data;
    "login.values.data-pdu-in-order", "RFC 7143 §13.18", Must, Reads,
        "DataPDUInOrder=Yes, and DataPDUInOrder=No"
        => "Yes or no answer to Yes; an answer to No (OR)", data_pdu_in_order;
    "login.values.data-sequence-in-order", "RFC 7143 §13.19", Must, Reads,
        "DataSequenceInOrder=Yes, and DataSequenceInOrder=No"
        => "Yes or no answer to Yes; an answer to No (OR)", data_sequence_in_order;
    "login.values.boolean-illegal", "RFC 7143 §6.2.2", Must, Reads,
        "InitialR2T=Maybe and ImmediateData=1"
        => "Reject, an admissible value, or the end of the login", boolean_illegal;
    "login.values.boolean-case", "RFC 7143 §6.1", Must, Reads,
        "InitialR2T=no and ImmediateData=YES"
        => "Reject, an admissible value, or the end of the login: values are case sensitive", boolean_case;
    "login.values.max-burst", "RFC 7143 §13.13", Must, Reads,
        "MaxBurstLength 512, 65536 and 16777215"
        => "a number from 512 up to the one proposed", max_burst;
    "login.values.first-burst", "RFC 7143 §13.14", Must, Reads,
        "FirstBurstLength 512, 4096 and 65536"
        => "a number from 512 up to the one proposed", first_burst;
    "login.values.max-connections", "RFC 7143 §13.2", Must, Reads,
        "MaxConnections 1, 2 and 65535"
        => "a number from 1 up to the one proposed", max_connections;
    "login.values.max-outstanding-r2t", "RFC 7143 §13.17", Must, Reads,
        "MaxOutstandingR2T 1, 16 and 65535"
        => "a number from 1 up to the one proposed", max_outstanding_r2t;
    "login.values.time2wait", "RFC 7143 §13.15", Must, Reads,
        "DefaultTime2Wait 0, 60 and 3600"
        => "a number from the one proposed up to 3600", time2wait;
    "login.values.time2retain", "RFC 7143 §13.16", Must, Reads,
        "DefaultTime2Retain 0, 60 and 3600"
        => "a number up to the one proposed", time2retain;
    "login.values.error-recovery-level", "RFC 7143 §13.20", Must, Reads,
        "ErrorRecoveryLevel 0, 1 and 2"
        => "a number up to the one proposed", error_recovery_level;
    "login.values.too-small", "RFC 7143 §6.2.2", Must, Reads,
        "numbers below the bounds of MaxBurstLength, FirstBurstLength, MaxConnections and MaxOutstandingR2T"
        => "Reject, an admissible value, or the end of the login", too_small;
    "login.values.too-big", "RFC 7143 §6.2.2", Must, Reads,
        "numbers above the bounds of seven keys"
        => "Reject, an admissible value, or the end of the login", too_big;
    "login.values.no-number", "RFC 7143 §6.2.2", Must, Reads,
        "words, nothing and a range where a number belongs"
        => "Reject, an admissible value, or the end of the login", no_number;
    "login.values.hex", "RFC 7143 §6.1", Must, Reads,
        "MaxBurstLength=0x4000 and FirstBurstLength=0X2A00"
        => "numbers up to 16384 and 10752", hex;
    "login.values.first-above-max", "RFC 7143 §13.14", Must, Reads,
        "MaxBurstLength=4096 with FirstBurstLength=65536"
        => "no full feature phase with a FirstBurstLength that exceeds MaxBurstLength", first_above_max;
    "login.values.first-below-max", "RFC 7143 §13.14", Must, Reads,
        "FirstBurstLength=4096 with MaxBurstLength=65536, in this order"
        => "numbers up to those proposed", first_below_max;
    "login.values.first-irrelevant", "RFC 7143 §13.14", Must, Reads,
        "FirstBurstLength=4096 with InitialR2T=Yes and ImmediateData=No"
        => "Irrelevant, or a number up to 4096", first_irrelevant;
    "login.values.header-digest-order", "RFC 7143 §6.2.1", Must, Reads,
        "HeaderDigest=CRC32C,None and None,CRC32C"
        => "the first of each list that is also chosen when it is offered alone", header_digest_order;
    "login.values.data-digest-order", "RFC 7143 §6.2.1", Must, Reads,
        "DataDigest=CRC32C,None and None,CRC32C"
        => "the first of each list that is also chosen when it is offered alone", data_digest_order;
    "login.values.list-unknown-ignored", "RFC 7143 §6.2.1", Must, Reads,
        "digests that nobody has in front of CRC32C and None"
        => "CRC32C or None", list_unknown_ignored;
    "login.values.list-none-known", "RFC 7143 §6.2.1", Must, Reads,
        "digests that nobody has, and None not offered"
        => "Reject, or the end of the login", list_none_known;
    "login.values.list-case", "RFC 7143 §6.1", Must, Reads,
        "HeaderDigest=crc32c and DataDigest=NONE"
        => "Reject, or the end of the login: values are case sensitive", list_case;
}

/// How a boolean is settled.
#[derive(Clone, Copy)]
enum Boolean {
    And,
    Or,
}

async fn initial_r2t(bench: &Bench) -> Verdict {
    boolean(bench, "InitialR2T", Boolean::Or).await
}

async fn immediate_data(bench: &Bench) -> Verdict {
    boolean(bench, "ImmediateData", Boolean::And).await
}

async fn data_pdu_in_order(bench: &Bench) -> Verdict {
    boolean(bench, "DataPDUInOrder", Boolean::Or).await
}

async fn data_sequence_in_order(bench: &Bench) -> Verdict {
    boolean(bench, "DataSequenceInOrder", Boolean::Or).await
}

async fn boolean(bench: &Bench, key: &str, function: Boolean) -> Verdict {
    let (settled, open) = match function {
        Boolean::And => ("No", "Yes"),
        Boolean::Or => ("Yes", "No"),
    };
    // The proposal settles it: the answer is optional (RFC 7143 §6.2.2).
    let answers = propose(bench, &[(key, settled)]).await?;
    let answer = answers.get(key).unwrap_or(settled);
    ensure!(
        answer == settled,
        "{key}={settled} can only be answered by {settled}, and is answered by {answer}"
    );
    let answers = propose(bench, &[(key, open)]).await?;
    let answer = answers.get(key).unwrap_or("nothing");
    ensure!(
        ["Yes", "No"].contains(&answer),
        "{key}={open} is answered by {answer} instead of Yes or No"
    );
    Ok(())
}

async fn boolean_illegal(bench: &Bench) -> Verdict {
    not_admissible(
        bench,
        &[("InitialR2T", "Maybe"), ("ImmediateData", "1")],
        yes_or_no,
    )
    .await
}

async fn boolean_case(bench: &Bench) -> Verdict {
    not_admissible(
        bench,
        &[("InitialR2T", "no"), ("ImmediateData", "YES")],
        yes_or_no,
    )
    .await
}

fn yes_or_no(_key: &str, value: &str) -> bool {
    ["Yes", "No"].contains(&value)
}

/// Proposes values that are not admissible: Reject, admissible values, and the end of the login are lawful.
async fn not_admissible(
    bench: &Bench,
    keys: &[(&str, &str)],
    admissible: fn(&str, &str) -> bool,
) -> Verdict {
    let Some(answers) = propose_oddly(bench, keys).await? else {
        return Ok(());
    };
    for (key, value) in keys {
        let answer = answers.get(key);
        ensure!(
            answer.is_some_and(|answer| answer == "Reject" || admissible(key, answer)),
            "{key}={value} is answered by {}, which is neither Reject nor an admissible value",
            answer.unwrap_or("nothing")
        );
    }
    Ok(())
}

async fn max_burst(bench: &Bench) -> Verdict {
    numbers(bench, "MaxBurstLength", [512, 65536, 16_777_215]).await
}

async fn first_burst(bench: &Bench) -> Verdict {
    numbers(bench, "FirstBurstLength", [512, 4096, 65536]).await
}

async fn max_connections(bench: &Bench) -> Verdict {
    numbers(bench, "MaxConnections", [1, 2, 65535]).await
}

async fn max_outstanding_r2t(bench: &Bench) -> Verdict {
    numbers(bench, "MaxOutstandingR2T", [1, 16, 65535]).await
}

async fn time2wait(bench: &Bench) -> Verdict {
    numbers(bench, "DefaultTime2Wait", [0, 60, 3600]).await
}

async fn time2retain(bench: &Bench) -> Verdict {
    numbers(bench, "DefaultTime2Retain", [0, 60, 3600]).await
}

async fn error_recovery_level(bench: &Bench) -> Verdict {
    numbers(bench, "ErrorRecoveryLevel", [0, 1, 2]).await
}

/// Proposes admissible numbers one after the other, and holds the answers against the key's result function.
async fn numbers(bench: &Bench, key: &str, proposals: [u64; 3]) -> Verdict {
    for proposed in proposals {
        let value = proposed.to_string();
        let mut keys = vec![(key, value.as_str())];
        if key == "FirstBurstLength" {
            // Or it might be irrelevant, and some targets ask for no unsolicited data at all.
            keys.extend([("InitialR2T", "No"), ("ImmediateData", "Yes")]);
        }
        let answers = propose(bench, &keys).await?;
        let no_burst =
            answers.get("InitialR2T") == Some("Yes") && answers.get("ImmediateData") == Some("No");
        if no_burst && answers.get(key) == Some("Irrelevant") {
            continue;
        }
        ensure_number(&answers, key, proposed)?;
    }
    Ok(())
}

/// An answer to an admissible number: within the bounds of the key, on the right side of what was proposed.
fn ensure_number(answers: &Keys, key: &str, proposed: u64) -> Verdict {
    let answer = answers.get(key).unwrap_or("nothing");
    let (low, high) = bounds(key);
    let (low, high) = if key == "DefaultTime2Wait" {
        (proposed, high)
    } else {
        (low, proposed)
    };
    ensure!(
        number(answer).is_some_and(|selected| (low..=high).contains(&selected)),
        "{key}={proposed} is answered by {answer} instead of a number from {low} to {high}"
    );
    Ok(())
}

fn bounds(key: &str) -> (u64, u64) {
    match key {
        "MaxBurstLength" | "FirstBurstLength" => (512, 16_777_215),
        "MaxConnections" | "MaxOutstandingR2T" => (1, 65535),
        "DefaultTime2Wait" | "DefaultTime2Retain" => (0, 3600),
        _ => (0, 2),
    }
}

fn within_bounds(key: &str, value: &str) -> bool {
    let (low, high) = bounds(key);
    number(value).is_some_and(|selected| (low..=high).contains(&selected))
}

/// A target may find FirstBurstLength irrelevant, for reasons of its own.
fn number_or_irrelevant(key: &str, value: &str) -> bool {
    within_bounds(key, value) || (key == "FirstBurstLength" && value == "Irrelevant")
}

async fn too_small(bench: &Bench) -> Verdict {
    let keys = [
        ("MaxBurstLength", "511"),
        ("FirstBurstLength", "511"),
        ("MaxConnections", "0"),
        ("MaxOutstandingR2T", "0"),
    ];
    not_admissible(bench, &keys, number_or_irrelevant).await
}

async fn too_big(bench: &Bench) -> Verdict {
    let keys = [
        ("MaxBurstLength", "16777216"),
        ("FirstBurstLength", "4294967296"),
        ("MaxConnections", "65536"),
        ("MaxOutstandingR2T", "65536"),
        ("DefaultTime2Wait", "3601"),
        ("DefaultTime2Retain", "3601"),
        ("ErrorRecoveryLevel", "3"),
    ];
    not_admissible(bench, &keys, number_or_irrelevant).await
}

async fn no_number(bench: &Bench) -> Verdict {
    let keys = [
        ("MaxBurstLength", "512~65536"),
        ("MaxConnections", "many"),
        ("MaxOutstandingR2T", ""),
        ("DefaultTime2Wait", "-1"),
        ("ErrorRecoveryLevel", "None"),
    ];
    not_admissible(bench, &keys, within_bounds).await
}

async fn hex(bench: &Bench) -> Verdict {
    let keys = [
        ("InitialR2T", "No"),
        ("MaxBurstLength", "0x4000"),
        ("FirstBurstLength", "0X2A00"),
    ];
    let answers = propose(bench, &keys).await?;
    ensure_number(&answers, "MaxBurstLength", 0x4000)?;
    if answers.get("FirstBurstLength") == Some("Irrelevant") {
        return Ok(());
    }
    ensure_number(&answers, "FirstBurstLength", 0x2a00)
}

async fn first_above_max(bench: &Bench) -> Verdict {
    let keys = [("MaxBurstLength", "4096"), ("FirstBurstLength", "65536")];
    let mut talk = operational(bench).await?;
    let request = talk.request(OPERATIONAL, Some(FULL_FEATURE), &Keys::of(&keys));
    talk.wire.send(request).await;
    let Refusal::None(answer) = talk.refusal().await? else {
        return Ok(());
    };
    let max = answer.keys.get("MaxBurstLength").and_then(number);
    // What is rejected or irrelevant is not in force with the value proposed.
    let first = answer.keys.get("FirstBurstLength").and_then(number);
    if first.is_none_or(|first| first <= max.unwrap_or(4096)) {
        return Ok(());
    }
    // The values are held against each other when all are there (RFC 7143 §6.2): the stage may still fail to end.
    let answered = answer.keys.clone();
    match go_on(bench, talk, OPERATIONAL, answer).await {
        Err(Finding::Violation(_)) => Ok(()),
        Err(other) => Err(other),
        Ok(_) => violation!(
            "{} is answered by {}, and the full feature phase begins",
            spelled(&keys),
            words::keys(&answered)
        ),
    }
}

async fn first_below_max(bench: &Bench) -> Verdict {
    let keys = [
        ("InitialR2T", "No"),
        ("FirstBurstLength", "4096"),
        ("MaxBurstLength", "65536"),
    ];
    let answers = propose(bench, &keys).await?;
    ensure_number(&answers, "MaxBurstLength", 65536)?;
    if answers.get("FirstBurstLength") == Some("Irrelevant") {
        return Ok(());
    }
    ensure_number(&answers, "FirstBurstLength", 4096)
}

async fn first_irrelevant(bench: &Bench) -> Verdict {
    let keys = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("FirstBurstLength", "4096"),
    ];
    let answers = propose(bench, &keys).await?;
    if answers.get("FirstBurstLength") == Some("Irrelevant") {
        return Ok(());
    }
    ensure_number(&answers, "FirstBurstLength", 4096)
}

async fn header_digest_order(bench: &Bench) -> Verdict {
    list_order(bench, "HeaderDigest").await
}

async fn data_digest_order(bench: &Bench) -> Verdict {
    list_order(bench, "DataDigest").await
}

/// A target may be set up to want a digest, or none: what it takes alone tells what it may choose.
async fn list_order(bench: &Bench, key: &str) -> Verdict {
    let crc = choice(bench, key, "CRC32C").await?;
    let none = choice(bench, key, "None").await?;
    for list in ["CRC32C,None", "None,CRC32C"] {
        let chosen = choice(bench, key, list).await?;
        expect_first(key, list, &chosen, &[("CRC32C", &crc), ("None", &none)])?;
    }
    Ok(())
}

/// What a list is answered by. Of values only a member of it is lawful.
async fn choice(bench: &Bench, key: &str, list: &str) -> Result<Choice, Finding> {
    let choice = Choice::of(refusal_of(bench, &[(key, list)]).await?, key, list)?;
    ensure!(
        choice
            .value()
            .is_none_or(|value| list.split(',').any(|member| member == value)),
        "{key}={list} is answered by {choice}, which was not offered"
    );
    Ok(choice)
}

async fn list_unknown_ignored(bench: &Bench) -> Verdict {
    for key in ["HeaderDigest", "DataDigest"] {
        let list = "Y-org.vmthunder.nothing,CRC32C,None";
        let chosen = choice(bench, key, list).await?;
        ensure!(
            chosen
                .value()
                .is_some_and(|one| ["CRC32C", "None"].contains(&one)),
            "{key}={list} is answered by {chosen}"
        );
    }
    Ok(())
}

async fn list_none_known(bench: &Bench) -> Verdict {
    none_of(bench, "Y-org.vmthunder.nothing").await
}

async fn list_case(bench: &Bench) -> Verdict {
    none_of(bench, "crc32c,NONE").await
}

async fn none_of(bench: &Bench, list: &str) -> Verdict {
    for key in ["HeaderDigest", "DataDigest"] {
        let chosen = choice(bench, key, list).await?;
        ensure!(
            chosen.value().is_none(),
            "{key}={list} is answered by {chosen}"
        );
    }
    Ok(())
}
