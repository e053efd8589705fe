//! Getting to a target and a unit; and what to do when that fails.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use iscsi_initiator::{CacheLoss, Error as SessionError, Options, Outage, Remote, Resize, Session};
use iscsi_proto::login::{DigestChoice, LoginError, LoginStatus};
use iscsi_proto::scsi::inquiry::StandardInquiry;
use iscsi_proto::scsi::{Sense, Status};
use iscsi_proto::session::SessionEnd;
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use tokio_util::task::AbortOnDropHandle;

use crate::args::{IscsiArgs, LoginArgs, PathArgs, PatienceArg, WireArgs};
use crate::consent::{self, Disk};
use crate::iscsi::outcome::{Kind, Told};
use crate::iscsi::unit::serial;
use crate::login::{advice, of_command, parse, place_of_secret, targets};

/// What this program is called as an initiator for scripts.
const NAME: &str = "cli";

/// How a unit is written.
const UNIT_FORM: &str = "iscsi://HOST[:PORT]/TARGET[/LUN]";

/// How long an error waits for what discovery tells.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often is said that a target is waited for.
const TICK: Duration = Duration::from_secs(5);

/// The most units that an error lists.
const MOST_NAMED: usize = 16;

/// A place on the command line, and how to log in there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) url: IscsiUrl,
    pub(super) options: Options,
    /// Other portals of the same unit.
    others: Vec<IscsiUrl>,
    /// Where the secret of the user is.
    secret: Option<String>,
}

/// A unit that is there.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) place: Place,
    pub(super) session: Session,
    pub(super) lun: Lun,
    pub(super) inquiry: StandardInquiry,
    /// The unit as a volume, once it was asked for.
    remote: OnceLock<Remote>,
    /// Tells people what is waited for.
    _watch: AbortOnDropHandle<()>,
}

impl Place {
    /// Where a URL of the command line points.
    pub(super) fn of(url: &str, common: &IscsiArgs) -> Result<Self> {
        Self::new(url, &common.login, &common.wire)
    }

    /// The same, where not every unit has the same login.
    pub(super) fn new(url: &str, login: &LoginArgs, wire: &WireArgs) -> Result<Self> {
        let url = parse(url)?;
        let mut options = of_command(&url, NAME, login)?;
        // Who was told that bytes are safe believes it, and a tool can say otherwise.
        options.cache_loss = CacheLoss::FailFlush;
        // It is still the unit that was meant.
        options.resize = Resize::Follow;
        options.command_timeout = wire.timeout.unwrap_or(options.command_timeout);
        options.reconnect.outage = match wire.outage {
            None => options.reconnect.outage,
            Some(PatienceArg::Wait) => Outage::Wait,
            Some(PatienceArg::Fail) => Outage::Fail,
            Some(PatienceArg::Seconds(most)) => Outage::Deadline(most),
        };
        if wire.digests {
            options.header_digest = DigestChoice::Crc32c;
            options.data_digest = DigestChoice::Crc32c;
        }
        Ok(Self {
            secret: place_of_secret(&url, &login.secrets),
            others: Vec::new(),
            url,
            options,
        })
    }

    /// The same place, through other portals as well.
    pub(super) fn through(mut self, paths: &PathArgs) -> Result<Self> {
        for portal in &paths.portal {
            let other = self.url.moved_to(portal);
            let other = other.with_context(|| format!("--portal {portal}"))?;
            self.others.push(other);
        }
        Ok(self)
    }

    /// The unit that is meant; without a number the first.
    pub(super) fn lun(&self) -> Lun {
        Lun::from_number(self.url.lun().unwrap_or(0))
    }

    /// Logs in; an error says what to do next.
    pub(super) async fn log_in(&self) -> Result<Session> {
        let Some(target) = self.url.target() else {
            let found = self.targets().await;
            return Err(anyhow!("{} lacks the target's name{found}", self.url));
        };
        let options = self.options.clone().with_user_of(&self.url)?;
        let ways = std::iter::once(&self.url).chain(&self.others);
        let addresses: Vec<_> = ways.map(IscsiUrl::address).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        match Session::connect_any(&addresses, target, options).await {
            Ok(session) => Ok(session),
            Err(error) => {
                let next = self.after(&error).await;
                let text = format!("cannot log in to {}: {error}{next}", self.url);
                Err(Told::new(Kind::of_session(&error), text).into())
            }
        }
    }

    /// True if the target has to prove who it is.
    fn demands_proof(&self) -> bool {
        let chap = self.options.chap.as_ref();
        chap.is_some_and(|chap| chap.mutual.is_some())
    }

    /// What a discovery session finds, as the end of an error.
    async fn targets(&self) -> String {
        targets(&self.url.address(), &self.options, PATIENCE, UNIT_FORM).await
    }

    /// What to do next when a login fails.
    pub(super) async fn after(&self, error: &SessionError) -> String {
        match error {
            SessionError::Connect(_) | SessionError::ConnectTimeout => {
                "; is a target listening there, and may this machine reach it?".to_owned()
            }
            SessionError::Refused(LoginStatus::NOT_FOUND | LoginStatus::TARGET_REMOVED) => {
                self.targets().await
            }
            SessionError::Refused(status) => {
                let initiator = self.options.initiator_name.as_str();
                let mut next = advice(*status, self.secret.clone(), initiator);
                if *status == LoginStatus::AUTHENTICATION_FAILURE && self.demands_proof() {
                    next += "; or it proves itself to nobody, and --mutual-user demands that";
                }
                next
            }
            SessionError::Ended(SessionEnd::Login(LoginError::Unproven(_)))
                if self.demands_proof() =>
            {
                "; is --mutual-user the target's name and --mutual-secret-file its secret? A target that proves nothing, or something else, may be another one".to_owned()
            }
            SessionError::Ended(SessionEnd::Protocol(_) | SessionEnd::Disconnected) => {
                "; does an iSCSI target listen there, or something else, like a web server?".to_owned()
            }
            SessionError::Ended(SessionEnd::Login(_)) if self.options.chap.is_none() => {
                advice(LoginStatus::AUTHENTICATION_FAILURE, None, "")
            }
            _ => String::new(),
        }
    }
}

impl Reached {
    async fn of(place: Place) -> Result<Self> {
        let session = place.log_in().await?;
        let lun = place.lun();
        let inquiry = match session.inquiry(lun).await {
            Ok(inquiry) if inquiry.qualifier == 0 => inquiry,
            Ok(_) => return Err(no_unit(&place, &session).await),
            Err(error) if is_no_unit(&error) => return Err(no_unit(&place, &session).await),
            Err(error) => {
                session.close().await;
                return Err(Error::from(error).context(format!("cannot ask {}", place.url)));
            }
        };
        let watch = tokio::spawn(tell_waiting(place.url.to_string(), session.clone()));
        Ok(Self {
            place,
            session,
            lun,
            inquiry,
            remote: OnceLock::new(),
            _watch: AbortOnDropHandle::new(watch),
        })
    }

    /// The unit as a volume; from then on it must stay what it is.
    pub(super) async fn attach(&self) -> Result<Remote> {
        let cannot = || format!("cannot use {}", self.place.url);
        let remote = match self.place.others.as_slice() {
            [] => Remote::attach(self.session.clone(), self.lun).await,
            others => {
                let urls = [std::slice::from_ref(&self.place.url), others].concat();
                Remote::connect(&urls, self.place.options.clone()).await
            }
        };
        let remote = remote.with_context(cannot)?;
        Ok(self.remote.get_or_init(|| remote).clone())
    }

    /// Logs out.
    pub(super) async fn close(&self) {
        if let Some(remote) = self.remote.get() {
            remote.close().await;
        }
        self.session.close().await;
    }
}

impl Reached {
    /// Asks whether the unit may be written; `act` begins the sentence ([`consent::ask`]).
    pub(super) async fn ask_consent(&self, bytes: u64, act: &str, yes: bool) -> Result<()> {
        let StandardInquiry {
            vendor,
            product,
            revision,
            ..
        } = &self.inquiry;
        let disk = Disk {
            product: &format!("{vendor} {product} {revision}"),
            serial: &serial(&self.session, self.lun).await?,
            bytes,
            url: &self.place.url.to_string(),
        };
        consent::ask(&disk, act, yes).await
    }
}

/// Logs in, does something, and logs out whatever became of it: the target need not find out that nobody is there.
pub(super) async fn with_session<T>(
    url: &str,
    common: &IscsiArgs,
    job: impl AsyncFnOnce(&Place, &Session) -> Result<T>,
) -> Result<T> {
    let place = Place::of(url, common)?;
    let session = place.log_in().await?;
    let done = job(&place, &session).await;
    session.close().await;
    done.with_context(|| place.url.to_string())
}

/// The same with a unit that is there.
pub(super) async fn with_unit<T>(
    place: Place,
    job: impl AsyncFnOnce(&Reached) -> Result<T>,
) -> Result<T> {
    let reached = Reached::of(place).await?;
    let done = job(&reached).await;
    reached.close().await;
    done.with_context(|| reached.place.url.to_string())
}

/// A unit that stays open until the program ends or closes it.
pub(super) async fn reach(place: Place) -> Result<Reached> {
    Reached::of(place).await
}

/// The unit is not there: which ones are?
async fn no_unit(place: &Place, session: &Session) -> Error {
    let mut said = format!(
        "there is no LUN {} at {}",
        place.url.lun().unwrap_or(0),
        place.url
    );
    match session.report_luns().await {
        Ok(luns) if luns.is_empty() => said += ", nor any other that we may see",
        Ok(luns) => {
            said += match luns.len() {
                1 => "; the target has LUN",
                _ => "; the target has LUNs",
            };
            for (at, lun) in luns.iter().take(MOST_NAMED).enumerate() {
                let _ = write!(said, "{} {lun}", if at == 0 { "" } else { "," });
            }
            if luns.len() > MOST_NAMED {
                let _ = write!(said, " and {} more", luns.len() - MOST_NAMED);
            }
            let _ = write!(said, ": the whole URL is {UNIT_FORM}");
        }
        Err(error) => {
            let _ = write!(said, "; the target does not list its units: {error}");
        }
    }
    session.close().await;
    Told::new(Kind::NoSuchUnit, said).into()
}

/// Says now and then that a session waits for its target, and why.
async fn tell_waiting(url: String, session: Session) {
    let mut lost_since = None;
    loop {
        tokio::time::sleep(TICK).await;
        if session.is_connected() {
            lost_since = None;
            continue;
        }
        let since = *lost_since.get_or_insert_with(Instant::now);
        let reason = session.last_failure();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        eprintln!(
            "note: waiting for {url} for {} s{reason}",
            since.elapsed().as_secs() + TICK.as_secs()
        );
    }
}

/// LOGICAL UNIT NOT SUPPORTED.
fn is_no_unit(error: &SessionError) -> bool {
    matches!(
        error,
        SessionError::Status {
            status: Status::CHECK_CONDITION,
            sense: Some(Sense {
                key: 0x5,
                asc: 0x25,
                ..
            }),
        }
    )
}
