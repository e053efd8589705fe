//! The drills are judged: a sound initiator passes, and every drill notices an initiator that breaks its rule.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

#[path = "broken/readable.rs"]
mod readable;
mod stumbling;

use std::collections::BTreeMap;

use futures::StreamExt as _;
use iscsi_conformance::Outcome;
use iscsi_conformance::initiator::{Drill, SessionKind, drills};
use readable::readable;
use stumbling::lawful::HABITS;
use stumbling::{Fault, faults, judged, judged_in_haste, judged_lingering};

/// How many initiators are judged together.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_initiator_passes_every_drill() {
    let only = std::env::var("DRILL").unwrap_or_default();
    let wanted = drills()
        .into_iter()
        .filter(|drill| drill.rule.name.contains(&only));
    let runs = wanted.map(|drill| judged(drill, None));
    let mut runs = futures::stream::iter(runs).buffer_unordered(AT_ONCE);
    let mut not_passed = Vec::new();
    while let Some(judged) = runs.next().await {
        println!(
            "{}: {:?} {} ({:.2} s)",
            judged.rule.name, judged.outcome, judged.detail, judged.seconds
        );
        if judged.outcome != Outcome::Passed {
            not_passed.push(format!("{judged:#?}"));
        }
    }
    assert!(
        not_passed.is_empty(),
        "not passed:\n{}",
        not_passed.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_initiator_with_many_reads_under_way_fails_no_drill() {
    let only = std::env::var("DRILL").unwrap_or_default();
    let wanted = drills()
        .into_iter()
        .filter(|drill| drill.session == SessionKind::Normal && drill.rule.name.contains(&only));
    let mut runs = futures::stream::iter(wanted.map(judged_in_haste)).buffer_unordered(AT_ONCE);
    let mut failed = Vec::new();
    while let Some(judged) = runs.next().await {
        println!(
            "{}: {:?} {} ({:.2} s)",
            judged.rule.name, judged.outcome, judged.detail, judged.seconds
        );
        if judged.outcome == Outcome::Failed {
            failed.push(format!("{judged:#?}"));
        }
    }
    assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_lingers_after_its_logout_is_not_accused() {
    let all = drills();
    let mut drills = all.into_iter();
    let drill = drills.find(|drill| drill.rule.name == "nop.answered");
    let judged = judged_lingering(drill.unwrap()).await;
    assert_eq!(judged.outcome, Outcome::Passed, "{judged:#?}");
    assert!(judged.detail.contains("did not end"), "{judged:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_drill_notices_the_fault_that_breaks_its_rule() {
    let all = drills();
    let named: BTreeMap<&str, &'static Drill> =
        all.iter().map(|drill| (drill.rule.name, *drill)).collect();
    let only = std::env::var("FAULT").unwrap_or_default();
    let wanted = |fault: &&Fault| fault.name.contains(&only) || fault.trips.contains(&only);
    let faults = faults::all();
    let runs = faults.iter().copied().filter(wanted).map(|fault| {
        let drill = named.get(fault.trips).copied();
        let drill = drill.unwrap_or_else(|| panic!("no drill is called {}", fault.trips));
        async move { (fault, judged(drill, Some(fault.saboteur)).await) }
    });
    let mut runs = futures::stream::iter(runs).buffer_unordered(AT_ONCE);
    let (mut caught, mut missed) = (0, Vec::new());
    while let Some((fault, judged)) = runs.next().await {
        println!(
            "{}: {}: {} ({:.2} s)",
            fault.trips, fault.name, judged.detail, judged.seconds
        );
        match judged.outcome {
            Outcome::Failed if readable(&judged.detail) => caught += 1,
            _ => missed.push(format!("{}: {judged:#?}", fault.name)),
        }
    }
    assert!(
        missed.is_empty(),
        "not noticed, or not in plain words:\n{}",
        missed.join("\n")
    );
    println!("{} drills, {caught} faults, every one noticed", all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_accused_for_a_lawful_habit() {
    let all = drills();
    let runs = HABITS.iter().map(|habit| {
        let drill = all.iter().find(|drill| drill.rule.name == habit.drill);
        let drill = drill.unwrap_or_else(|| panic!("no drill is called {}", habit.drill));
        async move { (habit, judged(drill, Some(habit.saboteur)).await) }
    });
    let mut runs = futures::stream::iter(runs).buffer_unordered(AT_ONCE);
    let mut accused = Vec::new();
    while let Some((habit, judged)) = runs.next().await {
        println!(
            "{}: {}: {:?} {}",
            habit.drill, habit.name, judged.outcome, judged.detail
        );
        if judged.outcome == Outcome::Failed {
            accused.push(format!("{}: {judged:#?}", habit.name));
        }
    }
    assert!(accused.is_empty(), "accused:\n{}", accused.join("\n"));
}

#[test]
fn every_drill_has_a_fault_and_a_name_of_its_own() {
    let faults = faults::all();
    let all = drills();
    let bare: Vec<&str> = all
        .iter()
        .map(|drill| drill.rule.name)
        .filter(|name| faults.iter().all(|fault| fault.trips != *name))
        .collect();
    assert!(bare.is_empty(), "drills that no fault trips: {bare:?}");
    let named: BTreeMap<&str, ()> = all.iter().map(|drill| (drill.rule.name, ())).collect();
    assert_eq!(named.len(), all.len(), "two drills have the same name");
}
