//! Work that goes on when its command has been answered.

use std::sync::atomic::{AtomicU8, Ordering};

/// Work of one kind for one unit: never more than one task, and one repetition that is due. So an initiator cannot
/// pile it up, and what is asked for while it goes on is done once more behind it.
#[derive(Debug, Default)]
pub(super) struct Behind {
    state: AtomicU8,
}

impl Behind {
    /// Asks for the work; true if the caller has to [`run`](Self::run) it.
    pub(super) fn begin(&self) -> bool {
        self.state.swap(DUE, Ordering::AcqRel) == IDLE
    }

    /// Does the work until nobody has asked since it began.
    pub(super) async fn run<F: Future<Output = ()>>(&self, work: impl Fn() -> F) {
        let _guard = Unstuck(self);
        loop {
            self.state.store(RUNNING, Ordering::Release);
            work().await;
            let done =
                self.state
                    .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if done.is_ok() {
                return;
            }
        }
    }
}

/// Work that panicked can be asked for again.
struct Unstuck<'a>(&'a Behind);

impl Drop for Unstuck<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state.store(IDLE, Ordering::Release);
        }
    }
}

const IDLE: u8 = 0;
/// Going on, and nobody has asked since it began.
const RUNNING: u8 = 1;
/// Asked for.
const DUE: u8 = 2;
