//! One session and what it asks for: events of the protocol in, commands to the units, answers back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use iscsi_proto::login::{Admission, Authentication, Identity, LoginStatus};
use iscsi_proto::params::SessionType;
use iscsi_proto::scsi::{Command, Sense, Status, luns};
use iscsi_proto::session::{
    self, CloseReason, DiscoverScope, ManagementAnswer, ManagementFunction, Response, TargetEvent,
    TargetSession, TaskId,
};
use iscsi_proto::wire::lun::Lun;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use vmthunder_volume::Volume;

use crate::Target;
use crate::failure::Failure;
use crate::inquiry;
use crate::metrics::Counters;
use crate::sessions::{Seat, Whom};
use crate::tasks::{Outcome, Tasks, Work};

/// How long a login waits for the session that it reinstates to end.
const REINSTATEMENT: Duration = Duration::from_secs(10);

/// How long a task management answer waits for writes that are under way.
const ABORT_GRACE: Duration = Duration::from_secs(2);

/// A session, its seat at the target and its commands.
pub(crate) struct Nexus<V> {
    target: Arc<Target<V>>,
    local: SocketAddr,
    peer: SocketAddr,
    pub(crate) session: TargetSession,
    /// From admission on.
    seat: Option<Seat<V>>,
    pub(crate) tasks: Tasks<V>,
    reason: Option<CloseReason>,
}

impl<V: Volume> Nexus<V> {
    pub(crate) fn new(target: Arc<Target<V>>, local: SocketAddr, peer: SocketAddr) -> Self {
        let session = TargetSession::new(target.options.session.clone(), Instant::now());
        Self {
            target,
            local,
            peer,
            session,
            seat: None,
            tasks: Tasks::new(),
            reason: None,
        }
    }

    /// Acts on what the session has to say and executes commands, if they `may_start`, until a turn is full.
    pub(crate) async fn turn(&mut self, may_start: bool) {
        while let Some(finished) = self.tasks.try_finished() {
            self.conclude_finished(finished);
        }
        while let Some(event) = self.session.poll_event() {
            self.act(event).await;
        }
        if may_start {
            let Self {
                tasks,
                session,
                target,
                ..
            } = self;
            let conclude =
                |task, outcome, alone| conclude(session, &target.counters, task, outcome, alone);
            tasks.execute_turn(conclude).await;
        }
        for (task, answer) in self.tasks.answerable(Instant::now()) {
            self.session.answer_management(task, answer);
        }
    }

    /// Whose session it is.
    pub(crate) fn target(&self) -> Arc<Target<V>> {
        Arc::clone(&self.target)
    }

    /// Where the initiator is.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The initiator has been let in.
    pub(crate) fn is_admitted(&self) -> bool {
        self.seat.is_some()
    }

    /// Cancelled when somebody else wants the session to end.
    pub(crate) fn close_token(&self) -> Option<CancellationToken> {
        self.seat.as_ref().map(|seat| seat.close.clone())
    }

    /// When time has to be let in.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.session.poll_timeout(), self.tasks.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The connection is gone: waits for the writes that are under way and gives the seat up.
    pub(crate) async fn end(mut self) -> Option<CloseReason> {
        self.session.handle_disconnect();
        let grace = self.target.options.write_grace;
        if timeout(grace, self.tasks.drain()).await.is_err() {
            info!("writes of a closed session did not end in time");
        }
        while let Some(event) = self.session.poll_event() {
            if let TargetEvent::Closed(reason) = event {
                self.reason.get_or_insert(reason);
            }
        }
        self.reason
    }

    async fn act(&mut self, event: TargetEvent) {
        match event {
            TargetEvent::Login(_) => self.session.authenticate(Authentication {
                portal_group_tag: self.target.options.portal_group_tag,
                none: true,
                chap: None,
            }),
            TargetEvent::Authenticated { identity, .. } => self.admit(&identity).await,
            TargetEvent::LoggedIn { identity, params } => {
                self.logged_in(&identity, params.header_digest);
            }
            TargetEvent::Command(command) => self.begin(&command),
            TargetEvent::DataReady { task, data } => self.data_ready(task, data),
            TargetEvent::Discover { task, scope } => self.discover(task, &scope),
            TargetEvent::Management {
                task,
                function,
                lun,
                affected,
            } => self.manage(task, function, lun, &affected),
            TargetEvent::Aborted(tasks) => drop(self.tasks.abandon(&tasks)),
            TargetEvent::Closed(reason) => self.reason = Some(reason),
        }
    }

    async fn admit(&mut self, identity: &Identity) {
        let counters = &self.target.counters;
        let mut seat = match self.target.seat(identity, self.peer) {
            Ok(seat) => seat,
            Err(status) => {
                Counters::add(&counters.logins_refused, 1);
                info!(initiator = %identity.initiator_name, peer = %self.peer, %status, "login refused");
                return self.session.refuse(status);
            }
        };
        if let Some(predecessor) = seat.predecessor.take() {
            // The old session's writes must not land on top of the new one's.
            if timeout(REINSTATEMENT, predecessor.cancelled())
                .await
                .is_err()
            {
                Counters::add(&counters.logins_refused, 1);
                return self.session.refuse(LoginStatus::SERVICE_UNAVAILABLE);
            }
        }
        Counters::add(&counters.logins, 1);
        self.session.admit(Admission {
            tsih: seat.tsih,
            command_window: self.target.options.session.queue_depth,
        });
        self.seat = Some(seat);
    }

    fn logged_in(&self, identity: &Identity, digests: bool) {
        let tsih = self.seat.as_ref().map_or(0, |seat| seat.tsih);
        let target = identity
            .target_name
            .as_ref()
            .map_or("", |name| name.as_str());
        let discovery = identity.session_type == SessionType::Discovery;
        debug!(initiator = %identity.initiator_name, target, tsih, digests, discovery, "logged in");
    }

    /// A command has arrived: answer it, wait for its data, or queue it.
    fn begin(&mut self, command: &session::Command) {
        match self.prepare(command) {
            Ok(Next::Answer(response)) => {
                conclude(
                    &mut self.session,
                    &self.target.counters,
                    command.task,
                    Ok(response),
                    true,
                );
            }
            Ok(Next::Queue(work)) => self.tasks.queue(work, Bytes::new()),
            Ok(Next::Receive(work, length)) => {
                self.tasks.await_data(work);
                self.session.receive(command.task, length);
            }
            Err(failure) => {
                conclude(
                    &mut self.session,
                    &self.target.counters,
                    command.task,
                    Err(failure),
                    true,
                );
            }
        }
    }

    fn prepare(&self, arrived: &session::Command) -> Result<Next<V>, Failure> {
        let Some((seat, asker)) = self
            .seat
            .as_ref()
            .and_then(|seat| Some((seat, seat.asker.as_ref()?)))
        else {
            return Err(Sense::LOGICAL_UNIT_NOT_SUPPORTED.into());
        };
        let export = &asker.export;
        let command = Command::parse(&arrived.cdb);
        if let Ok(Command::ReportLuns { select, allocation }) = command {
            return report_luns(export.numbers(), select, allocation).map(Next::Answer);
        }
        let Some(unit) = export.unit(arrived.lun) else {
            // Even an unknown command is answered with the unit's absence (SAM-5 §5.11).
            let command = command.unwrap_or(Command::TestUnitReady);
            return inquiry::answer_without_unit(&command).map(Next::Answer);
        };
        match command {
            Ok(Command::Inquiry { .. }) => {}
            Ok(Command::RequestSense {
                descriptor,
                allocation,
            }) => {
                let sense = seat
                    .attention
                    .take(unit.unit.number)
                    .unwrap_or(Sense::NO_SENSE);
                return Ok(Next::Answer(inquiry::sense(sense, descriptor, allocation)));
            }
            _ => {
                if let Some(sense) = seat.attention.take(unit.unit.number) {
                    return Err(sense.into());
                }
            }
        }
        let command = command?;
        unit.admit(&command, asker)?;
        let length = unit.data_out_bytes(&command, arrived.expected_length)?;
        let work = Work {
            task: arrived.task,
            asker: Arc::clone(asker),
            lun: arrived.lun,
            command,
        };
        Ok(if length == 0 {
            Next::Queue(work)
        } else {
            Next::Receive(work, length)
        })
    }

    fn data_ready(&mut self, task: TaskId, mut data: Vec<Bytes>) {
        let data = match (data.pop(), data.is_empty()) {
            (None, _) => Bytes::new(),
            (Some(only), true) => only,
            (Some(last), false) => {
                let mut whole = BytesMut::with_capacity(
                    data.iter().map(Bytes::len).sum::<usize>() + last.len(),
                );
                data.iter().for_each(|part| whole.extend_from_slice(part));
                whole.extend_from_slice(&last);
                whole.freeze()
            }
        };
        Counters::add(
            &self.target.counters.written_bytes,
            u64::try_from(data.len()).unwrap_or(0),
        );
        self.tasks.data_ready(task, data);
    }

    fn discover(&mut self, task: TaskId, scope: &DiscoverScope) {
        let own = self
            .seat
            .as_ref()
            .and_then(|seat| seat.asker.as_ref())
            .map(|asker| &asker.export.port.target);
        let records = self.target.records(self.local, |name| match scope {
            DiscoverScope::All => own.is_none_or(|own| own == name),
            DiscoverScope::Own => own == Some(name),
            DiscoverScope::Name(wanted) => wanted == name && own.is_none_or(|own| own == name),
        });
        self.session.answer_discovery(task, &records);
    }

    fn manage(
        &mut self,
        task: TaskId,
        function: ManagementFunction,
        lun: Lun,
        affected: &[TaskId],
    ) {
        let writes = self.tasks.abandon(affected);
        let answer = self.carry_out(function, lun);
        debug!(?function, %lun, affected = affected.len(), writes = writes.len(), ?answer, "task management");
        if answer == ManagementAnswer::Complete && !writes.is_empty() {
            self.tasks.defer(task, writes, Instant::now() + ABORT_GRACE);
        } else {
            self.session.answer_management(task, answer);
        }
    }

    fn carry_out(&self, function: ManagementFunction, lun: Lun) -> ManagementAnswer {
        let Some(asker) = self.seat.as_ref().and_then(|seat| seat.asker.as_ref()) else {
            return ManagementAnswer::Rejected;
        };
        let export = &asker.export;
        let unit = export.unit(lun).map(|unit| unit.unit.number);
        match (function, unit) {
            (ManagementFunction::ClearAca | ManagementFunction::TargetColdReset, _) => {
                ManagementAnswer::Unsupported
            }
            (ManagementFunction::TargetWarmReset, _) => {
                export
                    .numbers()
                    .for_each(|unit| asker.raise(unit, Whom::All, Sense::DEVICE_RESET));
                ManagementAnswer::Complete
            }
            (_, None) => ManagementAnswer::NoLun,
            (ManagementFunction::LogicalUnitReset, Some(unit)) => {
                if let Some(unit) = export.unit(lun) {
                    unit.reset();
                }
                asker.raise(unit, Whom::All, Sense::DEVICE_RESET);
                ManagementAnswer::Complete
            }
            _ => ManagementAnswer::Complete,
        }
    }

    pub(crate) fn conclude_finished(&mut self, finished: Option<(TaskId, Outcome)>) {
        if let Some((task, outcome)) = finished {
            Counters::add(&self.target.counters.waited, 1);
            let alone = self.tasks.is_idle();
            conclude(
                &mut self.session,
                &self.target.counters,
                task,
                outcome,
                alone,
            );
        }
    }
}

/// What becomes of a command that has arrived.
enum Next<V> {
    Answer(Response),
    Queue(Work<V>),
    Receive(Work<V>, u32),
}

fn conclude(
    session: &mut TargetSession,
    counters: &Counters,
    task: TaskId,
    outcome: Outcome,
    alone: bool,
) {
    let response = outcome.unwrap_or_else(|failure| failure.response(alone));
    Counters::add(&counters.commands, 1);
    if response.status != Status::GOOD {
        Counters::add(&counters.failures, 1);
    }
    let read: usize = response.data.iter().map(Bytes::len).sum();
    Counters::add(&counters.read_bytes, u64::try_from(read).unwrap_or(0));
    session.complete(task, response);
}

fn report_luns(
    numbers: impl Iterator<Item = u16>,
    select: u8,
    allocation: u32,
) -> Result<Response, Failure> {
    let luns: Vec<u64> = match select {
        // Units and well known units; the latter do not exist here (SPC-4 table 223).
        0x00 | 0x02 => numbers.map(|number| Lun::from_number(number).0).collect(),
        0x01 => Vec::new(),
        _ => return Err(Sense::INVALID_FIELD_IN_CDB.into()),
    };
    Ok(inquiry::cut(luns::build(&luns), allocation))
}
