//! Getting to a target: connect, log in, follow redirections.

use std::sync::Arc;
use std::time::Duration;

use iscsi_proto::discovery::parse_address;
use iscsi_proto::login::InitiatorOffer;
use iscsi_proto::name::IscsiName;
use iscsi_proto::session::{InitiatorConfig, InitiatorEvent, SessionEnd};
use iscsi_proto::wire::bhs::Isid;

use crate::connection::Connection;
use crate::status::Status;
use crate::{Credentials, Error, Options, Reconnect};

/// How to get to a target, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// Never empty.
    portals: Vec<Portal>,
    /// The one that was reached last.
    current: usize,
    /// The address that was reached last; another than the portal's after a redirection.
    reached: String,
    config: InitiatorConfig,
    chap: Option<Credentials>,
    connect_timeout: Duration,
}

/// An address of the target.
#[derive(Clone, Debug)]
struct Portal {
    address: String,
    /// Where it said that it moved to for good; forgotten when nobody is there.
    moved: Option<String>,
}

impl Dialer {
    /// The way to a target, or without a name to discovery. The session keeps its name through reconnects, so that
    /// the target ends what is left of the one before.
    pub(crate) fn new(
        addresses: &[&str],
        target: Option<&IscsiName>,
        options: &Options,
    ) -> Result<Self, Error> {
        let portals = addresses
            .iter()
            .map(|address| Portal::new(address))
            .collect::<Result<Vec<_>, _>>()?;
        let reached = portals.first().ok_or(Error::BadAddress)?.address.clone();
        options.chap.as_ref().map(Credentials::check).transpose()?;
        let (name, isid) = (options.initiator_name.clone(), random_isid()?);
        let mut offer = match target {
            Some(target) => InitiatorOffer::normal(name, target.clone(), isid),
            None => InitiatorOffer::discovery(name, isid),
        };
        // Some targets that agree to digests in discovery then forget about them.
        if target.is_some() {
            offer.header_digest = options.header_digest;
            offer.data_digest = options.data_digest;
        }
        let config = InitiatorConfig {
            login_timeout: options.login_timeout,
            command_timeout: options.command_timeout,
            management_timeout: options.management_timeout,
            ping_interval: options.ping_interval,
            ping_timeout: options.ping_timeout,
            queue_limit: options.queue_limit.saturating_add(OWN_REQUESTS),
            ..InitiatorConfig::new(offer)
        };
        Ok(Self {
            portals,
            current: 0,
            reached,
            config,
            chap: options.chap.clone(),
            connect_timeout: options.connect_timeout,
        })
    }

    /// The way of the same session, by its name, to where another session finds the same target; `None` if that is another
    /// target.
    pub(crate) fn through(&self, other: &Self) -> Option<Self> {
        self.leads_to_target_of(other).then(|| Self {
            portals: other.portals.clone(),
            current: other.current,
            reached: other.reached.clone(),
            ..self.clone()
        })
    }

    /// True if both lead to the same target.
    pub(crate) fn leads_to_target_of(&self, other: &Self) -> bool {
        self.config.offer.target_name == other.config.offer.target_name
    }

    /// Where the target was reached last.
    pub(crate) fn reached(&self) -> &str {
        &self.reached
    }

    /// The portal that was reached last lets the session in, but not live: the next one has its turn first.
    pub(crate) fn pass_over(&mut self) {
        self.current = (self.current + 1) % self.portals.len().max(1);
    }

    /// Connects and logs in through one portal after the other, the last good one first.
    pub(crate) async fn dial(&mut self) -> Result<Connection, Error> {
        let mut failure = Error::BadAddress;
        for step in 0..self.portals.len() {
            let place = (self.current + step) % self.portals.len();
            match self.dial_portal(place).await {
                Ok(connection) => {
                    self.current = place;
                    return Ok(connection);
                }
                Err(error) => {
                    tracing::debug!(address = self.address_of(place), %error, "no connection");
                    failure = error.over(failure);
                }
            }
        }
        Err(failure)
    }

    /// Dials until it works, with growing pauses; gives the way that was found back.
    pub(crate) async fn redial(
        mut self,
        policy: Reconnect,
        first_pause: Duration,
        status: Arc<Status>,
    ) -> (Connection, Self) {
        tokio::time::sleep(first_pause).await;
        let mut attempt = 0u32;
        loop {
            match self.dial().await {
                Ok(connection) => return (connection, self),
                Err(error) => {
                    // Said once: it may go on for ever.
                    if attempt == 0 && matches!(error, Error::Refused(_)) {
                        tracing::warn!(address = self.reached, %error, "the target does not let the session back in");
                    }
                    status.failed(error);
                }
            }
            tokio::time::sleep(policy.delay(attempt)).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Connects and logs in through a portal. A permanent redirection is remembered while it leads somewhere, a
    /// temporary one is for this time only.
    async fn dial_portal(&mut self, place: usize) -> Result<Connection, Error> {
        let mut address = self.address_of(place).to_owned();
        for _ in 0..=MAX_REDIRECTS {
            self.config.offer.chap = self.chap.as_ref().map(Credentials::draw).transpose()?;
            let opened = Connection::open(&address, self.connect_timeout, self.config.clone());
            let mut connection = match opened.await {
                Ok(connection) => connection,
                Err(error) => {
                    self.set_moved(place, None);
                    return Err(error);
                }
            };
            match connection.event().await {
                InitiatorEvent::LoggedIn(_) => {
                    self.reached = address;
                    return Ok(connection);
                }
                InitiatorEvent::Ended(SessionEnd::Redirected {
                    address: other,
                    permanent,
                }) => {
                    tracing::debug!(%address, %other, permanent, "redirected");
                    (address, _) = parse_address(&other).map_err(|_| Error::BadAddress)?;
                    if permanent {
                        self.set_moved(place, Some(address.clone()));
                    }
                }
                InitiatorEvent::Ended(end) => {
                    self.set_moved(place, None);
                    return Err(match end {
                        SessionEnd::Refused(status) => Error::Refused(status),
                        end => Error::Ended(end),
                    });
                }
                _ => return Err(Error::Malformed),
            }
        }
        self.set_moved(place, None);
        Err(Error::TooManyRedirects)
    }

    fn address_of(&self, place: usize) -> &str {
        self.portals.get(place).map_or("", Portal::now)
    }

    fn set_moved(&mut self, place: usize, moved: Option<String>) {
        if let Some(portal) = self.portals.get_mut(place) {
            portal.moved = moved;
        }
    }
}

impl Portal {
    fn new(address: &str) -> Result<Self, Error> {
        let (address, _) = parse_address(address).map_err(|_| Error::BadAddress)?;
        Ok(Self {
            address,
            moved: None,
        })
    }

    /// Where it is now.
    fn now(&self) -> &str {
        self.moved.as_ref().unwrap_or(&self.address)
    }
}

impl Error {
    /// Which of two failures tells more: a target that answered knows better than a network that did not.
    fn over(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Connect(_) | Self::ConnectTimeout, Self::Refused(_) | Self::Ended(_)) => other,
            _ => self,
        }
    }
}

/// A name of the random kind (RFC 7143 §11.12.5): type 10b, then a random number and a random qualifier.
fn random_isid() -> Result<Isid, Error> {
    let mut isid = Isid::default();
    getrandom::fill(&mut isid).map_err(|_| Error::NoRandomness)?;
    isid[0] = 0x80;
    Ok(isid)
}

/// Redirections of one login.
const MAX_REDIRECTS: u32 = 4;

/// Requests of a session beside its user's: aborts, pings, questions about units.
const OWN_REQUESTS: usize = 64;
