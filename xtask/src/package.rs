//! `cargo xtask package`: are the libraries whole without this tree? What `cargo package` makes of them is unpacked
//! elsewhere, told where its neighbours lie, built and tested there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bounded;
use crate::repo::Repo;
use crate::tally::Tally;
use crate::unit::cargo_test;

/// The libraries that others may build on, each after those that it needs.
const LIBRARIES: [&str; 4] = [
    "iscsi-proto",
    "vmthunder-volume",
    "iscsi-target",
    "iscsi-initiator",
];

/// What a package needs to be found and used by strangers.
const FIELDS: [&str; 4] = ["description", "license", "rust_version", "readme"];

/// Packing takes a second; the registry's index may have to be asked.
const PACK_LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn run(repo: &Repo) -> Result<Tally> {
    let metadata = repo.metadata()?;
    let packages = metadata["packages"].as_array();
    for package in packages.into_iter().flatten() {
        check_fields(package)?;
    }
    let build = metadata["target_directory"].as_str();
    let build = PathBuf::from(build.context("cargo names its folder")?);
    let mut pack = repo.cargo(["package", "--quiet", "--no-verify", "--allow-dirty"]);
    name_libraries(&mut pack);
    bounded::succeed(&mut pack, PACK_LIMIT)?;

    let elsewhere = tempfile::tempdir()?;
    let folders = LIBRARIES.map(|library| unpack(&metadata, &build, elsewhere.path(), library));
    let folders: Vec<String> = folders.into_iter().collect::<Result<_>>()?;
    write_workspace(repo, elsewhere.path(), &folders)?;
    let mut test = repo.cargo(["test", "--quiet", "--no-fail-fast"]);
    name_libraries(&mut test);
    // The fuzzers' corpus stays in the tree.
    test.args(["--", "--skip", "fuzzing::"])
        .current_dir(elsewhere.path())
        .env("CARGO_TARGET_DIR", build.join("package/build"));
    cargo_test(&mut test)
}

fn name_libraries(command: &mut Command) {
    for library in LIBRARIES {
        command.args(["--package", library]);
    }
}

fn check_fields(package: &Value) -> Result<()> {
    let name = package["name"].as_str().unwrap_or_default();
    if !LIBRARIES.contains(&name) {
        return Ok(());
    }
    for field in FIELDS {
        ensure!(
            package[field].is_string(),
            "{name}: Cargo.toml names no {field}"
        );
    }
    for field in ["keywords", "categories"] {
        let named = package[field]
            .as_array()
            .is_some_and(|words| !words.is_empty());
        ensure!(named, "{name}: Cargo.toml names no {field}");
    }
    Ok(())
}

/// The folder, within `elsewhere`, that a library lies in.
fn unpack(metadata: &Value, build: &Path, elsewhere: &Path, library: &str) -> Result<String> {
    let packages = metadata["packages"].as_array();
    let version = packages
        .into_iter()
        .flatten()
        .find(|package| package["name"] == library)
        .and_then(|package| package["version"].as_str())
        .with_context(|| format!("cargo knows no {library}"))?;
    let folder = format!("{library}-{version}");
    let mut tar = Command::new("tar");
    tar.arg("xzf")
        .arg(build.join(format!("package/{folder}.crate")))
        .current_dir(elsewhere);
    bounded::succeed(&mut tar, PACK_LIMIT)?;
    Ok(folder)
}

/// A workspace of what was unpacked, in which each package finds the others as if they had been published.
fn write_workspace(repo: &Repo, elsewhere: &Path, folders: &[String]) -> Result<()> {
    let mut manifest =
        format!("[workspace]\nresolver = \"3\"\nmembers = {folders:?}\n\n[patch.crates-io]\n");
    for (library, folder) in LIBRARIES.iter().zip(folders) {
        manifest += &format!("{library} = {{ path = {folder:?} }}\n");
    }
    fs::write(elsewhere.join("Cargo.toml"), manifest)?;
    fs::copy(repo.root.join("Cargo.lock"), elsewhere.join("Cargo.lock"))?;
    Ok(())
}
