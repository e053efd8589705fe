//! `vmthunder target`, as it is written.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use iscsi_proto::login::Algorithm;
use iscsi_target::{NamePattern, Network, Redirect};
use vmthunder_volume::BlockSize;

use super::{DiskArg, byte_size, disk};
use crate::config;

#[derive(Debug, Args)]
#[command(after_help = TARGET_HELP)]
pub(crate) struct TargetArgs {
    /// The files or block devices to export; the first is LUN 0. Options of one file follow its name, see below.
    #[arg(required = true, value_name = "FILE[,OPTION...]", value_parser = DiskArg::parse)]
    pub(crate) files: Vec<DiskArg>,
    /// Where to listen; may be repeated. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:3260")]
    pub(crate) listen: Vec<String>,
    /// The target's name. Without it `iqn.2026-11.org.vmthunder:` and the first file's name without its ending.
    #[arg(long, value_name = "IQN")]
    pub(crate) iqn: Option<String>,
    /// A socket for `vmthunder status` and `vmthunder lun`. Without it nobody can ask.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) control: Option<PathBuf>,
    /// Where persistent reservations that shall survive the loss of power, and the journal of atomic writes, are kept.
    /// Without it beside each file, as FILE.reservations and FILE.atomic.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// Refuse writes.
    #[arg(long, help_heading = "Disks")]
    pub(crate) read_only: bool,
    /// The size of a block: 512 or 4096 bytes.
    #[arg(long, help_heading = "Disks", value_name = "BYTES", default_value = "512", value_parser = disk::block_size)]
    pub(crate) block_size: BlockSize,
    /// Offer the disks as removable media: they can be ejected, and an initiator can prevent it.
    #[arg(long, help_heading = "Disks")]
    pub(crate) removable: bool,
    /// Create each file that is missing, this large: bytes, or with a unit, for example 20GiB (GB and G are 1000³
    /// bytes). One that is there must have this size; it is never changed.
    #[arg(long, help_heading = "Disks", value_parser = byte_size)]
    pub(crate) size: Option<ByteSize>,
    /// Take the space of a file when it is created or grows, and offer no UNMAP: space never runs out. Without it
    /// disks are thin: space is taken by writes, and UNMAP punches holes.
    #[arg(long, help_heading = "Disks")]
    pub(crate) full: bool,

    /// Initiators that may log in, by name: `*` stands for any characters, `?` for one. May be repeated.
    #[arg(long, help_heading = "Access", value_name = "PATTERN")]
    pub(crate) allow_initiator: Vec<NamePattern>,
    /// Networks that initiators may come from, for example 10.1.0.0/16. May be repeated.
    #[arg(long, help_heading = "Access", value_name = "CIDR")]
    pub(crate) allow_network: Vec<Network>,
    /// Send initiators to another portal: `HOST[:PORT]`, then `permanent` if it is for good, `authenticated` if only
    /// those learn it that have proven themselves, `initiator=PATTERN` for some alone. May be repeated; the first that
    /// fits decides.
    #[arg(long, help_heading = "Access", value_name = "ADDR[,OPTION...]", value_parser = config::redirect)]
    pub(crate) redirect: Vec<Redirect>,

    #[command(flatten)]
    pub(crate) chap: ChapArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// Who has to prove what.
#[derive(Debug, Args)]
#[command(next_help_heading = "CHAP")]
pub(crate) struct ChapArgs {
    /// A file with the secret that initiators must know: one line, at least 12 bytes. Without --chap-user a file with
    /// lines USER:SECRET. Others must not be able to read it (chmod 600).
    #[arg(long, value_name = "FILE")]
    pub(crate) chap_secret_file: Option<PathBuf>,
    /// The name that belongs to the secret.
    #[arg(long, value_name = "NAME", requires = "chap_secret_file")]
    pub(crate) chap_user: Option<String>,
    /// A file with the secret by which the target proves itself to initiators that want that; not one of theirs.
    #[arg(
        long,
        value_name = "FILE",
        requires = "chap_secret_file",
        requires = "mutual_user"
    )]
    pub(crate) mutual_secret_file: Option<PathBuf>,
    /// The target's own name when it proves itself.
    #[arg(long, value_name = "NAME", requires = "mutual_secret_file")]
    pub(crate) mutual_user: Option<String>,
    /// The hashes that will do: sha3-256, sha256, sha1, md5. Without it all of them, since many initiators (QEMU, iPXE)
    /// know md5 alone.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = config::algorithm,
        requires = "chap_secret_file")]
    pub(crate) chap_algorithms: Vec<Algorithm>,
    /// Demand the same of whoever asks which targets there are.
    #[arg(long, requires = "chap_secret_file")]
    pub(crate) discovery_chap: bool,
}

/// How much initiators may ask for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Sessions at once [default: 4096]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_sessions: Option<u64>,
    /// Connections at once that have not logged in yet [default: 512]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_logins: Option<u64>,
    /// Bytes of read and write data held at once, all sessions together; beyond, every session gets through with
    /// little at a time [default: 1 GiB]
    #[arg(long, value_name = "SIZE", value_parser = byte_size)]
    pub(crate) max_memory: Option<ByteSize>,
    /// Commands of one session at once, its queue depth [default: 128]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_commands: Option<u64>,
    /// How long a login may take, in seconds [default: 15]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) login_timeout: Option<u64>,
}

const TARGET_HELP: &str = "\
Options of one file, behind its name and commas; they go before the options for all. A comma in a name is written twice.
  read-only, writable   refuse writes, or not (ro, rw)
  removable, fixed      a medium that can be ejected, or not
  full, thin            take space at once and offer no UNMAP, or not
  block-size=4096       or 512
  size=20GiB            create the file if it is missing
  serial=TEXT           serial number and identity of the LUN: two with one serial
                        are one disk to an initiator (multipath). Without it they
                        come from the machine, the path, the target and the number
  lun=5                 the number; without it the position, 0 for the first

Prints one line `ready iscsi://HOST:PORT/IQN/LUN` on standard output per LUN and address when it listens, and logs to \
standard error. Writes reach the page cache before they are answered, and the disk when the initiator flushes or asks \
for it (FUA). A file is locked: a second gateway that would write to it is refused. Persistent reservations survive the \
loss of power for a block device or a read-only file with --state alone. Ends on SIGINT or SIGTERM.

Without --chap-secret-file, --allow-initiator and --allow-network whoever reaches the address may use the target. \
A name is a claim, only a secret proves something; and nothing is encrypted: listen where nobody listens in.

Examples:
  vmthunder target disk.raw --listen 127.0.0.1:3260
  qemu-img info iscsi://127.0.0.1:3260/iqn.2026-11.org.vmthunder:disk/0

  vmthunder target sys.raw,ro data.raw,size=20GiB,full,block-size=4096 --control sock
  vmthunder lun resize sys/1 40GiB --control sock

  install -m 600 /dev/null secret && openssl rand -hex 16 > secret
  vmthunder target disk.raw --chap-user alice --chap-secret-file secret
  vmthunder iscsi capacity --chap-secret-file secret \\
    iscsi://alice@127.0.0.1/iqn.2026-11.org.vmthunder:disk/0

  vmthunder target disk.raw --allow-network 10.1.0.0/16 --allow-initiator 'iqn.*:vm-*'";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::args::Cli;
    use crate::config::Limits;

    #[test]
    fn the_defaults_of_limits_are_what_the_help_says() {
        let mut command = Cli::command();
        let target = command.find_subcommand_mut("target").unwrap();
        let help = target.render_long_help().to_string();
        let words: Vec<_> = help.split_whitespace().collect();
        let help = words.join(" ");
        let limits = Limits::default();
        let memory = limits.target.bytes_in_flight >> 30;
        for said in [
            format!("Sessions at once [default: {}]", limits.target.sessions),
            format!("not logged in yet [default: {}]", limits.target.logins),
            format!("little at a time [default: {memory} GiB]"),
            format!("queue depth [default: {}]", limits.commands),
            format!("in seconds [default: {}]", limits.login_timeout.as_secs()),
        ] {
            assert!(help.contains(&said), "{said}: {help}");
        }
    }
}
