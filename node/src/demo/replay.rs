//! A guest of the demo: reads what a boot read, and compares every byte.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use iscsi_initiator::{Options, Remote, Session};
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use tokio::time::Instant;
use vmthunder_volume::{Class, RawFile, Span, Volume};

use crate::demo::trace::Trace;
use crate::names;

/// What was compared so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    /// Bytes compared.
    pub(crate) bytes: u64,
    /// Bytes that were not what they should be.
    pub(crate) wrong: u64,
    /// Where the first of them was.
    pub(crate) first_wrong: Option<String>,
}

impl Checked {
    /// Adds what somebody else compared.
    pub(crate) fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.wrong += other.wrong;
        self.first_wrong = self
            .first_wrong
            .take()
            .or_else(|| other.first_wrong.clone());
    }

    /// Compares bytes read at `span` of `whose` with what they should be.
    pub(crate) fn compare(&mut self, whose: &str, span: Span, read: &[u8], should: &[u8]) {
        self.bytes += span.length();
        if read == should {
            return;
        }
        let missing = read.len().abs_diff(should.len());
        let wrong = read.iter().zip(should).filter(|(a, b)| a != b).count() + missing;
        self.wrong += wrong as u64;
        self.first_wrong
            .get_or_insert_with(|| format!("{whose}: {wrong} bytes of span {span}"));
    }
}

/// Somebody who boots from an instance.
#[derive(Clone)]
pub(crate) struct Guest {
    url: IscsiUrl,
    disk: Remote,
    image: Arc<RawFile>,
}

impl Guest {
    /// Logs in to a logical unit that should have the content of `image`.
    pub(crate) async fn attach(url: &str, image: Arc<RawFile>) -> Result<Self> {
        let url: IscsiUrl = url.parse().with_context(|| url.to_owned())?;
        let options = Options::new(names::initiator("guest"));
        let session = Session::connect(&url, options)
            .await
            .with_context(|| format!("cannot log in to {url}"))?;
        let lun = Lun::from_number(url.lun().unwrap_or(0));
        let disk = Remote::attach(session, lun)
            .await
            .with_context(|| format!("cannot use {url}"))?;
        Ok(Self { url, disk, image })
    }

    /// The disk.
    pub(crate) fn disk(&self) -> &Remote {
        &self.disk
    }

    /// What the disk held when it was new.
    pub(crate) async fn original(&self, span: Span) -> Result<bytes::Bytes> {
        Ok(self.image.read(span, Class::Demand).await?)
    }

    /// Reads as the trace did, one read after the other. Answers the seconds that it took.
    pub(crate) async fn replay(
        &self,
        trace: &Trace,
        pace: Option<f64>,
        bar: &ProgressBar,
    ) -> Result<(f64, Checked)> {
        let mut checked = Checked::default();
        let started = Instant::now();
        for read in &trace.reads {
            if let Some(pace) = pace {
                tokio::time::sleep_until(started + Duration::from_micros(read.at_us).mul_f64(pace))
                    .await;
            }
            let got = self.disk.read(read.span, Class::Demand).await;
            let got =
                got.with_context(|| format!("{}: cannot read span {}", self.url, read.span))?;
            checked.compare(
                &self.url.to_string(),
                read.span,
                &got,
                &self.original(read.span).await?,
            );
            bar.inc(read.span.length());
        }
        Ok((started.elapsed().as_secs_f64(), checked))
    }
}
