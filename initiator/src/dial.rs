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
    address: String,
    config: InitiatorConfig,
    chap: Option<Credentials>,
    connect_timeout: Duration,
}

impl Dialer {
    /// The way to a target, or without a name to discovery. The session keeps its name through reconnects, so that
    /// the target ends what is left of the one before.
    pub(crate) fn new(
        address: &str,
        target: Option<&IscsiName>,
        options: &Options,
    ) -> Result<Self, Error> {
        let (address, _) = parse_address(address).map_err(|_| Error::BadAddress)?;
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
            ping_interval: options.ping_interval,
            ping_timeout: options.ping_timeout,
            queue_limit: options.queue_limit.saturating_add(OWN_REQUESTS),
            ..InitiatorConfig::new(offer)
        };
        Ok(Self {
            address,
            config,
            chap: options.chap.clone(),
            connect_timeout: options.connect_timeout,
        })
    }

    /// Where the target is, as far as is known.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Connects and logs in. A permanent redirection is remembered, a temporary one is for this time only.
    pub(crate) async fn dial(&mut self) -> Result<Connection, Error> {
        let mut address = self.address.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.config.offer.chap = self.chap.as_ref().map(Credentials::draw).transpose()?;
            let mut connection =
                Connection::open(&address, self.connect_timeout, self.config.clone()).await?;
            match connection.event().await {
                InitiatorEvent::LoggedIn(_) => return Ok(connection),
                InitiatorEvent::Ended(SessionEnd::Redirected {
                    address: other,
                    permanent,
                }) => {
                    tracing::debug!(%address, %other, permanent, "redirected");
                    (address, _) = parse_address(&other).map_err(|_| Error::BadAddress)?;
                    if permanent {
                        self.address.clone_from(&address);
                    }
                }
                InitiatorEvent::Ended(SessionEnd::Refused(status)) => {
                    return Err(Error::Refused(status));
                }
                InitiatorEvent::Ended(end) => return Err(Error::Ended(end)),
                _ => return Err(Error::Malformed),
            }
        }
        Err(Error::TooManyRedirects)
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
                    tracing::debug!(address = self.address, %error, "no connection yet");
                    status.failed(error);
                }
            }
            tokio::time::sleep(policy.delay(attempt)).await;
            attempt = attempt.saturating_add(1);
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
