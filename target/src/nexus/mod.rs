//! One session and what it asks for: events of the protocol in, commands to the units, answers back.

mod admission;
mod commands;
mod management;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iscsi_proto::login::Identity;
use iscsi_proto::params::{Params, SessionType};
use iscsi_proto::scsi::Sense;
use iscsi_proto::session::{
    AsyncNotice, CloseReason, DiscoverScope, TargetEvent, TargetSession, TaskId,
};
use iscsi_proto::wire::lun::Lun;
use tokio::time::timeout;
use tracing::{debug, info};
use vmthunder_volume::Volume;

use self::admission::Pause;
use crate::Target;
use crate::budget::Share;
use crate::metrics::Counters;
use crate::orders::Order;
use crate::sessions::Seat;
use crate::tasks::{Product, Tasks};

/// The command window grows by the commands that are stuck, up to so many times its normal width.
const WIDEST_WINDOW: u32 = 8;

/// The command window shrinks to this part of its normal width while all sessions together hold too much.
const NARROWEST_WINDOW: u32 = 8;

/// SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT (RFC 7143 §11.14.5).
const CLEARED_BY_PROTOCOL: Sense = Sense::new(0x6, 0x47, 0x7f);

/// A session, its seat at the target and its commands.
pub(crate) struct Nexus<V> {
    target: Arc<Target<V>>,
    local: SocketAddr,
    peer: SocketAddr,
    pub(crate) session: TargetSession,
    /// What the login waits for.
    pause: Option<Pause<V>>,
    /// Who logs in; none once the secret, if one was asked for, has been proven.
    pub(crate) unproven: Option<Box<Identity>>,
    /// From admission on.
    seat: Option<Seat<V>>,
    pub(crate) tasks: Tasks<V>,
    /// Tasks that were taken away while the session's word of them had not been heard yet.
    purged: HashSet<TaskId>,
    share: Share,
    window: u32,
    /// The login is over.
    logged_in: bool,
    reason: Option<CloseReason>,
}

/// What a session waits for besides its socket.
#[derive(Debug)]
pub(crate) enum Happened {
    /// Something else wants the session to end.
    Close,
    /// Another session gave an order, which the next turn carries out.
    Orders,
    /// The login can go on.
    Resume,
    /// Work was done.
    Finished(Option<Product>),
}

impl<V: Volume> Nexus<V> {
    pub(crate) fn new(target: Arc<Target<V>>, local: SocketAddr, peer: SocketAddr) -> Self {
        let session = TargetSession::new(target.options.session.clone(), Instant::now());
        Self {
            local,
            peer,
            session,
            pause: None,
            unproven: None,
            seat: None,
            tasks: Tasks::new(),
            purged: HashSet::new(),
            share: target.budget.share(),
            window: target.options.session.queue_depth,
            logged_in: false,
            reason: None,
            target,
        }
    }

    /// Acts on what others and the session itself have to say and executes commands, if they `may_start`, until a turn
    /// is full. `unsent` bytes wait for the socket.
    pub(crate) async fn turn(&mut self, may_start: bool, unsent: usize) {
        let now = Instant::now();
        self.carry_out_orders();
        while let Some(finished) = self.tasks.try_finished() {
            self.take_product(finished);
        }
        while let Some(event) = self.session.poll_event() {
            self.act(event, now);
        }
        self.purged.clear();
        if may_start {
            let Self {
                tasks,
                session,
                target,
                ..
            } = self;
            let produce = |product| take_product(session, &target.counters, product);
            tasks.execute_turn(now, produce).await;
            // Data that came with its command is there as soon as it is asked for, and what has ended lets others begin.
            // Nothing else might ever wake this session.
            self.act_on_events(now);
        }
        self.share.set(
            self.tasks
                .held()
                .saturating_add(u64::try_from(unsent).unwrap_or(u64::MAX)),
        );
        self.tasks.set_frugal(self.share.is_exceeded());
        self.adapt_window(now);
    }

    /// Whose session it is.
    pub(crate) fn target(&self) -> Arc<Target<V>> {
        Arc::clone(&self.target)
    }

    /// Where the initiator is.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The login is over, and it was successful.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// All sessions together hold more than they should.
    pub(crate) fn is_frugal(&self) -> bool {
        self.share.is_exceeded()
    }

    /// How long the initiator may say nothing before the session is closed without being asked; for ever, as a rule.
    pub(crate) fn silence_grace(&self) -> Option<Duration> {
        let discovers = self.logged_in && self.seat.as_ref()?.asker.is_none();
        discovers.then_some(self.target.options.discovery_grace)
    }

    /// How long the initiator may take nothing while all sessions together hold too much.
    pub(crate) fn stall_grace(&self) -> Duration {
        self.target.options.stall_grace
    }

    /// When time has to be let in.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        // As long as half of the window is open nobody is kept out.
        let half = usize::try_from(self.window / 2).unwrap_or(usize::MAX);
        let stuck = self.tasks.stuck_at(Instant::now(), half);
        [self.session.poll_timeout(), stuck]
            .into_iter()
            .flatten()
            .min()
    }

    /// Waits for whatever is not the socket.
    pub(crate) async fn happened(&mut self) -> Happened {
        let Self {
            pause, seat, tasks, ..
        } = self;
        let pause = pause.as_ref();
        let seat = match pause {
            Some(Pause::Predecessors { seat, .. }) => Some(&**seat),
            _ => seat.as_ref(),
        };
        tokio::select! {
            biased;
            () = closed(seat) => Happened::Close,
            () = ordered(seat) => Happened::Orders,
            () = admission::over(pause) => Happened::Resume,
            finished = tasks.finished() => Happened::Finished(finished),
        }
    }

    /// Acts on what has happened.
    pub(crate) fn take(&mut self, happened: Happened) {
        match happened {
            Happened::Close => self.session.close(),
            Happened::Orders => {}
            Happened::Resume => self.resume(),
            Happened::Finished(product) => {
                Counters::add(&self.target.counters.waited, u64::from(product.is_some()));
                self.take_product(product);
            }
        }
    }

    /// The target stops: asks the initiator to log out, if it can be asked.
    pub(crate) fn stop(&mut self) {
        let grace = self.target.options.logout_grace;
        self.session.request_logout(Instant::now(), grace);
    }

    /// The connection is gone: waits for the writes that are under way and gives the seat up.
    pub(crate) async fn end(mut self) -> Option<CloseReason> {
        self.session.handle_disconnect();
        self.leave_word();
        let grace = self.target.options.write_grace;
        let drained = timeout(grace, self.tasks.drain()).await;
        while let Some(event) = self.session.poll_event() {
            if let TargetEvent::Closed(reason) = event {
                self.closed(reason);
            }
        }
        let Self {
            mut tasks,
            mut share,
            reason,
            ..
        } = self;
        if drained.is_err() {
            info!("writes of a closed session did not end in time");
            // They keep others off the blocks that they touch, and count as what all sessions hold, until they end.
            share.set(tasks.held());
            tokio::spawn(async move {
                tasks.drain().await;
                drop(share);
            });
        }
        reason
    }

    fn act_on_events(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            self.act(event, now);
        }
    }

    fn act(&mut self, event: TargetEvent, now: Instant) {
        match event {
            TargetEvent::Login(identity) => self.authenticate(identity),
            TargetEvent::Authenticated { identity, account } => self.admit(&identity, account),
            TargetEvent::LoggedIn { identity, params } => {
                self.logged_in(&identity, params);
            }
            TargetEvent::Command(command) => self.begin(&command, now),
            TargetEvent::DataReady { task, data } => self.data_ready(task, data),
            TargetEvent::Discover { task, scope } => self.discover(task, &scope),
            TargetEvent::Management {
                task,
                function,
                lun,
                affected,
            } => self.manage(task, function, lun, &affected),
            TargetEvent::Aborted(tasks) => {
                if self.session.is_closed() {
                    self.leave_word();
                }
                self.tasks.abandon(&tasks, None);
            }
            TargetEvent::Closed(reason) => self.closed(reason),
        }
    }

    fn logged_in(&mut self, identity: &Identity, params: Params) {
        self.logged_in = true;
        let digests = params.header_digest;
        let tsih = self.seat.as_ref().map_or(0, |seat| seat.tsih);
        if let Some(seat) = &self.seat {
            seat.is_operational(identity.cid, params);
        }
        let target = identity
            .target_name
            .as_ref()
            .map_or("", |name| name.as_str());
        let discovery = identity.session_type == SessionType::Discovery;
        debug!(initiator = %identity.initiator_name, target, tsih, digests, discovery, "logged in");
    }

    fn closed(&mut self, reason: CloseReason) {
        if self.reason.replace(reason).is_none() {
            self.count_failure(reason);
        }
        // Before the initiator hears of it: a session that was logged out is given no other connection (RFC 7143
        // §6.3.1), even while its last tasks end.
        if reason == CloseReason::LoggedOut
            && let Some(seat) = &self.seat
        {
            seat.close.cancel();
        }
    }

    /// The connection ends with tasks under way. If its session goes on with another connection, that one is told (RFC
    /// 7143 §11.14.5).
    fn leave_word(&self) {
        if let Some(seat) = &self.seat {
            for unit in self.tasks.units() {
                seat.attention.raise(unit, CLEARED_BY_PROTOCOL);
            }
        }
    }

    /// Does what other sessions want.
    fn carry_out_orders(&mut self) {
        let Some(seat) = &self.seat else {
            return;
        };
        // When the session is over orders are carried out by its end: whoever waits, waits for its last write.
        if self.session.is_closed() {
            return;
        }
        for order in seat.orders.take() {
            match order {
                Order::Purge {
                    unit,
                    cleared,
                    waiter,
                } => {
                    let before = self.session.stats().aborted;
                    let known = self.session.purge(Some(Lun::from_number(unit)));
                    let lost = self.session.stats().aborted.saturating_sub(before);
                    self.tasks.abandon(&known, Some(waiter));
                    self.purged.extend(known);
                    Counters::add(&self.target.counters.purged, lost);
                    if let Some(sense) = cleared.filter(|_| lost > 0) {
                        seat.attention.raise(unit, sense);
                    }
                }
                Order::Notice { unit, sense } => {
                    let (lun, sense) = (Lun::from_number(unit), sense.to_fixed_bytes());
                    self.session.notify(AsyncNotice::Scsi { lun, sense });
                }
            }
        }
    }

    fn discover(&mut self, task: TaskId, scope: &DiscoverScope) {
        let Some(seat) = &self.seat else {
            return self.session.answer_discovery(task, &[]);
        };
        let own = seat.asker.as_ref().map(|asker| &asker.export.port.target);
        let from = self.peer.ip();
        let records = self.target.records(self.local, |name, export| {
            let asked = match scope {
                DiscoverScope::All => true,
                DiscoverScope::Own => own == Some(name),
                DiscoverScope::Name(wanted) => wanted == name,
            };
            // A session that is in may know of its own target, whatever the rules are by now.
            let may_know = match own {
                Some(own) => own == name,
                None => export.access.admit(&seat.initiator, from),
            };
            asked && may_know
        });
        self.session.answer_discovery(task, &records);
    }

    /// Commands that are stuck must not keep commands for other units out, and while all sessions together hold too
    /// much, each gets less.
    fn adapt_window(&mut self, now: Instant) {
        let normal = self.target.options.session.queue_depth.max(1);
        let window = if self.share.is_exceeded() {
            (normal / NARROWEST_WINDOW).max(1)
        } else {
            let stuck = u32::try_from(self.tasks.stuck(now)).unwrap_or(u32::MAX);
            normal
                .saturating_add(stuck)
                .min(normal.saturating_mul(WIDEST_WINDOW))
        };
        if window != self.window {
            self.window = window;
            self.session.set_window(window);
        }
    }

    fn take_product(&mut self, product: Option<Product>) {
        if let Some(product) = product {
            take_product(&mut self.session, &self.target.counters, product);
        }
    }
}

fn take_product(session: &mut TargetSession, counters: &Counters, product: Product) {
    match product {
        Product::Outcome {
            task,
            outcome,
            alone,
        } => commands::conclude(session, counters, task, outcome, alone),
        Product::Receive(task, length) => session.receive(task, length),
        Product::Management(task, answer) => session.answer_management(task, answer),
    }
}

async fn closed<V>(seat: Option<&Seat<V>>) {
    match seat {
        Some(seat) => seat.close.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn ordered<V>(seat: Option<&Seat<V>>) {
    match seat {
        Some(seat) => seat.orders.given().await,
        None => std::future::pending().await,
    }
}
