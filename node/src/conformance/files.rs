//! Reports as files: opened before anything is played, so that no verdict is lost to a wrong path.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use iscsi_conformance::Report;
use iscsi_conformance::report::{About, html, junit};
use tempfile::NamedTempFile;

use crate::args::ReportArgs;

/// The files that are to be written.
pub(super) struct Files {
    junit: Option<Begun>,
    html: Option<Begun>,
}

struct Begun {
    file: NamedTempFile,
    path: PathBuf,
}

impl Files {
    /// Begins every file that is asked for.
    pub(super) fn begin(args: &ReportArgs) -> Result<Self> {
        let files = Self {
            junit: args.junit.as_deref().map(Begun::at).transpose()?,
            html: args.html.as_deref().map(Begun::at).transpose()?,
        };
        if let (Some(junit), Some(html)) = (&files.junit, &files.html) {
            ensure!(
                junit.place()? != html.place()?,
                "--junit and --html are the same file, {}: give each its own",
                html.path.display()
            );
        }
        Ok(files)
    }

    /// Writes them, each whole or not at all.
    pub(super) fn write(self, about: &About, report: &Report) -> Result<()> {
        if let Some(begun) = self.junit {
            begun.end(&junit(about, report).context("cannot make JUnit XML")?)?;
        }
        if let Some(begun) = self.html {
            begun.end(&html(about, report))?;
        }
        Ok(())
    }
}

impl Begun {
    fn at(path: &Path) -> Result<Self> {
        ensure!(!path.is_dir(), "{} is a folder", path.display());
        let folder = folder(path);
        let file = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(folder)
            // The whole error names a file that nobody asked for.
            .map_err(|error| std::io::Error::from(error.kind()))
            .with_context(|| format!("cannot write to {}", path.display()))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// The same for every way in which the path may be written.
    fn place(&self) -> Result<(PathBuf, Option<&OsStr>)> {
        let folder = folder(&self.path).canonicalize();
        let folder = folder.with_context(|| format!("cannot write to {}", self.path.display()))?;
        Ok((folder, self.path.file_name()))
    }

    fn end(mut self, text: &str) -> Result<()> {
        let path = self.path;
        self.file
            .write_all(text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.file
            .persist(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }
}

/// The folder that a file is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
