//! The commands of one session: waiting for their data, for their turn, or for the volume.
//!
//! Every unit has a lane of its own, and the lanes take turns: what hangs in one holds up none of the others. Each may
//! hold so many bytes, the session as a whole so many, and a command that is alone in its lane always goes on.

mod lane;
mod leaving;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use iscsi_proto::scsi::{Command, Sense};
use iscsi_proto::session::{ManagementAnswer, Response, TaskId};
use iscsi_proto::wire::lun::Lun;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::task::task_tracker::TaskTrackerToken;
use vmthunder_volume::Volume;

use self::lane::{Lane, Step};
use self::leaving::Leaving;
use crate::asker::Asker;
use crate::failure::Failure;
use crate::unit::{LogicalUnit, must_end};

/// Commands that one turn executes before the socket is looked at again.
const TURN_COMMANDS: usize = 64;

/// Bytes that one turn reads in place before the socket is looked at again.
const TURN_BYTES: u64 = 512 << 10;

/// Bytes that the commands of one session may hold.
const SESSION_BYTES: u64 = 64 << 20;

/// What a command that waits for the volume counts at least: commands without data take memory, too.
const LEAST_BYTES: u64 = 4 << 10;

/// What a command led to.
pub(crate) type Outcome = Result<Response, Failure>;

/// A command with all that it needs.
#[derive(Debug)]
pub(crate) struct Work<V> {
    pub(crate) task: TaskId,
    pub(crate) asker: Arc<Asker<V>>,
    pub(crate) lun: Lun,
    /// The unit's number.
    pub(crate) unit: u16,
    pub(crate) command: Command,
}

/// What work leads to.
#[derive(Debug)]
pub(crate) enum Product {
    /// A command has ended; `alone` if its initiator waits for no other command of the unit.
    Outcome {
        task: TaskId,
        outcome: Outcome,
        alone: bool,
    },
    /// A command needs so many bytes of its write data now.
    Receive(TaskId, u32),
    /// A task management request can be answered.
    Management(TaskId, ManagementAnswer),
}

/// The commands of one session.
#[derive(Debug)]
pub(crate) struct Tasks<V> {
    /// By unit; a lane stays as long as the session.
    lanes: BTreeMap<u16, Lane<V>>,
    /// The lanes whose first command was not looked at yet, each once.
    line: VecDeque<u16>,
    /// The lanes whose first command found no room; they are back in line when there is more.
    blocked: Vec<u16>,
    /// Wait for write data that was asked for, and what they hold.
    awaiting: HashMap<TaskId, (Work<V>, u64)>,
    /// Wait for the volume.
    running: HashMap<TaskId, Running<V>>,
    volumes: JoinSet<(TaskId, Outcome)>,
    /// Bytes that commands which are under way hold or will hold.
    held: u64,
    /// One command at a time for each unit has to do.
    frugal: bool,
    leaving: Leaving,
    /// Task management requests that wait for writes to end.
    answers: JoinSet<(TaskId, ManagementAnswer)>,
}

#[derive(Debug)]
struct Running<V> {
    asker: Arc<Asker<V>>,
    unit: u16,
    command: Command,
    abort: AbortHandle,
    held: u64,
    /// Nobody waits for the answer any more.
    abandoned: bool,
}

impl<V: Volume> Running<V> {
    /// It goes on until it ends, and what is written after it has to land after it; or it is dropped.
    fn abandon(&mut self) -> bool {
        if std::mem::replace(&mut self.abandoned, true) {
            return false;
        }
        if !must_end(&self.command) {
            self.abort.abort();
        } else if let Some(unit) = self.asker.units.get(&self.unit) {
            unit.fence(&self.command);
        }
        true
    }
}

impl<V: Volume> Tasks<V> {
    pub(crate) fn new() -> Self {
        Self {
            lanes: BTreeMap::new(),
            line: VecDeque::new(),
            blocked: Vec::new(),
            awaiting: HashMap::new(),
            running: HashMap::new(),
            volumes: JoinSet::new(),
            held: 0,
            frugal: false,
            leaving: Leaving::default(),
            answers: JoinSet::new(),
        }
    }

    /// Some command can be looked at now.
    pub(crate) fn may_start(&self) -> bool {
        !self.line.is_empty()
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.lanes.values().all(|lane| lane.commands == 0)
    }

    /// Units for which commands are under way.
    pub(crate) fn units(&self) -> impl Iterator<Item = u16> {
        let busy = self.lanes.iter().filter(|(_, lane)| lane.commands > 0);
        busy.map(|(unit, _)| *unit)
    }

    /// Bytes that commands which are under way hold or will hold.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Whether each unit has to make do with one command at a time.
    pub(crate) fn set_frugal(&mut self, frugal: bool) {
        if std::mem::replace(&mut self.frugal, frugal) && !frugal {
            self.line.extend(self.blocked.drain(..));
        }
    }

    /// The session uses a unit.
    pub(crate) fn know(&mut self, unit: u16, now: Instant) {
        self.lane(unit, now);
    }

    /// A command that needs `data_bytes` of write data.
    pub(crate) fn queue(&mut self, work: Work<V>, data_bytes: u32, now: Instant) {
        let unit = work.unit;
        let lane = self.lane(unit, now);
        lane.arrived(now);
        let step = if data_bytes == 0 {
            Step::Execution(Bytes::new())
        } else {
            Step::Data(data_bytes)
        };
        lane.waiting.push_back((work, step));
        self.stand_in_line(unit);
    }

    /// The write data of a command.
    pub(crate) fn data_ready(&mut self, task: TaskId, data: Bytes) {
        let Some((work, held)) = self.awaiting.remove(&task) else {
            return;
        };
        let unit = work.unit;
        if let Some(lane) = self.lanes.get_mut(&unit) {
            // It has had its turn, and what it holds is there.
            lane.waiting.push_front((work, Step::Execution(data)));
        }
        self.release(unit, held);
        self.stand_in_line(unit);
    }

    /// Commands of units that have given no answer for a while; none in a session that uses but one unit.
    pub(crate) fn stuck(&self, now: Instant) -> usize {
        let stuck = |lane: &&Lane<V>| lane.stuck_at().is_some_and(|at| at <= now);
        match self.lanes.len() {
            0 | 1 => 0,
            _ => self
                .lanes
                .values()
                .filter(stuck)
                .map(|lane| lane.commands)
                .sum(),
        }
    }

    /// When commands that are not stuck yet will be; nothing while there are fewer commands than `least`.
    pub(crate) fn stuck_at(&self, now: Instant, least: usize) -> Option<Instant> {
        let lanes = self.lanes.values();
        if self.lanes.len() < 2 || lanes.clone().map(|lane| lane.commands).sum::<usize>() < least {
            return None;
        }
        lanes
            .filter_map(Lane::stuck_at)
            .filter(|at| *at > now)
            .min()
    }

    /// Gives every lane its turns, until the turn of the session is over.
    pub(crate) async fn execute_turn(&mut self, now: Instant, mut produce: impl FnMut(Product)) {
        let mut bytes = 0;
        for _ in 0..TURN_COMMANDS {
            if bytes >= TURN_BYTES {
                return;
            }
            let Some((work, step, need)) = self.next() else {
                return;
            };
            let (task, unit) = (work.task, work.unit);
            match step {
                Step::Data(length) => {
                    self.hold(unit, need);
                    self.awaiting.insert(task, (work, need));
                    produce(Product::Receive(task, length));
                }
                Step::Execution(data) => {
                    bytes += need;
                    if let Some(outcome) = self.begin(work, data, need).await {
                        let alone = self.end(unit, now);
                        produce(Product::Outcome {
                            task,
                            outcome,
                            alone,
                        });
                    }
                }
            }
        }
    }

    /// Waits for a command that waited for the volume, or for writes that a task management request waited for; pends
    /// for ever while there is neither.
    pub(crate) async fn finished(&mut self) -> Option<Product> {
        tokio::select! {
            biased;
            Some(joined) = self.volumes.join_next() => self.retire(joined),
            Some(joined) = self.answers.join_next() => answered(joined),
            else => std::future::pending().await,
        }
    }

    /// What has finished meanwhile.
    pub(crate) fn try_finished(&mut self) -> Option<Option<Product>> {
        match self.volumes.try_join_next() {
            Some(joined) => Some(self.retire(joined)),
            None => self.answers.try_join_next().map(answered),
        }
    }

    /// Forgets tasks that nobody waits for. Reads are dropped where they stand; writes go on, since a write that is
    /// dropped half-way may still happen later. The waiter is given up when these have ended.
    pub(crate) fn abandon(&mut self, tasks: &[TaskId], waiter: Option<TaskTrackerToken>) {
        let gone: HashSet<TaskId> = tasks.iter().copied().collect();
        for lane in self.lanes.values_mut() {
            lane.forget(|task| gone.contains(&task));
        }
        let mut writes = HashSet::new();
        for task in gone {
            if let Some((work, held)) = self.awaiting.remove(&task) {
                self.leave(work.unit);
                self.release(work.unit, held);
            }
            match self.running.get_mut(&task) {
                Some(running) if running.command.alters_medium() => {
                    let unit = running.unit;
                    if running.abandon() {
                        self.leave(unit);
                    }
                    writes.insert(task);
                }
                Some(running) => {
                    running.abort.abort();
                    let (unit, held) = (running.unit, running.held);
                    self.running.remove(&task);
                    self.leave(unit);
                    self.release(unit, held);
                }
                None => {}
            }
        }
        if let Some(waiter) = waiter {
            self.leaving.add(writes, waiter);
        }
    }

    /// Answers a task management request when its tasks are gone.
    pub(crate) fn answer_after(
        &mut self,
        purged: impl Future<Output = ()> + Send + 'static,
        task: TaskId,
    ) {
        self.answers.spawn(async move {
            purged.await;
            (task, ManagementAnswer::Complete)
        });
    }

    /// Drops all reads and waits for the writes to end.
    pub(crate) async fn drain(&mut self) {
        self.lanes.clear();
        self.line.clear();
        self.awaiting.clear();
        for running in self.running.values_mut() {
            if running.command.alters_medium() {
                running.abandon();
            } else {
                running.abort.abort();
            }
        }
        while let Some(joined) = self.volumes.join_next().await {
            self.retire(joined);
        }
    }

    fn lane(&mut self, unit: u16, now: Instant) -> &mut Lane<V> {
        self.lanes.entry(unit).or_insert_with(|| Lane::new(now))
    }

    /// The next command in line that finds room for what it needs, and how many bytes that is.
    fn next(&mut self) -> Option<(Work<V>, Step, u64)> {
        while let Some(unit) = self.line.pop_front() {
            let Some(lane) = self.lanes.get_mut(&unit) else {
                continue;
            };
            let Some((work, step)) = lane.waiting.front() else {
                lane.in_line = false;
                continue;
            };
            let need = match step {
                Step::Data(length) => u64::from(*length).max(LEAST_BYTES),
                Step::Execution(data) => cost(work, data),
            };
            let room = !self.frugal && self.held.saturating_add(need) <= SESSION_BYTES;
            if lane.held != 0 && !(room && lane.has_room(need)) {
                self.blocked.push(unit);
                continue;
            }
            let next = lane.waiting.pop_front();
            lane.in_line = !lane.waiting.is_empty();
            if lane.in_line {
                self.line.push_back(unit);
            }
            return next.map(|(work, step)| (work, step, need));
        }
        None
    }

    /// Executes a command, as far as it goes without waiting.
    async fn begin(&mut self, work: Work<V>, data: Bytes, cost: u64) -> Option<Outcome> {
        let (task, unit, command) = (work.task, work.unit, work.command);
        let asker = Arc::clone(&work.asker);
        let mut execution = Box::pin(execute(work, data));
        match poll_once(execution.as_mut()).await {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => {
                let abort = self.volumes.spawn(async move { (task, execution.await) });
                let running = Running {
                    asker,
                    unit,
                    command,
                    abort,
                    held: cost,
                    abandoned: false,
                };
                self.running.insert(task, running);
                self.hold(unit, cost);
                None
            }
        }
    }

    fn retire(&mut self, joined: Result<(TaskId, Outcome), JoinError>) -> Option<Product> {
        let (task, outcome) = match joined {
            Ok(done) => done,
            // The volume panicked, and the command must not hang for that; or it was dropped.
            Err(error) => {
                let (task, _) = self
                    .running
                    .iter()
                    .find(|(_, running)| running.abort.id() == error.id())?;
                (*task, Err(Sense::INTERNAL_TARGET_FAILURE.into()))
            }
        };
        let running = self.running.remove(&task)?;
        self.release(running.unit, running.held);
        if running.abandoned {
            self.leaving.ended(task);
            return None;
        }
        let alone = self.end(running.unit, Instant::now());
        Some(Product::Outcome {
            task,
            outcome,
            alone,
        })
    }

    /// A command has ended; true if it was the only one of its unit.
    fn end(&mut self, unit: u16, now: Instant) -> bool {
        let lane = self.lanes.get_mut(&unit);
        lane.is_none_or(|lane| lane.ended(now))
    }

    /// A command was abandoned.
    fn leave(&mut self, unit: u16) {
        if let Some(lane) = self.lanes.get_mut(&unit) {
            lane.left();
        }
    }

    fn stand_in_line(&mut self, unit: u16) {
        if let Some(lane) = self.lanes.get_mut(&unit)
            && !std::mem::replace(&mut lane.in_line, true)
        {
            self.line.push_back(unit);
        }
    }

    fn hold(&mut self, unit: u16, bytes: u64) {
        self.held = self.held.saturating_add(bytes);
        if let Some(lane) = self.lanes.get_mut(&unit) {
            lane.held = lane.held.saturating_add(bytes);
        }
    }

    fn release(&mut self, unit: u16, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
        if let Some(lane) = self.lanes.get_mut(&unit) {
            lane.held = lane.held.saturating_sub(bytes);
        }
        self.line.extend(self.blocked.drain(..));
    }
}

fn answered(joined: Result<(TaskId, ManagementAnswer), JoinError>) -> Option<Product> {
    let (task, answer) = joined.ok()?;
    Some(Product::Management(task, answer))
}

async fn execute<V: Volume>(work: Work<V>, data: Bytes) -> Outcome {
    let Work {
        asker,
        lun,
        command,
        ..
    } = work;
    match asker.unit(lun) {
        Some(unit) => unit.execute(command, data, &asker).await,
        None => Err(Sense::LOGICAL_UNIT_NOT_SUPPORTED.into()),
    }
}

/// Polls a future a single time, woken like the caller.
pub(crate) async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Bytes that a command holds until it has ended, or until they are sent.
fn cost<V: Volume>(work: &Work<V>, data: &Bytes) -> u64 {
    let read = match work.command {
        Command::Read { range, .. } => {
            let block_bytes = work
                .asker
                .unit(work.lun)
                .map_or(0, LogicalUnit::block_bytes);
            u64::from(range.blocks()) * u64::from(block_bytes)
        }
        _ => 0,
    };
    let written = u64::try_from(data.len()).unwrap_or(u64::MAX);
    read.saturating_add(written).max(LEAST_BYTES)
}
