//! The changes that are under way, by the blocks that they touch: one that overlaps an older one waits for its end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The changes that are under way, by the blocks that they touch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Each with what its followers wait on: its end closes the channel.
    changes: BTreeMap<u64, (Range<u64>, watch::Sender<()>)>,
}

/// The place of a change among the others, from its announcement to its end.
#[derive(Debug)]
pub(crate) struct Turn {
    changes: Changes,
    number: u64,
    blocks: Range<u64>,
}

impl Changes {
    /// A change of these blocks is announced; changes are in the order of their announcement.
    pub(crate) fn announce(&self, blocks: Range<u64>) -> Turn {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = table.next;
        table.next += 1;
        let ending = watch::Sender::new(());
        table.changes.insert(number, (blocks.clone(), ending));
        Turn {
            changes: self.clone(),
            number,
            blocks,
        }
    }
}

impl Turn {
    /// Waits until no older change overlaps.
    pub(crate) async fn come(&self) {
        while let Some(mut ended) = self.in_the_way() {
            // Nothing is ever sent: this is the end of the other change.
            let _ = ended.changed().await;
        }
    }

    fn in_the_way(&self) -> Option<watch::Receiver<()>> {
        let table = self
            .changes
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut older = table.changes.range(..self.number);
        let (_, (_, ending)) = older.find(|(_, (blocks, _))| {
            blocks.start < self.blocks.end && self.blocks.start < blocks.end
        })?;
        Some(ending.subscribe())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut table = self
            .changes
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        table.changes.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::{Changes, Turn};

    fn has_come(turn: &Turn) -> bool {
        let mut coming = pin!(turn.come());
        let mut context = Context::from_waker(Waker::noop());
        matches!(coming.as_mut().poll(&mut context), Poll::Ready(()))
    }

    #[test]
    fn only_what_overlaps_waits_and_in_order() {
        let changes = Changes::default();
        let first = changes.announce(0..8);
        let second = changes.announce(4..12);
        let third = changes.announce(8..9);
        let beside = changes.announce(12..13);
        assert!(has_come(&first) && has_come(&beside));
        assert!(!has_come(&second));
        assert!(!has_come(&third), "behind one that waits itself");
        drop(first);
        assert!(has_come(&second) && !has_come(&third));
        drop(second);
        assert!(has_come(&third));
    }

    #[tokio::test]
    async fn an_end_wakes_those_who_wait() {
        let changes = Changes::default();
        let first = changes.announce(0..8);
        let second = changes.announce(0..1);
        let waiting = tokio::spawn(async move { second.come().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        tokio::time::timeout(std::time::Duration::from_secs(60), waiting)
            .await
            .expect("woken")
            .expect("no panic");
    }
}
