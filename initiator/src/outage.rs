//! What happens between the loss of a connection and the next one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use iscsi_proto::session::SessionEnd;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::job::Repeat;
use crate::link::Link;
use crate::{Error, Outage};

impl Link {
    /// The connection is gone: what cannot be repeated fails, the rest waits in order, or fails as well.
    pub(crate) fn after_loss(&mut self, end: SessionEnd) {
        let reason = Error::Ended(end);
        self.status.failed(reason.clone());
        self.lose_resets();
        let rested = std::mem::take(&mut self.resting);
        self.queue
            .extend(rested.into_iter().map(|(_, number)| number));
        let sent: BTreeSet<u64> = self.sent.drain().map(|(_, number)| number).collect();
        for number in sent {
            let Some(job) = self.jobs.get_mut(&number) else {
                continue;
            };
            job.in_doubt = true;
            let (lun, harmless) = (job.request.lun, job.repeat == Repeat::Always);
            if job.repeat.is_never() {
                self.answer(number, Err(Error::Interrupted));
            } else {
                self.queue.insert(number);
            }
            if !harmless {
                self.note_stray(lun);
            }
        }
        for guard in self.guards.values_mut() {
            guard.doubt();
        }
        let reason = Error::Unreachable(Arc::new(reason));
        match self.options.reconnect.outage {
            Outage::Wait => {}
            Outage::Deadline(patience) => self.give_up_older(patience, &reason),
            Outage::Fail => self.give_up_all(&reason),
        }
    }

    /// Connections that do not last must not keep anybody for ever.
    fn give_up_older(&mut self, patience: Duration, reason: &Error) {
        let now = Instant::now();
        let mut late = Vec::new();
        for (number, job) in &mut self.jobs {
            let first_loss = *job.first_loss.get_or_insert(now);
            if now.duration_since(first_loss) > patience {
                late.push(*number);
            }
        }
        for number in late {
            self.queue.remove(&number);
            if let Some(job) = self.jobs.remove(&number) {
                job.give_up(reason);
            }
        }
    }

    /// Tries until the target is back. Commands wait as long as the policy allows, then fail; `None` if nobody is
    /// left to try for.
    pub(crate) async fn reconnect(&mut self, pause: Duration) -> Option<Connection> {
        let mut patience = match self.options.reconnect.outage {
            Outage::Wait => Patience::Endless,
            Outage::Deadline(patience) => Patience::Until(Instant::now() + patience),
            Outage::Fail => Patience::Lost,
        };
        let status = Arc::clone(&self.status);
        let attempts = self
            .dialer
            .clone()
            .redial(self.options.reconnect, pause, status);
        tokio::pin!(attempts);
        let (connection, dialer) = loop {
            if self.is_over() {
                return None;
            }
            tokio::select! {
                biased;
                connected = &mut attempts => break connected,
                order = self.orders.recv(), if !self.deserted => self.accept_or_desert(order),
                () = self.status.abandonment() => self.forget_abandoned(),
                () = patience.run_out() => {
                    tracing::warn!(address = self.dialer.reached(), "the target stays away, commands fail");
                    patience = Patience::Lost;
                }
            }
            if let (Patience::Lost, Some(reason)) = (patience, self.status.obstacle()) {
                self.give_up_all(&reason);
            }
        };
        self.dialer = dialer;
        tracing::info!(
            address = self.dialer.reached(),
            "connected to the target again"
        );
        Some(connection)
    }

    /// How long the target asked to be left alone.
    pub(crate) fn pause_asked(&self, end: &SessionEnd) -> Duration {
        match end {
            SessionEnd::Dropped { time2wait } => (*time2wait).min(LONGEST_PAUSE),
            _ => Duration::ZERO,
        }
    }

    /// How long to leave the target alone before the first attempt: as long as it asked for, and longer and longer
    /// if connections do not last, since something that is repeated on each may be what ends it.
    pub(crate) fn pause_after(&self, asked: Duration, short_lives: u32) -> Duration {
        match short_lives {
            0 | 1 => asked,
            more => asked.max(self.options.reconnect.delay(more - 2)),
        }
    }

    /// The session is over: what is under way or waits ends.
    pub(crate) fn close_all(&mut self) {
        for number in self.sent.values() {
            if let Some(job) = self.jobs.get_mut(number) {
                job.in_doubt = true;
            }
        }
        self.lose_resets();
        self.give_up_all(&Error::Closed);
    }

    /// Everything that waits for the target ends.
    pub(crate) fn give_up_all(&mut self, reason: &Error) {
        self.queue.clear();
        self.resting.clear();
        for job in std::mem::take(&mut self.jobs).into_values() {
            job.give_up(reason);
        }
        for (_, reply) in self.attaching.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(Err(reason.clone()));
        }
        self.give_up_resets(reason);
    }
}

/// How long commands wait for the target.
#[derive(Clone, Copy, Debug)]
enum Patience {
    Endless,
    Until(Instant),
    Lost,
}

impl Patience {
    /// Waits until it runs out; it does so once.
    async fn run_out(self) {
        match self {
            Self::Until(deadline) => tokio::time::sleep_until(deadline).await,
            Self::Endless | Self::Lost => std::future::pending().await,
        }
    }
}

/// A target cannot send its initiators away for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
