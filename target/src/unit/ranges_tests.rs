//! The range lock: who holds what at the same time, who is let in first, and that nobody is forgotten.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use vmthunder_volume::Span;

use super::{Hold, MAX_WAITING, Ranges, Table};
use crate::failure::Failure;

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>, bell: &Arc<Bell>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
}

fn rings(bell: &Bell) -> usize {
    bell.0.load(Ordering::SeqCst)
}

#[test]
fn plain_writes_share_and_others_do_not() {
    let ranges = Ranges::default();
    let bell = Arc::new(Bell::default());
    let first = poll(pin!(ranges.hold(Span::new(0, 10), Hold::Shared)), &bell);
    let second = poll(pin!(ranges.hold(Span::new(5, 10), Hold::Shared)), &bell);
    let (Poll::Ready(Ok(first)), Poll::Ready(Ok(second))) = (first, second) else {
        panic!("both share");
    };
    let mut alone = Box::pin(ranges.hold(Span::new(9, 1), Hold::Alone));
    assert!(poll(alone.as_mut(), &bell).is_pending());
    drop(first);
    assert_eq!(rings(&bell), 0, "one is still there");
    drop(second);
    assert_eq!(rings(&bell), 1);
    let Poll::Ready(Ok(alone)) = poll(alone.as_mut(), &bell) else {
        panic!("nobody is in the way");
    };
    let mut behind = pin!(ranges.hold(Span::new(0, 10), Hold::Shared));
    assert!(poll(behind.as_mut(), &bell).is_pending());
    let beside = poll(pin!(ranges.hold(Span::new(10, 10), Hold::Alone)), &bell);
    assert!(beside.is_ready(), "runs that only touch are apart");
    drop(alone);
    assert!(poll(behind.as_mut(), &bell).is_ready());
}

#[test]
fn a_grant_that_nobody_takes_goes_to_the_next() {
    let ranges = Ranges::default();
    let (early, late) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    let run = Span::new(0, 1);
    let Poll::Ready(Ok(holder)) = poll(pin!(ranges.hold(run, Hold::Alone)), &early) else {
        panic!("nobody is in the way");
    };
    let mut second = Box::pin(ranges.hold(run, Hold::Alone));
    let mut third = Box::pin(ranges.hold(run, Hold::Alone));
    assert!(poll(second.as_mut(), &early).is_pending());
    assert!(poll(third.as_mut(), &late).is_pending());
    drop(holder);
    assert_eq!((rings(&early), rings(&late)), (1, 0), "in order of arrival");
    // It was let in, but its command is aborted before it is polled.
    drop(second);
    assert_eq!(rings(&late), 1);
    assert!(poll(third.as_mut(), &late).is_ready());
}

#[test]
fn one_that_waits_keeps_later_ones_behind_it() {
    let ranges = Ranges::default();
    let bell = Arc::new(Bell::default());
    let Poll::Ready(Ok(holder)) = poll(pin!(ranges.hold(Span::new(0, 4), Hold::Shared)), &bell)
    else {
        panic!("nobody is in the way");
    };
    let mut alone = Box::pin(ranges.hold(Span::new(2, 4), Hold::Alone));
    assert!(poll(alone.as_mut(), &bell).is_pending());
    let mut later = pin!(ranges.hold(Span::new(4, 4), Hold::Shared));
    assert!(
        poll(later.as_mut(), &bell).is_pending(),
        "else plain writes would starve the one that waits"
    );
    drop(alone);
    assert!(poll(later.as_mut(), &bell).is_ready());
    drop(holder);
}

#[test]
fn waiters_are_bounded() {
    let ranges = Ranges::default();
    let bell = Arc::new(Bell::default());
    let run = Span::new(0, 1);
    let Poll::Ready(Ok(_holder)) = poll(pin!(ranges.hold(run, Hold::Alone)), &bell) else {
        panic!("nobody is in the way");
    };
    let mut waiting: Vec<_> = (0..MAX_WAITING)
        .map(|_| Box::pin(ranges.hold(run, Hold::Shared)))
        .collect();
    for one in &mut waiting {
        assert!(poll(one.as_mut(), &bell).is_pending());
    }
    let refused = poll(pin!(ranges.hold(run, Hold::Shared)), &bell);
    assert!(matches!(refused, Poll::Ready(Err(Failure::Busy))));
    // A fence is not left out.
    let mut fence = Box::pin(ranges.fence(run));
    assert!(poll(fence.as_mut(), &bell).is_pending());
    drop(fence);
    waiting.pop();
    assert!(poll(pin!(ranges.hold(run, Hold::Shared)), &bell).is_pending());
}

/// A request for a run, or the end of the oldest-but-so-many.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(Span, Hold),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let enter = (0u64..16, 1u64..6, any::<bool>()).prop_map(|(at, length, alone)| {
        let hold = if alone { Hold::Alone } else { Hold::Shared };
        Step::Enter(Span::new(at, length), hold)
    });
    let leave = (0usize..8).prop_map(Step::Leave);
    prop::collection::vec(
        prop::strategy::Union::new([enter.boxed(), leave.boxed()]),
        0..60,
    )
}

fn conflict(one: (Span, Hold), other: (Span, Hold)) -> bool {
    let alone = one.1 == Hold::Alone || other.1 == Hold::Alone;
    alone && (one.0.offset()..one.0.end()).any(|at| (other.0.offset()..other.0.end()).contains(&at))
}

proptest! {
    /// The oracle: those present in the order of arrival; one holds its run exactly if nobody before it conflicts.
    #[test]
    fn whoever_has_nobody_before_it_in_the_way_holds_its_run(steps in steps()) {
        let mut table: Table<()> = Table::default();
        let mut present: Vec<(usize, Span, Hold)> = Vec::new();
        for step in steps {
            match step {
                Step::Enter(span, hold) => {
                    let (place, granted) = table.enter(span, hold, usize::MAX).unwrap();
                    let free = !present
                        .iter()
                        .any(|(_, other, how)| conflict((*other, *how), (span, hold)));
                    prop_assert_eq!(granted, free);
                    present.push((place, span, hold));
                }
                Step::Leave(which) if which < present.len() => {
                    let waited = present.iter().filter(|one| table.waker(one.0).is_some()).count();
                    let (place, ..) = present.remove(which);
                    let left_waiting = table.waker(place).is_some();
                    let woken = table.leave(place).len();
                    let wait = present.iter().filter(|one| table.waker(one.0).is_some()).count();
                    prop_assert_eq!(woken, waited - usize::from(left_waiting) - wait);
                }
                Step::Leave(_) => {}
            }
            for (at, (place, span, hold)) in present.iter().enumerate() {
                let free = !present[..at]
                    .iter()
                    .any(|(_, other, how)| conflict((*other, *how), (*span, *hold)));
                prop_assert_eq!(table.waker(*place).is_none(), free);
            }
        }
        for (place, ..) in present.drain(..) {
            table.leave(place);
        }
        prop_assert!(table.waiting.is_empty() && table.alone == 0);
        prop_assert_eq!(table.occupied().count(), 0);
    }
}
