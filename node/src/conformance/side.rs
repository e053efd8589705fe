//! Which side is judged; what is said about the other one is refused, not ignored.

use anyhow::{Result, bail, ensure};
use iscsi_conformance::report::Peer;

use crate::args::ConformanceArgs;

/// The side that the command line is about.
pub(super) fn judged(args: &ConformanceArgs) -> Result<Peer> {
    let (about_target, about_initiator) = (about_target(args), about_initiator(args));
    match (&args.url, &args.initiator) {
        (Some(_), name) => {
            if let Some(option) = about_initiator {
                bail!(
                    "{option} is for judging an initiator, and a URL for judging a target: leave out {option}, or leave out the URL and {HOW}"
                );
            }
            ensure!(
                args.choice.list || !matches!(name, Some(None)),
                "beside a URL, --initiator names the suite: --initiator IQN; to judge an initiator, leave out the URL and say --listen HOST:PORT"
            );
            ensure!(
                args.destructive || !args.yes,
                "--yes answers what --destructive asks: say both, or neither"
            );
            Ok(Peer::Target)
        }
        (None, Some(name)) => {
            if let Some(option) = about_target {
                bail!(
                    "{option} is for judging a target, and there is no URL of one: add it, or leave out {option} to judge an initiator, which is served a disk of the suite's own"
                );
            }
            ensure!(
                name.is_none(),
                "--initiator IQN names the suite to the target at a URL, and there is none; to judge an initiator, say --initiator alone: whoever comes is judged"
            );
            ensure!(
                args.visit.command.is_some() || args.visit.discovery_command.is_none(),
                "--discovery-command alone leaves most checks without an initiator: say --command, too"
            );
            Ok(Peer::Initiator)
        }
        (None, None) => {
            if let Some(option) = about_initiator {
                bail!("{option} is for judging an initiator: {HOW}");
            }
            ensure!(
                args.choice.list,
                "whom to judge is not said: <URL> of a target and one of its disks, iscsi://HOST[:PORT]/TARGET[/LUN]; for an initiator {HOW}; --list shows the checks, and --help all options"
            );
            Ok(Peer::Target)
        }
    }
}

fn about_initiator(args: &ConformanceArgs) -> Option<&'static str> {
    let visit = &args.visit;
    first([
        ("--listen", visit.listen.is_some()),
        ("--command", visit.command.is_some()),
        ("--discovery-command", visit.discovery_command.is_some()),
        ("--advertise", visit.advertise.is_some()),
    ])
}

fn about_target(args: &ConformanceArgs) -> Option<&'static str> {
    let secrets = &args.secrets;
    first([
        ("--destructive", args.destructive),
        ("--yes", args.yes),
        ("--chap-secret-file", secrets.chap_secret_file.is_some()),
        ("--mutual-user", secrets.mutual_user.is_some()),
        ("--mutual-secret-file", secrets.mutual_secret_file.is_some()),
    ])
}

fn first<const N: usize>(options: [(&'static str, bool); N]) -> Option<&'static str> {
    let mut given = options.into_iter().filter(|(_, given)| *given);
    given.next().map(|(option, _)| option)
}

/// How an initiator is judged.
const HOW: &str = "say --initiator --listen HOST:PORT [--command COMMAND]";
