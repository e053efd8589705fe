//! House rules that no compiler checks: sizes, names, known files. What clippy can check is left to clippy.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of code that a file may have before its tests.
const FILE_LINES: usize = 600;
/// Words that say nothing, as part of the name of a type or a file.
const BANNED: &[&str] = &[
    "manager", "helper", "util", "utils", "handler", "context", "data", "info", "process",
];
/// RFC 7143's own terms begin with a banned word.
const AFTER_DATA: &[&str] = &["in", "out", "segment", "digest", "sn", "pdu"];
/// Terms of the SCSI standards end with one.
const BEFORE_DATA: &[&str] = &["sense", "defect", "parameter"];
/// All that may lie in the root.
const ROOT: &[&str] = &[
    ".cargo",
    ".ci",
    ".config",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "cache",
    "clippy.toml",
    "conformance",
    "deny.toml",
    "docs",
    "fuzz",
    "initiator",
    "iscsi-proto",
    "lab",
    "node",
    "origin",
    "rustfmt.toml",
    "sim",
    "swarm",
    "target",
    "volume",
    "xtask",
];

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// The tests of the module beside it.
    fn is_tests(&self) -> bool {
        self.path
            .file_stem()
            .is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
    }

    fn is_rust(&self) -> bool {
        self.path
            .extension()
            .is_some_and(|extension| extension == "rs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root")
        .to_owned()
}

/// Every text file that git knows, or would know after `git add`.
fn files() -> Vec<File> {
    let root = root();
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output()
        .expect("git runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .split_terminator('\0')
        .filter_map(|path| {
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            Some(File {
                path: path.into(),
                text,
            })
        })
        .collect()
}

/// Fails with all the findings at once.
fn none(what: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

#[test]
fn files_are_short() {
    let long = files()
        .into_iter()
        .filter(File::is_rust)
        .filter_map(|file| {
            let lines = file
                .text
                .lines()
                .map(str::trim)
                .take_while(|line| *line != "#[cfg(test)]");
            let code = lines
                .filter(|line| !line.is_empty() && !line.starts_with("//"))
                .count();
            (code > FILE_LINES).then(|| format!("{}: {code}", file.path.display()))
        });
    none("over 600 lines of code: split by noun", long.collect());
}

#[test]
fn lints_reach_every_crate() {
    let files = files();
    let manifests = files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml") && file.text.contains("[package]"));
    let missing = manifests
        .filter(|file| {
            // A workspace of its own has no lints to take over.
            !file.text.contains("[workspace]\n") && !file.text.contains("[lints]\nworkspace = true")
        })
        .map(|file| file.path.display().to_string());
    none("without `[lints] workspace = true`", missing.collect());
    let thresholds = files
        .iter()
        .filter(|file| file.path.ends_with("clippy.toml"));
    let loose = thresholds
        .filter(|file| !file.text.contains("too-many-lines-threshold = 70\n"))
        .map(|file| file.path.display().to_string());
    none("functions longer than 70 lines would pass", loose.collect());
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("dbg", "!("),
    ];
    let found = files()
        .into_iter()
        .filter(|file| !file.path.ends_with("Cargo.toml"))
        .flat_map(|file| {
            let lines = file
                .text
                .lines()
                .enumerate()
                .filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
            lines
                .map(|(at, line)| format!("{}:{}: {}", file.path.display(), at + 1, line.trim()))
                .collect::<Vec<_>>()
        });
    none("left for later", found.collect());
}

#[test]
fn names_say_something() {
    let mut found = Vec::new();
    for file in files().into_iter().filter(File::is_rust) {
        let stem = file
            .path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if is_banned(&stem.split('_').map(str::to_owned).collect::<Vec<_>>()) {
            found.push(format!("file {}", file.path.display()));
        }
        for name in file.text.lines().filter_map(type_name) {
            if is_banned(&camel_words(name)) {
                found.push(format!("{}: {name}", file.path.display()));
            }
        }
    }
    none("names with a word that says nothing", found);
}

/// The name that a line such as `pub(crate) struct Name<T> {` introduces.
fn type_name(line: &str) -> Option<&str> {
    let mut words = line
        .trim_start()
        .split(' ')
        .skip_while(|word| word.starts_with("pub"));
    let keyword = words.next()?;
    let name = words
        .next()
        .filter(|_| ["struct", "enum", "trait", "type", "union"].contains(&keyword))?;
    name.split(|c: char| !c.is_alphanumeric()).next()
}

fn camel_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for letter in name.chars() {
        if letter.is_uppercase() || words.is_empty() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

fn is_banned(words: &[String]) -> bool {
    words.iter().enumerate().any(|(at, word)| {
        let next = words.get(at + 1).map(String::as_str);
        let before = at.checked_sub(1).map(|before| words[before].as_str());
        let term = word == "data"
            && (next.is_some_and(|next| AFTER_DATA.contains(&next))
                || before.is_some_and(|before| BEFORE_DATA.contains(&before)));
        BANNED.contains(&word.as_str()) && !term
    })
}

#[test]
fn banned_words_are_told_from_terms() {
    let banned = |name: &str| is_banned(&camel_words(name));
    assert!(banned("SessionManager") && banned("UserData") && banned("DataBlob"));
    assert!(
        !banned("DataIn")
            && !banned("SenseData")
            && !banned("ScsiDataOut")
            && !banned("Database")
            && !banned("Information")
    );
}

#[test]
fn every_module_says_what_it_is() {
    let mute = files()
        .into_iter()
        .filter(|file| file.is_rust() && !file.is_tests() && !file.text.starts_with("//! "))
        .map(|file| file.path.display().to_string());
    none("without a `//!` sentence at the top", mute.collect());
}

#[test]
fn every_crate_is_on_the_map() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let missing = files()
        .into_iter()
        .filter(|file| file.path.ends_with("Cargo.toml"))
        .filter_map(|file| {
            let folder = file
                .path
                .parent()?
                .to_str()
                .filter(|folder| !folder.is_empty())?
                .to_owned();
            (!map
                .lines()
                .any(|line| line.contains(&format!("`{folder}`")) && line.contains("**Invariant")))
            .then_some(folder)
        });
    none(
        "no line with an **Invariant** in ARCHITECTURE.md",
        missing.collect(),
    );
}

/// What the folder of iscsi-target holds.
const OF_THE_TARGET: [&str; 5] = ["Cargo.toml", "README.md", "src", "tests", "examples"];

#[test]
fn folders_hold_what_they_should() {
    let mut strangers = Vec::new();
    for file in files() {
        let mut parts = file.path.iter().map(|part| part.to_string_lossy());
        let first = parts.next().unwrap_or_default();
        let second = parts.next().unwrap_or_default();
        // Cargo's build output would land in `target` if it were called from outside of the tree.
        let build_output = first == "target" && !OF_THE_TARGET.contains(&&*second);
        if !ROOT.contains(&&*first) || build_output {
            strangers.push(file.path.display().to_string());
        }
    }
    none("not a known place", strangers);
    for entry in std::fs::read_dir(root().join("target"))
        .expect("the folder of iscsi-target")
        .flatten()
    {
        let name = entry.file_name();
        assert!(
            OF_THE_TARGET.iter().any(|known| name == *known),
            "target/{} is not part of iscsi-target: was cargo called from outside of the tree?",
            name.display()
        );
    }
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let places = [
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
    ];
    let is_start =
        |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || "}._-*]".contains(c));
    let found = files().into_iter().flat_map(|file| {
        let named = |line: &str| {
            places.iter().any(|place| {
                line.match_indices(place)
                    .any(|(at, _)| is_start(&line[..at]))
            })
        };
        let lines = file
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| named(line));
        lines
            .map(|(at, line)| format!("{}:{}: {}", file.path.display(), at + 1, line.trim()))
            .collect::<Vec<_>>()
    });
    none("paths of a machine", found.collect());
}
