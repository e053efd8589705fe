//! Becoming a member, and following who else is one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vmthunder_swarm::membership::etcd::{Etcd, EtcdCounters, EtcdOptions, Login, Tls};
use vmthunder_swarm::membership::gossip::GossipOptions;
use vmthunder_swarm::membership::udp::{GossipCounters, UdpGossip};
use vmthunder_swarm::membership::{Event, Images, Listed, Member, Membership};

use super::Members;
use super::file::MembersFile;
use super::keys::KeyFile;
use crate::config::{Config, EtcdConfig, MemberSource, SwarmConfig};
use crate::secrets;

/// How long changes are gathered before they are remembered.
const SAVE_AFTER: Duration = Duration::from_millis(250);

/// How long a start waits for the addresses of its seeds.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(3);

/// How long a node that ends takes to say so.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// A node's part in its swarm; nothing for a node that is in none.
pub(crate) struct Belonging {
    pub(crate) members: Arc<Members>,
    pub(crate) gossip: Option<Arc<GossipCounters>>,
    pub(crate) etcd: Option<Arc<EtcdCounters>>,
    following: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Belonging {
    /// Tells the others that this node goes.
    pub(crate) async fn leave(self) {
        if let Some((stop, following)) = self.following {
            stop.cancel();
            let _ = tokio::time::timeout(LEAVE_PATIENCE, following).await;
        }
    }
}

/// Becomes a member of the swarm that a configuration names; `listening` is where the node's target is.
pub(crate) async fn begin(
    config: &Config,
    keys: Option<&KeyFile>,
    listening: &[SocketAddr],
) -> Result<Belonging> {
    let members = Members::new();
    let (Some(swarm), Some(keys)) = (&config.swarm, keys) else {
        return Ok(Belonging {
            members,
            gossip: None,
            etcd: None,
            following: None,
        });
    };
    let (mut gossip, mut etcd) = (None, None);
    let file = config.data.as_deref().map(MembersFile::in_folder);
    let following = match &swarm.source {
        MemberSource::Listed(list) => {
            let listed = list.iter().map(|member| Member {
                name: member.name.clone(),
                address: member.address.clone(),
                generation: 0,
                draining: false,
                images: Images::Any,
            });
            follow(&members, Listed::new(listed), None).await?
        }
        MemberSource::Gossip { seeds } => {
            let file = file.context("a node of a swarm has a folder")?;
            let udp = listen(config, swarm, seeds, keys, listening, &file).await?;
            gossip = Some(udp.counters());
            follow(&members, udp, Some(file)).await?
        }
        MemberSource::Etcd(place) => {
            let file = file.context("a node of a swarm has a folder")?;
            let (_, address) = reached_at(swarm, listening)?;
            let source = Etcd::new(EtcdOptions {
                endpoints: place.endpoints.clone(),
                prefix: place.prefix.clone(),
                login: login(place)?,
                tls: tls(place)?,
                name: config.name.clone(),
                address,
                keys: keys.ring(),
                remembered: file.load(),
            });
            etcd = Some(source.counters());
            follow(&members, source, Some(file)).await?
        }
    };
    Ok(Belonging {
        members,
        gossip,
        etcd,
        following: Some(following),
    })
}

/// Where this node listens for others, and where they reach it.
fn reached_at(swarm: &SwarmConfig, listening: &[SocketAddr]) -> Result<(SocketAddr, SocketAddr)> {
    let first = listening.first();
    let reached = |at: &&SocketAddr| swarm.address.is_some_and(|address| address.ip() == at.ip());
    let at = listening.iter().find(reached).or(first);
    let at = *at.context("a node listens somewhere")?;
    let address = swarm.address.unwrap_or(at);
    ensure!(
        !address.ip().is_unspecified(),
        "`listen` says every interface of this machine: say by `swarm.address` at which IP:PORT other nodes reach it"
    );
    Ok((at, address))
}

fn login(place: &EtcdConfig) -> Result<Option<Login>> {
    let Some((user, file)) = &place.login else {
        return Ok(None);
    };
    let password = String::from_utf8(secrets::of_user(file, user)?);
    let password = password
        .ok()
        .with_context(|| format!("{}: no text", file.display()))?;
    Ok(Some(Login {
        user: user.clone(),
        password: password.into(),
    }))
}

fn tls(place: &EtcdConfig) -> Result<Option<Tls>> {
    let Some((authorities, own)) = &place.tls else {
        return Ok(None);
    };
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let authorities = read(authorities)?;
    let own = match own {
        Some((certificate, key)) => Some((read(certificate)?, secrets::read(key)?)),
        None => None,
    };
    let own = own.as_ref();
    let own = own.map(|(certificate, key)| (certificate.as_slice(), key.as_bytes()));
    let tls = Tls::new(&authorities, own).context("`etcd-ca-file` and its like")?;
    Ok(Some(tls))
}

/// Takes part in the gossip on the port of the target.
async fn listen(
    config: &Config,
    swarm: &SwarmConfig,
    seeds: &[String],
    keys: &KeyFile,
    listening: &[SocketAddr],
    file: &MembersFile,
) -> Result<UdpGossip> {
    let (at, address) = reached_at(swarm, listening)?;
    let socket = UdpSocket::bind(at).await;
    let socket =
        socket.with_context(|| format!("cannot listen on {at} with UDP, where the nodes talk"))?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let options = GossipOptions {
        name: config.name.clone(),
        address,
        keys: keys.ring(),
        // What takes longer is resolved while the node serves.
        seeds: tokio::time::timeout(RESOLVE_PATIENCE, UdpGossip::resolve(seeds))
            .await
            .unwrap_or_default(),
        remembered: {
            let places = file.load().into_iter();
            places
                .filter_map(|member| member.address.parse().ok())
                .collect()
        },
        random: u64::from_le_bytes(random),
    };
    Ok(UdpGossip::new(socket, seeds.to_vec(), options))
}

/// Waits until this node is a member, and follows in the background who else is.
async fn follow<M: Membership + 'static>(
    members: &Arc<Members>,
    mut source: M,
    file: Option<MembersFile>,
) -> Result<(CancellationToken, JoinHandle<()>)> {
    loop {
        match source.next().await {
            Event::Joined => break,
            Event::NameTaken(holder) => bail!(
                "another node named `{}` lives at {}: give this one a name of its own, or stop the other one first",
                holder.name,
                holder.address
            ),
            event => members.apply(M::THROUGH, event),
        }
    }
    let (members, stop) = (Arc::clone(members), CancellationToken::new());
    let stopped = stop.clone();
    let following = tokio::spawn(async move {
        let mut changes = members.changes();
        let mut own = members.own.subscribe();
        own.mark_changed();
        let mut save_at = None;
        loop {
            tokio::select! {
                event = source.next() => members.apply(M::THROUGH, event),
                Ok(()) = changes.changed() => {
                    save_at = save_at.or_else(|| Some(tokio::time::Instant::now() + SAVE_AFTER));
                }
                Ok(()) = own.changed() => {
                    let images = own.borrow_and_update().clone();
                    source.set_images(images).await;
                }
                () = due(save_at) => {
                    save_at = None;
                    if let Some(file) = &file {
                        file.save(&members);
                    }
                }
                () = stopped.cancelled() => break,
            }
        }
        if let (Some(file), Some(_)) = (&file, save_at) {
            file.save(&members);
        }
        source.leave().await;
    });
    Ok((stop, following))
}

async fn due(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
