//! The swarm that a node is in: who belongs to it, and what proves that.

mod begin;
mod file;
mod keys;
mod show;
mod warm;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tracing::{error, info};
use vmthunder_swarm::membership::{Event, Images, Known, Member, Roll, Through};

pub(crate) use self::begin::{Belonging, begin};
pub(crate) use self::keys::{KeyFile, write_new_key};
pub(crate) use self::show::{SwarmStatus, print_swarm, run};
pub(crate) use self::warm::{keep_sessions, keep_view};

/// The other nodes, as they are known at any time.
pub(crate) struct Members {
    roll: Mutex<Roll>,
    /// Counts the changes of who is asked.
    changes: watch::Sender<u64>,
    /// What this node says of its images.
    own: watch::Sender<Images>,
}

impl Members {
    /// Nobody yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            roll: Mutex::default(),
            changes: watch::Sender::new(0),
            own: watch::Sender::new(Images::Any),
        })
    }

    /// Those that may be asked for something.
    pub(crate) fn present(&self) -> Vec<Member> {
        self.lock().present().cloned().collect()
    }

    /// Tells the others which images this node is attached to.
    pub(crate) fn set_images(&self, images: Images) {
        self.own.send_replace(images);
    }

    /// Everybody that is or was there.
    pub(crate) fn all(&self) -> Vec<Known> {
        self.lock().all().cloned().collect()
    }

    /// The node that has this one's name.
    pub(crate) fn taken_by(&self) -> Option<Member> {
        self.lock().taken_by().cloned()
    }

    /// Tells when others are to be asked than before.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Writes down what happened.
    fn apply(&self, through: Through, event: Event) {
        match &event {
            Event::NameTaken(holder) if self.taken_by().is_none() => error!(
                name = %holder.name, address = %holder.address,
                "another node has this name and lives: this one is no member of the swarm and takes nothing from peers; \
                give it a name of its own, or stop the other one"
            ),
            Event::Joined if self.taken_by().is_some() => {
                info!("the name is free: a member of the swarm again");
            }
            _ => {}
        }
        let changed = self.lock().apply(unix_seconds(), through, event);
        if changed {
            self.changes
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
