//! What is done to get one extent: whom to ask, when to ask again, when to give up.
//!
//! [`Fetch`] is a state machine without clock, sockets and dice: ask it for the [`next`](Fetch::next) action, do that,
//! tell it the [outcome](Fetch::handle), and so on until it is done, refuses or fails.
//!
//! Two rules keep a swarm from locking up or running away. **A request that is forwarded for a peer never waits**: a
//! refusal is passed down at once, so a forwarder holds nothing while it waits for something. Where peers can join the
//! flight of a local request, that one must not wait either: with [`Waiting::Outside`] it is refused too, and whoever
//! wants the extent waits above the flights (a [`Backoff`] says how long) and begins anew. And what a node does about
//! silence is limited: only a local demand climbs, one ancestor for one silence, and hedges are few and never
//! go to the origin. Nothing here panics.

use std::time::Duration;

use vmthunder_volume::{Class, Extent};

use crate::forest::{Forest, NodeName, Parent, Tree};

/// Somebody who may have an extent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Another node.
    Peer(NodeName),
    /// Where the image lives.
    Origin,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The extent came, and is what it should be.
    Answered,
    /// The source refused: too much is under way there, or here on the way to it.
    Busy,
    /// Nothing came from that source for as long as one is patient.
    Silent,
    /// The source cannot be reached, or fails.
    Dead,
    /// The source answered with other content than it should.
    Corrupt,
    /// The source is there but does not serve this image.
    NotAttached,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask this source, and be so patient before its silence is an [`Outcome::Silent`].
    Ask {
        /// Whom.
        source: Source,
        /// How long.
        patience: Duration,
    },
    /// Wait so long, then ask for the next action.
    Wait(Duration),
    /// The extent is here.
    Done,
    /// Tell the peer that asked to try again later.
    Refuse,
    /// Nobody can answer.
    Fail(Failure),
}

/// Why nobody can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No source answered before the deadline.
    Deadline,
    /// The origin itself has other content than it should.
    OriginCorrupt,
}

/// The limits of a [`Fetch`].
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// How long nothing may come from a source whose own source is the origin.
    pub silence: Duration,
    /// How much longer for each node further down: whoever is nearest to a dead node notices first.
    pub silence_per_level: Duration,
    /// When a second source may be asked, counted from the question to the first.
    pub hedge_after: Duration,
    /// Where a local request waits that was refused.
    pub waiting: Waiting,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            silence: Duration::from_millis(250),
            silence_per_level: Duration::from_millis(25),
            hedge_after: Duration::from_millis(100),
            waiting: Waiting::Inside,
        }
    }
}

/// Where a local request waits that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// In the fetch. Peers that joined its flight wait with it and hold their places meanwhile.
    Inside,
    /// Above the flights: the fetch refuses, as it does for peers.
    Outside,
}

/// Who is there, as one node sees it at one moment.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The attached nodes.
    pub forest: &'a Forest,
    /// Who looks.
    pub me: &'a NodeName,
    /// Whom to leave out: the dead, the slow and the liars.
    pub absent: &'a dyn Fn(&NodeName) -> bool,
}

/// The fetch of one extent for one class.
#[derive(Clone, Debug)]
pub struct Fetch {
    options: FetchOptions,
    tree: Tree,
    class: Class,
    deadline: Duration,
    state: State,
    /// Those that failed this very fetch: not counted any more.
    failed: Vec<NodeName>,
    /// Those that were silent: counted but passed over.
    silent: Vec<NodeName>,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Refused,
    Ended(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Refuse,
    Fail(Failure),
}

impl Fetch {
    /// Begins to fetch an extent; at the moment `deadline` it is given up.
    pub fn new(extent: Extent, class: Class, deadline: Duration, options: FetchOptions) -> Self {
        Self {
            tree: Tree::of(extent),
            class,
            deadline,
            options,
            state: State::Ready,
            failed: Vec::new(),
            silent: Vec::new(),
            backoff: Backoff::default(),
        }
    }

    /// What to do now. `jitter` is any number, best a random one.
    pub fn next(&mut self, now: Duration, jitter: u64, view: &View<'_>) -> Action {
        match self.state {
            State::Ended(End::Done) => Action::Done,
            State::Ended(End::Refuse) => Action::Refuse,
            State::Ended(End::Fail(failure)) => Action::Fail(failure),
            State::Ready | State::Refused if now >= self.deadline => self.end_late(),
            State::Refused => self.wait(now, jitter),
            State::Ready => self.ask(view),
        }
    }

    /// Takes note of what became of a question.
    pub fn handle(&mut self, source: &Source, outcome: Outcome) {
        let never_waits = self.never_waits();
        let climbs = self.class == Class::Demand;
        self.state = match (outcome, source) {
            _ if self.state == State::Ended(End::Done) => return,
            (Outcome::Answered, _) => State::Ended(End::Done),
            (Outcome::Corrupt, Source::Origin) => State::Ended(End::Fail(Failure::OriginCorrupt)),
            (Outcome::Dead | Outcome::Corrupt | Outcome::NotAttached, Source::Peer(node)) => {
                self.leave_out(node)
            }
            (Outcome::Busy | Outcome::Silent, _) | (_, Source::Origin) if never_waits => {
                State::Ended(End::Refuse)
            }
            (Outcome::Silent, Source::Peer(node)) if climbs => self.climb_over(node),
            (Outcome::Busy | Outcome::Silent, _) | (_, Source::Origin) => State::Refused,
        };
    }

    /// A second source to ask while `asked` has not answered yet: the next ancestor, never the origin, and for a local
    /// demand only. The caller keeps to a [`HedgeBudget`].
    pub fn hedge(&self, asked: &Source, view: &View<'_>) -> Option<Source> {
        if self.class != Class::Demand {
            return None;
        }
        let behind = self
            .ancestors(view)
            .skip_while(|source| source != asked)
            .nth(1);
        behind.filter(|source| *source != Source::Origin)
    }

    /// Ancestors that were passed over because they were silent.
    pub fn climbs(&self) -> usize {
        self.silent.len()
    }

    fn ask(&self, view: &View<'_>) -> Action {
        let depth = view.forest.depth(view.me, self.tree, view.absent);
        let patience = self.options.silence + self.options.silence_per_level * depth;
        let source = self.ancestors(view).next().unwrap_or(Source::Origin);
        Action::Ask { source, patience }
    }

    /// The way to the origin without those that failed or were silent.
    fn ancestors(&self, view: &View<'_>) -> impl Iterator<Item = Source> {
        let absent = |node: &NodeName| self.failed.contains(node) || (view.absent)(node);
        let path: Vec<Parent> = view.forest.path(view.me, self.tree, &absent).collect();
        path.into_iter().filter_map(|parent| match parent {
            Parent::Node(node) if self.silent.contains(&node) => None,
            Parent::Node(node) => Some(Source::Peer(node)),
            Parent::Origin => Some(Source::Origin),
        })
    }

    fn wait(&mut self, now: Duration, jitter: u64) -> Action {
        self.state = State::Ready;
        let wait = self.backoff.next(jitter);
        Action::Wait(wait.min(self.deadline.saturating_sub(now)))
    }

    fn never_waits(&self) -> bool {
        self.class == Class::Peer || self.options.waiting == Waiting::Outside
    }

    fn leave_out(&mut self, node: &NodeName) -> State {
        if self.failed.len() < MAX_FAILED {
            self.failed.push(node.clone());
            return State::Ready;
        }
        // So many in a row are no accident of single nodes; start afresh after a wait.
        self.failed.clear();
        self.refused()
    }

    fn climb_over(&mut self, node: &NodeName) -> State {
        if self.silent.len() >= MAX_CLIMBS {
            return self.refused();
        }
        self.silent.push(node.clone());
        State::Ready
    }

    fn refused(&self) -> State {
        if self.never_waits() {
            State::Ended(End::Refuse)
        } else {
            State::Refused
        }
    }

    fn end_late(&mut self) -> Action {
        let (end, action) = match self.class {
            Class::Peer => (End::Refuse, Action::Refuse),
            _ => (
                End::Fail(Failure::Deadline),
                Action::Fail(Failure::Deadline),
            ),
        };
        self.state = State::Ended(end);
        action
    }
}

/// How long somebody waits who was refused: twice as long each time, up to a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    refusals: u32,
}

impl Backoff {
    /// The next wait. `jitter` is any number, best a random one: between a half and one and a half of the time that is
    /// meant, so that those refused together do not come back together.
    pub fn next(&mut self, jitter: u64) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.refusals.min(MAX_DOUBLINGS));
        self.refusals = self.refusals.saturating_add(1);
        let wait = doubled.min(LONGEST_WAIT);
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).max(1);
        wait / 2 + Duration::from_nanos(jitter % nanos)
    }
}

/// Keeps hedges below a fiftieth of all questions: without a limit they turn a slow moment into a storm.
#[derive(Clone, Copy, Debug, Default)]
pub struct HedgeBudget {
    asked: u64,
    hedged: u64,
}

impl HedgeBudget {
    /// Counts a question.
    pub fn asked(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    /// Takes leave for one hedge, if there is one.
    pub fn take(&mut self) -> bool {
        let allowed = (self.hedged + 1).saturating_mul(50) <= self.asked;
        self.hedged += u64::from(allowed);
        allowed
    }
}

/// The first wait of somebody who was refused.
const FIRST_WAIT: Duration = Duration::from_millis(2);
/// The longest one: a fraction of what a guest notices, and some hundred times what a question costs.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// Nodes that may fail one fetch before it waits and begins again.
const MAX_FAILED: usize = 8;
/// Ancestors that one fetch may climb over.
const MAX_CLIMBS: usize = 16;
/// Doublings of a wait.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
