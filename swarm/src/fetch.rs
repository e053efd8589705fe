//! What is done to get one extent: whom to ask, whom to ask next, when to give up.
//!
//! [`Fetch`] is a state machine without clock, sockets and dice: ask it for the [`next`](Fetch::next) action, do that,
//! tell it the [outcome](Fetch::handle), and so on until it ends.
//!
//! Two rules keep a swarm from locking up or running away. **A fetch never waits before it asks again**: a refusal or a
//! silence ends it and is passed down at once, for peers may have joined its flight and would hold their places
//! meanwhile. Whoever may wait does so above the flights, in [`Patient`](crate::Patient), and begins anew, and who was
//! silent is not counted then. And hedges are few and never go to the origin. Nothing here panics.

use std::fmt;
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

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(node) => write!(f, "node {node}"),
            Self::Origin => f.write_str("its origin"),
        }
    }
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The extent came, and is what it should be.
    Answered,
    /// The source refused: too much is under way there, or here on the way to it.
    Busy,
    /// Nothing came from that source for as long as one is patient, or not this.
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
    /// Put this question.
    Ask(Ask),
    /// Nothing: it is over.
    End(End),
}

/// Whom to ask, and how long to wait for an answer before it is an [`Outcome::Silent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub source: Source,
    /// How long nothing at all may come from there.
    pub patience: Duration,
    /// How long this one answer may take where answers take next to nothing.
    pub late: Duration,
}

/// How a fetch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The extent is here.
    Done,
    /// Nobody answers now; whoever asked may try again later.
    Refused,
    /// The origin itself has other content than it should.
    OriginCorrupt,
}

/// The limits of a [`Fetch`].
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// How long nothing may come from a source whose own source is the origin.
    pub silence: Duration,
    /// How long a single answer may take, on a network where nobody waits. When half of it is over a second source may be
    /// asked.
    pub late: Duration,
    /// How much longer for each node further down: whoever is nearest to a dead or slow node notices first.
    pub per_level: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            silence: Duration::from_millis(250),
            late: Duration::from_millis(250),
            per_level: Duration::from_millis(25),
        }
    }
}

/// Who is there, as one node sees it at one moment.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The attached nodes.
    pub forest: &'a Forest,
    /// Who looks.
    pub me: &'a NodeName,
    /// Whom to leave out: the dead, the slow and the liars.
    pub absent: &'a [NodeName],
}

/// The fetch of one extent for one class.
#[derive(Clone, Debug)]
pub struct Fetch {
    options: FetchOptions,
    tree: Tree,
    class: Class,
    end: Option<End>,
    /// Those that failed this very fetch: not counted any more.
    failed: Vec<NodeName>,
}

impl Fetch {
    /// Begins to fetch an extent.
    pub fn new(extent: Extent, class: Class, options: FetchOptions) -> Self {
        Self {
            options,
            tree: Tree::of(extent),
            class,
            end: None,
            failed: Vec::new(),
        }
    }

    /// What to do now.
    pub fn next(&self, view: &View<'_>) -> Action {
        self.end.map_or_else(|| self.ask(view), Action::End)
    }

    /// Takes note of what became of a question.
    pub fn handle(&mut self, source: &Source, outcome: Outcome) {
        match (outcome, source) {
            _ if self.end == Some(End::Done) => {}
            (Outcome::Answered, _) => self.end = Some(End::Done),
            (Outcome::Corrupt, Source::Origin) => self.end = Some(End::OriginCorrupt),
            (Outcome::Dead | Outcome::Corrupt | Outcome::NotAttached, Source::Peer(node))
                if self.failed.len() < MAX_FAILED =>
            {
                self.failed.push(node.clone());
            }
            _ => self.end = Some(End::Refused),
        }
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

    fn ask(&self, view: &View<'_>) -> Action {
        let depth = view.forest.depth(view.me, self.tree, view.absent);
        let levels = self.options.per_level * depth;
        Action::Ask(Ask {
            source: self.ancestors(view).next().unwrap_or(Source::Origin),
            patience: self.options.silence + levels,
            late: self.options.late + levels,
        })
    }

    /// The way to the origin without those that failed.
    fn ancestors<'a>(&self, view: &View<'a>) -> impl Iterator<Item = Source> + use<'a> {
        let path = if self.failed.is_empty() {
            view.forest.path(view.me, self.tree, view.absent)
        } else {
            let absent = [view.absent, &self.failed].concat();
            view.forest.path(view.me, self.tree, &absent)
        };
        path.map(|parent| match parent {
            Parent::Node(node) => Source::Peer(node),
            Parent::Origin => Source::Origin,
        })
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

/// Nodes that may fail one fetch: so many in a row are no accident of single nodes.
const MAX_FAILED: usize = 8;

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
