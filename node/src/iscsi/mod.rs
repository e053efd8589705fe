//! `vmthunder iscsi`: an initiator for scripts, and for people who look after storage.

mod bench;
mod copy;
mod inquiry;
mod luns;
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
use vmthunder_volume::Error as VolumeError;

use crate::args::IscsiCommand;
use crate::observe::{causes, line};

/// Carries out a subcommand; false if the unit refused it, or something differs.
pub(crate) async fn run(command: IscsiCommand) -> Result<bool> {
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
        // The command ran, and this is its outcome.
        Err(error) if is_answer(&error) => {
            eprintln!("error: {}", causes(&error));
            Ok(false)
        }
        done => done,
    }
}

/// True if an error is what a unit or a disk answered, and not that nobody could be asked.
fn is_answer(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_session = cause.downcast_ref::<iscsi_initiator::Error>();
        let of_volume = cause.downcast_ref::<VolumeError>();
        of_session.is_some_and(|cause| {
            matches!(
                cause,
                iscsi_initiator::Error::Status { .. }
                    | iscsi_initiator::Error::Rejected(_)
                    | iscsi_initiator::Error::TargetFailure(_)
                    | iscsi_initiator::Error::Malformed
                    | iscsi_initiator::Error::ReadOnly
                    | iscsi_initiator::Error::Unsupported
                    | iscsi_initiator::Error::Changed
            )
        }) || of_volume.is_some_and(|cause| {
            matches!(
                cause,
                VolumeError::ReadOnly
                    | VolumeError::Unsupported
                    | VolumeError::Corrupt
                    | VolumeError::NoSpace
                    | VolumeError::Quota
                    | VolumeError::Fenced
                    | VolumeError::Device { .. }
            )
        })
    })
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
