//! What a login does to sessions that exist: new, reinstated, a further connection (RFC 7143 §6.3.1, §6.3.5).

use iscsi_proto::wire::{Header, Pdu};

use super::logins::{ordinary, whole_login};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::keys::Keys;
use crate::login::{Login, SECURITY};
use crate::session::Session;
use crate::wire::Heard;

checks! {
    "login.sessions.beside", "RFC 7143 §6.3.1", Must, Reads,
        "two logins with two ISIDs"
        => "two sessions, each of which answers a ping", beside;
    "login.sessions.handles", "RFC 7143 §4.4.3", Must, Reads,
        "three logins with three ISIDs"
        => "three sessions with three TSIHs", handles;
    "login.sessions.other-initiator", "RFC 7143 §4.4.3", Must, Reads,
        "a login of another InitiatorName with the ISID of a session"
        => "two sessions: ISID and name together are the initiator port", other_initiator;
    "login.sessions.reinstated", "RFC 7143 §6.3.5", Must, Reads,
        "a login with the ISID of a session, and TSIH 0"
        => "a new session, and the end of the old one's connection", reinstated;
    "login.sessions.reinstated-alone", "RFC 7143 §6.3.5", Must, Reads,
        "a login with the ISID of one of two sessions, and TSIH 0"
        => "the other session goes on", reinstated_alone;
    "login.sessions.after-drop", "RFC 7143 §6.3.5", Must, Reads,
        "a login with the ISID of a session whose connection broke"
        => "a new session", after_drop;
    "login.sessions.after-logout", "RFC 7143 §6.3.1", Must, Reads,
        "a login with the ISID of a session that was closed by a logout"
        => "a new session", after_logout;
    "login.sessions.failed-login", "RFC 7143 §6.3.5", Must, Reads,
        "a login with the ISID of a session, which fails before anything is proven"
        => "the session goes on", failed_login;
    "login.sessions.tsih-of-nobody", "RFC 7143 §6.3.1", Must, Reads,
        "a new ISID with a TSIH that was never given"
        => "status 020a", tsih_of_nobody;
    "login.sessions.tsih-wrong", "RFC 7143 §6.3.1", Must, Reads,
        "the ISID of a session with another TSIH"
        => "status 020a", tsih_wrong;
    "login.sessions.tsih-wrong-spares", "RFC 7143 §6.3.1", Must, Reads,
        "the ISID of a session with another TSIH"
        => "the session goes on", tsih_wrong_spares;
    "login.sessions.tsih-of-another-isid", "RFC 7143 §6.3.1", Must, Reads,
        "a new ISID with the TSIH of a session"
        => "status 020a", tsih_of_another_isid;
    "login.sessions.tsih-after-logout", "RFC 7143 §6.3.1", Must, Reads,
        "ISID and TSIH of a session that was closed by a logout"
        => "status 020a", tsih_after_logout;
    "login.sessions.connection-too-many", "RFC 7143 §6.3.1", Must, Reads,
        "a second connection where MaxConnections=1 was agreed upon"
        => "whatever becomes of it, the first connection goes on", connection_too_many;
    "login.sessions.connection-reinstated", "RFC 7143 §6.3.4", Should, Reads,
        "a login with ISID, TSIH and CID of a connection"
        => "the connection is replaced: the new one answers a ping, the old one ends", connection_reinstated;
}

/// A session that answers a ping.
async fn alive(session: &mut Session, what: &str) -> Verdict {
    match session.said_before_ping().await {
        Err(Finding::Violation(why)) => violation!("{what} does not answer a ping: {why}"),
        Err(other) => Err(other),
        Ok(_) => Ok(()),
    }
}

async fn log_in(bench: &Bench, login: Login) -> Result<Session, Finding> {
    ordinary(bench.log_in_as(login, &[]).await)
}

async fn beside(bench: &Bench) -> Verdict {
    let mut first = log_in(bench, bench.login()).await?;
    let mut second = bench.log_in_as(bench.login(), &[]).await?;
    alive(&mut second, "the second session").await?;
    alive(&mut first, "the first of two sessions").await
}

async fn handles(bench: &Bench) -> Verdict {
    let mut sessions: Vec<Session> = Vec::new();
    for _ in 0..3 {
        let session = log_in(bench, bench.login()).await?;
        ensure!(
            sessions.iter().all(|other| other.tsih != session.tsih),
            "two sessions at once have TSIH {}",
            session.tsih
        );
        sessions.push(session);
    }
    Ok(())
}

async fn other_initiator(bench: &Bench) -> Verdict {
    let mut first = log_in(bench, bench.login()).await?;
    let mut login = first.login.clone();
    login.initiator += ".other";
    let mut talk = bench.talk(login).await?;
    if talk.authenticate().await.is_err() {
        skip!("the target does not let a second initiator in");
    }
    let mut second = ordinary(talk.finish(Keys::default()).await)?;
    alive(&mut second, "the session of the second initiator").await?;
    let what = "the session of the first of two initiators with one ISID";
    alive(&mut first, what).await
}

async fn reinstated(bench: &Bench) -> Verdict {
    let mut old = log_in(bench, bench.login()).await?;
    let mut new = bench.log_in_as(old.login.clone(), &[]).await?;
    alive(&mut new, "the session that reinstates another").await?;
    ended(&mut old, "its ISID is logged in anew").await
}

/// The end of a connection, whatever the target has to say before.
async fn ended(session: &mut Session, why: &str) -> Verdict {
    for _ in 0..MOST_WORDS {
        match session.next().await {
            Heard::Closed => return Ok(()),
            Heard::Pdu(_) => {}
            Heard::Silence => violation!("{why}, and the old connection stays open"),
            other => violation!("{why}, and on the old connection {other}"),
        }
    }
    violation!("{why}, and {MOST_WORDS} PDUs come on the old connection")
}

async fn reinstated_alone(bench: &Bench) -> Verdict {
    let old = log_in(bench, bench.login()).await?;
    let mut other = log_in(bench, bench.login()).await?;
    let _new = log_in(bench, old.login.clone()).await?;
    let what = "a session beside the one that is reinstated";
    alive(&mut other, what).await
}

async fn after_drop(bench: &Bench) -> Verdict {
    let old = log_in(bench, bench.login()).await?;
    let login = old.login.clone();
    drop(old);
    let mut new = bench.log_in_as(login, &[]).await?;
    alive(&mut new, "the new session").await
}

/// Closes a session and waits for the end of its connection; what it was.
async fn logged_out(bench: &Bench) -> Result<(Login, u16), Finding> {
    let mut session = log_in(bench, bench.login()).await?;
    let logout = session.logout(0);
    session.send(Pdu::bare(logout)).await;
    let answer = ordinary(session.receive().await)?;
    if !matches!(&answer.header, Header::LogoutResponse(header) if header.response == 0) {
        return Err(Finding::Unreachable(
            "an ordinary logout does not succeed".to_owned(),
        ));
    }
    // Whoever keeps the connection open is no matter here.
    session.next().await;
    Ok((session.login.clone(), session.tsih))
}

async fn after_logout(bench: &Bench) -> Verdict {
    let (login, _) = logged_out(bench).await?;
    let mut new = bench.log_in_as(login, &[]).await?;
    alive(&mut new, "the new session").await
}

async fn failed_login(bench: &Bench) -> Verdict {
    let mut session = log_in(bench, bench.login()).await?;
    let mut talk = bench.talk(session.login.clone()).await?;
    let mut keys = talk.login.names();
    keys.set("AuthMethod", "Z-org.vmthunder.nothing");
    let request = talk.request(SECURITY, None, &keys);
    talk.wire.send(request).await;
    // A target may say Reject and wait: the connection ends here all the same.
    talk.refusal().await?;
    drop(talk);
    let what = "a session whose ISID was in a login that failed";
    alive(&mut session, what).await
}

/// A login that names a session.
fn joining(bench: &Bench, isid: [u8; 6], tsih: u16, cid: u16) -> Login {
    Login {
        isid,
        tsih,
        cid,
        ..bench.login()
    }
}

/// A login that names a session which does not exist.
async fn no_session(bench: &Bench, login: Login, what: &str) -> Verdict {
    match whole_login(bench, login).await? {
        Ok(_) => violation!("{what}, and the login succeeds instead of status 0x020a"),
        Err(status) => ensure!(
            status == 0x020a,
            "{what}: status {status:#06x} instead of 0x020a"
        ),
    }
    Ok(())
}

async fn tsih_of_nobody(bench: &Bench) -> Verdict {
    let login = joining(bench, bench.isid(), 0x5aa5, 0);
    no_session(bench, login, "a new ISID with TSIH 5AA5h").await
}

/// A handle that no session with this ISID has.
fn another(tsih: u16) -> u16 {
    if tsih == 0x5aa5 { 0x6996 } else { 0x5aa5 }
}

async fn tsih_wrong(bench: &Bench) -> Verdict {
    let session = log_in(bench, bench.login()).await?;
    let login = joining(bench, session.login.isid, another(session.tsih), 0);
    no_session(bench, login, "the ISID of a session with another TSIH").await
}

async fn tsih_wrong_spares(bench: &Bench) -> Verdict {
    let mut session = log_in(bench, bench.login()).await?;
    let login = joining(bench, session.login.isid, another(session.tsih), 0);
    // That it fails is another rule.
    let _refused = whole_login(bench, login).await;
    let what = "a session whose ISID was in a login with another TSIH";
    alive(&mut session, what).await
}

async fn tsih_of_another_isid(bench: &Bench) -> Verdict {
    let mut session = log_in(bench, bench.login()).await?;
    let login = joining(bench, bench.isid(), session.tsih, 1);
    no_session(bench, login, "a new ISID with the TSIH of a session").await?;
    let what = "a session whose TSIH was in a login with another ISID";
    alive(&mut session, what).await
}

async fn tsih_after_logout(bench: &Bench) -> Verdict {
    let (login, tsih) = logged_out(bench).await?;
    let login = joining(bench, login.isid, tsih, 0);
    no_session(bench, login, "ISID and TSIH of a session that was closed").await
}

async fn connection_too_many(bench: &Bench) -> Verdict {
    let mut session = ordinary(bench.log_in(&[("MaxConnections", "1")]).await)?;
    let login = joining(bench, session.login.isid, session.tsih, 1);
    // To take it is lawful: it may be there to clean up behind the first (RFC 7143 §6.3.4).
    let _either = whole_login(bench, login).await;
    let what = "the only connection that was agreed upon, behind a login of a second one,";
    alive(&mut session, what).await
}

async fn connection_reinstated(bench: &Bench) -> Verdict {
    let mut old = log_in(bench, bench.login()).await?;
    let mut login = joining(bench, old.login.isid, old.tsih, old.login.cid);
    login.cmd_sn = old.cmd_sn;
    let mut new = match whole_login(bench, login).await? {
        Ok(session) => session,
        Err(status) => violation!("the connection is not replaced: status {status:#06x}"),
    };
    alive(&mut new, "the connection that replaces another").await?;
    ensure!(
        new.tsih == old.tsih,
        "TSIH {} behind the replacement of a connection of session {}",
        new.tsih,
        old.tsih
    );
    ended(&mut old, "the connection is replaced").await
}

/// The most PDUs that may come before the end of a connection.
const MOST_WORDS: usize = 8;
