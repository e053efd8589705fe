//! Files that nobody else may read: what `vmthunder` demands of secrets.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Result;

/// Writes a file that only its owner may read.
pub(crate) fn private_file(path: &Path, text: &str) -> Result<()> {
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
