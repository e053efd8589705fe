//! What is done to a target and to the way that leads to it.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::proxy::Proxy;
use super::rounds::Ways;
use super::victim::Victim;
use crate::chance::Chance;

/// Something bad, and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// SIGKILL, and after so long a new process.
    Kill(Duration),
    /// SIGSTOP, and after so long SIGCONT.
    Pause(Duration),
    /// It is paused, cut off, and goes on so long later with what it had received.
    PauseAndCut(Duration),
    /// Every connection ends.
    Cut,
    /// Every connection ends, and none is taken for so long.
    Away(Duration),
    /// Nothing moves for so long.
    Hold(Duration),
    /// Nothing moves on the connections that there are, ever; nobody is told.
    Dead,
    /// The same, but the target is told.
    HalfOpen,
}

impl Fault {
    /// Any of them, or one of those that leave other ways to the target alone.
    pub(super) fn draw(chance: &mut Chance, of_one_way: bool) -> Self {
        // Half of them are shorter than it takes to notice that nobody answers.
        let length = match chance.below(2) {
            0 => chance.millis(50, 500),
            _ => chance.millis(2_000, 4_000),
        };
        match chance.below(if of_one_way { 5 } else { 8 }) {
            0 => Self::Cut,
            1 => Self::Away(length / 2),
            2 => Self::Hold(length),
            3 => Self::Dead,
            4 => Self::HalfOpen,
            5 => Self::Kill(length / 2),
            6 => Self::Pause(length),
            _ => Self::PauseAndCut(length),
        }
    }

    /// How long it lasts.
    pub(super) fn length(self) -> Duration {
        match self {
            Self::Kill(length)
            | Self::Pause(length)
            | Self::PauseAndCut(length)
            | Self::Away(length)
            | Self::Hold(length) => length,
            Self::Cut | Self::Dead | Self::HalfOpen => Duration::ZERO,
        }
    }

    /// Does it, and undoes what does not undo itself.
    pub(super) fn inflict(self, victim: &mut Victim, ways: &mut Ways, way: usize) -> Result<()> {
        let proxy: &Proxy = &ways.proxies[way];
        match self {
            Self::Kill(length) => {
                victim.kill()?;
                ways.close()?;
                thread::sleep(length);
                ways.portals = victim.start()?;
                ways.open()?;
            }
            Self::Pause(length) => {
                victim.pause()?;
                thread::sleep(length);
                victim.resume()?;
            }
            Self::PauseAndCut(length) => {
                victim.pause()?;
                // What was sent meanwhile waits in its sockets.
                thread::sleep(IN_SOCKETS);
                proxy.cut();
                thread::sleep(length);
                victim.resume()?;
            }
            Self::Cut => proxy.cut(),
            Self::Away(length) => {
                proxy.lead_to(None)?;
                proxy.cut();
                thread::sleep(length);
                ways.open()?;
            }
            Self::Hold(length) => {
                proxy.hold(true);
                thread::sleep(length);
                proxy.hold(false);
            }
            Self::Dead => proxy.go_dead(false),
            Self::HalfOpen => proxy.go_dead(true),
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Kill(_) => "killed",
            Self::Pause(_) => "paused",
            Self::PauseAndCut(_) => "paused and cut off",
            Self::Cut => "cut off",
            Self::Away(_) => "away",
            Self::Hold(_) => "held",
            Self::Dead => "dead wires",
            Self::HalfOpen => "half open",
        };
        f.pad(&format!("{what}, {:.1} s", self.length().as_secs_f64()))
    }
}

const IN_SOCKETS: Duration = Duration::from_millis(100);
