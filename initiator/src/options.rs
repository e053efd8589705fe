//! How an initiator behaves.

use std::time::Duration;

use iscsi_proto::login::DigestChoice;
use iscsi_proto::name::IscsiName;

/// How an initiator behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who the initiator is.
    pub initiator_name: IscsiName,
    /// How long making a TCP connection may take.
    pub connect_timeout: Duration,
    /// How long the login phase may take.
    pub login_timeout: Duration,
    /// How long a command may take on one connection before it is aborted; `None` for ever.
    pub command_timeout: Option<Duration>,
    /// Silence after which the target is pinged; `None` for never.
    pub ping_interval: Option<Duration>,
    /// How long the target may take to answer a ping before the connection counts as lost.
    pub ping_timeout: Duration,
    /// Whether headers carry a digest.
    pub header_digest: DigestChoice,
    /// Whether data carries a digest.
    pub data_digest: DigestChoice,
    /// What happens when the connection is lost.
    pub reconnect: Reconnect,
    /// Commands of one session that may be under way; more wait, or are refused for class `Peer`.
    pub queue_limit: usize,
    /// Parts of one read or write that are under way at once, when it exceeds the unit's maximum transfer length.
    pub parts_in_flight: usize,
}

impl Options {
    /// The usual behaviour of an initiator of this name.
    pub fn new(initiator_name: IscsiName) -> Self {
        Self {
            initiator_name,
            connect_timeout: Duration::from_secs(5),
            login_timeout: Duration::from_secs(10),
            command_timeout: Some(Duration::from_secs(60)),
            ping_interval: Some(Duration::from_secs(5)),
            ping_timeout: Duration::from_secs(5),
            header_digest: DigestChoice::None,
            data_digest: DigestChoice::None,
            reconnect: Reconnect::default(),
            queue_limit: 256,
            parts_in_flight: 4,
        }
    }
}

/// What happens when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The pause after the first attempt that failed; it doubles from there. The first attempt is made at once.
    pub first_delay: Duration,
    /// The longest pause.
    pub longest_delay: Duration,
    /// How long commands wait for the target to come back before they fail with
    /// [`Error::Unreachable`](crate::Error::Unreachable); `None` for ever. Attempts go on behind their backs.
    pub deadline: Option<Duration>,
}

impl Reconnect {
    /// The pause after attempt number `attempt`, counted from 0. Half of it is random, so that a crowd does not come
    /// back at once.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        let doubled = self
            .first_delay
            .saturating_mul(1 << attempt.min(MOST_DOUBLINGS));
        let half = doubled.min(self.longest_delay) / 2;
        let random = getrandom::u32().unwrap_or(u32::MAX);
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(5),
            deadline: Some(Duration::from_secs(120)),
        }
    }
}

/// Pauses stop doubling here, if they have not met their limit long before.
const MOST_DOUBLINGS: u32 = 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Reconnect;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let first_delay = Duration::from_millis(100);
        let policy = Reconnect {
            first_delay,
            longest_delay: Duration::from_millis(1000),
            deadline: None,
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
