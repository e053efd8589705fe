//! How a row of the page stands, derived from its reason and its tests.

use anyhow::{Result, bail};

/// What can be said of a section; in the order of the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Implemented,
    InPart,
    Differs,
    NotOffered,
    Outside,
    See,
    Informative,
}

impl Status {
    pub(crate) const ALL: [Self; 7] = [
        Self::Implemented,
        Self::InPart,
        Self::Differs,
        Self::NotOffered,
        Self::Outside,
        Self::See,
        Self::Informative,
    ];

    /// The word in the table, which is how the reason begins in the list of sections.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Implemented => "implemented",
            Self::InPart => "in part",
            Self::Differs => "differs",
            Self::NotOffered => "not offered",
            Self::Outside => "outside",
            Self::See => "see",
            Self::Informative => "informative",
        }
    }

    /// What the word means.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Implemented => "the tests named show it",
            Self::InPart => {
                "the tests show one part; what the other is, and why it is missing, is said"
            }
            Self::Differs => {
                "done otherwise than the section says, for the reason given; the tests show how"
            }
            Self::NotOffered => {
                "optional, and left out by design; what is answered instead is said, or shown"
            }
            Self::Outside => "for others to do: the network, or the hardware, or its administrator",
            Self::See => "its rules are those of the section named",
            Self::Informative => "no rule for an implementation",
        }
    }

    /// The status of a section, and what its reason says beside it.
    pub(crate) fn of(reason: Option<&str>, tested: bool) -> Result<(Self, &str)> {
        let Some(reason) = reason else {
            match tested {
                true => return Ok((Self::Implemented, "")),
                false => bail!("neither a test names it (RFC 7143 §...) nor is there a reason"),
            }
        };
        let given = Self::ALL[1..].iter().find_map(|status| {
            let rest = reason.strip_prefix(status.word())?;
            let ends = rest.is_empty() || rest.starts_with([':', ' ']);
            ends.then(|| (*status, rest.trim_start_matches(':').trim()))
        });
        let Some((status, rest)) = given else {
            let words = Self::ALL[1..].iter().map(|status| status.word());
            let words = words.collect::<Vec<_>>().join(", ");
            bail!("{reason:?} begins with none of: {words}");
        };
        match (status, tested, rest) {
            (Self::InPart | Self::Differs, false, _) => {
                bail!("{reason:?} has to be shown by a test")
            }
            (Self::Outside | Self::See | Self::Informative, true, _) => {
                bail!("a test shows it, so that {reason:?} is wrong or one of them is")
            }
            (Self::Informative, _, _) => {}
            (Self::See, _, rest) if !rest.starts_with('§') => bail!("{reason:?} names no section"),
            (_, _, "") => bail!("{reason:?} gives no reason"),
            _ => {}
        }
        Ok((status, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn a_reason_says_what_it_is() {
        let of = |reason, tested| Status::of(reason, tested).ok();
        assert_eq!(of(None, true), Some((Status::Implemented, "")));
        assert_eq!(
            of(Some("informative"), false),
            Some((Status::Informative, ""))
        );
        assert_eq!(
            of(Some("not offered: too old"), true),
            Some((Status::NotOffered, "too old"))
        );
        assert_eq!(
            of(Some("see §4.1: the same"), false),
            Some((Status::See, "§4.1: the same"))
        );
        assert_eq!(
            of(Some("in part: no more"), true),
            Some((Status::InPart, "no more"))
        );
        for (reason, tested) in [
            (None, false),
            (Some("later"), false),
            (Some("informatively"), false),
            (Some("not offered"), false),
            (Some("see there"), false),
            (Some("in part: no more"), false),
            (Some("differs: so there"), false),
            (Some("informative"), true),
            (Some("implemented"), true),
        ] {
            assert_eq!(of(reason, tested), None, "{reason:?}");
        }
    }
}
