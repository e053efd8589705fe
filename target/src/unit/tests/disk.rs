//! A volume in memory that shows what units make of it: what was flushed, what is allocated, what happens in between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use vmthunder_volume::{Allocation, BlockSize, Class, Error, Geometry, Result, Span, Volume};

/// A volume whose writes and reads come in halves, so that whoever relies on them being whole is found out.
#[derive(Debug)]
pub(in crate::unit) struct Disk {
    state: Mutex<State>,
    /// Other tasks run between the halves of a write, and of a read.
    pub(in crate::unit) torn: AtomicBool,
    pub(in crate::unit) flushes: AtomicU64,
    pub(in crate::unit) prefetched: AtomicU64,
    /// Writes and trims answer so.
    pub(in crate::unit) fault: Mutex<Option<Error>>,
    /// Flushes, writes and trims wait for a permit while there is a gate.
    pub(in crate::unit) gate: Mutex<Option<&'static Semaphore>>,
}

#[derive(Debug)]
struct State {
    geometry: Geometry,
    bytes: Vec<u8>,
    /// What would be left if power failed now.
    durable: Vec<u8>,
    allocated: Vec<bool>,
}

impl Disk {
    /// Each block is filled with its number modulo 251.
    pub(in crate::unit) fn new(size: BlockSize, blocks: u64) -> Self {
        let block_bytes = usize::try_from(size.bytes()).unwrap();
        let mut bytes = vec![0; usize::try_from(blocks).unwrap() * block_bytes];
        for (at, block) in bytes.chunks_mut(block_bytes).enumerate() {
            block.fill(u8::try_from(at % 251).unwrap());
        }
        let state = State {
            geometry: Geometry::new(size, blocks),
            durable: bytes.clone(),
            bytes,
            allocated: vec![true; usize::try_from(blocks).unwrap()],
        };
        Self {
            state: Mutex::new(state),
            torn: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            prefetched: AtomicU64::new(0),
            fault: Mutex::new(None),
            gate: Mutex::new(None),
        }
    }

    pub(in crate::unit) fn contents(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    pub(in crate::unit) fn durable(&self) -> Vec<u8> {
        self.state().durable.clone()
    }

    pub(in crate::unit) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    /// The owner gives the volume another size.
    pub(in crate::unit) fn resize(&self, blocks: u64) {
        let mut state = self.state();
        state.geometry = Geometry::new(state.geometry.block_size(), blocks);
        let length = usize::try_from(state.geometry.bytes()).unwrap();
        state.bytes.resize(length, 0);
        state
            .allocated
            .resize(usize::try_from(blocks).unwrap(), false);
    }

    pub(in crate::unit) fn fail(&self, fault: Option<Error>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn check_fault(&self) -> Result<()> {
        match &*self.fault.lock().unwrap() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    async fn pass_gate(&self) {
        let gate = *self.gate.lock().unwrap();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
    }

    async fn pause(&self) {
        if self.torn.load(Ordering::SeqCst) {
            yield_now().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let at = usize::try_from(offset).unwrap();
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.mark(offset, bytes.len(), true);
    }

    fn mark(&mut self, offset: u64, length: usize, allocated: bool) {
        let block_bytes = u64::from(self.geometry.block_size().bytes());
        let first = usize::try_from(offset / block_bytes).unwrap();
        let count = length / usize::try_from(block_bytes).unwrap();
        self.allocated[first..first + count].fill(allocated);
    }
}

impl Volume for Disk {
    fn geometry(&self) -> Geometry {
        self.state().geometry
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.geometry().check(span)?;
        if class == Class::Prefetch {
            self.prefetched.fetch_add(span.length(), Ordering::SeqCst);
        }
        let (at, end) = (
            usize::try_from(span.offset()).unwrap(),
            usize::try_from(span.end()).unwrap(),
        );
        let middle = at + (end - at) / 2;
        let mut found = self.state().bytes[at..middle].to_vec();
        self.pause().await;
        found.extend_from_slice(&self.state().bytes[middle..end]);
        Ok(found.into())
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.geometry()
            .check(Span::new(offset, bytes.len() as u64))?;
        self.check_fault()?;
        self.pass_gate().await;
        let middle = bytes.len() / 2;
        self.pause().await;
        self.state().put(offset, &bytes[..middle]);
        self.pause().await;
        self.state().put(offset + middle as u64, &bytes[middle..]);
        self.state().mark(offset, bytes.len(), true);
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        self.check_fault()?;
        self.pass_gate().await;
        let mut state = self.state();
        state.durable = state.bytes.clone();
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn trim(&self, span: Span) -> Result<()> {
        self.geometry().check(span)?;
        self.check_fault()?;
        self.pass_gate().await;
        let length = usize::try_from(span.length()).unwrap();
        let mut state = self.state();
        state.put(span.offset(), &vec![0; length]);
        state.mark(span.offset(), length, false);
        Ok(())
    }

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        self.geometry().check(span)?;
        let state = self.state();
        let block_bytes = u64::from(state.geometry.block_size().bytes());
        let first = usize::try_from(span.offset() / block_bytes).unwrap();
        let count = usize::try_from(span.length() / block_bytes).unwrap();
        let run = &state.allocated[first..first + count];
        let kind = run.first().copied().unwrap_or(true);
        let same = run.iter().take_while(|one| **one == kind).count() as u64;
        let kind = if kind {
            Allocation::Mapped
        } else {
            Allocation::Hole
        };
        Ok((kind, Span::new(span.offset(), same * block_bytes)))
    }
}
