//! Links with their framing, and disks.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use vmthunder_volume::EXTENT_BYTES;

/// The link of a host: what it sends waits by connection, and the connections take turns, as TCP shares a link; what
/// comes takes the link in the order in which it arrives.
#[derive(Debug)]
pub(crate) struct Link<T> {
    bits_per_second: u64,
    /// What an extent takes on the wire.
    extent: Duration,
    /// What is on its way out, if anything is, and what waits behind it.
    sending: Option<T>,
    flows: HashMap<u64, VecDeque<T>>,
    turns: VecDeque<u64>,
    /// Small messages that were sent since the last extent, and take their time.
    small_out: Duration,
    /// When all that came has passed.
    free_in: Duration,
}

impl<T: Copy> Link<T> {
    pub(crate) fn new(bits_per_second: u64) -> Self {
        let bits_per_second = bits_per_second.max(1);
        Self {
            bits_per_second,
            extent: time(bits_per_second, EXTENT_WIRE_BYTES),
            sending: None,
            flows: HashMap::new(),
            turns: VecDeque::new(),
            small_out: Duration::ZERO,
            free_in: Duration::ZERO,
        }
    }

    /// Puts an answer into the line of a connection. Answers how long it takes if the link is free for it now.
    pub(crate) fn send(&mut self, connection: u64, request: T) -> Option<Duration> {
        if self.sending.is_none() {
            self.sending = Some(request);
            return Some(self.extent + std::mem::take(&mut self.small_out));
        }
        let flow = self.flows.entry(connection).or_default();
        if flow.is_empty() {
            self.turns.push_back(connection);
        }
        flow.push_back(request);
        None
    }

    /// The one on its way is out. Answers it, and how long the next one takes, if there is one.
    pub(crate) fn sent(&mut self) -> (Option<T>, Option<Duration>) {
        let out = self.sending.take();
        let next = self.turns.pop_front().and_then(|connection| {
            let flow = self.flows.get_mut(&connection)?;
            let request = flow.pop_front()?;
            if flow.is_empty() {
                self.flows.remove(&connection);
            } else {
                self.turns.push_back(connection);
            }
            Some(request)
        });
        self.sending = next;
        let takes = next.map(|_| self.extent + std::mem::take(&mut self.small_out));
        (out, takes)
    }

    /// An extent whose last byte is there `at`, sent by a link on which it took `sender`: when it has passed this one.
    pub(crate) fn receive(&mut self, at: Duration, sender: Duration) -> Duration {
        let begins = at.saturating_sub(sender.min(self.extent));
        self.free_in = self.free_in.max(begins) + self.extent;
        self.free_in
    }

    /// What an extent takes.
    pub(crate) fn takes(&self) -> Duration {
        self.extent
    }

    /// The asker's part of an extent: the request and the acknowledgements leave by its link.
    pub(crate) fn asked(&mut self) {
        self.small_out += time(self.bits_per_second, REVERSE_WIRE_BYTES);
    }

    /// And come to the one who is asked.
    pub(crate) fn was_asked(&mut self) {
        self.free_in += time(self.bits_per_second, REVERSE_WIRE_BYTES);
    }
}

/// A disk that does one thing after the other.
#[derive(Debug)]
pub(crate) struct Disk {
    extent: Duration,
    free: Duration,
}

impl Disk {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            extent: time(bytes_per_second.saturating_mul(8).max(1), EXTENT_BYTES),
            free: Duration::ZERO,
        }
    }

    /// Reads or writes an extent; when that is done.
    pub(crate) fn turn(&mut self, now: Duration) -> Duration {
        self.free = self.free.max(now) + self.extent;
        self.free
    }
}

fn time(bits_per_second: u64, bytes: u64) -> Duration {
    let nanos = u128::from(bytes) * 8_000_000_000 / u128::from(bits_per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Data in a TCP segment on Ethernet (1500 bytes less IP, TCP and time stamps), and what goes with it: these 52 bytes,
/// and 38 of preamble, header, check sum and gap.
const SEGMENT: u64 = 1448;
const AROUND: u64 = 90;
/// The header of an iSCSI PDU.
const BHS: u64 = 48;
/// Segments per acknowledgement, where receive offload joins what comes together.
const PER_ACK: u64 = 8;
const SEGMENTS: u64 = (EXTENT_BYTES + BHS).div_ceil(SEGMENT);
/// An extent on the wire: one Data-In that carries the status too.
const EXTENT_WIRE_BYTES: u64 = EXTENT_BYTES + BHS + SEGMENTS * AROUND;
/// What goes the other way for it.
const REVERSE_WIRE_BYTES: u64 = BHS + AROUND + SEGMENTS.div_ceil(PER_ACK) * AROUND;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Disk, Link};

    /// 8 bits in a nanosecond: durations are bytes.
    const RATE: u64 = 8_000_000_000;
    const WIRE: u64 = 65_536 + 48 + 46 * 90;

    #[test]
    fn connections_take_turns() {
        let mut link = Link::<u32>::new(RATE);
        assert_eq!(link.send(1, 10), Some(Duration::from_nanos(WIRE)));
        for (connection, request) in [(1, 11), (1, 12), (2, 20), (2, 21), (3, 30)] {
            assert_eq!(link.send(connection, request), None);
        }
        let order: Vec<u32> = std::iter::from_fn(|| link.sent().0).collect();
        assert_eq!(order, [10, 11, 20, 30, 12, 21]);
    }

    #[test]
    fn no_more_comes_in_than_the_link_carries() {
        let mut link = Link::<u32>::new(RATE);
        let wire = Duration::from_nanos(WIRE);
        let at = Duration::from_micros(1000);
        assert_eq!(link.receive(at, wire), at, "it flowed while it was sent");
        assert_eq!(
            link.receive(at, wire),
            at + wire,
            "two at once take twice the time"
        );
        let slow = Link::<u32>::new(RATE / 10).receive(at, wire);
        assert_eq!(slow, at + 9 * wire);
    }

    #[test]
    fn questions_and_acknowledgements_take_their_part() {
        let mut link = Link::<u32>::new(RATE);
        link.asked();
        assert_eq!(
            link.send(1, 1),
            Some(Duration::from_nanos(WIRE + 48 + 90 + 6 * 90))
        );
    }

    #[test]
    fn a_disk_does_one_thing_after_the_other() {
        let mut disk = Disk::new(65_536_000);
        assert_eq!(
            disk.turn(Duration::from_secs(1)),
            Duration::from_millis(1001)
        );
        assert_eq!(
            disk.turn(Duration::from_secs(1)),
            Duration::from_millis(1002)
        );
    }
}
