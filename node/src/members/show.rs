//! `vmthunder swarm`, and what a node tells about the others.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use vmthunder_swarm::fetch::Source;
use vmthunder_swarm::membership::{ImageTag, Images, Known, State, Through};

use super::keys::new_key;
use super::{Belonging, Members};
use crate::args::SwarmCommand;
use crate::attach::Attached;
use crate::control::{Request, ask};
use crate::observe::line;
use crate::status::{print_json, size, table};

/// What a node tells about its swarm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SwarmStatus {
    /// Where the node is that has this one's name and keeps it out.
    pub(crate) name_taken_at: Option<String>,
    /// Datagrams that were refused; none where there is no gossip.
    pub(crate) refused_datagrams: Option<u64>,
    /// What etcd is good for; nothing where it is not asked.
    pub(crate) etcd: Option<EtcdStatus>,
    /// The other nodes.
    pub(crate) members: Vec<MemberStatus>,
}

/// A node's dealings with etcd.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EtcdStatus {
    /// Whether it answers, and this node is written down there.
    pub(crate) answers: bool,
    /// Records that were not made with the swarm's key, as often as they were seen.
    pub(crate) refused_records: u64,
}

/// Another node of the swarm, as `vmthunder swarm members --json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberStatus {
    /// Its name.
    pub(crate) name: String,
    /// Where its target is.
    pub(crate) address: String,
    /// `alive`, `suspect`, `draining` or `left`.
    pub(crate) state: String,
    /// Grows with each of its lives; 0 where nobody counts.
    pub(crate) generation: u64,
    /// Since when it is in this state: seconds since 1970, UTC.
    pub(crate) since: u64,
    /// How it is known: `configuration`, `gossip` or `etcd`.
    pub(crate) through: String,
    /// The images that it is attached to: their names where this node has them, else the first eight digits of their
    /// roots. Null if it does not say, and counts as attached to every image.
    pub(crate) images: Option<Vec<String>>,
    /// What was taken from it, in bytes.
    pub(crate) taken_bytes: u64,
    /// Questions that it refused.
    pub(crate) refusals: u64,
    /// Questions that it did not answer.
    pub(crate) failures: u64,
    /// Answers that were wrong.
    pub(crate) corrupt: u64,
    /// Whether it is left out at the moment: dead, slow or in quarantine.
    pub(crate) left_out: bool,
}

/// What a member did for the images of a node.
#[derive(Clone, Copy, Default)]
struct Service {
    bytes: u64,
    refusals: u64,
    failures: u64,
    corrupt: u64,
    left_out: bool,
}

/// Carries out `vmthunder swarm`.
pub(crate) async fn run(command: SwarmCommand) -> Result<()> {
    match command {
        SwarmCommand::Key { epoch } => line(new_key(epoch)?.line().as_str()),
        SwarmCommand::ReloadKeys { node } => {
            let epochs: Vec<u32> = ask(&node.socket()?, &Request::ReloadKeys).await?;
            let mut epochs = epochs.iter();
            let used = epochs.next().copied().unwrap_or_default();
            match epochs.next() {
                Some(other) => line(format_args!(
                    "key {used} is used, key {other} is accepted too"
                )),
                None => line(format_args!("key {used} is used, no other is accepted")),
            }
        }
        SwarmCommand::Members { json, node } => {
            let swarm: SwarmStatus = ask(&node.socket()?, &Request::Members).await?;
            match json {
                true => print_json(&swarm.members),
                false => print_swarm(&swarm),
            }
        }
    }
}

impl SwarmStatus {
    /// What is known of the others, and what they did for these images.
    pub(crate) fn of<'a>(
        belonging: &Belonging,
        images: impl Iterator<Item = &'a Attached>,
    ) -> Self {
        let members: &Members = &belonging.members;
        let images: Vec<&Attached> = images.collect();
        let services = services(images.iter().copied());
        let name_of = |tag: &ImageTag| {
            let is =
                |image: &&&Attached| image.root.is_some_and(|root| ImageTag::of(&root) == *tag);
            let found = images.iter().find(is);
            found.map_or_else(|| tag.to_string(), |image| image.name.clone())
        };
        let status = |known: Known| {
            let name = known.member.name.to_string();
            let service = services.get(&name).copied().unwrap_or_default();
            let images = match &known.member.images {
                Images::Any => None,
                Images::These(tags) => Some(tags.iter().map(name_of).collect()),
            };
            status(known, name, images, service)
        };
        let gossip = belonging.gossip.as_ref();
        Self {
            name_taken_at: members.taken_by().map(|holder| holder.address),
            etcd: belonging.etcd.as_ref().map(|etcd| EtcdStatus {
                answers: etcd.answers.load(Ordering::Relaxed),
                refused_records: etcd.refused.load(Ordering::Relaxed),
            }),
            refused_datagrams: gossip.map(|gossip| gossip.refused.load(Ordering::Relaxed)),
            members: members.all().into_iter().map(status).collect(),
        }
    }
}

fn status(
    known: Known,
    name: String,
    images: Option<Vec<String>>,
    service: Service,
) -> MemberStatus {
    let state = match known.state {
        State::Alive => "alive",
        State::Suspect => "suspect",
        State::Draining => "draining",
        State::Left => "left",
    };
    let through = match known.through {
        Through::Configuration => "configuration",
        Through::Gossip => "gossip",
        Through::Etcd => "etcd",
    };
    MemberStatus {
        name,
        address: known.member.address,
        state: state.to_owned(),
        generation: known.member.generation,
        since: known.since,
        through: through.to_owned(),
        images,
        taken_bytes: service.bytes,
        refusals: service.refusals,
        failures: service.failures,
        corrupt: service.corrupt,
        left_out: service.left_out,
    }
}

fn services<'a>(images: impl Iterator<Item = &'a Attached>) -> BTreeMap<String, Service> {
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    let bases = images.flat_map(|image| std::iter::once(&image.image).chain(&image.manifest));
    for base in bases {
        let Some(course) = base.course() else {
            continue;
        };
        for source in course.fetched.below().stats().sources {
            let Source::Peer(name) = source.source else {
                continue;
            };
            let service = services.entry(name.to_string()).or_default();
            service.bytes += source.bytes;
            service.refusals += source.refusals;
            service.failures += source.failures;
            service.corrupt += source.corrupt;
            service.left_out |= source.absent;
        }
    }
    services
}

/// Prints the other nodes for people.
pub(crate) fn print_swarm(swarm: &SwarmStatus) -> Result<()> {
    if let Some(holder) = &swarm.name_taken_at {
        line(format_args!(
            "NO MEMBER of the swarm: another node has this name and lives at {holder}"
        ))?;
    }
    if swarm.etcd.as_ref().is_some_and(|etcd| !etcd.answers) {
        line("etcd DOES NOT ANSWER: these are the nodes that were known before")?;
    }
    let mut rows = table(&[
        "node",
        "address",
        "state",
        "since",
        "generation",
        "known by",
        "images",
        "taken",
        "refused",
        "failed",
        "corrupt",
    ]);
    for member in &swarm.members {
        let since = i64::try_from(member.since).ok();
        let since = since.and_then(|since| DateTime::<Utc>::from_timestamp(since, 0));
        let state = match member.left_out {
            true => format!("{}, LEFT OUT", member.state),
            false => member.state.clone(),
        };
        rows.add_row([
            member.name.clone(),
            member.address.clone(),
            state,
            since.map_or_else(String::new, |since| since.format("%F %TZ").to_string()),
            member.generation.to_string(),
            member.through.clone(),
            member
                .images
                .as_ref()
                .map_or_else(|| "any".to_owned(), |images| images.join(" ")),
            size(member.taken_bytes),
            member.refusals.to_string(),
            member.failures.to_string(),
            member.corrupt.to_string(),
        ]);
    }
    line(rows)
}
