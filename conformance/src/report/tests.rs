//! A report with every outcome, from a peer that would like to break it.

use std::time::{Duration, SystemTime};

use super::{About, Peer, html, json, junit};
use crate::check::{Level, Rule};
use crate::probe::Facts;
use crate::run::{Judged, Outcome, Report};

const RULES: [Rule; 4] = [
    rule("login.one", Level::Must),
    rule("login.two", Level::Should),
    rule("nop.echo", Level::Must),
    rule("write.zero", Level::Must),
];

const fn rule(name: &'static str, level: Level) -> Rule {
    Rule {
        name,
        section: "RFC 7143 §6.2",
        level,
        sends: "a thing",
        expects: "another & thing",
    }
}

/// `login.one` passed, `login.two` and `write.zero` failed, `nop.echo` was skipped.
pub(crate) fn report() -> Report {
    let rules: &'static [Rule; 4] = &RULES;
    let [one, two, three, four] = rules.each_ref();
    let failed = |rule| Judged {
        rule,
        outcome: Outcome::Failed,
        detail: "</script><img src=x onerror=\"alert(1)\"> & ]]> came".to_owned(),
        transcript: vec!["  0.001 [1] -> NOP-Out <b>".to_owned()],
        seconds: 0.25,
    };
    let passed = Judged {
        outcome: Outcome::Passed,
        ..Judged::skipped(one, "")
    };
    Report {
        judged: vec![
            passed,
            failed(two),
            Judged::skipped(three, "why not"),
            failed(four),
        ],
        broken_off: None,
    }
}

fn about() -> About {
    About {
        peer: Peer::Target,
        subject: "iscsi://127.0.0.1:3260/iqn.2026-11.org.vmthunder:disk/0".to_owned(),
        facts: Some(Facts {
            block_bytes: 512,
            blocks: 2048,
            serial: "S <1>".to_owned(),
            product: "VENDOR & SONS".to_owned(),
            read_only: false,
        }),
        destructive: true,
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        took: Duration::from_millis(1500),
        unneeded_waivers: vec!["login.one".to_owned()],
    }
}

#[test]
fn json_is_one_object_with_a_verdict_for_each_check() {
    let text = json(&about(), &report());
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["peer"], "target");
    assert_eq!(object["started"], "2023-11-14T22:13:20Z");
    assert_eq!(object["counts"]["failed"], 2);
    assert_eq!(object["broken_off"], serde_json::Value::Null);
    let checks = object["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 4);
    let two = &checks[1];
    assert_eq!(two["name"], "login.two");
    assert_eq!(two["section"], "RFC 7143 §6.2");
    assert_eq!(two["level"], "SHOULD");
    assert_eq!(two["outcome"], "failed");
    assert!(two["detail"].as_str().unwrap().ends_with("]]> came"));
    assert_eq!(two["pdus"].as_array().unwrap().len(), 1);
    assert_eq!(checks[2]["outcome"], "skipped");
    assert_eq!(checks[2]["detail"], "why not");
}

#[test]
fn junit_has_a_suite_for_each_family() {
    let text = junit(&about(), &report()).unwrap();
    let read = quick_junit::Report::deserialize_from_str(&text).unwrap();
    let figures = (read.tests, read.failures, read.errors);
    assert_eq!(figures, (4, 2, 0));
    let suites = read
        .test_suites
        .iter()
        .map(|suite| (suite.name.as_str(), suite.tests));
    assert_eq!(
        suites.collect::<Vec<_>>(),
        [("login", 2), ("nop", 1), ("write", 1)]
    );
    let failed = &read.test_suites[0].test_cases[1];
    let quick_junit::TestCaseStatus::NonSuccess {
        message,
        description,
        ..
    } = &failed.status
    else {
        panic!("{failed:?}");
    };
    assert_eq!(
        message.as_ref().unwrap().as_str(),
        report().judged[1].detail
    );
    let level = |at: usize| {
        let mut properties = read.test_suites[0].test_cases[at].properties.iter();
        let level = properties.find(|property| property.name.as_str() == "level");
        level.unwrap().value.as_str().to_owned()
    };
    assert_eq!([level(0), level(1)], ["MUST", "SHOULD"]);
    let description = description.as_ref().unwrap();
    assert!(description.contains("expects: another & thing"));
    assert!(description.contains("NOP-Out <b>"));
}

#[test]
fn the_page_escapes_what_came_from_outside_and_loads_nothing() {
    let text = html(&about(), &report());
    assert!(!text.contains("<img"), "{text}");
    assert!(!text.contains("NOP-Out <b>"));
    assert!(text.contains("S &lt;1&gt;"));
    assert!(text.contains("VENDOR &amp; SONS"));
    // No script but the page's own.
    assert_eq!(text.matches("<script").count(), 1);
    assert_eq!(text.matches("</script").count(), 1);
    for outside in ["http://", "https://", "src=\"", "url(", "@import", "<link"] {
        assert!(!text.contains(outside), "{outside}");
    }
    assert!(text.contains("passed this time"));
}

#[test]
fn the_summary_counts_and_names_families() {
    let report = report();
    assert_eq!(
        report.summary(),
        "1 passed, 2 failed (1 of them a SHOULD), 1 skipped"
    );
    let names: Vec<_> = report.families().iter().map(|family| family.name).collect();
    assert_eq!(names, ["login", "nop", "write"]);
}

#[test]
fn an_error_of_the_suite_stands_in_every_report() {
    let sound = report();
    for text in [json(&about(), &sound), html(&about(), &sound)] {
        assert!(
            !text.contains("\"error\"") || text.contains("\"error\": 0"),
            "{text}"
        );
    }
    let mut report = sound;
    report.judged[1].outcome = Outcome::Error;
    assert_eq!(report.summary(), "1 passed, 1 failed, 1 skipped, 1 error");
    let object: serde_json::Value = serde_json::from_str(&json(&about(), &report)).unwrap();
    assert_eq!(object["counts"]["error"], 1);
    assert_eq!(object["checks"][1]["outcome"], "error");
    let read = junit(&about(), &report).unwrap();
    let read = quick_junit::Report::deserialize_from_str(&read).unwrap();
    assert_eq!((read.failures, read.errors), (1, 1));
    assert!(html(&about(), &report).contains("data-outcome=\"error\" open"));
}
