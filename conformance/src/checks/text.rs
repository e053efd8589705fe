//! Text Requests in the full feature phase: sequences, tags and numbers (RFC 7143 §11.10, §11.11).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{CONTINUE, FINAL, RESERVED_TAG, TextRequest, TextResponse};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::keys::Keys;
use crate::session::{Session, Task};
use crate::texts::Said;
use crate::words;

checks! {
    "text.final", "RFC 7143 §11.11.1", Must, Reads,
        "a final Text Request without text, and one with a key"
        => "a final Text Response with the reserved Target Transfer Tag each", final_bit;
    "text.not-final", "RFC 7143 §11.11.1", Must, Reads,
        "a Text Request that is not final, then an empty one that is"
        => "a response that is not final and has a Target Transfer Tag, then a final one without", not_final;
    "text.continued", "RFC 7143 §6.2", Must, Reads,
        "a key that is split over two Text Requests, the first with the C bit"
        => "an empty response that is not final, then the answer to the whole key", continued;
    "text.length", "RFC 7143 §6.1", Must, Reads,
        "7920 bytes of keys in one sequence of Text Requests"
        => "an answer to every key", long_request;
    "text.answer-length", "RFC 7143 §11.11.6", Must, Reads,
        "keys whose answer is longer than the 512 bytes of MaxRecvDataSegmentLength"
        => "several Text Responses of at most 512 bytes, which together answer every key once", long_answer;
    "text.tag.unknown", "RFC 7143 §11.17.1", Should, Reads,
        "a Text Request with a Target Transfer Tag that the target never gave"
        => "a Reject", unknown_tag;
    "text.tag.stale", "RFC 7143 §11.17.1", Should, Reads,
        "a Text Request with the Target Transfer Tag of a sequence that is over"
        => "a Reject", stale_tag;
    "text.restart", "RFC 7143 §11.10.4", Must, Reads,
        "a key in a request that is not final, then the same tag and key with the reserved Target Transfer Tag"
        => "the sequence begins anew: the key is answered as if for the first time", restart;
    "text.immediate", "RFC 7143 §4.2.2.1", Must, Reads,
        "an immediate Text Request, then a command with the same CmdSN"
        => "ExpCmdSN is not advanced by the former, and the latter is carried out", immediate;
    "text.numbered", "RFC 7143 §4.2.2.1", Must, Reads,
        "a Text Request that is not immediate, then a command with the next CmdSN"
        => "ExpCmdSN is advanced by one with the response, and the command is carried out", numbered;
    "text.stat-sn", "RFC 7143 §11.11.5", Must, Reads,
        "three Text Requests one after the other"
        => "StatSN goes up by one with each response", stat_sn;
}

/// The numbered key that no target understands.
fn key(number: usize) -> String {
    format!("X-org.vmthunder.k{number:02}")
}

/// Every key of a text is answered NotUnderstood, once.
fn expect_each(answers: &Keys, count: usize) -> Verdict {
    for number in 0..count {
        let key = key(number);
        let values: Vec<&str> = answers.all(&key).collect();
        ensure!(
            values == ["NotUnderstood"],
            "the answer to {key} is {} instead of NotUnderstood",
            words::list(values.iter().map(|value| words::quoted(value)))
        );
    }
    Ok(())
}

fn expect_final(response: &TextResponse, what: &str) -> Verdict {
    let tag = response.target_transfer_tag.get();
    ensure!(
        response.flags == FINAL && tag == RESERVED_TAG,
        "the answer to {what} has byte 1 {:#04x} and Target Transfer Tag {tag:08x} instead of 0x80 and ffffffff",
        response.flags
    );
    Ok(())
}

fn expect_more(response: &TextResponse, what: &str) -> Verdict {
    let tag = response.target_transfer_tag.get();
    ensure!(
        response.flags & FINAL == 0,
        "the answer to {what} has the F bit"
    );
    ensure!(
        tag != RESERVED_TAG,
        "the answer to {what} has no Target Transfer Tag to go on with"
    );
    Ok(())
}

/// The response to a request that is not final; a target may have no room for such sequences (RFC 7143 §11.11.4).
pub(super) async fn opening(
    session: &mut Session,
    request: TextRequest,
    text: Bytes,
) -> Result<(TextResponse, Bytes), Finding> {
    match session.say(request, text).await? {
        Said::Reject(LONG_OPERATION) => skip!("the target has no room for a sequence of requests"),
        other => other.text(),
    }
}

/// Like [`opening`], for checks that are about what comes after it: a target that hangs up is not looked at further.
pub(super) async fn begin(
    session: &mut Session,
    request: TextRequest,
    text: Bytes,
) -> Result<(TextResponse, Bytes), Finding> {
    match session.say(request, text).await? {
        Said::Text(response, text) => Ok((response, text)),
        Said::Reject(_) | Said::Closed(_) => skip!("the target takes no sequence of requests"),
    }
}

/// Long op reject.
const LONG_OPERATION: u8 = 0x0a;

async fn final_bit(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for (what, keys) in [
        ("an empty Text Request", Keys::default()),
        ("a Text Request", Keys::of(&[(&key(0), "1")])),
    ] {
        let request = session.text();
        let (response, _) = session.hear(request, keys.encode()).await?;
        expect_final(&response, what)?;
    }
    Ok(())
}

async fn not_final(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.text();
    request.flags = 0;
    let text = Keys::of(&[(&key(0), "1")]).encode();
    let (response, first) = opening(&mut session, request, text).await?;
    expect_more(&response, "a Text Request that is not final")?;
    let request = session.text_after(&response);
    let (response, rest) = session.hear(request, Bytes::new()).await?;
    expect_final(&response, "the final Text Request of a sequence")?;
    let answers = Keys::parse(&[first, rest].concat())?;
    expect_each(&answers, 1)
}

async fn continued(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let text = Keys::of(&[(&key(0), "a value in two pieces")]).encode();
    let parts = [text.slice(..10), text.slice(10..)];
    let answers = send_parts(&mut session, &parts).await?;
    expect_each(&answers, 1)
}

async fn long_request(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let count = 36;
    let value = "v".repeat(200);
    let pairs = (0..count).map(|number| (key(number), value.clone()));
    let text = Keys(pairs.collect()).encode();
    let segment = session.terms.target_segment.clamp(512, 8192);
    let segment = usize::try_from(segment).unwrap_or(512);
    let parts: Vec<Bytes> = (0..text.len())
        .step_by(segment)
        .map(|at| text.slice(at..text.len().min(at + segment)))
        .collect();
    let answers = send_parts(&mut session, &parts).await?;
    expect_each(&answers, count)
}

/// Sends one text in pieces, each but the last with the C bit; the answer to it.
async fn send_parts(session: &mut Session, parts: &[Bytes]) -> Result<Keys, Finding> {
    let mut request = session.text();
    let Some((last, begin)) = parts.split_last() else {
        return Ok(Keys::default());
    };
    for (at, part) in begin.iter().enumerate() {
        request.flags = CONTINUE;
        let (response, text) = match at {
            0 => opening(session, request, part.clone()).await?,
            _ => session.hear(request, part.clone()).await?,
        };
        expect_more(&response, "a Text Request with the C bit")?;
        ensure!(
            text.is_empty() && response.flags & CONTINUE == 0,
            "the answer to a Text Request with the C bit has {} bytes of text and byte 1 {:#04x} instead of nothing",
            text.len(),
            response.flags
        );
        request = session.text_after(&response);
    }
    let first = session.hear(request, last.clone()).await?;
    Keys::parse(&session.rest_of_text(first).await?)
}

async fn long_answer(bench: &Bench) -> Verdict {
    let mut session = bench
        .session_with(&[("MaxRecvDataSegmentLength", "512")])
        .await?;
    // So that a response that is too long can be seen as one.
    session.wire.set_max_data_segment(65_536);
    let count = 20;
    let pairs = (0..count).map(|number| (key(number), "1".to_owned()));
    let text = Keys(pairs.collect()).encode();
    let request = session.text();
    let (mut response, mut part) = opening(&mut session, request, text).await?;
    let mut whole = Vec::new();
    for _ in 0..64 {
        ensure!(
            part.len() <= 512,
            "a Text Response of {} bytes, and MaxRecvDataSegmentLength is 512",
            part.len()
        );
        whole.extend_from_slice(&part);
        if response.flags & FINAL != 0 {
            expect_final(&response, "the last request for a long answer")?;
            return expect_each(&Keys::parse(&whole)?, count);
        }
        expect_more(&response, "a request for a long answer")?;
        let request = session.text_after(&response);
        (response, part) = session.hear(request, Bytes::new()).await?;
    }
    violation!("an answer of some 700 bytes has no end after 64 Text Responses")
}

async fn unknown_tag(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.text();
    request.target_transfer_tag = 0x5a5a_5a5a.into();
    expect_reject(
        session.say(request, Bytes::new()).await?,
        "a Target Transfer Tag that was never given",
    )
}

async fn stale_tag(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.text();
    request.flags = 0;
    let text = Keys::of(&[(&key(0), "1")]).encode();
    let (response, _) = begin(&mut session, request, text).await?;
    if response.flags & FINAL != 0 {
        skip!("the target ends the sequence by itself");
    }
    let again = session.text_after(&response);
    let (last, _) = session.hear(again, Bytes::new()).await?;
    if last.flags & FINAL == 0 {
        skip!("the target does not end the sequence");
    }
    let again = session.text_after(&response);
    expect_reject(
        session.say(again, Bytes::new()).await?,
        "the Target Transfer Tag of a sequence that is over",
    )
}

/// A target that hangs up makes its point, too.
fn expect_reject(said: Said, what: &str) -> Verdict {
    match said {
        Said::Reject(_) | Said::Closed(_) => Ok(()),
        Said::Text(..) => violation!("{what} is answered with a Text Response"),
    }
}

async fn restart(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let text = Keys::of(&[(&key(0), "1")]).encode();
    let mut request = session.text();
    request.flags = 0;
    let (response, _) = begin(&mut session, request, text.clone()).await?;
    expect_more(&response, "a Text Request that is not final")?;
    let mut again = session.text_after(&response);
    again.target_transfer_tag = RESERVED_TAG.into();
    again.lun = 0.into();
    let (response, text) = session.hear(again, text).await?;
    expect_final(&response, "the request that begins anew")?;
    expect_each(&Keys::parse(&text)?, 1)
}

async fn immediate(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let request = session.text();
    let (response, _) = session.hear(request, Bytes::new()).await?;
    ensure!(
        response.exp_cmd_sn.get() == session.cmd_sn,
        "an immediate Text Request with CmdSN {} makes ExpCmdSN {}",
        session.cmd_sn,
        response.exp_cmd_sn.get()
    );
    let reply = session.run(&Task::bare(&[0; 6])).await?;
    reply.good("TEST UNIT READY with the CmdSN of an immediate Text Request")?;
    Ok(())
}

async fn numbered(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let mut request = session.text();
    request.opcode = TextRequest::OPCODE;
    request.cmd_sn = session.take_cmd_sn().into();
    let (response, _) = session.hear(request, Bytes::new()).await?;
    ensure!(
        response.exp_cmd_sn.get() == session.cmd_sn,
        "a Text Request with CmdSN {} that is not immediate makes ExpCmdSN {}",
        request.cmd_sn.get(),
        response.exp_cmd_sn.get()
    );
    let reply = session.run(&Task::bare(&[0; 6])).await?;
    reply.good("TEST UNIT READY behind a Text Request that is not immediate")?;
    Ok(())
}

async fn stat_sn(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for _ in 0..3 {
        let expected = session.exp_stat_sn;
        let request = session.text();
        let (response, _) = session.hear(request, Bytes::new()).await?;
        ensure!(
            response.stat_sn.get() == expected,
            "StatSN {} where {expected} is next",
            response.stat_sn.get()
        );
    }
    Ok(())
}
