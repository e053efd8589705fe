//! The task that owns a session: it keeps every command until it is answered, makes a new connection when one is
//! lost, makes sure that the units are still the same, and repeats what was not answered, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use iscsi_proto::scsi::Sense;
use iscsi_proto::session::{InitiatorEvent, RequestId, SessionEnd};
use iscsi_proto::wire::lun::Lun;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::caches::CacheWatch;
use crate::connection::{Connection, now};
use crate::dial::Dialer;
use crate::guard::{Guard, Trust};
use crate::job::{AttachReply, Job, Order, ResetReply, UnitSize};
use crate::nexus::{Nexus, Strays};
use crate::status::Status;
use crate::{Error, Options};

/// The task that owns a session.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) dialer: Dialer,
    pub(crate) options: Options,
    pub(crate) status: Arc<Status>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    /// All commands that were not answered, oldest first.
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) next_job: u64,
    /// Those of them that wait to be sent, for the first time or again.
    pub(crate) queue: BTreeSet<u64>,
    /// Those of them that the unit had no time for, and when they are sent again.
    pub(crate) resting: BTreeSet<(Instant, u64)>,
    /// Those of them that were sent on this connection.
    pub(crate) sent: HashMap<RequestId, u64>,
    /// The nexus of this connection, or of the last one.
    pub(crate) nexus: Option<Nexus>,
    /// The units that changes of lost connections may still reach.
    pub(crate) strays: HashMap<Lun, Strays>,
    pub(crate) guards: HashMap<Lun, Guard>,
    /// The sizes of guarded units, for all who attached to them.
    pub(crate) sizes: HashMap<Lun, UnitSize>,
    pub(crate) caches: HashMap<Lun, CacheWatch>,
    /// Not if somebody else does, who knows of other sessions with the same unit.
    pub(crate) watches_caches: bool,
    /// Changes that were acknowledged.
    pub(crate) changes: u64,
    /// Commands that nobody waits for any more, as far as they were looked for.
    pub(crate) seen_abandoned: u64,
    /// Who waits to learn what a unit is.
    pub(crate) attaching: Vec<(Lun, AttachReply)>,
    /// Resets that wait to be sent, and those that were sent on this connection.
    pub(crate) resets: VecDeque<(Lun, ResetReply)>,
    pub(crate) resetting: HashMap<RequestId, (Lun, ResetReply)>,
    pub(crate) closing: Option<oneshot::Sender<()>>,
    /// The connection is to be given up.
    pub(crate) gives_up: bool,
    /// Nobody will order anything any more.
    pub(crate) deserted: bool,
}

impl Link {
    pub(crate) fn new(
        dialer: Dialer,
        options: Options,
        status: Arc<Status>,
        orders: mpsc::UnboundedReceiver<Order>,
        watches_caches: bool,
    ) -> Self {
        Self {
            dialer,
            options,
            status,
            orders,
            jobs: BTreeMap::new(),
            next_job: 0,
            queue: BTreeSet::new(),
            resting: BTreeSet::new(),
            sent: HashMap::new(),
            nexus: None,
            strays: HashMap::new(),
            guards: HashMap::new(),
            sizes: HashMap::new(),
            caches: HashMap::new(),
            watches_caches,
            changes: 0,
            seen_abandoned: 0,
            attaching: Vec::new(),
            resets: VecDeque::new(),
            resetting: HashMap::new(),
            closing: None,
            gives_up: false,
            deserted: false,
        }
    }

    /// Lives until the session is closed, or deserted by its handles.
    pub(crate) async fn run(mut self, first: Connection) {
        let mut next = Some(first);
        let mut short_lives = 0;
        while let Some(mut connection) = next.take() {
            let born = Instant::now();
            self.enter_nexus(&connection);
            self.status.logged_in(&connection);
            let end = self.serve(&mut connection).await;
            if matches!(end, SessionEnd::LoggedOut | SessionEnd::LogoutRequested) {
                connection.farewell();
            }
            drop(connection);
            if self.is_over() {
                break;
            }
            tracing::warn!(address = self.dialer.reached(), reason = %end, "connection to the target lost");
            let asked = self.pause_asked(&end);
            self.after_loss(end);
            short_lives = if born.elapsed() < self.options.reconnect.longest_delay {
                short_lives + 1
            } else {
                0
            };
            if short_lives > 1 {
                self.dialer.pass_over();
            }
            next = self.reconnect(self.pause_after(asked, short_lives)).await;
        }
        self.status.ended();
        self.close_all();
        if let Some(closing) = self.closing.take() {
            // Whoever closed the session need not wait for it.
            let _ = closing.send(());
        }
    }

    /// Uses a connection until it ends.
    async fn serve(&mut self, connection: &mut Connection) -> SessionEnd {
        // That was said of the one before.
        self.gives_up = false;
        loop {
            if let Err(end) = self.turn(connection).await {
                return end;
            }
        }
    }

    async fn turn(&mut self, connection: &mut Connection) -> Result<(), SessionEnd> {
        while let Ok(order) = self.orders.try_recv() {
            self.accept(order);
        }
        if self.is_over() {
            connection.session.logout(now());
        }
        if self.gives_up {
            return Err(SessionEnd::Silent);
        }
        self.answer_attaching(connection).await?;
        self.submit_resets(connection);
        self.withdraw_abandoned(connection);
        self.wake_rested();
        while let Some(lun) = self.submit_queue(connection) {
            self.fence_strays(connection, lun).await?;
            if self.caches.get(&lun).is_some_and(CacheWatch::is_suspect) {
                self.examine_cache(connection, lun).await?;
            }
            let doubted = self
                .guards
                .get(&lun)
                .is_some_and(|guard| guard.trust() == Trust::Doubted);
            if doubted && let Err(error) = self.verify(connection, lun).await? {
                self.fail_unit(lun, &error);
            }
        }
        self.wait(connection).await;
        self.take_events(connection)
    }

    /// Waits for the connection or for an order.
    async fn wait(&mut self, connection: &mut Connection) {
        let rested = self.resting.first().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = connection.progress() => {}
            order = self.orders.recv(), if !self.deserted => self.accept_or_desert(order),
            () = until(rested) => {}
            // What was not sent is forgotten.
            () = self.status.abandonment() => {}
        }
    }

    /// Acts on everything that happened.
    fn take_events(&mut self, connection: &mut Connection) -> Result<(), SessionEnd> {
        while let Some(event) = connection.session.poll_event() {
            self.take_event(event)?;
        }
        Ok(())
    }

    pub(crate) fn take_event(&mut self, event: InitiatorEvent) -> Result<(), SessionEnd> {
        match event {
            InitiatorEvent::Completed { request, outcome } => self.complete(request, outcome),
            InitiatorEvent::UnitReport { lun, sense } => match Sense::parse(&sense) {
                Some(sense) => self.hear_attention(lun, sense),
                None => self.doubt(lun),
            },
            InitiatorEvent::Ended(end) => return Err(end),
            InitiatorEvent::LogoutRequested => {
                tracing::debug!(
                    address = self.dialer.reached(),
                    "the target asks for a logout"
                );
            }
            InitiatorEvent::Managed { request, answer } => self.finish_reset(request, answer),
            InitiatorEvent::LoggedIn(_) | InitiatorEvent::Discovered { .. } => {}
        }
        Ok(())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.deserted || self.closing.is_some()
    }

    /// Tells those who want to attach to a unit what it is.
    async fn answer_attaching(&mut self, connection: &mut Connection) -> Result<(), SessionEnd> {
        while let Some((lun, reply)) = self.attaching.pop() {
            self.guards.entry(lun).or_default();
            match self.verify(connection, lun).await {
                Ok(verified) => {
                    let identity = verified.and_then(|()| {
                        self.guards
                            .get(&lun)
                            .map_or(Err(Error::Changed), Guard::identity)
                    });
                    let identity = identity.map(|identity| {
                        let size = self.sizes.entry(lun).or_default();
                        size.set(identity.blocks);
                        (identity, size.clone())
                    });
                    let _ = reply.send(identity);
                }
                Err(end) => {
                    self.attaching.push((lun, reply));
                    return Err(end);
                }
            }
        }
        Ok(())
    }

    /// Finds out whether a unit is what it was. The inner error says why that remains unknown.
    async fn verify(
        &mut self,
        connection: &mut Connection,
        lun: Lun,
    ) -> Result<Result<(), Error>, SessionEnd> {
        let identity = self.ask_identity(connection, lun).await?;
        let guard = self.guards.entry(lun).or_default();
        let verified = match identity {
            Ok(identity) => guard.compare(identity, self.options.resize),
            Err(error) => return Ok(Err(error)),
        };
        if matches!(verified, Err(Error::Changed)) {
            self.status.changed(lun);
            tracing::error!(address = self.dialer.reached(), %lun, "the unit is not the one that it was: fenced");
        }
        if let (Ok(identity), Some(size)) = (guard.identity(), self.sizes.get(&lun)) {
            size.set(identity.blocks);
        }
        Ok(verified)
    }

    pub(crate) fn doubt(&mut self, lun: Lun) {
        if let Some(guard) = self.guards.get_mut(&lun) {
            guard.doubt();
        }
    }
}

/// Waits until then; for ever if there is no such time.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
