//! What other sessions, and the owner of the target, want of a session: its own connection carries it out.

use std::sync::{Mutex, PoisonError};

use iscsi_proto::scsi::Sense;
use tokio::sync::Notify;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Notices that wait; further ones are dropped. They are but hints: the unit attention condition says the same.
const MAX_NOTICES: usize = 64;

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take the tasks of a unit away without an answer.
    Purge {
        unit: u16,
        /// What to tell the initiator if it lost a task.
        cleared: Option<Sense>,
        /// Given up when none of the tasks touches the volume any more.
        waiter: TaskTrackerToken,
    },
    /// Tell an initiator that can take it what happened to a unit.
    Notice { unit: u16, sense: Sense },
}

/// The orders that a session has not carried out yet.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    waiting: Mutex<Vec<Order>>,
    bell: Notify,
}

impl Orders {
    /// Gives an order. As many purges wait as there are task management requests in the whole target.
    pub(crate) fn give(&self, order: Order) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Order::Notice { unit, sense } = order {
            let said = |order: &&Order| matches!(order, Order::Notice { .. });
            let same = |order: &Order| matches!(order, Order::Notice { unit: of, sense: what } if *of == unit && *what == sense);
            if waiting.iter().any(same) || waiting.iter().filter(said).count() >= MAX_NOTICES {
                return;
            }
        }
        waiting.push(order);
        drop(waiting);
        self.bell.notify_one();
    }

    /// The orders that were given since the last time.
    pub(crate) fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for orders.
    pub(crate) async fn given(&self) {
        self.bell.notified().await;
    }
}
