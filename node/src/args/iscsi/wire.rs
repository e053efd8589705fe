//! Patience with a target, and digests, as they are written.

use std::time::Duration;

use clap::Args;

/// How long to wait for the target, and what guards the bytes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct WireArgs {
    /// How long commands wait for a target that was lost: `wait` for ever, `fail` not at all, or so many seconds, counted
    /// from the loss. A silent target is taken for lost after 10 seconds. Without it 120.
    #[arg(long, value_name = "wait|fail|SECONDS", value_parser = patience)]
    pub(crate) outage: Option<PatienceArg>,
    /// How many seconds one command may take before it is aborted; `none` for ever. Without it 60.
    #[arg(long, value_name = "SECONDS", value_parser = timeout)]
    pub(crate) timeout: Option<TimeoutArg>,
    /// Guard every header and all data with CRC32C digests; a target that has none is refused.
    #[arg(long)]
    pub(crate) digests: bool,
}

/// How long commands wait for a target that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatienceArg {
    Wait,
    Fail,
    Seconds(Duration),
}

/// How long a command may take; none for ever.
pub(crate) type TimeoutArg = Option<Duration>;

fn patience(text: &str) -> Result<PatienceArg, String> {
    match text {
        "wait" => Ok(PatienceArg::Wait),
        "fail" => Ok(PatienceArg::Fail),
        text => seconds(text)
            .map(PatienceArg::Seconds)
            .ok_or_else(|| "`wait`, `fail`, or seconds, from 0.1 to 86400".to_owned()),
    }
}

fn timeout(text: &str) -> Result<TimeoutArg, String> {
    match text {
        "none" => Ok(None),
        text => seconds(text)
            .map(Some)
            .ok_or_else(|| "`none`, or seconds, from 0.1 to 86400".to_owned()),
    }
}

/// Seconds, with or without the `s`.
fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok()?;
    (0.1..=86_400.0)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PatienceArg, patience, timeout};

    #[test]
    fn patience_is_a_word_or_seconds() {
        assert_eq!(patience("wait"), Ok(PatienceArg::Wait));
        assert_eq!(patience("fail"), Ok(PatienceArg::Fail));
        let two = Duration::from_secs(2);
        assert_eq!(patience("2s"), Ok(PatienceArg::Seconds(two)));
        assert_eq!(timeout("2"), Ok(Some(two)));
        assert_eq!(timeout("none"), Ok(None));
        for text in ["", "-1", "0", "NaN", "1e9", "soon"] {
            assert!(patience(text).is_err() && timeout(text).is_err(), "{text}");
        }
    }
}
