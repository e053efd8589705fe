//! `[swarm]`: who else is there, and what proves it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use iscsi_proto::url::IscsiUrl;
use serde::Deserialize;
use vmthunder_swarm::forest::NodeName;
use vmthunder_swarm::membership::etcd::Endpoint;

use super::{check_name, written};

/// Where a swarm's keys are in etcd, if the configuration does not say.
const ETCD_PREFIX: &str = "/vmthunder/";

/// The longest beginning of keys in etcd.
const MOST_PREFIX: usize = 128;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SwarmSection {
    key_file: PathBuf,
    #[serde(default, deserialize_with = "written::some")]
    address: Option<SocketAddr>,
    members: Option<Vec<MemberSection>>,
    seeds: Option<Vec<String>>,
    etcd: Option<Vec<String>>,
    etcd_prefix: Option<String>,
    etcd_user: Option<String>,
    etcd_password_file: Option<PathBuf>,
    etcd_ca_file: Option<PathBuf>,
    etcd_certificate_file: Option<PathBuf>,
    etcd_key_file: Option<PathBuf>,
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
    /// They write themselves down in etcd.
    Etcd(EtcdConfig),
}

/// The etcd cluster that knows the members.
#[derive(Debug)]
pub(crate) struct EtcdConfig {
    /// Where it is.
    pub(crate) endpoints: Vec<Endpoint>,
    /// What the keys of this swarm begin with; it ends with `/`.
    pub(crate) prefix: String,
    /// As whom it is asked: the user, and the file of the password.
    pub(crate) login: Option<(String, PathBuf)>,
    /// The certificates that `https` rests on: whose signature counts, and what this node proves itself with.
    pub(crate) tls: Option<(PathBuf, Option<(PathBuf, PathBuf)>)>,
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
    pub(super) fn check(mut self, own: &str, folder: &Path) -> Result<SwarmConfig> {
        let ways = (self.members.take(), self.seeds.take(), self.etcd.take());
        let source = match ways {
            (Some(list), None, None) => MemberSource::Listed(members(list, own)?),
            (None, Some(seeds), None) => MemberSource::Gossip {
                seeds: seeds
                    .iter()
                    .map(|seed| seed_of(seed))
                    .collect::<Result<_>>()?,
            },
            (None, None, Some(places)) => MemberSource::Etcd(self.etcd(&places, folder)?),
            _ => bail!(
                "name either `seeds`, some nodes that know the others, or `members`, all the nodes, or `etcd`, where that \
                is; for the first node of a swarm: seeds = []"
            ),
        };
        ensure!(
            self.etcd_prefix.is_none()
                && self.etcd_user.is_none()
                && self.etcd_password_file.is_none()
                && self.etcd_ca_file.is_none()
                && self.etcd_certificate_file.is_none()
                && self.etcd_key_file.is_none(),
            "`etcd-...` is nothing without `etcd`"
        );
        Ok(SwarmConfig {
            key_file: folder.join(self.key_file),
            address: self.address,
            source,
        })
    }

    /// What is said about etcd; nothing of it is left.
    fn etcd(&mut self, places: &[String], folder: &Path) -> Result<EtcdConfig> {
        ensure!(!places.is_empty(), "`etcd` is empty");
        let endpoint = |place: &String| {
            let parsed = place.parse::<Endpoint>();
            parsed.with_context(|| format!("`{place}` in `etcd`"))
        };
        let endpoints: Vec<Endpoint> = places.iter().map(endpoint).collect::<Result<_>>()?;
        let file = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        let login = match (self.etcd_user.take(), file(self.etcd_password_file.take())) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => bail!("`etcd-user` and `etcd-password-file` belong together"),
        };
        let certificate = file(self.etcd_certificate_file.take());
        let own = match (certificate, file(self.etcd_key_file.take())) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("`etcd-certificate-file` and `etcd-key-file` belong together"),
        };
        let is_secure = endpoints.iter().any(Endpoint::is_secure);
        let tls = match (is_secure, file(self.etcd_ca_file.take())) {
            (true, Some(authorities)) => Some((authorities, own)),
            (true, None) => bail!("https needs `etcd-ca-file`: whose signature counts"),
            (false, None) if own.is_none() => None,
            (false, _) => bail!("certificates serve `etcd` with https:// only"),
        };
        let mut prefix = self
            .etcd_prefix
            .take()
            .unwrap_or_else(|| ETCD_PREFIX.into());
        if !prefix.ends_with('/') {
            prefix.push('/');
        }
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        ensure!(
            prefix.len() <= MOST_PREFIX && prefix.bytes().all(is_plain),
            "`etcd-prefix` has at most {MOST_PREFIX} printable characters of ASCII"
        );
        Ok(EtcdConfig {
            endpoints,
            prefix,
            login,
            tls,
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
