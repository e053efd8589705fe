//! `[swarm]`: who else is there, and what proves it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use iscsi_proto::url::IscsiUrl;
use serde::Deserialize;
use vmthunder_swarm::forest::NodeName;

use super::{check_name, written};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SwarmSection {
    key_file: PathBuf,
    #[serde(default, deserialize_with = "written::some")]
    address: Option<SocketAddr>,
    members: Option<Vec<MemberSection>>,
    seeds: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberSection {
    name: String,
    address: String,
}

/// The swarm that a node is in.
#[derive(Debug)]
pub(crate) struct SwarmConfig {
    /// The file of the swarm's keys.
    pub(crate) key_file: PathBuf,
    /// Where other nodes reach this one, if not where it listens.
    pub(crate) address: Option<SocketAddr>,
    /// How the others are known.
    pub(crate) source: MemberSource,
}

/// How other nodes are known.
#[derive(Debug)]
pub(crate) enum MemberSource {
    /// They are these.
    Listed(Vec<Member>),
    /// They tell each other.
    Gossip {
        /// Where somebody is who knows the others: HOST:PORT.
        seeds: Vec<String>,
    },
}

/// Another node of the swarm.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its permanent name.
    pub(crate) name: NodeName,
    /// Where its target listens: HOST:PORT.
    pub(crate) address: String,
}

impl SwarmSection {
    pub(super) fn check(self, own: &str, folder: &Path) -> Result<SwarmConfig> {
        let source = match (self.members, self.seeds) {
            (Some(list), None) => MemberSource::Listed(members(list, own)?),
            (None, Some(seeds)) => MemberSource::Gossip {
                seeds: seeds
                    .iter()
                    .map(|seed| seed_of(seed))
                    .collect::<Result<_>>()?,
            },
            _ => bail!(
                "name either `seeds`, some nodes that know the others, or `members`, all the nodes; for the first node \
                of a swarm: seeds = []"
            ),
        };
        Ok(SwarmConfig {
            key_file: folder.join(self.key_file),
            address: self.address,
            source,
        })
    }
}

fn seed_of(seed: &str) -> Result<String> {
    let portal =
        IscsiUrl::at(seed).with_context(|| format!("`{seed}` in `seeds` is not HOST[:PORT]"))?;
    Ok(portal.address())
}

fn members(sections: Vec<MemberSection>, own: &str) -> Result<Vec<Member>> {
    let mut others = HashSet::new();
    let mut members = Vec::new();
    for MemberSection { name, address } in sections {
        check_name("name", &name)?;
        // One list serves every node: a node leaves itself out.
        if name == own {
            continue;
        }
        ensure!(
            others.insert(name.clone()),
            "two members are named `{name}`"
        );
        let portal = IscsiUrl::at(&address)
            .with_context(|| format!("member `{name}`: `{address}` is not HOST[:PORT]"))?;
        members.push(Member {
            name: name.parse()?,
            address: portal.address(),
        });
    }
    Ok(members)
}
