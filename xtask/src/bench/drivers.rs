//! Those who drive: each does the work once, and what was read or written is compared.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Room;
use super::case::{Driver, Load, Turn, Work};
use super::cpu::{self, Ran, Watch};
use super::disk;
use super::servers::Open;
use crate::script::Script;

/// How long a generator may take beyond the time that it was told.
const LIMIT: Duration = Duration::from_secs(120);
/// Reads of `vmthunder iscsi bench` that it compares itself, after the measurement.
const VERIFIED: &str = "20000";

/// One turn of a driver against a server that is open; `number` tells the turns of a side apart.
pub(super) fn drive(
    room: &Room,
    driver: Driver,
    work: Work,
    open: &Open<'_>,
    number: u8,
) -> Result<Turn> {
    match (driver, work) {
        (Driver::Libiscsi, Work::Load(load)) => libiscsi(room, load, open, number),
        (Driver::Bench, Work::Load(load)) => bench(room, load, open),
        (Driver::IscsiPerf, Work::Load(load)) => iscsi_perf(room, load, open),
        (Driver::Copy, Work::Copy(_)) => {
            let mut command = Command::new(&room.vmthunder);
            command.args(["iscsi", "copy", &open.url, "--json"]);
            copy(room, &mut command, open)
        }
        (Driver::QemuImg(options), Work::Copy(_)) => {
            let mut command = Command::new("qemu-img");
            command.args(["convert", "-f", "raw", "-O", "raw"]);
            copy(room, command.args(options).arg(&open.url), open)
        }
        (driver, work) => anyhow::bail!("{driver:?} cannot do {work:?}"),
    }
}

/// lab/load with the work of this load.
fn generator(room: &Room, load: Load, open: &Open<'_>, key: u8) -> Result<Script> {
    let mut command = Command::new(&room.load);
    command.arg(&open.url).args([
        "--depth".to_owned(),
        load.depth.to_string(),
        "--block".to_owned(),
        load.block.to_string(),
        "--reads".to_owned(),
        load.reads.to_string(),
        "--span".to_owned(),
        room.span.to_string(),
        "--key".to_owned(),
        key.to_string(),
    ]);
    if load.sequential {
        command.arg("--sequential");
    }
    if open.is_sparse {
        command.arg("--sparse");
    }
    let script = Script::spawn(&mut command).context("lab/load")?;
    let ready = script.line(LIMIT)?;
    ensure!(ready["ready"] == 1, "lab/load said {ready}");
    Ok(script)
}

/// Fails unless every byte of the span is what it should be.
fn check(room: &Room, script: &mut Script) -> Result<()> {
    let answer = script.ask("check", LIMIT)?;
    ensure!(
        answer["wrong"] == 0 && answer["checked_bytes"] == room.span,
        "bytes are not what they should be: {answer}"
    );
    Ok(())
}

fn libiscsi(room: &Room, load: Load, open: &Open<'_>, key: u8) -> Result<Turn> {
    let mut script = generator(room, load, open, key)?;
    if open.is_written_first {
        script.ask("fill", LIMIT)?;
    }
    let watch = Watch::begin(&open.pids)?;
    let before = cpu::used(script.pid())?;
    let order = format!("run {}", room.seconds);
    let answer = script.ask(&order, LIMIT)?;
    let driver_cpu = cpu::used(script.pid())? - before;
    let usage = watch.end(driver_cpu)?;
    ensure!(answer["wrong"] == 0, "wrong bytes under load: {answer}");
    open.after_load()?;
    check(room, &mut script)?;
    script.finish(LIMIT)?;
    let figure = |name: &str| {
        answer[name]
            .as_u64()
            .with_context(|| format!("{name}: {answer}"))
    };
    Ok(Turn {
        seconds: seconds(&answer)?,
        ops: figure("ops")?,
        bytes: figure("bytes")?,
        server_cpu: usage.server_cpu,
        driver_cpu,
        half_within: answer["p50_us"].as_f64(),
        others: usage.others,
    })
}

fn seconds(answer: &Value) -> Result<f64> {
    answer["seconds"]
        .as_f64()
        .with_context(|| format!("seconds: {answer}"))
}

/// Reads the whole span with lab/load after somebody else's turn, who compares nothing.
fn check_alone(room: &Room, open: &Open<'_>) -> Result<()> {
    let load = Load {
        reads: 100,
        sequential: true,
        block: 1 << 20,
        depth: 4,
    };
    let mut script = generator(room, load, open, 0)?;
    check(room, &mut script)?;
    script.finish(LIMIT)?;
    Ok(())
}

/// A generator that runs from its login to its logout.
fn whole(open: &Open<'_>, command: &mut Command) -> Result<(Ran, Turn)> {
    let watch = Watch::begin(&open.pids)?;
    let ran = cpu::run(command, LIMIT)?;
    let usage = watch.end(ran.cpu)?;
    let turn = Turn {
        seconds: ran.seconds,
        server_cpu: usage.server_cpu,
        driver_cpu: ran.cpu,
        others: usage.others,
        ..Turn::default()
    };
    Ok((ran, turn))
}

fn bench(room: &Room, load: Load, open: &Open<'_>) -> Result<Turn> {
    ensure!(load.reads == 100, "`iscsi bench` is for reads here");
    let command = || {
        let mut command = Command::new(&room.vmthunder);
        command.args(["iscsi", "bench", &open.url, "--json", "--warm-up", "0"]);
        command.args([
            "--depth".to_owned(),
            load.depth.to_string(),
            "--block".to_owned(),
            load.block.to_string(),
            "--span".to_owned(),
            room.span.to_string(),
            "--seconds".to_owned(),
            room.seconds.to_string(),
        ]);
        command.args([
            "--pattern",
            if load.sequential {
                "sequential"
            } else {
                "random"
            },
        ]);
        command
    };
    let (ran, mut turn) = whole(open, &mut command())?;
    let answer: Value = serde_json::from_str(&ran.stdout)?;
    turn.seconds = seconds(&answer)?;
    turn.ops = answer["ops"].as_u64().with_context(|| ran.stdout.clone())?;
    turn.bytes = turn.ops * u64::from(load.block);
    turn.half_within = answer["reads"]["latency_us"]["p50"].as_f64();
    open.after_load()?;
    let verified = cpu::run(command().args(["--verify", "--ops", VERIFIED]), LIMIT)?;
    let verified: Value = serde_json::from_str(&verified.stdout)?;
    ensure!(
        verified["verified"] == true && verified["wrong_reads"] == 0,
        "`iscsi bench` read wrong bytes: {verified}"
    );
    check_alone(room, open)?;
    Ok(turn)
}

fn iscsi_perf(room: &Room, load: Load, open: &Open<'_>) -> Result<Turn> {
    ensure!(load.reads == 100, "iscsi-perf only reads");
    let seconds = room.seconds.ceil();
    let mut command = Command::new("iscsi-perf");
    command.args([
        "-m".to_owned(),
        load.depth.to_string(),
        "-b".to_owned(),
        (load.block / 512).to_string(),
        "-t".to_owned(),
        seconds.to_string(),
    ]);
    if !load.sequential {
        command.arg("-r");
    }
    let (ran, mut turn) = whole(open, command.arg(&open.url))?;
    let iops = average(&ran.stdout).with_context(|| format!("iscsi-perf said {:?}", ran.stdout))?;
    turn.seconds = seconds;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some hundred thousand"
    )]
    let ops = (iops * seconds) as u64;
    turn.ops = ops;
    turn.bytes = ops * u64::from(load.block);
    open.after_load()?;
    check_alone(room, open)?;
    Ok(turn)
}

/// The last `iops average N` that iscsi-perf printed.
fn average(said: &str) -> Option<f64> {
    let (_, behind) = said.rsplit_once("iops average ")?;
    behind.split_whitespace().next()?.parse().ok()
}

/// Copies into a file, which is compared and removed.
fn copy(room: &Room, command: &mut Command, open: &Open<'_>) -> Result<Turn> {
    let copied = room.folder.path().join("copied.raw");
    if copied.exists() {
        fs::remove_file(&copied)?;
    }
    let (_, mut turn) = whole(open, command.arg(&copied))?;
    turn.ops = 1;
    turn.bytes = size(&open.file)?;
    disk::compare(&open.file, &copied)?;
    fs::remove_file(&copied)?;
    Ok(turn)
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)
        .with_context(|| path.display().to_string())?
        .len())
}

#[cfg(test)]
mod tests {
    use super::average;

    #[test]
    fn the_last_average_of_iscsi_perf_is_taken() {
        let said = "\rlba 1, iops current 9 (0 MB/s), iops average 51688 (201 MB/s), in_flight 32  \
                    \riops average 49820 (194 MB/s)      \n\nfinished.\n";
        assert_eq!(average(said), Some(49820.0));
        assert_eq!(average("finished."), None);
    }
}
