//! The calls of etcd's API that are used here, and what is read of their answers.
//!
//! In JSON, keys and values are base64 and 64-bit numbers are texts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use crate::membership::etcd::error::EtcdError;
use crate::membership::etcd::gateway::{Gateway, Lines};

/// What the lease of a key is called that has none.
pub(super) const NO_LEASE: i64 = 0;

/// What is said when something is refused.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) error: String,
}

/// What proves who asks.
#[derive(Deserialize)]
pub(super) struct Token {
    pub(super) token: String,
}

/// A key with what it holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Held {
    pub(super) key: Blob,
    pub(super) value: Blob,
    pub(super) lease: Number,
    pub(super) mod_revision: Number,
}

/// A line of a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Change {
    pub(super) canceled: bool,
    pub(super) compact_revision: Number,
    pub(super) events: Vec<Happened>,
}

/// Something that happened to a key.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Happened {
    /// Empty where something was put.
    pub(super) r#type: String,
    pub(super) kv: Held,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Vec<u8>);

/// A number of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number(pub(super) i64);

/// One of a stream of answers.
#[derive(Deserialize)]
struct Streamed<T> {
    result: T,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    revision: Number,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lease {
    #[serde(rename = "ID")]
    id: Number,
    #[serde(rename = "TTL")]
    seconds: Number,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Range {
    header: Header,
    kvs: Vec<Held>,
    more: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Done {
    succeeded: bool,
    responses: Vec<Part>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    response_range: Option<Range>,
}

impl Gateway {
    /// A new lease of so many seconds.
    pub(super) async fn grant(&mut self, seconds: i64) -> Result<i64, EtcdError> {
        let question = json!({"TTL": Number(seconds)});
        let lease: Lease = self.call("lease/grant", &question).await?;
        Ok(lease.id.0)
    }

    /// Renews a lease.
    pub(super) async fn keep_alive(&mut self, lease: i64) -> Result<(), EtcdError> {
        let question = json!({"ID": Number(lease)});
        let Streamed::<Lease> { result } = self.call("lease/keepalive", &question).await?;
        if result.seconds.0 <= 0 {
            return Err(EtcdError::LeaseOver);
        }
        Ok(())
    }

    /// For how many seconds a lease would last without being renewed; less than 0 if it is over.
    pub(super) async fn time_to_live(&mut self, lease: i64) -> Result<i64, EtcdError> {
        let question = json!({"ID": Number(lease)});
        let lease: Lease = self.call("lease/timetolive", &question).await?;
        Ok(lease.seconds.0)
    }

    /// Ends a lease, and all that was put under it.
    pub(super) async fn revoke(&mut self, lease: i64) -> Result<(), EtcdError> {
        let question = json!({"ID": Number(lease)});
        let _: serde::de::IgnoredAny = self.call("lease/revoke", &question).await?;
        Ok(())
    }

    /// Puts a value under a lease if the key was changed last at that revision, 0 for a key that is not there. If it was
    /// changed otherwise: what it holds, if anything.
    pub(super) async fn put_if(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: i64,
        changed_at: i64,
    ) -> Result<Result<(), Option<Held>>, EtcdError> {
        let blob = |bytes: &[u8]| Blob(bytes.to_vec());
        let question = json!({
            "compare": [{
                "key": blob(key), "target": "MOD", "result": "EQUAL", "mod_revision": Number(changed_at),
            }],
            "success": [{"request_put": {"key": blob(key), "value": blob(value), "lease": Number(lease)}}],
            "failure": [{"request_range": {"key": blob(key)}}],
        });
        let done: Done = self.call("kv/txn", &question).await?;
        if done.succeeded {
            return Ok(Ok(()));
        }
        let mut ranges = done
            .responses
            .into_iter()
            .filter_map(|part| part.response_range);
        Ok(Err(ranges
            .next()
            .and_then(|range| range.kvs.into_iter().next())))
    }

    /// All keys that begin like this, at most so many, `page` of them in one answer, each given to `each`; the revision at
    /// which that was so.
    pub(super) async fn list(
        &mut self,
        prefix: &[u8],
        page: u32,
        mut most: usize,
        mut each: impl FnMut(Held),
    ) -> Result<i64, EtcdError> {
        let (mut from, mut revision) = (prefix.to_vec(), 0);
        loop {
            let question = json!({
                "key": Blob(from), "range_end": Blob(end_of(prefix)), "limit": Number(i64::from(page)),
                "revision": Number(revision),
            });
            let range: Range = self.call("kv/range", &question).await?;
            if revision == 0 {
                revision = range.header.revision.0;
            }
            most = most
                .checked_sub(range.kvs.len())
                .ok_or(EtcdError::TooMany)?;
            let last = range.kvs.last().map(|held| held.key.0.clone());
            range.kvs.into_iter().for_each(&mut each);
            match last {
                Some(last) if range.more => {
                    from = last;
                    from.push(0);
                }
                _ => return Ok(revision),
            }
        }
    }

    /// What happens to keys that begin like this, from a revision on.
    pub(super) async fn watch(self, prefix: &[u8], from: i64) -> Result<Watch, EtcdError> {
        let question = json!({"create_request": {
            "key": Blob(prefix.to_vec()), "range_end": Blob(end_of(prefix)), "start_revision": Number(from),
        }});
        Ok(Watch(self.follow("watch", &question).await?))
    }
}

/// What happens to some keys.
pub(super) struct Watch(Lines);

impl Watch {
    /// What happened next. Nothing is lost if the wait is given up.
    pub(super) async fn next(&mut self) -> Result<Vec<Happened>, EtcdError> {
        let line = self.0.next().await?;
        let Streamed::<Change> { result } = serde_json::from_slice(&line)?;
        match result {
            Change {
                compact_revision: Number(revision),
                ..
            } if revision > 0 => Err(EtcdError::Compacted(revision)),
            Change { canceled: true, .. } => Err(EtcdError::Ended),
            Change { events, .. } => Ok(events),
        }
    }
}

/// The first key behind all that begin with `prefix`, which ends with no 255.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(D::Error::custom)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}
