//! Writes that nobody waits for any more, and that happen all the same some day.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};

use iscsi_proto::scsi::{Command, LbaRange};
use vmthunder_volume::{Span, Volume};

use super::LogicalUnit;
use super::ranges::Hold;

impl<V: Volume> LogicalUnit<V> {
    /// A command was aborted while it changes the medium. Whoever writes to the same blocks from now on waits until
    /// it has ended: it must not land on top of what is written after the abort was answered.
    pub(crate) fn fence(self: &Arc<Self>, command: &Command) {
        let (unit, span) = (Arc::clone(self), self.changed_by(command));
        let mut fence = Box::pin(async move {
            // It is enough to have stood in line: who came later is behind.
            let _ = unit.ranges.hold(span, Hold::Alone).await;
        });
        // The place in line is taken now, and kept by a task if it has to be.
        let mut now = Context::from_waker(Waker::noop());
        if fence.as_mut().poll(&mut now).is_pending() {
            tokio::spawn(fence);
        }
    }

    /// The blocks that a command may change; all of them where only its data says which.
    fn changed_by(&self, command: &Command) -> Span {
        let geometry = self.geometry();
        let span = |range: LbaRange| geometry.span(range.lba(), range.blocks().into()).ok();
        let span = match *command {
            Command::Write { range, .. }
            | Command::WriteAndVerify { range, .. }
            | Command::WriteAtomic { range, .. }
            | Command::OrWrite { range, .. } => span(range),
            Command::WriteSame(same) => span(same.range),
            Command::CompareAndWrite { lba, blocks, .. } => geometry.span(lba, blocks.into()).ok(),
            _ => None,
        };
        span.unwrap_or_else(|| Span::new(0, geometry.bytes()))
    }
}
