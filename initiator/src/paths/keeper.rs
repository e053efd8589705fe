//! Whoever keeps a path: makes its session, makes sure of its unit, and asks how its port reaches the unit.

use std::sync::Arc;
use std::time::Duration;

use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;

use super::access::{Access, state_of};
use super::path::Path;
use super::set::PathSet;
use super::unit::UnitName;
use crate::identity::Identity;
use crate::job::UnitSize;
use crate::{Error, Options, Resize, Session};

/// Whoever keeps a path.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) set: Arc<PathSet>,
    pub(crate) place: usize,
    pub(crate) url: IscsiUrl,
    pub(crate) options: Options,
    /// What the unit has to be.
    pub(crate) name: UnitName,
}

impl Keeper {
    /// Keeps the path until nobody needs the unit any more.
    pub(crate) async fn run(self) {
        let Some(path) = self.set.paths.get(self.place) else {
            return;
        };
        tokio::select! {
            biased;
            () = self.set.over.cancelled() => {}
            () = self.keep(path) => {}
        }
    }

    async fn keep(&self, path: &Path) {
        if path.session().is_none() {
            match self.open(path).await {
                Ok(opened) => {
                    path.open(opened.session, opened.size);
                    self.set.question_all();
                }
                Err(error) => {
                    path.refuse(&error);
                    self.set.tell();
                    return;
                }
            }
        }
        if let Some(session) = path.session() {
            self.watch(path, session).await;
        }
    }

    /// Makes the session of a path that could not be made at first; fails only if it leads elsewhere.
    async fn open(&self, path: &Path) -> Result<Opened, Error> {
        let mut attempt = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.options.reconnect.delay(attempt)) => {}
                () = path.question.notified() => tokio::time::sleep(SHORTEST_PAUSE).await,
            }
            attempt = attempt.saturating_add(1);
            match open(&self.url, path.lun, &self.options).await {
                Ok(opened) if self.is_unit(&opened) => {
                    tracing::info!(address = path.address, "path made");
                    return Ok(opened);
                }
                Ok(_other) => return Err(Error::OtherUnit),
                Err(error) => {
                    tracing::debug!(address = path.address, %error, "no path yet");
                    if let Some(state) = state_of(&error) {
                        path.set_access(Access::varying(state));
                    }
                    path.failed(error);
                }
            }
        }
    }

    /// True if a path leads to the unit. Its size may be another one by now only where that is followed, and then it is
    /// looked at on all paths.
    fn is_unit(&self, opened: &Opened) -> bool {
        let follows = self.options.resize == Resize::Follow;
        opened.name == self.name && (follows || opened.size.blocks() == self.set.size.blocks())
    }

    /// Asks again whenever there is a reason to, and tells everybody of each change.
    async fn watch(&self, path: &Path, session: &Session) {
        let (mut standing, mut attentions) = (session.standing(), session.news());
        let (mut logins, mut blocks) = (session.logins(), path.blocks());
        let mut pause = SHORTEST_PAUSE;
        loop {
            standing.mark_unchanged();
            attentions.mark_unchanged();
            self.set.tell();
            for _ in logins..session.logins() {
                path.was_lost();
            }
            logins = session.logins();
            let before = path.access();
            if session.is_connected() {
                self.ask(path, session).await;
                if self.set.sizes_differ() {
                    self.measure(path, session).await;
                }
            }
            if path.blocks() != blocks {
                blocks = path.blocks();
                self.set.question_all();
            }
            self.set.agree_on_size();
            self.set.hear_restarts();
            if let Err(error) = self.set.examine_cache().await {
                tracing::debug!(%error, "what became of the write cache is unknown");
            }
            let access = path.access();
            pause = match access.state.is_active() {
                true => ACTIVE_PAUSE,
                false if access == before => (pause * 2).min(LONGEST_PAUSE),
                false => SHORTEST_PAUSE,
            };
            tokio::select! {
                changed = standing.changed() => if changed.is_err() { return },
                _ = attentions.changed() => self.set.question_all(),
                () = path.question.notified() => tokio::time::sleep(SHORTEST_PAUSE).await,
                () = tokio::time::sleep(pause), if access.varies => {}
            }
        }
    }

    /// Asks for the size once more, since another path was told another one.
    async fn measure(&self, path: &Path, session: &Session) {
        let _gate = self.set.gate.read().await;
        let asked = tokio::time::timeout(self.set.patience, session.attach(path.lun)).await;
        match asked.map_err(|_late| Error::TimedOut) {
            Ok(Ok(_)) => {}
            Ok(Err(error @ (Error::Changed | Error::Closed))) => path.refuse(&error),
            Ok(Err(error)) | Err(error) => path.failed(error),
        }
    }

    async fn ask(&self, path: &Path, session: &Session) {
        let asked = {
            // A reset takes the question away, so none is asked meanwhile; nor does one hold up a reset for long.
            let _gate = self.set.gate.read().await;
            tokio::time::timeout(self.set.patience, Access::ask(session, path.lun))
                .await
                .unwrap_or(Err(Error::TimedOut))
        };
        match asked {
            Ok(access) => {
                let before = path.set_access(access);
                if before.state != access.state {
                    tracing::info!(address = path.address, before = %before.state, now = %access.state, "asymmetric access changed");
                }
            }
            Err(error @ (Error::Changed | Error::Closed)) => path.refuse(&error),
            Err(error) => {
                tracing::debug!(address = path.address, %error, "the port's access state is unknown");
                path.failed(error);
            }
        }
        self.set.tell();
    }
}

/// A path that was made, and the unit that it leads to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) session: Session,
    pub(crate) name: UnitName,
    pub(crate) identity: Identity,
    pub(crate) size: UnitSize,
}

/// Makes the session of a path and learns what its unit is.
pub(crate) async fn open(url: &IscsiUrl, lun: Lun, options: &Options) -> Result<Opened, Error> {
    let session = Session::connect_path(url, options.clone()).await?;
    let (name, identity, size) = UnitName::attach(&session, lun).await?;
    Ok(Opened {
        session,
        name,
        identity,
        size,
    })
}

/// The pauses between questions about a port that is not active: no command goes there that could bring an answer.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pause while it is active: the unit should tell of a change by a Unit Attention.
const ACTIVE_PAUSE: Duration = Duration::from_secs(120);
