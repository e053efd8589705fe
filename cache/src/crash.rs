//! Crash runs: a workload from a seed, cut before and inside every write and sync in turn. Each time the program is
//! killed, and each time the power goes with several choices of what had arrived; what then opens is compared with a
//! model. Nothing acknowledged may be lost to a kill, nothing flushed to a loss of power, and nothing may ever read
//! as what it never was.
//!
//! A violation names its seed; the same seed gives the same run.

use std::sync::Arc;

use crate::fault::{self, Fault};
use crate::testing::{Arrival, CrashDisk, Dice, Event, Image, Machine};
use crate::{overlay, store};

/// What a run from one seed found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// How often the program was killed or the power went.
    pub(crate) cuts: u64,
    /// What was wrong, up to the first.
    pub(crate) violation: Option<String>,
}

/// How a run ends at a cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// The program dies; the machine goes on.
    Kill,
    /// The machine dies.
    PowerLoss(Arrival),
}

/// Shows `check` the files as cuts before and inside of what is done next leave them, then does it.
pub(crate) fn cut_at(
    images: &mut [Image],
    (disk, event): &(usize, Event),
    dice: &mut Dice,
    verdict: &mut Verdict,
    check: impl Fn(Cut, Vec<Arc<CrashDisk>>) -> Result<(), String>,
) -> Result<(), String> {
    for cut in cuts(dice) {
        verdict.cuts += 1;
        check(cut, leave(images, cut)).map_err(|what| format!("{cut:?} before: {what}"))?;
    }
    if let Some(begun) = begun(event, dice) {
        let mut torn = images.to_vec();
        torn[*disk].apply(&begun);
        for cut in [Cut::Kill, Cut::PowerLoss(Arrival::Everything)] {
            verdict.cuts += 1;
            check(cut, leave(&torn, cut)).map_err(|what| format!("{cut:?} inside: {what}"))?;
        }
    }
    images[*disk].apply(event);
    Ok(())
}

/// The disks of a new program on files as a cut leaves them.
pub(crate) fn leave(images: &[Image], cut: Cut) -> Vec<Arc<CrashDisk>> {
    let machine = Machine::new();
    let disks = images.iter().enumerate().map(|(number, image)| {
        let image = match cut {
            Cut::Kill => image.clone(),
            Cut::PowerLoss(arrival) => image.after_power_loss(arrival),
        };
        CrashDisk::holding(&machine, number, image)
    });
    disks.collect()
}

fn cuts(dice: &mut Dice) -> [Cut; 6] {
    [
        Cut::Kill,
        Cut::PowerLoss(Arrival::Nothing),
        Cut::PowerLoss(Arrival::Everything),
        Cut::PowerLoss(Arrival::Sectors(dice.roll())),
        Cut::PowerLoss(Arrival::Newest(dice.roll())),
        Cut::PowerLoss(Arrival::Oldest(dice.roll())),
    ]
}

/// A long write that only some pages of were done.
fn begun(event: &Event, dice: &mut Dice) -> Option<Event> {
    let Event::Write(offset, bytes) = event else {
        return None;
    };
    let pages = bytes.len().div_ceil(4096);
    let done = usize::try_from(dice.below(pages as u64)).unwrap() * 4096;
    (done > 0).then(|| Event::Write(*offset, bytes[..done].into()))
}

/// One seed of both runs.
fn run(seed: u64) -> Verdict {
    let of_store = store::crash::run(seed);
    let of_overlay = overlay::crash::run(seed);
    Verdict {
        cuts: of_store.cuts + of_overlay.cuts,
        violation: of_store.violation.or(of_overlay.violation),
    }
}

#[test]
fn no_cut_breaks_a_promise() {
    for seed in 0..3 {
        let Verdict { cuts, violation } = run(seed);
        assert!(cuts > 500, "{cuts}");
        assert_eq!(violation, None, "seed {seed}");
    }
}

/// The long run of `cargo xtask soak crash`, which reads what it prints.
#[test]
#[ignore = "started by cargo xtask soak crash"]
fn campaign() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let first = number("CRASH_FIRST_SEED");
    let mut broken = 0;
    for seed in first..first + number("CRASH_SEEDS") {
        let Verdict { cuts, violation } = run(seed);
        println!("\nseed {seed}: {cuts} cuts");
        if let Some(violation) = violation {
            println!("VIOLATION seed {seed}: {violation}");
            broken += 1;
        }
    }
    assert_eq!(broken, 0);
}

/// Makes each fault until a run finds it. The seed beside it is the first that is known to.
fn must_find(run: fn(u64) -> Verdict, faults: &[(Fault, u64)]) {
    for (fault, known) in faults {
        fault::make(Some(*fault));
        let found = (*known..known + 60).find(|seed| run(*seed).violation.is_some());
        fault::make(None);
        println!("{fault:?}: seed {found:?}");
        assert!(found.is_some(), "{fault:?} was not found");
    }
}

#[test]
fn every_fault_of_the_store_is_found() {
    must_find(
        store::crash::run,
        &[
            (Fault::CloseWithoutSync, 0),
            (Fault::CloseTrustsUnverified, 0),
            (Fault::CloseTrustsStale, 4),
            (Fault::OpenTrusts, 0),
            (Fault::EntryFirstAndTrusted, 0),
            (Fault::OldEntryStays, 14),
            (Fault::ForgetWithoutSync, 0),
            (Fault::ForgetLeavesTwins, 4),
        ],
    );
}

#[test]
fn every_fault_of_the_overlay_is_found() {
    must_find(
        overlay::crash::run,
        &[
            (Fault::DataNotSynced, 0),
            (Fault::MapNotSynced, 0),
            (Fault::MapBeforeData, 0),
            (Fault::MasksAfterSync, 0),
            (Fault::DirtyForgotten, 70),
            (Fault::LogForgottenEarly, 0),
            (Fault::NoRecord, 0),
            (Fault::RecordBeforeData, 0),
            (Fault::LogOfAnotherRun, 0),
            (Fault::LogNotEmptied, 0),
            (Fault::LogNotVoided, 1),
            (Fault::PagesBelieved, 0),
            (Fault::OpenCountsAsFlushed, 4),
            (Fault::OpenMapTrusted, 0),
            (Fault::FailedNotCounted, 220),
            (Fault::InPlaceNotCounted, 0),
        ],
    );
}
