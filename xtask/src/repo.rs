//! Where the repository is and how cargo is called in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The working tree that this program belongs to.
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
}

impl Repo {
    /// The tree that `cargo xtask` was called in.
    pub(crate) fn find() -> Result<Self> {
        let manifest_dir =
            std::env::var_os("CARGO_MANIFEST_DIR").context("start this as `cargo xtask`")?;
        let root = Path::new(&manifest_dir)
            .parent()
            .context("xtask lies in a folder of the repository")?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// A command that runs in the root of the tree.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// The cargo that started this program, in the root of the tree.
    pub(crate) fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.command(cargo);
        command.args(args);
        command
    }

    /// What cargo says about the packages of this workspace.
    pub(crate) fn metadata(&self) -> Result<Value> {
        let output = self
            .cargo(["metadata", "--no-deps", "--format-version", "1"])
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
