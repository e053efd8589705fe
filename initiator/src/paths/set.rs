//! The paths of a unit, and which of them can be used now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmthunder_volume::Class;

use super::cache::SharedCache;
use super::choice::{Candidate, PathPolicy, choose, in_use};
use super::operation::Trouble;
use super::path::Path;
use super::ranges::Changes;
use crate::connection::now;
use crate::job::UnitSize;
use crate::{CacheLoss, Error, Outage};

/// The paths of a unit, and which of them can be used now.
#[derive(Debug)]
pub(crate) struct PathSet {
    pub(crate) paths: Vec<Path>,
    policy: PathPolicy,
    pub(crate) outage: Outage,
    /// How long commands may take that keep what is in doubt from being ended.
    pub(super) patience: Duration,
    /// The place that was chosen last.
    turn: AtomicUsize,
    pub(crate) changes: Changes,
    pub(super) cache: SharedCache,
    /// What all paths that carry commands agree upon: the least that one of them was told.
    pub(crate) size: UnitSize,
    /// Read while a command is under way; written while what is in doubt is ended.
    pub(super) gate: RwLock<()>,
    /// Something about a path is different.
    news: watch::Sender<()>,
    /// Nobody needs the unit any more.
    pub(crate) over: CancellationToken,
}

/// The permission to send a command on a path.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    pub(crate) place: usize,
    pub(crate) path: &'a Path,
    _gate: RwLockReadGuard<'a, ()>,
}

impl PathSet {
    /// Paths that are kept together.
    pub(crate) fn new(
        paths: Vec<Path>,
        policy: PathPolicy,
        outage: Outage,
        patience: Duration,
        cache_loss: CacheLoss,
    ) -> Self {
        Self {
            paths,
            policy,
            outage,
            patience,
            turn: AtomicUsize::new(usize::MAX),
            changes: Changes::default(),
            cache: SharedCache::new(cache_loss),
            size: UnitSize::default(),
            gate: RwLock::new(()),
            news: watch::Sender::new(()),
            over: CancellationToken::new(),
        }
    }

    /// A path that looks after itself.
    pub(crate) fn alone(path: Path) -> Self {
        Self::new(
            vec![path],
            PathPolicy::default(),
            Outage::Wait,
            Duration::MAX,
            CacheLoss::Report,
        )
    }

    /// Something about a path is different: whoever waits for one looks again.
    pub(crate) fn tell(&self) {
        self.news.send_replace(());
    }

    /// All paths are to be asked how their ports reach the unit.
    pub(crate) fn question_all(&self) {
        self.paths
            .iter()
            .for_each(|path| path.question.notify_one());
    }

    /// True if the unit told another size on one path than on another.
    pub(crate) fn sizes_differ(&self) -> bool {
        let sizes: BTreeSet<u64> = self.sizes().collect();
        sizes.len() > 1
    }

    /// The unit is as large as all paths say.
    pub(crate) fn agree_on_size(&self) {
        if let Some(least) = self.sizes().min() {
            self.size.set(least);
        }
    }

    /// What the paths say that carry commands: a port that is not active need not know.
    fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        let active = self.paths.iter().filter(|path| path.is_active());
        active.filter_map(Path::blocks)
    }

    /// Waits for a path, as long as the policy for outages allows. For one that changes the unit nothing is in doubt then.
    pub(crate) async fn passage<'a>(
        self: &'a Arc<Self>,
        trouble: &mut Trouble,
    ) -> Result<Passage<'a>, Error> {
        let mut news = self.news.subscribe();
        loop {
            news.mark_unchanged();
            trouble.check(self)?;
            if trouble.settles
                && self.is_in_doubt()
                && let Err(error) = self.wait_until_settled(trouble).await?
            {
                trouble.reason = Some(error);
            } else {
                let gate = self.gate.read().await;
                if trouble.settles && self.is_in_doubt() {
                    continue;
                }
                if let Some(place) = self.choose(trouble)
                    && let Some(path) = self.paths.get(place)
                {
                    return Ok(Passage {
                        place,
                        path,
                        _gate: gate,
                    });
                }
            }
            self.wait(&mut news, trouble).await?;
        }
    }

    /// Ends what is in doubt, in a task of its own: whoever drops a command must not let others begin while the unit is
    /// being reset. The outer error is that of the policy for outages.
    async fn wait_until_settled(
        self: &Arc<Self>,
        trouble: &mut Trouble,
    ) -> Result<Result<(), Error>, Error> {
        trouble.begin();
        let deadline = match self.outage {
            Outage::Deadline(patience) => Some(trouble.since() + patience),
            Outage::Wait | Outage::Fail => None,
        };
        let set = Arc::clone(self);
        let settling = tokio::spawn(async move { set.settle().await });
        tokio::select! {
            biased;
            () = self.over.cancelled() => Err(Error::Closed),
            settled = settling => Ok(settled.unwrap_or(Err(Error::Closed))),
            () = until(deadline) => Err(trouble.verdict(self)),
        }
    }

    /// The places of the paths that commands take at the moment.
    pub(crate) fn in_use(&self) -> Vec<usize> {
        in_use(&self.candidates(|_| true))
    }

    fn candidates(&self, open: impl Fn(usize) -> bool) -> Vec<Candidate> {
        let now = now();
        let paths = self.paths.iter().enumerate();
        paths
            .filter(|(place, _)| open(*place))
            .filter_map(|(place, path)| path.candidate(place, now))
            .collect()
    }

    fn choose(&self, trouble: &Trouble) -> Option<usize> {
        let candidates = self.candidates(|place| !trouble.avoids(place));
        let place = choose(&candidates, self.policy, self.turn.load(Ordering::Relaxed))?;
        self.turn.store(place, Ordering::Relaxed);
        Some(place)
    }

    /// Waits until some path is connected, for so long at most.
    pub(super) async fn until_connected(&self, patience: Duration) {
        let mut news = self.news.subscribe();
        let connected = async {
            while !self.paths.iter().any(Path::is_connected) && news.changed().await.is_ok() {}
        };
        // Whoever waits looks for itself.
        let _ = tokio::time::timeout(patience, connected).await;
    }

    /// Waits until something is different.
    async fn wait(
        &self,
        news: &mut watch::Receiver<()>,
        trouble: &mut Trouble,
    ) -> Result<(), Error> {
        trouble.begin();
        if self.over.is_cancelled() || self.paths.iter().all(Path::is_refused) {
            return Err(trouble.verdict(self));
        }
        let deadline = match trouble.class {
            Class::Peer => Some(trouble.since()),
            _ => self.deadline(trouble),
        };
        tokio::select! {
            biased;
            () = self.over.cancelled() => Err(Error::Closed),
            _ = news.changed() => Ok(()),
            () = until(deadline) => Err(trouble.verdict(self)),
            () = tokio::time::sleep(LOOK_AGAIN), if trouble.settles => Ok(()),
        }
    }

    /// When the policy for outages loses patience. A port on its way to another state is no outage for a while.
    fn deadline(&self, trouble: &Trouble) -> Option<Instant> {
        match self.outage {
            Outage::Wait => None,
            Outage::Deadline(patience) => Some(trouble.since() + patience),
            Outage::Fail if self.paths.iter().any(Path::is_in_transition) => {
                Some(trouble.since() + LONGEST_TRANSITION)
            }
            Outage::Fail => Some(trouble.since()),
        }
    }

    /// Logs every session out.
    pub(crate) async fn close(&self) {
        self.over.cancel();
        for session in self.paths.iter().filter_map(Path::session) {
            session.close().await;
        }
    }
}

/// Waits until then; for ever if there is no such time.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// How long a port may be on its way to another state (SPC-4 §6.38: IMPLICIT TRANSITION TIME is one byte of seconds).
const LONGEST_TRANSITION: Duration = Duration::from_secs(60);

/// How soon to try again to end what is in doubt.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
