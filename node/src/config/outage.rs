//! What a guest's read does while neither the cache nor peers nor the origin answer.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a guest's read does while neither the cache nor peers nor the origin answer: written `wait`, `fail`, or the
/// time after which it fails, such as `90s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Outage {
    /// It waits until somebody answers.
    #[default]
    Wait,
    /// It waits so long and then fails.
    Deadline(Duration),
    /// It fails soon.
    Fail,
}

impl Outage {
    /// How long a read is tried; `None` for ever.
    pub(crate) fn patience(self) -> Option<Duration> {
        match self {
            Self::Wait => None,
            Self::Deadline(after) => Some(after),
            Self::Fail => Some(FAIL_PATIENCE),
        }
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait => f.write_str("wait"),
            Self::Deadline(after) => write!(f, "{}s", after.as_secs()),
            Self::Fail => f.write_str("fail"),
        }
    }
}

impl From<Outage> for String {
    fn from(outage: Outage) -> Self {
        outage.to_string()
    }
}

/// A text that is no outage policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoOutage(String);

impl fmt::Display for NoOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no outage policy: wait, fail, or a time of 1s to 24h such as 90s, 5min or 2h",
            self.0
        )
    }
}

impl std::error::Error for NoOutage {}

impl FromStr for Outage {
    type Err = NoOutage;

    fn from_str(text: &str) -> Result<Self, NoOutage> {
        match text {
            "wait" => Ok(Self::Wait),
            "fail" => Ok(Self::Fail),
            _ => seconds(text)
                .filter(|seconds| (1..=LONGEST_SECONDS).contains(seconds))
                .map(|seconds| Self::Deadline(Duration::from_secs(seconds)))
                .ok_or_else(|| NoOutage(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Outage {
    type Error = NoOutage;

    fn try_from(text: String) -> Result<Self, NoOutage> {
        text.parse()
    }
}

fn seconds(text: &str) -> Option<u64> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    match unit.trim_start() {
        "s" => Some(number),
        "min" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    }
}

/// How long a read is tried by `fail`: refusals of a crowd pass in less.
const FAIL_PATIENCE: Duration = Duration::from_secs(5);
/// The longest deadline.
const LONGEST_SECONDS: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::Outage;

    #[test]
    fn policies_are_read_and_written() {
        for (text, said, seconds) in [
            ("wait", "wait", None),
            ("fail", "fail", Some(5)),
            ("90s", "90s", Some(90)),
            ("5 min", "300s", Some(300)),
            ("24h", "86400s", Some(86_400)),
        ] {
            let outage: Outage = text.parse().unwrap();
            assert_eq!(outage.to_string(), said);
            assert_eq!(outage.patience().map(|time| time.as_secs()), seconds);
            assert_eq!(said.parse(), Ok(outage));
        }
        for text in [
            "",
            "90",
            "s",
            "0s",
            "25h",
            "-1s",
            "1d",
            "99999999999999999999h",
            "1 s s",
        ] {
            let refused = text.parse::<Outage>().unwrap_err().to_string();
            assert!(refused.contains("wait, fail, or a time"), "{refused}");
        }
    }
}
