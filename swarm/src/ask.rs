//! One question: a place in the source's queue, the read, patience, verification, and what is learnt from it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::select;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use vmthunder_volume::{Class, EXTENT_BYTES, Error, Extent, Span, Volume};

use crate::fetch::{Ask, Fetch, Outcome, Source};
use crate::verify::Expected;
use crate::{Failing, Place, Swarm};

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) span: Span,
    pub(crate) class: Class,
    pub(crate) expected: &'a Expected,
}

impl<O: Volume, P: Volume> Swarm<O, P> {
    /// Asks a source, and a second one when the first takes its time and a hedge is allowed. The fetch is told what
    /// became of it.
    pub(crate) async fn ask(
        &self,
        fetch: &mut Fetch,
        ask: Ask,
        question: Question<'_>,
    ) -> Option<Bytes> {
        let first = self.ask_one(&ask, question);
        tokio::pin!(first);
        let began = self.now();
        loop {
            let wait = self.judge().health.hedges_in(self.now(), began, &ask);
            if wait.is_zero() {
                break;
            }
            select! {
                biased;
                answer = &mut first => return tell(fetch, &ask.source, answer),
                () = sleep(wait) => {}
            }
        }
        let hedge =
            self.look(|view, hedges| fetch.hedge(&ask.source, view).filter(|_| hedges.take()));
        let Some(hedge) = hedge else {
            return tell(fetch, &ask.source, first.await);
        };
        self.counters.hedges.add(1);
        let (source, hedge) = (
            &ask.source,
            Ask {
                source: hedge,
                ..ask.clone()
            },
        );
        let second = self.ask_one(&hedge, question);
        tokio::pin!(second);
        select! {
            biased;
            answer = &mut first => match tell(fetch, source, answer) {
                None => tell(fetch, &hedge.source, second.await),
                bytes => bytes,
            },
            answer = &mut second => match tell(fetch, &hedge.source, answer) {
                None => tell(fetch, source, first.await),
                bytes => bytes,
            },
        }
    }

    async fn ask_one(&self, ask: &Ask, question: Question<'_>) -> Result<Bytes, Outcome> {
        match &ask.source {
            Source::Origin => {
                let place = self.origin.clone();
                let permit = place
                    .queue
                    .take(question.class, question.span.length())
                    .await;
                let _permit = permit.ok_or(Outcome::Busy)?;
                self.read_from(ask, &place, question).await
            }
            Source::Peer(name) => {
                let place = self
                    .peers()
                    .places
                    .get(name)
                    .cloned()
                    .ok_or(Outcome::NotAttached)?;
                let permit = place.queue.try_take(question.class, question.span.length());
                let _permit = permit.ok_or(Outcome::Busy)?;
                self.read_from(ask, &place, question).await
            }
        }
    }

    /// Reads with a place taken; everything that is learnt about the source is learnt here.
    async fn read_from<V: Volume>(
        &self,
        ask: &Ask,
        place: &Arc<Place<V>>,
        question: Question<'_>,
    ) -> Result<Bytes, Outcome> {
        let source = &ask.source;
        let open = Open::new(self, source);
        let reading = place.volume.read(question.span, question.class);
        let result = match self.patiently(ask, open.asked, reading).await {
            Some(Ok(bytes)) if is_right(&bytes, question) => Ok(bytes),
            Some(Ok(_)) => Err(Outcome::Corrupt),
            Some(Err(error)) => Err(outcome_of(&error, source)),
            None => Err(Outcome::Silent),
        };
        open.close(&result);
        if *source == Source::Origin && matches!(result, Ok(_) | Err(Outcome::Corrupt)) {
            let extent = Extent(question.span.offset() / EXTENT_BYTES);
            self.judge_origin(extent, result.is_ok());
        }
        place.note(&self.options.name, source, self.now(), &result);
        let counters = &place.counters;
        match &result {
            Ok(bytes) => {
                counters.extents.add(1);
                counters.bytes.add(bytes.len() as u64);
            }
            Err(Outcome::Busy) => counters.refusals.add(1),
            Err(Outcome::Corrupt) => counters.corrupt.add(1),
            Err(_) => counters.failures.add(1),
        }
        result
    }

    /// Waits for an answer as long as there is hope for one. `None` is silence.
    async fn patiently<T>(
        &self,
        ask: &Ask,
        asked: Duration,
        reading: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(reading);
        loop {
            let now = self.now();
            let left = self.judge().health.wait(now, asked, ask)?;
            if let Ok(answer) = timeout(left, &mut reading).await {
                return Some(answer);
            }
        }
    }
}

impl<V> Place<V> {
    /// Says in the log when a source stops to answer, and when it answers again.
    fn note(&self, image: &str, source: &Source, now: Duration, result: &Result<Bytes, Outcome>) {
        let mut failing = self.failing();
        let before = *failing;
        match result {
            // It answers, whatever.
            Ok(_) | Err(Outcome::Corrupt) => *failing = None,
            Err(Outcome::Busy) => {}
            Err(_) => {
                let since = before.map_or(now, |failing| failing.since);
                *failing = Some(Failing { since, last: now });
            }
        }
        let after = *failing;
        drop(failing);
        match (before, after, source) {
            (None, Some(_), _) => {
                let outcome = result.as_ref().err().copied().unwrap_or(Outcome::Answered);
                warn!(image, %source, ?outcome, "does not answer as it should");
            }
            (Some(_), None, Source::Origin) => warn!(image, %source, "answers again"),
            (Some(_), None, Source::Peer(_)) => info!(image, %source, "answers again"),
            _ => {}
        }
        if matches!((result, source), (Err(Outcome::Corrupt), Source::Peer(_))) {
            warn!(image, %source, "the answer is not what the manifest says: it is left out for a while");
        }
    }
}

/// A question that a source was asked; taken back if it is dropped.
struct Open<'a, O: Volume, P: Volume> {
    swarm: &'a Swarm<O, P>,
    source: &'a Source,
    asked: Duration,
    closed: bool,
}

impl<'a, O: Volume, P: Volume> Open<'a, O, P> {
    fn new(swarm: &'a Swarm<O, P>, source: &'a Source) -> Self {
        let now = swarm.now();
        let mut judgement = swarm.judge();
        judgement.health.asked(now, source);
        judgement.hedges.asked();
        Self {
            swarm,
            source,
            asked: now,
            closed: false,
        }
    }

    fn close(mut self, result: &Result<Bytes, Outcome>) {
        self.closed = true;
        let now = self.swarm.now();
        let health = &mut self.swarm.judge().health;
        match result {
            Ok(_) => health.answered(now, self.asked, self.source),
            Err(Outcome::Busy | Outcome::Answered) => health.refused(now, self.source),
            Err(Outcome::Corrupt) => health.lied(now, self.source),
            Err(Outcome::Silent) => health.dropped(self.source),
            Err(Outcome::Dead | Outcome::NotAttached) => health.failed(now, self.source),
        }
    }
}

impl<O: Volume, P: Volume> Drop for Open<'_, O, P> {
    fn drop(&mut self) {
        if !self.closed {
            self.swarm.judge().health.dropped(self.source);
        }
    }
}

fn tell(fetch: &mut Fetch, source: &Source, answer: Result<Bytes, Outcome>) -> Option<Bytes> {
    let outcome = answer.as_ref().err().copied().unwrap_or(Outcome::Answered);
    fetch.handle(source, outcome);
    answer.ok()
}

fn is_right(bytes: &Bytes, question: Question<'_>) -> bool {
    bytes.len() as u64 == question.span.length() && question.expected.matches(bytes)
}

fn outcome_of(error: &Error, source: &Source) -> Outcome {
    match (error, source) {
        (Error::Busy, _) => Outcome::Busy,
        // The origin has become smaller than the image, or another unit.
        (Error::OutOfRange | Error::Unsupported | Error::Corrupt, Source::Origin) => {
            Outcome::Corrupt
        }
        (Error::OutOfRange | Error::Unsupported, Source::Peer(_)) => Outcome::NotAttached,
        _ => Outcome::Dead,
    }
}
