//! Instances that are made together: all of them or none, whenever the node dies.
//!
//! Their folders are made under names that do not count. Then their names are listed in a file, they are renamed, and
//! the file is removed; only then can a guest log in. A node that starts and finds such a list removes what is on it:
//! nobody was told of it, and nobody wrote to it.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tracing::{error, warn};

use super::{Instances, check_new, remove_all, sync_folder};
use crate::observe::causes;

/// The names of instances that are not to be; no instance's name begins with a dot.
const LIST: &str = ".not-created";
/// The longest list that is read: more than 1,000 of the longest names.
const MOST_LIST_BYTES: u64 = 128 * 1024;

impl Instances {
    /// Names what was begun: all are there when this returns, whatever happens to the machine, or none.
    pub(crate) fn finish(&self, names: &[String]) -> Result<()> {
        for name in names {
            let place = self.place(name);
            ensure!(!place.exists(), "{} is there already", place.display());
        }
        // One is renamed or is not.
        if names.len() > 1 {
            self.list_as_not_created(names)?;
        }
        for name in names {
            if let Err(error) = self.name(name) {
                self.undo(names);
                return Err(error);
            }
        }
        sync_folder(&self.folder)?;
        self.forget_list()
    }

    fn name(&self, name: &str) -> Result<()> {
        let place = self.place(name);
        std::fs::rename(self.begun(name), &place)
            .with_context(|| format!("cannot create {}", place.display()))
    }

    /// Throws away what was begun and not finished.
    pub(crate) fn abandon(&self, names: &[String]) {
        for name in names {
            if let Err(error) = remove_all(&self.begun(name)) {
                warn!("{error:#}");
            }
        }
    }

    /// Throws away what was finished, too.
    pub(crate) fn undo(&self, names: &[String]) {
        let undone = self
            .list_as_not_created(names)
            .and_then(|()| self.remove_listed(names));
        if let Err(error) = undone {
            warn!("{error:#}; the next start tries it again");
        }
    }

    /// Removes instances whose creation a death of the node cut short.
    pub(super) fn remove_not_created(&self) -> Result<()> {
        let path = self.list_place();
        let mut text = String::new();
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened
                .and_then(|file| file.take(MOST_LIST_BYTES).read_to_string(&mut text))
                .with_context(|| format!("cannot read {}", path.display()))?,
        };
        let names: Vec<String> = text.lines().map(str::to_owned).collect();
        // It was written whole: what is not a name was put there by others.
        if let Err(error) = names
            .iter()
            .try_for_each(|name| check_new("instance", name))
        {
            error!(
                "{} is damaged: {}; nothing is removed: look whether a creation was cut short, and remove that file",
                path.display(),
                causes(&error)
            );
            return Ok(());
        }
        self.remove_listed(&names)?;
        if let (Some(first), Some(last)) = (names.first(), names.last()) {
            warn!(
                "removed `{first}` to `{last}`: the node ended before all {} were made; create them again",
                names.len()
            );
        }
        Ok(())
    }

    fn remove_listed(&self, names: &[String]) -> Result<()> {
        for name in names {
            remove_all(&self.begun(name))?;
            remove_all(&self.place(name))?;
        }
        sync_folder(&self.folder)?;
        self.forget_list()
    }

    fn list_as_not_created(&self, names: &[String]) -> Result<()> {
        let (path, new) = (self.list_place(), self.place(&format!("{LIST}.new")));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(names.join("\n").as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        });
        written.with_context(|| format!("cannot write {}", path.display()))?;
        sync_folder(&self.folder)
    }

    fn forget_list(&self) -> Result<()> {
        let path = self.list_place();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        sync_folder(&self.folder)
    }

    fn list_place(&self) -> PathBuf {
        self.place(LIST)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Instances;

    /// A node's folder with an instance of before, and three that are begun.
    fn begun() -> (tempfile::TempDir, Instances, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let instances = Instances::open(folder.path().to_owned()).unwrap();
        describe(&folder.path().join("vm-0"));
        let names: Vec<String> = (1..=3).map(|number| format!("vm-{number}")).collect();
        for name in &names {
            describe(&instances.begun(name));
        }
        (folder, instances, names)
    }

    fn describe(place: &Path) {
        fs::create_dir(place).unwrap();
        fs::write(place.join("instance.toml"), "image = \"debian\"\n").unwrap();
        fs::create_dir(place.join("overlay")).unwrap();
    }

    /// What is there after the node started again.
    fn after_a_start(folder: &tempfile::TempDir) -> Vec<String> {
        Instances::open(folder.path().to_owned()).unwrap();
        let mut left: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        left
    }

    #[test]
    fn a_death_after_any_step_leaves_none_or_all() {
        let (folder, ..) = begun();
        assert_eq!(after_a_start(&folder), ["vm-0"], "before the list");
        for renamed in 0..=3 {
            let (folder, instances, names) = begun();
            instances.list_as_not_created(&names).unwrap();
            for name in &names[..renamed] {
                instances.name(name).unwrap();
            }
            assert_eq!(after_a_start(&folder), ["vm-0"], "{renamed} were renamed");
        }
        let (folder, instances, names) = begun();
        instances.finish(&names).unwrap();
        let all = ["vm-0", "vm-1", "vm-2", "vm-3"];
        assert_eq!(after_a_start(&folder), all);
        for removed in 0..=3 {
            let (folder, instances, names) = begun();
            instances.finish(&names).unwrap();
            instances.list_as_not_created(&names).unwrap();
            for name in &names[..removed] {
                fs::remove_dir_all(folder.path().join(name)).unwrap();
            }
            assert_eq!(after_a_start(&folder), ["vm-0"], "{removed} were removed");
        }
    }

    #[test]
    fn what_was_not_made_here_is_not_undone() {
        let (folder, instances, mut names) = begun();
        names.insert(1, "vm-0".to_owned());
        assert!(instances.finish(&names).is_err());
        instances.abandon(&names);
        assert_eq!(after_a_start(&folder), ["vm-0"]);
    }

    #[test]
    fn a_creation_that_fails_halfway_leaves_nothing() {
        let (folder, instances, mut names) = begun();
        names.insert(2, "never-begun".to_owned());
        assert!(instances.finish(&names).is_err());
        assert_eq!(after_a_start(&folder), ["vm-0"]);
    }

    #[test]
    fn a_list_that_others_wrote_removes_nothing() {
        let (folder, instances, _) = begun();
        fs::write(instances.list_place(), "vm-0\n../vm-0\n").unwrap();
        assert_eq!(after_a_start(&folder), [".not-created", "vm-0"]);
    }
}
