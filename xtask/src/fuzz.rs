//! `cargo xtask fuzz`: throws bytes at the entry points that the crates name, until the time is up or a promise is
//! broken. What it learns stays in `.build/fuzz`; `--keep` brings the best of it into the repository, where ordinary
//! tests repeat it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::bounded::{self, Ran};
use crate::repo::Repo;
use crate::tally::Tally;

/// What the command line asks for.
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// Targets, by the names of the files in `fuzz/targets`; all of them if none is named.
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Print the figures as JSON and nothing else on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Put the inputs that cover most into `fuzz/corpus`.
    #[arg(long)]
    keep: bool,
}

/// Compiling everything with a sanitizer on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
/// Beyond the time that a target was given: reading its corpus, and writing down what it found.
const SPARE: Duration = Duration::from_secs(300);
/// Memory of one target, the sanitizer's own included. What a session may hold is asserted by the targets themselves.
const MEMORY_MEGABYTES: u32 = 1024;
/// One input that takes longer hangs.
const INPUT_SECONDS: u32 = 10;
/// The longest input.
const INPUT_BYTES: u32 = 2048;
/// The corpus of a target in the repository.
const KEPT_FILES: usize = 64;
const KEPT_BYTES: u64 = 1024;

/// What one target did.
struct Figures {
    target: String,
    executions: u64,
    per_second: u64,
    /// Places of the code that were reached, and ways to reach them.
    coverage: u64,
    features: u64,
    peak_megabytes: u64,
    /// The input that broke it.
    broken_by: Option<String>,
}

/// Runs the targets one after another.
pub(crate) fn run(repo: &Repo, asked: &Fuzz) -> Result<Tally> {
    let targets = chosen(repo, &asked.targets)?;
    build(repo)?;
    let mut figures = Vec::new();
    for target in targets {
        eprintln!("fuzzing {target} for {} s", asked.seconds);
        figures.push(fuzz(repo, &target, asked.seconds)?);
        if asked.keep {
            keep(repo, &target)?;
        }
    }
    if asked.json {
        println!("{}", json(&figures));
    } else {
        println!("{}", table(&figures));
    }
    for broken in figures.iter().filter(|figures| figures.broken_by.is_some()) {
        eprintln!(
            "FAILED {}: it becomes a test as a file in fuzz/corpus",
            broken.target
        );
    }
    let failed = figures
        .iter()
        .filter(|figures| figures.broken_by.is_some())
        .count();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Tally {
        passed: count(figures.len() - failed),
        failed: count(failed),
    })
}

fn chosen(repo: &Repo, asked: &[String]) -> Result<Vec<String>> {
    let mut known = Vec::new();
    for entry in fs::read_dir(repo.root.join("fuzz/targets")).context("fuzz/targets")? {
        let path = entry?.path();
        known.extend(
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        );
    }
    known.sort_unstable();
    if asked.is_empty() {
        return Ok(known);
    }
    for name in asked {
        ensure!(
            known.contains(name),
            "there is no fuzz target {name}; there are: {}",
            known.join(", ")
        );
    }
    Ok(asked.to_vec())
}

/// Nightly cargo; rustup finds it.
fn cargo_fuzz(repo: &Repo, verb: &str) -> Command {
    let mut command = repo.command("cargo");
    command.args([
        "+nightly",
        "fuzz",
        verb,
        "--fuzz-dir",
        "fuzz",
        "--target-dir",
        ".build/fuzz",
    ]);
    command
}

fn build(repo: &Repo) -> Result<()> {
    let mut version = repo.command("cargo");
    version.args(["+nightly", "fuzz", "--version"]);
    let there =
        bounded::output(&mut version, SPARE).is_ok_and(|finished| finished.status.success());
    if !there {
        bail!(
            "fuzzing needs a nightly compiler and cargo-fuzz:\n  rustup toolchain install nightly\n  \
             cargo install cargo-fuzz"
        );
    }
    eprintln!("building the fuzz targets");
    bounded::succeed(&mut cargo_fuzz(repo, "build"), BUILD_LIMIT)?;
    Ok(())
}

fn fuzz(repo: &Repo, target: &str, seconds: u32) -> Result<Figures> {
    let learnt = folder(&repo.root.join(".build/fuzz/corpus").join(target))?;
    let found = folder(&repo.root.join(".build/fuzz/found").join(target))?;
    let mut command = cargo_fuzz(repo, "run");
    command
        .arg(target)
        .arg(learnt)
        .arg(seeds(repo, target))
        .arg("--");
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={INPUT_BYTES}"),
        format!("-timeout={INPUT_SECONDS}"),
        format!("-rss_limit_mb={MEMORY_MEGABYTES}"),
        format!("-artifact_prefix={}/", found.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    let ran = bounded::until(&mut command, Duration::from_secs(seconds.into()) + SPARE)?;
    let mut figures = read(target, &ran.stderr);
    if !ran.status.is_some_and(|status| status.success()) {
        eprintln!("{}", last_words(&ran));
        figures.broken_by = Some(broken_by(&ran).unwrap_or_else(|| ran.ending()));
    }
    Ok(figures)
}

fn seeds(repo: &Repo, target: &str) -> PathBuf {
    repo.root.join("fuzz/corpus").join(target)
}

fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    Ok(path.to_owned())
}

/// The figures of the last progress line, and of the final statistics.
fn read(target: &str, said: &str) -> Figures {
    let progress = said
        .lines()
        .rev()
        .find(|line| line.starts_with('#') && line.contains("cov:"));
    let mut words = progress.unwrap_or_default().split_whitespace();
    let executions = words
        .next()
        .and_then(|word| word.trim_start_matches('#').parse().ok());
    let words: Vec<&str> = words.collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.trim_end_matches("Mb").parse().ok()
    };
    let peak = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::peak_rss_mb:"));
    let peak = peak.and_then(|megabytes| megabytes.trim().parse().ok());
    Figures {
        target: target.to_owned(),
        executions: executions.unwrap_or(0),
        per_second: after("exec/s:").unwrap_or(0),
        coverage: after("cov:").unwrap_or(0),
        features: after("ft:").unwrap_or(0),
        peak_megabytes: peak.or_else(|| after("rss:")).unwrap_or(0),
        broken_by: None,
    }
}

fn broken_by(ran: &Ran) -> Option<String> {
    let written = "Test unit written to ";
    let line = ran.stderr.lines().find(|line| line.contains(written))?;
    line.split_once(written).map(|(_, path)| path.to_owned())
}

/// The panic, if there was one, and the end of what was said.
fn last_words(ran: &Ran) -> String {
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let from = panic.unwrap_or_else(|| lines.len().saturating_sub(40));
    let upto = lines.len().min(from + 40);
    lines[from..upto].join("\n")
}

/// The smallest set of inputs that reaches what all of them reach, as far as there is room for it. Inputs with a name of
/// their own stay.
fn keep(repo: &Repo, target: &str) -> Result<()> {
    let best = repo.root.join(".build/fuzz/best").join(target);
    if best.exists() {
        fs::remove_dir_all(&best)?;
    }
    let best = folder(&best)?;
    let mut command = cargo_fuzz(repo, "run");
    command.arg(target).arg(&best).arg(seeds(repo, target));
    command.arg(repo.root.join(".build/fuzz/corpus").join(target));
    command.args([
        "--",
        "-set_cover_merge=1",
        &format!("-max_len={KEPT_BYTES}"),
    ]);
    bounded::succeed(&mut command, BUILD_LIMIT)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&best)? {
        let entry = entry?;
        files.push((entry.metadata()?.len(), entry.path()));
    }
    // The long ones reach most.
    files.sort_unstable_by(|one, other| other.cmp(one));
    files.retain(|(length, _)| *length <= KEPT_BYTES);
    files.truncate(KEPT_FILES);
    for entry in fs::read_dir(seeds(repo, target))? {
        let path = entry?.path();
        if is_hash(&path) {
            fs::remove_file(path)?;
        }
    }
    for (_, path) in files {
        if let Some(name) = path.file_name().filter(|_| is_hash(&path)) {
            fs::copy(&path, seeds(repo, target).join(name))?;
        }
    }
    Ok(())
}

/// The fuzzer calls an input by the SHA-1 of its bytes.
fn is_hash(path: &Path) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn table(figures: &[Figures]) -> String {
    let mut table = format!(
        "{:<12}{:>12}{:>8}{:>10}{:>10}{:>9}  verdict\n",
        "target", "executions", "per s", "coverage", "features", "peak MB"
    );
    for row in figures {
        let _infallible = writeln!(
            table,
            "{:<12}{:>12}{:>8}{:>10}{:>10}{:>9}  {}",
            row.target,
            row.executions,
            row.per_second,
            row.coverage,
            row.features,
            row.peak_megabytes,
            row.broken_by.as_deref().unwrap_or("ok")
        );
    }
    table
}

fn json(figures: &[Figures]) -> serde_json::Value {
    let row = |row: &Figures| {
        serde_json::json!({
            "target": row.target,
            "executions": row.executions,
            "per_second": row.per_second,
            "coverage": row.coverage,
            "features": row.features,
            "peak_megabytes": row.peak_megabytes,
            "broken_by": row.broken_by,
        })
    };
    figures.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn figures_are_those_of_the_last_line() {
        let said = "INFO: seed corpus: files: 12\n\
            #2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 90Mb\n\
            #20430\tDONE   cov: 8261 ft: 23537 corp: 1051/273Kb lim: 400 exec/s: 135 rss: 434Mb\n\
            stat::number_of_executed_units: 20430\n\
            stat::peak_rss_mb:              440\n";
        let figures = read("service", said);
        assert_eq!((figures.executions, figures.per_second), (20_430, 135));
        assert_eq!((figures.coverage, figures.features), (8_261, 23_537));
        assert_eq!(figures.peak_megabytes, 440);
    }
}
