//! Stories, and a property test against what each waiter is promised.

use std::collections::{HashMap, HashSet};

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use vmthunder_volume::{Class, Extent};

use super::{Flights, Join, Limits, Outcome, Ticket};

const ONE: Extent = Extent(1);

fn lead(flights: &mut Flights<u32>, class: Class, waiter: u32) -> Ticket {
    match flights.join(ONE, class, waiter) {
        Join::Lead(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_answer_everybody_in_order() {
    let mut flights = Flights::new(Limits::default());
    let ticket = lead(&mut flights, Class::Demand, 1);
    assert_eq!(flights.join(ONE, Class::Peer, 2), Join::Wait);
    assert_eq!(flights.join(ONE, Class::Prefetch, 3), Join::Wait);
    let landing = flights.land(ONE, ticket, Outcome::Landed);
    assert_eq!((landing.answered, landing.lead), (vec![1, 2, 3], None));
    assert!(flights.is_empty());
}

#[test]
fn a_refused_peer_makes_the_guest_who_joined_lead() {
    let mut flights = Flights::new(Limits::default());
    let first = lead(&mut flights, Class::Peer, 1);
    assert_eq!(flights.join(ONE, Class::Demand, 2), Join::Wait);
    assert_eq!(flights.join(ONE, Class::Peer, 3), Join::Wait);
    assert_eq!(flights.join(ONE, Class::Demand, 4), Join::Wait);
    let landing = flights.land(ONE, first, Outcome::Refused);
    assert_eq!(landing.answered, [1, 3]);
    let (class, second) = landing.lead.unwrap();
    assert_eq!(class, Class::Demand);
    let landing = flights.land(ONE, second, Outcome::Refused);
    assert_eq!((landing.answered, landing.lead), (vec![2, 4], None));
    assert!(flights.is_empty());
}

#[test]
fn everybody_rides_on_what_was_asked_first() {
    let mut flights = Flights::new(Limits::default());
    let bulk = lead(&mut flights, Class::Prefetch, 1);
    for (class, waiter) in [(Class::Peer, 2), (Class::Demand, 3), (Class::Fill, 4)] {
        assert_eq!(flights.join(ONE, class, waiter), Join::Wait);
    }
    let landing = flights.land(ONE, bulk, Outcome::Landed);
    assert_eq!((landing.answered, landing.lead), (vec![1, 2, 3, 4], None));
}

#[test]
fn what_a_prefetch_was_refused_is_asked_again_with_the_most_right_of_those_who_ride() {
    for (riders, class) in [
        (vec![Class::Peer], Class::Peer),
        (vec![Class::Demand, Class::Peer], Class::Demand),
    ] {
        let mut flights = Flights::new(Limits::default());
        let bulk = lead(&mut flights, Class::Fill, 0);
        for (waiter, rider) in (1..).zip(&riders) {
            assert_eq!(flights.join(ONE, *rider, waiter), Join::Wait);
        }
        let landing = flights.land(ONE, bulk, Outcome::Refused);
        assert_eq!(landing.answered, [0]);
        let (with, second) = landing.lead.unwrap();
        assert_eq!(with, class);
        assert_eq!(
            flights.land(ONE, bulk, Outcome::Landed).answered,
            [],
            "it ended"
        );
        let landing = flights.land(ONE, second, Outcome::Refused);
        assert_eq!(landing.answered.len(), riders.len());
        assert!(flights.is_empty());
    }
}

#[test]
fn a_failure_is_the_last_word_for_all() {
    let mut flights = Flights::new(Limits::default());
    let bulk = lead(&mut flights, Class::Fill, 1);
    assert_eq!(flights.join(ONE, Class::Demand, 2), Join::Wait);
    let landing = flights.land(ONE, bulk, Outcome::Failed);
    assert_eq!((landing.answered, landing.lead), (vec![1, 2], None));
}

#[test]
fn peers_have_a_reserve_and_bulk_has_a_share() {
    let limits = Limits {
        flights: 4,
        peer_reserve: 2,
        bulk_flights: 1,
        waiters: 2,
    };
    let mut flights = Flights::new(limits);
    assert!(matches!(
        flights.join(Extent(1), Class::Prefetch, 0),
        Join::Lead(_)
    ));
    assert_eq!(flights.join(Extent(2), Class::Fill, 1), Join::Refuse(1));
    assert!(matches!(
        flights.join(Extent(2), Class::Demand, 2),
        Join::Lead(_)
    ));
    assert_eq!(flights.join(Extent(3), Class::Demand, 3), Join::Refuse(3));
    assert!(matches!(
        flights.join(Extent(3), Class::Peer, 4),
        Join::Lead(_)
    ));
    assert!(matches!(
        flights.join(Extent(4), Class::Peer, 5),
        Join::Lead(_)
    ));
    assert_eq!(flights.join(Extent(5), Class::Peer, 6), Join::Refuse(6));
    assert_eq!(flights.join(Extent(2), Class::Peer, 7), Join::Wait);
    assert_eq!(
        flights.join(Extent(2), Class::Peer, 8),
        Join::Refuse(8),
        "two may wait for one"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Join(u64, Class),
    Land(prop::sample::Index, Outcome),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = prop::sample::select(vec![
        Class::Demand,
        Class::Peer,
        Class::Prefetch,
        Class::Fill,
    ]);
    let outcome = prop::sample::select(vec![Outcome::Landed, Outcome::Refused, Outcome::Failed]);
    let step = prop_oneof![
        (0..3_u64, class).prop_map(|(extent, class)| Step::Join(extent, class)),
        (any::<prop::sample::Index>(), outcome)
            .prop_map(|(which, outcome)| Step::Land(which, outcome)),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn everybody_is_answered_once_and_never_by_a_refusal_of_less_right(steps in steps()) {
        let limits = Limits { flights: 3, peer_reserve: 1, bulk_flights: 2, waiters: 6 };
        let mut flights = Flights::new(limits);
        let mut waiting: HashMap<usize, (u64, Class)> = HashMap::new();
        let mut answered = HashSet::new();
        let mut asks: Vec<(u64, Class, Ticket)> = Vec::new();
        let end = steps.len();
        // Afterwards every ask fails: then nobody may be left.
        let failures = (0..2 * end + 2).map(|_| None);
        for (id, step) in steps.into_iter().map(Some).chain(failures).enumerate() {
            match step {
                Some(Step::Join(extent, class)) => match flights.join(Extent(extent), class, id) {
                    Join::Lead(ticket) => {
                        asks.push((extent, class, ticket));
                        waiting.insert(id, (extent, class));
                    }
                    Join::Wait => {
                        waiting.insert(id, (extent, class));
                    }
                    Join::Refuse(who) => prop_assert_eq!(who, id),
                },
                other => {
                    if asks.is_empty() {
                        continue;
                    }
                    let (at, outcome) = match other {
                        Some(Step::Land(which, outcome)) => (which.index(asks.len()), outcome),
                        _ => (0, Outcome::Failed),
                    };
                    let (extent, class, ticket) = asks.swap_remove(at);
                    let landing = flights.land(Extent(extent), ticket, outcome);
                    for who in landing.answered {
                        let (of, rode) = waiting.remove(&who).unwrap();
                        prop_assert!(answered.insert(who), "answered twice");
                        prop_assert_eq!(of, extent);
                        let bulk = |class| matches!(class, Class::Prefetch | Class::Fill);
                        if outcome == Outcome::Refused && class != Class::Demand {
                            prop_assert!(rode != Class::Demand, "somebody else's refusal answered a guest");
                            prop_assert!(bulk(rode) || !bulk(class), "a prefetch's refusal answered a peer");
                        }
                    }
                    asks.extend(landing.lead.map(|(class, ticket)| (extent, class, ticket)));
                }
            }
            prop_assert!(flights.len() <= 3);
            for (extent, class) in waiting.values() {
                let asked = asks.iter().filter(|(of, _, _)| of == extent).count();
                prop_assert_eq!(asked, 1, "{:?} waits for nothing, or the same is asked twice", class);
            }
        }
        prop_assert!(waiting.is_empty() && flights.is_empty());
    }
}
