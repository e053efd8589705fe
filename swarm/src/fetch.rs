//! What is done to get one extent: whom to ask, when to ask again, when to give up.

use std::time::Duration;

use crate::forest::NodeName;

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
