//! What storms of one kind came to: ratios to what no storm can be quicker than.

use serde_json::{Value, json};

use super::turn::{Ending, Kind, Outcome, Turn};
use crate::bench::statistics::Spread;

/// A frame of Ethernet with 1,500 bytes in it, as limiters count it, and what is left of it behind the headers of IPv4
/// and of TCP with time stamps.
const FRAME: f64 = 1514.0;
const SEGMENT: f64 = 1448.0;
/// A Data-In PDU of one extent (RFC 7143 §11.7).
const HEADER: f64 = 48.0;
const EXTENT: f64 = super::boot::EXTENT as f64;
/// Bytes on the link for a byte of an image.
pub(super) const FRAMING: f64 = (EXTENT + HEADER) / EXTENT * FRAME / SEGMENT;

/// What ratios are made with.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// Bytes that a boot reads, in whole extents.
    pub(super) working_set: u64,
    /// Seconds.
    pub(super) bound: f64,
}

/// The figures of one storm.
pub(super) struct Figures {
    /// Of the guests that have booted: seconds, quickest first.
    pub(super) times: Vec<f64>,
    pub(super) copies: f64,
    pub(super) most_upload: f64,
    pub(super) wrong_bytes: u64,
    /// Reads and writes that failed, and guests that ended otherwise.
    pub(super) errors: u64,
    pub(super) first_trouble: Option<String>,
    pub(super) longest_stall: f64,
    /// Wrong answers that nodes noticed, and extents that a spoilt node fetched again.
    pub(super) noticed: u64,
    /// When the slow node's guest was done, which is not among the others.
    pub(super) slow: Option<f64>,
}

impl Figures {
    pub(super) fn of(turn: &Turn, scale: Scale) -> Self {
        let on_link = scale.working_set as f64 * FRAMING;
        let mut figures = Self {
            times: Vec::new(),
            copies: turn.origin.sent as f64 / on_link,
            most_upload: 0.0,
            wrong_bytes: 0,
            errors: 0,
            first_trouble: None,
            longest_stall: 0.0,
            noticed: 0,
            slow: None,
        };
        for guest in &turn.guests {
            figures.add(guest, on_link);
            if let Ending::Booted(told) = &guest.ending {
                let seconds = told["seconds"].as_f64().unwrap_or(f64::NAN);
                match turn.slow == Some(guest.host) {
                    true => figures.slow = Some(seconds),
                    false => figures.times.push(seconds),
                }
            }
            if let Ending::Absent = guest.ending {
                let bytes = |name: &str| guest.image[name].as_u64().unwrap_or(0);
                let fetched = bytes("from_peers") + bytes("from_origin");
                figures.noticed += fetched.saturating_sub(scale.working_set) / super::boot::EXTENT;
            }
        }
        figures.times.sort_by(f64::total_cmp);
        figures
    }

    fn add(&mut self, guest: &Outcome, on_link: f64) {
        self.most_upload = self.most_upload.max(guest.traffic.sent as f64 / on_link);
        self.noticed += guest.image["corrupt"].as_u64().unwrap_or(0);
        let trouble = match &guest.ending {
            Ending::Booted(told) => {
                self.wrong_bytes += told["wrong_bytes"].as_u64().unwrap_or(u64::MAX);
                self.errors += told["errors"].as_u64().unwrap_or(u64::MAX);
                let longest = told["longest_ms"].as_f64().unwrap_or(f64::NAN) / 1000.0;
                self.longest_stall = self.longest_stall.max(longest);
                told["first_trouble"].as_str().map(str::to_owned)
            }
            Ending::Failed(cause) => {
                self.errors += 1;
                Some(cause.clone())
            }
            Ending::Killed | Ending::Absent => None,
        };
        if let Some(trouble) = trouble {
            self.first_trouble
                .get_or_insert_with(|| format!("host {}: {trouble}", guest.host));
        }
    }

    pub(super) fn last(&self) -> f64 {
        self.times.last().copied().unwrap_or(f64::NAN)
    }

    pub(super) fn median(&self) -> f64 {
        Spread::of(self.times.clone()).map_or(f64::NAN, |spread| spread.median)
    }
}

/// All storms of one kind.
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) turns: Vec<(Turn, Figures)>,
}

impl Row {
    /// Those that count; all if none does.
    fn counted(&self) -> impl Iterator<Item = &(Turn, Figures)> {
        let all_void = self.is_void();
        self.turns
            .iter()
            .filter(move |(turn, _)| all_void || !turn.is_void())
    }

    /// True if none of them counts.
    pub(super) fn is_void(&self) -> bool {
        self.turns.iter().all(|(turn, _)| turn.is_void())
    }

    /// No guest saw an error or a wrong byte, whether its time counts or not; a spoilt cache was noticed.
    pub(super) fn is_sound(&self) -> bool {
        self.turns.iter().all(|(turn, figures)| {
            let struck = turn.kind != Kind::Fault(super::turn::Fault::Corrupt);
            figures.errors == 0 && figures.wrong_bytes == 0 && (struck || figures.noticed > 0)
        })
    }

    fn spread(&self, of: impl Fn(&(Turn, Figures)) -> f64) -> Option<Spread> {
        Spread::of(self.counted().map(of).collect())
    }

    /// What is written down of it.
    pub(super) fn json(&self, scale: Scale) -> Value {
        let spread = |of: &dyn Fn(&(Turn, Figures)) -> f64| match self.spread(of) {
            Some(Spread {
                median,
                least,
                most,
            }) => json!({ "median": median, "least": least, "most": most }),
            None => Value::Null,
        };
        let sum = |of: fn(&Figures) -> u64| {
            let all = self.turns.iter().map(|(_, figures)| of(figures));
            all.fold(0, u64::saturating_add)
        };
        let void = self.turns.iter().filter(|(turn, _)| turn.is_void()).count();
        let trouble = self
            .turns
            .iter()
            .find_map(|(_, figures)| figures.first_trouble.clone());
        json!({
            "kind": self.kind.name(),
            "runs": self.turns.len(),
            "void": void,
            "busy": spread(&|(turn, _)| turn.busy),
            "last_seconds": spread(&|(_, figures)| figures.last()),
            "last_over_bound": spread(&|(_, figures)| figures.last() / scale.bound),
            "median_seconds": spread(&|(_, figures)| figures.median()),
            "median_over_bound": spread(&|(_, figures)| figures.median() / scale.bound),
            "origin_copies": spread(&|(_, figures)| figures.copies),
            "max_upload_over_working_set": spread(&|(_, figures)| figures.most_upload),
            "slow_node_seconds": self.slow(),
            "longest_stall_seconds": spread(&|(_, figures)| figures.longest_stall),
            "settled_seconds": self.settled(),
            "wrong_bytes": sum(|figures| figures.wrong_bytes),
            "errors": sum(|figures| figures.errors),
            "first_trouble": trouble,
            "wrong_answers_noticed": sum(|figures| figures.noticed),
            "sound": self.is_sound(),
            // Of the middle run: when each guest was done.
            "times": self.middle().map(|(_, figures)| figures.times.clone()),
        })
    }

    fn settled(&self) -> Option<f64> {
        let all = self.turns.iter().filter_map(|(turn, _)| turn.settled);
        Spread::of(all.map(|(seconds, _)| seconds).collect()).map(|spread| spread.median)
    }

    fn slow(&self) -> Option<f64> {
        let slow = self.counted().filter_map(|(_, figures)| figures.slow);
        Spread::of(slow.collect()).map(|spread| spread.median)
    }

    /// The run whose last node is the median.
    fn middle(&self) -> Option<&(Turn, Figures)> {
        let mut counted: Vec<_> = self.counted().collect();
        counted.sort_by(|(_, one), (_, other)| one.last().total_cmp(&other.last()));
        counted.get(counted.len().checked_sub(1)? / 2).copied()
    }
}

/// A storm with each of its nodes.
pub(super) fn nodes(turn: &Turn) -> Value {
    let guests: Vec<Value> = turn.guests.iter().map(node).collect();
    json!({
        "kind": turn.kind.name(),
        "busy": turn.busy,
        "void": turn.is_void(),
        "settled_seconds": turn.settled.map(|(seconds, _)| seconds),
        "sessions": turn.settled.map(|(_, sessions)| sessions),
        "origin_sent_bytes": turn.origin.sent,
        "nodes": guests,
    })
}

fn node(guest: &Outcome) -> Value {
    let (ending, told) = match &guest.ending {
        Ending::Booted(told) => ("booted", told.clone()),
        Ending::Failed(cause) => ("failed", json!(cause)),
        Ending::Killed => ("killed", Value::Null),
        Ending::Absent => ("absent", Value::Null),
    };
    let bytes = |name: &str| guest.image[name].clone();
    json!({
        "node": guest.host,
        "ending": ending,
        "began_seconds": guest.began,
        "guest": told,
        "sent_bytes": guest.traffic.sent,
        "received_bytes": guest.traffic.received,
        "from_cache": bytes("from_cache"),
        "from_peers": bytes("from_peers"),
        "from_origin": bytes("from_origin"),
        "corrupt": bytes("corrupt"),
        "peers": guest.peers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::storm::net::Traffic;
    use crate::lab::storm::turn::Fault;

    const SCALE: Scale = Scale {
        working_set: 1_000_000,
        bound: 2.0,
    };

    fn turn(kind: Kind, busy: f64, seconds: &[f64]) -> (Turn, Figures) {
        let guests = seconds.iter().zip(1..).map(|(seconds, host)| Outcome {
            host,
            ending: Ending::Booted(json!({
                "seconds": seconds, "wrong_bytes": 0, "errors": 0, "longest_ms": 500.0
            })),
            began: 0.0,
            traffic: Traffic {
                sent: 1_046_349,
                received: 0,
            },
            image: json!({ "corrupt": 0 }),
            peers: Value::Null,
        });
        let turn = Turn {
            kind,
            settled: None,
            slow: None,
            busy,
            origin: Traffic {
                sent: 2_092_698,
                received: 0,
            },
            guests: guests.collect(),
        };
        let figures = Figures::of(&turn, SCALE);
        (turn, figures)
    }

    fn row(turns: Vec<(Turn, Figures)>) -> Row {
        Row {
            kind: Kind::Swarm,
            turns,
        }
    }

    #[test]
    fn bytes_on_the_link_are_more_than_those_of_the_image() {
        assert!((FRAMING - 1.046_346).abs() < 1e-5, "{FRAMING}");
        let (_, figures) = turn(Kind::Swarm, 0.5, &[3.0, 1.0, 2.0]);
        assert!((figures.copies - 2.0).abs() < 1e-3);
        assert!((figures.most_upload - 1.0).abs() < 1e-3);
        assert_eq!((figures.median(), figures.last()), (2.0, 3.0));
        assert_eq!(figures.longest_stall, 0.5);
    }

    #[test]
    fn what_a_busy_machine_did_is_void() {
        let told = row(vec![
            turn(Kind::Swarm, 0.95, &[9.0]),
            turn(Kind::Swarm, 0.5, &[3.0]),
            turn(Kind::Swarm, 0.5, &[5.0]),
        ])
        .json(SCALE);
        assert_eq!((&told["runs"], &told["void"]), (&json!(3), &json!(1)));
        assert_eq!(told["last_seconds"]["median"], 4.0);
        assert_eq!(told["last_over_bound"]["most"], 2.5);
        let all_void = row(vec![turn(Kind::Swarm, 0.95, &[9.0])]);
        assert!(all_void.is_void());
        assert_eq!(all_void.json(SCALE)["last_seconds"]["median"], 9.0);
    }

    #[test]
    fn a_guest_that_fails_or_reads_wrong_bytes_is_seen_in_void_runs_too() {
        let mut bad = turn(Kind::Swarm, 0.99, &[1.0]).0;
        bad.guests[0].ending = Ending::Failed("gone".to_owned());
        let figures = Figures::of(&bad, SCALE);
        assert_eq!(figures.errors, 1);
        let told = row(vec![turn(Kind::Swarm, 0.1, &[1.0]), (bad, figures)]).json(SCALE);
        assert_eq!(told["sound"], false);
        assert_eq!(told["first_trouble"], "host 1: gone");
    }

    #[test]
    fn a_slow_node_is_not_among_the_others() {
        let mut slow = turn(Kind::Fault(Fault::Slow), 0.1, &[3.0, 2.0, 30.0]).0;
        slow.slow = Some(3);
        let figures = Figures::of(&slow, SCALE);
        assert_eq!((figures.times, figures.slow), (vec![2.0, 3.0], Some(30.0)));
    }

    #[test]
    fn rot_that_nobody_noticed_shows_nothing() {
        let kind = Kind::Fault(Fault::Corrupt);
        let mut rotten = turn(kind, 0.1, &[1.0]).0;
        let told = |turn: Turn| {
            let figures = Figures::of(&turn, SCALE);
            row(vec![(turn, figures)]).is_sound()
        };
        assert!(!told(turn(kind, 0.1, &[1.0]).0));
        rotten.guests[0].image = json!({ "corrupt": 1 });
        assert!(told(rotten));
        let mut mended = turn(kind, 0.1, &[1.0]).0;
        mended.guests[0].ending = Ending::Absent;
        mended.guests[0].image = json!({ "corrupt": 0, "from_origin": 1_065_536 });
        assert!(told(mended));
    }
}
