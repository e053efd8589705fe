//! Mistakes that a test makes on purpose, by name, to show that the crash runs find them. Outside of this crate's own
//! tests nobody can make one, and the questions compile to nothing.

/// A mistake. Each stands where the code asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Store: closing answers before anything is on media.
    CloseWithoutSync,
    /// Store: a clean mark although extents of an unclean stop were never hashed.
    CloseTrustsUnverified,
    /// Store: a clean mark although a free slot still names what was found rotten.
    CloseTrustsStale,
    /// Store: what is found after an unclean stop is served as it is.
    OpenTrusts,
    /// Store: an entry is written before its data, and believed after a kill.
    EntryFirstAndTrusted,
    /// Store: the old entry stays while its slot is written.
    OldEntryStays,
    /// Store: an image is forgotten before that is on media.
    ForgetWithoutSync,
    /// Store: forgetting leaves what free slots still name.
    ForgetLeavesTwins,
    /// Overlay: a flush does not sync the data.
    DataNotSynced,
    /// Overlay: a flush does not sync the map.
    MapNotSynced,
    /// Overlay: the map goes to media before the data that it names.
    MapBeforeData,
    /// Overlay: the masks that a flush writes are taken after the data was synced.
    MasksAfterSync,
    /// Overlay: masks that could not be written are taken for written.
    DirtyForgotten,
    /// Overlay: the log is forgotten before the map is written.
    LogForgottenEarly,
    /// Overlay: a change is acknowledged without a record.
    NoRecord,
    /// Overlay: the record is written before its data.
    RecordBeforeData,
    /// Overlay: a log of another run of the machine is replayed.
    LogOfAnotherRun,
    /// Overlay: what an older log left stands behind the new one.
    LogNotEmptied,
    /// Overlay: a failed sync leaves the log as it is.
    LogNotVoided,
    /// Overlay: after a failed sync the page cache is believed.
    PagesBelieved,
    /// Overlay: what an earlier program wrote counts as flushed.
    OpenCountsAsFlushed,
    /// Overlay: what a failed write did in part is not counted, so that a flush finds nothing to do.
    FailedNotCounted,
    /// Overlay: the map that an earlier program left counts as synced.
    OpenMapTrusted,
    /// Overlay: a write in place is not counted, so that a flush finds nothing to do.
    InPlaceNotCounted,
}

/// True if the test under way makes this mistake.
#[cfg(not(test))]
pub(crate) const fn made(_: Fault) -> bool {
    false
}

#[cfg(test)]
pub(crate) use under_test::{made, make};

#[cfg(test)]
mod under_test {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static MADE: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// True if the test under way makes this mistake.
    pub(crate) fn made(fault: Fault) -> bool {
        MADE.get() == Some(fault)
    }

    /// Makes a mistake on this thread from now on.
    pub(crate) fn make(fault: Option<Fault>) {
        MADE.set(fault);
    }
}
