//! `[limits]`: how much initiators may ask for.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytesize::ByteSize;
use iscsi_proto::session::TargetConfig;
use iscsi_target::TargetLimits;
use serde::Deserialize;

use super::written;

/// The least memory that is of use: two transfers of the longest kind.
const LEAST_MEMORY: ByteSize = ByteSize::mib(16);

/// `[limits]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LimitsSection {
    pub(crate) sessions: Option<u64>,
    pub(crate) sessions_per_initiator: Option<u64>,
    pub(crate) logins: Option<u64>,
    #[serde(deserialize_with = "written::some_byte_size")]
    pub(crate) memory: Option<ByteSize>,
    pub(crate) commands: Option<u64>,
    pub(crate) login_timeout: Option<u64>,
}

/// How much initiators may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All of them together.
    pub(crate) target: TargetLimits,
    /// Commands of one session at once.
    pub(crate) commands: u32,
    /// How long a login may take.
    pub(crate) login_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let TargetConfig {
            queue_depth,
            login_timeout,
            ..
        } = TargetConfig::default();
        Self {
            target: TargetLimits::default(),
            commands: queue_depth,
            login_timeout,
        }
    }
}

impl LimitsSection {
    pub(super) fn check(self) -> Result<Limits> {
        let mut limits = Limits::default();
        let target = &mut limits.target;
        // A session's handle has 16 bits, and 0 names none.
        if let Some(sessions) = within("sessions", self.sessions, 1..=65_535)? {
            target.sessions = usize::try_from(sessions)?;
        }
        let each = self.sessions_per_initiator;
        if let Some(sessions) = within("sessions per initiator", each, 1..=65_535)? {
            target.sessions_per_initiator = usize::try_from(sessions)?;
        }
        if let Some(logins) = within("logins", self.logins, 1..=65_535)? {
            target.logins = usize::try_from(logins)?;
        }
        if let Some(memory) = self.memory {
            ensure!(
                memory >= LEAST_MEMORY,
                "the limit of memory is {memory}, the least is {LEAST_MEMORY}"
            );
            target.bytes_in_flight = memory.as_u64();
        }
        if let Some(commands) = within("commands", self.commands, 1..=4096)? {
            limits.commands = u32::try_from(commands)?;
        }
        if let Some(seconds) = within("seconds for a login", self.login_timeout, 1..=3600)? {
            limits.login_timeout = Duration::from_secs(seconds);
        }
        Ok(limits)
    }
}

fn within(what: &str, value: Option<u64>, range: RangeInclusive<u64>) -> Result<Option<u64>> {
    if let Some(value) = value {
        ensure!(
            range.contains(&value),
            "the limit of {what} is {value}, it can be {} to {}",
            range.start(),
            range.end()
        );
    }
    Ok(value)
}
