//! The ways to a unit in `vmthunder iscsi status`.

use std::time::Duration;

use anyhow::Result;
use iscsi_initiator::{Error, PathState, PathStatus, RawCommand, Remote, Transfer};
use serde::Serialize;
use vmthunder_volume::Class;

use crate::iscsi::yes_no;
use crate::observe::line;
use crate::status::table;

/// One way to the unit. What is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct PathRow {
    portal: String,
    portal_group_tag: Option<u16>,
    /// `connected`, `lost` or `refused`.
    state: &'static str,
    /// Why it is not connected.
    reason: Option<String>,
    /// The target port group, and how it reaches the unit (SPC-4 §5.15).
    pub(super) port_group: Option<u16>,
    pub(super) access: String,
    in_use: bool,
    commands: u64,
    failures: u64,
    logins: u64,
    /// How long commands take.
    pub(super) latency_us: Option<u64>,
}

impl From<PathStatus> for PathRow {
    fn from(path: PathStatus) -> Self {
        let (state, reason) = match path.state {
            PathState::Connected => (CONNECTED, None),
            PathState::Lost(error) => ("lost", Some(error.to_string())),
            PathState::Refused(error) => ("refused", Some(error.to_string())),
            _ => ("unknown", None),
        };
        Self {
            portal: path.address,
            portal_group_tag: path.portal_group_tag,
            state,
            reason,
            port_group: path.port_group,
            access: path.access.to_string(),
            in_use: path.in_use,
            commands: path.commands,
            failures: path.failures,
            logins: path.logins,
            latency_us: path.service_time.map(microseconds),
        }
    }
}

/// All ways to a unit, after so many probes of each that is used.
pub(super) async fn look(remote: &Remote, probes: usize) -> Result<Vec<PathRow>, Error> {
    let ready = RawCommand::new(&TEST_UNIT_READY)?.changes_nothing();
    for _ in 0..probes * remote.paths().len() {
        remote
            .execute_raw(ready, Transfer::None, Class::Demand)
            .await?;
    }
    Ok(remote.paths().into_iter().map(PathRow::from).collect())
}

/// Prints them as a table.
pub(super) fn print(paths: &[PathRow]) -> Result<()> {
    let mut rows = table(&[
        "path", "group", "state", "ALUA", "in use", "commands", "failures", "latency",
    ]);
    for path in paths {
        let tag = path.portal_group_tag;
        let access = match path.port_group {
            Some(group) => format!("{group}: {}", path.access),
            None if path.state == CONNECTED => path.access.clone(),
            None => String::new(),
        };
        let state = match &path.reason {
            Some(reason) => format!("{}: {reason}", path.state),
            None => path.state.to_owned(),
        };
        rows.add_row([
            path.portal.clone(),
            tag.map(|tag| tag.to_string()).unwrap_or_default(),
            state,
            access,
            yes_no(Some(path.in_use)).to_owned(),
            path.commands.to_string(),
            path.failures.to_string(),
            path.latency_us
                .map(|time| format!("{time} µs"))
                .unwrap_or_default(),
        ]);
    }
    line(rows)
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

const CONNECTED: &str = "connected";

/// TEST UNIT READY (SPC-4 §6.47).
const TEST_UNIT_READY: [u8; 6] = [0; 6];
