use super::super::case::{Driver, Load, Server, Side, Work};
use super::*;

const SIDES: &[Side] = &[side("ours"), side("slow"), side("fast")];

const fn side(name: &'static str) -> Side {
    Side {
        name,
        server: Server::Target,
        driver: Driver::Libiscsi,
    }
}

const GOALS: &[Goal] = &[
    Goal {
        figure: Figure::Iops,
        of: "ours",
        against: &["slow", "fast"],
        bound: Bound::AtLeast(2.0),
    },
    Goal {
        figure: Figure::ServerCpu,
        of: "ours",
        against: &["slow", "fast"],
        bound: Bound::AtMost(0.2),
    },
    Goal {
        figure: Figure::HalfWithin,
        of: "ours",
        against: &["slow"],
        bound: Bound::Told,
    },
];

const CASE: Case = Case {
    name: "case",
    title: "A case",
    work: Work::Load(Load {
        reads: 100,
        sequential: false,
        block: 4096,
        depth: 1,
    }),
    sides: SIDES,
    goals: GOALS,
};

fn turn(ops: u64, server_cpu: f64, others: f64) -> Turn {
    Turn {
        seconds: 2.0,
        ops,
        bytes: ops * 4096,
        server_cpu,
        others,
        ..Turn::default()
    }
}

#[test]
fn medians_and_spreads() {
    let spread = |figures: &[f64]| Spread::of(figures.to_vec());
    assert_eq!(spread(&[]), None);
    assert_eq!(
        spread(&[3.0, 1.0, 9.0]),
        Some(Spread {
            median: 3.0,
            least: 1.0,
            most: 9.0
        })
    );
    assert_eq!(spread(&[4.0, 1.0]).map(|spread| spread.median), Some(2.5));
}

#[test]
fn the_best_of_the_others_is_what_counts() {
    let outcome = Outcome {
        case: &CASE,
        turns: vec![
            vec![turn(300_000, 1.0, 0.0); 3],
            vec![turn(100_000, 2.0, 0.0); 3],
            vec![turn(200_000, 8.0, 0.0); 3],
        ],
    };
    let answers = outcome.answers();
    // Nobody told a latency, so there is no third answer.
    assert_eq!(answers.len(), 2);
    assert_eq!((answers[0].against, answers[0].ratio.median), ("fast", 1.5));
    assert_eq!(answers[0].verdict, Verdict::Missed);
    // 0.33 s against 2 s and 4 s for 100,000.
    assert_eq!(answers[1].against, "slow");
    assert!((answers[1].ratio.median - 1.0 / 6.0).abs() < 1e-9);
    assert_eq!(answers[1].verdict, Verdict::Met);
    assert!(answers.iter().all(|answer| !answer.is_doubtful));
}

#[test]
fn disturbed_rounds_are_left_out_while_most_are_quiet() {
    let ours = vec![
        turn(400_000, 1.0, 0.0),
        turn(10_000, 1.0, 0.9),
        turn(400_000, 1.0, 0.0),
    ];
    let mut outcome = Outcome {
        case: &CASE,
        turns: vec![
            ours,
            vec![turn(100_000, 1.0, 0.0); 3],
            vec![turn(200_000, 1.0, 0.0); 3],
        ],
    };
    assert_eq!(outcome.quiet_rounds(), [0, 2]);
    let answer = &outcome.answers()[0];
    assert_eq!((answer.ratio.least, answer.is_doubtful), (2.0, false));
    outcome.turns[2][0].others = 0.5;
    let answer = &outcome.answers()[0];
    assert_eq!((answer.ratio.least, answer.is_doubtful), (0.05, true));
}

#[test]
fn rounds_that_disagree_are_doubtful() {
    let outcome = Outcome {
        case: &CASE,
        turns: vec![
            vec![
                turn(400_000, 1.0, 0.0),
                turn(900_000, 1.0, 0.0),
                turn(500_000, 1.0, 0.0),
            ],
            vec![turn(100_000, 1.0, 0.0); 3],
            vec![turn(200_000, 1.0, 0.0); 3],
        ],
    };
    let answer = &outcome.answers()[0];
    assert_eq!((answer.verdict, answer.is_doubtful), (Verdict::Met, true));
}
