//! Boot storms, healthy and not. Every figure is one of virtual time, so each run gives the same.

use std::time::Duration;

use vmthunder_sim::{LINK_RATE, Report, Scenario, run};

/// Plays a scenario and checks what must hold in every one: everybody who lives is done, no guest waited too long, all
/// was right, and never asked for uphill.
fn play(scenario: &Scenario) -> Report {
    let report = run(scenario);
    let seed = scenario.seed;
    assert_eq!(report.stuck, 0, "seed {seed}: {report:?}");
    assert_eq!(report.failed, 0, "seed {seed}: {report:?}");
    assert_eq!(report.wrong, 0, "seed {seed}: {report:?}");
    assert_eq!(report.uphill, 0, "seed {seed}: {report:?}");
    assert!(
        report.hedges * 50 <= report.asked,
        "seed {seed}: {report:?}"
    );
    report
}

fn bound(scenario: &Scenario) -> Duration {
    Duration::from_nanos(scenario.extents * 65_536 * 1_000_000_000 / LINK_RATE)
}

/// Read-ahead wide enough for all trees.
fn wide(nodes: usize, extents: u64) -> Scenario {
    Scenario {
        nodes,
        extents,
        demand_window: 128,
        ..Scenario::default()
    }
}

#[test]
fn a_healthy_swarm_takes_one_copy_from_the_origin() {
    for nodes in [8, 40, 160] {
        let scenario = Scenario {
            nodes,
            extents: 128,
            ..Scenario::default()
        };
        let report = play(&scenario);
        assert!(report.origin_copies <= 1.02, "{nodes}: {report:?}");
        assert!(report.most_uploads <= 1.02, "{nodes}: {report:?}");
    }
}

#[test]
fn with_a_wide_window_the_last_node_is_done_near_the_bound() {
    let scenario = Scenario {
        stagger_ms: 1,
        ..wide(40, 1024)
    };
    let report = play(&scenario);
    assert!(report.origin_copies <= 1.02, "{report:?}");
    assert!(
        report.last < bound(&scenario) * 5 / 4,
        "{report:?} {:?}",
        bound(&scenario)
    );
}

#[test]
fn deaths_cost_time_but_hardly_copies() {
    for seed in 0..10 {
        let scenario = Scenario {
            seed,
            nodes: 40,
            deaths: 4,
            ..Scenario::default()
        };
        let report = play(&scenario);
        assert!(report.origin_copies <= 1.1, "seed {seed}: {report:?}");
        assert!(
            report.last < Duration::from_secs(5),
            "seed {seed}: {report:?}"
        );
    }
}

#[test]
fn views_that_lack_a_tenth_cost_copies_but_never_loops() {
    for seed in 0..10 {
        let report = play(&Scenario {
            seed,
            nodes: 40,
            extents: 64,
            view_percent: 90,
            ..Scenario::default()
        });
        assert!(report.origin_copies <= 1.5, "seed {seed}: {report:?}");
    }
    play(&Scenario {
        nodes: 40,
        extents: 64,
        view_percent: 50,
        ..Scenario::default()
    });
}

#[test]
fn slow_nodes_do_not_drag_the_others_along() {
    let scenario = Scenario {
        slow: 1,
        ..wide(24, 2048)
    };
    let report = play(&scenario);
    // The slow one cannot be done before ten times the bound.
    assert!(report.median < bound(&scenario) * 3, "{report:?}");
    assert!(report.last < bound(&scenario) * 12, "{report:?}");
    assert!(report.origin_copies <= 1.5, "{report:?}");
}

#[test]
fn a_liar_is_noticed_by_everybody_who_asks_it() {
    let report = play(&Scenario {
        nodes: 40,
        liars: 1,
        ..Scenario::default()
    });
    assert!((1..=80).contains(&report.corrupt), "{report:?}");
    assert!(report.origin_copies <= 1.1, "{report:?}");
}

#[test]
fn the_smallest_queues_lock_nobody_up() {
    for seed in 0..300 {
        let scenario = Scenario {
            seed,
            nodes: 2 + usize::try_from(seed % 15).unwrap(),
            extents: 32,
            demand_window: 1 + seed % 7,
            prefetch_window: if seed % 3 == 0 { 16 } else { 0 },
            serve_queue: 1,
            ask_queue: 1,
            view_percent: 80 + seed % 21,
            ..Scenario::default()
        };
        play(&scenario);
    }
}

#[test]
fn queues_too_small_for_the_window_cost_little() {
    let scenario = Scenario {
        serve_queue: 64,
        ask_queue: 32,
        ..wide(40, 512)
    };
    let report = play(&scenario);
    assert!(report.origin_copies <= 1.02, "{report:?}");
    assert!(report.last < bound(&scenario) * 2, "{report:?}");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let scenario = |seed| Scenario {
        seed,
        deaths: 2,
        slow: 1,
        liars: 1,
        view_percent: 90,
        ..wide(16, 64)
    };
    assert_eq!(run(&scenario(7)), run(&scenario(7)));
    assert_ne!(run(&scenario(7)).log_hash, run(&scenario(8)).log_hash);
}
