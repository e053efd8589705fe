//! A node's folder belongs to one node at a time, wherever its control socket went and whoever else can mount the folder.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The folder is this node's until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    _locked: File,
}

impl Claim {
    /// Claims a folder for the node of this name, or says whose it is.
    pub(crate) fn of(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(LOCK);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(&path);
        let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => bail!(
                "{} is in use by {}: end that one, or give this one a folder of its own by `data`",
                folder.display(),
                owner(&file)
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_string_lossy();
        let owner = format!("node {name}, process {} on {machine}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(owner.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { _locked: file })
    }
}

/// Who wrote itself into the file. It may not have done so yet, and others could have written anything.
fn owner(file: &File) -> String {
    let mut text = Vec::new();
    let read = file.take(MOST_OWNER_BYTES).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let line: String = text
        .trim()
        .chars()
        .take_while(|c| !c.is_control())
        .collect();
    match read {
        Ok(_) if !line.is_empty() => line,
        _ => "another node".to_owned(),
    }
}

/// The file in the folder; it stays when the node ends, since a lock on a removed file keeps nobody out.
const LOCK: &str = "lock";
/// The longest line that is read.
const MOST_OWNER_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::{Claim, LOCK};

    #[test]
    fn a_folder_has_one_owner_who_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let claim = Claim::of(folder.path(), "one").unwrap();
        let said = Claim::of(folder.path(), "two").unwrap_err().to_string();
        let owner = format!("is in use by node one, process {} on ", std::process::id());
        assert!(said.contains(&owner), "{said}");
        drop(claim);
        let claim = Claim::of(folder.path(), "two").unwrap();
        // Whoever writes there without having the lock fools nobody into more than a strange name.
        std::fs::write(folder.path().join(LOCK), "\u{1b}[2J").unwrap();
        let said = Claim::of(folder.path(), "one").unwrap_err().to_string();
        assert!(said.contains("is in use by another node:"), "{said}");
        drop(claim);
    }
}
