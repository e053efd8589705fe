//! The full feature phase as the initiator lives it: requests become PDUs, PDUs become events (RFC 7143 §11).
//!
//! PDUs are built when the driver asks for bytes, not before: numbers are fresh, nothing piles up when the target
//! does not read, and what a target can make grow are short lists with limits.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::login::InitiatorOutcome;
use crate::params::{Params, SessionType};
use crate::session::initiator::numbering::{Numbers, status_of, window_of};
use crate::session::initiator::payload::{Incoming, Outgoing, Sequence};
use crate::session::initiator::spares::Spares;
use crate::session::initiator::task::{
    CommandTask, Ending, Payload, ResetTask, Task, TextTask, Work,
};
use crate::session::initiator::{
    InitiatorConfig, InitiatorEvent, InitiatorStats, Outcome, ProtocolError, Request, RequestId,
    SessionEnd, SubmitError, Transfer,
};
use crate::wire::bhs::{NopIn, RESERVED_TAG};
use crate::wire::lun::Lun;
use crate::wire::{Header, Pdu};

/// The state of a session that is logged in.
#[derive(Debug)]
pub(super) struct FullFeature {
    pub(super) params: Params,
    pub(super) portal_group_tag: Option<u16>,
    pub(super) numbers: Numbers,
    pub(super) tasks: HashMap<u32, Task>,
    /// Tags of numbered requests that were not sent yet, in order.
    pub(super) waiting: VecDeque<u32>,
    /// Tags of immediate requests that were not sent yet.
    pub(super) urgent: VecDeque<u32>,
    /// Pings of the target that were not answered yet.
    pub(super) pings: VecDeque<NopIn>,
    /// Data that may be sent.
    pub(super) sequences: VecDeque<Sequence>,
    /// Tags of task management functions that wait for the one under way: a target need take only one at a time.
    pub(super) management: VecDeque<u32>,
    pub(super) management_running: Option<u32>,
    /// Tags of text exchanges that wait for the one under way.
    texts: VecDeque<u32>,
    text_running: Option<u32>,
    pub(super) leaving: Leaving,
    pub(super) events: VecDeque<InitiatorEvent>,
    pub(super) stats: InitiatorStats,
    pub(super) spares: Spares,
    pub(super) limits: Limits,
    pub(super) ping: Ping,
    next_tag: u32,
    /// No deadline of a task is earlier.
    pub(super) sweep_at: Option<Instant>,
}

/// The times and limits of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) command_timeout: Option<Duration>,
    pub(super) management_timeout: Duration,
    queue_limit: usize,
}

/// Whether the session is on its way out.
#[derive(Clone, Debug)]
pub(super) enum Leaving {
    /// It is not.
    No,
    /// Nothing new is sent; it logs out when all is answered, or at this time.
    Draining(Instant),
    /// The logout is under way; the session ends so.
    LoggingOut(SessionEnd),
}

/// The keep-alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ping {
    interval: Option<Duration>,
    timeout: Duration,
    heard: Instant,
    state: PingState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PingState {
    Quiet,
    /// A ping with this tag was sent at this time.
    Asked {
        tag: u32,
        at: Instant,
    },
}

impl FullFeature {
    pub(super) fn new(
        config: &InitiatorConfig,
        outcome: &InitiatorOutcome,
        stats: InitiatorStats,
        now: Instant,
    ) -> Self {
        Self {
            params: outcome.params.clone(),
            portal_group_tag: outcome.portal_group_tag,
            numbers: Numbers::new(outcome.cmd_sn, outcome.max_cmd_sn, outcome.exp_stat_sn),
            tasks: HashMap::new(),
            waiting: VecDeque::new(),
            urgent: VecDeque::new(),
            pings: VecDeque::new(),
            sequences: VecDeque::new(),
            management: VecDeque::new(),
            management_running: None,
            texts: VecDeque::new(),
            text_running: None,
            leaving: Leaving::No,
            events: VecDeque::new(),
            stats,
            spares: Spares::default(),
            limits: Limits {
                command_timeout: config.command_timeout,
                management_timeout: config.management_timeout,
                queue_limit: config.queue_limit,
            },
            ping: Ping {
                // A discovery session knows no pings (RFC 7143 §7.4.3).
                interval: config
                    .ping_interval
                    .filter(|_| config.offer.session_type == SessionType::Normal),
                timeout: config.ping_timeout,
                heard: now,
                state: PingState::Quiet,
            },
            next_tag: 1,
            sweep_at: None,
        }
    }

    /// Takes a command on.
    pub(super) fn submit(
        &mut self,
        deadline: Option<Instant>,
        id: RequestId,
        request: Request,
    ) -> Result<(), SubmitError> {
        self.check_room()?;
        let data = match request.transfer {
            Transfer::None => Payload::None,
            Transfer::Read(length) => Payload::In(Incoming::new(length)),
            Transfer::Write(bytes) if u32::try_from(bytes.len()).is_err() => {
                return Err(SubmitError::TooLong);
            }
            Transfer::Write(bytes) => Payload::Out(Outgoing::new(bytes)),
        };
        let command = CommandTask {
            request: id,
            lun: request.lun,
            cdb: request.cdb,
            data,
            cmd_sn: None,
            ending: Ending::Running,
        };
        if !self.numbers.is_open() || !self.waiting.is_empty() {
            self.stats.window_stalls += 1;
        }
        let tag = self.add(Work::Command(command), deadline);
        self.waiting.push_back(tag);
        Ok(())
    }

    /// Takes a discovery on.
    pub(super) fn discover(&mut self, now: Instant, id: RequestId) -> Result<(), SubmitError> {
        self.check_room()?;
        let deadline = self.limits.command_timeout.map(|timeout| now + timeout);
        self.negotiate(TextTask::new(Some(id)), deadline);
        Ok(())
    }

    /// Takes a reset on.
    pub(super) fn reset_unit(
        &mut self,
        now: Instant,
        id: RequestId,
        lun: Lun,
    ) -> Result<(), SubmitError> {
        self.check_room()?;
        self.manage(
            now,
            Work::Reset(ResetTask {
                request: Some(id),
                lun,
                cmd_sn: None,
            }),
        );
        Ok(())
    }

    /// Aborts the command of a request, if it is still there.
    pub(super) fn abort(&mut self, now: Instant, id: RequestId) {
        let command =
            |task: &Task| matches!(&task.work, Work::Command(command) if command.request == id);
        if let Some(tag) = self
            .tasks
            .iter()
            .find(|(_, task)| command(task))
            .map(|(tag, _)| *tag)
        {
            self.abort_tag(now, tag, Ending::Aborting);
        }
    }

    /// Forgets the command of a request, unless it was sent.
    pub(super) fn withdraw(&mut self, id: RequestId) -> bool {
        let unsent = |tag: &u32| matches!(self.tasks.get(tag).map(|task| &task.work), Some(Work::Command(command)) if command.request == id);
        let Some(place) = self.waiting.iter().position(unsent) else {
            return false;
        };
        if let Some(tag) = self.waiting.remove(place) {
            self.tasks.remove(&tag);
        }
        true
    }

    /// Begins to log out.
    pub(super) fn logout(&mut self, now: Instant, end: SessionEnd) {
        if !matches!(self.leaving, Leaving::LoggingOut(_)) {
            self.leaving = Leaving::LoggingOut(end);
            let tag = self.add(Work::Logout, Some(now + self.limits.management_timeout));
            self.urgent.push_back(tag);
        }
    }

    /// Acts on a PDU. An error ends the session.
    pub(super) fn handle_pdu(&mut self, now: Instant, pdu: Pdu) -> Result<(), SessionEnd> {
        self.hear(now, &pdu.header)?;
        self.dispatch(now, pdu)?;
        self.leave_when_drained(now);
        Ok(())
    }

    /// Takes note of the numbers of a PDU that is whole.
    pub(super) fn hear(&mut self, now: Instant, header: &Header) -> Result<(), ProtocolError> {
        self.ping.heard = now;
        if let Some((exp_cmd_sn, max_cmd_sn)) = window_of(header) {
            self.numbers.hear_window(exp_cmd_sn, max_cmd_sn);
        }
        match status_of(header) {
            Some(stat_sn) => self.numbers.hear_status(stat_sn),
            None => Ok(()),
        }
    }

    /// Lets time pass: aborts what took too long, pings. An error ends the session.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionEnd> {
        self.sweep(now)?;
        if matches!(self.leaving, Leaving::Draining(until) if until <= now) {
            self.logout(now, SessionEnd::LogoutRequested);
        }
        self.keep_alive(now)
    }

    /// When time matters next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (leaving, ping) = match self.leaving {
            Leaving::No => (None, self.ping.due()),
            Leaving::Draining(until) => (Some(until), self.ping.due()),
            Leaving::LoggingOut(_) => (None, None),
        };
        [self.sweep_at, leaving, ping].into_iter().flatten().min()
    }

    /// Adds a task under a fresh tag.
    pub(super) fn add(&mut self, work: Work, deadline: Option<Instant>) -> u32 {
        let mut tag = self.next_tag;
        while tag == RESERVED_TAG || self.tasks.contains_key(&tag) {
            tag = tag.wrapping_add(1);
        }
        self.next_tag = tag.wrapping_add(1);
        self.tasks.insert(tag, Task { work, deadline });
        self.sweep_at = [self.sweep_at, deadline].into_iter().flatten().min();
        tag
    }

    /// Ends a command.
    pub(super) fn complete(&mut self, request: RequestId, outcome: Outcome) {
        self.stats.completions += 1;
        self.events
            .push_back(InitiatorEvent::Completed { request, outcome });
    }

    /// Aborts a command: at once if it was not sent yet, else through the target.
    pub(super) fn abort_tag(&mut self, now: Instant, tag: u32, ending: Ending) {
        let Some(Task {
            work: Work::Command(command),
            deadline,
        }) = self.tasks.get_mut(&tag)
        else {
            return;
        };
        if command.cmd_sn.is_none() {
            let request = command.request;
            self.tasks.remove(&tag);
            self.waiting.retain(|waiting| *waiting != tag);
            self.complete(request, ended(ending));
        } else if command.ending == Ending::Running {
            command.ending = ending;
            *deadline = None;
            self.manage(now, Work::Abort(tag));
        } else if ending == Ending::TimedOut {
            command.ending = ending;
        }
    }

    /// The session is over: tells which commands the target never saw, and which it did not end in time.
    pub(super) fn give_back(&mut self) {
        let told = |task: &Task| match &task.work {
            Work::Command(command) if command.cmd_sn.is_none() => {
                Some((command.request, Outcome::Unsent))
            }
            Work::Command(command) if command.ending == Ending::TimedOut => {
                Some((command.request, Outcome::Lapsed))
            }
            _ => None,
        };
        let mut told: Vec<_> = self.tasks.values().filter_map(told).collect();
        told.sort_by_key(|(request, _)| *request);
        for (request, outcome) in told {
            self.complete(request, outcome);
        }
        self.tasks.clear();
    }

    /// Queues a task management function.
    pub(super) fn manage(&mut self, now: Instant, work: Work) {
        let tag = self.add(work, Some(now + self.limits.management_timeout));
        self.management.push_back(tag);
        self.next_management();
    }

    /// Starts the next task management function if none is under way.
    pub(super) fn next_management(&mut self) {
        if self.management_running.is_none()
            && let Some(tag) = self.management.pop_front()
        {
            self.management_running = Some(tag);
            self.urgent.push_back(tag);
        }
    }

    /// Queues a text exchange.
    pub(super) fn negotiate(&mut self, task: TextTask, deadline: Option<Instant>) {
        let tag = self.add(Work::Text(task), deadline);
        self.texts.push_back(tag);
        self.next_text();
    }

    /// Starts the next text exchange if none is under way: one Text Request is outstanding at most (RFC 7143 §11.10).
    fn next_text(&mut self) {
        if self.text_running.is_none()
            && let Some(tag) = self.texts.pop_front()
        {
            self.text_running = Some(tag);
            self.waiting.push_back(tag);
        }
    }

    /// A text exchange is over, and the next one may begin.
    pub(super) fn text_ended(&mut self, tag: u32) {
        self.texts.retain(|waiting| *waiting != tag);
        if self.text_running == Some(tag) {
            self.text_running = None;
            self.next_text();
        }
    }

    /// Drops what was to be sent for a task.
    pub(super) fn forget_data(&mut self, tag: u32) {
        if !self.sequences.is_empty() {
            self.sequences
                .retain(|sequence| sequence.initiator_task_tag != tag);
        }
    }

    /// Queues the answer to a ping.
    pub(super) fn answer_ping(&mut self, ping: NopIn) -> Result<(), ProtocolError> {
        if self.pings.len() >= MAX_UNANSWERED_PINGS {
            return Err(ProtocolError::TooManyPings);
        }
        self.stats.pings += 1;
        self.pings.push_back(ping);
        Ok(())
    }

    /// Notes that the target answered a ping.
    pub(super) fn ping_answered(&mut self, tag: u32) {
        if matches!(self.ping.state, PingState::Asked { tag: asked, .. } if asked == tag) {
            self.ping.state = PingState::Quiet;
        }
    }

    fn check_room(&self) -> Result<(), SubmitError> {
        match self.leaving {
            Leaving::LoggingOut(_) | Leaving::Draining(_) => Err(SubmitError::Closed),
            Leaving::No if self.tasks.len() >= self.limits.queue_limit => {
                Err(SubmitError::QueueFull)
            }
            Leaving::No => Ok(()),
        }
    }

    /// Logs out once everything that was sent is answered.
    pub(super) fn leave_when_drained(&mut self, now: Instant) {
        let sent =
            |task: &Task| matches!(&task.work, Work::Command(command) if command.cmd_sn.is_some());
        if matches!(self.leaving, Leaving::Draining(_)) && !self.tasks.values().any(sent) {
            self.logout(now, SessionEnd::LogoutRequested);
        }
    }

    /// Looks for tasks that took too long. All commands have the same time, so this is rare.
    fn sweep(&mut self, now: Instant) -> Result<(), SessionEnd> {
        if self.sweep_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        let late = |task: &Task| task.deadline.is_some_and(|deadline| deadline <= now);
        let tags: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(_, task)| late(task))
            .map(|(tag, _)| *tag)
            .collect();
        for tag in tags {
            match self.tasks.get(&tag).map(|task| &task.work) {
                Some(Work::Command(_)) => {
                    self.stats.timeouts += 1;
                    self.abort_tag(now, tag, Ending::TimedOut);
                }
                Some(Work::Abort(_)) => self.abort_lapsed(now, tag)?,
                Some(_) => return Err(SessionEnd::Silent),
                None => {}
            }
        }
        self.sweep_at = self.tasks.values().filter_map(|task| task.deadline).min();
        Ok(())
    }

    /// How the session ends when a logout was answered, or rejected.
    pub(super) fn end_of_logout(&self) -> SessionEnd {
        match &self.leaving {
            Leaving::LoggingOut(end) => end.clone(),
            _ => SessionEnd::LoggedOut,
        }
    }

    fn keep_alive(&mut self, now: Instant) -> Result<(), SessionEnd> {
        if self.ping.due().is_none_or(|due| now < due)
            || matches!(self.leaving, Leaving::LoggingOut(_))
        {
            return Ok(());
        }
        if matches!(self.ping.state, PingState::Asked { .. }) {
            return Err(SessionEnd::Silent);
        }
        // Nothing came for a while.
        self.spares.clear();
        let tag = self.add(Work::Ping, None);
        self.urgent.push_back(tag);
        self.ping.state = PingState::Asked { tag, at: now };
        Ok(())
    }
}

impl Ping {
    /// When to ask, or to give up. Whatever is heard proves that the target lives.
    fn due(&self) -> Option<Instant> {
        match self.state {
            PingState::Quiet => self.interval.map(|interval| self.heard + interval),
            PingState::Asked { at, .. } => Some(self.heard.max(at) + self.timeout),
        }
    }
}

/// What becomes of a command that is ended before it is answered.
pub(super) fn ended(ending: Ending) -> Outcome {
    match ending {
        Ending::Running | Ending::Aborting => Outcome::Aborted,
        Ending::TimedOut => Outcome::TimedOut,
    }
}

/// Pings that may wait for their answer to be sent.
const MAX_UNANSWERED_PINGS: usize = 64;
