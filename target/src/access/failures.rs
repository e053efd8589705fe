//! Who failed to prove itself waits before it may try again: guessing secrets takes for ever.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use iscsi_proto::name::IscsiName;

use crate::access::neighbourhood;

/// Who is remembered; for one more, the one whose failure is longest ago is forgotten.
const MAX_SUSPECTS: usize = 4096;

/// The longest time that a login is held up; who would have to wait longer is refused.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Failures of one initiator that cost nothing: people mistype.
const FREE_OF_NAME: u32 = 2;

/// Failures from one address that cost nothing. There are many initiators behind one address, and one of them that is
/// configured wrongly does not hold up the others: it waits so long itself that its failures are forgiven in time.
const FREE_OF_ADDRESS: u32 = 16;

/// How long it takes to be forgiven one failure.
const FORGIVEN_NAME: Duration = Duration::from_secs(30);

/// As above, for an address.
const FORGIVEN_ADDRESS: Duration = Duration::from_secs(2);

/// The shortest pause between two attempts; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The logins that failed for want of the right secret.
#[derive(Debug, Default)]
pub(crate) struct LoginFailures {
    suspects: Mutex<HashMap<Suspect, Record>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Suspect {
    from: IpAddr,
    /// Nothing: everybody at that address.
    initiator: Option<IscsiName>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    latest: Instant,
    /// When the next attempt may be made. Attempts stand in line: many at once are no quicker.
    next: Instant,
}

/// A login that has to wait longer than anybody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl LoginFailures {
    /// When a login of somebody who has to prove itself may go on.
    pub(crate) fn admit(
        &self,
        now: Instant,
        from: IpAddr,
        initiator: &IscsiName,
    ) -> Result<Instant, TooMany> {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let both = both(from, initiator);
        let turn = both
            .iter()
            .filter_map(|suspect| suspects.get(suspect).map(|record| record.next))
            .fold(now, Instant::max);
        if turn.duration_since(now) > LONGEST_WAIT {
            return Err(TooMany);
        }
        for suspect in &both {
            if let Some(record) = suspects.get_mut(suspect) {
                record.forgive(now, suspect);
                let pause = record.pause(suspect);
                if !pause.is_zero() {
                    record.next = record.next.max(now) + pause;
                }
            }
        }
        Ok(turn)
    }

    /// A login had the wrong secret.
    pub(crate) fn failed(&self, now: Instant, from: IpAddr, initiator: &IscsiName) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        for suspect in both(from, initiator) {
            if suspects.len() >= MAX_SUSPECTS && !suspects.contains_key(&suspect) {
                forget_one(&mut suspects);
            }
            let record = suspects.entry(suspect.clone()).or_insert(Record {
                failures: 0,
                latest: now,
                next: now,
            });
            record.forgive(now, &suspect);
            record.failures = record.failures.saturating_add(1);
            record.next = record.next.max(now + record.pause(&suspect));
        }
    }

    /// A login had the right secret: this initiator, at least, mistypes no more.
    pub(crate) fn succeeded(&self, from: IpAddr, initiator: &IscsiName) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let [one, _] = both(from, initiator);
        suspects.remove(&one);
    }
}

fn both(from: IpAddr, initiator: &IscsiName) -> [Suspect; 2] {
    let from = neighbourhood(from);
    [Some(initiator.clone()), None].map(|initiator| Suspect { from, initiator })
}

fn forget_one(suspects: &mut HashMap<Suspect, Record>) {
    let oldest = suspects.iter().min_by_key(|(_, record)| record.latest);
    if let Some(oldest) = oldest.map(|(suspect, _)| suspect.clone()) {
        suspects.remove(&oldest);
    }
}

impl Record {
    /// What is long ago counts no more.
    fn forgive(&mut self, now: Instant, suspect: &Suspect) {
        let each = if suspect.initiator.is_some() {
            FORGIVEN_NAME
        } else {
            FORGIVEN_ADDRESS
        };
        let since = now.saturating_duration_since(self.latest).as_millis() / each.as_millis();
        let forgiven = u32::try_from(since).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_sub(forgiven);
        self.latest += each
            .saturating_mul(forgiven)
            .min(now.saturating_duration_since(self.latest));
    }

    fn pause(&self, suspect: &Suspect) -> Duration {
        let free = if suspect.initiator.is_some() {
            FREE_OF_NAME
        } else {
            FREE_OF_ADDRESS
        };
        match self.failures.checked_sub(free) {
            None | Some(0) => Duration::ZERO,
            Some(more) => FIRST_PAUSE
                .saturating_mul(1 << (more - 1).min(4))
                .min(LONGEST_WAIT),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use iscsi_proto::name::IscsiName;

    use super::{LoginFailures, MAX_SUSPECTS, TooMany};

    fn name(suffix: &str) -> IscsiName {
        format!("iqn.2001-04.com.example:{suffix}").parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_failure_makes_the_pause_longer_and_success_ends_it() {
        let failures = LoginFailures::default();
        let (now, from, host) = (Instant::now(), address("10.0.0.1"), name("host"));
        let mut waits = Vec::new();
        let mut clock = now;
        for _ in 0..9 {
            let turn = failures.admit(clock, from, &host).unwrap();
            waits.push(turn.duration_since(clock).as_millis());
            clock = turn;
            failures.failed(clock, from, &host);
        }
        assert_eq!(waits, [0, 0, 0, 500, 1000, 2000, 4000, 8000, 8000]);
        failures.succeeded(from, &host);
        assert_eq!(failures.admit(clock, from, &host), Ok(clock));
    }

    #[test]
    fn many_at_once_stand_in_line() {
        let failures = LoginFailures::default();
        let (now, from, host) = (Instant::now(), address("10.0.0.1"), name("host"));
        for _ in 0..4 {
            failures.failed(now, from, &host);
        }
        let turns: Vec<_> = (0..10)
            .map(|_| {
                failures
                    .admit(now, from, &host)
                    .map(|turn| turn.duration_since(now).as_secs())
            })
            .collect();
        assert_eq!(turns[..8], [1, 2, 3, 4, 5, 6, 7, 8].map(Ok));
        assert_eq!(turns[8..], [Err(TooMany); 2]);
    }

    #[test]
    fn others_are_not_held_up() {
        let failures = LoginFailures::default();
        let (now, from) = (Instant::now(), address("10.0.0.1"));
        for _ in 0..12 {
            failures.failed(now, from, &name("wrong"));
            let _ = failures.admit(now, from, &name("wrong"));
        }
        for (from, initiator) in [
            ("10.0.0.1", "right"),
            ("10.0.0.2", "wrong"),
            ("10.0.0.2", "right"),
        ] {
            assert_eq!(
                failures.admit(now, address(from), &name(initiator)),
                Ok(now),
                "{from} {initiator}"
            );
        }
    }

    /// One who tries for a whole day, as quickly as it may, never makes its neighbours wait.
    #[test]
    fn one_that_never_learns_holds_up_nobody_else() {
        let failures = LoginFailures::default();
        let from = address("10.0.0.1");
        let (mut clock, end) = {
            let now = Instant::now();
            (now, now + Duration::from_secs(86_400))
        };
        while clock < end {
            clock = failures.admit(clock, from, &name("wrong")).unwrap();
            failures.failed(clock, from, &name("wrong"));
            assert_eq!(failures.admit(clock, from, &name("right")), Ok(clock));
        }
    }

    #[test]
    fn other_names_do_not_help_who_guesses() {
        let failures = LoginFailures::default();
        let now = Instant::now();
        for guess in 0..40 {
            let from = address(&format!("2001:db8::{guess}"));
            failures.failed(now, from, &name(&guess.to_string()));
        }
        let turn = failures.admit(now, address("2001:db8::ffff"), &name("x"));
        assert_eq!(turn, Ok(now + Duration::from_secs(8)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgiven() {
        let failures = LoginFailures::default();
        let now = Instant::now();
        for guess in 0..3 * MAX_SUSPECTS {
            let from = IpAddr::from(u32::try_from(guess).unwrap().to_be_bytes());
            failures.failed(now, from, &name("x"));
        }
        assert_eq!(failures.suspects.lock().unwrap().len(), MAX_SUSPECTS);
        let (from, host) = (address("10.0.0.1"), name("host"));
        for _ in 0..5 {
            failures.failed(now, from, &host);
        }
        let later = now + Duration::from_secs(150);
        assert_eq!(failures.admit(later, from, &host), Ok(later));
        failures.failed(later, from, &host);
        assert_eq!(failures.admit(later, from, &host), Ok(later));
    }
}
