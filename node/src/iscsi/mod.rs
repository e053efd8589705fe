//! `vmthunder iscsi`: an initiator for scripts, and for people who look after storage.

mod bench;
mod copy;
mod inquiry;
mod luns;
mod outcome;
mod paths;
mod reach;
mod replay;
mod status;
mod targets;
mod transfer;
mod trim;
mod unit;

use std::fmt::Display;

use anyhow::Result;

use crate::args::IscsiCommand;
use crate::observe::line;

/// Carries out a subcommand; false if the unit refused it, or something differs.
pub(crate) async fn run(command: IscsiCommand) -> Result<bool> {
    let as_json = command.is_json();
    let done = match command {
        IscsiCommand::Discover { url, common } => targets::list(&url, &common).await,
        IscsiCommand::Luns { url, common } => luns::list(&url, &common).await,
        IscsiCommand::Inquiry { url, page, common } => inquiry::show(&url, page, &common).await,
        IscsiCommand::Capacity { url, common } => inquiry::capacity(&url, &common).await,
        IscsiCommand::Status { url, unit } => status::show(&url, &unit).await,
        IscsiCommand::Read(args) => transfer::read(&args).await,
        IscsiCommand::Write(args) => transfer::write(&args).await,
        IscsiCommand::Trim(args) => trim::run(&args).await,
        IscsiCommand::Copy(args) => copy::run(&args).await,
        IscsiCommand::Bench(args) => bench::run(&args).await,
        IscsiCommand::Replay(args) => replay::run(&args).await,
    };
    match done {
        Err(error) => outcome::tell(error, as_json),
        done => done,
    }
}

/// Prints a name and what belongs to it, in the form of all such lists of `vmthunder iscsi`.
fn fact(name: &str, value: impl Display) -> Result<()> {
    line(format_args!("{name:<12}  {value}"))
}

/// Yes or no as people say it; nothing where it is not known.
fn yes_no(known: Option<bool>) -> &'static str {
    match known {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
