//! Why an instance cannot be served, and what an operator can do about that.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};

use vmthunder_cache::overlay::OverlayError;

use crate::observe::causes;

/// An instance that cannot be served.
#[derive(Clone, Debug)]
pub(super) struct Unserved {
    name: String,
    trouble: Trouble,
    cause: String,
}

/// What kind of cause it is: what is to be done depends on that, and removing the instance helps in one case alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// The configuration does not name its image.
    NoImage(String),
    /// Its image has other content than when it was made.
    OtherContent(String),
    /// Another program has it open.
    InUse,
    /// Another version wrote it.
    Newer,
    /// What it consists of is missing or nonsense.
    Damaged,
    /// Something around it.
    Around,
}

/// A description with something in it that this version does not know.
#[derive(Debug)]
pub(super) struct UnknownKey(pub(super) String);

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnknownKey {}

impl Unserved {
    /// Of an instance whose image is none of those that the node knows.
    pub(super) fn without_image(name: &str, image: &str, known: &[String]) -> Self {
        let known = match known.is_empty() {
            true => "it names none".to_owned(),
            false => format!("it names {}", known.join(", ")),
        };
        Self {
            name: name.to_owned(),
            trouble: Trouble::NoImage(image.to_owned()),
            cause: format!("the configuration has no image `{image}`; {known}"),
        }
    }

    /// Of an instance over that image, if anybody can tell.
    pub(super) fn by(name: &str, image: Option<&str>, error: &anyhow::Error) -> Self {
        Self {
            name: name.to_owned(),
            trouble: Trouble::of(error, image),
            cause: causes(error),
        }
    }

    /// Why, and what to do.
    pub(super) fn why(&self) -> String {
        format!("{}; {}", self.cause, self.trouble.advice(&self.name))
    }
}

impl Trouble {
    fn of(error: &anyhow::Error, image: Option<&str>) -> Self {
        if error.downcast_ref::<UnknownKey>().is_some() {
            return Self::Newer;
        }
        match error.downcast_ref::<OverlayError>() {
            Some(OverlayError::OtherBase) => {
                return Self::OtherContent(image.unwrap_or_default().to_owned());
            }
            Some(OverlayError::InUse) => return Self::InUse,
            Some(OverlayError::Version { .. }) => return Self::Newer,
            Some(OverlayError::Damaged) => return Self::Damaged,
            Some(OverlayError::Io(error)) => return Self::of_io(error),
            _ => {}
        }
        error
            .downcast_ref::<io::Error>()
            .map_or(Self::Around, Self::of_io)
    }

    /// A file that is missing or ends early is the instance's own trouble; a disk that fails, or a limit, is not.
    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
                Self::Damaged
            }
            _ => Self::Around,
        }
    }

    fn advice(&self, name: &str) -> String {
        match self {
            Self::NoImage(_) => "give the configuration an [[image]] of that name, or the one that it has its old \
                name back, and start the node again"
                .to_owned(),
            Self::OtherContent(image) => format!(
                "the image `{image}` had other content when it was made: bring that back, let new content have a new \
                name, and start the node again"
            ),
            Self::InUse => "end that program, and start the node again".to_owned(),
            Self::Newer => "start the version of this program that wrote it".to_owned(),
            Self::Damaged => format!(
                "bring its folder back from a copy, or remove it with `vmthunder instance remove {name}`"
            ),
            Self::Around => {
                "nothing is known to be wrong with what was written: mend that, and start the node again".to_owned()
            }
        }
    }
}

/// What the log says of them: a line for each kind of cause, however many instances it has hit.
pub(super) fn lines(unserved: &[Unserved]) -> Vec<String> {
    let mut kinds: BTreeMap<&Trouble, Vec<&Unserved>> = BTreeMap::new();
    for each in unserved {
        kinds.entry(&each.trouble).or_default().push(each);
    }
    let kinds = kinds.values().filter_map(|kind| {
        let first = kind.first()?;
        let shown = kind.iter().take(MOST_NAMES).map(|each| each.name.as_str());
        let names = shown.collect::<Vec<_>>().join("`, `");
        Some(match kind.len() {
            1 => format!("instance `{names}` is not served: {}", first.why()),
            all if all <= MOST_NAMES => {
                format!("{all} instances are not served, `{names}`: {}", first.why())
            }
            all => format!(
                "{all} instances are not served, `{names}` and others: {}",
                first.why()
            ),
        })
    });
    kinds.collect()
}

/// Instances that a line names.
const MOST_NAMES: usize = 3;

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context, anyhow};
    use vmthunder_cache::overlay::OverlayError;

    use super::{UnknownKey, Unserved, lines};

    fn of_overlay(error: OverlayError) -> Unserved {
        let error = Err::<(), _>(error).context("cannot open /x").unwrap_err();
        Unserved::by("vm", Some("debian"), &error)
    }

    #[test]
    fn removing_is_advised_for_damage_alone() {
        let refused = io::Error::from_raw_os_error(24);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let key = anyhow!(UnknownKey("/x has an unknown key".to_owned()));
        for (unserved, advice) in [
            (of_overlay(OverlayError::Damaged), "instance remove vm`"),
            (of_overlay(missing.into()), "instance remove vm`"),
            (of_overlay(OverlayError::InUse), "end that program"),
            (
                of_overlay(OverlayError::Version { found: 9 }),
                "the version of this program that wrote it",
            ),
            (
                of_overlay(OverlayError::OtherBase),
                "`debian` had other content when it was made",
            ),
            (of_overlay(refused.into()), "nothing is known to be wrong"),
            (of_overlay(denied.into()), "nothing is known to be wrong"),
            (Unserved::by("vm", None, &key), "that wrote it"),
            (
                Unserved::without_image("vm", "debain", &["debian".to_owned()]),
                "no image `debain`; it names debian; give the configuration an [[image]]",
            ),
        ] {
            let why = unserved.why();
            assert!(why.contains(advice), "{why}");
            let remove = why.contains("instance remove");
            assert_eq!(remove, advice.contains("instance remove"), "{why}");
        }
    }

    #[test]
    fn many_of_one_cause_are_one_line() {
        let mut unserved: Vec<_> = (1..=800)
            .map(|number| Unserved::without_image(&format!("vm-{number}"), "debain", &[]))
            .collect();
        unserved.push(of_overlay(OverlayError::Damaged));
        let said = lines(&unserved);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with(
                "800 instances are not served, `vm-1`, `vm-2`, `vm-3` and others: the configuration"
            ),
            "{}",
            said[0]
        );
        assert!(
            said[1].starts_with("instance `vm` is not served: cannot open /x: the files"),
            "{}",
            said[1]
        );
    }
}
