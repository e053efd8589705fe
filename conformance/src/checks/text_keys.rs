//! Keys in the full feature phase: which may be negotiated, and when they take effect (RFC 7143 §6.4, §13).

use bytes::Bytes;
use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::RESERVED_TAG;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::checks::text::begin;
use crate::keys::Keys;
use crate::session::{Session, Task};
use crate::texts::Said;

checks! {
    "text.keys.unknown", "RFC 7143 §6.2", Must, Reads,
        "a key of the suite's own in a Text Request"
        => "the key is answered with NotUnderstood", unknown;
    "text.keys.case", "RFC 7143 §6.1", Must, Reads,
        "sendtargets and INITIATORALIAS"
        => "both are answered with NotUnderstood: keys are case sensitive", case;
    "text.keys.digests", "RFC 7143 §13.1", Must, Reads,
        "HeaderDigest=CRC32C and DataDigest=CRC32C in the full feature phase"
        => "they are neither accepted nor NotUnderstood, and PDUs stay as they were", digests;
    "text.keys.leading-only", "RFC 7143 §13", Must, Reads,
        "keys of the leading login with other values than those agreed upon"
        => "they are neither accepted nor NotUnderstood", leading_only;
    "text.keys.alias", "RFC 7143 §13.7", Must, Reads,
        "InitiatorAlias in a Text Request"
        => "the declaration is taken: neither NotUnderstood nor Reject", alias;
    "text.keys.obsolete", "RFC 7143 §13.25", Must, Reads,
        "IFMarker, OFMarker, IFMarkInt and OFMarkInt in a Text Request"
        => "Reject, or No for the first two, and never NotUnderstood", obsolete;
    "text.keys.twice", "RFC 7143 §6.4", Should, Reads,
        "MaxRecvDataSegmentLength twice in one sequence"
        => "a Reject with the reason Protocol Error (04)", twice;
    "text.segment.shorter", "RFC 7143 §13.12", Must, Reads,
        "MaxRecvDataSegmentLength=512 in a Text Request, then a READ of 4096 bytes"
        => "Data-In PDUs of at most 512 bytes", shorter;
    "text.segment.longer", "RFC 7143 §13.12", Must, Reads,
        "a login with 512, then MaxRecvDataSegmentLength=4096 in a Text Request and a READ of 4096 bytes"
        => "the declaration is taken, and the READ works", longer;
    "text.segment.restarted", "RFC 7143 §6.4", Must, Reads,
        "a login with 512, then a sequence with 8192 that is begun anew without it, and a READ of 4096 bytes"
        => "Data-In PDUs of at most 512 bytes: what was not concluded has no effect", restarted;
    "text.segment.failed", "RFC 7143 §7.12", Must, Reads,
        "a login with 512, then a sequence with 8192 that the target rejects, and a READ of 4096 bytes"
        => "Data-In PDUs of at most 512 bytes: what failed has no effect", failed;
}

const SEGMENT: &str = "MaxRecvDataSegmentLength";

async fn unknown(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    not_understood(&mut session, &["X-org.vmthunder.conformance"]).await
}

async fn case(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    not_understood(&mut session, &["sendtargets", "INITIATORALIAS"]).await
}

async fn not_understood(session: &mut Session, keys: &[&str]) -> Verdict {
    for key in keys {
        let answers = session.ask_text(&[(key, "1")]).await?;
        let value = answers.get(key);
        ensure!(
            value == Some("NotUnderstood"),
            "the answer to {key} is {} instead of NotUnderstood",
            value.unwrap_or("nothing")
        );
    }
    Ok(())
}

async fn digests(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for key in ["HeaderDigest", "DataDigest"] {
        forbidden(&mut session, key, "CRC32C", |value| value == "CRC32C").await?;
    }
    // A digest behind the header would be taken for the beginning of the next PDU.
    session.said_before_ping().await?;
    Ok(())
}

async fn leading_only(bench: &Bench) -> Verdict {
    let mut session = bench
        .session_with(&[("ErrorRecoveryLevel", "0"), ("MaxConnections", "1")])
        .await?;
    forbidden(&mut session, "ErrorRecoveryLevel", "2", |value| {
        value == "1" || value == "2"
    })
    .await?;
    forbidden(&mut session, "MaxConnections", "4", |value| {
        value.parse().is_ok_and(|number: u32| number > 1)
    })
    .await?;
    forbidden(&mut session, "DefaultTime2Wait", "3600", |value| {
        value == "3600"
    })
    .await
}

/// Proposes what must not be negotiated any more. A target may hang up, reject the request or the key, or say what
/// holds (RFC 7143 §6.2); but not that it does not know the key.
async fn forbidden(
    session: &mut Session,
    key: &str,
    value: &str,
    accepts: fn(&str) -> bool,
) -> Verdict {
    let request = session.text();
    let text = Keys::of(&[(key, value)]).encode();
    let said = match session.say(request, text).await? {
        Said::Reject(_) => return Ok(()),
        Said::Closed(how) => skip!("{key}={value}: {how}"),
        Said::Text(response, text) => (response, text),
    };
    let answers = Keys::parse(&session.rest_of_text(said).await?)?;
    match answers.get(key) {
        Some("NotUnderstood") => violation!("{key} is answered with NotUnderstood"),
        Some(answer) if accepts(answer) => {
            violation!("{key}={value} is accepted in the full feature phase: {key}={answer}")
        }
        _ => Ok(()),
    }
}

async fn alias(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let answers = session.ask_text(&[("InitiatorAlias", "the suite")]).await?;
    expect_taken(&answers, "InitiatorAlias")
}

fn expect_taken(answers: &Keys, key: &str) -> Verdict {
    match answers.get(key) {
        Some(value @ ("NotUnderstood" | "Reject" | "Irrelevant")) => {
            violation!(
                "{key} may be declared in the full feature phase, and is answered with {value}"
            )
        }
        _ => Ok(()),
    }
}

async fn obsolete(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for (key, value, lawful) in [
        ("IFMarker", "Yes", &["Reject", "No"][..]),
        ("OFMarker", "Yes", &["Reject", "No"]),
        ("IFMarkInt", "2048~8192", &["Reject"]),
        ("OFMarkInt", "2048~8192", &["Reject"]),
    ] {
        let answers = session.ask_text(&[(key, value)]).await?;
        let answer = answers.get(key).unwrap_or("nothing");
        ensure!(
            lawful.contains(&answer),
            "the answer to {key}={value} is {answer} instead of {}",
            lawful.join(" or ")
        );
    }
    Ok(())
}

async fn twice(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.text();
    let text = Keys::of(&[(SEGMENT, "8192"), (SEGMENT, "4096")]).encode();
    match session.say(request, text).await? {
        Said::Reject(reason) => ensure!(
            reason == 0x04,
            "the same key twice is rejected with reason {reason:#04x} instead of 0x04"
        ),
        Said::Text(..) => violation!("the same key twice is answered with a Text Response"),
        Said::Closed(how) => skip!("{how}"),
    }
    Ok(())
}

async fn shorter(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let answers = session.ask_text(&[(SEGMENT, "512")]).await?;
    expect_taken(&answers, SEGMENT)?;
    expect_segments(bench, &mut session, 512).await
}

async fn longer(bench: &Bench) -> Verdict {
    let mut session = narrow(bench).await?;
    let answers = session.ask_text(&[(SEGMENT, "4096")]).await?;
    expect_taken(&answers, SEGMENT)?;
    // Shorter ones are as good.
    expect_segments(bench, &mut session, 4096).await
}

async fn restarted(bench: &Bench) -> Verdict {
    let mut session = narrow(bench).await?;
    let mut request = session.text();
    request.flags = 0;
    let text = Keys::of(&[(SEGMENT, "8192")]).encode();
    let (response, _) = begin(&mut session, request, text).await?;
    let mut again = session.text_after(&response);
    again.target_transfer_tag = RESERVED_TAG.into();
    session.hear(again, Bytes::new()).await?;
    expect_segments(bench, &mut session, 512).await
}

async fn failed(bench: &Bench) -> Verdict {
    let mut session = narrow(bench).await?;
    let request = session.text();
    let text = Keys::of(&[(SEGMENT, "8192"), (SEGMENT, "8192")]).encode();
    match session.say(request, text).await? {
        Said::Reject(_) => expect_segments(bench, &mut session, 512).await,
        Said::Text(..) | Said::Closed(_) => {
            skip!("the target does not reject a key that comes twice")
        }
    }
}

/// A session to which at most 512 bytes may be sent at once, and that sees it when more come.
async fn narrow(bench: &Bench) -> Result<Session, Finding> {
    bench.facts.has_room()?;
    let mut session = bench.session_with(&[(SEGMENT, "512")]).await?;
    session.wire.set_max_data_segment(65_536);
    Ok(session)
}

/// Reads 4096 bytes or a block; no Data-In may have more than so many bytes.
async fn expect_segments(bench: &Bench, session: &mut Session, most: usize) -> Verdict {
    bench.facts.has_room()?;
    let block = bench.facts.block_bytes.max(1);
    let blocks = (4096 / block).max(1);
    let [.., high, low] = blocks.to_be_bytes();
    let read = Task::read(&[0x28, 0, 0, 0, 0, 0, 0, high, low, 0], blocks * block);
    let reply = session.run(&read).await?.good("READ (10)")?;
    for pdu in &reply.pdus {
        ensure!(
            !matches!(pdu.header, Header::DataIn(_)) || pdu.data.len() <= most,
            "a Data-In of {} bytes, where MaxRecvDataSegmentLength is {most}",
            pdu.data.len()
        );
    }
    Ok(())
}
