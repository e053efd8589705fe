//! What is wrong with a configuration, and where.

use std::fmt;

/// Why a file is no configuration: place, cause, and what was probably meant.
#[derive(Debug)]
pub(super) struct Refusal {
    place: String,
    cause: String,
    meant: Option<String>,
}

impl Refusal {
    pub(super) fn new(name: &str, text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start));
        let place = match before {
            Some(before) => format!("{name}:{}", before.matches('\n').count() + 1),
            None => name.to_owned(),
        };
        let cause = error.message().to_owned();
        Self {
            place,
            meant: suggestion(&cause),
            cause,
        }
    }
}

/// The known key nearest to an unknown one, taken from serde's message: the first word in backquotes is the unknown
/// key, the others are the known ones.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown field") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    let nearest = words.min_by_key(|known| strsim::damerau_levenshtein(unknown, known))?;
    (strsim::damerau_levenshtein(unknown, nearest) <= nearest.len().max(3) / 2)
        .then(|| nearest.to_owned())
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.cause)?;
        match &self.meant {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
