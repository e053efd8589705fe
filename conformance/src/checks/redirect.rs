//! Targets that have moved (RFC 7143 §11.13.5).

use iscsi_proto::wire::Header;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::checks::{discovery, send_targets};
use crate::keys::Keys;
use crate::login::{Answer, OPERATIONAL, SECURITY, Talk};
use crate::wire::Heard;

checks! {
    "redirect.address", "RFC 7143 §11.13.5", Must, Reads,
        "a login to a target that has moved"
        => "one TargetAddress at least, and a status that says for how long (0101 or 0102)", address;
    "redirect.address.form", "RFC 7143 §13.8", Must, Reads,
        "a login to a target that has moved"
        => "every TargetAddress is host[:port] without a portal group tag, an IPv6 address in brackets", form;
    "redirect.closes", "RFC 7143 §11.13.5", Must, Reads,
        "a login to a target that has moved"
        => "the connection closes behind the response", closes;
}

/// Status-Class "the target is elsewhere".
const REDIRECTION: u8 = 1;
/// So many targets are asked whether they have moved.
const MOST_TARGETS: usize = 16;

/// A login to one of the targets here that has moved.
async fn moved(bench: &Bench) -> Result<(Talk, Answer), Finding> {
    let mut session = discovery::session(bench, &[]).await?;
    let records = send_targets::list(&mut session, "All").await?;
    for record in records.into_iter().rev().take(MOST_TARGETS) {
        if record.name == bench.subject.target {
            // An ordinary login to it works.
            continue;
        }
        let mut login = bench.login();
        login.target = Some(record.name);
        let mut talk = bench.talk(login).await?;
        let mut keys = talk.login.names();
        keys.set("AuthMethod", "CHAP,None");
        let request = talk.request(SECURITY, Some(OPERATIONAL), &keys);
        talk.wire.send(request).await;
        // What other targets say is not looked at: nobody asked to judge them.
        let Heard::Pdu(pdu) = talk.wire.next().await else {
            continue;
        };
        if let Header::LoginResponse(header) = pdu.header
            && header.status_class == REDIRECTION
        {
            let keys = Keys::parse(&pdu.data)?;
            return Ok((talk, Answer { header, keys }));
        }
    }
    skip!("none of the targets here has moved")
}

async fn address(bench: &Bench) -> Verdict {
    let (_, answer) = moved(bench).await?;
    ensure!(
        [0x0101, 0x0102].contains(&answer.status()),
        "the login is redirected with status {:04x} instead of 0101 or 0102",
        answer.status()
    );
    ensure!(
        answer.keys.get("TargetAddress").is_some(),
        "the login is redirected, and no TargetAddress says where to"
    );
    Ok(())
}

async fn form(bench: &Bench) -> Verdict {
    let (_, answer) = moved(bench).await?;
    for address in answer.keys.all("TargetAddress") {
        ensure!(
            !address.contains(','),
            "TargetAddress={address} of a redirection has a portal group tag"
        );
        if let Err(why) = send_targets::check_place(address) {
            violation!("TargetAddress={address} of a redirection: {why}");
        }
    }
    Ok(())
}

async fn closes(bench: &Bench) -> Verdict {
    let (mut talk, _) = moved(bench).await?;
    let after = talk.wire.next().await;
    ensure!(
        after == Heard::Closed,
        "behind a redirection the connection has to close: {after}"
    );
    Ok(())
}
