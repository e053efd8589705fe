//! A peer's copy of an image as a volume, over iSCSI.
//!
//! [`PeerVolume`] is dialed when it is read first and finds the logical unit by its designator, so peers need not agree
//! on numbers. All volumes of one peer share two sessions: one for demand, one for what is read ahead, so that bulk data
//! never stands before a guest's. A peer that cannot be reached, or does not have the image, costs nothing: it answers
//! [`Error::Unavailable`] at once and is not tried again before a pause that grows. A request that is forwarded for
//! another peer never waits for a login: while one is pending the answer is [`Error::Busy`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use iscsi_initiator::{Designator, IscsiName, Options, Outage, Reconnect, Remote, Session};

use tokio::time::{Instant, timeout};
use tracing::debug;
use vmthunder_volume::{Class, Error, Geometry, Result, Span, Volume};

/// How peers are dialed.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// The name under which this node logs in.
    pub initiator_name: String,
    /// How long a connection, its login and the search for a unit may take.
    pub connect_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// Where a peer serves its cached images.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// `host:port`.
    pub portal: String,
    /// The name of the peer's swarm target.
    pub target_name: String,
}

/// The sessions to all peers, shared by all images of a node. A session lives as long as a volume that uses it.
#[derive(Debug)]
pub struct PeerSessions {
    options: PeerOptions,
    lines: Mutex<HashMap<(PeerAddress, Lane), Weak<Line>>>,
}

impl PeerSessions {
    /// No session yet: each is opened when it is needed first.
    pub fn new(options: PeerOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            lines: Mutex::default(),
        })
    }

    fn line(&self, address: &PeerAddress, lane: Lane) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, line| line.strong_count() > 0);
        let key = (address.clone(), lane);
        if let Some(line) = lines.get(&key).and_then(Weak::upgrade) {
            return line;
        }
        let line = Arc::new(Line {
            address: address.clone(),
            options: self.options.clone(),
            state: tokio::sync::Mutex::default(),
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
    address: PeerAddress,
    options: PeerOptions,
    state: tokio::sync::Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
    session: Option<Session>,
    pause: Pause,
    units: HashMap<[u8; 8], Found>,
}

/// What is known about a unit of the peer.
enum Found {
    Here(Remote),
    Missing(Pause),
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
        // Whoever holds the lock is dialing or searching.
        let known = self
            .state
            .try_lock()
            .map_err(|_| Error::Busy)?
            .known(designator);
        known.unwrap_or_else(|| {
            let line = self.clone();
            tokio::spawn(async move { line.search(designator, geometry).await });
            Err(Error::Busy)
        })
    }

    /// The unit, waited for. The search goes on if the asker leaves.
    async fn unit(self: &Arc<Self>, designator: [u8; 8], geometry: Geometry) -> Result<Remote> {
        if let Some(known) = self
            .state
            .try_lock()
            .ok()
            .and_then(|state| state.known(designator))
        {
            return known;
        }
        let line = self.clone();
        let search = tokio::spawn(async move { line.search(designator, geometry).await });
        search.await.unwrap_or(Err(Error::Unavailable))
    }

    async fn search(&self, designator: [u8; 8], geometry: Geometry) -> Result<Remote> {
        let mut state = self.state.lock().await;
        if let Some(known) = state.known(designator) {
            return known;
        }
        let session = match state.session.clone() {
            Some(session) => session,
            None => match self.dial().await {
                Ok(session) => {
                    state.pause = Pause::default();
                    state.session.insert(session).clone()
                }
                Err(error) => {
                    debug!(peer = %self.address.portal, %error, "the peer cannot be reached");
                    state.pause.lengthen();
                    return Err(Error::Unavailable);
                }
            },
        };
        let found = timeout(
            self.options.connect_timeout,
            find(&session, designator, geometry),
        )
        .await;
        if let Some(remote) = found.unwrap_or_default() {
            state.units.insert(designator, Found::Here(remote.clone()));
            return Ok(remote);
        }
        debug!(peer = %self.address.portal, "the peer does not have the image");
        let mut pause = match state.units.remove(&designator) {
            Some(Found::Missing(pause)) => pause,
            _ => Pause::default(),
        };
        pause.lengthen();
        state.units.insert(designator, Found::Missing(pause));
        Err(Error::Unavailable)
    }

    async fn dial(&self) -> std::result::Result<Session, iscsi_initiator::Error> {
        let bad_name = |_| iscsi_initiator::Error::BadAddress;
        let initiator: IscsiName = self.options.initiator_name.parse().map_err(bad_name)?;
        let target: IscsiName = self.address.target_name.parse().map_err(bad_name)?;
        let options = Options {
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
        if let Ok(mut state) = self.state.try_lock()
            && let Some(Found::Here(_)) = state.units.get(&designator)
        {
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
        match self.units.get(&designator) {
            Some(Found::Here(remote)) => Some(Ok(remote.clone())),
            Some(Found::Missing(pause)) if pause.lasts() => Some(Err(Error::Unavailable)),
            _ if self.pause.lasts() => Some(Err(Error::Unavailable)),
            _ => None,
        }
    }
}

impl Pause {
    fn lasts(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    fn lengthen(&mut self) {
        self.length = (self.length * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.until = Some(Instant::now() + self.length);
    }
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

/// Units of a peer that are looked through.
const MAX_UNITS: usize = 1024;
/// How long a peer is left alone after it could not be reached.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// How long it is left alone at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
