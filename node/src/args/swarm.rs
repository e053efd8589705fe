//! `vmthunder swarm`, as it is written.

use clap::Subcommand;

use super::NodeArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum SwarmCommand {
    /// Show the other nodes that a running node knows, and what it took from them.
    Members {
        /// Print one JSON list instead of the table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Print a new swarm key: the line for the file that `key-file` names, the same on every node.
    #[command(after_help = KEY_HELP)]
    Key {
        /// The number that tells this key from the one before.
        #[arg(long, default_value_t = 1, value_name = "NUMBER")]
        epoch: u32,
    },
    /// Have a running node read its `key-file` again.
    ReloadKeys {
        #[command(flatten)]
        node: NodeArgs,
    },
}

const KEY_HELP: &str = "\
The first key:
  (umask 077; vmthunder swarm key > /etc/vmthunder/swarm.key)    # then copy it to every node

Another key, while the nodes run:
  1. vmthunder swarm key --epoch 2     put this line behind the old one on every node, then
                                       `vmthunder swarm reload-keys` on each: both are accepted now
  2. put the new line before the old one on every node and reload: the new one is used
  3. remove the old line on every node and reload: the old one is worth nothing
Finish each step on all nodes before the next one.

Whoever has the key is a node of the swarm: it may read every image. It is 256 random bits and never a passphrase.";
