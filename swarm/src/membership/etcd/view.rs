//! Who is there, as far as etcd says.
//!
//! What etcd holds is what was true for whoever could reach it. So a member whose record is gone without a farewell
//! (its lease ran out; somebody cleared etcd; etcd came back empty and its members are about to write themselves down
//! again) is a suspect for [`MISSED_FOR`] before it counts as gone, and nobody is given up while etcd is not there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::forest::NodeName;
use crate::membership::etcd::record::Record;
use crate::membership::{Event, MOST_MEMBERS, Member};

/// How long a member is missed before it is given up.
pub(super) const MISSED_FOR: Duration = Duration::from_secs(10);

/// The other members, and what changed among them.
#[derive(Debug, Default)]
pub(super) struct View {
    known: BTreeMap<NodeName, Known>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Known {
    member: Member,
    /// When it is given up, if it is missed.
    given_up_at: Option<Duration>,
}

impl View {
    /// Takes somebody for there who was, until etcd says more.
    pub(super) fn remember(&mut self, member: Member) {
        self.insert(member);
    }

    /// Somebody's record, as it is now.
    pub(super) fn record(&mut self, record: &Record) {
        if record.leaving {
            self.left(&record.identity.name);
        } else {
            self.insert(record.identity.member());
        }
    }

    /// Somebody has no record, or none that counts.
    pub(super) fn missed(&mut self, now: Duration, name: &NodeName) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        if known.given_up_at.is_none() {
            self.events.push_back(Event::Suspect(name.clone()));
        }
        known.given_up_at = Some(now.saturating_add(MISSED_FOR));
    }

    /// All records that there are. Who is in none of them is missed from now on.
    pub(super) fn all(&mut self, now: Duration, records: &[Record]) {
        let listed: BTreeSet<&NodeName> = records.iter().map(|one| &one.identity.name).collect();
        let known = self.known.keys().filter(|name| !listed.contains(name));
        let missed: Vec<NodeName> = known.cloned().collect();
        for name in missed {
            self.missed(now, &name);
        }
        for record in records {
            self.record(record);
        }
    }

    /// Gives up who was missed for long.
    pub(super) fn handle_time(&mut self, now: Duration) {
        let due = |known: &Known| known.given_up_at.is_some_and(|at| at <= now);
        let gone = self.known.iter().filter(|(_, known)| due(known));
        let gone: Vec<NodeName> = gone.map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.left(&name);
        }
    }

    /// When somebody is given up next.
    pub(super) fn next_time(&self) -> Option<Duration> {
        self.known
            .values()
            .filter_map(|known| known.given_up_at)
            .min()
    }

    /// Nobody is there for this node any more.
    pub(super) fn clear(&mut self) {
        let gone = std::mem::take(&mut self.known).into_keys();
        self.events.extend(gone.map(Event::Left));
    }

    /// What has changed.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn insert(&mut self, member: Member) {
        let name = member.name.clone();
        if let Some(known) = self.known.get(&name) {
            if known.given_up_at.is_none() && known.member == member {
                return;
            }
        } else if self.known.len() >= MOST_MEMBERS {
            return;
        }
        self.events.push_back(Event::Is(member.clone()));
        let known = Known {
            member,
            given_up_at: None,
        };
        self.known.insert(name, known);
    }

    fn left(&mut self, name: &NodeName) {
        if self.known.remove(name).is_some() {
            self.events.push_back(Event::Left(name.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::View;
    use crate::forest::NodeName;
    use crate::membership::codec::Identity;
    use crate::membership::etcd::record::Record;
    use crate::membership::{Event, Images, MOST_MEMBERS};

    const SECOND: Duration = Duration::from_secs(1);

    fn record(name: &str, generation: u64) -> Record {
        let identity = Identity {
            name: NodeName::new(name).unwrap(),
            address: "10.0.0.1:3260".parse().unwrap(),
            born: 1,
            generation,
            draining: false,
            images: Images::Any,
        };
        Record {
            identity,
            leaving: false,
        }
    }

    fn said(view: &mut View) -> String {
        let events = std::iter::from_fn(|| view.poll_event());
        let word = |event| match event {
            Event::Is(member) => format!("{}@{}", member.name, member.generation),
            Event::Suspect(name) => format!("{name}?"),
            Event::Left(name) => format!("-{name}"),
            other => format!("{other:?}"),
        };
        events.map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn who_goes_in_order_is_gone_at_once_and_who_is_missed_after_a_while() {
        let mut view = View::default();
        let (a, b) = (record("a", 1), record("b", 1));
        view.all(SECOND, &[a.clone(), b.clone()]);
        assert_eq!(said(&mut view), "a@1 b@1");
        view.record(&a);
        assert_eq!(said(&mut view), "", "that is no news");
        let farewell = Record {
            leaving: true,
            ..a.clone()
        };
        view.record(&farewell);
        view.missed(SECOND, &a.identity.name);
        assert_eq!(said(&mut view), "-a");
        view.missed(2 * SECOND, &b.identity.name);
        assert_eq!(said(&mut view), "b?");
        assert_eq!(view.next_time(), Some(12 * SECOND));
        view.handle_time(11 * SECOND);
        assert_eq!(said(&mut view), "");
        view.handle_time(12 * SECOND);
        assert_eq!(said(&mut view), "-b");
        assert_eq!((view.len(), view.next_time()), (0, None));
    }

    #[test]
    fn etcd_that_comes_back_empty_empties_no_view_if_the_members_write_themselves_down_again() {
        let mut view = View::default();
        view.remember(record("a", 1).identity.member());
        view.all(SECOND, &[record("a", 2), record("b", 1), record("c", 1)]);
        assert_eq!(said(&mut view), "a@1 a@2 b@1 c@1");
        view.all(100 * SECOND, &[]);
        assert_eq!(said(&mut view), "a? b? c?");
        view.record(&record("b", 1));
        view.all(105 * SECOND, &[record("a", 2), record("b", 1)]);
        view.handle_time(111 * SECOND);
        assert_eq!(said(&mut view), "b@1 a@2", "the wait for c began anew");
        view.handle_time(115 * SECOND);
        assert_eq!(said(&mut view), "-c");
        view.clear();
        assert_eq!(said(&mut view), "-a -b");
    }

    #[test]
    fn those_beyond_the_limit_are_as_if_they_were_not_there() {
        let mut view = View::default();
        for number in 0..MOST_MEMBERS + 5 {
            view.record(&record(&format!("n{number}"), 1));
        }
        assert_eq!(view.len(), MOST_MEMBERS);
    }
}
