//! Nodes that gossip in virtual time, from a seed.

use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::{any, prop, proptest};

use crate::forest::NodeName;
use crate::membership::gossip::world::{MS, Node, SECOND, World, address, member, name, ring};
use crate::membership::gossip::{Gossip, GossipOptions};
use crate::membership::{Event, ImageTag, Images, State, Through};

fn gather_and_lose(count: usize) {
    let mut world = World::new(1);
    for number in 0..count {
        world.begin(name(number), address(number), &[address(0)], &[]);
    }
    let nearly_all = (count - 1) * 99 / 100;
    let took = world.until(20 * SECOND, "everybody knows 99 %", |world| {
        let mut nodes = world.nodes.iter();
        nodes.all(|node| node.roll.present().count() >= nearly_all)
    });
    assert_eq!(world.falsely_left(), 0, "nobody is given up that lives");
    println!(
        "{count} are known after {took:?} and {} datagrams",
        world.sent
    );
    for index in (5..count).step_by(count / 10) {
        world.nodes[index].lives = false;
    }
    let took = world.until(40 * SECOND, "the dead are known", World::knows_the_dead);
    println!("the dead are known after {took:?}");
    assert!(world.least_view() >= 0.99, "nobody else is given up");
}

#[test]
fn nodes_that_begin_at_once_find_each_other_and_notice_who_dies() {
    gather_and_lose(150);
}

/// The same with 1,000 members.
#[test]
#[ignore = "started by cargo xtask soak members"]
fn a_thousand_nodes_find_each_other_and_notice_who_dies() {
    gather_and_lose(1000);
}

/// A tenth of all datagrams is lost: nobody who lives is given up for good.
#[test]
fn losses_delay_and_do_no_more() {
    let mut world = World::of(2, 60);
    world.loss = 100;
    world.until(120 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    world.run(60 * SECOND);
    world.until(10 * SECOND, "everybody still does", |world| {
        world.least_view() == 1.0
    });
}

#[test]
fn a_partition_heals_even_if_the_only_seed_is_gone() {
    let mut world = World::of(3, 30);
    world.until(20 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    world.nodes[0].lives = false;
    for index in 15..30 {
        world.nodes[index].side = 1;
    }
    world.until(60 * SECOND, "the other side is given up", |world| {
        let present = |node: &Node| node.roll.present().count();
        world
            .nodes
            .iter()
            .filter(|node| node.lives)
            .all(|node| present(node) <= 14)
    });
    for node in &mut world.nodes {
        node.side = 0;
    }
    world.until(200 * SECOND, "everybody is back", |world| {
        world.least_view() == 1.0
    });
}

#[test]
fn a_node_that_leaves_is_not_waited_for() {
    let mut world = World::of(4, 10);
    world.until(20 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    let moment = world.moment();
    world.nodes[3].gossip.leave(moment);
    world.drain(3);
    world.nodes[3].lives = false;
    let took = world.until(
        10 * SECOND,
        "it is gone for everybody",
        World::knows_the_dead,
    );
    assert!(took < 2 * SECOND, "told and not noticed: {took:?}");
    assert!(
        !world
            .nodes
            .iter()
            .any(|node| node.events.contains(&Event::Suspect(name(3))))
    );
}

/// The seed is dead by then, and what was remembered leads back.
#[test]
fn a_node_comes_back_after_a_crash_under_another_address_without_its_seed() {
    let mut world = World::of(5, 10);
    world.until(20 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    let remembered: Vec<SocketAddr> = world.nodes[4]
        .roll
        .present()
        .map(|member| member.address.parse().unwrap())
        .collect();
    assert_eq!(remembered.len(), 9);
    world.nodes[4].lives = false;
    world.nodes[0].lives = false;
    // Before anybody has noticed that it died.
    let before = member(&world, 7, &name(4)).unwrap().0;
    world.begin(name(4), address(400), &[address(0)], &remembered);
    world.until(10 * SECOND, "all know the new address", |world| {
        let is_new = |at| {
            member(world, at, &name(4)).is_some_and(|(member, state)| {
                state == State::Alive
                    && member.address == address(400).to_string()
                    && member.generation > before.generation
            })
        };
        [1, 2, 3, 5, 6, 7, 8, 9].into_iter().all(is_new)
    });
    assert!(
        !world.nodes[10]
            .events
            .iter()
            .any(|event| matches!(event, Event::NameTaken(_)))
    );
}

/// The clock of the machine was set back meanwhile: the new life has a smaller number than the old one, at first.
#[test]
fn a_clock_that_was_set_back_keeps_nobody_out() {
    let mut world = World::of(6, 5);
    world.until(20 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    let before = member(&world, 1, &name(2)).unwrap().0.generation;
    world.nodes[2].lives = false;
    let options = GossipOptions {
        name: name(2),
        address: address(2),
        keys: Arc::clone(&world.ring),
        seeds: vec![address(0)],
        remembered: Vec::new(),
        random: 1,
    };
    let mut moment = world.moment();
    moment.unix_us -= 60_000_000;
    let gossip = Gossip::new(moment, options);
    assert!(gossip.identity().generation < before);
    world.nodes[2].gossip = gossip;
    world.nodes[2].lives = true;
    world.drain(2);
    world.until(20 * SECOND, "it is known again", |world| {
        let alive = |at| {
            member(world, at, &name(2))
                .is_some_and(|(member, state)| state == State::Alive && member.generation > before)
        };
        [0, 1, 3, 4].into_iter().all(alive)
    });
}

#[test]
fn a_second_holder_of_a_name_is_refused_and_joins_when_the_first_is_gone() {
    let mut world = World::of(7, 6);
    world.until(20 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    // Its seed is not the holder: the claim is passed on.
    let second = world.begin(name(3), address(300), &[address(1)], &[]);
    world.run(2 * SECOND);
    let holder = member(&world, 0, &name(3)).unwrap().0;
    assert_eq!(
        holder.address,
        address(3).to_string(),
        "the first one stays"
    );
    assert_eq!(world.nodes[second].events, [Event::NameTaken(holder)]);
    assert_eq!(world.falsely_left(), 0, "nobody noticed anything");

    world.nodes[3].lives = false;
    world.until(90 * SECOND, "it has the name now", |world| {
        member(world, 0, &name(3)).is_some_and(|(member, state)| {
            state == State::Alive && member.address == address(300).to_string()
        })
    });
    assert!(world.nodes[second].events.contains(&Event::Joined));
}

/// Two nodes of one name live on two sides of a partition: when it heals, the younger one is no member any more.
#[test]
fn of_two_holders_that_meet_the_older_one_stays() {
    let mut world = World::of(8, 8);
    world.until(20 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    for index in 4..8 {
        world.nodes[index].side = 1;
    }
    world.run(30 * SECOND);
    let younger = world.begin(name(2), address(200), &[address(5)], &[]);
    world.nodes[younger].side = 1;
    world.until(20 * SECOND, "the other side has taken it in", |world| {
        member(world, 6, &name(2)).is_some_and(|(_, state)| state == State::Alive)
    });
    for node in &mut world.nodes {
        node.side = 0;
    }
    let is_out = |world: &World| {
        matches!(
            world.nodes[younger].events.last(),
            Some(Event::NameTaken(_))
        )
    };
    world.until(200 * SECOND, "the younger is out", is_out);
    world.until(60 * SECOND, "everybody knows the older one", |world| {
        [0, 1, 3, 4, 5, 6, 7].into_iter().all(|at| {
            member(world, at, &name(2)).is_some_and(|(member, state)| {
                state == State::Alive && member.address == address(2).to_string()
            })
        })
    });
    assert!(
        !world.nodes[2]
            .events
            .iter()
            .any(|event| matches!(event, Event::NameTaken(_)))
    );
    assert_eq!(
        world.nodes[younger].roll.present().count(),
        0,
        "who is no member asks nobody"
    );
}

#[test]
fn draining_is_known_by_all_and_by_those_who_come_later_and_can_be_taken_back() {
    let mut world = World::of(9, 6);
    world.until(20 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    let is = |world: &World, wanted: State| {
        let others = world.nodes.iter().filter(|node| node.address != address(3));
        let state = |node: &Node| {
            node.roll
                .all()
                .find(|known| known.member.name == name(3))
                .map(|known| known.state)
        };
        others.map(state).all(|state| state == Some(wanted))
    };
    for (draining, wanted) in [(true, State::Draining), (false, State::Alive)] {
        let moment = world.moment();
        world.nodes[3].gossip.set_draining(moment, draining);
        world.drain(3);
        world.until(10 * SECOND, "it is told", |world| is(world, wanted));
        let number = world.nodes.len();
        world.begin(name(number), address(number), &[address(0)], &[]);
        world.until(40 * SECOND, "the newcomer knows it, too", |world| {
            is(world, wanted)
        });
    }
}

/// How many nodes know of everybody else what it says of its images.
fn know_the_images(world: &World, images: impl Fn(usize) -> Images) -> usize {
    let knows = |node: &&Node| {
        let others = world.nodes.iter().enumerate();
        let mut others = others.filter(|(_, other)| other.address != node.address);
        others.all(|(at, _)| {
            let mut known = node.roll.present();
            known.any(|member| member.name == name(at) && member.images == images(at))
        })
    };
    world.nodes.iter().filter(knows).count()
}

#[test]
fn what_all_say_of_their_images_at_once_is_known_to_all_in_seconds_and_one_who_changes_it_sooner() {
    let mut world = World::of(12, 100);
    world.until(30 * SECOND, "everybody knows everybody", |world| {
        world.least_view() == 1.0
    });
    let first = |at: usize| Images::these([ImageTag(u32::from(at.is_multiple_of(2))), ImageTag(9)]);
    assert_eq!(know_the_images(&world, first), 0, "they have said nothing");
    for at in 0..100 {
        let moment = world.moment();
        world.nodes[at].gossip.set_images(moment, first(at));
        world.drain(at);
    }
    let took = world.until(15 * SECOND, "all are known", |world| {
        know_the_images(world, first) == 100
    });
    println!("of 100 that say it at once all are known to all after {took:?}");
    let moment = world.moment();
    world.nodes[7].gossip.set_images(moment, Images::these([]));
    world.drain(7);
    let then = |at: usize| {
        if at == 7 {
            Images::these([])
        } else {
            first(at)
        }
    };
    let took = world.until(5 * SECOND, "the one is known", |world| {
        know_the_images(world, then) == 100
    });
    println!("one that changes it is known to all after {took:?}");
    assert_eq!(world.falsely_left(), 0, "nobody is given up for that");
}

#[test]
fn who_has_another_key_is_nobody() {
    let mut world = World::of(10, 3);
    let other = world.begin_with(ring(b"other"), name(3), address(3), &[address(0)], &[]);
    world.run(10 * SECOND);
    assert_eq!(world.nodes[other].roll.all().count(), 0);
    assert!(
        world.nodes[..3]
            .iter()
            .all(|node| node.roll.all().count() == 2)
    );
    assert!(world.nodes[0].gossip.refused().values().sum::<u64>() > 0);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::of(11, 40);
        world.loss = 50;
        world.run(20 * SECOND);
        let events: Vec<_> = world.nodes.iter().map(|node| node.events.clone()).collect();
        (world.sent, events)
    };
    assert!(run() == run());
}

/// What a node with the key may send, too, must not end another one or make it grow.
#[test]
fn nobody_grows_beyond_the_limit() {
    let mut world = World::of(12, 2);
    world.run(5 * SECOND);
    let mut liar = super::Envelope::new(Arc::clone(&world.ring), 99);
    let target = world.nodes[0].gossip.identity().clone();
    for number in 0..20_000u64 {
        let made_up = super::Identity {
            name: NodeName::new(&format!("liar-{number}")).unwrap(),
            address: address(7),
            born: number,
            generation: 1,
            draining: false,
            images: Images::Any,
        };
        let mut message = vec![super::PROTOCOL];
        made_up.put(&mut message).unwrap();
        message.extend([0, 0]);
        target.put(&mut message).unwrap();
        message.push(8);
        let moment = world.moment();
        let datagram = liar.seal(moment.unix_us + number, &message);
        world.nodes[0]
            .gossip
            .handle_datagram(moment, &datagram)
            .unwrap();
        while world.nodes[0].gossip.poll_send().is_some() {}
        while let Some(event) = world.nodes[0].gossip.poll_event() {
            world.nodes[0].roll.apply(1, Through::Gossip, event);
        }
    }
    assert_eq!(
        world.nodes[0].roll.all().count(),
        crate::membership::MOST_MEMBERS
    );
}

proptest! {
    #[test]
    fn no_payload_panics(kind in 0u8..4, bytes in prop::collection::vec(any::<u8>(), 0..120), cut in 0usize..80, extra in 0u8..12) {
        let mut world = World::of(13, 2);
        world.run(3 * SECOND);
        let mut sender = super::Envelope::new(Arc::clone(&world.ring), 5);
        let (from, to) = (world.nodes[1].gossip.identity().clone(), world.nodes[0].gossip.identity().clone());
        let mut sound = vec![kind];
        from.put(&mut sound).unwrap();
        sound.extend([0, 0]);
        to.put(&mut sound).unwrap();
        sound.push(extra);
        sound.truncate(sound.len().saturating_sub(cut).max(1));
        for payload in [[&[kind], &bytes[..]].concat(), [&sound[..], &bytes].concat()] {
            let moment = world.moment();
            let datagram = sender.seal(moment.unix_us, &payload);
            let _ = world.nodes[0].gossip.handle_datagram(moment, &datagram);
            world.run(100 * MS);
        }
    }
}
