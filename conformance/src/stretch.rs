//! A stretch of the unit that a check reads and writes, for checks that are about how data moves.

use bytes::Bytes;
use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::ReadyToTransfer;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, ensure, skip, violation};
use crate::session::{Reply, Session, Task, sense};
use crate::wire::Heard;

/// Consecutive blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    block: u32,
    blocks: u16,
    block_bytes: u32,
}

impl Stretch {
    /// The blocks with this many bytes from the first MiB of the unit on, which has at least eight.
    pub(crate) fn of(bench: &Bench, bytes: u32) -> Result<Self, Finding> {
        bench.facts.has_room()?;
        let first = Self::first(bench);
        Ok(Self {
            block: FROM / first.block_bytes,
            blocks: u16::try_from(bytes.div_ceil(first.block_bytes)).unwrap_or(u16::MAX),
            ..first
        })
    }

    /// The first block.
    pub(crate) fn first(bench: &Bench) -> Self {
        Self {
            block: 0,
            blocks: 1,
            block_bytes: bench.facts.block_bytes.max(1),
        }
    }

    /// The last block, if READ (10) reaches it.
    pub(crate) fn last(bench: &Bench) -> Result<Self, Finding> {
        let behind = Self::behind_the_end(bench)?;
        Ok(Self {
            block: behind.block.saturating_sub(1),
            ..behind
        })
    }

    /// One block behind the end of the unit; READ (10) reaches it on units of up to 2 TiB.
    pub(crate) fn behind_the_end(bench: &Bench) -> Result<Self, Finding> {
        let Ok(block) = u32::try_from(bench.facts.blocks) else {
            skip!("the unit is too long for an address of 32 bits behind its end");
        };
        Ok(Self {
            block,
            ..Self::first(bench)
        })
    }

    /// This many bytes of the stretch, from the beginning.
    pub(crate) fn head(self, bytes: u32) -> Self {
        let blocks = u16::try_from(bytes.div_ceil(self.block_bytes)).unwrap_or(u16::MAX);
        Self { blocks, ..self }
    }

    /// As many blocks, so many further on.
    pub(crate) fn beside(self, blocks: u32) -> Self {
        Self {
            block: self.block.saturating_add(blocks),
            ..self
        }
    }

    /// How many bytes it has.
    pub(crate) fn bytes(self) -> u32 {
        u32::from(self.blocks) * self.block_bytes
    }

    /// READ (10).
    pub(crate) fn read(self) -> Task {
        Task::read(&self.cdb(0x28), self.bytes())
    }

    /// WRITE (10) of these bytes.
    pub(crate) fn write(self, data: &Bytes) -> Task {
        Task::write(&self.cdb(0x2a), data.clone())
    }

    fn cdb(self, opcode: u8) -> [u8; 10] {
        let [a, b, c, d] = self.block.to_be_bytes();
        let [high, low] = self.blocks.to_be_bytes();
        [opcode, 0, a, b, c, d, 0, high, low, 0]
    }

    /// Bytes for the whole stretch that no earlier call gave.
    pub(crate) fn pattern(self, bench: &Bench) -> Bytes {
        let mut state = 1u32;
        for byte in bench.isid() {
            state = state.wrapping_mul(31).wrapping_add(u32::from(byte));
        }
        let word = |_| {
            // Knuth's generator; the low bits of such a sequence repeat soon.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [high, ..] = state.to_be_bytes();
            high
        };
        (0..self.bytes()).map(word).collect::<Vec<u8>>().into()
    }

    /// What is on the medium has to be these bytes; `what` names the write.
    pub(crate) async fn holds(self, session: &mut Session, data: &Bytes, what: &str) -> Verdict {
        let found = session.run(&self.read()).await?.good("READ (10)")?.data;
        same(&found, data, what)
    }
}

/// The bytes that came have to be these.
pub(crate) fn same(found: &[u8], data: &[u8], what: &str) -> Verdict {
    ensure!(
        found.len() == data.len(),
        "{what}: {} bytes come back instead of {}",
        found.len(),
        data.len()
    );
    if let Some(at) = found
        .iter()
        .zip(data)
        .position(|(left, right)| left != right)
    {
        violation!("{what}: the bytes that come back differ from byte {at} on");
    }
    Ok(())
}

/// Skips the check on a unit that says that it is write protected.
pub(crate) async fn writable(session: &mut Session) -> Verdict {
    if is_write_protected(session).await? {
        skip!("the unit is write protected");
    }
    Ok(())
}

/// Whether a unit says that it is write protected.
pub(crate) async fn is_write_protected(session: &mut Session) -> Result<bool, Finding> {
    // MODE SENSE (6), all pages, no block descriptors; the WP bit is bit 7 of byte 2 (SBC-3 §6.4.1).
    let mode = Task::read(&[0x1a, 8, 0x3f, 0, 192], 192);
    let reply = session.run(&mode).await?;
    Ok(reply.data.get(2).is_some_and(|byte| byte & 0x80 != 0))
}

/// How a command ended whose data broke a rule.
#[derive(Debug)]
pub(crate) struct End {
    /// How many R2Ts came on the way.
    pub(crate) asked_again: usize,
    /// The status; `None` if the target closed the connection instead.
    pub(crate) reply: Option<Reply>,
}

impl End {
    /// "GOOD", or what it was instead, for messages.
    pub(crate) fn outcome(&self) -> String {
        match &self.reply {
            Some(reply) => reply.outcome(),
            None => "a closed connection".to_owned(),
        }
    }

    /// True if the command succeeded after all.
    pub(crate) fn is_good(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.status == 0)
    }
}

impl Session {
    /// The next PDU, which has to be an R2T of this task.
    pub(crate) async fn r2t(&mut self, tag: u32) -> Result<ReadyToTransfer, Finding> {
        let pdu = self.receive().await?;
        match pdu.header {
            Header::ReadyToTransfer(r2t) if r2t.initiator_task_tag.get() == tag => Ok(r2t),
            _ => violation!("{} where an R2T is due", Heard::Pdu(pdu)),
        }
    }

    /// Waits for the end of a command whose data may have broken a rule: does what R2Ts ask for.
    pub(crate) async fn end_of(&mut self, tag: u32, data: &Bytes) -> Result<End, Finding> {
        let mut asked_again = 0;
        for _ in 0..MOST_PDUS {
            let pdu = match self.next().await {
                Heard::Pdu(pdu) => pdu,
                Heard::Closed => {
                    return Ok(End {
                        asked_again,
                        reply: None,
                    });
                }
                other => violation!("{other} where the status of the command is due"),
            };
            let is_about = pdu.header.common().initiator_task_tag.get() == tag;
            match pdu.header {
                // Whatever a Reject says, the task still has to end.
                Header::Reject(_) => {}
                Header::ReadyToTransfer(r2t) if is_about => {
                    asked_again += 1;
                    self.obey(&r2t, data).await?;
                }
                Header::ScsiResponse(header) if is_about && header.response == 0 => {
                    let reply = Reply {
                        status: header.status,
                        sense: sense(&pdu.data),
                        data: Bytes::new(),
                        flags: header.flags,
                        residual: header.residual_count.get(),
                        pdus: vec![pdu],
                    };
                    return Ok(End {
                        asked_again,
                        reply: Some(reply),
                    });
                }
                _ => violation!("{} where the status of the command is due", Heard::Pdu(pdu)),
            }
        }
        violation!("no status after {MOST_PDUS} PDUs")
    }
}

/// Where the stretches begin: behind the labels of a partitioned disk, and within the smallest one.
const FROM: u32 = 1 << 20;
/// The most PDUs on the way to a status.
const MOST_PDUS: usize = 256;
