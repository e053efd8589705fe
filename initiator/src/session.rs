//! A handle on one target.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::name::IscsiName;
use iscsi_proto::scsi::capacity::Capacity;
use iscsi_proto::scsi::inquiry::StandardInquiry;
use iscsi_proto::scsi::vpd::{self, Designator};
use iscsi_proto::scsi::{Command, luns};
use iscsi_proto::session::{Completion, Request, Transfer};
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use vmthunder_volume::Class;

use crate::dial::Dialer;
use crate::identity::{
    CAPACITY_10_BYTES, CAPACITY_16, CAPACITY_BYTES, INQUIRY_BYTES, Identity, capacity_10,
    capacity_16, designators, good, good_or_unknown, inquiry_command, page_command,
};
use crate::job::{Job, Order, Pending, Repeat, Terms, UnitSize, replies};
use crate::link::Link;
use crate::status::{Settled, Standing, Status};
use crate::{Error, Options};

/// A session with one target. Cheap to clone; when the last handle is gone, the session logs out.
#[derive(Clone, Debug)]
pub struct Session {
    orders: mpsc::UnboundedSender<Order>,
    places: Arc<Semaphore>,
    queue_limit: usize,
    status: Arc<Status>,
    parts_in_flight: usize,
    dialer: Arc<Dialer>,
    repeats_busy: bool,
    command_timeout: Option<Duration>,
}

impl Session {
    /// Connects and logs in to the target that a URL names, as the URL's user ([`Options::with_user_of`]).
    pub async fn connect(url: &IscsiUrl, options: Options) -> Result<Self, Error> {
        let target = url.target().ok_or(Error::BadAddress)?;
        Self::connect_to(&url.address(), target, options.with_user_of(url)?).await
    }

    /// Connects to `address` (`host`, `host:port`, `[v6]:port`) and logs in to a target there. The first attempt is
    /// the only one: reconnecting is for sessions that once were. Dropping the future closes the connection.
    pub async fn connect_to(
        address: &str,
        target: &IscsiName,
        options: Options,
    ) -> Result<Self, Error> {
        Self::connect_any(&[address], target, options).await
    }

    /// Connects to the first of these addresses where the target answers, and after a loss to the next where it does,
    /// beginning with the one that was good last. The session keeps its name (ISID), so that within one portal group the
    /// target ends what is left of the old connection before anything is repeated (RFC 7143 §6.3.5). In another portal
    /// group it does not know of it: writes whose fate is unknown are then repeated after a LOGICAL UNIT RESET, or end
    /// with [`Error::Interrupted`] if the unit refuses that.
    pub async fn connect_any(
        addresses: &[&str],
        target: &IscsiName,
        options: Options,
    ) -> Result<Self, Error> {
        Self::begin(addresses, target, options, true).await
    }

    /// One session of several with the same unit: somebody else watches over the unit's write cache.
    pub(crate) async fn connect_path(url: &IscsiUrl, options: Options) -> Result<Self, Error> {
        let target = url.target().ok_or(Error::BadAddress)?;
        let options = options.with_user_of(url)?;
        Self::begin(&[&url.address()], target, options, false).await
    }

    async fn begin(
        addresses: &[&str],
        target: &IscsiName,
        options: Options,
        watches_caches: bool,
    ) -> Result<Self, Error> {
        let mut dialer = Dialer::new(addresses, Some(target), &options)?;
        let connection = dialer.dial().await?;
        let (orders, receiver) = mpsc::unbounded_channel();
        let way = Arc::new(dialer.clone());
        let status = Arc::new(Status::new(&connection));
        let link = Link::new(
            dialer,
            options.clone(),
            Arc::clone(&status),
            receiver,
            watches_caches,
        );
        tokio::spawn(link.run(connection));
        let queue_limit = options.queue_limit.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            orders,
            places: Arc::new(Semaphore::new(queue_limit)),
            queue_limit,
            status,
            parts_in_flight: options.parts_in_flight.max(1),
            dialer: way,
            repeats_busy: options.repeats_busy,
            command_timeout: options.command_timeout,
        })
    }

    /// Carries a command out, whatever its status: [`Status`](crate::Status) and sense data are in the completion, as are
    /// the bytes that were read, at most as many as `transfer` expects. Whoever drops the future learns nothing of the
    /// command, which goes on if it was sent. When too much is under way, or the connection is lost,
    /// `Class::Peer` is refused where other classes wait.
    pub async fn execute(
        &self,
        lun: Lun,
        command: &Command,
        transfer: Transfer,
        class: Class,
    ) -> Result<Completion, Error> {
        self.start(lun, command, transfer, class).await?.end().await
    }

    /// The units of the target (REPORT LUNS, SPC-4 §6.33); the first 1,023 of them.
    pub async fn report_luns(&self) -> Result<Vec<Lun>, Error> {
        let command = Command::ReportLuns {
            select: 0,
            allocation: LUN_LIST_BYTES,
        };
        let bytes = good(self.ask(Lun::default(), &command, LUN_LIST_BYTES).await?)?;
        let (numbers, _) = luns::parse(&bytes).ok_or(Error::Malformed)?;
        Ok(numbers.into_iter().map(Lun).collect())
    }

    /// Standard INQUIRY data (SPC-4 §6.4.2).
    pub async fn inquiry(&self, lun: Lun) -> Result<StandardInquiry, Error> {
        let bytes = good(
            self.ask(lun, &inquiry_command(), INQUIRY_BYTES.into())
                .await?,
        )?;
        StandardInquiry::parse(&bytes).ok_or(Error::Malformed)
    }

    /// A page of vital product data, as the unit sent it; `None` if the unit does not have it.
    pub async fn vital_page(&self, lun: Lun, page: u8) -> Result<Option<Bytes>, Error> {
        good_or_unknown(
            self.ask(lun, &page_command(page), INQUIRY_BYTES.into())
                .await?,
        )
    }

    /// The designators of a logical unit (VPD page 83h, association 0); none if it does not have the page.
    pub async fn designators(&self, lun: Lun) -> Result<Vec<Designator>, Error> {
        let page = page_command(vpd::DEVICE_IDENTIFICATION);
        designators(self.ask(lun, &page, INQUIRY_BYTES.into()).await?)
    }

    /// The number of blocks of a unit and the bytes of each (READ CAPACITY(16), or (10) where that is not known).
    pub async fn read_capacity(&self, lun: Lun) -> Result<Capacity, Error> {
        match capacity_16(self.ask(lun, &CAPACITY_16, CAPACITY_BYTES).await?)? {
            Some(capacity) => Ok(capacity),
            None => capacity_10(
                self.ask(lun, &Command::ReadCapacity10, CAPACITY_10_BYTES)
                    .await?,
            ),
        }
    }

    /// How often the session logged in; more than once means that the connection was lost meanwhile.
    pub fn logins(&self) -> u64 {
        self.status.logins()
    }

    /// True unless the connection is lost and not yet made again.
    pub fn is_connected(&self) -> bool {
        self.status.is_connected()
    }

    /// Another handle on this session, whose commands may take so long on one connection instead of
    /// [`Options::command_timeout`]; `None` for ever.
    #[must_use]
    pub fn with_command_timeout(&self, timeout: Option<Duration>) -> Self {
        Self {
            command_timeout: timeout,
            ..self.clone()
        }
    }

    /// How often a unit with a volatile cache was reset or switched on while changes were acknowledged and not flushed
    /// ([`CacheLoss`](crate::CacheLoss)).
    pub fn cache_losses(&self) -> u64 {
        self.status.cache_losses()
    }

    /// Waits until the session is connected; [`Error::Closed`] if it never will be.
    pub async fn connected(&self) -> Result<(), Error> {
        self.status.connected().await
    }

    /// What went wrong last, while the connection is lost and not yet made again.
    pub fn last_failure(&self) -> Option<Error> {
        self.status
            .last_failure()
            .map(|failure| Error::clone(&failure))
    }

    /// Commands that were submitted and did not end, of at most [`Options::queue_limit`]; those included that wait for
    /// the target, and those that nobody waits for any more but that were sent.
    pub fn in_flight(&self) -> usize {
        self.queue_limit
            .saturating_sub(self.places.available_permits())
    }

    /// Resets a unit: LOGICAL UNIT RESET (RFC 7143 §11.5.1), which ends the commands of every initiator. Those of this
    /// session are repeated if that does no harm, else they end with [`Error::Aborted`]. [`Error::Interrupted`] if the
    /// connection was lost before the answer; the reset itself is never repeated. It goes on when the future is dropped.
    pub async fn reset_unit(&self, lun: Lun) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.orders
            .send(Order::Reset { lun, reply })
            .map_err(|_| Error::Closed)?;
        done.await.map_err(|_| Error::Closed)?
    }

    /// Gives the connection up and makes a new one: what is under way ends as with any loss.
    pub(crate) fn reconnect(&self) {
        // A session that is over has no connection.
        let _ = self.orders.send(Order::Reconnect);
    }

    /// What the last login settled: where the connection goes to, the negotiated keys, and the command window.
    pub fn settled(&self) -> Settled {
        self.status.settled()
    }

    /// Logs out; every handle answers [`Error::Closed`] from then on, also if the future is dropped. Takes as long as the
    /// target takes to answer, and [`Options::management_timeout`] at most.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        // Both errors mean that the session is over already.
        if self.orders.send(Order::Close(reply)).is_ok() {
            let _ = closed.await;
        }
    }

    /// The portal group that the target named at the last login (RFC 7143 §13.9).
    pub fn portal_group_tag(&self) -> Option<u16> {
        self.status.portal_group_tag()
    }

    /// The way to the target as it was at first.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// How often a login led into another nexus than the one before.
    pub(crate) fn moves(&self) -> u64 {
        self.status.moves()
    }

    /// Where the session stands, and each change of that.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.status.standing()
    }

    /// How often a unit told something that has to be looked at on all paths to it.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.status.news()
    }

    /// How often a unit told that it was reset or switched on.
    pub(crate) fn restarts(&self) -> u64 {
        self.status.restarts()
    }

    /// True if the unit is not what it was: commands for it end with [`Error::Changed`].
    pub(crate) fn has_changed(&self, lun: Lun) -> bool {
        self.status.has_changed(lun)
    }

    /// Commands that ended, and those of them without an answer.
    pub(crate) fn counted(&self) -> (u64, u64) {
        self.status.counted()
    }

    /// How many parts of one read or write are under way at once.
    pub(crate) fn parts_in_flight(&self) -> usize {
        self.parts_in_flight
    }

    /// Finds out what a unit is; from then on it must stay that.
    pub(crate) async fn attach(&self, lun: Lun) -> Result<(Identity, UnitSize), Error> {
        let (reply, identity) = oneshot::channel();
        self.orders
            .send(Order::Attach { lun, reply })
            .map_err(|_| Error::Closed)?;
        identity.await.map_err(|_| Error::Closed)?
    }

    /// Submits a command; it goes on whether or not anybody waits for its end.
    pub(crate) async fn start(
        &self,
        lun: Lun,
        command: &Command,
        transfer: Transfer,
        class: Class,
    ) -> Result<Pending, Error> {
        self.submit(lun, command.cdb(), Repeat::of(command), transfer, class)
            .await
    }

    /// Submits the bytes of a command.
    pub(crate) async fn submit(
        &self,
        lun: Lun,
        cdb: [u8; 16],
        repeat: Repeat,
        transfer: Transfer,
        class: Class,
    ) -> Result<Pending, Error> {
        let place = self.place(class).await?;
        let (reply, pending) = replies(&self.status);
        let request = Request { lun, cdb, transfer };
        let terms = Terms {
            waits: self.repeats_busy && class == Class::Demand,
            timeout: self.command_timeout,
        };
        let job = Job::new(request, repeat, terms, reply, place);
        self.orders
            .send(Order::Run(job))
            .map_err(|_| Error::Closed)?;
        Ok(pending)
    }

    async fn ask(&self, lun: Lun, command: &Command, length: u32) -> Result<Completion, Error> {
        self.execute(lun, command, Transfer::Read(length), Class::Demand)
            .await
    }

    /// A place in the queue. A request that is forwarded for a peer never waits for one.
    async fn place(&self, class: Class) -> Result<OwnedSemaphorePermit, Error> {
        let places = Arc::clone(&self.places);
        match class {
            Class::Peer if let Some(obstacle) = self.status.obstacle() => Err(obstacle),
            Class::Peer => places.try_acquire_owned().map_err(|_| Error::QueueFull),
            Class::Demand | Class::Prefetch | Class::Fill => {
                places.acquire_owned().await.map_err(|_| Error::Closed)
            }
        }
    }
}

/// Bytes of a list of logical units that are taken: 1,023 of them.
const LUN_LIST_BYTES: u32 = 8192;
