//! What storms came to, for people.

use serde_json::Value;

use super::figures::{Figures, Scale};
use super::turn::Turn;
use super::{median, predict};

/// One storm, while there are more to come.
pub(super) fn progress(turn: &Turn, figures: &Figures, scale: Scale) -> String {
    let void = if turn.is_void() { ", VOID" } else { "" };
    let trouble = figures.first_trouble.as_deref().unwrap_or_default();
    format!(
        "{}: last {:.2} s ({:.2}x), {:.3} copies, processors {:.0} % busy{void} {trouble}",
        turn.kind.name(),
        figures.last(),
        figures.last() / scale.bound,
        figures.copies,
        turn.busy * 100.0
    )
}

/// All storms.
pub(super) fn show(told: &Value) {
    let figure = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    println!(
        "{} nodes at {} Mbit/s, origin {} Mbit/s, {}: working set {:.1} MB, W/B {:.2} s with framing ({:.3}), own time of a \
         guest {:.2} s (pace {:.3}), bound {:.2} s",
        told["nodes"],
        told["rate_mbit"],
        told["origin_rate_mbit"],
        told["trace"].as_str().unwrap_or_default(),
        figure("working_set_bytes") / 1e6,
        figure("link_seconds"),
        figure("framing"),
        figure("own_seconds"),
        figure("pace"),
        figure("bound_seconds")
    );
    println!(
        "{:<15} {:>5} {:>5} {:>15} {:>15} {:>7} {:>7} {:>8} {:>7} {:>6} {:>6}",
        "storm",
        "runs",
        "void",
        "last node",
        "median node",
        "copies",
        "upload",
        "stall",
        "errors",
        "wrong",
        "busy"
    );
    for storm in told["storms"].as_array().into_iter().flatten() {
        println!("{}", row(storm));
    }
    if let Some(line) = predict::line(told) {
        println!("{line}");
    }
}

fn row(storm: &Value) -> String {
    let times = |name: &str| {
        let seconds = median(storm, &format!("{name}_seconds"));
        let ratio = median(storm, &format!("{name}_over_bound"));
        format!("{seconds:.2} s {ratio:.2}x")
    };
    let all_void = storm["runs"] == storm["void"];
    let verdict = match (storm["sound"] == true, all_void) {
        (false, _) => "  NOT AS IT SHOULD BE",
        (true, true) => "  VOID: the machine was too busy",
        (true, false) => "",
    };
    let trouble = storm["first_trouble"].as_str();
    let trouble = trouble.map_or_else(String::new, |trouble| format!("\n  {trouble}"));
    format!(
        "{:<15} {:>5} {:>5} {:>15} {:>15} {:>7.3} {:>7.3} {:>6.2} s {:>7} {:>6} {:>4.0} %{verdict}{trouble}",
        storm["kind"].as_str().unwrap_or_default(),
        storm["runs"].to_string(),
        storm["void"].to_string(),
        times("last"),
        times("median"),
        median(storm, "origin_copies"),
        median(storm, "max_upload_over_working_set"),
        median(storm, "longest_stall_seconds"),
        storm["errors"].to_string(),
        storm["wrong_bytes"].to_string(),
        median(storm, "busy") * 100.0
    )
}
