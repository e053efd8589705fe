//! The suite is judged: a sound target passes, and every check notices a target that breaks its rule.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

mod broken;
#[path = "broken/readable.rs"]
mod readable;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use broken::{Broken, Fault, Kind, faults, nothing};
use futures::StreamExt as _;
use iscsi_conformance::{Check, Credentials, Judged, Outcome, Subject, judge, probe};
use readable::readable;

/// How many broken targets are looked at together.
const AT_ONCE: usize = 8;

fn subject(broken: &Broken, patience: Duration) -> Subject {
    let [chap, mutual] = broken::CHAP.map(|(user, secret)| Credentials {
        user: user.to_owned(),
        secret: secret.as_bytes().to_vec().into(),
    });
    Subject {
        address: broken.address.to_string(),
        target: broken::NAME.to_owned(),
        lun: 0,
        initiator: "iqn.2013-07.org.vmthunder:conformance".to_owned(),
        chap: Some(chap),
        mutual: Some(mutual),
        patience,
    }
}

/// Judges one target by some checks; the facts are those of the sound target.
async fn judged(kind: Kind, fault: Option<&Fault>, checks: &[&'static Check]) -> Vec<Judged> {
    let sound = Broken::start(kind, nothing()).await;
    let facts = probe(&subject(&sound, Duration::from_secs(10)))
        .await
        .unwrap();
    match fault {
        None => {
            judge(
                &subject(&sound, Duration::from_secs(10)),
                &facts,
                checks,
                |_| {},
            )
            .await
        }
        Some(fault) => {
            let broken = Broken::start(kind, (fault.saboteur)()).await;
            judge(
                &subject(&broken, Duration::from_millis(1500)),
                &facts,
                checks,
                |_| {},
            )
            .await
        }
    }
    .judged
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_targets_fail_no_check_and_every_check_passes_on_one() {
    let only = std::env::var("CHECK").unwrap_or_default();
    let mut all = iscsi_conformance::all();
    all.retain(|check| check.rule.name.contains(&only));
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut passed = BTreeSet::new();
    for kind in Kind::ALL {
        for judged in judged(kind, None, &all).await {
            match judged.outcome {
                Outcome::Passed => {
                    passed.insert(judged.rule.name);
                }
                Outcome::Skipped => {
                    let reason = format!("{kind:?}: {}", judged.detail);
                    reasons.entry(judged.rule.name).or_default().push(reason);
                }
                Outcome::Failed | Outcome::Waived | Outcome::Error => {
                    panic!("{kind:?} {judged:#?}")
                }
            }
        }
    }
    reasons.retain(|name, _| !passed.contains(name));
    assert!(reasons.is_empty(), "skipped everywhere: {reasons:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_notices_the_fault_that_breaks_its_rule() {
    let all = iscsi_conformance::all();
    let named: BTreeMap<&str, &'static Check> =
        all.iter().map(|check| (check.rule.name, *check)).collect();
    let only = std::env::var("FAULT").unwrap_or_default();
    let wanted = |fault: &&&Fault| fault.name.contains(&only) || fault.trips.contains(&only);
    let faults = faults::all();
    let runs = faults.iter().filter(wanted).map(|fault| async {
        let check = named.get(fault.trips);
        let check = check.unwrap_or_else(|| panic!("no check is called {}", fault.trips));
        let judged = judged(fault.behind, Some(fault), &[*check]).await;
        (fault.name, fault.trips, judged)
    });
    let mut runs = futures::stream::iter(runs).buffer_unordered(AT_ONCE);
    let (mut caught, mut missed) = (0, Vec::new());
    while let Some((name, trips, judged)) = runs.next().await {
        let noticed = judged
            .iter()
            .all(|judged| judged.outcome == Outcome::Failed);
        println!(
            "{trips}: {name}: {}",
            judged.first().map_or("", |judged| &judged.detail)
        );
        caught += usize::from(noticed);
        if !noticed || !judged.iter().all(|judged| readable(&judged.detail)) {
            missed.push(format!("{name}: {judged:#?}"));
        }
    }
    assert!(
        missed.is_empty(),
        "not noticed, or not in plain words:\n{}",
        missed.join("\n")
    );
    println!("{} checks, {caught} faults, every one noticed", all.len());
}

#[test]
fn every_check_has_a_fault() {
    let faults = faults::all();
    let bare: Vec<&str> = iscsi_conformance::all()
        .iter()
        .map(|check| check.rule.name)
        .filter(|name| faults.iter().all(|fault| fault.trips != *name))
        .collect();
    assert!(bare.is_empty(), "checks that no fault trips: {bare:?}");
}
