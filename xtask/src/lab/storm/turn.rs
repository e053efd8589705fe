//! One storm: guests begin, something may go wrong, and what came of it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::Value;

use super::cluster::{Cluster, Guest, Shape, Stage, kill_guest};
use super::net::{Net, Traffic};
use crate::bench::cpu::Processors;

/// Figures of a machine that was busier than that say more about the machine.
const TOO_BUSY: f64 = 0.9;
/// How long an origin stays away, and how long a network stays apart.
const AWAY: Duration = Duration::from_secs(5);
const APART: Duration = Duration::from_secs(10);
/// How often a cache that rots is spoilt anew.
const ROT: Duration = Duration::from_millis(500);
/// The slow node has this part of its link.
const SLOWER: u32 = 10;
/// Beside the time that a storm can take.
const MARGIN: Duration = Duration::from_secs(120);

/// What a storm is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nodes read from each other.
    Swarm,
    /// All nodes read from the origin.
    Star,
    /// One guest, and nobody else who reads.
    Alone,
    /// A swarm in which something goes wrong.
    Fault(Fault),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// One node in ten loses power in the middle of the storm, and its guest with it.
    Kill,
    /// The origin dies early in the storm, and is back after five seconds.
    RestartOrigin,
    /// Half of the nodes are cut off from the origin and the others for ten seconds.
    Partition,
    /// A node whose cache is full, and whose disk changes every extent in it behind its back, again and again.
    Corrupt,
    /// A node with a tenth of the rate.
    Slow,
}

impl Kind {
    pub(super) fn name(self) -> String {
        match self {
            Self::Swarm => "swarm".to_owned(),
            Self::Star => "star".to_owned(),
            Self::Alone => "alone".to_owned(),
            Self::Fault(fault) => fault
                .to_possible_value()
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default(),
        }
    }
}

/// What all storms of a lab have in common.
pub(super) struct Plan<'a> {
    pub(super) net: &'a Net<'a>,
    pub(super) stage: Stage<'a>,
    /// Guests begin within so long.
    pub(super) spread: Duration,
    /// What no storm can be quicker than.
    pub(super) bound: Duration,
}

/// One storm.
pub(super) struct Turn {
    pub(super) kind: Kind,
    /// How long the nodes took to know each other, and the sessions that they had then.
    pub(super) settled: Option<(f64, u64)>,
    /// The host with a tenth of the rate.
    pub(super) slow: Option<u32>,
    /// The part of all processors that was busy.
    pub(super) busy: f64,
    pub(super) origin: Traffic,
    pub(super) guests: Vec<Outcome>,
}

/// A node and its guest.
pub(super) struct Outcome {
    pub(super) host: u32,
    pub(super) ending: Ending,
    /// Seconds after the first when it began.
    pub(super) began: f64,
    pub(super) traffic: Traffic,
    /// What the node says about its image, and about the others.
    pub(super) image: Value,
    pub(super) peers: Value,
}

/// What became of a guest.
pub(super) enum Ending {
    /// It has booted: what it says.
    Booted(Value),
    /// It ended otherwise, or too late.
    Failed(String),
    /// Its host lost power.
    Killed,
    /// It had booted before.
    Absent,
}

impl Turn {
    /// Whether its times count.
    pub(super) fn is_void(&self) -> bool {
        self.busy > TOO_BUSY
    }
}

impl Plan<'_> {
    /// Lets a cluster of its own go through a storm.
    pub(super) fn play(&self, kind: Kind, folder: PathBuf) -> Result<Turn> {
        let shape = match kind {
            Kind::Star | Kind::Alone => Shape::Star,
            Kind::Swarm | Kind::Fault(_) => Shape::Swarm,
        };
        let mut cluster = Cluster::new(&self.stage, folder, shape)?;
        let odd = self.stage.nodes;
        let hosts = match kind {
            Kind::Alone => 1..2,
            Kind::Fault(Fault::Corrupt) => {
                // Before there are others: they are to get nothing of it but rot.
                cluster.start(odd..odd + 1)?;
                cluster.guest(odd, 0.0)?.boot(self.limit())?;
                self.spoil(&cluster)?;
                1..odd
            }
            _ => 1..odd + 1,
        };
        let nodes = match kind {
            Kind::Alone => 1..odd + 1,
            _ => hosts.clone(),
        };
        cluster.start(nodes)?;
        let settled = match shape {
            Shape::Swarm => Some(cluster.settle()?),
            Shape::Star => None,
        };
        let slow = (kind == Kind::Fault(Fault::Slow)).then_some(odd);
        if let Some(host) = slow {
            self.net.slow_down(host, SLOWER)?;
        }
        let mut guests = Vec::new();
        for host in hosts {
            guests.push((host, cluster.guest(host, self.stage.pace)?));
        }
        let before: Result<Vec<Traffic>> = (0..=odd).map(|host| self.net.traffic(host)).collect();
        let processors = Processors::begin()?;
        let mut guests = self.storm(&mut cluster, kind, &mut guests)?;
        let busy = processors.busy()?;
        if let Some(host) = slow {
            self.net.restore(host)?;
        }
        if kind == Kind::Fault(Fault::Corrupt) {
            guests.push(Outcome::new(odd, Ending::Absent, 0.0));
        }
        let origin = self.collect(&cluster, &before?, &mut guests)?;
        cluster.stop()?;
        Ok(Turn {
            kind,
            settled,
            slow,
            busy,
            origin,
            guests,
        })
    }

    /// What has passed each link since, and what the nodes say; what the origin sent.
    fn collect(
        &self,
        cluster: &Cluster<'_>,
        before: &[Traffic],
        guests: &mut [Outcome],
    ) -> Result<Traffic> {
        let mut origin = Traffic::default();
        for (host, before) in (0..).zip(before) {
            let now = self.net.traffic(host)?;
            let passed = Traffic {
                sent: now.sent.saturating_sub(before.sent),
                received: now.received.saturating_sub(before.received),
            };
            match guests.iter_mut().find(|guest| guest.host == host) {
                Some(guest) => {
                    guest.traffic = passed;
                    guest.keep(&cluster.said_by(host)?);
                }
                None if host == 0 => origin = passed,
                None => {}
            }
        }
        Ok(origin)
    }

    /// Changes everything that the last node has in its cache.
    fn spoil(&self, cluster: &Cluster<'_>) -> Result<()> {
        let spoilt = self.stage.boot.spoil(&cluster.cache(self.stage.nodes))?;
        let all = self.stage.boot.working_set() / super::boot::EXTENT;
        ensure!(
            spoilt as u64 * 2 > all,
            "only {spoilt} of {all} extents were found in the cache that was to be spoilt"
        );
        Ok(())
    }

    /// Boots all guests, each at its time, and lets go wrong what is to.
    fn storm(
        &self,
        cluster: &mut Cluster<'_>,
        kind: Kind,
        guests: &mut [(u32, Guest)],
    ) -> Result<Vec<Outcome>> {
        let pids: Vec<(u32, u32)> = guests
            .iter()
            .map(|(host, guest)| (*host, guest.pid()))
            .collect();
        let (limit, count) = (self.limit(), guests.len().max(1));
        let booting = AtomicUsize::new(guests.len());
        let start = Instant::now();
        let (ended, killed) = thread::scope(|scope| {
            let boots: Vec<_> = guests
                .iter_mut()
                .zip(0_u32..)
                .map(|((host, guest), at)| {
                    let wait = self.spread.mul_f64(f64::from(at) / count as f64);
                    let booting = &booting;
                    let boot = move || {
                        thread::sleep(wait.saturating_sub(start.elapsed()));
                        let began = start.elapsed().as_secs_f64();
                        let ended = guest.boot(limit);
                        booting.fetch_sub(1, Ordering::Relaxed);
                        (began, ended)
                    };
                    (*host, scope.spawn(boot))
                })
                .collect();
            let killed = match kind {
                Kind::Fault(fault) => self.strike(cluster, fault, &pids, &booting),
                _ => Ok(HashSet::new()),
            };
            let ended: Vec<_> = boots
                .into_iter()
                .map(|(host, boot)| (host, boot.join()))
                .collect();
            (ended, killed)
        });
        let killed = killed?;
        Ok(ended
            .into_iter()
            .map(|(host, ended)| match ended {
                Ok((began, _)) if killed.contains(&host) => {
                    Outcome::new(host, Ending::Killed, began)
                }
                Ok((began, Ok(told))) => Outcome::new(host, Ending::Booted(told), began),
                Ok((began, Err(error))) => {
                    Outcome::new(host, Ending::Failed(format!("{error:#}")), began)
                }
                Err(_) => Outcome::new(host, Ending::Failed("the lab panicked".to_owned()), 0.0),
            })
            .collect())
    }

    /// Lets something go wrong in the middle of a storm; the hosts that lost power.
    fn strike(
        &self,
        cluster: &mut Cluster<'_>,
        fault: Fault,
        pids: &[(u32, u32)],
        booting: &AtomicUsize,
    ) -> Result<HashSet<u32>> {
        let mut killed = HashSet::new();
        match fault {
            Fault::Kill => {
                thread::sleep(self.bound / 2);
                // Any of them, seeds as well.
                for (host, guest) in pids.iter().skip(1).step_by(10) {
                    cluster.kill(*host)?;
                    kill_guest(*guest)?;
                    killed.insert(*host);
                }
            }
            Fault::RestartOrigin => {
                thread::sleep(self.bound / 4);
                cluster.kill_origin()?;
                thread::sleep(AWAY);
                cluster.start_origin()?;
            }
            Fault::Partition => {
                thread::sleep(self.bound / 4);
                let (half, all) = (self.stage.nodes / 2, self.stage.nodes);
                self.net
                    .cut(&format!("0,{}-{all}", half + 1), &format!("1-{half}"))?;
                thread::sleep(APART);
                self.net.heal()?;
            }
            Fault::Corrupt => {
                // What the node fetched again because it found the rot rots again.
                let cache = cluster.cache(self.stage.nodes);
                while booting.load(Ordering::Relaxed) > 0 {
                    self.stage.boot.spoil(&cache)?;
                    thread::sleep(ROT);
                }
            }
            Fault::Slow => {}
        }
        Ok(killed)
    }

    /// How long any guest may take: a star with a slow node and a busy machine.
    fn limit(&self) -> Duration {
        self.bound * (40 + 3 * self.stage.nodes) + self.spread + MARGIN
    }
}

impl Outcome {
    fn new(host: u32, ending: Ending, began: f64) -> Self {
        Self {
            host,
            ending,
            began,
            traffic: Traffic::default(),
            image: Value::Null,
            peers: Value::Null,
        }
    }

    /// Keeps what matters of what the node says about itself; a dead one says nothing.
    fn keep(&mut self, said: &Value) {
        self.image = said["images"][0].clone();
        self.peers = said["swarm"]["members"].clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dead_node_says_nothing() {
        let mut guest = Outcome::new(2, Ending::Killed, 0.0);
        guest.keep(&json!({ "images": [{ "corrupt": 0 }], "swarm": { "members": [] } }));
        assert_eq!(
            (&guest.image, &guest.peers),
            (&json!({ "corrupt": 0 }), &json!([]))
        );
        guest.keep(&Value::Null);
        assert_eq!((guest.image, guest.peers), (Value::Null, Value::Null));
    }
}
