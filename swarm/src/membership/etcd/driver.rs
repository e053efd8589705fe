//! One member, and the etcd cluster that it writes itself down in: the only place that waits.

use std::collections::HashSet;
use std::mem::Discriminant;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::forest::NodeName;
use crate::membership::codec::Identity;
use crate::membership::etcd::calls::{Happened, Held, NO_LEASE, Watch};
use crate::membership::etcd::endpoint::Endpoint;
use crate::membership::etcd::error::EtcdError;
use crate::membership::etcd::gateway::Gateway;
use crate::membership::etcd::record::{Record, Records};
use crate::membership::etcd::view::View;
use crate::membership::etcd::{EtcdCounters, EtcdOptions, LEASE_SECONDS};
use crate::membership::keys::Keys;
use crate::membership::{Event, Images, MOST_MEMBERS};

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// How long a node that starts waits for etcd before it goes on with what it remembers.
const START_PATIENCE: Duration = Duration::from_secs(3);

/// The shortest and the longest wait until etcd is tried again.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MOST: Duration = Duration::from_secs(2);

/// How often it is looked whether whoever has our name renews its lease, and how often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const MOST_LOOKS: i64 = LEASE_SECONDS + 5;

/// How long a node whose name is taken waits before it asks again.
const TAKEN_FOR: Duration = Duration::from_secs(30);

/// How long a node that goes takes to say so.
const FAREWELL: Duration = Duration::from_millis(1500);

/// The shortest time between two lines in the log about records that do not count.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Records in one answer.
const PAGE: u32 = 256;

/// The keys that are read: those of all members that can be, and as many that are of no use.
const MOST_KEYS: usize = 2 * MOST_MEMBERS;

/// How often our key may change under our hands while we write it.
const MOST_TRIES: u32 = 10;

/// What the node wants said of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    pub(super) draining: bool,
    pub(super) images: Images,
    /// It goes.
    pub(super) leave: bool,
}

/// Whose our name is.
enum Name {
    Ours,
    Taken(Identity),
}

/// Why a session with etcd is over.
enum Over {
    /// Something has changed that a new one takes into account.
    Anew,
    /// The name is another's.
    Taken,
    /// The node takes no events any more.
    Deaf,
}

/// A member, and what it knows.
pub(super) struct Driver {
    options: EtcdOptions,
    events: mpsc::Sender<Event>,
    wish: watch::Receiver<Wish>,
    counters: Arc<EtcdCounters>,
    records: Records,
    view: View,
    start: Instant,
    random: SmallRng,
    me: Identity,
    /// The lease that we hold, as far as we know.
    lease: Option<i64>,
    /// The keys that records were made and read with.
    keys: Arc<Keys>,
    /// Whether the node was told whether it is a member.
    started: bool,
    /// Whether it was told so, and not that its name is taken since.
    joined: bool,
    /// Whether we had the name once: what is written over it is then no former life of ours.
    had_name: bool,
    /// Records in one answer: fewer once somebody wrote so much that an answer is too long.
    page: u32,
    /// Which endpoint is tried.
    turn: usize,
    /// What was said to be wrong since etcd answered last.
    failures: HashSet<Discriminant<EtcdError>>,
    say_at: Instant,
}

impl Driver {
    pub(super) fn new(
        options: EtcdOptions,
        events: mpsc::Sender<Event>,
        wish: watch::Receiver<Wish>,
        counters: Arc<EtcdCounters>,
    ) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let born = since.map_or(0, |since| since.as_micros());
        let born = u64::try_from(born).unwrap_or(u64::MAX);
        let me = Identity {
            name: options.name.clone(),
            address: options.address,
            born,
            generation: born / 1000,
            draining: false,
            images: Images::Any,
        };
        // Nodes that begin at once do not all ask the same one.
        let mut random = SmallRng::seed_from_u64(me.name.hash() ^ born);
        Self {
            records: Records::new(Arc::clone(&options.keys)),
            keys: options.keys.now(),
            events,
            wish,
            counters,
            view: View::default(),
            start: Instant::now(),
            me,
            lease: None,
            page: PAGE,
            started: false,
            joined: false,
            had_name: false,
            turn: random.random_range(0..options.endpoints.len().max(1)),
            random,
            failures: HashSet::new(),
            say_at: Instant::now(),
            options,
        }
    }

    /// Is a member until the node wants to leave, or is no more.
    pub(super) async fn run(mut self) {
        let mut wish = self.wish.clone();
        let mut again = AGAIN_FIRST;
        loop {
            let Some(endpoint) = self.endpoint() else {
                return;
            };
            let begun = Instant::now();
            let over = tokio::select! {
                over = self.session(&endpoint) => over,
                in_order = gone(&mut wish) => return self.end(in_order).await,
            };
            self.counters.answers.store(false, Ordering::Relaxed);
            match over {
                Ok(Over::Deaf) => return,
                Ok(Over::Taken) => again = TAKEN_FOR,
                Ok(Over::Anew) => again = longer(again, begun),
                Err(error) => {
                    self.failed(&endpoint, &error).await;
                    again = longer(again, begun);
                }
            }
            // Those that lost it at once do not all come back at once.
            let pause = again.mul_f64(self.random.random_range(0.5..1.0));
            tokio::select! {
                () = sleep(pause) => {}
                in_order = gone(&mut wish) => return self.end(in_order).await,
            }
        }
    }

    /// Is written down and follows the others; over when something breaks or has to be done anew.
    async fn session(&mut self, endpoint: &Endpoint) -> Result<Over, EtcdError> {
        let mut gateway = self.connect(endpoint).await?;
        self.keys = self.options.keys.now();
        let lease = self.hold_lease(&mut gateway).await?;
        match self.claim(&mut gateway, lease).await? {
            Name::Ours => self.had_name = true,
            Name::Taken(holder) => return Ok(self.yield_to(&holder).await),
        }
        let revision = self.list(&mut gateway).await?;
        let watching = self.connect(endpoint).await?;
        let from = revision.saturating_add(1);
        let mut watch = watching.watch(&self.members(), from).await?;
        self.counters.answers.store(true, Ordering::Relaxed);
        if !std::mem::take(&mut self.failures).is_empty() {
            info!(%endpoint, others = self.view.len(), "etcd answers again");
        }
        self.started = true;
        let joined = std::mem::replace(&mut self.joined, true);
        if !self.tell(!joined).await {
            return Ok(Over::Deaf);
        }
        self.follow(&mut gateway, &mut watch, lease).await
    }

    /// Takes in what changes, and renews the lease.
    async fn follow(
        &mut self,
        gateway: &mut Gateway,
        watch: &mut Watch,
        lease: i64,
    ) -> Result<Over, EtcdError> {
        let mut renew_at = Instant::now() + RENEW_EVERY;
        let mut wish = self.wish.clone();
        wish.mark_unchanged();
        loop {
            if self.is_told_otherwise()
                && let Name::Taken(holder) = self.claim(gateway, lease).await?
            {
                return Ok(self.yield_to(&holder).await);
            }
            let given_up_at = self.view.next_time().map(|at| self.start + at);
            tokio::select! {
                happened = watch.next() => {
                    for one in happened? {
                        if !self.happened(&one) {
                            return Ok(Over::Anew);
                        }
                    }
                }
                () = sleep_until(renew_at) => {
                    renew_at = Instant::now() + RENEW_EVERY;
                    if let Err(error) = gateway.keep_alive(lease).await {
                        if matches!(error, EtcdError::LeaseOver) {
                            self.lease = None;
                        }
                        return Err(error);
                    }
                    if !Arc::ptr_eq(&self.keys, &self.options.keys.now()) {
                        return Ok(Over::Anew);
                    }
                }
                () = due(given_up_at) => self.view.handle_time(self.start.elapsed()),
                changed = wish.changed() => if changed.is_err() {
                    return Ok(Over::Deaf);
                },
            }
            if !self.tell(false).await {
                return Ok(Over::Deaf);
            }
        }
    }

    /// The lease that we have, renewed, or a new one.
    async fn hold_lease(&mut self, gateway: &mut Gateway) -> Result<i64, EtcdError> {
        if let Some(lease) = self.lease {
            match gateway.keep_alive(lease).await {
                Ok(()) => return Ok(lease),
                Err(EtcdError::LeaseOver) => self.lease = None,
                Err(error) => return Err(error),
            }
        }
        let lease = gateway.grant(LEASE_SECONDS).await?;
        self.lease = Some(lease);
        Ok(lease)
    }

    /// Writes this node down under its name, unless that is another's who lives.
    async fn claim(&mut self, gateway: &mut Gateway, lease: i64) -> Result<Name, EtcdError> {
        let key = self.key(&self.me.name);
        let mut changed_at = 0;
        let wish = self.wish.borrow().clone();
        (self.me.draining, self.me.images) = (wish.draining, wish.images);
        for _ in 0..MOST_TRIES {
            let line = self.line(false);
            let put = gateway.put_if(&key, line.as_bytes(), lease, changed_at);
            let Err(held) = put.await? else {
                return Ok(Name::Ours);
            };
            let Some(held) = held else {
                changed_at = 0;
                continue;
            };
            if held.value.0 == line.as_bytes() && held.lease.0 == lease {
                return Ok(Name::Ours);
            }
            let holder = self.records.read(&self.me.name, &held.value.0);
            let holder = holder.map(|record| record.identity);
            let is_free = match &holder {
                _ if held.lease.0 == NO_LEASE => true,
                // A former life: nobody else can be reached there.
                Some(holder) => {
                    holder.born == self.me.born
                        || holder.address == self.me.address && !self.had_name
                }
                // What others wrote over the record of a member does not keep it out.
                None => self.had_name,
            };
            if is_free {
                let former = holder.map_or(0, |holder| holder.generation);
                if former > self.me.generation {
                    self.me.generation = former.saturating_add(1);
                }
                changed_at = held.mod_revision.0;
                continue;
            }
            changed_at = 0;
            if self.is_renewed(gateway, lease, held.lease.0).await? {
                let holder = holder.ok_or_else(|| EtcdError::Foreign {
                    key: String::from_utf8_lossy(&key).into_owned(),
                })?;
                return Ok(Name::Taken(holder));
            }
        }
        Err(EtcdError::Contended)
    }

    /// Waits until another's lease is renewed, or is over; ours is renewed meanwhile.
    async fn is_renewed(
        &self,
        gateway: &mut Gateway,
        ours: i64,
        other: i64,
    ) -> Result<bool, EtcdError> {
        let mut least = LEASE_SECONDS;
        for _ in 0..MOST_LOOKS {
            let left = gateway.time_to_live(other).await?;
            if left < 0 {
                return Ok(false);
            }
            if left > least {
                return Ok(true);
            }
            least = left;
            gateway.keep_alive(ours).await?;
            sleep(LOOK_EVERY).await;
        }
        Ok(true)
    }

    /// Reads who is there; the revision of that.
    async fn list(&mut self, gateway: &mut Gateway) -> Result<i64, EtcdError> {
        let (prefix, page, mut records) = (self.members(), self.page, Vec::new());
        let each = |held: Held| records.extend(self.read(&held));
        let listed = gateway.list(&prefix, page, MOST_KEYS, each).await;
        let grown = page.saturating_mul(2).min(PAGE);
        self.page = match &listed {
            Err(EtcdError::TooLong) => page.div_ceil(16),
            _ => grown,
        };
        let revision = listed?;
        self.view.all(self.start.elapsed(), &records);
        Ok(revision)
    }

    /// Takes in what happened to a key; false if it happened to ours.
    fn happened(&mut self, happened: &Happened) -> bool {
        let Some(name) = self.name_in(&happened.kv.key.0) else {
            return true;
        };
        let is_gone = happened.r#type == "DELETE";
        let record = if is_gone {
            None
        } else {
            self.read_of(&name, &happened.kv)
        };
        if name == self.me.name {
            return record.is_some_and(|record| record.identity.born == self.me.born);
        }
        match record {
            Some(record) => self.view.record(&record),
            None => self.view.missed(self.start.elapsed(), &name),
        }
        true
    }

    /// What another member wrote.
    fn read(&mut self, held: &Held) -> Option<Record> {
        let name = self.name_in(&held.key.0)?;
        if name == self.me.name {
            return None;
        }
        self.read_of(&name, held)
    }

    fn read_of(&mut self, name: &NodeName, held: &Held) -> Option<Record> {
        let record = self.records.read(name, &held.value.0);
        if record.is_none() {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            let now = Instant::now();
            if self.say_at <= now {
                self.say_at = now + SAY_EVERY;
                warn!(%name, "what etcd holds of a node was not made with the swarm's key, and does not count");
            }
        }
        record
    }

    /// The name in a key, if it is one of a member.
    fn name_in(&self, key: &[u8]) -> Option<NodeName> {
        let name = key.strip_prefix(self.members().as_slice())?;
        NodeName::new(std::str::from_utf8(name).ok()?).ok()
    }

    /// What the keys of members begin with.
    fn members(&self) -> Vec<u8> {
        format!("{}members/", self.options.prefix).into_bytes()
    }

    fn key(&self, name: &NodeName) -> Vec<u8> {
        let mut key = self.members();
        key.extend_from_slice(name.as_str().as_bytes());
        key
    }

    fn line(&mut self, leaving: bool) -> String {
        self.records.write(&Record {
            identity: self.me.clone(),
            leaving,
        })
    }

    /// True if what is written down is not what the node wants said.
    fn is_told_otherwise(&self) -> bool {
        let wish = self.wish.borrow();
        wish.draining != self.me.draining || wish.images != self.me.images
    }

    /// Is no member as long as another one has the name.
    async fn yield_to(&mut self, holder: &Identity) -> Over {
        self.view.clear();
        (self.started, self.joined) = (true, false);
        if self.tell(false).await && self.say(Event::NameTaken(holder.member())).await {
            Over::Taken
        } else {
            Over::Deaf
        }
    }

    /// Says each cause once, and lets a node that starts go on with whom it remembers.
    async fn failed(&mut self, endpoint: &Endpoint, error: &EtcdError) {
        if self.failures.insert(std::mem::discriminant(error)) {
            warn!(%endpoint, %error, "etcd is of no use: this node goes on with whom it knows");
        } else {
            debug!(%endpoint, %error, "etcd is of no use");
        }
        self.turn = self.turn.wrapping_add(1);
        if !self.started && self.start.elapsed() >= START_PATIENCE {
            (self.started, self.joined) = (true, true);
            for member in std::mem::take(&mut self.options.remembered) {
                self.view.remember(member);
            }
            // Where nobody listens the node ends, and this with it.
            let _ = self.tell(true).await;
        }
    }

    /// Tells the node what changed among the others, and that it is a member.
    async fn tell(&mut self, joined: bool) -> bool {
        while let Some(event) = self.view.poll_event() {
            if !self.say(event).await {
                return false;
            }
        }
        !joined || self.say(Event::Joined).await
    }

    async fn say(&mut self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    fn endpoint(&self) -> Option<Endpoint> {
        let turn = self.turn.checked_rem(self.options.endpoints.len())?;
        self.options.endpoints.get(turn).cloned()
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Gateway, EtcdError> {
        let options = &self.options;
        Gateway::connect(endpoint, options.tls.as_ref(), options.login.as_ref()).await
    }

    /// Tells the others that this node goes; they would notice by themselves a while later.
    async fn end(mut self, in_order: bool) {
        if !in_order {
            return;
        }
        let (Some(endpoint), Some(lease)) = (self.endpoint(), self.lease) else {
            return;
        };
        let goodbye = async {
            let mut gateway = self.connect(&endpoint).await?;
            let (key, line) = (self.key(&self.me.name), self.line(true));
            let held = gateway.put_if(&key, line.as_bytes(), lease, 0).await?;
            // Only what is ours is written over.
            if let Err(Some(held)) = held
                && held.lease.0 == lease
            {
                let at = held.mod_revision.0;
                let _ = gateway.put_if(&key, line.as_bytes(), lease, at).await?;
            }
            gateway.revoke(lease).await
        };
        match timeout(FAREWELL, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "gone without a farewell"),
            Err(_) => debug!("gone without a farewell"),
        }
    }
}

/// The wait after a session that began then.
fn longer(again: Duration, begun: Instant) -> Duration {
    if begun.elapsed() > AGAIN_MOST {
        return AGAIN_FIRST;
    }
    again.saturating_mul(2).min(AGAIN_MOST)
}

/// Waits until the node wants to leave, or is no more: that is not in order.
async fn gone(wish: &mut watch::Receiver<Wish>) -> bool {
    wish.wait_for(|wish| wish.leave).await.is_ok()
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
