//! What the headers of a login hold: ISID, TSIH, CID, versions, numbers (RFC 7143 §11.12, §11.13).

use iscsi_proto::wire::bhs::{CONTINUE, FINAL, LoginResponse};
use iscsi_proto::wire::{Header, Pdu};

use super::logins::{
    NO_TARGET, edited, go_on, must_fail, opened, opening, operational_as, ordinary,
};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, violation};
use crate::keys::Keys;
use crate::login::{FULL_FEATURE, Login, OPERATIONAL, Refusal, SECURITY, Talk};
use crate::session::Task;
use crate::wire::Heard;
use crate::words;

checks! {
    "login.headers.itt", "RFC 7143 §11.12", Must, Reads,
        "logins with Initiator Task Tags 0 and FFFFFFFEh"
        => "the same tag in every response", itt;
    "login.headers.itt-changed", "RFC 7143 §6.3", Should, Reads,
        "a second request with another Initiator Task Tag"
        => "no response that goes on with the other tag: a login has a single one", itt_changed;
    "login.headers.isid", "RFC 7143 §11.13", Must, Reads,
        "a login of three requests"
        => "the ISID of the requests in every response", isid;
    "login.headers.isid-formats", "RFC 7143 §11.12.5", Must, Reads,
        "ISIDs of the formats OUI, enterprise number and random"
        => "each is let in", isid_formats;
    "login.headers.tsih-partial", "RFC 7143 §11.13.3", Must, Reads,
        "a login to a new session"
        => "TSIH 0 in every response but the last", tsih_partial;
    "login.headers.tsih-final", "RFC 7143 §11.13.3", Must, Reads,
        "a login to a new session"
        => "a TSIH other than 0 in the last response", tsih_final;
    "login.headers.cid", "RFC 7143 §11.12.7", Must, Reads,
        "a first connection with CID FFFFh"
        => "it is let in", cid;
    "login.headers.cid-changed", "RFC 7143 §11.12.7", Must, Reads,
        "a login whose second request has another CID, then a logout of the CID of the first"
        => "the login fails, or the connection has the CID of the first request", cid_changed;
    "login.headers.version", "RFC 7143 §11.13.2", Must, Reads,
        "Version-max 00h and Version-min 00h"
        => "Version-active 00h, and the same Version-max, in every response", version;
    "login.headers.version-range", "RFC 7143 §11.13.2", Must, Reads,
        "Version-max FFh and Version-min 00h"
        => "the highest version of the target, which is its Version-max", version_range;
    "login.headers.version-unsupported", "RFC 7143 §11.13.2", Must, Reads,
        "Version-max FFh and Version-min FFh"
        => "status 0205", version_unsupported;
    "login.headers.version-lowest", "RFC 7143 §11.13.2", Must, Reads,
        "Version-max FFh and Version-min FFh"
        => "the lowest version of the target, 00h, in Version-active of the refusal", version_lowest;
    "login.headers.reserved", "RFC 7143 §11", Must, Reads,
        "a login of three requests"
        => "zeros in all that is reserved in the responses", reserved;
    "login.headers.reserved-ignored", "RFC 7143 §11", Must, Reads,
        "ones in all that is reserved in the requests of a login"
        => "the login as if they were zeros", reserved_ignored;
    "login.headers.reject-reserved", "RFC 7143 §6.3.1", Must, Reads,
        "a login that has to be refused"
        => "zeros in T, CSG and NSG of the refusal, where they are reserved", reject_reserved;
    "login.headers.stat-sn", "RFC 7143 §11.13.4", Must, Reads,
        "a login of three requests"
        => "StatSN goes up by one from response to response", stat_sn;
    "login.headers.stat-sn-goes-on", "RFC 7143 §11.13.4", Must, Reads,
        "a ping behind a login"
        => "the StatSN behind that of the last Login Response", stat_sn_goes_on;
    "login.headers.exp-stat-sn-ignored", "RFC 7143 §11.12.9", Must, Reads,
        "a first request of a new session with an ExpStatSN, which is not valid there"
        => "it is ignored", exp_stat_sn_ignored;
    "login.headers.exp-cmd-sn", "RFC 7143 §11.12.8", Must, Reads,
        "logins with CmdSN 0, 12345678h and FFFFFFFFh"
        => "the CmdSN as the ExpCmdSN of every response", exp_cmd_sn;
    "login.headers.max-cmd-sn", "RFC 7143 §4.2.2.1", Must, Reads,
        "logins with CmdSN 0, 12345678h and FFFFFFFFh"
        => "a MaxCmdSN that is not below ExpCmdSN-1 in every response", max_cmd_sn;
    "login.headers.first-command", "RFC 7143 §11.12.8", Must, Reads,
        "a login with CmdSN FFFFFFFFh and two commands"
        => "the first command has the number of the login, the second is 0", first_command;
}

/// Goes through a login in at least three requests and gives all responses. An ordinary login is what it is about: the
/// security stage ends as soon as it can, since a request without keys is better avoided (RFC 7143 §6.2), and there are
/// targets that refuse it there.
async fn walk(bench: &Bench, login: Login) -> Result<(Talk, Vec<LoginResponse>), Finding> {
    let mut talk = operational_as(bench, login).await?;
    let mut keys = Keys::of(&[("MaxConnections", "1")]);
    let mut next = None;
    for _ in 0..MOST_REQUESTS {
        let answer = ordinary(talk.ask(OPERATIONAL, next, &keys).await)?;
        ordinary(talk.expect_success(&answer))?;
        if answer.moves_to(FULL_FEATURE) {
            let responses = talk.responses.clone();
            return Ok((talk, responses));
        }
        keys = talk.replies(&answer.keys);
        next = Some(FULL_FEATURE);
    }
    Err(Finding::Unreachable(format!(
        "an ordinary login is not over after {MOST_REQUESTS} requests"
    )))
}

async fn itt(bench: &Bench) -> Verdict {
    for tag in [0, 0xffff_fffe] {
        let mut login = bench.login();
        login.tag = tag;
        for response in walk(bench, login).await?.1 {
            let got = response.initiator_task_tag.get();
            ensure!(got == tag, "tag {got:08x} in the response to {tag:08x}");
        }
    }
    Ok(())
}

async fn itt_changed(bench: &Bench) -> Verdict {
    let mut talk = opened(bench).await?;
    let other = talk.login.tag ^ 0x00ff_0000;
    let request = talk.request(SECURITY, None, &Keys::default());
    let request = edited(request, |header| header.initiator_task_tag = other.into());
    talk.wire.send(request).await;
    if let Refusal::None(answer) = talk.refusal().await? {
        let got = answer.header.initiator_task_tag.get();
        ensure!(
            got == talk.login.tag,
            "a login with tag {:08x} goes on with tag {got:08x}",
            talk.login.tag
        );
    }
    Ok(())
}

async fn isid(bench: &Bench) -> Verdict {
    let (talk, responses) = walk(bench, bench.login()).await?;
    for response in responses {
        ensure!(
            response.isid == talk.login.isid,
            "ISID {} in the response to {}",
            words::hex(&response.isid),
            words::hex(&talk.login.isid)
        );
    }
    Ok(())
}

async fn isid_formats(bench: &Bench) -> Verdict {
    for (format, first) in [("OUI", 0x00), ("enterprise number", 0x40), ("random", 0x80)] {
        let mut login = bench.login();
        let [_, _, rest @ ..] = login.isid;
        let [b, c, high, low] = rest;
        login.isid = [first, 0, b, c, high, low];
        let session = bench.log_in_as(login, &[]).await;
        session.map_err(|finding| match finding {
            Finding::Violation(why) => {
                Finding::Violation(format!("an ISID of the format {format}: {why}"))
            }
            other => other,
        })?;
    }
    Ok(())
}

async fn tsih_partial(bench: &Bench) -> Verdict {
    let (_, responses) = walk(bench, bench.login()).await?;
    let partial = responses
        .split_last()
        .map_or(&[][..], |(_, partial)| partial);
    for response in partial {
        ensure!(
            response.tsih.get() == 0,
            "TSIH {} before the last response of a login to a new session",
            response.tsih
        );
    }
    Ok(())
}

async fn tsih_final(bench: &Bench) -> Verdict {
    let (_, responses) = walk(bench, bench.login()).await?;
    let last = responses.last().map_or(0, |last| last.tsih.get());
    ensure!(last != 0, "TSIH 0 in the last response of a login");
    Ok(())
}

async fn cid(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.cid = 0xffff;
    let mut session = bench.log_in_as(login, &[]).await?;
    session.said_before_ping().await?;
    Ok(())
}

async fn cid_changed(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.cid = 5;
    let mut talk = operational_as(bench, login).await?;
    let request = talk.request(OPERATIONAL, Some(FULL_FEATURE), &Keys::default());
    let request = edited(request, |header| header.cid = 6.into());
    talk.wire.send(request).await;
    let Refusal::None(answer) = talk.refusal().await? else {
        return Ok(());
    };
    let mut session = go_on(bench, talk, OPERATIONAL, answer).await?;
    let logout = session.logout(1);
    session.send(Pdu::bare(logout)).await;
    let answer = session.receive().await?;
    let Header::LogoutResponse(header) = answer.header else {
        violation!("{} instead of a Logout Response", Heard::Pdu(answer));
    };
    ensure!(
        header.response == 0,
        "the login began with CID 5, and a logout of that connection is answered with response {}",
        header.response
    );
    Ok(())
}

async fn version(bench: &Bench) -> Verdict {
    let (_, responses) = walk(bench, bench.login()).await?;
    let mut first = None;
    for response in responses {
        let LoginResponse {
            version_max,
            version_active,
            ..
        } = response;
        let first = *first.get_or_insert(version_max);
        ensure!(
            version_active == 0,
            "Version-active {version_active:#04x}, and the initiator has only 0x00"
        );
        ensure!(
            version_max == first,
            "Version-max is {first:#04x} in the first response and {version_max:#04x} in a later one"
        );
    }
    Ok(())
}

/// The first request with these versions.
async fn versions(bench: &Bench, max: u8, min: u8) -> Result<Talk, Finding> {
    let mut talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    let request = edited(talk.request(SECURITY, None, &keys), |header| {
        (header.version_max, header.version_min) = (max, min);
    });
    talk.wire.send(request).await;
    Ok(talk)
}

async fn version_range(bench: &Bench) -> Verdict {
    let mut talk = versions(bench, 0xff, 0).await?;
    let answer = talk.answer(SECURITY).await?;
    ensure!(
        answer.status() == 0,
        "versions 00h to FFh hold that of RFC 7143, and the login is refused with status {:#06x}",
        answer.status()
    );
    let LoginResponse {
        version_max,
        version_active,
        ..
    } = answer.header;
    ensure!(
        version_active == version_max,
        "versions 00h to FFh are offered: Version-active is {version_active:#04x}, Version-max {version_max:#04x}"
    );
    Ok(())
}

async fn version_unsupported(bench: &Bench) -> Verdict {
    let mut talk = versions(bench, 0xff, 0xff).await?;
    must_fail(&mut talk, "only version FFh is offered", &[0x0205]).await
}

async fn version_lowest(bench: &Bench) -> Verdict {
    let mut talk = versions(bench, 0xff, 0xff).await?;
    let (header, _) = talk.part().await?;
    ensure!(
        header.status_class != 0,
        "only version FFh is offered, and the login goes on"
    );
    ensure!(
        header.version_active == 0,
        "Version-active of the refusal is {:#04x} instead of the lowest version, 0x00",
        header.version_active
    );
    Ok(())
}

async fn reserved(bench: &Bench) -> Verdict {
    let (_, responses) = walk(bench, bench.login()).await?;
    for header in responses {
        ensure!(
            header.opcode == LoginResponse::OPCODE,
            "byte 0 is {:#04x} instead of 0x23",
            header.opcode
        );
        let transit = FINAL | CONTINUE | 0x0f;
        let allowed = if header.flags & FINAL == 0 {
            0x4c
        } else {
            transit
        };
        ensure!(
            header.flags & !allowed == 0,
            "byte 1 is {:#04x}: bits 0x30, and NSG while T=0, are reserved",
            header.flags
        );
        ensure!(
            header.total_ahs_length == 0,
            "TotalAHSLength is {}",
            header.total_ahs_length
        );
        ensure!(
            header.reserved_20 == [0; 4] && header.reserved_38 == [0; 10],
            "bytes 20 to 23 are {}, bytes 38 to 47 are {}",
            words::hex(&header.reserved_20),
            words::hex(&header.reserved_38)
        );
    }
    Ok(())
}

async fn reserved_ignored(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    let request = edited(talk.request(SECURITY, Some(OPERATIONAL), &keys), |header| {
        header.flags |= 0x30;
        header.reserved_22 = [0xff; 2];
        header.reserved_32 = [0xff; 16];
    });
    talk.wire.send(request).await;
    let answer = talk.answer(SECURITY).await?;
    ensure!(
        answer.status() == 0,
        "ones in reserved fields are answered with status {:#06x}",
        answer.status()
    );
    Ok(())
}

async fn reject_reserved(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.target = Some(NO_TARGET.to_owned());
    let mut talk = bench.talk(login).await?;
    let keys = opening(bench, &talk.login);
    let answer = talk.ask(SECURITY, Some(OPERATIONAL), &keys).await?;
    if answer.status() == 0 {
        return Err(Finding::Unreachable(
            "a target that nobody has is not refused at once".to_owned(),
        ));
    }
    ensure!(
        answer.header.flags == 0,
        "byte 1 of the refusal is {:#04x}; T, CSG and NSG are reserved there",
        answer.header.flags
    );
    Ok(())
}

async fn stat_sn(bench: &Bench) -> Verdict {
    let (_, responses) = walk(bench, bench.login()).await?;
    let numbers: Vec<u32> = responses
        .iter()
        .map(|response| response.stat_sn.get())
        .collect();
    for pair in numbers.windows(2) {
        if let [before, after] = pair {
            ensure!(
                *after == before.wrapping_add(1),
                "StatSN {after} in the response behind the one with StatSN {before}"
            );
        }
    }
    Ok(())
}

async fn stat_sn_goes_on(bench: &Bench) -> Verdict {
    let mut session = ordinary(bench.log_in(&[]).await)?;
    let expected = session.exp_stat_sn;
    let ping = session.ping();
    session.send(Pdu::bare(ping)).await;
    let answer = session.receive().await?;
    let Header::NopIn(nop) = answer.header else {
        violation!("{} instead of a NOP-In", Heard::Pdu(answer));
    };
    ensure!(
        nop.stat_sn.get() == expected,
        "StatSN {} behind a last Login Response with StatSN {}",
        nop.stat_sn,
        expected.wrapping_sub(1)
    );
    Ok(())
}

async fn exp_stat_sn_ignored(bench: &Bench) -> Verdict {
    let mut talk = bench.talk(bench.login()).await?;
    talk.exp_stat_sn = 0xdead_beef;
    let keys = opening(bench, &talk.login);
    let answer = talk.ask(SECURITY, None, &keys).await?;
    ensure!(
        answer.status() == 0,
        "an ExpStatSN in the first request is answered with status {:#06x}",
        answer.status()
    );
    Ok(())
}

/// CmdSN of a login, and all responses to it.
async fn numbered(bench: &Bench) -> Result<Vec<(u32, LoginResponse)>, Finding> {
    let mut all = Vec::new();
    for cmd_sn in [0, 0x1234_5678, 0xffff_ffff] {
        let mut login = bench.login();
        login.cmd_sn = cmd_sn;
        let responses = walk(bench, login).await?.1;
        all.extend(responses.into_iter().map(|response| (cmd_sn, response)));
    }
    Ok(all)
}

async fn exp_cmd_sn(bench: &Bench) -> Verdict {
    for (cmd_sn, response) in numbered(bench).await? {
        let got = response.exp_cmd_sn.get();
        ensure!(
            got == cmd_sn,
            "ExpCmdSN {got:#x} in a response to a login with CmdSN {cmd_sn:#x}"
        );
    }
    Ok(())
}

async fn max_cmd_sn(bench: &Bench) -> Verdict {
    for (_, response) in numbered(bench).await? {
        let expected = response.exp_cmd_sn.get();
        let most = response.max_cmd_sn.get();
        // Serial arithmetic (RFC 1982): more than half the circle behind is below.
        let window = most.wrapping_sub(expected.wrapping_sub(1));
        ensure!(
            window < 1 << 31,
            "MaxCmdSN {most:#x} is below ExpCmdSN-1; ExpCmdSN is {expected:#x}"
        );
    }
    Ok(())
}

async fn first_command(bench: &Bench) -> Verdict {
    let mut login = bench.login();
    login.cmd_sn = 0xffff_ffff;
    let mut session = ordinary(bench.log_in_as(login, &[]).await)?;
    for expected in [0, 1] {
        // Whatever TEST UNIT READY says: it is taken.
        session.run(&Task::bare(&[0; 6])).await?;
        ensure!(
            session.exp_cmd_sn == expected,
            "ExpCmdSN is {:#x} instead of {expected} behind a command with CmdSN {:#x}",
            session.exp_cmd_sn,
            session.cmd_sn.wrapping_sub(1)
        );
    }
    Ok(())
}

/// The most requests that an ordinary stage may take.
const MOST_REQUESTS: usize = 16;
