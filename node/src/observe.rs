//! What the program says: logs and errors to standard error, so that standard output holds what scripts read.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit};
use tracing_subscriber::EnvFilter;

/// Starts the log. `RUST_LOG` chooses what is shown; without it `level` does.
pub(crate) fn start(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Prints a line on standard output; an error when nobody reads it any more.
pub(crate) fn line(text: impl Display) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context(NO_OUTPUT)
}

/// True if nobody reads standard output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
        && error.chain().any(|cause| cause.to_string() == NO_OUTPUT)
}

/// What is said when standard output cannot be written.
pub(crate) const NO_OUTPUT: &str = "cannot write to standard output";

/// An error and its causes on one line. Many errors end with the text of their cause; nothing is said twice.
pub(crate) fn causes(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if said.ends_with(&cause) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&cause);
    }
    // Layers below name it in errors of their own, each of which ends with the system's words.
    if ["(os error 23)", "(os error 24)"]
        .iter()
        .any(|text| said.contains(text))
    {
        said.push_str(&too_many_files());
    }
    said
}

/// What to do about EMFILE and ENFILE.
fn too_many_files() -> String {
    let limit = match getrlimit(Resource::Nofile).current {
        Some(limit) => format!("this process may have {limit}"),
        None => "the system has no more".to_owned(),
    };
    format!(
        " ({limit}, an instance takes three and a session one: raise the limit by LimitNOFILE= in the unit of systemd, \
        or by `ulimit -n`)"
    )
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use anyhow::Context;

    use super::causes;

    #[test]
    fn a_cause_is_named_once() {
        let refused = Arc::new(io::Error::other("refused"));
        let error = Err::<(), _>(iscsi_initiator::Error::Connect(refused))
            .context("no origin")
            .unwrap_err();
        assert_eq!(causes(&error), "no origin: cannot connect: refused");
    }

    #[test]
    fn too_many_open_files_come_with_what_to_do() {
        let error = vmthunder_volume::Error::from(io::Error::from_raw_os_error(24));
        let said = causes(&anyhow::Error::new(error).context("cannot open it"));
        assert!(
            said.contains("Too many open files (os error 24) (this"),
            "{said}"
        );
        assert!(said.contains("LimitNOFILE="), "{said}");
    }
}
