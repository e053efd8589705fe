//! Boot storms, healthy and not. Every figure is one of virtual time, so each run gives the same.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use vmthunder_sim::{Boot, Report, Scenario, Shape, hunted, run};
use vmthunder_swarm::SwarmOptions;
use vmthunder_volume::{EXTENT_BYTES, Span};

/// Plays a scenario and checks what must hold in every one: everybody who lives is done, all was right, nobody asked
/// uphill, and hedges were few.
fn play(scenario: &Scenario) -> Report {
    let report = run(scenario);
    let seed = scenario.seed;
    assert_eq!(report.stuck, 0, "seed {seed}: {}", said(&report));
    assert_eq!(report.wrong, 0, "seed {seed}: {}", said(&report));
    assert_eq!(report.uphill, 0, "seed {seed}: {}", said(&report));
    assert!(
        report.hedges * 50 <= report.asked,
        "seed {seed}: {}",
        said(&report)
    );
    report
}

fn said(report: &Report) -> String {
    let short = Report {
        ends: Vec::new(),
        origin_sent: Vec::new(),
        ..report.clone()
    };
    format!("{short:?}")
}

fn boot(extents: u64, seed: u64) -> Arc<Boot> {
    Arc::new(Boot::of_size(extents * EXTENT_BYTES, 1 << 30, seed))
}

fn storm(seed: u64, nodes: u32, extents: u64) -> Scenario {
    Scenario {
        seed,
        nodes,
        boot: boot(extents, seed),
        ..Scenario::default()
    }
}

fn over_bound(time: Duration, scenario: &Scenario) -> f64 {
    time.as_secs_f64() / scenario.bound().as_secs_f64()
}

#[test]
fn a_healthy_swarm_takes_one_copy_from_the_origin_and_shares_the_load() {
    for nodes in [2, 8, 40] {
        let report = play(&storm(1, nodes, 512));
        assert!(report.origin_copies <= 1.03, "{nodes}: {}", said(&report));
        assert!(report.most_uploads <= 1.1, "{nodes}: {}", said(&report));
    }
}

#[test]
fn the_last_node_is_done_near_the_bound() {
    let scenario = storm(1, 40, 1024);
    let report = play(&scenario);
    let last = over_bound(report.last, &scenario);
    assert!(last <= 1.25, "{last} {}", said(&report));
}

#[test]
fn a_slow_link_is_not_taken_for_slow_peers() {
    for (nodes, rate) in [(16, 80_000_000), (64, 20_000_000)] {
        for think in [
            Duration::ZERO,
            Duration::from_micros(65_536 * 8_000_000 / rate),
        ] {
            // With thoughts a guest takes as long as its link: T_cpu = W/B.
            let reads = (0..512_u64).map(|n| (think, Span::new(n * EXTENT_BYTES, EXTENT_BYTES)));
            let scenario = Scenario {
                nodes,
                rate,
                origin_rate: rate,
                round_trip: Duration::from_millis(1),
                boot: Arc::new(Boot::of_reads(reads)),
                ..Scenario::default()
            };
            let report = play(&scenario);
            let last = over_bound(report.last, &scenario);
            assert!(last <= 1.5, "{nodes}: {last} {}", said(&report));
            assert!(report.origin_copies <= 1.02, "{nodes}: {}", said(&report));
        }
    }
}

#[test]
fn nothing_is_asked_for_twice_when_guests_follow_their_prefetch() {
    let report = play(&storm(1, 40, 512));
    assert!(
        report.asked * 100 <= report.delivered * 103,
        "{}",
        said(&report)
    );
    // And without prefetch one asks for the same, only later.
    let demand_only = play(&Scenario {
        prefetch: 0,
        ..storm(1, 40, 512)
    });
    assert!(
        demand_only.median > report.median * 3 / 2,
        "{}",
        said(&demand_only)
    );
}

#[test]
fn a_guest_that_thinks_finds_everything_there() {
    let reads = (0..200_u64).map(|n| {
        (
            Duration::from_millis(10),
            Span::new(n * 3 * EXTENT_BYTES, EXTENT_BYTES),
        )
    });
    let scenario = Scenario {
        nodes: 20,
        boot: Arc::new(Boot::of_reads(reads)),
        ..Scenario::default()
    };
    assert_eq!(scenario.bound(), Duration::from_secs(2));
    let report = play(&scenario);
    let last = over_bound(report.last, &scenario);
    assert!(last <= 1.05, "{last}");
}

#[test]
fn deaths_cost_time_but_hardly_copies() {
    for seed in 0..5 {
        let scenario = Scenario {
            deaths: 4,
            view_percent: 90,
            ..storm(seed, 40, 256)
        };
        let report = play(&scenario);
        assert!(
            report.origin_copies <= 1.5,
            "seed {seed}: {}",
            said(&report)
        );
        // The bound is a seventh of a second here: a silence alone is longer.
        assert!(
            report.last < Duration::from_secs(3),
            "seed {seed}: {}",
            said(&report)
        );
    }
}

#[test]
fn views_that_lack_half_cost_copies_but_never_loops() {
    for (view_percent, most) in [(90, 1.5), (50, 3.5)] {
        let report = play(&Scenario {
            view_percent,
            ..storm(3, 40, 128)
        });
        assert!(report.origin_copies <= most, "{}", said(&report));
    }
}

#[test]
fn slow_nodes_do_not_drag_the_others_along() {
    let scenario = Scenario {
        slow: 2,
        ..storm(1, 40, 2048)
    };
    let report = play(&scenario);
    let (fast, last) = (
        over_bound(report.last_fast, &scenario),
        over_bound(report.last, &scenario),
    );
    assert!(fast <= 2.3, "{fast} {}", said(&report));
    // The slow ones cannot be done before ten times the bound.
    assert!((10.0..12.0).contains(&last), "{last}");
    assert!(report.origin_copies <= 1.8, "{}", said(&report));
}

#[test]
fn a_liar_is_noticed_by_everybody_who_asks_it() {
    let report = play(&Scenario {
        liars: 1,
        ..storm(1, 40, 256)
    });
    assert!((1..=400).contains(&report.corrupt), "{}", said(&report));
    assert!(report.origin_copies <= 1.1, "{}", said(&report));
}

#[test]
fn a_thousand_members_come_and_go() {
    let report = play(&Scenario {
        churn: 20,
        ..storm(1, 1000, 16)
    });
    assert!(report.origin_copies <= 1.5, "{}", said(&report));
}

#[test]
fn the_smallest_queues_lock_nobody_up() {
    for seed in 0..400 {
        play(&hunted(seed));
    }
}

#[test]
fn the_origin_is_never_asked_for_more_than_its_budget() {
    // A tenth of the link; everybody together.
    let budget = 12_500_000;
    for (nodes, share) in [(1_u32, budget), (10, budget / 10)] {
        let scenario = Scenario {
            swarm: SwarmOptions {
                origin_bytes_per_second: NonZeroU64::new(share),
                origin_queue: NonZeroU32::new(8).unwrap(),
                ..SwarmOptions::default()
            },
            shape: Shape::Star,
            ..storm(1, nodes, 128)
        };
        let report = play(&scenario);
        let bytes = 128 * u64::from(nodes) * EXTENT_BYTES;
        let least = Duration::from_secs_f64(bytes as f64 / budget as f64);
        // A fiftieth of a second and an extent may be ahead of the rate.
        assert!(
            report.last + Duration::from_millis(100) >= least,
            "{}",
            said(&report)
        );
        // Who is refused at once, or stood in line for a second, comes back after a while.
        assert!(report.last <= least * 2, "{}", said(&report));
    }
}

#[test]
fn other_shapes_are_what_they_are_known_for() {
    let play_as = |shape| {
        let scenario = Scenario {
            shape,
            ..storm(1, 20, 512)
        };
        let report = play(&scenario);
        (over_bound(report.last, &scenario), report)
    };
    let (forest, _) = play_as(Shape::Forest);
    let (star, at_star) = play_as(Shape::Star);
    let (tree, in_tree) = play_as(Shape::Tree);
    let (mesh, in_mesh) = play_as(Shape::Mesh);
    assert_eq!((at_star.origin_copies, at_star.most_uploads), (20.0, 0.0));
    assert!(
        star > 20.0 && tree > 2.0 && mesh > 1.0,
        "{star} {tree} {mesh}"
    );
    assert!(
        forest < tree && forest < mesh + 0.2,
        "{forest} {tree} {mesh}"
    );
    assert!(in_tree.origin_copies <= 1.05 && in_mesh.origin_copies <= 3.0);
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let scenario = |seed| Scenario {
        deaths: 2,
        slow: 1,
        liars: 1,
        churn: 2,
        view_percent: 90,
        ..storm(seed, 16, 64)
    };
    assert_eq!(run(&scenario(7)), run(&scenario(7)));
    assert_ne!(run(&scenario(7)).log_hash, run(&scenario(8)).log_hash);
}
