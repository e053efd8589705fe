//! `cargo xtask lab outage`: a guest works on the disk of an instance while its node dies again and again, and while the
//! origin is away.

mod report;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::report::{Outage, Report, Rounds, Sees};
use self::work::{Figures, Guest, Initiator};
use crate::chance::Chance;
use crate::lab::Program;
use crate::lab::site::{DiskWork, Ending, Site};
use crate::packages;
use crate::repo::Repo;
use crate::tally::Tally;

/// More than a guest reads before its origin goes away.
const IMAGE_BYTES: u64 = 128 << 20;
/// How long a guest works before its origin goes away.
const BEFORE: Duration = Duration::from_secs(2);
const INSTANCE: &str = "vm";
/// What an instance does when its origin is away, and what its guest is to see.
const POLICIES: [(&str, Sees); 4] = [
    ("wait", Sees::Nothing),
    ("15s", Sees::Errors),
    ("fail", Sees::Errors),
    ("fail", Sees::Pause),
];
/// How long QEMU may pause a guest again, for reads that failed at the same time.
const PAUSES: Duration = Duration::from_secs(60);

/// How long, and with whom.
#[derive(Args)]
pub(crate) struct OutageArgs {
    /// How often the node is killed with SIGKILL. Some of these times it is ended with SIGTERM before, or stopped with
    /// SIGSTOP, or killed again while it starts.
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// How many seconds the origin is away, once with each policy; 0 leaves that out.
    #[arg(long, default_value_t = 40, value_name = "SECONDS")]
    away: u64,
    /// How many seconds a guest's kernel gives one command of its own initiator, `device/timeout`: longer than any
    /// outage, as docs/outages.md says, or what it has by default.
    #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
    device_timeout: u32,
    /// Repeats the moments of a run that printed this number; drawn if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this initiator.
    #[arg(long, value_enum)]
    only: Option<Initiator>,
    /// Print one JSON object instead of the tables.
    #[arg(long)]
    json: bool,
    /// Keep the guests' consoles in this folder.
    #[arg(long, value_name = "FOLDER")]
    consoles: Option<PathBuf>,
    #[command(flatten)]
    program: Program,
}

/// The last line is `N rounds, E guest errors, W wrong bytes, longest stall S s`.
pub(crate) fn run(repo: &Repo, args: &OutageArgs) -> Result<Tally> {
    packages::program("qemu-system-x86_64").context("see lab/README.md, Packages")?;
    let bench = Bench {
        repo,
        args,
        vmthunder: args.program.build(repo)?,
        work: DiskWork::build(repo)?,
        seed: Chance::seed(args.seed),
    };
    if let Some(folder) = &args.consoles {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    bench.say(&format!("seed {}", bench.seed));
    let mut report = Report::new(bench.seed);
    let initiators = [Initiator::Qemu, Initiator::Linux].into_iter();
    for initiator in initiators.filter(|&one| args.only.is_none_or(|only| only == one)) {
        report.rounds.push(bench.rounds(initiator)?);
        for (policy, sees) in POLICIES {
            // A guest whose own kernel logs in cannot be paused at a read.
            if args.away > 0 && (initiator == Initiator::Qemu || sees != Sees::Pause) {
                report.outages.push(bench.outage(initiator, policy, sees)?);
            }
        }
    }
    if args.json {
        println!("{}", report.json());
    } else {
        println!("{report}");
    }
    Ok(report.tally())
}

struct Bench<'a> {
    repo: &'a Repo,
    args: &'a OutageArgs,
    vmthunder: PathBuf,
    work: DiskWork,
    seed: u64,
}

impl Bench<'_> {
    /// Kills the node again and again.
    fn rounds(&self, initiator: Initiator) -> Result<Rounds> {
        let mut chance = Chance(self.seed);
        let (mut site, mut guest) = self.start(initiator, "rounds", Sees::Nothing)?;
        let mut sum = Rounds::new(initiator);
        for round in 1..=self.args.rounds {
            thread::sleep(chance.millis(100, 2500));
            let (what, patient) = torment(&mut site, &mut chance)
                .with_context(|| format!("round {round}\n{}", site.last_lines()))?;
            // Sometimes the next death finds an initiator that has not come back yet.
            let figures = match patient {
                true => guest.goes_on(),
                false => guest.look(),
            };
            let figures = figures.with_context(|| format!("round {round}: {what}"))?;
            sum.add(&figures);
            sum.count();
            self.say(&format!(
                "{} {round:>3}: {what:<44} {:>7} commands, {} errors, {} wrong, longest {:.1} s",
                initiator.name(),
                figures.commands,
                figures.errors,
                figures.wrong,
                figures.longest.as_secs_f64()
            ));
        }
        sum.add(&guest.goes_on()?);
        sum.add(&guest.check()?);
        sum.kernel_errors = guest.end()?;
        site.stop()?;
        Ok(sum)
    }

    /// Takes the origin away for a while.
    fn outage(&self, initiator: Initiator, policy: &'static str, sees: Sees) -> Result<Outage> {
        let (mut site, mut guest) = self.start(initiator, policy, sees)?;
        let change = ["instance", "change", INSTANCE, "--outage", policy];
        site.node()?.ask(&change)?;
        thread::sleep(BEFORE);
        guest.look()?;
        site.kill_origin()?;
        let (name, seconds) = (initiator.name(), self.args.away);
        self.say(&format!(
            "{name}, {policy}: the origin is away for {seconds} s"
        ));
        let figures = match sees {
            Sees::Pause => self.pause(&mut site, &mut guest)?,
            Sees::Nothing | Sees::Errors => self.watch(&mut site, &mut guest)?,
        };
        let back = guest.check()?;
        let outage = Outage {
            initiator,
            policy,
            sees,
            errors: figures.errors,
            failed_after: figures.failed_after,
            longest: figures.longest,
            errors_afterwards: back.errors - figures.errors,
            wrong: back.wrong,
            kernel_errors: guest.end()?,
            from_origin: site.sources()?.origin,
        };
        site.stop()?;
        Ok(outage)
    }

    /// The guest goes on, or tries to.
    fn watch(&self, site: &mut Site, guest: &mut Guest) -> Result<Figures> {
        let gone = Instant::now();
        let mut figures = guest.look()?;
        while gone.elapsed() < Duration::from_secs(self.args.away) {
            thread::sleep(Duration::from_secs(1));
            figures += guest.look()?;
        }
        site.start_origin()?;
        figures += guest.goes_on()?;
        Ok(figures)
    }

    /// QEMU pauses the guest, which answers nothing meanwhile; somebody lets it go on when the origin is back.
    fn pause(&self, site: &mut Site, guest: &mut Guest) -> Result<Figures> {
        thread::sleep(Duration::from_secs(self.args.away));
        ensure!(
            !guest.is_running(self.repo)?,
            "QEMU did not pause the guest"
        );
        site.start_origin()?;
        let deadline = Instant::now() + PAUSES;
        while !guest.is_running(self.repo)? {
            ensure!(
                Instant::now() < deadline,
                "QEMU pauses the guest again and again"
            );
            guest.monitor(self.repo, "cont")?;
            thread::sleep(Duration::from_secs(1));
        }
        guest.goes_on()
    }

    fn start(&self, initiator: Initiator, phase: &str, sees: Sees) -> Result<(Site, Guest)> {
        let mut site = Site::start(&self.vmthunder, &self.work, IMAGE_BYTES, self.seed, false)?;
        let url = site.create_instance(INSTANCE)?;
        let pauses = if sees == Sees::Pause { "-stop" } else { "" };
        let name = format!("{}-{phase}{pauses}.log", initiator.name());
        let folder = self.args.consoles.as_deref();
        let console = folder.unwrap_or_else(|| site.folder.path()).join(name);
        let console: &Path = &std::path::absolute(console)?;
        let (program, seed) = (&self.work.program, self.seed);
        let mut command = self.repo.command("lab/vm/work-guest");
        command.args([initiator.name(), &url]).arg(program);
        command.arg(seed.to_string()).arg(console);
        command.env("DEVICE_TIMEOUT", self.args.device_timeout.to_string());
        command.env(
            "RERROR",
            if sees == Sees::Pause {
                "stop"
            } else {
                "report"
            },
        );
        let guest = Guest::boot(command, console)?;
        Ok((site, guest))
    }

    fn say(&self, line: &str) {
        match self.args.json {
            true => eprintln!("{line}"),
            false => println!("{line}"),
        }
    }
}

/// Kills the node once, and sometimes does more. What was done, and whether the guest is given the time to come back.
fn torment(site: &mut Site, chance: &mut Chance) -> Result<(String, bool)> {
    let mut what = String::new();
    match chance.below(8) {
        0 => {
            let away = chance.millis(0, 2000);
            site.end_node(Ending::Asked)?;
            thread::sleep(away);
            site.start_node()?;
            what += &format!("ended, {:.1} s; ", away.as_secs_f64());
        }
        1 => {
            let length = chance.millis(2000, 7000);
            site.pause(length)?;
            what += &format!("stopped, {:.1} s; ", length.as_secs_f64());
        }
        _ => {}
    }
    let away = chance.millis(0, 3000);
    site.end_node(Ending::Killed)?;
    thread::sleep(away);
    what += &format!("killed, {:.1} s", away.as_secs_f64());
    if chance.below(5) == 0 {
        let later = chance.millis(0, 400);
        site.start_and_kill(later)?;
        what += &format!("; as it started, {:.1} s", later.as_secs_f64());
    }
    site.start_node()?;
    Ok((what, chance.below(4) > 0))
}
