//! The watch over the unit's volatile write cache where several paths lead to it ([`crate::caches`] says what it is for).
//!
//! A flush over one path covers what the unit acknowledged over others, and each path tells of the same restart once: so
//! it is the set that watches, not each session. What a path tells counts only if no other path to the same target
//! contradicts it: one that has told nothing since, and does not when it is asked either. That is how a path that was
//! lost alone is known from a target that was switched off, and the second telling of a restart from a second restart.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use iscsi_proto::scsi::Command;
use iscsi_proto::session::Transfer;
use tokio::sync::Mutex as Turnstile;
use vmthunder_volume::Class;

use super::path::Path;
use super::set::PathSet;
use crate::caches::{CACHING_BYTES, CACHING_PAGE, CacheWatch, writes_back};
use crate::identity::good;
use crate::{CacheLoss, Error};

/// What is known of the unit's write cache.
#[derive(Debug)]
pub(crate) struct SharedCache {
    ledger: Mutex<Ledger>,
    /// One examination at a time.
    turnstile: Turnstile<()>,
    losses: AtomicU64,
    follows: CacheLoss,
}

#[derive(Debug, Default)]
struct Ledger {
    watch: CacheWatch,
    /// Changes that were acknowledged.
    changes: u64,
    /// The paths that told of a restart which is not examined yet.
    tellers: BTreeSet<usize>,
}

impl SharedCache {
    pub(crate) fn new(follows: CacheLoss) -> Self {
        Self {
            ledger: Mutex::default(),
            turnstile: Turnstile::default(),
            losses: AtomicU64::new(0),
            follows,
        }
    }

    /// Changes that were acknowledged so far.
    pub(crate) fn changes(&self) -> u64 {
        self.ledger().changes
    }

    /// How often something may have been lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// A change was acknowledged.
    pub(crate) fn changed(&self) {
        let mut ledger = self.ledger();
        ledger.changes += 1;
        let number = ledger.changes;
        ledger.watch.changed(number);
    }

    /// A path tells of a restart.
    fn restarted(&self, place: usize) {
        let mut ledger = self.ledger();
        ledger.watch.restarted();
        if ledger.watch.is_suspect() {
            ledger.tellers.insert(place);
        }
    }

    /// The paths that tell of a restart, if one has to be examined.
    fn tellers(&self) -> Option<BTreeSet<usize>> {
        let ledger = self.ledger();
        ledger.watch.is_suspect().then(|| ledger.tellers.clone())
    }

    /// The outcome of an examination; false if another path told of a restart meanwhile.
    fn judge(&self, tellers: &BTreeSet<usize>, verdict: Verdict) -> bool {
        let mut ledger = self.ledger();
        if ledger.tellers != *tellers {
            return false;
        }
        ledger.tellers.clear();
        match verdict {
            Verdict::Contradicted => ledger.watch.dismiss(),
            Verdict::Restarted { volatile } => {
                if ledger.watch.judge(volatile, self.follows) {
                    self.losses.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        "the unit was reset or switched on before a flush: what its volatile cache held may be lost"
                    );
                }
            }
        }
        true
    }

    /// A flush was acknowledged that was sent after so many changes.
    fn flushed(&self, changes: u64) -> Result<(), Error> {
        let mut ledger = self.ledger();
        if ledger.watch.tell() {
            return Err(Error::CacheLost);
        }
        match ledger.watch.flushed(changes) {
            true => Ok(()),
            // Another restart meanwhile.
            false => Err(Error::Interrupted),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an examination found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing happened to the unit since the last examination.
    Contradicted,
    Restarted {
        volatile: bool,
    },
}

impl PathSet {
    /// Takes note of what the paths tell.
    pub(crate) fn hear_restarts(&self) {
        for (place, path) in self.paths.iter().enumerate() {
            if path.take_restart() {
                self.cache.restarted(place);
            }
        }
    }

    /// The unit acknowledged a flush that was sent after so many changes. [`Error::Interrupted`] if it has to be asked
    /// again.
    pub(crate) async fn end_of_flush(&self, changes: u64) -> Result<(), Error> {
        self.hear_restarts();
        self.examine_cache()
            .await
            .map_err(|_unknown| Error::Interrupted)?;
        self.cache.flushed(changes)
    }

    /// Finds out whether what the unit acknowledged may be gone, if a path tells of a restart. The error says why that
    /// cannot be known now.
    pub(crate) async fn examine_cache(&self) -> Result<(), Error> {
        let _alone = self.cache.turnstile.lock().await;
        while let Some(tellers) = self.cache.tellers() {
            let verdict = match self.is_contradicted(&tellers).await {
                true => Verdict::Contradicted,
                false => Verdict::Restarted {
                    volatile: self.has_volatile_cache().await?,
                },
            };
            self.hear_restarts();
            self.cache.judge(&tellers, verdict);
        }
        Ok(())
    }

    /// True if for each path that tells of a restart another one to the same target knows nothing of it.
    async fn is_contradicted(&self, tellers: &BTreeSet<usize>) -> bool {
        for teller in tellers.iter().filter_map(|place| self.paths.get(*place)) {
            let paths = self.paths.iter().enumerate();
            let others = paths.filter(|(place, _)| !tellers.contains(place));
            let mut contradicted = false;
            for (_, witness) in others.filter(|(_, path)| path.is_of_target_of(teller)) {
                // What it has to tell comes before any answer.
                contradicted |= self.probe(witness).await && !witness.has_restart();
            }
            if !contradicted {
                return false;
            }
        }
        true
    }

    /// True if the unit answers on this path, whatever it says.
    async fn probe(&self, path: &Path) -> bool {
        let Some(session) = path.session().filter(|_| path.is_connected()) else {
            return false;
        };
        let answer = session.execute(
            path.lun,
            &Command::TestUnitReady,
            Transfer::None,
            Class::Demand,
        );
        matches!(tokio::time::timeout(self.patience, answer).await, Ok(Ok(_)))
    }

    async fn has_volatile_cache(&self) -> Result<bool, Error> {
        let mut failure = Error::Closed;
        for path in self.paths.iter().filter(|path| path.is_connected()) {
            let Some(session) = path.session() else {
                continue;
            };
            let transfer = Transfer::Read(CACHING_BYTES.into());
            let answer = session.execute(path.lun, &CACHING_PAGE, transfer, Class::Demand);
            match tokio::time::timeout(self.patience, answer).await {
                // A unit without the page has no cache that could be lost, as far as anybody can know.
                Ok(Ok(completion)) => {
                    return Ok(good(completion).is_ok_and(|mode| writes_back(&mode)));
                }
                Ok(Err(error)) => failure = error,
                Err(_late) => failure = Error::TimedOut,
            }
        }
        Err(failure)
    }
}
