//! Fetches told as stories in virtual time.

use std::time::Duration;

use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use vmthunder_volume::{Class, Extent};

use super::{Action, Failure, Fetch, FetchOptions, HedgeBudget, Outcome, Source, View};
use crate::forest::{Forest, NodeName, Parent, Tree};

const EXTENT: Extent = Extent(7);
const MS: Duration = Duration::from_millis(1);

struct Place {
    forest: Forest,
    /// A node at the bottom, and the way from it to the root.
    me: NodeName,
    path: Vec<NodeName>,
}

fn nobody(_: &NodeName) -> bool {
    false
}

/// A leaf of thirty nodes in the tree of [`EXTENT`].
fn leaf() -> Place {
    let nodes: Vec<NodeName> = (0..30)
        .map(|n| NodeName::new(&format!("n{n}")).unwrap())
        .collect();
    let forest = Forest::new(&nodes);
    let tree = Tree::of(EXTENT);
    let me = nodes
        .into_iter()
        .max_by_key(|node| forest.path(node, tree, &nobody).count())
        .unwrap();
    let path = forest
        .path(&me, tree, &nobody)
        .filter_map(|parent| match parent {
            Parent::Node(node) => Some(node),
            Parent::Origin => None,
        })
        .collect();
    Place { me, path, forest }
}

impl Place {
    fn view(&self) -> View<'_> {
        View {
            forest: &self.forest,
            me: &self.me,
            absent: &nobody,
        }
    }

    fn peer(&self, steps: usize) -> Source {
        Source::Peer(self.path[steps].clone())
    }
}

fn fetch(class: Class) -> Fetch {
    Fetch::new(
        EXTENT,
        class,
        Duration::from_secs(20),
        FetchOptions::default(),
    )
}

fn asked(action: Action) -> Source {
    let Action::Ask { source, .. } = action else {
        panic!("{action:?}")
    };
    source
}

#[test]
fn the_parent_is_asked_and_answers() {
    let place = leaf();
    let mut fetch = fetch(Class::Demand);
    // Four levels down: 250 ms and four times 25 ms.
    let ask = Action::Ask {
        source: place.peer(0),
        patience: 350 * MS,
    };
    assert_eq!(fetch.next(Duration::ZERO, 0, &place.view()), ask);
    fetch.handle(&place.peer(0), Outcome::Answered);
    assert_eq!(fetch.next(MS, 0, &place.view()), Action::Done);
}

#[test]
fn a_forwarded_request_is_refused_at_once() {
    let place = leaf();
    for outcome in [Outcome::Busy, Outcome::Silent] {
        let mut fetch = fetch(Class::Peer);
        assert_eq!(
            asked(fetch.next(Duration::ZERO, 0, &place.view())),
            place.peer(0)
        );
        fetch.handle(&place.peer(0), outcome);
        assert_eq!(fetch.next(MS, 0, &place.view()), Action::Refuse);
    }
}

#[test]
fn a_refused_demand_comes_back_later_and_later_with_jitter() {
    let place = leaf();
    let mut fetch = fetch(Class::Demand);
    let mut now = Duration::ZERO;
    let mut waits = Vec::new();
    for jitter in [0, 1_999_999, 0, 0, 0, 0, 0, 0, 0, 0] {
        assert_eq!(asked(fetch.next(now, 0, &place.view())), place.peer(0));
        fetch.handle(&place.peer(0), Outcome::Busy);
        let Action::Wait(wait) = fetch.next(now, jitter, &place.view()) else {
            panic!("no wait")
        };
        waits.push(wait.as_micros());
        now += wait;
    }
    assert_eq!(
        waits,
        [
            1000, 3999, 4000, 8000, 16000, 25000, 25000, 25000, 25000, 25000
        ]
    );
}

#[test]
fn a_dead_or_lying_parent_is_counted_out() {
    let place = leaf();
    for outcome in [Outcome::Dead, Outcome::Corrupt, Outcome::NotAttached] {
        for class in [Class::Demand, Class::Peer, Class::Fill] {
            let mut fetch = fetch(class);
            fetch.handle(&place.peer(0), outcome);
            let without = |node: &NodeName| *node == place.path[0];
            let Parent::Node(next) = place.forest.parent(&place.me, Tree::of(EXTENT), &without)
            else {
                panic!("root")
            };
            assert_eq!(asked(fetch.next(MS, 0, &place.view())), Source::Peer(next));
        }
    }
}

#[test]
fn only_demand_climbs_and_one_ancestor_for_one_silence() {
    let place = leaf();
    let mut demand = fetch(Class::Demand);
    for steps in 0..place.path.len() {
        assert_eq!(asked(demand.next(MS, 0, &place.view())), place.peer(steps));
        demand.handle(&place.peer(steps), Outcome::Silent);
    }
    assert_eq!(asked(demand.next(MS, 0, &place.view())), Source::Origin);

    let mut fill = fetch(Class::Fill);
    fill.handle(&place.peer(0), Outcome::Silent);
    assert!(matches!(fill.next(MS, 0, &place.view()), Action::Wait(_)));
    assert_eq!(asked(fill.next(5 * MS, 0, &place.view())), place.peer(0));
}

#[test]
fn a_lying_origin_ends_it() {
    let place = leaf();
    let mut fetch = fetch(Class::Demand);
    fetch.handle(&Source::Origin, Outcome::Corrupt);
    assert_eq!(
        fetch.next(MS, 0, &place.view()),
        Action::Fail(Failure::OriginCorrupt)
    );
}

#[test]
fn hedges_are_few_and_never_go_to_the_origin() {
    let place = leaf();
    let fetch_demand = fetch(Class::Demand);
    assert_eq!(
        fetch_demand.hedge(&place.peer(0), &place.view()),
        Some(place.peer(1))
    );
    assert_eq!(
        fetch_demand.hedge(&place.peer(place.path.len() - 1), &place.view()),
        None
    );
    assert_eq!(
        fetch(Class::Prefetch).hedge(&place.peer(0), &place.view()),
        None
    );

    let mut budget = HedgeBudget::default();
    let taken = (0..1000).filter(|_| {
        budget.asked();
        budget.take()
    });
    assert_eq!(taken.count(), 20);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Busy),
        Just(Outcome::Silent),
        Just(Outcome::Dead),
        Just(Outcome::Corrupt),
        Just(Outcome::NotAttached),
        Just(Outcome::Answered),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_ends_and_a_forwarder_never_waits(
        class in prop_oneof![Just(Class::Demand), Just(Class::Peer), Just(Class::Prefetch), Just(Class::Fill)],
        story in prop::collection::vec((outcome(), any::<u64>()), 1..200),
    ) {
        let place = leaf();
        let mut fetch = fetch(class);
        let mut now = Duration::ZERO;
        let mut story = story.into_iter().cycle();
        let mut questions = 0;
        loop {
            let (outcome, jitter) = story.next().unwrap();
            match fetch.next(now, jitter, &place.view()) {
                Action::Ask { source, patience } => {
                    questions += 1;
                    now += if outcome == Outcome::Silent { patience } else { MS };
                    fetch.handle(&source, outcome);
                }
                Action::Wait(wait) => {
                    prop_assert!(class != Class::Peer);
                    now += wait;
                }
                Action::Refuse => {
                    prop_assert_eq!(class, Class::Peer);
                    break;
                }
                Action::Done | Action::Fail(_) => break,
            }
            prop_assert!(questions < 25_000);
            prop_assert!(class != Class::Peer || questions < 20);
        }
        prop_assert!(now < Duration::from_secs(25));
    }
}
