//! `vmthunder simulate`: storms in one thread under virtual time, from a seed.

mod plot;
mod show;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use tokio::task::spawn_blocking;
use vmthunder_sim::{Boot, Report, Scenario, Shape, hunted};

use crate::args::{SimulateArgs, Trouble};
use crate::demo::trace::Trace;
use crate::observe::line;
use crate::simulate::show::Figures;

/// The largest boot: what a machine with some memory can play with a few nodes.
const MOST_BYTES: u64 = 64 << 30;

/// Plays what is asked for; false if something happened that never may.
pub(crate) async fn run(args: SimulateArgs) -> Result<bool> {
    if let Some(seeds) = args.hunt {
        let from = args.seed;
        return spawn_blocking(move || hunt(from, seeds)).await?;
    }
    spawn_blocking(move || simulate(&args)).await?
}

fn simulate(args: &SimulateArgs) -> Result<bool> {
    let trace = args.trace.as_deref().map(|path| Trace::load(Some(path)));
    let trace = trace.transpose()?;
    let shapes: &[Shape] = match args.compare {
        true => &[Shape::Forest, Shape::Mesh, Shape::Tree, Shape::Star],
        false => &[Shape::Forest],
    };
    let bar = ProgressBar::new(u64::from(args.seeds) * shapes.len() as u64);
    let (mut all, mut first) = (Vec::new(), Vec::new());
    for seed in (args.seed..).take(args.seeds as usize) {
        let forest = scenario(args, trace.as_ref(), seed)?;
        let mut played: Vec<Figures> = Vec::new();
        for shape in shapes {
            let scenario = Scenario {
                shape: *shape,
                ..forest.clone()
            };
            let report = vmthunder_sim::run(&scenario);
            played.push(Figures::new(args, &scenario, &report));
            if seed == args.seed {
                first.push((scenario, report));
            }
            bar.inc(1);
        }
        let mut figures = played.remove(0);
        figures.compare = played;
        all.push(figures);
    }
    bar.finish_and_clear();
    if let Some(path) = &args.svg {
        let plot = plot::svg(&first);
        std::fs::write(path, plot).with_context(|| format!("cannot write {}", path.display()))?;
    }
    show::print(&all, args.json)?;
    Ok(all.iter().all(Figures::is_sound))
}

fn scenario(args: &SimulateArgs, trace: Option<&Trace>, seed: u64) -> Result<Scenario> {
    let bytes = args.working_set.as_u64();
    ensure!(
        trace.is_some() || (1..=MOST_BYTES).contains(&bytes),
        "a boot of {}: it can be 1 byte to 64 GiB",
        args.working_set
    );
    ensure!(
        trace.is_some() || bytes <= args.image_size.as_u64(),
        "a boot cannot read {} of an image of {}",
        args.working_set,
        args.image_size
    );
    let boot = match trace {
        Some(trace) => replayed(trace, args.pace),
        None => Boot::of_size(args.working_set.as_u64(), args.image_size.as_u64(), seed),
    };
    let among = |trouble, nodes| {
        if args.scenario.contains(&trouble) {
            nodes
        } else {
            0
        }
    };
    let nodes = args.nodes;
    Ok(Scenario {
        seed,
        nodes,
        boot: Arc::new(boot),
        rate: args.rate,
        origin_rate: args.origin_rate.unwrap_or(args.rate),
        round_trip: args.rtt,
        prefetch: args.prefetch,
        view_percent: 100 - u64::from(among(Trouble::PartialViews, 10)),
        deaths: among(Trouble::Deaths, nodes.div_ceil(10)),
        slow: among(Trouble::Slow, nodes.div_ceil(20)),
        liars: among(Trouble::Liar, 1),
        churn: among(Trouble::Churn, nodes.div_ceil(20)),
        ..Scenario::default()
    })
}

/// The boot of a trace: between two reads the guest thinks for as long as lay between them.
fn replayed(trace: &Trace, pace: f64) -> Boot {
    let before = std::iter::once(0).chain(trace.reads.iter().map(|read| read.at_us));
    Boot::of_reads(trace.reads.iter().zip(before).map(|(read, before)| {
        let gap = Duration::from_micros(read.at_us.saturating_sub(before));
        (
            Duration::try_from_secs_f64(gap.as_secs_f64() * pace).unwrap_or_default(),
            read.span,
        )
    }))
}

/// Looks for a lock; the last line is `N seeds, S stuck`.
fn hunt(from: u64, seeds: u64) -> Result<bool> {
    let bar = ProgressBar::new(seeds);
    let (mut stuck, mut broken) = (0_u64, 0_u64);
    for seed in (from..).take(usize::try_from(seeds)?) {
        let report = vmthunder_sim::run(&hunted(seed));
        if report.stuck > 0 {
            stuck += 1;
            line(format_args!(
                "seed {seed}: {} nodes are stuck",
                report.stuck
            ))?;
        }
        if breaks_a_promise(&report) {
            broken += 1;
            line(format_args!(
                "seed {seed}: {} wrong extents, {} requests uphill",
                report.wrong, report.uphill
            ))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if stuck + broken > 0 {
        line("see one again with: vmthunder simulate --hunt 1 --seed SEED")?;
    }
    line(format_args!("{seeds} seeds, {stuck} stuck"))?;
    Ok(stuck + broken == 0)
}

fn breaks_a_promise(report: &Report) -> bool {
    report.wrong > 0 || report.uphill > 0
}
