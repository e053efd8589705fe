//! How an initiator behaves.

use std::time::Duration;

use iscsi_proto::login::{
    Account, Algorithm, ChapPolicy, DigestChoice, InitiatorChap, Secret, check_accounts,
};
use iscsi_proto::name::IscsiName;
use iscsi_proto::url::IscsiUrl;

use crate::{Error, PathPolicy};

/// How an initiator behaves. Fields may come: begin with [`Options::new`], and set those that matter.
///
/// # How the times add up
///
/// A target that is silent is noticed when [`ping_interval`](Self::ping_interval) and [`ping_timeout`](Self::ping_timeout)
/// are over; from that loss on [`Outage::Deadline`] counts, and an attempt to connect that is under way at its end goes on
/// behind the backs of the commands that gave up. So a read of a target that fell silent fails after 5 + 5 + 120 seconds
/// with what [`new`](Self::new) sets, and one whose connection was closed after 120.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who the initiator is.
    pub initiator_name: IscsiName,
    /// What the initiator proves itself with; `None` where nobody asks.
    pub chap: Option<Credentials>,
    /// How long making a TCP connection may take.
    pub connect_timeout: Duration,
    /// How long the login phase may take.
    pub login_timeout: Duration,
    /// How long a command may take on one connection before it is aborted; `None` for ever.
    /// [`Session::with_command_timeout`](crate::Session::with_command_timeout) sets it for some commands only. A target
    /// that refuses the abort, or does not answer it, has the unit reset, and if that fails as well the session is
    /// dropped and made again; commands of others that a reset hits are repeated where that does no harm.
    pub command_timeout: Option<Duration>,
    /// How long the target may take for an abort, a reset or a logout.
    pub management_timeout: Duration,
    /// Silence after which the target is pinged; `None` for never.
    pub ping_interval: Option<Duration>,
    /// How long the target may take to answer a ping before the connection counts as lost. Also, where a unit has several
    /// paths, how long commands may hold up the end of a change that another path was lost with.
    pub ping_timeout: Duration,
    /// Whether headers carry a digest.
    pub header_digest: DigestChoice,
    /// Whether data carries a digest.
    pub data_digest: DigestChoice,
    /// What happens when the connection is lost.
    pub reconnect: Reconnect,
    /// Whether commands that the unit has no time for (BUSY, TASK SET FULL) are repeated after growing pauses, as long as
    /// `reconnect.outage` lets them wait, and with [`Outage::Fail`] a few times. Only those of class `Demand` are: the
    /// others are told at once.
    pub repeats_busy: bool,
    /// What a unit is that has another size than before.
    pub resize: Resize,
    /// What follows when a unit may have lost what it acknowledged.
    pub cache_loss: CacheLoss,
    /// Commands of one session that may be under way; more wait, or are refused for class `Peer`.
    pub queue_limit: usize,
    /// How commands are spread over the paths of a unit that has several.
    pub path_policy: PathPolicy,
    /// Parts of one read or write that are under way at once, when it exceeds the unit's maximum transfer length.
    pub parts_in_flight: usize,
}

impl Options {
    /// The usual behaviour of an initiator of this name: no CHAP and no digests; 5 s to connect, 10 s to log in, 60 s for a
    /// command, 15 s to manage one, a ping after 5 s and 5 s for its answer; 256 commands of a session and 4 parts of a
    /// read or write under way; a unit that is resized is fenced, and the loss of a cache is reported.
    pub fn new(initiator_name: IscsiName) -> Self {
        Self {
            initiator_name,
            chap: None,
            connect_timeout: Duration::from_secs(5),
            login_timeout: Duration::from_secs(10),
            command_timeout: Some(Duration::from_secs(60)),
            management_timeout: Duration::from_secs(15),
            ping_interval: Some(Duration::from_secs(5)),
            ping_timeout: Duration::from_secs(5),
            header_digest: DigestChoice::None,
            data_digest: DigestChoice::None,
            reconnect: Reconnect::default(),
            repeats_busy: true,
            resize: Resize::Fence,
            cache_loss: CacheLoss::Report,
            queue_limit: 256,
            path_policy: PathPolicy::default(),
            parts_in_flight: 4,
        }
    }

    /// These options with the user of a URL, if it names one: `user%secret@` brings the secret along, `user@` means the
    /// account of `chap`, so that no secret need stand in a URL. Whom the target has to prove to be stays as it is.
    pub fn with_user_of(mut self, url: &IscsiUrl) -> Result<Self, Error> {
        let Some(user) = url.user() else {
            return Ok(self);
        };
        let configured = self.chap.take();
        self.chap = Some(match (url.secret(), configured) {
            (Some(secret), configured) => {
                let account = Account {
                    name: user.to_owned(),
                    secret: Secret::new(secret)?,
                };
                match configured {
                    Some(configured) => Credentials {
                        account,
                        ..configured
                    },
                    None => Credentials::new(account),
                }
            }
            (None, Some(configured)) if configured.account.name == user => configured,
            (None, _) => return Err(Error::NoSecret),
        });
        Ok(self)
    }
}

/// What a unit is that has another size than before, but the same designators and blocks of the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Another unit: it answers nothing but [`Error::Changed`] from then on. For those who keep what they were told:
    /// a cache, a manifest or an overlay is laid over a unit that nobody resizes.
    Fence,
    /// The same unit: [`Remote`](crate::Remote) tells its new size as soon as the unit reported it, and what lies beyond
    /// the end is out of range. With several paths it is as large as the least of what the active ones were told; when
    /// one hears of another size the others are asked too. A unit without designators is fenced all the same: nobody can
    /// tell it from another.
    Follow,
}

/// What follows when a unit with a volatile write cache reports that it was switched on or reset (Unit Attention 29h,
/// but 29/02, 29/03 and 29/07) after it acknowledged changes and before it acknowledged a flush that was sent behind them.
/// Those changes may be gone. Or nothing is gone: many targets report 29/00 to every new session, so after every lost
/// connection too. Either way [`Remote::cache_losses`](crate::Remote::cache_losses) counts it and the log names it. With
/// several paths it counts only if no other path to the same target contradicts: then a path that was lost alone is no
/// cause for alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheLoss {
    /// Nothing more: a flush that succeeds says that what the unit still has is safe.
    Report,
    /// The next flush fails once with [`Error::CacheLost`], whatever the unit says: a flush that succeeds says that everything
    /// that was acknowledged since the one before is safe. For those who can write it again, and would rather do that
    /// once too often.
    FailFlush,
}

/// What an initiator proves itself with, and what it wants the target to prove (CHAP, RFC 7143 §12.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Who the initiator is.
    pub account: Account,
    /// Who the target has to be; its secret is another one. With `None` the target may be anybody, and may let
    /// everybody in.
    pub mutual: Option<Account>,
    /// The hashes to offer, the preferred one first.
    pub algorithms: Vec<Algorithm>,
}

impl Credentials {
    /// One-way authentication with every hash there is ([`Algorithm::OFFERED`]).
    pub fn new(account: Account) -> Self {
        Self {
            account,
            mutual: None,
            algorithms: Algorithm::OFFERED.to_vec(),
        }
    }

    /// Finds what is wrong before anybody is asked.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let accounts = std::slice::from_ref(&self.account);
        Ok(check_accounts(accounts, self.mutual.as_ref())?)
    }

    /// For one login: a challenge is used once.
    pub(crate) fn draw(&self) -> Result<InitiatorChap, Error> {
        let mut random = [0; 1 + ChapPolicy::CHALLENGE_BYTES];
        getrandom::fill(&mut random).map_err(|_| Error::NoRandomness)?;
        let [identifier, challenge @ ..] = random;
        Ok(InitiatorChap {
            account: self.account.clone(),
            mutual: self.mutual.clone(),
            algorithms: self.algorithms.clone(),
            identifier,
            challenge: challenge.to_vec(),
        })
    }
}

/// What happens when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The pause after the first attempt that failed; it doubles from there. The first attempt is made at once.
    pub first_delay: Duration,
    /// The longest pause.
    pub longest_delay: Duration,
    /// What becomes of commands meanwhile. Attempts go on behind their backs.
    pub outage: Outage,
}

/// What becomes of commands while the target is away. Those that give up end with [`Error::Interrupted`] if they change
/// something and were sent, so that nobody knows whether they were carried out, else with [`Error::Unreachable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// They wait for ever. [`Session::last_failure`](crate::Session::last_failure) tells what for.
    Wait,
    /// They wait so long, counted from the loss of the connection, or from their first one if connections do not last;
    /// after that those that come fail at once, until the target is back.
    Deadline(Duration),
    /// They end at once: for those who have another way to the unit, or patience of their own.
    Fail,
}

impl Reconnect {
    /// The pause after attempt number `attempt`, counted from 0. Half of it is random, so that a crowd does not come
    /// back at once.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        pause(self.first_delay, self.longest_delay, attempt)
    }
}

/// A pause that doubles with every attempt up to a limit; half of it is random.
pub(crate) fn pause(first: Duration, longest: Duration, attempt: u32) -> Duration {
    let doubled = first.saturating_mul(1 << attempt.min(MOST_DOUBLINGS));
    let half = doubled.min(longest) / 2;
    let random = getrandom::u32().unwrap_or(u32::MAX);
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(5),
            outage: Outage::Deadline(Duration::from_secs(120)),
        }
    }
}

/// Pauses stop doubling here, if they have not met their limit long before.
const MOST_DOUBLINGS: u32 = 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outage, Reconnect};

    #[test]
    fn pauses_double_up_to_their_limit() {
        let first_delay = Duration::from_millis(100);
        let policy = Reconnect {
            first_delay,
            longest_delay: Duration::from_millis(1000),
            outage: Outage::Wait,
        };
        for (attempt, longest) in [(0, 100), (1, 200), (3, 800), (4, 1000), (40, 1000)] {
            let delay = policy.delay(attempt);
            let longest = Duration::from_millis(longest);
            assert!(
                longest / 2 <= delay && delay <= longest,
                "{attempt}: {delay:?}"
            );
        }
    }
}
