//! The file of the swarm's keys, and whom its keys let in.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use iscsi_target::{AccessRules, ChapRules, DerivedChap};
use tracing::info;
use vmthunder_swarm::forest::NodeName;
use vmthunder_swarm::membership::keys::{Keyring, Keys, PEER_ALGORITHMS, SwarmKey};

use crate::config::SwarmConfig;
use crate::{names, secrets};

/// The swarm's keys, and the file that they come from.
pub(crate) struct KeyFile {
    path: PathBuf,
    ring: Arc<Keyring>,
}

impl KeyFile {
    /// Reads the file that a configuration names.
    pub(crate) fn open(swarm: &SwarmConfig) -> Result<Self> {
        let path = swarm.key_file.clone();
        let ring = Keyring::new(read(&path)?);
        Ok(Self { path, ring })
    }

    /// The keys, as they are at any time.
    pub(crate) fn ring(&self) -> Arc<Keyring> {
        Arc::clone(&self.ring)
    }

    /// Reads the file again; the epochs that are valid from now on, that in use first. If something is wrong with it
    /// the keys stay as they were.
    pub(crate) fn reload(&self) -> Result<Vec<u32>> {
        let keys = read(&self.path)?;
        let epochs = keys.all().iter().map(SwarmKey::epoch).collect();
        info!(?epochs, "the swarm's keys were read again");
        self.ring.replace(keys);
        Ok(epochs)
    }

    /// Who may use the target for peers of node `me`: nodes that prove to be of the swarm, from where everybody else
    /// may come too.
    pub(crate) fn access(&self, me: &NodeName, everybody: &AccessRules) -> AccessRules {
        let (me, ring) = (me.clone(), self.ring());
        let derived = DerivedChap::new(move |initiator| {
            let peer = names::node_of(initiator)?;
            let (accounts, own) = ring.now().to_serve(&me, &peer).ok()?;
            ChapRules::new(accounts, own, PEER_ALGORITHMS.to_vec()).ok()
        });
        AccessRules {
            // Others find it by discovery neither.
            initiators: vec![names::nodes()],
            networks: everybody.networks.clone(),
            derived_chap: Some(derived),
            ..AccessRules::default()
        }
    }
}

/// A key that nobody has yet.
pub(crate) fn new_key(epoch: u32) -> Result<SwarmKey> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(SwarmKey::new(epoch, bytes))
}

/// Writes a file with a key that nobody has yet.
pub(crate) fn write_new_key(path: &Path) -> Result<()> {
    let key = new_key(1)?.line();
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(key.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<Keys> {
    let text =
        secrets::read(path).context("`swarm.key-file`; make one by `vmthunder swarm key`")?;
    Keys::parse(&text).with_context(|| path.display().to_string())
}
