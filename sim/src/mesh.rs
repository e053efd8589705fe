//! For comparison: a mesh in which everybody fetches what is rarest among its neighbours first, as file sharing does.
//!
//! It is treated kindly. Who has what is known at once and for nothing, nobody is choked, disks cost nothing, and nobody
//! dies. Guests read nothing before all is there, or they would stall: what is rarest is not what they want next.

use std::time::Duration;

use crate::agenda::Agenda;
use crate::dice::Dice;
use crate::link::Link;
use crate::{Report, Scenario};

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A node begins, or looks again for something to ask for.
    Look(u32),
    Arrive(Ask),
    Sent(u32),
    Come(Ask),
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    asker: u32,
    host: u32,
    piece: u32,
}

#[derive(Debug)]
struct Peer {
    link: Link<Ask>,
    /// Neighbours, and how many of their pieces are asked for.
    near: Vec<(u32, u32)>,
    has: Vec<bool>,
    asked: Vec<bool>,
    /// How many neighbours have a piece; and the pieces that are neither here nor asked for.
    common: Vec<u16>,
    wanted: Vec<u32>,
    outstanding: u32,
    looks: bool,
    uploads: u64,
    end: Option<Duration>,
}

struct Mesh<'a> {
    at: &'a Scenario,
    now: Duration,
    agenda: Agenda<Event>,
    dice: Dice,
    peers: Vec<Peer>,
    origin: Link<Ask>,
    report: Report,
}

/// Plays the storm of a scenario in a mesh.
pub(crate) fn play(at: &Scenario) -> Report {
    let mut mesh = Mesh::new(at);
    for node in 0..at.nodes {
        let wait = mesh.dice.within(at.stagger);
        mesh.after(wait, Event::Look(node));
    }
    while let Some((now, event)) = mesh.agenda.next() {
        mesh.now = now;
        mesh.report.events += 1;
        match event {
            Event::Look(node) => mesh.look(node),
            Event::Arrive(ask) => mesh.arrive(ask),
            Event::Sent(host) => mesh.sent(host),
            Event::Come(ask) => mesh.come(ask),
        }
    }
    mesh.conclude()
}

impl<'a> Mesh<'a> {
    fn new(at: &'a Scenario) -> Self {
        let pieces = at.boot.extents.len();
        let mut dice = Dice(at.seed);
        let peers = (0..at.nodes).map(|number| {
            let slowness = if number < at.slow {
                at.slowness.max(1)
            } else {
                1
            };
            Peer {
                link: Link::new(at.rate / slowness),
                near: Vec::new(),
                has: vec![false; pieces],
                asked: vec![false; pieces],
                common: vec![0; pieces],
                wanted: (0..).take(pieces).collect(),
                outstanding: 0,
                looks: false,
                uploads: 0,
                end: None,
            }
        });
        let mut peers: Vec<Peer> = peers.collect();
        let mut befriend = |one: u32, other: u32| {
            if one != other
                && !peers[one as usize]
                    .near
                    .iter()
                    .any(|(near, _)| *near == other)
            {
                peers[one as usize].near.push((other, 0));
                if let Some(peer) = peers.get_mut(other as usize) {
                    peer.near.push((one, 0));
                }
            }
        };
        for one in 0..at.nodes {
            for _ in 0..NEIGHBOURS / 2 {
                let other = dice.throw() % u64::from(at.nodes);
                befriend(one, u32::try_from(other).unwrap_or_default());
            }
        }
        // The origin is one more neighbour, of a few.
        for _ in 0..NEIGHBOURS {
            let one = dice.throw() % u64::from(at.nodes);
            befriend(u32::try_from(one).unwrap_or_default(), at.nodes);
        }
        Self {
            at,
            now: Duration::ZERO,
            agenda: Agenda::new(),
            dice,
            peers,
            origin: Link::new(at.origin_rate),
            report: Report {
                tick: (at.bound() / 100).max(Duration::from_micros(1)),
                ..Report::default()
            },
        }
    }

    /// Asks for as much as it may.
    fn look(&mut self, node: u32) {
        self.peers[node as usize].looks = false;
        while let Some(ask) = self.choose(node) {
            let peer = &mut self.peers[node as usize];
            peer.outstanding += 1;
            peer.asked[ask.piece as usize] = true;
            peer.link.asked();
            self.report.asked += 1;
            self.after(self.at.round_trip / 2, Event::Arrive(ask));
        }
    }

    /// The rarest of some pieces that a neighbour with room has.
    fn choose(&mut self, node: u32) -> Option<Ask> {
        let most = self.at.prefetch.max(MANY);
        let peer = &self.peers[node as usize];
        if peer.outstanding >= most || peer.wanted.is_empty() {
            return None;
        }
        let room: Vec<u32> = peer
            .near
            .iter()
            .filter(|(_, asks)| *asks < MANY)
            .map(|(near, _)| *near)
            .collect();
        let has = |host: u32, piece: usize| {
            self.peers
                .get(host as usize)
                .is_none_or(|peer| peer.has[piece])
        };
        let (all, start) = (peer.wanted.len(), self.dice.throw());
        let from = usize::try_from(start % all as u64).unwrap_or_default();
        let mut best: Option<(u16, usize, u32)> = None;
        let mut seen = 0;
        for place in (from..all).chain(0..from) {
            let piece = peer.wanted[place] as usize;
            let rarer = best.is_none_or(|(common, _, _)| peer.common[piece] < common);
            if !rarer && seen < DRAWN {
                seen += 1;
                continue;
            }
            let turn = usize::try_from(start >> 32).unwrap_or_default();
            let hosts = (0..room.len()).map(|step| room[(turn + step) % room.len()]);
            if let Some(host) = hosts.into_iter().find(|host| has(*host, piece)) {
                best = Some((peer.common[piece], place, host));
                seen += 1;
            }
            if seen >= DRAWN {
                break;
            }
        }
        let (_, place, host) = best?;
        let peer = &mut self.peers[node as usize];
        let piece = peer.wanted.swap_remove(place);
        for (_, asks) in peer.near.iter_mut().filter(|(near, _)| *near == host) {
            *asks += 1;
        }
        Some(Ask {
            asker: node,
            host,
            piece,
        })
    }

    fn arrive(&mut self, ask: Ask) {
        let connection = u64::from(ask.asker);
        let takes = match self.peers.get_mut(ask.host as usize) {
            Some(peer) => {
                peer.link.was_asked();
                peer.link.send(connection, ask)
            }
            None => self.origin.send(connection, ask),
        };
        if let Some(takes) = takes {
            self.after(takes, Event::Sent(ask.host));
        }
    }

    fn sent(&mut self, host: u32) {
        let (link, uploads) = match self.peers.get_mut(host as usize) {
            Some(peer) => (&mut peer.link, Some(&mut peer.uploads)),
            None => (&mut self.origin, None),
        };
        let ((out, next), takes) = (link.sent(), link.takes());
        match uploads {
            Some(uploads) => *uploads += 1,
            None => self.report.count_origin(self.now),
        }
        if let Some(takes) = next {
            self.after(takes, Event::Sent(host));
        }
        if let Some(ask) = out {
            let (now, way) = (self.now, self.at.round_trip / 2);
            let there = self.peers[ask.asker as usize]
                .link
                .receive(now + way, takes);
            self.after(there - now, Event::Come(ask));
        }
    }

    fn come(&mut self, ask: Ask) {
        let (now, think) = (self.now, self.at.boot.think());
        let peer = &mut self.peers[ask.asker as usize];
        peer.has[ask.piece as usize] = true;
        peer.outstanding -= 1;
        for (_, asks) in peer.near.iter_mut().filter(|(near, _)| *near == ask.host) {
            *asks -= 1;
        }
        if peer.wanted.is_empty() && peer.outstanding == 0 {
            peer.end = Some(now.max(think));
        }
        self.report.delivered += 1;
        let near: Vec<u32> = peer.near.iter().map(|(near, _)| *near).collect();
        for node in near {
            if let Some(peer) = self.peers.get_mut(node as usize) {
                peer.common[ask.piece as usize] += 1;
                // It may be what this one was waiting for.
                if !peer.looks && !peer.asked[ask.piece as usize] {
                    peer.looks = true;
                    self.after(self.at.round_trip / 2, Event::Look(node));
                }
            }
        }
        self.look(ask.asker);
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.agenda.put(self.now + wait, event);
    }

    fn conclude(self) -> Report {
        let ends = |slow: bool| {
            let first = if slow { 0 } else { self.at.slow as usize };
            let ended = self.peers.iter().skip(first);
            let mut ends: Vec<Duration> = ended.filter_map(|peer| peer.end).collect();
            ends.sort_unstable();
            ends
        };
        let (all, fast) = (ends(true), ends(false));
        let uploads = self.peers.iter().map(|peer| peer.uploads).max();
        let mut report = self.report;
        report.stuck = self.at.nodes - u32::try_from(all.len()).unwrap_or_default();
        report.finish(
            all,
            &fast,
            uploads.unwrap_or_default(),
            self.at.boot.extents(),
        );
        report
    }
}

/// Neighbours of a node, on average.
const NEIGHBOURS: u32 = 32;
/// Pieces that are asked of one neighbour at once.
const MANY: u32 = 8;
/// Pieces that are looked at for a choice.
const DRAWN: u32 = 64;
