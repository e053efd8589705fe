//! Volumes for tests: in memory, and with faults.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::{Class, Error, Geometry, Result, Span, Volume};

/// A volume in memory that counts what is read from it.
#[derive(Debug)]
pub struct MemVolume {
    geometry: Geometry,
    bytes: Mutex<Vec<u8>>,
    reads: AtomicU64,
    read_bytes: AtomicU64,
}

impl MemVolume {
    /// A volume that holds `bytes`; missing bytes are zeros.
    pub fn new(geometry: Geometry, mut bytes: Vec<u8>) -> Self {
        bytes.resize(to_usize(geometry.bytes()), 0);
        Self {
            geometry,
            bytes: Mutex::new(bytes),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
        }
    }

    /// A volume of zeros.
    pub fn zeroed(geometry: Geometry) -> Self {
        Self::new(geometry, Vec::new())
    }

    /// A copy of everything.
    pub fn contents(&self) -> Vec<u8> {
        self.lock().clone()
    }

    /// How many reads were answered.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// How many bytes were read.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::SeqCst)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.bytes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Volume for MemVolume {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, span: Span, _class: Class) -> Result<Bytes> {
        self.geometry.check(span)?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.read_bytes.fetch_add(span.length(), Ordering::SeqCst);
        let range = to_usize(span.offset())..to_usize(span.end());
        Ok(Bytes::copy_from_slice(&self.lock()[range]))
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let span = Span::new(offset, bytes.len() as u64);
        self.geometry.check(span)?;
        self.lock()[to_usize(offset)..to_usize(span.end())].copy_from_slice(&bytes);
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn trim(&self, span: Span) -> Result<()> {
        self.geometry.check(span)?;
        self.lock()[to_usize(span.offset())..to_usize(span.end())].fill(0);
        Ok(())
    }
}

/// What a [`FaultyVolume`] does instead of answering a read.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers as if nothing were wrong.
    None,
    /// Answers with an error.
    Fail(Error),
    /// Answers with other bytes: every bit of the first byte is turned.
    Lie,
    /// Never answers.
    Hang,
}

/// A volume whose reads go wrong as told: first the queued faults in order, then the lasting one.
#[derive(Debug)]
pub struct FaultyVolume<V> {
    below: V,
    queued: Mutex<VecDeque<Fault>>,
    lasting: Mutex<Fault>,
}

impl<V: Volume> FaultyVolume<V> {
    /// A volume that still works.
    pub fn new(below: V) -> Self {
        Self {
            below,
            queued: Mutex::new(VecDeque::new()),
            lasting: Mutex::new(Fault::None),
        }
    }

    /// The volume behind the faults.
    pub fn below(&self) -> &V {
        &self.below
    }

    /// Lets one coming read go wrong.
    pub fn queue(&self, fault: Fault) {
        self.queued
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push_back(fault);
    }

    /// Lets every later read go wrong.
    pub fn set(&self, fault: Fault) {
        *self
            .lasting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = fault;
    }

    fn next(&self) -> Fault {
        let queued = self
            .queued
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop_front();
        queued.unwrap_or_else(|| {
            self.lasting
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .clone()
        })
    }
}

impl<V: Volume> Volume for FaultyVolume<V> {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        match self.next() {
            Fault::None => self.below.read(span, class).await,
            Fault::Fail(error) => Err(error),
            Fault::Hang => std::future::pending().await,
            Fault::Lie => {
                let mut bytes = self.below.read(span, class).await?.to_vec();
                if let Some(first) = bytes.first_mut() {
                    *first = !*first;
                }
                Ok(bytes.into())
            }
        }
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.below.write(offset, bytes).await
    }

    async fn flush(&self) -> Result<()> {
        self.below.flush().await
    }

    async fn trim(&self, span: Span) -> Result<()> {
        self.below.trim(span).await
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a test volume fits into memory")
}
