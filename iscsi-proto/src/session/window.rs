//! The command window: CmdSN, ExpCmdSN, MaxCmdSN (RFC 7143 §4.2.2.1).
//!
//! Commands leave in the order of their numbers, each once. A number counts against the depth from the moment its
//! command leaves until `release`; so the initiator is throttled by MaxCmdSN and by nothing else.

use std::collections::BTreeMap;

use crate::wire::serial::Serial;

/// Numbered commands on their way to execution.
#[derive(Debug)]
pub(crate) struct CommandWindow<T> {
    expected: Serial,
    depth: u32,
    /// Commands that left and were not released yet.
    outstanding: u32,
    /// MaxCmdSN before the depth was narrowed: what was promised stays promised.
    promised: Serial,
    /// Commands that came before their turn, by number; `None` for a number that was aborted
    /// before its command came.
    early: BTreeMap<u32, Option<T>>,
}

/// What became of a command that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It is in line.
    Taken,
    /// It is a duplicate or outside the window, and is to be ignored without a word.
    Ignored,
}

impl<T> CommandWindow<T> {
    /// A window that opens at the number that the login left off with.
    pub(crate) fn new(expected: Serial, depth: u32) -> Self {
        Self {
            expected,
            depth: depth.clamp(1, MAX_DEPTH),
            outstanding: 0,
            promised: before(expected),
            early: BTreeMap::new(),
        }
    }

    /// ExpCmdSN: the next number to leave.
    pub(crate) fn expected(&self) -> Serial {
        self.expected
    }

    /// MaxCmdSN: the last number that may come; one less than ExpCmdSN when the window is closed.
    pub(crate) fn max(&self) -> Serial {
        let room = self.depth.saturating_sub(self.outstanding);
        let open = self.expected + room.wrapping_sub(1);
        if open.lt(self.promised) {
            self.promised
        } else {
            open
        }
    }

    /// From now on this many commands may be on their way. What was promised to the initiator is kept: a narrower
    /// window closes as commands come, it never moves back (RFC 7143 §4.2.2.1).
    pub(crate) fn set_depth(&mut self, depth: u32) {
        self.promised = self.max();
        self.depth = depth.clamp(1, MAX_DEPTH);
    }

    /// True if a command of this number may come.
    pub(crate) fn contains(&self, number: Serial) -> bool {
        self.expected.le(number) && number.le(self.max())
    }

    /// True if a command of this number may come and did not come yet.
    pub(crate) fn awaits(&self, number: Serial) -> bool {
        self.contains(number) && !self.early.contains_key(&number.0)
    }

    /// Takes a command in, or ignores it.
    pub(crate) fn offer(&mut self, number: Serial, command: T) -> Offer {
        if !self.awaits(number) {
            return Offer::Ignored;
        }
        self.early.insert(number.0, Some(command));
        Offer::Taken
    }

    /// The next command in order, if it is there.
    pub(crate) fn next(&mut self) -> Option<T> {
        let command = self.early.remove(&self.expected.0)??;
        self.advance();
        self.outstanding += 1;
        self.skip_plugged();
        Some(command)
    }

    /// A command that left is done with; its place is free.
    pub(crate) fn release(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// Marks a number inside the window as received, whether its command came or not. The command, if it waited, is
    /// dropped.
    pub(crate) fn plug(&mut self, number: Serial) {
        if self.contains(number) {
            self.early.insert(number.0, None);
            self.skip_plugged();
        }
    }

    /// Marks every number before `end` as received; numbers beyond the window are left alone.
    pub(crate) fn plug_until(&mut self, end: Serial) {
        let mut number = self.expected;
        while number.lt(end) && self.contains(number) {
            self.plug(number);
            number = number.next();
        }
    }

    fn skip_plugged(&mut self) {
        while let Some(None) = self.early.get(&self.expected.0) {
            self.early.remove(&self.expected.0);
            self.advance();
        }
    }

    /// An old promise that ExpCmdSN passed says nothing any more; it must not come back when the numbers wrap.
    fn advance(&mut self) {
        if self.promised.lt(self.expected) {
            self.promised = self.expected;
        }
        self.expected = self.expected.next();
    }

    /// Commands that wait for an earlier one.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.early.values().flatten()
    }
}

fn before(number: Serial) -> Serial {
    number + u32::MAX
}

/// More would make old and new numbers look alike (RFC 1982); far below that it is a matter of memory.
const MAX_DEPTH: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::{CommandWindow, Offer};
    use crate::wire::serial::Serial;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn commands_leave_in_order_and_once() {
        let mut window = CommandWindow::new(Serial(0xffff_fffe), 4);
        assert_eq!(window.max(), Serial(1));
        assert_eq!(window.offer(Serial(0), 'c'), Offer::Taken);
        assert_eq!(window.next(), None, "two are missing before it");
        assert_eq!(window.offer(Serial(0xffff_fffe), 'a'), Offer::Taken);
        assert_eq!(
            window.offer(Serial(0xffff_fffe), 'x'),
            Offer::Ignored,
            "a duplicate"
        );
        assert_eq!(window.next(), Some('a'));
        assert_eq!(
            window.offer(Serial(0xffff_fffe), 'x'),
            Offer::Ignored,
            "received already"
        );
        assert_eq!(
            window.offer(Serial(2), 'x'),
            Offer::Ignored,
            "beyond MaxCmdSN"
        );
        assert_eq!(window.offer(Serial(0xffff_ffff), 'b'), Offer::Taken);
        assert_eq!(
            (window.next(), window.next(), window.next()),
            (Some('b'), Some('c'), None)
        );
        assert_eq!((window.expected(), window.max()), (Serial(1), Serial(1)));
    }

    #[test]
    fn the_window_closes_and_opens_again() {
        let mut window = CommandWindow::new(Serial(10), 2);
        for number in [10, 11] {
            assert_eq!(window.offer(Serial(number), ()), Offer::Taken);
            assert_eq!(window.next(), Some(()));
        }
        assert_eq!((window.expected(), window.max()), (Serial(12), Serial(11)));
        assert_eq!(window.offer(Serial(12), ()), Offer::Ignored);
        window.release();
        assert_eq!((window.expected(), window.max()), (Serial(12), Serial(12)));
        assert_eq!(window.offer(Serial(12), ()), Offer::Taken);
    }

    #[test]
    fn a_plugged_number_is_received() {
        let mut window = CommandWindow::new(Serial(5), 4);
        assert_eq!(window.offer(Serial(6), 'b'), Offer::Taken);
        window.plug(Serial(5));
        assert_eq!(window.next(), Some('b'));
        assert_eq!(window.offer(Serial(5), 'a'), Offer::Ignored);
        window.plug_until(Serial(9));
        assert_eq!(window.next(), None);
        assert_eq!((window.expected(), window.max()), (Serial(9), Serial(11)));
    }

    proptest! {
        #[test]
        fn the_window_never_moves_back(
            start in any::<u32>(),
            depth in 1u32..6,
            steps in prop::collection::vec((0u32..3, 0u32..8), 0..200),
        ) {
            let mut window = CommandWindow::new(Serial(start), depth);
            let (mut left, mut released) = (Vec::new(), 0);
            for (verb, near) in steps {
                let (expected, max) = (window.expected(), window.max());
                match verb {
                    0 => {
                        let number = Serial(start.wrapping_add(near).wrapping_add(u32::try_from(left.len()).unwrap()));
                        window.offer(number, number);
                        while let Some(number) = window.next() {
                            left.push(number);
                        }
                    }
                    1 if released < left.len() => {
                        released += 1;
                        window.release();
                    }
                    _ => window.plug(Serial(expected.0.wrapping_add(near))),
                }
                prop_assert!(expected.le(window.expected()) && max.le(window.max()));
                prop_assert!(window.expected().le(window.max().next()), "MaxCmdSN >= ExpCmdSN - 1");
                prop_assert!(window.expected().distance(window.max().next()) <= depth);
            }
            for pair in left.windows(2) {
                prop_assert!(pair[0].lt(pair[1]));
            }
            prop_assert_eq!(window.outstanding as usize, left.len() - released);
        }
    }
}
