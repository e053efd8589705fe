//! Bytes of read and write data that all sessions together hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much there may be. It is no wall: a session that holds little always goes on, else those that take nothing
/// from their sockets could stop all others.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

/// What one session holds.
#[derive(Debug)]
pub(crate) struct Share {
    held: u64,
    budget: Arc<Budget>,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: AtomicU64::new(0),
        }
    }

    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share {
            held: 0,
            budget: Arc::clone(self),
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Says what the session holds now.
    pub(crate) fn set(&mut self, held: u64) {
        let used = &self.budget.used;
        if held > self.held {
            used.fetch_add(held - self.held, Ordering::Relaxed);
        } else if held < self.held {
            used.fetch_sub(self.held - held, Ordering::Relaxed);
        }
        self.held = held;
    }

    /// All sessions together hold more than they should.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.budget.used() > self.budget.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Budget;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Arc::new(Budget::new(100));
        let (mut one, mut other) = (budget.share(), budget.share());
        one.set(60);
        other.set(40);
        assert!(!one.is_exceeded());
        other.set(50);
        assert!(one.is_exceeded() && other.is_exceeded());
        one.set(10);
        assert!(!one.is_exceeded());
        drop(other);
        assert_eq!(budget.used(), 10);
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
