//! A peer's copy of an image as a volume, over iSCSI.
//!
//! [`PeerVolume`] is dialed when it is read first and finds the logical unit by its designator, so peers need not agree
//! on numbers. All volumes of one peer share two sessions: one for demand, one for what is read ahead, so that bulk data
//! never stands before a guest's. A peer that cannot be reached, or does not have the image, costs nothing: it answers
//! [`Error::Unavailable`] at once and is not tried again before a pause that grows. Attempts ahead of need start no pause:
//! nodes that start together are not there yet when they are looked for first, and a guest's read finds them. A request
//! that is forwarded for another peer never waits for a login: while one is pending the answer is [`Error::Busy`].

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use iscsi_initiator::Error as DialError;
use iscsi_initiator::{
    Credentials, Designator, IscsiName, LoginStatus, Options, Outage, Reconnect, Remote, Session,
    SessionEnd,
};
use tokio::sync::{MutexGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};
use vmthunder_volume::{Class, Error, Geometry, Result, Span, Volume};

use crate::forest::NodeName;
use crate::membership::keys::{Keyring, Keys};

/// How peers are dialed.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// The name under which this node logs in.
    pub initiator_name: String,
    /// What this node proves itself with, and wants to be proven. Without it peers may be anybody.
    pub proof: Option<PeerProof>,
    /// How long a connection, its login and the search for a unit may take.
    pub connect_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Sessions that are open at once. For one more, that one is closed that is idle and was used longest ago.
    pub most_sessions: NonZeroUsize,
}

/// Who this node is, and the keys that prove it.
#[derive(Clone, Debug)]
pub struct PeerProof {
    /// The node.
    pub node: NodeName,
    /// The swarm's keys.
    pub keys: Arc<Keyring>,
}

/// Where a peer serves its cached images.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Who it is.
    pub node: NodeName,
    /// `host:port`.
    pub portal: String,
    /// The name of the peer's swarm target.
    pub target_name: String,
}

/// The sessions to all peers, shared by all images of a node. A session lives as long as a volume that uses it, or as
/// long as it is kept, within the limit.
#[derive(Debug)]
pub struct PeerSessions {
    options: PeerOptions,
    lines: Mutex<HashMap<(PeerAddress, Lane), Weak<Line>>>,
    /// Lines that are kept although no volume may use them yet.
    kept: Mutex<Vec<Arc<Line>>>,
    /// Lines that have a session.
    open: Mutex<Vec<Weak<Line>>>,
    start: Instant,
}

impl PeerSessions {
    /// No session yet: each is opened when it is needed first.
    pub fn new(options: PeerOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            lines: Mutex::default(),
            kept: Mutex::default(),
            open: Mutex::default(),
            start: Instant::now(),
        })
    }

    /// Keeps lines to these peers, and to no others that nobody uses, and logs in where there is no session: whoever is
    /// asked in a storm has been reached before. Returns when each was tried; it may be called again and again.
    pub async fn keep(self: &Arc<Self>, peers: &[PeerAddress]) {
        let both = |peer| [Lane::Demand, Lane::Bulk].map(|lane| self.line(peer, lane));
        let mut kept: Vec<Arc<Line>> = peers.iter().flat_map(both).collect();
        kept.truncate(self.options.most_sessions.get());
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept.clone();
        let room = Arc::new(Semaphore::new(LOGINS_AT_ONCE));
        let mut logins = JoinSet::new();
        for line in kept {
            let room = Arc::clone(&room);
            logins.spawn(async move {
                let _permit = room.acquire_owned().await;
                line.open().await;
            });
        }
        logins.join_all().await;
    }

    /// How many sessions are open.
    pub fn open(&self) -> usize {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|line| line.strong_count() > 0);
        open.len()
    }

    /// Notes that a line has a session now, and closes another one if there are too many.
    fn opened(&self, line: &Arc<Line>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&Arc::downgrade(line)));
        let mut others: Vec<_> = open.iter().filter_map(Weak::upgrade).collect();
        others.sort_by_key(|other| other.used.load(Ordering::Relaxed));
        for other in others {
            if open.len() < self.options.most_sessions.get() {
                break;
            }
            if other.retire() {
                open.retain(|one| !one.ptr_eq(&Arc::downgrade(&other)));
            }
        }
        open.push(Arc::downgrade(line));
    }

    fn line(self: &Arc<Self>, address: &PeerAddress, lane: Lane) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, line| line.strong_count() > 0);
        let key = (address.clone(), lane);
        if let Some(line) = lines.get(&key).and_then(Weak::upgrade) {
            return line;
        }
        let line = Arc::new(Line {
            sessions: Arc::clone(self),
            address: address.clone(),
            options: self.options.clone(),
            state: tokio::sync::Mutex::default(),
            unreached: AtomicBool::new(false),
            shut_out: AtomicBool::new(false),
            used: AtomicU64::new(0),
        });
        lines.insert(key, Arc::downgrade(&line));
        line
    }
}

/// A peer's copy of an image, found by its designator; dialed when it is read first.
#[derive(Clone)]
pub struct PeerVolume {
    designator: [u8; 8],
    geometry: Geometry,
    demand: Arc<Line>,
    bulk: Arc<Line>,
}

impl PeerVolume {
    /// The logical unit with this NAA designator at a peer.
    pub fn new(
        sessions: Arc<PeerSessions>,
        address: PeerAddress,
        designator: [u8; 8],
        geometry: Geometry,
    ) -> Self {
        let (demand, bulk) = (
            sessions.line(&address, Lane::Demand),
            sessions.line(&address, Lane::Bulk),
        );
        Self {
            designator,
            geometry,
            demand,
            bulk,
        }
    }

    /// Logs in and looks for the unit, unless that was done, or it was missed a moment ago.
    pub async fn find(&self) {
        for line in [&self.demand, &self.bulk] {
            line.look_ahead(self.designator, self.geometry).await;
        }
    }

    fn line(&self, class: Class) -> &Arc<Line> {
        match class {
            Class::Demand | Class::Peer => &self.demand,
            Class::Prefetch | Class::Fill => &self.bulk,
        }
    }
}

impl Volume for PeerVolume {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.geometry.check(span)?;
        let line = self.line(class);
        let now = line.sessions.start.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        line.used.store(now, Ordering::Relaxed);
        let remote = match class {
            Class::Peer => line.unit_at_once(self.designator, self.geometry)?,
            _ => line.unit(self.designator, self.geometry).await?,
        };
        let reading = timeout(line.options.request_timeout, remote.read(span, class));
        match reading.await.unwrap_or(Err(Error::Unavailable)) {
            // The unit is gone or became another one; it is looked for again.
            Err(Error::Corrupt | Error::Unavailable) => {
                line.forget(self.designator);
                Err(Error::Unavailable)
            }
            result => result,
        }
    }

    async fn write(&self, _offset: u64, _bytes: Bytes) -> Result<()> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn trim(&self, _span: Span) -> Result<()> {
        Err(Error::ReadOnly)
    }
}

/// What a session carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Demand,
    Bulk,
}

/// One session with one peer, or the attempts to get one.
struct Line {
    sessions: Arc<PeerSessions>,
    address: PeerAddress,
    options: PeerOptions,
    state: tokio::sync::Mutex<LineState>,
    /// The last login that a read waited for came to nothing: none waits for the next one.
    unreached: AtomicBool,
    /// It does not let this node in, or is not who it has to be: said once.
    shut_out: AtomicBool,
    /// When it was used last, in milliseconds.
    used: AtomicU64,
}

#[derive(Default)]
struct LineState {
    session: Option<Session>,
    /// The keys that the session logs in with whenever it reconnects.
    keys: Option<Arc<Keys>>,
    pause: Pause,
    units: HashMap<[u8; 8], Remote>,
    missing: HashMap<[u8; 8], Missing>,
}

/// How long a unit that was not found is not looked for again, by those who read and by those who look ahead of need.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    read: Pause,
    ahead: Pause,
}

/// The time in which something is not tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
}

impl Line {
    /// The unit, if it was found and is connected; otherwise it is looked for behind the asker's back.
    fn unit_at_once(self: &Arc<Self>, designator: [u8; 8], geometry: Geometry) -> Result<Remote> {
        let Some(mut state) = self.looked_up()? else {
            return Err(Error::Busy);
        };
        self.renew(&mut state);
        let known = state.known(designator);
        drop(state);
        known.unwrap_or_else(|| {
            let line = self.clone();
            tokio::spawn(async move { line.search(designator, geometry).await });
            Err(Error::Busy)
        })
    }

    /// The unit, waited for. The search goes on if the asker leaves.
    async fn unit(self: &Arc<Self>, designator: [u8; 8], geometry: Geometry) -> Result<Remote> {
        if let Some(mut state) = self.looked_up()? {
            self.renew(&mut state);
            if let Some(known) = state.known(designator) {
                return known;
            }
        }
        let line = self.clone();
        let search = tokio::spawn(async move { line.search(designator, geometry).await });
        search.await.unwrap_or(Err(Error::Unavailable))
    }

    /// What is known, unless somebody is dialing or searching at the moment: then it may be waited for, but not where that
    /// was in vain before.
    fn looked_up(&self) -> Result<Option<MutexGuard<'_, LineState>>> {
        match self.state.try_lock() {
            Ok(state) => Ok(Some(state)),
            Err(_) if self.unreached.load(Ordering::Relaxed) => Err(Error::Unavailable),
            Err(_) => Ok(None),
        }
    }

    /// Logs in, unless there is a session.
    async fn open(self: &Arc<Self>) {
        let mut state = self.state.lock().await;
        self.renew(&mut state);
        // Said where it is dialed.
        let _ = self.session(&mut state).await;
    }

    /// The session, after a login if there is none.
    async fn session(self: &Arc<Self>, state: &mut LineState) -> Result<Session> {
        if let Some(session) = &state.session {
            return Ok(session.clone());
        }
        match self.dial(state.keys.clone().as_deref()).await {
            Ok(session) => {
                self.unreached.store(false, Ordering::Relaxed);
                state.pause = Pause::default();
                self.sessions.opened(self);
                Ok(state.session.insert(session).clone())
            }
            Err(error) => {
                debug!(peer = %self.address.portal, %error, "the peer cannot be reached");
                Err(Error::Unavailable)
            }
        }
    }

    /// Makes room for another session; false while somebody uses this one.
    fn retire(&self) -> bool {
        let Ok(mut state) = self.state.try_lock() else {
            return false;
        };
        if state
            .session
            .as_ref()
            .is_some_and(|session| session.in_flight() > 0)
        {
            return false;
        }
        state.units.clear();
        if let Some(session) = state.session.take() {
            tokio::spawn(async move { session.close().await });
        }
        true
    }

    async fn search(self: &Arc<Self>, designator: [u8; 8], geometry: Geometry) -> Result<Remote> {
        let mut state = self.state.lock().await;
        self.renew(&mut state);
        if let Some(known) = state.known(designator) {
            return known;
        }
        match self.look(&mut state, designator, geometry).await {
            Ok(Some(remote)) => Ok(remote),
            Ok(None) => {
                let missing = state.missing.entry(designator).or_default();
                missing.read.lengthen(LONGEST_PAUSE);
                Err(Error::Unavailable)
            }
            Err(error) => {
                self.unreached.store(true, Ordering::Relaxed);
                state.pause.lengthen(LONGEST_PAUSE);
                Err(error)
            }
        }
    }

    /// Looks for the unit before anybody needs it. What is not there yet starts no pause for those who read.
    async fn look_ahead(self: &Arc<Self>, designator: [u8; 8], geometry: Geometry) {
        let mut state = self.state.lock().await;
        self.renew(&mut state);
        let missed = state.missing.get(&designator);
        let known = state.units.contains_key(&designator);
        if !known
            && !missed.is_some_and(|missing| missing.ahead.lasts())
            && let Ok(None) = self.look(&mut state, designator, geometry).await
        {
            let missing = state.missing.entry(designator).or_default();
            missing.ahead.lengthen(LONGEST_PAUSE_AHEAD);
        }
    }

    /// Logs in if need be, and looks for the unit; it may be missing.
    async fn look(
        self: &Arc<Self>,
        state: &mut LineState,
        designator: [u8; 8],
        geometry: Geometry,
    ) -> Result<Option<Remote>> {
        let session = self.session(state).await?;
        let found = timeout(
            self.options.connect_timeout,
            find(&session, designator, geometry),
        )
        .await;
        let found = found.unwrap_or_default();
        if let Some(remote) = &found {
            state.missing.remove(&designator);
            state.units.insert(designator, remote.clone());
        } else {
            debug!(peer = %self.address.portal, "the peer does not have the image");
        }
        Ok(found)
    }

    /// A session that cannot come back with the keys that it has makes room for a new one.
    fn renew(&self, state: &mut LineState) {
        let now = self.options.proof.as_ref().map(|proof| proof.keys.now());
        let stale = state.keys.as_ref().map(Arc::as_ptr) != now.as_ref().map(Arc::as_ptr);
        let lost = |session: &Session| !session.is_connected();
        if stale && state.session.as_ref().is_none_or(lost) {
            *state = LineState {
                keys: now,
                ..LineState::default()
            };
        }
    }

    /// Dials with the key in use, and with the other one where the peer does not know that yet, or no more.
    async fn dial(&self, keys: Option<&Keys>) -> std::result::Result<Session, DialError> {
        let (Some(proof), Some(keys)) = (&self.options.proof, keys) else {
            return self.dial_with(None).await;
        };
        let mut refusal = None;
        for credentials in keys.to_dial(&proof.node, &self.address.node)? {
            match self.dial_with(Some(credentials)).await {
                Err(error) if is_about_keys(&error) => refusal = Some(error),
                dialed => {
                    let session = dialed?;
                    if self.shut_out.swap(false, Ordering::Relaxed) {
                        info!(peer = %self.address.node, "the peer has the same swarm key now");
                    }
                    return Ok(session);
                }
            }
        }
        let error = refusal.unwrap_or(DialError::NoSecret);
        if !self.shut_out.swap(true, Ordering::Relaxed) {
            warn!(
                peer = %self.address.node, portal = %self.address.portal, %error,
                "the peer has another swarm key, or none: nothing is taken from it; give all nodes the same key file"
            );
        }
        Err(error)
    }

    async fn dial_with(
        &self,
        chap: Option<Credentials>,
    ) -> std::result::Result<Session, DialError> {
        let bad_name = |_| DialError::BadAddress;
        let initiator: IscsiName = self.options.initiator_name.parse().map_err(bad_name)?;
        let target: IscsiName = self.address.target_name.parse().map_err(bad_name)?;
        let options = Options {
            chap,
            connect_timeout: self.options.connect_timeout,
            login_timeout: self.options.connect_timeout,
            command_timeout: Some(self.options.request_timeout),
            // A busy peer is no place to wait: there are others, and the origin.
            repeats_busy: false,
            reconnect: Reconnect {
                outage: Outage::Deadline(self.options.request_timeout),
                ..Reconnect::default()
            },
            ..Options::new(initiator)
        };
        Session::connect_to(&self.address.portal, &target, options).await
    }

    /// Lets a unit be looked for again. If somebody is searching at the moment, that is being done anyway.
    fn forget(&self, designator: [u8; 8]) {
        if let Ok(mut state) = self.state.try_lock() {
            state.units.remove(&designator);
        }
    }
}

impl LineState {
    /// What can be said at once, if anything.
    fn known(&self, designator: [u8; 8]) -> Option<Result<Remote>> {
        if self
            .session
            .as_ref()
            .is_some_and(|session| !session.is_connected() && session.logins() > 0)
        {
            // The session dials again by itself.
            return Some(Err(Error::Unavailable));
        }
        if let Some(remote) = self.units.get(&designator) {
            return Some(Ok(remote.clone()));
        }
        let missing = self.missing.get(&designator);
        let left_alone = self.pause.lasts() || missing.is_some_and(|missing| missing.read.lasts());
        left_alone.then_some(Err(Error::Unavailable))
    }
}

impl Pause {
    fn lasts(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    fn lengthen(&mut self, longest: Duration) {
        self.length = (self.length * 2).clamp(SHORTEST_PAUSE, longest);
        self.until = Some(Instant::now() + self.length);
    }
}

/// True if the two ends do not believe each other.
fn is_about_keys(error: &DialError) -> bool {
    matches!(
        error,
        DialError::Refused(LoginStatus::AUTHENTICATION_FAILURE)
            | DialError::Ended(SessionEnd::Login(_))
    )
}

/// Looks through the units of a target for one with this designator and geometry.
async fn find(session: &Session, designator: [u8; 8], geometry: Geometry) -> Option<Remote> {
    let wanted = Designator::naa(designator);
    for lun in session
        .report_luns()
        .await
        .ok()?
        .into_iter()
        .take(MAX_UNITS)
    {
        let Ok(designators) = session.designators(lun).await else {
            continue;
        };
        if designators.contains(&wanted) {
            let remote = Remote::attach(session.clone(), lun).await.ok()?;
            // A peer may say the same in blocks of another size.
            return Some(remote).filter(|remote| remote.geometry().bytes() == geometry.bytes());
        }
    }
    None
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVolume")
            .field("address", &self.demand.address)
            .finish_non_exhaustive()
    }
}

/// Logins ahead of need that are under way at once.
const LOGINS_AT_ONCE: usize = 16;
/// Units of a peer that are looked through.
const MAX_UNITS: usize = 1024;
/// How long a peer is left alone after it could not be reached.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// How long it is left alone at most by those who read.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long it is not looked through for an image that nobody needs from it now.
const LONGEST_PAUSE_AHEAD: Duration = Duration::from_secs(60);
