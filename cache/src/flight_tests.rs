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
fn demand_does_not_ride_on_a_bulk_flight_but_takes_its_bytes() {
    let mut flights = Flights::new(Limits::default());
    let bulk = lead(&mut flights, Class::Prefetch, 1);
    let urgent = lead(&mut flights, Class::Demand, 2);
    assert_eq!(flights.join(ONE, Class::Demand, 3), Join::Wait);
    assert_eq!(flights.land(ONE, bulk, Outcome::Landed).answered, [1, 2, 3]);
    assert!(
        flights
            .land(ONE, urgent, Outcome::Failed)
            .answered
            .is_empty(),
        "nobody is left"
    );
}

#[test]
fn a_failed_bulk_attempt_leaves_its_waiters_with_the_urgent_one() {
    let mut flights = Flights::new(Limits::default());
    let bulk = lead(&mut flights, Class::Fill, 1);
    let urgent = lead(&mut flights, Class::Peer, 2);
    assert!(flights.land(ONE, bulk, Outcome::Failed).answered.is_empty());
    assert_eq!(flights.land(ONE, urgent, Outcome::Landed).answered, [1, 2]);
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
    fn everybody_is_answered_once_and_never_by_an_ask_with_less_right(steps in steps()) {
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
                        if outcome == Outcome::Refused && class == Class::Peer {
                            prop_assert!(rode != Class::Demand, "a peer's refusal answered a guest");
                        }
                        if outcome != Outcome::Landed && matches!(class, Class::Prefetch | Class::Fill) {
                            prop_assert!(matches!(rode, Class::Prefetch | Class::Fill));
                        }
                    }
                    asks.extend(landing.lead.map(|(class, ticket)| (extent, class, ticket)));
                }
            }
            prop_assert!(flights.len() <= 3);
            for (extent, class) in waiting.values() {
                let urgent = matches!(class, Class::Demand | Class::Peer);
                let served = asks.iter().any(|(of, by, _)| {
                    of == extent && (!urgent || matches!(by, Class::Demand | Class::Peer))
                });
                prop_assert!(served, "{class:?} waits for nothing");
            }
        }
        prop_assert!(waiting.is_empty() && flights.is_empty());
    }
}
