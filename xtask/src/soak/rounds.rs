//! The rounds of a soak: load, a fault, every block compared.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::json;

use super::fault::Fault;
use super::load::{self, Figures, Load};
use super::proxy::Proxy;
use super::victim::Victim;
use crate::chance::Chance;
use crate::repo::Repo;

/// How long, and against whom.
#[derive(clap::Args)]
pub(crate) struct Rounds {
    /// How often the target is tormented; after each time every block is compared.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Repeats what a run did that printed this number; drawn if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// The target.
    #[arg(long, value_enum, default_value_t = Against::Vmthunder)]
    against: Against,
    /// Print the figures as JSON and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Against {
    /// Ours, as a process of its own.
    Vmthunder,
    /// Another people's.
    Tgt,
}

/// The wires to a target, and where each of them leads.
pub(super) struct Ways {
    pub(super) proxies: Vec<Proxy>,
    pub(super) portals: Vec<String>,
}

impl Ways {
    /// Lets connections through to where the target is now.
    pub(super) fn open(&self) -> Result<()> {
        let mut ways = self.proxies.iter().zip(&self.portals);
        ways.try_for_each(|(proxy, portal)| proxy.lead_to(Some(portal)))
    }

    /// Takes no connection any more.
    pub(super) fn close(&self) -> Result<()> {
        let mut proxies = self.proxies.iter();
        proxies.try_for_each(|proxy| proxy.lead_to(None))
    }
}

pub(super) fn run(repo: &Repo, args: &Rounds, ways: usize) -> Result<bool> {
    let seed = Chance::seed(args.seed);
    eprintln!(
        "{} rounds, seed {seed}, against {:?}",
        args.rounds, args.against
    );
    let mut chance = Chance(seed);
    let program = load::build(repo)?;
    let mut victim = Victim::new(repo, args.against, ways)?;
    let proxies: Result<_> = (0..ways).map(|_| Proxy::start()).collect();
    let mut wires = Ways {
        proxies: proxies?,
        portals: victim.start()?,
    };
    wires.open()?;
    let place = |proxy: &Proxy| victim.url_at(&proxy.address.to_string());
    let urls: Vec<String> = wires.proxies.iter().map(place).collect();
    let mut load = Load::start(&program, seed, &urls)?;
    let mut sum = Sum::default();
    for round in 1..=args.rounds {
        let fault = Fault::draw(&mut chance, ways > 1);
        let way = usize::try_from(chance.below(ways as u64))?;
        thread::sleep(chance.millis(100, 400));
        fault
            .inflict(&mut victim, &mut wires, way)
            .with_context(|| format!("round {round}: {fault}"))?;
        thread::sleep(chance.millis(100, 400));
        let figures = load
            .check()
            .with_context(|| format!("round {round}: {fault}"))?;
        sum.add(fault, &figures);
        if !args.json {
            let verdict = if figures.are_good() {
                ""
            } else {
                "  NOT AS IT SHOULD BE"
            };
            let longest = figures.longest.as_secs_f64();
            println!(
                "round {round:>3}: way {way}: {fault:<26} {:>7} writes, longest {longest:.2} s{verdict}",
                figures.writes
            );
        }
    }
    let good = sum.figures.are_good();
    println!(
        "{}",
        if args.json {
            sum.json(args, seed, ways)
        } else {
            sum.text(ways)
        }
    );
    Ok(good)
}

/// What came of all rounds.
#[derive(Default)]
struct Sum {
    rounds: u32,
    figures: Figures,
    /// The longest time of a command, of each round.
    longest: Vec<Duration>,
    /// Of each fault the longest time that a command took beyond the fault's own length.
    beyond: BTreeMap<String, Duration>,
}

impl Sum {
    fn add(&mut self, fault: Fault, figures: &Figures) {
        self.rounds += 1;
        self.figures = *figures;
        self.longest.push(figures.longest);
        let name = fault.to_string();
        let name = name.split(',').next().unwrap_or_default().to_owned();
        let beyond = self.beyond.entry(name).or_default();
        *beyond = (*beyond).max(figures.longest.saturating_sub(fault.length()));
    }

    /// The median and the worst of the longest times.
    fn stalls(&self) -> (f64, f64) {
        let mut longest: Vec<f64> = self.longest.iter().map(Duration::as_secs_f64).collect();
        longest.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| longest.get(place).copied().unwrap_or(0.0);
        (at(longest.len() / 2), at(longest.len().saturating_sub(1)))
    }

    fn text(&self, ways: usize) -> String {
        let mut text = String::from("\nlongest stall beyond the fault's own length:\n");
        for (fault, beyond) in &self.beyond {
            text += &format!("  {fault:<20}{:.1} s\n", beyond.as_secs_f64());
        }
        let Figures {
            writes,
            reads,
            doubts,
            errors,
            lost,
            wrong,
            logins,
            ..
        } = self.figures;
        text +=
            &format!("{reads} reads, {doubts} writes in doubt, {errors} errors, {logins} logins\n");
        let (median, worst) = self.stalls();
        let stalls = match ways {
            1 => format!("longest stall {worst:.1} s"),
            _ => format!("failover {median:.2} s in the median, {worst:.2} s at worst"),
        };
        let rounds = self.rounds;
        text + &format!("{rounds} rounds, {writes} writes, {lost} lost, {wrong} wrong, {stalls}")
    }

    fn json(&self, args: &Rounds, seed: u64, ways: usize) -> String {
        let beyond: BTreeMap<&str, f64> = self
            .beyond
            .iter()
            .map(|(fault, beyond)| (fault.as_str(), beyond.as_secs_f64()))
            .collect();
        let (median, worst) = self.stalls();
        json!({
            "ways": ways,
            "against": format!("{:?}", args.against).to_lowercase(),
            "seed": seed,
            "rounds": self.rounds,
            "writes": self.figures.writes,
            "reads": self.figures.reads,
            "in_doubt": self.figures.doubts,
            "errors": self.figures.errors,
            "lost": self.figures.lost,
            "wrong": self.figures.wrong,
            "logins": self.figures.logins,
            "median_stall_seconds": median,
            "longest_stall_seconds": worst,
            "beyond_the_fault_seconds": beyond,
        })
        .to_string()
    }
}
