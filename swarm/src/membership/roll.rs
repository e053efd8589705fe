//! What a node knows of the others.

use std::collections::BTreeMap;

use crate::forest::NodeName;
use crate::membership::{Event, MOST_MEMBERS, Member, Through};

/// Members that left and are still told of.
const MOST_LEFT: usize = 256;

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there.
    Alive,
    /// It does not answer; others are asking, too.
    Suspect,
    /// It is there and asks not to be given new work.
    Draining,
    /// It is gone.
    Left,
}

/// What is known of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who and where it is, or was.
    pub member: Member,
    /// How it is.
    pub state: State,
    /// Since when it is so: seconds since 1970, UTC.
    pub since: u64,
    /// How that is known.
    pub through: Through,
}

/// All members that a node knows, by name. This node is not among them.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    known: BTreeMap<NodeName, Known>,
    taken_by: Option<Member>,
}

impl Roll {
    /// Writes a change down; `now` in seconds since 1970. True if others are to be asked now than before.
    pub fn apply(&mut self, now: u64, through: Through, event: Event) -> bool {
        match event {
            Event::Is(member) => self.is(now, through, member),
            Event::Suspect(name) => self.suspect(now, &name),
            Event::Left(name) => self.left(now, &name),
            Event::NameTaken(member) => {
                self.taken_by = Some(member);
                false
            }
            Event::Joined => {
                self.taken_by = None;
                false
            }
        }
    }

    /// Everybody that is or was there, by name.
    pub fn all(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Those that may be asked for something, by name.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        let present = |known: &&Known| matches!(known.state, State::Alive | State::Suspect);
        self.known
            .values()
            .filter(present)
            .map(|known| &known.member)
    }

    /// The node that has this node's name, if that keeps this one out.
    pub fn taken_by(&self) -> Option<&Member> {
        self.taken_by.as_ref()
    }

    fn is(&mut self, now: u64, through: Through, member: Member) -> bool {
        let state = if member.draining {
            State::Draining
        } else {
            State::Alive
        };
        if let Some(known) = self.known.get_mut(&member.name) {
            let same = known.state == state && known.through == through;
            let asked_otherwise = known.member.address != member.address
                || known.member.images != member.images
                || is_present(known.state) != is_present(state);
            if !same {
                known.since = now;
            }
            *known = Known {
                member,
                state,
                since: known.since,
                through,
            };
            return asked_otherwise;
        }
        if self.known.len() >= MOST_MEMBERS && !self.forget_one() {
            return false;
        }
        let name = member.name.clone();
        self.known.insert(
            name,
            Known {
                member,
                state,
                since: now,
                through,
            },
        );
        is_present(state)
    }

    fn suspect(&mut self, now: u64, name: &NodeName) -> bool {
        if let Some(known) = self.known.get_mut(name)
            && known.state == State::Alive
        {
            known.state = State::Suspect;
            known.since = now;
        }
        false
    }

    fn left(&mut self, now: u64, name: &NodeName) -> bool {
        let Some(known) = self.known.get_mut(name) else {
            return false;
        };
        let was_present = is_present(known.state);
        if known.state != State::Left {
            known.state = State::Left;
            known.since = now;
        }
        let left = self
            .known
            .values()
            .filter(|known| known.state == State::Left);
        if left.count() > MOST_LEFT {
            self.forget_one();
        }
        was_present
    }

    /// Forgets who left longest ago; false if nobody did.
    fn forget_one(&mut self) -> bool {
        let left = self
            .known
            .values()
            .filter(|known| known.state == State::Left);
        let oldest = left.min_by_key(|known| known.since);
        let oldest = oldest.map(|known| known.member.name.clone());
        oldest.is_some_and(|name| self.known.remove(&name).is_some())
    }
}

fn is_present(state: State) -> bool {
    matches!(state, State::Alive | State::Suspect)
}

#[cfg(test)]
mod tests {
    use super::{MOST_LEFT, Roll, State};
    use crate::forest::NodeName;
    use crate::membership::{Event, ImageTag, Images, MOST_MEMBERS, Member, Through};

    fn member(name: &str, generation: u64) -> Member {
        Member {
            name: NodeName::new(name).unwrap(),
            address: format!("{name}:3260"),
            generation,
            draining: false,
            images: Images::Any,
        }
    }

    fn states(roll: &Roll) -> Vec<(State, u64)> {
        roll.all().map(|known| (known.state, known.since)).collect()
    }

    #[test]
    fn who_is_asked_changes_with_coming_moving_draining_and_leaving_and_with_nothing_else() {
        let mut roll = Roll::default();
        let mut apply = |now, event| {
            let changed = roll.apply(now, Through::Gossip, event);
            let asked: Vec<_> = roll
                .present()
                .map(|member| member.address.clone())
                .collect();
            (changed, asked.join(" "), states(&roll))
        };
        let one = member("one", 1);
        assert_eq!(
            apply(1, Event::Is(one.clone())),
            (true, "one:3260".into(), vec![(State::Alive, 1)])
        );
        let suspect = Event::Suspect(one.name.clone());
        assert_eq!(
            apply(2, suspect.clone()),
            (false, "one:3260".into(), vec![(State::Suspect, 2)])
        );
        let again = Member {
            generation: 2,
            ..one.clone()
        };
        assert_eq!(
            apply(3, Event::Is(again.clone())),
            (false, "one:3260".into(), vec![(State::Alive, 3)])
        );
        let moved = Member {
            address: "new:1".into(),
            ..again
        };
        assert_eq!(
            apply(4, Event::Is(moved.clone())),
            (true, "new:1".into(), vec![(State::Alive, 3)])
        );
        let attached = Member {
            images: Images::these([ImageTag(7)]),
            ..moved
        };
        let said = (true, "new:1".into(), vec![(State::Alive, 3)]);
        assert_eq!(apply(4, Event::Is(attached.clone())), said);
        let draining = Member {
            draining: true,
            ..attached
        };
        assert_eq!(
            apply(5, Event::Is(draining)),
            (true, String::new(), vec![(State::Draining, 5)])
        );
        assert_eq!(
            apply(6, suspect),
            (false, String::new(), vec![(State::Draining, 5)])
        );
        let left = Event::Left(one.name.clone());
        assert_eq!(
            apply(7, left.clone()),
            (false, String::new(), vec![(State::Left, 7)])
        );
        assert_eq!(
            apply(8, left),
            (false, String::new(), vec![(State::Left, 7)])
        );
        assert_eq!(
            apply(9, Event::Is(one)),
            (true, "one:3260".into(), vec![(State::Alive, 9)])
        );
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut roll = Roll::default();
        for number in 0..MOST_MEMBERS + 10 {
            roll.apply(
                1,
                Through::Gossip,
                Event::Is(member(&format!("n{number}"), 1)),
            );
        }
        assert_eq!(roll.all().count(), MOST_MEMBERS);
        for number in 0..2 * MOST_LEFT {
            let name = NodeName::new(&format!("n{number}")).unwrap();
            roll.apply(2, Through::Gossip, Event::Left(name));
        }
        let left = roll.all().filter(|known| known.state == State::Left);
        assert_eq!(left.count(), MOST_LEFT);
    }
}
