//! The task that owns a session: it keeps every command until it is answered, makes a new connection when one is
//! lost, makes sure that the units are still the same, and repeats what was not answered, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use iscsi_proto::session::{
    Completion, InitiatorEvent, Outcome, RequestId, SessionEnd, SubmitError,
};
use iscsi_proto::wire::lun::Lun;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::connection::{Connection, now};
use crate::dial::Dialer;
use crate::guard::{Guard, Trust};
use crate::identity::{Identity, MAX_TRIES, asks_again, is_attention, result_of};
use crate::job::{Job, Order, Repeat};
use crate::{Error, Reconnect};

/// What a session's handles can see of it.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) logins: AtomicU64,
    pub(crate) connected: AtomicBool,
}

/// The task that owns a session.
#[derive(Debug)]
pub(crate) struct Link {
    dialer: Dialer,
    policy: Reconnect,
    status: Arc<Status>,
    orders: mpsc::UnboundedReceiver<Order>,
    /// All commands that were not answered, oldest first.
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    /// Those of them that wait to be sent, for the first time or again.
    queue: BTreeSet<u64>,
    /// Those of them that were sent on this connection.
    sent: HashMap<RequestId, u64>,
    guards: HashMap<Lun, Guard>,
    /// Who waits to learn what a unit is.
    attaching: Vec<(Lun, oneshot::Sender<Result<Identity, Error>>)>,
    closing: Option<oneshot::Sender<()>>,
    /// Nobody will order anything any more.
    deserted: bool,
}

impl Link {
    pub(crate) fn new(
        dialer: Dialer,
        policy: Reconnect,
        status: Arc<Status>,
        orders: mpsc::UnboundedReceiver<Order>,
    ) -> Self {
        Self {
            dialer,
            policy,
            status,
            orders,
            jobs: BTreeMap::new(),
            next_job: 0,
            queue: BTreeSet::new(),
            sent: HashMap::new(),
            guards: HashMap::new(),
            attaching: Vec::new(),
            closing: None,
            deserted: false,
        }
    }

    /// Lives until the session is closed, or deserted by its handles.
    pub(crate) async fn run(mut self, first: Connection) {
        let mut next = Some(first);
        let mut short_lives = 0;
        while let Some(mut connection) = next.take() {
            let born = Instant::now();
            self.status.logins.fetch_add(1, Ordering::Relaxed);
            self.status.connected.store(true, Ordering::Relaxed);
            let end = self.serve(&mut connection).await;
            self.status.connected.store(false, Ordering::Relaxed);
            drop(connection);
            if self.is_over() {
                break;
            }
            tracing::warn!(address = self.dialer.address(), reason = %end, "connection to the target lost");
            self.after_loss();
            short_lives = if born.elapsed() < self.policy.longest_delay {
                short_lives + 1
            } else {
                0
            };
            next = self.reconnect(self.pause_after(&end, short_lives)).await;
        }
        self.answer_all(&Error::Closed);
        if let Some(closing) = self.closing.take() {
            // Whoever closed the session need not wait for it.
            let _ = closing.send(());
        }
    }

    /// Uses a connection until it ends.
    async fn serve(&mut self, connection: &mut Connection) -> SessionEnd {
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
        self.answer_attaching(connection).await?;
        while let Some(lun) = self.submit_queue(connection) {
            if let Err(error) = self.verify(connection, lun).await? {
                self.fail_unit(lun, &error);
            }
        }
        self.wait(connection).await;
        self.take_events(connection)
    }

    /// Waits for the connection or for an order.
    async fn wait(&mut self, connection: &mut Connection) {
        tokio::select! {
            biased;
            () = connection.progress() => {}
            order = self.orders.recv(), if !self.deserted => self.accept_or_desert(order),
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
            InitiatorEvent::UnitReport { lun, .. } => self.doubt(lun),
            InitiatorEvent::Ended(end) => return Err(end),
            InitiatorEvent::LogoutRequested => {
                tracing::debug!(
                    address = self.dialer.address(),
                    "the target asks for a logout"
                );
            }
            InitiatorEvent::LoggedIn(_)
            | InitiatorEvent::Managed { .. }
            | InitiatorEvent::Discovered { .. } => {}
        }
        Ok(())
    }

    /// Sends what waits, oldest first. Stops at a command for a unit that has to be verified before.
    fn submit_queue(&mut self, connection: &mut Connection) -> Option<Lun> {
        while let Some(&number) = self.queue.first() {
            let Some(job) = self.jobs.get(&number) else {
                self.queue.pop_first();
                continue;
            };
            if job.is_abandoned() {
                self.queue.pop_first();
                self.jobs.remove(&number);
                continue;
            }
            let lun = job.request.lun;
            match self.guards.get(&lun).map(Guard::trust) {
                Some(Trust::Doubted) => return Some(lun),
                Some(Trust::Changed) => self.answer(number, Err(Error::Changed)),
                Some(Trust::Same) | None => {
                    match connection.session.submit(now(), job.request.clone()) {
                        Ok(request) => {
                            self.queue.pop_first();
                            self.sent.insert(request, number);
                        }
                        Err(SubmitError::TooLong) => self.answer(number, Err(Error::TooLong)),
                        // Later: after answers, or after the next login.
                        Err(
                            SubmitError::QueueFull | SubmitError::Closed | SubmitError::NotLoggedIn,
                        ) => return None,
                    }
                }
            }
        }
        None
    }

    fn complete(&mut self, request: RequestId, outcome: Outcome) {
        let Some(number) = self.sent.remove(&request) else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        let lun = job.request.lun;
        if asks_again(&outcome) && job.tries < MAX_TRIES {
            job.tries += 1;
            self.queue.insert(number);
            if is_attention(&outcome) {
                self.doubt(lun);
            }
            return;
        }
        let repeat = job.repeat;
        match self.guards.get(&lun).map(Guard::trust) {
            Some(Trust::Changed) => self.answer(number, Err(Error::Changed)),
            // The unit may have been another one when it answered this.
            Some(Trust::Doubted) if repeat == Repeat::Always => {
                self.queue.insert(number);
            }
            _ => {
                let result = result_of(outcome);
                if result.is_ok() {
                    self.supersede(number, lun, repeat);
                }
                self.answer(number, result);
            }
        }
    }

    /// A change was acknowledged: older changes of the same blocks must not be repeated any more.
    fn supersede(&mut self, number: u64, lun: Lun, change: Repeat) {
        if matches!(change, Repeat::Changes { .. }) {
            for (_, older) in self.jobs.range_mut(..number) {
                if older.request.lun == lun && older.repeat.overlaps(change) {
                    older.repeat = Repeat::Never;
                }
            }
        }
    }

    /// The connection is gone: what cannot be repeated fails, the rest waits in order.
    fn after_loss(&mut self) {
        let sent: BTreeSet<u64> = self.sent.drain().map(|(_, number)| number).collect();
        for number in sent {
            let Some(job) = self.jobs.get(&number) else {
                continue;
            };
            if job.repeat == Repeat::Never {
                self.answer(number, Err(Error::Interrupted));
            } else if self
                .policy
                .deadline
                .is_some_and(|patience| job.born.elapsed() > patience)
            {
                self.answer(number, Err(Error::Unreachable));
            } else {
                self.queue.insert(number);
            }
        }
        for guard in self.guards.values_mut() {
            guard.doubt();
        }
    }

    /// Tries until the target is back. Commands wait as long as the policy allows, then fail; `None` if nobody is
    /// left to try for.
    async fn reconnect(&mut self, pause: Duration) -> Option<Connection> {
        let deadline = self
            .policy
            .deadline
            .map(|patience| Instant::now() + patience);
        let mut expired = false;
        let attempts = self.dialer.clone().redial(self.policy, pause);
        tokio::pin!(attempts);
        let (connection, dialer) = loop {
            if self.is_over() {
                return None;
            }
            tokio::select! {
                biased;
                connected = &mut attempts => break connected,
                order = self.orders.recv(), if !self.deserted => self.accept_or_desert(order),
                () = until(deadline), if !expired => {
                    tracing::warn!(address = self.dialer.address(), "the target stays away, commands fail");
                    expired = true;
                }
            }
            if expired {
                self.answer_all(&Error::Unreachable);
            }
        };
        self.dialer = dialer;
        tracing::info!(
            address = self.dialer.address(),
            "connected to the target again"
        );
        Some(connection)
    }

    /// How long to leave the target alone before the first attempt: as long as it asked for, and longer and longer
    /// if connections do not last, since something that is repeated on each may be what ends it.
    fn pause_after(&self, end: &SessionEnd, short_lives: u32) -> Duration {
        let asked = match end {
            SessionEnd::Dropped { time2wait } => (*time2wait).min(LONGEST_PAUSE),
            _ => Duration::ZERO,
        };
        match short_lives {
            0 | 1 => asked,
            more => asked.max(self.policy.delay(more - 2)),
        }
    }

    fn accept_or_desert(&mut self, order: Option<Order>) {
        match order {
            Some(order) => self.accept(order),
            None => self.deserted = true,
        }
    }

    fn accept(&mut self, order: Order) {
        match order {
            Order::Run(job) if job.is_abandoned() => {}
            Order::Run(job) => {
                self.jobs.insert(self.next_job, job);
                self.queue.insert(self.next_job);
                self.next_job += 1;
            }
            Order::Attach { lun, reply } => self.attaching.push((lun, reply)),
            Order::Close(reply) => self.closing = Some(reply),
        }
    }

    fn is_over(&self) -> bool {
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
            Ok(identity) => guard.compare(identity),
            Err(error) => return Ok(Err(error)),
        };
        if matches!(verified, Err(Error::Changed)) {
            tracing::error!(address = self.dialer.address(), %lun, "the unit is not the one that it was: fenced");
        }
        Ok(verified)
    }

    fn doubt(&mut self, lun: Lun) {
        if let Some(guard) = self.guards.get_mut(&lun) {
            guard.doubt();
        }
    }

    /// What waits for a unit fails, since the unit does not say what it is.
    fn fail_unit(&mut self, lun: Lun, error: &Error) {
        let of_unit = |number: &u64| {
            self.jobs
                .get(number)
                .is_some_and(|job| job.request.lun == lun)
        };
        let numbers: Vec<u64> = self.queue.iter().copied().filter(of_unit).collect();
        for number in numbers {
            self.answer(number, Err(error.clone()));
        }
    }

    fn answer_all(&mut self, error: &Error) {
        self.queue.clear();
        for job in std::mem::take(&mut self.jobs).into_values() {
            job.answer(Err(error.clone()));
        }
        for (_, reply) in self.attaching.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    fn answer(&mut self, number: u64, result: Result<Completion, Error>) {
        self.queue.remove(&number);
        if let Some(job) = self.jobs.remove(&number) {
            job.answer(result);
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

/// A target cannot send its initiators away for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
