//! Connections that have not logged in yet: so many at once, and nobody keeps others out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::access::neighbourhood;

/// Where connections wait for their login.
#[derive(Debug)]
pub(crate) struct Lobby {
    limit: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By the order in which they came, for each source.
    by_source: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    count: usize,
    latest: u64,
}

/// A connection's place, until it has logged in.
#[derive(Debug)]
pub(crate) struct Place {
    /// Cancelled when the place is another's.
    pub(crate) lost: CancellationToken,
    source: IpAddr,
    number: u64,
    lobby: Arc<Lobby>,
}

impl Lobby {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            waiting: Mutex::default(),
        }
    }

    /// Takes a connection in. When there are too many, the oldest of the source that has most loses its place: whoever
    /// fills the lobby drives itself out, and one who logs in without delay hardly ever notices.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Place {
        let source = neighbourhood(from);
        let lost = CancellationToken::new();
        let mut waiting = self.lock();
        waiting.latest += 1;
        let number = waiting.latest;
        waiting
            .by_source
            .entry(source)
            .or_default()
            .insert(number, lost.clone());
        waiting.count += 1;
        while waiting.count > self.limit && waiting.drive_out() {}
        Place {
            lost,
            source,
            number,
            lobby: Arc::clone(self),
        }
    }

    /// Makes room for what the operating system lacks; false if nobody waits.
    pub(crate) fn make_room(&self) -> bool {
        self.lock().drive_out()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn drive_out(&mut self) -> bool {
        // Among equals, the one with the oldest connection.
        let rank = |places: &BTreeMap<u64, CancellationToken>| {
            let oldest = places.keys().next().copied().unwrap_or(u64::MAX);
            (places.len(), u64::MAX - oldest)
        };
        let busiest = self
            .by_source
            .iter()
            .max_by_key(|(_, places)| rank(places))
            .map(|(source, _)| *source);
        let Some(places) = busiest.and_then(|source| self.by_source.get_mut(&source)) else {
            return false;
        };
        let oldest = places.pop_first();
        if places.is_empty()
            && let Some(source) = busiest
        {
            self.by_source.remove(&source);
        }
        if let Some((_, lost)) = &oldest {
            lost.cancel();
            self.count -= 1;
        }
        oldest.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.lobby.lock();
        let Some(places) = waiting.by_source.get_mut(&self.source) else {
            return;
        };
        if places.remove(&self.number).is_some() {
            let empty = places.is_empty();
            waiting.count -= 1;
            if empty {
                waiting.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::{Lobby, Place};

    fn enter(lobby: &Arc<Lobby>, from: &str) -> Place {
        let from: IpAddr = from.parse().unwrap();
        lobby.enter(from)
    }

    #[test]
    fn who_fills_the_lobby_drives_itself_out() {
        let lobby = Arc::new(Lobby::new(4));
        let quiet = enter(&lobby, "10.0.0.1");
        let flood: Vec<Place> = (0..100).map(|_| enter(&lobby, "10.0.0.2")).collect();
        assert!(!quiet.lost.is_cancelled());
        let still: Vec<bool> = flood
            .iter()
            .map(|place| !place.lost.is_cancelled())
            .collect();
        assert!(still[97..].iter().all(|still| *still) && !still[..97].contains(&true));
        let late = enter(&lobby, "10.0.0.3");
        assert!(!late.lost.is_cancelled() && flood[97].lost.is_cancelled());
        drop(flood);
        assert_eq!(lobby.lock().count, 2);
        drop((quiet, late));
        assert!(lobby.lock().by_source.is_empty() && lobby.lock().count == 0);
    }

    #[test]
    fn among_equals_the_oldest_goes() {
        let lobby = Arc::new(Lobby::new(2));
        let first = enter(&lobby, "10.0.0.1");
        let second = enter(&lobby, "10.0.0.2");
        let third = enter(&lobby, "10.0.0.3");
        assert!(first.lost.is_cancelled());
        assert!(!second.lost.is_cancelled() && !third.lost.is_cancelled());
        assert!(lobby.make_room() && second.lost.is_cancelled());
        assert!(lobby.make_room() && !lobby.make_room());
    }

    #[test]
    fn a_host_has_one_source_whatever_address_it_makes_up() {
        let lobby = Arc::new(Lobby::new(2));
        let quiet = enter(&lobby, "2001:db8:0:2::1");
        let made_up: Vec<Place> = (1..10)
            .map(|host| enter(&lobby, &format!("2001:db8:0:1::{host}")))
            .collect();
        assert!(!quiet.lost.is_cancelled());
        drop(made_up);
    }
}
