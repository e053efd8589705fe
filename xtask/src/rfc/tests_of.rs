//! Which tests name which sections.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::repo::Repo;

/// A test that names a section in the comment above it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) file: String,
    pub(crate) name: String,
}

/// The tests by section.
pub(crate) fn collect(repo: &Repo, folders: &[&str]) -> Result<BTreeMap<String, Vec<Shown>>> {
    let mut files = Vec::new();
    for folder in folders {
        sources(&repo.root.join(folder), &mut files)?;
    }
    files.sort();
    let mut shown: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for path in files {
        let file = path.strip_prefix(&repo.root)?.display().to_string();
        for (name, comment) in tests_in(&fs::read_to_string(&path)?) {
            for section in sections_in(&comment) {
                let (file, name) = (file.clone(), name.clone());
                shown.entry(section).or_default().push(Shown { file, name });
            }
        }
    }
    Ok(shown)
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The name of each test, and the comment above it on one line.
fn tests_in(source: &str) -> Vec<(String, String)> {
    let (mut tests, mut comment, mut is_test) = (Vec::new(), String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            comment.push_str(words);
        } else if line.starts_with("#[") {
            is_test |= line.contains("test");
        } else {
            let name = line
                .strip_prefix("async fn ")
                .or_else(|| line.strip_prefix("fn "))
                .and_then(|rest| rest.split(['(', '<']).next());
            if let (Some(name), true) = (name, is_test) {
                tests.push((name.to_owned(), comment.clone()));
            }
            comment.clear();
            is_test = false;
        }
    }
    tests
}

/// The sections of RFC 7143 that a comment names; those of other standards do not count.
fn sections_in(comment: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for part in comment.split("RFC 7143").skip(1) {
        let until = ["SPC-", "SBC-", "SAM-", "RFC "]
            .iter()
            .filter_map(|other| part.find(other))
            .min();
        let part = part.get(..until.unwrap_or(part.len())).unwrap_or(part);
        let marked = part.split('§').skip(1).map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest)
        });
        let appendix = part
            .split("ppendix ")
            .skip(1)
            .filter_map(|rest| rest.get(..1));
        for section in marked.chain(appendix) {
            let section = section.trim_matches('.').to_owned();
            if !section.is_empty() && !sections.contains(&section) {
                sections.push(section);
            }
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::{sections_in, tests_in};

    #[test]
    fn sections_are_those_of_the_named_standard() {
        let comment = " Answers in order (RFC 7143 §11.8, §4.2.2.4 and appendix C; SPC-4 §6.4.1). RFC 7143 §A.4.";
        assert_eq!(sections_in(comment), ["11.8", "4.2.2.4", "C", "A.4"]);
        assert!(sections_in("SPC-4 §6.1, RFC 1982 §3").is_empty());
    }

    #[test]
    fn a_comment_belongs_to_the_test_below_it() {
        let source = "/// One\n/// more.\n#[tokio::test]\nasync fn a() {\n}\n/// No test.\nfn b() {}\n#[test]\nfn c() {}\n";
        let tests = tests_in(source);
        assert_eq!(
            tests,
            [
                ("a".to_owned(), " One more.".to_owned()),
                ("c".to_owned(), String::new())
            ]
        );
    }
}
