//! `cargo xtask lab kernel`: the Linux kernel's initiator, in a QEMU guest, against our target or tgt.

mod servers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::bounded;
use crate::lab::Program;
use crate::lab::capture::{Decoded, Recorder};
use crate::lab::kernel::servers::{Bench, Ending, Ours, Theirs};
use crate::packages;
use crate::repo::Repo;
use crate::tally::Tally;

/// An emulated guest on a busy machine.
const LIMIT: Duration = Duration::from_secs(1200);
/// What tgt 1.0.85 lacks, as its own refusals say.
const TGT_LACKS: &[&str] = &[
    "vpd-86-extended-inquiry",
    "vpd-83-identification",
    "log-sense",
    "supported-opcode-bitmap",
    "supported-task-management",
    "port-groups",
    "write-same-16-no-data",
    "compare-and-write",
    "compare-and-write-miscompare",
    "extended-copy",
    "receive-copy-results",
    "reservations-preempt-abort",
    "reservations-full-status",
    "reservations-register-move",
    "reservations-through-power-loss",
    "resize-and-rescan",
    "chap-sha1",
    "chap-sha256",
    "chap-sha3-256",
    "chap-of-several",
    "chap-mutual-sha256",
];

/// Whom to ask, and what.
#[derive(Args)]
pub(crate) struct KernelArgs {
    /// Groups of steps: identity, data, thin, atomic, reservations, reset, sessions, resize, restart, multipath, chap,
    /// luns. Without any all of them.
    groups: Vec<String>,
    /// Whose target.
    #[arg(long, value_enum, default_value_t = Peer::Vmthunder)]
    peer: Peer,
    /// Steps to leave out, which then count as skipped.
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    without: Vec<String>,
    /// Print one JSON object on standard output, and what happens on standard error.
    #[arg(long)]
    json: bool,
    /// Capture what is said, as root, keep it in this file and let Wireshark decode it.
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// Keep the guest's console in this file.
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    #[command(flatten)]
    program: Program,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Peer {
    Vmthunder,
    Tgt,
}

pub(crate) fn run(repo: &Repo, args: &KernelArgs) -> Result<Tally> {
    packages::program("qemu-system-x86_64").context("see lab/README.md, Packages")?;
    let folder = tempfile::Builder::new()
        .prefix("vmthunder-kernel.")
        .tempdir()?;
    let mut bench: Box<dyn Bench> = match args.peer {
        Peer::Vmthunder => Box::new(Ours::start(args.program.build(repo)?, folder)?),
        Peer::Tgt => Box::new(Theirs::start(folder)?),
    };
    let groups = match args.groups.as_slice() {
        [] => "all".to_owned(),
        groups => groups.join(","),
    };
    let mut without = args.without.clone();
    if args.peer == Peer::Tgt {
        without.extend(TGT_LACKS.iter().map(|&step| step.to_owned()));
    }
    let mut guest = repo.command("lab/vm/kernel-initiator-test");
    let answers = tempfile::tempdir()?;
    bench.tell(&mut guest);
    guest.arg(groups).env("WITHOUT", without.join(","));
    guest
        .env("ANSWERS", answers.path())
        .env("TIMEOUT", (LIMIT.as_secs() - 30).to_string());
    if let Some(console) = &args.console {
        guest.env("LOG", std::path::absolute(console)?);
    }
    let recorder = args
        .capture
        .as_ref()
        .map(|file| Recorder::start(answers.path(), file, &bench.ports()?))
        .transpose()?;
    let mut verdict = None;
    bounded::lines(&mut guest, LIMIT, |line| {
        if line.starts_with('{') {
            verdict = serde_json::from_str::<Value>(line).ok();
        } else if args.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
        if let Some(call) = line.strip_prefix("HOSTCALL: ")
            && let Err(error) = answer(bench.as_mut(), answers.path(), call)
        {
            eprintln!("{call}: {error:#}");
        }
    })?;
    let verdict = verdict.context("the guest's script printed no verdict")?;
    let ports = bench.ports()?;
    bench.stop()?;
    let mut tally = sum_up(args, &verdict)?;
    if let (Some(recorder), Some(file)) = (recorder, &args.capture) {
        recorder.stop()?;
        tally += Decoded::read(file, &ports)?.report(args.json, false)?;
    }
    Ok(tally)
}

fn sum_up(args: &KernelArgs, verdict: &Value) -> Result<Tally> {
    if args.json {
        println!("{verdict}");
    }
    ensure!(verdict["verdict"] != "none", "no verdict: {verdict}");
    let passed = verdict["passed"].as_u64().unwrap_or(0);
    let names = |key: &str| -> Vec<String> {
        let list = verdict[key].as_array().into_iter().flatten();
        list.filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    };
    let (failed, skipped) = (names("failed"), names("skipped"));
    if !args.json {
        let seconds = &verdict["seconds"];
        println!(
            "steps: {passed} ok, {} failed, {} skipped, {seconds} s",
            failed.len(),
            skipped.len()
        );
        for (word, names) in [("FAILED", &failed), ("skipped", &skipped)] {
            if !names.is_empty() {
                println!("{word}: {}", names.join(" "));
            }
        }
    }
    Ok(Tally {
        passed: u32::try_from(passed)?,
        failed: u32::try_from(failed.len())?,
    })
}

/// Does what the guest asks for, and writes the answer that it waits for: an exit code, and lines.
fn answer(bench: &mut dyn Bench, answers: &Path, call: &str) -> Result<()> {
    let (number, what) = call.split_once(' ').context("a number and a word")?;
    let outcome = match what {
        "allocated" => bench.allocated().map(|bytes| bytes.to_string()),
        "resize" => bench.resize().map(|()| "done".to_owned()),
        "restart" => bench.restart(Ending::Asked).map(|()| "done".to_owned()),
        "crash" => bench.restart(Ending::Killed).map(|()| "done".to_owned()),
        other => bail!("{other} is not known here"),
    };
    let text = match outcome {
        Ok(text) => format!("0\n{text}\n"),
        Err(error) => format!("1\n{error:#}\n"),
    };
    let new = answers.join("answer.new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, answers.join(format!("answer-{number}")))?)
}
