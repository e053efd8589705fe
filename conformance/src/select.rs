//! Which checks are wanted: by name, or by the beginning of one.

use std::collections::BTreeSet;

/// What was asked for; nothing at all asks for every check.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names, or prefixes of names up to a dot, of what is wanted; empty for all.
    pub only: Vec<String>,
    /// Names or prefixes of what is not wanted, though it is among the others.
    pub skip: Vec<String>,
}

/// A name that no check has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no check is called {name}{}", near_misses(.near))]
pub struct UnknownCheck {
    /// What was asked for.
    pub name: String,
    /// What may have been meant, the likeliest first.
    pub near: Vec<String>,
}

impl Selection {
    /// True if the check of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        let names = |asked: &[String]| asked.iter().any(|asked| covers(asked, name));
        (self.only.is_empty() || names(&self.only)) && !names(&self.skip)
    }

    /// Refuses what names none of these checks.
    pub fn examine(&self, names: &[&str]) -> Result<(), UnknownCheck> {
        for asked in self.only.iter().chain(&self.skip) {
            if !names.iter().any(|name| covers(asked, name)) {
                return Err(unknown(asked, names));
            }
        }
        Ok(())
    }
}

/// True if `asked` is the name of a check, or a part of it that ends before a dot.
fn covers(asked: &str, name: &str) -> bool {
    name.strip_prefix(asked)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The complaint about a name that no check has.
pub(crate) fn unknown(asked: &str, names: &[&str]) -> UnknownCheck {
    let asked: String = asked.chars().take(MOST_CHARACTERS).collect();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for name in names {
        known.insert(name);
        known.extend(name.match_indices('.').filter_map(|(at, _)| name.get(..at)));
    }
    let mut near: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (likeness(&asked, name), name))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .collect();
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let near = near.into_iter().take(MOST_NEAR);
    UnknownCheck {
        name: asked,
        near: near.map(|(_, name)| name.to_owned()).collect(),
    }
}

/// How much a name is like what was asked for, from 0 to 1; a part of a name may be meant for the whole.
fn likeness(asked: &str, name: &str) -> f64 {
    let likeness = strsim::jaro_winkler(asked, name);
    let is_part = asked.chars().count() >= LEAST_PART && name.contains(asked);
    likeness.max(if is_part { LIKE } else { 0.0 })
}

fn near_misses(near: &[String]) -> String {
    match near.split_last() {
        None => String::new(),
        Some((one, [])) => format!("; did you mean {one}?"),
        Some((last, others)) => format!("; did you mean {} or {last}?", others.join(", ")),
    }
}

/// From here on two names are alike (Jaro and Winkler's measure, 1 for the same).
const LIKE: f64 = 0.85;
/// Fewer characters are in too many names.
const LEAST_PART: usize = 3;
/// The most names that are proposed.
const MOST_NEAR: usize = 3;
/// The longest name that is looked at and repeated.
const MOST_CHARACTERS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "login.keys.unknown",
        "login.keys.twice",
        "login.stages.skip",
        "nop.echo",
    ];

    fn selection(only: &[&str], skip: &[&str]) -> Selection {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Selection {
            only: owned(only),
            skip: owned(skip),
        }
    }

    fn wanted(only: &[&str], skip: &[&str]) -> Vec<&'static str> {
        let selection = selection(only, skip);
        selection.examine(&NAMES).unwrap();
        let wanted = NAMES.into_iter().filter(|name| selection.wants(name));
        wanted.collect()
    }

    #[test]
    fn names_and_prefixes_select() {
        assert_eq!(wanted(&[], &[]), NAMES);
        assert_eq!(wanted(&["login"], &[]), NAMES[..3]);
        assert_eq!(wanted(&["login.keys"], &[]), NAMES[..2]);
        assert_eq!(wanted(&["login", "nop"], &["login.keys"]), NAMES[2..]);
        assert_eq!(wanted(&["nop.echo"], &[]), NAMES[3..]);
    }

    #[test]
    fn an_unknown_name_is_refused_and_near_ones_are_proposed() {
        // A prefix ends before a dot: "log" is none.
        let refused = selection(&["log"], &[]).examine(&NAMES).unwrap_err();
        assert_eq!(refused.near.first().unwrap(), "login");
        let refused = selection(&[], &["login.key"]).examine(&NAMES).unwrap_err();
        assert!(
            refused.to_string().contains("did you mean login.keys"),
            "{refused}"
        );
        let refused = selection(&["zzz"], &[]).examine(&NAMES).unwrap_err();
        assert_eq!(refused.to_string(), "no check is called zzz");
        let refused = selection(&["twice"], &[]).examine(&NAMES).unwrap_err();
        assert_eq!(refused.near, ["login.keys.twice"]);
    }
}
