//! Fetches told as stories.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_oneof, proptest};
use vmthunder_volume::{Class, Extent};

use super::{Action, Ask, End, Fetch, FetchOptions, HedgeBudget, Outcome, Source, View};
use crate::forest::{Forest, NodeName, Parent, Tree};

const EXTENT: Extent = Extent(7);
const CLASSES: [Class; 4] = [Class::Demand, Class::Peer, Class::Prefetch, Class::Fill];

struct Place {
    forest: Forest,
    /// A node at the bottom, and the way from it to the root.
    me: NodeName,
    path: Vec<NodeName>,
}

const NOBODY: &[NodeName] = &[];

/// A leaf of thirty nodes in the tree of [`EXTENT`].
fn leaf() -> Place {
    let nodes: Vec<NodeName> = (0..30)
        .map(|n| NodeName::new(&format!("n{n}")).unwrap())
        .collect();
    let forest = Forest::new(&nodes);
    let tree = Tree::of(EXTENT);
    let me = nodes
        .into_iter()
        .max_by_key(|node| forest.path(node, tree, NOBODY).count())
        .unwrap();
    let path = forest
        .path(&me, tree, NOBODY)
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
            absent: NOBODY,
        }
    }

    fn peer(&self, steps: usize) -> Source {
        Source::Peer(self.path[steps].clone())
    }
}

fn fetch(class: Class) -> Fetch {
    Fetch::new(EXTENT, class, FetchOptions::default())
}

fn asked(action: Action) -> Source {
    let Action::Ask(ask) = action else {
        panic!("{action:?}")
    };
    ask.source
}

#[test]
fn the_parent_is_asked_and_answers() {
    let place = leaf();
    let mut fetch = fetch(Class::Demand);
    // Four levels down: 250 ms and four times 25 ms.
    let ask = Action::Ask(Ask {
        source: place.peer(0),
        patience: Duration::from_millis(350),
        late: Duration::from_millis(350),
    });
    assert_eq!(fetch.next(&place.view()), ask);
    fetch.handle(&place.peer(0), Outcome::Answered);
    assert_eq!(fetch.next(&place.view()), Action::End(End::Done));
}

#[test]
fn a_refusal_or_silence_ends_it_unless_another_source_answers() {
    let place = leaf();
    let cases = CLASSES.map(|class| [(class, Outcome::Busy), (class, Outcome::Silent)]);
    for (class, outcome) in cases.into_iter().flatten() {
        let mut fetch = fetch(class);
        fetch.handle(&place.peer(0), outcome);
        assert_eq!(fetch.next(&place.view()), Action::End(End::Refused));
        // The second source of a hedge.
        fetch.handle(&place.peer(1), Outcome::Dead);
        assert_eq!(fetch.next(&place.view()), Action::End(End::Refused));
        fetch.handle(&place.peer(1), Outcome::Answered);
        assert_eq!(fetch.next(&place.view()), Action::End(End::Done));
    }
}

#[test]
fn an_origin_that_is_out_of_reach_refuses() {
    let place = leaf();
    for class in CLASSES {
        for outcome in [Outcome::Busy, Outcome::Silent, Outcome::Dead] {
            let mut fetch = fetch(class);
            fetch.handle(&Source::Origin, outcome);
            assert_eq!(fetch.next(&place.view()), Action::End(End::Refused));
        }
    }
}

#[test]
fn a_dead_or_lying_parent_is_counted_out() {
    let place = leaf();
    for outcome in [Outcome::Dead, Outcome::Corrupt, Outcome::NotAttached] {
        for class in CLASSES {
            let mut fetch = fetch(class);
            fetch.handle(&place.peer(0), outcome);
            let without = &place.path[..1];
            let Parent::Node(next) = place.forest.parent(&place.me, Tree::of(EXTENT), without)
            else {
                panic!("root")
            };
            assert_eq!(asked(fetch.next(&place.view())), Source::Peer(next));
        }
    }
}

#[test]
fn a_lying_origin_ends_it() {
    let place = leaf();
    let mut fetch = fetch(Class::Demand);
    fetch.handle(&Source::Origin, Outcome::Corrupt);
    assert_eq!(fetch.next(&place.view()), Action::End(End::OriginCorrupt));
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
    fn whatever_happens_it_ends_after_a_few_questions(
        class in prop::sample::select(&CLASSES),
        story in prop::collection::vec(outcome(), 1..200),
    ) {
        let place = leaf();
        let mut fetch = fetch(class);
        let mut story = story.into_iter().cycle();
        let mut questions = 0;
        while let Action::Ask(ask) = fetch.next(&place.view()) {
            questions += 1;
            fetch.handle(&ask.source, story.next().unwrap());
        }
        // One that ends it, and eight nodes that fail.
        prop_assert!(questions <= 9);
    }
}
