//! Extents on their way to the SSD. Readers never wait for it: a full queue drops the newcomer.
//!
//! What waits can be read, so between the end of its flight and its place in the store an extent is never fetched
//! twice.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::map::Key;

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It waits, and the caller starts the writer.
    Start,
    /// It waits, or did already.
    Queued,
    /// The queue is full or closed.
    Dropped,
}

/// Extents that wait to be written.
#[derive(Debug)]
pub(crate) struct FillQueue {
    waiting: Mutex<Waiting>,
    /// Lets readers pass an empty queue without its lock.
    staged: AtomicUsize,
    limit: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Key>,
    bytes: HashMap<Key, Bytes>,
    writing: bool,
    closed: bool,
}

impl FillQueue {
    /// A queue of at most `limit` extents.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            staged: AtomicUsize::new(0),
            limit,
        }
    }

    /// Leaves an extent to be written.
    pub(crate) fn offer(&self, key: Key, bytes: Bytes) -> Offer {
        let mut waiting = self.lock();
        if waiting.bytes.contains_key(&key) {
            return Offer::Queued;
        }
        if waiting.closed || waiting.bytes.len() >= self.limit {
            return Offer::Dropped;
        }
        waiting.order.push_back(key);
        waiting.bytes.insert(key, bytes);
        self.count(&waiting);
        if std::mem::replace(&mut waiting.writing, true) {
            Offer::Queued
        } else {
            Offer::Start
        }
    }

    /// An extent that waits.
    pub(crate) fn get(&self, key: Key) -> Option<Bytes> {
        if self.staged.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.lock().bytes.get(&key).cloned()
    }

    /// The next extent to write; it can be read until it is [`done`](Self::done). `None` ends the writer.
    pub(crate) fn next(&self) -> Option<(Key, Bytes)> {
        let mut waiting = self.lock();
        while let Some(key) = waiting.order.pop_front() {
            if let Some(bytes) = waiting.bytes.get(&key) {
                return Some((key, bytes.clone()));
            }
        }
        waiting.writing = false;
        None
    }

    /// An extent is written, or never will be.
    pub(crate) fn done(&self, key: Key) {
        let mut waiting = self.lock();
        waiting.bytes.remove(&key);
        self.count(&waiting);
    }

    /// Drops what waits of an image.
    pub(crate) fn forget(&self, image: u32) {
        let mut waiting = self.lock();
        waiting.bytes.retain(|key, _| key.image != image);
        waiting.order.retain(|key| key.image != image);
        self.count(&waiting);
    }

    /// Takes no more offers.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    fn count(&self, waiting: &Waiting) {
        self.staged.store(waiting.bytes.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
