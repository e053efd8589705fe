//! The backports suite, derived from the sources that apt has: same mirror, same key, another suite.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

/// Copies apt's sources from `etc` into `folder` and adds the backports suite of the mirror that they name.
pub(crate) fn with_backports(etc: &Path, codename: &str, folder: &Path) -> Result<()> {
    let mut paths = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        paths.extend(entries.flatten().map(|entry| entry.path()));
    }
    paths.sort();
    let mut derived = false;
    for path in paths {
        let (Ok(text), Some(name)) = (fs::read_to_string(&path), path.file_name()) else {
            continue;
        };
        let (backports, ending) = match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => (from_stanzas(&text, codename), "sources"),
            Some("list") => (from_lines(&text, codename), "list"),
            // apt ignores it too.
            _ => continue,
        };
        fs::write(folder.join(name), &text)?;
        if let Some(backports) = backports.filter(|_| !derived) {
            derived = true;
            fs::write(folder.join(format!("backports.{ending}")), backports)?;
        }
    }
    ensure!(
        derived,
        "no source of the suite {codename} in {}",
        etc.display()
    );
    Ok(())
}

/// The first stanza of a deb822 file that offers the suite's main part, with its backports instead.
fn from_stanzas(text: &str, codename: &str) -> Option<String> {
    let stanza = text.split("\n\n").find(|stanza| {
        let lists = |field: &str, word: &str| {
            let words = stanza.lines().find_map(|line| line.strip_prefix(field));
            words.is_some_and(|words| words.split_whitespace().any(|other| other == word))
        };
        lists("Suites:", codename) && lists("Components:", "main")
    })?;
    let line = |line: &str| match line.strip_prefix("Suites:") {
        Some(_) => format!("Suites: {codename}-backports\n"),
        None => format!("{line}\n"),
    };
    Some(stanza.lines().map(line).collect())
}

/// The first one-line entry that offers the suite's main part, with its backports instead.
fn from_lines(text: &str, codename: &str) -> Option<String> {
    let suite = format!(" {codename} ");
    let offers = |line: &&str| {
        let parts = line
            .strip_prefix("deb ")
            .and_then(|line| line.split_once(&suite));
        parts.is_some_and(|(_, components)| {
            components.split(' ').any(|component| component == "main")
        })
    };
    let line = text.lines().find(offers)?;
    Some(line.replacen(&suite, &format!(" {codename}-backports "), 1) + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_keeps_mirror_and_key() {
        let text = "Types: deb\nURIs: http://m/sec\nSuites: x-security\n\nTypes: deb\nURIs: http://m/debian\n\
                    Suites: x x-updates\nComponents: main\nSigned-By: /k.gpg\n";
        let expected = "Types: deb\nURIs: http://m/debian\nSuites: x-backports\nComponents: main\nSigned-By: /k.gpg\n";
        assert_eq!(from_stanzas(text, "x").as_deref(), Some(expected));
    }

    #[test]
    fn a_line_keeps_its_options() {
        let text = "# deb http://m/ x main\ndeb http://m/sec x-security main\ndeb http://other/ x stable\ndeb [signed-by=/k] http://m/ x main\n";
        let expected = "deb [signed-by=/k] http://m/ x-backports main\n";
        assert_eq!(from_lines(text, "x").as_deref(), Some(expected));
    }

    #[test]
    fn sources_without_the_suite_are_an_error() {
        let (etc, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(
            etc.path().join("sources.list"),
            "deb http://m/ other main\n",
        )
        .unwrap();
        assert!(with_backports(etc.path(), "x", out.path()).is_err());
    }

    #[test]
    fn sources_are_copied_beside() {
        let (etc, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(etc.path().join("sources.list"), "deb http://m/ x main\n").unwrap();
        with_backports(etc.path(), "x", out.path()).unwrap();
        let read = |name: &str| fs::read_to_string(out.path().join(name)).unwrap();
        assert_eq!(read("sources.list"), "deb http://m/ x main\n");
        assert_eq!(read("backports.list"), "deb http://m/ x-backports main\n");
    }
}
