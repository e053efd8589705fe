//! The commands of one session: waiting for their data, for their turn, or for the volume.

use std::collections::{HashMap, HashSet, VecDeque};
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
use vmthunder_volume::Volume;

use crate::asker::Asker;
use crate::failure::Failure;

/// Commands that one turn executes before the socket is looked at again.
const TURN_COMMANDS: usize = 64;

/// Bytes that one turn reads in place before the socket is looked at again.
const TURN_BYTES: u64 = 512 << 10;

/// Bytes of read data that the commands of one session may have under way.
const READ_BUDGET: u64 = 32 << 20;

/// What a command led to.
pub(crate) type Outcome = Result<Response, Failure>;

/// A command with all that it needs.
#[derive(Debug)]
pub(crate) struct Work<V> {
    pub(crate) task: TaskId,
    pub(crate) asker: Arc<Asker<V>>,
    pub(crate) lun: Lun,
    pub(crate) command: Command,
}

/// The commands of one session.
#[derive(Debug)]
pub(crate) struct Tasks<V> {
    /// Wait for write data.
    awaiting: HashMap<TaskId, Work<V>>,
    /// Wait for their turn.
    ready: VecDeque<(Work<V>, Bytes)>,
    /// Wait for the volume.
    running: HashMap<TaskId, Running>,
    volumes: JoinSet<(TaskId, Outcome)>,
    /// Bytes that running commands read.
    reading: u64,
    /// Task management requests that wait for writes to end.
    management: Vec<Deferred>,
}

#[derive(Debug)]
struct Running {
    abort: AbortHandle,
    reading: u64,
    alters: bool,
}

#[derive(Debug)]
struct Deferred {
    task: TaskId,
    writes: HashSet<TaskId>,
    deadline: Instant,
}

impl<V: Volume> Tasks<V> {
    pub(crate) fn new() -> Self {
        Self {
            awaiting: HashMap::new(),
            ready: VecDeque::new(),
            running: HashMap::new(),
            volumes: JoinSet::new(),
            reading: 0,
            management: Vec::new(),
        }
    }

    /// Nothing of the session is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.ready.is_empty()
    }

    /// The next command may begin now.
    pub(crate) fn may_start(&self) -> bool {
        self.ready.front().is_some_and(|(work, _)| {
            self.reading == 0 || self.reading.saturating_add(read_bytes(work)) <= READ_BUDGET
        })
    }

    /// A command that needs no data, or has it.
    pub(crate) fn queue(&mut self, work: Work<V>, data: Bytes) {
        self.ready.push_back((work, data));
    }

    /// A command that waits for its write data.
    pub(crate) fn await_data(&mut self, work: Work<V>) {
        self.awaiting.insert(work.task, work);
    }

    /// The write data of a command.
    pub(crate) fn data_ready(&mut self, task: TaskId, data: Bytes) {
        if let Some(work) = self.awaiting.remove(&task) {
            self.queue(work, data);
        }
    }

    /// Executes commands in place until a turn is full; `conclude` gets the outcomes that needed no waiting.
    pub(crate) async fn execute_turn(&mut self, mut conclude: impl FnMut(TaskId, Outcome, bool)) {
        let mut bytes = 0;
        for _ in 0..TURN_COMMANDS {
            if !self.may_start() || bytes >= TURN_BYTES {
                return;
            }
            let Some((work, data)) = self.ready.pop_front() else {
                return;
            };
            let (task, reading, alters) =
                (work.task, read_bytes(&work), work.command.alters_medium());
            bytes += reading;
            let alone = self.is_idle();
            let mut execution = Box::pin(execute(work, data));
            match poll_once(execution.as_mut()).await {
                Poll::Ready(outcome) => conclude(task, outcome, alone),
                Poll::Pending => {
                    let abort = self.volumes.spawn(async move { (task, execution.await) });
                    self.running.insert(
                        task,
                        Running {
                            abort,
                            reading,
                            alters,
                        },
                    );
                    self.reading += reading;
                }
            }
        }
    }

    /// Waits for a command that waited for the volume; pends for ever while there is none.
    pub(crate) async fn finished(&mut self) -> Option<(TaskId, Outcome)> {
        match self.volumes.join_next().await {
            Some(joined) => self.retire(joined),
            None => std::future::pending().await,
        }
    }

    /// A command that has finished meanwhile.
    pub(crate) fn try_finished(&mut self) -> Option<Option<(TaskId, Outcome)>> {
        self.volumes
            .try_join_next()
            .map(|joined| self.retire(joined))
    }

    /// Forgets tasks that nobody waits for. Reads are dropped where they stand; writes go on, since a write that is
    /// dropped half-way may still happen later. Returns the writes.
    pub(crate) fn abandon(&mut self, tasks: &[TaskId]) -> HashSet<TaskId> {
        let gone: HashSet<TaskId> = tasks.iter().copied().collect();
        self.ready.retain(|(work, _)| !gone.contains(&work.task));
        self.awaiting.retain(|task, _| !gone.contains(task));
        let mut writes = HashSet::new();
        for task in gone {
            match self.running.get(&task) {
                Some(running) if running.alters => drop(writes.insert(task)),
                Some(running) => {
                    running.abort.abort();
                    self.reading = self.reading.saturating_sub(running.reading);
                    self.running.remove(&task);
                }
                None => {}
            }
        }
        writes
    }

    /// Keeps a task management request until the writes that it affects have ended, or until `deadline`.
    pub(crate) fn defer(&mut self, task: TaskId, writes: HashSet<TaskId>, deadline: Instant) {
        self.management.push(Deferred {
            task,
            writes,
            deadline,
        });
    }

    /// Task management requests that can be answered now.
    pub(crate) fn answerable(&mut self, now: Instant) -> Vec<(TaskId, ManagementAnswer)> {
        let running = &self.running;
        let waits = |deferred: &Deferred| {
            now < deferred.deadline
                && deferred
                    .writes
                    .iter()
                    .any(|write| running.contains_key(write))
        };
        let (keep, done): (Vec<_>, Vec<_>) = self.management.drain(..).partition(waits);
        self.management = keep;
        done.into_iter()
            .map(|deferred| (deferred.task, ManagementAnswer::Complete))
            .collect()
    }

    /// When [`answerable`](Self::answerable) has something to say at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.management
            .iter()
            .map(|deferred| deferred.deadline)
            .min()
    }

    /// Drops all reads and waits for the writes to end.
    pub(crate) async fn drain(&mut self) {
        self.ready.clear();
        self.awaiting.clear();
        self.running
            .values()
            .filter(|running| !running.alters)
            .for_each(|running| running.abort.abort());
        while self.volumes.join_next().await.is_some() {}
    }

    fn retire(
        &mut self,
        joined: Result<(TaskId, Outcome), JoinError>,
    ) -> Option<(TaskId, Outcome)> {
        let (task, outcome) = match joined {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => return None,
            // The volume panicked. The command must not hang for that.
            Err(error) => {
                let (task, _) = self
                    .running
                    .iter()
                    .find(|(_, running)| running.abort.id() == error.id())?;
                (*task, Err(Sense::INTERNAL_TARGET_FAILURE.into()))
            }
        };
        if let Some(running) = self.running.remove(&task) {
            self.reading = self.reading.saturating_sub(running.reading);
        }
        Some((task, outcome))
    }
}

async fn execute<V: Volume>(work: Work<V>, data: Bytes) -> Outcome {
    let Work {
        asker,
        lun,
        command,
        ..
    } = work;
    match asker.export.unit(lun) {
        Some(unit) => unit.execute(command, data, &asker).await,
        None => Err(Sense::LOGICAL_UNIT_NOT_SUPPORTED.into()),
    }
}

/// Polls a future a single time, woken like the caller.
async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Bytes that a command will hold until they are sent.
fn read_bytes<V: Volume>(work: &Work<V>) -> u64 {
    match work.command {
        Command::Read { range, .. } => {
            let block_bytes = work
                .asker
                .export
                .unit(work.lun)
                .map_or(0, |unit| unit.block_bytes());
            u64::from(range.blocks()) * u64::from(block_bytes)
        }
        _ => 0,
    }
}
