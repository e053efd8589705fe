//! `vmthunder serve`, as it is written.

use std::path::PathBuf;

use clap::Args;

use super::CONFIG;

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(crate) config: PathBuf,
    /// End when standard input closes, so that a parent's death ends the node too.
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
}

const SERVE_HELP: &str = "\
A configuration:
  name = \"node-1\"                  # the node's permanent name in the swarm
  data = \"/var/lib/vmthunder\"      # cache, instances, control socket
  listen = [\"0.0.0.0:3260\"]

  [cache]
  size = \"8 GiB\"                   # the default; taken from the disk at the first start; another size empties it
  # file = \"/ssd/vmthunder.cache\"  # without it the file `cache` in the data folder

  [[image]]                        # an image kept here: this node is its origin
  name = \"debian\"
  file = \"debian.raw\"              # made known by: vmthunder image import debian.raw
  # manifest = \"debian.raw.manifest\"

  [[image]]                        # an image kept elsewhere, on any iSCSI target
  name = \"alma\"
  origin = \"iscsi://10.0.0.1/iqn.2026-11.org.vmthunder:image.alma/0\"
  # secret-file = \"secret\"         # the secret of the user in origin: iscsi://USER@...
  # manifest = \"alma.manifest\"     # for an origin that is no node: vmthunder image import
  # root = \"...\"                   # accept this content alone
  # origin-reads = 64              # reads at the origin at once; guests wait in line, peers are refused
  # origin-rate = \"100 MB\"         # in a second; without it as much as it gives

  [swarm]                          # nodes that take from each other what they lack
  key-file = \"swarm.key\"           # the same on all nodes; made by: vmthunder swarm key
  seeds = [\"10.0.0.1:3260\"]       # some nodes that know the others; [] for the first one
  # address = \"10.0.0.2:3260\"     # where others reach this node, if it listens on every interface
  # members = [{ name = \"node-1\", address = \"10.0.0.1:3260\" }]   # without gossip: all nodes
  # etcd = [\"http://10.0.0.9:2379\"]   # in place of seeds: the nodes write themselves down there

  [[target]]                       # files served as they are
  name = \"disks\"                   # or a whole name: iqn., eui. or naa.
  # initiators = [\"iqn.1993-08.org.debian:*\"]   # who may log in
  # networks = [\"10.1.0.0/16\"]     # where from; without these everybody
  [[target.lun]]                   # LUN 0, and the next one LUN 1
  file = \"disk.raw\"                # or a block device
  # size = \"20 GiB\"                # creates the file if it is missing
  # block-size = 4096              # or 512, the default
  # read-only = true
  # removable = true
  # thin = false                   # take all space at once; no UNMAP
  # serial = \"D1\"                  # serial number and identity
  # number = 5
  [target.chap]                    # what initiators have to prove
  secret-file = \"secrets\"          # lines USER:SECRET, 12 bytes or more
  # user = \"alice\"                 # then the file holds her secret alone
  # mutual-user = \"disks\"          # the target proves itself if asked to
  # mutual-secret-file = \"secret\"
  # algorithms = [\"sha3-256\", \"sha256\", \"sha1\", \"md5\"]   # all of them
  [[target.redirect]]              # send initiators elsewhere; the first fits
  address = \"10.0.0.3:3260\"
  initiators = [\"iqn.1993-08.org.debian:old-*\"]    # without it all
  # permanent = true               # not only for now
  # authenticated = true           # tell it only to who has proven itself

  [access]                         # for images and instances: initiators,
  networks = [\"10.0.0.0/8\"]        # networks and chap as above

  [discovery]                      # who may ask which targets there are:
  networks = [\"10.0.0.0/8\"]        # initiators, networks and chap as above

  [limits]                         # the defaults
  sessions = 4096
  sessions-per-initiator = 1024
  logins = 512                     # connections without login
  commands = 128                   # of one session: its queue depth
  memory = \"1 GiB\"                 # data held at once
  login-timeout = 15               # seconds

The nodes of the swarm must be inside the networks of `access`; those that read an image from here are initiators as \
well, named iqn.2026-11.org.vmthunder:node.NAME. Whoever may not use a target does not find it by discovery either. \
Beyond the limit of memory every session gets through with little at a time.

Prints one line `ready iscsi://HOST:PORT/IQN/LUN` on standard output per logical unit and address when it serves. \
Persistent reservations that shall survive the loss of power are kept in the data folder. Ends on SIGINT or SIGTERM.

Without chap, initiators and networks whoever reaches the address may read every image and write to every instance and \
file. A name is a claim, only a secret proves something; and nothing is encrypted: listen where nobody listens in.";
