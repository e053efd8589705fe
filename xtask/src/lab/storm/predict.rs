//! What the simulator says of the same storm.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::StormArgs;
use super::boot::Boot;
use crate::bounded;

/// A thousand nodes on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Simulates the healthy storm, with nodes that read nothing ahead, as the lab's do not. All guests begin at once there, so
/// there is nothing to compare where they do not.
pub(super) fn predict(
    vmthunder: &Path,
    args: &StormArgs,
    boot: &Boot,
    pace: &Value,
) -> Result<Value> {
    if !args.spread.is_zero() {
        return Ok(Value::Null);
    }
    let rate = |mbit: u32| format!("{mbit}Mbit");
    let mut simulate = Command::new(vmthunder);
    simulate.args(["simulate", "--json", "--prefetch", "0"]);
    simulate.args(["--nodes", &args.nodes.to_string()]);
    simulate.args(["--rate", &rate(args.rate)]);
    let origin_rate = args.origin_rate.unwrap_or(args.rate);
    simulate.args(["--origin-rate", &rate(origin_rate)]);
    simulate.args(["--pace", &pace.to_string(), "--trace"]);
    simulate.arg(&boot.file);
    // Hours of storms are not lost to a simulator that has nothing to say of them.
    let said = match bounded::succeed(&mut simulate, LIMIT) {
        Ok(said) => said.text(),
        Err(error) => {
            eprintln!("nothing is predicted: {error:#}");
            return Ok(Value::Null);
        }
    };
    let said: Value = serde_json::from_str(&said).context("what the simulator says")?;
    let names = [
        "last_node_seconds",
        "median_node_seconds",
        "origin_copies",
        "max_upload_over_working_set",
        "longest_read_seconds",
    ];
    let kept = names.map(|name| (name.to_owned(), said[name].clone()));
    Ok(Value::Object(kept.into_iter().collect()))
}

/// By how much the lab's swarm took longer than the simulated one: the last node and the median node, as parts.
pub(super) fn longer(told: &Value) -> Option<(f64, f64)> {
    let storms = told["storms"].as_array()?;
    let swarm = storms.iter().find(|storm| storm["kind"] == "swarm")?;
    let by = |lab: &str, simulated: &str| {
        Some(swarm[lab]["median"].as_f64()? / told["simulated"][simulated].as_f64()? - 1.0)
    };
    Some((
        by("last_seconds", "last_node_seconds")?,
        by("median_seconds", "median_node_seconds")?,
    ))
}

/// The two beside each other.
pub(super) fn line(told: &Value) -> Option<String> {
    let (last, median) = longer(told)?;
    let simulated = |name: &str| told["simulated"][name].as_f64().unwrap_or(f64::NAN);
    Some(format!(
        "Simulated: last node {:.2} s, median node {:.2} s, {:.3} copies. Lab against simulation: {:+.0} % and {:+.0} %.",
        simulated("last_node_seconds"),
        simulated("median_node_seconds"),
        simulated("origin_copies"),
        last * 100.0,
        median * 100.0
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lab_and_simulation_stand_beside_each_other() {
        let told = json!({
            "storms": [{
                "kind": "swarm", "last_seconds": { "median": 12.0 }, "median_seconds": { "median": 9.0 }
            }],
            "simulated": { "last_node_seconds": 10.0, "median_node_seconds": 10.0, "origin_copies": 1.0 },
        });
        let said = line(&told).unwrap();
        assert!(said.ends_with("simulation: +20 % and -10 %."), "{said}");
        assert_eq!(line(&json!({ "storms": [], "simulated": null })), None);
    }
}
