//! The report as a page: one file that needs nothing beside it and asks the network for nothing.

use maud::{DOCTYPE, Markup, PreEscaped, html as page};

use crate::report::{About, Family, SUITE, timestamp};
use crate::run::{Judged, Outcome, Report};

/// One HTML page with everything in it; failures unfold into their rules and PDUs.
pub fn html(about: &About, report: &Report) -> String {
    let families = report.families();
    let markup = page! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Whatever a peer put into its answers: the page loads nothing.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
                title { "Conformance of " (about.subject) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(about, report))
                (overview(report, &families))
                (filter(report))
                main {
                    @for family in &families { (section(family)) }
                    p.none hidden { "No check is like that." }
                }
                footer { "Made by " (SUITE) ", " (timestamp(about.started)) "." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    markup.into_string()
}

fn head(about: &About, report: &Report) -> Markup {
    page! {
        header {
            h1 { "iSCSI conformance" }
            p.subject { "The " (about.peer.word()) " " code { (about.subject) } }
            div.tiles {
                @for outcome in report.outcomes() {
                    div.tile.(outcome.word()) {
                        b { (report.count(outcome)) } span { (outcome.word()) }
                    }
                }
            }
            dl {
                @if let Some(facts) = &about.facts {
                    dt { "product" } dd { (facts.product) }
                    dt { "serial number" } dd { (facts.serial) }
                    dt { "size" } dd { (facts.blocks) " blocks of " (facts.block_bytes) " bytes" }
                    @if facts.read_only { dt { "writing" } dd { "write protected" } }
                }
                dt { "begun" } dd { (timestamp(about.started)) }
                dt { "took" } dd { (format!("{:.1} s", about.took.as_secs_f64())) }
                @if !about.destructive {
                    dt { "checks that write" } dd { "left out" }
                }
            }
            @if let Some(why) = &report.broken_off {
                p.warning { "Not all was judged: " (why) "." }
            }
            @for check in &about.unneeded_waivers {
                p.warning { "The waiver of " code { (check) } " was not needed: the check passed this time." }
            }
        }
    }
}

fn overview(report: &Report, families: &[Family<'_>]) -> Markup {
    page! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "family" }
                        @for outcome in report.outcomes() { th.number { (outcome.word()) } }
                        th.share {}
                    }
                }
                tbody {
                    @for family in families {
                        tr {
                            td { a href={ "#" (family.name) } { (family.name) } }
                            @for outcome in report.outcomes() {
                                @let count = family.count(outcome);
                                td.number.(outcome.word()).zero[count == 0] { (count) }
                            }
                            td.share { (bar(family)) }
                        }
                    }
                }
            }
        }
    }
}

/// The outcomes of a family as parts of a line.
fn bar(family: &Family<'_>) -> Markup {
    page! {
        div.bar aria-hidden="true" {
            @for outcome in Outcome::ALL {
                @let count = family.count(outcome);
                @if count > 0 {
                    span.(outcome.word()) style={ "flex-grow: " (count) } {}
                }
            }
        }
    }
}

/// Works where scripts run; without them everything is shown.
fn filter(report: &Report) -> Markup {
    page! {
        form.filter hidden role="search" {
            input type="search" placeholder="name, section, words" aria-label="Filter";
            @for outcome in report.outcomes() {
                @let count = report.count(outcome);
                label.(outcome.word()) {
                    input type="checkbox" value=(outcome.word()) checked disabled[count == 0];
                    " " (outcome.word()) " " (count)
                }
            }
            button type="button" { "unfold all" }
        }
    }
}

fn section(family: &Family<'_>) -> Markup {
    page! {
        section id=(family.name) {
            h2 { (family.name) }
            @for judged in &family.judged { (check(judged)) }
        }
    }
}

fn check(judged: &Judged) -> Markup {
    let rule = judged.rule;
    let failed = matches!(judged.outcome, Outcome::Failed | Outcome::Error);
    page! {
        details.check.(judged.outcome.word()) id=(rule.name) data-outcome=(judged.outcome.word()) open[failed] {
            summary {
                span.badge { (judged.outcome.word()) }
                span.name { (rule.name) }
                span.where { (rule.section) " " span.level { (rule.level.word()) } }
                @if !judged.detail.is_empty() { span.detail { (judged.detail) } }
            }
            dl {
                dt { "sends" } dd { (rule.sends) }
                dt { "expects" } dd { (rule.expects) }
                dt { "took" } dd { (format!("{:.3} s", judged.seconds)) }
            }
            @if !judged.transcript.is_empty() {
                pre {
                    @for line in &judged.transcript {
                        @let way = if line.contains("] -> ") { "sent" }
                            else if line.contains("] <- ") { "received" } else { "note" };
                        span.(way) { (line) }
                    }
                }
            }
        }
    }
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
