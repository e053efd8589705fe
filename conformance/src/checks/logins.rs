//! What the checks of the login share: the ways in, and what a refusal may look like.

use iscsi_proto::wire::bhs::{FINAL, LoginRequest};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, ensure, violation};
use crate::keys::Keys;
use crate::login::{Answer, FULL_FEATURE, Login, OPERATIONAL, Refusal, SECURITY, Talk};
use crate::session::Session;
use crate::words;

/// Status 0200: miscellaneous errors of the initiator (RFC 7143 §11.13.5).
pub(super) const INITIATOR_ERROR: u16 = 0x0200;
/// Status 0201.
pub(super) const AUTHENTICATION_FAILURE: u16 = 0x0201;
/// Status 0202.
pub(super) const AUTHORIZATION_FAILURE: u16 = 0x0202;

/// What goes wrong on an ordinary way is not what a check is about.
pub(super) fn ordinary<T>(result: Result<T, Finding>) -> Result<T, Finding> {
    result.map_err(|finding| match finding {
        Finding::Violation(why) => {
            Finding::Unreachable(format!("an ordinary login does not come about: {why}"))
        }
        other => other,
    })
}

/// The keys of an ordinary first request in the security stage.
pub(super) fn opening(bench: &Bench, login: &Login) -> Keys {
    let mut keys = login.names();
    let methods = if bench.subject.chap.is_some() {
        "CHAP,None"
    } else {
        "None"
    };
    keys.set("AuthMethod", methods);
    keys
}

/// A login whose first request is answered, still in the security stage.
pub(super) async fn opened(bench: &Bench) -> Result<Talk, Finding> {
    let mut talk = bench.talk(bench.login()).await?;
    let keys = opening(bench, &talk.login);
    let answer = ordinary(talk.ask(SECURITY, None, &keys).await)?;
    ordinary(talk.expect_success(&answer))?;
    Ok(talk)
}

/// A login in the operational stage, nothing said there yet.
pub(super) async fn operational(bench: &Bench) -> Result<Talk, Finding> {
    operational_as(bench, bench.login()).await
}

/// Such a login, with a header or names of its own.
pub(super) async fn operational_as(bench: &Bench, login: Login) -> Result<Talk, Finding> {
    let mut talk = bench.talk(login).await?;
    ordinary(talk.authenticate().await)?;
    Ok(talk)
}

/// Proposes keys that every target has to answer, in the operational stage and without the T bit.
pub(super) async fn propose(bench: &Bench, keys: &[(&str, &str)]) -> Result<Keys, Finding> {
    let mut talk = operational(bench).await?;
    let answer = talk.ask(OPERATIONAL, None, &Keys::of(keys)).await?;
    ensure!(
        answer.status() == 0,
        "{} is lawful, and the login is refused with status {:#06x}",
        spelled(keys),
        answer.status()
    );
    Ok(answer.keys)
}

/// Proposes keys whose values are not lawful; nothing if the target ends the login, which it may (RFC 7143 §7.12).
pub(super) async fn propose_oddly(
    bench: &Bench,
    keys: &[(&str, &str)],
) -> Result<Option<Keys>, Finding> {
    Ok(match refusal_of(bench, keys).await? {
        Refusal::None(answer) => Some(answer.keys),
        Refusal::Status(_) | Refusal::Closed => None,
    })
}

/// What the target does with keys in the operational stage.
pub(super) async fn refusal_of(bench: &Bench, keys: &[(&str, &str)]) -> Result<Refusal, Finding> {
    let mut talk = operational(bench).await?;
    talk.wire
        .send(talk.request(OPERATIONAL, None, &Keys::of(keys)))
        .await;
    talk.refusal().await
}

/// What a target does with a list that it should choose from; shown as what the list is answered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// A value, be it of the list or not.
    Of(String),
    Reject,
    /// The end of the login with this status.
    Status(u16),
    /// The end of the connection without a word.
    Closed,
}

impl Choice {
    /// What became of the list under a key; an answer that does not name the key is a violation.
    pub(super) fn of(refusal: Refusal, key: &str, list: &str) -> Result<Self, Finding> {
        Ok(match refusal {
            Refusal::Closed => Self::Closed,
            Refusal::Status(status) => Self::Status(status),
            Refusal::None(answer) => match answer.keys.get(key) {
                None => violation!("{key}={list} is proposed, and the response has no {key}"),
                Some("Reject") => Self::Reject,
                Some(value) => Self::Of(value.to_owned()),
            },
        })
    }

    /// The value, if one was chosen.
    pub(super) fn value(&self) -> Option<&str> {
        match self {
            Self::Of(value) => Some(value),
            Self::Reject | Self::Status(_) | Self::Closed => None,
        }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Of(value) => f.write_str(value),
            Self::Reject => f.write_str("Reject"),
            Self::Status(status) => write!(f, "status {status:#06x}"),
            Self::Closed => f.write_str("the end of the connection"),
        }
    }
}

/// Lists of two have to be answered by the first member that is chosen alone, too: a target may be set up to want one,
/// or none. `list` is answered by `chosen`; each member with what it is answered by alone.
pub(super) fn expect_first(
    key: &str,
    list: &str,
    chosen: &Choice,
    alone: &[(&str, &Choice)],
) -> Verdict {
    let taken = |member: &&str| {
        let mut alone = alone.iter();
        alone.any(|(one, choice)| one == member && choice.value().is_some())
    };
    if chosen.value() == list.split(',').find(taken) {
        return Ok(());
    }
    let alone = alone.iter();
    let alone = words::list(alone.map(|(one, choice)| format!("{one} by {choice}")));
    violation!("{key}={list} is answered by {chosen}; alone, {alone}")
}

/// Asks on, from an answer that was given in a stage, until the full feature phase begins.
pub(super) async fn go_on(
    bench: &Bench,
    mut talk: Talk,
    mut stage: u8,
    mut answer: Answer,
) -> Result<Session, Finding> {
    for _ in 0..MOST_REQUESTS {
        talk.expect_success(&answer)?;
        if answer.moves_to(FULL_FEATURE) {
            let lun = bench.subject.lun;
            return Ok(Session::begin(talk, &Keys::default(), &answer, lun));
        }
        if answer.moves_to(OPERATIONAL) {
            stage = OPERATIONAL;
        }
        let replies = talk.replies(&answer.keys);
        answer = talk.ask(stage, Some(FULL_FEATURE), &replies).await?;
    }
    violation!("the login is not over after {MOST_REQUESTS} requests that ask for it")
}

/// A whole login, as an ordinary initiator goes through it: the session, or the status that refused it.
pub(super) async fn whole_login(
    bench: &Bench,
    login: Login,
) -> Result<Result<Session, u16>, Finding> {
    let mut talk = bench.talk(login).await?;
    match talk.authenticate().await {
        Err(Finding::Violation(_)) if talk.status != 0 => return Ok(Err(talk.status)),
        other => other?,
    }
    let nothing = Keys::default();
    let answer = talk.ask(OPERATIONAL, Some(FULL_FEATURE), &nothing).await?;
    if answer.status() != 0 {
        return Ok(Err(answer.status()));
    }
    go_on(bench, talk, OPERATIONAL, answer).await.map(Ok)
}

/// What was sent last has to end the login: with a failing status, or with the connection.
pub(super) async fn must_end(talk: &mut Talk, what: &str) -> Verdict {
    match talk.refusal().await? {
        Refusal::None(answer) => violation!(
            "{what}, and the login goes on (byte 1 of the answer is {:#04x})",
            answer.header.flags
        ),
        Refusal::Status(_) | Refusal::Closed => Ok(()),
    }
}

/// What was sent last has to be answered by a Login Response with one of these statuses.
pub(super) async fn must_fail(talk: &mut Talk, what: &str, statuses: &[u16]) -> Verdict {
    let fitting: Vec<String> = statuses.iter().map(|one| format!("{one:#06x}")).collect();
    let fitting = fitting.join(" or ");
    match talk.refusal().await? {
        Refusal::None(_) => violation!("{what}, and the login goes on instead of status {fitting}"),
        Refusal::Closed => violation!(
            "{what}, and the connection is closed without the Login Response that says so (status {fitting})"
        ),
        Refusal::Status(status) => ensure!(
            statuses.contains(&status),
            "{what}: status {status:#06x} instead of {fitting}"
        ),
    }
    Ok(())
}

/// What was sent last has to be answered by a Login Response that blames the initiator.
pub(super) async fn must_be_blamed(talk: &mut Talk, what: &str) -> Verdict {
    match talk.refusal().await? {
        Refusal::None(_) => violation!("{what}, and the login goes on"),
        Refusal::Closed => violation!(
            "{what}, and the connection is closed without the Login Response that says so"
        ),
        Refusal::Status(status) => ensure!(
            status >> 8 == 2,
            "{what}: status {status:#06x} instead of an error of the initiator (class 2)"
        ),
    }
    Ok(())
}

/// A Login Request with something in its header changed.
pub(super) fn edited(mut request: Pdu, edit: impl FnOnce(&mut LoginRequest)) -> Pdu {
    if let Header::LoginRequest(header) = &mut request.header {
        edit(header);
    }
    request
}

/// True if an answer grants a transit, wherever to.
pub(super) fn transits(answer: &Answer) -> bool {
    answer.header.flags & FINAL != 0
}

/// The stage that an answer was given in (CSG).
pub(super) fn current_stage(answer: &Answer) -> u8 {
    answer.header.flags >> 2 & 3
}

/// A numerical-value: decimal or hexadecimal (RFC 7143 §6.1).
pub(super) fn number(value: &str) -> Option<u64> {
    let hex = value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((value, 10), |digits| (digits, 16));
    // `from_str_radix` would take a sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, radix).ok())?
}

/// The pairs as RFC 7143 writes them.
pub(super) fn spelled(keys: &[(&str, &str)]) -> String {
    let pairs = keys.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(" ")
}

/// The most requests that an ordinary login may take.
const MOST_REQUESTS: usize = 16;
/// The name of a target that nobody has.
pub(super) const NO_TARGET: &str = "iqn.2013-07.org.vmthunder:no-such-target";
