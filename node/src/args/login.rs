//! How to log in to a target, as it is written.

use std::path::PathBuf;

use clap::Args;
use iscsi_proto::name::IscsiName;

/// How to log in.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Login")]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
    /// The initiator's name. Without it one of this program's, and never the one of this machine's kernel in
    /// /etc/iscsi/initiatorname.iscsi, whose reservations would count as ours: who is let in by that names it here.
    #[arg(long, value_name = "IQN")]
    pub(crate) initiator: Option<IscsiName>,
}

/// What proves who logs in, and to whom.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SecretArgs {
    /// A file with the secret of the URL's user: one line, or a line `USER:SECRET` for each of several. A secret in the URL itself is seen by whoever lists this
    /// machine's processes.
    #[arg(long, value_name = "FILE")]
    pub(crate) chap_secret_file: Option<PathBuf>,
    /// The name that the target has to prove.
    #[arg(long, value_name = "NAME", requires = "mutual_secret_file")]
    pub(crate) mutual_user: Option<String>,
    /// A file with the secret that the target has to know: one line, not the same as ours.
    #[arg(long, value_name = "FILE", requires = "mutual_user")]
    pub(crate) mutual_secret_file: Option<PathBuf>,
}
