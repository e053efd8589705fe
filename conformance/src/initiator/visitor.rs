//! Who comes to a drill: anybody, a program that is run for each, or a function of this very process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// Where a visitor is expected.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// `HOST:PORT` of the portal.
    pub portal: String,
    /// The name of the drill's target.
    pub target: String,
    /// True if a discovery session is wanted, and no other.
    pub discovery: bool,
    /// What both sides prove themselves with, if the target demands it.
    pub accounts: Option<Accounts>,
}

/// The accounts of a login by CHAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// The initiator's.
    pub initiator: Account,
    /// The target's, should the initiator want a proof of it.
    pub target: Account,
}

/// A name and its secret, which is none: it is the same for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// CHAP_N.
    pub user: &'static str,
    /// What proves it.
    pub secret: &'static str,
}

/// The accounts of all drills of CHAP. The secrets are as short as some initiators want them, and as long as RFC 7143
/// §9.2.1 does.
pub const ACCOUNTS: Accounts = Accounts {
    initiator: Account {
        user: "visitor",
        secret: "visitorssecret01",
    },
    target: Account {
        user: "drill",
        secret: "thedrillsecret02",
    },
};

impl Invitation {
    /// `iscsi://PORTAL/TARGET/0`, where CHAP is demanded `iscsi://USER%SECRET@PORTAL/TARGET/0`, or for discovery
    /// `iscsi://PORTAL`.
    pub fn url(&self) -> String {
        let Self { portal, target, .. } = self;
        match self.accounts {
            _ if self.discovery => format!("iscsi://{portal}"),
            Some(Accounts { initiator, .. }) => {
                let Account { user, secret } = initiator;
                format!("iscsi://{user}%{secret}@{portal}/{target}/0")
            }
            None => format!("iscsi://{portal}/{target}/0"),
        }
    }
}

/// A visit of a function.
pub type Visiting = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Who comes to the drills.
pub enum Visitor {
    /// Whoever logs in; all drills are open at the same time.
    Anybody,
    /// A program, run once for each drill. `{url}`, `{portal}` and `{target}` in its arguments are replaced.
    Program {
        /// Logs in to a target and uses its disk.
        normal: Vec<String>,
        /// Asks a portal for its targets; without it the drills for discovery are skipped.
        discovery: Option<Vec<String>>,
    },
    /// A function of this process, called once for each drill. An error means that the user of the initiator did not
    /// get what it wanted.
    Function(Box<dyn Fn(Invitation) -> Visiting + Send + Sync>),
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("Anybody"),
            Self::Program { normal, discovery } => f
                .debug_struct("Program")
                .field("normal", normal)
                .field("discovery", discovery)
                .finish(),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

/// How a visit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The user got what it wanted.
    Content,
    /// It did not; why.
    Failed(String),
    /// The program died of a signal, which nothing that a target does excuses.
    Died(String),
    /// There is nobody to send.
    Nobody(String),
    /// There is no such program: it would be the same every time.
    Impossible(String),
}

impl Visitor {
    /// Sends the visitor once. Dropping the future ends the visit.
    pub(crate) async fn visit(&self, invitation: Invitation) -> Departure {
        match self {
            Self::Anybody => Departure::Nobody("nobody is sent".to_owned()),
            Self::Program { normal, .. } if !invitation.discovery => run(normal, &invitation).await,
            Self::Program { discovery, .. } => match discovery {
                Some(command) => run(command, &invitation).await,
                None => Departure::Nobody(
                    "no command for discovery was given, which --discovery-command takes"
                        .to_owned(),
                ),
            },
            Self::Function(function) => match function(invitation).await {
                Ok(()) => Departure::Content,
                Err(why) => Departure::Failed(why),
            },
        }
    }
}

/// A program and whatever it started: all of it is killed when this is dropped.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // Nothing is left of most groups.
            let _gone = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn run(command: &[String], invitation: &Invitation) -> Departure {
    let url = invitation.url();
    let mut words = command.iter().map(|word| {
        word.replace("{url}", &url)
            .replace("{portal}", &invitation.portal)
            .replace("{target}", &invitation.target)
    });
    let Some(program) = words.next() else {
        return Departure::Impossible("the command is empty".to_owned());
    };
    let child = Command::new(&program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => return Departure::Impossible(format!("{program} cannot be run: {error}")),
    };
    let leader = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group {
        leader: leader.and_then(Pid::from_raw),
        child,
    };
    let (output, errors) = (group.child.stdout.take(), group.child.stderr.take());
    let (status, output, errors) = tokio::join!(group.child.wait(), tail(output), tail(errors));
    match status {
        Ok(status) if status.success() => Departure::Content,
        Ok(status) if status.code().is_none() => Departure::Died(format!("{program}: {status}")),
        Ok(status) => Departure::Failed(format!(
            "{program}: {status}: {}",
            last_words(&errors, &output)
        )),
        Err(error) => Departure::Nobody(format!("{program} cannot be waited for: {error}")),
    }
}

/// Reads a stream to its end and keeps the last of it.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 4096];
    let Some(mut stream) = stream else {
        return kept;
    };
    // What cannot be read is over.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let surplus = kept.len().saturating_sub(MOST_KEPT);
        kept.drain(..surplus);
    }
    kept
}

/// The last lines that a program wrote.
fn last_words(errors: &[u8], output: &[u8]) -> String {
    let said = match errors.is_empty() {
        true => output,
        false => errors,
    };
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let first = lines.len().saturating_sub(MOST_LINES);
    lines.get(first..).unwrap_or_default().join("; ")
}

/// Bytes of each stream that are kept.
const MOST_KEPT: usize = 16 * 1024;
/// Lines of them that are shown.
const MOST_LINES: usize = 3;
