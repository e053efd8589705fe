//! Step `packages`: the foreign programs that judge this one, from Debian's packages.
//!
//! As root they are installed; otherwise the line to type is printed. Nothing under `/etc` is changed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::apt_sources;
use crate::bounded;
use crate::repo::Repo;
use crate::step::Step;
use crate::tally::Tally;

pub(crate) const STEP: Step = Step {
    name: "packages",
    question: "are the foreign programs here that judge this one?",
    run,
};

/// What is installed besides QEMU's pair.
const PLAIN: &[&str] = &["tgt", "libiscsi-bin", "etcd-server", "openssl"];
/// QEMU's tools and its iSCSI driver refuse each other unless they are of one build.
const QEMU: [&str; 2] = ["qemu-utils", "qemu-block-extra"];
/// A mirror may be slow.
const LIMIT: Duration = Duration::from_secs(600);

fn run(_repo: &Repo) -> Result<Tally> {
    let missing = missing();
    if missing.is_empty() {
        println!("installed: {} {}", PLAIN.join(" "), QEMU.join(" "));
        return Ok(Tally::default());
    }
    let line = format!(
        "apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    let outcome = if rustix::process::geteuid().is_root() {
        install(&missing).with_context(|| format!("tried {line}"))
    } else {
        Err(anyhow::anyhow!(
            "not root, so nothing was installed; type: sudo {line}"
        ))
    };
    match outcome {
        Ok(()) => Ok(Tally::default()),
        Err(error) if is_ci() => Err(error),
        Err(error) => {
            println!(
                "MISSING {}: the foreign checks that need them will be skipped.\n{error:#}",
                missing.join(" ")
            );
            Ok(Tally::default())
        }
    }
}

/// True where a missing program is a failure rather than a skip.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true" || ci == "1")
}

fn missing() -> Vec<String> {
    let missing = |name: &&str| installed(name).is_none();
    let mut list: Vec<String> = PLAIN
        .iter()
        .copied()
        .filter(missing)
        .map(str::to_owned)
        .collect();
    match (installed(QEMU[0]), installed(QEMU[1])) {
        (Some(tools), Some(driver)) if tools == driver => {}
        (Some(tools), _) => list.push(format!("{}={tools}", QEMU[1])),
        (None, _) => list.extend(QEMU.map(str::to_owned)),
    }
    list
}

/// The installed version of a Debian package.
pub(crate) fn installed(name: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args([
        "--show",
        "--showformat",
        "${db:Status-Status} ${Version}",
        name,
    ]);
    let finished = bounded::succeed(&mut query, Duration::from_secs(30)).ok()?;
    finished
        .text()
        .strip_prefix("installed ")
        .map(str::to_owned)
}

fn install(packages: &[String]) -> Result<()> {
    let attempt = apt(None, &["update"]).and_then(|()| install_from(None, packages));
    let Err(first) = attempt else { return Ok(()) };
    // A QEMU of the backports suite has its driver in the same suite, which apt may not know yet.
    let is_backport = packages.iter().any(|package| package.contains("~bpo"));
    if !is_backport {
        return Err(first);
    }
    println!("{first:#}\nnot there; looking in the backports suite of the same mirror");
    let folder = tempfile::tempdir()?;
    let codename = codename().context("/etc/os-release names no suite")?;
    apt_sources::with_backports(Path::new("/etc/apt"), &codename, folder.path())?;
    let parts = Some(folder.path());
    apt(parts, &["update"])?;
    let exact = install_from(parts, packages);
    let Err(error) = exact else { return Ok(()) };
    println!(
        "{error:#}\nthe very version is gone from the mirror; taking both from the suite as it is now"
    );
    let suite = format!("{codename}-backports");
    let names: Vec<&str> = packages
        .iter()
        .filter_map(|package| package.split('=').next())
        .collect();
    let args = [
        &[
            "install",
            "-y",
            "--no-install-recommends",
            "-t",
            &suite,
            QEMU[0],
        ],
        &names[..],
    ]
    .concat();
    apt(parts, &args)
}

fn install_from(parts: Option<&Path>, packages: &[String]) -> Result<()> {
    let names = packages.iter().map(String::as_str);
    let args: Vec<&str> = ["install", "-y", "--no-install-recommends"]
        .into_iter()
        .chain(names)
        .collect();
    apt(parts, &args)
}

/// Runs apt-get, with the sources in `parts` instead of the machine's own if given.
fn apt(parts: Option<&Path>, args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
    if let Some(parts) = parts {
        command.arg("-o").arg("Dir::Etc::SourceList=/dev/null");
        command
            .arg("-o")
            .arg(format!("Dir::Etc::SourceParts={}", parts.display()));
        command.arg("-o").arg("APT::Get::List-Cleanup=0");
    }
    bounded::show(command.args(args), LIMIT)
}

fn codename() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(str::to_owned)
}

/// Where a program lies, or an error that names it.
pub(crate) fn program(name: &str) -> Result<()> {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
            || ["/usr/sbin", "/sbin"]
                .iter()
                .any(|folder| Path::new(folder).join(name).is_file())
    });
    if !found {
        bail!("{name} is not installed");
    }
    Ok(())
}
