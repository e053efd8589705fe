//! What a session holds in memory because its peer wants it so; for fuzzers, who look for what has no limit.

use crate::session::target::full_feature::FullFeature;
use crate::session::target::{Phase, TargetSession};
use crate::session::task::{Drain, Kind, Task};
use crate::wire::Pdu;

impl TargetSession {
    /// Bytes, more or less: data and text as they are, everything else by the size of what describes it.
    pub fn held_bytes(&self) -> usize {
        match &self.phase {
            Phase::Login(login) => login.out.held_bytes(),
            Phase::FullFeature(full) => full.held_bytes(),
            Phase::Over(out) => out.held_bytes(),
        }
    }
}

impl FullFeature {
    fn held_bytes(&self) -> usize {
        let early = self.window.waiting();
        self.out.held_bytes()
            + self.tasks.values().map(Task::held_bytes).sum::<usize>()
            + self.drains.len() * size_of::<Drain>()
            + early
                .map(|pdu| pdu.data.len() + size_of::<Pdu>())
                .sum::<usize>()
    }
}

impl Task {
    fn held_bytes(&self) -> usize {
        let holds = match &self.kind {
            Kind::Scsi(scsi) => scsi.write.held_bytes(),
            Kind::Text(text) => text.gathered.capacity() + text.reply.len() + text.taken,
            Kind::Management(_) => 0,
        };
        size_of::<Self>() + holds
    }
}
