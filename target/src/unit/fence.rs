//! Writes that nobody waits for any more, and that happen all the same some day.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use iscsi_proto::scsi::{Command, LbaRange, Sense};
use tokio::runtime::Handle;
use vmthunder_volume::{Span, Volume};

use super::LogicalUnit;
use crate::failure::Failure;
use crate::tasks::poll_once;

impl<V: Volume> LogicalUnit<V> {
    /// A command was aborted while it changes the medium. Whoever writes to the same blocks from now on waits until
    /// it has ended: it must not land on top of what is written after the abort was answered.
    pub(crate) fn fence(self: &Arc<Self>, command: &Command) {
        self.fence_off(self.changed_by(command));
    }

    /// Does work that writes to a span. It goes on if nobody waits for it any more, behind a fence. Its place in line for
    /// the span is what it takes first.
    pub(super) async fn to_its_end(
        self: &Arc<Self>,
        span: Span,
        work: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut work = Box::pin(work);
        if let Poll::Ready(done) = poll_once(work.as_mut()).await {
            return done;
        }
        let mut going = Going {
            unit: Arc::clone(self),
            span,
            ended: false,
        };
        let done = tokio::spawn(work).await;
        going.ended = true;
        done.unwrap_or_else(|_| Err(Sense::INTERNAL_TARGET_FAILURE.into()))
    }

    fn fence_off(self: &Arc<Self>, span: Span) {
        let unit = Arc::clone(self);
        let mut fence = Box::pin(async move { unit.ranges.fence(span).await });
        // The place in line is taken now, and kept by a task if it has to be.
        let mut now = Context::from_waker(Waker::noop());
        if fence.as_mut().poll(&mut now).is_pending()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(fence);
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

/// Work that somebody waits for.
struct Going<V: Volume> {
    unit: Arc<LogicalUnit<V>>,
    span: Span,
    ended: bool,
}

impl<V: Volume> Drop for Going<V> {
    fn drop(&mut self) {
        if !self.ended {
            self.unit.fence_off(self.span);
        }
    }
}
