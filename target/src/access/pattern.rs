//! Names with wildcards.

use std::fmt;
use std::str::FromStr;

use iscsi_proto::name::{IscsiName, MAX_NAME_BYTES};

/// Names of initiators: `*` stands for any characters, `?` for one. Case does not matter (RFC 3722).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    written: String,
    folded: Vec<char>,
}

/// Why a string is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It would fit nobody.
    #[error("a pattern of names is not empty")]
    Empty,
    /// It is longer than any name.
    #[error("a pattern of names has at most {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// It holds a character that no name has.
    #[error(
        "{0:?} is in no iSCSI name; a pattern consists of letters, digits, dots, dashes, colons, * and ?"
    )]
    BadCharacter(char),
}

impl NamePattern {
    /// True if the name is one of these.
    pub fn matches(&self, name: &IscsiName) -> bool {
        let name: Vec<char> = folded(name.as_str());
        let (mut at, mut pattern_at) = (0, 0);
        // Where the latest star stands, and what of the name it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while let Some(&character) = name.get(at) {
            match (self.folded.get(pattern_at), star) {
                (Some('*'), _) => {
                    star = Some((pattern_at, at));
                    pattern_at += 1;
                }
                (Some(&wanted), _) if wanted == '?' || wanted == character => {
                    at += 1;
                    pattern_at += 1;
                }
                (_, Some((star_at, taken))) => {
                    star = Some((star_at, taken + 1));
                    (at, pattern_at) = (taken + 1, star_at + 1);
                }
                (_, None) => return false,
            }
        }
        self.folded
            .iter()
            .skip(pattern_at)
            .all(|wanted| *wanted == '*')
    }
}

fn folded(name: &str) -> Vec<char> {
    name.chars()
        .map(|character| character.to_ascii_lowercase())
        .collect()
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(pattern: &str) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError::Empty);
        }
        if pattern.len() > MAX_NAME_BYTES {
            return Err(PatternError::TooLong);
        }
        let allowed = |character: char| {
            "-.:_*?".contains(character)
                || character.is_ascii_alphanumeric()
                || (!character.is_ascii() && character.is_alphanumeric())
        };
        match pattern.chars().find(|character| !allowed(*character)) {
            Some(bad) => Err(PatternError::BadCharacter(bad)),
            None => Ok(Self {
                written: pattern.to_owned(),
                folded: folded(pattern),
            }),
        }
    }
}

impl From<IscsiName> for NamePattern {
    fn from(name: IscsiName) -> Self {
        Self {
            written: name.as_str().to_owned(),
            folded: folded(name.as_str()),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}
